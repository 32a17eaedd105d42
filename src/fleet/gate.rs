//! Bulkheads: how many requests may be under way at one place, and who waits for a slot there.
//!
//! A place is a target, so that a slow provider fills its own gate and nobody else's, or the whole
//! process. Whether one waits and who is next is [`Shed`]'s to decide; here are its lock, its clock
//! and those who wait.
//!
//! # Without a queue
//!
//! Entering and leaving are a few atomic operations while nobody waits. `is_busy` says that
//! somebody might: whoever is about to wait sets it before looking for a slot once more, and
//! whoever leaves looks at it after giving the slot back. In the one order that sequential
//! consistency gives these four, one of the two sees the other, so no slot is left lying.
//!
//! # Exactness
//!
//! A [`Slot`] is a value. It travels to the one who waits through a channel, and is given back
//! where it is dropped, also within the channel of a request that has left meanwhile. While
//! somebody waits, newcomers leave free slots alone.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::chance::Chance;
use crate::clock::Instant;
use crate::policy::shed::{Shed, ShedSettings, Ticket, Verdict};
use crate::telemetry::GateMetrics;

mod ask;
#[cfg(test)]
mod tests;

pub use ask::Ask;

/// Longer than any request may take.
const A_DAY: Duration = Duration::from_secs(86_400);

/// A place where only so many requests may be at a time.
#[derive(Debug)]
pub struct Gate {
    /// 0: as many as like.
    limit: AtomicUsize,
    /// Whether what is learnt does not change the limit.
    is_fixed: AtomicBool,
    in_use: AtomicUsize,
    /// Slots given back since the queue was last looked at.
    released: AtomicU32,
    /// Whether somebody waits, or some are turned away.
    is_busy: AtomicBool,
    max_wait_ms: AtomicU64,
    line: Mutex<Line>,
    metrics: GateMetrics,
}

#[derive(Debug)]
struct Line {
    shed: Shed,
    chance: Arc<Chance>,
    /// Where those who wait are told; each has its receiver as long as it stands here.
    waiting: HashMap<u64, oneshot::Sender<Result<Slot, Duration>>>,
    next_id: u64,
}

/// The right to be in a place; given back when it is dropped.
#[must_use]
#[derive(Debug)]
pub struct Slot {
    gate: Arc<Gate>,
}

/// Why there is no slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoSlot {
    /// There are too many requests: turned away at once, or after waiting in vain.
    TurnedAway {
        /// When to try again; at least a second.
        retry_after: Duration,
    },
    /// The request's own time ran out first.
    OutOfTime,
}

/// A request that waits. Dropping it gives up its place, and its slot if it has just got one.
struct Waiting<'a> {
    gate: &'a Gate,
    id: u64,
    told: oneshot::Receiver<Result<Slot, Duration>>,
}

enum Offered {
    Slot(Slot),
    Waits { id: u64, told: oneshot::Receiver<Result<Slot, Duration>>, until: Instant },
}

// === impl Gate ===

impl Gate {
    /// A gate without a limit.
    pub(super) fn new(metrics: GateMetrics, chance: Arc<Chance>, now: Instant) -> Arc<Self> {
        let settings = ShedSettings::default();
        let shed = Shed::new(settings, 0, chance.salt(), now);
        let line = Line { shed, chance, waiting: HashMap::new(), next_id: 0 };
        Arc::new(Self {
            limit: AtomicUsize::new(0),
            is_fixed: AtomicBool::new(false),
            in_use: AtomicUsize::new(0),
            released: AtomicU32::new(0),
            is_busy: AtomicBool::new(false),
            max_wait_ms: AtomicU64::new(millis(settings.max_wait)),
            line: Mutex::new(line),
            metrics,
        })
    }

    /// Draws the salt anew, after the chances were seeded and before anybody came.
    pub(crate) fn resalt(&self) {
        let mut line = self.line.lock();
        let salt = line.chance.salt();
        line.shed.set_salt(salt);
    }

    /// Changes how many requests may be here; 0 is no limit. Those beyond it stay until they leave.
    pub fn set_limit(self: &Arc<Self>, limit: u32) {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        if self.limit.load(Ordering::Relaxed) != limit {
            self.limit.store(limit, Ordering::SeqCst);
            self.pump_if_busy();
        }
    }

    /// Sets the limit for good, whatever is learnt.
    pub fn fix_limit(self: &Arc<Self>, limit: u32) {
        self.is_fixed.store(true, Ordering::Relaxed);
        self.set_limit(limit);
    }

    /// Takes over what was learnt of a target; 0 where there is no limit.
    pub(super) fn learn_limit(self: &Arc<Self>, limit: u32) {
        if !self.is_fixed.load(Ordering::Relaxed) {
            self.set_limit(limit);
        }
    }

