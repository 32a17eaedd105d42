//! A committed answer, carried to its end.
//!
//! The stream is a body: whoever writes to the caller polls it, and learns nothing of attempts or
//! wires. It ends in one of four ways, and the account is settled in each: the provider's own end
//! was seen; the answer broke, and the caller got an error event and no terminal marker; the caller
//! left, and the body was dropped; or no target answered although the reply had been committed
//! early.

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame};
use tokio::time::Sleep;

use super::attempt::Terms;
use super::attempt::{Begun, Whole};
use super::wire::{Progress, Wire};
use super::{Account, Answer, Served};
use crate::clock::Instant;
use crate::config::{HoldBack, KeepAlive, Target, Timeouts};
use crate::dialect::{Dialect, StreamBreak, StreamSummary};
use crate::failure::{Failure, FailureKind};
use crate::fleet::Ticket;
use crate::ids::RequestId;
use crate::rejection::Rejection;
use crate::upstream::UpstreamBody;

/// The search for a target that answers, with the account it is charged to.
pub(super) type Opening = Pin<Box<dyn Future<Output = (Result<Begun, Rejection>, Account)> + Send>>;

/// How long a provider may keep its connection open after its terminal event. The caller has its
/// whole answer; what is waited for is only the connection's reuse.
const GRACE: Duration = Duration::from_millis(200);

/// A comment: what a silent stream says to keep proxies and clients from giving up.
const KEEP_ALIVE: Bytes = Bytes::from_static(b": keep-alive\n\n");

/// A streamed answer, as bytes for the caller.
pub struct AnswerStream {
    state: State,
    /// `None` once settled, and while an [`Opening`] holds it.
    account: Option<Account>,
    /// Wakes the stream when it has to look at the clock. Set rarely and checked against the times
    /// below, so that a token costs no timer.
    alarm: Pin<Box<Sleep>>,
    /// When the caller last heard something.
    last_sent: Instant,
    keep_alive: Option<Duration>,
}

enum State {
    /// Committed before the first token; see [`KeepAlive::before_first_token`].
    Opening(Opening, Named),
    /// Carrying tokens.
    Live(Box<Live>),
    /// Something still to be said, then the end.
    Last(Bytes),
    Done,
}

/// What the caller of an [`Opening`] must be told even if the opening cannot say it.
pub(super) struct Named {
    pub(super) request_id: RequestId,
    pub(super) dialect: Dialect,
}

/// An answer whose first token is here.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) body: Box<dyn UpstreamBody>,
    pub(super) wire: Wire,
    /// Bytes not sent yet: at first those held back.
    pub(super) held: Bytes,
    /// Pieces of the answer among them.
    pub(super) held_tokens: u32,
    /// Whether the body has ended while it was held back.
    pub(super) is_over: bool,
    pub(super) ticket: Option<Ticket>,
    timeouts: Timeouts,
    keep_alive: KeepAlive,
    deadline: Instant,
    /// When the answer last came nearer to its end. Pings and comments do not count: a provider
    /// may send them for as long as it likes.
    pub(super) last_token: Instant,
    /// For the log.
    target: Arc<Target>,
}

// === impl Live ===

impl Live {
    pub(super) fn new(
        body: Box<dyn UpstreamBody>,
        wire: Wire,
        (held, held_tokens): (Bytes, u32),
        terms: &Terms,
        target: &Arc<Target>,
    ) -> Self {
        Self {
            body,
            wire,
            held,
            held_tokens,
            is_over: false,
            ticket: None,
            timeouts: terms.conduct.timeouts,
            keep_alive: terms.conduct.keep_alive,
            deadline: terms.deadline,
            last_token: Instant::now(),
            target: Arc::clone(target),
        }
    }

    /// Holds more of the answer back while another target could still take over: a provider that
    /// fails within its first words has then failed before anybody heard them.
    pub(super) async fn hold_back(&mut self, hold_back: HoldBack) -> Result<(), Failure> {
        let until = self.last_token + hold_back.time;
        while self.held_tokens < hold_back.tokens && !self.is_told() {
            if self.read_on(until).await?.is_none() {
                break;
            }
        }
        Ok(())
    }

    /// Whether nothing of the answer is to come.
    pub(super) fn is_told(&self) -> bool {
        self.is_over || self.wire.saw_terminal()
    }

    /// What was counted so far.
    pub(super) fn summary(&self) -> &StreamSummary {
        self.wire.summary()
    }

