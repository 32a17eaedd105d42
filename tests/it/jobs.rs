//! Jobs through the real program: handed in, looked at, given up, told of.

use serde_json::{Value, json};
use tidegate::clock::Instant;

use crate::process::{ADMIN_KEY, Answer, PATIENCE, Program};
use crate::servers::postgres::PostgresServer;

mod keys;
mod kills;
mod receiver;

use receiver::Receiver;

/// The built-in simulator, and receivers on this machine.
const CONFIG: &str = r#"
[server]
worker_threads = 1
[jobs]
retry_pause = "10ms"
[webhooks]
allow_private = ["127.0.0.1"]
timeout = "1s"
[providers.sim]
[providers.sim-anthropic]
"#;

/// Sends a request with these headers.
async fn send(gate: &Program, line: &str, headers: &str, body: &Value) -> Answer {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    gate.send(format!(
        "{line} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\n\
         {headers}content-length: {}\r\n\r\n{body}",
        body.len()
    ))
    .await
}

fn chat(text: &str) -> Value {
    json!({ "model": "sim/tide-small", "messages": [{ "role": "user", "content": text }] })
}

fn job(body: &Value) -> Value {
    json!({ "endpoint": "/v1/chat/completions", "body": body })
}

/// Hands a job in; its id.
async fn hand_in(gate: &Program, headers: &str, job: &Value) -> String {
    let accepted = send(gate, "POST /v1/jobs", headers, job).await;
    assert_eq!(accepted.status, 202, "{accepted:?}");
    accepted.json()["id"].as_str().unwrap().to_owned()
}

/// The job once it is as wanted.
async fn until(gate: &Program, headers: &str, id: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    let started = Instant::now();
    loop {
        let seen = send(gate, &format!("GET /v1/jobs/{id}"), headers, &Value::Null).await;
        assert_eq!(seen.status, 200, "{seen:?}");
        let seen = seen.json();
        if is_so(&seen) {
            return seen;
        }
        assert!(started.elapsed() < PATIENCE, "it stays {seen}");
    }
}

fn is_over(job: &Value) -> bool {
    !["queued", "running"].contains(&job["status"].as_str().unwrap())
}

#[tokio::test]
async fn a_completion_whose_caller_prefers_it_is_answered_later() {
    let gate = Program::serve(CONFIG);
    let prefer = "Prefer: wait=1, respond-async\r\nx-tidegate-tags: a=b\r\n";
    let mut body = chat("[[sim:tokens=3]]");
    body["stream"] = true.into();
    body["stream_options"] = json!({ "include_usage": true });
    let accepted = send(&gate, "POST /v1/chat/completions", prefer, &body).await;
    assert_eq!(accepted.status, 202, "{accepted:?}");
    assert_eq!(accepted.header("preference-applied"), "respond-async");
    assert_eq!(accepted.header("retry-after"), "1");
    assert!(accepted.header("x-request-id").starts_with("req_"));
    let accepted_job = accepted.json();
    let id = accepted_job["id"].as_str().unwrap();
    assert_eq!(accepted.header("location"), format!("/v1/jobs/{id}"));
    assert_eq!((&accepted_job["object"], &accepted_job["priority"]), (&json!("job"), &json!(3)));

    let done = until(&gate, "", id, is_over).await;
    assert_eq!(done["status"], "succeeded", "{done}");
    let result = &done["result"];
    assert_eq!(result["status"], 200);
    assert_eq!(result["body"]["object"], "chat.completion", "whole, though a stream was asked for");
    assert_eq!(result["body"]["usage"]["completion_tokens"], 3);
    assert_eq!(result["headers"]["x-tidegate-served-by"], "sim/tide-small");
    let request = &result["headers"]["x-request-id"];
    let row = gate.until("/admin/v1/requests", |page| page["data"][0]["id"] == *request).await;
    assert_eq!(
        (&row["data"][0]["outcome"], &row["data"][0]["tags"]["a"]),
        (&json!("complete"), &json!("b"))
    );
    // Without the preference the answer comes at once.
    let now = gate.post("/v1/chat/completions", chat("hi").to_string()).await;
    assert_eq!((now.status, now.header("preference-applied")), (200, ""));
}

