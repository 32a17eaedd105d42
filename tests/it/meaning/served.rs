//! The real program: it learns over HTTP, knows after a restart what it has learnt, and goes on
//! without its Redis.

use std::time::Duration;

use serde_json::json;
use sqlx::{Connection, SqliteConnection};
use tidegate::clock::Instant;
use tokio::time::interval;

use crate::process::{Answer, PATIENCE, Program};
use crate::servers::redis::Redis;

/// Answers and verdicts come at once, and the judge finds all answers equal.
const SIMULATED: &str = "[[sim:ttft=0ms,gap=0ms]][[sim:on=judge,say=SAME]]";
/// A twentieth may be wrong: that is proven by 300 labels, the fewest that count.
const ROUTES: &str = r#"
[providers.near]
dialect = "openai-chat"
base_url = "sim://near/v1"
credentials = [{ none = true }]
models = [{ id = "alpha" }, { id = "judge" }, { id = "vectors", kind = "embedding" }]
[routes.faq]
targets = [{ model = "near/alpha" }]
cache = { semantic = true, judge = "near/judge", max_error = 0.05 }
"#;
/// Vectors that need no model.
const SIMULATED_VECTORS: &str =
    "[embedders.small]\nkind = \"provider\"\nmodel = \"near/vectors\"\ndimensions = 64\n";

/// A question in 504 wordings.
fn wordings() -> impl Iterator<Item = String> {
    let greetings = [
        "Hi, ",
        "",
        "Hello, ",
        "Hey, ",
        "Hi there, ",
        "Hello there, ",
        "Hey there, ",
        "Good morning, ",
        "Good afternoon, ",
        "Good evening, ",
        "Excuse me, ",
        "Sorry, ",
        "Dear team, ",
        "Quick question: ",
    ];
    let starts = ["how do I", "how can I", "how could I", "what is the best way to"];
    let ends = [
        "?",
        "??",
        ", please?",
        " please?",
        "? Thanks!",
        "? Thank you.",
        "? Thanks.",
        "? Cheers!",
        "",
    ];
    let all = greetings.into_iter().flat_map(move |greeting| {
        let of = move |start| ends.map(|end| format!("{greeting}{start} reset the password{end}"));
        starts.into_iter().flat_map(of)
    });
    all.map(|text| format!("{text} {SIMULATED}"))
}

/// Asks over HTTP; says where the answer is from.
async fn ask(gate: &Program, text: &str) -> String {
    let messages = json!([{ "role": "user", "content": text }]);
    let body = json!({ "model": "faq", "messages": messages }).to_string();
    let answer: Answer = gate.post("/v1/chat/completions", body).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.header("x-tidegate-cache").to_owned()
}

/// Asks the same in ever new words until it is answered from the cache; says how often.
async fn teach(gate: &Program, wordings: &mut impl Iterator<Item = String>) -> u32 {
    let mut asked = 0;
    for text in wordings {
        asked += 1;
        if ask(gate, &text).await == "semantic" {
            return asked;
        }
    }
    let all = gate.get("/metrics").await.body;
    let ours: Vec<_> = all.lines().filter(|line| line.starts_with("tidegate_cache")).collect();
    panic!("{asked} wordings, and none was answered from the cache: {ours:#?}");
}

#[cfg(feature = "local-embeddings")]
#[tokio::test]
async fn what_was_learnt_over_http_is_known_after_a_restart() {
    let Some(model) = crate::support::sentence_model() else { return };
    let config =
        format!("{ROUTES}[embedders.small]\nfolder = {:?}\ntimeout = \"20s\"\n", model.display());
    let gate = Program::serve(&config);
    let mut wordings = wordings();
    let started = Instant::now();
    let asked = teach(&gate, &mut wordings).await;
    println!("given in the {asked}th wording, after {:?}", started.elapsed());
    assert!(asked > 300, "300 labels are the fewest that count");
    let is_known = "SELECT count(*) FROM semantic_calibrations WHERE state LIKE '%serve%'";
    let file = gate.folder().join("data/tidegate.db");
    let mut ticks = interval(Duration::from_millis(50));
    let stored = async {
        loop {
            ticks.tick().await;
            let mut store = SqliteConnection::connect(file.to_str().unwrap()).await.unwrap();
            let stored: i64 = sqlx::query_scalar(is_known).fetch_one(&mut store).await.unwrap();
            if stored == 1 {
                break;
            }
        }
    };
    tokio::time::timeout(PATIENCE, stored).await.expect("it is stored");
    let folder = gate.kill();

    let gate = Program::serve_in(folder, &config, None);
    let started = Instant::now();
    // What is in the store is read beside requests.
    let asked = teach(&gate, &mut wordings).await;
    println!("after the restart in the {asked}th wording, after {:?}", started.elapsed());
    assert!(asked <= 30, "it had to learn again: {asked}");
}

#[tokio::test]
async fn without_redis_no_request_fails_and_both_caches_go_on() {
    let Some(mut redis) = Redis::start() else { return };
    let cluster = format!("[cluster]\nurl = \"{}\"\n[cache]\nshared = true\n", redis.url());
    let gate = Program::serve(&format!("{ROUTES}{SIMULATED_VECTORS}{cluster}"));
    let mut wordings = wordings();
    let known = wordings.next().unwrap();
    assert_eq!(ask(&gate, &known).await, "miss");
    teach(&gate, &mut wordings).await;
    let metric = async |line: &str| gate.metric(line).await;
    let failed = "tidegate_cache_shared_lookups_total{result=\"failed\"}";
    let found = "tidegate_cache_semantic_lookups_total{result=\"hit\"}";
    let all = "tidegate_cache_shared_lookups_total";
    assert!(metric(all).await > metric(failed).await, "it was used");
    redis.kill();

    let before = [metric(all).await, metric(failed).await, metric(found).await];
    let (mut given, mut asked_upstream) = (0.0, 0.0);
    for n in 0..60 {
        let new = format!("Who won the cup in {}? {SIMULATED}", 1_900 + n);
        assert_eq!(ask(&gate, &new).await, "miss");
        assert_eq!(ask(&gate, &new).await, "exact");
        assert_eq!(ask(&gate, &known).await, "exact");
        match &*ask(&gate, &wordings.next().unwrap()).await {
            "semantic" => given += 1.0,
            // An audit.
            other => {
                assert_eq!(other, "miss");
                asked_upstream += 1.0;
            }
        }
    }
    assert!(given > 40.0, "{given} given, {asked_upstream} not");
    let after = [metric(all).await, metric(failed).await, metric(found).await];
    let [looked, failures, hits] = [0, 1, 2].map(|n| after[n] - before[n]);
    // Every question whose very words were not in the process.
    assert_eq!((looked, hits), (120.0, given));
    assert!(failures > 100.0, "{failures} of {looked}");
    let writes = "tidegate_cache_shared_writes_total{result=\"failed\"}";
    assert!(metric(writes).await > 0.0);

    redis.restart();
    let mut ticks = interval(Duration::from_millis(20));
    let started = Instant::now();
    for n in 0.. {
        ticks.tick().await;
        let (looked, failures) = (metric(all).await, metric(failed).await);
        ask(&gate, &format!("Who lost the cup in {}? {SIMULATED}", 1_000 + n)).await;
        if metric(all).await > looked && metric(failed).await == failures {
            break;
        }
        assert!(started.elapsed() < PATIENCE, "it is not used again");
    }
}
