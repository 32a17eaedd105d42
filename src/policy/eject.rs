//! Takes a target out for a while when it is far worse than its siblings.
//!
//! Sampling by score already leaves a bad target a fraction of a per cent; ejection takes that away
//! too, and tells operators. Statistical outlier detection needs more hosts than a route has
//! providers, so the rule compares with the median of the others and works with two targets: a
//! score above three times that median, for 30 s, with at least 20 answers in that time. The first
//! ejection lasts 30 s, the n-th n times that, at most 5 min, each ±10 % so that gateways do not
//! let a target back in together. The shape follows Envoy's outlier detection.
//!
//! ```text
//!             far above the others for 30 s, ≥ 20 samples, the pool can spare it
//!   In ─────────────────────────────────────────────────────────────▶ Out
//!    ▲                       its time is over                          │
//!    └─────────────────────────────────────────────────────────────────┘
//! ```

use std::time::Duration;

use crate::clock::Instant;

/// When a target is ejected.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// How many times the median score of the others is far above it.
    pub factor: f64,
    /// How long it must have been far above without a break.
    pub sustained: Duration,
    /// Answers that must have been seen in that time.
    pub min_samples: u32,
    /// How long the first ejection lasts; the n-th lasts n times as long.
    pub base: Duration,
    /// The longest.
    pub max: Duration,
    /// Part by which each is made longer or shorter at random.
    pub jitter: f64,
    /// How long a target must have been in without a break for its ejections to be forgotten.
    pub forget: Duration,
    /// Share of the pool's weight that ejections must leave.
    pub min_weight_share: f64,
}

/// What ejection remembers of one target.
#[derive(Debug, Clone, Default)]
pub struct Ejection {
    state: State,
    /// Ejections since the last time they were forgotten.
    count: u32,
}

#[derive(Debug, Clone, Copy)]
enum State {
    In {
        /// When it last came back, if it was ever out.
        since: Option<Instant>,
        /// Since when it has been far above the others, and answers seen since.
        above: Option<(Instant, u32)>,
    },
    Out {
        until: Instant,
    },
}

/// How a target compares with its pool at one moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Comparison {
    /// Its score.
    pub score: f64,
    /// The median score of the others; see [`median_of_others`]. `None` if there are no others.
    pub others: Option<f64>,
    /// Whether the pool can do without it; see [`can_spare`].
    pub is_spare: bool,
}

/// What changed, for the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Out until then, for the n-th time.
    Ejected {
        /// When it comes back.
        until: Instant,
        /// The how many-th time in a row.
        count: u32,
    },
    /// Back in; its slow start begins.
    Returned,
}

// === impl Settings ===

impl Default for Settings {
    fn default() -> Self {
        Self {
            factor: 3.0,
            sustained: Duration::from_secs(30),
            min_samples: 20,
            base: Duration::from_secs(30),
            max: Duration::from_secs(300),
            jitter: 0.1,
            forget: Duration::from_secs(300),
            min_weight_share: 0.5,
        }
    }
}

// === impl Ejection ===

impl Default for State {
    fn default() -> Self {
        Self::In { since: None, above: None }
    }
}

impl Ejection {
    /// Counts an answer, good or bad, that came from the target.
    pub fn on_sample(&mut self) {
        if let State::In { above: Some((_, samples)), .. } = &mut self.state {
            *samples = samples.saturating_add(1);
        }
    }

