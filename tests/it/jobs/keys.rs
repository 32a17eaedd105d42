//! Jobs that come with an `Idempotency-Key`: made once.

use std::collections::HashSet;

use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::{CONFIG, chat, is_over, job, key, send, until};
use crate::process::{Answer, Program};
use crate::servers::postgres::PostgresServer;

const ONCE: &str = "Idempotency-Key: once\r\n";
const PREFER: &str = "Prefer: respond-async\r\nIdempotency-Key: once\r\n";
const CHAT: &str = "POST /v1/chat/completions";
const JOBS: &str = "POST /v1/jobs";

async fn count(gate: &Program, headers: &str) -> usize {
    let page = send(gate, "GET /v1/jobs?limit=100", headers, &Value::Null).await.json();
    page["data"].as_array().unwrap().len()
}

fn code(answer: &Answer) -> Value {
    answer.json()["error"]["code"].clone()
}

/// That one request made a job, and the other got the same reply.
fn assert_repeated(first: &Answer, again: &Answer) {
    assert_eq!((first.status, again.status), (202, 202), "{first:?} {again:?}");
    assert_eq!(first.body, again.body);
    for name in ["location", "retry-after", "x-request-id", "content-type", "preference-applied"] {
        assert_eq!(first.header(name), again.header(name), "{name}");
    }
    assert_eq!(
        (first.header("idempotent-replayed"), again.header("idempotent-replayed")),
        ("", "true")
    );
    let own = again.header("x-tidegate-duplicate-id");
    assert!(own.starts_with("req_") && own != first.header("x-request-id"), "{again:?}");
}

#[tokio::test]
async fn a_job_with_a_key_is_made_once_and_its_reply_repeated() {
    let gate = Program::serve(CONFIG);
    let body = chat("[[sim:tokens=3]]");
    for (line, headers, asked, other) in
        [(JOBS, ONCE, job(&body), job(&chat("other"))), (CHAT, PREFER, body.clone(), chat("other"))]
    {
        let first = send(&gate, line, headers, &asked).await;
        let again = send(&gate, line, headers, &asked).await;
        assert_repeated(&first, &again);
        let id = first.json()["id"].as_str().unwrap().to_owned();
        assert_eq!(first.header("location"), format!("/v1/jobs/{id}"));
        until(&gate, "", &id, is_over).await;
        // When it is over, and by another run.
        assert_repeated(&first, &send(&gate, line, headers, &asked).await);
        let mismatch = send(&gate, line, headers, &other).await;
        assert_eq!((mismatch.status, code(&mismatch)), (422, json!("idempotency_key_reused")));
    }
    assert_eq!(count(&gate, "").await, 2, "one each: the path is part of what a key is for");
    assert_eq!(gate.metric("tidegate_idempotent_requests_total{result=\"replayed\"}").await, 4.0);

    let gate = Program::serve_in(gate.kill(), CONFIG, None);
    let again = send(&gate, JOBS, ONCE, &job(&body)).await;
    assert_eq!((again.status, again.header("idempotent-replayed")), (202, "true"));
    assert_eq!(count(&gate, "").await, 2);
}

#[tokio::test]
async fn a_job_is_not_the_answer_that_is_waited_for_and_no_key_of_another_caller() {
    let gate = Program::serve(CONFIG);
    let ((alice, _), (bob, _)) = (key(&gate, "alice").await, key(&gate, "bob").await);
    let (body, of) = (chat("hi"), |caller: &str, headers: &str| format!("{caller}{headers}"));
    let first = send(&gate, CHAT, &of(&alice, PREFER), &body).await;
    assert_eq!(first.status, 202, "{first:?}");
    let waited = send(&gate, CHAT, &of(&alice, ONCE), &body).await;
    assert_eq!((waited.status, code(&waited)), (422, json!("idempotency_key_reused")));
    let bobs = send(&gate, CHAT, &of(&bob, ONCE), &body).await;
    assert_eq!(bobs.status, 200, "{bobs:?}");
    let later = send(&gate, CHAT, &of(&bob, PREFER), &body).await;
    assert_eq!((later.status, code(&later)), (422, json!("idempotency_key_reused")));
    let bobs = send(&gate, JOBS, &of(&bob, ONCE), &job(&body)).await;
    let alices = send(&gate, JOBS, &of(&alice, ONCE), &job(&body)).await;
    assert_ne!(bobs.json()["id"], alices.json()["id"]);
    assert_eq!((count(&gate, &alice).await, count(&gate, &bob).await), (2, 1));
    let bad = send(&gate, JOBS, &of(&bob, "Idempotency-Key: a b\r\n"), &job(&body)).await;
    assert_eq!((bad.status, &bad.json()["error"]["param"]), (400, &json!("Idempotency-Key")));
}

