//! Tests of the audit, most of them by simulation with fixed seeds.

#![expect(clippy::print_stdout, reason = "the figures of simulations are worth reading")]

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;

/// Hits until the alarm, of at most `most`; `good` hits at the allowed rate come first.
fn delay(seed: u64, good: u32, wrong: f64, most: u32) -> Option<u32> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut audit = Audit::new(0.01);
    for _ in 0..good {
        _ = audit.on_hit(random.random_bool(0.003));
    }
    (1..=most).find(|_| audit.on_hit(random.random_bool(wrong)) == Verdict::Shadow)
}

fn median(mut delays: Vec<u32>) -> u32 {
    delays.sort_unstable();
    delays[delays.len() / 2]
}

#[test]
fn at_most_one_life_in_twenty_has_a_false_alarm_at_the_very_limit() {
    let runs = 300;
    let alarms = (0..runs).filter(|seed| delay(*seed, 0, 0.01, 3_000).is_some()).count();
    println!("false alarms at exactly 1 %: {alarms} of {runs} lives of 3,000 audited hits");
    assert!(alarms <= 15, "{alarms} of {runs}");
}

#[test]
fn good_hits_never_raise_an_alarm() {
    let mut audit = Audit::new(0.01);
    for _ in 0..100_000 {
        assert_eq!(audit.on_hit(false), Verdict::Serve);
    }
    assert!(audit.evidence() < 0.01, "{}", audit.evidence());
    assert_eq!((audit.hits(), audit.errors()), (100_000, 0));
    assert!(audit.bound() < 0.0001);
}

#[test]
fn five_percent_of_errors_are_found_soon_even_after_a_long_good_time() {
    for (good, limit) in [(0, 110), (1_000, 330), (10_000, 480)] {
        let delays: Vec<_> =
            (0..60).map(|seed| delay(seed, good, 0.05, 20_000).unwrap_or(u32::MAX)).collect();
        let middle = median(delays.clone());
        println!("5 % of errors after {good} good hits: {middle} audited hits at the median");
        assert!(middle <= limit, "{middle}");
        assert!(!delays.contains(&u32::MAX), "missed");
    }
}

#[test]
fn hits_that_are_all_wrong_are_found_within_three() {
    let mut audit = Audit::new(0.01);
    let found = (1..10).find(|_| audit.on_hit(true) == Verdict::Shadow);
    assert!(found <= Some(3), "{found:?}");
    assert_eq!(audit.on_hit(false), Verdict::Shadow, "an alarm is for good");
}

#[test]
fn a_restart_loses_nothing() {
    let mut audit = Audit::new(0.01);
    for n in 0..500 {
        _ = audit.on_hit(n % 90 == 0);
    }
    let text = serde_json::to_string(&audit).unwrap();
    let mut again: Audit = serde_json::from_str(&text).unwrap();
    assert_eq!(again, audit);
    assert_eq!(again.on_hit(true), audit.on_hit(true));
    assert_eq!(again.evidence(), audit.evidence());
}

#[test]
fn a_share_that_is_none_is_taken_for_one_that_makes_sense() {
    for delta in [f64::NAN, -1.0, 0.0, 7.0, f64::INFINITY] {
        let mut audit = Audit::new(delta);
        for n in 0..10_000 {
            _ = audit.on_hit(n % 2 == 0);
            assert!(audit.evidence().is_finite() && audit.evidence() >= 0.0, "{delta}");
        }
    }
}
