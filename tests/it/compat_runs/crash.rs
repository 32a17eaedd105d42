//! A gateway that is killed while it makes a run.

use std::collections::HashMap;
use std::str::FromStr;

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions, Row};

use super::*;

/// Cases of the suite. With up to ten samples of each from each side.
const CASES: usize = 40;
const LATENCY_MS: u64 = 8;
const COMPAT: &str = "concurrency = 8\nsamples = 3\nmax_samples = 10";

/// The old model passes nine of ten, the new one a little less: it takes several looks.
fn says(call: &provider::Call) -> Said {
    let passes = if call.model == "gpt-base" { 0.95 } else { 0.93 };
    if call.chance() < passes { Said::text("good, good") } else { Said::text("bad, bad") }
}

/// What of a judgement does not depend on how fast answers came.
fn without_times(run: &Value) -> Value {
    let mut judgement = run["judgement"].clone();
    let criteria = judgement["criteria"].as_array_mut().unwrap();
    criteria.retain(|criterion| criterion["measure"] != "latency");
    judgement["samples_done"] = run["samples"]["done"].clone();
    judgement
}

/// What the store has: side, case, sample.
async fn committed(folder: &std::path::Path) -> Vec<(bool, usize, u64)> {
    let url = format!("sqlite:{}/data/tidegate.db", folder.display());
    let mut store: SqliteConnection =
        SqliteConnectOptions::from_str(&url).unwrap().connect().await.unwrap();
    let rows = sqlx::query("SELECT side, case_id, sample FROM compat_samples")
        .fetch_all(&mut store)
        .await
        .unwrap();
    let read = |row: &sqlx::sqlite::SqliteRow| {
        let case: String = row.get("case_id");
        let case = case.strip_prefix('c').unwrap().parse().unwrap();
        (row.get::<i64, _>("side") == 1, case, row.get::<i64, _>("sample").unsigned_abs())
    };
    rows.iter().map(read).collect()
}

fn key(call: &provider::Call) -> (bool, usize, u64) {
    // The run's seed is 1, and each sample has the next one.
    (call.model == "claude-new", call.case.unwrap(), call.seed.unwrap() - 1)
}

/// Kills a gateway so many times while it makes one run; what the run came to.
async fn killed(kills: usize, lane: usize) -> Value {
    let provider = Counting::new(LATENCY_MS, |call, _| says(call)).await;
    let config = config(&provider, COMPAT);
    let mut gate = Program::serve(&config);
    push(&gate, &suite(CASES, &contains_good())).await;
    let id = begin(&gate, json!({})).await;
    let (mut done, mut again) = (0, 0);
    while done < kills {
        // Some 800 questions in all; each life asks a random part of them.
        let lives = u64::try_from(kills.max(2)).unwrap();
        let next =
            provider.count() + usize::try_from(rand::random::<u64>() % (1_200 / lives)).unwrap();
        eventually(Duration::from_secs(8), async || provider.count() > next).await;
        let folder = gate.kill();
        done += 1;
        let kept = committed(folder.path()).await;
        let before = provider.count();
        gate = Program::serve_in(folder, &config, None);
        // It asks as soon as the lease of the one before has run out.
        eventually(Duration::from_secs(6), async || provider.count() > before).await;
        let after: HashMap<_, usize> =
            provider.calls()[before..].iter().fold(HashMap::new(), |mut seen, call| {
                *seen.entry(key(call)).or_default() += 1;
                seen
            });
        let twice: Vec<_> = kept.iter().filter(|key| after.contains_key(key)).collect();
        assert!(twice.is_empty(), "lane {lane}, kill {done}: asked again: {twice:?}");
        again += after.len();
    }
    let run = over(&gate, &id).await;
    // All that was asked twice was lost with a kill: at most what was in hand or not yet written.
    let calls = provider.calls();
    let all: HashMap<_, usize> = calls.iter().fold(HashMap::new(), |mut seen, call| {
        *seen.entry(key(call)).or_default() += 1;
        seen
    });
    let kept = committed(gate.folder()).await.len();
    assert_eq!(kept, all.len(), "each question has one answer in the store");
    let lost = calls.len() - all.len();
    println!(
        "lane {lane}: {kills} kills, {} questions, {lost} asked twice, {again} seen",
        all.len()
    );
    assert!(lost <= kills * 150, "{lost}");
    without_times(&run)
}

/// Kills of each of four gateways.
fn kills_each() -> usize {
    let kills = std::env::var("COMPAT_KILLS").ok().and_then(|kills| kills.parse::<usize>().ok());
    kills.unwrap_or(12).div_ceil(4)
}

/// With `COMPAT_KILLS=200` at 200 points.
#[tokio::test]
async fn a_run_that_is_killed_at_any_point_asks_nothing_again_and_comes_to_the_same_verdict() {
    let undisturbed = killed(0, 0).await;
    assert!(undisturbed["look"][0].as_u64() > Some(1), "it takes several looks: {undisturbed}");
    let each = kills_each();
    let (a, b, c, d) =
        tokio::join!(killed(each, 1), killed(each, 2), killed(each, 3), killed(each, 4));
    for judgement in [a, b, c, d] {
        assert_eq!(judgement, undisturbed);
    }
}
