//! Nights: a gateway in process, whose clock is set.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use tempfile::TempDir;
use tidegate::callers::Callers;
use tidegate::clock::WallClock;
use tidegate::config::{Environment, Source, load};
use tidegate::gateway::Gateway;
use tidegate::rehearse::Stage;
use tidegate::runs::{RunFilter, RunKind, RunRecord, RunState};
use tidegate::store::Store;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::*;
use crate::scripted::{Reply, scripted};

/// 2026-11-21T12:00:00Z
const NOON: u64 = 1_795_262_400_000;
const HOUR_MS: u64 = 3_600_000;

const PROMPT: &str = r#"
target_model = "chat/alpha"
[variables]
type = "object"
properties = { q = { type = "string" } }
[[messages]]
role = "user"
content = "{{ q }}"
"#;

/// Cases, all of which are asked at every depth.
const CASES: usize = 30;

fn cases() -> String {
    let case = |number: usize| {
        json!({
            "vars": {"q": format!("question {number}")}, "assert": [contains_good()],
            "metadata": {"id": format!("c{number}"), "smoke": true},
        })
    };
    json!({"tests": (0..CASES).map(case).collect::<Vec<_>>()}).to_string()
}

const CONFIG: &str = r#"
[compat]
schedule = "0 3 * * *"
samples = 4
max_samples = 4
drift_samples = 4
reuse_baseline = "0s"
matrix = [{ prompt = "greeting", versions = ["1.0.1"], models = ["chat/alpha", "chat/beta"] }]
[providers.chat]
dialect = "openai-chat"
base_url = "http://nowhere.invalid/v1"
credentials = [{ none = true }]
models = [{ id = "alpha" }, { id = "beta" }]
"#;

#[derive(Debug)]
struct Hands(AtomicU64);

impl WallClock for Hands {
    fn unix_ms(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What is logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock()).into_owned()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A node, and a model whose answers can be made bad.
struct Node {
    gateway: Arc<Gateway>,
    clock: Arc<Hands>,
    is_bad: Arc<AtomicBool>,
    /// Answers that come before all fail.
    answers: Arc<AtomicU64>,
    close: watch::Sender<bool>,
    making: JoinHandle<()>,
}

impl Node {
    fn start(folder: &TempDir, clock: &Arc<Hands>) -> Self {
        let files = [
            ("tidegate.toml", CONFIG.to_owned()),
            ("prompts/greeting/1.0.0.toml", PROMPT.to_owned()),
            ("prompts/greeting/1.0.1.toml", PROMPT.replace("{{ q }}", "Please: {{ q }}")),
            ("prompts/greeting/labels.toml", "production = \"1.0.0\"\n".to_owned()),
            ("prompts/greeting/cases/cases.yaml", cases()),
        ];
        for (name, text) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let file = Some(folder.path().join("tidegate.toml"));
        let keys = Environment::fixed([("NOBODY", "")]);
        let source = Source { file, ..Source::environment(keys) };
        let snapshot = load(&source, None).unwrap_or_else(|problems| panic!("{problems}"));
        let url = format!("sqlite:{}/tidegate.db", folder.path().display());
        let store = Store::new(url.parse().unwrap());
        let wall: Arc<dyn WallClock> = Arc::<Hands>::clone(clock);
        let stage = Stage::new(snapshot, Callers::new(store.clone(), None), store, wall);
        let is_bad = Arc::new(AtomicBool::new(false));
        let bad = Arc::clone(&is_bad);
        let answers = Arc::new(AtomicU64::new(u64::MAX));
        let left = Arc::clone(&answers);
        let transport = scripted(move |_| {
            let take = |left: u64| left.checked_sub(1);
            if left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_err() {
                return Reply::status(400)
                    .with("content-type", "application/json")
                    .chunk(Bytes::from_static(b"{\"error\": {\"message\": \"not today\"}}"));
            }
            let text = if bad.load(Ordering::Relaxed) { "bad" } else { "good" };
            let reply = json!({
                "id": "c", "object": "chat.completion", "created": 1, "model": "alpha",
                "choices": [{"index": 0, "finish_reason": "stop",
                    "message": {"role": "assistant", "content": text}}],
                "usage": {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4},
            });
            Reply::status(200)
                .with("content-type", "application/json")
                .chunk(Bytes::from(reply.to_string()))
        });
        let lane = stage.gateway.lane(transport);
        let (close, closing) = watch::channel(false);
        let making = tokio::spawn(Arc::clone(&stage.gateway).make_runs(lane, closing));
        let gateway = Arc::clone(&stage.gateway);
        Self { gateway, clock: Arc::clone(clock), is_bad, answers, close, making }
    }

