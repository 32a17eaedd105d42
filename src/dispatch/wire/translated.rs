//! A stream on its way from one wire to another, to a whole answer, or to the end of one that
//! broke.

use super::{Heard, Notes, Progress, Seam, note};
use crate::chat::Delta;
use crate::dialect::sse;
use crate::dialect::{StreamDecoder, StreamEncoder, StreamSummary};
use crate::dispatch::collect::Collector;
use crate::failure::{Failure, FailureKind};
use crate::policy::midstream::Restarted;

/// A stream that is decoded and written again.
#[derive(Debug)]
pub(super) struct Translated {
    pub(super) decoder: Box<dyn StreamDecoder>,
    pub(super) part: Part,
    pub(super) summary: StreamSummary,
    pub(super) deltas: Vec<Delta>,
    /// How many answers were asked for.
    pub(super) choices: u32,
    pub(super) complete: bool,
    /// What the caller has of it, where it may be continued.
    pub(super) heard: Option<Box<Heard>>,
}

/// Which part of an answer a stream is.
#[derive(Debug)]
pub(super) enum Part {
    /// All of it, or its beginning.
    First(Box<dyn StreamEncoder>),
    /// All of it, for a caller who wants it whole.
    Collected(Box<Collector>),
    /// The rest of one that broke, kept until it is joined to its beginning.
    Kept(Vec<Delta>),
    /// The rest of one that broke, joined to its beginning.
    Second(Box<dyn StreamEncoder>, Box<Seam>),
}

// === impl Translated ===

impl Translated {
    /// Takes whole frames.
    pub(super) fn push(&mut self, whole: &[u8], notes: &Notes) -> Progress {
        let mut progress = Progress::default();
        let mut out = Vec::new();
        for frame in sse::frames(whole) {
            if self.take_text(frame, &mut progress, &mut out) {
                continue;
            }
            let event = sse::parse(frame);
            let result = self.decoder.push(&event, &mut self.deltas);
            self.encode(notes, &mut progress, &mut out);
            if self.complete || progress.failure.is_some() {
                break;
            }
            if let Err(failure) = result {
                progress.failure = Some(failure);
                break;
            }
        }
        progress.bytes = out.into();
        progress
    }

    /// Deals with a frame of nothing but text, as nearly all are, without making a delta of it.
    /// Says whether it was one.
    fn take_text(&mut self, frame: &[u8], progress: &mut Progress, out: &mut Vec<u8>) -> bool {
        if !matches!(self.part, Part::First(_) | Part::Collected(_)) {
            return false;
        }
        let Some((choice, text)) = self.decoder.text_of(frame) else { return false };
        if text.is_empty() {
            return true;
        }
        progress.tokens += 1;
        progress.advanced = true;
        self.summary.text.push(&text);
        if let Some(heard) = &mut self.heard {
            heard.note_text(choice, &text);
        }
        match &mut self.part {
            Part::First(encoder) => encoder.push_text(choice, &text, out),
            Part::Collected(collector) => collector.push_text(choice, &text),
            Part::Kept(_) | Part::Second(..) => {}
        }
        true
    }

    /// Appends the deltas that were decoded, and notes in `progress` what they are.
    pub(super) fn encode(&mut self, notes: &Notes, progress: &mut Progress, out: &mut Vec<u8>) {
        let Self { part, summary, deltas, complete, heard, .. } = self;
        for delta in deltas.drain(..) {
            let is_end = delta == Delta::End;
            progress.tokens += u32::from(delta.is_semantic());
            progress.advanced |= !matches!(delta, Delta::Start { .. });
            match part {
                Part::First(encoder) => {
                    note(summary, &delta);
                    if let Some(heard) = heard {
                        heard.note(&delta);
                    }
                    if let Delta::Usage { usage } = &delta {
                        encoder.set_extension(notes.extension(Some(*usage), None));
                    }
                    let is_start = matches!(delta, Delta::Start { .. });
                    encoder.push_owned(delta, out);
                    if is_start {
                        summary.head = encoder.head();
                    }
                }
                Part::Collected(collector) => {
                    note(summary, &delta);
                    collector.push(delta, out);
                }
                Part::Kept(kept) => {
                    note(summary, &delta);
                    kept.push(delta);
                }
                Part::Second(encoder, seam) => {
                    let written = write_on((encoder.as_mut(), seam), &delta, summary, notes);
                    match written {
                        Ok(written) => out.extend_from_slice(&written),
                        Err(failure) => {
                            progress.failure = Some(failure);
                            break;
                        }
                    }
                }
            }
            *complete |= is_end;
        }
    }
}

/// Writes a piece of the second attempt's answer as one of the first's. Of both, `summary` has what
/// the caller was told, and the second's usage.
fn write_on(
    (encoder, seam): (&mut dyn StreamEncoder, &mut Seam),
    delta: &Delta,
    summary: &mut StreamSummary,
    notes: &Notes,
) -> Result<Vec<u8>, Failure> {
    if matches!(delta, Delta::Start { .. } | Delta::Usage { .. }) {
        note(summary, delta);
    }
    let mut fitted = Vec::new();
    let result = seam.fit(delta.clone(), &mut fitted);
    let mut out = Vec::new();
    for delta in fitted {
        if let Some(comment) = seam.take_comment() {
            out.extend_from_slice(&comment);
        }
        if let Delta::Usage { usage } = &delta {
            encoder.set_extension(notes.extension(Some(*usage), Some(seam)));
        } else {
            note(summary, &delta);
        }
        encoder.push(&delta, &mut out);
    }
    let broken =
        |restarted: Restarted| Failure::new(FailureKind::Degenerate, restarted.to_string());
    result.map(|()| out).map_err(broken)
}
