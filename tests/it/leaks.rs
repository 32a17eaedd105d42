//! Ten thousand requests that end badly leave nothing behind.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use http_body_util::BodyExt;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tidegate::api::server::{ConnectionLimits, Server, bind};
use tidegate::clock::Instant;
use tidegate::control::tasks::Tasks;
use tidegate::dialect::Dialect;
use tidegate::sim::{Behaviour, Latency, Scenario};
use tokio::runtime::Handle;
use tokio::task::JoinSet;

use crate::process::Program;
use crate::rig::{Ask, End, Rig, end_of};
use crate::scripted::{Reply, scripted};

const REQUESTS: usize = 10_000;

const ROUTES: &str = r#"
[defaults]
timeouts = { first_token = "3s", between_tokens = "2s", total = "20s" }
[routes.chats]
targets = [{ model = "chat/alpha" }, { model = "chat/beta", tier = 1 }]
[routes.mixed]
targets = [{ model = "claude/alpha" }, { model = "gem/beta", tier = 1 }]
[routes.early]
targets = [{ model = "gem/alpha" }, { model = "chat/beta", tier = 1 }]
keep_alive = { every = "200ms", before_first_token = true }
"#;

const FAULTS: [&str; 12] = [
    "status=500",
    "status=429",
    "status=400",
    "connect_refused",
    "stall_before_head",
    "stall_after",
    "cut_after",
    "cut_in_frame",
    "reset_after",
    "malformed_frame",
    "error_event",
    "no_terminal",
];

/// When the caller leaves.
#[derive(Debug, Clone, Copy)]
enum Leave {
    Never,
    /// After so much time.
    After(Duration),
    /// After the request was polled so often, wherever that is.
    Polls(usize),
}

/// What became of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Left,
    /// An error instead of an answer.
    Refused,
    Whole,
    Streamed(End),
}

fn draw(rng: &mut StdRng) -> (Ask, Leave) {
    const MODELS: [&str; 6] =
        ["chats", "mixed", "early", "chat/alpha", "claude/alpha", "gem/alpha"];
    let dialect = if rng.random() { Dialect::OpenAiChat } else { Dialect::Anthropic };
    let fault = match rng.random_range(0..2 * FAULTS.len()) {
        index if index < FAULTS.len() => {
            let (fault, at) = (FAULTS[index], rng.random_range(0..10));
            let count =
                if fault.ends_with("after") || fault.contains("_event") || fault.ends_with("frame")
                {
                    format!("={at}")
                } else {
                    String::new()
                };
            format!("{fault}{count},")
        }
        _ => String::new(),
    };
    let on = if rng.random() { "on=alpha," } else { "" };
    let text = format!("[[sim:{on}{fault}tokens={}]]", rng.random_range(1..10));
    let model = MODELS[rng.random_range(0..MODELS.len())];
    let ask = Ask { stream: rng.random_bool(0.8), ..Ask::new(dialect, model, &text) };
    let leave = match rng.random_range(0..4) {
        0 => Leave::Polls(rng.random_range(1..30)),
        1 | 2 => Leave::After(Duration::from_millis(rng.random_range(0..600))),
        _ => Leave::Never,
    };
    (ask, leave)
}

/// Runs `future` until it is ready or has been polled so often.
async fn at_most<T>(polls: usize, future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    let mut left = polls;
    std::future::poll_fn(|cx| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        if left == 0 {
            // Nobody else would wake a future that is about to be let go of.
            cx.waker().wake_by_ref();
        }
        future.as_mut().poll(cx).map(Some)
    })
    .await
}

