//! Calendar windows: so much a minute, an hour, a day or a month, in UTC.
//!
//! `spent + reserved <= limit` at all times but for what turns out to be more than was reserved:
//! such an excess is booked, and the window then admits nothing. A request belongs to the window in
//! which it was admitted, however long it runs: what ends after the window has passed changes
//! nothing in the next.

use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

/// How long a window is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Period {
    /// From second 0 to second 0.
    Minute,
    /// From minute 0 to minute 0.
    Hour,
    /// From midnight to midnight.
    Day,
    /// From the first to the first.
    Month,
}

/// A part of a limit that is worth telling the operator about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Threshold {
    /// Half.
    Half,
    /// Four fifths.
    Most,
    /// All of it, or so much that a request did not fit.
    All,
}

/// Why something does not fit into a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// What was spent leaves no room until the next window.
    Spent {
        /// How long until that begins.
        wait: Duration,
    },
    /// Others have reserved it, and may not need all of it.
    Reserved,
    /// It is more than the whole limit.
    TooLarge,
}

/// What may be used in a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    period: Period,
    limit: u64,
    start_ms: u64,
    end_ms: u64,
    /// From when on it has counted all that was used.
    since_ms: u64,
    spent: u64,
    reserved: u64,
    /// The highest threshold that was told of in this window.
    told: Option<Threshold>,
}

// === impl Period ===

impl Period {
    /// All of them, shortest first.
    pub const ALL: [Self; 4] = [Self::Minute, Self::Hour, Self::Day, Self::Month];

    /// The word for names of limits.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Month => "month",
        }
    }

    /// The window that holds a time: its first millisecond since 1970, and the first after it.
    pub fn around(self, unix_ms: u64) -> (u64, u64) {
        let length = match self {
            Self::Minute => 60_000,
            Self::Hour => 3_600_000,
            Self::Day => 86_400_000,
            Self::Month => return month_around(unix_ms),
        };
        let start = unix_ms - unix_ms % length;
        (start, start.saturating_add(length))
    }
}

/// The calendar month that holds a time. Times that no calendar has are a month of their own.
fn month_around(unix_ms: u64) -> (u64, u64) {
    let month = || {
        let time = Timestamp::from_millisecond(i64::try_from(unix_ms).ok()?).ok()?;
        let first = time.to_zoned(TimeZone::UTC).first_of_month().ok()?.start_of_day().ok()?;
        let next = first.checked_add(1.month()).ok()?;
        let ms = |time: Timestamp| u64::try_from(time.as_millisecond()).ok();
        Some((ms(first.timestamp())?, ms(next.timestamp())?))
    };
    month().unwrap_or((unix_ms, u64::MAX))
}

// === impl Threshold ===

impl Threshold {
    /// The part, in hundredths.
    pub const fn percent(self) -> u8 {
        match self {
            Self::Half => 50,
            Self::Most => 80,
            Self::All => 100,
        }
    }

    /// The highest that `used` of `limit` has reached.
    pub fn of(used: u64, limit: u64) -> Option<Self> {
        let used = u128::from(used) * 100;
        [Self::All, Self::Most, Self::Half]
            .into_iter()
            .find(|threshold| used >= u128::from(limit) * u128::from(threshold.percent()))
    }
}

// === impl Window ===

impl Window {
    /// An unused window around a time in milliseconds since 1970.
    pub fn new(period: Period, limit: u64, unix_ms: u64) -> Self {
        let (start_ms, end_ms) = period.around(unix_ms);
        let since_ms = unix_ms;
        Self { period, limit, start_ms, end_ms, since_ms, spent: 0, reserved: 0, told: None }
    }

    /// Changes the limit; what was used stays used.
    pub fn set_limit(&mut self, limit: u64) {
        self.limit = limit;
    }

    /// Why `amount` does not fit; `None` where it does.
    pub fn lacks(&self, amount: u64, unix_ms: u64) -> Option<Full> {
        let then = self.rolled(unix_ms);
        let room = then.limit.saturating_sub(then.spent);
        if amount > then.limit {
            return Some(Full::TooLarge);
        }
        if amount > room || room == 0 {
            let wait = Duration::from_millis(then.end_ms.saturating_sub(unix_ms).max(1));
            return Some(Full::Spent { wait });
        }
        (amount > room.saturating_sub(then.reserved)).then_some(Full::Reserved)
    }

    /// Reserves `amount`, whether or not it fits: see [`Self::lacks`] before.
    pub fn reserve(&mut self, amount: u64, unix_ms: u64) {
        *self = self.rolled(unix_ms);
        self.reserved = self.reserved.saturating_add(amount);
    }

    /// Reserves `amount` more for something that was admitted at `since_ms`; nothing where it does
    /// not fit. Whether it was reserved.
    pub fn top_up(&mut self, amount: u64, since_ms: u64, unix_ms: u64) -> bool {
        *self = self.rolled(unix_ms);
        if !self.is_of(since_ms) {
            return true;
        }
        let fits = self.lacks(amount, unix_ms).is_none();
        if fits {
            self.reserved = self.reserved.saturating_add(amount);
        }
        fits
    }

