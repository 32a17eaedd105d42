//! Tests of the mirror of a provider's limits.

use super::*;

const SEC: Duration = Duration::from_secs(1);

fn mirror() -> (Mirror, Instant) {
    (Mirror::new(QuotaSettings::default()), Instant::now())
}

fn reading(dimension: Dimension, limit: u64, remaining: u64, started: Instant) -> Reading {
    Reading { dimension, limit, remaining, reset: None, request_started: started }
}

fn left(mirror: &Mirror, dimension: Dimension, now: Instant) -> i64 {
    mirror.known(dimension, now).unwrap().1.round() as i64
}

#[test]
fn nothing_known_is_unlimited() {
    let (mut mirror, now) = mirror();
    for _ in 0..10_000 {
        let _taken = mirror.reserve(Amounts::request(1_000_000, 1_000_000), now).unwrap();
    }
    assert_eq!(mirror.headroom(now), 1.0);
    assert!(mirror.recent.len() <= MAX_RECENT, "memory stays bounded");
}

#[test]
fn a_reading_limits_and_the_limit_refills_over_a_minute() {
    let (mut mirror, now) = mirror();
    mirror.on_reading(reading(Dimension::Requests, 60, 1, now), now);
    let _taken = mirror.reserve(Amounts::request(1, 1), now).unwrap();
    let wait = mirror.reserve(Amounts::request(1, 1), now).unwrap_err();
    assert_eq!(wait, Wait { dimension: Some(Dimension::Requests), wait: SEC });
    let _taken = mirror.reserve(Amounts::request(1, 1), now + SEC).unwrap();
    assert_eq!(mirror.headroom(now + 31 * SEC), 0.5);
}

#[test]
fn all_dimensions_are_taken_or_none_and_the_longest_wait_is_told() {
    let (mut mirror, now) = mirror();
    mirror.on_reading(reading(Dimension::Requests, 60, 60, now), now);
    mirror.on_reading(reading(Dimension::InputTokens, 6_000, 100, now), now);
    mirror.on_reading(reading(Dimension::OutputTokens, 600, 0, now), now);
    let wait = mirror.reserve(Amounts::request(300, 100), now).unwrap_err();
    assert_eq!(wait, Wait { dimension: Some(Dimension::OutputTokens), wait: 10 * SEC });
    assert_eq!(left(&mirror, Dimension::Requests, now), 60, "nothing was taken");
}

#[test]
fn a_request_beyond_the_limit_goes_when_all_of_it_is_there_and_leaves_a_debt() {
    let (mut mirror, now) = mirror();
    mirror.on_reading(reading(Dimension::Tokens, 1_000, 900, now), now);
    assert!(mirror.reserve(Amounts::request(1_500, 0), now).is_err());
    let now = now + 6 * SEC;
    let taken = mirror.reserve(Amounts::request(1_500, 0), now).unwrap();
    assert_eq!(left(&mirror, Dimension::Tokens, now), -500);
    mirror.settle(taken, Amounts::request(1_500, 300), now);
    assert_eq!(left(&mirror, Dimension::Tokens, now), -800, "debt is not forgiven");
    assert_eq!(mirror.headroom(now), 0.0);
}

#[test]
fn settling_gives_back_what_was_not_used_and_a_refund_all() {
    let (mut mirror, now) = mirror();
    mirror.on_reading(reading(Dimension::Tokens, 1_000, 1_000, now), now);
    let first = mirror.reserve(Amounts::request(100, 500), now).unwrap();
    let second = mirror.reserve(Amounts::request(100, 200), now).unwrap();
    assert_eq!(left(&mirror, Dimension::Tokens, now), 100);
    mirror.settle(first, Amounts::request(100, 50), now);
    mirror.refund(second, now);
    assert_eq!(left(&mirror, Dimension::Tokens, now), 850);
}

#[test]
fn a_reading_lacks_what_was_reserved_after_its_request() {
    let (mut mirror, start) = mirror();
    let at = |ms| start + Duration::from_millis(ms);
    mirror.on_reading(reading(Dimension::Tokens, 60_000, 60_000, start), start);
    let _first = mirror.reserve(Amounts::request(1_000, 0), at(10)).unwrap();
    let second = mirror.reserve(Amounts::request(2_000, 0), at(20)).unwrap();
    let _third = mirror.reserve(Amounts::request(4_000, 0), at(30)).unwrap();
    mirror.settle(second, Amounts::request(500, 0), at(40));
    // The first one's answer: another user of the key took much; 500 and 4,000 came later.
    mirror.on_reading(reading(Dimension::Tokens, 60_000, 20_000, at(10)), at(50));
    assert_eq!(left(&mirror, Dimension::Tokens, at(50)), 15_500);
    // A reading that allows more than the model does not raise it.
    mirror.on_reading(reading(Dimension::Tokens, 60_000, 60_000, at(30)), at(50));
    assert_eq!(left(&mirror, Dimension::Tokens, at(50)), 15_500);
    // An older snapshot that comes late is ignored.
    mirror.on_reading(reading(Dimension::Tokens, 60_000, 0, at(20)), at(50));
    assert_eq!(left(&mirror, Dimension::Tokens, at(50)), 15_500);
}

