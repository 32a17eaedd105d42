//! Tests of pools, each for itself. Several of them and their authority are in `simulation`.

use std::num::NonZeroU32;

use super::*;
use crate::quota::{Moment, Rate};

mod simulation;

fn moment(now: Instant) -> Moment {
    Moment { now, unix_ms: 1_795_239_900_000, alone_of: None }
}

fn granted(granted: u64) -> Granted {
    Granted { granted, left: 0, next_in: Duration::ZERO, is_unsettled: false }
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
    assert_eq!(pool.overdue(false, now + LEASE / 2), None);
    assert_eq!(pool.overdue(false, now + LEASE), Some(6));
    assert_eq!(pool.overdue(false, now + LEASE), None);
    pool.on_grant(granted(0), Duration::ZERO, now);
    pool.take(25);
    assert_eq!(pool.overdue(false, now + LEASE), Some(-25));
    pool.on_grant(granted(0), Duration::ZERO, now);
    assert_eq!(pool.overdue(false, now + LEASE), None);
}

#[test]
fn what_the_authority_did_not_hear_is_told_again_and_nothing_is_given_back_twice() {
    let now = Instant::now();
    let later = now + LEASE;
    let mut pool = Pool::new(1_000, now);
    for may_have_heard in [false, true] {
        pool.take(7);
        assert_eq!(pool.overdue(false, later), Some(-7));
        pool.on_lost(may_have_heard);
        assert_eq!(pool.overdue(false, later), Some(-7), "a debt is never forgiven");
        pool.on_grant(granted(0), Duration::ZERO, now);
    }
    pool.take(-9);
    assert_eq!(pool.overdue(false, later), Some(9));
    pool.on_lost(false);
    assert_eq!(pool.overdue(false, later), Some(9), "it is certain that nobody has it");
    pool.on_lost(true);
    assert_eq!(pool.overdue(false, later), None, "it may be back already");
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
    assert_eq!(shared.tell(When::Due, later), Some(Tell::Held(0)));
    shared.on_grant(granted(0), &shared.common(later), NonZeroU32::MIN, later);
    assert_eq!(shared.common(later), Common::Slots { limit: 10, held: 0 });
    let alone = Moment { alone_of: NonZeroU32::new(3), ..later };
    for _ in 0..3 {
        assert_eq!(shared.lacks(1, alone), None);
        shared.take(1, alone);
    }
    assert!(matches!(shared.lacks(1, alone), Some(Lack::For(_))));
    // The authority is told what is held, not what would be owed.
    assert_eq!(shared.tell(When::Due, later), Some(Tell::Held(3)));
    assert_eq!(shared.common(later), Common::Slots { limit: 10, held: 3 });
}

fn month(limit: u64, at: Moment) -> Shared {
    use crate::quota::{Period, Window};
    Shared::window(Window::new(Period::Month, limit, at.unix_ms), at.now)
}

/// What a window tells: what it has had, what all had, and what was before.
fn told(shared: &Shared, at: Moment) -> (u64, u64, u64, bool) {
    match shared.common(at) {
        Common::Window { held, heard, before, is_beside, .. } => (held, heard, before, is_beside),
        other @ (Common::Bucket { .. } | Common::Slots { .. }) => panic!("{other:?}"),
    }
}

#[test]
fn a_window_says_what_it_has_had_until_the_authority_knows_it() {
    let at = moment(Instant::now());
    let nodes = NonZeroU32::new(2).unwrap();
    let mut shared = month(100, at);
    assert!(shared.need(10, false, at).is_some());
    // The answer is lost: what was granted is told not to be held.
    shared.on_lost(true);
    assert_eq!(shared.tell(When::Due, at), Some(Tell::Held(0)));
    shared.on_lost(true);
    assert_eq!(shared.tell(When::Due, at), Some(Tell::Held(0)));
    shared.on_grant(Granted { left: 60, ..granted(0) }, &shared.common(at), nodes, at);
    assert!(shared.is_quiet(at));
    assert!(shared.need(10, false, at).is_some());
    shared.on_grant(Granted { left: 50, ..granted(10) }, &shared.common(at), nodes, at);
    shared.take(10, at);
    // It used twice what was reserved, which is told when the lease is over, and again when it is
    // lost.
    shared.settle(10, 20, at, at);
    let later = moment(at.now + LEASE);
    for _ in 0..2 {
        assert_eq!(shared.tell(When::Due, later), Some(Tell::Held(20)));
        assert_eq!(told(&shared, later), (20, 60, 0, false));
        shared.on_lost(true);
    }
    assert!(!shared.is_quiet(later));
}

