//! From the provider's bytes to the caller's: untouched where both speak the same wire, decoded and
//! encoded where they do not.

use bytes::{Bytes, BytesMut};

use super::collect::Collector;
use crate::chat::{Completion, Delta};
use crate::config::Target;
use crate::dialect::sse::{self, FrameBuffer};
use crate::dialect::{
    Codec, Dialect, Envelope, Expected, FrameKind, Scanner, StreamEncoder, StreamSummary,
    merge_usage,
};
use crate::failure::{Failure, FailureKind};

mod cut;
mod heard;
mod notes;
mod seam;
mod translated;

pub(super) use heard::Heard;
use notes::Notes;
pub(super) use seam::{Seam, delivered_once};
use translated::{Part, Translated};

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
    Same {
        scanner: Box<dyn Scanner>,
        keep_usage: bool,
        missing_terminal: &'static [u8],
        /// What the caller has of it, where it may be continued.
        heard: Option<Box<Heard>>,
    },
    Translated(Box<Translated>),
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
            heard: None,
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
        Self::decoded(from, Part::First(encoder), target, choices)
    }

    /// A stream that is put together to a whole answer.
    pub(super) fn collected(from: Dialect, collector: Collector, target: &Target) -> Self {
        Self::decoded(from, Part::Collected(Box::new(collector)), target, Some(1))
    }

    /// A stream that is to be [joined](Wire::join) to the beginning of its answer.
    pub(super) fn kept(from: Dialect, target: &Target) -> Self {
        Self::decoded(from, Part::Kept(Vec::new()), target, Some(1))
    }

    fn decoded(from: Dialect, part: Part, target: &Target, choices: Option<u64>) -> Self {
        let mut decoder = from.codec().stream_decoder();
        decoder.expect(Expected::of(&target.endpoint.quirks, choices));
        let lane = Path::Translated(Box::new(Translated {
            decoder,
            part,
            summary: StreamSummary::default(),
            deltas: Vec::new(),
            choices: u32::try_from(choices.unwrap_or(1)).unwrap_or(1),
            complete: false,
            heard: None,
        }));
        Self { frames: FrameBuffer::new(), lane, ended: false, notes: Notes::of(target) }
    }

    /// The same, remembering what the caller has, so that the stream can be continued.
    pub(super) fn remembering(mut self, from: Dialect) -> Self {
        match &mut self.lane {
            Path::Same { heard, .. } => {
                *heard = Some(Box::new(Heard::new(Some(from.codec().stream_decoder()))));
            }
            Path::Translated(translated) => translated.heard = Some(Box::new(Heard::new(None))),
        }
        self
    }

    /// What the caller has of a stream that broke, and the encoder that writes on, which is `fresh`
    /// where there was none. Nothing where the stream was not remembered.
    pub(super) fn into_heard(
        self,
        fresh: impl FnOnce() -> Box<dyn StreamEncoder>,
    ) -> Option<(Heard, Box<dyn StreamEncoder>)> {
        match self.lane {
            Path::Same { heard, .. } => {
                let heard = *heard?;
                let mut encoder = fresh();
                heard.tell(encoder.as_mut());
                Some((heard, encoder))
            }
            Path::Translated(translated) => match translated.part {
                Part::First(encoder) => Some((*translated.heard?, encoder)),
                Part::Collected(_) | Part::Kept(_) | Part::Second(..) => None,
            },
        }
    }

    /// What a stream came to that was put together to its end.
    pub(super) fn take_said(&mut self) -> Option<Box<Completion>> {
        match &mut self.lane {
            Path::Translated(translated) => match &mut translated.part {
                Part::Collected(collector) => collector.take_said(),
                Part::First(_) | Part::Kept(_) | Part::Second(..) => None,
            },
            Path::Same { .. } => None,
        }
    }

    /// Joins a [kept](Wire::kept) stream to the beginning of its answer, of which the caller has
    /// what `told` counts. From now on its bytes continue what `encoder` wrote.
    pub(super) fn join(
        &mut self,
        seam: Seam,
        encoder: Box<dyn StreamEncoder>,
        told: StreamSummary,
    ) -> Progress {
        let mut progress = Progress::default();
        let Path::Translated(translated) = &mut self.lane else { return progress };
        let part = Part::Second(encoder, Box::new(seam));
        if let Part::Kept(kept) = std::mem::replace(&mut translated.part, part) {
            let usage = translated.summary.usage;
            let model = std::mem::take(&mut translated.summary.model);
            translated.summary = StreamSummary { usage, model, finish: None, ..told };
            translated.deltas = kept;
            let mut out = Vec::new();
            translated.encode(&self.notes, &mut progress, &mut out);
            progress.bytes = out.into();
        }
        progress
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
                        let mut bytes = Vec::new();
                        translated.encode(&self.notes, &mut last, &mut bytes);
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
            Path::Same { scanner, keep_usage, heard, .. } => {
                let progress = pass(whole, scanner.as_mut(), *keep_usage, &self.notes);
                if let Some(heard) = heard {
                    heard.listen(&progress.bytes);
                }
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
                let extension = notes.extension(scanner.summary().usage, None).to_string();
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
    Failure::new(FailureKind::MidStream, message)
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
