//! What hangs on a verdict: how far a rollout may grow, and with which models a prompt counts as
//! tested.

use super::*;

/// A suite of the registered prompt `support`.
fn cases() -> String {
    let case = |number: usize| {
        json!({
            "vars": {"q": format!("case {number};")}, "assert": [contains_good()],
            "metadata": {"id": format!("c{number}"), "critical": number < 3},
        })
    };
    json!({"tests": (0..60).map(case).collect::<Vec<_>>()}).to_string()
}

async fn register(gate: &Program, version: &str, words: &str) {
    let prompt = json!({
        "version": version, "target_model": "mock/claude-new", "tested_models": ["mock/other"],
        "variables": {"properties": {"q": {"type": "string"}}, "required": ["q"]},
        "messages": [{"role": "user", "content": format!("{words} {{{{ q }}}}")}],
    });
    let pushed = admin(gate, "/prompts/support/versions", &prompt).await;
    assert_eq!(pushed.status, 201, "{pushed:?}");
}

/// Two versions of a prompt with cases.
async fn gate(provider: &Counting) -> Program {
    let gate = Program::serve(&config(provider, ""));
    register(&gate, "1.0.0", "Kindly").await;
    register(&gate, "1.0.1", "Briskly").await;
    let suite = json!({"id": "support-cases", "prompt": "support", "text": cases()});
    assert_eq!(admin(&gate, "/compat/suites", &suite).await.status, 201);
    gate
}

fn rollout(percent: f64) -> Value {
    json!({"prompt": "support", "from": "1.0.0", "to": "1.0.1", "percent": percent})
}

async fn verdict(gate: &Program) -> Value {
    let run = json!({
        "suite": "support-cases", "from": "1.0.0", "to": "1.0.1", "depth": "full", "seed": 1,
    });
    let begun = admin(gate, "/compat/runs", &run).await;
    assert_eq!(begun.status, 201, "{begun:?}");
    over(gate, begun.json()["id"].as_str().unwrap()).await["verdict"].clone()
}

#[tokio::test]
async fn a_rollout_grows_past_its_canary_when_a_run_has_found_it_compatible() {
    let provider = Counting::new(0, |_, _| Said::text("all good")).await;
    let gate = gate(&provider).await;
    let refused = admin(&gate, "/rollouts", &rollout(20.0)).await;
    let why = refused.json()["detail"].as_str().unwrap_or_default().to_owned();
    assert_eq!((refused.status, &refused.json()["code"]), (409, &json!("incompatible")), "{why}");
    assert!(why.contains("tidegate compat run support-cases --from 1.0.0 --to 1.0.1"), "{why}");
    let begun = admin(&gate, "/rollouts", &rollout(5.0)).await;
    assert_eq!(begun.status, 201, "{begun:?}");
    assert_eq!(begun.json()["gate"]["most_percent"], 5.0);
    let path = format!("/rollouts/{}", begun.json()["id"].as_str().unwrap());
    let grow = async || ask(&gate, "PATCH", &path, &json!({"percent": 25})).await;
    assert_eq!(grow().await.status, 409);
    assert_eq!(verdict(&gate).await, "compatible");
    // The gate is answered as soon as there is a verdict, whether the leader has heard of it or
    // not.
    let shown = ask(&gate, "GET", &path, &Value::Null).await.json();
    assert_eq!((&shown["gate"], &shown["percent"]), (&Value::Null, &json!(5.0)), "{shown}");
    let matrix = gate.get_json("/admin/v1/compat/matrix/support").await;
    assert_eq!(matrix["versions"], json!(["1.0.1", "1.0.0"]));
    let [cell] = matrix["cells"].as_array().unwrap().as_slice() else { panic!("{matrix}") };
    assert_eq!((&cell["version"], &cell["verdict"]), (&json!("1.0.1"), &json!("compatible")));
    assert_eq!((&cell["model"], &cell["depth"]), (&json!("mock/claude-new"), &json!("full")));
    let grown = grow().await;
    assert_eq!(grown.status, 200, "{grown:?}");
    assert_eq!((&grown.json()["percent"], &grown.json()["gate"]), (&json!(25.0), &Value::Null));
    let tested = async || {
        let version = gate.get_json("/admin/v1/prompts/support/versions/1.0.1").await;
        version["tested_models"] == json!(["mock/other", "mock/claude-new"])
    };
    assert!(eventually(PATIENCE, tested).await, "the model is not among the tested ones");
}

#[tokio::test]
async fn what_was_found_incompatible_is_rolled_out_by_force_alone_and_that_is_audited() {
    let provider = Counting::new(0, |call, _| match call.text.contains("Briskly") {
        true => Said::text("no"),
        false => Said::text("all good"),
    })
    .await;
    let gate = gate(&provider).await;
    assert_eq!(verdict(&gate).await, "incompatible");
    let refused = admin(&gate, "/rollouts", &rollout(1.0)).await;
    let why = refused.json()["detail"].as_str().unwrap_or_default().to_owned();
    assert_eq!(refused.status, 409, "{refused:?}");
    assert!(why.contains("has found `support@1.0.1` incompatible"), "{why}");
    let mut forced = rollout(50.0);
    forced["force"] = json!(true);
    let begun = admin(&gate, "/rollouts", &forced).await;
    assert_eq!(begun.status, 201, "{begun:?}");
    let audit = gate.get_json("/admin/v1/audit?action=rollout.start").await;
    assert_eq!(audit["data"][0]["after"]["force"], true, "{audit}");
}
