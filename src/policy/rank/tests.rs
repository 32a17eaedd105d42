//! The rules one by one.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

mod simulation;

use super::*;

pub(super) fn standing() -> Standing {
    Standing {
        admission: Admission::Yes,
        success: 0.99,
        ttft_seconds: Some(0.5),
        idle_seconds: 0.0,
        token_seconds: Some(0.02),
        input_tokens: 1_000.0,
        output_tokens: 200.0,
        prices: Prices { input: 0.15e-6, cached: 0.075e-6, output: 0.6e-6 },
        cached_share: 0.0,
        in_flight: 0,
        limit: 100,
        is_self_hosted: false,
        headroom: 1.0,
        weight: 1,
        slow_start: 1.0,
        is_suspect: false,
        is_preferred: false,
        home: Home::No,
    }
}

fn scored(targets: &[Standing]) -> Vec<Score> {
    scores(targets, &Settings::default(), false).to_vec()
}

fn near(left: f64, right: f64) -> bool {
    (left - right).abs() < 1e-9 * right.abs().max(1.0)
}

/// How often each target is drawn out of 100,000 times.
fn drawn(scores: &[Score]) -> Vec<f64> {
    let mut rng = StdRng::seed_from_u64(5);
    let mut counts = vec![0.0; scores.len()];
    for _ in 0..100_000 {
        counts[pick(scores, &Settings::default(), || rng.random()).unwrap()] += 1e-5;
    }
    counts
}

#[test]
fn a_score_is_the_sum_of_its_terms() {
    let target = Standing {
        success: 0.8,
        cached_share: 0.5,
        in_flight: 75,
        is_self_hosted: true,
        headroom: 0.15,
        is_suspect: true,
        is_preferred: true,
        home: Home::No,
        slow_start: 0.5,
        weight: 3,
        ..standing()
    };
    let pool = Pool { ttft_seconds: 9.0, token_seconds: 9.0, failure_seconds: 2.0 };
    let score = score(&target, &Settings::default(), &pool);
    let money = 1_000.0 * (0.5 * 0.15e-6 + 0.5 * 0.075e-6) + 200.0 * 0.6e-6;
    for (name, term, expected) in [
        ("T", score.ttft_seconds, 0.5),
        ("ω·O·g", score.output_seconds, 0.2 * 200.0 * 0.02),
        ("U", score.latency_seconds, 1.3),
        ("κ", score.load_factor, 4.0),
        ("C", score.money_usd, money),
        ("λ·C", score.money_seconds, 100.0 * money),
        ("failure", score.failure_seconds, 0.25 * 2.0),
        ("H", score.headroom_factor, 3.0),
        ("suspect", score.suspect_factor, 3.0),
        ("sticky", score.sticky_factor, 3.0),
        ("S", score.total_seconds, (1.3 * 4.0 + 100.0 * money + 0.5) * 3.0),
        ("weight", score.weight, 1.5),
    ] {
        assert!(near(term, expected), "{name}: {term} instead of {expected}");
    }
    assert!(!score.is_assumed);
    assert_eq!(score.excluded, None);
}

#[test]
fn load_counts_for_own_servers_only() {
    let at = |in_flight, limit, is_self_hosted| {
        let target = Standing { in_flight, limit, is_self_hosted, ..standing() };
        scored(&[target])[0].load_factor
    };
    assert!(near(at(50, 100, true), 2.0));
    assert!(near(at(99, 100, true), 20.0), "no more than at 95 %");
    assert!(near(at(50, 100, false), 1.0));
    assert!(near(at(50, 0, true), 1.0), "no limit is known");
}

#[test]
fn headroom_below_30_percent_costs_up_to_five_fold() {
    for (headroom, factor) in [(1.0, 1.0), (0.3, 1.0), (0.15, 3.0), (0.03, 4.6)] {
        let score = scored(&[Standing { headroom, ..standing() }])[0];
        assert!(near(score.headroom_factor, factor), "{headroom}: {}", score.headroom_factor);
    }
}