    /// The next bytes for the caller, or how the answer ended.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Step> {
        if !self.held.is_empty() {
            return Poll::Ready(Step::Send(std::mem::take(&mut self.held)));
        }
        if self.is_over {
            return Poll::Ready(Step::End(Bytes::new()));
        }
        loop {
            let progress = match self.body.poll_chunk(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Ok(chunk))) => {
                    // After the end the wire sees nothing more, however much is said.
                    let progress = self.wire.push(chunk);
                    if progress.advanced {
                        self.last_token = Instant::now();
                    }
                    progress
                }
                // A connection that breaks after the terminal event has broken nothing.
                Poll::Ready(Some(Err(_))) if self.wire.saw_terminal() => {
                    return Poll::Ready(Step::End(Bytes::new()));
                }
                Poll::Ready(Some(Err(failure))) => {
                    return Poll::Ready(Step::Break(Bytes::new(), failure));
                }
                Poll::Ready(None) => return Poll::Ready(self.finish()),
            };
            if let Some(failure) = progress.failure {
                return Poll::Ready(Step::Break(progress.bytes, failure));
            }
            if !progress.bytes.is_empty() {
                return Poll::Ready(Step::Send(progress.bytes));
            }
        }
    }

    fn finish(&mut self) -> Step {
        let Progress { bytes, failure, .. } = self.wire.finish();
        match failure {
            None => Step::End(bytes),
            Some(failure) => Step::Break(bytes, failure),
        }
    }

    /// When the clock has to be looked at next, seen from the provider's side.
    pub(super) fn next_limit(&self) -> Instant {
        let patience = if self.wire.saw_terminal() { GRACE } else { self.timeouts.between_tokens };
        (self.last_token + patience).min(self.deadline)
    }

    /// What the clock says: nothing, or the end.
    fn on_alarm(&mut self, now: Instant) -> Option<Step> {
        if now < self.next_limit() {
            return None;
        }
        if self.wire.is_complete() {
            return Some(self.finish());
        }
        Some(Step::Break(Bytes::new(), self.late(now)))
    }

    /// The failure of an answer that did not go on in time.
    pub(super) fn late(&self, now: Instant) -> Failure {
        let message = if now >= self.deadline {
            "the deadline passed within the answer".to_owned()
        } else {
            format!("no token within {:?}", self.timeouts.between_tokens)
        };
        Failure::new(FailureKind::MidStream, message)
    }
}

/// What comes next.
enum Step {
    Send(Bytes),
    End(Bytes),
    Break(Bytes, Failure),
}

// === impl AnswerStream ===

impl AnswerStream {
    /// An answer that has begun in time.
    pub(super) fn begin(begun: Begun, account: Account) -> Answer {
        match begun {
            Begun::Stream(live) => Self::answer(*live, account),
            Begun::Whole(Whole { body, summary, ticket, ended, .. }) => {
                ticket.succeed(summary.usage, ended);
                let served = account.complete(&summary);
                Answer::Stream(Box::new(Self::new(State::Last(body), None, None)), served)
            }
            Begun::Scripted(body) => {
                let served = account.script();
                Answer::Stream(Box::new(Self::new(State::Last(body), None, None)), served)
            }
        }
    }

    pub(super) fn answer(live: Live, account: Account) -> Answer {
        let served = account.served();
        let keep_alive = live.keep_alive.every;
        let stream = Self::new(State::Live(Box::new(live)), Some(account), keep_alive);
        Answer::Stream(Box::new(stream), served)
    }

    /// An answer that is committed before anybody has answered.
    pub(super) fn early(opening: Opening, named: Named, every: Duration, so_far: Served) -> Answer {
        let mut stream = Self::new(State::Opening(opening, named), None, Some(every));
        // The silence so far is what it was committed for: the first comment is due.
        stream.last_sent = stream.last_sent.checked_sub(every).unwrap_or(stream.last_sent);
        Answer::Stream(Box::new(stream), so_far)
    }

    /// Whether the caller has got the whole answer, its end included.
    pub fn has_told_its_end(&self) -> bool {
        match &self.state {
            State::Live(live) => live.wire.saw_terminal() && live.held.is_empty(),
            State::Opening(..) | State::Last(_) => false,
            State::Done => true,
        }
    }

    fn new(state: State, account: Option<Account>, keep_alive: Option<Duration>) -> Self {
        let now = Instant::now();
        // The first look at the clock arms it properly.
        let alarm = Box::pin(tokio::time::sleep_until(now));
        Self { state, account, alarm, last_sent: now, keep_alive }
    }

    fn poll_bytes(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        loop {
            let polled = match &mut self.state {
                State::Done => return Poll::Ready(None),
                State::Last(bytes) => {
                    let bytes = std::mem::take(bytes);
                    self.state = State::Done;
                    return Poll::Ready(Some(bytes).filter(|bytes| !bytes.is_empty()));
                }
                State::Opening(opening, _) => {
                    if let Poll::Ready((opened, account)) = opening.as_mut().poll(cx) {
                        self.opened(opened, account);
                        continue;
                    }
                    Poll::Pending
                }
                State::Live(live) => live.poll(cx),
            };
            let step = match polled {
                Poll::Ready(step) => step,
                Poll::Pending => match self.poll_alarm(cx) {
                    Poll::Ready(step) => step,
                    Poll::Pending => return Poll::Pending,
                },
            };
            match step {
                Step::Send(bytes) => {
                    self.last_sent = Instant::now();
                    return Poll::Ready(Some(bytes));
                }
                Step::End(bytes) => self.end(bytes),
                Step::Break(bytes, failure) => self.break_off(bytes, failure),
            }
        }
    }

