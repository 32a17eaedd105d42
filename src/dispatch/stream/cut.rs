//! Streams that get to a limit of their caller's, or to the end of their time.

use std::future::Future;
use std::task::{Context, Poll};

use super::{AnswerStream, Live, State};
use crate::clock::Instant;
use crate::dispatch::Stop;
use crate::dispatch::live::Step;
use crate::limits::Flow;
use crate::rejection::Rejection;
use crate::tokens;

// === impl AnswerStream ===

impl AnswerStream {
    /// Ends the stream when it has to be over, and says with what. To be asked where there is no
    /// room for more of it, so that it is not polled. Its provider is not to blame.
    pub fn poll_overdue(&mut self, cx: &mut Context<'_>) -> Poll<Rejection> {
        let rejection = match self.is_stopped() && self.is_unfinished() {
            true => Rejection::Draining,
            false => {
                let Some(until) = self.expiry.get() else { return Poll::Pending };
                let overdue =
                    self.overdue.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until)));
                std::task::ready!(overdue.as_mut().poll(cx));
                Rejection::Unfinished
            }
        };
        self.end_early(&rejection);
        // Nobody reads what is said last; what others still read goes on.
        self.state = State::Done;
        Poll::Ready(rejection)
    }

    /// Whether its account is open, and more of the answer is to come.
    fn is_unfinished(&self) -> bool {
        match &self.state {
            State::Live(live) => !live.wire.is_complete(),
            State::Following(_) | State::Led(..) => !self.has_told_its_end(),
            // These look for themselves.
            State::Opening(..) | State::Joining(_) => false,
            State::Last(_) | State::Done => false,
        }
    }

    /// Whether it has to end because the gateway stops.
    pub(super) fn is_stopped(&self) -> bool {
        self.stop.as_ref().is_some_and(Stop::is_ordered)
    }

    /// How the stream ends where the gateway stops: an answer that is complete is.
    pub(super) fn stopped(&mut self) -> Option<Step> {
        if self.account.is_none() || !self.is_stopped() {
            return None;
        }
        match &mut self.state {
            State::Live(live) if live.wire.is_complete() => Some(live.finish()),
            State::Live(_)
            | State::Following(_)
            | State::Opening(..)
            | State::Joining(_)
            | State::Led(..)
            | State::Last(_)
            | State::Done => Some(Step::Over(Rejection::Draining)),
        }
    }

    /// Ends an answer that is not complete with an error event. Its provider is not to blame, and
    /// nobody is asked to go on with it.
    pub(super) fn end_early(&mut self, rejection: &Rejection) {
        self.expiry.clear();
        (self.sequel, self.keeping) = (None, None);
        let Some(account) = self.take_account() else { return };
        let is_out_of_time = !matches!(rejection, Rejection::Draining);
        let code = rejection.face().code;
        tracing::warn!(request.id = %account.request_id(), code, "stream ended early: {rejection}");
        let event = match std::mem::replace(&mut self.state, State::Done) {
            State::Live(live) => {
                if let Some(ticket) = live.ticket.filter(|_| is_out_of_time) {
                    ticket.out_of_time();
                }
                let event = account.error_event(rejection, Some(live.wire.summary()));
                account.cut(rejection, live.wire.summary());
                event
            }
            State::Following(telling) => {
                let event = account.error_event(rejection, Some(telling.summary()));
                account.cut(rejection, telling.summary());
                event
            }
            // These have no account here.
            kept @ (State::Opening(..)
            | State::Joining(_)
            | State::Led(..)
            | State::Last(_)
            | State::Done) => {
                self.state = kept;
                return;
            }
        };
        self.state = State::Last(event);
    }

    /// Counts what is sent towards the caller's limits.
    pub(super) fn count(&mut self) -> Flow {
        let (State::Live(live), Some(account)) = (&mut self.state, &mut self.account) else {
            return Flow::GoOn;
        };
        let is_told = live.wire.saw_terminal();
        let tokens = std::mem::take(&mut live.uncounted);
        if is_told { Flow::GoOn } else { account.on_tokens(tokens) }
    }

    /// Ends the answer where a limit ends it, as if the model had come to its `max_tokens`.
    pub(super) fn cut_short(&mut self) {
        let (State::Live(live), Some(account)) = (&mut self.state, &self.account) else { return };
        let input_tokens = tokens::guess(account.prompt_bytes());
        let Some(end) = live.wire.cut_short(input_tokens) else { return };
        self.keeping = None;
        self.expiry.clear();
        let State::Live(live) = std::mem::replace(&mut self.state, State::Done) else {
            return;
        };
        let Live { wire, ticket, .. } = *live;
        let account = self.take_account();
        if let Some(ticket) = ticket {
            ticket.succeed(None, Instant::now());
        }
        if let Some(account) = account {
            account.cut_short(wire.summary());
        }
        // Only now: where settling fails, it does not look as if all was said.
        self.state = State::Last(end);
    }
}
