//! The real program while its PostgreSQL is away: at the start, under load, and when it comes back.

use std::time::Duration;

use serde_json::{Value, json};
use tidegate::clock::Instant;
use tokio::task::JoinSet;

use crate::process::{ADMIN_KEY, Answer, Program};
use crate::servers::postgres::PostgresServer;

/// Longer than any outage here takes to be noticed and to be over.
const PATIENCE: Duration = Duration::from_secs(30);

fn config(server: &PostgresServer) -> String {
    format!("[auth]\nmode = \"keys\"\n[store]\nurl = \"{}\"\n[providers.sim]\n", server.url())
}

/// One request with this key.
fn ask(key: &str) -> Vec<u8> {
    let text = "[[sim:ttft=2ms,gap=1ms,tokens=5]]";
    let messages = json!([{ "role": "user", "content": text }]);
    let body = json!({ "model": "sim/tide-small", "messages": messages }).to_string();
    let length = body.len();
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: test\r\nauthorization: Bearer {key}\r\n\
         content-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
    )
    .into_bytes()
}

async fn admin(gate: &Program, line: &str, body: Value) -> Answer {
    let body = body.to_string();
    let length = body.len();
    let request = format!(
        "{line} HTTP/1.1\r\nhost: test\r\nauthorization: Bearer {ADMIN_KEY}\r\n\
         content-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
    );
    gate.send(request).await
}

async fn make_key(gate: &Program, name: &str) -> String {
    let made = admin(gate, "POST /admin/v1/keys", json!({ "name": name })).await;
    assert_eq!(made.status, 201, "{made:?}");
    let made: Value = serde_json::from_str(&made.body).unwrap();
    made["key"].as_str().unwrap().to_owned()
}

/// Asks with an unknown key until the answer is as it should be.
async fn until_unknown_keys_get(gate: &Program, status: u16) -> Answer {
    let started = Instant::now();
    loop {
        let answer = gate.send(ask("tg-nobody")).await;
        if answer.status == status {
            return answer;
        }
        assert!(started.elapsed() < PATIENCE, "{answer:?}");
    }
}

/// Four callers in turn for as long as the work takes; every answer must be good. Gives their
/// number.
async fn under_load<T>(gate: &Program, key: &str, work: impl Future<Output = T>) -> (T, u64) {
    let address = gate.address;
    let mut callers = JoinSet::new();
    let (done, told) = tokio::sync::watch::channel(false);
    for _ in 0..4 {
        let (request, told) = (ask(key), told.clone());
        callers.spawn(async move {
            let mut served = 0;
            while !*told.borrow() {
                let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
                tokio::io::AsyncWriteExt::write_all(&mut stream, &request).await.unwrap();
                let answer = crate::process::read_answer(&mut stream).await;
                assert_eq!(answer.status, 200, "{answer:?}");
                served += 1;
            }
            served
        });
    }
    let result = work.await;
    done.send(true).unwrap();
    (result, callers.join_all().await.into_iter().sum())
}

#[tokio::test]
async fn known_keys_go_on_while_the_database_is_away_and_nothing_is_lost() {
    let Some(mut server) = PostgresServer::start() else { return };
    let config = config(&server);
    let gate = Program::serve(&config);
    let key = make_key(&gate, "web").await;
    until_unknown_keys_get(&gate, 401).await;

    let outage = async {
        gate.until("/health", |health| health["journal"]["written"].as_u64() > Some(20)).await;
        server.stop();
        let refused = until_unknown_keys_get(&gate, 503).await;
        assert_eq!(refused.header("retry-after"), "1", "{refused:?}");
        assert!(refused.body.contains("\"unavailable\""), "{refused:?}");
        let made = admin(&gate, "POST /admin/v1/keys", json!({ "name": "late" })).await;
        assert_eq!((made.status, made.header("retry-after")), (503, "1"), "{made:?}");
        let away = gate
            .until("/health", |health| {
                health["callers"]["behind"] == true
                    && health["journal"]["degraded"] == true
                    && health["journal"]["queued"].as_u64() > Some(50)
            })
            .await;
        assert_eq!(away["status"], "degraded", "{away}");
        assert_eq!(away["callers"]["source"], "store", "{away}");
        server.start_again();
        until_unknown_keys_get(&gate, 401).await;
        gate.until("/health", |health| health["status"] == "ok").await;
    };
    let ((), served) = under_load(&gate, &key, outage).await;
    let health =
        gate.until("/health", |health| health["journal"]["queued"].as_u64() == Some(0)).await;
    assert_eq!(health["journal"]["dropped"], 0, "{health}");
    assert!(health["journal"]["written"].as_u64() >= Some(served), "{health}");
    let usage = gate.get_json("/admin/v1/usage?group_by=caller").await;
    let groups = usage["data"].as_array().unwrap();
    let of_key = groups
        .iter()
        .find(|it| it["group"]["caller"].as_str().is_some_and(|id| id.starts_with("key_")))
        .unwrap();
    assert_eq!(of_key["requests"].as_u64(), Some(served), "every one, and none twice: {usage}");
}

#[tokio::test]
async fn a_gateway_that_starts_without_its_database_knows_its_callers() {
    let Some(mut server) = PostgresServer::start() else { return };
    let config = config(&server);
    let gate = Program::serve(&config);
    let key = make_key(&gate, "web").await;
    let snapshot = gate.folder().join("data/callers.snapshot");
    let started = Instant::now();
    while !std::fs::read_to_string(&snapshot).is_ok_and(|text| text.contains("\"web\"")) {
        assert!(started.elapsed() < PATIENCE, "no snapshot is written");
        tokio::task::yield_now().await;
    }
    let text = std::fs::read_to_string(&snapshot).unwrap();
    assert!(!text.contains(&key), "hashes only: {text}");
    let mode = std::os::unix::fs::PermissionsExt::mode(&snapshot.metadata().unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    let folder = gate.kill();

    server.stop();
    let gate = Program::serve_in(folder, &config, None);
    let answer = gate.send(ask(&key)).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(gate.send(ask("tg-nobody")).await.status, 503);
    let health = gate.get_json("/health").await;
    assert_eq!(health["callers"]["source"], "snapshot", "{health}");
    assert_eq!((&health["callers"]["keys"], &health["status"]), (&json!(1), &json!("degraded")));

    server.start_again();
    until_unknown_keys_get(&gate, 401).await;
    let health =
        gate.until("/health", |health| health["journal"]["written"].as_u64() > Some(0)).await;
    assert_eq!(health["callers"]["source"], "store", "{health}");
    assert_eq!(gate.send(ask(&key)).await.status, 200);
}

#[tokio::test]
async fn what_is_changed_on_one_node_is_known_to_the_others() {
    let Some(server) = PostgresServer::start() else { return };
    let config = config(&server);
    let (one, other) = (Program::serve(&config), Program::serve(&config));
    let key = make_key(&one, "web").await;
    let started = Instant::now();
    while other.send(ask(&key)).await.status != 200 {
        assert!(started.elapsed() < Duration::from_secs(10), "the key does not arrive");
    }
    let list = other.get_json("/admin/v1/keys").await;
    let id = list["data"][0]["id"].as_str().unwrap();
    let revoked = admin(&other, &format!("DELETE /admin/v1/keys/{id}"), Value::Null).await;
    assert_eq!(revoked.status, 204, "{revoked:?}");
    assert_eq!(other.send(ask(&key)).await.status, 401);
    let started = Instant::now();
    while one.send(ask(&key)).await.status != 401 {
        assert!(started.elapsed() < Duration::from_secs(10), "the key stays valid");
    }
}
