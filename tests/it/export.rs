//! The list of requests that something has touched, from a terminal.

use serde_json::{Value, json};

use crate::process::{ADMIN_KEY, Program};
use crate::support::tidegate;

/// What the command says: its exit code, and the lines of its output.
fn listed(gate: &Program, words: &[&str]) -> (i32, Vec<String>) {
    let url = format!("http://{}", gate.address);
    let arguments = ["requests", "--url", &url, "--admin-key", ADMIN_KEY];
    let output = tidegate().args(arguments).args(words).output().unwrap();
    let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    (output.status.code().unwrap(), text.lines().map(str::to_owned).collect())
}

#[tokio::test]
async fn all_that_a_model_answered_is_listed_one_a_line() {
    let gate = Program::serve("[providers.sim]\n");
    for model in ["sim/tide-small", "sim/tide-large", "sim/tide-small"] {
        let message = json!({"role": "user", "content": "[[sim:ttft=0ms,gap=0ms,tokens=1]]"});
        let body = json!({"model": model, "messages": [message]}).to_string();
        assert_eq!(gate.post("/v1/chat/completions", body).await.status, 200);
    }
    gate.until("/health", |health| health["journal"]["written"] == 3).await;
    let (code, lines) = listed(&gate, &["--where", "model=tide-small"]);
    assert_eq!((code, lines.len()), (0, 2), "{lines:?}");
    for line in &lines {
        let request: Value = serde_json::from_str(line).unwrap();
        assert_eq!(request["served_model"], "tide-small");
        assert!(request["id"].as_str().unwrap().starts_with("req_"), "{request}");
    }
    let (code, lines) = listed(&gate, &["--limit", "1"]);
    assert_eq!((code, lines.len()), (0, 1), "{lines:?}");
    let (code, lines) = listed(&gate, &["--where", "prompt=none@1.0.0"]);
    assert_eq!((code, lines.len()), (0, 0), "{lines:?}");
    let (code, lines) = listed(&gate, &["--where", "colour=red", "--json"]);
    assert_eq!(code, 2);
    assert!(lines[0].contains("unknown field `colour`"), "{lines:?}");
    let (code, lines) = listed(&gate, &["--where", "colour"]);
    assert_eq!(code, 2);
    assert!(lines[0].contains("write it like prompt="), "{lines:?}");
}
