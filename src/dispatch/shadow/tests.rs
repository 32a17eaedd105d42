//! Pairs of answers, and bodies that are asked again.

use serde_json::json;

use super::*;
use crate::policy::rollout::Guardrail;

fn readings(cost: f64) -> Readings {
    Readings::default().with(Guardrail::Cost, cost)
}

#[test]
fn a_pair_is_told_when_both_sides_have_ended_in_either_order() {
    let shadows = Shadows::new();
    let (one, two) = (RequestId::new("req_1"), RequestId::new("req_2"));
    let ended = |id, arm, cost: Option<f64>| shadows.ended(id, (arm, Some(7)), cost.map(readings));
    assert_eq!(ended(&one, Arm::Control, Some(1.0)), None);
    assert_eq!(ended(&two, Arm::Candidate, Some(4.0)), None);
    let pair = |candidate, control| {
        let (candidate, control) = (readings(candidate), readings(control));
        Some(Pair { unit: Some(7), candidate, control })
    };
    assert_eq!(ended(&one, Arm::Candidate, Some(2.0)), pair(2.0, 1.0));
    assert_eq!(ended(&two, Arm::Control, Some(3.0)), pair(4.0, 3.0));
    assert_eq!(ended(&two, Arm::Control, Some(3.0)), None, "each is told once");
}

#[test]
fn a_side_that_cannot_be_compared_takes_the_other_along_and_the_forgotten_are_bounded() {
    let shadows = Shadows::new();
    let one = RequestId::new("req_1");
    assert_eq!(shadows.ended(&one, (Arm::Control, None), Some(readings(1.0))), None);
    assert_eq!(shadows.ended(&one, (Arm::Candidate, None), None), None);
    assert!(shadows.shared.halves.lock().by_request.is_empty());
    for n in 0..3 * MOST_HALVES {
        let id = RequestId::new(format!("req_{n}"));
        shadows.ended(&id, (Arm::Control, None), Some(readings(1.0)));
    }
    let halves = shadows.shared.halves.lock();
    assert!(halves.by_request.len() <= MOST_HALVES && halves.order.len() <= MOST_HALVES);
}

#[test]
fn a_body_that_is_asked_again_has_its_prompt_pinned() {
    let body = json!({"prompt": {"id": "help", "version": "production", "variables": {"a": 1}}, "stream": true});
    let pinned = pinned(body.to_string().into(), "1.2.1").unwrap();
    let pinned: Value = serde_json::from_slice(&pinned).unwrap();
    assert_eq!(pinned["prompt"], json!({"id": "help", "version": "1.2.1", "variables": {"a": 1}}));
    assert_eq!(pinned["stream"], true);
}
