//! Admission: who gets one of the gateway's slots, who waits, and who is turned away at once.
//!
//! # Order
//!
//! Lower priorities wait while higher ones do. Within a priority, callers share by deficit round
//! robin over the cost of their requests (Shreedhar and Varghese, 1995), so one caller's flood is
//! that caller's wait. Priority 0 is for the gateway's own needs and never waits.
//!
//! # Waiting
//!
//! A queue is for bursts. One that has not been empty for [`ShedSettings::drain_within`] is a
//! standing queue: then only [`ShedSettings::short_wait`] is waited, and the newest go first,
//! because the oldest are about to give up (after CoDel, Nichols and Jacobson 2012, and Facebook's
//! adaptive LIFO, Maurer 2015). A caller may fill as much of the queue as is still free (Choudhury
//! and Hahne's dynamic thresholds, 1998), so there is always room for another one.
//!
//! # Turning away from headers alone
//!
//! After DAGOR (Zhou et al., "Overload Control for Scaling WeChat Microservices", 2018): every
//! second with a mean wait above [`ShedSettings::target_wait`] and no empty queue lets 5 % less
//! through, every other 1 % more, the lowest priority first. Three deviations. It never lets less
//! through than is served, so that tightening costs no throughput. Requests to a language model
//! take seconds, so waits of 20 ms alone are no overload; the standing queue is. And DAGOR sheds
//! callers in the order of their hash; here the callers of a priority share what is let through
//! evenly (max-min), so that a small caller never pays for a big one. Callers share 64 hash slots a
//! priority, salted anew every hour, so that no two share one for long.

mod cursor;
mod queue;

use std::time::Duration;

use cursor::Cursor;
use queue::Queue;

use crate::clock::Instant;

/// How many priorities there are: 0, never shed, to 4, shed first.
pub const PRIORITIES: usize = 5;

/// How long to wait, and when to turn away.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ShedSettings {
    /// Requests that may wait.
    pub max_queued: usize,
    /// The longest wait in a queue that drains.
    pub max_wait: Duration,
    /// A queue that was not empty for this long is a standing one.
    pub drain_within: Duration,
    /// The longest wait in a standing queue.
    pub short_wait: Duration,
    /// The mean wait above which a standing queue is overload.
    pub target_wait: Duration,
    /// The part that is let through less after a second of overload; in 0..1.
    pub tighten: f64,
    /// The part that is let through more after any other second.
    pub loosen: f64,
    /// The cost that a caller may spend in its turn, in the unit of the costs.
    pub quantum: u64,
    /// The longest that a caller is told to wait before it tries again.
    pub max_retry_after: Duration,
}

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on; [`Shed::release`] when it ends.
    Admitted,
    /// It waits until [`Shed::next`] or [`Shed::expire`] names it, or [`Shed::cancel`] is called.
    Queued {
        /// The ticket that lost its place to this one; it is turned away.
        displaced: Option<u64>,
    },
    /// It is turned away.
    Rejected {
        /// When to try again.
        retry_after: Duration,
    },
}

/// The admission queue. Its capacity counts whatever the owner limits: requests in progress.
#[derive(Debug)]
pub struct Shed {
    settings: ShedSettings,
    capacity: usize,
    in_use: usize,
    queue: Queue,
    cursor: Cursor,
}

impl Default for ShedSettings {
    /// 1,024 wait 2 s at most, 250 ms in a queue that has stood for 2 s; -5 % in a second of more
    /// than 20 ms mean wait, +1 % in any other; turns of 1,000 tokens; come back within 60 s.
    fn default() -> Self {
        Self {
            max_queued: 1_024,
            max_wait: Duration::from_secs(2),
            drain_within: Duration::from_secs(2),
            short_wait: Duration::from_millis(250),
            target_wait: Duration::from_millis(20),
            tighten: 0.05,
            loosen: 0.01,
            quantum: 1_000,
            max_retry_after: Duration::from_secs(60),
        }
    }
}

// === impl Shed ===

impl Shed {
    /// Admission to so many slots. `salt` is random, so that callers cannot choose whom they share
    /// a hash slot with.
    pub fn new(settings: ShedSettings, capacity: usize, salt: u64, now: Instant) -> Self {
        Self {
            settings,
            capacity,
            in_use: 0,
            queue: Queue::new(settings),
            cursor: Cursor::new(settings, salt, now),
        }
    }

    /// Changes the salt; for a place where nobody has been yet.
    pub fn set_salt(&mut self, salt: u64) {
        self.cursor.set_salt(salt);
    }

    /// Changes the number of slots. What is in progress goes on; call [`Shed::next`] afterwards.
    pub fn set_capacity(&mut self, capacity: usize) {
        self.capacity = capacity;
    }

    /// Changes the longest wait in a queue that drains.
    pub fn set_max_wait(&mut self, max_wait: Duration) {
        self.settings.max_wait = max_wait;
        self.queue.set_max_wait(max_wait);
    }

    /// Whether a request is turned away by what its headers tell, and when it shall come back. To
    /// be asked once for every request, before its body is read. `caller` is a hash of who asks;
    /// `u` is uniform in 0..1. A priority above 4 counts as 4.
    pub fn would_reject(
        &mut self,
        priority: u8,
        caller: u64,
        u: f64,
        now: Instant,
    ) -> Option<Duration> {
        let level = level(priority);
        self.roll(now);
        let is_let_through = self.cursor.lets_through(level, caller, u);
        self.turns_away(is_let_through, level, caller, u)
    }

