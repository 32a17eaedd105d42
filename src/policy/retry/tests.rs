//! Tests of retries and their budgets.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A budget that saw so many requests at `now`.
fn budget(requests: u32, now: Instant) -> RetryBudget {
    let mut budget = RetryBudget::new(BudgetSettings::default());
    (0..requests).for_each(|_| budget.deposit(now));
    budget
}

/// How many extra attempts are paid for, one after the other.
fn withdrawals(budget: &mut RetryBudget, now: Instant) -> u32 {
    let mut paid = 0;
    while budget.try_withdraw(0, now) {
        budget.release();
        paid += 1;
    }
    paid
}

#[test]
fn a_fifth_of_the_requests_or_the_floor_can_be_tried_again() {
    let now = Instant::now();
    for (requests, paid) in
        [(0, 10), (1, 10), (50, 10), (54, 10), (55, 11), (100, 20), (1_000, 200)]
    {
        let mut budget = budget(requests, now);
        assert_eq!(budget.available(now), paid, "{requests} requests");
        assert_eq!(withdrawals(&mut budget, now), paid, "{requests} requests");
        assert_eq!(budget.available(now), 0);
    }
}

#[test]
fn a_whole_number_is_not_lost_to_rounding() {
    let now = Instant::now();
    let settings = BudgetSettings { ratio: 0.29, ..BudgetSettings::default() };
    let mut budget = RetryBudget::new(settings);
    (0..100).for_each(|_| budget.deposit(now));
    assert_eq!(budget.available(now), 29);
}

#[test]
fn requests_count_for_ten_seconds_and_so_do_extra_attempts() {
    let start = Instant::now();
    let mut budget = budget(1_000, start);
    assert_eq!(budget.clone().available(start + ms(9_999)), 200);
    assert_eq!(withdrawals(&mut budget, start + secs(5)), 200);
    assert_eq!(budget.available(start + secs(10)), 0, "what was spent outlives what paid for it");
    assert_eq!(budget.available(start + secs(15)), 10, "the floor is back");
}

#[test]
fn extra_attempts_that_run_are_bounded_by_those_in_flight() {
    let now = Instant::now();
    for (in_flight, running) in [(0, 10), (50, 10), (54, 10), (55, 11), (100, 20), (u32::MAX, 200)]
    {
        let mut budget = budget(1_000, now);
        while budget.try_withdraw(in_flight, now) {}
        assert_eq!(budget.running(), running, "{in_flight} in flight");
        budget.release();
        let left = running < 200;
        assert_eq!(budget.try_withdraw(in_flight, now), left, "released, so one more if paid for");
    }
}

#[test]
fn a_refusal_costs_nothing_and_releasing_too_often_does_no_harm() {
    let now = Instant::now();
    let mut budget = budget(100, now);
    for _ in 0..10 {
        assert!(budget.try_withdraw(0, now));
    }
    assert!(!budget.try_withdraw(0, now));
    assert_eq!(budget.available(now), 10);
    for _ in 0..19 {
        budget.release();
    }
    assert_eq!(budget.running(), 0);
}

#[test]
fn an_extra_attempt_that_answers_costs_nothing() {
    let now = Instant::now();
    let mut budget = budget(0, now);
    for _ in 0..100 {
        assert!(budget.try_withdraw(0, now));
        budget.repay(now);
    }
    assert_eq!((budget.running(), budget.available(now)), (0, 10));
    assert_eq!(withdrawals(&mut budget, now), 10, "those that fail are paid for");
}

#[test]
fn settings_that_are_no_numbers_pay_for_nothing() {
    let now = Instant::now();
    for (ratio, floor_per_second) in [(f64::NAN, f64::NAN), (-1.0, -1.0), (0.0, 0.0)] {
        let settings = BudgetSettings { ratio, floor_per_second, ..BudgetSettings::default() };
        let mut budget = RetryBudget::new(settings);
        budget.deposit(now);
        assert!(!budget.try_withdraw(100, now), "{ratio}");
    }
}

#[test]
fn a_request_has_three_attempts_and_two_on_one_target() {
    let mut attempts = Attempts::new(AttemptLimits::default());
    assert!(attempts.start("a"));
    assert!(attempts.start("a"));
    assert!(!attempts.allows("a"));
    assert!(!attempts.start("a"));
    assert_eq!((attempts.made(), attempts.on("a"), attempts.on("b")), (2, 2, 0));
    assert!(attempts.start("b"));
    assert!(attempts.exhausted());
    assert!(!attempts.start("c"));
    assert_eq!(attempts.made(), 3);
}

#[test]
fn a_caller_that_retries_gets_one_attempt_and_one_failover() {
    let mut attempts = Attempts::new(AttemptLimits::default().for_retrying_caller());
    assert!(attempts.start("a"));
    assert!(!attempts.allows("a"), "a failover, not a retry");
    assert!(attempts.start("b"));
    assert!(attempts.exhausted());

    let one = AttemptLimits { total: 1, per_target: 1 };
    assert_eq!(one.for_retrying_caller(), one);
}

#[test]
fn limits_beyond_the_bound_are_cut_to_it() {
    let mut attempts = Attempts::new(AttemptLimits { total: 100, per_target: 100 });
    let made = (0..100).filter(|_| attempts.start(())).count();
    assert_eq!(made, AttemptLimits::MAX);
    assert!(attempts.exhausted());
}

