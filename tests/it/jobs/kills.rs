//! `kill -9` of nodes at random while jobs come in: none is lost, none is made twice by a client
//! that asks again with the same key, none ends twice, each is told of under one id, and a provider
//! is asked at most once more for each kill.
//!
//! `TIDEGATE_KILLS=500` makes it longer.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::time::Duration;

use rand::RngExt;
use serde_json::{Value, json};
use tidegate::clock::Instant;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::{Receiver, is_over};
use crate::process::{PATIENCE, Program, read_answer};
use crate::servers::postgres::PostgresServer;

/// One job at a time on each node, so that a kill can cost one call at most.
fn config(store: &str, sim: &Program) -> String {
    format!(
        "[server]\nworker_threads = 1\n{store}\n\
         [jobs]\nworkers = 1\nper_caller = 100\nlease = \"2s\"\nretry_pause = \"10ms\"\n\
         [webhooks]\nallow_private = [\"127.0.0.1\"]\ntimeout = \"1s\"\n\
         [providers.local]\ndialect = \"openai-chat\"\nbase_url = \"http://{}/v1\"\n\
         credentials = [{{ none = true }}]\nmodels = [{{ id = \"m\" }}]\n",
        sim.address
    )
}

fn kills(usual: usize) -> usize {
    #[expect(clippy::disallowed_methods, reason = "a switch of the test run, not of the program")]
    let asked = std::env::var("TIDEGATE_KILLS").ok();
    asked.and_then(|kills| kills.parse().ok()).unwrap_or(usual)
}

