//! A meter of what several nodes share: the node's part, and what it goes by without the others.

use std::num::NonZeroU32;
use std::time::Duration;

use super::{Common, Granted, Need, Pool, signed};
use crate::clock::Instant;
use crate::quota::Moment;
use crate::quota::bucket::{Bucket, Rate};
use crate::quota::meter::{Lack, Meter};
use crate::quota::slots::Slots;
use crate::quota::window::{Threshold, Window};

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
    pub(in crate::quota) fn take_over(&mut self, before: &Self) {
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
    pub(in crate::quota) fn on_request(&mut self, amount: u64, now: Instant) {
        self.pool.on_request(amount, now);
    }

    /// As [`Pool::need`].
    pub fn need(&mut self, waiting: u64, joining: bool, moment: Moment) -> Option<Need> {
        self.roll(moment);
        self.pool.need(waiting, joining, moment.now)
    }

    /// As [`Pool::on_grant`], of one of `nodes`, for what was asked of `common`. Tells the threshold
    /// of a window that all nodes together have crossed.
    pub fn on_grant(
        &mut self,
        grant: Granted,
        common: &Common,
        nodes: NonZeroU32,
        moment: Moment,
    ) -> Option<Threshold> {
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
            self.pool.on_lost();
            return None;
        }
        self.pool.on_grant(grant, pace, moment.now);
        let Own::Window { window, .. } = &mut self.own else { return None };
        let held = u64::try_from(self.pool.stock).unwrap_or_default();
        let used = window.limit().saturating_sub(grant.left).saturating_sub(held);
        window.reached(used, moment.unix_ms)
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

    pub(in crate::quota) fn lacks(&self, amount: u64, moment: Moment) -> Option<Lack> {
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

    pub(in crate::quota) fn take(&mut self, amount: u64, moment: Moment) {
        self.roll(moment);
        match &mut self.own {
            Own::Window { window, .. } => window.reserve(amount, moment.unix_ms),
            Own::Slots(slots) => slots.take(amount),
            Own::Bucket { .. } => {}
        }
        self.add(signed(amount), moment);
    }

    pub(in crate::quota) fn top_up(&mut self, amount: u64, since: Moment, moment: Moment) -> bool {
        match self.lacks(amount, moment) {
            Some(Lack::For(_) | Lack::TooLarge) => return false,
            // Nobody waits for a round trip in the middle of an answer: what is not there is owed.
            Some(Lack::Unasked) | None => {}
        }
        self.book(amount, since, moment);
        true
    }

    pub(in crate::quota) fn book(&mut self, amount: u64, since: Moment, moment: Moment) {
        self.roll(moment);
        if let Own::Window { window, .. } = &mut self.own {
            window.book(amount, since.unix_ms, moment.unix_ms);
            if !window.is_of(since.unix_ms) {
                return;
            }
        }
        self.add(signed(amount), moment);
    }

    pub(in crate::quota) fn settle(
        &mut self,
        taken: u64,
        actual: u64,
        since: Moment,
        moment: Moment,
    ) {
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

    pub(in crate::quota) fn standing(&self, moment: Moment) -> (u64, u64, Duration) {
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

    pub(in crate::quota) fn is_unused(&self, moment: Moment) -> bool {
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
