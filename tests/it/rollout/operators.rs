//! The operators' path of the README on three nodes: push a version, give it 1 % of the users, give
//! it 25 %, take it back.

use std::time::Duration;

use serde_json::{Value, json};
use tidegate::clock::Instant;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::{admin, begin};
use crate::process::{PATIENCE, Program};
use crate::servers::postgres::PostgresServer;
use crate::servers::redis::Redis;

const USERS: usize = 20_000;
/// Connections to each node.
const LINES: usize = 4;
/// How often a rollout is taken back, with the bus and without it.
const ROUNDS: usize = 12;

/// A connection that is used for one request after the other.
struct Line(BufReader<TcpStream>);

impl Line {
    async fn to(node: &Program) -> Self {
        Self(BufReader::new(node.connect().await))
    }

    /// The version of the prompt that a user gets.
    async fn version(&mut self, user: usize) -> String {
        let message = json!({"role": "user", "content": "[[sim:ttft=0ms,gap=0ms,tokens=1]]"});
        let body = json!({
            "prompt": {"id": "support", "variables": {"company": "Acme"}},
            "messages": [message],
        });
        let body = body.to_string();
        let request = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
             x-tidegate-user: user-{user}\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        self.0.write_all(request.as_bytes()).await.unwrap();
        let (mut version, mut length, mut line) = (String::new(), 0, String::new());
        loop {
            line.clear();
            self.0.read_line(&mut line).await.unwrap();
            match line.trim_end().split_once(": ") {
                Some(("content-length", bytes)) => length = bytes.parse().unwrap(),
                Some(("x-tidegate-prompt", name)) => version = name.to_owned(),
                Some(_) => {}
                None if line == "\r\n" => break,
                None => assert!(line.starts_with("HTTP/1.1 200"), "{line}"),
            }
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).await.unwrap();
        version
    }

    async fn is_candidate(&mut self, user: usize) -> bool {
        self.version(user).await == "support@1.3.0"
    }
}

/// Which of the first users get the candidate, asked on all nodes at once: each on one of them.
async fn sides(nodes: &[Program], users: usize) -> Vec<bool> {
    let mut asking = JoinSet::new();
    let lines = nodes.len() * LINES;
    for at in 0..lines {
        let mut line = Line::to(&nodes[at % nodes.len()]).await;
        asking.spawn(async move {
            let mut seen = Vec::new();
            for user in (at..users).step_by(lines) {
                seen.push((user, line.is_candidate(user).await));
            }
            seen
        });
    }
    let mut sides = vec![false; users];
    for (user, is_candidate) in asking.join_all().await.into_iter().flatten() {
        sides[user] = is_candidate;
    }
    sides
}

/// Waits until all nodes serve a share.
async fn all_serve(nodes: &[Program], percent: f64) {
    for node in nodes {
        let began = Instant::now();
        while super::served(node).await != percent {
            assert!(began.elapsed() < PATIENCE, "it never comes");
        }
    }
}

async fn push(node: &Program, version: &str, more: Value) {
    let mut messages = vec![json!({"role": "system", "content": "You help {{ company }}."})];
    messages.extend(more.as_array().unwrap().clone());
    let body = json!({
        "version": version, "target_model": "sim/tide-small", "messages": messages,
        "variables": {"properties": {"company": {"type": "string"}}},
    });
    let answer = admin(node, "POST", "/prompts/support/versions", &body.to_string()).await;
    assert_eq!(answer.status, 201, "{answer:?}");
}

/// Takes a rollout of everything back on one node. How long a user still gets the candidate on any.
async fn taken_back(nodes: &[Program], by: usize) -> Duration {
    let body = json!({
        "prompt": "support", "from": "1.2.0", "to": "1.3.0", "percent": 99, "force": true,
        "guardrails": [{"guardrail": "errors"}],
    });
    let id = begin(&nodes[by], &body.to_string()).await;
    all_serve(nodes, 99.0).await;
    let mut lines = Vec::new();
    for node in nodes {
        lines.push(Line::to(node).await);
    }
    // A user who is a candidate's, as 99 of 100 are.
    let mut user = 0;
    while !lines[0].is_candidate(user).await {
        user += 1;
    }
    let path = format!("/rollouts/{id}/rollback");
    assert_eq!(admin(&nodes[by], "POST", &path, "").await.status, 200);
    let said = Instant::now();
    for line in &mut lines {
        while line.is_candidate(user).await {
            assert!(said.elapsed() < PATIENCE, "it never ends");
        }
    }
    said.elapsed()
}

#[tokio::test]
async fn the_operators_path_on_three_nodes() {
    let (Some(postgres), Some(redis)) = (PostgresServer::start(), Redis::start()) else { return };
    let config = super::config(&postgres.url(), &format!("[cluster]\nurl = \"{}\"", redis.url()));
    let nodes: Vec<_> = (0..3).map(|_| Program::serve(&config)).collect();
    push(&nodes[0], "1.2.0", json!([])).await;
    let label =
        admin(&nodes[0], "PUT", "/prompts/support/labels/production", r#"{"version": "1.2.0"}"#);
    assert_eq!(label.await.status, 200);
    push(&nodes[1], "1.3.0", json!([{"role": "user", "content": "Be brief."}])).await;

    // The longer prompt is dearer, which would take it back.
    let start = json!({
        "prompt": "support", "from": "1.2.0", "to": "1.3.0", "percent": 1,
        "guardrails": [{"guardrail": "errors"}],
    });
    let id = begin(&nodes[2], &start.to_string()).await;
    all_serve(&nodes, 1.0).await;
    let few = sides(&nodes, USERS / 10).await;
    let patched = admin(&nodes[0], "PATCH", &format!("/rollouts/{id}"), r#"{"percent": 25}"#).await;
    assert_eq!(patched.status, 200, "{patched:?}");
    all_serve(&nodes, 25.0).await;
    let quarter = sides(&nodes, USERS).await;
    let share = 100.0 * quarter.iter().filter(|is| **is).count() as f64 / USERS as f64;
    println!("{share} % of {USERS} users");
    assert!((share - 25.0).abs() <= 1.0, "{share}");
    assert!(few.iter().zip(&quarter).all(|(few, more)| !few || *more), "growth is monotone");
    // Each user was asked on one node; the others say the same of them.
    let mut turned = nodes;
    turned.rotate_left(1);
    assert_eq!(sides(&turned, USERS / 10).await, quarter[..USERS / 10]);
    let path = format!("/rollouts/{id}/rollback");
    assert_eq!(admin(&turned[0], "POST", &path, r#"{"reason": "too curt"}"#).await.status, 200);
    all_serve(&turned, 0.0).await;
    assert!(sides(&turned, 300).await.iter().all(|is| !is), "nobody gets it any more");

    let mut with_bus = Vec::new();
    for round in 0..ROUNDS {
        with_bus.push(taken_back(&turned, round % 3).await);
    }
    drop(redis);
    let mut without = Vec::new();
    for round in 0..ROUNDS / 3 {
        without.push(taken_back(&turned, round % 3).await);
    }
    println!("taken back within {with_bus:?}, without the bus {without:?}");
    assert!(with_bus.iter().all(|took| *took < Duration::from_secs(1)), "{with_bus:?}");
    assert!(without.iter().all(|took| *took < Duration::from_secs(5)), "{without:?}");
}
