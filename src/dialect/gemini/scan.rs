//! Answers that pass by, looked at but not translated.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::parts::{self, Piece};
use super::wire::{self, Counts};
use super::{reply, stream};
use crate::chat::FinishReason;
use crate::dialect::{FrameKind, Scanner, StreamSummary, sse};
use crate::failure::Failure;

/// Looks at the frames of one streamed answer.
#[derive(Debug, Default)]
pub(super) struct Frames {
    summary: StreamSummary,
    counts: Counts,
    /// Alternatives seen, and whether each has called a tool and has ended.
    choices: BTreeMap<u32, Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    has_calls: bool,
    is_finished: bool,
}

/// Looks at a whole answer.
pub(super) fn scan_reply(body: &[u8]) -> Result<StreamSummary, Failure> {
    let answer = reply::parse(body)?;
    let mut frames = Frames::default();
    frames.look(&answer);
    if frames.choices.is_empty() {
        // Says what is missing in the decoder's words.
        reply::decode(body)?;
    }
    Ok(frames.summary)
}

impl Scanner for Frames {
    fn scan(&mut self, frame: &[u8]) -> Result<FrameKind, Failure> {
        let event = sse::parse(frame);
        let mut kind = FrameKind::Preamble;
        for chunk in stream::chunks(&event.data)? {
            if self.look(&chunk) {
                kind = FrameKind::Semantic;
            } else if kind == FrameKind::Preamble
                && wire::object(&chunk, "usageMetadata").is_some()
                && wire::array(&chunk, "candidates").is_empty()
            {
                kind = FrameKind::UsageOnly;
            }
        }
        Ok(kind)
    }

    fn is_complete(&self) -> bool {
        !self.choices.is_empty() && self.choices.values().all(|choice| choice.is_finished)
    }

    fn saw_terminal(&self) -> bool {
        self.is_complete()
    }

    fn summary(&self) -> &StreamSummary {
        &self.summary
    }
}

impl Frames {
    /// Takes over what an answer or a piece of one says, and tells whether any of it is meant for
    /// the caller.
    fn look(&mut self, chunk: &Map<String, Value>) -> bool {
        if self.summary.model.is_empty() {
            wire::text(chunk, "modelVersion").clone_into(&mut self.summary.model);
        }
        self.counts.read(chunk);
        self.summary.usage = self.counts.usage();
        let candidates = wire::array(chunk, "candidates");
        let mut is_semantic = false;
        for (at, candidate) in candidates.iter().enumerate() {
            if let Some(candidate) = candidate.as_object() {
                is_semantic |= self.candidate(reply::index_of(candidate, at), candidate);
            }
        }
        if candidates.is_empty() && reply::is_blocked(chunk) {
            self.end(0, FinishReason::ContentFilter);
            is_semantic = true;
        }
        is_semantic
    }

    fn candidate(&mut self, index: u32, candidate: &Map<String, Value>) -> bool {
        let mut is_semantic = false;
        let mut has_calls = self.seen(index).has_calls;
        let turn = wire::object(candidate, "content");
        for part in turn.map_or(&[][..], |turn| wire::array(turn, "parts")) {
            let Some(part) = part.as_object() else {
                continue;
            };
            match parts::classify(part) {
                Piece::Text(text) | Piece::Thought(text) => {
                    self.summary.text.push(text);
                    is_semantic |= !text.is_empty() || parts::signature(part).is_some();
                }
                Piece::Call(call) => {
                    self.summary.text.push(&parts::arguments(call));
                    has_calls = true;
                    is_semantic = true;
                }
                Piece::Inline(..) | Piece::File(..) | Piece::Other => {
                    self.summary.has_other = true;
                    is_semantic = true;
                }
            }
        }
        self.seen(index).has_calls = has_calls;
        self.summary.has_tool_calls |= has_calls;
        let reason = wire::get(candidate, "finishReason")
            .and_then(|reason| wire::read_finish(reason, has_calls));
        if let Some(reason) = reason {
            self.end(index, reason);
            is_semantic = true;
        }
        is_semantic || wire::object(candidate, "logprobsResult").is_some()
    }

    /// The last ending of the first alternative stands: older models send one with every piece.
    fn end(&mut self, index: u32, reason: FinishReason) {
        self.seen(index).is_finished = true;
        if index == 0 || self.summary.finish.is_none() {
            self.summary.finish = Some(reason);
        }
    }

    fn seen(&mut self, index: u32) -> &mut Seen {
        self.choices.entry(index).or_default()
    }
}