    /// Reserves `amount` more for something that was admitted at `since_ms`, whether or not it
    /// fits.
    pub fn book(&mut self, amount: u64, since_ms: u64, unix_ms: u64) {
        *self = self.rolled(unix_ms);
        if self.is_of(since_ms) {
            self.reserved = self.reserved.saturating_add(amount);
        }
    }

    /// Ends what was admitted at `since_ms` and had `reserved`: it used `actual`.
    pub fn settle(&mut self, reserved: u64, actual: u64, since_ms: u64, unix_ms: u64) {
        *self = self.rolled(unix_ms);
        if self.is_of(since_ms) {
            self.reserved = self.reserved.saturating_sub(reserved);
            self.spent = self.spent.saturating_add(actual);
        }
    }

    /// Counts what requests that started before `before_ms` are known to have spent of the window
    /// that was open at `at_ms`. A window that has counted for longer than that knows of some of
    /// them: then what is more of the two holds, so that nothing is counted twice.
    pub fn add_earlier(&mut self, amount: u64, before_ms: u64, at_ms: u64, unix_ms: u64) {
        match self.note_earlier(before_ms, at_ms, unix_ms) {
            Some(true) => self.spent = self.spent.saturating_add(amount),
            Some(false) => self.spent = self.spent.max(amount),
            None => {}
        }
    }

    /// Notes that what was used before `before_ms` is known from now on, of the window that was
    /// open at `at_ms`. Whether all that this one counts came after that; `None` where it is
    /// another window.
    pub(super) fn note_earlier(
        &mut self,
        before_ms: u64,
        at_ms: u64,
        unix_ms: u64,
    ) -> Option<bool> {
        *self = self.rolled(unix_ms);
        let is_all_after = self.since_ms >= before_ms;
        if !self.is_of(at_ms) {
            return None;
        }
        self.since_ms = self.start_ms;
        Some(is_all_after)
    }

    /// The threshold that has been crossed since this was last asked, if one has.
    pub fn crossed(&mut self, unix_ms: u64) -> Option<Threshold> {
        self.reached(self.rolled(unix_ms).spent, unix_ms)
    }

    /// As [`Self::crossed`], where so much is known to be used by all who share it.
    pub fn reached(&mut self, used: u64, unix_ms: u64) -> Option<Threshold> {
        *self = self.rolled(unix_ms);
        let reached = Threshold::of(used, self.limit);
        if reached <= self.told {
            return None;
        }
        self.told = reached;
        reached
    }

    /// A request did not fit: all of the limit is used, as far as anybody can tell. Yields the
    /// threshold if that is new.
    pub fn exhausted(&mut self, unix_ms: u64) -> Option<Threshold> {
        *self = self.rolled(unix_ms);
        let is_new = self.told != Some(Threshold::All);
        self.told = Some(Threshold::All);
        is_new.then_some(Threshold::All)
    }

    /// When the current window began and when it ends, in milliseconds since 1970.
    pub fn span(&self, unix_ms: u64) -> (u64, u64) {
        let then = self.rolled(unix_ms);
        (then.start_ms, then.end_ms)
    }

    /// What was used in the current window, without what is reserved.
    pub fn spent(&self, unix_ms: u64) -> u64 {
        self.rolled(unix_ms).spent
    }

    /// What was used in the current window, and what is reserved.
    pub fn in_use(&self, unix_ms: u64) -> u64 {
        let then = self.rolled(unix_ms);
        then.spent.saturating_add(then.reserved)
    }

    /// What is neither used nor reserved.
    pub fn remaining(&self, unix_ms: u64) -> u64 {
        let then = self.rolled(unix_ms);
        then.limit.saturating_sub(then.spent).saturating_sub(then.reserved)
    }

    /// The most that may be used.
    pub const fn limit(&self) -> u64 {
        self.limit
    }

    /// How long it is.
    pub const fn period(&self) -> Period {
        self.period
    }

    /// How long until the next one begins.
    pub fn ends_in(&self, unix_ms: u64) -> Duration {
        Duration::from_millis(self.rolled(unix_ms).end_ms.saturating_sub(unix_ms))
    }

    /// Whether it is as a new one would be.
    pub fn is_unused(&self, unix_ms: u64) -> bool {
        let then = self.rolled(unix_ms);
        then.spent == 0 && then.reserved == 0
    }

    /// Whether something that was admitted at `since_ms` belongs to this window.
    pub(super) const fn is_of(&self, since_ms: u64) -> bool {
        since_ms >= self.start_ms
    }

    fn rolled(&self, unix_ms: u64) -> Self {
        if unix_ms < self.end_ms {
            return *self;
        }
        let next = Self::new(self.period, self.limit, unix_ms);
        Self { since_ms: next.start_ms, ..next }
    }
}

#[cfg(test)]
mod tests;