#[test]
fn a_target_never_tried_is_taken_for_the_median_of_the_others() {
    let of = |ttft_seconds, token_seconds| Standing { ttft_seconds, token_seconds, ..standing() };
    let scores = scored(&[
        of(None, None),
        of(Some(0.4), Some(0.01)),
        of(Some(0.6), Some(0.03)),
        of(Some(9.0), Some(0.02)),
    ]);
    assert!(scores[0].is_assumed);
    assert!(near(scores[0].ttft_seconds, 0.6));
    assert!(near(scores[0].output_seconds, 0.2 * 200.0 * 0.02));

    let alone = scored(&[of(None, None)])[0];
    assert!(near(alone.ttft_seconds, 1.0));
    assert!(near(alone.output_seconds, 0.2 * 200.0 * 0.02));
}

#[test]
fn what_a_target_was_worse_by_is_forgotten_while_it_is_idle() {
    let of = |ttft, idle_seconds| Standing { ttft_seconds: Some(ttft), idle_seconds, ..standing() };
    for (ttft, idle, expected) in [
        (5.0, 0.0, 5.0),
        (5.0, 30.0, 0.5 + 4.5 / std::f64::consts::E),
        (5.0, 1e9, 0.5),
        (5.0, -1.0, 5.0),
        (0.2, 1e9, 0.2),
    ] {
        let scores = scored(&[of(0.5, 1e9), of(ttft, idle), of(0.5, 0.0)]);
        assert!(near(scores[1].ttft_seconds, expected), "{ttft}, {idle}: {:?}", scores[1]);
        assert!(near(scores[0].ttft_seconds, 0.5));
    }
}

#[test]
fn a_failure_costs_its_discovery_and_the_next_best() {
    let settings = Settings::default();
    let of = |ttft| Standing { ttft_seconds: Some(ttft), token_seconds: Some(0.0), ..standing() };
    let out = Standing { admission: Admission::No(Exclusion::Open), ..of(0.1) };
    for (name, targets, expected) in [
        ("median 2, second best 2", &[of(3.0), of(1.0), of(2.0)][..], 4.0),
        ("one alone waits for itself", &[of(1.0)], 2.0),
        ("one that is out takes over nothing", &[out, of(1.0), of(2.0)], 3.0),
        ("nobody is left", &[out], 0.2),
    ] {
        let failure = Pool::of(targets, &settings).failure_seconds;
        assert!(near(failure, expected), "{name}: {failure}");
    }
}

#[test]
fn who_is_out_and_why() {
    let no = Admission::No;
    let table = [
        (standing(), None),
        (Standing { admission: Admission::Trial, ..standing() }, None),
        (Standing { admission: no(Exclusion::Open), ..standing() }, Some(Exclusion::Open)),
        (Standing { headroom: 0.02, ..standing() }, Some(Exclusion::RateLimited)),
        (Standing { in_flight: 100, ..standing() }, Some(Exclusion::Full)),
        (Standing { in_flight: 100, limit: 0, ..standing() }, None),
        // What a panic does not ignore is named first.
        (
            Standing { admission: no(Exclusion::Open), headroom: 0.0, ..standing() },
            Some(Exclusion::RateLimited),
        ),
    ];
    for (target, expected) in table {
        assert_eq!(target.exclusion(&Settings::default()), expected, "{target:?}");
    }
}

#[test]
fn ten_percent_worse_gets_41_percent_of_a_pair_and_twice_as_bad_6() {
    for (factor, expected) in [(1.0, 0.5), (1.1, 0.406), (2.0, 0.0588)] {
        let mut scores = scored(&[standing(), standing()]);
        scores[1].total_seconds *= factor;
        let settings = Settings { exploration: 0.0, ..Settings::default() };
        shares(&mut scores, &settings);
        assert!((scores[1].share - expected).abs() < 0.001, "{factor}: {}", scores[1].share);
    }
}

