//! Kept answers that nodes share over a real Redis server.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tidegate::cache::{
    Cache, CacheSettings, Fetch, Form, Head, Kept, Key, Look, Mark, Owner, Purge, Question,
    RouteIdentity, Tenant,
};
use tidegate::chat::{Choice, Completion, FinishReason, Part};
use tidegate::clock::{Instant, SystemWallClock, WallClock};
use tidegate::cluster::{Cluster, ClusterSettings, RedisUrl};
use tidegate::dialect::Dialect;
use tidegate::ids::{CallerId, ModelName, ProviderId, RouteName, TargetId, TeamId};
use tidegate::units::MicroUsd;
use tokio::task::JoinSet;
use tokio::time::interval;

use crate::process::{ADMIN_KEY, PATIENCE, Program};
use crate::servers::redis::Redis;

/// A node that has a cache and nothing else. Its tasks die with it.
struct Node {
    cache: Cache,
    _tasks: JoinSet<()>,
}

impl Node {
    fn start(redis: &Redis) -> Self {
        let url = Some(RedisUrl::new(redis.url()));
        let settings = ClusterSettings { url, ..ClusterSettings::default() };
        let (cluster, upkeep) = Cluster::new(&settings, &SystemWallClock).unwrap();
        let clock = Arc::new(SystemWallClock);
        let cache = Cache::of_cluster(&CacheSettings::default(), clock, &cluster);
        let mut tasks = JoinSet::new();
        tasks.spawn(upkeep.run());
        tasks.spawn(cache.clone().upkeep());
        Self { cache, _tasks: tasks }
    }

    /// A node that has its connections and knows what others have purged.
    async fn join(redis: &Redis) -> Self {
        let node = Self::start(redis);
        node.until(9_999, |found| matches!(found, Fetch::Absent)).await;
        node
    }

    async fn fetch(&self, number: u32) -> Fetch {
        self.cache.fetch(&key(number), None, self.cache.mark()).await
    }

    /// Fetches until it is so.
    async fn until(&self, number: u32, is_so: impl Fn(&Fetch) -> bool) {
        let started = Instant::now();
        let mut ticks = interval(Duration::from_millis(5));
        loop {
            ticks.tick().await;
            let found = self.fetch(number).await;
            if is_so(&found) {
                return;
            }
            assert!(started.elapsed() < PATIENCE, "it stays {found:?}");
        }
    }

    fn keep(&self, number: u32, route: &str, since: Mark) {
        let kept = kept(route, Duration::from_secs(60));
        self.cache.keep(key(number), kept, since, Instant::now()).unwrap();
    }

    fn has(&self, number: u32) -> bool {
        matches!(self.cache.look(&key(number), None, 0.0, Instant::now()), Look::Hit(_))
    }
}

fn key(number: u32) -> Key {
    let (provider, model) = (ProviderId::new("p"), ModelName::new("m"));
    let route = RouteIdentity::of(&RouteName::new("r"), [(0, &provider, &model)]);
    let body = format!("{{\"n\":{number}}}");
    let question = Question {
        tenant: Tenant::Caller(&CallerId::anonymous()),
        route: &route,
        prompt: None,
        endpoint: "chat",
        dialect: Dialect::OpenAiChat,
        headers: &[],
        body: body.as_bytes(),
    };
    Key::of(&question).unwrap()
}

fn kept(route: &str, ttl: Duration) -> Kept {
    let head = Head {
        form: Form::Completion,
        target: TargetId::new("p/m"),
        reported: "m-1".to_owned(),
        cost: MicroUsd(5),
        dropped: Vec::new(),
        // Long enough before the purges of a test.
        made_at_ms: SystemWallClock.unix_ms() - 10_000,
        ttl: ttl + Duration::from_secs(10),
        stale_for: Duration::from_secs(60),
        took: Duration::ZERO,
        owner: Owner {
            team: None,
            caller: CallerId::new("c"),
            route: RouteName::new(route),
            prompt: None,
            tags: Vec::new(),
        },
    };
    let choice = Choice {
        parts: vec![Part::text("Paris.")],
        finish: Some(FinishReason::Stop),
        ..Choice::default()
    };
    Kept::completion(head, &Completion { choices: vec![choice], ..Completion::default() }).unwrap()
}

fn of_route(route: &str) -> Purge {
    Purge { route: Some(route.to_owned()), ..Purge::default() }
}

