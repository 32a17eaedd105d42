//! A node's part of what several nodes share.
//!
//! The nodes' common authority grants amounts in chunks, and the node that has one decides alone
//! and at once. What is granted is taken from the common limit before it is used, so that the nodes
//! together **never admit more than the limit**; what they hold unused is at most a chunk each, and
//! goes back when its lease is over.
//!
//! - A chunk is what the node's own requests ask for in 1.5 s, but at least one request and at most
//!   a tenth of the burst. It is asked for when a quarter is left, before it is missed.
//! - A key with less than a request a second holds no chunk: each of its requests is asked for.
//! - Where the authority had too little, nobody asks again before there is something to get: what is
//!   refused meanwhile costs no round trip. Then it waits until its part of the limit has come to 40 requests, 1.5 s at most.
//! - Where the authority is lost ([`super::Moment::alone_of`]) each node admits the limit divided
//!   by the nodes.

use std::num::NonZeroU32;
use std::time::Duration;

use super::Moment;
use super::bucket::{Bucket, Rate};
use super::meter::{Lack, Meter};
use super::slots::Slots;
use super::window::Window;
use crate::clock::Instant;

/// How long what was granted may be kept unused.
pub const LEASE: Duration = Duration::from_secs(2);

/// Requests that one round trip is for, at least, where many come. A quarter of what the pause after
/// a poor answer is for.
const WORTH_ASKING: f64 = 10.0;
/// How many seconds' worth of requests a chunk is for.
const CHUNK_SECONDS: f64 = 1.5;
/// The part of a chunk at which the next one is asked for.
const LOW: f64 = 0.25;
/// A key with less than a request a second: just after one, the average of one a second is 1.58.
const SLOW: f64 = 1.6;

/// The longest that nobody asks again. Others give back what they held and did not use.
const DRY_AT_MOST: Duration = Duration::from_secs(5);

/// How much is asked for, lately: averages that forget within seconds. They decide how much is asked
/// of the authority, never whether a request is admitted.
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
    },
    /// A window.
    Window {
        /// What may be used.
        limit: u64,
        /// When it began, in milliseconds since 1970.
        start_ms: u64,
        /// When it ends.
        end_ms: u64,
        /// What this node knows to be used.
        used: u64,
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
    /// What it had left after its last answer; `None` before the first.
    left: Option<u64>,
    /// What was asked of the authority and has not been answered.
    asked: Option<Need>,
    demand: Demand,
}

/// A meter of what several nodes share.
#[derive(Debug, Clone)]
pub struct Shared {
    pool: Pool,
    own: Own,
}

/// What a node goes by itself.
#[derive(Debug, Clone)]
enum Own {
    /// A bucket that is there only while the authority is lost.
    Bucket { rate: Rate, burst: u64, alone: Option<Bucket> },
    /// What the node has used, at all times; and when the window began that its stock is of.
    Window { window: Window, start_ms: u64 },
    /// What runs on the node.
    Slots(Slots),
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

    /// Takes `amount`, whether or not it is there; a negative one is given back.
    pub fn take(&mut self, amount: i64) {
        self.stock = self.stock.saturating_sub(amount);
    }

    /// What should be asked of the authority now, and is taken as asked from now on. `waiting` is what
    /// a request waits for; 0 where none does. `joining` where the authority is asked anyway.
    pub fn need(&mut self, waiting: u64, joining: bool, now: Instant) -> Option<Need> {
        if self.asked.is_some() || self.dry_until.is_some_and(|until| until > now) {
            return None;
        }
        let demand = self.demand.as_of(now);
        let lacking = signed(waiting).saturating_sub(self.stock).max(0).unsigned_abs();
        let need = if demand.requests_per_s < SLOW {
            Need { want: lacking, at_least: lacking }
        } else {
            let chunk = self.chunk(demand);
            let low = if joining { chunk / 2 } else { (chunk as f64 * LOW) as u64 };
            // Where all there is goes at once, asking early only finds that it is gone.
            if lacking == 0 && (self.stock > signed(low) || self.dry_until.is_some()) {
                return None;
            }
            let fill = signed(chunk).saturating_sub(self.stock).max(0).unsigned_abs();
            let worth = (demand.units_per_request() * WORTH_ASKING).min(fill as f64) as u64;
            Need { want: fill.max(lacking), at_least: worth.max(lacking).max(1) }
        };
        if need.want == 0 {
            return None;
        }
        self.asked = Some(need);
        Some(need)
    }

