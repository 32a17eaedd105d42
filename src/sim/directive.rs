//! Wishes of a single request: in the `x-sim-fault` header, or as `[[sim:…]]` in the text of the
//! last user message, which also reaches a simulated provider behind a gateway.
//!
//! | setting | effect |
//! |---|---|
//! | `tokens=50` | exactly so many tokens of text |
//! | `gap=5ms`, `ttft=100ms` | constant latencies |
//! | `call=name` | calls a tool; several for parallel calls |
//! | `say=…` | exactly this text; takes the rest of its block |
//! | `on=model` | the block counts only where this model is asked for |
//! | `first=2` | the block counts only for the first two requests that carry it |
//! | `label=17` | what the request is called on its bill |
//! | any fault | see [`Fault`] |

use std::time::Duration;

use super::fault::{Fault, settings};
use crate::units::HumanDuration;

/// What one request wishes for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Directives {
    pub(super) tokens: Option<u64>,
    pub(super) gap: Option<Duration>,
    pub(super) ttft: Option<Duration>,
    pub(super) say: Option<String>,
    pub(super) label: Option<String>,
    pub(super) calls: Vec<String>,
    pub(super) fault: Option<Fault>,
}

/// One `[[sim:…]]`, before it is known whether it counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Block<'a> {
    /// What stands between the brackets.
    pub(super) body: &'a str,
    on: Option<&'a str>,
    /// How many requests it counts for.
    pub(super) first: Option<u64>,
}

// === impl Directives ===

impl Directives {
    /// Takes in the settings of one block.
    pub(super) fn apply(&mut self, block: &Block<'_>) -> Result<(), String> {
        let (body, say) = split_say(block.body);
        if let Some(say) = say {
            self.say = Some(say.to_owned());
        }
        for (key, value) in settings(body) {
            let text = value.unwrap_or_default();
            match key {
                "tokens" => self.tokens = Some(number(key, text)?.min(MAX_TOKENS)),
                "gap" => self.gap = Some(duration(key, text)?),
                "ttft" => self.ttft = Some(duration(key, text)?),
                "label" => self.label = Some(text.to_owned()),
                "call" => self.calls.push(text.to_owned()),
                "on" => {}
                "first" => _ = number(key, text)?,
                _ if Fault::apply(&mut self.fault, key, value)? => {}
                _ => return Err(format!("unknown setting `{key}` in a sim directive")),
            }
        }
        Ok(())
    }
}

/// More than any model writes, and little enough that a script of them fits in memory.
pub(super) const MAX_TOKENS: u64 = 100_000;

// === impl Block ===

impl<'a> Block<'a> {
    /// Reads what stands between the brackets as far as needed to know when it counts.
    pub(super) fn new(body: &'a str) -> Self {
        let (head, _) = split_say(body);
        let find = |wanted: &str| {
            settings(head).find(|(key, _)| *key == wanted).and_then(|(_, value)| value)
        };
        Self { body, on: find("on"), first: find("first").and_then(|text| text.parse().ok()) }
    }

    /// Whether it is meant for this model.
    pub(super) fn is_for(&self, model: &str) -> bool {
        self.on.is_none_or(|wanted| wanted == model)
    }
}

/// All `[[sim:…]]` of a text.
pub(super) fn blocks(text: &str) -> Vec<Block<'_>> {
    text.split("[[sim:")
        .skip(1)
        .filter_map(|rest| rest.split_once("]]"))
        .map(|(body, _)| Block::new(body))
        .collect()
}

/// The text without its `[[sim:…]]`.
pub(super) fn strip(text: &str) -> String {
    let mut rest = text;
    let mut plain = String::with_capacity(text.len());
    while let Some((before, after)) = rest.split_once("[[sim:") {
        let Some((_, tail)) = after.split_once("]]") else {
            break;
        };
        plain.push_str(before);
        rest = tail;
    }
    plain.push_str(rest);
    plain.trim().to_owned()
}

fn split_say(body: &str) -> (&str, Option<&str>) {
    match body.split_once("say=") {
        Some((head, say)) if head.is_empty() || head.trim_end().ends_with(',') => (head, Some(say)),
        _ => (body, None),
    }
}

fn number(key: &str, text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("`{key}` wants a whole number, not `{text}`"))
}

fn duration(key: &str, text: &str) -> Result<Duration, String> {
    text.parse::<HumanDuration>().map(|d| d.0).map_err(|error| format!("`{key}`: {error}"))
}
