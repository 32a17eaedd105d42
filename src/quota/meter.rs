//! One dimension of one allowance, whatever it is kept by.

use std::time::Duration;

use super::Moment;
use super::bucket::Bucket;
use super::pool::Shared;
use super::slots::Slots;
use super::window::{Full, Threshold, Window};

/// When to ask again where nobody can tell: others hold what is wanted, and may give it back.
const HELD_BY_OTHERS: Duration = Duration::from_secs(1);

/// What one dimension is kept by.
#[derive(Debug, Clone)]
pub enum Meter {
    /// It flows.
    Bucket(Bucket),
    /// It begins anew.
    Window(Window),
    /// It is given back.
    Slots(Slots),
    /// Other nodes use it, too.
    Shared(Box<Shared>),
}

/// Why an amount cannot be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lack {
    /// It is not there now.
    For(Duration),
    /// It is more than there ever is.
    TooLarge,
    /// Nobody knows before the other nodes' part is asked for.
    Unasked,
    /// Nobody knows before so much time has passed: the authority has lost its memory, and nodes
    /// tell it what they have used.
    Unsettled(Duration),
}

// === impl Meter ===

impl Meter {
    /// Why `amount` cannot be taken; `None` where it can.
    pub fn lacks(&self, amount: u64, moment: Moment) -> Option<Lack> {
        match self {
            Self::Bucket(bucket) => bucket.wait(amount, moment.now).map(Lack::For),
            Self::Window(window) => Some(match window.lacks(amount, moment.unix_ms)? {
                Full::Spent { wait } => Lack::For(wait),
                Full::Reserved => Lack::For(window.ends_in(moment.unix_ms).min(HELD_BY_OTHERS)),
                Full::TooLarge => Lack::TooLarge,
            }),
            Self::Slots(slots) => (!slots.has_room(amount)).then_some(Lack::For(HELD_BY_OTHERS)),
            Self::Shared(shared) => shared.lacks(amount, moment),
        }
    }

    /// A request for `amount` was decided, one way or the other.
    pub fn on_request(&mut self, amount: u64, moment: Moment) {
        match self {
            Self::Shared(shared) => shared.on_request(amount, moment.now),
            Self::Bucket(_) | Self::Window(_) | Self::Slots(_) => {}
        }
    }

    /// Takes `amount`, whether or not it is there: see [`Self::lacks`] before.
    pub fn take(&mut self, amount: u64, moment: Moment) {
        match self {
            Self::Bucket(bucket) => bucket.take(amount, moment.now),
            Self::Window(window) => window.reserve(amount, moment.unix_ms),
            Self::Slots(slots) => slots.take(amount),
            Self::Shared(shared) => shared.take(amount, moment),
        }
    }

    /// Takes `amount` more for what was admitted at `since`, as far as the limit lets a running
    /// answer go. Whether it was taken.
    pub fn top_up(&mut self, amount: u64, since: Moment, moment: Moment) -> bool {
        match self {
            Self::Bucket(bucket) => bucket.top_up(amount, moment.now),
            Self::Window(window) => window.top_up(amount, since.unix_ms, moment.unix_ms),
            Self::Slots(_) => true,
            Self::Shared(shared) => shared.top_up(amount, since, moment),
        }
    }

    /// Takes `amount` more for what was admitted at `since`, whether or not it is there.
    pub fn book(&mut self, amount: u64, since: Moment, moment: Moment) {
        match self {
            Self::Bucket(bucket) => bucket.take(amount, moment.now),
            Self::Window(window) => window.book(amount, since.unix_ms, moment.unix_ms),
            Self::Slots(_) => {}
            Self::Shared(shared) => shared.book(amount, since, moment),
        }
    }

    /// Puts `actual` in the place of what was `taken` since `since`. Slots are given back whole.
    pub fn settle(&mut self, taken: u64, actual: u64, since: Moment, moment: Moment) {
        match self {
            Self::Bucket(bucket) => bucket.settle(taken, actual, moment.now),
            Self::Window(window) => {
                window.settle(taken, actual, since.unix_ms, moment.unix_ms);
            }
            Self::Slots(slots) => slots.give_back(taken),
            Self::Shared(shared) => shared.settle(taken, actual, since, moment),
        }
    }

