//! The journal and `kill -9`: a child of this very test binary writes, the test kills it and looks
//! at what it left.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use tidegate::chat::Usage;
use tidegate::clock::{SystemWallClock, WallClock};
use tidegate::dialect::Dialect;
use tidegate::ids::{CallerId, RequestId};
use tidegate::journal::{
    EndpointKind, Entry, Journal, JournalSettings, JournalWriter, Outcome, RequestFilter, Waste,
};
use tidegate::store::{Store, StoreUrl};
use tidegate::units::{MicroUsd, Priority};

use crate::servers::postgres::PostgresServer;

/// How the test tells the child where the store is.
const STORE_URL: &str = "TIDEGATE_TEST_STORE_URL";
/// The largest file the child with the full disk may write, in blocks of the shell: 512 or 1,024
/// bytes. The tables fit, many requests do not.
const FULL_AT_BLOCKS: u32 = 3_300;
/// Requests the child has in flight for as long as it lives.
const IN_FLIGHT: u64 = 5;

fn journal(url: StoreUrl) -> (Journal, JournalWriter) {
    let store = Store::new(url);
    Journal::new(&JournalSettings::default(), store, Arc::new(SystemWallClock))
}

fn entry(n: u64) -> Entry {
    Entry {
        request_id: RequestId::new(n.to_string()),
        started_at_ms: SystemWallClock.unix_ms(),
        caller: CallerId::anonymous(),
        endpoint: EndpointKind::Chat,
        dialect: Dialect::OpenAiChat,
        prompt: Some("help@1.2.0".into()),
        model_asked: None,
        priority: Some(Priority::default()),
        route: None,
        target: None,
        provider: None,
        model_served: None,
        streamed: false,
        outcome: Outcome::Complete,
        failure: None,
        error_code: None,
        status: 200,
        attempts: 1,
        degradation: 0,
        usage: Usage::default(),
        usage_estimated: false,
        cost: MicroUsd(0),
        saved: MicroUsd::default(),
        waste: Waste::default(),
        latency: Duration::ZERO,
        first_token: None,
        overhead: Duration::ZERO,
        tags: Vec::new(),
        reuse: None,
        part: None,
    }
}

/// The child: settles a request every millisecond, says so on standard output, and never ends.
#[tokio::test]
#[ignore = "the child of the test below"]
async fn settles_requests_until_it_is_killed() {
    let Some(url) = std::env::var_os(STORE_URL) else { return };
    let (journal, writer) = journal(url.to_str().unwrap().parse().unwrap());
    (0..IN_FLIGHT).for_each(|_| journal.accepted());
    let settle = async {
        let mut ticks = tokio::time::interval(Duration::from_millis(1));
        for n in 0.. {
            ticks.tick().await;
            journal.accepted();
            journal.record(entry(n));
            let mut out = std::io::stdout().lock();
            writeln!(out, "settled {n} {}", SystemWallClock.unix_ms()).unwrap();
            out.flush().unwrap();
        }
    };
    tokio::join!(writer.run(), settle);
}

#[tokio::test]
async fn a_killed_gateway_has_every_request_that_ended_a_second_before() {
    let folder = tempfile::tempdir().unwrap();
    killed_with_its_journal_at(&format!("sqlite:{}/tidegate.db", folder.path().display())).await;
}

#[tokio::test]
async fn a_killed_gateway_has_every_request_at_a_server_too() {
    let Some(server) = PostgresServer::start() else { return };
    killed_with_its_journal_at(&server.url()).await;
}

