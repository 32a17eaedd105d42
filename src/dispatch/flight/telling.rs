//! A shared answer, written anew for one who follows it as a stream.

use std::sync::Arc;
use std::task::{Context, Poll};

use serde_json::Value;

use super::{Next, Reader};
use crate::chat::Delta;
use crate::clock::Instant;
use crate::config::Target;
use crate::dialect::{StreamEncoder, StreamSummary};
use crate::dispatch::live::Step;
use crate::dispatch::settle::Ledger;
use crate::dispatch::wire::note;
use crate::dispatch::{Account, share_cost};
use crate::failure::{Failure, FailureKind};

/// The most that is written at a time.
const PIECE_BYTES: usize = 16 * 1024;

/// A follower's stream.
#[derive(Debug)]
pub(in crate::dispatch) struct Telling {
    pub(super) reader: Reader,
    pub(super) encoder: Box<dyn StreamEncoder>,
    /// What the follower has.
    pub(super) summary: StreamSummary,
    /// The gateway's own words beside the usage.
    pub(super) words: Value,
    /// Seconds since 1970.
    pub(super) created: u64,
    /// Who answers, where that is known.
    pub(super) target: Option<Arc<Target>>,
    pub(super) deadline: Instant,
    pub(super) ledger: Arc<Ledger>,
}

// === impl Telling ===

impl Telling {
    /// What the follower has so far.
    pub(in crate::dispatch) fn summary(&self) -> &StreamSummary {
        &self.summary
    }

    /// When the follower's own time is over.
    pub(in crate::dispatch) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// What comes next for the follower.
    pub(in crate::dispatch) fn poll(&mut self, cx: &Context<'_>) -> Poll<Step> {
        let mut out = Vec::new();
        loop {
            let failure = match self.reader.poll_deltas(cx) {
                Poll::Pending if out.is_empty() => return Poll::Pending,
                Poll::Pending => return Poll::Ready(Step::Send(out.into())),
                Poll::Ready(Next::Piece(deltas)) => {
                    if self.write(&deltas, &mut out) {
                        return Poll::Ready(Step::End(out.into()));
                    }
                    if out.len() >= PIECE_BYTES {
                        return Poll::Ready(Step::Send(out.into()));
                    }
                    continue;
                }
                Poll::Ready(Next::Broken(failure)) => failure,
                Poll::Ready(Next::TooLate) => too_slow(),
                Poll::Ready(Next::Over | Next::Nothing) => cut_off(),
            };
            return Poll::Ready(Step::Break(out.into(), failure));
        }
    }

    /// Settles the account of who has everything.
    pub(in crate::dispatch) fn settle(self, account: Account) {
        self.ledger.metrics().cache.met("shared");
        let saved = share_cost(self.target.as_deref(), self.summary.usage);
        self.ledger.metrics().cache.saved(saved.0);
        account.share(saved, &self.summary);
    }

    /// Writes a piece of the answer; whether it was the last.
    fn write(&mut self, deltas: &[Delta], out: &mut Vec<u8>) -> bool {
        for delta in deltas {
            if let Delta::Start { model, usage, .. } = delta {
                // Each request has its own.
                let (id, created) = (String::new(), self.created);
                let start = Delta::Start { id, model: model.clone(), created, usage: *usage };
                self.push(&start, out);
            } else if *delta == Delta::End {
                // The leader's caller may not have asked for it.
                if self.summary.usage.is_none_or(|usage| usage.total_output() == 0)
                    && let Some(usage) = self.reader.usage()
                {
                    self.push(&Delta::Usage { usage }, out);
                }
                self.push(delta, out);
                return true;
            } else {
                self.push(delta, out);
            }
        }
        false
    }

    fn push(&mut self, delta: &Delta, out: &mut Vec<u8>) {
        note(&mut self.summary, delta);
        if matches!(delta, Delta::Usage { .. }) {
            self.encoder.set_extension(self.words.clone());
        }
        self.encoder.push(delta, out);
    }
}

/// The failure of one who reads more slowly than the others, by more than is kept.
pub(in crate::dispatch) fn too_slow() -> Failure {
    let message = "it was read more slowly than by others who shared it, by more than is kept";
    Failure::new(FailureKind::MidStream, message)
}

/// The failure of an answer that has no end.
pub(super) fn cut_off() -> Failure {
    Failure::new(FailureKind::MidStream, "the shared answer ended early")
}
