//! What labels, shadows and prompts have to do with a rollout.

use serde_json::json;

use super::{admin, begin};
use crate::process::Program;

/// A gateway with two versions of a prompt, of which `production` is the first.
async fn with_prompt() -> Program {
    let folder = tempfile::tempdir().unwrap();
    let store = format!("sqlite:{}/tidegate.db", folder.path().display());
    let gate = Program::serve_in(folder, &super::config(&store, ""), None);
    for (version, words) in [("1.0.0", "Be kind."), ("1.0.1", "Be very kind.")] {
        let body = json!({
            "version": version, "target_model": "sim/tide-small",
            "messages": [{"role": "system", "content": words}],
        });
        let pushed = admin(&gate, "POST", "/prompts/greet/versions", &body.to_string()).await;
        assert_eq!(pushed.status, 201, "{pushed:?}");
    }
    assert_eq!(label(&gate, r#"{"version": "1.0.0"}"#).await.0, 200);
    gate
}

/// Sets `production`: the status, and what is said.
async fn label(gate: &Program, body: &str) -> (u16, String) {
    let answer = admin(gate, "PUT", "/prompts/greet/labels/production", body).await;
    (answer.status, answer.body)
}

/// The version that a user gets.
async fn version(gate: &Program) -> String {
    let message = json!({"role": "user", "content": "[[sim:ttft=0ms,gap=0ms,tokens=1]]"});
    let body = json!({"model": "smart", "prompt": {"id": "greet"}, "messages": [message]});
    let answer = gate.post("/v1/chat/completions", body.to_string()).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.header("x-tidegate-prompt").to_owned()
}

const ALL: &str = r#"{"prompt": "greet", "from": "1.0.0", "to": "1.0.1", "percent": 100}"#;

#[tokio::test]
async fn a_label_is_not_moved_away_under_a_rollout_and_takes_back_one_that_is_done() {
    let gate = with_prompt().await;
    let id = begin(&gate, ALL).await;
    assert_eq!(version(&gate).await, "greet@1.0.1");
    let (status, said) = label(&gate, r#"{"version": "1.0.1"}"#).await;
    assert_eq!(status, 409, "{said}");
    assert!(said.contains(&id) && said.contains("rolling_out"), "{said}");
    assert_eq!(admin(&gate, "POST", &format!("/rollouts/{id}/promote"), "").await.status, 200);
    assert_eq!(version(&gate).await, "greet@1.0.1");
    let (status, said) = label(&gate, r#"{"version": "1.0.0"}"#).await;
    assert_eq!(status, 200, "{said}");
    gate.until("/admin/v1/rollouts", |_| true).await;
    let mut now = version(&gate).await;
    for _ in 0..100 {
        if now == "greet@1.0.0" {
            break;
        }
        now = version(&gate).await;
    }
    assert_eq!(now, "greet@1.0.0", "a label that an operator sets is what holds");
}

#[tokio::test]
async fn the_shadow_of_a_route_is_asked_with_the_prompt_filled_in_and_within_its_money() {
    let gate = with_prompt().await;
    let shadow = r#", "shadow": {"sample": 100, "usd": "1"}"#;
    let body = super::start(0.0, shadow).replace(r#""percent": 0,"#, "");
    let id = begin(&gate, &body).await;
    for _ in 0..3 {
        assert_eq!(version(&gate).await, "greet@1.0.0");
    }
    let asked = format!("/admin/v1/requests?rollout={id}&arm=candidate");
    let count = |page: &serde_json::Value| page["data"].as_array().map_or(0, Vec::len);
    let page = gate.until(&asked, |page| count(page) == 3).await;
    for request in page["data"].as_array().unwrap() {
        assert_eq!(request["outcome"], "complete", "{request}");
        assert_eq!(
            (&request["caller"], &request["target"]),
            (&json!("gateway"), &json!("sim/tide-large"))
        );
    }
    let view = gate
        .until(&format!("/admin/v1/rollouts/{id}"), |view| {
            view["shadow"]["spent_usd"] != "0.000000"
        })
        .await;
    assert_eq!(view["phase"], "running", "{view}");
}

#[tokio::test]
async fn counting_tokens_is_no_request_of_a_side() {
    let gate = with_prompt().await;
    let id = begin(&gate, ALL).await;
    let body = json!({
        "model": "smart", "prompt": {"id": "greet"},
        "messages": [{"role": "user", "content": "How long am I?"}],
    });
    for _ in 0..3 {
        let counted = gate.post("/v1/messages/count_tokens", body.to_string()).await;
        assert_eq!(counted.status, 200, "{counted:?}");
    }
    version(&gate).await;
    let path = format!("/admin/v1/requests?rollout={id}");
    let page = gate.until(&path, |page| !page["data"].as_array().unwrap().is_empty()).await;
    let kinds: Vec<_> =
        page["data"].as_array().unwrap().iter().map(|one| &one["endpoint"]).collect();
    assert_eq!(kinds, ["chat"]);
}
