//! The conditions and the budgets one by one.

mod simulation;

use super::*;
use crate::clock::Instant;

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn candidate() -> Candidate {
    Candidate {
        separation: Separation::Provider,
        is_closed: true,
        headroom: 1.0,
        total_seconds: 1.0,
    }
}

/// A request that may be hedged.
pub(super) fn facts() -> Facts {
    Facts {
        is_interactive: true,
        choices: 1,
        has_server_state: false,
        is_pinned: false,
        prompt_tokens: 16_000,
        input_usd: 0.02,
        legs: 1,
        has_pushback: false,
        is_brown_out: false,
        is_panic: false,
        other: Some(candidate()),
        delay: ms(1_000),
        remaining: secs(10),
        median_of_other: Some(ms(500)),
        q99_of_first: Some(secs(5)),
    }
}

#[test]
fn sizes_fall_into_five_buckets() {
    let table = [
        (0, 0),
        (1_000, 0),
        (1_001, 1),
        (4_000, 1),
        (4_001, 2),
        (16_000, 2),
        (16_001, 3),
        (64_000, 3),
        (64_001, 4),
        (u64::MAX, 4),
    ];
    for (tokens, index) in table {
        assert_eq!(SizeBucket::of(tokens).index(), index, "{tokens} tokens");
        assert_eq!(SizeBucket::ALL[index], SizeBucket::of(tokens));
    }
}

#[test]
fn the_delay_is_the_quantile_that_enough_samples_back() {
    let quantile = |value, samples| Quantile { value: Some(ms(value)), samples };
    let unknown = Quantile::default();
    let table = [
        ("its own", quantile(900, 50), quantile(2_000, 500), secs(60), 900),
        ("too few of its own", quantile(900, 49), quantile(2_000, 50), secs(60), 2_000),
        ("too few of both", quantile(900, 49), quantile(2_000, 49), secs(60), 3_000),
        ("nothing known", unknown, unknown, secs(60), 3_000),
        ("no shorter than 150 ms", quantile(20, 500), unknown, secs(60), 150),
        ("no longer than 0.4 of the time", quantile(9_000, 500), unknown, secs(10), 4_000),
        ("the time wins over 150 ms", quantile(900, 500), unknown, ms(100), 40),
        ("nothing is left", unknown, unknown, Duration::ZERO, 0),
    ];
    for (name, own, parent, remaining, expected) in table {
        let delay = delay(own, parent, remaining, &Settings::default());
        assert_eq!(delay, ms(expected), "{name}");
    }
    assert_eq!(Settings::default().quantile(), 0.95);
}

#[test]
fn a_hedge_needs_every_condition() {
    let other = |change: fn(&mut Candidate)| {
        let mut other = candidate();
        change(&mut other);
        Some(other)
    };
    let table = [
        (Facts { is_interactive: false, ..facts() }, Why::NotInteractive),
        (Facts { choices: 2, ..facts() }, Why::SeveralChoices),
        (Facts { has_server_state: true, ..facts() }, Why::ServerState),
        (Facts { is_pinned: true, ..facts() }, Why::Pinned),
        (Facts { prompt_tokens: 16_001, ..facts() }, Why::LongPrompt),
        (Facts { input_usd: 0.021, ..facts() }, Why::DearPrompt),
        (Facts { legs: 2, ..facts() }, Why::EnoughLegs),
        (Facts { has_pushback: true, ..facts() }, Why::Pushback),
        (Facts { is_brown_out: true, ..facts() }, Why::BrownOut),
        (Facts { is_panic: true, ..facts() }, Why::Panic),
        (Facts { other: None, ..facts() }, Why::NoOther),
        (Facts { other: other(|o| o.separation = Separation::None), ..facts() }, Why::SameDomain),
        (Facts { other: other(|o| o.is_closed = false), ..facts() }, Why::NotClosed),
        (Facts { other: other(|o| o.headroom = 0.19), ..facts() }, Why::LowHeadroom),
        (Facts { remaining: ms(500), ..facts() }, Why::NoTime),
        (Facts { remaining: Duration::ZERO, median_of_other: None, ..facts() }, Why::NoTime),
        (Facts { q99_of_first: Some(ms(1_500)), ..facts() }, Why::NothingToWin),
    ];
    assert_eq!(eligible(&facts(), &Settings::default()), Ok(()));
    for (facts, why) in table {
        assert_eq!(eligible(&facts, &Settings::default()), Err(why), "{facts:?}");
    }
}

#[test]
fn what_is_not_known_does_not_forbid_a_hedge() {
    let facts = Facts { median_of_other: None, q99_of_first: None, ..facts() };
    assert_eq!(eligible(&facts, &Settings::default()), Ok(()));
}

#[test]
fn the_second_leg_goes_as_far_away_as_it_can() {
    use Separation::{Credential, None as Same, Provider, Region};
    let of = |separation, total_seconds, is_closed| Candidate {
        separation,
        total_seconds,
        is_closed,
        headroom: 1.0,
    };
    let table: [(&str, &[Candidate], Option<usize>); 5] = [
        ("nobody", &[], None),
        ("distance before score", &[of(Region, 1.0, true), of(Provider, 9.0, true)], Some(1)),
        (
            "score at the same distance",
            &[of(Provider, 2.0, true), of(Provider, 1.0, true)],
            Some(1),
        ),
        ("one that may", &[of(Provider, 1.0, false), of(Credential, 5.0, true)], Some(1)),
        (
            "the furthest of those that may not",
            &[of(Same, 1.0, true), of(Provider, 9.0, false)],
            Some(1),
        ),
    ];
    for (name, candidates, expected) in table {
        assert_eq!(second(candidates, &Settings::default()), expected, "{name}");
    }
}