    async fn runs(&self) -> Vec<RunRecord> {
        self.gateway.runs().list(&RunFilter::default(), None, 100).await.unwrap()
    }

    /// Waits until there are so many runs, and all are done; the newest `new` of them.
    async fn done(&self, count: usize, new: usize) -> Vec<RunRecord> {
        let mut runs = Vec::new();
        let are_done = eventually(PATIENCE, async || {
            runs = self.runs().await;
            runs.len() >= count && runs.iter().all(|run| run.state == RunState::Done)
        });
        assert!(are_done.await && runs.len() == count, "{runs:#?}");
        runs.truncate(new);
        runs.sort_by_key(|run| (run.kind != RunKind::Drift, run.candidate.model.clone()));
        runs
    }

    async fn marked(&self) {
        let runs = self.gateway.runs();
        assert!(eventually(PATIENCE, async || runs.night().await.unwrap().is_some()).await);
    }

    async fn stop(self) {
        self.close.send(true).unwrap();
        self.making.await.unwrap();
    }
}

#[tokio::test]
async fn a_night_is_made_once_and_drift_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(Hands(AtomicU64::new(NOON)));
    let node = Node::start(&folder, &clock);
    node.marked().await;
    assert_eq!(node.runs().await, [], "a new schedule begins with its next time");

    node.clock.0.store(NOON + 15 * HOUR_MS, Ordering::Relaxed);
    let night = node.done(3, 3).await;
    let said: Vec<_> = night
        .iter()
        .map(|run| (run.kind, run.candidate.to_string(), format!("{:?}", run.depth)))
        .collect();
    assert_eq!(
        said,
        [
            (RunKind::Drift, "greeting@1.0.0 on chat/alpha".to_owned(), "Full".to_owned()),
            (RunKind::Nightly, "greeting@1.0.1 on chat/alpha".to_owned(), "Smoke".to_owned()),
            (RunKind::Nightly, "greeting@1.0.1 on chat/beta".to_owned(), "Full".to_owned()),
        ]
    );
    let reason = night[0].reason.as_deref().unwrap();
    assert_eq!(reason, "first night: answers are kept, nothing to compare with yet");
    assert_eq!((night[0].is_first_night(), &night[0].judgement), (true, &None));
    assert_eq!((night[0].samples_done, night[1].samples_done), (120, 240));
    assert_eq!(node.gateway.runs().drifts().await.unwrap(), []);
    node.stop().await;

    // Two nights are missed; the next start catches up with one.
    clock.0.store(NOON + 70 * HOUR_MS, Ordering::Relaxed);
    let node = Node::start(&folder, &clock);
    let drift = &node.done(6, 3).await[0];
    assert_eq!(drift.kind, RunKind::Drift);
    assert_eq!((drift.samples_done, drift.samples_planned, drift.samples_reused), (120, 120, 120));
    assert_eq!(drift.judgement.as_ref().unwrap()["verdict"], "compatible", "{drift:#?}");
    assert_eq!(node.gateway.runs().drifts().await.unwrap(), []);

