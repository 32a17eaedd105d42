//! Tests of buckets.

use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn secs(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

/// 600 a minute, 100 at once.
fn bucket(now: Instant) -> Bucket {
    Bucket::new(Rate::per_minute(600), 100, now)
}

/// Takes what it can, one unit at a time, every `every` from `start` until `end`.
fn flood(bucket: &mut Bucket, start: Instant, end: Duration, every: Duration) -> u64 {
    let mut taken = 0;
    let mut now = start;
    while now < start + end {
        while bucket.wait(1, now).is_none() {
            bucket.take(1, now);
            taken += 1;
        }
        now += every;
    }
    taken
}

#[test]
fn a_cold_start_admits_the_limit_in_its_first_minute_and_no_more() {
    let start = Instant::now();
    assert_eq!(flood(&mut bucket(start), start, secs(60.0), secs(0.003)), 600);
}

#[test]
fn a_burst_is_an_advance_on_the_next_seconds() {
    let start = Instant::now();
    let mut bucket = bucket(start);
    assert_eq!(flood(&mut bucket, start, secs(0.001), SECOND), 100);
    assert_eq!(flood(&mut bucket, start + secs(1.0), secs(8.9), secs(0.1)), 0);
    // 9.9 s pay for 99 of them; from then on one comes back every 100 ms.
    assert_eq!(bucket.wait(1, start + secs(9.9)), Some(secs(0.1)));
    assert_eq!(flood(&mut bucket, start + secs(10.0), secs(10.0), secs(0.1)), 100);
}

#[test]
fn a_bucket_that_is_only_just_full_gives_no_advance() {
    let start = Instant::now();
    let mut bucket = bucket(start);
    bucket.take(100, start);
    let full = start + secs(9.9) + secs(10.0);
    assert_eq!(bucket.level(full), 100);
    bucket.take(100, full);
    assert_eq!(bucket.level(full + SECOND), 10);
    // One that was full for two seconds before gives two seconds of advance.
    let full = full + secs(10.0);
    bucket.take(100, full + secs(2.0));
    assert_eq!(bucket.level(full + secs(4.0)), 0);
    assert_eq!(bucket.level(full + secs(5.0)), 10);
}

#[test]
fn one_request_a_minute_may_come_every_minute() {
    let start = Instant::now();
    let mut bucket = Bucket::new(Rate::per_minute(1), 1, start);
    for minute in 0..3 {
        let now = start + secs(60.0) * minute;
        assert_eq!(bucket.wait(1, now), None);
        bucket.take(1, now);
        assert_eq!(bucket.wait(1, now), Some(secs(60.0)));
    }
}

#[test]
fn more_than_a_burst_needs_a_full_bucket_and_leaves_its_debt() {
    let start = Instant::now();
    let mut bucket = bucket(start);
    assert_eq!(bucket.wait(1_000, start), None);
    bucket.take(1_000, start);
    assert_eq!(bucket.level(start), -900);
    // The advance of 9.9 s, and then 901 units at 10 a second.
    assert_eq!(bucket.wait(1, start), Some(secs(9.9) + secs(90.1)));
    let paid = start + secs(100.0);
    assert_eq!(bucket.wait(1, paid), None);
    assert!(bucket.wait(1_000, paid).is_some(), "it is not full");
}

#[test]
fn an_answer_in_progress_gets_as_far_as_a_burst_of_debt() {
    let start = Instant::now();
    let mut bucket = bucket(start);
    bucket.take(100, start);
    assert!(bucket.top_up(100, start));
    assert!(!bucket.top_up(1, start));
    assert_eq!(bucket.level(start), -100);
    // What it used all the same is booked.
    bucket.settle(0, 50, start);
    assert_eq!(bucket.level(start), -150);
}

#[test]
fn a_changed_limit_keeps_what_was_used() {
    let start = Instant::now();
    let mut bucket = bucket(start);
    bucket.take(30, start);
    bucket.set(Rate::per_minute(1_200), 200, start);
    assert_eq!(bucket.level(start), 170);
    bucket.set(Rate::per_minute(60), 10, start);
    assert_eq!(bucket.level(start), -20);
}

#[test]
fn a_new_bucket_is_rested_and_a_used_one_is_again_after_a_while() {
    let start = Instant::now();
    let mut bucket = bucket(start);
    assert!(bucket.is_rested(start));
    bucket.take(1, start);
    assert!(!bucket.is_rested(start + secs(9.0)));
    assert!(!bucket.is_rested(start + secs(19.0)), "full, but not for long");
    assert!(bucket.is_rested(start + secs(9.9 + 0.1 + 9.9)));
}

#[test]
fn a_share_of_a_rate_is_exact_in_the_long_run() {
    let rate = Rate::per_minute(10).share(3);
    assert_eq!(rate.units_in(secs(180.0)), 10);
    assert_eq!(Rate::per_minute(600).share(3), Rate::per_minute(200));
}

#[test]
fn absurd_amounts_do_not_overflow() {
    let start = Instant::now();
    let mut bucket = Bucket::new(Rate::new(u64::MAX, Duration::MAX), u64::MAX, start);
    for _ in 0..50 {
        bucket.take(u64::MAX, start);
    }
    assert!(bucket.wait(u64::MAX, start).is_some());
    bucket.give_back(u64::MAX, start + secs(1e9));
    let mut slow = Bucket::new(Rate::new(1, Duration::MAX), 1, start);
    slow.take(MAX_UNITS, start);
    assert!(slow.wait(1, start).is_some());
    assert!(slow.level(start + secs(1e9)) < 0);
}

/// One thing that happens to a bucket.
#[derive(Debug, Clone)]
enum Event {
    Pass(u64),
    Ask(u64),
    Correct(u64, u64),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        (0_u64..3_000_000_000).prop_map(Event::Pass),
        (0_u64..400).prop_map(Event::Ask),
        (0_u64..200, 0_u64..200).prop_map(|(est, actual)| Event::Correct(est, actual)),
    ];
    prop::collection::vec(event, 1..80)
}

