//! A meter of what several nodes share: the node's part, and what it goes by without the others.

use std::num::NonZeroU32;
use std::time::Duration;

use super::part::Part;
use super::{Common, Granted, Need, Pool, Tell, When, signed};
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
    /// What the authority knows that this node holds, of a window or of places; `None` where that
    /// is in doubt.
    told: Option<u64>,
    /// Whether the authority has lost its memory while something was on the way to it.
    is_forgotten: bool,
}

/// What a node goes by itself.
#[derive(Debug, Clone)]
enum Own {
    /// A bucket that is there only while the authority is lost.
    Bucket { rate: Rate, burst: u64, alone: Option<Bucket> },
    /// What the node has used, at all times.
    Window(Part),
    /// What runs on the node.
    Slots(Slots),
}

// === impl Shared ===

impl Shared {
    /// A part of a common bucket that holds `burst` units.
    pub fn bucket(rate: Rate, burst: u64, now: Instant) -> Self {
        let own = Own::Bucket { rate, burst: burst.max(1), alone: None };
        Self::new(Pool::new(burst, now), own)
    }

    /// A part of a common window. `window` counts what this node uses of it.
    pub fn window(window: Window, now: Instant) -> Self {
        Self::new(Pool::new(window.limit(), now), Own::Window(Part::new(window)))
    }

    /// A part of common places.
    pub fn slots(limit: u64, now: Instant) -> Self {
        Self::new(Pool::new(limit, now), Own::Slots(Slots::new(limit)))
    }

    fn new(pool: Pool, own: Own) -> Self {
        Self { pool, own, told: Some(0), is_forgotten: false }
    }

    /// Takes over what was used of `before`, which had another limit.
    pub(in crate::quota) fn take_over(&mut self, before: &Self) {
        let largest = match (&mut self.own, &before.own) {
            (Own::Bucket { burst, .. }, Own::Bucket { .. }) => *burst,
            (Own::Window(part), Own::Window(used)) => {
                part.take_over(used);
                part.window.limit()
            }
            (Own::Slots(slots), Own::Slots(used)) => {
                let limit = slots.limit();
                *slots = *used;
                slots.set_limit(limit);
                limit
            }
            (Own::Bucket { .. } | Own::Window(_) | Own::Slots(_), _) => return,
        };
        (self.pool, self.told) = (before.pool, before.told);
        self.is_forgotten = before.is_forgotten;
        self.pool.set_burst(largest);
    }

    /// The node's part.
    pub const fn pool(&self) -> &Pool {
        &self.pool
    }

    /// What this node has used of a common window.
    pub fn window_mut(&mut self) -> Option<&mut Window> {
        match &mut self.own {
            Own::Window(part) => Some(&mut part.window),
            Own::Bucket { .. } | Own::Slots(_) => None,
        }
    }

    /// Counts what all nodes used before `before_ms` of a window that was open at `at_ms`.
    /// `is_news`: the limit came in while the process ran.
    pub fn add_earlier(&mut self, amount: u64, times: (u64, u64), is_news: bool, moment: Moment) {
        self.roll(moment);
        if let Own::Window(part) = &mut self.own {
            part.add_earlier(amount, times, is_news, moment.unix_ms);
        }
    }

    /// The threshold that all nodes together have crossed, if that is new.
    pub fn crossed(&mut self, moment: Moment) -> Option<Threshold> {
        self.roll(moment);
        let Own::Window(part) = &mut self.own else { return None };
        let used = part.used_by_all(moment.unix_ms);
        part.window.reached(used, moment.unix_ms)
    }

    /// A request did not fit. Yields the threshold where that means that all is used up, if it is
    /// new.
    pub(in crate::quota) fn exhausted(&mut self, moment: Moment) -> Option<Threshold> {
        self.roll(moment);
        let Own::Window(part) = &mut self.own else { return None };
        let most = Threshold::of(part.used_by_all(moment.unix_ms), part.window.limit());
        let is_nearly_all = most >= Some(Threshold::Most);
        is_nearly_all.then(|| part.window.exhausted(moment.unix_ms))?
    }

    /// What the authority has to know.
    pub fn common(&self, moment: Moment) -> Common {
        match &self.own {
            Own::Bucket { rate, burst, .. } => {
                let most = self.pool.left.map_or(*burst, |(left, at)| {
                    let since = moment.now.saturating_duration_since(at);
                    left.saturating_add(rate.units_in(since)).min(*burst)
                });
                Common::Bucket { rate: *rate, burst: *burst, most }
            }
            Own::Window(part) => part.common(self.pool.stock, moment.unix_ms),
            Own::Slots(slots) => Common::Slots { limit: slots.limit(), held: self.held(moment) },
        }
    }

    /// A request for `amount` was decided.
    pub(in crate::quota) fn on_request(&mut self, amount: u64, now: Instant) {
        self.pool.on_request(amount, now);
    }

