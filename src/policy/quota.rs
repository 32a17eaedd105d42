//! What a provider still allows a credential: a mirror of its rate limits, and parking.
//!
//! The provider keeps the true buckets; [`Mirror`] models them with debt token buckets, one a
//! dimension, so that a request which would be rejected goes elsewhere instead. Nothing is limited
//! that the provider has not told: what is not known is unlimited.
//!
//! # How a reading is merged
//!
//! A reading is a snapshot of when its request arrived, so what was reserved later is still missing
//! from it: `remaining = min(model, reading − reserved later)`. A snapshot older than the newest
//! one applied is ignored.
//!
//! The refill is `limit` over a period, which no header tells. A token bucket is full again after
//! `reset`, so its period is `reset × limit / missing`. A fixed window has the same headers and
//! ends at `reset`, whatever is missing, so there the same sum would give a period far too long,
//! which nothing would correct: the next reading only lowers the level. Hence the period is at most
//! the longest `reset` seen or a minute; a refill that is too fast is corrected by the next
//! reading. And at `reset` itself the level is the limit less what was reserved since the reading,
//! which is true of both.

mod bucket;
mod parking;

use std::collections::VecDeque;
use std::time::Duration;

use bucket::Bucket;
pub use parking::{ParkCause, Parking, ParkingSettings};

use crate::clock::Instant;
use crate::units::Dimension;

/// An amount of each dimension, in requests and tokens. A request counts as one request and in all
/// three token dimensions; a provider limits only some.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Amounts {
    /// By [`Dimension`], in the order of [`Dimension::ALL`].
    by_dimension: [u64; 4],
}

/// What a provider's headers said of one dimension.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reading {
    /// What it counts.
    pub dimension: Dimension,
    /// The most that is allowed at once; a reading with 0 is ignored.
    pub limit: u64,
    /// What was left.
    pub remaining: u64,
    /// The time until all of it is allowed again, where the provider said so.
    pub reset: Option<Duration>,
    /// When the request started whose answer carried the headers, as given to [`Mirror::reserve`].
    pub request_started: Instant,
}

/// An amount taken from the mirror, until [`Mirror::settle`] or [`Mirror::refund`]. One that is
/// dropped stays taken, and the refill makes up for it.
#[must_use]
#[derive(Debug, PartialEq, Eq)]
pub struct Reservation {
    sequence: u64,
    amounts: Amounts,
    started: Instant,
}

/// Why nothing was reserved, and for how long it will not be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wait {
    /// The dimension that takes longest; `None` while the credential cools off after a rate limit.
    pub dimension: Option<Dimension>,
    /// How long; at least 1 ms.
    pub wait: Duration,
}

/// How a mirror behaves after a rate limit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct QuotaSettings {
    /// The longest that a provider's hint is followed.
    pub max_hint: Duration,
    /// The first pause without a hint; each further one is twice as long.
    pub first_pause: Duration,
    /// The longest pause without a hint.
    pub max_pause: Duration,
    /// Added to a hint times a random number, so that not all return at once.
    pub jitter: Duration,
    /// What a rate limit leaves of the refill; in 0..1.
    pub cut: f64,
    /// The part of the refill that comes back every ten seconds.
    pub recovery: f64,
}

/// The model of what one credential may still do with one model.
#[derive(Debug, Clone)]
pub struct Mirror {
    settings: QuotaSettings,
    buckets: [Option<Bucket>; 4],
    /// What was reserved since the request of the newest reading, oldest first.
    recent: VecDeque<Recent>,
    sequence: u64,
    /// The last reservation that was dropped from `recent`.
    forgotten: u64,
    cooling_until: Option<Instant>,
    /// When the last rate limit came.
    limited_at: Option<Instant>,
    /// Pauses without a hint in a row.
    pauses: u32,
    /// The part of the refill that is believed in, at `limited_at`.
    trust: f64,
}

#[derive(Debug, Clone, Copy)]
struct Recent {
    /// The last reservation that this entry stands for.
    sequence: u64,
    started: Instant,
    amounts: Amounts,
}

/// More than are in flight on one credential between two readings; beyond it the oldest are added
/// up, which counts them as later than they were.
const MAX_RECENT: usize = 256;

/// The least part of the refill that is believed in.
const MIN_TRUST: f64 = 0.1;

impl Default for QuotaSettings {
    /// Hints up to 300 s plus up to 500 ms; pauses of 1 s to 60 s; refill ×0.8, +5 % every 10 s.
    fn default() -> Self {
        Self {
            max_hint: Duration::from_secs(300),
            first_pause: Duration::from_secs(1),
            max_pause: Duration::from_secs(60),
            jitter: Duration::from_millis(500),
            cut: 0.8,
            recovery: 0.05,
        }
    }
}

// === impl Amounts ===

