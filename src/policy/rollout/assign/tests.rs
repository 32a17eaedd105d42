//! Tests of who is on which side.

use super::*;

fn users() -> impl Iterator<Item = String> {
    (0..20_000).map(|n| format!("user-{n}"))
}

fn share(percent: f64) -> Share {
    Share::from_percent(percent).unwrap()
}

#[test]
fn a_quarter_of_twenty_thousand_users_is_a_quarter_within_a_point() {
    for rollout in ["a", "b", "rollout-17", "01JABC"] {
        let salt = Salt::of(rollout);
        let candidates = users()
            .filter(|user| salt.draw(user.as_bytes()).arm(share(25.0)) == Arm::Candidate)
            .count();
        assert!((4_800..=5_200).contains(&candidates), "{rollout}: {candidates}");
    }
}

#[test]
fn buckets_are_uniform() {
    // 100 cells of 200: chi-square with 99 degrees of freedom, 99.9 % below 148.
    for rollout in ["a", "b", "c"] {
        let salt = Salt::of(rollout);
        let mut cells = [0_i32; 100];
        for user in users() {
            cells[usize::from(salt.draw(user.as_bytes()).bucket() / 100)] += 1;
        }
        let chi2: f64 = cells.iter().map(|cell| f64::from((cell - 200).pow(2)) / 200.0).sum();
        assert!(chi2 < 148.0, "{rollout}: {chi2}");
    }
}

#[test]
fn growth_moves_units_to_the_candidate_only_and_shrinking_moves_the_same_ones_back() {
    let salt = Salt::of("r");
    for user in users().take(2_000) {
        let draw = salt.draw(user.as_bytes());
        let arms: Vec<_> =
            (0..=10_000_u16).step_by(25).map(|s| draw.arm(Share::try_from(s).unwrap())).collect();
        let first = arms.iter().position(|arm| *arm == Arm::Candidate).unwrap();
        assert!(arms[..first].iter().all(|arm| *arm == Arm::Control));
        assert!(arms[first..].iter().all(|arm| *arm == Arm::Candidate));
        assert_eq!(salt.draw(user.as_bytes()), draw, "sticky");
    }
    let draw = salt.draw(b"");
    assert_eq!((draw.arm(Share::NONE), draw.arm(Share::ALL)), (Arm::Control, Arm::Candidate));
}

#[test]
fn rollouts_divide_users_independently_and_fingerprints_do_not_tell_the_side() {
    let (one, other) = (Salt::of("one"), Salt::of("other"));
    let half = share(50.0);
    let (mut both, mut odd) = (0_i32, 0_i32);
    for user in users() {
        let draw = one.draw(user.as_bytes());
        let is_candidate = draw.arm(half) == Arm::Candidate;
        both += i32::from(is_candidate && other.draw(user.as_bytes()).arm(half) == Arm::Candidate);
        odd += i32::from(is_candidate && draw.fingerprint() % 2 == 1);
    }
    // A quarter of 20,000, five standard deviations of 61 either way.
    assert!((both - 5_000).abs() < 306, "{both}");
    assert!((odd - 5_000).abs() < 306, "{odd}");
}

#[test]
fn the_same_draw_everywhere_and_for_ever() {
    let draw = Salt::of("rollout").draw(b"user-42");
    assert_eq!(draw.bucket(), BUCKET_OF_USER_42);
    assert_ne!(Salt::of("rollout").draw(b"ab\0"), Salt::of("rollout").draw(b"ab"));
}

#[test]
fn shares_are_percentages_in_steps_of_a_hundredth() {
    assert_eq!(share(0.01).part(), 0.0001);
    assert_eq!(share(12.345).percent(), 12.35);
    assert_eq!(
        Share::from_percent(101.0).unwrap_err().to_string(),
        "a percentage is from 0 to 100 in steps of 0.01, not 101"
    );
    assert!(Share::from_percent(f64::NAN).is_err() && Share::from_percent(-1.0).is_err());
    assert!(serde_json::from_str::<Share>("10001").is_err());
    assert_eq!(serde_json::from_str::<Share>("2500").unwrap(), share(25.0));
}

/// Changing it moves users between the sides of running rollouts.
const BUCKET_OF_USER_42: u16 = 4_378;
