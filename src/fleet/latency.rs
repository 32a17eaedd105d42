//! How long a target takes to its first token, and whether it owes one.
//!
//! Streamed and whole answers are kept apart, because a whole answer has its first token with its
//! last, and so are prompts of different sizes.

use std::time::Duration;

use crate::clock::Instant;
use crate::policy::hedge::{Quantile, SizeBucket};
use crate::policy::rank::{FirstTokenSettings, FirstTokens};
use crate::policy::sketch::{Refreshed, SketchRing};

/// What an attempt's first token is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shape {
    /// The prompt's size.
    pub(super) size: SizeBucket,
    /// Whether the answer comes token by token.
    pub(super) streamed: bool,
}

/// Times to a first token of one target.
#[derive(Debug, Default)]
pub(super) struct Latencies {
    streamed: OfKind,
    whole: OfKind,
    settings: FirstTokenSettings,
}

/// Times to a first token for answers of one kind.
#[derive(Debug, Default)]
struct OfKind {
    /// By size; nothing for sizes never seen.
    sizes: [Option<Box<Samples>>; SizeBucket::ALL.len()],
    /// Of any size.
    all: Samples,
    /// Attempts that wait for their first token.
    waiting: u32,
    /// Since when none of them has had an answer.
    silent_since: Option<Instant>,
}

#[derive(Debug, Default)]
struct Samples {
    recent: FirstTokens,
    sketch: SketchRing,
    quantiles: Refreshed<Quantiles>,
    late: Late,
}

/// The time after which a first token is late. Routes that share a target nearly always agree on
/// the quantile; where they do not, each pays for reading it.
#[derive(Debug, Default)]
struct Late {
    quantile: f64,
    value: Refreshed<Quantile>,
}

/// Quantiles of the time to a first token over the last five minutes.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Quantiles {
    pub(super) p50: Option<Duration>,
    pub(super) p95: Option<Duration>,
    pub(super) p99: Option<Duration>,
    pub(super) samples: u64,
}

// === impl Latencies ===

impl Latencies {
    /// Expected seconds to the first token, failures included as penalties, and the seconds since
    /// that was learnt; nothing where the target was never asked.
    ///
    /// A target that owes first tokens and says nothing is at least as slow as its silence is long:
    /// one that has gone dark shows in that way at once, and not when the first timeout passes. A
    /// straggler among answers that come does not count.
    pub(super) fn expected(&self, shape: Shape, now: Instant) -> (Option<f64>, f64) {
        let kind = self.of_kind(shape.streamed);
        let own = kind.of_size(shape.size).filter(|own| own.recent.seconds().is_some());
        let recent = &own.unwrap_or(&kind.all).recent;
        let learnt = recent.seconds();
        let silence = kind.silence(now).as_secs_f64();
        match learnt {
            Some(seconds) if seconds >= silence => (Some(seconds), recent.idle_seconds(now)),
            None if silence < 1.0 => (None, 0.0),
            Some(_) | None => (Some(silence), 0.0),
        }
    }

    /// Quantiles for this shape, and for answers of its kind to prompts of any size.
    pub(super) fn quantiles(&mut self, shape: Shape, now: Instant) -> (Quantiles, Quantiles) {
        let kind = self.of_kind_mut(shape.streamed);
        let own = kind.sizes.get_mut(shape.size.index()).and_then(Option::as_mut);
        let own = own.map(|own| own.quantiles(now)).unwrap_or_default();
        (own, kind.all.quantiles(now))
    }

    /// When a first token is late, as a quantile from 0 to 1: for this shape, and for answers of
    /// its kind to prompts of any size.
    pub(super) fn late(
        &mut self,
        shape: Shape,
        quantile: f64,
        now: Instant,
    ) -> (Quantile, Quantile) {
        let kind = self.of_kind_mut(shape.streamed);
        let own = kind.sizes.get_mut(shape.size.index()).and_then(Option::as_mut);
        let own = own.map(|own| own.late(quantile, now)).unwrap_or_default();
        (own, kind.all.late(quantile, now))
    }

