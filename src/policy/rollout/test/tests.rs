//! Tests of one guardrail.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rand_distr::{Distribution, LogNormal};

use super::*;

fn feed(test: &mut Test, rng: &mut StdRng, part: f64, reading: impl Fn(&mut StdRng, Arm) -> f64) {
    let arm = if rng.random_bool(part) { Arm::Candidate } else { Arm::Control };
    let reading = reading(rng, arm);
    if let Some(ratios) = test.ratios(reading) {
        test.settle(arm, part, &ratios);
    }
    test.count(arm, part, reading);
}

#[test]
fn the_confidence_sequence_holds_the_effect_at_all_times_while_the_share_changes() {
    let mut missed = 0;
    for seed in 0..100 {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut test = Test::new(Guardrail::Errors);
        let mut is_missed = false;
        for part in [0.05, 0.2, 0.5] {
            for at in 0..3_000 {
                feed(&mut test, &mut rng, part, |rng, arm| {
                    let rate = if arm == Arm::Candidate { 0.06 } else { 0.04 };
                    if rng.random_bool(rate) { 1.0 } else { 0.0 }
                });
                // It is asymptotic: judged from the hundredth reading of the candidate on.
                if (part > 0.05 || at > 2_000)
                    && let Some(range) = test.interval()
                {
                    is_missed |= range.low > 0.02 || range.high < 0.02;
                }
            }
        }
        missed += u32::from(is_missed);
    }
    assert!(missed <= 5, "{missed} of 100");
}

#[test]
fn intervals_get_narrow_enough_to_be_of_use() {
    let mut rng = StdRng::seed_from_u64(3);
    let mut test = Test::new(Guardrail::Errors);
    for _ in 0..10_000 {
        feed(&mut test, &mut rng, 0.5, |rng, _| if rng.random_bool(0.01) { 1.0 } else { 0.0 });
    }
    // The fixed-sample interval would be 0.0039 either way.
    let range = test.interval().unwrap();
    assert!(range.high - range.low < 4.0 * 0.0039, "{range:?}");
}

#[test]
fn a_candidate_that_turns_bad_late_is_found_though_it_was_well_for_long() {
    let mut rng = StdRng::seed_from_u64(4);
    let mut test = Test::new(Guardrail::Errors);
    for _ in 0..40_000 {
        feed(&mut test, &mut rng, 0.25, |rng, _| if rng.random_bool(0.02) { 1.0 } else { 0.0 });
    }
    assert!(test.evidence() < 5.0, "{}", test.evidence());
    test.begin_stage();
    let taken = (1..20_000).find(|_| {
        feed(&mut test, &mut rng, 0.25, |rng, arm| {
            let rate = if arm == Arm::Candidate { 0.10 } else { 0.02 };
            if rng.random_bool(rate) { 1.0 } else { 0.0 }
        });
        test.evidence() >= 300.0
    });
    assert!(taken.unwrap() < 1_200, "{taken:?}");
    assert!(test.tally().effect(Guardrail::Errors).unwrap() > 0.05);
}

#[test]
fn wild_outliers_neither_raise_nor_break_anything() {
    let mut rng = StdRng::seed_from_u64(5);
    let usual = LogNormal::new(6.0, 0.5).unwrap();
    let mut test = Test::new(Guardrail::FirstToken);
    for at in 0..5_000 {
        feed(&mut test, &mut rng, 0.2, |rng, _| match at % 97 {
            0 => 1e300,
            1 => 0.0,
            2 => -5.0,
            _ => usual.sample(rng),
        });
    }
    assert!(test.evidence() < 10.0, "{}", test.evidence());
    assert!(test.tally().effect(Guardrail::FirstToken).unwrap().abs() < 0.1);
}

#[test]
fn an_outage_of_both_sides_is_no_evidence() {
    let mut rng = StdRng::seed_from_u64(6);
    let mut test = Test::new(Guardrail::Errors);
    for at in 0..20_000 {
        // Half of all requests fail for a while, again and again.
        let rate = if at % 5_000 > 4_000 { 0.5 } else { 0.001 };
        feed(&mut test, &mut rng, 0.05, |rng, _| if rng.random_bool(rate) { 1.0 } else { 0.0 });
        assert!(test.evidence() < 100.0, "after {at}");
    }
}

#[test]
fn readings_that_are_no_numbers_are_left_out() {
    let readings = Readings::default()
        .with(Guardrail::Cost, f64::NAN)
        .with(Guardrail::Pace, f64::INFINITY)
        .with(Guardrail::Errors, 7.0);
    assert_eq!(readings.of(Guardrail::Cost), None);
    assert_eq!(readings.of(Guardrail::Pace), None);
    assert_eq!(readings.of(Guardrail::Errors), Some(1.0));
}
