//! Single flight: requests that ask the same at the same time share one answer as it comes.
//!
//! ```text
//! enter ──▶ nobody asks yet: lead ──▶ asked upstream ──▶ bytes, kept in a log ──▶ the leader
//!      └──▶ somebody does: follow ────────────────────────── what they mean ──▶ written anew
//! ```
//!
//! Who comes first leads: its call is carried out as if it were alone, and its bytes pass as they
//! are. Who comes while that goes on follows: it gets the answer from the beginning, in its own
//! form and with an id of its own. A flight has no task. Whoever waits for it polls it, the leader
//! and every follower alike; so it goes on when the leader's caller leaves, goes as fast as the
//! quickest of them reads, and is dropped with the last one, its connection with it.
//!
//! A leader that fails before anything was said leaves the seat to the follower that comes for it
//! first; see [`share`].

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use bytes::Bytes;
use http_body::Body;
use parking_lot::{Mutex, MutexGuard};

use super::{Answer, AnswerStream, Expiry, Refused, Served, Stop};
use crate::cache::{Key, Mark};
use crate::chat::Usage;
use crate::dialect::Dialect;
use crate::rejection::Rejection;
use crate::units::Priority;

mod log;
mod reader;
mod share;
mod telling;

use log::Log;
pub(super) use log::Next;
pub(super) use reader::{Course, Reader};
pub(super) use telling::{Telling, too_slow};

/// What is kept of one answer for those who come late, and for those who are slow. Beyond it a
/// flight takes no more followers.
const FLIGHT_BYTES: usize = 2 << 20;
/// What is kept of all answers together. Beyond it no flight begins,
const TOTAL_BYTES: usize = 64 << 20;
/// and those under way keep no more than this each.
const CROWDED_BYTES: usize = 64 << 10;

/// All answers on their way that others may share. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Flights {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    /// Those that take followers, or are to be led.
    table: Mutex<HashMap<Key, Arc<Flight>>>,
    /// What their logs keep.
    bytes: AtomicUsize,
    /// Those who wait for them.
    readers: AtomicUsize,
    /// Whether the gateway stops.
    stop: Stop,
}

/// What a request may share.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms {
    pub(super) key: Key,
    pub(super) dialect: Dialect,
    pub(super) priority: Priority,
    /// The time that the request has.
    pub(super) within: Duration,
    pub(super) since: Mark,
}

/// What a request does about its answer.
#[derive(Debug)]
pub(super) enum Entered {
    /// It asks, for others as well.
    Lead(Reader),
    /// It waits for what another is asking.
    Follow(Reader),
    /// It asks for itself: there is no room for more.
    Alone,
}

/// One answer on its way.
pub(super) struct Flight {
    terms: Terms,
    shared: Arc<Shared>,
    bell: Arc<Bell>,
    engine: Mutex<Engine>,
    state: Mutex<State>,
}

/// What makes the answer.
enum Engine {
    /// The leader is not asking yet.
    Idle,
    Opening(Opening),
    Flowing(Box<AnswerStream>),
    Over,
}

/// The leader's call, carried out.
pub(super) type Opening = Pin<Box<dyn Future<Output = Result<Answer, Box<Refused>>> + Send>>;

struct State {
    course: Course,
    log: Log,
    /// Whether nobody may join any more.
    is_closed: bool,
    /// What the leader gets.
    led: Option<Result<Led, Box<Refused>>>,
    /// What the answer took, once that is known.
    usage: Option<Usage>,
}

/// An answer that was opened.
#[derive(Debug)]
pub(super) struct Opened {
    /// How it came about.
    pub(super) served: Served,
    /// All of it, where it came in one piece.
    pub(super) body: Option<Bytes>,
}

/// An answer that was opened, for its leader.
enum Led {
    Whole(Bytes, Served),
    Stream(Served, Expiry),
}

/// Who lets an engine go on.
#[derive(Clone, Copy)]
struct Driver {
    key: u64,
    /// Whether it is the leader, who gets bytes as they are.
    takes_bytes: bool,
}

/// What came of letting an engine go on.
enum Driven {
    /// Nothing.
    Idle,
    /// Something: whoever drives, who is not woken, looks again.
    On,
    /// The next bytes of a driver who takes bytes and has all before them.
    Piece(Bytes),
}

/// Wakes all who wait for a flight.
#[derive(Default)]
struct Bell {
    /// Whether the engine has something to do.
    is_due: AtomicBool,
    /// By reader; nearly always there is one.
    waiting: Mutex<Vec<(u64, Waker)>>,
}

// === impl Flights ===

impl Flights {
    /// None yet; they end where the gateway stops.
    pub fn new(stop: Stop) -> Self {
        Self { shared: Arc::new(Shared { stop, ..Shared::default() }) }
    }