    /// How many times its usual time to a first token it takes now; 1 where that is not known.
    pub(super) fn slowdown(&mut self, shape: Shape, now: Instant) -> f64 {
        let usual = self.quantiles(shape, now).0.p50.map(|p50| p50.as_secs_f64());
        match (self.expected(shape, now).0, usual) {
            (Some(recent), Some(usual)) if usual > 0.0 => recent / usual,
            (_, _) => 1.0,
        }
    }

    /// An attempt began to wait.
    pub(super) fn on_start(&mut self, streamed: bool, now: Instant) {
        let kind = self.of_kind_mut(streamed);
        kind.waiting += 1;
        kind.silent_since.get_or_insert(now);
    }

    /// The first token came after `waited`.
    pub(super) fn on_first_token(&mut self, shape: Shape, waited: Duration, now: Instant) {
        self.observe(shape, waited, now);
        self.of_kind_mut(shape.streamed).on_heard(now);
    }

    /// The attempt failed after `waited` without a first token. `heard` says whether it was the
    /// target that said so, and not our patience that ended.
    pub(super) fn on_failure(
        &mut self,
        shape: Shape,
        (waited, retry_after): (Duration, Option<Duration>),
        heard: bool,
        now: Instant,
    ) {
        let settings = self.settings;
        let kind = self.of_kind_mut(shape.streamed);
        if let Some(own) = kind.sizes.get_mut(shape.size.index()).and_then(Option::as_mut) {
            own.recent.on_failure(waited, retry_after, &settings, now);
        }
        kind.all.recent.on_failure(waited, retry_after, &settings, now);
        match heard {
            true => kind.on_heard(now),
            false => kind.on_gone(),
        }
    }

    /// An attempt that waited was answered otherwise than by a token, or given up.
    pub(super) fn on_gone(&mut self, streamed: bool) {
        self.of_kind_mut(streamed).on_gone();
    }

    /// A time to a first token, or the least that it would have been.
    pub(super) fn observe(&mut self, shape: Shape, waited: Duration, now: Instant) {
        let settings = self.settings;
        let kind = self.of_kind_mut(shape.streamed);
        if let Some(own) = kind.sizes.get_mut(shape.size.index()) {
            own.get_or_insert_default().observe(waited, &settings, now);
        }
        kind.all.observe(waited, &settings, now);
    }

    fn of_kind(&self, streamed: bool) -> &OfKind {
        if streamed { &self.streamed } else { &self.whole }
    }

    fn of_kind_mut(&mut self, streamed: bool) -> &mut OfKind {
        if streamed { &mut self.streamed } else { &mut self.whole }
    }
}

// === impl OfKind ===

impl OfKind {
    fn of_size(&self, size: SizeBucket) -> Option<&Samples> {
        self.sizes.get(size.index()).and_then(Option::as_deref)
    }

    /// For how long nothing was heard though something was owed.
    fn silence(&self, now: Instant) -> Duration {
        self.silent_since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }

    fn on_heard(&mut self, now: Instant) {
        self.waiting = self.waiting.saturating_sub(1);
        self.silent_since = (self.waiting > 0).then_some(now);
    }

    fn on_gone(&mut self) {
        self.waiting = self.waiting.saturating_sub(1);
        if self.waiting == 0 {
            self.silent_since = None;
        }
    }
}

// === impl Samples ===

impl Samples {
    fn observe(&mut self, waited: Duration, settings: &FirstTokenSettings, now: Instant) {
        self.recent.on_answer(waited, settings, now);
        self.sketch.insert(waited, now);
    }

    fn quantiles(&mut self, now: Instant) -> Quantiles {
        let sketch = &self.sketch;
        self.quantiles.get(now, || Quantiles {
            p50: sketch.quantile(0.5, now),
            p95: sketch.quantile(0.95, now),
            p99: sketch.quantile(0.99, now),
            samples: sketch.count(now),
        })
    }

