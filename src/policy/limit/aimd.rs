//! A concurrency limit that follows rejections.
//!
//! There is none until the first rejection: a target that takes everything is never held back by a
//! number that we made up. The first one says how much was too much, and from there on the limit
//! rises and falls. When there was no rejection for some minutes it is forgotten.

use std::time::Duration;

use crate::clock::Instant;

/// How fast the limit moves, and within what.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AimdSettings {
    /// The limit never falls below this; at least 1. A rejection with no more than this in flight
    /// makes no limit, because one so low would change nothing.
    pub min: u32,
    /// The limit never rises above this.
    pub max: u32,
    /// How often the limit may rise, and the least time between two falls.
    pub window: Duration,
    /// What a fall leaves of the limit; in 0..1.
    pub backoff: f64,
    /// The part of the limit that it rises by, and by no less than one; in 0..1.
    pub rise: f64,
    /// After so long without a rejection there is no limit any more.
    pub forget: Duration,
}

/// Rises in every window that used at least half of the limit and saw no rejection; falls by a
/// factor at a rejection.
#[derive(Debug, Clone)]
pub struct Aimd {
    settings: AimdSettings,
    limit: Option<f64>,
    window_start: Instant,
    /// The most in flight in this window.
    peak: u32,
    rejected: bool,
    cut_at: Option<Instant>,
    rejected_at: Instant,
    settle: Duration,
}

impl Default for AimdSettings {
    /// Within 4 to 100,000; +2 % a second and at least +1, so that a large limit recovers in
    /// minutes; ×0.9 at a rejection; forgotten after ten minutes.
    fn default() -> Self {
        Self {
            min: 4,
            max: 100_000,
            window: Duration::from_secs(1),
            backoff: 0.9,
            rise: 0.02,
            forget: Duration::from_secs(600),
        }
    }
}

// === impl Aimd ===

impl Aimd {
    /// No limit yet.
    pub fn new(settings: AimdSettings, now: Instant) -> Self {
        Self {
            settings,
            limit: None,
            window_start: now,
            peak: 0,
            rejected: false,
            cut_at: None,
            rejected_at: now,
            settle: settings.window,
        }
    }

    /// How many may be in flight at once; 0 where there is no limit.
    pub fn limit(&self) -> u32 {
        self.limit.map_or(0, |limit| (limit as u32).max(1))
    }

    /// So many are in flight now.
    pub fn on_load(&mut self, in_flight: u32, now: Instant) {
        self.roll(now);
        self.peak = self.peak.max(in_flight);
    }

    /// An attempt was turned away for load. `in_flight` counts it.
    pub fn on_reject(&mut self, in_flight: u32, now: Instant) {
        self.roll(now);
        self.rejected = true;
        self.rejected_at = now;
        let AimdSettings { min, max, backoff, .. } = self.settings;
        let before = match self.limit {
            None if in_flight <= min => return,
            None => f64::from(in_flight),
            Some(limit) if cut_is_due(self.cut_at, self.settle, now) => limit,
            Some(_) => return,
        };
        self.cut_at = Some(now);
        self.limit = Some((before * backoff).clamp(f64::from(min), f64::from(max.max(min))));
    }

    /// Falls come at most once in this time or a window, whichever is longer.
    pub fn set_settle_time(&mut self, ttft_p50: Duration) {
        self.settle = ttft_p50.max(self.settings.window);
    }

    /// Ends the window when its time has come. A pause of several windows counts as one: nothing
    /// was tried in the others.
    fn roll(&mut self, now: Instant) {
        if now.saturating_duration_since(self.window_start) < self.settings.window {
            return;
        }
        if now.saturating_duration_since(self.rejected_at) >= self.settings.forget {
            self.limit = None;
        }
        if let Some(limit) = &mut self.limit {
            let is_used = f64::from(self.peak) * 2.0 >= *limit;
            if is_used && !self.rejected {
                let rise = (*limit * self.settings.rise).max(1.0);
                *limit = (*limit + rise).min(f64::from(self.settings.max));
            }
        }
        self.window_start = now;
        self.peak = 0;
        self.rejected = false;
    }
}

/// Whether the limit may fall again.
pub(super) fn cut_is_due(last: Option<Instant>, settle: Duration, now: Instant) -> bool {
    last.is_none_or(|at| now.saturating_duration_since(at) >= settle)
}