    /// Compares the target with its pool; to be called about once a second. `random` is uniform in
    /// 0..1. A target that serves several routes may be compared with the pool of each: one that is
    /// no worse than the others of any of them stays in.
    pub fn on_comparison(
        &mut self,
        comparison: Comparison,
        settings: &Settings,
        now: Instant,
        random: f64,
    ) -> Option<Change> {
        if let State::Out { until } = self.state {
            if now < until {
                return None;
            }
            self.state = State::In { since: Some(until), above: None };
            return Some(Change::Returned);
        }
        let State::In { since, above } = self.state else { return None };
        if since.is_some_and(|since| now.saturating_duration_since(since) >= settings.forget) {
            self.count = 0;
        }
        let is_above =
            comparison.others.is_some_and(|others| comparison.score > settings.factor * others);
        if !is_above {
            self.state = State::In { since, above: None };
            return None;
        }
        let (start, samples) = above.unwrap_or((now, 0));
        self.state = State::In { since, above: Some((start, samples)) };
        let is_sustained = now.saturating_duration_since(start) >= settings.sustained;
        if !is_sustained || samples < settings.min_samples || !comparison.is_spare {
            return None;
        }
        self.count = self.count.saturating_add(1);
        let length = settings.base.saturating_mul(self.count).min(settings.max);
        let until = now + length.mul_f64(1.0 + settings.jitter * (2.0 * random - 1.0));
        self.state = State::Out { until };
        Some(Change::Ejected { until, count: self.count })
    }

    /// Until when the target is out, if it is.
    pub fn out_until(&self, now: Instant) -> Option<Instant> {
        match self.state {
            State::Out { until } if now < until => Some(until),
            State::Out { .. } | State::In { .. } => None,
        }
    }

    /// When the target last came back, if it was ever out: the start of its slow start.
    pub fn returned_at(&self, now: Instant) -> Option<Instant> {
        match self.state {
            State::In { since, .. } => since,
            State::Out { until } => (now >= until).then_some(until),
        }
    }
}

/// The lower median of all scores but the one at `index`; `None` if there are no others. Sorts
/// `scratch`, which it fills.
pub fn median_of_others(scores: &[f64], index: usize, scratch: &mut Vec<f64>) -> Option<f64> {
    scratch.clear();
    scratch.extend(scores.iter().enumerate().filter(|(at, _)| *at != index).map(|(_, s)| *s));
    scratch.sort_unstable_by(f64::total_cmp);
    scratch.get(scratch.len().saturating_sub(1) / 2).copied()
}

/// Whether a pool of `total_weight`, of which `serving_weight` on `serving` targets may be asked
/// now, can do without one of them that weighs `weight`: another must be left, and at least
/// [`Settings::min_weight_share`] of the weight.
pub fn can_spare(
    weight: f64,
    serving: usize,
    serving_weight: f64,
    total_weight: f64,
    settings: &Settings,
) -> bool {
    serving > 1 && serving_weight - weight >= settings.min_weight_share * total_weight
}

#[cfg(test)]
mod tests {
    use super::*;

    const BAD: Comparison = Comparison { score: 4.0, others: Some(1.0), is_spare: true };

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// Compares once a second for `seconds`, with one sample each, until something changes.
    fn watch(
        ejection: &mut Ejection,
        comparison: Comparison,
        from: Instant,
        seconds: u64,
    ) -> Option<(u64, Change)> {
        (0..=seconds).find_map(|second| {
            ejection.on_sample();
            let now = from + secs(second);
            let change = ejection.on_comparison(comparison, &Settings::default(), now, 0.5)?;
            Some((second, change))
        })
    }

    #[test]
    fn a_target_far_above_the_others_is_out_after_30_seconds() {
        let start = Instant::now();
        let mut ejection = Ejection::default();
        let until = start + secs(60);
        let ejected = Change::Ejected { until, count: 1 };
        assert_eq!(watch(&mut ejection, BAD, start, 100), Some((30, ejected)));
        assert_eq!(ejection.out_until(start + secs(59)), Some(until));
        assert_eq!(ejection.out_until(until), None);
        assert_eq!(ejection.returned_at(until), Some(until));
        assert_eq!(watch(&mut ejection, BAD, until, 0), Some((0, Change::Returned)));
    }

