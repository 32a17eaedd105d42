//! Runs in both kinds of store.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::*;
use crate::audit::{Actor, Audit, AuditFilter};
use crate::clock::{Instant, WallClock};
use crate::compat::agreement::Agreement;
use crate::compat::{Answer, Ask, Check, Depth, Grade, Reply, Side, SidePrompt};
use crate::store::lease::{Holding, Lease};
use crate::store::places::{Place, places};

mod drift;

const NOW: u64 = 1_700_000_000_000;
const HOUR_MS: u64 = 3_600_000;

/// A clock that is set.
#[derive(Debug)]
struct Hands(AtomicU64);

impl WallClock for Hands {
    fn unix_ms(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A node.
struct Node {
    runs: Runs,
    clock: Arc<Hands>,
    lease: Lease,
}

impl Node {
    async fn of(place: &Place) -> Self {
        let clock = Arc::new(Hands(AtomicU64::new(NOW)));
        let wall: Arc<dyn WallClock> = Arc::<Hands>::clone(&clock);
        let suites = Box::new(|| vec![suite("of-files", "files")]);
        let around = RunSurroundings { suites, ..RunSurroundings::none() };
        let runs = Runs::new(place.again(), wall, around);
        let lease = Lease::new("compat", format!("{:032x}", rand::random::<u128>()));
        let mut node = Self { runs, clock, lease };
        node.lead().await;
        node
    }

    /// Takes the lease, if it is to be had.
    async fn lead(&mut self) {
        let mut writer = self.runs.store().writer().await.unwrap();
        self.lease.keep(&mut writer, Instant::now(), NOW).await.unwrap();
    }

    fn holding(&self) -> Holding {
        self.lease.hand().unwrap()
    }

    fn pass(&self, ms: u64) {
        self.clock.0.fetch_add(ms, Ordering::Relaxed);
    }

    async fn begin(&self, new: NewRun) -> RunRecord {
        self.runs.begin(new, &by()).await.unwrap()
    }

    /// Makes a run with this verdict.
    async fn judged(&self, new: NewRun, verdict: &str) -> RunRecord {
        self.ended(new, json!({"verdict": verdict})).await
    }

    async fn ended(&self, new: NewRun, judgement: Value) -> RunRecord {
        let run = self.begin(new).await;
        self.pass(1);
        self.runs.take_up(&run.id, &self.holding()).await.unwrap().unwrap();
        let verdict = judgement["verdict"].as_str().unwrap().to_owned();
        let judgement = Some((judgement, verdict));
        let progress = Progress::default();
        let ending =
            Ending { state: RunState::Done, reason: None, judgement, judge: None, progress };
        assert_eq!(self.runs.end(&run.id, &ending, &self.holding()).await.unwrap(), Committed::Yes);
        self.runs.find(&run.id).await.unwrap()
    }
}

fn by() -> Actor {
    Actor { name: "alice".to_owned(), ..Actor::default() }
}

fn suite(id: &str, text: &str) -> SuiteRow {
    let (id, text) = (id.to_owned(), text.to_owned());
    SuiteRow { prompt: None, hash: format!("hash of {text}"), created_ms: 0, id, text }
}

fn side(version: &str, model: &str) -> Side {
    let prompt = SidePrompt::Registered { id: "reply".into(), version: version.into() };
    Side { prompt, model: model.to_owned(), parameters: Map::new() }
}

fn new_run() -> NewRun {
    NewRun {
        only: None,
        kind: RunKind::Asked,
        suite: "of-files".to_owned(),
        baseline: side("1.0.0", "openai/gpt-5"),
        candidate: side("2.0.0", "anthropic/claude"),
        depth: Depth::Full,
        samples: 3,
        seed: u64::MAX - 1,
        max_cost_micro_usd: None,
    }
}

fn sample(case: &str, is_candidate: bool, sample: u32, text: &str) -> NewSample {
    let answer = Answer {
        text: text.to_owned(),
        output_tokens: 7,
        cost_micro_usd: 11,
        latency_ms: 200,
        served_by: "openai/gpt-5".to_owned(),
        ..Answer::default()
    };
    let check = Check {
        kind: "contains".to_owned(),
        passed: Some(true),
        score: 1.0,
        reason: String::new(),
        by_judge: false,
    };
    let row = SampleRow {
        case: case.to_owned(),
        is_candidate,
        sample,
        answer,
        grade: Some(Grade { passed: true, score: 1.0, checks: vec![check] }),
        preference: None,
        reused_from: None,
        judging_micro_usd: 5,
    };
    NewSample { row, reuse_key: format!("key of {case} {is_candidate}") }
}

#[tokio::test]
async fn a_run_waits_until_it_is_taken_up_and_keeps_to_what_its_suite_said() {
    for place in places() {
        let node = Node::of(&place).await;
        let run = node.begin(new_run()).await;
        assert!(run.id.starts_with("cr_") && run.id.len() == 15, "{}", run.id);
        assert_eq!(run.state, RunState::Waiting);
        assert_eq!(run.max_cost_micro_usd, 5_000_000, "as the settings say");
        assert_eq!(node.runs.find(&run.id).await.unwrap(), run);
        assert_eq!(node.runs.open().await.unwrap(), std::slice::from_ref(&run));
        assert_eq!(node.runs.text_of(&run.id).await.unwrap(), "files");
        let unknown = NewRun { suite: "gone".to_owned(), ..new_run() };
        let refused = node.runs.begin(unknown, &by()).await.unwrap_err();
        assert!(matches!(refused, RunsError::UnknownSuite(_)), "{refused}");
        let none = NewRun { samples: 0, ..new_run() };
        let refused = node.runs.begin(none, &by()).await.unwrap_err();
        assert!(matches!(refused, RunsError::Invalid { field: "samples", .. }), "{refused}");
    }
}

#[tokio::test]
async fn a_sample_is_written_once_and_only_by_who_leads_a_run_that_runs() {
    for place in places() {
        let node = Node::of(&place).await;
        let run = node.begin(new_run()).await.id;
        let first = [sample("a", false, 0, "one"), sample("a", true, 0, "two")];
        let held = node.holding();
        let written = node.runs.commit(&run, &first, None, &held).await.unwrap();
        assert_eq!(written, Committed::Over, "it was not taken up");
        assert_eq!(node.runs.take_up(&run, &held).await.unwrap(), Ok(0));
        let progress = Progress { samples_done: 2, worked_ms: 400, ..Progress::default() };
        let written = node.runs.commit(&run, &first, Some(&progress), &held).await.unwrap();
        assert_eq!(written, Committed::Yes);
        let again = [sample("a", true, 0, "another"), sample("b", true, 1, "three")];
        node.runs.commit(&run, &again, None, &held).await.unwrap();

        let rows = node.runs.samples(&run, None, 10).await.unwrap();
        let texts: Vec<_> = rows.iter().map(|row| row.answer.text.as_str()).collect();
        assert_eq!(texts, ["one", "two", "three"], "what was there stays");
        assert_eq!(rows[0], first[0].row);
        let place_of_first = SamplePlace { case: "a".into(), sample: 0, is_candidate: false };
        let rest = node.runs.samples(&run, Some(&place_of_first), 1).await.unwrap();
        assert_eq!(rest, rows[1..2]);
        let one = node.runs.sample(&run, &place_of_first).await.unwrap();
        assert_eq!(one.as_ref(), rows.first());
        let mut done = node.runs.done(&run).await.unwrap();
        done.sort_by_key(|done| (done.case.clone(), done.sample, done.is_candidate));
        assert_eq!(done[0], DoneSample::of(&first[0].row));
        assert_eq!((done.len(), done[0].spent_micro_usd), (3, 16));
        assert_eq!(node.runs.take_up(&run, &held).await.unwrap(), Ok(400), "it has worked so long");

        let mut other = Node::of(&place).await;
        assert!(other.lease.hand().is_none(), "it is fresh");
        let mut writer = node.runs.store().writer().await.unwrap();
        let mut released = node.lease;
        released.release(&mut writer).await.unwrap();
        drop(writer);
        other.lead().await;
        let late = [sample("c", true, 0, "late")];
        let written = node.runs.commit(&run, &late, None, &held).await.unwrap();
        assert_eq!(written, Committed::Lost);
        assert_eq!(node.runs.samples(&run, None, 10).await.unwrap().len(), 3);
    }
}

#[tokio::test]
async fn a_cancelled_run_takes_nothing_more_and_the_log_says_who_did_it() {
    for place in places() {
        let node = Node::of(&place).await;
        let run = node.begin(new_run()).await.id;
        node.runs.take_up(&run, &node.holding()).await.unwrap().unwrap();
        let cancelled = node.runs.cancel(&run, &by()).await.unwrap();
        assert_eq!((cancelled.state, cancelled.ended_ms), (RunState::Cancelled, Some(NOW)));
        assert!(node.runs.open().await.unwrap().is_empty());
        let late = [sample("a", true, 0, "late")];
        let written = node.runs.commit(&run, &late, None, &node.holding()).await.unwrap();
        assert_eq!(written, Committed::Over);
        let refused = node.runs.cancel(&run, &by()).await.unwrap_err();
        assert!(matches!(refused, RunsError::Over(RunState::Cancelled)), "{refused}");
        let refused = node.runs.cancel("cr_none", &by()).await.unwrap_err();
        assert!(matches!(refused, RunsError::UnknownRun(_)), "{refused}");

        let audit = Audit::new(place.again());
        let log = audit.list(&AuditFilter::default(), None, 10).await.unwrap();
        let mut said: Vec<_> = log.iter().map(|row| (&*row.action, &*row.actor)).collect();
        said.sort_unstable();
        assert_eq!(said, [("compat.run.begin", "alice"), ("compat.run.cancel", "alice")]);
    }
}

#[tokio::test]
async fn a_baseline_takes_over_the_newest_answers_to_the_same_questions() {
    for place in places() {
        let node = Node::of(&place).await;
        let held = node.holding();
        for text in ["old", "newer"] {
            let run = node.begin(new_run()).await.id;
            node.runs.take_up(&run, &held).await.unwrap().unwrap();
            let samples = [
                sample("a", false, 0, text),
                sample("a", false, 1, text),
                sample("b", true, 0, text),
            ];
            node.runs.commit(&run, &samples, None, &held).await.unwrap();
            node.pass(HOUR_MS);
        }
        let run = node.begin(new_run()).await.id;
        node.runs.take_up(&run, &held).await.unwrap().unwrap();
        let keys = ["key of a false".to_owned(), "key of nothing".to_owned()];
        let since = |ms| Reuse::Since(NOW + ms);
        node.runs.reuse(&run, (&keys, 1), &since(3 * HOUR_MS), &held).await.unwrap();
        assert!(node.runs.samples(&run, None, 10).await.unwrap().is_empty(), "too old");
        node.runs.reuse(&run, (&keys, 1), &since(0), &held).await.unwrap();
        let taken = node.runs.samples(&run, None, 10).await.unwrap();
        assert_eq!(taken.len(), 1, "the other number is not asked for");
        assert_eq!((&*taken[0].answer.text, taken[0].is_candidate), ("newer", false));
        assert!(taken[0].reused_from.is_some() && taken[0].judging_micro_usd == 0);
        assert_eq!(node.runs.done(&run).await.unwrap()[0].spent_micro_usd, 0, "it was paid for");

        let third = node.begin(new_run()).await.id;
        node.runs.take_up(&third, &held).await.unwrap().unwrap();
        node.runs.reuse(&third, (&keys, 1), &since(0), &held).await.unwrap();
        let again = node.runs.samples(&third, None, 10).await.unwrap();
        assert_eq!(again[0].reused_from, taken[0].reused_from, "the run that asked it");
        let keys = ["key of b true".to_owned()];
        let from = Reuse::CandidateOf(taken[0].reused_from.clone().unwrap());
        node.runs.reuse(&third, (&keys, 3), &from, &held).await.unwrap();
        let again = node.runs.samples(&third, None, 10).await.unwrap();
        assert_eq!((again.len(), again[1].is_candidate, &*again[1].case), (2, false, "b"));
    }
}

#[tokio::test]
async fn the_newest_verdict_of_a_version_and_model_counts() {
    for place in places() {
        let node = Node::of(&place).await;
        let on = |model: &str| NewRun { candidate: side("2.0.0", model), ..new_run() };
        node.judged(on("a/one"), "incompatible").await;
        let good = node.judged(on("a/one"), "compatible").await;
        node.judged(on("a/two"), "compatible").await;
        let bad = node.judged(on("a/two"), "incompatible").await;
        let drift = NewRun { kind: RunKind::Drift, ..on("a/one") };
        let drifted = node.judged(drift, "incompatible").await;

        let prompt = SidePrompt::Registered { id: "reply".into(), version: "2.0.0".into() };
        let of = "of-files";
        let newest = async |model| node.runs.verdicts(of, None, &prompt, model).await.unwrap();
        assert_eq!(newest(Some("a/one")).await.first(), Some(&good));
        assert_eq!(newest(Some("a/two")).await.first(), Some(&bad));
        assert_eq!(newest(None).await.first(), Some(&bad));
        assert_eq!(newest(None).await.len(), 4, "drift is no verdict");
        let control = new_run().baseline.prompt;
        for (suite, baseline, count) in
            [(of, &control, 2), (of, &prompt, 0), ("other", &control, 0)]
        {
            let found = node.runs.verdicts(suite, Some(baseline), &prompt, Some("a/one")).await;
            assert_eq!(found.unwrap().len(), count, "{suite} {baseline}");
        }
        assert_eq!(newest(Some("a/three")).await, []);
        let tested = node.runs.tested().await.unwrap();
        let ids: Vec<_> = tested.iter().map(|tested| (&*tested.model, &*tested.run)).collect();
        assert_eq!(ids, [("a/one", &*good.id)], "the newest of the other is bad");
        assert_eq!(node.runs.drifts().await.unwrap(), [drifted]);

        let history =
            node.runs.history(("of-files", None), &side("2.0.0", "a/two"), 10).await.unwrap();
        assert_eq!(history.len(), 2);
        assert!(history[0].ended_ms > history[1].ended_ms, "the newest first");
        let filter = RunFilter { kind: Some(RunKind::Asked), ..RunFilter::default() };
        let first = node.runs.list(&filter, None, 3).await.unwrap();
        let rest = node.runs.list(&filter, Some(&first[2].id), 3).await.unwrap();
        assert_eq!((first.len(), rest.len()), (3, 1));
    }
}

#[tokio::test]
async fn answers_are_deleted_in_time_and_verdicts_stay() {
    for place in places() {
        let node = Node::of(&place).await;
        let held = node.holding();
        let run = node.begin(new_run()).await.id;
        node.runs.take_up(&run, &held).await.unwrap().unwrap();
        node.runs.commit(&run, &[sample("a", true, 0, "one")], None, &held).await.unwrap();
        let judgement = Some((json!({"verdict": "compatible"}), "compatible".to_owned()));
        let progress = Progress { samples_done: 1, ..Progress::default() };
        let ending =
            Ending { state: RunState::Done, reason: None, judgement, judge: None, progress };
        node.runs.end(&run, &ending, &held).await.unwrap();
        let keep = Duration::from_secs(3_600);
        assert_eq!(node.runs.sweep(keep).await.unwrap(), 0);
        node.pass(HOUR_MS + 1);
        assert_eq!(node.runs.sweep(keep).await.unwrap(), 1);
        assert_eq!(node.runs.sweep(keep).await.unwrap(), 0, "once");
        assert!(node.runs.samples(&run, None, 10).await.unwrap().is_empty());
        let kept = node.runs.find(&run).await.unwrap();
        assert_eq!(kept.judgement, Some(json!({"verdict": "compatible"})));
        assert_eq!(node.runs.tested().await.unwrap().len(), 1);
    }
}

#[tokio::test]
async fn a_pushed_suite_may_be_replaced_and_one_of_files_may_not() {
    for place in places() {
        let node = Node::of(&place).await;
        let push = |id: &str, text: &str| NewSuite {
            id: id.to_owned(),
            prompt: Some("reply".to_owned()),
            hash: format!("hash of {text}"),
            text: text.to_owned(),
        };
        node.runs.push_suite(push("mine", "first"), &by()).await.unwrap();
        let run = node.begin(NewRun { suite: "mine".to_owned(), ..new_run() }).await;
        assert_eq!(run.suite_hash, "hash of first");
        let second = node.runs.push_suite(push("mine", "second"), &by()).await.unwrap();
        assert_eq!(node.runs.suite("mine").await.unwrap(), Some(second));
        assert_eq!(node.runs.text_of(&run.id).await.unwrap(), "first", "it keeps to it");
        let ids: Vec<_> =
            node.runs.suites().await.unwrap().into_iter().map(|suite| suite.id).collect();
        assert_eq!(ids, ["mine", "of-files"]);
        let refused = node.runs.push_suite(push("of-files", "x"), &by()).await.unwrap_err();
        assert!(matches!(refused, RunsError::SuiteOfFiles(_)), "{refused}");
        let refused = node.runs.push_suite(push("a/b", "x"), &by()).await.unwrap_err();
        assert!(matches!(refused, RunsError::Invalid { field: "id", .. }), "{refused}");
    }
}

#[tokio::test]
async fn what_a_judge_has_said_is_known_by_judge_and_protocol() {
    for place in places() {
        let node = Node::of(&place).await;
        let ask = Ask::Similarity { text: "a".to_owned(), reference: "b".to_owned() };
        let (key, reply) = (ask.key(), Reply::Similarity(0.25));
        let other = Reply::Similarity(0.5);
        node.runs.keep_reply(("j", "1"), (&key, &reply), (Some("cr_1"), true)).await.unwrap();
        node.runs.keep_reply(("j", "1"), (&key, &other), (Some("cr_2"), false)).await.unwrap();
        let more = crate::compat::AskKey("more".to_owned());
        node.runs.keep_reply(("j", "1"), (&more, &other), (Some("cr_1"), false)).await.unwrap();
        for (judge, run, count) in
            [("j", "cr_1", (2, 1)), ("j", "cr_2", (0, 0)), ("k", "cr_1", (0, 0))]
        {
            assert_eq!(
                node.runs.sittings((judge, "1"), run).await.unwrap(),
                count,
                "{judge} {run}"
            );
        }
        let keys = [key.clone(), crate::compat::AskKey("none".to_owned())];
        let known = node.runs.replies(("j", "1"), &keys).await.unwrap();
        assert_eq!((known.len(), known.get(&key)), (1, Some(&reply)), "the first one stays");
        assert!(node.runs.replies(("j", "2"), &keys).await.unwrap().is_empty());

        let mut found = Calibration {
            judge: "j".to_owned(),
            protocol: "1".to_owned(),
            agreement: Agreement { both_pass: 60, judge_only: 5, human_only: 5, both_fail: 30 },
            failed: 2,
            at_ms: NOW,
        };
        assert_eq!(node.runs.calibration("j", "1").await.unwrap(), None);
        node.runs.calibrate(&found, &by()).await.unwrap();
        found.agreement.both_pass = 61;
        node.runs.calibrate(&found, &by()).await.unwrap();
        assert_eq!(node.runs.calibration("j", "1").await.unwrap(), Some(found.clone()));
        let other = Calibration { judge: "a".to_owned(), ..found.clone() };
        node.runs.calibrate(&other, &by()).await.unwrap();
        assert_eq!(node.runs.calibrations().await.unwrap(), [other, found]);
    }
}

#[tokio::test]
async fn a_night_is_begun_once_with_all_its_runs_or_with_none() {
    for place in places() {
        let node = Node::of(&place).await;
        let held = node.holding();
        let night = |until_ms| Night { expression: "0 3 * * *".to_owned(), until_ms };
        assert_eq!(node.runs.night().await.unwrap(), None);
        let nobody = node.runs.begin_night(vec![], None, &night(1), &held).await.unwrap();
        assert_eq!(nobody, Ok(0));
        let gone = NewRun { suite: "gone".to_owned(), ..new_run() };
        let new = vec![new_run(), gone, new_run()];
        let begun =
            node.runs.begin_night(new.clone(), Some(&night(1)), &night(2), &held).await.unwrap();
        assert_eq!(begun, Ok(2), "a suite that is gone is left out");
        let twice = node.runs.begin_night(new, Some(&night(1)), &night(2), &held).await.unwrap();
        assert_eq!(twice, Err(Committed::Over));
        assert_eq!(node.runs.open().await.unwrap().len(), 2);
        assert_eq!(node.runs.night().await.unwrap(), Some(night(2)));
    }
}
