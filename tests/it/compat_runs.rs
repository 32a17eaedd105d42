//! Compatibility runs by the real program: killed, cancelled, refused, judged; against a provider
//! that counts who is asked what.

#![expect(clippy::disallowed_methods, reason = "the provider that counts is a task of its own")]

use std::time::Duration;

use serde_json::{Value, json};
use tidegate::clock::Instant;

use crate::process::{ADMIN_KEY, Answer, PATIENCE, Program, eventually};

mod command;
mod crash;
mod engine;
mod gate;
mod incidents;
mod judges;
mod nights;
mod pace;
mod provider;
mod recording;

use provider::{Counting, Said};

/// A gateway before this provider.
fn config(provider: &Counting, compat: &str) -> String {
    let address = provider.address;
    format!(
        r#"
[server]
worker_threads = 1
[compat]
reuse_baseline = "0s"
{compat}
[providers.mock]
dialect = "openai-chat"
base_url = "http://{address}/v1"
credentials = [{{ none = true }}]
models = [{{ id = "gpt-base" }}, {{ id = "claude-new" }}, {{ id = "gemini-judge" }}]
"#
    )
}

/// A suite of so many cases, each with a text of its own and this assertion.
fn suite(cases: usize, assertion: &Value) -> String {
    let case = |number: usize| {
        json!({
            "vars": {"q": format!("case {number};")}, "assert": [assertion],
            "metadata": {"id": format!("c{number}")},
        })
    };
    let tests: Vec<Value> = (0..cases).map(case).collect();
    json!({"prompts": ["{{q}}"], "tests": tests}).to_string()
}

fn contains_good() -> Value {
    json!({"type": "contains", "value": "good"})
}

async fn admin(gate: &Program, path: &str, body: &Value) -> Answer {
    ask(gate, "POST", path, body).await
}

async fn ask(gate: &Program, method: &str, path: &str, body: &Value) -> Answer {
    let body = body.to_string();
    gate.send(format!(
        "{method} /admin/v1{path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {ADMIN_KEY}\r\n\
         content-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    ))
    .await
}

async fn push(gate: &Program, text: &str) {
    let pushed = admin(gate, "/compat/suites", &json!({"id": "suite", "text": text})).await;
    assert_eq!(pushed.status, 201, "{pushed:?}");
}

/// Begins a run of the suite, of the new model against the old one; its id.
async fn begin(gate: &Program, more: Value) -> String {
    let mut body = json!({
        "suite": "suite", "from_model": "mock/gpt-base", "to_model": "mock/claude-new", "seed": 1,
    });
    let members = body.as_object_mut().unwrap();
    members.extend(more.as_object().cloned().unwrap_or_default());
    let begun = admin(gate, "/compat/runs", &body).await;
    assert_eq!(begun.status, 201, "{begun:?}");
    begun.json()["id"].as_str().unwrap().to_owned()
}

/// Waits until a run is over.
async fn over(gate: &Program, id: &str) -> Value {
    let (path, mut run) = (format!("/admin/v1/compat/runs/{id}"), Value::Null);
    let is_over = eventually(PATIENCE * 6, async || {
        run = gate.get_json(&path).await;
        !["waiting", "running"].contains(&run["state"].as_str().unwrap_or_default())
    });
    assert!(is_over.await, "it goes on: {run}");
    run
}
