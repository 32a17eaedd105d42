//! A token bucket that goes into debt, in whole numbers.
//!
//! # Rules
//!
//! - The level is at most the burst `B` and comes back at the rate `r`.
//! - An amount is taken where `level >= min(amount, B)`: more than a burst needs a full bucket, so
//!   that a big prompt does not wait for ever, and leaves a debt.
//! - What turns out to be more than was taken is booked in full. **Debt is never forgiven**: the
//!   level falls as far as it must, and nothing is taken until the refill has made up for it. The
//!   floor `-B` is where [`Bucket::top_up`] ends: a running answer gets no further than that.
//! - **A burst is an advance.** What was given at once to somebody who had rested is not given
//!   again: taking from a full bucket stops the refill for as long as the bucket had been full, at
//!   most for the time in which `B` less one unit comes back. So a cold start admits `B` at once
//!   and `r·t` in the first `t` seconds (`t >= B/r`), never `B + r·t`. A bucket that is only just
//!   full gives no advance: nothing of its refill was lost.
//!
//! # Arithmetic
//!
//! Levels are `i64` in millionths of a unit. The refill carries its remainder, so no time is lost
//! however often it is asked for, and waits are exact to the nanosecond.

use std::time::Duration;

use crate::clock::Instant;

/// Millionths in a unit.
const MICRO: i64 = 1_000_000;

/// The largest amount and the largest limit, in units. Larger ones count as this; it keeps all
/// products below 2^127.
pub const MAX_UNITS: u64 = 1_000_000_000_000;

/// What comes back in which time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    units: u64,
    period_ns: u64,
}

/// A token bucket that goes into debt; see the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bucket {
    rate: Rate,
    /// In millionths of a unit, as is `level`.
    burst: i64,
    level: i64,
    /// Up to when the refill is counted. Of a full bucket: since when it is full. Later than now
    /// while an advance is paid back.
    at: Instant,
    /// What the refill had over at `at`, in parts of a millionth: `period_ns` of them make one.
    carry: u64,
}

// === impl Rate ===

impl Rate {
    /// So many units (1 to [`MAX_UNITS`]) in each `period` (1 ns to 31 days; clamped).
    pub fn new(units: u64, period: Duration) -> Self {
        const LONGEST_NS: u128 = 31 * 86_400 * 1_000_000_000;
        let period_ns = period.as_nanos().clamp(1, LONGEST_NS);
        Self {
            units: units.clamp(1, MAX_UNITS),
            period_ns: u64::try_from(period_ns).unwrap_or(u64::MAX),
        }
    }

    /// So many units a minute.
    pub fn per_minute(units: u64) -> Self {
        Self::new(units, Duration::from_secs(60))
    }

    /// Millionths of a unit that come back in a second, rounded; at least 1.
    pub fn micro_per_second(self) -> u64 {
        let micro = u128::from(self.units) * 1_000_000 * 1_000_000_000;
        let period = u128::from(self.period_ns);
        u64::try_from((micro + period / 2) / period).unwrap_or(u64::MAX).max(1)
    }

    /// The units of a period.
    pub const fn units(self) -> u64 {
        self.units
    }

    /// What comes back in `time`, rounded down; at most [`MAX_UNITS`].
    pub fn units_in(self, time: Duration) -> u64 {
        let units = time.as_nanos().saturating_mul(u128::from(self.units));
        let units = units / u128::from(self.period_ns);
        u64::try_from(units).unwrap_or(u64::MAX).min(MAX_UNITS)
    }

    /// This rate divided by `parts`; a unit at least.
    #[must_use]
    pub fn share(self, parts: u32) -> Self {
        let parts = u64::from(parts.max(1));
        if self.units.is_multiple_of(parts) {
            return Self { units: self.units / parts, ..self };
        }
        // Longer, not less: 10 units a minute over 3 nodes are 10 in three minutes each.
        Self::new(self.units, Duration::from_nanos(self.period_ns.saturating_mul(parts)))
    }

    /// How long so many units take, rounded up.
    pub fn time_for_units(self, units: u64) -> Duration {
        self.time_for(micro(units), 0)
    }

    /// Parts of a millionth that come back in a nanosecond.
    fn parts_per_ns(self) -> u128 {
        u128::from(self.units) * MICRO.unsigned_abs() as u128
    }

    /// How long `micro` millionths take, of which `carry` parts are there; rounded up.
    fn time_for(self, micro: i64, carry: u64) -> Duration {
        let micro = u128::from(u64::try_from(micro).unwrap_or_default());
        let parts = (micro * u128::from(self.period_ns)).saturating_sub(u128::from(carry));
        let ns = parts.div_ceil(self.parts_per_ns());
        Duration::from_nanos(u64::try_from(ns).unwrap_or(u64::MAX))
    }
}

// === impl Bucket ===

