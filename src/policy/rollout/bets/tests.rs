//! Tests of bets.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;

#[test]
fn each_bet_is_fair_if_the_candidate_is_no_different() {
    for part in [0.0001, 0.05, 0.5, 0.9] {
        for ratios in [FAILURE, worse_by(-2.0), worse_by(0.3), worse_by(3.0)] {
            let mut mean = 0.0;
            for (arm, chance) in [(Arm::Candidate, part), (Arm::Control, 1.0 - part)] {
                let mut bets = Bets::new();
                bets.settle(arm, part, &ratios);
                mean += chance * bets.value();
            }
            assert!((mean - 1.0).abs() < 1e-9, "{part}: {mean}");
        }
    }
}

#[test]
fn pairs_are_fair_if_the_two_could_be_exchanged() {
    for (one, other) in [(worse_by(2.0), worse_by(-1.0)), (FAILURE, [1.0; KINDS])] {
        let (mut first, mut second) = (Bets::new(), Bets::new());
        first.settle_pair(&one, &other);
        second.settle_pair(&other, &one);
        assert!((first.value() + second.value() - 2.0).abs() < 1e-9);
    }
}

#[test]
fn a_better_candidate_loses_the_bets() {
    // Ratios that grow with badness: a candidate that is better has fewer of the bad ones.
    for (low, high) in [(-1.0, 1.0), (0.0, 2.5), (-3.0, 0.5)] {
        let (good, bad) = (worse_by(low), worse_by(high));
        assert!(good.iter().zip(&bad).all(|(good, bad)| good <= bad));
    }
    let mut rng = StdRng::seed_from_u64(1);
    let mut bets = Bets::new();
    for _ in 0..400 {
        let arm = if rng.random_bool(0.05) { Arm::Candidate } else { Arm::Control };
        bets.settle(arm, 0.2, &FAILURE);
    }
    assert!(bets.value() < 0.1, "{}", bets.value());
}

#[test]
fn shifts_and_tails_are_densities_as_far_as_bets_care() {
    // The mean of each ratio over a normal distribution is 1, by the trapezoid rule.
    let step = 0.001;
    let mut means = [0.0; KINDS];
    for at in -8_000..=8_000 {
        let z = f64::from(at) * step;
        let density = (-z * z / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
        for (mean, ratio) in means.iter_mut().zip(worse_by(z)) {
            *mean += ratio * density * step;
        }
    }
    assert!(means.iter().all(|mean| (mean - 1.0).abs() < 0.01), "{means:?}");
}

#[test]
fn the_whole_of_the_traffic_is_nothing_to_bet_on_and_wealth_stays_finite() {
    let mut bets = Bets::new();
    bets.settle(Arm::Candidate, 1.0, &FAILURE);
    bets.settle(Arm::Control, 0.0, &FAILURE);
    assert_eq!(bets, Bets::new());
    for _ in 0..10_000 {
        bets.settle(Arm::Candidate, 0.01, &FAILURE);
    }
    assert!(bets.value().is_finite() && bets.value() > 1e200);
    for _ in 0..1_000_000 {
        bets.settle(Arm::Control, 0.5, &FAILURE);
    }
    assert!(bets.value() > 0.0);
}
