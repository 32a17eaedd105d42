//! Bad input on real sockets: a clear error in the caller's dialect, in bounded time and memory,
//! and nobody else is troubled.

use std::time::Duration;

use serde_json::{Value, json};
use tidegate::clock::Instant;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::process::{Answer, PATIENCE, Program, post, read_answer};
use crate::rig::{End, end_of};

const CHAT: &str = "/v1/chat/completions";
const MESSAGES: &str = "/v1/messages";
const BOTH: [&str; 2] = [CHAT, MESSAGES];

const CONFIG: &str = r#"
[server]
request_body_limit = "12MB"
request_head_limit = "16KB"
head_read_timeout = "1s"
request_read_timeout = "1s"
worker_threads = 2

[providers.chat]
dialect = "openai-chat"
base_url = "sim://chat/v1"
credentials = [{ none = true }]
models = [{ id = "alpha" }]

[providers.claude]
dialect = "anthropic"
base_url = "sim://claude/v1"
credentials = [{ none = true }]
models = [{ id = "opal" }]
"#;

/// A good request on either wire.
fn good(model: &str) -> Value {
    json!({
        "model": model, "max_tokens": 100,
        "messages": [{ "role": "user", "content": "[[sim:ttft=0ms,gap=0ms,say=fine]]" }],
    })
}