/// Asks a node for a job under a key; its id, if the node lived long enough to say it.
async fn ask(node: SocketAddr, key: usize, url: &str) -> Option<String> {
    let text = "[[sim:ttft=20ms,gap=5ms,tokens=3]]";
    let messages = json!([{ "role": "user", "content": text }]);
    let job = json!({
        "endpoint": "/v1/chat/completions",
        "body": { "model": "local/m", "messages": messages },
        "webhook": { "url": url },
    });
    let body = job.to_string();
    let request = format!(
        "POST /v1/jobs HTTP/1.1\r\nhost: x\r\nconnection: close\r\nidempotency-key: {key}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut stream = TcpStream::connect(node).await.ok()?;
    stream.write_all(request.as_bytes()).await.ok()?;
    let answer = read_answer(&mut stream).await;
    let job: Value = serde_json::from_str(&answer.body).ok().filter(|_| answer.status == 202)?;
    job["id"].as_str().map(ToOwned::to_owned)
}

/// Asks any node until one accepts the job, as clients do; its id.
async fn hand_in(nodes: &[Program], key: usize, url: &str) -> String {
    let started = Instant::now();
    loop {
        let node = &nodes[rand::rng().random_range(0..nodes.len())];
        if let Some(id) = ask(node.address, key, url).await {
            return id;
        }
        assert!(started.elapsed() < PATIENCE, "nobody accepts job {key}");
    }
}

/// All jobs there are.
async fn all_jobs(node: &Program) -> Vec<Value> {
    let (mut all, mut next) = (Vec::new(), String::new());
    loop {
        let page = node.get_json(&format!("/v1/jobs?limit=100{next}")).await;
        all.extend(page["data"].as_array().unwrap().iter().cloned());
        match page["next_cursor"].as_str() {
            Some(cursor) => next = format!("&cursor={cursor}"),
            None => return all,
        }
    }
}

/// All jobs, once they are over and told of. Whatever was lost is found when its lease is over.
async fn all_over(node: &Program, receiver: &Receiver) -> Vec<Value> {
    let (mut done, mut since) = ((0, 0), Instant::now());
    loop {
        let jobs = all_jobs(node).await;
        let told: HashSet<_> = receiver.got().iter().map(|got| got.id.clone()).collect();
        let over = jobs.iter().filter(|job| is_over(job)).count();
        if over == jobs.len() && told.len() >= jobs.len() {
            return jobs;
        }
        if (over, told.len()) != done {
            (done, since) = ((over, told.len()), Instant::now());
        }
        let (over, told) = done;
        let stuck = since.elapsed() > Duration::from_secs(60);
        assert!(!stuck, "of {} jobs {over} are over, {told} are told of", jobs.len());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Kills nodes while jobs come in, and looks at what became of them.
async fn survive(mut nodes: Vec<Program>, config: &str, sim: &Program, kills: usize) {
    let receiver = Receiver::start().await;
    let (mut accepted, mut keys, mut unheard) = (HashSet::new(), 0.., 0);
    for kill in 0..kills {
        for key in keys.by_ref().take(rand::rng().random_range(2..=8)) {
            accepted.insert(hand_in(&nodes, key, &receiver.url()).await);
        }
        let unlucky = nodes.swap_remove(kill % nodes.len());
        // One comes in as the node is killed, and again afterwards if nothing was heard of it.
        let (key, url, address) = (keys.next().unwrap(), receiver.url(), unlucky.address);
        let (heard, folder) = tokio::join!(ask(address, key, &url), async {
            let after = Duration::from_millis(rand::rng().random_range(0..60));
            tokio::time::sleep(after).await;
            unlucky.kill()
        });
        nodes.push(Program::serve_in(folder, config, None));
        unheard += usize::from(heard.is_none());
        let id = hand_in(&nodes, key, &url).await;
        assert!(heard.is_none_or(|heard| heard == id), "a key made two jobs");
        accepted.insert(id);
    }
    let asked_for = keys.next().unwrap();
    let jobs = all_over(&nodes[0], &receiver).await;
    let known: HashSet<_> = jobs.iter().map(|job| job["id"].as_str().unwrap().to_owned()).collect();
    let lost: Vec<_> = accepted.difference(&known).collect();
    assert!(lost.is_empty(), "lost: {lost:?}");
    assert_eq!((accepted.len(), jobs.len()), (asked_for, asked_for), "one job for each key");
    let unwell: Vec<_> = jobs.iter().filter(|job| job["status"] != "succeeded").collect();
    assert!(unwell.is_empty(), "{unwell:?}");

    let mut ids: HashMap<String, HashSet<String>> = HashMap::new();
    let (mut ends, got) = (HashMap::new(), receiver.got());
    for got in &got {
        let job = got.body["data"]["id"].as_str().unwrap().to_owned();
        ids.entry(job.clone()).or_default().insert(got.id.clone());
        let end = ends.entry(job).or_insert_with(|| got.body.clone());
        assert_eq!(*end, got.body, "a job ended twice");
    }
    assert_eq!(ids.len(), jobs.len());
    assert!(ids.values().all(|ids| ids.len() == 1), "a job has two webhook ids");
    let distinct: HashSet<_> = ids.values().flatten().collect();
    assert_eq!(distinct.len(), jobs.len(), "two jobs have one webhook id");

    let stats = sim.get_json("/sim/stats").await;
    let calls = usize::try_from(stats["requests"].as_u64().unwrap()).unwrap();
    let repeated = calls - jobs.len();
    println!(
        "{kills} kills: {} jobs, {unheard} replies lost, {repeated} repeated calls, {} webhooks",
        jobs.len(),
        got.len()
    );
    assert!(repeated <= kills, "{repeated} calls too many for {kills} kills");
}

#[tokio::test]
async fn three_nodes_on_one_database_survive_being_killed() {
    let Some(server) = PostgresServer::start() else {
        println!("SKIPPED: there is no server");
        return;
    };
    let sim = Program::sim("");
    let config = config(&format!("[store]\nurl = \"{}\"", server.url()), &sim);
    let nodes = (0..3).map(|_| Program::serve(&config)).collect();
    survive(nodes, &config, &sim, kills(24)).await;
}

#[tokio::test]
async fn a_node_with_a_file_survives_being_killed() {
    let sim = Program::sim("");
    let config = config("", &sim);
    let nodes = vec![Program::serve(&config)];
    survive(nodes, &config, &sim, kills(12)).await;
}