async fn killed_with_its_journal_at(url: &str) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "journal::settles_requests_until_it_is_killed"])
        .args(["--ignored", "--nocapture"])
        .env(STORE_URL, url)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut settled: Vec<(u64, u64)> = Vec::new();
    for line in lines {
        let Ok(line) = line else { break };
        // The harness writes its own words on the first line, before ours.
        let Some((_, words)) = line.split_once("settled ") else { continue };
        let Some((n, at_ms)) = words.split_once(' ') else { continue };
        settled.push((n.parse().unwrap(), at_ms.parse().unwrap()));
        let lived_ms = settled[settled.len() - 1].1 - settled[0].1;
        if lived_ms > 1_700 {
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();

    let (journal, writer) = journal(url.parse().unwrap());
    let look = async {
        journal.record(entry(u64::MAX));
        journal.flush().await;
        let mut found = 0;
        let mut kept = std::collections::HashSet::new();
        let mut before = None;
        loop {
            let page = journal.requests(&RequestFilter::default(), before, 1_000).await.unwrap();
            let Some(last) = page.last() else { break };
            before = Some(last.place);
            found += page.len() as u64;
            kept.extend(page.into_iter().map(|request| request.request_id));
        }
        journal.shut_down();
        (found - 1, kept, journal.health().lost_runs)
    };
    let ((), (found, kept, lost)) = tokio::join!(writer.run(), look);

    let killed_at_ms = settled.last().unwrap().1;
    let due: Vec<_> = settled.iter().filter(|(_, at_ms)| at_ms + 1_000 < killed_at_ms).collect();
    assert!(due.len() > 100, "the child settled only {} in time", due.len());
    let missing: Vec<_> = due.iter().filter(|(n, _)| !kept.contains(&n.to_string())).collect();
    assert!(missing.is_empty(), "not in the journal: {missing:?}");

    let [lost] = lost.as_slice() else { panic!("one run was killed: {lost:?}") };
    // What was in flight, and what was settled while the last write was made.
    assert!(lost.unknown >= IN_FLIGHT, "{lost:?}");
    let admitted = settled.len() as u64 + IN_FLIGHT;
    assert!(found + lost.unknown <= admitted + 1, "{found} found of {admitted}, {lost:?}");
    assert!(killed_at_ms - lost.flushed_at_ms < 1_000, "{lost:?} killed at {killed_at_ms}");
}

/// The child: settles fifty requests every ten milliseconds, says how the journal is, and never
/// ends.
#[tokio::test]
#[ignore = "the child of the test below"]
async fn settles_requests_on_a_small_disk() {
    let Some(url) = std::env::var_os(STORE_URL) else { return };
    let settings = JournalSettings { queue_entries: 2_000, ..JournalSettings::default() };
    let store = Store::new(url.to_str().unwrap().parse().unwrap());
    let (journal, writer) = Journal::new(&settings, store, Arc::new(SystemWallClock));
    let settle = async {
        let mut ticks = tokio::time::interval(Duration::from_millis(10));
        for n in 0.. {
            ticks.tick().await;
            // The tables are made before the disk is filled, however long that takes.
            if n == 0 || journal.health().written > 0 {
                (0..50).for_each(|_| journal.accepted());
                (0..50).for_each(|m| journal.record(entry(n * 50 + m)));
            }
            let health = serde_json::to_string(&journal.health()).unwrap();
            let mut out = std::io::stdout().lock();
            writeln!(out, "health {health}").unwrap();
            out.flush().unwrap();
        }
    };
    tokio::join!(writer.run(), settle);
}

/// No disk is at hand that can be filled, so the shell limits how large a file the child may write,
/// and `prlimit` takes the limit away again.
#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_costs_entries_and_not_requests_and_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}/tidegate.db", folder.path().display());
    let command = format!("trap '' XFSZ; ulimit -S -f {FULL_AT_BLOCKS}; exec \"$0\" \"$@\"");
    let mut child = Command::new("sh")
        .args(["-c", &command])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "journal::settles_requests_on_a_small_disk"])
        .args(["--ignored", "--nocapture"])
        .env(STORE_URL, &url)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut healths = BufReader::new(child.stdout.take().unwrap()).lines().filter_map(|line| {
        let line = line.unwrap();
        let health = line.split_once("health ")?.1;
        Some(serde_json::from_str::<serde_json::Value>(health).unwrap())
    });

    // It fills, says so, goes on taking requests, and counts what no longer fits into the queue.
    let full = healths.find(|health| health["dropped"].as_u64() > Some(500)).unwrap();
    assert_eq!(full["degraded"], true, "{full}");
    let error = full["last_error"].as_str().unwrap();
    assert!(error.starts_with("cannot write requests to the journal: "), "{error}");
    assert!(full["written"].as_u64() > Some(0), "{full}");
    assert!(full["queued"].as_u64() >= Some(2_000), "{full}");

    let pid = child.id().to_string();
    let limit = ["--pid", &pid, "--fsize=unlimited"];
    if Command::new("prlimit").args(limit).status().is_ok_and(|status| status.success()) {
        let again = healths.find(|health| health["degraded"] == false).unwrap();
        assert_eq!(again["last_error"], serde_json::Value::Null);
        let empty = healths.find(|health| health["queued"].as_u64() < Some(1_000)).unwrap();
        let of = |count: &str| empty[count].as_u64().unwrap();
        // Every request is in the store, lost, or waits.
        assert!(of("written") + of("dropped") + of("queued") <= of("accepted"), "{empty}");
        assert!(of("written") > full["written"].as_u64().unwrap() + 2_000, "{empty}");
    } else {
        let word = "prlimit is not on this machine: the recovery was not tried";
        writeln!(std::io::stderr(), "{word}").unwrap();
    }
    child.kill().unwrap();
    child.wait().unwrap();
}
