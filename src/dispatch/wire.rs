//! From the provider's bytes to the caller's: untouched where both speak the same wire, decoded and
//! encoded where they do not.

use bytes::{Bytes, BytesMut};
use serde_json::{Value, json};

use crate::chat::{Delta, Usage};
use crate::config::Target;
use crate::dialect::sse::{self, FrameBuffer};
use crate::dialect::{
    Codec, Dialect, Envelope, Expected, FrameKind, Scanner, StreamDecoder, StreamEncoder,
    StreamSummary, merge_usage,
};
use crate::failure::Failure;

/// One streamed answer on its way.
#[derive(Debug)]
pub(super) struct Wire {
    frames: FrameBuffer,
    lane: Path,
    /// Whether the end was told to the caller. What follows is not part of the answer.
    ended: bool,
    /// What rides in the usage event: who served, at which prices.
    notes: Notes,
}

#[derive(Debug)]
enum Path {
    Same { scanner: Box<dyn Scanner>, keep_usage: bool, missing_terminal: &'static [u8] },
    Translated(Box<Translated>),
}

#[derive(Debug)]
struct Translated {
    decoder: Box<dyn StreamDecoder>,
    encoder: Box<dyn StreamEncoder>,
    summary: StreamSummary,
    deltas: Vec<Delta>,
    complete: bool,
}

/// The gateway's own words in the usage event.
#[derive(Debug)]
struct Notes {
    served_by: String,
    model: std::sync::Arc<crate::catalog::Model>,
}

/// What some bytes of the provider came to.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// Whole events for the caller; may be empty.
    pub(super) bytes: Bytes,
    /// How many pieces of the answer were among them: about its tokens.
    pub(super) tokens: u32,
    /// Whether they brought the answer nearer to its end: a token, its count or its end, and not
    /// a comment, a ping or an envelope.
    pub(super) advanced: bool,
    /// How the answer broke, after `bytes`.
    pub(super) failure: Option<Failure>,
}

// === impl Wire ===

impl Wire {
    /// A stream that passes through, less the usage event where the caller did not ask for one.
    pub(super) fn same(codec: &dyn Codec, target: &Target, envelope: &Envelope) -> Self {
        let mut scanner = codec.scanner();
        scanner.expect(Expected::of(&target.endpoint.quirks, envelope.n));
        let lane = Path::Same {
            scanner,
            keep_usage: envelope.include_usage,
            missing_terminal: codec.missing_terminal(),
        };
        Self { frames: FrameBuffer::new(), lane, ended: false, notes: Notes::of(target) }
    }

    /// A stream that is translated from one wire to another.
    pub(super) fn translated(
        from: Dialect,
        encoder: Box<dyn StreamEncoder>,
        target: &Target,
        choices: Option<u64>,
    ) -> Self {
        let mut decoder = from.codec().stream_decoder();
        decoder.expect(Expected::of(&target.endpoint.quirks, choices));
        let lane = Path::Translated(Box::new(Translated {
            decoder,
            encoder,
            summary: StreamSummary::default(),
            deltas: Vec::new(),
            complete: false,
        }));
        Self { frames: FrameBuffer::new(), lane, ended: false, notes: Notes::of(target) }
    }

    /// Takes what has arrived.
    pub(super) fn push(&mut self, chunk: Bytes) -> Progress {
        if self.ended {
            return Progress::default();
        }
        match self.frames.push(chunk) {
            Ok(whole) => self.frames_of(whole),
            Err(failure) => Progress { failure: Some(failure), ..Progress::default() },
        }
    }

    /// Takes the end of the provider's body. `bytes` is what the caller is still owed.
    pub(super) fn finish(&mut self) -> Progress {
        if self.ended {
            return Progress::default();
        }
        // Some providers leave out the blank line of the last event.
        let tail = self.frames.take_tail();
        let mut last = if tail.trim_ascii().is_empty() {
            Progress::default()
        } else {
            self.frames_of(close(tail))
        };
        if last.failure.is_some() || self.ended {
            return last;
        }
        self.ended = true;
        match &mut self.lane {
            Path::Same { scanner, missing_terminal, .. } => {
                if !scanner.is_complete() {
                    last.failure = Some(ended_early());
                } else if !scanner.saw_terminal() {
                    last.bytes = join(last.bytes, missing_terminal);
                }
            }
            Path::Translated(translated) => {
                match translated.decoder.finish(&mut translated.deltas) {
                    Ok(()) => {
                        let bytes = translated.encode(&self.notes, &mut last);
                        last.bytes = join(last.bytes, &bytes);
                    }
                    Err(failure) => last.failure = Some(failure),
                }
            }
        }
        last
    }

    /// Whether the provider's own end of the answer was seen.
    pub(super) fn is_complete(&self) -> bool {
        match &self.lane {
            Path::Same { scanner, .. } => scanner.is_complete(),
            Path::Translated(translated) => translated.complete,
        }
    }

    /// Whether nothing that belongs to the answer can follow.
    pub(super) fn saw_terminal(&self) -> bool {
        match &self.lane {
            Path::Same { scanner, .. } => scanner.saw_terminal(),
            Path::Translated(translated) => translated.complete,
        }
    }

    /// What was counted so far.
    pub(super) fn summary(&self) -> &StreamSummary {
        match &self.lane {
            Path::Same { scanner, .. } => scanner.summary(),
            Path::Translated(translated) => &translated.summary,
        }
    }

