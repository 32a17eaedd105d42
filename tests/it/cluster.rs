//! State that nodes share, against a real Redis server.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use tidegate::clock::{Instant, SystemWallClock};
use tidegate::cluster::{
    Cluster, ClusterSettings, ClusterState, Draw, Fact, Grant, Heard, RedisUrl, Source,
    Unreachable, Want,
};
use tokio::task::{AbortHandle, JoinSet};

use crate::servers::redis::Redis;
use crate::support::eventually;

mod memory;
mod model;
mod nodes;
mod relay;

/// Longer than anything here takes, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// A node whose upkeep runs; it dies with this value.
struct Member {
    cluster: Cluster,
    upkeep: AbortHandle,
    _tasks: JoinSet<()>,
}

impl Member {
    /// A node that need not have a connection yet.
    fn start(url: &str) -> Self {
        let url = Some(RedisUrl::new(url));
        let settings = ClusterSettings { url, ..ClusterSettings::default() };
        let (cluster, upkeep) = Cluster::new(&settings, &SystemWallClock).unwrap();
        let mut tasks = JoinSet::new();
        let upkeep = tasks.spawn(upkeep.run());
        Self { cluster, upkeep, _tasks: tasks }
    }

    /// A node with its connections.
    async fn join(redis: &Redis) -> Self {
        let member = Self::start(&redis.url());
        member.connected().await;
        member
    }

    async fn connected(&self) {
        eventually(|| self.cluster.health().state == ClusterState::Connected).await;
    }

    async fn one(&self, draw: Draw) -> Result<Grant, Unreachable> {
        Ok(self.cluster.draw(&[draw]).await?[0])
    }
}

fn bucket(key: &str, rate_per_s: i64, burst: i64, want: Want) -> Draw {
    let rate_micro_per_s = rate_per_s * 1_000_000;
    let of = Source::Bucket { rate_micro_per_s, burst, most: burst };
    Draw { key: key.to_owned(), of, want }
}

fn window(key: &str, limit: i64, before: i64, want: Want) -> Draw {
    told(key, limit, (None, 0, before), want)
}

/// A question with what the node says of itself: what it has had, what all had, what was before.
fn told(key: &str, limit: i64, (held, heard, before): (Option<i64>, i64, i64), want: Want) -> Draw {
    let (id, ends_at_ms) = ("2096".to_owned(), 4_000_000_000_000);
    let of = Source::Window { limit, id, ends_at_ms, held, heard, before, is_beside: false };
    Draw { key: key.to_owned(), of, want }
}

/// A server that has been there for long, so that all nodes have told what they know.
fn settle(redis: &Redis) {
    let mut set = redis::cmd("SET");
    set.arg("{tidegate}:memory").arg("1").arg("PX").arg(600_000);
    let _: () = set.query(&mut redis.connection()).unwrap();
}

fn slots(key: &str, limit: i64, lease: Duration, want: Want) -> Draw {
    Draw { key: key.to_owned(), of: Source::Slots { limit, lease, held: 0 }, want }
}

fn take(most: i64) -> Want {
    Want::Take { most, least: 1 }
}

const LOOK: Want = Want::Take { most: 0, least: 0 };
const LONG: Duration = Duration::from_secs(60);

#[tokio::test]
async fn fifty_clients_of_three_nodes_use_a_window_up_exactly() {
    let Some(redis) = Redis::start() else { return };
    settle(&redis);
    let nodes =
        [Member::join(&redis).await, Member::join(&redis).await, Member::join(&redis).await];
    let granted = Arc::new(AtomicI64::new(0));
    let mut clients = JoinSet::new();
    for client in 0..50_usize {
        let (cluster, granted) = (nodes[client % 3].cluster.clone(), Arc::clone(&granted));
        clients.spawn(async move {
            for round in 0..40_i64 {
                let most = 1 + (client as i64 * 7 + round * 13) % 9;
                let ask = window("budget", 5_000, 0, take(most));
                let grant = cluster.draw(&[ask]).await.unwrap()[0];
                assert!((0..=most).contains(&grant.granted), "{grant:?}");
                granted.fetch_add(grant.granted, Ordering::Relaxed);
                if round % 10 == 3 && grant.granted > 1 {
                    let back = window("budget", 5_000, 0, Want::Return(grant.granted - 1));
                    cluster.draw(&[back]).await.unwrap();
                    granted.fetch_sub(grant.granted - 1, Ordering::Relaxed);
                }
            }
        });
    }
    clients.join_all().await;
    let rest = nodes[0].one(window("budget", 5_000, 0, take(5_000))).await.unwrap();
    assert_eq!(granted.load(Ordering::Relaxed) + rest.granted, 5_000);
    assert_eq!(rest.left, 0);
    let refused = nodes[1].one(window("budget", 5_000, 0, take(1))).await.unwrap();
    assert_eq!(refused.granted, 0);
    assert!(refused.next_in > Duration::from_secs(3_600), "{refused:?}");
}

