//! Averages that forget with time, for samples that come unevenly.
//!
//! A sample weighs by the time since the one before: `w = exp(-dt/tau)`, `v = v*w + x*(1 - w)`. So
//! a busy target does not forget faster than a quiet one. Samples at the same instant as the last
//! therefore weigh nothing, except that a peak always counts.

use std::time::Duration;

use crate::clock::Instant;

/// A time-decayed average.
#[derive(Debug, Clone, Copy)]
pub struct Ewma {
    tau: Duration,
    last: Option<(f64, Instant)>,
}

/// A time-decayed average that jumps up to every sample above it: quick to believe bad news, slow
/// to forget it (Finagle's Peak-EWMA).
#[derive(Debug, Clone, Copy)]
pub struct PeakEwma {
    ewma: Ewma,
}

/// Successes and attempts, both halving every half-life: an estimate of the probability of success.
#[derive(Debug, Clone, Copy)]
pub struct Decayed {
    half_life: Duration,
    good: f64,
    all: f64,
    at: Option<Instant>,
}

/// How many attempts the prior of [`Decayed::probability`] counts for.
pub const PRIOR_ATTEMPTS: f64 = 10.0;

// === impl Ewma ===

impl Ewma {
    /// No sample yet. After `tau` a sample weighs 1/e of what it did.
    pub const fn new(tau: Duration) -> Self {
        Self { tau, last: None }
    }

    /// Takes a sample. What is not finite is left out.
    pub fn add(&mut self, sample: f64, now: Instant) {
        if !sample.is_finite() {
            return;
        }
        self.last = Some(match self.last {
            Some((value, at)) => {
                let kept = weight(now.saturating_duration_since(at), self.tau);
                (value * kept + sample * (1.0 - kept), at.max(now))
            }
            None => (sample, now),
        });
    }

    /// The average as of the last sample; nothing before the first.
    pub fn value(&self) -> Option<f64> {
        self.last.map(|(value, _)| value)
    }
}

// === impl PeakEwma ===

impl PeakEwma {
    /// No sample yet. After `tau` a sample weighs 1/e of what it did.
    pub const fn new(tau: Duration) -> Self {
        Self { ewma: Ewma::new(tau) }
    }

    /// Takes a sample. What is not finite is left out.
    pub fn add(&mut self, sample: f64, now: Instant) {
        let at = self.ewma.last.map_or(now, |(_, at)| at.max(now));
        match self.ewma.value() {
            Some(value) if sample.is_finite() && sample > value => {
                self.ewma.last = Some((sample, at));
            }
            Some(_) | None => self.ewma.add(sample, now),
        }
    }

    /// The value as of the last sample; nothing before the first.
    pub fn value(&self) -> Option<f64> {
        self.ewma.value()
    }

    /// The value as if samples of zero had come since the last, so that a target nobody uses after
    /// a penalty comes back: from 5 s to 0.5 s in 35 s for a tau of 15 s. Callers put a floor under
    /// it.
    pub fn decayed(&self, now: Instant) -> Option<f64> {
        let (value, at) = self.ewma.last?;
        Some(value * weight(now.saturating_duration_since(at), self.ewma.tau))
    }
}

// === impl Decayed ===

impl Decayed {
    /// No attempt yet.
    pub const fn new(half_life: Duration) -> Self {
        Self { half_life, good: 0.0, all: 0.0, at: None }
    }

    /// Counts one attempt.
    pub fn add(&mut self, success: bool, now: Instant) {
        let kept = self.kept(now);
        self.good = self.good * kept + if success { 1.0 } else { 0.0 };
        self.all = self.all * kept + 1.0;
        self.at = Some(self.at.map_or(now, |at| at.max(now)));
    }

    /// The probability of success, 0..=1: `(s + k*prior) / (n + k)` with k = [`PRIOR_ATTEMPTS`].
    /// `prior` is what is believed before any attempt, such as the success of the last 24 h.
    pub fn probability(&self, prior: f64, now: Instant) -> f64 {
        let kept = self.kept(now);
        (self.good * kept + PRIOR_ATTEMPTS * prior) / (self.all * kept + PRIOR_ATTEMPTS)
    }

    /// How many attempts the estimate stands on, after decay.
    pub fn attempts(&self, now: Instant) -> f64 {
        self.all * self.kept(now)
    }

    fn kept(&self, now: Instant) -> f64 {
        let Some(at) = self.at else { return 1.0 };
        let half_lives = now.saturating_duration_since(at).as_secs_f64()
            / self.half_life.as_secs_f64().max(f64::MIN_POSITIVE);
        (-half_lives).exp2()
    }
}

fn weight(elapsed: Duration, tau: Duration) -> f64 {
    (-elapsed.as_secs_f64() / tau.as_secs_f64().max(f64::MIN_POSITIVE)).exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-9
    }

    #[test]
    fn an_average_forgets_by_time_and_not_by_the_number_of_samples() {
        let start = Instant::now();
        let (mut busy, mut quiet) = (Ewma::new(secs(10)), Ewma::new(secs(10)));
        for ewma in [&mut busy, &mut quiet] {
            assert_eq!(ewma.value(), None);
            ewma.add(1.0, start);
        }
        for tenth in 1..=100 {
            busy.add(5.0, start + Duration::from_millis(100 * tenth));
        }
        quiet.add(5.0, start + secs(10));
        let expected = 5.0 - 4.0 / std::f64::consts::E;
        assert!(close(busy.value().unwrap(), expected), "{busy:?}");
        assert!(close(quiet.value().unwrap(), expected), "{quiet:?}");
    }

    #[test]
    fn a_peak_counts_at_once_and_fades_with_and_without_samples() {
        let start = Instant::now();
        let mut peak = PeakEwma::new(secs(15));
        peak.add(0.5, start);
        peak.add(5.0, start);
        assert_eq!(peak.value(), Some(5.0));
        let later = start + secs(35);
        assert!(peak.decayed(later).unwrap() < 0.5, "35 s after a penalty it looks healthy");
        assert!(peak.decayed(start + secs(34)).unwrap() > 0.5);
        peak.add(0.5, later);
        let value = peak.value().unwrap();
        assert!((0.5..1.0).contains(&value), "{value}");
    }

    #[test]
    fn samples_that_are_no_numbers_change_nothing() {
        let start = Instant::now();
        let (mut ewma, mut peak) = (Ewma::new(secs(1)), PeakEwma::new(secs(1)));
        for sample in [f64::NAN, f64::INFINITY, 2.0, f64::NAN, f64::NEG_INFINITY] {
            ewma.add(sample, start + secs(1));
            peak.add(sample, start + secs(1));
        }
        assert_eq!((ewma.value(), peak.value()), (Some(2.0), Some(2.0)));
    }

    #[test]
    fn the_estimate_starts_at_the_prior_follows_the_attempts_and_returns() {
        let start = Instant::now();
        let mut decayed = Decayed::new(secs(30));
        assert!(close(decayed.probability(0.99, start), 0.99));
        for _ in 0..10 {
            decayed.add(false, start);
        }
        assert!(close(decayed.probability(1.0, start), 0.5), "10 failures against a prior of 10");
        assert!(close(decayed.attempts(start + secs(30)), 5.0));
        assert!(close(decayed.probability(1.0, start + secs(30)), 10.0 / 15.0));
        assert!(decayed.probability(1.0, start + secs(3_600)) > 0.999_999);
    }
}
