//! Tests of sketches.

use proptest::prelude::*;

use super::*;

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn sketch_of(samples: &[Duration]) -> Sketch {
    let mut sketch = Sketch::default();
    samples.iter().for_each(|sample| sketch.insert(*sample));
    sketch
}

/// Off by no more than the promised share (and what rounding to nanoseconds adds).
fn near(estimate: Option<Duration>, exact: Duration) -> bool {
    let (estimate, exact) = (estimate.unwrap().as_secs_f64(), exact.as_secs_f64());
    (estimate - exact).abs() <= exact * RELATIVE_ERROR + 2e-9
}

fn exact(samples: &[Duration], q: f64) -> Duration {
    let mut sorted: Vec<_> = samples.iter().map(|at| (*at).clamp(SHORTEST, LONGEST)).collect();
    sorted.sort_unstable();
    sorted[(q * (sorted.len() - 1) as f64) as usize]
}

/// Durations whose logarithm is uniform, as latencies are, and some out of range.
fn duration() -> impl Strategy<Value = Duration> {
    (-2.0_f64..15.0).prop_map(|ln_ms| Duration::from_secs_f64(ln_ms.exp() / 1_000.0))
}

proptest! {
    #[test]
    fn quantiles_are_within_one_percent_of_the_exact_ones(
        samples in prop::collection::vec(duration(), 1..400),
        q in 0.0_f64..=1.0,
    ) {
        let sketch = sketch_of(&samples);
        for q in [q, 0.0, 0.5, 0.95, 0.99, 1.0] {
            prop_assert!(near(sketch.quantile(q), exact(&samples, q)), "{q}: {sketch:?}");
        }
    }

    #[test]
    fn a_merged_sketch_is_the_sketch_of_all_samples(
        left in prop::collection::vec(duration(), 0..100),
        right in prop::collection::vec(duration(), 1..100),
        q in 0.0_f64..=1.0,
    ) {
        let mut merged = sketch_of(&left);
        merged.merge(&sketch_of(&right));
        let all = sketch_of(&[left, right].concat());
        prop_assert_eq!(merged.count(), all.count());
        prop_assert_eq!(merged.quantile(q), all.quantile(q));
    }

    #[test]
    fn a_ring_has_the_quantiles_of_the_slots_that_have_not_expired(
        samples in prop::collection::vec((0_u64..20_000, duration()), 1..200),
        q in 0.0_f64..=1.0,
    ) {
        let start = Instant::now();
        let mut ring = SketchRing::new();
        let mut at = 0;
        let mut seen = Vec::new();
        for (gap_ms, sample) in samples {
            at += if seen.is_empty() { 0 } else { gap_ms };
            ring.insert(sample, start + ms(at));
            seen.push((at / 60_000, sample));
        }
        for later in [0, 60_000, 170_000] {
            let slot = (at + later) / 60_000;
            let live: Vec<_> =
                seen.iter().filter(|(at, _)| at + 5 > slot).map(|(_, sample)| *sample).collect();
            let now = start + ms(at + later);
            prop_assert_eq!(ring.count(now), live.len() as u64);
            prop_assert_eq!(ring.quantile(q, now), sketch_of(&live).quantile(q));
        }
    }
}

#[test]
fn an_empty_sketch_has_no_quantile_and_no_storage() {
    let mut sketch = Sketch::default();
    assert_eq!((sketch.count(), sketch.quantile(0.5), sketch.counts.capacity()), (0, None, 0));
    sketch.insert(ms(300));
    assert_eq!(sketch.counts.len(), BLOCK, "one block for one sample");
    sketch.merge(&Sketch::default());
    assert_eq!(sketch.count(), 1);
    sketch.clear();
    assert_eq!((sketch.count(), sketch.quantile(0.5), sketch.counts.capacity()), (0, None, 0));
}

#[test]
fn storage_is_bounded_whatever_the_samples() {
    let sketch = sketch_of(&[Duration::MAX, Duration::ZERO, ms(500), LONGEST, SHORTEST]);
    assert_eq!(sketch.counts.len(), 672);
    assert_eq!(sketch.quantile(0.0), Some(SHORTEST));
    assert_eq!(sketch.quantile(1.0), Some(LONGEST), "beyond the range is the end of the range");
}

#[test]
fn a_quantile_that_is_no_number_or_out_of_range_is_clamped() {
    let sketch = sketch_of(&[ms(10), ms(1_000)]);
    assert_eq!(sketch.quantile(-3.0), sketch.quantile(0.0));
    assert_eq!(sketch.quantile(7.0), sketch.quantile(1.0));
    assert_eq!(sketch.quantile(f64::NAN), sketch.quantile(0.0));
}

#[test]
fn a_ring_forgets_after_five_minutes_without_samples() {
    let start = Instant::now();
    let mut ring = SketchRing::new();
    assert_eq!((ring.count(start), ring.quantile(0.5, start)), (0, None));
    ring.insert(ms(200), start);
    assert_eq!(ring.count(start + ms(299_999)), 1);
    assert_eq!(ring.count(start + ms(300_000)), 0);
    assert_eq!(ring.quantile(0.5, start + ms(300_000)), None);
    ring.insert(ms(700), start + ms(900_000));
    assert!(near(ring.quantile(0.5, start + ms(900_000)), ms(700)));
}

#[test]
fn a_value_is_computed_once_a_second() {
    let start = Instant::now();
    let mut refreshed = Refreshed::new();
    let mut computed = 0;
    for at in [0, 1, 500, 999, 1_000, 1_500, 1_999, 10_000] {
        refreshed.get(start + ms(at), || computed += 1);
    }
    assert_eq!(computed, 3, "at 0, 1,000 and 10,000 ms");
    assert_eq!(refreshed.get(start + ms(20_000), || ()), ());
}