    /// Changes how long a request may wait where the queue drains.
    pub fn set_max_wait(&self, max_wait: Duration) {
        let ms = millis(max_wait);
        if self.max_wait_ms.load(Ordering::Relaxed) != ms {
            self.max_wait_ms.store(ms, Ordering::Relaxed);
            self.line.lock().shed.set_max_wait(max_wait);
        }
    }

    /// Requests that are here.
    pub fn in_use(&self) -> usize {
        self.in_use.load(Ordering::Relaxed)
    }

    /// Requests that wait.
    pub fn queued(&self) -> usize {
        if self.is_busy.load(Ordering::Relaxed) { self.line.lock().shed.queued() } else { 0 }
    }

    /// Whether a newcomer would have to wait.
    pub fn is_full(&self, ask: &Ask) -> bool {
        !ask.is_never_shed() && (!self.has_free() || self.queued() > 0)
    }

    /// How many wait for each slot, for choosing between places that are full.
    pub(super) fn pressure(&self) -> f64 {
        let limit = self.limit.load(Ordering::Relaxed).max(1);
        #[expect(clippy::cast_precision_loss, reason = "requests are far below 2^52")]
        let (queued, limit) = (self.queued() as f64, limit as f64);
        queued / limit
    }

    /// A slot at once, if there is one and nobody waits for it. What matters most always gets one.
    pub fn try_enter(self: &Arc<Self>, ask: &Ask) -> Option<Slot> {
        if ask.is_never_shed() {
            return Some(self.take_anyway());
        }
        if !self.is_busy.load(Ordering::SeqCst) {
            return self.take();
        }
        let mut line = self.line.lock();
        self.enter_first(&mut line, ask, Instant::now())
    }

    /// A slot, at once or after waiting, `within` this time at most.
    ///
    /// # Errors
    ///
    /// Why there is none.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up the place in the queue; no slot is lost.
    pub async fn enter(self: &Arc<Self>, ask: &Ask, within: Duration) -> Result<Slot, NoSlot> {
        if let Some(slot) = self.try_enter(ask) {
            return Ok(slot);
        }
        let now = Instant::now();
        let (mut waiting, mut until) = match self.offer(ask, now)? {
            Offered::Slot(slot) => return Ok(slot),
            Offered::Waits { id, told, until } => (Waiting { gate: self, id, told }, until),
        };
        let out_of_time = now + within.min(A_DAY);
        if until <= now {
            // Nobody may wait; a timer would still take its millisecond.
            until = self.expire(waiting.id);
        }
        loop {
            match tokio::time::timeout_at(until.min(out_of_time), &mut waiting.told).await {
                Ok(Ok(told)) => {
                    return told.map_err(|retry_after| self.turn_away(ask, retry_after));
                }
                Ok(Err(_gone)) => return Err(self.turn_away(ask, Duration::from_secs(1))),
                Err(_elapsed) if until >= out_of_time => return Err(NoSlot::OutOfTime),
                Err(_elapsed) => until = self.expire(waiting.id),
            }
        }
    }

    /// Whether a request would be turned away, and when it should come back. Nothing is counted.
    pub(super) fn would_turn_away(&self, ask: &Ask, now: Instant) -> Option<Duration> {
        if ask.is_never_shed() || !self.is_busy.load(Ordering::Relaxed) {
            return None;
        }
        let mut line = self.line.lock();
        self.catch_up(&mut line, now);
        if line.shed.queued() == 0 && self.has_free() {
            return None;
        }
        line.shed.would_reject_uncounted(ask.priority, ask.caller, ask.draw, now)
    }

    /// Counts a request that was turned away before it came here.
    pub(super) fn count_turned_away(&self, ask: &Ask, now: Instant) {
        let mut line = self.line.lock();
        let _ = line.shed.would_reject(ask.priority, ask.caller, ask.draw, now);
        self.metrics.shed(ask.priority);
    }

    fn turn_away(&self, ask: &Ask, retry_after: Duration) -> NoSlot {
        self.metrics.shed(ask.priority);
        NoSlot::TurnedAway { retry_after }
    }

    /// Puts a request into the queue, where it may and has to wait.
    fn offer(self: &Arc<Self>, ask: &Ask, now: Instant) -> Result<Offered, NoSlot> {
        let mut line = self.line.lock();
        self.is_busy.store(true, Ordering::SeqCst);
        self.pump(&mut line, now);
        if let Some(slot) = self.enter_first(&mut line, ask, now) {
            return Ok(Offered::Slot(slot));
        }
        let offered = line.offer(ask, now);
        self.after(&line);
        match offered {
            Ok((id, told)) => {
                let until = line.shed.deadline_of(id).unwrap_or(now);
                Ok(Offered::Waits { id, told, until })
            }
            Err(retry_after) => Err(self.turn_away(ask, retry_after)),
        }
    }

