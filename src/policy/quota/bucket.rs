//! One dimension of a provider's limit: a token bucket that may go into debt.

use std::time::Duration;

use super::Reading;
use crate::clock::Instant;

/// What the provider counts most things by, where it does not say.
const MINUTE: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Copy)]
pub(super) struct Bucket {
    limit: f64,
    /// What is left at `at`; debt below zero.
    level: f64,
    at: Instant,
    /// What comes back a second.
    rate: f64,
    /// When the provider will allow all of the limit again, by the newest reading.
    renews: Option<Instant>,
    longest_reset: Duration,
    /// When the request of the newest reading started.
    newest: Instant,
}

// === impl Bucket ===

impl Bucket {
    pub(super) fn new(reading: Reading, later: f64, now: Instant) -> Self {
        let mut bucket = Self {
            limit: reading.limit as f64,
            level: reading.limit as f64,
            at: now,
            rate: 0.0,
            renews: None,
            longest_reset: MINUTE,
            newest: reading.request_started,
        };
        bucket.merge(reading, later, now);
        bucket
    }

    /// Takes over a reading, unless a newer one was taken over before. `later` was reserved since
    /// its request. Refilled up to `now` before.
    pub(super) fn merge(&mut self, reading: Reading, later: f64, now: Instant) {
        if reading.request_started < self.newest {
            return;
        }
        self.newest = reading.request_started;
        let limit = reading.limit as f64;
        // A limit that was raised or lowered moves what is left with it.
        self.level += limit - self.limit;
        self.limit = limit;
        let remaining = (reading.remaining as f64).min(limit);
        self.level = self.level.min(remaining - later).max(-limit);

        let reset = reading.reset.filter(|reset| !reset.is_zero());
        self.longest_reset = self.longest_reset.max(reset.unwrap_or_default());
        let missing = limit - remaining;
        let period = match reset {
            Some(reset) if missing > 0.0 => {
                (reset.as_secs_f64() * limit / missing).min(self.longest_reset.as_secs_f64())
            }
            Some(_) | None => self.longest_reset.as_secs_f64(),
        };
        self.rate = limit / period.max(0.001);
        self.renews = reset.and_then(|reset| now.checked_add(reset));
    }

    /// Brings the level up to date. `trust` is the part of the refill to believe in. Where the
    /// limit has been renewed since the last call, yields the start of the newest reading's
    /// request, for
    /// [`Bucket::renew`].
    pub(super) fn refill(&mut self, trust: f64, now: Instant) -> Option<Instant> {
        self.level = self.level(trust, now);
        self.at = self.at.max(now);
        self.renews.take_if(|at| *at <= now).map(|_| self.newest)
    }

    /// All of the limit is allowed again, but for what was reserved since.
    pub(super) fn renew(&mut self, later: f64) {
        self.level = self.level.max(self.limit - later);
    }

    /// Takes an amount, or gives a negative one back. Debt ends at a whole limit: beyond that,
    /// nothing more would be learned and everything would wait.
    pub(super) fn take(&mut self, amount: f64) {
        self.level = (self.level - amount).clamp(-self.limit, self.limit);
    }

    /// How long an amount has to wait, if it has to. Refilled before.
    pub(super) fn wait(&self, amount: u64, trust: f64) -> Option<Duration> {
        let lacking = (amount as f64).min(self.limit) - self.level;
        // Sums of floats differ in the last digits.
        if lacking <= 1e-6 {
            return None;
        }
        let by_refill = Duration::try_from_secs_f64(lacking / (self.rate * trust));
        let by_renewal = self.renews.map(|at| at.saturating_duration_since(self.at));
        let wait = by_refill.unwrap_or(Duration::MAX).min(by_renewal.unwrap_or(Duration::MAX));
        Some(wait.max(Duration::from_millis(1)))
    }

    /// The part of the limit that is left, in 0..=1.
    pub(super) fn part(&self, trust: f64, now: Instant) -> f64 {
        (self.level(trust, now) / self.limit).clamp(0.0, 1.0)
    }

    pub(super) fn limit(&self) -> u64 {
        self.limit as u64
    }

    pub(super) fn level(&self, trust: f64, now: Instant) -> f64 {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        (self.level + self.rate * trust * passed).min(self.limit)
    }

    pub(super) fn per_second(&self) -> f64 {
        self.rate
    }

    pub(super) fn newest(&self) -> Instant {
        self.newest
    }
}