/// Who did not get the reply that showed the secret gets it with the repetition.
#[tokio::test]
async fn a_repeated_reply_still_shows_the_secret_of_its_webhook() {
    let gate = Program::serve(&CONFIG.replace("[jobs]", "[jobs]\nworkers = 0"));
    let mut wanted = job(&chat("hi"));
    wanted["webhook"] = json!({ "url": "https://example.com/hook" });
    let first = send(&gate, JOBS, ONCE, &wanted).await;
    assert!(first.json()["webhook"]["secret"].as_str().unwrap().starts_with("whsec_"));
    assert_repeated(&first, &send(&gate, JOBS, ONCE, &wanted).await);
}

/// Who asks again may do so when the request would not be taken any more.
#[tokio::test]
async fn a_reply_is_repeated_though_the_request_would_be_refused_by_now() {
    let config = |deadline: &str| {
        CONFIG.replace("[jobs]", &format!("[jobs]\nworkers = 0\ndeadline = \"{deadline}\""))
    };
    let gate = Program::serve(&config("1d"));
    let now_ms = tidegate::clock::WallClock::unix_ms(&tidegate::clock::SystemWallClock);
    let mut wanted = job(&chat("hi"));
    wanted["deadline"] = json!(now_ms / 1_000 + 3_600);
    let first = send(&gate, JOBS, ONCE, &wanted).await;
    let gate = Program::serve_in(gate.kill(), &config("1m"), None);
    assert_repeated(&first, &send(&gate, JOBS, ONCE, &wanted).await);
    let other = send(&gate, JOBS, "Idempotency-Key: other\r\n", &wanted).await;
    assert_eq!((other.status, &other.json()["error"]["param"]), (400, &json!("deadline")));
}

#[tokio::test]
async fn a_job_that_is_refused_leaves_its_key_free() {
    let gate = Program::serve(&CONFIG.replace("[jobs]", "[jobs]\nworkers = 0\nmax_waiting = 1"));
    let waiting = send(&gate, JOBS, "", &job(&chat("hi"))).await.json();
    let full = send(&gate, JOBS, ONCE, &job(&chat("hi"))).await;
    assert_eq!((full.status, code(&full)), (429, json!("too_many_jobs")));
    let id = waiting["id"].as_str().unwrap();
    send(&gate, &format!("DELETE /v1/jobs/{id}"), "", &Value::Null).await;
    let accepted = send(&gate, JOBS, ONCE, &job(&chat("hi"))).await;
    assert_eq!((accepted.status, accepted.header("idempotent-replayed")), (202, ""));
    // There is no room for another, and none is needed to repeat a reply.
    assert_repeated(&accepted, &send(&gate, JOBS, ONCE, &job(&chat("hi"))).await);
}

#[tokio::test]
async fn sixty_at_once_to_three_nodes_make_one_job() {
    let Some(server) = PostgresServer::start() else {
        println!("SKIPPED: there is no server");
        return;
    };
    let config = format!("[store]\nurl = \"{}\"\n{CONFIG}", server.url());
    let nodes: Vec<_> = (0..3).map(|_| std::sync::Arc::new(Program::serve(&config))).collect();
    for (line, headers, asked) in [(JOBS, ONCE, job(&chat("hi"))), (CHAT, PREFER, chat("hi"))] {
        let mut asking = JoinSet::new();
        for number in 0..60 {
            let (node, asked) = (std::sync::Arc::clone(&nodes[number % 3]), asked.clone());
            asking.spawn(async move { send(&node, line, headers, &asked).await });
        }
        let answers = asking.join_all().await;
        assert!(answers.iter().all(|answer| answer.status == 202), "{answers:?}");
        let bodies: HashSet<_> = answers.iter().map(|answer| &*answer.body).collect();
        assert_eq!(bodies.len(), 1, "{bodies:?}");
        let is_first = |answer: &&Answer| answer.header("idempotent-replayed").is_empty();
        assert_eq!(answers.iter().filter(is_first).count(), 1);
    }
    assert_eq!(count(&nodes[0], "").await, 2);
}