impl Amounts {
    /// One request with so many tokens in and out.
    pub fn request(input_tokens: u64, output_tokens: u64) -> Self {
        let tokens = input_tokens.saturating_add(output_tokens);
        Self { by_dimension: [1, tokens, input_tokens, output_tokens] }
    }

    /// The amount of each dimension.
    pub fn each(self) -> impl Iterator<Item = (Dimension, u64)> {
        Dimension::ALL.into_iter().zip(self.by_dimension)
    }

    fn add(&mut self, other: Self) {
        for (mine, theirs) in self.by_dimension.iter_mut().zip(other.by_dimension) {
            *mine = mine.saturating_add(theirs);
        }
    }

    fn replace(&mut self, estimate: Self, actual: Self) {
        let both = estimate.by_dimension.into_iter().zip(actual.by_dimension);
        for (mine, (estimate, actual)) in self.by_dimension.iter_mut().zip(both) {
            *mine = mine.saturating_sub(estimate).saturating_add(actual);
        }
    }
}

// === impl Reservation ===

impl Reservation {
    /// What was taken.
    pub fn amounts(&self) -> Amounts {
        self.amounts
    }
}

// === impl Mirror ===

impl Mirror {
    /// A mirror of a provider that has not told anything yet.
    pub fn new(settings: QuotaSettings) -> Self {
        Self {
            settings,
            buckets: [None, None, None, None],
            recent: VecDeque::new(),
            sequence: 0,
            forgotten: 0,
            cooling_until: None,
            limited_at: None,
            pauses: 0,
            trust: 1.0,
        }
    }

    /// Takes an estimate from every known dimension, or from none. More than a limit is let through
    /// when all of the limit is there, so that a big prompt does not wait for ever.
    ///
    /// # Errors
    ///
    /// The longest wait over the dimensions that lack something.
    pub fn reserve(&mut self, estimate: Amounts, now: Instant) -> Result<Reservation, Wait> {
        if let Some(wait) = self.wait(estimate, now) {
            return Err(wait);
        }
        for (_, bucket, amount) in self.each(estimate) {
            bucket.take(amount as f64);
        }
        self.sequence += 1;
        let reservation = Reservation { sequence: self.sequence, amounts: estimate, started: now };
        self.remember(&reservation);
        Ok(reservation)
    }

    /// What a request would have to wait for; `None` where it could be sent now.
    pub fn wait(&mut self, estimate: Amounts, now: Instant) -> Option<Wait> {
        if let Some(until) = self.cooling(now) {
            let wait = until.saturating_duration_since(now).max(Duration::from_millis(1));
            return Some(Wait { dimension: None, wait });
        }
        self.refill(now);
        let trust = self.trust(now);
        let mut longest: Option<Wait> = None;
        for (dimension, bucket, amount) in self.each(estimate) {
            let Some(wait) = bucket.wait(amount, trust) else { continue };
            if longest.is_none_or(|longest| wait > longest.wait) {
                longest = Some(Wait { dimension: Some(dimension), wait });
            }
        }
        longest
    }

    /// A request ended well and used so much: the difference to the estimate is given back, or
    /// taken.
    pub fn settle(&mut self, reservation: Reservation, actual: Amounts, now: Instant) {
        let is_after_limit = self.limited_at.is_none_or(|at| reservation.started > at);
        if is_after_limit && self.cooling(now).is_none() {
            self.pauses = 0;
        }
        self.correct(reservation, actual, now);
    }

    /// A request was given up after it used so much. That says nothing of the limits.
    pub fn give_up(&mut self, reservation: Reservation, actual: Amounts, now: Instant) {
        self.correct(reservation, actual, now);
    }

    /// A request never reached the provider, or was not counted there: all is given back.
    pub fn refund(&mut self, reservation: Reservation, now: Instant) {
        self.correct(reservation, Amounts::default(), now);
    }

    /// A provider told what is left.
    pub fn on_reading(&mut self, reading: Reading, now: Instant) {
        if reading.limit == 0 {
            return;
        }
        self.refill(now);
        let later = self.reserved_after(reading.dimension, reading.request_started);
        let Some(slot) = self.buckets.get_mut(reading.dimension as usize) else { return };
        match slot {
            Some(bucket) => bucket.merge(reading, later, now),
            None => *slot = Some(Bucket::new(reading, later, now)),
        }
        self.forget();
    }

