//! Streams that end before their answer does: their caller left, or their own polling panicked.

use super::{AnswerStream, Live, State, kept};
use crate::clock::Instant;
use crate::dialect::StreamSummary;
use crate::dispatch::Account;
use crate::rejection::Rejection;

// === impl AnswerStream ===

impl AnswerStream {
    /// Ends the stream with an error event after a panic in its own polling.
    pub(super) fn on_panic(&mut self) {
        let state = std::mem::replace(&mut self.state, State::Done);
        let rejection = Rejection::Internal { detail: "panic within a stream".to_owned() };
        match (state, self.account.take()) {
            (State::Live(live), Some(account)) => {
                tracing::error!(request.id = %account.request_id(), "stream broke: panic");
                self.state =
                    State::Last(account.error_event(&rejection, Some(live.wire.summary())));
                account.cut(&rejection, live.wire.summary());
            }
            // The account was in the future, and settled itself as the panic dropped it.
            (State::Opening(_, named) | State::Led(_, named), _) => {
                self.state = named.tell(&rejection, None);
            }
            (State::Following(telling), Some(account)) => {
                self.state = State::Last(account.error_event(&rejection, Some(telling.summary())));
                account.cut(&rejection, telling.summary());
            }
            (State::Joining(pausing), _) => {
                self.state = pausing.named.tell(&rejection, Some(&pausing.broken.summary));
            }
            // What was to be said at the end is still said.
            (last @ State::Last(_), _) => self.state = last,
            (State::Done, Some(account)) => {
                self.state = State::Last(account.error_event(&rejection, None));
                account.cut(&rejection, &StreamSummary::default());
            }
            (State::Live(_) | State::Following(_) | State::Done, None) => {
                if let Some(named) = self.between.take() {
                    self.state = named.tell(&rejection, None);
                }
            }
        }
    }

    /// Takes the account, to settle it or to go on with it. Should that panic, the stream is still
    /// known.
    pub(super) fn take_account(&mut self) -> Option<Account> {
        let account = self.account.take()?;
        self.between = account.named();
        Some(account)
    }
}

impl Drop for AnswerStream {
    /// The caller left, or it has everything and closed before the provider did; or the gateway
    /// stopped, or the time was over.
    fn drop(&mut self) {
        let (state, account) =
            (std::mem::replace(&mut self.state, State::Done), self.account.take());
        let Some(account) = account else { return };
        let is_stopped = self.is_stopped();
        let live = match state {
            State::Live(live) => live,
            State::Following(telling) if is_stopped => {
                return account.cut(&Rejection::Draining, telling.summary());
            }
            State::Following(telling) => return account.abandon(telling.summary()),
            State::Opening(..)
            | State::Joining(_)
            | State::Led(..)
            | State::Last(_)
            | State::Done => return,
        };
        let Live { wire, ticket, held, .. } = *live;
        if wire.saw_terminal() && held.is_empty() {
            if let Some(ticket) = ticket {
                ticket.succeed(wire.summary().usage, Instant::now());
            }
            kept::complete(account, wire.summary(), self.keeping.take());
        } else if is_stopped {
            account.cut(&Rejection::Draining, wire.summary());
        } else if self.expiry.get().is_some_and(|until| until <= Instant::now()) {
            // Whoever let it go could not wait for it any longer.
            account.cut(&Rejection::Unfinished, wire.summary());
        } else {
            account.abandon(wire.summary());
        }
    }
}
