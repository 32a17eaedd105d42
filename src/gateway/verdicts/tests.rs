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
        suite_hash: "0".into(),
        baseline: side.clone(),
        candidate: side,
        depth: Depth::Full,
        samples: 3,
        seed: 1,
        max_cost_micro_usd: 1,
        state: RunState::Done,
        reason: None,
        created_ms: ended_ms,
        ended_ms: Some(ended_ms),
        samples_done: 1,
        samples_planned: 1,
        cost_micro_usd: 1,
        judge: None,
        judgement: Some(judgement),
    }
}

#[test]
fn only_a_compatible_verdict_that_is_fresh_lets_a_candidate_grow() {
    let prompts = prompts();
    let version = |version| &**prompts.version("support", version).unwrap();
    let question = Question {
        prompt: version(Version::new(1, 1, 0)),
        instead_of: Some(version(Version::new(1, 0, 0))),
        model: Some("smart"),
        suite: Some("support".to_owned()),
    };
    for (newest, most, words) in [
        (None, 5.0, "tidegate compat run support --from 1.0.0 --to 1.1.0"),
        (Some(run("compatible", NOW - DAY_MS)), 100.0, ""),
        (Some(run("compatible", NOW - 15 * DAY_MS)), 5.0, "too old"),
        (Some(run("inconclusive", NOW)), 5.0, "because"),
        (Some(run("incompatible", NOW)), 0.0, "incompatible: because"),
        (Some(run("incompatible", NOW - 15 * DAY_MS)), 0.0, "incompatible: because"),
    ] {
        let bound = says(&settings(), &question, newest.as_ref(), NOW);
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
            one.suite = Some("support".to_owned());
            (one.prompt.name.to_string(), one.command())
        };
        asked.into_iter().map(command).collect::<Vec<_>>()
    };
    let command = "tidegate compat run support --to 1.1.0 --to-model sim/b";
    assert_eq!(of("smart"), [("support@1.1.0".to_owned(), command.to_owned())]);
    assert_eq!(of("other"), []);
}