    /// A provider rejected a request for its rate. `u` is uniform in 0..1. Nothing can be reserved
    /// until its hint has passed, or without one for a pause that doubles each time; the refill is
    /// believed less. Rejections of one burst count once.
    pub fn on_rate_limited(&mut self, retry_after: Option<Duration>, u: f64, now: Instant) {
        let is_new = self.cooling(now).is_none();
        let u = u.clamp(0.0, 1.0);
        let pause = if let Some(hint) = retry_after {
            hint.min(self.settings.max_hint) + self.settings.jitter.mul_f64(u)
        } else {
            if is_new {
                self.pauses = self.pauses.saturating_add(1);
            }
            let doublings = self.pauses.saturating_sub(1).min(16);
            let longest = self.settings.first_pause.saturating_mul(1 << doublings);
            longest.min(self.settings.max_pause).mul_f64(u)
        };
        if is_new {
            self.refill(now);
            self.trust = (self.trust(now) * self.settings.cut).max(MIN_TRUST);
            self.limited_at = Some(now);
        }
        let until = now + pause;
        self.cooling_until = Some(self.cooling_until.map_or(until, |before| before.max(until)));
    }

    /// The least part of any limit that is left, in 0..=1: 1 where nothing is known, 0 while the
    /// credential cools off.
    pub fn headroom(&self, now: Instant) -> f64 {
        if self.cooling(now).is_some() {
            return 0.0;
        }
        let trust = self.trust(now);
        self.buckets.iter().flatten().map(|bucket| bucket.part(trust, now)).fold(1.0, f64::min)
    }

    /// Until when the credential cools off after a rate limit, if it does.
    pub fn cooling(&self, now: Instant) -> Option<Instant> {
        self.cooling_until.filter(|until| *until > now)
    }

    /// What is known of a dimension: the limit, and what the model thinks is left, which is below
    /// zero where more was used than was there.
    pub fn known(&self, dimension: Dimension, now: Instant) -> Option<(u64, f64)> {
        let bucket = self.buckets.get(dimension as usize)?.as_ref()?;
        Some((bucket.limit(), bucket.level(self.trust(now), now)))
    }

    /// What comes back of a known dimension in a second, by what the provider said.
    pub fn per_second(&self, dimension: Dimension) -> Option<f64> {
        Some(self.buckets.get(dimension as usize)?.as_ref()?.per_second())
    }

    fn each(&mut self, amounts: Amounts) -> impl Iterator<Item = (Dimension, &mut Bucket, u64)> {
        let known = Dimension::ALL.into_iter().zip(&mut self.buckets).zip(amounts.by_dimension);
        known.filter_map(|((dimension, bucket), amount)| {
            bucket.as_mut().map(|bucket| (dimension, bucket, amount))
        })
    }

    fn correct(&mut self, reservation: Reservation, actual: Amounts, now: Instant) {
        self.refill(now);
        let estimate = reservation.amounts;
        for (_, bucket, amount) in self.each(estimate) {
            bucket.take(-(amount as f64));
        }
        for (_, bucket, amount) in self.each(actual) {
            bucket.take(amount as f64);
        }
        if reservation.sequence <= self.forgotten {
            return;
        }
        let at = self.recent.partition_point(|recent| recent.sequence < reservation.sequence);
        if let Some(recent) = self.recent.get_mut(at) {
            recent.amounts.replace(estimate, actual);
        }
    }

    fn refill(&mut self, now: Instant) {
        let trust = self.trust(now);
        for dimension in Dimension::ALL {
            let Some(Some(bucket)) = self.buckets.get_mut(dimension as usize) else { continue };
            if let Some(since) = bucket.refill(trust, now) {
                let later = self.reserved_after(dimension, since);
                if let Some(Some(bucket)) = self.buckets.get_mut(dimension as usize) {
                    bucket.renew(later);
                }
            }
        }
    }

    /// The part of the refill that is believed in now.
    fn trust(&self, now: Instant) -> f64 {
        let Some(at) = self.limited_at else { return 1.0 };
        let tens = now.saturating_duration_since(at).as_secs_f64() / 10.0;
        (self.trust + self.settings.recovery * tens).min(1.0)
    }

    fn remember(&mut self, reservation: &Reservation) {
        if self.recent.len() >= MAX_RECENT
            && let Some(oldest) = self.recent.pop_front()
            && let Some(next) = self.recent.front_mut()
        {
            next.amounts.add(oldest.amounts);
        }
        self.recent.push_back(Recent {
            sequence: reservation.sequence,
            started: reservation.started,
            amounts: reservation.amounts,
        });
    }

    /// Drops what no reading can ask for any more: those that are older are ignored.
    fn forget(&mut self) {
        let Some(oldest) = self.buckets.iter().flatten().map(Bucket::newest).min() else { return };
        while let Some(recent) = self.recent.pop_front_if(|recent| recent.started <= oldest) {
            self.forgotten = recent.sequence;
        }
    }

    fn reserved_after(&self, dimension: Dimension, started: Instant) -> f64 {
        let later = self.recent.iter().rev().take_while(|recent| recent.started > started);
        let amounts =
            later.filter_map(|recent| recent.amounts.by_dimension.get(dimension as usize));
        amounts.map(|amount| *amount as f64).sum()
    }
}

#[cfg(test)]
mod tests;
