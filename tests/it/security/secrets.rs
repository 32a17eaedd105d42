//! Where keys must never be found: in replies, logs, metrics, lists, the journal, results of jobs.

use std::path::Path;

use serde_json::{Value, json};

use super::echo::{Provider, fine, json as reply};
use crate::process::{ADMIN_KEY, Answer, Program};

/// The provider's key. It has what a file, a URL and JSON would write otherwise.
const PROVIDER_KEY: &str = "sk-tattletale+of/the=provider-4711";
/// What any part of it would show.
const CANARY: &str = "tattletale";

/// Repeats the key that it was sent, wherever an error has room for words. What a request's text
/// says is the status that it gets.
fn echoing(head: &str, body: &[u8]) -> Vec<u8> {
    let key = head.lines().find_map(|line| line.strip_prefix("authorization: Bearer "));
    let key = key.expect("a key is sent");
    assert_eq!(key, PROVIDER_KEY);
    let body = String::from_utf8_lossy(body);
    let error = json!({ "error": {
        "message": format!("Incorrect API key provided: {key}. {}{key}", "x".repeat(1_900)),
        "type": "invalid_request_error", "code": format!("bad_{key}"), "param": key,
    }});
    let body = body.replace("say job", "say 400");
    for status in [
        "400 Bad Request",
        "401 Unauthorized",
        "403 Forbidden",
        "404 Not Found",
        "422 Unprocessable Content",
        "429 Too Many Requests",
        "500 Internal Server Error",
    ] {
        if body.contains(&format!("say {}", status.get(..3).unwrap())) {
            return reply(status, &error.to_string());
        }
    }
    if body.contains("say whole") {
        return reply("200 OK", &error.to_string());
    }
    if body.contains("say late") || body.contains("say stream") {
        let first = r#"{"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"content":"so"},"finish_reason":null}]}"#;
        let first =
            if body.contains("say late") { format!("data: {first}\n\n") } else { String::new() };
        let body = format!("{first}data: {error}\n\n");
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: {}\r\nx-key: {key}\r\n\r\n",
            body.len()
        );
        return format!("{head}{body}").into_bytes();
    }
    fine()
}

/// The files below a folder that hold a text.
fn holding(folder: &Path, text: &str, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            holding(&path, text, found);
        } else {
            let bytes = std::fs::read(&path).unwrap();
            if bytes.windows(text.len()).any(|window| window == text.as_bytes()) {
                found.push(entry.file_name().into_string().unwrap());
            }
        }
    }
}

/// What providers are told to say.
const SAYS: [&str; 12] =
    ["fine", "400", "422", "404", "500", "whole", "stream", "late", "job", "429", "401", "403"];

/// A gateway before a provider for each thing to say: one that fails is asked less.
fn gate_of(provider: &Provider) -> Program {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("provider.key"), PROVIDER_KEY).unwrap();
    let mut config = "[server]\nworker_threads = 1\n[telemetry]\nlog = \"trace\"\n\
                      [jobs]\nretry_pause = \"10ms\"\n"
        .to_owned();
    for say in SAYS {
        config += &format!(
            "[providers.p{say}]\ndialect = \"openai-chat\"\nbase_url = \"http://{}/v1\"\n\
             credentials = [{{ file = \"provider.key\" }}]\nmodels = [{{ id = \"{say}\" }}]\n",
            provider.address
        );
    }
    Program::serve_in(folder, &config, None)
}

async fn send(gate: &Program, line: &str, key: &str, body: String) -> Answer {
    gate.send(format!(
        "{line} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {key}\r\nconnection: close\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    ))
    .await
}

fn ask(say: &str, stream: bool) -> Value {
    json!({
        "model": say, "stream": stream,
        "messages": [{ "role": "user", "content": format!("say {say}") }],
    })
}

/// The result of a job, once it has ended.
async fn result_of_a_job(gate: &Program, key: &str) -> String {
    let job = json!({ "endpoint": "/v1/chat/completions", "body": ask("job", false) });
    let job = send(gate, "POST /v1/jobs", key, job.to_string()).await;
    let job = format!("GET /v1/jobs/{}", job.json()["id"].as_str().unwrap());
    loop {
        let seen = send(gate, &job, key, String::new()).await;
        if !["queued", "running"].contains(&seen.json()["status"].as_str().unwrap()) {
            return seen.body;
        }
    }
}

#[tokio::test]
async fn a_key_is_nowhere_but_where_it_belongs() {
    let provider = Provider::new(echoing);
    let gate = gate_of(&provider);
    let send = async |line: &str, key: &str, body: String| send(&gate, line, key, body).await;
    let made = send("POST /admin/v1/keys", ADMIN_KEY, r#"{"name": "web"}"#.to_owned()).await;
    let key = made.json()["key"].as_str().expect("a key, this once").to_owned();
    let mut shown = vec![("the result of a job".to_owned(), result_of_a_job(&gate, &key).await)];
    for say in SAYS {
        for stream in [false, true] {
            let answer =
                send("POST /v1/chat/completions", &key, ask(say, stream).to_string()).await;
            assert!(answer.status != 0, "{answer:?}");
            shown.push((format!("the reply to {say}"), format!("{}{}", answer.head, answer.body)));
        }
    }
    let sent = provider.sent.all();
    for say in SAYS {
        let words = format!("say {say}");
        let is_of = |body: &[u8]| String::from_utf8_lossy(body).contains(&words);
        assert!(sent.iter().any(|(_, body)| is_of(body)), "{say} came to the provider");
    }
    // A wrong key is not repeated either.
    let wrong =
        send("POST /v1/chat/completions", "tg-wrong-tattletale", ask("fine", false).to_string())
            .await;
    assert_eq!(wrong.status, 401);
    shown.push(("the refusal of a wrong key".to_owned(), wrong.body));
    for path in [
        "/metrics",
        "/health",
        "/readyz",
        "/admin/v1/config",
        "/admin/v1/requests",
        "/admin/v1/targets",
        "/admin/v1/keys",
        "/admin/v1/audit",
        "/admin/v1/usage",
    ] {
        let answer = gate.get(path).await;
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        shown.push((path.to_owned(), answer.body));
    }
    for (what, text) in &shown {
        assert!(!text.contains(CANARY), "the provider's key in {what}: {text}");
        assert!(!text.contains(&key), "the caller's key in {what}: {text}");
        assert!(!text.contains(ADMIN_KEY), "the admin key in {what}: {text}");
    }
    let log = std::fs::read_to_string(gate.folder().join("stderr.log")).unwrap();
    assert!(log.contains("<key>"), "the provider's words are in the log, less the key: {log}");
    // In what it leaves behind, too, when it is killed in the middle of things.
    let folder = gate.kill();
    for (text, belongs) in
        [(CANARY, vec!["provider.key"]), (key.as_str(), vec![]), (ADMIN_KEY, vec![])]
    {
        let mut found = Vec::new();
        holding(folder.path(), text, &mut found);
        assert_eq!(found, belongs, "{text}");
    }
}
