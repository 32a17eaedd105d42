//! A concurrency limit that follows rejections.

use std::time::Duration;

use crate::clock::Instant;

/// How fast the limit moves, and within what.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AimdSettings {
    /// The limit before anything is known.
    pub start: u32,
    /// The limit never falls below this; at least 1.
    pub min: u32,
    /// The limit never rises above this.
    pub max: u32,
    /// How often the limit may rise by one, and the least time between two falls.
    pub window: Duration,
    /// What a fall leaves of the limit; in 0..1.
    pub backoff: f64,
}

/// Rises by one in every window that used at least half of the limit and saw no rejection; falls by a
/// factor at a rejection.
#[derive(Debug, Clone)]
pub struct Aimd {
    settings: AimdSettings,
    limit: f64,
    window_start: Instant,
    /// The most in flight in this window.
    peak: u32,
    rejected: bool,
    cut_at: Option<Instant>,
    settle: Duration,
}

impl Default for AimdSettings {
    /// From 32 within 4 to 1,000; +1 a second, ×0.9 at a rejection.
    fn default() -> Self {
        Self { start: 32, min: 4, max: 1_000, window: Duration::from_secs(1), backoff: 0.9 }
    }
}

// === impl Aimd ===

impl Aimd {
    /// A limit at its start.
    pub fn new(settings: AimdSettings, now: Instant) -> Self {
        Self {
            settings,
            limit: f64::from(settings.start),
            window_start: now,
            peak: 0,
            rejected: false,
            cut_at: None,
            settle: settings.window,
        }
    }

    /// How many may be in flight at once; at least 1.
    pub fn limit(&self) -> u32 {
        (self.limit as u32).max(1)
    }

    /// So many are in flight now.
    pub fn on_load(&mut self, in_flight: u32, now: Instant) {
        self.roll(now);
        self.peak = self.peak.max(in_flight);
    }

    /// An attempt was turned away for load.
    pub fn on_reject(&mut self, now: Instant) {
        self.roll(now);
        self.rejected = true;
        if cut_is_due(self.cut_at, self.settle, now) {
            self.cut_at = Some(now);
            self.limit = (self.limit * self.settings.backoff).max(f64::from(self.settings.min));
        }
    }

    /// Falls come at most once in this time or a window, whichever is longer.
    pub fn set_settle_time(&mut self, ttft_p50: Duration) {
        self.settle = ttft_p50.max(self.settings.window);
    }

    /// Ends the window when its time has come. A pause of several windows counts as one: nothing was
    /// tried in the others.
    fn roll(&mut self, now: Instant) {
        if now.saturating_duration_since(self.window_start) < self.settings.window {
            return;
        }
        let is_used = f64::from(self.peak) * 2.0 >= self.limit;
        if is_used && !self.rejected {
            self.limit = (self.limit + 1.0).min(f64::from(self.settings.max));
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
