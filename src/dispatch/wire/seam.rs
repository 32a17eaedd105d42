//! Where a second attempt continues what a first one began.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value, json};

use crate::chat::{Delta, Usage};
use crate::config::Target;
use crate::ids::TargetId;
use crate::policy::midstream::{Restarted, Splice};

/// The place in an answer where another attempt took over.
#[derive(Debug)]
pub(in crate::dispatch) struct Seam {
    splice: Splice,
    /// Tokens of what the first attempt said. The second was sent them, and did not say them.
    delivered_tokens: u64,
    /// What the caller is told of it.
    label: Value,
    /// Told before the first words of the second attempt.
    comment: Option<Bytes>,
}

// === impl Seam ===

impl Seam {
    /// A seam after `text`, all that the caller has, of so many tokens.
    pub(in crate::dispatch) fn new(
        text: &str,
        delivered_tokens: u64,
        from: &Arc<Target>,
        to: &Arc<Target>,
    ) -> Self {
        let at_char = text.chars().count();
        let model_changed = from.model.name != to.model.name;
        let (from, to) = (name(&from.id), name(&to.id));
        let comment = format!(
            ": tidegate spliced from={from} to={to} at_char={at_char} model_changed={model_changed}\n\n"
        );
        let label =
            json!({ "from": from, "to": to, "at_char": at_char, "model_changed": model_changed });
        Self { splice: Splice::new(text), delivered_tokens, label, comment: Some(comment.into()) }
    }

    /// What rides in the usage event.
    pub(super) fn label(&self) -> &Value {
        &self.label
    }

    /// The comment, once.
    pub(super) fn take_comment(&mut self) -> Option<Bytes> {
        self.comment.take()
    }

    /// Makes a piece of the second answer one of the first. The envelope is told already, and what
    /// the second model thinks before it goes on is not part of the answer.
    ///
    /// # Errors
    ///
    /// Where the second answer is no continuation.
    pub(super) fn fit(&mut self, delta: Delta, out: &mut Vec<Delta>) -> Result<(), Restarted> {
        match delta {
            Delta::Start { .. } | Delta::Reasoning { .. } | Delta::ReasoningOpaque { .. } => {}
            Delta::Text { choice, text } => {
                let text = self.splice.push(&text)?;
                if !text.is_empty() {
                    out.push(Delta::Text { choice, text });
                }
            }
            delta @ (Delta::TextOpaque { .. }
            | Delta::Refusal { .. }
            | Delta::ToolCall { .. }
            | Delta::ToolArguments { .. }
            | Delta::Logprobs { .. }
            | Delta::Other { .. }
            | Delta::Finish { .. }
            | Delta::Usage { .. }
            | Delta::End) => {
                let rest = self.splice.finish()?;
                if !rest.is_empty() {
                    out.push(Delta::Text { choice: 0, text: rest });
                }
                out.push(if let Delta::Usage { usage } = delta {
                    Delta::Usage { usage: delivered_once(usage, self.delivered_tokens) }
                } else {
                    delta
                });
            }
        }
        Ok(())
    }
}

/// What a continued answer took, as if one attempt had given it: the tokens that the first said and
/// the second was sent are output, and no input.
pub(in crate::dispatch) fn delivered_once(second: Usage, delivered_tokens: u64) -> Usage {
    Usage {
        input: second.input.saturating_sub(delivered_tokens),
        output: second.output.saturating_add(delivered_tokens),
        ..second
    }
}

/// Which of a provider's credentials it was is no business of the caller's.
fn name(id: &TargetId) -> &str {
    let id = id.as_str();
    id.split_once('#').map_or(id, |(name, _)| name)
}