impl Bucket {
    /// A full bucket that holds `burst` units (1 to [`MAX_UNITS`]; clamped) and has not been used
    /// for long.
    pub fn new(rate: Rate, burst: u64, now: Instant) -> Self {
        let burst = micro(burst.max(1));
        let mut bucket = Self { rate, burst, level: burst, at: now, carry: 0 };
        bucket.at = now.checked_sub(bucket.advance()).unwrap_or(now);
        bucket
    }

    /// Changes rate and burst (clamped as in [`Self::new`]). What was used stays used, and a debt a
    /// debt.
    pub fn set(&mut self, rate: Rate, burst: u64, now: Instant) {
        let burst = micro(burst.max(1));
        if (self.rate, self.burst) == (rate, burst) {
            return;
        }
        self.refill(now);
        self.level = self.level.saturating_add(burst - self.burst).min(burst);
        self.rate = rate;
        self.burst = burst;
        self.carry = 0;
    }

    /// How long `amount` units have to wait; `None` where they can be taken now. Taking them then
    /// succeeds if nobody else does before.
    pub fn wait(&self, amount: u64, now: Instant) -> Option<Duration> {
        let mut then = *self;
        then.refill(now);
        let lacking = micro(amount).min(then.burst).saturating_sub(then.level);
        if lacking <= 0 {
            return None;
        }
        let paused = then.at.saturating_duration_since(now);
        Some(paused.saturating_add(then.rate.time_for(lacking, then.carry)))
    }

    /// Takes `amount` units, whether or not they are there: see [`Self::wait`] before.
    pub fn take(&mut self, amount: u64, now: Instant) {
        self.refill(now);
        if amount == 0 {
            return;
        }
        if self.level >= self.burst {
            let rested = now.saturating_duration_since(self.at);
            let pause = rested.min(self.advance());
            self.at = self.at.max(now + pause);
            self.carry = 0;
        }
        self.level = self.level.saturating_sub(micro(amount));
    }

    /// Gives `amount` units back. What does not fit is lost, as the refill of a full bucket is.
    pub fn give_back(&mut self, amount: u64, now: Instant) {
        self.refill(now);
        if amount == 0 || self.level >= self.burst {
            return;
        }
        self.level = self.level.saturating_add(micro(amount));
        if self.level >= self.burst {
            self.level = self.burst;
            self.carry = 0;
        }
    }

    /// Takes `amount` more units for something that runs already: as far as `-B`, and no further.
    /// Whether they were taken.
    pub fn top_up(&mut self, amount: u64, now: Instant) -> bool {
        self.refill(now);
        let fits = self.level.saturating_sub(micro(amount)) >= -self.burst;
        if fits {
            self.take(amount, now);
        }
        fits
    }

    /// Puts `actual` units in the place of the `taken` ones.
    pub fn settle(&mut self, taken: u64, actual: u64, now: Instant) {
        if actual > taken {
            self.take(actual - taken, now);
        } else {
            self.give_back(taken - actual, now);
        }
    }

    /// The whole units that are there; below zero where there is a debt.
    pub fn level(&self, now: Instant) -> i64 {
        let mut then = *self;
        then.refill(now);
        then.level.div_euclid(MICRO)
    }

    /// How long until it is full again, if nobody takes anything.
    pub fn full_in(&self, now: Instant) -> Duration {
        let burst = u64::try_from(self.burst / MICRO).unwrap_or_default();
        self.wait(burst, now).unwrap_or_default()
    }

    /// Whether it is as a new one would be: full for so long that the whole burst is an advance.
    pub fn is_rested(&self, now: Instant) -> bool {
        let mut then = *self;
        then.refill(now);
        then.level >= then.burst && now.saturating_duration_since(then.at) >= then.advance()
    }

    /// What comes back in which time.
    pub const fn rate(&self) -> Rate {
        self.rate
    }

    /// The most that is there, in units.
    pub fn burst(&self) -> u64 {
        u64::try_from(self.burst / MICRO).unwrap_or_default()
    }

    /// The time in which the burst comes back, but for one unit. That one is no advance: a single
    /// request a minute may come every minute.
    fn advance(&self) -> Duration {
        self.rate.time_for(self.burst - MICRO, 0)
    }

    fn refill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.at);
        if passed.is_zero() || self.level >= self.burst {
            return;
        }
        let missing = self.burst.saturating_sub(self.level);
        let until_full = self.rate.time_for(missing, self.carry);
        if until_full <= passed {
            self.level = self.burst;
            self.at += until_full;
            self.carry = 0;
            return;
        }
        // Less than what is missing, so this fits.
        let parts = passed.as_nanos() * self.rate.parts_per_ns() + u128::from(self.carry);
        let period = u128::from(self.rate.period_ns);
        self.level += i64::try_from(parts / period).unwrap_or(missing);
        self.carry = u64::try_from(parts % period).unwrap_or_default();
        self.at = now;
    }
}

fn micro(units: u64) -> i64 {
    i64::try_from(units.min(MAX_UNITS)).unwrap_or_default() * MICRO
}

#[cfg(test)]
mod tests;
