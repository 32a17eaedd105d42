//! What a key may ask for, as its caller sees it.

use serde_json::{Value, json};

use crate::process::{ADMIN_KEY, Answer, Program};

const CONFIG: &str = r#"
[auth]
mode = "keys"
[providers.sim]
[routes.smart]
targets = [{ model = "sim/tide-small" }]
[routes.secret]
targets = [{ model = "sim/tide-large" }]
"#;

async fn send(gate: &Program, line: &str, key: &str, body: &Value) -> Answer {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let length = body.len();
    let request = format!(
        "{line} HTTP/1.1\r\nhost: test\r\nauthorization: Bearer {key}\r\n\
         x-tidegate-tags: env=mine,run=7\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\nconnection: close\r\n\r\n{body}"
    );
    gate.send(request).await
}

async fn key(gate: &Program, body: Value) -> String {
    let made = send(gate, "POST /admin/v1/keys", ADMIN_KEY, &body).await;
    assert_eq!(made.status, 201, "{made:?}");
    made.json()["key"].as_str().unwrap().to_owned()
}

async fn ask(gate: &Program, path: &str, key: &str, model: &str) -> Answer {
    let messages = json!([{ "role": "user", "content": "[[sim:ttft=1ms,gap=1ms,tokens=2]]" }]);
    let body = json!({ "model": model, "max_tokens": 5, "messages": messages });
    send(gate, &format!("POST {path}"), key, &body).await
}

#[tokio::test]
async fn what_a_key_may_not_ask_for_does_not_exist_for_it() {
    let gate = Program::serve(CONFIG);
    let terms = json!({ "name": "web", "routes": ["smart"], "tags": { "env": "prod" } });
    let web = key(&gate, terms).await;
    let models = key(&gate, json!({ "name": "models", "models": ["sim/tide-*"] })).await;
    let all = key(&gate, json!({ "name": "all" })).await;

    // Whose key, which model, and what comes of it. A bare name is its model's.
    for (key, model, status) in [
        (&web, "smart", 200),
        (&web, "secret", 404),
        (&web, "sim/tide-small", 404),
        (&web, "tide-small", 404),
        (&web, "nothing", 404),
        (&models, "sim/tide-small", 200),
        (&models, "tide-small", 200),
        (&models, "smart", 404),
        (&all, "secret", 200),
        (&all, "tide-small", 200),
    ] {
        let answer = ask(&gate, "/v1/chat/completions", key, model).await;
        assert_eq!(answer.status, status, "{model}: {answer:?}");
    }
    let hidden = ask(&gate, "/v1/chat/completions", &web, "secret").await.json();
    assert_eq!(hidden["error"]["code"], "model_not_found", "{hidden}");
    let near = ask(&gate, "/v1/chat/completions", &web, "secre").await;
    assert!(!near.body.contains("secret"), "no word of what it may not know: {near:?}");
    let known = ask(&gate, "/v1/chat/completions", &web, "smar").await;
    assert!(known.body.contains("`smart`"), "{known:?}");
    let theirs = ask(&gate, "/v1/messages", &web, "secret").await;
    assert_eq!((theirs.status, &theirs.json()["type"]), (404, &json!("error")), "{theirs:?}");

    let ids = async |key: &str| -> Vec<String> {
        let list = send(&gate, "GET /v1/models", key, &Value::Null).await.json();
        let list = list["data"].as_array().unwrap().iter();
        list.map(|model| model["id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(ids(&web).await, ["smart"]);
    assert!(ids(&models).await.iter().all(|id| id.starts_with("sim/tide-")));
    assert!(ids(&all).await.contains(&"secret".to_owned()));
    for (key, status) in [(&web, 404), (&all, 200)] {
        let one = send(&gate, "GET /v1/models/secret", key, &Value::Null).await;
        assert_eq!(one.status, status, "{one:?}");
    }

    let written = |page: &Value| page["data"].as_array().unwrap().len() == 14;
    let page = gate.until("/admin/v1/requests?limit=50", written).await;
    let first = page["data"].as_array().unwrap().last().unwrap();
    assert_eq!(first["tags"], json!({ "env": "prod", "run": "7" }), "the key's tags win");
}
