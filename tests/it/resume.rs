//! Streams that outlive their caller's connection: whoever comes back gets the rest, and nothing
//! else changes.

use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use http::Request;
use http_body_util::BodyExt;
use serde_json::Value;
use tidegate::clock::Instant;
use tidegate::dialect::Dialect;
use tower::ServiceExt;

use crate::rig::{Ask, End, Rig, end_of, events};

mod limits;
mod sockets;

const CALLERS: [Dialect; 2] = [Dialect::OpenAiChat, Dialect::Anthropic];
const UPSTREAMS: [&str; 3] = ["chat/alpha", "claude/alpha", "gem/alpha"];
const ROUTES: &str = r#"
[defaults]
timeouts = { first_token = "3s", between_tokens = "2s", total = "20s" }
"#;

/// Twenty tokens, one every 100 ms.
const SLOW: &str = "[[sim:ttft=100ms,gap=100ms,tokens=20]]";
/// When all of them are there.
const SLOW_TAKES: Duration = Duration::from_secs(3);

fn resumable(dialect: Dialect, model: &str, text: &str) -> Ask {
    Ask::new(dialect, model, text).with("x-resumable", true)
}

fn id_of(response: &Response) -> String {
    response.headers()["x-tidegate-stream-id"].to_str().unwrap().to_owned()
}

fn request(method: &str, path: &str, headers: &[(&str, &str)]) -> Request<Body> {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Body::empty()).unwrap()
}

async fn send(rig: &Rig, method: &str, path: &str, headers: &[(&str, &str)]) -> Response {
    rig.router.clone().oneshot(request(method, path, headers)).await.unwrap()
}