    /// As [`Pool::on_missed`].
    pub fn on_missed(&mut self, amount: u64) {
        self.pool.on_missed(amount);
    }

    /// As [`Pool::need`].
    pub fn need(&mut self, waiting: u64, joining: bool, moment: Moment) -> Option<Need> {
        self.roll(moment);
        match &self.own {
            Own::Bucket { .. } => {}
            // Held as a whole is told what was used without having been granted.
            Own::Window(_) | Own::Slots(_) => self.pool.stock = self.pool.stock.max(0),
        }
        if self.alone_of(moment).is_some() {
            return None;
        }
        self.pool.need(waiting, joining, moment.now)
    }

    /// As [`Pool::on_grant`], of one of `nodes`, for what was asked of `common`. Tells the
    /// threshold of a window that all nodes together have crossed.
    pub fn on_grant(
        &mut self,
        grant: Granted,
        common: &Common,
        nodes: NonZeroU32,
        moment: Moment,
    ) -> Option<Threshold> {
        self.roll(moment);
        if matches!(&self.own, Own::Window(part) if part.is_another(common)) {
            self.pool.on_lost(true);
            return None;
        }
        let pace = match &self.own {
            Own::Bucket { rate, .. } => rate.share(nodes.get()).time_for_units(1),
            Own::Window(_) | Own::Slots(_) => Duration::ZERO,
        };
        self.pool.on_grant(grant, pace, moment.now);
        self.told = match common {
            Common::Bucket { .. } => None,
            Common::Window { held, .. } | Common::Slots { held, .. } => {
                Some(held.saturating_add(grant.granted))
            }
        };
        if std::mem::take(&mut self.is_forgotten) {
            self.told = None;
        }
        let (Own::Window(part), Common::Window { limit, held, .. }) = (&mut self.own, common)
        else {
            return None;
        };
        match grant.is_unsettled {
            // What it says now is less than what was known before.
            true => part.on_unsettled(moment.now + grant.next_in, nodes),
            false => part.on_answer(*held, grant.granted, limit.saturating_sub(grant.left)),
        }
        self.crossed(moment)
    }

    /// The authority did not answer, and may have heard the question or not.
    pub fn on_lost(&mut self, may_have_heard: bool) {
        self.pool.on_lost(may_have_heard);
        self.told = None;
    }

    /// The authority has lost its memory.
    pub fn on_forgotten(&mut self) {
        self.told = None;
        self.is_forgotten = self.pool.is_asking();
    }

    /// What the authority has to be told; taken as told from now on.
    pub fn tell(&mut self, when: When, moment: Moment) -> Option<Tell> {
        self.roll(moment);
        let at_once = when == When::Now;
        if matches!(self.own, Own::Bucket { .. }) {
            let overdue = self.pool.overdue(at_once, moment.now)?;
            let amount = overdue.unsigned_abs();
            return Some(if overdue > 0 { Tell::Return(amount) } else { Tell::Book(amount) });
        }
        if self.pool.is_asking() {
            return None;
        }
        let is_over = at_once || self.pool.is_lease_over(moment.now);
        if is_over {
            self.pool.stock = 0;
        }
        let held = self.held(moment);
        let renews = when == When::Renewing && matches!(self.own, Own::Slots(_)) && held > 0;
        let is_news = self.told.is_none_or(|told| is_over && told != held);
        (is_news || renews).then(|| {
            self.pool.on_telling();
            Tell::Held(held)
        })
    }

    /// Whether the authority need not hear of it before it is used again.
    pub fn is_quiet(&self, moment: Moment) -> bool {
        let is_told = match &self.own {
            Own::Bucket { .. } => true,
            Own::Window(part) => {
                part.is_past(moment.unix_ms) || self.told == Some(self.held(moment))
            }
            Own::Slots(slots) => slots.in_use() == 0 && self.told == Some(self.held(moment)),
        };
        self.pool.stock == 0 && self.pool.asked.is_none() && is_told
    }

    /// Whether this node knows of anything that an authority without a memory has to be told.
    pub fn has_history(&self, moment: Moment) -> bool {
        match &self.own {
            Own::Bucket { .. } => false,
            Own::Window(part) => {
                !part.is_past(moment.unix_ms)
                    && (self.held(moment) > 0 || !part.is_unused(moment.unix_ms))
            }
            Own::Slots(_) => self.held(moment) > 0,
        }
    }

