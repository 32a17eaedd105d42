//! A node's part of what several nodes share.
//!
//! The nodes' common authority grants amounts in chunks, and the node that has one decides alone
//! and at once. What is granted is taken from the common limit before it is used, so that the nodes
//! together **never admit more than the limit**; what they hold unused is at most a chunk each, and
//! goes back when its lease is over.
//!
//! - A chunk is what the node's own requests ask for in 2 s, but at least one request and at most
//!   a tenth of the burst. It is asked for when a quarter is left, before it is missed.
//! - A heap of requests that finds nothing waits for one answer together, and then the first of
//!   them asks for all: that much is used at once, so a tenth of the burst does not bind it.
//! - A key with less than a request a second holds no chunk: each of its requests is asked for.
//! - Where the authority had too little, nobody asks again before there is something to get: what
//!   is refused meanwhile costs no round trip. Then it waits until this node's part of the limit
//!   has come to 40 requests; where that takes longer than 1.5 s, half a second, and asks for less.
//! - Where the authority is lost ([`super::Moment::alone_of`]) each node admits the limit divided
//!   by the nodes.

use std::time::Duration;

use super::bucket::Rate;
use super::meter::Lack;
use crate::clock::Instant;

mod part;
mod shared;

pub use shared::Shared;

/// How long what was granted may be kept unused.
pub const LEASE: Duration = Duration::from_secs(2);

/// Requests that one round trip is for, at least, where many come. A quarter of what the pause
/// after a poor answer is for.
const WORTH_ASKING: f64 = 10.0;
/// How long this node's part of the limit may take for that; where it takes longer, fewer do.
const WORTH_WAITING: Duration = Duration::from_millis(250);
/// The longest pause for that many requests, and the pause where they take longer than that.
const PAUSE_AT_MOST: Duration = Duration::from_millis(1_500);
const PAUSE_OF_FEW: Duration = Duration::from_millis(500);
/// How soon those who waited for an answer have all tried again.
const RETRIED_WITHIN: Duration = Duration::from_millis(50);
/// How many seconds' worth of requests a chunk is for.
const CHUNK_SECONDS: f64 = 2.0;
/// The part of a chunk at which the next one is asked for.
const LOW: f64 = 0.25;
/// A key with less than a request a second: just after one, the average of one a second is 1.58.
const SLOW: f64 = 1.6;

/// The longest that nobody asks again. Others give back what they held and did not use.
const DRY_AT_MOST: Duration = Duration::from_secs(5);

/// How much is asked for, lately: averages that forget within seconds. They decide how much is
/// asked of the authority, never whether a request is admitted.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Demand {
    requests_per_s: f64,
    units_per_s: f64,
    at: Instant,
}

/// What should be asked of the authority.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Need {
    /// So much would be good.
    pub want: u64,
    /// Less is of no use.
    pub at_least: u64,
}

/// What the authority answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Granted {
    /// What it gave.
    pub granted: u64,
    /// What it has left.
    pub left: u64,
    /// When it has what it did not give.
    pub next_in: Duration,
    /// Whether it gave nothing because it has lost its memory, until then.
    pub is_unsettled: bool,
}

/// What the authority has to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tell {
    /// So much is given back.
    Return(u64),
    /// So much more was used than was granted.
    Book(u64),
    /// What this node holds, as [`Common`] says it.
    Held(u64),
}

/// When something is told that could wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// When its lease is over.
    Due,
    /// Beside that, places that are held, so that they stay so.
    Renewing,
    /// Now: this node ends.
    Now,
}

/// What several nodes share, as the authority has to know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Common {
    /// A bucket.
    Bucket {
        /// What flows in.
        rate: Rate,
        /// What it holds.
        burst: u64,
        /// The most that can be there, as far as this node knows.
        most: u64,
    },
    /// A window.
    Window {
        /// What may be used.
        limit: u64,
        /// When it began, in milliseconds since 1970.
        start_ms: u64,
        /// When it ends.
        end_ms: u64,
        /// What this node has had of it.
        held: u64,
        /// What all nodes had had when this one last heard of it, and what it has had since.
        heard: u64,
        /// What was used before this node counted.
        before: u64,
        /// Whether that was before there was the limit: what any node has had comes on top.
        is_beside: bool,
    },
    /// Places.
    Slots {
        /// How many there are.
        limit: u64,
        /// How many this node holds.
        held: u64,
    },
}