    node.is_bad.store(true, Ordering::Relaxed);
    node.clock.0.store(NOON + 90 * HOUR_MS, Ordering::Relaxed);
    let drift = &node.done(9, 3).await[0];
    assert_eq!(drift.judgement.as_ref().unwrap()["verdict"], "incompatible", "{drift:#?}");
    let drifts = node.gateway.runs().drifts().await.unwrap();
    assert_eq!(drifts.len(), 1);
    let gauge = |node: &Node, value: u32| {
        let metrics = node.gateway.render_metrics();
        metrics.contains(&format!("tidegate_compat_drift{{suite=\"greeting\"}} {value}"))
    };
    assert!(gauge(&node, 1), "{}", node.gateway.render_metrics());
    node.stop().await;

    // Another process knows it from the store, without a run.
    let node = Node::start(&folder, &clock);
    assert!(eventually(PATIENCE, async || gauge(&node, 1)).await, "the alert is lost");
    assert_eq!(node.runs().await.len(), 9);

    // It is still bad the next night, and is held against the good ones.
    node.is_bad.store(true, Ordering::Relaxed);
    node.clock.0.store(NOON + 114 * HOUR_MS, Ordering::Relaxed);
    let drift = &node.done(12, 3).await[0];
    assert_eq!(drift.judgement.as_ref().unwrap()["drift"]["fallen"], 2, "{drift:#?}");
    assert!(gauge(&node, 1));

    node.is_bad.store(false, Ordering::Relaxed);
    node.clock.0.store(NOON + 138 * HOUR_MS, Ordering::Relaxed);
    let drift = &node.done(15, 3).await[0];
    assert_eq!(drift.judgement.as_ref().unwrap()["verdict"], "compatible", "{drift:#?}");
    assert_eq!(node.gateway.runs().drifts().await.unwrap(), []);
    assert!(gauge(&node, 0), "{}", node.gateway.render_metrics());
    node.stop().await;
}

#[tokio::test]
async fn a_first_night_with_less_than_half_of_its_answers_has_failed_and_keeps_nothing() {
    let log = Log::default();
    let to = log.clone();
    let written = tracing_subscriber::fmt().with_ansi(false).with_writer(move || to.clone());
    let _logging = tracing::subscriber::set_default(written.finish());
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(Hands(AtomicU64::new(NOON)));
    let node = Node::start(&folder, &clock);
    node.marked().await;
    node.answers.store(0, Ordering::Relaxed);
    node.clock.0.store(NOON + 15 * HOUR_MS, Ordering::Relaxed);
    let drift = async |state| {
        let mut found = None;
        let is_there = eventually(PATIENCE, async || {
            let runs = node.runs().await;
            let is_over = runs.iter().all(|run| run.ended_ms.is_some());
            let of = |run: &RunRecord| run.kind == RunKind::Drift && run.state == state;
            found = runs.into_iter().find(of).filter(|_| is_over);
            found.is_some()
        });
        assert!(is_there.await, "{:#?}", node.runs().await);
        found.unwrap()
    };
    let failed = drift(RunState::Failed).await;
    let reason = failed.reason.as_deref().unwrap_or_default();
    assert_eq!(reason, "120 of 120 answers failed: the night keeps nothing");
    assert_eq!((failed.judgement.as_ref(), failed.is_first_night()), (None, false));
    let logged = log.text();
    let line =
        logged.lines().find(|line| line.contains("could not be made") && line.contains("drift"));
    assert!(line.is_some_and(|line| line.contains("WARN") && line.contains(reason)), "{logged}");
    let metrics = node.gateway.render_metrics();
    assert!(!metrics.contains("tidegate_compat_drift{suite=\"greeting\"} 1"), "{metrics}");

    // The next one is the first.
    node.answers.store(u64::MAX, Ordering::Relaxed);
    node.clock.0.store(NOON + 39 * HOUR_MS, Ordering::Relaxed);
    let first = drift(RunState::Done).await;
    assert!(first.is_first_night(), "{first:#?}");
    node.stop().await;
}