    pub(in crate::quota) fn lacks(&self, amount: u64, moment: Moment) -> Option<Lack> {
        let alone_of = self.alone_of(moment);
        if let (Own::Window(part), None) = (&self.own, alone_of)
            && amount > part.window.limit()
        {
            return Some(Lack::TooLarge);
        }
        let Some(nodes) = alone_of else {
            // What is left of the last window is of no use in this one.
            return match self.is_past(moment) {
                true => Some(Lack::Unasked),
                false => self.pool.lacks(amount, moment.now),
            };
        };
        match &self.own {
            Own::Bucket { .. } => {
                self.alone(nodes, moment.now)?.wait(amount, moment.now).map(Lack::For)
            }
            Own::Window(part) => {
                let mut now = *part;
                now.roll(moment.unix_ms);
                now.lacks_alone(amount, nodes, moment)
            }
            Own::Slots(slots) => {
                let mut mine = *slots;
                mine.set_limit((slots.limit() / u64::from(nodes.get())).max(1));
                Meter::Slots(mine).lacks(amount, moment)
            }
        }
    }

    pub(in crate::quota) fn take(&mut self, amount: u64, moment: Moment) {
        self.roll(moment);
        match &mut self.own {
            Own::Window(part) => part.window.reserve(amount, moment.unix_ms),
            Own::Slots(slots) => slots.take(amount),
            Own::Bucket { .. } => {}
        }
        self.add(signed(amount), moment);
    }

    pub(in crate::quota) fn top_up(&mut self, amount: u64, since: Moment, moment: Moment) -> bool {
        match self.lacks(amount, moment) {
            Some(Lack::For(_) | Lack::TooLarge | Lack::Unsettled(_)) => return false,
            // Nobody waits for a round trip in the middle of an answer: what is not there is owed.
            Some(Lack::Unasked) | None => {}
        }
        self.book(amount, since, moment);
        true
    }

    pub(in crate::quota) fn book(&mut self, amount: u64, since: Moment, moment: Moment) {
        self.roll(moment);
        if let Own::Window(part) = &mut self.own {
            part.window.book(amount, since.unix_ms, moment.unix_ms);
            if !part.window.is_of(since.unix_ms) {
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
            Own::Window(part) => {
                part.window.settle(taken, actual, since.unix_ms, moment.unix_ms);
                if !part.window.is_of(since.unix_ms) {
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
            (Own::Window(part), _) => {
                let mut now = *part;
                now.roll(moment.unix_ms);
                let limit = part.window.limit();
                let left = limit.saturating_sub(now.used_by_all(moment.unix_ms));
                (limit, left, part.window.ends_in(moment.unix_ms))
            }
            (Own::Slots(slots), _) => Meter::Slots(*slots).standing(moment),
            (Own::Bucket { rate, .. }, Some(nodes)) => {
                let alone = self.alone(nodes, moment.now).map(Meter::Bucket);
                let (_, left, reset) =
                    alone.map_or((0, 0, Duration::ZERO), |alone| alone.standing(moment));
                (rate.units(), left, reset)
            }
            (Own::Bucket { rate, burst, .. }, None) => {
                let stock = u64::try_from(self.pool.stock).unwrap_or_default();
                let left = self.pool.left.map_or(*burst, |(left, _)| left);
                let left = left.saturating_add(stock).min(*burst);
                (rate.units(), left, rate.time_for_units(burst - left))
            }
        }
    }

    pub(in crate::quota) fn is_unused(&self, moment: Moment) -> bool {
        let own = match &self.own {
            Own::Bucket { alone, .. } => alone.is_none_or(|alone| alone.is_rested(moment.now)),
            Own::Window(part) => part.is_unused(moment.unix_ms),
            Own::Slots(slots) => slots.in_use() == 0,
        };
        own && self.pool.stock == 0 && self.pool.asked.is_none()
    }

    /// What this node holds, of a window or of places.
    fn held(&self, moment: Moment) -> u64 {
        match &self.own {
            Own::Bucket { .. } => 0,
            Own::Window(part) => part.held(self.pool.stock, moment.unix_ms),
            Own::Slots(slots) => {
                let free = u64::try_from(self.pool.stock).unwrap_or_default();
                slots.in_use().saturating_add(free)
            }
        }
    }

    /// How many nodes there are while this one goes by its part.
    fn alone_of(&self, moment: Moment) -> Option<NonZeroU32> {
        match &self.own {
            Own::Window(part) => part.alone_of(moment),
            Own::Bucket { .. } | Own::Slots(_) => moment.alone_of,
        }
    }

    /// Uses an amount, or gives a negative one back: of the node's part, or of what it goes by
    /// while it is alone.
    fn add(&mut self, amount: i64, moment: Moment) {
        // What was used alone stays used: who is alone again soon begins with what was left then.
        let Some(nodes) = moment.alone_of else {
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
        matches!(&self.own, Own::Window(part) if part.is_past(moment.unix_ms))
    }

    /// Lets go of what it holds of a window that has passed.
    fn roll(&mut self, moment: Moment) {
        let Own::Window(part) = &mut self.own else { return };
        if part.roll(moment.unix_ms) {
            self.pool.on_new_window();
            self.told = Some(0);
        }
    }
}