#[tokio::test]
async fn fifty_clients_of_three_nodes_get_what_a_bucket_holds_and_no_more() {
    let Some(redis) = Redis::start() else { return };
    let nodes =
        [Member::join(&redis).await, Member::join(&redis).await, Member::join(&redis).await];
    let granted = Arc::new(AtomicI64::new(0));
    let (rate, burst) = (2_000_i64, 1_000_i64);
    let started = Instant::now();
    let mut clients = JoinSet::new();
    for client in 0..50_usize {
        let (cluster, granted) = (nodes[client % 3].cluster.clone(), Arc::clone(&granted));
        clients.spawn(async move {
            while started.elapsed() < Duration::from_secs(2) {
                let ask = bucket("tokens", rate, burst, take(1 + client as i64 % 20));
                let grant = cluster.draw(&[ask]).await.unwrap()[0];
                granted.fetch_add(grant.granted, Ordering::Relaxed);
                tokio::time::sleep(grant.next_in.min(Duration::from_millis(20))).await;
            }
        });
    }
    clients.join_all().await;
    let elapsed = started.elapsed().as_secs_f64();
    let granted = granted.load(Ordering::Relaxed) as f64;
    // The burst is an advance: since the bucket was full no more than the rate went out.
    let limit = (rate as f64 * elapsed).max(burst as f64);
    assert!(granted <= limit + 1.0, "{granted} of {limit}");
    assert!(granted >= 0.9 * limit, "{granted} of {limit}");
}

#[tokio::test]
async fn slots_are_never_held_twice_and_come_back() {
    let Some(redis) = Redis::start() else { return };
    let nodes = [Member::join(&redis).await, Member::join(&redis).await];
    let held = Arc::new(AtomicI64::new(0));
    let mut clients = JoinSet::new();
    for client in 0..50_usize {
        let (cluster, held) = (nodes[client % 2].cluster.clone(), Arc::clone(&held));
        clients.spawn(async move {
            for _ in 0..30 {
                let grant = cluster.draw(&[slots("calls", 8, LONG, take(1))]).await.unwrap()[0];
                assert!(held.fetch_add(grant.granted, Ordering::SeqCst) + grant.granted <= 8);
                tokio::task::yield_now().await;
                if grant.granted > 0 {
                    held.fetch_sub(1, Ordering::SeqCst);
                    cluster.draw(&[slots("calls", 8, LONG, Want::Return(1))]).await.unwrap();
                }
            }
        });
    }
    clients.join_all().await;
    assert_eq!(nodes[0].one(slots("calls", 8, LONG, LOOK)).await.unwrap().left, 8);
}