async fn request(rig: Arc<Rig>, ask: Ask, leave: Leave, after: Duration) -> Fate {
    tokio::time::sleep(after).await;
    let asking = async {
        let response = rig.open(&ask).await;
        if !response.status().is_success() {
            return Fate::Refused;
        }
        let streams = response.headers()["content-type"] != "application/json";
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let body = String::from_utf8(body.to_vec()).unwrap();
        if streams { Fate::Streamed(end_of(&body)) } else { Fate::Whole }
    };
    match leave {
        Leave::Never => asking.await,
        Leave::After(time) => tokio::time::timeout(time, asking).await.unwrap_or(Fate::Left),
        Leave::Polls(polls) => at_most(polls, asking).await.unwrap_or(Fate::Left),
    }
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_bad_endings_leak_nothing() {
    let behaviour = Behaviour {
        ttft: Latency { median: Duration::from_millis(150), sigma: 0.5 },
        token_gap: Latency { median: Duration::from_millis(20), sigma: 0.5 },
        ..Behaviour::default()
    };
    let rig = Arc::new(Rig::new(Scenario::uniform(behaviour), ROUTES));
    let tasks_before = Handle::current().metrics().num_alive_tasks();
    let mut rng = StdRng::seed_from_u64(20_261_121);
    let mut running = JoinSet::new();
    let mut fates = Vec::with_capacity(REQUESTS);
    for n in 0..REQUESTS {
        let (ask, leave) = draw(&mut rng);
        // Some hundred at a time.
        let after = Duration::from_millis(n as u64);
        running.spawn(request(Arc::clone(&rig), ask, leave, after));
    }
    while let Some(fate) = running.join_next().await {
        fates.push(fate.unwrap());
    }
    let count = |wanted: Fate| fates.iter().filter(|fate| **fate == wanted).count();
    let wrong = fates.iter().filter(|fate| matches!(fate, Fate::Streamed(End::Wrong))).count();
    assert_eq!(wrong, 0, "streams ended in silence or twice");
    for fate in [
        Fate::Left,
        Fate::Refused,
        Fate::Whole,
        Fate::Streamed(End::Error),
        Fate::Streamed(End::Terminal),
    ] {
        assert!(count(fate) > REQUESTS / 100, "{fate:?} was hardly tried: {}", count(fate));
    }
    drop(running);
    assert_eq!(Handle::current().metrics().num_alive_tasks(), tasks_before);
    assert_eq!(rig.gateway.fleet().in_flight(), 0);
    assert_eq!(rig.sim.stats().total.in_flight, 0);
    let accepted = rig.gateway.journal.health().accepted;
    let rig = Arc::into_inner(rig).expect("nobody else holds the gateway");
    let journal = rig.journal().await;
    // A caller who leaves before the first poll was never admitted.
    assert_eq!(accepted as usize, journal.len());
    let of = |outcome: &str| journal.iter().filter(|entry| entry.outcome == outcome).count();
    // A stream that was committed early and never began has failed, not been cut; who leaves with
    // the last bytes on the way is taken to have them.
    let errors = count(Fate::Streamed(End::Error));
    assert!(of("cut") + of("failed") >= errors, "{} errors told of {errors}", of("cut"));
    assert!(of("cut") <= errors + count(Fate::Left));
    let answered = count(Fate::Whole) + count(Fate::Streamed(End::Terminal));
    assert!(of("complete") >= answered, "{} of {answered}", of("complete"));
    for entry in journal.iter().filter(|entry| entry.outcome == "cut") {
        assert!(entry.usage_estimated && entry.usage.input > 0, "{entry:?}");
    }
}

/// The simulated providers behind real sockets.
fn gate_over(sim: &Program) -> Program {
    Program::serve(&format!(
        r#"
[server]
worker_threads = 2
[defaults]
timeouts = {{ first_token = "2s", between_tokens = "1s", total = "5s" }}
[providers.chat]
dialect = "openai-chat"
base_url = "http://{0}/v1"
credentials = [{{ none = true }}]
models = [{{ id = "alpha" }}]
[providers.claude]
dialect = "anthropic"
base_url = "http://{0}/v1"
credentials = [{{ none = true }}]
models = [{{ id = "opal" }}]
[providers.gem]
dialect = "gemini"
base_url = "http://{0}/v1beta"
credentials = [{{ none = true }}]
models = [{{ id = "ruby" }}]
"#,
        sim.address
    ))
}

const QUICK: &str = "[models.\"*\"]\nttft = \"30ms\"\ntoken_gap = \"5ms\"\n";

#[tokio::test]
async fn hundreds_of_bad_endings_on_real_sockets_leave_no_connection() {
    let sim = Program::sim(QUICK);
    let gate = gate_over(&sim);
    let mut rng = StdRng::seed_from_u64(1);
    let mut running = JoinSet::new();
    for n in 0..400 {
        let (mut ask, leave) = draw(&mut rng);
        ask.model = ["chat/alpha", "claude/opal", "gem/ruby"][n % 3].to_owned();
        ask.text = ask.text.replace("on=alpha,", "");
        let leave = match leave {
            Leave::Polls(polls) => Leave::After(Duration::from_millis(polls as u64)),
            Leave::Never | Leave::After(_) => leave,
        };
        let address = gate.address;
        running.spawn(async move {
            tokio::time::sleep(Duration::from_millis(5 * n as u64)).await;
            let asking = async {
                let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
                let body = ask.body().to_string();
                let request = crate::process::post(ask.path(), body.as_bytes());
                tokio::io::AsyncWriteExt::write_all(&mut stream, &request).await.unwrap();
                let answer = crate::process::read_answer(&mut stream).await;
                if answer.status != 200 {
                    assert_ne!(answer.status, 0, "closed without a word: {ask:?}");
                    return Fate::Refused;
                }
                assert!(answer.is_whole, "cut without a word: {answer:?} {ask:?}");
                let streams = answer.head.contains("text/event-stream");
                if streams { Fate::Streamed(end_of(&answer.body)) } else { Fate::Whole }
            };
            match leave {
                Leave::After(time) => {
                    tokio::time::timeout(time, asking).await.unwrap_or(Fate::Left)
                }
                Leave::Never | Leave::Polls(_) => asking.await,
            }
        });
    }
    let fates = running.join_all().await;
    for fate in [Fate::Left, Fate::Refused, Fate::Whole, Fate::Streamed(End::Error)] {
        assert!(fates.contains(&fate), "{fate:?} was not tried");
    }
    assert!(!fates.contains(&Fate::Streamed(End::Wrong)), "a stream ended in silence or twice");
    sim.until("/sim/stats", |stats| stats["in_flight"] == 0).await;
    let health = gate.until("/health", |health| health["in_flight"] == 0).await;
    assert_eq!(gate.metric("tidegate_in_flight").await, 0.0);
    let started = Instant::now();
    // The one that asks is a connection, too.
    while gate.metric("tidegate_connections").await > 1.0 {
        assert!(started.elapsed() < Duration::from_secs(5), "connections stay open");
    }
    let accepted = &health["journal"]["accepted"];
    gate.until("/health", |health| health["journal"]["written"] == *accepted).await;
}

#[tokio::test]
async fn a_caller_who_leaves_is_gone_upstream_within_a_tenth_of_a_second() {
    let sim = Program::sim(QUICK);
    let gate = gate_over(&sim);
    let cancelled = async || sim.get_json("/sim/stats").await["cancelled"].as_u64().unwrap();
    for model in ["chat/alpha", "claude/opal"] {
        for text in ["[[sim:stall_before_head]]", "[[sim:stall_after=1]]"] {
            for stream in [true, false] {
                let mut best = Duration::MAX;
                // The machine may be busy, the gateway is not: the best of several counts.
                for _ in 0..5 {
                    let before = cancelled().await;
                    let in_flight =
                        |wanted: u64| move |stats: &serde_json::Value| stats["in_flight"] == wanted;
                    let mut caller = gate.connect().await;
                    let ask = Ask { stream, ..Ask::chat(model, text) };
                    let body = ask.body().to_string();
                    let request = crate::process::post(ask.path(), body.as_bytes());
                    tokio::io::AsyncWriteExt::write_all(&mut caller, &request).await.unwrap();
                    sim.until("/sim/stats", in_flight(1)).await;
                    drop(caller);
                    let left = Instant::now();
                    while cancelled().await == before {
                        assert!(left.elapsed() < Duration::from_secs(2), "{model} {text} goes on");
                    }
                    best = best.min(left.elapsed());
                    if best < Duration::from_millis(100) {
                        break;
                    }
                }
                assert!(best < Duration::from_millis(100), "{model} {text}: {best:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_caller_who_stops_reading_does_not_hold_its_answer_for_ever() {
    let (outcome, _) = stalled(Duration::from_millis(300), Ask::chat("chat/alpha", "hello")).await;
    assert_eq!(outcome, "client_gone");
}

#[tokio::test]
async fn the_deadline_of_a_request_ends_it_though_nobody_reads() {
    let ask = Ask::chat("chat/alpha", "hello").with("x-tidegate-timeout-ms", 500);
    let (outcome, took) = stalled(Duration::from_secs(60), ask).await;
    assert_eq!(outcome, "cut");
    let in_time = Duration::from_millis(500)..Duration::from_secs(5);
    assert!(in_time.contains(&took), "{took:?}");
}

/// How the request of a caller ends who never reads, on a real socket, and after how long.
async fn stalled(unread_for: Duration, ask: Ask) -> (String, Duration) {
    let rig = Rig::instant("");
    // Far more than the system keeps for a socket.
    let text = "x".repeat(1 << 16);
    let router =
        rig.over(scripted(move |_| (0..1_000).fold(Reply::stream(), |reply, _| reply.says(&text))));
    let listener = bind("127.0.0.1:0".parse().unwrap(), false).unwrap();
    let address = listener.local_addr().unwrap();
    let server = Server {
        listener: tokio::net::TcpListener::from_std(listener).unwrap(),
        router,
        limits: ConnectionLimits {
            head_bytes: 65_536,
            head_within: Duration::from_secs(5),
            idle_for: Duration::from_secs(30),
            unread_for,
        },
        metrics: Arc::clone(&rig.gateway.metrics),
    };
    let (_close, closing) = tokio::sync::watch::channel(false);
    let mut serving = JoinSet::new();
    serving.spawn(async move { server.run(&Tasks::new(), closing.clone(), &closing).await });
    let mut caller = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = crate::process::post(ask.path(), ask.body().to_string().as_bytes());
    let mut request = String::from_utf8(request).unwrap();
    for (name, value) in &ask.headers {
        request = request.replacen("\r\n\r\n", &format!("\r\n{name}: {value}\r\n\r\n"), 1);
    }
    let started = Instant::now();
    tokio::io::AsyncWriteExt::write_all(&mut caller, request.as_bytes()).await.unwrap();
    let left = async {
        while rig.gateway.journal.health().queued == 0
            && rig.gateway.fleet().targets(Instant::now()).is_empty()
            || rig.gateway.fleet().in_flight() > 0
        {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(crate::process::PATIENCE, left).await.expect("the answer is let go of");
    let took = started.elapsed();
    let targets = rig.gateway.fleet().targets(Instant::now());
    assert!(targets.iter().all(|target| target.in_flight == 0 && target.failures == 0));
    drop(caller);
    let [entry] = rig.journal_on_a_running_clock().await.try_into().unwrap();
    (entry.outcome, took)
}
