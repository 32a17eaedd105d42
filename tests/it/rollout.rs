//! Rollouts with the real program: led over HTTP and from a terminal, seen by other nodes, and led
//! on where the node that leads the analysis is killed.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use tidegate::clock::{Instant, SystemWallClock};
use tidegate::policy::rollout::{
    Arm, Guardrail, HardFailure, Observation, Readings, Share, Traits,
};
use tidegate::rollout::{Note, Notebook, Noted, RolloutLedger, Rollouts, Surroundings};
use tidegate::store::Store;

use crate::process::{ADMIN_KEY, Answer, PATIENCE, Program};
use crate::servers::postgres::PostgresServer;
use crate::servers::redis::Redis;
use crate::support::tidegate;

mod operators;
mod sides;

/// A route of the simulator, and where it is kept.
fn config(store: &str, cluster: &str) -> String {
    format!(
        r#"
        [store]
        url = "{store}"
        {cluster}
        [providers.sim]
        [routes.smart]
        targets = [{{ model = "sim/tide-small" }}]
        "#
    )
}

fn start(percent: f64, more: &str) -> String {
    format!(
        r#"{{"route": "smart", "from": "sim/tide-small", "to": "sim/tide-large",
             "percent": {percent}{more}}}"#
    )
}

async fn admin(node: &Program, method: &str, path: &str, body: &str) -> Answer {
    node.send(format!(
        "{method} /admin/v1{path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {ADMIN_KEY}\r\n\
         content-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    ))
    .await
}

async fn begin(node: &Program, body: &str) -> String {
    let answer = admin(node, "POST", "/rollouts", body).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    answer.json()["id"].as_str().unwrap().to_owned()
}

/// What a node gives the candidate. It steers by its own table, not by the store.
async fn served(node: &Program) -> f64 {
    node.metric("tidegate_rollout_percent").await
}

/// Sets a share at one node. How long it takes until another one serves it.
async fn spread(from: &Program, to: &Program, id: &str, percent: f64) -> Duration {
    let body = json!({ "percent": percent }).to_string();
    let said = Instant::now();
    assert_eq!(admin(from, "PATCH", &format!("/rollouts/{id}"), &body).await.status, 200);
    assert_eq!(served(from).await, percent, "at once where it was said");
    while served(to).await != percent {
        assert!(said.elapsed() < PATIENCE, "it never comes");
    }
    said.elapsed()
}

#[tokio::test]
async fn an_operator_leads_a_rollout_from_a_terminal() {
    let folder = tempfile::tempdir().unwrap();
    let store = format!("sqlite:{}/tidegate.db", folder.path().display());
    let gate = Program::serve(&config(&store, ""));
    let said = |words: &[&str]| {
        let url = format!("http://{}", gate.address);
        let arguments = ["rollout", "--url", &url, "--admin-key", ADMIN_KEY];
        let output = tidegate().args(arguments).args(words).output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.code().unwrap(), String::from_utf8(text).unwrap())
    };
    let (code, text) = said(&["list"]);
    assert_eq!((code, text.starts_with("no rollouts; ")), (0, true), "{text}");
    let sides = ["--route", "smart", "--from", "sim/tide-small", "--to", "sim/tide-large"];
    let (code, text) = said(&[&["start", "--percent", "1"], &sides[..]].concat());
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("sim/tide-large serves 1 %, sim/tide-small the rest"), "{text}");
    assert!(text.contains("no stage ends at 0 requests an hour"), "{text}");
    let id = text.split(' ').next().unwrap().to_owned();
    assert_eq!(served(&gate).await, 1.0);

    for (words, code, expected) in [
        (vec!["set", &id, "25"], 0, "serves 25 %"),
        (vec!["set", &id, "101"], 2, "from 0 to 100 in steps of 0.01, not 101"),
        (vec!["pause", &id, "--reason", "lunch"], 0, "paused by an operator"),
        (vec!["pause", &id], 1, "paused already"),
        (vec!["resume", &id], 0, "serves 25 %"),
        (vec!["promote", &id], 0, "serves 50 %"),
        (vec!["show", &id], 0, "promoted by hand after 0 requests of the candidate"),
        (vec!["list"], 0, "route smart"),
        (vec!["show", "../keys"], 2, "is no id of a rollout"),
        (vec!["show", "ro_x"], 1, "no rollout has the id `ro_x`"),
        (vec!["start", "--stage", "5"], 2, "write it like 5,500,15m"),
        (vec!["rollback", &id, "--reason", "too curt"], 0, "sim/tide-small serves everybody"),
        (vec!["rollback", &id], 1, "the rollout is over"),
        (vec!["show", &id, "--json"], 0, "rolled back by hand: too curt"),
    ] {
        let (got, text) = said(&words);
        assert_eq!(got, code, "{words:?}: {text}");
        assert!(text.contains(expected), "{words:?}: {text}");
    }
    assert_eq!(served(&gate).await, 0.0);
    assert_eq!(gate.metric("tidegate_rollout_decisions_total{verdict=\"roll_back\"}").await, 1.0);
}

