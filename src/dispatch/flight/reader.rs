//! Those who wait for a flight: its leader and its followers.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use bytes::Bytes;

use super::log::Next;
use super::{Driven, Driver, Engine, Flight, Led, Opened, Opening, Shared, State};
use crate::chat::{Delta, Usage};
use crate::dispatch::stream::Named;
use crate::dispatch::{Answer, AnswerStream, Refused};
use crate::rejection::Rejection;

/// One who waits for a flight. Dropping it stops nothing as long as there are others.
#[derive(Debug)]
pub(in crate::dispatch) struct Reader {
    flight: Arc<Flight>,
    key: u64,
    /// Whether it has to ask.
    leads: bool,
    /// Dropped last: as long as there are readers, no thread ends whose runtime the call may need.
    _counted: Counted,
}

/// Counts a reader as long as it lives, whatever fails when it leaves.
#[derive(Debug)]
struct Counted(Arc<Shared>);

/// What has become of a flight.
#[derive(Debug, Clone)]
pub(in crate::dispatch) enum Course {
    /// Nothing yet.
    Coming,
    /// An answer, which may still be coming.
    Opened(Arc<Opened>),
    /// Its leader got no answer.
    Failed(Rejection),
    /// Its leader has not asked, for reasons of its own.
    Dissolved,
}

// === impl Reader ===

impl Reader {
    pub(super) fn lead(flight: Arc<Flight>) -> Self {
        let key = flight.state.lock().log.enter(false);
        Self::counted(flight, key, true)
    }

    /// Follows from the beginning, if that is still there.
    pub(super) fn join(flight: &Arc<Flight>) -> Option<Self> {
        let mut state = flight.state.lock();
        if state.is_closed {
            return None;
        }
        let key = state.log.enter(true);
        // Counted before another may leave, so that there is no moment without readers.
        Some(Self::counted(Arc::clone(flight), key, false))
    }

    fn counted(flight: Arc<Flight>, key: u64, leads: bool) -> Self {
        let counted = Counted::new(&flight.shared);
        Self { flight, key, leads, _counted: counted }
    }

    /// The flight, to be told apart from others.
    pub(super) fn flight(&self) -> &Arc<Flight> {
        &self.flight
    }

    // What the leader does.

    /// Gives up the seat: nobody should ask.
    pub(super) fn fail(self, rejection: Rejection) {
        self.flight.end_as(Course::Failed(rejection));
    }

    /// Has the leader's call carried out, and waits for its answer.
    pub(super) async fn ask(self, opening: Opening, named: Named) -> Result<Answer, Box<Refused>> {
        self.flight.start(opening);
        let led = poll_fn(|cx| self.poll_for(cx, |state| state.led.take(), None)).await?;
        Ok(match led {
            Led::Whole(body, served) => Answer::Whole(body, served),
            Led::Stream(served, expiry) => AnswerStream::led(self, named, expiry, served),
        })
    }

    /// The leader's next bytes.
    pub(in crate::dispatch) fn poll_bytes(&self, cx: &Context<'_>) -> Poll<Next<Bytes>> {
        self.poll_for(cx, |state| some(state.log.bytes(self.key)), Some(Next::Piece))
    }

    /// Whether the leader has got the whole answer, its end included.
    pub(in crate::dispatch) fn has_told_its_end(&self) -> bool {
        let is_told = match &*self.flight.engine.lock() {
            Engine::Idle | Engine::Opening(_) => false,
            Engine::Flowing(stream) => stream.has_told_its_end(),
            Engine::Over => true,
        };
        is_told && self.flight.state.lock().log.is_caught_up(self.key)
    }

    // What followers do.

    /// What becomes of the flight, once that is known.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    pub(super) async fn course(&self) -> Course {
        let known = |state: &mut State| match &state.course {
            Course::Coming => None,
            course @ (Course::Opened(_) | Course::Failed(_) | Course::Dissolved) => {
                Some(course.clone())
            }
        };
        poll_fn(|cx| self.poll_for(cx, known, None)).await
    }

    /// What comes next of the answer.
    pub(super) fn poll_deltas(&self, cx: &Context<'_>) -> Poll<Next<Arc<[Delta]>>> {
        self.poll_for(cx, |state| some(state.log.deltas(self.key)), None)
    }

    /// What the answer took, as far as that is known.
    pub(super) fn usage(&self) -> Option<Usage> {
        self.flight.state.lock().usage
    }

    /// What `look` finds, once it finds something; lets the flight go on until then. Who is caught
    /// up gets the bytes that this brings as they are, if they are `given` to it.
    fn poll_for<T>(
        &self,
        cx: &Context<'_>,
        look: impl Fn(&mut State) -> Option<T>,
        given: Option<fn(Bytes) -> T>,
    ) -> Poll<T> {
        let driver = Driver { key: self.key, takes_bytes: given.is_some() };
        loop {
            // Before looking, so that nothing comes in between unheard.
            self.flight.bell.wait(self.key, cx.waker());
            if let Some(found) = look(&mut self.flight.state.lock()) {
                return Poll::Ready(found);
            }
            match (self.flight.drive(Some(driver)), given) {
                (Driven::Idle, _) => return Poll::Pending,
                (Driven::Piece(bytes), Some(given)) => return Poll::Ready(given(bytes)),
                // Only who takes bytes is given a piece.
                (Driven::Piece(_), None) | (Driven::On, _) => {}
            }
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let flight = &self.flight;
        flight.bell.forget(self.key);
        let mut state = flight.state.lock();
        state.log.leave(self.key);
        let is_last = !state.log.is_read();
        state.is_closed |= is_last;
        drop(state);
        if is_last {
            flight.see_the_end();
            let engine = std::mem::replace(&mut *flight.engine.lock(), Engine::Over);
            // Cancels what still goes on, and settles it.
            drop(engine);
            flight.retire();
        } else if self.leads && flight.is_idle() {
            flight.end_as(Course::Dissolved);
        }
    }
}

// === impl Counted ===

impl Counted {
    fn new(shared: &Arc<Shared>) -> Self {
        shared.readers.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(shared))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.readers.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Something, if there is anything.
fn some<T>(next: Next<T>) -> Option<Next<T>> {
    match next {
        Next::Nothing => None,
        next @ (Next::Piece(_) | Next::Over | Next::TooLate | Next::Broken(_)) => Some(next),
    }
}
