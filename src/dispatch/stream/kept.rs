//! Streams that are kept when they are complete.

use bytes::Bytes;

use super::{AnswerStream, Live, State};
use crate::clock::Instant;
use crate::dialect::StreamSummary;
use crate::dispatch::keeping::Keeping;
use crate::dispatch::{Account, Served};

// === impl AnswerStream ===

impl AnswerStream {
    /// Notes what the caller gets next.
    pub(super) fn note(&mut self, bytes: &Bytes) {
        if let Some(keeping) = &mut self.keeping {
            keeping.push(bytes);
        }
    }

    /// The answer is complete, with these bytes.
    pub(super) fn end(&mut self, bytes: Bytes) {
        self.expiry.clear();
        self.note(&bytes);
        let live = match std::mem::replace(&mut self.state, State::Last(bytes)) {
            State::Live(live) => live,
            ended @ (State::Opening(..)
            | State::Joining(_)
            | State::Led(..)
            | State::Following(_)
            | State::Last(_)
            | State::Done) => return self.end_shared(ended),
        };
        let Live { wire, ticket, .. } = *live;
        self.told = wire.summary().usage;
        if let Some(ticket) = ticket {
            ticket.succeed(wire.summary().usage, Instant::now());
        }
        if let Some(account) = self.account.take() {
            complete(account, wire.summary(), self.keeping.take());
        }
    }
}

/// Settles an answer of which the caller has everything, and keeps it where it is to be kept.
pub(super) fn complete(
    account: Account,
    summary: &StreamSummary,
    keeping: Option<Box<Keeping>>,
) -> Served {
    let is_spliced = account.is_joined();
    let served = account.complete(summary);
    if let Some(keeping) = keeping {
        keeping.streamed(&served, summary.usage, is_spliced);
    }
    served
}

/// The same for an answer that is sent in one piece.
pub(super) fn complete_with(
    account: Account,
    (summary, body): (&StreamSummary, &Bytes),
    mut keeping: Option<Box<Keeping>>,
) -> Served {
    if let Some(keeping) = &mut keeping {
        keeping.push(body);
    }
    complete(account, summary, keeping)
}
