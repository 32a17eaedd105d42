//! Streams that others share: the leader's, and those of its followers.

use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;

use super::{AnswerStream, Expiry, Named, State};
use crate::chat::Usage;
use crate::dialect::StreamBreak;
use crate::dispatch::flight::{Next, Reader, Telling, too_slow};
use crate::dispatch::live::Step;
use crate::dispatch::{Account, Answer, Served};
use crate::failure::Failure;
use crate::rejection::Rejection;

// === impl AnswerStream ===

impl AnswerStream {
    /// An answer that others share, for the caller it is made for. What makes it has to be over as
    /// `expiry` says.
    pub(in crate::dispatch) fn led(
        reader: Reader,
        named: Named,
        expiry: Expiry,
        served: Served,
    ) -> Answer {
        let mut stream = Self::new(State::Led(reader, named), None, None);
        stream.expiry = expiry;
        Answer::Stream(Box::new(stream), served)
    }

    /// An answer that is made for another caller.
    pub(in crate::dispatch) fn follow(
        telling: Telling,
        account: Account,
        keep_alive: Option<Duration>,
        served: Served,
    ) -> Answer {
        let deadline = telling.deadline();
        let state = State::Following(Box::new(telling));
        let stream = Self::new(state, Some(account), keep_alive);
        stream.expiry.set(deadline);
        Answer::Stream(Box::new(stream), served)
    }

    /// What the answer took, as far as that is known.
    pub(in crate::dispatch) fn usage(&self) -> Option<Usage> {
        match &self.state {
            State::Live(live) => live.wire.summary().usage,
            State::Opening(..)
            | State::Joining(_)
            | State::Led(..)
            | State::Following(_)
            | State::Last(_)
            | State::Done => self.told,
        }
    }

    /// The end of an answer that was another's.
    pub(super) fn end_shared(&mut self, ended: State) {
        if let (State::Following(telling), Some(account)) = (ended, self.account.take()) {
            telling.settle(account);
        }
    }

    /// A shared answer broke, or did for this caller.
    pub(super) fn break_shared(&mut self, broken: State, rest: Bytes, failure: Failure) {
        self.expiry.clear();
        // Whose answer it is was told the same.
        let rejection = match self.is_stopped() {
            true => Rejection::Draining,
            false => Rejection::StreamFailed { failure },
        };
        let event: Bytes = match (broken, self.take_account()) {
            (State::Following(telling), Some(account)) => {
                tracing::warn!(
                    request.id = %account.request_id(),
                    "shared stream broke: {}",
                    rejection.loggable()
                );
                let event = account.error_event(&rejection, Some(telling.summary()));
                account.cut(&rejection, telling.summary());
                event
            }
            (State::Led(_, named), _) => {
                let request_id = named.request_id.as_str();
                let broken = StreamBreak {
                    rejection: &rejection,
                    request_id,
                    provider: None,
                    summary: None,
                };
                named.dialect.codec().encode_stream_error(&broken).into()
            }
            (
                State::Live(_)
                | State::Following(_)
                | State::Opening(..)
                | State::Joining(_)
                | State::Last(_)
                | State::Done,
                _,
            ) => return,
        };
        self.state = State::Last([rest, event].concat().into());
    }
}

/// What comes next for the caller who leads.
pub(super) fn poll_led(reader: &Reader, cx: &Context<'_>) -> Poll<Step> {
    reader.poll_bytes(cx).map(|next| match next {
        Next::Piece(bytes) => Step::Send(bytes),
        Next::Broken(failure) => Step::Break(Bytes::new(), failure),
        Next::TooLate => Step::Break(Bytes::new(), too_slow()),
        Next::Over | Next::Nothing => Step::End(Bytes::new()),
    })
}
