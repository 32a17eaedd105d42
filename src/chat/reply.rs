//! What a model answers: whole, or in pieces.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Extra, Opaque, Part, Usage};

/// A whole answer.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Completion {
    /// The provider's id; empty where it sent none.
    pub id: String,
    /// The model as the provider reports it; empty where it sent none.
    pub model: String,
    /// Seconds since 1970; 0 where the provider sent none.
    pub created: u64,
    /// One, or `n`, alternatives, by ascending index.
    pub choices: Vec<Choice>,
    /// Tokens; `None` where the provider sent none.
    pub usage: Option<Usage>,
    /// The dialect's name that [`Completion::extra`] belongs to.
    pub extra_dialect: String,
    /// Top-level fields that are not modelled, verbatim.
    pub extra: Extra,
}

/// One alternative.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Choice {
    /// From 0.
    pub index: u32,
    /// Text, thinking, tool calls, in the order the model produced them.
    pub parts: Vec<Part>,
    /// Why it ended; `None` where the provider did not say.
    pub finish: Option<FinishReason>,
    /// Log probabilities of the text, where asked for.
    pub logprobs: Vec<Logprob>,
}

/// Why an answer ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// It was complete.
    Stop,
    /// One of the caller's stop texts came up; the text where the wire tells.
    StopSequence(Option<String>),
    /// The token limit was reached.
    Length,
    /// Tools are to be called.
    ToolCalls,
    /// A filter of the provider removed it.
    ContentFilter,
    /// The model declined.
    Refusal,
    /// The provider paused a long turn and wants it sent back to go on.
    Pause,
    /// A word we do not know, verbatim.
    Other(String),
}

/// The log probability of one generated token.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Logprob {
    /// The token's text.
    pub token: String,
    /// Natural logarithm.
    pub logprob: f64,
    /// Its bytes, where the wire gives them.
    pub bytes: Option<Vec<u8>>,
    /// The likeliest tokens in its place.
    pub top: Vec<TopLogprob>,
}

/// An alternative to a generated token.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TopLogprob {
    /// The token's text.
    pub token: String,
    /// Natural logarithm.
    pub logprob: f64,
    /// Its bytes, where the wire gives them.
    pub bytes: Option<Vec<u8>>,
}

/// One step of a streamed answer.
///
/// Order: [`Delta::Start`] first (at most once), then content, then one [`Delta::Finish`] for each
/// choice, then at most one [`Delta::Usage`], then one [`Delta::End`]. A decoder emits `End` only
/// when the wire's own end was seen; a stream without it was cut. Decoders merge the usage that
/// wires send in pieces and emit it once, just before `End`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Delta {
    /// The answer's envelope.
    Start {
        /// See [`Completion::id`].
        id: String,
        /// See [`Completion::model`].
        model: String,
        /// See [`Completion::created`].
        created: u64,
        /// Prompt tokens where the wire tells them up front (Anthropic); else empty.
        usage: Usage,
    },
    /// A piece of visible text.
    Text {
        /// Which alternative.
        choice: u32,
        /// Never empty.
        text: String,
    },
    /// Provider state attached to the visible text so far; see [`Part::Text`].
    TextOpaque {
        /// Which alternative.
        choice: u32,
        /// The state.
        opaque: Opaque,
    },
    /// A piece of thinking.
    Reasoning {
        /// Which alternative.
        choice: u32,
        /// Never empty.
        text: String,
    },
    /// Ends the current block of thinking with its signature, or is a block of hidden thinking
    /// of its own; see [`Part::Reasoning`].
    ReasoningOpaque {
        /// Which alternative.
        choice: u32,
        /// The state.
        opaque: Opaque,
    },
    /// A piece of a refusal.
    Refusal {
        /// Which alternative.
        choice: u32,
        /// Never empty.
        text: String,
    },
    /// Opens a tool call. Comes once for each, before its arguments.
    ToolCall {
        /// Which alternative.
        choice: u32,
        /// Ordinal of the call within the alternative, from 0, without gaps.
        call: u32,
        /// Never empty; made by the decoder where the wire has none.
        id: String,
        /// Never empty.
        name: String,
        /// See [`Part::ToolCall`].
        opaque: Option<Opaque>,
    },
    /// A piece of a tool call's arguments.
    ToolArguments {
        /// Which alternative.
        choice: u32,
        /// Ordinal of the call.
        call: u32,
        /// A piece of JSON text, never empty.
        json: String,
    },
    /// Log probabilities of the text so far.
    Logprobs {
        /// Which alternative.
        choice: u32,
        /// In order.
        tokens: Vec<Logprob>,
    },
    /// A block that only one dialect knows; see [`Part::Other`].
    Other {
        /// Which alternative.
        choice: u32,
        /// The dialect's name.
        dialect: String,
        /// The block.
        value: Value,
    },
    /// An alternative is complete.
    Finish {
        /// Which alternative.
        choice: u32,
        /// Why.
        reason: FinishReason,
    },
    /// Tokens of the whole answer.
    Usage {
        /// All counts.
        usage: Usage,
    },
    /// The wire's own end of the stream was seen.
    End,
}

