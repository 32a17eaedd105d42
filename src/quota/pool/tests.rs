//! Tests of pools: several nodes and their authority, in virtual time.

use std::num::NonZeroU32;

use super::*;
use crate::quota::{Bucket, Moment, Rate};

/// An authority as the cluster has one: a bucket, and one round trip an ask.
struct Authority {
    bucket: Bucket,
    round_trips: u64,
}

struct Node {
    shared: Shared,
    admitted: u64,
    refused: u64,
}

struct Run {
    admitted: u64,
    refused: u64,
    round_trips: u64,
}

fn moment(now: Instant) -> Moment {
    Moment { now, unix_ms: 1_795_239_900_000, alone_of: None }
}

fn granted(granted: u64) -> Granted {
    Granted { granted, left: 0, next_in: Duration::ZERO }
}

impl Authority {
    /// Grants what is there of `want`, or nothing where that is less than `at_least`.
    fn draw(&mut self, need: Need, now: Instant) -> Granted {
        self.round_trips += 1;
        match self.bucket.wait(need.at_least, now) {
            None => {
                let there = u64::try_from(self.bucket.level(now)).unwrap_or_default();
                let granted = need.want.min(there).max(need.at_least);
                self.bucket.take(granted, now);
                Granted { granted, left: there - granted.min(there), next_in: Duration::ZERO }
            }
            Some(next_in) => Granted { granted: 0, left: 0, next_in },
        }
    }
}

impl Node {
    fn ask(&mut self, need: Option<Need>, authority: &mut Authority, nodes: u32, now: Instant) {
        let Some(need) = need else { return };
        let grant = authority.draw(need, now);
        let common = self.shared.common(moment(now));
        self.shared.on_grant(grant, &common, NonZeroU32::new(nodes).unwrap(), moment(now));
    }

    fn request(&mut self, amount: u64, authority: &mut Authority, nodes: u32, now: Instant) {
        let at = moment(now);
        if self.shared.lacks(amount, at) == Some(Lack::Unasked) {
            let need = self.shared.need(amount, false, at);
            self.ask(need, authority, nodes, now);
        }
        self.shared.on_request(amount, now);
        if self.shared.lacks(amount, at).is_none() {
            self.shared.take(amount, at);
            self.admitted += amount;
            let need = self.shared.need(0, false, at);
            self.ask(need, authority, nodes, now);
        } else {
            self.refused += amount;
        }
    }
}

/// Lets requests of `amount` units come for `seconds`, as often as `demand` says for each
/// millisecond of the run, spread over the nodes in turn.
fn run(nodes: u32, limit: u64, (seconds, amount): (u64, u64), demand: impl Fn(u64) -> bool) -> Run {
    let start = Instant::now();
    let rate = Rate::per_minute(limit);
    let burst = limit / 6;
    let mut authority = Authority { bucket: Bucket::new(rate, burst, start), round_trips: 0 };
    let node = || Node { shared: Shared::bucket(rate, burst, start), admitted: 0, refused: 0 };
    let mut all: Vec<_> = (0..nodes).map(|_| node()).collect();
    let mut turn = 0;
    for ms in 0..seconds * 1_000 {
        let now = start + Duration::from_millis(ms);
        for node in &mut all {
            if let Some(back) = node.shared.overdue(moment(now)) {
                match u64::try_from(back) {
                    Ok(back) => authority.bucket.give_back(back, now),
                    Err(_debt) => authority.bucket.take(back.unsigned_abs(), now),
                }
            }
        }
        if demand(ms) {
            turn = (turn + 1) % all.len();
            all[turn].request(amount, &mut authority, nodes, now);
        }
    }
    Run {
        admitted: all.iter().map(|node| node.admitted).sum(),
        refused: all.iter().map(|node| node.refused).sum(),
        round_trips: authority.round_trips,
    }
}

#[test]
fn a_key_within_its_limit_costs_a_round_trip_for_twenty_requests_and_none_is_refused() {
    for nodes in [1, 3] {
        // 100 requests a second of a limit of 200.
        let run = run(nodes, 12_000, (30, 1), |ms| ms % 10 == 0);
        assert_eq!((run.admitted, run.refused), (3_000, 0), "{nodes} nodes");
        assert!(run.round_trips * 20 <= run.admitted, "{nodes}: {} trips", run.round_trips);
    }
}

#[test]
fn a_key_that_asks_for_thrice_its_limit_gets_it_and_no_more() {
    for nodes in [1, 3] {
        // 300 requests a second of a limit of 100.
        let run = run(nodes, 6_000, (60, 1), |ms| ms % 10 < 3);
        let share = run.admitted as f64 / 6_000.0;
        assert!((0.95..=1.0).contains(&share), "{nodes} nodes: {share}");
        assert!(run.round_trips * 20 <= run.admitted, "{nodes}: {} trips", run.round_trips);
    }
}

#[test]
fn bursts_get_the_limit_over_all_nodes() {
    for nodes in [1, 3] {
        // 4 s of 1,000 requests a second, then 4 s of none.
        let run = run(nodes, 6_000, (60, 1), |ms| (ms / 4_000).is_multiple_of(2));
        let share = run.admitted as f64 / 6_000.0;
        assert!((0.95..=1.0).contains(&share), "{nodes} nodes: {share}");
    }
}