#[test]
fn a_restarted_node_takes_its_part_of_what_is_left_and_not_of_what_it_used_itself() {
    let at = moment(Instant::now());
    let alone = Moment { alone_of: NonZeroU32::new(2), ..at };
    let mut shared = month(100, at);
    // All nodes together have used 60 of 100 before it started.
    shared.add_earlier(60, (at.unix_ms, at.unix_ms), false, at);
    assert_eq!(shared.lacks(20, alone), None);
    shared.take(20, alone);
    assert!(matches!(shared.lacks(1, alone), Some(Lack::For(_))));
    assert_eq!(told(&shared, at), (20, 20, 60, false));
    let mut used_up = month(100, at);
    used_up.add_earlier(100, (at.unix_ms, at.unix_ms), false, at);
    assert!(matches!(used_up.lacks(1, alone), Some(Lack::For(_))));
}

#[test]
fn a_node_alone_keeps_what_it_was_granted_and_takes_its_part_of_the_rest() {
    let at = moment(Instant::now());
    let alone = Moment { alone_of: NonZeroU32::new(2), ..at };
    let nodes = NonZeroU32::new(2).unwrap();
    let mut shared = month(100, at);
    assert!(shared.need(30, false, at).is_some());
    // The other node has had 50: 20 are left.
    shared.on_grant(Granted { left: 20, ..granted(30) }, &shared.common(at), nodes, at);
    shared.take(30, at);
    assert_eq!(shared.lacks(10, alone), None);
    assert!(matches!(shared.lacks(11, alone), Some(Lack::For(_))));
}

#[test]
fn an_authority_without_a_memory_makes_a_window_go_by_its_part_until_it_knows_again() {
    let at = moment(Instant::now());
    let nodes = NonZeroU32::new(2).unwrap();
    let mut shared = month(100, at);
    assert!(shared.need(10, false, at).is_some());
    let next_in = Duration::from_secs(2);
    let unsettled = Granted { left: 100, next_in, is_unsettled: true, ..granted(0) };
    shared.on_grant(unsettled, &shared.common(at), nodes, at);
    assert_eq!(shared.lacks(5, at), None, "a twentieth of it");
    assert_eq!(shared.lacks(6, at), Some(Lack::Unsettled(next_in)), "more of it has to wait");
    assert_eq!(shared.lacks(101, at), Some(Lack::TooLarge));
    shared.take(5, at);
    let soon = moment(at.now + Duration::from_millis(500));
    assert_eq!(shared.lacks(1, soon), Some(Lack::Unsettled(Duration::from_millis(1_500))));
    let alone = Moment { alone_of: Some(nodes), ..soon };
    assert!(matches!(shared.lacks(1, alone), Some(Lack::For(_))), "who cannot wait is refused");
    let then = moment(at.now + next_in);
    assert_eq!(shared.lacks(1, then), Some(Lack::Unasked));
    assert_eq!(told(&shared, then).0, 5);
    // Where little is left it waits for the others.
    assert!(shared.need(10, false, then).is_some());
    shared.on_grant(Granted { left: 19, ..granted(0) }, &shared.common(then), nodes, then);
    let later = moment(then.now + DRY_AT_MOST);
    assert!(shared.need(1, false, later).is_some());
    shared.on_grant(unsettled, &shared.common(later), nodes, later);
    assert_eq!(shared.lacks(1, later), Some(Lack::Unsettled(next_in)));
    assert!(matches!(shared.lacks(20, later), Some(Lack::For(_))), "so many were not left before");
}

#[test]
fn what_is_used_up_is_told_by_what_all_used_and_not_by_one_large_request() {
    use crate::quota::Threshold;
    let at = moment(Instant::now());
    let nodes = NonZeroU32::MIN;
    let mut shared = month(100, at);
    assert!(shared.need(1, false, at).is_some());
    shared.on_grant(Granted { left: 70, ..granted(1) }, &shared.common(at), nodes, at);
    assert_eq!(shared.exhausted(at), None, "30 of 100");
    assert!(shared.need(5, false, at).is_some());
    shared.on_grant(Granted { left: 10, ..granted(0) }, &shared.common(at), nodes, at);
    assert_eq!(shared.exhausted(at), Some(Threshold::All));
    assert_eq!(shared.exhausted(at), None);
}