#[tokio::test]
async fn a_share_survives_the_program_and_what_was_rolled_back_does_not_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(&format!("sqlite:{}/tidegate.db", folder.path().display()), "");
    let gate = Program::serve(&config);
    let id = begin(&gate, &start(25.0, "")).await;
    let gate = Program::serve_in(gate.kill(), &config, None);
    assert_eq!(served(&gate).await, 25.0);
    let path = format!("/rollouts/{id}/rollback");
    assert_eq!(admin(&gate, "POST", &path, "").await.status, 200);
    let gate = Program::serve_in(gate.kill(), &config, None);
    assert_eq!(served(&gate).await, 0.0);
}

#[tokio::test]
async fn other_nodes_of_a_store_follow_without_redis() {
    let Some(server) = PostgresServer::start() else { return };
    let config = config(&server.url(), "");
    let (a, b) = (Program::serve(&config), Program::serve(&config));
    let id = begin(&a, &start(1.0, "")).await;
    let mut slowest = Duration::ZERO;
    for percent in [25.0, 2.0, 60.0, 25.01, 0.5] {
        slowest = slowest.max(spread(&a, &b, &id, percent).await);
    }
    println!("without Redis: {slowest:?} at most");
    // They look twice a second, so it is half a second and a little; the rest is for a machine that
    // has three times more to do than it has cores, where 1.01 s were seen.
    assert!(slowest < Duration::from_secs(2), "{slowest:?}");
    let rolled_back = admin(&b, "POST", &format!("/rollouts/{id}/rollback"), "").await;
    assert_eq!(rolled_back.status, 200);
    let said = Instant::now();
    while served(&a).await > 0.0 {
        assert!(said.elapsed() < Duration::from_secs(2), "it still serves the candidate");
    }
}

#[tokio::test]
async fn nodes_of_a_cluster_follow_at_once() {
    let Some(redis) = Redis::start() else { return };
    let folder: TempDir = tempfile::tempdir().unwrap();
    let store = format!("sqlite:{}/shared.db", folder.path().display());
    let config = config(&store, &format!("[cluster]\nurl = \"{}\"", redis.url()));
    let (a, b) = (Program::serve(&config), Program::serve(&config));
    for node in [&a, &b] {
        node.until("/health", |health| health["cluster"]["nodes"] == 2).await;
    }
    let id = begin(&a, &start(1.0, "")).await;
    let mut slowest = Duration::ZERO;
    for percent in [25.0, 2.0, 60.0, 25.01, 0.5] {
        slowest = slowest.max(spread(&a, &b, &id, percent).await);
    }
    println!("with Redis: {slowest:?} at most");
    assert!(slowest < Duration::from_millis(500), "{slowest:?}");
}

/// A node of the test's own that only notes.
struct Noter {
    rollouts: Rollouts,
    notebook: Notebook,
    id: Arc<str>,
}

impl Noter {
    fn of(store: &str, id: &str) -> Self {
        let store = Store::new(store.parse().unwrap());
        let (rollouts, clock) = (Rollouts::new(), Arc::new(SystemWallClock));
        let ledger =
            RolloutLedger::new(store, rollouts.clone(), "noter", None, clock, Surroundings::none());
        Self { rollouts, notebook: Notebook::new(ledger), id: Arc::from(id) }
    }

    /// So many requests of each side.
    async fn note(&mut self, candidates: u32, controls: u32, does_candidate_fail: bool) {
        let share = Share::from_percent(5.0).unwrap();
        let arms = std::iter::repeat_n(Arm::Control, controls as usize)
            .chain(std::iter::repeat_n(Arm::Candidate, candidates as usize));
        for arm in arms {
            let has_failed = arm == Arm::Candidate && does_candidate_fail;
            let hard = Some(if has_failed { HardFailure::Failed } else { HardFailure::No });
            let readings = Readings::default().with_flag(Guardrail::Errors, has_failed);
            let traits = Traits::default();
            let seen = Observation { arm, share, unit: None, hard, readings, traits };
            for noted in [Noted::Exposed { arm, share, unit: None }, Noted::Observed(seen)] {
                self.rollouts.note(Note { rollout: Arc::clone(&self.id), noted });
            }
        }
        self.notebook.flush().await.unwrap();
    }
}

