//! One stream: its ring, who reads it, and whether it still goes on.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use parking_lot::Mutex;

use super::reader::Reader;
use super::ring::{Missing, Ring, numbered};
use super::{Budget, Limits, Log, Opened};
use crate::dialect::StreamBreak;
use crate::rejection::Rejection;

/// What a stream costs beside its events.
const STREAM_COST: usize = 1_024;

/// A resumable stream.
#[derive(Debug)]
pub struct Stream {
    /// What was known of it before its first byte.
    pub opened: Opened,
    limits: Limits,
    budget: Budget,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    log: Log,
    /// Whether its caller wants no more of it.
    is_cancelled: bool,
    pump: Option<Waker>,
    /// Whether the pump waits for a reader.
    is_full: bool,
}

// === impl Stream ===

impl Stream {
    pub(super) fn new(opened: Opened, limits: Limits, budget: Budget) -> Self {
        budget.take(STREAM_COST);
        Self { opened, limits, budget, state: Mutex::default() }
    }

    /// Reads on after an event; 0 is the beginning.
    ///
    /// # Errors
    ///
    /// [`Rejection::StreamPast`] where what follows is no longer kept; [`Rejection::Invalid`]
    /// where there was no such event.
    pub fn read_after(self: &Arc<Self>, after: u64) -> Result<Reader, Rejection> {
        self.enter(after).map(|key| Reader::new(Arc::clone(self), key)).map_err(|missing| {
            match missing {
                Missing::Dropped { oldest } => Rejection::StreamPast { after, oldest },
                Missing::Ahead { newest } => {
                    let problem =
                        format!("the stream has no event {after}; its newest so far is {newest}");
                    Rejection::invalid("Last-Event-ID", problem)
                }
            }
        })
    }

    // What readers do.

    /// Begins to read after an event.
    ///
    /// # Errors
    ///
    /// [`Missing`] where that cannot be.
    pub(super) fn enter(&self, after: u64) -> Result<u64, Missing> {
        let mut state = self.state.lock();
        state.log.ring().check(after)?;
        Ok(state.log.enter(after))
    }

    /// Begins to read before the first event has come.
    pub(super) fn enter_at_start(&self) -> u64 {
        self.state.lock().log.enter(0)
    }

    pub(super) fn leave(&self, key: u64) {
        let mut state = self.state.lock();
        state.log.leave(key);
        state.make_room();
    }

    /// What a reader gets next; `None` at the end.
    pub(super) fn poll_read(&self, key: u64, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let mut state = self.state.lock();
        let polled = state.log.poll_read(key, cx);
        if polled.is_ready() {
            state.make_room();
        }
        polled
    }

    pub(super) fn cancel(&self) {
        let mut state = self.state.lock();
        state.is_cancelled = true;
        state.wake_pump();
    }

    // What the pump does.

    /// Lets the pump be woken when there is room, or no need for more. Says whether its caller
    /// wants no more.
    pub(super) fn attend(&self, pump: &Waker) -> bool {
        let mut state = self.state.lock();
        if !state.pump.as_ref().is_some_and(|waker| waker.will_wake(pump)) {
            state.pump = Some(pump.clone());
        }
        state.is_cancelled
    }

    /// Takes the next frame; `false` while a reader has yet to get what would be dropped for it.
    pub(super) fn push(&self, frame: &[u8]) -> bool {
        let mut state = self.state.lock();
        let Some(event) = numbered(frame, state.log.ring().newest() + 1) else {
            state.log.comment();
            return true;
        };
        let cost = Ring::cost_of(&event);
        while !state.log.ring().is_empty() && self.is_too_much(state.log.ring().cost(), cost) {
            let Some(dropped) = state.log.drop_oldest() else {
                state.is_full = true;
                return false;
            };
            self.budget.give_back(dropped);
        }
        self.take(&mut state, event);
        true
    }

    fn is_too_much(&self, kept: usize, more: usize) -> bool {
        kept + more > self.limits.per_stream || self.budget.used() + more > self.limits.total
    }

    fn take(&self, state: &mut State, event: Bytes) {
        self.budget.take(Ring::cost_of(&event));
        state.log.push(event);
    }

    /// Ends the stream, with one more event where its readers would wait for an end in vain.
    pub(super) fn end(&self, last: Option<&Rejection>) {
        let mut state = self.state.lock();
        if let Some(rejection) = last {
            let codec = self.opened.dialect.codec();
            let request_id = self.opened.id.as_str();
            let broken = StreamBreak { rejection, request_id, provider: None, summary: None };
            let frame = codec.encode_stream_error(&broken);
            if let Some(event) = numbered(&frame, state.log.ring().newest() + 1) {
                self.take(&mut state, event);
            }
        }
        state.pump = None;
        state.log.end();
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.budget.give_back(STREAM_COST + self.state.get_mut().log.ring().cost());
    }
}

// === impl State ===

impl State {
    /// A reader has moved on.
    fn make_room(&mut self) {
        if std::mem::take(&mut self.is_full) {
            self.wake_pump();
        }
    }

    fn wake_pump(&self) {
        if let Some(pump) = &self.pump {
            pump.wake_by_ref();
        }
    }
}