#[test]
fn draws_are_as_often_as_the_shares_say() {
    for size in [2, 3, 8, 9, 16, 20] {
        let targets: Vec<_> = (0..size)
            .map(|n| Standing {
                ttft_seconds: Some(0.5 + 0.05 * f64::from(n)),
                weight: 1 + n % 3,
                admission: if n == 1 { Admission::No(Exclusion::Ejected) } else { Admission::Yes },
                ..standing()
            })
            .collect();
        let mut scores = scored(&targets);
        shares(&mut scores, &Settings::default());
        assert!(near(scores.iter().map(|score| score.share).sum(), 1.0));
        for (at, (often, score)) in drawn(&scores).into_iter().zip(&scores).enumerate() {
            assert!((often - score.share).abs() < 0.006, "{at} of {size}: {often}, {score:?}");
        }
        assert_eq!(scores[1].share, 0.0);
    }
}

#[test]
fn even_the_worst_is_tried_now_and_then() {
    let mut scores = scored(&[standing(), standing(), standing()]);
    scores[2].total_seconds = 1e6;
    let share = drawn(&scores)[2];
    assert!((0.002..0.005).contains(&share), "{share}");
}

#[test]
fn weight_and_slow_start_scale_the_share() {
    let mut scores = scored(&[
        Standing { weight: 4, ..standing() },
        Standing { weight: 4, slow_start: 0.25, ..standing() },
        Standing { weight: 0, ..standing() },
    ]);
    shares(&mut scores, &Settings { exploration: 0.0, ..Settings::default() });
    for (score, expected) in scores.iter().zip([4.0 / 6.0, 1.0 / 6.0, 1.0 / 6.0]) {
        assert!(near(score.share, expected), "{score:?}");
    }
}

#[test]
fn slow_start_takes_a_minute_from_a_tenth() {
    for (seconds, expected) in [(0, 0.1), (6, 0.1), (30, 0.5), (60, 1.0), (1_000, 1.0)] {
        let factor = slow_start(Duration::from_secs(seconds), &Settings::default());
        assert!(near(factor, expected), "{seconds} s: {factor}");
    }
    let none = Settings { slow_start: Duration::ZERO, ..Settings::default() };
    assert!(near(slow_start(Duration::ZERO, &none), 1.0));
}

#[test]
fn a_sticky_key_keeps_its_target_until_that_is_three_times_as_bad() {
    let share = |ttft| {
        let mut scores = scored(&[
            Standing {
                is_preferred: true,
                home: Home::No,
                ttft_seconds: Some(ttft),
                token_seconds: Some(0.0),
                prices: Prices::default(),
                success: 1.0,
                ..standing()
            },
            Standing {
                token_seconds: Some(0.0),
                prices: Prices::default(),
                success: 1.0,
                ..standing()
            },
        ]);
        shares(&mut scores, &Settings { exploration: 0.0, ..Settings::default() });
        scores[0].share
    };
    assert!(share(0.5) > 0.98);
    assert!((share(1.5) - 0.5).abs() < 1e-9);
    assert!(share(5.0) < 0.01);
}

#[test]
fn an_order_holds_each_target_once_and_none_that_is_out() {
    let mut rng = StdRng::seed_from_u64(6);
    for size in [1_usize, 2, 8, 9, 16, 17, 30] {
        let mut targets = vec![standing(); size];
        targets[0].admission = Admission::No(Exclusion::Unauthorized);
        let scores = scored(&targets);
        let order = order(&scores, &Settings::default(), || rng.random());
        let mut sorted = order.to_vec();
        sorted.sort_unstable();
        assert_eq!(sorted, (1..size).collect::<Vec<_>>());
        assert_eq!(pick(&scores[..1], &Settings::default(), || 0.5), None);
    }
}

