//! What the caller has of a stream that may have to be continued.

use crate::chat::Delta;
use crate::dialect::sse;
use crate::dialect::{StreamDecoder, StreamEncoder};

/// Longer answers are not continued: they would be kept in memory as long as they last. A megabyte
/// is some 250,000 tokens.
const MAX_TEXT_BYTES: usize = 1024 * 1024;

/// The text so far, and what stands in the way of going on from it.
#[derive(Debug)]
pub(in crate::dispatch) struct Heard {
    /// Reads the frames that pass, where nobody else does.
    ear: Option<Box<dyn StreamDecoder>>,
    start: Option<Delta>,
    pub(in crate::dispatch) text: String,
    pub(in crate::dispatch) has_tool_call: bool,
    pub(in crate::dispatch) has_reasoning: bool,
    /// Whether there was anything else than text, or anything that could not be read.
    pub(in crate::dispatch) has_other: bool,
    /// Whether there was more text than is kept.
    pub(in crate::dispatch) is_too_long: bool,
}

// === impl Heard ===

impl Heard {
    /// With an `ear`, frames are told with [`Heard::listen`]; without one, deltas with
    /// [`Heard::note`].
    pub(super) fn new(ear: Option<Box<dyn StreamDecoder>>) -> Self {
        Self {
            ear,
            start: None,
            text: String::new(),
            has_tool_call: false,
            has_reasoning: false,
            has_other: false,
            is_too_long: false,
        }
    }

    /// Takes whole frames that were passed on.
    pub(super) fn listen(&mut self, frames: &[u8]) {
        let Some(mut ear) = self.ear.take() else { return };
        let mut deltas = Vec::new();
        for frame in sse::frames(frames) {
            if let Some((choice, text)) = ear.text_of(frame) {
                self.note_text(choice, &text);
                continue;
            }
            self.has_other |= ear.push(&sse::parse(frame), &mut deltas).is_err();
            deltas.drain(..).for_each(|delta| self.note(&delta));
        }
        self.ear = Some(ear);
    }

    /// Takes a piece of the answer.
    pub(super) fn note(&mut self, delta: &Delta) {
        match delta {
            Delta::Start { .. } => self.start = Some(delta.clone()),
            Delta::Text { choice, text } => self.note_text(*choice, text),
            Delta::Reasoning { .. } | Delta::ReasoningOpaque { .. } => self.has_reasoning = true,
            Delta::ToolCall { .. } | Delta::ToolArguments { .. } => self.has_tool_call = true,
            Delta::TextOpaque { .. }
            | Delta::Refusal { .. }
            | Delta::Logprobs { .. }
            | Delta::Other { .. } => self.has_other = true,
            Delta::Finish { .. } | Delta::Usage { .. } | Delta::End => {}
        }
    }

    /// Takes a piece of the text.
    pub(super) fn note_text(&mut self, choice: u32, piece: &str) {
        self.has_other |= choice != 0 && !piece.is_empty();
        self.is_too_long |= self.text.len() + piece.len() > MAX_TEXT_BYTES;
        if choice == 0 && !self.is_too_long {
            self.text.push_str(piece);
        }
    }

    /// Brings a fresh encoder to where it would be had it written what the caller has.
    pub(super) fn tell(&self, encoder: &mut dyn StreamEncoder) {
        let mut written_already = Vec::new();
        if let Some(start) = &self.start {
            encoder.push(start, &mut written_already);
        }
        if !self.text.is_empty() {
            let text = Delta::Text { choice: 0, text: self.text.clone() };
            encoder.push(&text, &mut written_already);
        }
    }
}
