//! When a breaker opens, and how long for.

use std::time::Duration;

/// When to stop sending to a target, and when to try it again.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// Hard failures in a row that open it: 5. More at high rates, see [`Breaker`](super::Breaker).
    pub max_run: u32,
    /// Attempts of the last 10 s before their ratios count: 20.
    pub min_attempts: u32,
    /// Share of failures that opens it, 0..=1: 0.5.
    pub max_failed: f64,
    /// Share of slow successes in the last 10 s that opens it, 0..=1: 0.8.
    pub max_slow: f64,
    /// Attempts of the last 60 s before `max_failed` counts for a quiet target: 10.
    pub quiet_min_attempts: u32,
    /// How long it stays open the first time: 30 s. Doubles each time it opens again.
    pub cooldown: Duration,
    /// The longest that doubling and `retry-after` make it, before jitter: 300 s.
    pub max_cooldown: Duration,
    /// By which share the cooldown is drawn longer or shorter, 0..=1: 0.2.
    pub jitter: f64,
    /// Closed for so long, the next cooldown is the first again: 5 min.
    pub forgiven_after: Duration,
    /// Trials while half open, 1..=[`MAX_TRIALS`]: 3. The majority decides.
    pub trials: u32,
    /// How long a trial may take before another may run in its place: 30 s.
    pub lease: Duration,
}

/// The most trials that the settings may ask for.
pub const MAX_TRIALS: u32 = 8;

// === impl Settings ===

impl Default for Settings {
    fn default() -> Self {
        Self {
            max_run: 5,
            min_attempts: 20,
            max_failed: 0.5,
            max_slow: 0.8,
            quiet_min_attempts: 10,
            cooldown: Duration::from_secs(30),
            max_cooldown: Duration::from_secs(300),
            jitter: 0.2,
            forgiven_after: Duration::from_secs(300),
            trials: 3,
            lease: Duration::from_secs(30),
        }
    }
}

impl Settings {
    pub(super) fn trials(&self) -> u32 {
        self.trials.clamp(1, MAX_TRIALS)
    }

    /// Good trials that close it: the majority.
    pub(super) fn good_enough(&self) -> u32 {
        self.trials() / 2 + 1
    }

    /// Bad trials that open it: as many as make a majority of good ones impossible.
    pub(super) fn bad_enough(&self) -> u32 {
        self.trials() - self.good_enough() + 1
    }
}
