//! Chance, seeded: the same seed and the same ordinal of a request give the same rolls.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rand_distr::LogNormal;

/// A latency that scatters: log-normal with this median. Time to first token and gaps between
/// tokens of real providers have such long right tails. `sigma` 0 is a constant.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Latency {
    /// Half of all samples are shorter.
    pub median: Duration,
    /// The standard deviation of the logarithm: 0.4 puts the 99th percentile at 2.5 medians.
    pub sigma: f64,
}

/// The rolls for one request.
#[derive(Debug)]
pub(super) struct Dice(StdRng);

// === impl Latency ===

impl Latency {
    /// Always the same.
    pub const fn constant(median: Duration) -> Self {
        Self { median, sigma: 0.0 }
    }
}

// === impl Dice ===

impl Dice {
    pub(super) fn new(seed: u64, ordinal: u64) -> Self {
        // The golden ratio spreads neighbouring ordinals over the whole range.
        let mixed = seed ^ ordinal.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        Self(StdRng::seed_from_u64(mixed))
    }

    /// True with this probability. Rolls even where the answer is certain, so that changing one
    /// share does not change the rolls after it.
    pub(super) fn chance(&mut self, share: f64) -> bool {
        self.0.random::<f64>() < share
    }

    pub(super) fn between(&mut self, min: u64, max: u64) -> u64 {
        self.0.random_range(min..=max.max(min))
    }

    pub(super) fn latency(&mut self, latency: Latency, factor: f64) -> Duration {
        let median = latency.median.as_secs_f64();
        if median <= 0.0 {
            return Duration::ZERO;
        }
        let sampled = match LogNormal::new(median.ln(), latency.sigma) {
            Ok(distribution) if latency.sigma > 0.0 => self.0.sample(distribution),
            Ok(_) | Err(_) if factor == 1.0 => return latency.median,
            Ok(_) | Err(_) => median,
        };
        // An hour is longer than any request may last, and keeps sums far from overflow.
        Duration::try_from_secs_f64(sampled * factor).unwrap_or(HOUR).min(HOUR)
    }
}

const HOUR: Duration = Duration::from_secs(3_600);