#[test]
fn an_order_is_drawn_by_score_at_every_place() {
    let mut scores = scored(&[standing(), standing(), standing()]);
    scores[1].total_seconds *= 2.0;
    scores[2].total_seconds *= 100.0;
    let mut rng = StdRng::seed_from_u64(7);
    let as_expected = (0..10_000)
        .filter(|_| order(&scores, &Settings::default(), || rng.random())[..] == [0, 1, 2]);
    let share = as_expected.count() as f64 / 10_000.0;
    assert!((0.90..0.97).contains(&share), "{share}");
}

#[test]
fn every_random_number_gives_a_target() {
    let scores = scored(&[standing(); 12]);
    for random in [0.0, 0.009_999, 0.01, 0.5, 1.0 - f64::EPSILON, 1.0] {
        for size in [1, 2, 8, 12] {
            let picked = pick(&scores[..size], &Settings::default(), || random);
            assert!(picked.is_some_and(|at| at < size), "{random} of {size}: {picked:?}");
        }
    }
}

#[test]
fn numbers_that_are_none_neither_win_nor_spread() {
    let odd = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY].map(|odd| Standing {
        ttft_seconds: Some(odd.max(0.0)),
        success: odd,
        headroom: if odd.is_nan() { odd } else { 1.0 },
        ..standing()
    });
    let mut scores = scored(&[standing(), standing(), odd[0], odd[1]]);
    shares(&mut scores, &Settings::default());
    for score in &scores {
        assert!(score.total_seconds.is_finite(), "{score:?}");
        assert!(score.share.is_finite(), "{score:?}");
    }
    assert!(scores[0].share > 0.4, "{scores:?}");
}

fn out(why: Exclusion) -> Standing {
    Standing { admission: Admission::No(why), ..standing() }
}

fn planned(tiers: &[&[Standing]]) -> (bool, Vec<Vec<usize>>) {
    let mut rng = StdRng::seed_from_u64(8);
    let plan = plan(tiers.iter().copied(), &Settings::default(), || rng.random());
    let of_tier = |tier| {
        let places = plan.order.iter().filter(|place| place.tier == tier);
        let mut indexes: Vec<_> = places.map(|place| place.index).collect();
        indexes.sort_unstable();
        indexes
    };
    assert!(plan.order.is_sorted_by_key(|place| place.tier));
    (plan.is_panic, (0..tiers.len()).map(of_tier).collect())
}

#[test]
fn the_first_tier_that_has_a_target_serves_and_the_others_follow() {
    let open = out(Exclusion::Open);
    let well = standing();
    assert_eq!(planned(&[&[well, well], &[well]]), (false, vec![vec![0, 1], vec![0]]));
    assert_eq!(planned(&[&[open, open], &[well]]), (false, vec![vec![], vec![0]]));
    assert_eq!(planned(&[&[open, well], &[well]]), (false, vec![vec![1], vec![0]]));
    assert_eq!(planned(&[&[], &[well]]), (false, vec![vec![], vec![0]]));
    assert_eq!(planned(&[]), (false, vec![]));
}

#[test]
fn when_too_little_is_well_health_is_ignored_and_refusals_are_not() {
    let [open, ejected, parked, quota, limited] = [
        Exclusion::Open,
        Exclusion::Ejected,
        Exclusion::Unauthorized,
        Exclusion::QuotaUsedUp,
        Exclusion::RateLimited,
    ]
    .map(out);
    let well = standing();
    let all = [open, ejected, well, parked, quota, limited];
    assert_eq!(planned(&[&all]), (true, vec![vec![0, 1, 2]]));
    assert_eq!(planned(&[&[open, open]]), (true, vec![vec![0, 1]]));
    assert_eq!(planned(&[&[open, well]]), (false, vec![vec![1]]), "half is enough");
    assert_eq!(
        planned(&[&[parked, limited, well]]),
        (false, vec![vec![2]]),
        "no question of health"
    );
    assert_eq!(planned(&[&[parked], &[quota]]), (false, vec![vec![], vec![]]));
    let heavy = Standing { weight: 5, ..open };
    assert_eq!(planned(&[&[well, heavy]]), (true, vec![vec![0, 1]]), "weight counts");
}
