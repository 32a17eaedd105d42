//! Plays scripts in process, on the runtime's clock.

use std::collections::VecDeque;
use std::future::{Future, pending};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use parking_lot::Mutex;
use tokio::time::{Sleep, sleep_until};

use super::bill::Bill;
use super::engine::{Engine, SimRequest};
use super::limits::Moment;
use super::scenario::Scenario;
use super::script::{Action, Opening, Script, Step};
use super::stats::{Running, Snapshot, Stats, Ticket};
use crate::clock::{Instant, SystemWallClock, WallClock};
use crate::failure::{Failure, FailureKind};
use crate::upstream::{SendFuture, Transport, UpstreamBody, UpstreamReply, UpstreamRequest};

/// Simulated providers behind the interface of real ones. Clones are the same providers.
///
/// All waiting is the runtime's: under a paused clock an answer takes exactly as long as its
/// script says, in virtual time.
#[derive(Debug, Clone)]
pub struct SimTransport {
    engine: Arc<Mutex<Engine>>,
    stats: Stats,
    start: Instant,
    start_unix_ms: u64,
    arrivals: Option<Arc<Mutex<Vec<Arrival>>>>,
    bills: Option<Arc<Mutex<Vec<Bill>>>>,
}

/// A request that came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrival {
    /// Since the simulation began.
    pub at: Duration,
    /// The simulated host; empty on a socket that names none.
    pub host: String,
    /// The model that was asked for; empty where none was.
    pub model: String,
}

/// The beginning of an answer that is being played.
#[derive(Debug)]
pub(super) struct Played {
    pub(super) opening: Opening,
    pub(super) body: SimBody,
}

/// The rest of an answer that is being played. Dropping it is the client's leaving.
#[derive(Debug)]
pub(super) struct SimBody {
    steps: VecDeque<Step>,
    /// When the last step was due. Steps are due on the provider's own time, however slowly they
    /// are fetched.
    due: Instant,
    sleep: Option<Pin<Box<Sleep>>>,
    ticket: Ticket,
}

/// What comes next from a body.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    Chunk(Bytes),
    Reset,
    End,
}

// === impl SimTransport ===

impl SimTransport {
    /// Providers of this scenario that have seen nothing yet. Time begins now.
    pub fn new(scenario: Scenario) -> Self {
        Self::starting_at(scenario, SystemWallClock.unix_ms())
    }

    /// The same with a fixed time of day to begin with, so that timestamps in answers are
    /// reproducible too.
    pub fn starting_at(scenario: Scenario, unix_ms: u64) -> Self {
        let engine = Engine::new(scenario);
        Self {
            stats: Stats::new(engine.busy()),
            engine: Arc::new(Mutex::new(engine)),
            start: Instant::now(),
            start_unix_ms: unix_ms,
            arrivals: None,
            bills: None,
        }
    }

    /// The same, and every bill is kept for [`Self::bills`]: for runs that end.
    #[must_use]
    pub fn with_bills(self) -> Self {
        Self { bills: Some(Arc::default()), ..self }
    }

    /// What was billed so far, in the order in which the answers ended, however they did; nothing
    /// without [`Self::with_bills`].
    pub fn bills(&self) -> Vec<Bill> {
        self.bills.as_ref().map(|bills| bills.lock().clone()).unwrap_or_default()
    }

    /// The same, and every request is written down for [`Self::arrivals`]: for runs that end.
    #[must_use]
    pub fn with_arrivals(self) -> Self {
        Self { arrivals: Some(Arc::default()), ..self }
    }

    /// Every request so far, in order; none without [`Self::with_arrivals`].
    pub fn arrivals(&self) -> Vec<Arrival> {
        self.arrivals.as_ref().map(|arrivals| arrivals.lock().clone()).unwrap_or_default()
    }

    /// Counts so far.
    pub fn stats(&self) -> Snapshot {
        self.stats.snapshot()
    }