    /// As [`Shed::would_reject`], for a request that may not be for this queue: nothing is counted.
    pub fn would_reject_uncounted(
        &mut self,
        priority: u8,
        caller: u64,
        u: f64,
        now: Instant,
    ) -> Option<Duration> {
        let level = level(priority);
        self.roll(now);
        let is_let_through = self.cursor.would_let_through(level, caller, u);
        self.turns_away(is_let_through, level, caller, u)
    }

    /// Offers a request, after [`Shed::would_reject`] let it pass. `id` is the owner's and unique;
    /// `cost` is in tokens; `u` is uniform in 0..1.
    pub fn offer(&mut self, ticket: Ticket, u: f64, now: Instant) -> Verdict {
        self.roll(now);
        let level = level(ticket.priority);
        if level == 0 || (self.has_slot() && self.queue.is_empty()) {
            self.in_use += 1;
            self.cursor.on_wait(Duration::ZERO);
            return Verdict::Admitted;
        }
        let displaced = match self.queue.push(level, ticket, now) {
            Ok(displaced) => displaced,
            Err(queue::Full) => return Verdict::Rejected { retry_after: self.retry_after(u) },
        };
        Verdict::Queued { displaced }
    }

    /// A request that was admitted has ended. Call [`Shed::next`] afterwards.
    pub fn release(&mut self, now: Instant) {
        self.roll(now);
        self.in_use = self.in_use.saturating_sub(1);
        self.cursor.on_releases(1);
    }

    /// Requests that were admitted have ended; for an owner that counts its slots itself.
    pub fn count_releases(&mut self, count: u32, now: Instant) {
        self.roll(now);
        self.in_use = self.in_use.saturating_sub(usize::try_from(count).unwrap_or(usize::MAX));
        self.cursor.on_releases(count);
    }

    /// The next waiting request that is admitted now; call until `None`. Expired ones must have
    /// been taken out by [`Shed::expire`] before.
    pub fn next(&mut self, now: Instant) -> Option<u64> {
        self.roll(now);
        if !self.has_slot() {
            return None;
        }
        self.admit_next(now)
    }

    /// The next waiting request, whatever the capacity; for an owner that has a slot for it.
    pub fn admit_next(&mut self, now: Instant) -> Option<u64> {
        let (id, since) = self.queue.pop(now)?;
        self.in_use += 1;
        self.cursor.on_wait(now.saturating_duration_since(since));
        Some(id)
    }

    /// A waiting request is gone. Returns whether it was still waiting; if not, it was admitted
    /// (and must be released), or turned away.
    pub fn cancel(&mut self, id: u64) -> bool {
        self.queue.remove(id)
    }

    /// The next request that has waited too long, and when it shall come back; call until `None`.
    pub fn expire(&mut self, u: f64, now: Instant) -> Option<(u64, Duration)> {
        self.roll(now);
        let (id, since) = self.queue.expire(now)?;
        self.cursor.on_wait(now.saturating_duration_since(since));
        Some((id, self.retry_after(u)))
    }

    /// When [`Shed::expire`] has something to do next, if nothing changes.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.queue.deadline()
    }

    /// When a waiting request will have waited too long; `None` where it does not wait.
    pub fn deadline_of(&self, id: u64) -> Option<Instant> {
        self.queue.deadline_of(id)
    }

    /// Whether the cursor lets less through than comes.
    pub fn is_shedding(&self) -> bool {
        self.cursor.is_shedding()
    }

    /// How many requests wait.
    pub fn queued(&self) -> usize {
        self.queue.len()
    }

    /// How many requests are in progress.
    pub fn in_use(&self) -> usize {
        self.in_use
    }

    /// The part of each priority's requests that the cursor lets through, in 0..=1; for display.
    pub fn let_through(&self) -> [f64; PRIORITIES] {
        self.cursor.let_through()
    }

    fn turns_away(
        &self,
        is_let_through: bool,
        level: usize,
        caller: u64,
        u: f64,
    ) -> Option<Duration> {
        let has_room = level == 0 || self.has_slot() || self.queue.has_room(level, caller);
        // What decided is high whenever it rejects; its last digits are not.
        (!is_let_through || !has_room).then(|| self.retry_after((u * 1024.0).fract()))
    }

    fn has_slot(&self) -> bool {
        self.in_use < self.capacity
    }

    fn roll(&mut self, now: Instant) {
        let stands_since = self.queue.stands_since();
        self.cursor.roll(stands_since, now);
    }

    /// One to three times the time in which the queue will have drained; at least a second.
    pub fn retry_after(&self, u: f64) -> Duration {
        let drain = self.queue.len() as f64 / self.cursor.releases_per_second().max(0.1);
        let seconds = drain * (1.0 + 2.0 * u.clamp(0.0, 1.0));
        let longest = self.settings.max_retry_after.as_secs_f64().max(1.0);
        Duration::from_secs_f64(seconds.clamp(1.0, longest))
    }
}

/// A request that wants a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket {
    /// The owner's number of it; unique among those that wait.
    pub id: u64,
    /// 0 to 4; what is above counts as 4.
    pub priority: u8,
    /// A hash of who asks.
    pub caller: u64,
    /// What it costs, in tokens; at least 1 is counted.
    pub cost: u64,
}

fn level(priority: u8) -> usize {
    usize::from(priority).min(PRIORITIES - 1)
}

#[cfg(test)]
mod tests;
