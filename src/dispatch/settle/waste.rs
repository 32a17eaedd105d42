//! What attempts took that the caller does not pay for.
//!
//! A provider bills the loser of a race, an attempt that failed after it had begun, and an empty
//! answer in whose place another was sent. The gateway asked for these, so the gateway bears them:
//! they are written beside what the caller is charged, and never added to it.
//!
//! Such an attempt is billed for its prompt, and for what it generated. Where its provider said how
//! much that was, this is what is written. Where not, the prompt is taken for as long as the one
//! that was answered, or is counted, and of the answer what came is counted: what was generated and
//! never came is not known. An attempt that was refused, or had no connection, is not billed.

use std::sync::Arc;

use bytes::Bytes;

use super::estimate::Method;
use crate::catalog::Model;
use crate::chat::Usage;
use crate::config::Target;
use crate::dialect::{StreamSummary, TextSample};
use crate::dispatch::trace::Trace;
use crate::journal::Entry;
use crate::telemetry::{Metrics, TargetMetrics};

/// Why nobody wants what an attempt has made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::dispatch) enum Why {
    /// Another one of the race was faster.
    Hedge,
    /// It failed after its provider had begun.
    Failed,
    /// Its answer is complete and says nothing, and another was sent.
    Empty,
    /// It was of a rollout's candidate, which was left for the control.
    Left,
    /// The gateway stopped.
    Stopped,
}

/// Attempts of a request that were in vain. Most requests have none.
#[derive(Debug, Default)]
pub(super) struct Wasted(Vec<Attempt>);

/// One of them.
#[derive(Debug)]
struct Attempt {
    model: Arc<Model>,
    metrics: Arc<TargetMetrics>,
    why: Why,
    /// What the provider said.
    known: Usage,
    /// Whether that is all that it will bill.
    is_final: bool,
    text: TextSample,
}

/// An entry that lacks the counts of what was wasted alone.
#[derive(Debug)]
pub(super) struct WasteEstimate {
    pub(super) entry: Entry,
    pub(super) trace: Option<Box<Trace>>,
    pub(super) wasted: Wasted,
    pub(super) prompt: Prompt,
}

/// The prompt of a request, counted or to be counted.
#[derive(Debug)]
pub(super) enum Prompt {
    Tokens(u64),
    Text(Bytes),
}

// === impl Why ===

impl Why {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Hedge => "hedge",
            Self::Failed => "failed",
            Self::Empty => "empty",
            Self::Left => "left",
            Self::Stopped => "stopped",
        }
    }
}

// === impl Wasted ===

impl Wasted {
    /// Adds an attempt, with what was seen of its answer.
    pub(super) fn add(
        &mut self,
        target: &Target,
        metrics: &Arc<TargetMetrics>,
        why: Why,
        seen: Option<&StreamSummary>,
    ) {
        let usage = seen.and_then(|seen| seen.usage);
        self.0.push(Attempt {
            model: Arc::clone(&target.model),
            metrics: Arc::clone(metrics),
            why,
            known: usage.unwrap_or_default(),
            is_final: usage.is_some() && seen.is_some_and(|seen| seen.finish.is_some()),
            text: seen.map(|seen| seen.text.clone()).unwrap_or_default(),
        });
    }

    /// Takes the empty answer back that was put aside: it was sent after all.
    pub(super) fn take_empty(&mut self) {
        if let Some(at) = self.0.iter().rposition(|attempt| attempt.why == Why::Empty) {
            self.0.remove(at);
        }
    }

    /// Whether texts have to be counted, which takes too long for a data thread.
    pub(super) fn needs_counting(&self, prompt: &Prompt) -> bool {
        let is_counted = matches!(prompt, Prompt::Tokens(_));
        self.0.iter().any(|attempt| {
            !attempt.is_final
                && (!attempt.text.is_empty() || (attempt.known.total_input() == 0 && !is_counted))
        })
    }

    /// Bytes of text that wait to be counted.
    pub(super) fn text_bytes(&self) -> usize {
        self.0.iter().map(|attempt| attempt.text.head().len()).sum()
    }

    /// Writes into the entry what all of them took.
    pub(super) fn book(
        self,
        entry: &mut Entry,
        prompt: &Prompt,
        method: &Method,
        metrics: &Metrics,
    ) {
        let mut prompt_tokens = None;
        for attempt in self.0 {
            let Attempt { model, metrics: target, why, known: mut usage, is_final, text } = attempt;
            if !is_final {
                if usage.total_input() == 0 {
                    usage.input = *prompt_tokens.get_or_insert_with(|| prompt.tokens(method));
                }
                let seen = (method.text)(&text).saturating_sub(usage.reasoning);
                usage.output = usage.output.max(seen);
            }
            let cost = model.cost(&usage);
            target.used(&usage, cost.0);
            metrics.requests.wasted(why.as_str(), cost.0);
            let waste = &mut entry.waste;
            waste.input = waste.input.saturating_add(usage.total_input());
            waste.output = waste.output.saturating_add(usage.total_output());
            waste.cost = waste.cost + cost;
            waste.is_estimated |= !is_final;
        }
    }
}

// === impl Prompt ===

impl Prompt {
    fn tokens(&self, method: &Method) -> u64 {
        match self {
            Self::Tokens(tokens) => *tokens,
            Self::Text(body) => (method.request)(body),
        }
    }

    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Tokens(_) => 0,
            Self::Text(body) => body.len(),
        }
    }
}