    /// Waits until no request is in flight.
    pub async fn idle(&self) {
        self.stats.idle().await;
    }

    /// Asks the engine and begins to play. The request counts as in flight from here on.
    pub(super) fn begin(&self, request: &SimRequest<'_>) -> Played {
        let now = Instant::now();
        let since_start = now.saturating_duration_since(self.start);
        let since_ms = u64::try_from(since_start.as_millis()).unwrap_or(u64::MAX);
        let unix_ms = self.start_unix_ms.saturating_add(since_ms);
        let script = self.engine.lock().answer(request, Moment { since_start, unix_ms });
        let Script { model, entry, opening, steps, tab } = script;
        if let Some(arrivals) = &self.arrivals {
            let (host, model) = (request.host.to_owned(), model.clone());
            arrivals.lock().push(Arrival { at: since_start, host, model });
        }
        let mut ticket = self.stats.enter(&model, entry);
        if let (Some(books), Some(tab)) = (&self.bills, tab) {
            let host = request.host.to_owned();
            ticket.run_up(Running { books: Arc::clone(books), host, tab, since: now });
        }
        let body = SimBody { steps: steps.into(), due: now, sleep: None, ticket };
        Played { opening, body }
    }

    async fn answer(&self, request: UpstreamRequest) -> Result<UpstreamReply, Failure> {
        let method = if request.body.is_empty() { Method::GET } else { Method::POST };
        let played = self.begin(&SimRequest {
            host: &request.origin.host,
            method: &method,
            path: &request.path,
            headers: &request.headers,
            body: &request.body,
        });
        match played.head().await {
            Some((status, headers, body)) => {
                Ok(UpstreamReply { status, headers, body: Box::new(body) })
            }
            None => Err(Failure::new(FailureKind::Transport, "connection refused")),
        }
    }
}

impl Transport for SimTransport {
    fn send(&self, request: UpstreamRequest) -> SendFuture<'_> {
        Box::pin(self.answer(request))
    }
}

// === impl Played ===

impl Played {
    /// Waits for the head; `None` where the connection is refused.
    pub(super) async fn head(self) -> Option<(StatusCode, HeaderMap, SimBody)> {
        let mut body = self.body;
        match self.opening {
            Opening::Answer { after, status, headers } => {
                body.due += after;
                sleep_until(body.due).await;
                Some((status, headers, body))
            }
            Opening::Refuse => {
                body.ticket.complete();
                None
            }
            Opening::Stall => {
                // Holds the ticket until the client leaves.
                let _body = body;
                pending().await
            }
        }
    }
}

// === impl SimBody ===

impl SimBody {
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Next> {
        loop {
            let Some(step) = self.steps.front() else {
                self.ticket.complete();
                return Poll::Ready(Next::End);
            };
            if step.action == Action::Stall {
                return Poll::Pending;
            }
            let due = self.due + step.after;
            if due > Instant::now() {
                let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(due)));
                if sleep.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
            }
            self.sleep = None;
            self.due = due;
            match self.steps.pop_front().map(|step| step.action) {
                // An encoder had nothing to say; only time has passed.
                Some(Action::Chunk(bytes)) if bytes.is_empty() => {}
                Some(Action::Chunk(bytes)) => return Poll::Ready(Next::Chunk(bytes)),
                Some(Action::Reset) => {
                    self.ticket.complete();
                    return Poll::Ready(Next::Reset);
                }
                Some(Action::Stall | Action::End) | None => self.steps.clear(),
            }
        }
    }
}

impl UpstreamBody for SimBody {
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Failure>>> {
        self.poll_next(cx).map(|next| match next {
            Next::Chunk(bytes) => Some(Ok(bytes)),
            Next::Reset => {
                Some(Err(Failure::new(FailureKind::MidStream, "connection reset by the provider")))
            }
            Next::End => None,
        })
    }
}
