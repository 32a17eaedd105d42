//! Whose a request is, and what is learnt of it.

use std::time::Duration;

use serde_json::json;

use super::observe::observation;
use super::*;
use crate::chat::Usage;
use crate::dialect::Dialect;
use crate::failure::FailureKind;
use crate::ids::RequestId;
use crate::journal::{EndpointKind, Entry, Outcome, Part};
use crate::policy::rollout::{Guardrail, HardFailure, Observation, Salt, Traits};
use crate::units::MicroUsd;

fn unit_of(kind: UnitKind, body: serde_json::Value, user: Option<&str>) -> Option<u32> {
    let steered = Arc::new(Steered {
        id: "ro_1".into(),
        subject: Subject::Route { name: "smart".into(), from: "a/x".into(), to: "a/y".into() },
        salt: Salt::of("ro_1"),
        unit: kind,
        share: Share::ALL,
        shadow: None,
        revision: 1,
    });
    let (envelope, caller) =
        (Envelope::read(body.to_string().into()).unwrap(), CallerId::anonymous());
    let whose = Whose { user, caller: &caller, request: "req_1" };
    Rolled::draw(&steered, whose, &envelope).unit
}

#[test]
fn a_unit_is_named_by_a_header_then_by_the_body_then_by_the_key() {
    let body = |more: serde_json::Value| {
        let mut body = json!({"model": "smart", "messages": [{"role": "user", "content": "hi"}]});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    let user = |more, header| unit_of(UnitKind::User, body(more), header);
    let ada = user(json!({}), Some("ada"));
    assert_eq!(ada, user(json!({"user": "bob"}), Some("ada")), "the header goes first");
    assert_eq!(ada, user(json!({"user": "ada"}), None));
    assert_eq!(ada, user(json!({"safety_identifier": "ada"}), None));
    assert_eq!(ada, user(json!({"metadata": {"user_id": "ada"}}), None));
    assert_ne!(ada, user(json!({}), None));
    assert_eq!(user(json!({}), None), user(json!({"user": ""}), None), "the key's own");
    let caller = unit_of(UnitKind::Caller, body(json!({"user": "ada"})), None);
    assert_eq!(caller, user(json!({}), None));
    assert_eq!(unit_of(UnitKind::Request, body(json!({})), None), None);
}

#[test]
fn all_turns_of_a_conversation_are_one_unit() {
    let turn = |messages: serde_json::Value| {
        let body = json!({"model": "smart", "user": "ada", "messages": messages});
        unit_of(UnitKind::Conversation, body, None)
    };
    let first = json!({"role": "user", "content": "How do I pay?"});
    let answer = json!({"role": "assistant", "content": "By card."});
    let one = turn(json!([first]));
    assert_eq!(one, turn(json!([first, answer, {"role": "user", "content": "And where?"}])));
    assert_eq!(one, turn(json!([{"role": "system", "content": "Be brief."}, first])));
    assert_ne!(one, turn(json!([{"role": "user", "content": "How do I leave?"}])));
    let named = |id: &str, text: &str| {
        let messages = json!([{"role": "user", "content": text}]);
        let body =
            json!({"model": "smart", "messages": messages, "metadata": {"conversation_id": id}});
        unit_of(UnitKind::Conversation, body, None)
    };
    assert_eq!(named("c1", "one"), named("c1", "two"));
    assert_ne!(named("c1", "one"), named("c2", "one"));
}

fn entry(change: impl FnOnce(&mut Entry)) -> Entry {
    let mut entry = Entry::begin(
        RequestId::new("req_1"),
        CallerId::anonymous(),
        EndpointKind::Chat,
        Dialect::OpenAiChat,
    );
    entry.part = Some(Box::new(Part {
        rollout: "ro_1".into(),
        arm: Arm::Candidate,
        share: Share::ALL,
        unit: Some(7),
        traits: Traits::default(),
        pair: None,
        beside: None,
        is_refused: false,
        is_invalid: None,
    }));
    entry.outcome = Outcome::Complete;
    entry.streamed = true;
    entry.latency = Duration::from_millis(1_100);
    entry.first_token = Some(Duration::from_millis(100));
    entry.usage = Usage { output: 100, ..Usage::default() };
    entry.cost = MicroUsd(2_000);
    change(&mut entry);
    entry
}

fn seen(change: impl FnOnce(&mut Entry)) -> Option<Observation> {
    let entry = entry(change);
    match observation(&entry, entry.part.as_ref()?)?.noted {
        Noted::Observed(seen) => Some(seen),
        other @ (Noted::Exposed { .. } | Noted::Compared(_) | Noted::Spent(_)) => {
            panic!("{other:?}")
        }
    }
}

#[test]
fn an_answer_is_measured_in_all_that_it_has() {
    let whole = seen(|_| {}).unwrap();
    assert_eq!(whole.hard, Some(HardFailure::No));
    let of = |guardrail| whole.readings.of(guardrail);
    assert_eq!(of(Guardrail::Errors), Some(0.0));
    assert_eq!(of(Guardrail::Incomplete), Some(0.0));
    assert_eq!(of(Guardrail::Refusals), Some(0.0));
    assert_eq!(of(Guardrail::FirstToken), Some(100.0));
    assert_eq!(of(Guardrail::Pace), Some(10.0));
    assert_eq!(of(Guardrail::Cost), Some(2_000.0));
    assert_eq!(of(Guardrail::Longer), Some(100.0));
    assert_eq!(of(Guardrail::InvalidOutput), None, "no form was asked for");
    assert_eq!(of(Guardrail::Quality), None);
}

#[test]
fn failures_count_also_where_another_attempt_made_them_good() {
    let of = |change: fn(&mut Entry), guardrail| seen(change).unwrap().readings.of(guardrail);
    let made_good: fn(&mut Entry) = |entry| entry.failure = Some(FailureKind::ServerFault);
    assert_eq!(of(made_good, Guardrail::Errors), Some(1.0));
    assert_eq!(seen(made_good).unwrap().hard, Some(HardFailure::Failed));
    let rejected: fn(&mut Entry) = |entry| {
        (entry.outcome, entry.failure) = (Outcome::Failed, Some(FailureKind::CallerFault));
    };
    assert_eq!(seen(rejected).unwrap().hard, Some(HardFailure::Rejected));
    assert_eq!(of(rejected, Guardrail::Cost), None, "nothing was answered");
    let refused: fn(&mut Entry) = |entry| {
        (entry.outcome, entry.failure) = (Outcome::Failed, Some(FailureKind::Policy));
    };
    assert_eq!(of(refused, Guardrail::Refusals), Some(1.0));
    assert_eq!(of(refused, Guardrail::Errors), Some(0.0));
    let cut: fn(&mut Entry) = |entry| entry.outcome = Outcome::Cut;
    assert_eq!(of(cut, Guardrail::Incomplete), Some(1.0));
}

#[test]
fn what_says_nothing_of_a_side_is_not_observed() {
    assert_eq!(seen(|entry| entry.outcome = Outcome::Rejected), None);
    assert_eq!(seen(|entry| entry.reuse = Some(crate::journal::Reuse::Exact)), None);
    assert_eq!(seen(|entry| entry.part = None), None);
    let left = seen(|entry| {
        (entry.outcome, entry.first_token) = (Outcome::ClientGone, None);
    });
    let left = left.unwrap();
    assert_eq!(left.hard, None);
    assert_eq!(left.readings.of(Guardrail::FirstToken), Some(1_100.0), "that long at least");
    assert_eq!(left.readings.of(Guardrail::Errors), None);
    assert_eq!(left.readings.of(Guardrail::Incomplete), Some(1.0));
    let whole = seen(|entry| {
        (entry.outcome, entry.first_token, entry.streamed) = (Outcome::ClientGone, None, false);
    });
    assert_eq!(whole.unwrap().readings.of(Guardrail::Incomplete), Some(1.0));
    let amid = seen(|entry| entry.outcome = Outcome::ClientGone).unwrap();
    assert_eq!(amid.readings.of(Guardrail::Incomplete), None, "who has read enough");
}
