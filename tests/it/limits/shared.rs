//! Limits that several nodes share over a real Redis server.

#![expect(clippy::disallowed_methods, reason = "load needs tasks of its own")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tidegate::callers::Caller;
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
        let caller = Caller::anonymous();
        let route = self.snapshot.resolve("sim/tide-small").unwrap();
        let ask = Ask {
            caller: &caller,
            route: &route,
            tags: &[],
            input_tokens: 1_000,
            max_output: Some(0),
            choices: 1,
        };
        let reserved = self.limits.reserve(&self.snapshot.limits, &ask).await;
        Ok(reserved.map_err(|full| full.rejection)?.expect("it is limited"))
    }

    /// One request from its beginning to its end.
    async fn request(&self, tally: &Tally) {
        let count = match self.reserve().await {
            Ok(reservation) => {
                reservation.settle_unanswered();
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

/// Lets requests come to all nodes in turn for `seconds`, one every `every`, while `comes` says so of
/// the time since the beginning.
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
        if comes(started.elapsed()) {
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
        let share = tally.admitted() as f64 / 1_100.0;
        assert!((0.95..=1.02).contains(&share), "{count} nodes: {share}");
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
