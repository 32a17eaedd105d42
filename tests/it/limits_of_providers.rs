//! Rate limits, credentials and load: what providers refuse is learnt, and what they would refuse
//! is not sent.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tidegate::clock::Instant;
use tidegate::fleet::TargetView;
use tidegate::sim::{Behaviour, Latency, Limits, Scenario};
use tidegate::upstream::UpstreamRequest;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::rig::{Ask, Rig, read};
use crate::scripted::{CHAT_FINISH, DONE, Reply, scripted};

const ROUTES: &str = r#"
[providers.pool]
dialect = "openai-chat"
base_url = "sim://pool/v1"
credentials = [{ env = "KEY_ONE" }, { env = "KEY_TWO" }]
models = [{ id = "alpha" }, { id = "beta" }]
[providers.lone]
dialect = "openai-chat"
base_url = "sim://lone/v1"
credentials = [{ env = "KEY_ONE" }]
models = [{ id = "alpha" }, { id = "beta" }]
[routes.busy]
targets = [{ model = "claude/alpha" }]
"#;

const fn secs(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn says() -> Reply {
    Reply::stream().says("well").chunk(CHAT_FINISH).chunk(DONE)
}

fn key(request: &UpstreamRequest) -> &str {
    let header = request.headers.get("authorization").unwrap();
    header.to_str().unwrap().strip_prefix("Bearer ").unwrap()
}

fn view(rig: &Rig, id: &str) -> TargetView {
    let targets = rig.gateway.fleet().targets(Instant::now());
    targets.into_iter().find(|target| target.id.as_str() == id).unwrap()
}

fn metric(rig: &Rig, line: &str) -> f64 {
    let text = rig.gateway.render_metrics();
    let found = text.lines().find_map(|found| found.strip_prefix(line)?.strip_prefix(' '));
    found.unwrap_or_else(|| panic!("no {line}")).parse().unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_rate_limit_moves_traffic_to_the_other_credential_until_it_is_over() {
    let rig = Rig::instant(ROUTES);
    let (one, limited) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(true)));
    let (ones, is_limited) = (Arc::clone(&one), Arc::clone(&limited));
    let router = rig.over(scripted(move |request| {
        if key(request) == "sk-two" {
            return says();
        }
        ones.fetch_add(1, Ordering::Relaxed);
        match is_limited.load(Ordering::Relaxed) {
            true => Reply::status(429).with("retry-after", "20"),
            false => says(),
        }
    }));
    let ask = Ask::chat("pool/alpha", "hello");
    let began = Instant::now();
    let mut first = None;
    while first.is_none_or(|at: Instant| at.elapsed() < Duration::from_millis(19_900)) {
        assert_eq!(read(&router, &ask).await.status, 200);
        if first.is_none() && one.load(Ordering::Relaxed) > 0 {
            first = Some(Instant::now());
            limited.store(false, Ordering::Relaxed);
        }
        assert!(began.elapsed() < secs(60), "the first credential was never asked");
        sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(one.load(Ordering::Relaxed), 1, "it was left alone for as long as it asked for");
    for _ in 0..100 {
        assert_eq!(read(&router, &ask).await.status, 200);
        sleep(Duration::from_millis(100)).await;
    }
    let back = one.load(Ordering::Relaxed);
    println!("rate limit: {back} of 100 requests after it");
    assert!((20..=80).contains(&back), "{back} of 100 afterwards");
}

#[tokio::test(start_paused = true)]
async fn a_bad_key_is_benched_and_tried_again_by_one_request() {
    let rig = Rig::instant(ROUTES);
    let (one, is_good) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let (ones, good) = (Arc::clone(&one), Arc::clone(&is_good));
    let router = rig.over(scripted(move |request| {
        let is_one = key(request) == "sk-one";
        ones.fetch_add(u64::from(is_one), Ordering::Relaxed);
        match is_one && !good.load(Ordering::Relaxed) {
            true => Reply::status(401),
            false => says(),
        }
    }));
    let parked = r#"tidegate_credential_parked{endpoint="pool"}"#;
    let began = Instant::now();
    while began.elapsed() < secs(290) {
        for model in ["pool/alpha", "pool/beta"] {
            assert_eq!(read(&router, &Ask::chat(model, "hello")).await.status, 200);
        }
        sleep(secs(1)).await;
    }
    assert_eq!(one.load(Ordering::Relaxed), 1, "one answer benches it for all models");
    assert_eq!(metric(&rig, parked), 1.0);
    // The trial fails, and five minutes later the next one is answered.
    while began.elapsed() < secs(500) {
        assert_eq!(read(&router, &Ask::chat("pool/alpha", "hello")).await.status, 200);
        sleep(secs(1)).await;
    }
    assert_eq!(one.load(Ordering::Relaxed), 2, "one trial");
    is_good.store(true, Ordering::Relaxed);
    while began.elapsed() < secs(800) {
        assert_eq!(read(&router, &Ask::chat("pool/alpha", "hello")).await.status, 200);
        sleep(secs(1)).await;
    }
    assert_eq!(metric(&rig, parked), 0.0);
    assert!(one.load(Ordering::Relaxed) > 20, "{one:?}");
}

#[tokio::test(start_paused = true)]
async fn a_parked_key_is_said_at_once_where_there_is_no_other() {
    let rig = Rig::instant(ROUTES);
    let asked = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&asked);
    let router = rig.over(scripted(move |_| {
        count.fetch_add(1, Ordering::Relaxed);
        Reply::status(401)
    }));
    for model in ["lone/alpha", "lone/alpha", "lone/beta"] {
        let got = read(&router, &Ask::chat(model, "hello")).await;
        assert_eq!(got.status, 503, "{got:#?}");
        assert_eq!(got.json()["error"]["code"], "provider_credential");
        assert_eq!(got.header("x-should-retry"), "false");
        assert_eq!(got.header("retry-after"), "");
        let message = got.json()["error"]["message"].to_string();
        assert!(message.contains("credential") && !message.contains("lone"), "{message}");
    }
    assert_eq!(asked.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn a_model_that_is_forbidden_does_not_bench_its_siblings() {
    let rig = Rig::instant(ROUTES);
    let router = rig.over(scripted(|request| {
        let is_alpha = request.body.windows(5).any(|word| word == b"alpha");
        if is_alpha { Reply::status(403) } else { says() }
    }));
    for _ in 0..3 {
        let got = read(&router, &Ask::chat("lone/alpha", "hello")).await;
        assert_eq!(
            (got.status.as_u16(), &got.json()["error"]["code"]),
            (503, &"provider_credential".into())
        );
        assert_eq!(read(&router, &Ask::chat("lone/beta", "hello")).await.status, 200);
    }
    assert_eq!(view(&rig, "lone/alpha").attempts, 1);
}

#[tokio::test(start_paused = true)]
async fn where_nothing_else_is_left_a_pause_the_provider_asked_for_is_kept_and_no_other() {
    let rig = Rig::instant(ROUTES);
    let asked = Arc::new(AtomicU64::new(0));
    for (hint, reaches) in [(Some("31536000"), 1), (None, 5)] {
        sleep(secs(700)).await;
        asked.store(0, Ordering::Relaxed);
        let count = Arc::clone(&asked);
        let router = rig.over(scripted(move |_| {
            count.fetch_add(1, Ordering::Relaxed);
            let reply = Reply::status(429);
            hint.map_or(reply.clone(), |hint| reply.with("retry-after", hint))
        }));
        let ask = Ask::chat("lone/alpha", "hello").with("x-stainless-retry-count", 1);
        for round in 0..5 {
            let got = read(&router, &ask).await;
            assert_eq!(got.status, 429, "{hint:?}: {got:#?}");
            assert_eq!(got.json()["error"]["code"], "rate_limit_exceeded");
            if hint.is_some() && round > 0 {
                assert_eq!(got.header("x-tidegate-attempts"), "0");
                assert_eq!(got.header("retry-after"), "300", "a year is not believed");
                assert!(got.end_after < Duration::from_millis(1), "{got:#?}");
            }
        }
        assert!(asked.load(Ordering::Relaxed) >= reaches, "{hint:?}: {asked:?}");
        assert!(hint.is_none() || asked.load(Ordering::Relaxed) == 1, "{asked:?}");
    }
}

/// Two credentials that allow two requests a second each, and callers who want more.
#[tokio::test(start_paused = true)]
async fn with_limits_known_by_headers_hardly_anything_is_refused_upstream() {
    let behaviour = Behaviour {
        ttft: Latency::constant(Duration::from_millis(200)),
        token_gap: Latency::constant(Duration::ZERO),
        limits: Limits { requests_per_minute: Some(120), tokens_per_minute: None },
        ..Behaviour::default()
    };
    let rig = Rig::new(Scenario::uniform(behaviour), ROUTES);
    let ask = Ask::chat("pool/alpha", "hello");
    let (mut served, mut refused) = (0_u32, 0_u32);
    let began = Instant::now();
    for _ in 0..480 {
        // Three at once, and again a moment after the last is answered.
        let all = tokio::join!(rig.ask(&ask), rig.ask(&ask), rig.ask(&ask));
        for got in [all.0, all.1, all.2] {
            match got.status.as_u16() {
                200 => served += 1,
                429 => refused += 1,
                _ => panic!("{got:#?}"),
            }
        }
        sleep(Duration::from_millis(50)).await;
    }
    let upstream = ["pool/alpha", "pool/alpha#2"].map(|id| view(&rig, id));
    let attempts: u64 = upstream.iter().map(|target| target.attempts).sum();
    let rejected: u64 = upstream.iter().map(|target| target.failures).sum();
    println!(
        "known limits: {served} served, {refused} refused here, {rejected} of {attempts} there"
    );
    assert!(refused > 500, "{refused} of 1,440, though demand is above the limits");
    assert!(rejected * 100 < attempts, "{rejected} of {attempts} refused upstream");
    let allowed = 240.0 + 4.0 * began.elapsed().as_secs_f64();
    println!("known limits: {:.3} of what they allow", f64::from(served) / allowed);
    assert!(f64::from(served) > 0.9 * allowed, "{served} of {allowed}");
}

#[tokio::test(start_paused = true)]
async fn a_target_that_is_overloaded_is_given_about_what_it_takes() {
    let capacity = 20;
    let busy = Behaviour {
        ttft: Latency::constant(Duration::from_millis(300)),
        token_gap: Latency::constant(Duration::from_millis(50)),
        tokens: Some((20, 30)),
        capacity: Some(capacity),
        ..Behaviour::default()
    };
    let rig = Rig::new(Scenario::uniform(busy), ROUTES);
    let until = Instant::now() + secs(120);
    let mut clients = JoinSet::new();
    for number in 0..40 {
        let router = rig.router.clone();
        clients.spawn(async move {
            let ask = Ask::chat("busy", "hello");
            sleep(Duration::from_millis(number * 20)).await;
            while Instant::now() < until {
                if read(&router, &ask).await.status != 200 {
                    sleep(Duration::from_millis(200)).await;
                }
            }
        });
    }
    let mut limits = Vec::new();
    while Instant::now() < until {
        sleep(secs(1)).await;
        let view = view(&rig, "claude/alpha");
        limits.push(view.limit.unwrap_or_default());
        assert!(limits.len() < 60 || view.in_flight <= 25, "{view:?}");
    }
    clients.join_all().await;
    let settled = &limits[60..];
    let (low, high) = (settled.iter().min().unwrap(), settled.iter().max().unwrap());
    println!("overload: capacity {capacity}, limit {low} to {high} after the first minute");
    assert!(*low >= 15 && *high <= 25, "{limits:?}");
    assert_eq!(
        metric(&rig, r#"tidegate_limit{target="claude/alpha"}"#),
        f64::from(limits[limits.len() - 1])
    );
    assert_eq!(rig.gateway.fleet().in_flight(), 0);
}

/// Runs all of them at once.
async fn futures_of(futures: impl Iterator<Item = impl Future<Output = ()>>) {
    let mut all: Vec<_> = futures.map(Box::pin).collect();
    std::future::poll_fn(|cx| {
        all.retain_mut(|future| future.as_mut().poll(cx).is_pending());
        if all.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_healthy_target_has_no_limit_however_much_it_is_given() {
    let rig = Rig::new(Scenario::default(), ROUTES);
    let ask = Ask::chat("lone/alpha", "hello");
    let one = async |_| assert_eq!(rig.ask(&ask).await.status, 200);
    futures_of((0..500).map(one)).await;
    assert_eq!(view(&rig, "lone/alpha").limit, None);
    assert_eq!(metric(&rig, r#"tidegate_limit{target="lone/alpha"}"#), 0.0);
    assert_eq!(metric(&rig, r#"tidegate_headroom{target="lone/alpha"}"#), 1.0);
}

#[tokio::test(start_paused = true)]
async fn what_an_abandoned_request_would_have_used_is_given_back() {
    let behaviour = Behaviour {
        limits: Limits { requests_per_minute: None, tokens_per_minute: Some(10_000) },
        ..Scenario::instant().models[0].1.clone()
    };
    let rig = Rig::new(Scenario::uniform(behaviour), ROUTES);
    assert_eq!(rig.ask(&Ask::chat("lone/alpha", "[[sim:tokens=400]]")).await.status, 200);
    sleep(secs(60)).await;
    let before = view(&rig, "lone/alpha").headroom;
    assert!(before > 0.99, "{before}");
    let router = rig.over(scripted(|_| Reply::stream().stalls()));
    let ask = Ask::chat("lone/alpha", "hello");
    for _ in 0..3 {
        let waiting = futures_of((0..10).map(|_| async { drop(read(&router, &ask).await) }));
        tokio::pin!(waiting);
        assert!(timeout(Duration::from_millis(1), &mut waiting).await.is_err());
        let during = view(&rig, "lone/alpha");
        assert_eq!(during.in_flight, 10);
        assert!(during.headroom < 0.7, "{during:?}");
    }
    let after = view(&rig, "lone/alpha");
    assert_eq!(after.in_flight, 0);
    // The prompts were counted.
    assert!(after.headroom > 0.9, "{after:?}");
}