#[test]
fn what_an_older_request_gives_back_is_not_taken_off_later_ones() {
    let (mut mirror, start) = mirror();
    let at = |ms| start + Duration::from_millis(ms);
    let first = mirror.reserve(Amounts::request(1_000, 0), at(0)).unwrap();
    let _second = mirror.reserve(Amounts::request(2_000, 0), at(10)).unwrap();
    mirror.on_reading(reading(Dimension::Tokens, 60_000, 60_000, at(0)), at(20));
    mirror.refund(first, at(20));
    mirror.on_reading(reading(Dimension::Tokens, 60_000, 30_000, at(0)), at(20));
    assert_eq!(left(&mirror, Dimension::Tokens, at(20)), 28_000);
}

#[test]
fn what_is_merged_for_space_counts_as_later_never_as_earlier() {
    let (mut mirror, start) = mirror();
    let at = |ms| start + Duration::from_millis(ms);
    for ms in 0..300 {
        let _taken = mirror.reserve(Amounts::request(1, 0), at(ms)).unwrap();
    }
    mirror.on_reading(reading(Dimension::Requests, 1_000, 1_000, at(0)), at(300));
    let left = left(&mirror, Dimension::Requests, at(300));
    assert!((700..=702).contains(&left), "{left} of 1,000 with 299 reserved later");
}

/// A token bucket of 14,400 a day with 30 missing says it is full in three minutes.
#[test]
fn a_token_bucket_refills_as_fast_as_its_reset_says_or_faster() {
    let (mut mirror, now) = mirror();
    let reset = Some(Duration::from_millis(179_560));
    mirror.on_reading(Reading { reset, ..reading(Dimension::Requests, 14_400, 14_370, now) }, now);
    assert_eq!(left(&mirror, Dimension::Requests, now), 14_370);
    assert_eq!(left(&mirror, Dimension::Requests, now + 180 * SEC), 14_400);
}

#[test]
fn a_used_up_day_is_waited_for() {
    let (mut mirror, now) = mirror();
    let reset = Some(Duration::from_secs(86_400));
    mirror.on_reading(Reading { reset, ..reading(Dimension::Requests, 1_000, 0, now) }, now);
    let wait = mirror.reserve(Amounts::request(1, 1), now).unwrap_err().wait;
    assert!((86.0..87.0).contains(&wait.as_secs_f64()), "a thousandth of a day, not {wait:?}");
}

#[test]
fn a_fixed_window_opens_at_its_reset_less_what_was_reserved_since() {
    let (mut mirror, now) = mirror();
    let reset = Some(5 * SEC);
    mirror.on_reading(Reading { reset, ..reading(Dimension::Requests, 500, 0, now) }, now);
    assert!(mirror.reserve(Amounts::request(1, 1), now).is_err());
    let mid = now + 4_990 * Duration::from_millis(1);
    for _ in 0..40 {
        let _taken = mirror.reserve(Amounts::request(1, 1), mid).unwrap();
    }
    assert_eq!(left(&mirror, Dimension::Requests, mid), 459);
    let open = now + 5 * SEC;
    let _taken = mirror.reserve(Amounts::request(1, 1), open).unwrap();
    assert!(left(&mirror, Dimension::Requests, open) >= 459);
}

#[test]
fn a_rate_limit_cools_off_for_as_long_as_the_provider_says_but_not_for_ever() {
    let (mut mirror, now) = mirror();
    mirror.on_rate_limited(Some(7 * SEC), 0.0, now);
    assert_eq!(mirror.cooling(now), Some(now + 7 * SEC));
    assert_eq!(mirror.headroom(now), 0.0);
    let wait = mirror.reserve(Amounts::request(1, 1), now).unwrap_err();
    assert_eq!(wait, Wait { dimension: None, wait: 7 * SEC });
    assert_eq!(mirror.cooling(now + 7 * SEC), None);
    mirror.on_rate_limited(Some(Duration::MAX), 1.0, now + 7 * SEC);
    assert_eq!(mirror.cooling(now + 7 * SEC), Some(now + Duration::from_millis(307_500)));
}

#[test]
fn without_a_hint_the_pause_doubles_once_a_burst_until_a_success() {
    let (mut mirror, mut now) = mirror();
    for expected in [1, 2, 4, 8, 16, 32, 60, 60] {
        for _ in 0..20 {
            mirror.on_rate_limited(None, 1.0, now);
        }
        assert_eq!(mirror.cooling(now), Some(now + expected * SEC));
        now += expected * SEC;
    }
    let taken = mirror.reserve(Amounts::request(1, 1), now).unwrap();
    mirror.settle(taken, Amounts::request(1, 1), now + SEC);
    now += 2 * SEC;
    mirror.on_rate_limited(None, 0.5, now);
    assert_eq!(mirror.cooling(now), Some(now + SEC / 2), "full jitter over 1 s");
}

