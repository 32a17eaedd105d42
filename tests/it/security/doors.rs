//! Who gets in: nobody by way of a browser, and to the admin API nobody without its key.

use serde_json::json;

use super::echo::{Provider, fine};
use crate::process::{ADMIN_KEY, Answer, Program};

const OPEN: &str = "[providers.sim]\n";

fn chat() -> String {
    json!({
        "model": "sim/tide-small", "max_tokens": 5,
        "messages": [{ "role": "user", "content": "[[sim:ttft=0ms,gap=0ms,say=fine]]" }],
    })
    .to_string()
}

/// Sends a request with exactly these headers.
async fn send(gate: &Program, line: &str, headers: &str, body: &str) -> Answer {
    gate.send(format!(
        "{line} HTTP/1.1\r\n{headers}connection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    ))
    .await
}

#[tokio::test]
async fn no_web_page_spends_the_money_of_an_open_gateway() {
    let gate = Program::serve(OPEN);
    let port = gate.address.port();
    // A page may post plain text anywhere, and a name of its own may come to stand for this
    // machine.
    for headers in [
        format!("host: evil.example:{port}\r\n"),
        format!(
            "host: localhost:{port}\r\norigin: https://evil.example\r\ncontent-type: text/plain\r\n"
        ),
        format!("host: 127.0.0.1:{port}\r\norigin: null\r\n"),
        format!("host: evil.example:{port}\r\norigin: http://evil.example:{port}\r\n"),
        format!("host: evil.example:{port}\r\nauthorization: Bearer anything\r\n"),
    ] {
        for (line, body) in [
            ("POST /v1/chat/completions", chat()),
            ("POST /v1/messages", chat()),
            ("POST /v1/jobs", json!({ "endpoint": "/v1/messages", "body": {} }).to_string()),
            ("GET /v1/jobs", String::new()),
            ("GET /v1/models", String::new()),
            ("POST /v1/feedback", "{}".to_owned()),
            ("GET /v1/streams/req_1", String::new()),
        ] {
            let answer = send(&gate, line, &headers, &body).await;
            assert_eq!(answer.status, 401, "{line} {headers}: {answer:?}");
            assert!(answer.body.contains("make a key"), "{line} {headers}: {answer:?}");
        }
    }
    assert_eq!(gate.metric("tidegate_attempts_total").await, 0.0, "no provider was asked");
    for headers in [
        format!("host: localhost:{port}\r\n"),
        format!("host: [::1]:{port}\r\n"),
        format!("host: 127.0.0.1:{port}\r\norigin: http://localhost:3000\r\n"),
    ] {
        let answer = send(&gate, "POST /v1/chat/completions", &headers, &chat()).await;
        assert_eq!(answer.status, 200, "{headers}: {answer:?}");
    }
    // With a key it does not matter by what name it is called: no page has one.
    let admin = format!("host: x\r\nauthorization: Bearer {ADMIN_KEY}\r\n");
    let made = send(&gate, "POST /admin/v1/keys", &admin, r#"{"name": "web"}"#).await;
    let key = made.json()["key"].as_str().unwrap().to_owned();
    let headers = format!("host: gateway.example\r\nauthorization: Bearer {key}\r\n");
    let answer = send(&gate, "POST /v1/chat/completions", &headers, &chat()).await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

#[tokio::test]
async fn no_page_of_another_site_may_read_an_answer() {
    let gate = Program::serve(OPEN);
    let preflight = "host: localhost\r\norigin: https://evil.example\r\n\
                     access-control-request-method: POST\r\n\
                     access-control-request-headers: authorization, content-type\r\n";
    for path in ["/v1/chat/completions", "/v1/models", "/admin/v1/keys", "/metrics", "/health"] {
        for line in [format!("OPTIONS {path}"), format!("GET {path}")] {
            let answer = send(&gate, &line, preflight, "").await;
            assert!(!answer.head.contains("access-control-allow"), "{line}: {answer:?}");
        }
    }
}

#[tokio::test]
async fn the_admin_api_opens_for_its_key_in_its_header_and_for_nothing_else() {
    let gate = Program::serve(OPEN);
    let near = ADMIN_KEY.get(..ADMIN_KEY.len() - 1).unwrap();
    for headers in [
        String::new(),
        format!("authorization: {ADMIN_KEY}\r\n"),
        format!("authorization: Basic {ADMIN_KEY}\r\n"),
        format!("authorization: Bearer {near}\r\n"),
        format!("authorization: Bearer {ADMIN_KEY}x\r\n"),
        "authorization: Bearer\r\n".to_owned(),
        "authorization: Bearer \r\n".to_owned(),
        format!("x-api-key: {ADMIN_KEY}\r\n"),
        format!("cookie: authorization=Bearer {ADMIN_KEY}\r\n"),
        format!("authorization: Bearer wrong\r\nauthorization: Bearer {ADMIN_KEY}\r\n"),
    ] {
        for line in [
            "GET /admin/v1/config".to_owned(),
            "POST /admin/v1/config/reload".to_owned(),
            "POST /admin/v1/keys".to_owned(),
            "GET /admin/v1/nothing".to_owned(),
            "GET /admin/v1/openapi.json".to_owned(),
            format!("GET /admin/v1/keys?authorization=Bearer%20{ADMIN_KEY}"),
        ] {
            let headers = format!("host: localhost\r\n{headers}");
            let answer = send(&gate, &line, &headers, r#"{"name": "x"}"#).await;
            assert_eq!(answer.status, 401, "{line} {headers}: {answer:?}");
            assert!(!answer.body.contains(ADMIN_KEY), "{answer:?}");
        }
    }
    assert_eq!(gate.get_json("/admin/v1/keys").await["data"], json!([]), "none was made");
}

#[tokio::test]
async fn no_word_of_a_caller_or_a_provider_has_the_gateway_call_anybody() {
    let inside = Provider::new(|_, _| fine());
    let address = inside.address;
    let provider = Provider::new(move |_, _| {
        format!("HTTP/1.1 307 Moved\r\nlocation: http://{address}/v1\r\ncontent-length: 0\r\n\r\n")
            .into_bytes()
    });
    let gate = Program::serve(&format!(
        "[server]\nworker_threads = 1\n[providers.sim]\n[providers.sim-anthropic]\n[providers.sim-gemini]\n\
         [providers.chat]\ndialect = \"openai-chat\"\nbase_url = \"http://{}/v1\"\n\
         credentials = [{{ none = true }}]\nmodels = [{{ id = \"alpha\" }}]\n",
        provider.address
    ));
    // A provider that sends us elsewhere is not followed, and what it was sent goes nowhere else.
    let mut body =
        json!({ "model": "alpha", "messages": [{ "role": "user", "content": "hello" }] });
    let answer = gate.post("/v1/chat/completions", body.to_string()).await;
    assert!(matches!(answer.status, 502 | 503), "{answer:?}");
    assert!(!provider.sent.all().is_empty());
    // Addresses in a prompt are the provider's to fetch or not.
    for model in ["sim/tide-small", "sim-anthropic/tide-small", "sim-gemini/tide-small"] {
        for url in [format!("http://{address}/a.png"), "file:///etc/passwd".to_owned()] {
            body["model"] = json!(model);
            body["messages"][0]["content"] = json!([
                { "type": "text", "text": "[[sim:ttft=0ms,gap=0ms,say=fine]]" },
                { "type": "image_url", "image_url": { "url": url } },
            ]);
            let answer = gate.post("/v1/chat/completions", body.to_string()).await;
            assert!(matches!(answer.status, 200 | 400), "{model} {url}: {answer:?}");
            assert!(!answer.body.contains("root:"), "{answer:?}");
        }
    }
    for headers in [
        format!(
            "host: localhost\r\nx-forwarded-host: {address}\r\nx-base-url: http://{address}\r\n"
        ),
        format!("host: {address}\r\n"),
    ] {
        let answer = send(&gate, "POST /v1/chat/completions", &headers, &chat()).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    let absolute = format!("POST http://{address}/v1/chat/completions");
    let answer = send(&gate, &absolute, "host: localhost\r\n", &chat()).await;
    assert!(matches!(answer.status, 200 | 400 | 404), "{answer:?}");
    // Nor is it a tunnel.
    let answer = send(&gate, &format!("CONNECT {address}"), "host: localhost\r\n", "").await;
    assert!(matches!(answer.status, 400 | 404 | 405), "{answer:?}");
    assert!(inside.sent.all().is_empty(), "{:?}", inside.sent.all());
}
