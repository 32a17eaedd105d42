//! What is kept of streams: for whom, how long, how much.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use http::Request;
use http_body_util::BodyExt;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::Value;
use tidegate::dialect::Dialect;
use tidegate::sim::{Behaviour, Latency, Scenario};
use tidegate::units::Priority;
use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tower::ServiceExt;

use super::{
    CALLERS, ROUTES, SLOW, UPSTREAMS, after, all_ended, id_of, last_id, resumable, said, send, text,
};
use crate::rig::{End, Rig, end_of};
use crate::scripted::{CHAT_FINISH, DONE, Reply, scripted};

#[tokio::test(start_paused = true)]
async fn streams_are_kept_for_five_minutes_after_their_end() {
    let rig = Rig::instant(ROUTES);
    let response = rig.open(&resumable(Dialect::OpenAiChat, "chat/alpha", SLOW)).await;
    let path = format!("/v1/streams/{}", id_of(&response));
    let whole = text(response).await;
    all_ended(&rig).await;
    tokio::time::sleep(Duration::from_secs(299)).await;
    assert_eq!(said(send(&rig, "GET", &path, &[]).await).await, (200, whole));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(send(&rig, "GET", &path, &[]).await.status(), 404);
    assert_eq!(rig.gateway.streams().bytes(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_nobody_reads_ends_with_its_time() {
    let routes = "[defaults]\ntimeouts = { between_tokens = \"2s\", total = \"5s\" }\n";
    let rig = Rig::instant(routes);
    let text = "[[sim:gap=1s,tokens=100]]";
    let response = rig.open(&resumable(Dialect::OpenAiChat, "chat/alpha", text)).await;
    let id = id_of(&response);
    drop(response);
    tokio::time::sleep(Duration::from_millis(4_900)).await;
    assert_eq!((rig.gateway.streams().running(), rig.sim.stats().total.in_flight), (1, 1));
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!((rig.gateway.streams().running(), rig.sim.stats().total.in_flight), (0, 0));
    let whole = after(&rig, &id, 0).await;
    assert_eq!(end_of(&whole), End::Error, "{whole}");
    let [entry] = rig.journal().await.try_into().unwrap();
    assert_eq!(entry.outcome, "cut", "{entry:?}");
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_stalls_does_not_keep_its_answer_beyond_its_time() {
    let rig = Rig::instant(ROUTES);
    // Three megabytes; two are kept, and the reader takes nothing.
    let said = "x".repeat(1 << 16);
    let router =
        rig.over(scripted(move |_| (0..48).fold(Reply::stream(), |reply, _| reply.says(&said))));
    let ask = resumable(Dialect::OpenAiChat, "chat/alpha", "hello");
    let asked = Request::post(ask.path()).header("x-resumable", "true");
    let asked = asked.body(Body::from(ask.body().to_string())).unwrap();
    let response = router.clone().oneshot(asked).await.unwrap();
    tokio::time::sleep(Duration::from_secs(19)).await;
    assert_eq!((rig.gateway.streams().running(), rig.gateway.fleet().in_flight()), (1, 1));
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!((rig.gateway.streams().running(), rig.gateway.fleet().in_flight()), (0, 0));
    let whole = text(response).await;
    assert_eq!(end_of(&whole), End::Error, "it is told when it reads on");
    let targets = rig.gateway.fleet().targets(tidegate::clock::Instant::now());
    assert!(targets.iter().all(|target| target.failures == 0), "nobody is to blame");
    let [entry] = rig.journal().await.try_into().unwrap();
    assert_eq!(entry.outcome, "cut", "{entry:?}");
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_read_is_told_clearly() {
    let rig = Rig::instant(ROUTES);
    // Three megabytes in pieces; two are kept.
    let long = "x".repeat(1 << 17);
    let router = rig.over(scripted(move |_| {
        let said = (0..24).fold(Reply::stream(), |reply, _| reply.says(&long));
        said.chunk(CHAT_FINISH).chunk(DONE)
    }));
    for dialect in CALLERS {
        let ask = resumable(dialect, "chat/alpha", "hello");
        let asked = Request::post(ask.path())
            .header("x-resumable", "true")
            .body(Body::from(ask.body().to_string()))
            .unwrap();
        let response = router.clone().oneshot(asked).await.unwrap();
        let path = format!("/v1/streams/{}", id_of(&response));
        drop(response);
        all_ended(&rig).await;
        let bad = |status: u16, words: &'static str, answer: (u16, String)| {
            assert_eq!(answer.0, status, "{answer:?}");
            let error: Value = serde_json::from_str(&answer.1).unwrap();
            assert_eq!(error["type"] == "error", dialect == Dialect::Anthropic, "{error}");
            let message = error["error"]["message"].as_str().unwrap().to_owned();
            assert!(message.contains(words), "{message}");
            message
        };
        for from in [&[][..], &[("last-event-id", "1")], &[("last-event-id", "0")]] {
            let answer = said(send(&rig, "GET", &path, from).await).await;
            bad(410, "no longer kept", answer);
        }
        let message = bad(
            410,
            "no longer",
            said(send(&rig, "GET", &format!("{path}?starting_after=2"), &[]).await).await,
        );
        let oldest: u64 = message.rsplit(' ').next().unwrap().parse().unwrap();
        assert!((5..15).contains(&oldest), "{message}");
        let from = format!("{path}?a=b&starting_after={}", oldest - 1);
        let (status, rest) = said(send(&rig, "GET", &from, &[]).await).await;
        assert_eq!((status, end_of(&rest)), (200, End::Terminal));
        assert!(rest.starts_with(&format!("id: {oldest}\n")));
        let newest = last_id(&rest);
        // Who reconnects by itself repeats the query; the header is newer.
        let header = newest.to_string();
        let answer = send(&rig, "GET", &from, &[("last-event-id", &header)]).await;
        assert_eq!(said(answer).await, (200, String::new()));
        for odd in ["", "x", "-1", "1.5", "18446744073709551616"] {
            let answer = send(&rig, "GET", &path, &[("last-event-id", odd)]).await;
            bad(400, "must be the `id` of an event", said(answer).await);
            let answer = send(&rig, "GET", &format!("{path}?starting_after={odd}"), &[]).await;
            bad(400, "must be the `id` of an event", said(answer).await);
        }
        let ahead = (newest + 1).to_string();
        let answer = send(&rig, "GET", &path, &[("last-event-id", &ahead)]).await;
        bad(400, "has no event", said(answer).await);
        assert!(rig.gateway.streams().bytes() < 5 << 20, "{}", rig.gateway.streams().bytes());
    }
}

#[tokio::test(start_paused = true)]
async fn unknown_streams_and_odd_requests_are_refused_in_the_callers_dialect() {
    let rig = Rig::instant(ROUTES);
    for path in ["/v1/streams/req_0", "/v1/streams/%ff", "/v1/streams/", "/v1/streams/a/b"] {
        for method in ["GET", "DELETE"] {
            let openai = said(send(&rig, method, path, &[]).await).await;
            assert_eq!(openai.0, 404, "{openai:?}");
            assert!(openai.1.contains("unknown_url"), "{openai:?}");
            let version = [("anthropic-version", "2023-06-01")];
            let anthropic = said(send(&rig, method, path, &version).await).await;
            assert_eq!(anthropic.0, 404, "{anthropic:?}");
            assert!(anthropic.1.contains("not_found_error"), "{anthropic:?}");
        }
    }
    assert_eq!(send(&rig, "POST", "/v1/streams/req_0", &[]).await.status(), 405);
    for dialect in CALLERS {
        let got = rig.ask(&resumable(dialect, "chat/alpha", "hi").whole()).await;
        assert_eq!(got.status, 400, "{got:?}");
        assert!(got.body.contains("`stream: true`"), "{got:?}");
    }
    assert_eq!(rig.gateway.fleet().in_flight(), 0);
    // A refusal before the first token is the same as ever.
    let got = rig.ask(&resumable(Dialect::OpenAiChat, "chat/alpha", "[[sim:status=400]]")).await;
    assert_eq!((got.status.as_u16(), rig.gateway.streams().len()), (400, 0));
}

#[tokio::test]
async fn the_stream_of_another_caller_is_as_unknown_as_none() {
    let rig = Rig::instant(ROUTES);
    let callers = &rig.gateway.callers;
    callers.load().await.unwrap();
    let mut keys = Vec::new();
    for name in ["mine", "theirs"] {
        let (_, key) = callers.create(name, Priority::default(), 0).await.unwrap();
        keys.push(format!("Bearer {}", key.reveal()));
    }
    let ask = resumable(Dialect::OpenAiChat, "chat/alpha", "hi").with("authorization", &keys[0]);
    let response = rig.open(&ask).await;
    let path = format!("/v1/streams/{}", id_of(&response));
    let whole = text(response).await;
    let mine = [("authorization", keys[0].as_str())];
    let theirs = [("authorization", keys[1].as_str())];
    for headers in [&theirs[..], &[]] {
        for method in ["GET", "DELETE"] {
            let unknown = path.replace("req_", "req-");
            let (status, other) = said(send(&rig, method, &path, headers).await).await;
            let (never_status, never) = said(send(&rig, method, &unknown, headers).await).await;
            assert_eq!((status, never_status), (404, 404), "{other}");
            assert_eq!(other.replace("req_", "req-"), never);
        }
    }
    assert_eq!(said(send(&rig, "GET", &path, &mine).await).await, (200, whole));
}

#[tokio::test(start_paused = true)]
async fn where_memory_is_short_a_stream_is_an_ordinary_one_and_says_so() {
    let rig = Rig::instant(ROUTES);
    let long = "x".repeat(1 << 19);
    let router = rig.over(scripted(move |_| {
        let said = (0..4).fold(Reply::stream(), |reply, _| reply.says(&long));
        said.chunk(CHAT_FINISH).chunk(DONE)
    }));
    let ask = resumable(Dialect::OpenAiChat, "chat/alpha", SLOW);
    let mut refused = 0;
    for _ in 0..40 {
        let asked = Request::post(ask.path())
            .header("x-resumable", "true")
            .body(Body::from(ask.body().to_string()))
            .unwrap();
        let response = router.clone().oneshot(asked).await.unwrap();
        assert_eq!(response.status(), 200);
        if response.headers().contains_key("x-tidegate-stream-id") {
            assert!(!response.headers().contains_key("x-tidegate-resumable"));
        } else {
            assert_eq!(response.headers()["x-tidegate-resumable"], "false");
            refused += 1;
        }
        assert_eq!(end_of(&text(response).await), End::Terminal);
    }
    assert!((5..20).contains(&refused), "{refused}");
    let bytes = rig.gateway.streams().bytes();
    assert!(bytes < 64 << 20, "{bytes}");
    // Such a stream ends with its caller.
    let mut body = rig.open(&ask).await.into_body();
    body.frame().await.unwrap().unwrap();
    assert_eq!(rig.sim.stats().total.in_flight, 1);
    drop(body);
    assert_eq!(rig.sim.stats().total.in_flight, 0);
    tokio::time::sleep(Duration::from_secs(301)).await;
    let response = rig.open(&ask).await;
    id_of(&response);
    drop(response);
    all_ended(&rig).await;
}

/// What one caller of many does.
async fn come_and_go(rig: Arc<Rig>, seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    tokio::time::sleep(Duration::from_millis(seed)).await;
    let fault = ["", "cut_after=3,", "stall_after=2,", "status=500,", "reset_after=1,"]
        [rng.random_range(0..5)];
    let text = format!("[[sim:{fault}tokens={}]]", rng.random_range(1..20));
    let model = UPSTREAMS[rng.random_range(0..UPSTREAMS.len())];
    let ask = resumable(CALLERS[rng.random_range(0..2)], model, &text);
    let mut pause = || Duration::from_millis(rng.random_range(0..400));
    // Some leave before the head.
    let (before, within, away, again) = (pause() * 10, pause(), pause(), pause());
    let Ok(response) = tokio::time::timeout(before, rig.open(&ask)).await else { return };
    if response.status() != 200 {
        return;
    }
    let path = format!("/v1/streams/{}", id_of(&response));
    let whole = tokio::time::timeout(within, self::text(response)).await;
    tokio::time::sleep(away).await;
    if seed.is_multiple_of(5) {
        assert_eq!(send(&rig, "DELETE", &path, &[]).await.status(), 204);
        return;
    }
    let read = async { self::text(send(&rig, "GET", &path, &[]).await).await };
    if seed.is_multiple_of(3) {
        let _left = tokio::time::timeout(again, read).await;
        return;
    }
    let read = read.await;
    assert_ne!(end_of(&read), End::Wrong, "{read}");
    if let Ok(whole) = whole {
        assert_eq!(read, whole);
    }
}

#[tokio::test(start_paused = true)]
async fn a_thousand_that_come_and_go_leave_nothing() {
    let behaviour = Behaviour {
        ttft: Latency { median: Duration::from_millis(150), sigma: 0.5 },
        token_gap: Latency { median: Duration::from_millis(20), sigma: 0.5 },
        ..Behaviour::default()
    };
    let rig = Arc::new(Rig::new(Scenario::uniform(behaviour), ROUTES));
    let tasks_before = Handle::current().metrics().num_alive_tasks();
    let mut running = JoinSet::new();
    for seed in 0..1_000 {
        running.spawn(come_and_go(Arc::clone(&rig), seed));
    }
    while let Some(ended) = running.join_next().await {
        ended.unwrap();
    }
    drop(running);
    let kept = rig.gateway.streams().len();
    assert!((400..1_000).contains(&kept), "{kept}");
    all_ended(&rig).await;
    assert_eq!(Handle::current().metrics().num_alive_tasks(), tasks_before);
    assert_eq!(rig.gateway.fleet().in_flight(), 0);
    assert_eq!(rig.sim.stats().total.in_flight, 0);
    tokio::time::sleep(Duration::from_secs(301)).await;
    assert_eq!(send(&rig, "GET", "/v1/streams/none", &[]).await.status(), 404);
    assert_eq!((rig.gateway.streams().len(), rig.gateway.streams().bytes()), (0, 0));
    let accepted = rig.gateway.journal.health().accepted;
    let rig = Arc::into_inner(rig).expect("nobody else holds the gateway");
    let journal = rig.journal().await;
    assert_eq!(accepted as usize, journal.len());
    let of = |outcome: &str| journal.iter().filter(|entry| entry.outcome == outcome).count();
    for outcome in ["complete", "cut", "failed", "client_gone"] {
        assert!(of(outcome) > 20, "{outcome}: {}", of(outcome));
    }
}