    #[test]
    fn what_does_not_eject() {
        let start = Instant::now();
        for (name, comparison) in [
            ("three times is not more than three times", Comparison { score: 3.0, ..BAD }),
            ("no others", Comparison { others: None, ..BAD }),
            ("the pool needs it", Comparison { is_spare: false, ..BAD }),
        ] {
            assert_eq!(watch(&mut Ejection::default(), comparison, start, 300), None, "{name}");
        }
    }

    #[test]
    fn too_few_samples_do_not_eject() {
        let start = Instant::now();
        let mut ejection = Ejection::default();
        for second in 0..100 {
            let now = start + secs(second);
            assert_eq!(ejection.on_comparison(BAD, &Settings::default(), now, 0.5), None);
        }
    }

    #[test]
    fn one_good_comparison_starts_the_clock_again() {
        let start = Instant::now();
        let mut ejection = Ejection::default();
        assert_eq!(watch(&mut ejection, BAD, start, 29), None);
        let good = Comparison { score: 1.0, ..BAD };
        assert_eq!(watch(&mut ejection, good, start + secs(29), 0), None);
        let again = watch(&mut ejection, BAD, start + secs(30), 100);
        assert_eq!(again.map(|(second, _)| second), Some(30));
    }

    #[test]
    fn each_ejection_is_longer_up_to_5_minutes_and_a_good_time_is_forgotten() {
        let mut now = Instant::now();
        let mut ejection = Ejection::default();
        for expected in [30, 60, 90, 120, 150, 180, 210, 240, 270, 300, 300] {
            let (after, change) = watch(&mut ejection, BAD, now, 100).unwrap();
            let Change::Ejected { until, .. } = change else { panic!("{change:?}") };
            assert_eq!(until - (now + secs(after)), secs(expected));
            now = until;
            assert_eq!(watch(&mut ejection, BAD, now, 0), Some((0, Change::Returned)));
        }
        let good = Comparison { score: 1.0, ..BAD };
        assert_eq!(watch(&mut ejection, good, now, 300), None);
        let (_, change) = watch(&mut ejection, BAD, now + secs(301), 100).unwrap();
        assert!(matches!(change, Change::Ejected { count: 1, .. }), "{change:?}");
    }

    #[test]
    fn jitter_is_a_tenth_either_way() {
        for (random, expected) in [(0.0, 27.0), (0.5, 30.0), (1.0, 33.0)] {
            let start = Instant::now();
            let mut ejection = Ejection::default();
            assert_eq!(watch(&mut ejection, BAD, start, 29), None);
            let now = start + secs(30);
            let change = ejection.on_comparison(BAD, &Settings::default(), now, random);
            let Some(Change::Ejected { until, .. }) = change else { panic!("{change:?}") };
            assert!(((until - now).as_secs_f64() - expected).abs() < 1e-6);
        }
    }

    #[test]
    fn half_of_the_weight_and_one_target_stay() {
        let settings = Settings::default();
        for (weight, serving, serving_weight, total, expected) in [
            (1.0, 1, 1.0, 1.0, false),
            (0.1, 1, 1.0, 1.0, false),
            (1.0, 2, 2.0, 2.0, true),
            (3.0, 2, 4.0, 4.0, false),
            (1.0, 3, 3.0, 3.0, true),
            (1.0, 2, 2.0, 3.0, false),
        ] {
            let spare = can_spare(weight, serving, serving_weight, total, &settings);
            assert_eq!(spare, expected, "{weight} of {serving_weight} of {total}");
        }
    }

    #[test]
    fn the_median_leaves_the_target_itself_out() {
        let mut scratch = Vec::new();
        assert_eq!(median_of_others(&[9.0, 1.0, 2.0, 3.0], 0, &mut scratch), Some(2.0));
        assert_eq!(median_of_others(&[9.0, 1.0], 0, &mut scratch), Some(1.0));
        assert_eq!(median_of_others(&[9.0, 1.0], 1, &mut scratch), Some(9.0));
        assert_eq!(median_of_others(&[9.0], 0, &mut scratch), None);
    }
}
