//! A committed answer, carried to its end.
//!
//! The stream is a body: whoever writes to the caller polls it, and learns nothing of attempts or
//! wires. It ends in one of four ways, and the account is settled in each: the provider's own end
//! was seen; the answer broke, and the caller got an error event and no terminal marker; the caller
//! left, and the body was dropped; or no target answered although the reply had been committed
//! early. An answer that broke may be continued by another attempt before it comes to that.

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

use super::attempt::{Begun, Whole, concealed};
use super::expiry::Expiry;
use super::flight::{Reader, Telling};
use super::keeping::Keeping;
use super::live::{Live, Step};
use super::recorded::Recorder;
use super::sequel::{Broken, Joining, Sequel};
use super::{Account, Answer, Served, Stop};
use crate::chat::Usage;
use crate::clock::Instant;
use crate::config::Target;
use crate::dialect::{Dialect, StreamBreak, StreamSummary};
use crate::failure::Failure;
use crate::ids::RequestId;
use crate::limits::Flow;
use crate::policy::midstream::Why;
use crate::rejection::Rejection;

mod cut;
mod gone;
mod kept;
mod shared;

/// The search for a target that answers, with the account it is charged to.
pub(super) type Opening = Pin<Box<dyn Future<Output = Opened> + Send>>;

/// What came of it, and what a stream can be continued with.
pub(super) type Opened = (Result<Begun, Rejection>, Account, Option<Box<Sequel>>);

/// A comment: what a silent stream says to keep proxies and clients from giving up.
const KEEP_ALIVE: Bytes = Bytes::from_static(b": keep-alive\n\n");

/// A streamed answer, as bytes for the caller.
pub struct AnswerStream {
    state: State,
    /// `None` once settled, and while an [`Opening`] holds it.
    account: Option<Account>,
    /// Whose stream it is, while it goes from one state to the next without an account.
    between: Option<Named>,
    /// Wakes the stream when it has to look at the clock. Set rarely and checked against the times
    /// below, so that a token costs no timer.
    alarm: Pin<Box<Sleep>>,
    /// When the caller last heard something.
    last_sent: Instant,
    keep_alive: Option<Duration>,
    /// What the stream is continued with if it breaks; nothing where it is not to be, or was.
    sequel: Option<Box<Sequel>>,
    /// What becomes of it when it is complete, where it is to be kept.
    keeping: Option<Box<Keeping>>,
    /// Reads what passes, where it is recorded.
    recorder: Option<Box<Recorder>>,
    /// For whoever has to end the stream while nobody polls it.
    expiry: Expiry,
    /// Runs while a pump has no room for what comes.
    overdue: Option<Pin<Box<Sleep>>>,
    /// What it took, once it has ended.
    told: Option<Usage>,
    /// Whether the gateway stops.
    stop: Option<Stop>,
}

enum State {
    /// Committed before the first token; see [`KeepAlive::before_first_token`].
    Opening(Opening, Named),
    /// Carrying tokens.
    Live(Box<Live>),
    /// Looking for an attempt that continues an answer that broke.
    Joining(Box<Pausing>),
    /// An answer that others share.
    Led(Reader, Named),
    /// An answer that was made for another request.
    Following(Box<Telling>),
    /// Something still to be said, then the end.
    Last(Bytes),
    Done,
}

/// How an answer broke.
struct Break {
    target: Arc<Target>,
    failure: Failure,
    /// What the caller has of it.
    summary: StreamSummary,
    /// What the caller is still to get of it.
    rest: Bytes,
}

/// An answer that broke, while another attempt is looked for that continues it.
struct Pausing {
    joining: Joining,
    broken: Break,
    named: Named,
}

/// What the caller of an [`Opening`] must be told even if the opening cannot say it.
pub(super) struct Named {
    pub(super) request_id: RequestId,
    pub(super) dialect: Dialect,
}

// === impl Named ===

impl Named {
    /// The end of a stream whose account is gone. `summary` is what the caller has of the answer.
    fn tell(&self, rejection: &Rejection, summary: Option<&StreamSummary>) -> State {
        let Self { request_id, dialect } = self;
        tracing::error!(request.id = %request_id, "request failed after its reply had begun: panic");
        let request_id = request_id.as_str();
        let broken = StreamBreak { rejection, request_id, provider: None, summary };
        State::Last(dialect.codec().encode_stream_error(&broken).into())
    }
}

// === impl AnswerStream ===