    /// Whether more should be asked for, before it is missed.
    pub fn is_low(&self, now: Instant) -> bool {
        let mut then = *self;
        then.need(0, false, now).is_some()
    }

    /// The authority granted so much (0, or what was needed). `pace` is how long this node's part of
    /// the limit takes for one unit.
    pub fn on_grant(&mut self, grant: Granted, pace: Duration, now: Instant) {
        let Some(asked) = self.asked.take() else { return };
        let Granted { granted, left, next_in } = grant;
        self.stock = self.stock.saturating_add(signed(granted));
        self.left = Some(left);
        self.lease_ends = now + LEASE;
        if granted >= asked.want {
            self.dry_until = None;
            return;
        }
        // Others ask for the same: who asks as soon as there is something finds that it is gone.
        let parts = u32::try_from(asked.at_least).unwrap_or(u32::MAX);
        let worthwhile = pace.saturating_mul(parts).saturating_mul(4).min(LEASE * 3 / 4);
        self.more_at = now + next_in;
        self.dry_until = Some(now + next_in.max(worthwhile).min(DRY_AT_MOST));
    }

    /// The authority did not answer.
    pub fn on_lost(&mut self) {
        self.asked = None;
        self.dry_until = None;
    }

    /// What it holds is worth nothing any more, and what it owes is forgotten with its window.
    fn on_new_window(&mut self) {
        self.stock = 0;
        self.dry_until = None;
        self.left = None;
    }

    /// Whether an answer of the authority is awaited.
    pub const fn is_asking(&self) -> bool {
        self.asked.is_some()
    }

    /// What has to be given back because its lease is over, or booked with the authority because
    /// more was used than was granted: then it is negative.
    pub fn overdue(&mut self, now: Instant) -> Option<i64> {
        if self.stock == 0 || self.lease_ends > now || self.asked.is_some() {
            return None;
        }
        Some(std::mem::take(&mut self.stock))
    }

    /// What is there; below zero where more was used than was granted.
    pub const fn stock(&self) -> i64 {
        self.stock
    }

    #[expect(clippy::cast_sign_loss, reason = "demand is not negative")]
    fn chunk(&self, demand: Demand) -> u64 {
        let wanted = (demand.units_per_s * CHUNK_SECONDS) as u64;
        let request = demand.units_per_request() as u64;
        wanted.min(self.largest).max(request).max(1)
    }
}

// === impl Shared ===

impl Shared {
    /// A part of a common bucket that holds `burst` units.
    pub fn bucket(rate: Rate, burst: u64, now: Instant) -> Self {
        let own = Own::Bucket { rate, burst: burst.max(1), alone: None };
        Self { pool: Pool::new(burst, now), own }
    }

    /// A part of a common window. `window` counts what this node uses of it.
    pub fn window(window: Window, now: Instant) -> Self {
        let own = Own::Window { window, start_ms: 0 };
        Self { pool: Pool::new(window.limit(), now), own }
    }

    /// A part of common places.
    pub fn slots(limit: u64, now: Instant) -> Self {
        Self { pool: Pool::new(limit, now), own: Own::Slots(Slots::new(limit)) }
    }

    /// Takes over what was used of `before`, which had another limit.
    pub(super) fn take_over(&mut self, before: &Self) {
        let largest = match (&mut self.own, &before.own) {
            (Own::Bucket { burst, .. }, Own::Bucket { .. }) => *burst,
            (Own::Window { window, start_ms }, Own::Window { window: used, start_ms: of }) => {
                let limit = window.limit();
                (*window, *start_ms) = (*used, *of);
                window.set_limit(limit);
                limit
            }
            (Own::Slots(slots), Own::Slots(used)) => {
                let limit = slots.limit();
                *slots = *used;
                slots.set_limit(limit);
                limit
            }
            (Own::Bucket { .. } | Own::Window { .. } | Own::Slots(_), _) => return,
        };
        self.pool = before.pool;
        self.pool.set_burst(largest);
    }

    /// The node's part.
    pub const fn pool(&self) -> &Pool {
        &self.pool
    }

    /// What this node has used of a common window.
    pub fn window_mut(&mut self) -> Option<&mut Window> {
        match &mut self.own {
            Own::Window { window, .. } => Some(window),
            Own::Bucket { .. } | Own::Slots(_) => None,
        }
    }

