//! Limits that several nodes share over a real Redis server.

#![expect(clippy::disallowed_methods, reason = "load needs tasks of its own")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tidegate::callers::Caller;
use tidegate::chat::Usage;
use tidegate::clock::{Instant, SystemWallClock};
use tidegate::cluster::{Cluster, ClusterSettings, ClusterState, RedisUrl};
use tidegate::config::{Environment, Snapshot, Source, load};
use tidegate::limits::{Ask, Limits, Reservation};
use tidegate::rejection::Rejection;
use tidegate::telemetry::Metrics;
use tokio::task::JoinSet;
use tokio::time::interval;

use crate::servers::redis::Redis;

const PATIENCE: Duration = Duration::from_secs(30);

/// A node that has limits and nothing else. Its tasks die with it.
struct Node {
    limits: Arc<Limits>,
    cluster: Cluster,
    snapshot: Arc<Snapshot>,
    _tasks: JoinSet<()>,
}

/// What a load came to.
#[derive(Default)]
struct Tally {
    admitted: AtomicU64,
    refused: AtomicU64,
    failed: AtomicU64,
    /// How many had been admitted, by when.
    course: Mutex<Vec<(Duration, u64)>>,
}

impl Node {
    async fn join(redis: &Redis, limits: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tidegate.toml");
        std::fs::write(&file, format!("[providers.sim]\n{limits}")).unwrap();
        let source = Source { file: Some(file), ..Source::environment(Environment::fixed([])) };
        let snapshot = load(&source, None).unwrap_or_else(|problems| panic!("{problems}"));
        let settings =
            ClusterSettings { url: Some(RedisUrl::new(redis.url())), ..ClusterSettings::default() };
        let (cluster, upkeep) = Cluster::new(&settings, &SystemWallClock).unwrap();
        let metrics = Arc::new(Metrics::new());
        let limits = Arc::new(Limits::new(Arc::new(SystemWallClock), metrics, cluster.clone()));
        let mut tasks = JoinSet::new();
        tasks.spawn(upkeep.run());
        let kept = Arc::clone(&limits);
        tasks.spawn(async move { kept.upkeep().await });
        let node = Self { limits, cluster, snapshot, _tasks: tasks };
        node.until(|node| node.cluster.health().state == ClusterState::Connected).await;
        node
    }

    async fn until(&self, is_so: impl Fn(&Self) -> bool) {
        let started = Instant::now();
        while !is_so(self) {
            assert!(started.elapsed() < PATIENCE, "it does not become so");
            pause(Duration::from_millis(5)).await;
        }
    }

    /// Reserves for a request of a thousand tokens in and none out.
    async fn reserve(&self) -> Result<Reservation, Rejection> {
        self.reserve_within(Duration::from_secs(60)).await
    }

    async fn reserve_within(&self, patience: Duration) -> Result<Reservation, Rejection> {
        let caller = Caller::anonymous();
        let route = self.snapshot.resolve("sim/tide-small").unwrap();
        let ask = Ask {
            caller: &caller,
            route: &route,
            tags: &[],
            input_tokens: 1_000,
            max_output: Some(0),
            choices: 1,
            patience,
        };
        let reserved = self.limits.reserve(&self.snapshot.limits, &ask).await;
        Ok(reserved.map_err(|full| full.rejection)?.expect("it is limited"))
    }

    /// One request from its beginning to its end.
    async fn request(&self, tally: &Tally) {
        let count = match self.reserve().await {
            Ok(reservation) => {
                let route = self.snapshot.resolve("sim/tide-small").unwrap();
                let used = Usage { input: 1_000, ..Usage::default() };
                reservation.settle(&used, &route.tiers[0][0].model);
                &tally.admitted
            }
            Err(Rejection::LimitReached { .. }) => &tally.refused,
            Err(_) => &tally.failed,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }

    fn round_trips(&self) -> u64 {
        self.limits.sharing().round_trips
    }
}

impl Tally {
    fn admitted(&self) -> u64 {
        self.admitted.load(Ordering::Relaxed)
    }

