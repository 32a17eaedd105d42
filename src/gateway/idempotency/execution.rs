//! One execution, as those who follow it see it.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use http_body::{Body, Frame, SizeHint};
use parking_lot::Mutex;

use super::{Asked, IfRunning};
use crate::dialect::{Dialect, StreamBreak};
use crate::dispatch::Stop;
use crate::gateway::streams::{Budget, Log, Ring};
use crate::idempotency::{Fence, Fingerprint};
use crate::ids::RequestId;
use crate::journal::Reuse;
use crate::rejection::{Duplicate, Rejection};

/// What an execution costs beside its body.
const EXECUTION_COST: usize = 1_024;

/// Headers that say how it stands with a caller at one moment, and are not repeated.
const OF_THE_MOMENT: &str = "x-ratelimit-";

/// How much of a body is kept.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Bytes of one body.
    pub(super) body: usize,
    /// Bytes of all of them.
    pub(super) total: usize,
}

/// The head of a reply.
#[derive(Debug, Clone)]
pub struct Head {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// Where the reply was made by another node, or before: how so.
    pub reuse: Option<Reuse>,
}

/// A reply that is being made, or repeated.
#[derive(Debug)]
pub(super) struct Execution {
    fingerprint: Fingerprint,
    request_id: RequestId,
    dialect: Dialect,
    bounds: Bounds,
    budget: Budget,
    /// Set while the row in the store is this execution's.
    fence: OnceLock<Fence>,
    /// Whether somebody else took the row.
    is_lost: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    head: Option<Result<Head, Rejection>>,
    body: Log,
    /// Who waits for a follower to move on.
    lead: Option<Waker>,
}

/// One who follows an execution: the reply's head, and then its body. Dropping it stops nothing.
#[derive(Debug)]
pub struct Follower {
    execution: Arc<Execution>,
    key: u64,
    /// Whether the reply was whole before this one came.
    is_late: bool,
}

// === impl Head ===

impl Head {
    /// The headers as they are kept and passed on, in their order.
    pub(super) fn kept_headers(&self) -> Vec<(String, String)> {
        let kept =
            self.headers.iter().filter(|(name, _)| !name.as_str().starts_with(OF_THE_MOMENT));
        let kept = kept.filter_map(|(name, value)| {
            Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned()))
        });
        kept.collect()
    }
}

// === impl Execution ===

impl Execution {
    pub(super) fn new(asked: &Asked, bounds: Bounds, budget: Budget) -> Self {
        budget.take(EXECUTION_COST);
        Self {
            fingerprint: asked.claim.fingerprint,
            request_id: asked.claim.request_id.clone(),
            dialect: asked.dialect,
            bounds,
            budget,
            fence: OnceLock::new(),
            is_lost: AtomicBool::new(false),
            state: Mutex::default(),
        }
    }

    /// Follows from the beginning.
    pub(super) fn follow(self: &Arc<Self>) -> Follower {
        let key = self.state.lock().body.enter(0);
        Follower { execution: Arc::clone(self), key, is_late: false }
    }

    /// Follows from the beginning, if this request may.
    ///
    /// # Errors
    ///
    /// Why it may not.
    pub(super) fn join(self: &Arc<Self>, asked: &Asked) -> Result<Follower, Duplicate> {
        if self.fingerprint != asked.claim.fingerprint {
            return Err(Duplicate::Mismatch);
        }
        let mut state = self.state.lock();
        let is_late = state.body.is_over();
        if asked.if_running == IfRunning::Conflict && !is_late {
            return Err(Duplicate::InProgress);
        }
        if state.body.ring().check(0).is_err() {
            return Err(Duplicate::TooLarge);
        }
        let key = state.body.enter(0);
        Ok(Follower { execution: Arc::clone(self), key, is_late })
    }

    /// The row that is this execution's.
    pub(super) fn fence(&self) -> Option<Fence> {
        self.fence.get().filter(|_| !self.is_lost.load(Ordering::Relaxed)).copied()
    }

    /// Notes that the row in the store is this execution's.
    pub(super) fn claimed(&self, fence: Fence) {
        let _ = self.fence.set(fence);
    }

    /// Notes that it is not any more.
    pub(super) fn lose(&self) {
        self.is_lost.store(true, Ordering::Relaxed);
    }

    /// Whether anybody waits for it.
    pub(super) fn is_followed(&self) -> bool {
        self.state.lock().body.is_read()
    }

