//! Small things that would become large: compressed bodies, nesting, patterns, answers without end.

use std::io::Write as _;
use std::time::Duration;

use serde_json::{Value, json};
use tidegate::clock::Instant;

use super::echo::{Provider, fine};
use crate::process::{ADMIN_KEY, Program};

fn gate(provider: &Provider, more: &str) -> Program {
    Program::serve(&format!(
        "[server]\nworker_threads = 1\nrequest_body_limit = \"4MB\"\n\
         [providers.chat]\ndialect = \"openai-chat\"\nbase_url = \"http://{}/v1\"\n\
         credentials = [{{ none = true }}]\nmodels = [{{ id = \"alpha\" }}]\n{more}",
        provider.address
    ))
}

fn chat(text: &str) -> String {
    json!({ "model": "alpha", "messages": [{ "role": "user", "content": text }] }).to_string()
}

/// The head of a gzip file, and 10 kB of the codes that would unfold a hundredfold.
fn gzip_bomb() -> Vec<u8> {
    let head = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 0xd3, 0x61];
    head.into_iter().chain(std::iter::repeat_n(0x1f, 10_000)).collect()
}

#[tokio::test]
async fn compressed_requests_are_not_opened() {
    let provider = Provider::new(|_, _| fine());
    let gate = gate(&provider, "");
    let before_kb = gate.resident_kb();
    for coding in ["gzip", "deflate", "br", "zstd", "gzip, gzip"] {
        let bomb = gzip_bomb();
        let mut request = Vec::new();
        write!(
            request,
            "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
             content-type: application/json\r\ncontent-encoding: {coding}\r\ncontent-length: {}\r\n\r\n",
            bomb.len()
        )
        .unwrap();
        request.extend(bomb);
        let answer = gate.send(request).await;
        assert_eq!(answer.status, 415, "{coding}: {answer:?}");
        assert!(answer.body.len() < 1_000, "{answer:?}");
    }
    assert!(provider.sent.all().is_empty());
    let grown_kb = gate.resident_kb().saturating_sub(before_kb);
    assert!(grown_kb < 20_000, "it grew by {grown_kb} kB");
}

#[tokio::test]
async fn compressed_answers_are_not_asked_for_and_not_opened() {
    let provider = Provider::new(|_, _| {
        let bomb = gzip_bomb();
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-encoding: gzip\r\n\
             content-length: {}\r\n\r\n",
            bomb.len()
        );
        [head.into_bytes(), bomb].concat()
    });
    let gate = gate(&provider, "");
    for stream in [false, true] {
        let mut body: Value = serde_json::from_str(&chat("hello")).unwrap();
        body["stream"] = json!(stream);
        let answer = gate.post("/v1/chat/completions", body.to_string()).await;
        assert!(matches!(answer.status, 502 | 503), "{answer:?}");
        assert!(answer.body.len() < 1_000, "{answer:?}");
    }
    let (head, _) = provider.sent.all().remove(0);
    assert!(head.contains("\r\naccept-encoding: identity\r\n"), "{head}");
}

#[tokio::test]
async fn an_error_without_end_is_read_to_a_bound() {
    let provider = Provider::new(|_, body| match body.windows(4).any(|word| word == b"long") {
        // A head as long as may be, and a body that never comes to its end.
        true => format!(
            "HTTP/1.1 500 Oops\r\nx-pad: {}\r\ncontent-length: 99999999999\r\n\r\n{}",
            "y".repeat(50_000),
            "z".repeat(2 << 20)
        )
        .into_bytes(),
        false => format!("HTTP/1.1 200 OK\r\nx-pad: {}\r\n\r\n", "y".repeat(1 << 20)).into_bytes(),
    });
    let gate = gate(&provider, "");
    let before_kb = gate.resident_kb();
    for text in ["long", "head"] {
        let started = Instant::now();
        let answer = gate.post("/v1/chat/completions", chat(text)).await;
        assert!(matches!(answer.status, 502 | 503), "{text}: {answer:?}");
        assert!(answer.body.len() < 3_000, "{text}: {answer:?}");
        assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    }
    let grown_kb = gate.resident_kb().saturating_sub(before_kb);
    assert!(grown_kb < 30_000, "it grew by {grown_kb} kB");
}

