//! Tests of how far a candidate may grow.

use serde_json::{Map, Value, json};

use super::*;
use crate::compat::{Depth, Side};
use crate::problems::Problems;
use crate::prompt::Version;
use crate::runs::{RunKind, RunState};
use crate::units::{HumanDuration, Ratio};

const DAY_MS: u64 = 24 * 3_600_000;
const NOW: u64 = 100 * DAY_MS;

fn prompts() -> Prompts {
    let text = "target_model = \"smart\"\n[[messages]]\nrole = \"user\"\ncontent = \"hello\"\n";
    let files = ["1.0.0", "1.1.0"].map(|version| format!("prompts/support/{version}.toml"));
    let mut problems = Problems::new();
    let texts = files.iter().map(|file| (std::path::Path::new(file.as_str()), text));
    let prompts = Prompts::parse(texts, None, &mut problems);
    assert!(problems.is_empty(), "{problems}");
    prompts
}

fn settings() -> GateSettings {
    GateSettings {
        require: GateRequirement::Always,
        canary: Ratio::percent(5),
        max_age: HumanDuration::secs(14 * 24 * 3_600),
    }
}

fn run(verdict: &str, ended_ms: u64) -> RunRecord {
    let prompt = SidePrompt::Registered { id: "support".into(), version: "1.1.0".into() };
    let side = Side { prompt, model: "smart".into(), parameters: Map::new() };
    let judgement: Value = json!({ "verdict": verdict, "reasons": ["because"] });
    RunRecord {
        id: "cr_000000000000".into(),
        kind: RunKind::Asked,
        suite: "support".into(),
        suite_hash: "now".into(),
        baseline: side.clone(),
        candidate: side,
        depth: Depth::Targeted,
        only: None,
        samples: 3,
        seed: 1,
        max_cost_micro_usd: 1,
        state: RunState::Done,
        reason: None,
        created_ms: ended_ms,
        ended_ms: Some(ended_ms),
        samples_done: 1,
        samples_planned: 1,
        samples_reused: 0,
        cost_micro_usd: 1,
        judge: None,
        judgement: Some(judgement),
    }
}

fn suite() -> Option<OwnSuite> {
    Some(OwnSuite { id: "support".to_owned(), hash: "now".to_owned() })
}

#[test]
fn only_a_compatible_verdict_that_is_fresh_lets_a_candidate_grow() {
    let prompts = prompts();
    let version = |version| &**prompts.version("support", version).unwrap();
    let question = Question {
        prompt: version(Version::new(1, 1, 0)),
        instead_of: Some(version(Version::new(1, 0, 0))),
        model: Some("smart"),
        suite: suite(),
    };
    let (bad, good) = ("incompatible", "compatible");
    let smoke = |verdict| RunRecord { depth: Depth::Smoke, ..run(verdict, NOW) };
    let full = |verdict| RunRecord { depth: Depth::Full, ..run(verdict, NOW) };
    let only = |which: &str, verdict| {
        let only = Some(crate::compat::Only::parse(which).unwrap());
        RunRecord { depth: Depth::Full, only, ..run(verdict, NOW) }
    };
    let incidents = |verdict| only("incidents", verdict);
    let other = RunRecord { suite_hash: "before".into(), ..run(good, NOW) };
    for (newest_first, most, words) in [
        (vec![], 5.0, "tidegate compat run support --from 1.0.0 --to 1.1.0"),
        (vec![run(good, NOW - DAY_MS)], 100.0, ""),
        (vec![run(good, NOW - 15 * DAY_MS)], 5.0, "too old"),
        (vec![run("inconclusive", NOW)], 5.0, "because"),
        (vec![run(bad, NOW)], 0.0, "incompatible: because"),
        (vec![run(bad, NOW - 15 * DAY_MS)], 0.0, "incompatible: because"),
        (vec![run("inconclusive", NOW), run(good, NOW)], 100.0, ""),
        (vec![run("inconclusive", NOW), run(bad, NOW)], 0.0, "incompatible: because"),
        (vec![run(good, NOW), run(bad, NOW)], 100.0, ""),
        (vec![run(bad, NOW), run(good, NOW)], 0.0, "incompatible: because"),
        (vec![smoke(good), run(bad, NOW)], 0.0, "incompatible: because"),
        (vec![run(good, NOW), full(bad)], 0.0, "incompatible: because"),
        (vec![full(good), run(bad, NOW)], 100.0, ""),
        (vec![smoke(good)], 5.0, "too few cases"),
        (vec![other], 5.0, "by the cases as they are"),
        // Who runs it until it is compatible has to be right more often than wrong.
        (vec![run(good, NOW), run(bad, 2), run(bad, 1)], 5.0, "as many that find it compatible"),
        (vec![run(good, NOW), run(bad, 2), run(bad, 1)], 5.0, "3rd run of this pair; 2 were not"),
        (vec![run(good, NOW), run(good, 3), run(bad, 2), run(bad, 1)], 100.0, ""),
        (vec![run(good, NOW), smoke(bad), smoke(bad)], 100.0, ""),
        (
            vec![run("inconclusive", NOW), run("inconclusive", 1)],
            5.0,
            "because (the 2nd run of this pair; 2 were not compatible)",
        ),
        (vec![incidents(good)], 5.0, "there is none"),
        (vec![incidents(good), run(good, NOW)], 100.0, ""),
        (vec![incidents(good), run("inconclusive", NOW)], 5.0, "because"),
        (vec![incidents(good), run(bad, NOW)], 0.0, "incompatible: because"),
        (vec![incidents(bad), full(good)], 0.0, "incompatible: because"),
        (vec![run(good, NOW), incidents(bad)], 0.0, "incompatible: because"),
        (vec![full(good), incidents(bad)], 100.0, ""),
        (vec![incidents(good), incidents(bad), run(good, NOW)], 100.0, ""),
        (vec![only("tone", good), incidents(bad), run(good, NOW)], 0.0, "incompatible: because"),
    ] {
        let bound = says(&settings(), &question, &newest_first, NOW);
        assert_eq!(bound.most.percent(), most, "{bound:?}");
        assert!(bound.why.contains(words), "{bound:?}");
    }
}

#[test]
fn a_route_asks_for_the_prompts_that_are_written_for_it() {
    let prompts = prompts();
    let of = |name: &str| {
        let subject = Subject::of("route", name, "sim/a", "sim/b").unwrap();
        let asked = questions(&subject, &prompts);
        let command = |mut one: Question<'_>| {
            one.suite = suite();
            (one.prompt.name.to_string(), one.command())
        };
        asked.into_iter().map(command).collect::<Vec<_>>()
    };
    let command = "tidegate compat run support --to 1.1.0 --to-model sim/b";
    assert_eq!(of("smart"), [("support@1.1.0".to_owned(), command.to_owned())]);
    assert_eq!(of("other"), []);
}
