//! A concurrency limit that follows the time to the first token.
//!
//! Netflix's Gradient2 (concurrency-limits, 2018): the limit is multiplied by how the latency of
//! now compares to the latency of always, a little queue is added, and the result is smoothed.
//! Four deviations:
//!
//! - The samples are ratios to a prediction, so that long prompts do not look like load.
//! - Both the long and the short value are the 90th percentile of a window. Comparing the
//!   percentile of a window to a mean over many would call every spread-out target loaded.
//! - The long value rises only in windows that used less than half of the limit, or no more than
//!   the least limit. Under load it would follow the load upwards, and the limit with it, without
//!   end; at the least limit what is measured is the target, not our load. It always may fall.
//! - It stays within 0.5 and 2: samples are ratios to what is normal, so more than that is load.
//!
//! By Little's law, the first tokens awaited at a saturated target grow in proportion to the
//! time they take. On a gauge of requests that await their first token, the limit therefore settles
//! where that time is some `tolerance` times the normal; on a gauge of whole streams, close to the
//! number of streams the target serves at once.

use std::time::Duration;

use super::aimd::cut_is_due;
use crate::clock::Instant;

/// How the limit follows the ratio, and within what.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GradientSettings {
    /// The limit before anything is known.
    pub start: u32,
    /// The limit never falls below this; at least 1.
    pub min: u32,
    /// The limit never rises above this.
    pub max: u32,
    /// How long a window lasts; longer where it has too few samples.
    pub window: Duration,
    /// The samples a window must have.
    pub min_samples: u32,
    /// The span of the long value in samples.
    pub long_samples: u32,
    /// How much slower than always is still well; at least 1.
    pub tolerance: f64,
    /// The part of a newly found limit that is taken over; in 0..=1.
    pub smoothing: f64,
    /// What a rejection leaves of the limit; in 0..1.
    pub backoff: f64,
}

/// The limit of an endpoint whose every request we send.
#[derive(Debug, Clone)]
pub struct Gradient {
    settings: GradientSettings,
    limit: f64,
    long: Option<f64>,
    window_start: Instant,
    window: Histogram,
    /// The most in flight in this window.
    peak: u32,
    cut_at: Option<Instant>,
    settle: Duration,
}

/// Ratios in logarithmic buckets, 5 % wide: exact enough for a percentile, and of fixed size.
#[derive(Debug, Clone)]
struct Histogram {
    counts: [u32; BUCKETS],
    total: u32,
}

/// Enough buckets of 5 % for ratios of 0.02 to 50.
const BUCKETS: usize = 161;
const SMALLEST: f64 = 0.02;
const WIDTH: f64 = 1.05;

/// Where the long value stays, whatever is measured.
const LONG_RANGE: (f64, f64) = (0.5, 2.0);

impl Default for GradientSettings {
    /// From 20 within 4 to 512; windows of 1 s and 10 samples, 600 samples long, tolerance 1.5.
    fn default() -> Self {
        Self {
            start: 20,
            min: 4,
            max: 512,
            window: Duration::from_secs(1),
            min_samples: 10,
            long_samples: 600,
            tolerance: 1.5,
            smoothing: 0.2,
            backoff: 0.9,
        }
    }
}

// === impl Gradient ===

impl Gradient {
    /// A limit at its start.
    pub fn new(settings: GradientSettings, now: Instant) -> Self {
        Self {
            settings,
            limit: f64::from(settings.start),
            long: None,
            window_start: now,
            window: Histogram { counts: [0; BUCKETS], total: 0 },
            peak: 0,
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

    /// A first token came after `ratio` times the predicted time.
    pub fn on_first_token(&mut self, ratio: f64, in_flight: u32, now: Instant) {
        self.on_load(in_flight, now);
        if ratio.is_finite() && ratio > 0.0 {
            self.window.add(ratio);
        }
    }

    /// An attempt was turned away for load.
    pub fn on_reject(&mut self, now: Instant) {
        self.roll(now);
        if cut_is_due(self.cut_at, self.settle, now) {
            self.cut_at = Some(now);
            self.limit = (self.limit * self.settings.backoff).max(f64::from(self.settings.min));
        }
    }

    /// Falls for rejections come at most once in this time or a window, whichever is longer.
    pub fn set_settle_time(&mut self, ttft_p50: Duration) {
        self.settle = ttft_p50.max(self.settings.window);
    }

    fn roll(&mut self, now: Instant) {
        let is_over = now.saturating_duration_since(self.window_start) >= self.settings.window;
        if !is_over || self.window.total < self.settings.min_samples.max(1) {
            return;
        }
        let (samples, short) = (self.window.total, self.window.quantile(0.9));
        let long = self.learn(short, samples);
        self.steer(short, long);
        self.window.clear();
        self.window_start = now;
        self.peak = 0;
    }

    /// Folds a window into the long value and returns it.
    fn learn(&mut self, short: f64, samples: u32) -> f64 {
        let is_idle = f64::from(self.peak) * 2.0 < self.limit || self.peak <= self.settings.min;
        let alpha = 2.0 / (f64::from(self.settings.long_samples) + 1.0);
        let weight = 1.0 - (1.0 - alpha).powf(f64::from(samples));
        let mut long = match self.long {
            None => short,
            Some(long) if short > long && !is_idle => long,
            Some(long) => long + (short - long) * weight,
        };
        // Gradient2's way out of a long value learned in bad times.
        if long > short * 2.0 {
            long *= 0.95;
        }
        let long = long.clamp(LONG_RANGE.0, LONG_RANGE.1);
        self.long = Some(long);
        long
    }

    fn steer(&mut self, short: f64, long: f64) {
        let gradient = (self.settings.tolerance * long / short).clamp(0.5, 1.0);
        let found = self.limit * gradient + self.limit.sqrt();
        if found > self.limit && f64::from(self.peak) * 2.0 < self.limit {
            return;
        }
        let limit = self.limit + (found - self.limit) * self.settings.smoothing;
        self.limit = limit.clamp(f64::from(self.settings.min), f64::from(self.settings.max));
    }
}

// === impl Histogram ===

impl Histogram {
    fn add(&mut self, ratio: f64) {
        // A negative logarithm becomes bucket 0.
        let bucket = ((ratio / SMALLEST).ln() / WIDTH.ln()) as usize;
        if let Some(count) = self.counts.get_mut(bucket.min(BUCKETS - 1)) {
            *count = count.saturating_add(1);
            self.total = self.total.saturating_add(1);
        }
    }

    /// The ratio below which this part of the samples lies, within 2.5 %.
    fn quantile(&self, part: f64) -> f64 {
        let rank = (f64::from(self.total) * part).ceil();
        let mut below = 0.0;
        for (bucket, count) in (0_i32..).zip(&self.counts) {
            below += f64::from(*count);
            if below >= rank {
                return SMALLEST * WIDTH.powi(bucket) * WIDTH.sqrt();
            }
        }
        SMALLEST
    }

    fn clear(&mut self) {
        self.counts = [0; BUCKETS];
        self.total = 0;
    }
}