// === impl Completion ===

impl Completion {
    /// The same answer as a stream would have brought it.
    pub fn into_deltas(self) -> Vec<Delta> {
        let Self { id, model, created, choices, usage, .. } = self;
        let mut deltas = vec![Delta::Start { id, model, created, usage: Usage::default() }];
        let mut endings = Vec::new();
        for choice in choices {
            let Choice { index, parts, finish, logprobs } = choice;
            let mut calls = 0;
            for part in parts {
                part_deltas(index, part, &mut calls, &mut deltas);
            }
            if !logprobs.is_empty() {
                deltas.push(Delta::Logprobs { choice: index, tokens: logprobs });
            }
            let reason = finish.unwrap_or(FinishReason::Stop);
            endings.push(Delta::Finish { choice: index, reason });
        }
        deltas.append(&mut endings);
        deltas.extend(usage.map(|usage| Delta::Usage { usage }));
        deltas.push(Delta::End);
        deltas
    }
}

/// Appends what one part of an answer is as a stream. `calls` counts the tool calls so far.
fn part_deltas(choice: u32, part: Part, calls: &mut u32, deltas: &mut Vec<Delta>) {
    match part {
        Part::Text { text, opaque, .. } => {
            if !text.is_empty() {
                deltas.push(Delta::Text { choice, text });
            }
            deltas.extend(opaque.map(|opaque| Delta::TextOpaque { choice, opaque }));
        }
        Part::Reasoning { text, opaque } => {
            if !text.is_empty() {
                deltas.push(Delta::Reasoning { choice, text });
            }
            deltas.extend(opaque.map(|opaque| Delta::ReasoningOpaque { choice, opaque }));
        }
        Part::Refusal { text } if text.is_empty() => {}
        Part::Refusal { text } => deltas.push(Delta::Refusal { choice, text }),
        Part::ToolCall { id, name, arguments, opaque } => {
            let call = *calls;
            *calls += 1;
            deltas.push(Delta::ToolCall { choice, call, id, name, opaque });
            if !arguments.is_empty() {
                deltas.push(Delta::ToolArguments { choice, call, json: arguments });
            }
        }
        Part::Other { dialect, value } => deltas.push(Delta::Other { choice, dialect, value }),
        // Models do not stream pictures or answer their own tool calls on any wire we speak.
        Part::Media(_) | Part::ToolResult { .. } => {}
    }
}

// === impl Delta ===

impl Delta {
    /// Whether the caller gets to see something of the answer: the first such delta is the first
    /// token. Envelopes, empty role announcements and usage are not.
    pub fn is_semantic(&self) -> bool {
        match self {
            Self::Text { .. }
            | Self::TextOpaque { .. }
            | Self::Reasoning { .. }
            | Self::ReasoningOpaque { .. }
            | Self::Refusal { .. }
            | Self::ToolCall { .. }
            | Self::ToolArguments { .. }
            | Self::Logprobs { .. }
            | Self::Other { .. }
            | Self::Finish { .. } => true,
            Self::Start { .. } | Self::Usage { .. } | Self::End => false,
        }
    }
}