async fn text(response: Response) -> String {
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// What a reply's status and body say.
async fn said(response: Response) -> (u16, String) {
    (response.status().as_u16(), text(response).await)
}

/// What came after an event, to the end.
async fn after(rig: &Rig, id: &str, event: u64) -> String {
    let event = event.to_string();
    let headers = [("last-event-id", event.as_str())];
    let response = send(rig, "GET", &format!("/v1/streams/{id}"), &headers).await;
    assert_eq!(response.status(), 200, "after {event}");
    assert_eq!(response.headers()["content-type"], "text/event-stream; charset=utf-8");
    assert_eq!(id_of(&response), id);
    text(response).await
}

/// Reads until so many events came, and leaves.
async fn read_some(response: Response, count: usize) -> String {
    let mut body = response.into_body();
    let mut got = String::new();
    while got.matches("id: ").count() < count {
        let piece = body.frame().await.unwrap().unwrap().into_data().unwrap();
        got.push_str(std::str::from_utf8(&piece).unwrap());
    }
    got
}

/// The last event of a piece of a stream.
fn last_id(piece: &str) -> u64 {
    let mut ids = piece.lines().filter_map(|line| line.strip_prefix("id: "));
    ids.next_back().unwrap().parse().unwrap()
}

/// What follows an event in a whole stream.
fn rest_of(whole: &str, event: u64) -> String {
    let skipped = usize::try_from(event).unwrap();
    whole.split_inclusive("\n\n").skip(skipped).collect()
}

/// Waits until no answer goes on.
async fn all_ended(rig: &Rig) {
    let started = Instant::now();
    while rig.gateway.streams().running() > 0 {
        assert!(started.elapsed() < Duration::from_secs(60), "an answer goes on");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn coming_back_in_the_middle_gives_exactly_the_missing_events() {
    let rig = Rig::instant(ROUTES);
    for dialect in CALLERS {
        for upstream in UPSTREAMS {
            let what = format!("{dialect} from {upstream}");
            let response = rig.open(&resumable(dialect, upstream, SLOW)).await;
            let id = id_of(&response);
            assert_eq!(id, response.headers()["x-request-id"].to_str().unwrap(), "{what}");
            let start = read_some(response, 5).await;
            // Nobody reads for a while.
            tokio::time::sleep(Duration::from_millis(500)).await;
            let rest = after(&rig, &id, last_id(&start)).await;
            let both = format!("{start}{rest}");
            assert_eq!(end_of(&both), End::Terminal, "{what}: {both}");
            let whole = after(&rig, &id, 0).await;
            assert_eq!(both, whole, "{what}");
            let ids: Vec<_> = whole.lines().filter_map(|line| line.strip_prefix("id: ")).collect();
            let count = events(&whole).len();
            let numbers: Vec<_> = (1..=count).map(|n| n.to_string()).collect();
            assert_eq!(ids, numbers, "{what}");
            for event in 0..=count as u64 {
                assert_eq!(after(&rig, &id, event).await, rest_of(&whole, event), "{what} {event}");
            }
        }
    }
    all_ended(&rig).await;
    let journal = rig.journal().await;
    assert_eq!(journal.len(), CALLERS.len() * UPSTREAMS.len());
    assert!(journal.iter().all(|entry| entry.outcome == "complete"), "{journal:#?}");
}

#[tokio::test(start_paused = true)]
async fn the_events_are_those_of_an_ordinary_stream() {
    let rig = Rig::instant(ROUTES);
    // What the gateway makes up differs from request to request.
    let bare = |body: &str| -> Vec<(String, Value)> {
        let strip = |(name, data): (String, String)| {
            let mut data: Value = serde_json::from_str(&data).unwrap_or(Value::String(data));
            for path in ["/id", "/created", "/message/id"] {
                if let Some(value) = data.pointer_mut(path) {
                    *value = Value::Null;
                }
            }
            (name, data)
        };
        events(body).into_iter().map(strip).collect()
    };
    for dialect in CALLERS {
        for upstream in UPSTREAMS {
            let words = "[[sim:say=one two three]]";
            let plain = rig.ask(&Ask::new(dialect, upstream, words)).await;
            let got = rig.ask(&resumable(dialect, upstream, words)).await;
            assert_eq!(bare(&got.body), bare(&plain.body), "{dialect} from {upstream}");
            assert!(!plain.headers.contains_key("x-tidegate-stream-id"));
            assert!(!plain.body.contains("id: "), "{}", plain.body);
            for name in ["x-tidegate-served-by", "x-tidegate-attempts", "cache-control"] {
                assert_eq!(got.header(name), plain.header(name), "{name}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_whose_caller_never_comes_back_is_complete_once() {
    let rig = Rig::instant(ROUTES);
    for dialect in CALLERS {
        // One leaves at the head, one in the middle.
        drop(rig.open(&resumable(dialect, "chat/alpha", SLOW)).await);
        read_some(rig.open(&resumable(dialect, "claude/alpha", SLOW)).await, 3).await;
    }
    assert_eq!(rig.gateway.streams().running(), 4);
    tokio::time::sleep(SLOW_TAKES).await;
    assert_eq!((rig.gateway.streams().running(), rig.gateway.fleet().in_flight()), (0, 0));
    let stats = rig.sim.stats().total;
    assert_eq!((stats.in_flight, stats.completed, stats.cancelled), (0, 4, 0));
    let journal = rig.journal().await;
    assert_eq!(journal.len(), 4);
    for entry in &journal {
        assert_eq!(
            (entry.outcome.as_str(), entry.usage_estimated),
            ("complete", false),
            "{entry:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn without_the_header_leaving_cancels() {
    let rig = Rig::instant(ROUTES);
    for ask in
        [Ask::chat("chat/alpha", SLOW), Ask::chat("chat/alpha", SLOW).with("x-resumable", false)]
    {
        let response = rig.open(&ask).await;
        assert!(!response.headers().contains_key("x-tidegate-stream-id"));
        let mut body = response.into_body();
        body.frame().await.unwrap().unwrap();
        assert_eq!(rig.sim.stats().total.in_flight, 1);
        drop(body);
        assert_eq!(rig.sim.stats().total.in_flight, 0);
    }
    assert_eq!(rig.gateway.streams().len(), 0);
    let journal = rig.journal().await;
    assert!(journal.iter().all(|entry| entry.outcome == "client_gone"), "{journal:#?}");
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_was_committed_before_its_first_token_goes_on_without_its_caller() {
    let rig = Rig::instant(
        "[routes.early]\ntargets = [{ model = \"chat/alpha\" }, { model = \"claude/beta\", tier = 1 }]\n\
         keep_alive = { every = \"200ms\", before_first_token = true }\n",
    );
    for dialect in CALLERS {
        let ask = "[[sim:on=alpha,ttft=1s,cut_after=0]] [[sim:ttft=1s,say=here it is]]";
        let response = rig.open(&resumable(dialect, "early", ask)).await;
        let id = id_of(&response);
        let mut body = response.into_body();
        for _ in 0..2 {
            let comment = body.frame().await.unwrap().unwrap().into_data().unwrap();
            assert_eq!(comment, ": keep-alive\n\n");
        }
        drop(body);
        let rest = after(&rig, &id, 0).await.replace(": keep-alive\n\n", "");
        assert_eq!(end_of(&rest), End::Terminal, "{rest}");
        assert_eq!(rest, after(&rig, &id, 0).await);
        // Nobody has answered when this one is cancelled.
        let response = rig.open(&resumable(dialect, "early", ask)).await;
        let path = format!("/v1/streams/{}", id_of(&response));
        assert_eq!(send(&rig, "DELETE", &path, &[]).await.status(), 204);
        let told = text(response).await;
        assert_eq!(end_of(&told), End::Error, "{told}");
        assert_eq!(rig.sim.stats().total.in_flight, 0);
    }
    let outcomes: Vec<_> = rig.journal().await.into_iter().map(|entry| entry.outcome).collect();
    assert_eq!(outcomes.iter().filter(|outcome| *outcome == "complete").count(), 2, "{outcomes:?}");
    assert_eq!(outcomes.iter().filter(|outcome| *outcome == "client_gone").count(), 2);
}

#[tokio::test(start_paused = true)]
async fn two_readers_at_once_get_the_same() {
    let rig = Rig::instant(ROUTES);
    let response = rig.open(&resumable(Dialect::OpenAiChat, "chat/alpha", SLOW)).await;
    let id = id_of(&response);
    let (first, second, third) = tokio::join!(text(response), after(&rig, &id, 0), async {
        tokio::time::sleep(Duration::from_millis(700)).await;
        after(&rig, &id, 2).await
    });
    assert_eq!(end_of(&first), End::Terminal);
    assert_eq!(first, second);
    assert_eq!(third, rest_of(&first, 2));
}

#[tokio::test(start_paused = true)]
async fn delete_cancels_upstream_within_a_tenth_of_a_second() {
    let rig = Rig::instant(ROUTES);
    for (before, dialect) in CALLERS.into_iter().enumerate() {
        let response = rig.open(&resumable(dialect, "chat/alpha", SLOW)).await;
        let path = format!("/v1/streams/{}", id_of(&response));
        let reader = send(&rig, "GET", &path, &[]).await;
        read_some(response, 3).await;
        assert_eq!(rig.sim.stats().total.in_flight, 1);
        let started = Instant::now();
        let gone = send(&rig, "DELETE", &path, &[]).await;
        assert_eq!(said(gone).await, (204, String::new()));
        let got = text(reader).await;
        assert!(started.elapsed() < Duration::from_millis(100), "{:?}", started.elapsed());
        // Whoever still reads is told that this is not the whole answer.
        assert_eq!(end_of(&got), End::Error, "{got}");
        assert!(got.contains("cancelled by its caller"), "{got}");
        let stats = rig.sim.stats().total;
        assert_eq!((stats.in_flight, stats.cancelled), (0, 1 + before as u64));
        assert_eq!(rig.gateway.fleet().in_flight(), 0);
        for method in ["GET", "DELETE"] {
            assert_eq!(send(&rig, method, &path, &[]).await.status(), 404);
        }
        assert_eq!((rig.gateway.streams().len(), rig.gateway.streams().bytes()), (0, 0));
    }
    let journal = rig.journal().await;
    assert_eq!(journal.len(), CALLERS.len());
    assert!(journal.iter().all(|entry| entry.outcome == "client_gone"), "{journal:#?}");
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_ended_can_be_deleted_before_its_time() {
    let rig = Rig::instant(ROUTES);
    let response = rig.open(&resumable(Dialect::OpenAiChat, "chat/alpha", "hi")).await;
    let path = format!("/v1/streams/{}", id_of(&response));
    assert_eq!(end_of(&text(response).await), End::Terminal);
    all_ended(&rig).await;
    assert_eq!(send(&rig, "DELETE", &path, &[]).await.status(), 204);
    assert_eq!(send(&rig, "GET", &path, &[]).await.status(), 404);
    let [entry] = rig.journal().await.try_into().unwrap();
    assert_eq!(entry.outcome, "complete", "{entry:?}");
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_broke_breaks_for_those_who_come_back() {
    let rig = Rig::instant(ROUTES);
    for dialect in CALLERS {
        for fault in ["cut_after=4", "stall_after=2", "error_event=3"] {
            let ask = format!("[[sim:{fault},gap=50ms,tokens=10]]");
            let response = rig.open(&resumable(dialect, "chat/alpha", &ask)).await;
            let id = id_of(&response);
            let start = read_some(response, 1).await;
            let both = format!("{start}{}", after(&rig, &id, last_id(&start)).await);
            let events: String = both.replace(": keep-alive\n\n", "");
            assert_eq!(end_of(&events), End::Error, "{dialect} {fault}: {both}");
            assert_eq!(after(&rig, &id, 0).await, events, "{dialect} {fault}");
        }
    }
    let journal = rig.journal().await;
    assert!(journal.iter().all(|entry| entry.outcome == "cut"), "{journal:#?}");
}
