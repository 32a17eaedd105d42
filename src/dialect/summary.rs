//! What is remembered of an answer that is not decoded: counts, and a bounded sample of its text.

use crate::chat::{FinishReason, Usage};

/// What passed by in one answer.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StreamSummary {
    /// Tokens as the provider counted them; `None` until it says.
    pub usage: Option<Usage>,
    /// How the answer ended, or the first of several alternatives; while a stream goes on, the
    /// first of those that ended.
    pub finish: Option<FinishReason>,
    /// Text, thinking and tool arguments together.
    pub text: TextSample,
    /// Whether a tool was called.
    pub has_tool_calls: bool,
    /// Whether a stream had content besides text and calls: sound, pictures, a provider's state.
    pub has_other: bool,
    /// The model as the provider reports it, where a scanner looks for it; else empty.
    pub model: String,
    /// What every event of the stream says of the answer, as the caller has it, where the wire
    /// repeats it.
    pub head: StreamHead,
}

/// What the events of a stream on `openai-chat` have in common. Empty and 0 where not known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StreamHead {
    /// The answer's id.
    pub id: String,
    /// The model's name.
    pub model: String,
    /// Seconds since 1970.
    pub created: u64,
}

/// The beginning of a text and its whole length: enough to estimate tokens when a stream is cut
/// before its usage, at a bounded cost.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TextSample {
    head: String,
    bytes: u64,
    chars: u64,
}

// === impl TextSample ===

impl StreamSummary {
    /// Whether the answer came to its natural end and there is nothing in it.
    pub fn is_hollow(&self) -> bool {
        let has_content = !self.text.is_empty() || self.has_tool_calls || self.has_other;
        self.finish == Some(FinishReason::Stop) && !has_content
    }
}

impl TextSample {
    /// How much of the beginning is kept. Two kilobytes are some 500 tokens, enough for the ratio
    /// of bytes to tokens to settle, and little beside a connection's buffers.
    pub const HEAD_BYTES: usize = 2_048;

    /// Adds the next piece.
    pub fn push(&mut self, piece: &str) {
        self.bytes = self.bytes.saturating_add(piece.len() as u64);
        self.chars = self.chars.saturating_add(piece.chars().count() as u64);
        let room = Self::HEAD_BYTES.saturating_sub(self.head.len());
        if room == 0 {
            return;
        }
        let cut = (0..=room.min(piece.len())).rev().find(|at| piece.is_char_boundary(*at));
        if let Some(head) = cut.and_then(|at| piece.get(..at)) {
            self.head.push_str(head);
        }
    }

    /// The beginning of the text.
    pub fn head(&self) -> &str {
        &self.head
    }

    /// Bytes of the whole text.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Characters of the whole text.
    pub fn chars(&self) -> u64 {
        self.chars
    }

    /// Whether there was no text at all.
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }
}