#[test]
fn extra_requests_are_a_share_of_first_attempts_from_the_start() {
    let settings = Settings::default();
    let mut budget = HedgeBudget::new();
    assert!(!budget.try_withdraw(), "it starts empty");
    let mut hedges = 0;
    for primaries in 1..=10_000 {
        budget.on_primary(&settings);
        while budget.try_withdraw() {
            hedges += 1;
        }
        assert!(hedges * 20 <= primaries, "{hedges} of {primaries}");
        assert!(budget.available() >= 0.0);
    }
    assert_eq!(hedges, 500);
}

#[test]
fn unused_extra_requests_are_kept_up_to_the_burst() {
    let settings = Settings::default();
    let mut budget = HedgeBudget::new();
    (0..10_000).for_each(|_| budget.on_primary(&settings));
    budget.refund(&settings);
    assert_eq!(budget.available(), 10.0);
    assert_eq!((0..100).filter(|_| budget.try_withdraw()).count(), 10);
    budget.refund(&settings);
    assert!(budget.try_withdraw());
    assert!(!budget.try_withdraw());
}

#[test]
fn one_hedge_is_affordable_before_anything_was_spent() {
    let settings = Settings::default();
    let start = Instant::now();
    let mut budget = SpendBudget::default();
    assert!(!budget.try_spend(0.021, &settings, start), "no hedge may cost that much");
    assert!(budget.try_spend(0.015, &settings, start));
    assert!(!budget.try_spend(0.015, &settings, start), "a second has to be earned");
    assert!(budget.try_spend(0.015, &settings, start + secs(300)), "five minutes are a new start");
}

#[test]
fn extra_money_is_a_share_of_five_minutes() {
    let settings = Settings { max_input_usd: 0.0, ..Settings::default() };
    let start = Instant::now();
    let mut budget = SpendBudget::default();
    assert!(!budget.try_spend(0.001, &settings, start), "nothing was spent yet");
    assert!(budget.try_spend(0.0, &settings, start), "what is free may always run");
    budget.on_spend(1.0, start);
    assert!(budget.try_spend(0.02, &settings, start));
    assert!(!budget.try_spend(0.011, &settings, start));
    budget.refund(0.02, start);
    assert!(budget.try_spend(0.029, &settings, start));

    // The money of both is forgotten after five minutes, and not before four and a half.
    budget.on_spend(1.0, start + secs(240));
    assert!(!budget.try_spend(0.032, &settings, start + secs(269)), "0.029 of 0.06 is taken");
    assert!(!budget.try_spend(0.031_5, &settings, start + secs(300)), "and more than 0.03");
    assert!(budget.try_spend(0.029, &settings, start + secs(300)));
    assert!((budget.spent_usd() - 1.0).abs() < 1e-9);
    assert!(!budget.try_spend(0.001, &settings, start + secs(100_000)), "all is forgotten");
    assert_eq!(budget.spent_usd(), 0.0);
}

#[test]
fn money_that_is_no_number_or_out_of_order_does_no_harm() {
    let settings = Settings::default();
    let start = Instant::now();
    let mut budget = SpendBudget::default();
    budget.on_spend(1.0, start + secs(90));
    budget.on_spend(1.0, start);
    for odd in [f64::NAN, f64::INFINITY, -5.0] {
        budget.on_spend(odd, start + secs(90));
        assert!(budget.try_spend(odd, &settings, start + secs(90)), "counts as nothing");
        budget.refund(odd, start + secs(90));
    }
    budget.refund(5.0, start + secs(90));
    assert_eq!(budget.spent_usd(), 2.0);
    assert!(budget.try_spend(0.06, &settings, start + secs(90)));
    assert!(!budget.try_spend(0.001, &settings, start + secs(90)), "a refund adds nothing");
}

#[test]
fn a_brown_out_is_when_all_are_slow() {
    let settings = Settings::default();
    for (slowdowns, expected) in
        [(&[][..], false), (&[4.0, 4.0], true), (&[4.0, 1.1], false), (&[2.0], true)]
    {
        let is = is_brown_out(slowdowns.iter().copied(), &settings);
        assert_eq!(is, expected, "{slowdowns:?}");
    }
}

#[test]
fn waste_is_the_prompt_and_what_was_generated() {
    let prices = Prices { input: 1e-6, cached: 1e-7, output: 5e-6 };
    for (prompt, cached, generated, expected) in [
        (10_000, 0.0, 0, 0.01),
        (10_000, 0.5, 0, 0.005_5),
        (10_000, 2.0, 100, 0.001_5),
        (0, 0.0, 0, 0.0),
    ] {
        let usd = waste_usd(prompt, cached, generated, &prices);
        assert!((usd - expected).abs() < 1e-12, "{usd} instead of {expected}");
    }
}