/// Which of the nodes leads.
async fn leader(nodes: &[Program]) -> Option<usize> {
    for (at, node) in nodes.iter().enumerate() {
        if node.metric("tidegate_rollout_is_leader").await > 0.0 {
            return Some(at);
        }
    }
    None
}

async fn until_led(nodes: &[Program]) -> usize {
    let began = Instant::now();
    loop {
        if let Some(at) = leader(nodes).await {
            return at;
        }
        assert!(began.elapsed() < PATIENCE, "nobody leads");
    }
}

fn counts(rollout: &Value) -> (u64, u64) {
    let of = |side: &str| rollout["sample_ratio"][side].as_u64().unwrap();
    (of("candidates"), of("controls"))
}

#[tokio::test]
async fn where_the_leader_is_killed_nothing_is_lost_and_the_next_one_rolls_back_once() {
    let Some(server) = PostgresServer::start() else { return };
    let config = config(&server.url(), "");
    let mut nodes: Vec<_> = (0..3).map(|_| Program::serve(&config)).collect();
    let stage = r#", "stages": [{"percent": 5, "min_time": "1h"}, {"percent": 50}]"#;
    let id = begin(&nodes[0], &start(5.0, stage)).await;
    let path = format!("/admin/v1/rollouts/{id}");
    let mut noter = Noter::of(&server.url(), &id);

    // What comes before, while and after the leader is killed is counted, and once.
    let at = until_led(&nodes).await;
    for _ in 0..10 {
        noter.note(5, 95, false).await;
    }
    let killed = nodes.swap_remove(at);
    drop(killed.kill());
    for _ in 0..10 {
        noter.note(5, 95, false).await;
    }
    let next = until_led(&nodes).await;
    nodes[next].until(&path, |rollout| counts(rollout) == (100, 1_900)).await;

    // The same where the candidate turns bad.
    noter.note(0, 95, false).await;
    let bad = Instant::now();
    noter.note(5, 0, true).await;
    let killed = nodes.swap_remove(next);
    drop(killed.kill());
    let last = &nodes[0];
    let rolled_back = last.until(&path, |rollout| rollout["phase"] == "rolled_back").await;
    println!("rolled back {:?} after the first failure, its leader killed", bad.elapsed());
    let sentence = rolled_back["decisions"][0]["sentence"].as_str().unwrap();
    assert!(sentence.contains("candidate fail"), "{sentence}");
    let verdicts: Vec<_> =
        rolled_back["decisions"].as_array().unwrap().iter().map(|one| &one["verdict"]).collect();
    assert_eq!(verdicts, ["roll_back"]);
    let audit = last.get_json("/admin/v1/audit?action=rollout.roll_back").await;
    assert_eq!(audit["data"].as_array().unwrap().len(), 1, "{audit}");
    let began = Instant::now();
    while served(last).await > 0.0 {
        assert!(began.elapsed() < Duration::from_secs(1));
    }
}

/// Asks the route as a user, and says who answered; the status where nobody did.
async fn served_by(node: &Program, user: &str) -> String {
    let message = json!({ "role": "user", "content": "[[sim:ttft=0ms,gap=0ms,tokens=1]]" });
    let body = json!({ "model": "smart", "user": user, "messages": [message] }).to_string();
    let answer = node.post("/v1/chat/completions", body).await;
    match answer.status {
        200 => answer.header("x-tidegate-served-by").to_owned(),
        status => status.to_string(),
    }
}

#[tokio::test]
async fn users_keep_to_their_side_on_all_nodes_and_growth_moves_nobody_back() {
    const USERS: usize = 200;
    let Some(server) = PostgresServer::start() else { return };
    let config = config(&server.url(), "");
    let nodes: Vec<_> = (0..3).map(|_| Program::serve(&config)).collect();
    // The candidate costs more, and would be rolled back for it.
    let errors = r#", "guardrails": [{"guardrail": "errors"}]"#;
    let id = begin(&nodes[0], &start(10.0, errors)).await;
    let mut before = vec![false; USERS];
    for percent in [10.0, 25.0, 60.0] {
        let body = json!({ "percent": percent }).to_string();
        let path = format!("/rollouts/{id}");
        assert_eq!(admin(&nodes[1], "PATCH", &path, &body).await.status, 200);
        for node in &nodes {
            while served(node).await != percent {}
        }
        let mut now = Vec::new();
        for user in 0..USERS {
            let user = format!("user-{user}");
            let first = served_by(&nodes[0], &user).await;
            for node in &nodes[1..] {
                assert_eq!(served_by(node, &user).await, first, "{user} at {percent} %");
            }
            now.push(first == "sim/tide-large");
        }
        let stays = before.iter().zip(&now).all(|(before, now)| *now || !*before);
        assert!(stays, "somebody was moved back at {percent} %");
        let share = 100.0 * now.iter().filter(|is_candidate| **is_candidate).count() as f64;
        // Three and a half deviations of a draw of 200.
        assert!((share / USERS as f64 - percent).abs() < 12.5, "{share} of {percent}");
        before = now;
    }
    assert_eq!(admin(&nodes[2], "POST", &format!("/rollouts/{id}/rollback"), "").await.status, 200);
    let said = Instant::now();
    for node in &nodes {
        while served(node).await > 0.0 {
            assert!(said.elapsed() < Duration::from_secs(1), "the candidate is still served");
        }
        for user in 0..20 {
            assert_eq!(served_by(node, &format!("user-{user}")).await, "sim/tide-small");
        }
    }
}