    fn late(&mut self, quantile: f64, now: Instant) -> Quantile {
        if self.late.quantile.to_bits() != quantile.to_bits() {
            self.late = Late { quantile, value: Refreshed::default() };
        }
        let sketch = &self.sketch;
        self.late.value.get(now, || Quantile {
            value: sketch.quantile(quantile, now),
            samples: sketch.count(now),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: Shape = Shape { size: SizeBucket::UpTo1k, streamed: true };

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// A target that answered ten times within half a second each.
    fn usual(now: Instant) -> Latencies {
        let mut latencies = Latencies::default();
        for _ in 0..10 {
            latencies.on_start(true, now);
            latencies.on_first_token(SHAPE, ms(500), now);
        }
        latencies
    }

    #[test]
    fn a_target_that_has_gone_dark_is_as_slow_as_its_silence_is_long() {
        let now = Instant::now();
        let mut latencies = usual(now);
        latencies.on_start(true, now);
        assert_eq!(latencies.expected(SHAPE, now + ms(400)), (Some(0.5), 0.4));
        assert_eq!(latencies.expected(SHAPE, now + ms(900)), (Some(0.9), 0.0));
        latencies.on_gone(true);
        assert_eq!(latencies.expected(SHAPE, now + ms(900)).0, Some(0.5), "nothing is owed");
    }

    #[test]
    fn a_straggler_among_answers_that_come_is_no_silence() {
        let now = Instant::now();
        let mut latencies = usual(now);
        latencies.on_start(true, now);
        latencies.on_start(true, now + ms(1_000));
        latencies.on_first_token(SHAPE, ms(500), now + ms(1_500));
        assert_eq!(latencies.expected(SHAPE, now + ms(1_800)).0, Some(0.5));
        assert_eq!(latencies.expected(SHAPE, now + ms(2_500)).0, Some(1.0), "now it is alone");
    }

    #[test]
    fn a_target_nobody_has_heard_of_is_unknown_until_it_is_late() {
        let now = Instant::now();
        let mut latencies = Latencies::default();
        latencies.on_start(true, now);
        assert_eq!(latencies.expected(SHAPE, now + ms(900)).0, None);
        assert_eq!(latencies.expected(SHAPE, now + ms(2_000)).0, Some(2.0));
    }

    #[test]
    fn whole_answers_are_kept_apart_from_streams() {
        let now = Instant::now();
        let mut latencies = usual(now);
        let whole = Shape { streamed: false, ..SHAPE };
        latencies.on_start(false, now);
        latencies.on_first_token(whole, ms(9_000), now + ms(9_000));
        assert_eq!(latencies.expected(SHAPE, now).0, Some(0.5));
        assert_eq!(latencies.expected(whole, now).0, Some(9.0));
    }

    #[test]
    fn routes_with_other_budgets_wait_for_other_quantiles_of_the_same_target() {
        let now = Instant::now();
        let mut latencies = Latencies::default();
        for n in 1..=100 {
            latencies.on_start(true, now);
            latencies.on_first_token(SHAPE, ms(10 * n), now);
        }
        for (quantile, expected) in [(0.95, 950.0), (0.5, 500.0), (0.99, 990.0), (0.95, 950.0)] {
            let (own, all) = latencies.late(SHAPE, quantile, now);
            let late = own.value.unwrap().as_secs_f64() * 1e3;
            assert!((late / expected - 1.0).abs() < 0.03, "{quantile}: {late} ms");
            assert_eq!((own, own.samples), (all, 100));
        }
        let unseen = Shape { size: SizeBucket::Above64k, ..SHAPE };
        assert_eq!(latencies.late(unseen, 0.95, now).0, Quantile::default());
    }

    #[test]
    fn another_size_stands_in_where_a_size_was_never_seen() {
        let now = Instant::now();
        let latencies = usual(now);
        let long = Shape { size: SizeBucket::Above64k, ..SHAPE };
        assert_eq!(latencies.expected(long, now).0, Some(0.5));
    }
}