    /// A slot where nobody waits, though some are being turned away.
    fn enter_first(self: &Arc<Self>, line: &mut Line, ask: &Ask, now: Instant) -> Option<Slot> {
        if line.shed.queued() > 0 {
            return None;
        }
        let slot = self.take()?;
        // What counts is how much comes in; a free slot is given to whoever is there.
        let _ = line.shed.would_reject(ask.priority, ask.caller, 0.0, now);
        self.after(line);
        Some(slot)
    }

    /// Turns away who has waited too long; says when this one will have, if it has not.
    fn expire(self: &Arc<Self>, id: u64) -> Instant {
        let now = Instant::now();
        let mut line = self.line.lock();
        self.pump(&mut line, now);
        line.shed.deadline_of(id).unwrap_or(now)
    }

    /// Gives free slots to those who wait.
    fn pump(self: &Arc<Self>, line: &mut Line, now: Instant) {
        self.catch_up(line, now);
        while let Some((id, retry_after)) = line.shed.expire(line.chance.draw_at_gate(), now) {
            line.tell(id, Err(retry_after));
        }
        while line.shed.queued() > 0
            && let Some(slot) = self.take()
        {
            let Some(id) = line.shed.admit_next(now) else {
                self.put_back(slot);
                break;
            };
            line.tell(id, Ok(slot));
        }
        self.after(line);
    }

    fn pump_if_busy(self: &Arc<Self>) {
        if self.is_busy.load(Ordering::SeqCst) {
            let now = Instant::now();
            self.pump(&mut self.line.lock(), now);
        }
    }

    /// Tells the queue what happened without it.
    fn catch_up(&self, line: &mut Line, now: Instant) {
        line.shed.count_releases(self.released.swap(0, Ordering::Relaxed), now);
    }

    /// To be called with the lock held when the queue may have changed.
    fn after(&self, line: &Line) {
        let queued = line.shed.queued();
        self.is_busy.store(queued > 0 || line.shed.is_shedding(), Ordering::SeqCst);
        self.metrics.queued.set(i64::try_from(queued).unwrap_or(i64::MAX));
    }

    fn has_free(&self) -> bool {
        let limit = self.limit.load(Ordering::Relaxed);
        limit == 0 || self.in_use.load(Ordering::Relaxed) < limit
    }

    fn take(self: &Arc<Self>) -> Option<Slot> {
        let limit = match self.limit.load(Ordering::SeqCst) {
            0 => usize::MAX,
            limit => limit,
        };
        let more = |in_use: usize| (in_use < limit).then_some(in_use.saturating_add(1));
        self.in_use.fetch_update(Ordering::SeqCst, Ordering::SeqCst, more).ok()?;
        Some(Slot { gate: Arc::clone(self) })
    }

    fn take_anyway(self: &Arc<Self>) -> Slot {
        self.in_use.fetch_add(1, Ordering::SeqCst);
        Slot { gate: Arc::clone(self) }
    }

    /// Gives back a slot that was not used, with the lock held.
    fn put_back(&self, slot: Slot) {
        self.in_use.fetch_sub(1, Ordering::SeqCst);
        std::mem::forget(slot);
    }
}

// === impl Line ===

impl Line {
    fn offer(
        &mut self,
        ask: &Ask,
        now: Instant,
    ) -> Result<(u64, oneshot::Receiver<Result<Slot, Duration>>), Duration> {
        let rejected = self.shed.would_reject(ask.priority, ask.caller, ask.draw, now);
        if let Some(retry_after) = rejected {
            return Err(retry_after);
        }
        let id = self.next_id;
        self.next_id = self.next_id.wrapping_add(1);
        let ticket = Ticket { id, priority: ask.priority, caller: ask.caller, cost: ask.cost };
        match self.shed.offer(ticket, self.chance.draw_at_gate(), now) {
            Verdict::Queued { displaced } => {
                if let Some(displaced) = displaced {
                    let retry_after = self.shed.retry_after(self.chance.draw_at_gate());
                    self.tell(displaced, Err(retry_after));
                }
                let (tell, told) = oneshot::channel();
                self.waiting.insert(id, tell);
                Ok((id, told))
            }
            Verdict::Rejected { retry_after } => Err(retry_after),
            // There is no capacity here but through the gate's slots.
            Verdict::Admitted => Err(Duration::from_secs(1)),
        }
    }

    fn tell(&mut self, id: u64, what: Result<Slot, Duration>) {
        if let Some(tell) = self.waiting.remove(&id) {
            // Never fails: who leaves takes its sender out first, under the same lock.
            let _ = tell.send(what);
        }
    }
}

// === impl Slot ===

impl Drop for Slot {
    fn drop(&mut self) {
        self.gate.in_use.fetch_sub(1, Ordering::SeqCst);
        self.gate.released.fetch_add(1, Ordering::Relaxed);
        self.gate.pump_if_busy();
    }
}

// === impl Waiting ===

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut line = self.gate.line.lock();
        line.shed.cancel(self.id);
        line.waiting.remove(&self.id);
        self.gate.after(&line);
        // A slot that has come meanwhile is given back after this, with the receiver.
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