    /// Takes over what was used of `before`, which had another limit. Where that was another kind
    /// of meter, nothing is taken over.
    pub fn take_over(&mut self, before: &Self, moment: Moment) {
        match (self, before) {
            (Self::Bucket(bucket), Self::Bucket(before)) => {
                let mut kept = *before;
                kept.set(bucket.rate(), bucket.burst(), moment.now);
                *bucket = kept;
            }
            (Self::Window(window), Self::Window(before)) => {
                let limit = window.limit();
                *window = *before;
                window.set_limit(limit);
            }
            (Self::Slots(slots), Self::Slots(before)) => {
                let limit = slots.limit();
                *slots = *before;
                slots.set_limit(limit);
            }
            (Self::Shared(shared), Self::Shared(before)) => shared.take_over(before),
            (Self::Bucket(_) | Self::Window(_) | Self::Slots(_) | Self::Shared(_), _) => {}
        }
    }

    /// The window that counts what was used, where there is one.
    pub fn window_mut(&mut self) -> Option<&mut Window> {
        match self {
            Self::Window(window) => Some(window),
            Self::Shared(shared) => shared.window_mut(),
            Self::Bucket(_) | Self::Slots(_) => None,
        }
    }

    /// Counts what was used before `before_ms` of a window that was open at `at_ms`. `is_news`: the
    /// limit came in while the process ran.
    pub fn add_earlier(
        &mut self,
        amount: u64,
        (before_ms, at_ms): (u64, u64),
        is_news: bool,
        moment: Moment,
    ) {
        match self {
            Self::Window(window) => window.add_earlier(amount, before_ms, at_ms, moment.unix_ms),
            Self::Shared(shared) => shared.add_earlier(amount, (before_ms, at_ms), is_news, moment),
            Self::Bucket(_) | Self::Slots(_) => {}
        }
    }

    /// The threshold of a window that has been crossed since this was last asked, if one has.
    pub fn crossed(&mut self, moment: Moment) -> Option<Threshold> {
        match self {
            Self::Window(window) => window.crossed(moment.unix_ms),
            Self::Shared(shared) => shared.crossed(moment),
            Self::Bucket(_) | Self::Slots(_) => None,
        }
    }

    /// A request for `amount` did not fit. Yields the last threshold where that is news and means
    /// that a window is used up: four fifths of it are, and what is left is too little. A large
    /// request that finds half of it used, or all of it reserved by others, tells nothing.
    pub fn exhausted(&mut self, amount: u64, moment: Moment) -> Option<Threshold> {
        match self {
            Self::Window(window) => {
                let is_spent =
                    matches!(window.lacks(amount, moment.unix_ms), Some(Full::Spent { .. }));
                let most = Threshold::of(window.spent(moment.unix_ms), window.limit());
                let is_nearly_all = is_spent && most >= Some(Threshold::Most);
                is_nearly_all.then(|| window.exhausted(moment.unix_ms))?
            }
            Self::Shared(shared) => shared.exhausted(moment),
            Self::Bucket(_) | Self::Slots(_) => None,
        }
    }

    /// The limit, what may be taken of it now, and how long until no more can be had by waiting.
    /// What flows has no more there than its burst: who takes what is there and then waits is not
    /// refused.
    pub fn standing(&self, moment: Moment) -> (u64, u64, Duration) {
        match self {
            Self::Bucket(bucket) => {
                let left = u64::try_from(bucket.level(moment.now)).unwrap_or_default();
                (bucket.rate().units(), left, bucket.full_in(moment.now))
            }
            Self::Window(window) => {
                let unix_ms = moment.unix_ms;
                (window.limit(), window.remaining(unix_ms), window.ends_in(unix_ms))
            }
            Self::Slots(slots) => (slots.limit(), slots.free(), Duration::ZERO),
            Self::Shared(shared) => shared.standing(moment),
        }
    }

    /// Whether it is as a new one would be, so that nothing is lost with it.
    pub fn is_unused(&self, moment: Moment) -> bool {
        match self {
            Self::Bucket(bucket) => bucket.is_rested(moment.now),
            Self::Window(window) => window.is_unused(moment.unix_ms),
            Self::Slots(slots) => slots.in_use() == 0,
            Self::Shared(shared) => shared.is_unused(moment),
        }
    }
}