#[tokio::test]
async fn a_candidate_that_cannot_be_reached_is_rolled_back_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let store = format!("sqlite:{}/tidegate.db", folder.path().display());
    // Nothing listens there.
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let broken = format!(
        r#"
        [providers.broken]
        dialect = "openai-chat"
        base_url = "http://{gone}/v1"
        credentials = [{{ none = true }}]
        models = [{{ id = "gone" }}]
        "#
    );
    let gate = Program::serve(&config(&store, &broken));
    let body = start(20.0, "").replace("sim/tide-large", "broken/gone");
    let id = begin(&gate, &body).await;
    let began = Instant::now();
    let (mut asked, mut failed) = (0, 0);
    while served(&gate).await > 0.0 {
        asked += 1;
        failed += u32::from(served_by(&gate, &format!("user-{asked}")).await != "sim/tide-small");
        assert!(began.elapsed() < PATIENCE, "{failed} of {asked} failed, and it goes on");
    }
    println!("rolled back after {:?}: {failed} of {asked} requests failed", began.elapsed());
    assert_eq!(served_by(&gate, "user-1").await, "sim/tide-small");
    let view = gate.get_json(&format!("/admin/v1/rollouts/{id}")).await;
    assert_eq!(
        (&view["phase"], &view["decisions"][0]["by"]),
        (&json!("rolled_back"), &json!("gateway"))
    );
    assert!(
        view["decisions"][0]["sentence"].as_str().unwrap().contains("candidate fail"),
        "{view}"
    );
}

#[tokio::test]
async fn a_prompt_that_is_done_has_the_labels_of_the_one_before() {
    let folder = tempfile::tempdir().unwrap();
    let prompts = folder.path().join("prompts/greet");
    std::fs::create_dir_all(&prompts).unwrap();
    let text = |word: &str| {
        format!(
            "target_model = \"smart\"\n[[messages]]\nrole = \"user\"\ncontent = \"{word} [[sim:tokens=1]]\"\n"
        )
    };
    std::fs::write(prompts.join("1.0.0.toml"), text("Hello")).unwrap();
    std::fs::write(prompts.join("1.0.1.toml"), text("Good day")).unwrap();
    std::fs::write(prompts.join("labels.toml"), "production = '1.0.0'\nstaging = '1.0.1'\n")
        .unwrap();
    let gate = Program::serve_in(folder, &config("sqlite:data/tidegate.db", ""), None);
    let prompt = async |version: Option<&str>| {
        let mut body = json!({ "prompt": { "id": "greet" }, "user": "ada" });
        if let Some(version) = version {
            body["prompt"]["version"] = version.into();
        }
        let answer = gate.post("/v1/chat/completions", body.to_string()).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.header("x-tidegate-prompt").to_owned()
    };
    assert_eq!(prompt(None).await, "greet@1.0.0");
    let body = r#"{"prompt": "greet", "from": "1.0.0", "to": "1.0.1", "stages": [{"percent": 50}, {"percent": 100}]}"#;
    let id = begin(&gate, body).await;
    let promote = format!("/rollouts/{id}/promote");
    assert_eq!(admin(&gate, "POST", &promote, "").await.json()["percent"], 100.0);
    assert_eq!(prompt(None).await, "greet@1.0.1");
    assert_eq!(prompt(Some("1.0.0")).await, "greet@1.0.0", "who names a version gets it");
    assert_eq!(admin(&gate, "POST", &promote, "").await.json()["phase"], "done");
    gate.until("/admin/v1/prompts/greet/labels", |labels| {
        let labels = labels["data"].as_array().unwrap();
        let production = labels.iter().find(|label| label["label"] == "production");
        production.is_some_and(|label| label["version"] == "1.0.1")
    })
    .await;
    assert_eq!(prompt(None).await, "greet@1.0.1");
    assert_eq!(prompt(Some("production")).await, "greet@1.0.1");
    let audit = gate.get_json("/admin/v1/audit").await.to_string();
    assert!(audit.contains("rollout.promote") && audit.contains("label"), "{audit}");
}
