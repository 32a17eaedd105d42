//! Gateways that are nodes of one cluster: real processes, one Redis, one store.

use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use tidegate::clock::Instant;
use tokio::task::JoinSet;
use tokio::time::interval;

use crate::process::{ADMIN_KEY, Answer, Program, read_answer};
use crate::servers::redis::Redis;

/// What nodes share.
struct Shared {
    redis: Redis,
    sim: Program,
    folder: TempDir,
}

// === impl Shared ===

impl Shared {
    fn start() -> Option<Self> {
        let redis = Redis::start()?;
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("key"), "sk-shared-by-all").unwrap();
        Some(Self { redis, sim: Program::sim(""), folder })
    }

    fn node(&self, mode: &str) -> Program {
        self.node_with(mode, "")
    }

    fn node_with(&self, mode: &str, more: &str) -> Program {
        let (redis, sim, folder) = (self.redis.url(), self.sim.address, self.folder.path());
        let folder = folder.display();
        Program::serve(&format!(
            r#"
            [auth]
            mode = "{mode}"
            [store]
            url = "sqlite:{folder}/shared.db"
            [cluster]
            url = "{redis}"
            [providers.up]
            dialect = "openai-chat"
            base_url = "http://{sim}/v1"
            credentials = [{{ file = "{folder}/key" }}]
            models = [{{ id = "alpha" }}, {{ id = "beta" }}]
            {more}
            "#
        ))
    }
}

