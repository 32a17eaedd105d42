//! One execution, as those who follow it see it.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, StatusCode};
use http_body::{Body, Frame, SizeHint};
use parking_lot::Mutex;

use super::{Asked, IfRunning};
use crate::dialect::{Dialect, StreamBreak};
use crate::gateway::streams::{Budget, Ring};
use crate::idempotency::{Fence, Fingerprint};
use crate::ids::RequestId;
use crate::journal::Reuse;
use crate::rejection::{Duplicate, Rejection};

/// What an execution costs beside its body.
const EXECUTION_COST: usize = 1_024;
/// The most that a follower is given at a time.
const PIECE_BYTES: usize = 64 * 1024;

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
    body: Ring,
    /// Whether nothing follows.
    is_over: bool,
    places: Vec<Place>,
    next_key: u64,
    /// Who waits for a follower to move on.
    lead: Option<Waker>,
}

/// Where a follower is.
#[derive(Debug)]
struct Place {
    key: u64,
    /// The last piece it has got.
    after: u64,
    waker: Option<Waker>,
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
        let key = self.state.lock().enter();
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
        if asked.if_running == IfRunning::Conflict && !state.is_over {
            return Err(Duplicate::InProgress);
        }
        if state.body.oldest() > 1 {
            return Err(Duplicate::TooLarge);
        }
        let (key, is_late) = (state.enter(), state.is_over);
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
        !self.state.lock().places.is_empty()
    }

    /// Tells the head, or why there will be none; only the first counts.
    pub(super) fn begin(&self, head: Result<Head, Rejection>) {
        let mut state = self.state.lock();
        state.is_over |= head.is_err();
        state.head.get_or_insert(head);
        state.wake_followers();
    }

    /// Adds to the body, once there is room: within the bounds at once, beyond them when the
    /// followers have got what is dropped for it.
    pub(super) async fn push(&self, piece: Bytes) {
        if !piece.is_empty() {
            std::future::poll_fn(|cx| self.poll_push(&piece, cx)).await;
        }
    }

    fn poll_push(&self, piece: &Bytes, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.state.lock();
        let cost = Ring::cost_of(piece);
        while !state.body.is_empty() && self.is_too_much(&state, piece.len()) {
            let oldest = state.body.oldest();
            if state.places.iter().any(|place| place.after < oldest) {
                state.lead = Some(cx.waker().clone());
                return Poll::Pending;
            }
            self.budget.give_back(state.body.drop_oldest());
        }
        self.budget.take(cost);
        state.body.push(piece.clone());
        state.wake_followers();
        Poll::Ready(())
    }

    fn is_too_much(&self, state: &State, more: usize) -> bool {
        state.body.bytes() + more > self.bounds.body
            || self.budget.used() + more > self.bounds.total
    }

    /// Says that the reply is whole.
    pub(super) fn end(&self) {
        let mut state = self.state.lock();
        state.is_over = true;
        state.wake_followers();
    }

    /// Ends a reply that will not be whole, and says why: in its head, or as its stream's last
    /// event.
    pub(super) fn break_off(&self, rejection: Rejection) {
        let mut state = self.state.lock();
        if state.is_over {
            return;
        }
        state.is_over = true;
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
        state.wake_followers();
    }

    /// The whole body, where it is kept and not longer than may be.
    pub(super) fn body(&self) -> Option<Bytes> {
        let state = self.state.lock();
        let is_whole = state.body.oldest() == 1 && state.body.bytes() <= self.bounds.body;
        if !is_whole {
            return None;
        }
        let mut body = BytesMut::with_capacity(state.body.bytes());
        let mut after = 0;
        while let Some((piece, last)) = state.body.read(after, PIECE_BYTES) {
            body.extend_from_slice(&piece);
            after = last;
        }
        Some(body.freeze())
    }

    fn leave(&self, key: u64) {
        let mut state = self.state.lock();
        state.places.retain(|place| place.key != key);
        state.wake_lead();
    }

    fn poll_head(&self, key: u64, cx: &mut Context<'_>) -> Poll<Result<Head, Rejection>> {
        let mut state = self.state.lock();
        if let Some(head) = &state.head {
            return Poll::Ready(head.clone());
        }
        state.wait(key, cx);
        Poll::Pending
    }

    fn poll_body(&self, key: u64, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let mut state = self.state.lock();
        let State { body, places, is_over, .. } = &mut *state;
        let Some(place) = places.iter_mut().find(|place| place.key == key) else {
            return Poll::Ready(None);
        };
        if let Some((piece, last)) = body.read(place.after, PIECE_BYTES) {
            place.after = last;
            state.wake_lead();
            return Poll::Ready(Some(piece));
        }
        if *is_over {
            return Poll::Ready(None);
        }
        state.wait(key, cx);
        Poll::Pending
    }

    /// How long a body is that nothing of was read yet, where that is known.
    fn length(&self, key: u64) -> Option<u64> {
        let state = self.state.lock();
        let is_untouched = state.places.iter().any(|place| place.key == key && place.after == 0);
        let is_whole = state.is_over && state.body.oldest() == 1;
        (is_untouched && is_whole).then(|| state.body.bytes() as u64)
    }
}

impl Drop for Execution {
    fn drop(&mut self) {
        self.budget.give_back(EXECUTION_COST + self.state.get_mut().body.cost());
    }
}

// === impl State ===

impl State {
    fn enter(&mut self) -> u64 {
        let key = self.next_key;
        self.next_key += 1;
        self.places.push(Place { key, after: 0, waker: None });
        key
    }

    fn wait(&mut self, key: u64, cx: &Context<'_>) {
        if let Some(place) = self.places.iter_mut().find(|place| place.key == key) {
            place.waker = Some(cx.waker().clone());
        }
    }

    fn wake_followers(&mut self) {
        for place in &mut self.places {
            if let Some(waker) = place.waker.take() {
                waker.wake();
            }
        }
    }

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
