//! What a provider still allows on one target: a credential and a model.
//!
//! The mirror of its limits exists only once it has told of any, in headers or with a 429.
//!
//! A pause that the provider asked for is kept: nothing is sent before it is over. A pause that we
//! made up, because it did not say when, only puts the target behind all others: where nothing
//! else can be asked, it is asked.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;

use super::health::Health;
use super::target::TargetLive;
use crate::catalog::{RateHeaders, RateReading};
use crate::chat::Usage;
use crate::clock::Instant;
use crate::policy::ewma::Ewma;
use crate::policy::quota::{Amounts, Mirror, QuotaSettings, Reading, Reservation};

/// The longest that headers are believed to speak of. One request then asks again, so that a reset
/// in a year keeps nobody away for a year.
const MAX_RESET: Duration = Duration::from_secs(300);
/// By how much a pause must be longer than the one that is known, to be news.
const WORTH_TELLING: Duration = Duration::from_secs(1);
/// How long it is remembered how prompts are counted.
const COUNTED_TAU: Duration = Duration::from_secs(600);
/// A prompt is never expected to be counted as more than so many times its estimate.
const MAX_COUNTED: f64 = 4.0;

/// What is known of a target's limits.
#[derive(Debug)]
pub(super) struct Quota {
    mirror: Mirror,
    /// Until when the provider asked to be left alone.
    asked_until: Option<Instant>,
    /// What the provider counts of a token of a prompt that was estimated: estimates are off, and
    /// what it has cached counts little or nothing.
    counted: Ewma,
}

/// A provider's limit would turn a request away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct MustWait;

/// Takes what an answer's headers say of the provider's limits to the target that it came from.
#[derive(Debug)]
pub struct Gauge {
    live: Arc<TargetLive>,
    started: Instant,
}

// === impl Quota ===

impl Quota {
    fn new() -> Self {
        Self {
            mirror: Mirror::new(QuotaSettings::default()),
            asked_until: None,
            counted: Ewma::new(COUNTED_TAU),
        }
    }

    /// What is known of the limits.
    pub(super) fn mirror(&self) -> &Mirror {
        &self.mirror
    }

    /// What a prompt of this estimated length will be counted as.
    fn input(&self, estimated: u64) -> u64 {
        let counted = self.counted.value().unwrap_or(1.0);
        (estimated as f64 * counted) as u64
    }

    fn on_counted(&mut self, estimated: u64, counted: u64, now: Instant) {
        if estimated > 0 {
            let ratio = counted as f64 / estimated as f64;
            self.counted.add(ratio.min(MAX_COUNTED), now);
        }
    }

    /// Takes an estimate; nothing is taken during a pause that we made up.
    ///
    /// # Errors
    ///
    /// The request has to wait.
    fn reserve(
        &mut self,
        estimate: Amounts,
        now: Instant,
    ) -> Result<Option<Reservation>, MustWait> {
        if self.asked(now).is_some() {
            return Err(MustWait);
        }
        if self.mirror.cooling(now).is_some() {
            return Ok(None);
        }
        self.mirror.reserve(estimate, now).map(Some).map_err(|_wait| MustWait)
    }

    fn asked(&self, now: Instant) -> Option<Instant> {
        self.asked_until.filter(|until| *until > now)
    }

    fn on_rate_limited(
        &mut self,
        retry_after: Option<Duration>,
        random: f64,
        now: Instant,
    ) -> Option<Duration> {
        self.mirror.on_rate_limited(retry_after, random, now);
        let pause = retry_after?.min(QuotaSettings::default().max_hint);
        let until = now + pause;
        let known = self.asked(now);
        self.asked_until = self.asked_until.max(Some(until));
        known.is_none_or(|known| until > known + WORTH_TELLING).then_some(pause)
    }

    fn on_reading(&mut self, reading: &RateReading, started: Instant, now: Instant) {
        for window in reading.windows() {
            let dimension = window.dimension;
            let Some(remaining) = window.remaining else { continue };
            // Who does not say how much there is has at least what is left.
            let known = self.mirror.known(dimension, now).map(|(limit, _)| limit);
            let limit = window.limit.or(known).unwrap_or_default().max(remaining);
            let request_started = started;
            let reset = window.reset.map(|reset| reset.min(MAX_RESET));
            let reading = Reading { dimension, limit, remaining, reset, request_started };
            self.mirror.on_reading(reading, now);
        }
    }
}

// === impl Health ===

impl Health {
    /// Takes what is known of the limits.
    #[cfg(test)]
    pub(super) fn know(&mut self, mirror: Mirror) {
        self.quota = Some(Box::new(Quota { mirror, ..Quota::new() }));
    }

