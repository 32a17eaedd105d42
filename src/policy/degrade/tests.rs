//! Tests of degradation.

use super::*;

const ALL: Ladder =
    Ladder { reduced_context: true, smaller_model: true, stale_cache: true, scripted: true };

const FACTS: Facts = Facts {
    trouble: Trouble::ContextOverflow,
    is_committed: false,
    can_reduce: true,
    has_later_tier: true,
    has_stale_answer: true,
    takes_plain_text: true,
};

fn steps(ladder: Ladder, facts: &Facts) -> Vec<u8> {
    let next = |level: &Level| ladder.next_step(*level, facts);
    std::iter::successors(next(&Level::None), next).map(Level::number).collect()
}

#[test]
fn the_steps_come_in_order_and_each_once() {
    assert_eq!(steps(ALL, &FACTS), [1, 2, 3, 4]);
}

#[test]
fn what_the_route_does_not_allow_is_left_out() {
    assert_eq!(steps(Ladder::default(), &FACTS), [0_u8; 0]);
    assert_eq!(steps(Ladder { smaller_model: false, ..ALL }, &FACTS), [1, 3, 4]);
    assert_eq!(steps(Ladder { scripted: false, stale_cache: false, ..ALL }, &FACTS), [1, 2]);
}

#[test]
fn what_is_not_there_is_left_out() {
    assert_eq!(steps(ALL, &Facts { can_reduce: false, ..FACTS }), [2, 3, 4]);
    assert_eq!(steps(ALL, &Facts { has_later_tier: false, ..FACTS }), [1, 3, 4]);
    assert_eq!(steps(ALL, &Facts { has_stale_answer: false, ..FACTS }), [1, 2, 4]);
    assert_eq!(steps(ALL, &Facts { takes_plain_text: false, ..FACTS }), [1, 2, 3]);
}

#[test]
fn after_a_part_was_sent_nothing_is_degraded() {
    assert_eq!(steps(ALL, &Facts { is_committed: true, ..FACTS }), [0_u8; 0]);
}

#[test]
fn each_trouble_has_its_steps() {
    use FailureKind as F;
    let of = |trouble| steps(ALL, &Facts { trouble, ..FACTS });
    assert_eq!(of(Trouble::NoTarget), [2, 3, 4]);
    for kind in [F::SlowStart, F::Overloaded, F::RateLimited] {
        assert_eq!(of(Trouble::Failed(kind)), [1, 2, 3, 4], "{}", kind.as_str());
    }
    for kind in
        [F::Transport, F::ServerFault, F::HardQuota, F::AuthFault, F::MidStream, F::Degenerate]
    {
        assert_eq!(of(Trouble::Failed(kind)), [2, 3, 4], "{}", kind.as_str());
    }
    for kind in [F::CallerFault, F::Policy] {
        assert_eq!(of(Trouble::Failed(kind)), [0_u8; 0], "{}", kind.as_str());
    }
}