proptest! {
    #[test]
    fn never_admits_more_than_the_burst_and_the_refill(
        events in events(), rate in 1_u64..5_000, burst in 1_u64..500,
    ) {
        let start = Instant::now();
        let mut now = start;
        let mut bucket = Bucket::new(Rate::per_minute(rate), burst, now);
        let mut used = 0_i128;
        for event in events {
            match event {
                Event::Pass(ns) => now += Duration::from_nanos(ns),
                Event::Ask(amount) if bucket.wait(amount, now).is_none() => {
                    bucket.take(amount, now);
                    used += i128::from(amount);
                }
                Event::Ask(_) => {}
                Event::Correct(est, actual) => {
                    bucket.take(est, now);
                    bucket.settle(est, actual, now);
                    used += i128::from(actual);
                }
            }
            let passed = i128::try_from((now - start).as_nanos()).unwrap();
            let earned = passed * i128::from(rate) / 60_000_000_000;
            // What is there and what was used is what there was: nothing appears, no debt is lost.
            prop_assert!(i128::from(bucket.level(now)) + used <= i128::from(burst) + earned);
        }
    }

    #[test]
    fn a_told_wait_is_exact(events in events(), rate in 1_u64..5_000, amount in 1_u64..1_000) {
        let mut now = Instant::now();
        let mut bucket = Bucket::new(Rate::per_minute(rate), 100, now);
        for event in events {
            match event {
                Event::Pass(ns) => now += Duration::from_nanos(ns),
                Event::Ask(units) => bucket.take(units, now),
                Event::Correct(est, actual) => bucket.settle(est, actual, now),
            }
        }
        if let Some(wait) = bucket.wait(amount, now) {
            prop_assert_eq!(bucket.wait(amount, now + wait), None);
            let before = wait - Duration::from_nanos(1);
            prop_assert_eq!(bucket.wait(amount, now + before), Some(Duration::from_nanos(1)));
        }
    }

    #[test]
    fn looking_often_loses_nothing(steps in prop::collection::vec(1_u64..9_999_999, 1..500)) {
        let start = Instant::now();
        let rate = Rate::per_minute(7);
        let mut looked = Bucket::new(rate, 1_000, start);
        looked.take(1_000, start);
        let mut slept = looked;
        let mut now = start;
        for ns in steps {
            now += Duration::from_nanos(ns) * 1_000;
            looked.take(0, now);
        }
        slept.take(0, now);
        prop_assert_eq!(looked, slept);
    }

    #[test]
    fn a_refund_gives_back_exactly_what_was_taken(before in 0_u64..150, amount in 0_u64..90) {
        let now = Instant::now();
        let mut bucket = bucket(now);
        bucket.take(before, now);
        let level = bucket.level(now);
        bucket.take(amount, now);
        bucket.settle(amount, 0, now);
        prop_assert_eq!(bucket.level(now), level);
    }
}
