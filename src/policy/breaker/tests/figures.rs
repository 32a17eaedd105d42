//! What the breaker does to whole histories: how soon it opens, how seldom in error, that it
//! recovers.

use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;

/// Attempts at even distances that end at once; `fails` says which fail at which second. Returns
/// how often it opened, and when last.
fn drive(
    rate: f64,
    from: f64,
    to: f64,
    breaker: &mut Breaker,
    origin: Instant,
    mut fails: impl FnMut(f64) -> bool,
) -> Vec<f64> {
    let mut opened = Vec::new();
    let mut n = 0_u32;
    loop {
        let at = from + f64::from(n) / rate;
        if at >= to {
            return opened;
        }
        n += 1;
        let now = origin + Duration::from_secs_f64(at);
        let Some(pass) = breaker.admit(now) else { continue };
        let end = if fails(at) { Hard } else { Good };
        if let Some(Transition::Opened { .. }) = settle(breaker, pass, end, now) {
            opened.push(at);
        }
    }
}

/// Healthy for 100 s, then `share` of the attempts fail: seconds until it opens.
fn seconds_to_open(rate: f64, share: f64, seed: u64) -> f64 {
    let mut rng = StdRng::seed_from_u64(seed);
    let origin = Instant::now();
    let mut breaker = Breaker::new(Settings::default());
    let fails = |at: f64| at > 100.0 && rng.random::<f64>() < share;
    let opened = drive(rate, 0.0, 200.0, &mut breaker, origin, fails);
    opened.first().expect("opens") - 100.0
}

#[test]
#[expect(clippy::print_stdout, reason = "a figure is to be seen")]
fn a_total_outage_opens_it_within_a_second_at_20_rps_and_ten_seconds_at_half_a_request() {
    for (rate, bound) in [(0.5, 10.0), (2.0, 4.0), (20.0, 1.0), (50.0, 1.0), (1_000.0, 1.0)] {
        let took = seconds_to_open(rate, 1.0, 1);
        println!("total outage at {rate} rps: open after {took:.2} s");
        assert!(took <= bound, "{took} s at {rate} rps");
    }
}

#[test]
fn a_partial_outage_opens_it_within_ten_seconds() {
    for seed in 0..20 {
        let took = seconds_to_open(20.0, 0.6, seed);
        assert!(took <= 10.0, "{took} s, seed {seed}");
    }
}

#[test]
fn ten_percent_errors_for_ten_hours_at_20_rps_never_open_it() {
    let mut rng = StdRng::seed_from_u64(10);
    let mut breaker = Breaker::new(Settings::default());
    let opened =
        drive(20.0, 0.0, 36_000.0, &mut breaker, Instant::now(), |_| rng.random::<f64>() < 0.1);
    assert_eq!(opened, [0.0; 0]);
}

#[test]
fn a_recovered_target_is_closed_within_the_cooldown_and_a_minute() {
    for seed in 0..100 {
        let mut rng = StdRng::seed_from_u64(seed);
        let origin = Instant::now();
        let mut breaker = Breaker::new(Settings::default());
        let outage = 10.0 + 600.0 * rng.random::<f64>();
        drive(0.5, 0.0, outage, &mut breaker, origin, |_| true);
        let healthy = origin + Duration::from_secs_f64(outage);
        let cooldown = match breaker.state(healthy) {
            State::Open { until } => (until - healthy).as_secs_f64(),
            State::Closed | State::HalfOpen => 0.0,
        };
        let end = outage + cooldown + 60.0;
        drive(0.5, outage, end, &mut breaker, origin, |_| false);
        let state = breaker.state(origin + Duration::from_secs_f64(end));
        assert_eq!(state, State::Closed, "seed {seed}");
    }
}

#[test]
fn an_hour_of_cancelled_and_lost_trials_does_not_stick_it_half_open() {
    let mut rng = StdRng::seed_from_u64(60);
    let start = Instant::now();
    let mut breaker = Breaker::new(Settings::default());
    drive(20.0, 0.0, 1.0, &mut breaker, start, |_| true);
    let mut admitted_at = 30;
    for tenth in 300..36_000 {
        let now = start + Duration::from_millis(tenth * 100);
        let Some(pass) = breaker.admit(now) else { continue };
        admitted_at = tenth / 10;
        // Every tenth is lost: neither a verdict nor a cancellation is ever told.
        if rng.random::<f64>() < 0.9 {
            breaker.on_neutral(pass);
        }
        assert_eq!(breaker.state(now), State::HalfOpen);
    }
    assert!(admitted_at >= 3_600 - 31, "leases come back: last admitted at {admitted_at} s");
    let healthy = drive(1.0, 3_600.0, 3_660.0, &mut breaker, start, |_| false);
    assert_eq!((healthy, breaker.state(start + secs(3_660))), (vec![], State::Closed));
}

proptest! {
    /// Whatever happened, and whoever never reported: the target gets well, the breaker closes.
    #[test]
    fn every_history_leads_back_to_closed(
        steps in prop::collection::vec((0_u64..20_000, 0_u8..9, 0.0_f64..1.0), 0..300),
    ) {
        let start = Instant::now();
        let mut breaker = Breaker::new(Settings::default());
        let mut held = Vec::new();
        let mut at = 0;
        for (gap_ms, what, u) in steps {
            at += if what < 5 { 0 } else { gap_ms };
            let now = start + Duration::from_millis(at);
            let Some(pass) = breaker.admit(now) else { continue };
            held.push(pass);
            let which = (u * held.len() as f64) as usize;
            let end = [Good, Slow, Hard, Hard, Hard, Soft, Neutral, RetryAfter(500)];
            if let Some(end) = end.get(usize::from(what)) {
                settle(&mut breaker, held.swap_remove(which), *end, now);
            }
        }
        // 360 s of cooldown at most, 30 s of lost leases.
        for second in 0..400 {
            let now = start + Duration::from_millis(at) + secs(second);
            if let Some(pass) = breaker.admit(now) {
                breaker.on_success(pass, now);
            }
        }
        prop_assert_eq!(breaker.state(start + Duration::from_millis(at) + secs(400)), State::Closed);
    }
}