#[tokio::test]
async fn every_endpoint_answers_later_in_its_own_words() {
    let gate = Program::serve(CONFIG);
    let message = json!({
        "model": "sim-anthropic/tide-small", "max_tokens": 9,
        "messages": [{ "role": "user", "content": "hi" }],
    });
    let vectors = json!({ "model": "sim/tide-embed", "input": "hi" });
    let broken = chat("[[sim:status=400]]");
    let mut refused = message.clone();
    refused["messages"][0]["content"] = json!("[[sim:status=400]]");
    for (endpoint, body, status, at, value) in [
        ("/v1/messages", &message, 200, "/type", json!("message")),
        ("/v1/embeddings", &vectors, 200, "/object", json!("list")),
        ("/v1/chat/completions", &broken, 400, "/error/type", json!("invalid_request_error")),
        ("/v1/messages", &refused, 400, "/type", json!("error")),
    ] {
        let job = json!({ "endpoint": endpoint, "body": body, "metadata": { "k": 1 } });
        let id = hand_in(&gate, "", &job).await;
        let done = until(&gate, "", &id, is_over).await;
        assert_eq!(done["result"]["status"], status, "{done}");
        assert_eq!(done["result"]["body"].pointer(at), Some(&value), "{done}");
        assert_eq!(done["metadata"], json!({ "k": 1 }));
        let state = if status == 200 { "succeeded" } else { "failed" };
        assert_eq!((&done["status"], &done["attempts"]), (&json!(state), &json!(1)), "{done}");
    }
}

#[tokio::test]
async fn a_job_that_fails_of_something_that_passes_is_tried_again() {
    let gate = Program::serve(CONFIG);
    let id = hand_in(&gate, "", &job(&chat("[[sim:status=500]]"))).await;
    let done = until(&gate, "", &id, is_over).await;
    assert_eq!((&done["status"], &done["attempts"]), (&json!("failed"), &json!(3)), "{done}");
    assert_eq!(done["result"]["status"], 502);
    assert_eq!(done["error"]["code"], "upstream_failed");
}

#[tokio::test]
async fn a_job_is_given_up_while_it_runs_and_its_provider_is_told() {
    let sim = Program::sim("");
    let config = format!(
        "[jobs]\n[providers.local]\ndialect = \"openai-chat\"\nbase_url = \"http://{}/v1\"\n\
         credentials = [{{ none = true }}]\nmodels = [{{ id = \"m\" }}]\n",
        sim.address
    );
    let gate = Program::serve(&config);
    let mut body = chat("[[sim:stall_after=0]]");
    body["model"] = json!("local/m");
    let id = hand_in(&gate, "", &job(&body)).await;
    sim.until("/sim/stats", |stats| stats["in_flight"] == 1).await;
    let cancelled = send(&gate, &format!("DELETE /v1/jobs/{id}"), "", &Value::Null).await;
    assert_eq!((cancelled.status, &cancelled.json()["status"]), (200, &json!("cancelled")));
    sim.until("/sim/stats", |stats| stats["in_flight"] == 0 && stats["cancelled"] == 1).await;
    let again = send(&gate, &format!("DELETE /v1/jobs/{id}"), "", &Value::Null).await;
    assert_eq!((again.status, &again.json()["status"]), (200, &json!("cancelled")));
    let row = gate.until("/admin/v1/requests", |page| page["data"][0].is_object()).await;
    assert_eq!(row["data"][0]["outcome"], "client_gone");
}