    /// Tells the head, or why there will be none; only the first counts.
    pub(super) fn begin(&self, head: Result<Head, Rejection>) {
        let mut state = self.state.lock();
        if head.is_err() {
            state.body.end();
        }
        state.head.get_or_insert(head);
        state.body.wake_readers();
    }

    /// Adds to the body, once there is room: within the bounds at once, beyond them when the
    /// followers have got what is dropped for it. Says whether it did: not where the gateway stops
    /// before there is room.
    pub(super) async fn push(&self, piece: Bytes, stop: &Stop) -> bool {
        if piece.is_empty() {
            return true;
        }
        std::future::poll_fn(|cx| match self.poll_push(&piece, cx) {
            Poll::Ready(()) => Poll::Ready(true),
            Poll::Pending if stop.is_ordered() => Poll::Ready(false),
            Poll::Pending => Poll::Pending,
        })
        .await
    }

    fn poll_push(&self, piece: &Bytes, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.state.lock();
        let cost = Ring::cost_of(piece);
        while !state.body.ring().is_empty() && self.is_too_much(&state, piece.len()) {
            let Some(dropped) = state.body.drop_oldest() else {
                state.lead = Some(cx.waker().clone());
                return Poll::Pending;
            };
            self.budget.give_back(dropped);
        }
        self.budget.take(cost);
        state.body.push(piece.clone());
        Poll::Ready(())
    }

    fn is_too_much(&self, state: &State, more: usize) -> bool {
        state.body.ring().bytes() + more > self.bounds.body
            || self.budget.used() + more > self.bounds.total
    }

    /// Says that the reply is whole.
    pub(super) fn end(&self) {
        self.state.lock().body.end();
    }

    /// Ends a reply that will not be whole, and says why: in its head, or as its stream's last
    /// event.
    pub(super) fn break_off(&self, rejection: Rejection) {
        let mut state = self.state.lock();
        if state.body.is_over() {
            return;
        }
        match &state.head {
            None => state.head = Some(Err(rejection)),
            Some(_) => {
                let request_id = self.request_id.as_str();
                let broken = StreamBreak {
                    rejection: &rejection,
                    request_id,
                    provider: None,
                    summary: None,
                };
                let event = Bytes::from(self.dialect.codec().encode_stream_error(&broken));
                self.budget.take(Ring::cost_of(&event));
                state.body.push(event);
            }
        }
        state.body.end();
    }

    /// The whole body, where it is kept and not longer than may be.
    pub(super) fn body(&self) -> Option<Bytes> {
        let state = self.state.lock();
        state.body.whole().filter(|body| body.len() <= self.bounds.body)
    }

    fn leave(&self, key: u64) {
        let mut state = self.state.lock();
        state.body.leave(key);
        state.wake_lead();
    }

    fn poll_head(&self, key: u64, cx: &mut Context<'_>) -> Poll<Result<Head, Rejection>> {
        let mut state = self.state.lock();
        if let Some(head) = &state.head {
            return Poll::Ready(head.clone());
        }
        state.body.wait(key, cx);
        Poll::Pending
    }

    fn poll_body(&self, key: u64, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let mut state = self.state.lock();
        let polled = state.body.poll_read(key, cx);
        if polled.is_ready() {
            state.wake_lead();
        }
        polled
    }

    /// How long a body is that nothing of was read yet, where that is known.
    fn length(&self, key: u64) -> Option<u64> {
        let state = self.state.lock();
        let body = &state.body;
        let is_whole = body.is_over() && body.ring().oldest() == 1;
        (is_whole && body.is_untouched(key)).then(|| body.ring().bytes() as u64)
    }
}

impl Drop for Execution {
    fn drop(&mut self) {
        self.budget.give_back(EXECUTION_COST + self.state.get_mut().body.ring().cost());
    }
}

// === impl State ===

impl State {
    fn wake_lead(&mut self) {
        if let Some(lead) = self.lead.take() {
            lead.wake();
        }
    }
}

// === impl Follower ===

impl Follower {
    /// The reply's head, once it is known.
    ///
    /// # Errors
    ///
    /// Why there is no reply.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    pub async fn head(&self) -> Result<Head, Rejection> {
        let mut head = std::future::poll_fn(|cx| self.execution.poll_head(self.key, cx)).await?;
        if self.is_late {
            head.reuse = Some(Reuse::Replayed);
        }
        Ok(head)
    }
}

impl Body for Follower {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let polled = self.execution.poll_body(self.key, cx);
        polled.map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
    }

    fn size_hint(&self) -> SizeHint {
        self.execution.length(self.key).map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.execution.leave(self.key);
    }
}