impl AnswerStream {
    /// An answer that has begun in time.
    pub(super) fn begin(
        begun: Begun,
        account: Account,
        sequel: Option<Box<Sequel>>,
        keeping: Option<Box<Keeping>>,
    ) -> Answer {
        match begun {
            Begun::Stream(live) => Self::answer(*live, account, sequel, keeping),
            Begun::Whole(Whole { body, summary, ticket, ended, .. }) => {
                ticket.succeed(summary.usage, ended);
                let served = kept::complete_with(account, (&summary, &body), keeping);
                Self::of_bytes(body, served)
            }
            Begun::Scripted(body) => {
                let served = account.script();
                Self::of_bytes(body, served)
            }
            Begun::Stale(stale) => {
                let served = account.replay_stale(&stale);
                Self::of_bytes(stale.body, served)
            }
        }
    }

    /// An answer that is all there.
    pub(super) fn of_bytes(body: Bytes, served: Served) -> Answer {
        Answer::Stream(Box::new(Self::new(State::Last(body), None, None)), served)
    }

    /// An answer whose tokens are still coming, and what it can be continued with.
    pub(super) fn answer(
        live: Live,
        account: Account,
        sequel: Option<Box<Sequel>>,
        keeping: Option<Box<Keeping>>,
    ) -> Answer {
        let served = account.served();
        let keep_alive = live.keep_alive.every;
        let deadline = live.deadline;
        let mut stream = Self::new(State::Live(Box::new(live)), Some(account), keep_alive);
        stream.expiry.set(deadline);
        (stream.sequel, stream.keeping) = (sequel, keeping);
        Answer::Stream(Box::new(stream), served)
    }

    /// An answer that is committed before anybody has answered.
    pub(super) fn early(
        opening: Opening,
        named: Named,
        every: Duration,
        keeping: Option<Box<Keeping>>,
    ) -> Box<Self> {
        let mut stream = Self::new(State::Opening(opening, named), None, Some(every));
        // The silence so far is what it was committed for: the first comment is due.
        stream.last_sent = stream.last_sent.checked_sub(every).unwrap_or(stream.last_sent);
        stream.keeping = keeping;
        Box::new(stream)
    }

    /// Has what passes recorded.
    pub(super) fn record(&mut self, recorder: Box<Recorder>) {
        self.recorder = Some(recorder);
    }

    /// Has it end where the gateway stops.
    pub(super) fn heed(&mut self, stop: Stop) {
        self.stop = Some(stop);
    }

    /// Whether the caller has got the whole answer, its end included.
    pub fn has_told_its_end(&self) -> bool {
        match &self.state {
            State::Live(live) => live.wire.saw_terminal() && live.held.is_empty(),
            State::Led(reader, _) => reader.has_told_its_end(),
            State::Opening(..) | State::Joining(..) | State::Following(_) | State::Last(_) => false,
            State::Done => true,
        }
    }

    /// When the stream has to be over, for whoever writes it: while nobody reads it is not polled,
    /// and cannot see to that itself.
    pub fn expiry(&self) -> Expiry {
        self.expiry.clone()
    }

