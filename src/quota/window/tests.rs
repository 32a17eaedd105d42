//! Tests of windows.

use proptest::prelude::*;

use super::*;

/// 2026-11-21T05:45:00Z, a Saturday.
const NOW_MS: u64 = 1_795_239_900_000;
const DAY_MS: u64 = 86_400_000;

fn ms(text: &str) -> u64 {
    let time: Timestamp = text.parse().unwrap();
    u64::try_from(time.as_millisecond()).unwrap()
}

#[test]
fn windows_follow_the_calendar_in_utc() {
    let at = ms("2026-11-21T05:45:12.345Z");
    let around = |period: Period| period.around(at);
    assert_eq!(around(Period::Minute), (ms("2026-11-21T05:45:00Z"), ms("2026-11-21T05:46:00Z")));
    assert_eq!(around(Period::Hour), (ms("2026-11-21T05:00:00Z"), ms("2026-11-21T06:00:00Z")));
    assert_eq!(around(Period::Day), (ms("2026-11-21T00:00:00Z"), ms("2026-11-22T00:00:00Z")));
    assert_eq!(around(Period::Month), (ms("2026-11-01T00:00:00Z"), ms("2026-12-01T00:00:00Z")));
}

#[test]
fn months_are_as_long_as_they_are() {
    for (at, days) in [
        ("2026-02-28T23:59:59.999Z", 28),
        ("2028-02-29T12:00:00Z", 29),
        ("2026-12-31T23:59:59Z", 31),
        ("2026-04-01T00:00:00Z", 30),
    ] {
        let (start, end) = Period::Month.around(ms(at));
        assert_eq!((end - start) / DAY_MS, days, "{at}");
        assert!((start..end).contains(&ms(at)));
    }
    assert_eq!(Period::Month.around(u64::MAX), (u64::MAX, u64::MAX), "beyond every calendar");
}

#[test]
fn what_is_reserved_counts_as_used() {
    let mut window = Window::new(Period::Day, 100, NOW_MS);
    window.reserve(60, NOW_MS);
    assert_eq!(window.lacks(41, NOW_MS), Some(Full::Reserved));
    assert_eq!(window.lacks(40, NOW_MS), None);
    window.settle(60, 10, NOW_MS, NOW_MS);
    assert_eq!((window.spent(NOW_MS), window.remaining(NOW_MS)), (10, 90));
}

#[test]
fn a_spent_window_waits_for_the_next() {
    let mut window = Window::new(Period::Hour, 100, NOW_MS);
    window.settle(0, 100, NOW_MS, NOW_MS);
    let wait = Duration::from_secs(15 * 60);
    assert_eq!(window.lacks(1, NOW_MS), Some(Full::Spent { wait }));
    assert_eq!(window.lacks(0, NOW_MS), Some(Full::Spent { wait }), "nothing is left");
    let later = NOW_MS + 15 * 60_000;
    assert_eq!(window.lacks(100, later), None);
    assert_eq!(window.lacks(101, later), Some(Full::TooLarge));
}

#[test]
fn what_was_admitted_before_belongs_to_the_window_before() {
    let mut window = Window::new(Period::Minute, 100, NOW_MS);
    window.reserve(80, NOW_MS);
    let next = NOW_MS + 60_000;
    assert_eq!(window.remaining(next), 100);
    window.reserve(30, next);
    window.settle(80, 90, NOW_MS, next);
    assert_eq!((window.spent(next), window.remaining(next)), (0, 70));
}

#[test]
fn each_threshold_is_crossed_once_a_window() {
    let mut window = Window::new(Period::Day, 1_000, NOW_MS);
    let mut spend = |amount, at| {
        window.settle(0, amount, at, at);
        window.crossed(at)
    };
    assert_eq!(spend(499, NOW_MS), None);
    assert_eq!(spend(1, NOW_MS), Some(Threshold::Half));
    assert_eq!(spend(1, NOW_MS), None);
    assert_eq!(spend(399, NOW_MS), Some(Threshold::Most));
    assert_eq!(spend(200, NOW_MS), Some(Threshold::All));
    assert_eq!(spend(1, NOW_MS), None);
    assert_eq!(spend(800, NOW_MS + DAY_MS), Some(Threshold::Most), "the highest, in a new window");
    assert_eq!(window.exhausted(NOW_MS + DAY_MS), Some(Threshold::All));
    assert_eq!(window.exhausted(NOW_MS + DAY_MS), None);
}

proptest! {
    #[test]
    fn spent_and_reserved_stay_within_the_limit_where_estimates_hold(
        limit in 1_u64..1_000,
        requests in prop::collection::vec((0_u64..200, 0_u64..=100, 0_u64..40_000), 1..100),
    ) {
        let mut window = Window::new(Period::Minute, limit, NOW_MS);
        let mut open = Vec::new();
        let mut now = NOW_MS;
        for (amount, used_percent, passed) in requests {
            now += passed;
            if window.lacks(amount, now).is_none() {
                window.reserve(amount, now);
                open.push((amount, used_percent, now));
            }
            if open.len() > 3 {
                let (amount, used_percent, since) = open.remove(0);
                window.settle(amount, amount * used_percent / 100, since, now);
            }
            prop_assert!(window.spent(now) + window.reserved <= limit);
        }
    }
}

#[test]
fn what_was_used_before_a_window_was_there_is_added_and_never_twice() {
    let (hour, made) = (NOW_MS - NOW_MS % 3_600_000, NOW_MS);
    let mut window = Window::new(Period::Hour, 100, made);
    window.settle(0, 5, made, made);
    window.add_earlier(30, made, made, made + 1);
    assert_eq!(window.spent(made), 35);
    // It has counted everything since then, so it knows more than what is read a second time.
    window.add_earlier(33, made + 500, made, made + 600);
    assert_eq!(window.spent(made), 35);
    window.add_earlier(40, made + 500, made, made + 600);
    assert_eq!(window.spent(made), 40);
    let next = hour + 3_600_000;
    window.add_earlier(50, made, made, next);
    assert_eq!(window.spent(next), 0, "that was the hour before");
}
