//! When the tokens of one answer come, and what goes wrong on the way: turns rendered frames into
//! a script.

use std::time::Duration;

use super::fault::Fault;
use super::scenario::PrefixCache;
use super::script::{Action, Step};

/// The pace of one answer.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Pace {
    /// From the request to the first token.
    pub(super) first_token: Duration,
    /// From each token to the one after it, and from the last token to the end (a model ends with
    /// a token of its own); one for each token.
    pub(super) gaps: Vec<Duration>,
}

/// The frames of one streamed answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Frames {
    /// What comes before the first token, with the head.
    pub(super) preamble: Vec<u8>,
    /// One entry for each token.
    pub(super) tokens: Vec<Vec<u8>>,
    /// Finish reasons.
    pub(super) finish: Vec<u8>,
    /// Usage.
    pub(super) usage: Vec<u8>,
    /// The wire's last marker.
    pub(super) end: Vec<u8>,
    /// The wire's error event, for the fault that needs it.
    pub(super) error: Vec<u8>,
}

// === impl Pace ===

impl Pace {
    /// When the head of a streamed answer goes out: half way to the first token.
    pub(super) fn head(&self) -> Duration {
        self.first_token / 2
    }

    /// When each token is made.
    pub(super) fn beats(&self) -> impl Iterator<Item = Duration> {
        self.gaps.iter().scan(self.first_token, |at, gap| {
            let made = *at;
            *at += *gap;
            Some(made)
        })
    }

    /// When everything is done.
    pub(super) fn total(&self) -> Duration {
        self.first_token + self.gaps.iter().sum::<Duration>()
    }

    fn after_token(&self, index: usize) -> Duration {
        self.gaps.get(index).copied().unwrap_or_default()
    }
}

/// How long a server reads so many tokens that it has not cached.
pub(super) fn prefill(cache: &PrefixCache, tokens: u64) -> Duration {
    cache.prefill.saturating_mul(u32::try_from(tokens).unwrap_or(u32::MAX)) / 1_000
}

/// A streamed answer, step by step. The head came at [`Pace::head`].
pub(super) fn stream(frames: Frames, pace: &Pace, fault: Option<&Fault>) -> Vec<Step> {
    let mut steps = Vec::new();
    push(&mut steps, Duration::ZERO, frames.preamble);
    let until = stop_at(fault, frames.tokens.len());
    let mut gap = pace.first_token.saturating_sub(pace.head());
    let count = frames.tokens.len();
    let mut halved = None;
    for (index, frame) in frames.tokens.into_iter().enumerate() {
        if index >= until {
            halved = Some(frame);
            break;
        }
        match fault {
            Some(Fault::MalformedFrame(at)) if usize_of(*at).min(count - 1) == index => {
                push(&mut steps, gap, b"data: {\"this frame\": is no JSON\n\n".to_vec());
            }
            Some(_) | None => push(&mut steps, gap, frame),
        }
        gap = pace.after_token(index);
    }
    match fault {
        Some(Fault::StallAfter(_) | Fault::StallAfterHead) => {
            steps.push(Step { after: gap, action: Action::Stall })
        }
        Some(Fault::ResetAfter(_)) => steps.push(Step { after: gap, action: Action::Reset }),
        Some(Fault::CutInFrame(_)) => {
            let mut frame = halved.unwrap_or(frames.finish);
            frame.truncate(frame.len() / 2);
            push(&mut steps, gap, frame);
            steps.push(Step::end());
        }
        Some(Fault::CutAfter(_) | Fault::NoTerminal) => {
            steps.push(Step { after: gap, action: Action::End })
        }
        Some(Fault::ErrorEvent(_)) => {
            push(&mut steps, gap, frames.error);
            steps.push(Step::end());
        }
        _ => {
            push(&mut steps, gap, frames.finish);
            push(&mut steps, Duration::ZERO, frames.usage);
            if fault != Some(&Fault::NoDoneMarker) {
                push(&mut steps, Duration::ZERO, frames.end);
            }
            steps.push(Step::end());
        }
    }
    if fault == Some(&Fault::SplitUtf8) { split_characters(steps) } else { steps }
}

/// An answer in one piece. The head comes with it.
pub(super) fn whole(body: Vec<u8>, fault: Option<&Fault>) -> Vec<Step> {
    let half = || body.get(..body.len() / 2).unwrap_or_default().to_vec();
    let broken =
        |action| vec![Step::chunk(Duration::ZERO, half()), Step { after: Duration::ZERO, action }];
    match fault {
        Some(Fault::StallAfterHead) => vec![Step { after: Duration::ZERO, action: Action::Stall }],
        Some(Fault::StallAfter(_)) => broken(Action::Stall),
        Some(Fault::ResetAfter(_)) => broken(Action::Reset),
        Some(Fault::CutAfter(_) | Fault::CutInFrame(_) | Fault::MalformedFrame(_)) => {
            broken(Action::End)
        }
        Some(Fault::SplitUtf8) => {
            split_characters(vec![Step::chunk(Duration::ZERO, body), Step::end()])
        }
        _ => vec![Step::chunk(Duration::ZERO, body), Step::end()],
    }
}

/// How many tokens go out before the fault.
pub(super) fn stop_at(fault: Option<&Fault>, tokens: usize) -> usize {
    match fault {
        Some(
            Fault::StallAfter(at)
            | Fault::CutAfter(at)
            | Fault::CutInFrame(at)
            | Fault::ResetAfter(at)
            | Fault::ErrorEvent(at),
        ) => usize_of(*at).min(tokens),
        Some(Fault::StallAfterHead) => 0,
        _ => tokens,
    }
}

fn push(steps: &mut Vec<Step>, after: Duration, frame: Vec<u8>) {
    // An encoder may have nothing to say to a delta; its time still passes.
    steps.push(Step::chunk(after, frame));
}

/// Splits every chunk with a multi-byte character inside its first one.
fn split_characters(steps: Vec<Step>) -> Vec<Step> {
    let mut split = Vec::with_capacity(steps.len());
    for step in steps {
        match step.action {
            Action::Chunk(mut bytes) => {
                let lead = bytes.iter().position(|byte| *byte >= 0xC0);
                if let Some(at) = lead {
                    split.push(Step::chunk(step.after, bytes.split_to(at + 1)));
                    split.push(Step::chunk(Duration::from_millis(1), bytes));
                } else {
                    split.push(Step::chunk(step.after, bytes));
                }
            }
            action @ (Action::Reset | Action::Stall | Action::End) => {
                split.push(Step { after: step.after, action });
            }
        }
    }
    split
}

fn usize_of(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}