    fn new(state: State, account: Option<Account>, keep_alive: Option<Duration>) -> Self {
        let now = Instant::now();
        // The first look at the clock arms it properly.
        let alarm = Box::pin(tokio::time::sleep_until(now));
        Self {
            state,
            account,
            between: None,
            alarm,
            last_sent: now,
            keep_alive,
            sequel: None,
            keeping: None,
            recorder: None,
            expiry: Expiry::never(),
            overdue: None,
            told: None,
            stop: None,
        }
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
                    if let Poll::Ready((opened, account, sequel)) = opening.as_mut().poll(cx) {
                        self.opened(opened, account);
                        self.sequel = sequel;
                        continue;
                    }
                    Poll::Pending
                }
                State::Joining(pausing) if !pausing.broken.rest.is_empty() => {
                    Poll::Ready(Step::Send(std::mem::take(&mut pausing.broken.rest)))
                }
                State::Joining(pausing) => {
                    let joining = pausing.joining.as_mut();
                    if let Poll::Ready((joined, account)) = joining.poll(cx) {
                        self.joined(joined, account);
                        continue;
                    }
                    Poll::Pending
                }
                State::Live(live) => live.poll(cx),
                State::Led(reader, _) => shared::poll_led(reader, cx),
                State::Following(telling) => telling.poll(cx),
            };
            let step = match polled {
                Poll::Ready(step) => step,
                Poll::Pending => {
                    match self.stopped().map_or_else(|| self.poll_alarm(cx), Poll::Ready) {
                        Poll::Ready(step) => step,
                        Poll::Pending => return Poll::Pending,
                    }
                }
            };
            match step {
                Step::Send(bytes) => {
                    self.last_sent = Instant::now();
                    self.note(&bytes);
                    if self.count() == Flow::Stop {
                        self.cut_short();
                    }
                    return Poll::Ready(Some(bytes));
                }
                Step::End(bytes) => self.end(bytes),
                Step::Break(bytes, failure) => self.break_off(bytes, failure),
                Step::Over(rejection) => self.end_early(&rejection),
            }
        }
    }

    /// Arms the alarm for the next thing that may be due, and says what is due now.
    fn poll_alarm(&mut self, cx: &mut Context<'_>) -> Poll<Step> {
        // The stream that a flight drives keeps the time, and says that it is alive, for its
        // leader, too.
        if matches!(self.state, State::Led(..)) {
            return Poll::Pending;
        }
        while self.alarm.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            let mut next = now + Duration::from_secs(3_600);
            if let State::Live(live) = &mut self.state {
                if let Some(step) = live.on_alarm(now) {
                    return Poll::Ready(step);
                }
                next = next.min(live.next_limit());
            }
            if let State::Following(telling) = &self.state {
                if now >= telling.deadline() {
                    return Poll::Ready(Step::Over(Rejection::Unfinished));
                }
                next = next.min(telling.deadline());
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
                self.expiry.set(live.deadline);
                self.state = State::Live(live);
                self.account = Some(account);
            }
            Ok(Begun::Whole(Whole { body, summary, ticket, ended, .. })) => {
                ticket.succeed(summary.usage, ended);
                kept::complete_with(account, (&summary, &body), self.keeping.take());
                self.state = State::Last(body);
            }
            Ok(Begun::Scripted(body)) => {
                account.script();
                self.state = State::Last(body);
            }
            Ok(Begun::Stale(stale)) => {
                account.replay_stale(&stale);
                self.state = State::Last(stale.body);
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

    /// The answer broke: another attempt is to continue it, or it ends here.
    fn break_off(&mut self, rest: Bytes, failure: Failure) {
        let live = match std::mem::replace(&mut self.state, State::Done) {
            State::Live(live) => live,
            broken @ (State::Opening(..)
            | State::Joining(_)
            | State::Led(..)
            | State::Following(_)
            | State::Last(_)
            | State::Done) => return self.break_shared(broken, rest, failure),
        };
        let Live { wire, ticket, target, body, .. } = *live;
        drop(body);
        let failure = concealed(failure, &target);
        if let Some(ticket) = ticket {
            ticket.fail(&failure, Instant::now());
        }
        let Some(mut account) = self.take_account() else { return };
        account.on_broken(&failure);
        let summary = wire.summary().clone();
        let broken = Break { target: Arc::clone(&target), failure, summary, rest };
        let Some(sequel) = self.sequel.take() else {
            let why = account.is_joined().then_some(Why::AlreadySpliced.as_str());
            return self.give_up(broken, why, account);
        };
        let Some((heard, encoder)) = wire.into_heard(|| sequel.encoder(&target)) else {
            return self.give_up(broken, None, account);
        };
        account.on_break(&broken.failure, &broken.summary);
        let summary = broken.summary.clone();
        let named = sequel.named();
        let joining = sequel.join(Broken { target, heard, encoder, summary }, account);
        self.state = State::Joining(Box::new(Pausing { joining, broken, named }));
    }

    /// Another attempt continues the answer, or none does.
    fn joined(&mut self, joined: Result<Box<Live>, &'static str>, mut account: Account) {
        let State::Joining(pausing) = std::mem::replace(&mut self.state, State::Done) else {
            return;
        };
        let Pausing { broken, named, .. } = *pausing;
        self.between = Some(named);
        match joined {
            Ok(live) => {
                account.on_midstream("spliced");
                tracing::info!(
                    request.id = %account.request_id(),
                    from = %broken.target.id,
                    to = %live.target.id,
                    failure.kind = broken.failure.kind.as_str(),
                    "stream broke and is continued: {}",
                    broken.failure.loggable()
                );
                self.state = State::Live(live);
                self.account = Some(account);
            }
            Err(why) => {
                account.on_not_joined();
                self.give_up(broken, Some(why), account);
            }
        }
    }

    /// Ends a broken answer with an error event. `why` it is not continued is told where it was to
    /// be.
    fn give_up(&mut self, broken: Break, why: Option<&'static str>, mut account: Account) {
        self.expiry.clear();
        let Break { target, failure, summary, rest } = broken;
        if let Some(why) = why {
            account.on_midstream(why);
        }
        tracing::warn!(
            request.id = %account.request_id(),
            target.id = %target.id,
            failure.kind = failure.kind.as_str(),
            midstream = why,
            "stream broke: {}",
            failure.loggable()
        );
        let rejection = Rejection::StreamFailed { failure };
        let event = account.error_event(&rejection, Some(&summary));
        account.cut(&rejection, &summary);
        self.state = State::Last([rest, event].concat().into());
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
        if let (Some(recorder), Poll::Ready(Some(bytes))) = (&mut stream.recorder, &polled) {
            recorder.push(bytes);
        }
        polled.map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }
}

impl fmt::Debug for AnswerStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnswerStream").field("account", &self.account).finish_non_exhaustive()
    }
}