/// The name of an entry as Redis has it.
fn name(number: u32) -> String {
    format!("{{tidegate}}:answer:{}", key(number).to_hex())
}

#[tokio::test]
async fn what_one_node_keeps_others_find_and_keep_too() {
    let Some(redis) = Redis::start() else { return };
    let (a, b) = (Node::join(&redis).await, Node::join(&redis).await);
    a.keep(1, "r", a.cache.mark());
    b.until(1, |found| matches!(found, Fetch::Hit(kept) if kept.read().is_some())).await;
    assert!(b.has(1), "from now on it is here");
    let ttl: i64 = redis::cmd("PTTL").arg(name(1)).query(&mut redis.connection()).unwrap();
    assert!((60_000..=130_000).contains(&ttl), "it is forgotten with its time: {ttl}");
    let old = a.cache.fetch(&key(1), Some(Duration::from_secs(5)), a.cache.mark()).await;
    assert!(matches!(old, Fetch::TooOld), "{old:?}");
}

#[tokio::test]
async fn a_purge_reaches_all_nodes_those_that_come_later_and_the_server() {
    let Some(redis) = Redis::start() else { return };
    let (a, b) = (Node::join(&redis).await, Node::join(&redis).await);
    a.keep(1, "gone", a.cache.mark());
    a.keep(2, "stays", a.cache.mark());
    for number in [1, 2] {
        b.until(number, |found| matches!(found, Fetch::Hit(_))).await;
    }
    let before = b.cache.mark();
    assert_eq!(a.cache.purge(&of_route("gone")), 1);
    assert!(!a.has(1) && a.has(2));
    crate::support::eventually(|| !b.has(1)).await;
    assert!(b.has(2));
    let late = b.cache.keep(key(1), kept("gone", Duration::from_secs(60)), before, Instant::now());
    assert!(late.is_err(), "it was asked for before the purge");
    b.until(1, |found| matches!(found, Fetch::Absent | Fetch::Outdated)).await;
    // It stands in Redis again, as if a node had written it that had not heard yet.
    a.cache
        .keep(key(1), kept("gone", Duration::from_secs(60)), a.cache.mark(), Instant::now())
        .unwrap();
    let c = Node::join(&redis).await;
    c.until(1, |found| matches!(found, Fetch::Absent | Fetch::Outdated)).await;
    c.until(2, |found| matches!(found, Fetch::Hit(_))).await;
    crate::support::eventually(|| {
        let there: i64 = redis::cmd("EXISTS").arg(name(1)).query(&mut redis.connection()).unwrap();
        there == 0
    })
    .await;
}

#[tokio::test]
async fn what_cannot_be_read_is_taken_away() {
    let Some(redis) = Redis::start() else { return };
    let node = Node::join(&redis).await;
    node.keep(1, "r", node.cache.mark());
    let other = Node::join(&redis).await;
    other.until(1, |found| matches!(found, Fetch::Hit(_))).await;
    let mut connection = redis.connection();
    let whole: Vec<u8> = redis::cmd("GET").arg(name(1)).query(&mut connection).unwrap();
    let cut = &whole[..whole.len() - 1];
    for (number, value) in [(2, cut), (3, b"\xff\x00garbage".as_slice()), (4, b"")] {
        let _: () = redis::cmd("SET").arg(name(number)).arg(value).query(&mut connection).unwrap();
        let found = node.fetch(number).await;
        assert!(matches!(found, Fetch::Unreadable), "{number}: {found:?}");
        node.until(number, |found| matches!(found, Fetch::Absent)).await;
    }
}

#[tokio::test]
async fn without_the_server_every_request_goes_on_and_with_it_again_it_is_used() {
    let Some(mut redis) = Redis::start() else { return };
    let node = Node::join(&redis).await;
    node.keep(1, "r", node.cache.mark());
    redis.kill();
    node.until(2, |found| matches!(found, Fetch::Failed)).await;
    let started = Instant::now();
    for number in 10..110 {
        assert!(matches!(node.fetch(number).await, Fetch::Failed));
        node.keep(number, "r", node.cache.mark());
        assert!(node.has(number), "this process goes on alone");
    }
    assert!(started.elapsed() < Duration::from_secs(2), "nobody waits: {:?}", started.elapsed());
    redis.restart();
    node.until(2, |found| matches!(found, Fetch::Absent)).await;
    node.keep(3, "r", node.cache.mark());
    let other = Node::join(&redis).await;
    other.until(3, |found| matches!(found, Fetch::Hit(_))).await;
    let writes: Vec<_> = node.cache.shared_writes().collect();
    assert!(writes.iter().any(|(word, count)| *word == "failed" && *count > 0), "{writes:?}");
}

