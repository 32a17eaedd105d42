//! Limits of keys and teams, which outlive the process and know what was used before they were
//! made.

use serde_json::{Value, json};
use tidegate::clock::Instant;

use crate::process::{ADMIN_KEY, Answer, PATIENCE, Program};

/// Keys are needed, and the simulator answers.
const KEYS: &str = "[auth]\nmode = \"keys\"\n[providers.sim]\n";

/// A key, and its public id.
struct Key {
    id: String,
    secret: String,
}

async fn send(gate: &Program, line: &str, key: &str, body: &Value) -> Answer {
    let body = body.to_string();
    gate.send(format!(
        "{line} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    ))
    .await
}

async fn admin(gate: &Program, line: &str, body: Value) -> Value {
    let answer = send(gate, line, ADMIN_KEY, &body).await;
    assert!((200..300).contains(&answer.status), "{answer:?}");
    answer.json()
}

async fn key(gate: &Program, terms: Value) -> Key {
    let made = admin(gate, "POST /admin/v1/keys", terms).await;
    let text = |name: &str| made[name].as_str().unwrap().to_owned();
    Key { id: text("id"), secret: text("key") }
}

async fn team(gate: &Program, terms: Value) -> String {
    let made = admin(gate, "POST /admin/v1/teams", terms).await;
    made["id"].as_str().unwrap().to_owned()
}

/// Asks for ten tokens, which cost 40 millionths of a dollar.
async fn chat(gate: &Program, key: &Key) -> Answer {
    let messages = json!([{ "role": "user", "content": "[[sim:ttft=1ms,gap=0ms,tokens=10]]" }]);
    let body = json!({ "model": "sim/tide-large", "max_tokens": 10, "messages": messages });
    send(gate, "POST /v1/chat/completions", &key.secret, &body).await
}

async fn chats(gate: &Program, keys: &[&Key]) {
    for key in keys {
        let answer = chat(gate, key).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
}

async fn is_refused(gate: &Program, key: &Key, (status, code): (u16, &str)) {
    let refused = chat(gate, key).await;
    assert_eq!(refused.status, status, "{refused:?}");
    assert_eq!(refused.json()["error"]["code"], code);
}

async fn killed_and_started(gate: Program, config: &str) -> Program {
    let settled = |health: &Value| {
        health["journal"]["queued"] == 0
            && health["journal"]["written"] == health["journal"]["accepted"]
    };
    gate.until("/health", settled).await;
    Program::serve_in(gate.kill(), config, None)
}

/// Waits until it is known that a limit is used up, without a request that would use it.
async fn until_used_up(gate: &Program) {
    let started = Instant::now();
    while !gate.get("/metrics").await.body.contains("percent=\"100\"} 1") {
        assert!(started.elapsed() < PATIENCE, "nobody adds up what was used");
    }
}

#[tokio::test]
async fn a_keys_own_budget_outlives_a_gateway_that_is_killed() {
    let gate = Program::serve(KEYS);
    let poor = key(&gate, json!({ "name": "poor", "limits": { "usd_per_day": "0.0002" } })).await;
    let other = key(&gate, json!({ "name": "other", "limits": { "usd_per_day": "1" } })).await;
    chats(&gate, &[&poor, &other]).await;
    let started = Instant::now();
    while chat(&gate, &poor).await.status == 200 {
        assert!(started.elapsed() < PATIENCE, "it is never refused");
    }
    let gate = killed_and_started(gate, KEYS).await;
    is_refused(&gate, &poor, (402, "usd_per_day")).await;
    assert_eq!(chat(&gate, &other).await.status, 200);
}

#[tokio::test]
async fn what_the_keys_of_a_team_used_together_outlives_a_gateway_that_is_killed() {
    let config = format!("{KEYS}[limits.teams]\nby = [\"team\"]\nrequests_per_month = 4");
    let gate = Program::serve(&config);
    let limited = team(&gate, json!({ "name": "a", "limits": { "requests_per_day": 3 } })).await;
    let free = team(&gate, json!({ "name": "b" })).await;
    let of = |team: &str| json!({ "name": "one of them", "team": team });
    let (one, two) = (key(&gate, of(&limited)).await, key(&gate, of(&limited)).await);
    let (three, four) = (key(&gate, of(&free)).await, key(&gate, of(&free)).await);
    chats(&gate, &[&one, &one, &two, &three, &three, &three, &four]).await;
    // What a key used that is no more was used by its team.
    admin_delete(&gate, &three).await;
    let gate = killed_and_started(gate, &config).await;
    for key in [&one, &two] {
        is_refused(&gate, key, (429, "requests_per_day")).await;
    }
    is_refused(&gate, &four, (429, "requests_per_month")).await;
}

async fn admin_delete(gate: &Program, key: &Key) {
    let line = format!("DELETE /admin/v1/keys/{}", key.id);
    assert_eq!(send(gate, &line, ADMIN_KEY, &Value::Null).await.status, 204);
}

#[tokio::test]
async fn a_limit_that_a_key_is_given_knows_what_the_key_has_used() {
    let gate = Program::serve(KEYS);
    let (one, two) = (key(&gate, json!({ "name": "a" })).await, key(&gate, json!({ "name": "b" })));
    let two = two.await;
    chats(&gate, &[&one, &one, &one, &two]).await;
    for key in [&one, &two] {
        let line = format!("PATCH /admin/v1/keys/{}", key.id);
        admin(&gate, &line, json!({ "limits": { "requests_per_day": 3 } })).await;
    }
    until_used_up(&gate).await;
    is_refused(&gate, &one, (429, "requests_per_day")).await;
    chats(&gate, &[&two, &two]).await;
    is_refused(&gate, &two, (429, "requests_per_day")).await;
}

#[tokio::test]
async fn a_limit_that_a_reload_brings_in_knows_what_was_used() {
    let gate = Program::serve(KEYS);
    let one = key(&gate, json!({ "name": "a" })).await;
    chats(&gate, &[&one, &one, &one]).await;
    let config = format!("{KEYS}[limits.everybody]\nby = []\noutput_tokens_per_month = 30\n");
    std::fs::write(gate.folder().join("tidegate.toml"), config).unwrap();
    until_used_up(&gate).await;
    is_refused(&gate, &one, (429, "output_tokens_per_month")).await;
}

#[tokio::test]
async fn a_keys_own_limit_replaces_the_default_and_a_teams_holds_for_all_its_keys() {
    let gate = Program::serve(&format!("{KEYS}[limits.default]\nrequests_per_minute = 600"));
    let own = json!({ "name": "own", "limits": { "requests_per_minute": 1 } });
    let (own, usual) = (key(&gate, own).await, key(&gate, json!({ "name": "usual" })).await);
    for (key, limit) in [(&own, "1"), (&usual, "600")] {
        let answer = chat(&gate, key).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("x-ratelimit-limit-requests"), limit);
    }
    let refused = chat(&gate, &own).await;
    assert_eq!(refused.status, 429, "{refused:?}");
    let message = refused.json()["error"]["message"].as_str().unwrap().to_owned();
    assert!(message.starts_with("the limit of the key itself is reached"), "{message}");
    chats(&gate, &[&usual, &usual]).await;
    let team = team(&gate, json!({ "name": "t", "limits": { "requests_per_minute": 2 } })).await;
    let of_team = json!({ "name": "of a team", "team": team });
    let (one, two) = (key(&gate, of_team.clone()).await, key(&gate, of_team).await);
    chats(&gate, &[&one, &two]).await;
    for key in [&one, &two] {
        let refused = chat(&gate, key).await;
        assert_eq!(refused.status, 429, "{refused:?}");
        let message = refused.json()["error"]["message"].as_str().unwrap().to_owned();
        assert!(message.starts_with("the limit of the team itself is reached"), "{message}");
    }
    chats(&gate, &[&usual]).await;
}
