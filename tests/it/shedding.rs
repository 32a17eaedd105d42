//! Too many requests: who is served, who waits, and who is turned away, unread where that can be.

#![expect(clippy::disallowed_methods, reason = "requests that wait need tasks of their own")]

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use http::Request;
use http_body::Frame;
use tidegate::clock::Instant;
use tidegate::dialect::Dialect;
use tidegate::sim::Scenario;
use tokio::task::JoinHandle;
use tower::ServiceExt;

use crate::rig::{Ask, End, Got, Rig, read};
use crate::scripted::{CHAT_FINISH, DONE, Reply, scripted};

const MS: Duration = Duration::from_millis(1);

const ROUTES: &str = r#"
[routes.quick]
targets = [{ model = "chat/alpha" }]
[routes.slow]
targets = [{ model = "chat/beta" }]
[routes.pair]
targets = [{ model = "chat/beta" }, { model = "chat/alpha", tier = 1 }]
"#;

/// `alpha` takes 100 ms and `beta` a second.
fn router(rig: &Rig) -> Router {
    rig.over(scripted(|request| {
        let is_slow = request.body.windows(6).any(|bytes| bytes == b"\"beta\"");
        let waits = if is_slow { 1_000 * MS } else { 100 * MS };
        Reply::stream().waits(waits).says("hello").chunk(CHAT_FINISH).chunk(DONE)
    }))
}

fn spawn(router: &Router, ask: Ask) -> JoinHandle<Got> {
    let router = router.clone();
    tokio::spawn(async move { read(&router, &ask).await })
}

fn chat(model: &str, priority: u8) -> Ask {
    Ask::chat(model, "hello").with("x-tidegate-priority", priority)
}

async fn settle() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

/// A body that says whether anybody looked at it.
struct Watched(Arc<AtomicUsize>);

impl http_body::Body for Watched {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Poll::Ready(None)
    }
}

/// The status of a request with these headers, and whether its body was looked at.
async fn unread(router: &Router, priority: u8) -> (u16, bool) {
    let looks = Arc::new(AtomicUsize::new(0));
    let request =
        Request::post("/v1/chat/completions").header("x-tidegate-priority", u16::from(priority));
    let request = request.body(Body::new(Watched(Arc::clone(&looks)))).unwrap();
    let reply = router.clone().oneshot(request).await.unwrap();
    (reply.status().as_u16(), looks.load(Ordering::SeqCst) > 0)
}