#[tokio::test]
async fn the_slots_of_a_dead_node_are_free_when_its_lease_ends() {
    let Some(redis) = Redis::start() else { return };
    let (dead, alive) = (Member::join(&redis).await, Member::join(&redis).await);
    let lease = Duration::from_millis(400);
    let taken = dead.one(slots("calls", 8, lease, take(5))).await.unwrap();
    assert_eq!((taken.granted, taken.left), (5, 3));
    let refused = slots("calls", 8, lease, Want::Take { most: 8, least: 4 });
    assert_eq!(alive.one(refused).await.unwrap().granted, 0);
    assert_eq!(alive.one(slots("calls", 8, lease, take(2))).await.unwrap().granted, 2);
    dead.upkeep.abort();
    let started = Instant::now();
    // Looking renews the lease of the one that looks, and of nobody else.
    loop {
        let left = alive.one(slots("calls", 8, lease, LOOK)).await.unwrap().left;
        if left == 6 {
            break;
        }
        assert_eq!(left, 1);
        assert!(started.elapsed() < PATIENCE);
    }
    assert!(started.elapsed() >= Duration::from_millis(300), "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_node_puts_its_slots_right() {
    let Some(redis) = Redis::start() else { return };
    let node = Member::join(&redis).await;
    node.one(slots("calls", 8, LONG, take(5))).await.unwrap();
    assert_eq!(node.one(slots("calls", 8, LONG, Want::Hold(2))).await.unwrap().left, 6);
    // What the server forgot, the node still knows.
    let _: () = redis::cmd("FLUSHALL").query(&mut redis.connection()).unwrap();
    let of = Source::Slots { limit: 8, lease: LONG, held: 2 };
    let ask = Draw { key: "calls".to_owned(), of, want: take(8) };
    assert_eq!(node.one(ask).await.unwrap().granted, 6);
}

#[tokio::test]
async fn one_key_that_is_asked_about_twice_in_a_call_is_not_counted_twice() {
    let Some(redis) = Redis::start() else { return };
    settle(&redis);
    let node = Member::join(&redis).await;
    let twice = [window("twice", 3, 0, take(2)), window("twice", 3, 0, take(2))];
    let grants = node.cluster.draw(&twice).await.unwrap();
    assert_eq!(grants.iter().map(|grant| grant.granted).collect::<Vec<_>>(), [2, 1]);
}

#[tokio::test]
async fn many_questions_are_one_round_trip_and_every_key_expires() {
    let Some(redis) = Redis::start() else { return };
    settle(&redis);
    let node = Member::join(&redis).await;
    node.one(bucket("first", 1, 1, LOOK)).await.unwrap();
    let before = node.cluster.health().round_trips;
    let asks: Vec<_> = (0..60)
        .map(|index| match index % 3 {
            0 => bucket(&format!("k{index}"), 1, 10, take(1)),
            1 => window(&format!("k{index}"), 10, 0, take(1)),
            _ => slots(&format!("k{index}"), 10, LONG, take(1)),
        })
        .collect();
    let grants = node.cluster.draw(&asks).await.unwrap();
    assert!(grants.iter().all(|grant| grant.granted == 1 && grant.left == 9), "{grants:?}");
    // Those beside it are of the upkeep: two a second.
    let spent = node.cluster.health().round_trips - before;
    assert!(spent <= 4, "{spent}");
    let mut connection = redis.connection();
    let keys: Vec<String> = redis::cmd("KEYS").arg("*").query(&mut connection).unwrap();
    assert!(keys.len() >= 60, "{keys:?}");
    for key in keys {
        let ttl: i64 = redis::cmd("PTTL").arg(&key).query(&mut connection).unwrap();
        // Below -1 it has expired just now.
        assert_ne!(ttl, -1, "{key} never expires");
        assert!(key.starts_with("{tidegate}:"), "{key}");
    }
}

#[tokio::test]
async fn a_script_that_the_server_forgot_is_loaded_again() {
    let Some(redis) = Redis::start() else { return };
    settle(&redis);
    let node = Member::join(&redis).await;
    assert_eq!(node.one(window("w", 2, 0, take(1))).await.unwrap().left, 1);
    let _: () = redis::cmd("SCRIPT").arg("FLUSH").query(&mut redis.connection()).unwrap();
    assert_eq!(node.one(window("w", 2, 0, take(1))).await.unwrap().left, 0);
}

#[tokio::test]
async fn a_server_that_dies_fails_calls_at_once_and_is_found_again_within_a_second() {
    let Some(mut redis) = Redis::start() else { return };
    let node = Member::join(&redis).await;
    node.one(window("w", 9, 0, take(1))).await.unwrap();
    redis.kill();
    eventually(|| node.cluster.health().state == ClusterState::Degraded).await;
    let started = Instant::now();
    for _ in 0..1_000 {
        let refused = node.one(window("w", 9, 0, take(1))).await;
        assert_eq!(refused, Err(Unreachable::NotConnected));
    }
    assert!(started.elapsed() < Duration::from_millis(100), "{:?}", started.elapsed());
    assert_eq!(node.cluster.live_nodes(), 1);
    let health = node.cluster.health();
    assert!(health.last_error.is_some() && health.errors >= 1_000, "{health:?}");
    let mut facts = node.cluster.facts();
    redis.restart();
    let started = Instant::now();
    node.connected().await;
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
    settle(&redis);
    assert_eq!(node.one(window("w", 9, 5, take(1))).await.unwrap().left, 3);
    assert_eq!(facts.next().await, Some(Heard::Missed));
}

#[tokio::test]
async fn a_server_that_hangs_costs_one_time_out_and_is_found_again_within_a_second() {
    let Some(redis) = Redis::start() else { return };
    let node = Member::join(&redis).await;
    node.one(window("w", 9, 0, take(1))).await.unwrap();
    redis.pause();
    let started = Instant::now();
    let mut clients = JoinSet::new();
    for _ in 0..500 {
        let cluster = node.cluster.clone();
        clients.spawn(async move { cluster.draw(&[window("w", 9, 0, LOOK)]).await });
    }
    for answer in clients.join_all().await {
        assert!(answer.is_err(), "{answer:?}");
    }
    let elapsed = started.elapsed();
    assert!(elapsed < Duration::from_millis(400), "{elapsed:?}");
    let started = Instant::now();
    assert_eq!(node.one(window("w", 9, 0, LOOK)).await, Err(Unreachable::NotConnected));
    assert!(started.elapsed() < Duration::from_millis(20), "{:?}", started.elapsed());
    redis.resume();
    let started = Instant::now();
    eventually(|| node.cluster.health().state == ClusterState::Connected).await;
    node.one(window("w", 9, 0, take(1))).await.unwrap();
    assert!(started.elapsed() < Duration::from_millis(1_500), "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_node_starts_without_its_server() {
    let Some((port, start)) = Redis::later() else { return };
    let node = Member::start(&format!("redis://127.0.0.1:{port}"));
    eventually(|| node.cluster.health().last_error.is_some()).await;
    assert_eq!(node.cluster.health().state, ClusterState::Degraded);
    assert_eq!(node.one(window("w", 9, 0, LOOK)).await, Err(Unreachable::NotConnected));
    let _redis = start();
    node.connected().await;
    node.one(window("w", 9, 0, LOOK)).await.unwrap();
}

#[tokio::test]
async fn nodes_know_of_each_other_until_one_is_gone() {
    let Some(redis) = Redis::start() else { return };
    let (a, b) = (Member::join(&redis).await, Member::join(&redis).await);
    a.cluster.set_revision(7);
    let nodes = || [&a, &b].map(|node| node.cluster.live_nodes());
    eventually(|| nodes() == [2, 2]).await;
    let seen = |name: &str| {
        let nodes = b.cluster.nodes();
        nodes.into_iter().find(|node| node.name == name).map(|node| node.revision)
    };
    eventually(|| seen(a.cluster.node()) == Some(7)).await;
    assert_eq!(b.cluster.nodes().len(), 2);
    a.upkeep.abort();
    eventually(|| b.cluster.live_nodes() == 1).await;
    assert_eq!(b.cluster.nodes().len(), 1);
}

#[tokio::test]
async fn a_node_that_says_goodbye_is_not_counted_any_more() {
    let Some(redis) = Redis::start() else { return };
    let (a, b) = (Member::join(&redis).await, Member::join(&redis).await);
    eventually(|| b.cluster.live_nodes() == 2).await;
    let left = Instant::now();
    a.cluster.leave().await.unwrap();
    eventually(|| b.cluster.live_nodes() == 1).await;
    // One that is only silent is counted for six seconds.
    assert!(left.elapsed() < Duration::from_millis(2_500), "{:?}", left.elapsed());
    assert_eq!(b.cluster.nodes().len(), 1);
    // It may go on asking, which does not bring it back.
    let asked = a.cluster.health().round_trips;
    eventually(|| a.cluster.health().round_trips > asked + 4).await;
    assert_eq!(b.cluster.live_nodes(), 1);
}

#[tokio::test]
async fn facts_reach_the_others_and_not_oneself() {
    let Some(redis) = Redis::start() else { return };
    let (a, b) = (Member::join(&redis).await, Member::join(&redis).await);
    let (mut at_a, mut at_b) = (a.cluster.facts(), b.cluster.facts());
    a.cluster.publish(Fact::KeysChanged);
    let revision = Fact::ConfigRevision { node: b.cluster.node().to_owned(), revision: 9 };
    assert_eq!(heard(&mut at_b).await, Fact::KeysChanged);
    b.cluster.set_revision(9);
    b.cluster.set_revision(9);
    assert_eq!(heard(&mut at_a).await, revision);
    b.cluster.publish(Fact::KeysChanged);
    assert_eq!(heard(&mut at_a).await, Fact::KeysChanged);
    // What is not of this program does no harm.
    let channel = "{tidegate}:0:facts";
    let listeners: i64 =
        redis::cmd("PUBLISH").arg(channel).arg("{").query(&mut redis.connection()).unwrap();
    assert_eq!(listeners, 2);
    assert_eq!(at_a.next().await, Some(Heard::Missed));
}

/// The next fact. That some may have been missed is said after each connection.
async fn heard(reader: &mut tidegate::cluster::FactReader) -> Fact {
    loop {
        match reader.next().await.unwrap() {
            Heard::Fact(fact) => return fact,
            Heard::Missed => {}
        }
    }
}

#[tokio::test]
async fn a_password_logs_in_and_is_never_shown() {
    let Some(redis) = Redis::with_password("hunter2") else { return };
    let node = Member::join(&redis).await;
    let wrong = Member::start(&redis.url().replace("hunter2", "hunter3"));
    eventually(|| wrong.cluster.health().last_error.is_some()).await;
    assert_eq!(wrong.cluster.health().state, ClusterState::Degraded);
    for member in [&node, &wrong] {
        let health = member.cluster.health();
        let shown = format!("{:?} {health:?} {}", member.cluster, serde_json::json!(health));
        assert!(!shown.contains("hunter") && shown.contains("<secret>"), "{shown}");
    }
}