    fn frames_of(&mut self, whole: Bytes) -> Progress {
        match &mut self.lane {
            Path::Same { scanner, keep_usage, .. } => {
                let progress = pass(whole, scanner.as_mut(), *keep_usage, &self.notes);
                self.ended = scanner.saw_terminal();
                progress
            }
            Path::Translated(translated) => {
                let progress = translated.push(&whole, &self.notes);
                self.ended = translated.complete;
                progress
            }
        }
    }
}

/// Looks at each frame and passes on everything but usage that was not asked for. Where nothing is
/// left out, which is nearly always, the bytes go on as the one piece they came in.
fn pass(whole: Bytes, scanner: &mut dyn Scanner, keep_usage: bool, notes: &Notes) -> Progress {
    let mut progress = Progress::default();
    let mut edited: Option<BytesMut> = None;
    let mut at = 0;
    for frame in sse::frames(&whole) {
        let start = at;
        at += frame.len();
        let kind = match scanner.scan(frame) {
            Ok(kind) => kind,
            Err(failure) => {
                progress.failure = Some(failure);
                edited.get_or_insert_with(|| whole.get(..start).unwrap_or_default().into());
                break;
            }
        };
        progress.tokens += u32::from(kind == FrameKind::Semantic);
        progress.advanced |= kind != FrameKind::Preamble;
        if kind == FrameKind::Terminal {
            match &mut edited {
                Some(edited) => edited.extend_from_slice(frame),
                None if at == whole.len() => {}
                None => edited = Some(whole.get(..at).unwrap_or_default().into()),
            }
            break;
        }
        let closes = scanner.has_closing_usage();
        if kind == FrameKind::UsageOnly || closes {
            let edited =
                edited.get_or_insert_with(|| whole.get(..start).unwrap_or_default().into());
            if keep_usage || closes {
                let extension = notes.extension(scanner.summary().usage).to_string();
                let extended = sse_extension(frame, extension.as_bytes());
                edited.extend_from_slice(extended.as_deref().unwrap_or(frame));
            }
        } else if let Some(edited) = &mut edited {
            edited.extend_from_slice(frame);
        }
    }
    progress.bytes = edited.map_or(whole, BytesMut::freeze);
    progress
}

fn sse_extension(frame: &[u8], json: &[u8]) -> Option<Bytes> {
    crate::dialect::extend_frame(frame, "tidegate", json)
}

// === impl Translated ===

impl Translated {
    fn push(&mut self, whole: &[u8], notes: &Notes) -> Progress {
        let mut progress = Progress::default();
        let mut out = BytesMut::new();
        for frame in sse::frames(whole) {
            let event = sse::parse(frame);
            let result = self.decoder.push(&event, &mut self.deltas);
            out.extend_from_slice(&self.encode(notes, &mut progress));
            if self.complete {
                break;
            }
            if let Err(failure) = result {
                progress.failure = Some(failure);
                break;
            }
        }
        progress.bytes = out.freeze();
        progress
    }

    /// Writes the deltas that were decoded, and notes in `progress` what they are.
    fn encode(&mut self, notes: &Notes, progress: &mut Progress) -> Vec<u8> {
        let mut out = Vec::new();
        for delta in self.deltas.drain(..) {
            progress.tokens += u32::from(delta.is_semantic());
            progress.advanced |= !matches!(delta, Delta::Start { .. });
            note(&mut self.summary, &delta);
            if let Delta::Usage { usage } = &delta {
                self.encoder.set_extension(notes.extension(Some(*usage)));
            }
            self.complete |= delta == Delta::End;
            self.encoder.push(&delta, &mut out);
            if let Delta::Start { .. } = &delta {
                self.summary.head = self.encoder.head();
            }
        }
        out
    }
}

// === impl Notes ===

impl Notes {
    fn of(target: &Target) -> Self {
        Self { served_by: target.id.to_string(), model: std::sync::Arc::clone(&target.model) }
    }

    fn extension(&self, usage: Option<Usage>) -> Value {
        let cost = self.model.cost(&usage.unwrap_or_default());
        json!({ "served_by": self.served_by, "cost_usd": cost.to_usd_string() })
    }
}

/// Remembers of a delta what a scanner would of its frame.
pub(super) fn note(summary: &mut StreamSummary, delta: &Delta) {
    match delta {
        Delta::Start { model, usage, .. } => {
            summary.model.clone_from(model);
            if !usage.is_empty() {
                merge_usage(&mut summary.usage, *usage);
            }
        }
        Delta::Text { text, .. } | Delta::Reasoning { text, .. } | Delta::Refusal { text, .. } => {
            summary.text.push(text);
        }
        Delta::ToolArguments { json, .. } => summary.text.push(json),
        Delta::ToolCall { name, .. } => {
            summary.has_tool_calls = true;
            summary.text.push(name);
        }
        Delta::Finish { reason, .. } => {
            summary.finish.get_or_insert_with(|| reason.clone());
        }
        Delta::Usage { usage } => summary.usage = Some(*usage),
        Delta::TextOpaque { .. } | Delta::ReasoningOpaque { .. } | Delta::Other { .. } => {
            summary.has_other = true;
        }
        Delta::Logprobs { .. } | Delta::End => {}
    }
}

fn ended_early() -> Failure {
    let message = "the stream ended without its terminal event";
    Failure::new(crate::failure::FailureKind::MidStream, message)
}

pub(super) fn join(head: Bytes, tail: &[u8]) -> Bytes {
    if head.is_empty() {
        return Bytes::copy_from_slice(tail);
    }
    let mut both = BytesMut::from(head);
    both.extend_from_slice(tail);
    both.freeze()
}

/// Ends an event that came without its blank line.
fn close(tail: Bytes) -> Bytes {
    join(tail, b"\n\n")
}