/// What a node holds of a common limit.
#[derive(Debug, Clone, Copy)]
pub struct Pool {
    /// The most that is asked for at once, unless a single request needs more.
    largest: u64,
    /// Granted and not used; below zero where more was used than was taken.
    stock: i64,
    lease_ends: Instant,
    /// Until when nobody asks, because the authority had too little.
    dry_until: Option<Instant>,
    /// When it said that it would have more.
    more_at: Instant,
    /// How long this node's part of the limit takes for one unit, as of the last answer.
    pace: Duration,
    /// What requests found missing since the last answer, and what they had found missing before
    /// it: all of them wait for one answer and try again together.
    missed: u64,
    missed_before: (u64, Instant),
    /// What it had left after its last answer, and when that was; `None` before the first.
    left: Option<(u64, Instant)>,
    /// What the authority was asked, or told, and has not answered: one thing at a time, so that
    /// what it is told is never older than what it has granted.
    asked: Option<Asked>,
    demand: Demand,
}

/// What the authority was asked or told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    Need(Need),
    /// So much was taken out of the stock for it: to give it back, or to book what is negative.
    Told(i64),
}

// === impl Demand ===

impl Demand {
    fn new(now: Instant) -> Self {
        Self { requests_per_s: 0.0, units_per_s: 0.0, at: now }
    }

    /// Counts a request for `units`.
    #[expect(clippy::cast_precision_loss, reason = "an average")]
    fn note(&mut self, units: u64, now: Instant) {
        *self = self.as_of(now);
        self.requests_per_s += 1.0;
        self.units_per_s += units as f64;
    }

    /// Forgets with a time constant of a second, which makes sums of counts rates.
    fn as_of(self, now: Instant) -> Self {
        let kept = (-now.saturating_duration_since(self.at).as_secs_f64()).exp();
        Self {
            requests_per_s: self.requests_per_s * kept,
            units_per_s: self.units_per_s * kept,
            at: self.at.max(now),
        }
    }

    fn units_per_request(self) -> f64 {
        if self.requests_per_s > 0.0 { self.units_per_s / self.requests_per_s } else { 1.0 }
    }
}

// === impl Pool ===

impl Pool {
    /// A pool that holds nothing, of a limit whose burst is `burst` units.
    pub fn new(burst: u64, now: Instant) -> Self {
        Self {
            largest: (burst / 10).max(1),
            stock: 0,
            lease_ends: now,
            dry_until: None,
            more_at: now,
            pace: Duration::ZERO,
            missed: 0,
            missed_before: (0, now),
            left: None,
            asked: None,
            demand: Demand::new(now),
        }
    }

    /// Changes the burst of the limit.
    pub fn set_burst(&mut self, burst: u64) {
        self.largest = (burst / 10).max(1);
    }

    /// Why `amount` cannot be taken.
    pub fn lacks(&self, amount: u64, now: Instant) -> Option<Lack> {
        if self.stock >= signed(amount) {
            return None;
        }
        match self.dry_until.filter(|until| *until > now) {
            Some(until) => Some(Lack::For(until.max(self.more_at).saturating_duration_since(now))),
            None => Some(Lack::Unasked),
        }
    }

    /// A request for `amount` was decided, one way or the other: also what is refused is asked for.
    pub fn on_request(&mut self, amount: u64, now: Instant) {
        self.demand.note(amount, now);
    }

    /// A request that lacks `amount` waits for an answer. Where it goes away meanwhile, that much
    /// is asked for in vain, and goes back with its lease.
    pub fn on_missed(&mut self, amount: u64) {
        self.missed = self.missed.saturating_add(amount);
    }

    /// Takes `amount`, whether or not it is there; a negative one is given back.
    pub fn take(&mut self, amount: i64) {
        self.stock = self.stock.saturating_sub(amount);
        let taken = u64::try_from(amount).unwrap_or_default();
        self.missed_before.0 = self.missed_before.0.saturating_sub(taken);
    }

    /// What should be asked of the authority now, and is taken as asked from now on. `waiting` is
    /// what a request waits for; 0 where none does. `joining` where the authority is asked anyway.
    pub fn need(&mut self, waiting: u64, joining: bool, now: Instant) -> Option<Need> {
        if self.asked.is_some() || self.dry_until.is_some_and(|until| until > now) {
            return None;
        }
        let demand = self.demand.as_of(now);
        let lacking = signed(waiting).saturating_sub(self.stock).max(0).unsigned_abs();
        // Those who wait beside it take theirs at once, so that nothing of it lies about.
        let all_missed = signed(self.missed(now)).saturating_sub(self.stock).max(0).unsigned_abs();
        let all_lacking = all_missed.max(lacking);
        let need = if demand.requests_per_s < SLOW {
            Need { want: all_lacking, at_least: lacking.max(1) }
        } else {
            let chunk = self.chunk(demand);
            let low = if joining { chunk / 2 } else { (chunk as f64 * LOW) as u64 };
            // Where all there is goes at once, asking early only finds that it is gone.
            if all_lacking == 0 && (self.stock > signed(low) || self.dry_until.is_some()) {
                return None;
            }
            let fill = signed(chunk).saturating_sub(self.stock).max(0).unsigned_abs();
            let worth = self.worth_asking(demand).min(fill);
            Need { want: fill.max(all_lacking), at_least: worth.max(lacking).max(1) }
        };
        if need.want == 0 {
            return None;
        }
        self.asked = Some(Asked::Need(need));
        Some(need)
    }

