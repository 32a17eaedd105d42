//! One request in is one request out: nothing that a caller writes becomes a head upstream.

use serde_json::json;

use super::echo::{Provider, fine};
use crate::process::Program;

fn gate(provider: &Provider) -> Program {
    Program::serve(&format!(
        "[server]\nworker_threads = 1\nhead_read_timeout = \"1s\"\nrequest_read_timeout = \"1s\"\n\
         [providers.chat]\ndialect = \"openai-chat\"\nbase_url = \"http://{}/v1\"\n\
         credentials = [{{ none = true }}]\nmodels = [{{ id = \"alpha\" }}]\n",
        provider.address
    ))
}

fn body() -> String {
    json!({ "model": "alpha", "messages": [{ "role": "user", "content": "hello" }] }).to_string()
}

/// Headers that may be sent upstream.
const KNOWN: [&str; 13] = [
    "host",
    "content-length",
    "content-type",
    "accept",
    "accept-encoding",
    "user-agent",
    "authorization",
    "traceparent",
    "tracestate",
    "anthropic-beta",
    "anthropic-version",
    "openai-beta",
    "connection",
];

#[tokio::test]
async fn a_head_that_can_be_read_in_two_ways_is_one_request_or_none() {
    let provider = Provider::new(|_, _| fine());
    let gate = gate(&provider);
    let body = body();
    let length = body.len();
    let hidden = "POST /v1/smuggled HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}";
    let chunked = format!("{length:x}\r\n{body}\r\n0\r\n\r\n");
    for (headers, sent) in [
        (format!("content-length: {length}\r\ntransfer-encoding: chunked\r\n"), &chunked),
        ("content-length: 3\r\ntransfer-encoding: chunked\r\n".to_owned(), &chunked),
        (format!("content-length: {length}\r\ncontent-length: {}\r\n", length + 9), &body),
        (format!("content-length: {length}, {}\r\n", length + 9), &body),
        (format!("content-length: +{length}\r\n"), &body),
        (format!("content-length: 0x{length:x}\r\n"), &body),
        (format!("content-length : {length}\r\n"), &body),
        (format!("content-length:\r\n {length}\r\n"), &body),
        ("transfer-encoding: xchunked\r\n".to_owned(), &chunked),
        ("transfer-encoding: chunked, identity\r\n".to_owned(), &chunked),
        ("transfer-encoding: identity\r\ntransfer-encoding: chunked\r\n".to_owned(), &chunked),
        ("transfer-encoding:\x0bchunked\r\n".to_owned(), &chunked),
        ("transfer-encoding : chunked\r\n".to_owned(), &chunked),
        (format!("x-a: b\rcontent-length: 3\r\ncontent-length: {length}\r\n"), &body),
        (format!("x-a: b\r\n folded: c\r\ncontent-length: {length}\r\n"), &body),
        (format!("traceparent: a\r\n\tx-evil: 1\r\ncontent-length: {length}\r\n"), &body),
        (format!("traceparent: a\0b\r\ncontent-length: {length}\r\n"), &body),
        (format!("x\0y: 1\r\ncontent-length: {length}\r\n"), &body),
        (format!("x y: 1\r\ncontent-length: {length}\r\n"), &body),
    ] {
        let head = "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\n";
        let answer = gate.send(format!("{head}{headers}\r\n{sent}{hidden}")).await;
        assert!(matches!(answer.status, 200 | 400 | 408), "{headers:?}: {answer:?}");
        assert!(answer.status != 200 || answer.body.contains("fine"), "{headers:?}: {answer:?}");
    }
    for (head, taken) in provider.sent.all() {
        assert!(head.starts_with("POST /v1/chat/completions HTTP/1.1\r\n"), "{head}");
        assert_eq!(head.matches("content-length").count(), 1, "{head}");
        assert!(!head.contains("transfer-encoding") && !head.contains("evil"), "{head}");
        assert_eq!(String::from_utf8(taken).unwrap(), body, "{head}");
    }
    let last = gate.post("/v1/chat/completions", &body).await;
    assert_eq!(last.status, 200, "{last:?}");
}

#[tokio::test]
async fn of_a_callers_headers_only_those_that_mean_something_to_a_provider_are_passed_on() {
    let provider = Provider::new(|_, _| fine());
    let gate = gate(&provider);
    let body = body();
    let headers = "authorization: Bearer tg-mine\r\nx-api-key: tg-mine\r\ncookie: a=b\r\n\
                   proxy-authorization: Basic x\r\nconnection: x-hop, close\r\nx-hop: 1\r\n\
                   te: trailers\r\nupgrade: websocket\r\nexpect: 100-continue\r\n\
                   x-forwarded-for: 10.0.0.1\r\nforwarded: for=10.0.0.1\r\nvia: 1.1 evil\r\n\
                   accept-encoding: gzip, br\r\nuser-agent: mine\r\nx-tidegate-user: ada\r\n\
                   traceparent: 00-1-1-01\r\ntracestate: a=\u{e9}\r\nopenai-beta: one\r\nopenai-beta: two\r\n";
    let answer = gate
        .send(format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\n{headers}content-length: {}\r\n\r\n{body}",
            body.len()
        ))
        .await;
    assert!(answer.body.contains("fine") || answer.head.contains("100 continue"), "{answer:?}");
    let [(head, _)] = provider.sent.all().try_into().expect("one request");
    for line in head.lines().skip(1).filter(|line| !line.is_empty()) {
        let (name, value) = line.split_once(": ").unwrap_or_else(|| panic!("{line}: {head}"));
        assert!(KNOWN.contains(&name), "{name} in {head}");
        assert!(!value.contains("mine") && !value.contains("gzip"), "{head}");
    }
    for name in ["host", "content-length", "accept-encoding", "traceparent"] {
        assert_eq!(head.matches(&format!("\r\n{name}: ")).count(), 1, "{name} in {head}");
    }
    assert_eq!(head.matches("openai-beta: ").count(), 2, "{head}");
}

/// What stands in bodies becomes headers here and there: the model in the reply, tags, users, keys.
#[tokio::test]
async fn line_ends_in_bodies_and_paths_stay_there() {
    let provider = Provider::new(|_, _| fine());
    let gate = gate(&provider);
    let evil = "alpha\r\nx-evil: 1\r\n\r\nHTTP/1.1 200 OK\r\n\r\n";
    for member in ["model", "user", "prompt_cache_key", "safety_identifier"] {
        let mut body: serde_json::Value = serde_json::from_str(&body()).unwrap();
        body[member] = json!(evil);
        let answer = gate.post("/v1/chat/completions", body.to_string()).await;
        assert!(!answer.head.contains("x-evil"), "{member}: {answer:?}");
        assert!(matches!(answer.status, 200 | 400 | 404), "{member}: {answer:?}");
    }
    for path in
        ["/v1/models/a%0d%0ax-evil:%201", "/v1/streams/a%0d%0ax-evil:%201", "/%0d%0ax-evil:1"]
    {
        let answer = gate.get(path).await;
        assert_eq!(answer.status, 404, "{answer:?}");
        assert!(!answer.head.contains("x-evil"), "{answer:?}");
    }
    for (head, _) in provider.sent.all() {
        assert!(!head.contains("evil"), "{head}");
    }
}