#[tokio::test(start_paused = true)]
async fn beyond_what_the_process_takes_requests_wait_and_are_then_turned_away() {
    let rig =
        Rig::instant(&format!("{ROUTES}\n[admission]\nmax_in_flight = 1\nmax_wait = \"300ms\""));
    let router = router(&rig);
    let first = spawn(&router, chat("slow", 2));
    settle().await;
    for dialect in [Dialect::OpenAiChat, Dialect::Anthropic] {
        let got = read(&router, &Ask::new(dialect, "quick", "hello")).await;
        assert_eq!(got.status, 503, "{got:?}");
        assert!((300 * MS..310 * MS).contains(&got.head_after), "{got:?}");
        assert!(got.header("retry-after").parse::<u64>().unwrap() >= 1, "{got:?}");
        assert_eq!(got.header("x-should-retry"), "", "clients may try again: {got:?}");
        match dialect {
            Dialect::Anthropic => assert_eq!(got.json()["type"], "error"),
            Dialect::OpenAiChat | Dialect::Gemini => {
                assert_eq!(got.json()["error"]["code"], "overloaded");
            }
        }
    }
    // 400 ms are left, and this one waits 100 ms of them in vain: its own time is over.
    let got = read(&router, &chat("quick", 2).with("x-tidegate-timeout-ms", 100)).await;
    assert_eq!(
        (got.status.as_u16(), got.json()["error"]["code"].as_str()),
        (504, Some("deadline_passed"))
    );
    // By now the slot comes free while the next one waits.
    let got = read(&router, &chat("quick", 2)).await;
    assert_eq!(got.status, 503, "not yet: {got:?}");
    let got = read(&router, &chat("quick", 2)).await;
    assert_eq!((got.status.as_u16(), got.end()), (200, End::Terminal), "{got:?}");
    assert_eq!(first.await.unwrap().end(), End::Terminal);
    assert_eq!(rig.gateway.admitted(), (0, 0));
    let metrics = rig.gateway.render_metrics();
    assert!(
        metrics.contains("tidegate_sheds_total{priority=\"2\",where=\"process\"} 3"),
        "{metrics}"
    );
    let outcomes: Vec<_> = rig.journal().await.into_iter().map(|entry| entry.outcome).collect();
    assert_eq!(outcomes.iter().filter(|outcome| outcome.as_str() == "rejected").count(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_body_is_not_read_before_its_request_is_admitted() {
    let rig = Rig::instant(&format!("{ROUTES}\n[admission]\nmax_in_flight = 1\nmax_wait = \"0s\""));
    let router = router(&rig);
    assert_eq!(unread(&router, 3).await, (400, true), "it is empty");
    let first = spawn(&router, chat("slow", 2));
    settle().await;
    assert_eq!(unread(&router, 3).await, (503, false));
    first.abort();
    settle().await;
    assert_eq!(unread(&router, 3).await, (400, true), "the slot is free again");
}

#[tokio::test(start_paused = true)]
async fn the_slots_of_a_target_are_exact_whoever_leaves() {
    const LIMIT: usize = 20;
    let rig = Rig::instant(ROUTES);
    let router = router(&rig);
    read(&router, &chat("quick", 2)).await;
    let live = rig.gateway.fleet().target("chat/alpha").unwrap();
    live.gate().fix_limit(LIMIT as u32);
    let (mut tasks, mut most) = (Vec::new(), 0);
    for n in 0..1_000_u64 {
        let task = spawn(&router, chat("quick", 1 + (n % 4) as u8));
        if n % 10 == 0 {
            tokio::time::sleep(5 * MS).await;
            most = most.max(live.in_flight() as usize);
        }
        if n % 3 == 0 {
            task.abort();
        }
        tasks.push(task);
    }
    let (mut served, mut refused) = (0, 0);
    for task in tasks {
        most = most.max(live.in_flight() as usize);
        match task.await {
            Ok(got) if got.status == 200 => served += 1,
            Ok(got) if got.status == 503 => refused += 1,
            Ok(got) => panic!("{got:?}"),
            Err(_aborted) => {}
        }
    }
    println!("{served} served, {refused} refused, {most} at once at most");
    assert!(most == LIMIT && served >= 150 && refused > 0, "{most} {served} {refused}");
    settle().await;
    assert_eq!((live.gate().in_use(), live.gate().queued(), live.in_flight()), (0, 0, 0));
    assert_eq!(rig.gateway.fleet().in_flight(), 0);
    assert_eq!(rig.gateway.admitted(), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_full_target_delays_nobody_who_can_be_served_elsewhere() {
    let rig = Rig::instant(ROUTES);
    let router = router(&rig);
    read(&router, &chat("slow", 2)).await;
    rig.gateway.fleet().target("chat/beta").unwrap().gate().fix_limit(1);
    let many: Vec<_> = (0..50).map(|_| spawn(&router, chat("slow", 2))).collect();
    settle().await;
    for model in ["quick", "pair"] {
        let started = Instant::now();
        let got = read(&router, &chat(model, 4)).await;
        assert_eq!((got.status.as_u16(), got.header("x-tidegate-served-by")), (200, "chat/alpha"));
        assert_eq!(started.elapsed(), 100 * MS, "{model}");
    }
    let mut served = 0;
    for one in many {
        served += usize::from(one.await.unwrap().status == 200);
    }
    assert!(
        (2..=3).contains(&served),
        "one a second, and nobody waits for more than two: {served}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_caller_is_turned_away_unread_only_where_every_target_is_overloaded() {
    // Of other providers somebody would always be idle.
    let provider = "[providers.chat]\ndialect = \"openai-chat\"\nbase_url = \"sim://chat/v1\"\n\
                    credentials = [{ none = true }]\nmodels = [{ id = \"alpha\" }, { id = \"beta\" }]";
    let config = format!("[auth]\nmode = \"open\"\n{provider}\n{ROUTES}");
    let rig = Rig::of(Scenario::instant(), &config);
    let router = router(&rig);
    let mut many = Vec::new();
    let mut overload = async |model: &str, target: &str| {
        read(&router, &chat(model, 2)).await;
        let live = rig.gateway.fleet().target(target).unwrap();
        live.gate().fix_limit(1);
        // As many as one caller may have in the queue.
        many.extend((0..600).map(|_| spawn(&router, chat(model, 4))));
        settle().await;
        assert!(live.gate().queued() > 400, "{}", live.gate().queued());
        live
    };
    let beta = overload("slow", "chat/beta").await;
    assert_eq!(unread(&router, 4).await, (400, true), "it may be for a target nobody has asked");
    assert_eq!(read(&router, &chat("quick", 4)).await.status, 200, "and this one is");
    assert_eq!(unread(&router, 4).await, (400, true), "it may be for the idle one");
    let alpha = overload("quick", "chat/alpha").await;
    assert_eq!(unread(&router, 4).await, (503, false));
    assert_eq!(unread(&router, 3).await, (400, true), "there is room for what matters more");
    for one in many {
        one.abort();
    }
    settle().await;
    for live in [alpha, beta] {
        assert_eq!((live.gate().in_use(), live.gate().queued()), (0, 0));
    }
}

/// The whole of it: routing, key, account, journal entry, reply. Not optimised, so an upper bound.
#[tokio::test]
async fn turning_away_costs_next_to_nothing() {
    let rig = Rig::instant(&format!("{ROUTES}\n[admission]\nmax_in_flight = 1\nmax_wait = \"0s\""));
    let router = router(&rig);
    let first = spawn(&router, chat("slow", 2));
    while rig.gateway.admitted().0 == 0 {
        settle().await;
    }
    const ROUNDS: u32 = 500;
    let mut best = Duration::MAX;
    for _ in 0..5 {
        let started = Instant::now();
        for _ in 0..ROUNDS / 5 {
            assert_eq!(unread(&router, 3).await, (503, false));
        }
        best = best.min(started.elapsed() / (ROUNDS / 5));
    }
    println!("{best:?} a rejection, not optimised");
    assert!(best < 2 * MS, "{best:?}");
    first.abort();
}