#[test]
fn pauses_double_up_to_the_cap_and_are_spread_over_all_of_it() {
    let wait = |retry, interactive, u| backoff(retry, interactive, None, secs(60), u).unwrap();
    let longest =
        |interactive| [0, 1, 2, 3, 4, 5, 6, 40].map(|retry| wait(retry, interactive, 1.0));
    let expected = [250, 500, 1_000, 2_000, 2_000, 2_000, 2_000, 2_000].map(ms);
    assert_eq!(longest(true), expected);
    let expected = [250, 500, 1_000, 2_000, 4_000, 8_000, 8_000, 8_000].map(ms);
    assert_eq!(longest(false), expected);
    assert_eq!(wait(2, true, 0.0), Duration::ZERO);
    assert_eq!(wait(2, true, 0.25), ms(250));
    assert_eq!(wait(0, true, 9.0), ms(250), "u is clamped");
}

#[test]
fn what_the_provider_asked_for_is_kept_exactly_or_not_at_all() {
    let asked = |after, remaining| backoff(0, true, Some(after), remaining, 0.5);
    assert_eq!(asked(secs(7), secs(10)), Some(secs(7)));
    assert_eq!(asked(secs(7), ms(7_201)), Some(secs(7)));
    assert_eq!(asked(secs(7), ms(7_200)), None, "nothing would remain for the attempt");
    assert_eq!(asked(Duration::MAX, secs(10)), None);
    assert_eq!(asked(Duration::ZERO, ms(100)), None);
}

#[test]
fn an_attempt_gets_what_remains_but_for_the_reserve() {
    assert_eq!(attempt_timeout(secs(20), secs(60)), secs(20));
    assert_eq!(attempt_timeout(secs(20), secs(10)), ms(9_800));
    assert_eq!(attempt_timeout(secs(20), ms(150)), Duration::ZERO);
}

#[test]
fn an_attempt_that_cannot_answer_in_time_is_not_started() {
    assert!(worth_starting(secs(1), None));
    assert!(worth_starting(secs(1), Some(ms(800))));
    assert!(!worth_starting(secs(1), Some(ms(801))));
    assert!(!worth_starting(ms(200), None));
    assert!(!worth_starting(ms(200), Some(Duration::ZERO)));
}

// === Figures ===

/// What `simulate` counts after the first half minute.
#[derive(Debug, Default)]
struct Load {
    /// Calls of the application.
    calls: u32,
    /// Requests that the gateway saw, the SDK's retries among them.
    requests: u32,
    /// Attempts that the providers saw.
    attempts: u32,
}

/// Three targets that all fail at once, no breaker, and an SDK that sends each call up to three
/// times, unless it honours `x-should-retry: false`, which an empty budget answers with.
fn simulate(calls_per_second: f64, honours: bool, seed: u64) -> Load {
    let mut rng = StdRng::seed_from_u64(seed);
    let start = Instant::now();
    let mut budget = RetryBudget::new(BudgetSettings::default());
    let mut load = Load::default();
    // When a request comes, and the how many-th of its call it is. Sorted, the next one last.
    let mut due: Vec<(Duration, u32)> = Vec::new();
    let mut at = 0.0;
    while at < 300.0 {
        at -= rng.random::<f64>().max(1e-12).ln() / calls_per_second;
        due.push((Duration::from_secs_f64(at), 0));
    }
    due.reverse();
    while let Some((at, sent)) = due.pop() {
        let now = start + at;
        let counted = u32::from((30..300).contains(&at.as_secs()));
        load.calls += counted * u32::from(sent == 0);
        load.requests += counted;
        budget.deposit(now);

        let limits = AttemptLimits::default();
        let limits = if sent > 0 { limits.for_retrying_caller() } else { limits };
        let mut attempts = Attempts::new(limits);
        let mut paid = true;
        for target in 0..3 {
            let first = attempts.made() == 0;
            if attempts.exhausted() || !attempts.allows(target) {
                break;
            }
            paid = first || budget.try_withdraw(20, now);
            if !paid || !attempts.start(target) {
                break;
            }
            load.attempts += counted;
            if !first {
                budget.release();
            }
        }

        if sent < 2 && (paid || !honours) {
            let again = at + backoff(sent + 1, false, None, secs(600), rng.random()).unwrap();
            let place = due.partition_point(|(other, _)| *other > again);
            due.insert(place, (again, sent + 1));
        }
    }
    load
}

#[test]
#[expect(clippy::print_stdout, reason = "a figure is to be seen")]
fn when_all_providers_fail_they_see_a_fifth_more_than_the_callers_send() {
    for calls_per_second in [7.0, 20.0, 50.0] {
        let stubborn = simulate(calls_per_second, false, 3);
        let polite = simulate(calls_per_second, true, 3);
        let per = |attempts: u32, of: u32| f64::from(attempts) / f64::from(of);
        let (a, b) =
            (per(stubborn.attempts, stubborn.requests), per(polite.attempts, polite.requests));
        println!(
            "{calls_per_second} calls/s: {a:.3} and {b:.3} attempts per request, {:.3} per call \
             where x-should-retry is honoured, {:.3} where not",
            per(polite.attempts, polite.calls),
            per(stubborn.attempts, stubborn.calls),
        );
        assert!(a <= 1.2 && b <= 1.2, "{a}, {b} attempts per request at {calls_per_second}/s");
        assert!(a > 1.15, "the budget is there to be spent: {a}");
        assert!(stubborn.requests > 2 * stubborn.calls, "the SDK does retry: {stubborn:?}");
        assert!(per(polite.attempts, polite.calls) < 1.5, "{polite:?}");
    }
}

#[test]
fn below_the_floor_a_quiet_group_can_still_fail_over() {
    let start = Instant::now();
    let mut budget = RetryBudget::new(BudgetSettings::default());
    let refused = (0..600).filter(|n| {
        let now = start + secs(2 * n);
        budget.deposit(now);
        let paid = (0..2).filter(|_| budget.try_withdraw(1, now)).count();
        (0..paid).for_each(|_| budget.release());
        paid < 2
    });
    assert_eq!(refused.count(), 0, "half a request per second, two more attempts each");
}