/// The error's message, after its shape was looked at.
fn error_of(path: &str, answer: &Answer) -> String {
    let error = answer.json();
    assert_eq!(error["type"] == "error", path == MESSAGES, "{answer:?}");
    assert!(error["error"]["type"].is_string(), "{answer:?}");
    if path == CHAT {
        assert!(error["error"]["code"].is_string(), "{answer:?}");
    }
    assert!(answer.header("x-request-id").starts_with("req_"), "{answer:?}");
    error["error"]["message"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn faulty_bodies_are_named_with_their_place() {
    let gate = Program::serve(CONFIG);
    let deep = format!(r#"{{"model":"alpha","messages":{}"#, "[".repeat(100_000));
    let deep_closed = format!(
        r#"{{"model":"alpha","max_tokens":1,"messages":{}{}}}"#,
        "[".repeat(100_000),
        "]".repeat(100_000)
    );
    let cases: [(&[u8], u16, &str); 14] = [
        (b"", 400, ""),
        (b"{\"model\": \"alpha\",\n  \"messages\": [}", 400, "line 2"),
        (b"{\"model\": \"alpha\",\n  \"messages\": [}", 400, "column 16"),
        (b"{\"model\": \"alpha\"", 400, "line 1"),
        (b"[1, 2]", 400, "object"),
        (b"\"text\"", 400, "object"),
        (b"{\"model\": \"\xff\xfe\", \"messages\": []}", 400, "UTF-8"),
        (b"{\"model\": 7, \"max_tokens\": 1, \"messages\": []}", 400, "model"),
        (b"{\"max_tokens\": 1, \"messages\": []}", 400, "model"),
        (b"{\"model\": \"alpha\", \"max_tokens\": 1}", 400, "messages"),
        (
            b"{\"model\":\"alpha\",\"max_tokens\":1,\"stream\":\"yes\",\"messages\":[]}",
            400,
            "stream",
        ),
        (b"{\"model\": \"alpa\", \"max_tokens\": 1, \"messages\": []}", 404, "alpha"),
        (deep.as_bytes(), 400, ""),
        (deep_closed.as_bytes(), 400, ""),
    ];
    for path in BOTH {
        for (body, status, words) in cases {
            let answer = gate.post(path, body).await;
            let shown = String::from_utf8_lossy(&body[..body.len().min(80)]).into_owned();
            assert_eq!(answer.status, status, "{path} {shown}: {answer:?}");
            let message = error_of(path, &answer);
            assert!(message.contains(words), "{path} {shown}: {message}");
            assert!(message.len() < 1_000, "{path} {shown}: {message}");
        }
    }
    // What the gateway has to read to translate it is named with its path.
    for (path, model) in [(CHAT, "opal"), (MESSAGES, "alpha")] {
        let mut body = good(model);
        body["messages"][0]["content"] = json!(7);
        let answer = gate.post(path, body.to_string()).await;
        assert_eq!(answer.status, 400, "{answer:?}");
        let error = error_of(path, &answer);
        assert!(error.contains("messages[0].content"), "{error}");
    }
    assert_eq!(gate.post(CHAT, good("alpha").to_string()).await.status, 200);
}

#[tokio::test]
async fn addresses_and_methods_that_are_not_there_are_told_in_the_callers_dialect() {
    let gate = Program::serve(CONFIG);
    for path in ["/v1/audio/speech", "/v1/images/generations", "/nothing", "/v1/messages/batches"] {
        for request in [
            post(path, b"{}"),
            format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").into(),
        ] {
            let answer = gate.send(request).await;
            assert_eq!(answer.status, 404, "{answer:?}");
            let dialect = if path.starts_with(MESSAGES) { MESSAGES } else { CHAT };
            assert!(error_of(dialect, &answer).contains(path), "{answer:?}");
        }
    }
    for path in BOTH {
        let answer = gate.get(path).await;
        assert_eq!((answer.status, answer.header("allow")), (405, "post"), "{answer:?}");
        assert!(error_of(path, &answer).contains("does not take `GET`"), "{answer:?}");
    }
    let answer = gate.post("/v1/models", "{}").await;
    assert_eq!((answer.status, answer.header("allow")), (405, "get,head"), "{answer:?}");
}

#[tokio::test]
async fn a_compressed_body_is_refused_by_its_name() {
    let gate = Program::serve(CONFIG);
    for (path, encoding, status) in [
        (CHAT, "gzip", 415),
        (MESSAGES, "zstd", 415),
        ("/v1/feedback", "br", 415),
        ("/v1/jobs", "deflate, gzip", 415),
        (CHAT, "identity", 200),
        (CHAT, "Identity", 200),
        (CHAT, "", 200),
    ] {
        let request = String::from_utf8(post(path, good("alpha").to_string().as_bytes())).unwrap();
        let encoded = format!("\r\ncontent-encoding: {encoding}\r\n");
        let answer = gate.send(request.replacen("\r\n", &encoded, 1)).await;
        assert_eq!(answer.status, status, "{path} {encoding}: {answer:?}");
        let names_it = answer.body.contains(&format!("content-encoding: {encoding}"));
        assert_eq!(names_it, status == 415, "{path}: {answer:?}");
    }
}

#[tokio::test]
async fn a_body_of_another_endpoint_is_told_where_it_belongs() {
    let gate = Program::serve(CONFIG);
    for (path, member, value, words) in [
        (CHAT, "prompt", json!("x"), "belongs to /v1/completions"),
        (CHAT, "input", json!("x"), "belongs to /v1/embeddings"),
        ("/v1/completions", "messages", json!([]), "belongs to /v1/chat/completions"),
        ("/v1/embeddings", "other", json!("x"), "`input` is missing"),
    ] {
        let answer = gate.post(path, json!({ "model": "alpha", member: value }).to_string()).await;
        assert_eq!(answer.status, 400, "{path}: {answer:?}");
        assert!(error_of(CHAT, &answer).contains(words), "{path}: {answer:?}");
    }
}

#[tokio::test]
async fn what_is_too_large_is_refused_before_it_is_read() {
    let gate = Program::serve(CONFIG);
    let before_kb = gate.resident_kb();
    for path in BOTH {
        for length in ["12000001", "1000000000000", "18446744073709551615"] {
            let head =
                format!("POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n{{");
            let mut stream = gate.connect().await;
            stream.write_all(head.as_bytes()).await.unwrap();
            let answer = read_answer(&mut stream).await;
            assert!(matches!(answer.status, 413 | 431), "{length}: {answer:?}");
            if answer.status == 413 {
                assert!(error_of(path, &answer).contains("12000000"), "{answer:?}");
            }
        }
        // Chunks say nothing of the whole, so it is counted as it comes.
        let mut stream = gate.connect().await;
        let head = format!("POST {path} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let chunk = [b"10000\r\n".as_slice(), &[b' '; 0x10000], b"\r\n"].concat();
        for _ in 0..400 {
            if stream.write_all(&chunk).await.is_err() {
                break;
            }
        }
        let answer = read_answer(&mut stream).await;
        assert_eq!(answer.status, 413, "{answer:?}");
        assert!(error_of(path, &answer).contains("12000000"), "{answer:?}");
    }
    for path in BOTH {
        for headers in [
            "x-pad: y\r\n".repeat(2_000),
            format!("x-pad: {}\r\n", "y".repeat(100_000)),
            format!("x-pad: {}\r\n", "y".repeat(4_000_000)),
            (0..1_000).map(|n| format!("x-{n}: y\r\n")).collect(),
        ] {
            let head = format!("POST {path} HTTP/1.1\r\nhost: x\r\n{headers}\r\n");
            let answer = gate.send(head).await;
            assert_eq!(answer.status, 431, "{} bytes: {answer:?}", headers.len());
            let error = error_of(path, &answer);
            assert!(error.contains("16000 bytes (`server.request_head_limit`)"), "{error}");
        }
        let head = format!("POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n");
        let answer = gate.send(head).await;
        assert_eq!(answer.status, 400);
        assert!(error_of(path, &answer).contains("not valid HTTP/1.1"), "{answer:?}");
    }
    let grown_kb = gate.resident_kb().saturating_sub(before_kb);
    assert!(grown_kb < 60_000, "it grew by {grown_kb} kB");
    assert_eq!(gate.post(CHAT, good("alpha").to_string()).await.status, 200);
}

#[tokio::test]
async fn slow_callers_are_let_go_and_trouble_nobody() {
    let gate = Program::serve(CONFIG);
    let slow_head = async {
        let mut stream = gate.connect().await;
        stream.write_all(b"POST /v1/messages HTTP/1.1\r\nhost:").await.unwrap();
        let started = Instant::now();
        let answer = read_answer(&mut stream).await;
        assert!(matches!(answer.status, 408 | 0), "{answer:?}");
        assert!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());
    };
    let slow_bodies = async {
        for path in BOTH {
            let mut stream = gate.connect().await;
            let head = format!("POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n{{");
            stream.write_all(head.as_bytes()).await.unwrap();
            let started = Instant::now();
            let answer = read_answer(&mut stream).await;
            assert_eq!(answer.status, 408, "{answer:?}");
            assert!(error_of(path, &answer).contains("1s"), "{answer:?}");
            assert!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());
        }
    };
    let many_idle = async {
        let mut idle = Vec::new();
        for _ in 0..200 {
            let mut stream = gate.connect().await;
            stream.write_all(b"P").await.unwrap();
            idle.push(stream);
        }
        for stream in &mut idle {
            let read = timeout(PATIENCE, stream.read_u8()).await.expect("it is closed");
            assert!(read.is_err(), "{read:?}");
        }
    };
    let others = async {
        for _ in 0..20 {
            let started = Instant::now();
            let answer = gate.post(CHAT, good("alpha").to_string()).await;
            assert_eq!(answer.status, 200);
            assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
        }
    };
    tokio::join!(slow_head, slow_bodies, many_idle, others);
    assert!(gate.metric("tidegate_connections").await <= 1.0);
}

#[tokio::test]
async fn large_prompts_and_many_tools_pass_on_the_same_wire_and_another() {
    let gate = Program::serve(CONFIG);
    let tool = |path: &str, n: usize| {
        let (name, schema) = (format!("tool_{n}"), json!({"type": "object", "properties": {}}));
        match path {
            CHAT => json!({"type": "function", "function": {"name": name, "parameters": schema}}),
            _ => json!({"name": name, "input_schema": schema}),
        }
    };
    let before_kb = gate.resident_kb();
    for path in BOTH {
        for model in ["alpha", "opal"] {
            let mut body = good(model);
            body["tools"] = (0..1_000).map(|n| tool(path, n)).collect();
            body["tool_choice"] = match path {
                CHAT => json!("none"),
                _ => json!({"type": "none"}),
            };
            let answer = gate.post(path, body.to_string()).await;
            assert_eq!(answer.status, 200, "{path} {model}: {answer:?}");
            assert!(answer.body.contains("fine"), "{answer:?}");

            let mut body = good(model);
            let long = json!({ "role": "user", "content": "word ".repeat(2_000_000) });
            let messages = body["messages"].as_array_mut().unwrap();
            messages.insert(0, json!({ "role": "assistant", "content": "so?" }));
            messages.insert(0, long);
            let answer = gate.post(path, body.to_string()).await;
            assert_eq!(answer.status, 200, "{path} {model}: {answer:?}");
            assert!(answer.body.contains("fine"), "{answer:?}");
        }
    }
    let grown_kb = gate.resident_kb().saturating_sub(before_kb);
    // The simulator in the same process decodes each prompt, too.
    assert!(grown_kb < 300_000, "it grew by {grown_kb} kB");
}

#[tokio::test]
async fn every_way_to_send_a_request_is_understood() {
    let gate = Program::serve(CONFIG);
    let mut streamed = good("alpha");
    streamed["stream"] = json!(true);
    for path in BOTH {
        for body in [good("alpha").to_string(), streamed.to_string()] {
            let is_right = |answer: &Answer| {
                assert_eq!(answer.status, 200, "{path}: {answer:?}");
                assert!(answer.is_whole && answer.body.contains("fine"), "{path}: {answer:?}");
                if body.contains("stream") {
                    assert_eq!(end_of(&answer.body), End::Terminal, "{path}: {answer:?}");
                }
            };
            let length = body.len();
            let old = format!("POST {path} HTTP/1.0\r\ncontent-length: {length}\r\n\r\n{body}");
            is_right(&gate.send(old).await);

            let (first, second) = body.split_at(length / 2);
            let chunked = format!(
                "POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n\
                 {:x}\r\n{first}\r\n{:X};extension=1\r\n{second}\r\n0\r\n\r\n",
                first.len(),
                second.len()
            );
            is_right(&gate.send(chunked).await);

            let mut stream = gate.connect().await;
            let head = format!(
                "POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\nexpect: 100-continue\r\n\
                 content-length: {length}\r\n\r\n"
            );
            stream.write_all(head.as_bytes()).await.unwrap();
            let mut go_on = vec![0; 25];
            timeout(PATIENCE, stream.read_exact(&mut go_on)).await.expect("in time").unwrap();
            assert_eq!(String::from_utf8(go_on).unwrap(), "HTTP/1.1 100 Continue\r\n\r\n");
            stream.write_all(body.as_bytes()).await.unwrap();
            is_right(&read_answer(&mut stream).await);

            // Two requests in one write: two answers, in order.
            let kept = String::from_utf8(post(path, body.as_bytes())).unwrap();
            let kept = kept.replace("connection: close\r\n", "");
            let both = [kept.as_bytes(), &post("/v1/nowhere", b"{}")].concat();
            let mut stream = gate.connect().await;
            stream.write_all(&both).await.unwrap();
            let mut bytes = Vec::new();
            timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.expect("in time").unwrap();
            let text = String::from_utf8(bytes).unwrap();
            let second = text.rfind("HTTP/1.1 404").unwrap_or_else(|| panic!("{text}"));
            is_right(&Answer::of(&text.as_bytes()[..second]));
        }
    }
}