    /// What the authority has to know.
    pub fn common(&self, moment: Moment) -> Common {
        match &self.own {
            Own::Bucket { rate, burst, .. } => Common::Bucket { rate: *rate, burst: *burst },
            Own::Window { window, .. } => {
                let (start_ms, end_ms) = window.span(moment.unix_ms);
                let (limit, used) = (window.limit(), window.spent(moment.unix_ms));
                Common::Window { limit, start_ms, end_ms, used }
            }
            Own::Slots(slots) => {
                let free = u64::try_from(self.pool.stock).unwrap_or_default();
                Common::Slots { limit: slots.limit(), held: slots.in_use().saturating_add(free) }
            }
        }
    }

    /// A request for `amount` was decided.
    pub(super) fn on_request(&mut self, amount: u64, now: Instant) {
        self.pool.on_request(amount, now);
    }

    /// As [`Pool::need`].
    pub fn need(&mut self, waiting: u64, joining: bool, moment: Moment) -> Option<Need> {
        self.roll(moment);
        self.pool.need(waiting, joining, moment.now)
    }

    /// As [`Pool::on_grant`], of one of `nodes`, for what was asked of `common`.
    pub fn on_grant(&mut self, grant: Granted, common: &Common, nodes: NonZeroU32, moment: Moment) {
        self.roll(moment);
        let pace = match &self.own {
            Own::Bucket { rate, .. } => rate.share(nodes.get()).time_for_units(1),
            Own::Window { .. } | Own::Slots(_) => Duration::ZERO,
        };
        let is_past = match (&self.own, common) {
            (Own::Window { start_ms, .. }, Common::Window { start_ms: of, .. }) => of != start_ms,
            (Own::Bucket { .. } | Own::Window { .. } | Own::Slots(_), _) => false,
        };
        if is_past {
            return self.pool.on_lost();
        }
        self.pool.on_grant(grant, pace, moment.now);
    }

    /// The authority did not answer.
    pub fn on_lost(&mut self) {
        self.pool.on_lost();
    }

    /// As [`Pool::overdue`]. Places are never owed: the authority is told how many are held.
    pub fn overdue(&mut self, moment: Moment) -> Option<i64> {
        self.roll(moment);
        let overdue = self.pool.overdue(moment.now)?;
        match &self.own {
            Own::Slots(_) if overdue < 0 => None,
            Own::Bucket { .. } | Own::Window { .. } | Own::Slots(_) => Some(overdue),
        }
    }

    /// Whether the authority need not hear of it before it is used again.
    pub fn is_quiet(&self) -> bool {
        let runs = matches!(&self.own, Own::Slots(slots) if slots.in_use() > 0);
        self.pool.stock == 0 && self.pool.asked.is_none() && !runs
    }

    pub(super) fn lacks(&self, amount: u64, moment: Moment) -> Option<Lack> {
        if let (Own::Window { window, .. }, None) = (&self.own, moment.alone_of)
            && amount > window.limit()
        {
            return Some(Lack::TooLarge);
        }
        let Some(nodes) = moment.alone_of else {
            // What is left of the last window is of no use in this one.
            return match self.is_past(moment) {
                true => Some(Lack::Unasked),
                false => self.pool.lacks(amount, moment.now),
            };
        };
        let part = |limit: u64| (limit / u64::from(nodes.get())).max(1);
        match &self.own {
            Own::Bucket { .. } => {
                self.alone(nodes, moment.now)?.wait(amount, moment.now).map(Lack::For)
            }
            Own::Window { window, .. } => {
                let mut mine = *window;
                mine.set_limit(part(window.limit()));
                Meter::Window(mine).lacks(amount, moment)
            }
            Own::Slots(slots) => {
                let mut mine = *slots;
                mine.set_limit(part(slots.limit()));
                Meter::Slots(mine).lacks(amount, moment)
            }
        }
    }

    pub(super) fn take(&mut self, amount: u64, moment: Moment) {
        self.roll(moment);
        match &mut self.own {
            Own::Window { window, .. } => window.reserve(amount, moment.unix_ms),
            Own::Slots(slots) => slots.take(amount),
            Own::Bucket { .. } => {}
        }
        self.add(signed(amount), moment);
    }

    pub(super) fn top_up(&mut self, amount: u64, since: Moment, moment: Moment) -> bool {
        match self.lacks(amount, moment) {
            Some(Lack::For(_) | Lack::TooLarge) => return false,
            // Nobody waits for a round trip in the middle of an answer: what is not there is owed.
            Some(Lack::Unasked) | None => {}
        }
        self.book(amount, since, moment);
        true
    }