    /// Leads or joins the flight for such a request. One that was `left` is not joined again.
    pub(super) fn enter(&self, terms: &Terms, left: Option<&Arc<Flight>>) -> Entered {
        let mut table = self.shared.table.lock();
        if let Some(flight) = table.get(&terms.key)
            && left.is_none_or(|left| !Arc::ptr_eq(left, flight))
            && flight.suits(terms)
            && let Some(reader) = Reader::join(flight)
        {
            return Entered::Follow(reader);
        }
        if self.shared.bytes.load(Ordering::Relaxed) >= TOTAL_BYTES {
            return Entered::Alone;
        }
        let flight = Arc::new(Flight::new(*terms, Arc::clone(&self.shared)));
        // Before anybody may join: a follower that leaves at once must not be the last one.
        let seat = Reader::lead(Arc::clone(&flight));
        let replaced = table.insert(terms.key, flight);
        drop(table);
        drop(replaced);
        Entered::Lead(seat)
    }

    /// Room that is taken to keep answers on their way, in bytes.
    pub fn bytes(&self) -> usize {
        self.shared.bytes.load(Ordering::Relaxed)
    }

    /// Those who wait for answers on their way, leaders and followers.
    pub fn readers(&self) -> usize {
        self.shared.readers.load(Ordering::Relaxed)
    }

    /// Answers on their way that take followers.
    pub fn len(&self) -> usize {
        self.shared.table.lock().len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

// === impl Flight ===

impl Flight {
    fn new(terms: Terms, shared: Arc<Shared>) -> Self {
        let state = State {
            course: Course::Coming,
            log: Log::new(terms.dialect),
            is_closed: false,
            led: None,
            usage: None,
        };
        Self {
            terms,
            shared,
            bell: Arc::default(),
            engine: Mutex::new(Engine::Idle),
            state: Mutex::new(state),
        }
    }

    /// Whether a request may wait for it: who has more time than the leader may still be answered
    /// where the leader is not, who matters more does not wait among those who matter less, and who
    /// comes after a purge gets nothing from before it.
    fn suits(&self, terms: &Terms) -> bool {
        terms.within <= self.terms.within
            && terms.priority.level() >= self.terms.priority.level()
            && terms.since == self.terms.since
    }

    /// Lets the leader's call be carried out.
    fn start(&self, opening: Opening) {
        *self.engine.lock() = Engine::Opening(opening);
        self.bell.ring();
    }

    /// Whether its leader has yet to ask, and nothing was said about that.
    fn is_idle(&self) -> bool {
        let is_coming = matches!(self.state.lock().course, Course::Coming);
        is_coming && matches!(*self.engine.lock(), Engine::Idle)
    }

    /// Ends it before anything came.
    fn end_as(&self, course: Course) {
        let mut state = self.state.lock();
        state.course = course;
        state.is_closed = true;
        drop(state);
        self.retire();
        self.bell.ring();
    }

    /// Lets the engine go on if it has anything to do, for the reader who drives.
    fn drive(&self, driver: Option<Driver>) -> Driven {
        let is_due = self.bell.is_due.swap(false, Ordering::AcqRel);
        // What has to end is told so by being polled.
        if !is_due && !self.shared.stop.is_ordered() {
            return Driven::Idle;
        }
        let waker = Waker::from(Arc::clone(&self.bell));
        let mut cx = Context::from_waker(&waker);
        let mut engine = self.engine.lock();
        let next = match &mut *engine {
            Engine::Idle | Engine::Over => return Driven::Idle,
            Engine::Opening(opening) => match poll_opening(opening, &mut cx) {
                Poll::Pending => return Driven::Idle,
                Poll::Ready(opened) => self.opened(opened),
            },
            Engine::Flowing(stream) => match Pin::new(&mut **stream).poll_frame(&mut cx) {
                Poll::Pending => return Driven::Idle,
                // It gives out data only, and its errors cannot be.
                Poll::Ready(frame) => match frame.and_then(|frame| frame.ok()?.into_data().ok()) {
                    Some(bytes) => {
                        let usage = stream.usage();
                        // Before the engine is let go: the next driver's piece must not come first.
                        let state = self.state.lock();
                        drop(engine);
                        return self.take(state, bytes, (usage, driver));
                    }
                    None => Engine::Over,
                },
            },
        };
        let is_over = matches!(next, Engine::Over);
        let before = std::mem::replace(&mut *engine, next);
        drop(engine);
        // Settles what it had to settle, and keeps what is to be kept.
        drop(before);
        let mut state = self.state.lock();
        if is_over {
            state.is_closed = true;
            state.log.end();
        }
        let is_closed = state.is_closed;
        drop(state);
        if is_closed {
            self.retire();
        }
        self.bell.ring_but(driver.map(|driver| driver.key));
        Driven::On
    }

    /// Reads on where all of the answer was told: a connection whose end was seen is used again.
    fn see_the_end(&self) {
        let is_told = match &*self.engine.lock() {
            Engine::Flowing(stream) => stream.has_told_its_end(),
            Engine::Idle | Engine::Opening(_) | Engine::Over => false,
        };
        while is_told && !matches!(self.drive(None), Driven::Idle) {}
    }

    /// Notes what came of the leader's call; what is to be polled next.
    fn opened(&self, opened: Result<Answer, Box<Refused>>) -> Engine {
        let mut state = self.state.lock();
        let (course, led, engine) = match opened {
            Ok(Answer::Stream(stream, served)) => {
                let opened = Opened { served: served.clone(), body: None };
                let led = Ok(Led::Stream(served, stream.expiry()));
                (Course::Opened(Arc::new(opened)), led, Engine::Flowing(stream))
            }
            Ok(Answer::Whole(body, served)) => {
                let opened = Opened { served: served.clone(), body: Some(body.clone()) };
                (Course::Opened(Arc::new(opened)), Ok(Led::Whole(body, served)), Engine::Over)
            }
            Err(refused) => (Course::Failed(refused.rejection.clone()), Err(refused), Engine::Over),
        };
        (state.course, state.led) = (course, Some(led));
        engine
    }

    /// Keeps the next bytes of the answer. The leader who has all before them gets them as they
    /// are.
    fn take(
        &self,
        mut state: MutexGuard<'_, State>,
        bytes: Bytes,
        (usage, driver): (Option<Usage>, Option<Driver>),
    ) -> Driven {
        state.usage = usage.or(state.usage);
        let leader = driver.filter(|driver| driver.takes_bytes);
        let is_passed = leader.is_some_and(|leader| state.log.pass(leader.key));
        // Copied: a piece may be part of a buffer that is much larger.
        let cost = state.log.push(&bytes);
        state.is_closed |= state.log.is_broken();
        if cost > 0 {
            let total = self.shared.bytes.fetch_add(cost, Ordering::Relaxed) + cost;
            let most = if total > TOTAL_BYTES { CROWDED_BYTES } else { FLIGHT_BYTES };
            while !state.log.is_short() && state.log.cost() > most {
                state.is_closed = true;
                let dropped = state.log.drop_oldest();
                self.shared.bytes.fetch_sub(dropped, Ordering::Relaxed);
            }
        }
        let is_closed = state.is_closed;
        drop(state);
        if is_closed {
            self.retire();
        }
        self.bell.ring_but(driver.map(|driver| driver.key));
        if is_passed { Driven::Piece(bytes) } else { Driven::On }
    }

    /// Takes no more followers.
    fn retire(&self) {
        let mut table = self.shared.table.lock();
        let is_this = |flight: &Arc<Self>| std::ptr::eq(&**flight, self);
        let retired = if table.get(&self.terms.key).is_some_and(is_this) {
            table.remove(&self.terms.key)
        } else {
            None
        };
        drop(table);
        drop(retired);
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.shared.bytes.fetch_sub(self.state.get_mut().log.cost(), Ordering::Relaxed);
    }
}

impl fmt::Debug for Flight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flight").field("terms", &self.terms).finish_non_exhaustive()
    }
}