fn ask(model: &str, text: &str, key: &str) -> String {
    let body = json!({ "model": model, "messages": [{ "role": "user", "content": text }] });
    let body = body.to_string();
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\n\
         content-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn admin(method: &str, path: &str, body: &str) -> String {
    format!(
        "{method} /admin/v1{path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {ADMIN_KEY}\r\n\
         content-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

async fn chat(node: &Program, model: &str, text: &str) -> Answer {
    node.send(ask(model, text, "none")).await
}

fn cluster_is(state: &'static str, nodes: u64) -> impl Fn(&Value) -> bool {
    move |health| health["cluster"]["state"] == state && health["cluster"]["nodes"] == nodes
}

#[tokio::test]
async fn nodes_show_each_other_and_a_lost_server_is_said_and_survived() {
    let Some(mut shared) = Shared::start() else { return };
    let (a, b) = (shared.node("open"), shared.node("open"));
    for node in [&a, &b] {
        let health = node.until("/health", cluster_is("connected", 2)).await;
        assert_eq!(health["status"], "ok", "{health}");
    }
    let config = a
        .until("/admin/v1/config", |config| {
            let nodes = config["nodes"].as_array().unwrap();
            nodes.len() == 2 && nodes.iter().all(|node| node["revision"] == config["revision"])
        })
        .await;
    let mine = config["nodes"].as_array().unwrap().iter().filter(|node| node["is_this"] == true);
    assert_eq!(mine.count(), 1, "{config}");
    shared.redis.kill();
    for node in [&a, &b] {
        let health = node.until("/health", cluster_is("degraded", 2)).await;
        assert_eq!(health["status"], "degraded", "{health}");
        assert!(health["cluster"]["last_error"].is_string(), "{health}");
        assert_eq!(node.get("/readyz").await.status, 200);
        assert_eq!(chat(node, "up/alpha", "hello").await.status, 200);
        assert_eq!(node.metric("tidegate_cluster_degraded").await, 1.0);
    }
    shared.redis.restart();
    for node in [&a, &b] {
        node.until("/health", cluster_is("connected", 2)).await;
        assert_eq!(node.metric("tidegate_cluster_degraded").await, 0.0);
        assert!(node.metric("tidegate_cluster_round_trips_total").await > 0.0);
    }
}

#[tokio::test]
async fn a_key_made_or_revoked_on_one_node_is_known_to_the_others_at_once() {
    let Some(shared) = Shared::start() else { return };
    let (a, b) = (shared.node("keys"), shared.node("keys"));
    for node in [&a, &b] {
        node.until("/health", cluster_is("connected", 2)).await;
    }
    let made = a.send(admin("POST", "/keys", r#"{"name": "web"}"#)).await;
    assert_eq!(made.status, 201, "{made:?}");
    let made = made.json();
    let request = ask("up/alpha", "hello", made["key"].as_str().unwrap());
    until_status(&b, &request, 200).await;
    let revoked = a.send(admin("DELETE", &format!("/keys/{}", made["id"].as_str().unwrap()), ""));
    assert_eq!(revoked.await.status, 204);
    until_status(&b, &request, 401).await;
}

#[tokio::test]
async fn a_pause_that_one_node_was_asked_for_is_kept_by_the_others() {
    let Some(shared) = Shared::start() else { return };
    let (a, b) = (shared.node("open"), shared.node("open"));
    for node in [&a, &b] {
        node.until("/health", cluster_is("connected", 2)).await;
        for model in ["up/alpha", "up/beta"] {
            assert_eq!(chat(node, model, "hello").await.status, 200);
        }
    }
    let limited = chat(&a, "up/alpha", "[[sim:status=429,retry_after=120s]]").await;
    assert_eq!(limited.status, 429, "{limited:?}");
    // The provider would answer; the node does not ask it.
    until_status(&b, &ask("up/alpha", "hello", "none"), 429).await;
    assert_eq!(chat(&b, "up/beta", "hello").await.status, 200);
    // A refused key is refused for all its models.
    let refused = chat(&b, "up/beta", "[[sim:status=401]]").await;
    assert!(refused.status >= 500, "{refused:?}");
    let metric = "tidegate_credential_parked";
    let mut looks = 0;
    while a.metric(metric).await == 0.0 {
        looks += 1;
        assert!(looks < 2_000, "it is never told");
    }
    assert_ne!(chat(&a, "up/beta", "hello").await.status, 200);
}

#[tokio::test]
async fn a_node_that_is_told_to_stop_is_not_counted_and_keeps_nothing_of_a_limit() {
    let Some(shared) = Shared::start() else { return };
    let mut connection = shared.redis.connection();
    // One that has been there for long: all nodes have told what they know.
    let mut settle = redis::cmd("SET");
    settle.arg("{tidegate}:memory").arg("1").arg("PX").arg(600_000);
    let _: () = settle.query(&mut connection).unwrap();
    let limits = "[limits.default]\nrequests_per_month = 1_000";
    let (mut a, b) = (shared.node_with("open", limits), shared.node_with("open", limits));
    b.until("/health", cluster_is("connected", 2)).await;
    let mut had = || -> Option<i64> {
        let mut find = redis::cmd("KEYS");
        let keys: Vec<String> = find.arg("{tidegate}:used:*").query(&mut connection).unwrap();
        let key = keys.first()?;
        redis::cmd("HGET").arg(key).arg("*sum").query(&mut connection).unwrap()
    };
    // It holds something as soon as several requests came at once.
    let mut admitted = 0;
    while had().is_none_or(|had| had <= admitted) {
        for _ in 0..20 {
            assert_eq!(
                chat(&a, "up/alpha", "hello [[sim:ttft=1ms,gap=0ms,tokens=1]]").await.status,
                200
            );
            admitted += 1;
        }
        assert!(admitted < 1_000, "it never holds anything");
    }
    let pid = a.child.id().to_string();
    let kill = std::process::Command::new("kill").args(["-TERM", &pid]).status().unwrap();
    assert!(kill.success());
    let stopped = Instant::now();
    b.until("/health", cluster_is("connected", 1)).await;
    assert!(stopped.elapsed() < Duration::from_millis(4_500), "{:?}", stopped.elapsed());
    assert!(a.child.wait().unwrap().success());
    assert_eq!(had(), Some(admitted));
}

/// Sends a request until it is answered with this status.
async fn until_status(node: &Program, request: &str, status: u16) {
    let mut last = node.send(request).await;
    for _ in 0..2_000 {
        if last.status == status {
            return;
        }
        last = node.send(request).await;
    }
    panic!("it stays {last:?}");
}

#[tokio::test]
#[ignore = "12 s at full speed: run it alone"]
async fn three_gateways_admit_what_a_key_may_ask_for_under_bursts() {
    let Some(shared) = Shared::start() else { return };
    let limits = "[limits.default]\nrequests_per_minute = 60\nburst = \"2s\"";
    let nodes = [(); 3].map(|()| shared.node_with("keys", limits));
    for node in &nodes {
        node.until("/health", cluster_is("connected", 3)).await;
    }
    let terms = r#"{"name": "web", "limits": {"requests_per_minute": 12000}}"#;
    let made = nodes[0].send(admin("POST", "/keys", terms)).await.json();
    let key = made["key"].as_str().unwrap();
    // Lists are not limited.
    let list = format!(
        "GET /v1/models HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\n\
         connection: close\r\n\r\n"
    );
    for node in &nodes {
        until_status(node, &list, 200).await;
    }
    let addresses = nodes.each_ref().map(|node| node.address);
    let request = ask("up/alpha", "hello [[sim:ttft=1ms,gap=0ms,tokens=1]]", key);
    let (started, mut ticks) = (Instant::now(), interval(Duration::from_millis(3)));
    let mut asked = JoinSet::new();
    // 2 s of 333 requests a second, 1 s of none, of a limit of 200.
    for address in addresses.into_iter().cycle() {
        ticks.tick().await;
        let since = started.elapsed();
        if since >= Duration::from_secs(11) {
            break;
        }
        if since.as_secs() % 3 != 2 {
            let request = request.clone();
            asked.spawn(async move {
                let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
                let sent = tokio::io::AsyncWriteExt::write_all(&mut stream, request.as_bytes());
                sent.await.unwrap();
                read_answer(&mut stream).await.status
            });
        }
    }
    let answers = asked.join_all().await;
    let admitted = answers.iter().filter(|status| **status == 200).count();
    let refused = answers.iter().filter(|status| **status == 429).count();
    assert_eq!(admitted + refused, answers.len(), "{answers:?}");
    // What nobody asks for while a node pauses after a poor answer is only lost at the very end.
    let share = admitted as f64 / 2_200.0;
    assert!((0.95..=1.02).contains(&share), "{share}: {admitted} of {}", answers.len());
}
