//! Frames of a streamed answer, looked at as they pass.
//!
//! Nearly all frames are `content_block_delta`, and of those only the one string is found and
//! measured; the JSON around it is not parsed. The rest come once or a few times a stream and are
//! parsed as the decoder does, so that both count the same.

use std::borrow::Cow;
use std::sync::LazyLock;

use memchr::memchr2;
use memchr::memmem::Finder;
use serde_json::Value;

use super::super::sse::{self, SseEvent};
use super::super::{FrameKind, Scanner, StreamSummary, keep_finish};
use super::event::{Event, Metrics};
use super::stream::{BlockKind, block_kind};
use super::wire::{CITATION, WireUsage, finish_reason};
use crate::failure::Failure;

/// The wire's last event.
pub(super) const MESSAGE_STOP: &[u8] =
    b"event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";

static TYPE: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"type\""));

/// The keys of the strings that an answer grows by, the most frequent first.
static PIECES: LazyLock<[Finder<'static>; 3]> =
    LazyLock::new(|| ["\"text\"", "\"partial_json\"", "\"thinking\""].map(Finder::new));

/// Looks at one `message_start` … `message_stop` sequence.
#[derive(Debug, Default)]
pub(super) struct MessagesScanner {
    summary: StreamSummary,
    usage: Option<WireUsage>,
    is_begun: bool,
    is_over: bool,
    /// A block that the decoder keeps until it is whole is open.
    in_other: bool,
    /// The last frame was a `message_delta` with usage.
    has_closing_usage: bool,
}

// === impl MessagesScanner ===

impl Scanner for MessagesScanner {
    fn scan(&mut self, frame: &[u8]) -> Result<FrameKind, Failure> {
        if self.is_over {
            return Ok(FrameKind::Preamble);
        }
        self.has_closing_usage = false;
        let kind = match self.scan_delta(frame) {
            Some(kind) => kind,
            None => self.scan_event(&sse::parse(frame))?,
        };
        self.is_begun |= kind == FrameKind::Semantic;
        Ok(kind)
    }

    fn has_closing_usage(&self) -> bool {
        self.has_closing_usage
    }

    fn is_complete(&self) -> bool {
        self.is_over || self.summary.finish.is_some()
    }

    fn saw_terminal(&self) -> bool {
        self.is_over
    }

    fn summary(&self) -> &StreamSummary {
        &self.summary
    }
}

impl MessagesScanner {
    /// The fast path; `None` for every frame but a plain `content_block_delta`.
    fn scan_delta(&mut self, frame: &[u8]) -> Option<FrameKind> {
        let data = sse::first_data(frame)?.trim_ascii_end();
        if !is_delta(data) || data.last() != Some(&b'}') {
            return None;
        }
        for key in PIECES.iter() {
            let Some(literal) = string_value(data, key) else {
                continue;
            };
            if literal.is_empty() || self.in_other {
                return Some(FrameKind::Preamble);
            }
            self.summary.text.push(&unescape(literal));
            return Some(FrameKind::Semantic);
        }
        None
    }

    fn scan_event(&mut self, event: &SseEvent<'_>) -> Result<FrameKind, Failure> {
        let Some(read) = Event::read(event, self.is_begun)? else {
            return Ok(FrameKind::Preamble);
        };
        Ok(match read.kind.as_str() {
            "message_start" => {
                let message = read.message.unwrap_or_default();
                self.summary.model = message.model.unwrap_or_default();
                self.note_usage(message.usage);
                FrameKind::Preamble
            }
            "content_block_start" => self.on_block(read.content_block.unwrap_or_default()),
            "content_block_delta" => {
                let delta = read.delta.unwrap_or_default();
                let text = delta.text.or(delta.thinking).or(delta.partial_json).unwrap_or_default();
                let signature = delta.signature.unwrap_or_default();
                let is_citation = delta.kind.as_deref() == Some(CITATION);
                if self.in_other || (text.is_empty() && signature.is_empty() && !is_citation) {
                    return Ok(FrameKind::Preamble);
                }
                self.summary.text.push(&text);
                FrameKind::Semantic
            }
            "content_block_stop" if std::mem::take(&mut self.in_other) => {
                self.summary.has_other = true;
                FrameKind::Semantic
            }
            "message_delta" => {
                self.has_closing_usage = read.usage.is_some();
                self.note_usage(read.usage);
                let delta = read.delta.unwrap_or_default();
                self.note_finish(delta.stop_reason, delta.stop_sequence)
            }
            "message_stop" => {
                self.is_over = true;
                FrameKind::Terminal
            }
            "completion" => {
                let text = read.completion.unwrap_or_default();
                self.summary.text.push(&text);
                self.note_usage(read.metrics.map(Metrics::usage));
                let kind = self.note_finish(read.stop_reason, read.stop);
                if text.is_empty() { kind } else { FrameKind::Semantic }
            }
            _ => FrameKind::Preamble,
        })
    }

    fn on_block(&mut self, block: Value) -> FrameKind {
        let text = |key: &str| block.get(key).and_then(Value::as_str).unwrap_or_default();
        self.in_other = false;
        let is_semantic = match block_kind(text("type")) {
            BlockKind::Text => {
                self.summary.text.push(text("text"));
                !text("text").is_empty()
            }
            BlockKind::Thinking => {
                self.summary.text.push(text("thinking"));
                !text("thinking").is_empty() || !text("signature").is_empty()
            }
            BlockKind::Redacted => {
                self.summary.has_other = true;
                !text("data").is_empty()
            }
            BlockKind::Tool => {
                self.summary.has_tool_calls = true;
                true
            }
            BlockKind::Other(_) => {
                self.in_other = block.is_object();
                false
            }
        };
        if is_semantic { FrameKind::Semantic } else { FrameKind::Preamble }
    }

    fn note_usage(&mut self, usage: Option<WireUsage>) {
        if let Some(usage) = usage {
            let merged = self.usage.get_or_insert_default();
            merged.merge(usage);
            self.summary.usage = Some(merged.canonical());
        }
    }

    fn note_finish(&mut self, word: Option<String>, sequence: Option<String>) -> FrameKind {
        let Some(word) = word else {
            return FrameKind::Preamble;
        };
        keep_finish(&mut self.summary.finish, finish_reason(&word, sequence));
        FrameKind::Semantic
    }
}

/// Whether `data` is a `content_block_delta`. Inside of JSON strings quotes are escaped, so that
/// `"type"` followed by a colon can only be a key.
fn is_delta(data: &[u8]) -> bool {
    TYPE.find_iter(data).any(|at| {
        let value = data.get(at + TYPE.needle().len()..).map(after_colon).unwrap_or_default();
        value.starts_with(b"\"content_block_delta\"")
    })
}

/// What stands between the quotes of the string value of `key`, still escaped.
fn string_value<'a>(data: &'a [u8], key: &Finder<'_>) -> Option<&'a [u8]> {
    key.find_iter(data).find_map(|at| {
        let value = after_colon(data.get(at + key.needle().len()..)?).strip_prefix(b"\"")?;
        let mut end = 0;
        loop {
            end += memchr2(b'"', b'\\', value.get(end..)?)?;
            if value.get(end) == Some(&b'"') {
                return value.get(..end);
            }
            end += 2;
        }
    })
}

/// What follows a colon and spaces; empty where no colon follows.
fn after_colon(bytes: &[u8]) -> &[u8] {
    bytes.trim_ascii_start().strip_prefix(b":").map(<[u8]>::trim_ascii_start).unwrap_or_default()
}

fn unescape(literal: &[u8]) -> Cow<'_, str> {
    if memchr::memchr(b'\\', literal).is_none() {
        return String::from_utf8_lossy(literal);
    }
    let mut quoted = Vec::with_capacity(literal.len() + 2);
    quoted.push(b'"');
    quoted.extend_from_slice(literal);
    quoted.push(b'"');
    match serde_json::from_slice::<String>(&quoted) {
        Ok(text) => Cow::Owned(text),
        Err(_) => String::from_utf8_lossy(literal),
    }
}