/// Pushes the first version of a prompt; the status and what is said.
async fn push(gate: &Program, id: &str, content: &str, variables: &Value) -> (u16, String) {
    let body = json!({
        "version": "1.0.0",
        "messages": [{ "role": "user", "content": content }],
        "variables": variables,
    })
    .to_string();
    let answer = gate
        .send(format!(
            "POST /admin/v1/prompts/{id}/versions HTTP/1.1\r\nhost: localhost\r\n\
             authorization: Bearer {ADMIN_KEY}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        ))
        .await;
    (answer.status, answer.body)
}

#[tokio::test]
async fn templates_take_bounded_time_and_memory() {
    let provider = Provider::new(|_, _| fine());
    let gate = gate(&provider, "");
    let number = json!({ "properties": { "n": { "type": "integer" } } });
    let list = json!({ "properties": {
        "n": { "type": "integer" }, "list": { "type": "array" }, "text": { "type": "string" },
    } });
    for (at, (content, variables)) in [
        ("{% for i in range(n) %}{% for j in range(n) %}{% endfor %}{% endfor %}", &number),
        ("{% for i in range(n) %}{{ 'x' * n }}{% endfor %}", &number),
        ("{{ list|batch(n, 'x')|length }}{{ text }}", &list),
        ("{{ text|indent(n) }}{{ list|length }}", &list),
        ("{{ text|replace('x', text) }}{{ n }}{{ list|length }}", &list),
        ("{{ range(100000)|join(text) }}{{ n }}{{ list|length }}", &list),
    ]
    .into_iter()
    .enumerate()
    {
        let id = format!("bomb-{at}");
        let (status, said) = push(&gate, &id, content, variables).await;
        assert_eq!(status, 201, "{content}: {said}");
        let before_kb = gate.resident_kb();
        let mut given = json!({ "n": 99_999 });
        if content.contains("text") {
            given = json!({ "n": 1_u64 << 60, "list": [1], "text": "x\n".repeat(500_000) });
        }
        let body = json!({
            "model": "alpha", "prompt": { "id": id, "version": "1.0.0", "variables": given },
        });
        let started = Instant::now();
        let answer = gate.post("/v1/chat/completions", body.to_string()).await;
        assert_eq!(answer.status, 400, "{content}: {answer:?}");
        assert!(started.elapsed() < Duration::from_secs(10), "{content}: {:?}", started.elapsed());
        let grown_kb = gate.resident_kb().saturating_sub(before_kb);
        assert!(grown_kb < 120_000, "{content}: it grew by {grown_kb} kB");
    }
}

#[tokio::test]
async fn templates_and_patterns_that_could_take_anything_are_refused() {
    let provider = Provider::new(|_, _| fine());
    let gate = gate(&provider, "");
    for (content, variables, why) in [
        ("{% include 'other' %}", json!({}), "no other template"),
        ("{% import '/etc/passwd' as x %}", json!({}), "no other template"),
        ("{{ a }}", json!({ "properties": { "a": { "pattern": "(x{1000}){1000}" } } }), "pattern"),
        ("{{ a }}", json!({ "properties": { "a": { "pattern": "(?=x)(x+)+$" } } }), "pattern"),
        (
            "{{ a }}",
            json!({ "properties": { "a": { "$ref": "http://127.0.0.1/x" } } }),
            "not followed",
        ),
        (
            "{{ a }}",
            json!({ "properties": { "a": { "$ref": "file:///etc/passwd" } } }),
            "not followed",
        ),
    ] {
        let (status, said) = push(&gate, "refused", content, &variables).await;
        assert_eq!(status, 422, "{content} {variables}: {said}");
        assert!(said.contains(why), "{content} {variables}: {said}");
    }
}

/// One that would take others for ever.
#[tokio::test]
async fn patterns_are_matched_in_linear_time() {
    let provider = Provider::new(|_, _| fine());
    let gate = gate(&provider, "");
    let variables = json!({ "properties": { "a": { "type": "string", "pattern": "^(x+)+$" } } });
    let (status, said) = push(&gate, "linear", "{{ a }}", &variables).await;
    assert_eq!(status, 201, "{said}");
    let started = Instant::now();
    let body = json!({ "model": "alpha", "prompt": {
        "id": "linear", "version": "1.0.0", "variables": { "a": format!("{}!", "x".repeat(100_000)) },
    }});
    assert_eq!(gate.post("/v1/chat/completions", body.to_string()).await.status, 400);
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
}