    /// Arms the alarm for the next thing that may be due, and says what is due now.
    fn poll_alarm(&mut self, cx: &mut Context<'_>) -> Poll<Step> {
        while self.alarm.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            let mut next = now + Duration::from_secs(3_600);
            if let State::Live(live) = &mut self.state {
                if let Some(step) = live.on_alarm(now) {
                    return Poll::Ready(step);
                }
                next = next.min(live.next_limit());
            }
            if let Some(every) = self.keep_alive {
                if now >= self.last_sent + every {
                    return Poll::Ready(Step::Send(KEEP_ALIVE));
                }
                next = next.min(self.last_sent + every);
            }
            self.alarm.as_mut().reset(next);
        }
        Poll::Pending
    }

    fn opened(&mut self, opened: Result<Begun, Rejection>, account: Account) {
        match opened {
            Ok(Begun::Stream(live)) => {
                self.keep_alive = live.keep_alive.every;
                self.state = State::Live(live);
                self.account = Some(account);
            }
            Ok(Begun::Whole(Whole { body, summary, ticket, ended, .. })) => {
                ticket.succeed(summary.usage, ended);
                account.complete(&summary);
                self.state = State::Last(body);
            }
            Ok(Begun::Scripted(body)) => {
                account.script();
                self.state = State::Last(body);
            }
            Err(rejection) => {
                tracing::warn!(
                    request.id = %account.request_id(),
                    code = rejection.face().code,
                    attempts = account.attempts(),
                    "request failed after its reply had begun: {}",
                    rejection.loggable()
                );
                let event = account.error_event(&rejection, None);
                account.reject(&rejection);
                self.state = State::Last(event);
            }
        }
    }

    fn end(&mut self, bytes: Bytes) {
        let State::Live(live) = std::mem::replace(&mut self.state, State::Last(bytes)) else {
            return;
        };
        let Live { wire, ticket, .. } = *live;
        if let Some(ticket) = ticket {
            ticket.succeed(wire.summary().usage, Instant::now());
        }
        if let Some(account) = self.account.take() {
            account.complete(wire.summary());
        }
    }

    fn break_off(&mut self, bytes: Bytes, failure: Failure) {
        let State::Live(live) = std::mem::replace(&mut self.state, State::Done) else {
            return;
        };
        let Live { wire, ticket, target, .. } = *live;
        if let Some(ticket) = ticket {
            ticket.fail(&failure, Instant::now());
        }
        let Some(account) = self.account.take() else { return };
        tracing::warn!(
            request.id = %account.request_id(),
            target.id = %target.id,
            failure.kind = failure.kind.as_str(),
            "stream broke: {}",
            failure.loggable()
        );
        let rejection = Rejection::StreamFailed { failure };
        let event = account.error_event(&rejection, Some(wire.summary()));
        account.cut(&rejection, wire.summary());
        self.state = State::Last([bytes, event].concat().into());
    }
}

impl AnswerStream {
    /// Ends the stream with an error event after a panic in its own polling.
    fn on_panic(&mut self) {
        let state = std::mem::replace(&mut self.state, State::Done);
        let rejection = Rejection::Internal { detail: "panic within a stream".to_owned() };
        match (state, self.account.take()) {
            (State::Live(live), Some(account)) => {
                tracing::error!(request.id = %account.request_id(), "stream broke: panic");
                self.state =
                    State::Last(account.error_event(&rejection, Some(live.wire.summary())));
                account.cut(&rejection, live.wire.summary());
            }
            // The account was in the opening, and settled itself as the panic dropped it.
            (State::Opening(_, Named { request_id, dialect }), _) => {
                tracing::error!(request.id = %request_id, "request failed after its reply had begun: panic");
                let request_id = request_id.as_str();
                let broken = StreamBreak {
                    rejection: &rejection,
                    request_id,
                    provider: None,
                    summary: None,
                };
                let event = dialect.codec().encode_stream_error(&broken);
                self.state = State::Last(event.into());
            }
            (State::Live(_) | State::Last(_) | State::Done, _) => {}
        }
    }
}

impl Drop for AnswerStream {
    /// The caller left, or it has everything and closed before the provider did.
    fn drop(&mut self) {
        let (State::Live(live), Some(account)) =
            (std::mem::replace(&mut self.state, State::Done), self.account.take())
        else {
            return;
        };
        let Live { wire, ticket, held, .. } = *live;
        if wire.saw_terminal() && held.is_empty() {
            if let Some(ticket) = ticket {
                ticket.succeed(wire.summary().usage, Instant::now());
            }
            account.complete(wire.summary());
        } else {
            account.abandon(wire.summary());
        }
    }
}

impl Body for AnswerStream {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let stream = self.get_mut();
        // A fault of ours must not look like the end of the answer. What is half done is not looked
        // at again: the wire and the body are dropped.
        let polled = catch_unwind(AssertUnwindSafe(|| stream.poll_bytes(cx)));
        let polled = polled.unwrap_or_else(|_panic| {
            stream.on_panic();
            stream.poll_bytes(cx)
        });
        polled.map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }
}

impl fmt::Debug for AnswerStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnswerStream").field("account", &self.account).finish_non_exhaustive()
    }
}
