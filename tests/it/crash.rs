//! The real program under load: killed, with its database locked, with its disk full.

use std::collections::HashSet;
use std::process::Command;
use std::str::FromStr;
use std::time::Duration;

use serde_json::{Value, json};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions, Executor};
use tidegate::clock::Instant;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;

use crate::process::Program;

/// The built-in simulator, quick.
const CONFIG: &str = r#"
[server]
worker_threads = 2
[journal]
queue_entries = 1_000
[providers.sim]
"#;

fn ask(stream: bool) -> String {
    let text = "[[sim:ttft=2ms,gap=1ms,tokens=5]]";
    let messages = json!([{ "role": "user", "content": text }]);
    json!({ "model": "sim/tide-small", "stream": stream, "messages": messages }).to_string()
}

#[tokio::test]
async fn a_killed_gateway_knows_every_request_that_was_settled_a_second_before() {
    let gate = Program::serve(CONFIG);
    let address = gate.address;
    let started = Instant::now();
    let mut callers = JoinSet::new();
    for caller in 0..4 {
        callers.spawn(async move {
            let mut settled = Vec::new();
            loop {
                let request =
                    crate::process::post("/v1/chat/completions", ask(caller % 2 == 0).as_bytes());
                let Ok(mut stream) = tokio::net::TcpStream::connect(address).await else {
                    return settled;
                };
                if stream.write_all(&request).await.is_err() {
                    return settled;
                }
                let answer = crate::process::read_answer(&mut stream).await;
                if answer.status != 200 || !answer.is_whole {
                    return settled;
                }
                settled.push((answer.header("x-request-id").to_owned(), started.elapsed()));
            }
        });
    }
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    let killed_at = started.elapsed();
    let folder = gate.kill();
    let settled: Vec<_> = callers.join_all().await.into_iter().flatten().collect();
    let due: Vec<_> =
        settled.iter().filter(|(_, at)| *at + Duration::from_secs(1) < killed_at).collect();
    assert!(due.len() > 50, "only {} requests were settled in time", due.len());

    let gate = Program::serve_in(folder, CONFIG, None);
    // Its first write opens the journal and finds the run before.
    assert_eq!(gate.post("/v1/chat/completions", ask(false)).await.status, 200);
    let health = gate
        .until("/health", |health| health["journal"]["lost_runs"].as_array().unwrap().len() == 1)
        .await;
    let lost = &health["journal"]["lost_runs"][0];
    assert!(lost["unknown"].is_u64() && lost["flushed_at_ms"].is_u64(), "{health}");
    assert_eq!(health["status"], "ok", "{health}");
    let mut kept = HashSet::new();
    let mut next = String::new();
    loop {
        let page = gate.get_json(&format!("/admin/v1/requests?limit=500{next}")).await;
        let ids = page["data"].as_array().unwrap().iter();
        kept.extend(ids.map(|request| request["id"].as_str().unwrap().to_owned()));
        match page["next_cursor"].as_str() {
            Some(cursor) => next = format!("&cursor={cursor}"),
            None => break,
        }
    }
    let missing: Vec<_> = due.iter().filter(|(id, _)| !kept.contains(id)).collect();
    assert!(missing.is_empty(), "{} of {} are not in the journal", missing.len(), due.len());
}

/// Sends requests until the gateway's health is as wanted; every one of them must be answered.
async fn serve_until(gate: &Program, is_so: impl Fn(&Value) -> bool) -> Value {
    let started = Instant::now();
    loop {
        for stream in [true, false] {
            let sent = Instant::now();
            let answer = gate.post("/v1/chat/completions", ask(stream)).await;
            assert_eq!((answer.status, answer.is_whole), (200, true), "{answer:?}");
            assert!(sent.elapsed() < Duration::from_secs(3), "it waited for the database");
        }
        let health = gate.get_json("/health").await;
        if is_so(&health) {
            return health;
        }
        assert!(started.elapsed() < Duration::from_secs(25), "it stays so: {health}");
    }
}

#[tokio::test]
async fn a_locked_database_costs_no_request() {
    let gate = Program::serve(CONFIG);
    serve_until(&gate, |health| health["journal"]["written"].as_u64() > Some(3)).await;
    let url = format!("sqlite:{}/data/tidegate.db", gate.folder().display());
    let mut other: SqliteConnection =
        SqliteConnectOptions::from_str(&url).unwrap().connect().await.unwrap();
    other.execute("BEGIN EXCLUSIVE").await.unwrap();
    let locked = serve_until(&gate, |health| health["status"] == "degraded").await;
    assert!(locked["journal"]["last_error"].as_str().unwrap().contains("locked"), "{locked}");
    assert!(locked["journal"]["queued"].as_u64() > Some(0), "{locked}");
    other.execute("ROLLBACK").await.unwrap();
    let free = serve_until(&gate, |health| health["status"] == "ok").await;
    assert_eq!(free["journal"]["dropped"], 0, "{free}");
    assert!(free["journal"]["written"].as_u64() > locked["journal"]["written"].as_u64());
}

#[tokio::test]
#[cfg(target_os = "linux")]
async fn a_full_disk_costs_entries_and_no_request() {
    let limit = "trap '' XFSZ; ulimit -S -f 3000";
    let gate = Program::serve_in(tempfile::tempdir().unwrap(), CONFIG, Some(limit));
    let full = serve_until(&gate, |health| health["journal"]["degraded"] == true).await;
    assert_eq!(full["status"], "degraded", "{full}");
    assert!(full["journal"]["last_error"].is_string(), "{full}");
    assert!(full["journal"]["written"].as_u64() > Some(0), "{full}");
    let pid = gate.child.id().to_string();
    let freed = Command::new("prlimit").args(["--pid", &pid, "--fsize=unlimited"]).status();
    if freed.is_ok_and(|status| status.success()) {
        let free = serve_until(&gate, |health| health["journal"]["degraded"] == false).await;
        assert!(free["journal"]["written"].as_u64() > full["journal"]["written"].as_u64());
    }
    // Else there is no prlimit on this machine, and only the trouble was tried.
}

/// A flood of connections takes all file descriptors; when it has passed, all is well.
#[tokio::test]
async fn a_gateway_without_file_descriptors_recovers() {
    let folder = tempfile::tempdir().unwrap();
    let gate = Program::serve_in(folder, CONFIG, Some("ulimit -n 64"));
    assert_eq!(gate.post("/v1/chat/completions", ask(true)).await.status, 200);
    let mut first = gate.connect().await;
    // What a listener has queued may wait for the flood to pass; what it has read from does not.
    first.write_all(b"GET /nothing HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut refusal = Vec::new();
    while !refusal.ends_with(b"}") {
        assert!(first.read_buf(&mut refusal).await.unwrap() > 0);
    }
    let mut flood = Vec::new();
    for _ in 0..200 {
        flood.push(gate.connect().await);
    }
    // One that was accepted before is served all the same.
    first
        .write_all(&crate::process::post("/v1/chat/completions", ask(true).as_bytes()))
        .await
        .unwrap();
    let answer = crate::process::read_answer(&mut first).await;
    assert_eq!((answer.status, answer.is_whole), (200, true), "{answer:?}");
    drop(flood);
    let answer = gate.post("/v1/chat/completions", ask(false)).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    serve_until(&gate, |health| health["status"] == "ok").await;
}