/// Makes a key; the header that carries it, and its id.
async fn key(gate: &Program, name: &str) -> (String, String) {
    let admin = format!("authorization: Bearer {ADMIN_KEY}\r\n");
    let made = send(gate, "POST /admin/v1/keys", &admin, &json!({ "name": name })).await.json();
    let key = made["key"].as_str().unwrap();
    (format!("authorization: Bearer {key}\r\n"), made["id"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn jobs_belong_to_their_caller_and_end_with_their_key() {
    let idle = CONFIG.replace("[jobs]", "[jobs]\nworkers = 0");
    let gate = Program::serve(&idle);
    let (alice, alice_id) = key(&gate, "alice").await;
    let (mallory, _) = key(&gate, "mallory").await;
    let id = hand_in(&gate, &alice, &job(&chat("hi"))).await;
    for line in ["GET", "DELETE"] {
        let other = send(&gate, &format!("{line} /v1/jobs/{id}"), &mallory, &Value::Null).await;
        assert_eq!((other.status, &other.json()["error"]["code"]), (404, &json!("job_not_found")));
        let nobody = send(&gate, &format!("{line} /v1/jobs/{id}"), "", &Value::Null).await;
        assert_eq!(nobody.status, 401, "{nobody:?}");
    }
    let list = send(&gate, "GET /v1/jobs", &mallory, &Value::Null).await.json();
    assert_eq!(list["data"], json!([]));
    let list = send(&gate, "GET /v1/jobs?status=queued", &alice, &Value::Null).await.json();
    assert_eq!((&list["data"][0]["id"], &list["has_more"]), (&json!(id), &json!(false)));

    let (bob, _) = key(&gate, "bob").await;
    let bobs = hand_in(&gate, &bob, &job(&chat("hi"))).await;
    let admin = format!("authorization: Bearer {ADMIN_KEY}\r\n");
    let revoked =
        send(&gate, &format!("DELETE /admin/v1/keys/{alice_id}"), &admin, &Value::Null).await;
    assert_eq!(revoked.status, 204, "{revoked:?}");
    // Accepted before, answered by another run.
    let gate = Program::serve_in(gate.kill(), CONFIG, None);
    let done = until(&gate, &bob, &bobs, is_over).await;
    assert_eq!(done["status"], "succeeded", "{done}");
    let receiver = Receiver::start().await;
    let told = json!({ "url": receiver.url() });
    let mut last = job(&chat("hi"));
    last["webhook"] = told;
    hand_in(&gate, &bob, &last).await;
    receiver.until(|got| got.len() == 1).await;
    assert_eq!(gate.metric("tidegate_jobs_ended_total{state=\"failed\"}").await, 1.0);
}

#[tokio::test]
async fn what_is_no_job_is_refused_while_there_is_somebody_to_tell() {
    let limits = "[jobs]\nworkers = 0\nmax_waiting = 2\nrequest_limit = \"2KB\"";
    let gate = Program::serve(&CONFIG.replace("[jobs]", limits));
    let with = |key: &str, value: Value| {
        let mut job = job(&chat("hi"));
        job[key] = value;
        job
    };
    let unknown = json!({ "model": "nope", "messages": [] });
    for (body, status, param) in [
        (json!({}), 400, json!("endpoint")),
        (with("endpoint", json!("/v1/models")), 400, json!("endpoint")),
        (with("endpoint", json!("/v1/messages/count_tokens")), 400, json!("endpoint")),
        (with("colour", json!("red")), 400, json!("colour")),
        (with("priority", json!(9)), 400, json!("priority")),
        (with("deadline", json!("tomorrow")), 400, json!("deadline")),
        (with("deadline", json!(1)), 400, json!("deadline")),
        (with("deadline", json!("2999-01-01T00:00:00Z")), 400, json!("deadline")),
        (with("webhook", json!({ "url": "https://10.0.0.1/" })), 400, json!("webhook.url")),
        (with("webhook", json!({ "url": "https://2130706433/" })), 202, Value::Null),
        (with("webhook", json!({ "url": "http://8.8.8.8/" })), 400, json!("webhook.url")),
        (
            with("webhook", json!({ "url": "https://localhost.localdomain:0/" })),
            400,
            json!("webhook.url"),
        ),
        (
            with("webhook", json!({ "url": "https://a.example/", "secret": "x" })),
            400,
            json!("webhook.secret"),
        ),
        (with("body", json!({ "model": "sim/tide-small" })), 400, json!("messages")),
        (with("body", unknown), 404, json!("model")),
        (with("body", chat(&"x".repeat(3_000))), 413, Value::Null),
        (with("metadata", json!({ "k": "x".repeat(20_000) })), 400, json!("metadata")),
    ] {
        let got = send(&gate, "POST /v1/jobs", "", &body).await;
        assert_eq!(got.status, status, "{body}: {got:?}");
        if status != 202 {
            assert_eq!(got.json()["error"]["param"], param, "{body}: {got:?}");
        }
    }
    let list = gate.get("/v1/jobs?status=done").await;
    assert_eq!((list.status, &list.json()["error"]["param"]), (400, &json!("status")));
    assert_eq!(gate.get("/v1/jobs?limit=0").await.status, 400);
    assert_eq!(gate.get("/v1/jobs?cursor=%00").await.json()["error"]["param"], "cursor");
    assert_eq!(gate.get("/v1/jobs/job_none").await.status, 404);

    hand_in(&gate, "", &job(&chat("hi"))).await;
    let full = send(&gate, "POST /v1/jobs", "", &job(&chat("hi"))).await;
    assert_eq!((full.status, &full.json()["error"]["code"]), (429, &json!("too_many_jobs")));
    assert_eq!(full.header("retry-after"), "10");
    let first = gate.get("/v1/jobs?limit=1").await.json();
    assert_eq!((first["data"].as_array().unwrap().len(), &first["has_more"]), (1, &json!(true)));
    let cursor = first["next_cursor"].as_str().unwrap();
    let rest = gate.get(&format!("/v1/jobs?cursor={cursor}")).await.json();
    assert_eq!((rest["data"].as_array().unwrap().len(), &rest["has_more"]), (1, &json!(false)));
}

#[tokio::test]
async fn a_webhook_tells_of_a_job_and_the_admin_api_of_the_webhook() {
    let gate = Program::serve(CONFIG);
    let receiver = Receiver::start().await;
    let mut wanted = job(&chat("hi"));
    wanted["webhook"] = json!({ "url": receiver.url() });
    wanted["metadata"] = json!({ "order": 7 });
    let accepted = send(&gate, "POST /v1/jobs", "", &wanted).await.json();
    let secret = accepted["webhook"]["secret"].as_str().unwrap();
    let id = accepted["id"].as_str().unwrap();
    let got = receiver.until(|got| got.len() == 1).await.remove(0);
    got.verify(secret);
    assert_eq!(got.body["type"], "job.succeeded");
    assert_eq!(
        (&got.body["data"]["id"], &got.body["data"]["metadata"]["order"]),
        (&json!(id), &json!(7))
    );
    let told = |job: &Value| job["webhook"]["delivery"]["status"] == "succeeded";
    let done = until(&gate, "", id, told).await;
    assert_eq!(done["webhook"]["delivery"]["id"], got.id);
    assert_eq!(done["webhook"]["secret"], Value::Null, "shown once");

    let admin = format!("authorization: Bearer {ADMIN_KEY}\r\n");
    let page = gate.get_json("/admin/v1/webhooks").await;
    let hook = &page["data"][0];
    assert_eq!((&hook["url"], &hook["enabled"]), (&json!(receiver.url()), &json!(true)), "{page}");
    let path = format!("/admin/v1/webhooks/{}", hook["id"].as_str().unwrap());
    let off = send(&gate, &format!("PATCH {path}"), &admin, &json!({ "enabled": false })).await;
    assert_eq!((off.status, &off.json()["disabled_why"]), (200, &json!("operator")));
    let again = format!("POST {path}/deliveries/{}/redeliver", got.id);
    assert_eq!(send(&gate, &again, &admin, &Value::Null).await.status, 202);
    let given_up = |page: &Value| page["data"][0]["status"] == "failed";
    let deliveries = gate.until(&format!("{path}/deliveries"), given_up).await;
    assert!(deliveries["data"][0]["last_error"].as_str().unwrap().contains("switched off"));
    let on = send(&gate, &format!("PATCH {path}"), &admin, &json!({ "enabled": true })).await;
    assert_eq!(on.json()["enabled"], true);
    assert_eq!(send(&gate, &again, &admin, &Value::Null).await.status, 202);
    let twice = receiver.until(|got| got.len() == 2).await;
    assert_eq!(twice[0].id, twice[1].id, "the same event");
    let noted = |page: &Value| {
        let of = |action: &str| {
            let all = page["data"].as_array().unwrap();
            all.iter().filter(|row| row["action"] == action).count()
        };
        (of("webhook.change"), of("webhook.redeliver")) == (2, 2)
    };
    gate.until("/admin/v1/audit", noted).await;
    for (line, status) in [
        ("GET /admin/v1/webhooks/whr_none", 404),
        ("GET /admin/v1/webhooks/whr_none/deliveries", 404),
        ("POST /admin/v1/webhooks/whr_none/deliveries/msg_none/redeliver", 404),
    ] {
        assert_eq!(send(&gate, line, &admin, &Value::Null).await.status, status, "{line}");
    }
}

/// PostgreSQL takes no NUL in a text, and what is no UTF-8 is no path to axum.
#[tokio::test]
async fn what_is_no_id_is_no_job_in_every_store_and_every_reply_has_the_id_of_its_request() {
    let server = PostgresServer::start();
    let stores = server.iter().map(|server| format!("[store]\nurl = \"{}\"\n", server.url()));
    for store in std::iter::once(String::new()).chain(stores) {
        let gate = Program::serve(&format!("{store}{CONFIG}"));
        let id = hand_in(&gate, "", &job(&chat("hi"))).await;
        until(&gate, "", &id, is_over).await;
        let longer = format!("{id}0");
        let none = format!("job_{}", "0".repeat(32));
        let odd = ["%ff", "%00", "job_%00", "%2e%2e", "", "~", &longer, &none];
        let known = odd.iter().map(|odd| (*odd, 404)).chain([(&*id, 200)]);
        for (id, status) in known {
            for line in [format!("GET /v1/jobs/{id}"), format!("DELETE /v1/jobs/{id}")] {
                let got = send(&gate, &line, "", &Value::Null).await;
                assert_eq!(got.status, status, "{line}: {got:?}");
                assert!(got.header("x-request-id").starts_with("req_"), "{line}: {got:?}");
                let code = &got.json()["error"]["code"];
                let is_said = status == 200 || code == "job_not_found" || id.is_empty();
                assert!(is_said, "{line}: {got:?}");
            }
        }
        let model = gate.get("/v1/models/%ff").await;
        assert_eq!(
            (model.status, &model.json()["error"]["code"]),
            (404, &json!("model_not_found"))
        );
        for (query, status) in [
            ("", 200),
            ("?limit=1", 200),
            ("?cursor=%00", 400),
            ("?cursor=%ff", 400),
            ("?status=%00", 400),
            ("?limit=%00", 400),
            ("?%00=1", 400),
        ] {
            let got = gate.get(&format!("/v1/jobs{query}")).await;
            assert_eq!(got.status, status, "{query}: {got:?}");
            assert!(got.header("x-request-id").starts_with("req_"), "{query}: {got:?}");
            assert!(status == 200 || got.json()["error"]["type"].is_string(), "{query}: {got:?}");
        }
    }
}

#[tokio::test]
async fn waiting_jobs_take_so_many_bytes_and_the_refusal_names_the_limit() {
    let limits = "[jobs]\nworkers = 0\nrequest_limit = \"2KB\"\nmax_waiting_size = \"2KB\"\n\
                  max_total_waiting_size = \"3KB\"";
    let gate = Program::serve(&CONFIG.replace("[jobs]", limits));
    let (alice, _) = key(&gate, "alice").await;
    let (bob, _) = key(&gate, "bob").await;
    let large = job(&chat(&"x".repeat(1_200)));
    let id = hand_in(&gate, &alice, &large).await;
    let full = send(&gate, "POST /v1/jobs", &alice, &large).await;
    assert_eq!((full.status, full.header("retry-after")), (429, "10"), "{full:?}");
    let error = &full.json()["error"];
    assert_eq!(error["code"], "waiting_jobs_too_large");
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("2000 bytes they may (`jobs.max_waiting_size`)"), "{message}");
    // The same where a completion asks for a job.
    let prefer = format!("{alice}Prefer: respond-async\r\n");
    let full = send(&gate, "POST /v1/chat/completions", &prefer, &large["body"]).await;
    assert_eq!((full.status, &full.json()["error"]["code"]), (429, &error["code"]));

    hand_in(&gate, &bob, &large).await;
    let (carol, _) = key(&gate, "carol").await;
    let full = send(&gate, "POST /v1/jobs", &carol, &large).await;
    assert_eq!(full.status, 429, "{full:?}");
    assert!(full.body.contains("`jobs.max_total_waiting_size`"), "{full:?}");
    // A job that is given up waits no more.
    send(&gate, &format!("DELETE /v1/jobs/{id}"), &alice, &Value::Null).await;
    let started = Instant::now();
    while send(&gate, "POST /v1/jobs", &carol, &large).await.status != 202 {
        assert!(started.elapsed() < PATIENCE, "there is no room though one was given up");
    }
}