    /// The part of a limit of so many a second that was admitted, when it was highest after `from`.
    fn highest_share(&self, per_second: f64, from: Duration) -> f64 {
        let course = self.course.lock();
        let late = course.iter().filter(|(at, _)| *at >= from);
        let shares = late.map(|(at, admitted)| *admitted as f64 / (per_second * at.as_secs_f64()));
        shares.fold(0.0, f64::max)
    }
}

/// A server that has been there for long, so that all nodes have told what they know.
fn settle(redis: &Redis) {
    let mut set = redis::cmd("SET");
    set.arg("{tidegate}:memory").arg("1").arg("PX").arg(600_000);
    let _: () = set.query(&mut redis.connection()).unwrap();
}

/// What all nodes have had of the only window there is, as the server has it.
fn had(redis: &Redis) -> i64 {
    let mut connection = redis.connection();
    let keys: Vec<String> =
        redis::cmd("KEYS").arg("{tidegate}:used:*").query(&mut connection).unwrap();
    let [key] = keys.as_slice() else { panic!("{keys:?}") };
    redis::cmd("HGET").arg(key).arg("*sum").query(&mut connection).unwrap()
}

/// Lets nodes do what they do without being asked.
async fn pause(time: Duration) {
    tokio::time::sleep(time).await;
}

async fn three(redis: &Redis, limits: &str) -> Vec<Arc<Node>> {
    let mut nodes = Vec::new();
    for _ in 0..3 {
        nodes.push(Arc::new(Node::join(redis, limits).await));
    }
    for node in &nodes {
        node.until(|node| node.cluster.live_nodes() == 3).await;
    }
    nodes
}

/// Lets requests come to all nodes in turn for `seconds`, one every `every`, while `comes` says so
/// of the time since the beginning.
async fn load_of(
    nodes: &[Arc<Node>],
    (seconds, every): (f64, Duration),
    comes: impl Fn(Duration) -> bool,
) -> Arc<Tally> {
    let tally = Arc::new(Tally::default());
    let started = Instant::now();
    let mut ticks = interval(every);
    let mut requests = JoinSet::new();
    let mut turn = 0;
    while started.elapsed() < Duration::from_secs_f64(seconds) {
        ticks.tick().await;
        let since = started.elapsed();
        tally.course.lock().push((since, tally.admitted()));
        if comes(since) {
            turn += 1;
            let (node, tally) = (Arc::clone(&nodes[turn % nodes.len()]), Arc::clone(&tally));
            requests.spawn(async move { node.request(&tally).await });
        }
    }
    while requests.join_next().await.is_some() {}
    tally
}

#[tokio::test]
async fn one_node_and_three_admit_the_same_limit_under_bursts() {
    for count in [1, 3] {
        let Some(redis) = Redis::start() else { return };
        let limits = "[limits.default]\nrequests_per_minute = 6_000\nburst = \"2s\"";
        let mut nodes = three(&redis, limits).await;
        nodes.truncate(count);
        // 2 s of 333 requests a second, 1 s of none, of a limit of 100.
        let tally =
            load_of(&nodes, (11.0, Duration::from_millis(3)), |since| since.as_secs() % 3 != 2);
        let tally = tally.await;
        // After a burst what comes is given out in pieces of up to a second: the count falls behind
        // the limit by a hundred and catches up, again and again, wherever the last second finds
        // it.
        let highest = tally.highest_share(100.0, Duration::from_secs(8));
        let last = tally.admitted() as f64 / 1_100.0;
        assert!(highest >= 0.95 && last <= 1.02, "{count} nodes: {highest}, {last} at last");
        assert_eq!(tally.failed.load(Ordering::Relaxed), 0);
    }
}

#[tokio::test]
async fn a_hundred_requests_a_second_cost_a_round_trip_for_twenty() {
    let Some(redis) = Redis::start() else { return };
    let nodes = three(&redis, "[limits.default]\nrequests_per_minute = 12_000").await;
    let tally = load_of(&nodes, (12.0, Duration::from_millis(10)), |_| true).await;
    let round_trips: u64 = nodes.iter().map(|node| node.round_trips()).sum();
    let admitted = tally.admitted();
    assert_eq!(tally.refused.load(Ordering::Relaxed), 0);
    assert!(admitted >= 1_000, "{admitted}");
    assert!(round_trips * 20 <= admitted, "{round_trips} round trips for {admitted} requests");
}

#[tokio::test]
async fn nodes_go_by_their_parts_while_redis_is_away_and_share_again_soon_after() {
    let Some(mut redis) = Redis::start() else { return };
    let nodes = three(&redis, "[limits.default]\nrequests_per_minute = 12_000").await;
    let is_over = Arc::new(AtomicBool::new(false));
    let (under, over) = (nodes.clone(), Arc::clone(&is_over));
    let load = tokio::spawn(async move {
        load_of(&under, (8.0, Duration::from_millis(10)), |_| !over.load(Ordering::Relaxed)).await
    });
    pause(Duration::from_secs(2)).await;
    redis.kill();
    for node in &nodes {
        node.until(|node| node.limits.sharing().divided_by == Some(3)).await;
        assert_eq!(node.limits.sharing().state, "degraded");
    }
    pause(Duration::from_secs(2)).await;
    redis.restart();
    let back = Instant::now();
    for node in &nodes {
        node.until(|node| node.limits.sharing().state == "shared").await;
    }
    assert!(back.elapsed() < Duration::from_secs(5), "{:?}", back.elapsed());
    let tally = load.await.unwrap();
    // Half of the limit was asked for, so nobody is turned away, whatever becomes of Redis.
    assert_eq!(tally.refused.load(Ordering::Relaxed), 0);
    assert_eq!(tally.failed.load(Ordering::Relaxed), 0);
    assert!(tally.admitted() >= 700, "{}", tally.admitted());
}

#[tokio::test]
async fn without_redis_three_nodes_admit_no_more_than_a_limit_and_a_burst_together() {
    let Some(mut redis) = Redis::start() else { return };
    let limits = "[limits.default]\nrequests_per_minute = 6_000\nburst = \"1s\"";
    let nodes = three(&redis, limits).await;
    redis.kill();
    let tally = load_of(&nodes, (6.0, Duration::from_millis(3)), |_| true).await;
    let share = tally.admitted() as f64 / 600.0;
    assert!((0.9..=1.2).contains(&share), "{share}");
    assert_eq!(tally.failed.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn a_budget_is_spent_once_by_all_nodes_together() {
    let Some(redis) = Redis::start() else { return };
    settle(&redis);
    let nodes = three(&redis, "[limits.default]\ninput_tokens_per_month = 100_000").await;
    let tally = Arc::new(Tally::default());
    let mut requests = JoinSet::new();
    for turn in 0..300 {
        let (node, tally) = (Arc::clone(&nodes[turn % 3]), Arc::clone(&tally));
        requests.spawn(async move {
            match node.reserve().await {
                // It is never settled, so what is reserved stays so.
                Ok(reservation) => {
                    tally.admitted.fetch_add(1, Ordering::Relaxed);
                    std::mem::forget(reservation);
                }
                Err(Rejection::LimitReached { dimension, .. }) => {
                    assert_eq!(dimension, "input_tokens_per_month");
                    tally.refused.fetch_add(1, Ordering::Relaxed);
                }
                Err(other) => panic!("{other}"),
            }
        });
    }
    while let Some(ended) = requests.join_next().await {
        ended.unwrap();
    }
    let admitted = tally.admitted();
    assert!((80..=100).contains(&admitted), "{admitted} requests of a thousand tokens");
}

#[tokio::test]
async fn places_of_all_nodes_are_one_limit_and_those_of_a_dead_node_come_back() {
    let Some(redis) = Redis::start() else { return };
    let mut nodes = three(&redis, "[limits.default]\nconcurrent = 9").await;
    let mut held = Vec::new();
    for turn in 0..30 {
        let node = Arc::clone(&nodes[turn % 3]);
        if let Ok(reservation) = node.reserve().await {
            held.push((turn % 3, reservation));
        }
    }
    assert_eq!(held.len(), 9);
    // A node dies with all it holds.
    for (_, reservation) in held.extract_if(.., |(node, _)| *node == 2) {
        std::mem::forget(reservation);
    }
    let left = held.len();
    let dead = nodes.pop().unwrap();
    drop(Arc::into_inner(dead).expect("nobody else has it"));
    let died = Instant::now();
    while held.len() < 9 {
        assert!(died.elapsed() < PATIENCE, "{left} are held, and no more");
        if let Ok(reservation) = nodes[0].reserve().await {
            held.push((0, reservation));
        }
        pause(Duration::from_millis(50)).await;
    }
    assert!(nodes[1].reserve().await.is_err());
}

/// Asks nodes in turn until so many seconds have passed; how many requests were admitted.
async fn hammer(nodes: &[Arc<Node>], seconds: f64) -> u64 {
    load_of(nodes, (seconds, Duration::from_millis(10)), |_| true).await.admitted()
}

#[tokio::test]
async fn a_budget_is_not_given_twice_by_a_redis_that_comes_back_empty() {
    for is_restarted in [true, false] {
        let Some(mut redis) = Redis::start() else { return };
        settle(&redis);
        let nodes = three(&redis, "[limits.default]\nrequests_per_month = 30").await;
        // They use unlike parts of it, and know of each other's; then they hold nothing.
        let mut admitted = 0;
        for (node, count) in [(0, 12), (1, 6), (0, 1), (1, 1), (2, 1)] {
            for _ in 0..count {
                nodes[node].reserve().await.unwrap().settle_unanswered();
                admitted += 1;
            }
        }
        node_until(|| had(&redis) == 21).await;
        if is_restarted {
            redis.kill();
            redis.restart();
        } else {
            let _: () = redis::cmd("FLUSHALL").query(&mut redis.connection()).unwrap();
        }
        admitted += hammer(&nodes, 12.0).await;
        // A machine under load may lose the server once more, and go by a part for a moment.
        assert!((28..=32).contains(&admitted), "restarted: {is_restarted}: {admitted} of 30");
        node_until(|| had(&redis) == i64::try_from(admitted).unwrap()).await;
    }
}

#[tokio::test]
async fn requests_wait_until_a_redis_that_comes_back_empty_knows_again_what_was_used() {
    let Some(redis) = Redis::start() else { return };
    settle(&redis);
    let nodes = three(&redis, "[limits.default]\nrequests_per_month = 30").await;
    for (node, count) in [(0, 12), (1, 6), (0, 1)] {
        for _ in 0..count {
            nodes[node].reserve().await.unwrap().settle_unanswered();
        }
    }
    node_until(|| had(&redis) == 19).await;
    let _: () = redis::cmd("FLUSHALL").query(&mut redis.connection()).unwrap();
    let began = Instant::now();
    for _ in 0..2 {
        nodes[0].reserve().await.expect("a twentieth goes on").settle_unanswered();
    }
    let impatient = nodes[0].reserve_within(Duration::from_millis(200)).await.map(drop);
    assert!(matches!(impatient, Err(Rejection::LimitReached { .. })), "{impatient:?}");
    assert!(began.elapsed() < Duration::from_millis(1_500), "{:?}", began.elapsed());
    let mut waiting = JoinSet::new();
    for _ in 0..4 {
        let node = Arc::clone(&nodes[0]);
        waiting.spawn(async move { node.reserve().await.map(Reservation::settle_unanswered) });
    }
    while let Some(waited) = waiting.join_next().await {
        waited.unwrap().expect("it waits instead of being refused");
    }
    assert!(began.elapsed() > Duration::from_millis(1_000), "{:?}", began.elapsed());
    let admitted = 19 + 2 + 4 + hammer(&nodes, 8.0).await;
    assert!((28..=30).contains(&admitted), "{admitted} of 30");
}

async fn node_until(is_so: impl Fn() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < PATIENCE, "it does not become so");
        pause(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_node_that_ends_gives_back_what_it_holds() {
    let Some(redis) = Redis::start() else { return };
    settle(&redis);
    let node = Arc::new(Node::join(&redis, "[limits.default]\nrequests_per_month = 1_000").await);
    let admitted = i64::try_from(hammer(&[Arc::clone(&node)], 1.0).await).unwrap();
    assert!(had(&redis) > admitted, "it holds nothing that it could give back");
    let began = Instant::now();
    node.limits.hand_back().await;
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    assert_eq!(had(&redis), admitted);
}

#[tokio::test]
async fn what_was_granted_to_a_caller_that_left_is_used_by_the_next() {
    let Some(redis) = Redis::start() else { return };
    let node = Node::join(&redis, "[limits.default]\nrequests_per_minute = 1").await;
    {
        let mut asking = Box::pin(node.reserve());
        // It asks when it is first looked at, and leaves before there can be an answer.
        let first = std::future::poll_fn(|context| {
            std::task::Poll::Ready(asking.as_mut().poll(context).is_ready())
        });
        assert!(!first.await, "the answer was there at once");
    }
    let began = Instant::now();
    let reserved = loop {
        match node.reserve().await {
            Ok(reserved) => break reserved,
            Err(refused) => {
                assert!(began.elapsed() < Duration::from_secs(5), "it is lost: {refused}");
                pause(Duration::from_millis(20)).await;
            }
        }
    };
    reserved.settle_unanswered();
    assert!(node.reserve().await.is_err(), "it was only one");
}

#[tokio::test]
#[ignore = "six minutes at small limits: run it alone"]
async fn a_minute_of_bursts_at_small_limits_over_a_real_redis() {
    for (limit, per_minute, each) in [
        ("requests_per_minute = 60", 60.0, 1.0),
        ("requests_per_minute = 600", 600.0, 1.0),
        ("input_tokens_per_minute = 60_000", 60_000.0, 1_000.0),
    ] {
        for count in [1, 3] {
            let Some(redis) = Redis::start() else { return };
            let mut nodes = three(&redis, &format!("[limits.default]\n{limit}")).await;
            nodes.truncate(count);
            let every = Duration::from_secs_f64(60.0 / per_minute * each / 5.0);
            // 2 s of five times what is allowed, 1 s of none; a request comes last.
            let tally = load_of(&nodes, (60.0, every), |since| since.as_secs() % 3 != 1).await;
            let share = tally.admitted() as f64 * each / per_minute;
            let trips: u64 = nodes.iter().map(|node| node.round_trips()).sum();
            println!("{limit}, {count} nodes: {share:.3}, {trips} round trips");
            assert!((0.95..=1.02).contains(&share), "{limit}, {count} nodes: {share}");
        }
    }
}