#[test]
fn a_rate_limit_slows_the_refill_which_recovers() {
    let (mut mirror, now) = mirror();
    mirror.on_reading(reading(Dimension::Tokens, 60_000, 0, now), now);
    for _ in 0..10 {
        mirror.on_rate_limited(Some(SEC), 0.0, now);
    }
    assert!((mirror.trust(now) - 0.8).abs() < 1e-9, "a burst cuts once");
    assert!((mirror.trust(now + 20 * SEC) - 0.9).abs() < 1e-9);
    assert_eq!(mirror.trust(now + 60 * SEC), 1.0);
}

/// A provider with a minute's bucket, two users of the key, bursts: what is let through against
/// what was there, and how often the provider still says no.
#[test]
fn with_known_limits_hardly_anything_is_rejected_and_hardly_anything_is_left() {
    let (limit, rate) = (100_000.0, 100_000.0 / 60.0);
    let (mut mirror, start) = mirror();
    let (mut level, mut admitted, mut sent, mut rejected) = (limit, 0.0, 0_u32, 0_u32);
    for tick in 0..18_000_u32 {
        let now = start + tick * Duration::from_millis(20);
        level = f64::min(limit, level + rate * 0.02);
        // Bursts: five requests at once, twice what the limit allows.
        if tick % 25 != 0 {
            continue;
        }
        for size in [100, 900, 200, 300, 170] {
            let Ok(taken) = mirror.reserve(Amounts::request(size, 0), now) else { continue };
            sent += 1;
            if level < size as f64 {
                rejected += 1;
                mirror.refund(taken, now);
                mirror.on_rate_limited(Some(SEC), 0.5, now);
                continue;
            }
            level -= size as f64;
            admitted += size as f64;
            let missing = limit - level;
            let reset = Some(Duration::from_secs_f64(missing / rate));
            let remaining = level as u64;
            mirror.on_reading(
                Reading {
                    dimension: Dimension::Tokens,
                    limit: 100_000,
                    remaining,
                    reset,
                    request_started: now,
                },
                now,
            );
            mirror.settle(taken, Amounts::request(size, 0), now);
        }
    }
    let used = admitted / (limit + rate * 360.0);
    assert!((0.95..=1.02).contains(&used), "{used} of the limit");
    assert!(f64::from(rejected) < f64::from(sent) * 0.001, "{rejected} of {sent} rejected");
}

#[test]
fn a_decision_costs_next_to_nothing_however_much_is_in_flight() {
    let (mut mirror, start) = mirror();
    for dimension in Dimension::ALL {
        mirror.on_reading(reading(dimension, 1 << 40, 1 << 40, start), start);
    }
    let rounds = 20_000;
    let before = Instant::now();
    for each in 1..=rounds {
        let now = start + each * Duration::from_micros(10);
        let taken = mirror.reserve(Amounts::request(1_000, 100), now).unwrap();
        mirror.settle(taken, Amounts::request(1_000, 50), now);
    }
    let each = before.elapsed() / rounds;
    assert!(each < Duration::from_micros(50), "{each:?} each, not optimised");
    assert_eq!(mirror.recent.len(), MAX_RECENT);
}

// === Parking ===

#[test]
fn a_bad_key_is_parked_and_one_request_tries_it_again() {
    let now = Instant::now();
    let mut parking = Parking::new(ParkingSettings::default());
    assert!(!parking.is_parked(now) && !parking.on_start(now));
    parking.on_auth_fault(now);
    assert_eq!(parking.parked(now), Some((ParkCause::AuthFault, now + 300 * SEC)));
    parking.on_success();
    assert!(parking.is_parked(now + 299 * SEC), "an older stream's end proves nothing");

    let later = now + 300 * SEC;
    assert!(!parking.is_parked(later));
    assert!(parking.on_start(later), "the trial");
    assert!(parking.is_parked(later) && !parking.on_start(later), "one at a time");
    parking.on_hard_quota(later);
    assert_eq!(parking.parked(later), Some((ParkCause::HardQuota, later + 300 * SEC)));

    let last = later + 300 * SEC;
    assert!(parking.on_start(last));
    parking.on_success();
    assert!(!parking.is_parked(last) && !parking.on_start(last));
}

#[test]
fn a_trial_that_proves_nothing_lets_the_next_one_try() {
    let now = Instant::now();
    let mut parking = Parking::new(ParkingSettings::default());
    parking.on_hard_quota(now);
    let later = now + 300 * SEC;
    assert!(parking.on_start(later));
    parking.on_neutral(later + SEC);
    assert!(parking.on_start(later + SEC));
    assert!(parking.is_parked(later + 2 * SEC));
    assert!(!parking.is_parked(later + 61 * SEC), "a trial nobody ends does not last");
}
