//! Golden cases from traffic.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use tidegate::compat::suite::Suite;
use tidegate::problems::Problems;

use super::*;
use crate::process::post;

const CONFIG: &str = "[server]\nworker_threads = 1\n[providers.sim]\n";

/// A gateway with a prompt that has the model say what is in its variables.
async fn gateway() -> Program {
    let gate = Program::serve(CONFIG);
    let version = json!({
        "version": "1.0.0", "target_model": "sim/tide-small",
        "variables": {"properties": {"mail": {"type": "string"}}},
        "messages": [{"role": "user", "content": "[[sim:say=Hello {{ mail }}, all is well.]]"}],
    });
    let pushed = admin(&gate, "/prompts/greet/versions", &version).await;
    assert_eq!(pushed.status, 201, "{pushed:?}");
    gate
}

fn request(number: usize, more: Value) -> Value {
    let mut request = json!({
        "prompt": {"id": "greet", "version": "1.0.0", "variables": {"mail": format!("ann{number}@example.com")}},
    });
    request.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
    request
}

async fn ask(gate: &Program, path: &str, body: &Value) {
    let answer = gate.send(post(path, body.to_string().as_bytes())).await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

fn cases_of(text: &str) -> Suite {
    let mut problems = Problems::new();
    let files = [(PathBuf::from("golden.yaml"), text.to_owned())];
    Suite::parse("greet", &files, &mut problems).unwrap_or_else(|| panic!("{problems}: {text}"))
}

#[tokio::test]
async fn whole_and_streamed_answers_become_cases_that_name_nobody() {
    let gate = gateway().await;
    ask(&gate, "/v1/chat/completions", &request(0, json!({}))).await;
    let begun = admin(&gate, "/compat/recordings", &json!({"prompt": "greet", "count": 3})).await;
    assert_eq!(begun.status, 201, "{begun:?}");
    let path = format!("/compat/recordings/{}", begun.json()["id"].as_str().unwrap());
    let history = json!({"messages": [{"role": "user", "content": "and then?"}]});
    ask(&gate, "/v1/chat/completions", &request(1, history)).await;
    ask(&gate, "/v1/chat/completions", &request(2, json!({}))).await;
    ask(&gate, "/v1/chat/completions", &request(2, json!({}))).await;
    ask(&gate, "/v1/chat/completions", &request(3, json!({"max_tokens": 2}))).await;
    ask(&gate, "/v1/chat/completions", &request(4, json!({"stream": true}))).await;
    let claude = json!({"stream": true, "max_tokens": 100, "messages": []});
    ask(&gate, "/v1/messages", &request(5, claude)).await;
    let path = format!("/admin/v1{path}");
    let found = gate.until(&path, |found| found["state"] != "recording").await;
    assert_eq!((&found["state"], &found["recorded"]), (&json!("complete"), &json!(3)), "{found}");
    assert_eq!(found["left_out"], 3, "a history, the same once more, one that is cut: {found}");
    let text = found["cases"].as_str().unwrap();
    assert!(!text.contains('@') && text.contains("Hello [email], all is well."), "{text}");
    assert!(text.contains("model: \"sim/tide-small\""), "{text}");
    assert_eq!(cases_of(text).cases.len(), 3, "{text}");
}

// The command blocks one thread, and requests come from another.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_waits_for_its_cases_and_leaves_nothing_behind() {
    let gate = gateway().await;
    let file = gate.folder().join("golden.yaml");
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    command.args(["record", "--prompt", "greet", "--count", "2", "--for", "60s", "--no-redact"]);
    command.args(["--url", &format!("http://{}", gate.address), "--admin-key", ADMIN_KEY, "--out"]);
    let mut recording = command.arg(&file).stderr(Stdio::piped()).spawn().unwrap();
    gate.until("/admin/v1/audit", |audit| audit["data"][0]["action"] == "compat.recording.begin")
        .await;
    for number in 0..2 {
        ask(&gate, "/v1/chat/completions", &request(number, json!({}))).await;
    }
    assert!(recording.wait().unwrap().success());
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.contains("Hello ann1@example.com, all is well."), "{text}");
    assert_eq!(cases_of(&text).cases.len(), 2);
    let audit = gate.get_json("/admin/v1/audit").await;
    assert_eq!(audit["data"][0]["action"], "compat.recording.end", "{audit}");
    let again = Command::new(env!("CARGO_BIN_EXE_tidegate"))
        .args(["record", "--prompt", "greet", "--out"])
        .arg(&file)
        .output()
        .unwrap();
    assert_eq!(again.status.code(), Some(2), "nothing is written over: {again:?}");
}