    /// What a prompt of this estimated length and its answer will be counted as.
    pub(super) fn estimate(&self, input: u64, output: u64) -> Amounts {
        let input = self.quota.as_ref().map_or(input, |quota| quota.input(input));
        Amounts::request(input, output)
    }

    /// What the tightest rate limit has left, 0 to 1; 1 where none is known.
    pub(super) fn headroom(&self, now: Instant) -> f64 {
        self.quota.as_ref().map_or(1.0, |quota| quota.mirror.headroom(now))
    }

    /// Whether the provider asked to be left alone for now, or is left alone after a rate limit.
    pub(super) fn is_cooling(&self, now: Instant) -> bool {
        self.quota.as_ref().is_some_and(|quota| quota.mirror.cooling(now).is_some())
    }

    /// Whether it may be asked in spite of its rate limits where nothing else can be: the provider
    /// has not asked for a pause.
    pub(super) fn may_be_pressed(&self, now: Instant) -> bool {
        self.quota.as_ref().is_none_or(|quota| quota.asked(now).is_none())
    }

    /// In how long its rate limits let a small request through, where they do not now.
    pub(super) fn quota_wait(&mut self, now: Instant) -> Option<Duration> {
        let quota = self.quota.as_mut()?;
        if let Some(until) = quota.asked(now) {
            return Some(until.saturating_duration_since(now));
        }
        quota.mirror.wait(Amounts::request(1, 1), now).map(|wait| wait.wait)
    }

    /// Takes what a request is expected to use: a prompt of this estimated length, and what
    /// `output` says of the answer. Nothing where no limit is known.
    ///
    /// # Errors
    ///
    /// The request has to wait.
    pub(super) fn reserve(
        &mut self,
        input: u64,
        output: impl FnOnce() -> u64,
        now: Instant,
    ) -> Result<Option<Reservation>, MustWait> {
        let Some(quota) = &mut self.quota else { return Ok(None) };
        let estimate = Amounts::request(quota.input(input), output());
        quota.reserve(estimate, now)
    }

    /// An attempt answered, with its tokens where they are known; without them the estimate
    /// stands. `input` is the estimated length of its prompt.
    pub(super) fn settle(
        &mut self,
        reservation: Option<Reservation>,
        (input, usage): (u64, Option<&Usage>),
        now: Instant,
    ) {
        let Some(quota) = &mut self.quota else { return };
        // What was read from a cache is not counted by some and corrected by the next reading of
        // the others.
        let counted = usage
            .map(|usage| (usage.input.saturating_add(usage.cache_write), usage.total_output()));
        if let Some((counted, _)) = counted {
            quota.on_counted(input, counted, now);
        }
        if let Some(reservation) = reservation {
            let used = counted.map(|(input, output)| Amounts::request(input, output));
            let used = used.unwrap_or(reservation.amounts());
            quota.mirror.settle(reservation, used, now);
        }
    }

    /// An attempt was given up before its first token: its prompt was counted, if it was sent.
    pub(super) fn give_back(
        &mut self,
        reservation: Option<Reservation>,
        (input, is_sent): (u64, bool),
        now: Instant,
    ) {
        if let (Some(quota), Some(reservation)) = (&mut self.quota, reservation) {
            let prompt = Amounts::request(quota.input(input), 0);
            let used = if is_sent { prompt } else { Amounts::default() };
            quota.mirror.give_up(reservation, used, now);
        }
    }

    /// The provider rejected an attempt for its rate. The pause that it asked for, where that is
    /// news: of a crowd of attempts that are all rejected, the first brings it.
    pub(super) fn on_rate_limited(
        &mut self,
        retry_after: Option<Duration>,
        random: f64,
        now: Instant,
    ) -> Option<Duration> {
        let quota = self.quota.get_or_insert_with(|| Box::new(Quota::new()));
        quota.on_rate_limited(retry_after, random, now)
    }
}

// === impl Gauge ===

impl Gauge {
    pub(super) fn new(live: Arc<TargetLive>, started: Instant) -> Self {
        Self { live, started }
    }

    /// An answer came, good or bad. `own` are the provider's own names of headers; `unix_ms` is the
    /// time, in milliseconds since 1970.
    pub fn on_headers(&self, headers: &HeaderMap, own: &RateHeaders, unix_ms: u64, now: Instant) {
        let Some(reading) = RateReading::of(headers, own, unix_ms) else { return };
        let mut health = self.live.health.lock();
        let quota = health.quota.get_or_insert_with(|| Box::new(Quota::new()));
        quota.on_reading(&reading, self.started, now);
    }
}