/// A fault of ours must not leave those waiting who follow. What is half done is not looked at
/// again.
fn poll_opening(opening: &mut Opening, cx: &mut Context<'_>) -> Poll<Result<Answer, Box<Refused>>> {
    let polled = catch_unwind(AssertUnwindSafe(|| opening.as_mut().poll(cx)));
    polled.unwrap_or_else(|_panic| {
        let rejection = Rejection::Internal { detail: "panic".to_owned() };
        Poll::Ready(Err(Box::new(Refused { rejection, served: Served::default() })))
    })
}

// === impl Bell ===

impl Bell {
    /// Has a reader woken when something happens.
    fn wait(&self, key: u64, waker: &Waker) {
        let mut waiting = self.waiting.lock();
        match waiting.iter_mut().find(|(reader, _)| *reader == key) {
            Some((_, known)) => known.clone_from(waker),
            None => waiting.push((key, waker.clone())),
        }
    }

    fn forget(&self, key: u64) {
        self.waiting.lock().retain(|(reader, _)| *reader != key);
    }

    fn ring(&self) {
        self.ring_but(None);
    }

    /// Wakes all but one, which knows.
    fn ring_but(&self, knows: Option<u64>) {
        self.is_due.store(true, Ordering::Release);
        let mut waiting = self.waiting.lock();
        // Woken without the lock; one reader, which is usual, without a list.
        if let [(reader, _)] = waiting.as_slice() {
            let woken = if Some(*reader) == knows { None } else { waiting.pop() };
            drop(waiting);
            woken.into_iter().for_each(|(_, waker)| waker.wake());
            return;
        }
        let woken = waiting.extract_if(.., |(reader, _)| Some(*reader) != knows);
        let woken: Vec<_> = woken.collect();
        drop(waiting);
        woken.into_iter().for_each(|(_, waker)| waker.wake());
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.ring();
    }
}