#[test]
fn tokens_are_shared_as_requests_are() {
    // 30 requests of 1,000 tokens a second, of a limit of 20,000 tokens a second.
    let run = run(3, 1_200_000, (60, 1_000), |ms| ms % 33 == 0);
    let share = run.admitted as f64 / 1_200_000.0;
    assert!((0.95..=1.0).contains(&share), "{share}");
}

#[test]
fn a_slow_key_holds_nothing() {
    let start = Instant::now();
    let mut pool = Pool::new(100, start);
    for second in 0..10 {
        let now = start + Duration::from_secs(2 * second);
        assert_eq!(pool.lacks(1, now), Some(Lack::Unasked));
        assert_eq!(pool.need(1, false, now), Some(Need { want: 1, at_least: 1 }));
        pool.on_grant(granted(1), Duration::ZERO, now);
        pool.on_request(1, now);
        pool.take(1);
        assert_eq!(pool.need(0, false, now), None);
        assert_eq!(pool.stock(), 0);
    }
}

#[test]
fn refusals_cost_no_round_trip() {
    let now = Instant::now();
    let mut pool = Pool::new(100, now);
    assert!(pool.need(1, false, now).is_some());
    let next_in = Duration::from_millis(400);
    pool.on_grant(Granted { next_in, ..granted(0) }, Duration::ZERO, now);
    let soon = now + Duration::from_millis(100);
    assert_eq!(pool.lacks(1, soon), Some(Lack::For(Duration::from_millis(300))));
    assert_eq!(pool.need(1, false, soon), None);
    assert_eq!(pool.lacks(1, now + next_in), Some(Lack::Unasked));
}

#[test]
fn what_is_not_used_goes_back_and_what_is_owed_is_booked() {
    let now = Instant::now();
    let mut pool = Pool::new(1_000, now);
    assert!(pool.need(10, false, now).is_some());
    pool.on_grant(granted(10), Duration::ZERO, now);
    pool.take(4);
    assert_eq!(pool.overdue(now + LEASE / 2), None);
    assert_eq!(pool.overdue(now + LEASE), Some(6));
    pool.take(25);
    assert_eq!(pool.overdue(now + LEASE), Some(-25));
    assert_eq!(pool.overdue(now + LEASE), None);
}

#[test]
fn nodes_without_their_authority_go_by_their_part() {
    let start = Instant::now();
    let mut shared = Shared::bucket(Rate::per_minute(600), 100, start);
    let alone = |now| Moment { alone_of: NonZeroU32::new(3), ..moment(now) };
    let mut admitted = 0;
    for ms in 0..60_000 {
        let at = alone(start + Duration::from_millis(ms));
        if shared.lacks(1, at).is_none() {
            shared.take(1, at);
            admitted += 1;
        }
    }
    assert!((198..=200).contains(&admitted), "a third of 600: {admitted}");
    let back = moment(start + Duration::from_secs(60));
    assert_eq!(shared.lacks(1, back), Some(Lack::Unasked));
}

#[test]
fn what_is_held_of_a_window_ends_with_it_and_a_late_answer_is_not_taken_for_the_next() {
    use crate::quota::{Period, Window};
    let start = Instant::now();
    let at = moment(start);
    let mut shared = Shared::window(Window::new(Period::Minute, 100, at.unix_ms), start);
    let nodes = NonZeroU32::new(2).unwrap();
    assert_eq!(shared.lacks(101, at), Some(Lack::TooLarge));
    assert_eq!(shared.need(30, false, at), Some(Need { want: 30, at_least: 30 }));
    let common = shared.common(at);
    shared.on_grant(granted(30), &common, nodes, at);
    assert_eq!(shared.lacks(30, at), None);
    shared.take(10, at);
    let next = Moment { unix_ms: at.unix_ms + 60_000, now: start + Duration::from_secs(60), ..at };
    assert_eq!(shared.lacks(20, next), Some(Lack::Unasked));
    assert!(shared.need(20, false, next).is_some());
    shared.on_grant(granted(20), &common, nodes, next);
    assert_eq!(shared.lacks(20, next), Some(Lack::Unasked), "it was of the last minute");
    shared.settle(10, 90, at, next);
    assert_eq!(shared.pool().stock(), 0);
}

#[test]
fn places_are_held_and_given_back_and_shared_out_without_an_authority() {
    let start = Instant::now();
    let at = moment(start);
    let mut shared = Shared::slots(10, start);
    assert_eq!(shared.need(1, false, at), Some(Need { want: 1, at_least: 1 }));
    let common = shared.common(at);
    shared.on_grant(granted(1), &common, NonZeroU32::MIN, at);
    shared.take(1, at);
    assert_eq!(shared.common(at), Common::Slots { limit: 10, held: 1 });
    shared.settle(1, 0, at, at);
    assert_eq!(shared.common(at), Common::Slots { limit: 10, held: 1 });
    let later = moment(start + LEASE);
    assert_eq!(shared.overdue(later), Some(1));
    assert_eq!(shared.common(later), Common::Slots { limit: 10, held: 0 });
    let alone = Moment { alone_of: NonZeroU32::new(3), ..later };
    for _ in 0..3 {
        assert_eq!(shared.lacks(1, alone), None);
        shared.take(1, alone);
    }
    assert!(matches!(shared.lacks(1, alone), Some(Lack::For(_))));
    // The authority is told what is held, not what would be owed.
    assert_eq!(shared.overdue(later), None);
    assert_eq!(shared.common(later), Common::Slots { limit: 10, held: 3 });
}
