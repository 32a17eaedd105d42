//! Feedback through the real program: said, refused, read by operators, on other nodes, without the
//! store.

use serde_json::{Value, json};

use crate::process::{ADMIN_KEY, Answer, Program};
use crate::servers::postgres::PostgresServer;

const CONFIG: &str = r#"
[server]
worker_threads = 1
[providers.sim]
[routes.smart]
targets = [{ model = "sim/tide-small" }]
"#;

async fn send(gate: &Program, line: &str, key: &str, body: &str) -> Answer {
    let key =
        if key.is_empty() { String::new() } else { format!("authorization: Bearer {key}\r\n") };
    gate.send(format!(
        "{line} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\n\
         {key}content-length: {}\r\n\r\n{body}",
        body.len()
    ))
    .await
}

async fn make_key(gate: &Program, name: &str) -> String {
    let body = json!({ "name": name }).to_string();
    let made = send(gate, "POST /admin/v1/keys", ADMIN_KEY, &body).await;
    assert_eq!(made.status, 201, "{made:?}");
    made.json()["key"].as_str().unwrap().to_owned()
}

/// Makes a request; its id.
async fn ask(gate: &Program, key: &str) -> String {
    let body = json!({ "model": "smart", "messages": [{ "role": "user", "content": "Hi" }] });
    let got = send(gate, "POST /v1/chat/completions", key, &body.to_string()).await;
    assert_eq!(got.status, 200, "{got:?}");
    got.header("x-request-id").to_owned()
}

async fn say(gate: &Program, key: &str, said: &Value) -> Answer {
    send(gate, "POST /v1/feedback", key, &said.to_string()).await
}

/// All feedback once it is as wanted.
async fn until(gate: &Program, query: &str, is_so: impl Fn(&[Value]) -> bool) -> Vec<Value> {
    let path = format!("/admin/v1/feedback{query}");
    let all = gate.until(&path, |page| is_so(page["data"].as_array().unwrap())).await;
    all["data"].as_array().unwrap().clone()
}

fn all_joined(words: &[Value]) -> bool {
    !words.is_empty() && words.iter().all(|word| word["waiting"] == false)
}

#[tokio::test]
async fn an_answer_that_has_just_ended_is_rated_and_operators_see_it() {
    let gate = Program::serve(CONFIG);
    let key = make_key(&gate, "web").await;
    let request = ask(&gate, &key).await;
    // At once: the journal writes every quarter of a second.
    let said = json!({ "request_id": request, "thumb": "up", "comment": "Danke ✂" });
    let taken = say(&gate, &key, &said).await;
    assert_eq!(taken.status, 202, "{taken:?}");
    assert!(taken.header("x-request-id").starts_with("req_"));
    let id = taken.json()["id"].clone();
    assert_eq!(taken.json(), json!({ "id": id, "request_id": request }));

    let words = until(&gate, "", |words| words.len() == 2 && all_joined(words)).await;
    assert!(words.iter().all(|word| word["id"] == id && word["route"] == "smart"));
    assert_eq!(say(&gate, &key, &said).await.json()["id"], id);
    let changed = json!({ "request_id": request, "thumb": "down", "regenerate": true });
    assert_eq!(say(&gate, &key, &changed).await.json()["id"], id);
    let words = until(&gate, "?kind=thumb", |_| true).await;
    let [thumb] = &*words else { panic!("{words:?}") };
    assert_eq!((&thumb["words"], &thumb["score"]), (&json!("down"), &json!(0.0)));
    assert_eq!((&thumb["changes"], &thumb["model"]), (&json!(2), &json!("tide-small")));
    let scores = gate.get_json("/admin/v1/feedback/scores?model=sim/tide-small").await;
    let expected = json!({
        "prompt": null, "provider": "sim", "model": "tide-small", "ratings": 2, "mean_score": 0.0,
    });
    assert_eq!(scores, json!({ "data": [expected], "truncated": false }));
    assert!(gate.metric("tidegate_feedback_total").await >= 4.0);
}

#[tokio::test]
async fn what_is_wrong_is_said_in_openais_form_and_other_peoples_requests_are_not_there() {
    let gate = Program::serve(CONFIG);
    let (key, other) = (make_key(&gate, "web").await, make_key(&gate, "else").await);
    let request = ask(&gate, &key).await;
    say(&gate, &key, &json!({ "request_id": request, "score": 0.5 })).await;
    until(&gate, "", all_joined).await;
    let up = |id: &str| json!({ "request_id": id, "thumb": "up" });
    let longer = "x".repeat(70_000);
    for (key, said, status, param) in [
        (&key, json!({ "request_id": request, "score": 2 }), 400, json!("score")),
        (&key, json!({ "request_id": request, "stars": 5 }), 400, json!("stars")),
        (&key, json!({ "request_id": request, "label": "" }), 400, json!("label")),
        (&key, json!({ "request_id": request, "comment": "\0" }), 400, json!("comment")),
        (&key, json!({ "request_id": request, "comment": longer }), 413, Value::Null),
        (&key, json!({ "request_id": request }), 400, Value::Null),
        (&key, json!([]), 400, Value::Null),
        (&other, up(&request), 404, json!("request_id")),
        (&key, up(&format!("req_{}", "0".repeat(32))), 404, json!("request_id")),
        (&key, up("chatcmpl-1"), 404, json!("request_id")),
        (&"tg-wrong".to_owned(), up(&request), 401, Value::Null),
    ] {
        let got = say(&gate, key, &said).await;
        let error = &got.json()["error"];
        assert_eq!((got.status, &error["param"]), (status, &param), "{said:.80}: {got:?}");
        assert!(error["message"].is_string() && error["code"].is_string(), "{got:?}");
    }
    assert_eq!(until(&gate, "", |_| true).await.len(), 1, "nothing of it is kept");
    let got = send(&gate, "GET /v1/feedback", &key, "").await;
    assert_eq!(got.status, 405, "{got:?}");
}

#[tokio::test]
async fn a_node_that_did_not_serve_takes_feedback_and_an_outage_of_the_store_is_told() {
    let Some(mut server) = PostgresServer::start() else { return };
    let config = format!("[store]\nurl = \"{}\"\n{CONFIG}", server.url());
    let (one, two) = (Program::serve(&config), Program::serve(&config));
    let key = make_key(&one, "web").await;
    let request = ask(&one, &key).await;
    let said = json!({ "request_id": request, "score": 0.75 });
    let started = tidegate::clock::Instant::now();
    // The other node learns of the new key by and by.
    let taken = loop {
        let taken = say(&two, &key, &said).await;
        if taken.status != 401 {
            break taken;
        }
        assert!(started.elapsed() < crate::process::PATIENCE, "{taken:?}");
    };
    assert_eq!(taken.status, 202, "{taken:?}");
    let words = until(&one, "", all_joined).await;
    assert_eq!((&words[0]["score"], &words[0]["route"]), (&json!(0.75), &json!("smart")));

    server.stop();
    let refused = say(&two, &key, &json!({ "request_id": request, "thumb": "up" })).await;
    assert_eq!((refused.status, refused.header("retry-after")), (503, "1"), "{refused:?}");
    assert_eq!(two.metric("tidegate_feedback_lost_total").await as u64, 1);
    server.start_again();
    let again = say(&two, &key, &json!({ "request_id": request, "thumb": "up" })).await;
    assert_eq!(again.status, 202, "{again:?}");
}