    pub(super) fn book(&mut self, amount: u64, since: Moment, moment: Moment) {
        self.roll(moment);
        if let Own::Window { window, .. } = &mut self.own {
            window.book(amount, since.unix_ms, moment.unix_ms);
            if !window.is_of(since.unix_ms) {
                return;
            }
        }
        self.add(signed(amount), moment);
    }

    pub(super) fn settle(&mut self, taken: u64, actual: u64, since: Moment, moment: Moment) {
        self.roll(moment);
        match &mut self.own {
            Own::Window { window, .. } => {
                window.settle(taken, actual, since.unix_ms, moment.unix_ms);
                if !window.is_of(since.unix_ms) {
                    return;
                }
            }
            Own::Slots(slots) => slots.give_back(taken),
            Own::Bucket { .. } => {}
        }
        self.add(signed(actual).saturating_sub(signed(taken)), moment);
    }

    pub(super) fn standing(&self, moment: Moment) -> (u64, u64, Duration) {
        match (&self.own, moment.alone_of) {
            (Own::Window { window, .. }, _) => Meter::Window(*window).standing(moment),
            (Own::Slots(slots), _) => Meter::Slots(*slots).standing(moment),
            (Own::Bucket { rate, .. }, Some(nodes)) => {
                let alone = self.alone(nodes, moment.now).map(Meter::Bucket);
                let (_, left, reset) =
                    alone.map_or((0, 0, Duration::ZERO), |alone| alone.standing(moment));
                (rate.units(), left, reset)
            }
            (Own::Bucket { rate, burst, .. }, None) => {
                let stock = u64::try_from(self.pool.stock).unwrap_or_default();
                let left = self.pool.left.unwrap_or(*burst).saturating_add(stock).min(*burst);
                (rate.units(), left, rate.time_for_units(burst - left))
            }
        }
    }

    pub(super) fn is_unused(&self, moment: Moment) -> bool {
        let own = match &self.own {
            Own::Bucket { alone, .. } => alone.is_none_or(|alone| alone.is_rested(moment.now)),
            Own::Window { window, .. } => window.is_unused(moment.unix_ms),
            Own::Slots(slots) => slots.in_use() == 0,
        };
        own && self.pool.stock == 0 && self.pool.asked.is_none()
    }

    /// Uses an amount, or gives a negative one back: of the node's part, or of what it goes by
    /// while it is alone.
    fn add(&mut self, amount: i64, moment: Moment) {
        let Some(nodes) = moment.alone_of else {
            if let Own::Bucket { alone, .. } = &mut self.own {
                *alone = None;
            }
            self.pool.take(amount);
            return;
        };
        let bucket = self.alone(nodes, moment.now);
        let Own::Bucket { alone, .. } = &mut self.own else {
            // The authority will be told of it.
            self.pool.take(amount);
            return;
        };
        *alone = bucket;
        let Some(bucket) = alone else { return };
        match u64::try_from(amount) {
            Ok(amount) => bucket.take(amount, moment.now),
            Err(_negative) => bucket.give_back(amount.unsigned_abs(), moment.now),
        }
    }

    /// The bucket of a node that is alone of `nodes`: its part of rate and burst.
    fn alone(&self, nodes: NonZeroU32, now: Instant) -> Option<Bucket> {
        let Own::Bucket { rate, burst, alone } = &self.own else { return None };
        let (rate, burst) = (rate.share(nodes.get()), burst / u64::from(nodes.get()));
        let mut bucket = alone.unwrap_or_else(|| Bucket::new(rate, burst, now));
        bucket.set(rate, burst, now);
        Some(bucket)
    }

    /// Whether what it holds is of a window that has passed.
    fn is_past(&self, moment: Moment) -> bool {
        match &self.own {
            Own::Window { window, start_ms } => window.span(moment.unix_ms).0 != *start_ms,
            Own::Bucket { .. } | Own::Slots(_) => false,
        }
    }

    /// Lets go of what it holds of a window that has passed.
    fn roll(&mut self, moment: Moment) {
        let is_past = self.is_past(moment);
        let Own::Window { window, start_ms } = &mut self.own else { return };
        if is_past {
            *start_ms = window.span(moment.unix_ms).0;
            self.pool.on_new_window();
        }
    }
}

fn signed(amount: u64) -> i64 {
    i64::try_from(amount).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