    /// Whether more should be asked for, before it is missed.
    pub fn is_low(&self, now: Instant) -> bool {
        let mut then = *self;
        then.need(0, false, now).is_some()
    }

    /// The authority answered: it granted so much (0, or what was needed), or took note of what it
    /// was told. `pace` is how long this node's part of the limit takes for one unit.
    pub fn on_grant(&mut self, grant: Granted, pace: Duration, now: Instant) {
        let Some(asked) = self.asked.take() else { return };
        let Granted { granted, left, next_in, is_unsettled } = grant;
        self.left = Some((left, now));
        self.pace = pace;
        self.missed_before = (std::mem::take(&mut self.missed), now);
        let Asked::Need(need) = asked else { return };
        self.stock = self.stock.saturating_add(signed(granted));
        self.lease_ends = now + LEASE;
        if granted >= need.want || is_unsettled {
            self.dry_until = None;
            return;
        }
        // Others ask for the same: who asks as soon as there is something finds that it is gone.
        let many = self.demand.units_per_request() * WORTH_ASKING * 4.0;
        let many = pace.checked_mul(many as u32).unwrap_or(Duration::MAX);
        let pause = if many <= PAUSE_AT_MOST { many } else { PAUSE_OF_FEW };
        self.more_at = now + next_in;
        self.dry_until = Some(now + next_in.max(pause).min(DRY_AT_MOST));
    }

    /// The authority did not answer. What it was told is told again, but for what was given back
    /// where it `may` have heard of that: rather less than too much is admitted.
    pub fn on_lost(&mut self, may_have_heard: bool) {
        self.dry_until = None;
        let Some(Asked::Told(amount)) = self.asked.take() else { return };
        if amount < 0 || !may_have_heard {
            self.stock = self.stock.saturating_add(amount);
        }
    }

    /// What it holds is worth nothing any more, and what it owes is forgotten with its window.
    fn on_new_window(&mut self) {
        self.stock = 0;
        self.dry_until = None;
        self.left = None;
        // What was told on the way is of the last window.
        if let Some(Asked::Told(amount)) = &mut self.asked {
            *amount = 0;
        }
    }

    /// Whether an answer of the authority is awaited.
    pub const fn is_asking(&self) -> bool {
        self.asked.is_some()
    }

    /// Whether what was granted has been kept for long enough.
    fn is_lease_over(&self, now: Instant) -> bool {
        self.lease_ends <= now
    }

    /// What has to be given back because its lease is over (or, with `at_once`, although it is
    /// not), or booked with the authority because more was used than was granted: then it is
    /// negative. Taken as told from now on.
    pub fn overdue(&mut self, at_once: bool, now: Instant) -> Option<i64> {
        if self.stock == 0 || self.asked.is_some() || !(at_once || self.is_lease_over(now)) {
            return None;
        }
        let overdue = std::mem::take(&mut self.stock);
        self.asked = Some(Asked::Told(overdue));
        Some(overdue)
    }

    /// What it holds is told as a whole, which is on its way now.
    fn on_telling(&mut self) {
        self.asked = Some(Asked::Told(0));
    }

    /// What is there; below zero where more was used than was granted.
    pub const fn stock(&self) -> i64 {
        self.stock
    }

    /// What those who wait lack together. Those who waited for the last answer try again right
    /// after it, one by one: the first asks for all of them.
    fn missed(&self, now: Instant) -> u64 {
        let (before, at) = self.missed_before;
        let is_just_now = now.saturating_duration_since(at) < RETRIED_WITHIN;
        if is_just_now { self.missed.max(before) } else { self.missed }
    }

    /// What a round trip should bring, where less is there: what is this node's in a quarter of a
    /// second, but at least one request, and at most ten.
    fn worth_asking(&self, demand: Demand) -> u64 {
        let request = demand.units_per_request();
        // Nothing comes back to a window, and whatever is left of it is of use.
        if self.pace.is_zero() {
            return request as u64;
        }
        let soon = WORTH_WAITING.as_secs_f64() / self.pace.as_secs_f64();
        soon.clamp(request, request * WORTH_ASKING) as u64
    }

    #[expect(clippy::cast_sign_loss, reason = "demand is not negative")]
    fn chunk(&self, demand: Demand) -> u64 {
        let wanted = (demand.units_per_s * CHUNK_SECONDS) as u64;
        let request = demand.units_per_request() as u64;
        wanted.min(self.largest).max(request).max(1)
    }
}

fn signed(amount: u64) -> i64 {
    i64::try_from(amount).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
