//! How long a target takes to its first token: an average in time that follows many answers within
//! seconds and no single one.
//!
//! A peak average (Finagle's) jumps to every slow answer, which the exponent of the rank turns into
//! noise. This one closes in on a higher value with one time constant and on a lower one with a
//! longer one, and a single answer counts as at most a multiple of what was expected. Failures
//! count in full, so that a target that fails fast does not look fast.

use std::time::Duration;

use crate::clock::Instant;

/// How times to a first token are averaged.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FirstTokenSettings {
    /// Time constant towards a higher value. Zero takes it over at once.
    pub rise: Duration,
    /// Time constant towards a lower value.
    pub fall: Duration,
    /// An answer counts as at most this many times the average. At least 1.
    pub cap: f64,
    /// The least that a failure counts.
    pub min_penalty: Duration,
    /// The most that a failure counts.
    pub max_penalty: Duration,
}

/// The average of one target and one size of prompts.
#[derive(Debug, Clone, Copy, Default)]
pub struct FirstTokens {
    /// Seconds, and when the last sample came.
    average: Option<(f64, Instant)>,
}

// === impl FirstTokenSettings ===

impl Default for FirstTokenSettings {
    fn default() -> Self {
        Self {
            rise: Duration::from_millis(3_500),
            fall: Duration::from_secs(10),
            cap: 2.0,
            min_penalty: Duration::from_secs(5),
            max_penalty: Duration::from_secs(300),
        }
    }
}

// === impl FirstTokens ===

impl FirstTokens {
    /// Notes a first token, or how long one was waited for by somebody who left.
    pub fn on_answer(&mut self, waited: Duration, settings: &FirstTokenSettings, now: Instant) {
        let waited = waited.as_secs_f64();
        let most = self.average.map_or(waited, |(average, _)| settings.cap.max(1.0) * average);
        self.add(waited.min(most), settings, now);
    }

    /// Notes a failure, which counts as the longest of the time it took, what the provider asked us
    /// to wait, and [`FirstTokenSettings::min_penalty`].
    pub fn on_failure(
        &mut self,
        waited: Duration,
        retry_after: Option<Duration>,
        settings: &FirstTokenSettings,
        now: Instant,
    ) {
        let penalty = waited.max(retry_after.unwrap_or_default()).max(settings.min_penalty);
        self.add(penalty.min(settings.max_penalty).as_secs_f64(), settings, now);
    }

    /// The average in seconds; `None` before the first sample. For `Standing::ttft_seconds`.
    pub fn seconds(&self) -> Option<f64> {
        self.average.map(|(average, _)| average)
    }

    /// Seconds since the last sample, 0 before the first. For `Standing::idle_seconds`.
    pub fn idle_seconds(&self, now: Instant) -> f64 {
        self.average.map_or(0.0, |(_, at)| now.saturating_duration_since(at).as_secs_f64())
    }

    fn add(&mut self, sample: f64, settings: &FirstTokenSettings, now: Instant) {
        let Some((average, at)) = self.average else {
            self.average = Some((sample, now));
            return;
        };
        let tau = if sample > average { settings.rise } else { settings.fall };
        let passed = now.saturating_duration_since(at).as_secs_f64();
        let keep = if tau.is_zero() { 0.0 } else { (-passed / tau.as_secs_f64()).exp() };
        self.average = Some((average * keep + sample * (1.0 - keep), at.max(now)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: FirstTokenSettings = FirstTokenSettings {
        rise: Duration::from_secs(2),
        fall: Duration::from_secs(10),
        cap: 2.0,
        min_penalty: Duration::from_secs(5),
        max_penalty: Duration::from_secs(300),
    };

    fn after_one_second(start: Instant) -> FirstTokens {
        let mut tokens = FirstTokens::default();
        assert_eq!((tokens.seconds(), tokens.idle_seconds(start)), (None, 0.0));
        tokens.on_answer(Duration::from_secs(1), &SETTINGS, start);
        assert_eq!(tokens.seconds(), Some(1.0));
        tokens
    }

    #[test]
    fn it_rises_fast_falls_slowly_and_no_answer_counts_for_more_than_twice() {
        let start = Instant::now();
        for (waited, passed, expected) in [
            (2.0, 2, 2.0 - 1.0 / std::f64::consts::E),
            (50.0, 2, 2.0 - 1.0 / std::f64::consts::E),
            (0.5, 10, 0.5 + 0.5 / std::f64::consts::E),
            (2.0, 0, 1.0),
        ] {
            let mut tokens = after_one_second(start);
            let now = start + Duration::from_secs(passed);
            tokens.on_answer(Duration::from_secs_f64(waited), &SETTINGS, now);
            let seconds = tokens.seconds().unwrap();
            assert!((seconds - expected).abs() < 1e-9, "{waited} s after {passed} s: {seconds}");
            assert_eq!(tokens.idle_seconds(now + Duration::from_secs(7)), 7.0);
        }
    }

    #[test]
    fn a_failure_counts_in_full_and_never_as_fast() {
        let start = Instant::now();
        let at_once = FirstTokenSettings { rise: Duration::ZERO, ..SETTINGS };
        for (waited, retry_after, expected) in [
            (0.02, None, 5.0),
            (20.0, None, 20.0),
            (0.02, Some(60), 60.0),
            (0.02, Some(900), 300.0),
        ] {
            let mut tokens = after_one_second(start);
            let waited = Duration::from_secs_f64(waited);
            tokens.on_failure(waited, retry_after.map(Duration::from_secs), &at_once, start);
            assert_eq!(tokens.seconds(), Some(expected));
        }
    }
}