#[tokio::test]
async fn two_gateways_share_answers_and_purges() {
    let Some(redis) = Redis::start() else { return };
    let config = format!(
        "[providers.sim]\n[cluster]\nurl = \"{}\"\n\
         [routes.faq]\ntargets = [{{ model = \"sim/tide-small\" }}]\ncache = {{ exact = true }}\n",
        redis.url()
    );
    let (a, b) = (Program::serve(&config), Program::serve(&config));
    let ask = |question: &str| {
        let messages = json!([{ "role": "user", "content": question }]);
        json!({ "model": "faq", "messages": messages }).to_string()
    };
    let path = "/v1/chat/completions";
    // Whether nodes have found each other shows in whether they share.
    let started = Instant::now();
    let mut ticks = interval(Duration::from_millis(20));
    let mut shared = None;
    for n in 0.. {
        assert!(started.elapsed() < PATIENCE, "they never share");
        let body = ask(&format!("What is the capital of France, please? ({n})"));
        let first = a.post(path, &body).await;
        assert_eq!(first.header("x-tidegate-cache"), "miss", "{first:?}");
        ticks.tick().await;
        let second = b.post(path, &body).await;
        if second.header("x-tidegate-cache") == "exact" {
            shared = Some((body, first, second));
            break;
        }
    }
    let (body, first, second) = shared.unwrap();
    let said = |answer: &crate::process::Answer| answer.json()["choices"].clone();
    assert_eq!(said(&first), said(&second));
    assert!(b.metric("tidegate_cache_shared_lookups_total{result=\"hit\"}").await >= 1.0);
    let purge = format!(
        "DELETE /admin/v1/cache?route=faq HTTP/1.1\r\nhost: t\r\nauthorization: Bearer {ADMIN_KEY}\
         \r\nconnection: close\r\n\r\n"
    );
    let purged = a.send(purge).await;
    assert_eq!(purged.status, 200, "{purged:?}");
    assert!(purged.json()["purged"].as_u64() >= Some(1), "{purged:?}");
    let started = Instant::now();
    while b.metric("tidegate_cache_entries").await > 0.0 {
        assert!(started.elapsed() < PATIENCE, "the other node keeps its answers");
        ticks.tick().await;
    }
    assert_eq!(b.post(path, &body).await.header("x-tidegate-cache"), "miss");
}

#[tokio::test]
async fn a_key_or_a_team_that_goes_takes_its_answers_along_on_all_nodes() {
    let Some(redis) = Redis::start() else { return };
    let config = format!("[providers.sim]\n[cluster]\nurl = \"{}\"\n", redis.url());
    let gateway = Program::serve(&config);
    let node = Node::join(&redis).await;
    let admin = async |method: &str, path: &str, body: &str| {
        let head = format!("{method} /admin/v1{path} HTTP/1.1\r\nhost: t\r\n");
        let open = format!("authorization: Bearer {ADMIN_KEY}\r\nconnection: close\r\n");
        let length = format!("content-length: {}\r\n\r\n", body.len());
        gateway.send(format!("{head}{open}{length}{body}")).await
    };
    let made = async |path: &str| {
        let made = admin("POST", path, r#"{"name":"web"}"#).await;
        assert_eq!(made.status, 201, "{made:?}");
        made.json()["id"].as_str().unwrap().to_owned()
    };
    let (key, team) = (made("/keys").await, made("/teams").await);
    for number in [1, 2, 3] {
        let mut kept = kept("r", Duration::from_secs(60));
        match number {
            1 => kept.head.owner.caller = CallerId::new(&key),
            2 => kept.head.owner.team = Some(TeamId::new(&team)),
            _ => {}
        }
        node.cache.keep(self::key(number), kept, node.cache.mark(), Instant::now()).unwrap();
    }
    assert_eq!(admin("DELETE", &format!("/keys/{key}"), "").await.status, 204);
    crate::support::eventually(|| !node.has(1)).await;
    assert!(node.has(2) && node.has(3));
    assert_eq!(admin("DELETE", &format!("/teams/{team}"), "").await.status, 204);
    crate::support::eventually(|| !node.has(2)).await;
    assert!(node.has(3));
}
