//! Tests of the bounds.

use proptest::prelude::*;

use super::*;

fn near(value: f64, expected: f64) {
    assert!((value - expected).abs() <= expected.abs() * 1e-9, "{value} is not {expected}");
}

#[test]
fn bounds_are_those_that_are_published() {
    // Quantiles of the beta distribution, from SciPy.
    for (errors, trials, at_95, at_99) in [
        (0, 300, 0.009_936_081_944_457_708, 0.015_233_347_889_841_823),
        (0, 100, 0.029_513_049_607_039_925, 0.045_007_413_978_564_045),
        (1, 100, 0.046_559_811_453_538_935, 0.064_542_732_048_581_63),
        (3, 100, 0.075_710_793_749_830_04, 0.096_971_045_265_344_46),
        (5, 50, 0.198_833_002_516_418_47, 0.241_552_643_746_475_67),
        (10, 1_000, 0.016_903_175_120_562_504, 0.020_042_605_900_878_93),
        (99, 100, 0.999_487_198_583_737_7, 0.999_899_501_699_178_3),
        (2, 3_000, 0.002_097_095_855_532_433, 0.002_798_992_427_856_102_7),
        (37, 5_000, 0.009_723_719_811_206_347, 0.010_740_178_063_534_887),
    ] {
        near(upper(errors, trials, 0.95), at_95);
        near(upper(errors, trials, 0.99), at_99);
    }
}

#[test]
fn nothing_tried_or_everything_wrong_proves_nothing() {
    assert_eq!(upper(0, 0, 0.95), 1.0);
    assert_eq!(upper(7, 7, 0.95), 1.0);
    assert_eq!(upper(9, 7, 0.95), 1.0);
    assert_eq!(upper(0, 7, 1.0), 1.0);
    assert_eq!(upper(0, 7, f64::NAN), 1.0);
}

#[test]
fn so_many_clean_trials_prove_a_rate_and_one_fewer_do_not() {
    assert_eq!(trials_needed(0.01, 0.95), Some(299));
    assert_eq!(trials_needed(0.0, 0.95), None);
    assert_eq!(trials_needed(f64::NAN, 0.95), None);
    assert_eq!(trials_needed(1.0, 0.95), Some(0));
    for rate in [0.5, 0.05, 0.01, 0.001] {
        let trials = trials_needed(rate, 0.95).unwrap();
        assert!(upper(0, trials, 0.95) <= rate);
        assert!(upper(0, trials - 1, 0.95) > rate);
    }
}

#[test]
fn counts_of_millions_are_exact_too() {
    // At a million trials the bound is the normal one: 1.645 standard deviations above the rate.
    let bound = upper(10_000, 1_000_000, 0.95);
    let normal = 0.01 + 1.645 * (0.01 * 0.99 / 1e6_f64).sqrt();
    assert!((bound - normal).abs() < 2e-6, "{bound} against {normal}");
    assert!(upper(5_000_000, 10_000_000, 0.95) < 0.5003);
}

proptest! {
    #[test]
    fn the_bound_lies_above_the_share_and_moves_with_it(
        trials in 1_u64..20_000,
        share in 0.0..1.0_f64,
    ) {
        let errors = (trials as f64 * share) as u64;
        let bound = upper(errors, trials, 0.95);
        prop_assert!(bound > errors as f64 / trials as f64 && bound <= 1.0);
        prop_assert!(upper(errors + 1, trials, 0.95) >= bound);
        prop_assert!(upper(errors, trials + 1, 0.95) <= bound + 1e-12);
        prop_assert!(upper(errors, trials, 0.99) >= bound);
    }

    /// The definition itself, with the sum of the binomial distribution.
    #[test]
    fn the_bound_is_where_so_few_errors_are_a_rare_chance(
        trials in 2_u64..400,
        share in 0.0..1.0_f64,
    ) {
        let errors = ((trials as f64 * share) as u64).min(trials - 1);
        let rate = upper(errors, trials, 0.95);
        let mut chance = 0.0;
        let mut ways = 0.0_f64;
        for k in 0..=errors {
            if k > 0 {
                ways += ((trials - k + 1) as f64 / k as f64).ln();
            }
            chance += (ways + k as f64 * rate.ln() + (trials - k) as f64 * (-rate).ln_1p()).exp();
        }
        prop_assert!((chance - 0.05).abs() < 1e-8, "{chance}");
    }
}
