//! The report of a run, drawn up from its samples.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{AdminState, Problem};
use crate::compat::report::{
    CaseAnswers, Draft, Graded, Night, Report, RunFacts, RunState as Shown, counted,
};
use crate::compat::suite::{Case, Suite};
use crate::compat::verdict::{Judgement, Look, Measure, Terms, judge, plan};
use crate::compat::{Same, Side, SidePrompt};
use crate::problems::Problems;
use crate::prompt::{Prompts, RenderedMessage, Version};
use crate::runs::{RunKind, RunRecord, RunState, SamplePlace, SampleRow};

/// Samples that are read at a time.
const PAGE: u32 = 1_000;
/// Nights of the trend.
const NIGHTS: u32 = 60;

/// Draws it up. Of a run that goes on it says what is known so far.
pub(super) async fn of(state: &AdminState, record: &RunRecord) -> Result<Report, Problem> {
    let terms = record.terms(&state.runs.settings());
    let suite = Frozen::read(state, record).await?;
    let judgement = match &record.judgement {
        Some(stored) => serde_json::from_value(stored.clone()).map_err(|error| {
            let detail = format!("the verdict of {} cannot be read: {error}", record.id);
            Problem::new(http::StatusCode::INTERNAL_SERVER_ERROR, "internal", detail)
        })?,
        None if record.is_first_night() => Judgement::nothing(),
        None => so_far(state, record, &suite, &terms).await?,
    };
    let mut facts = facts(record, &suite);
    if record.kind != RunKind::Drift && record.verdict().is_some() {
        facts.pair = Some(state.runs.runs_of_pair(record).await?);
    }
    let mut draft = Draft::new(facts, terms.clone(), judgement)
        .state(state_of(record))
        .trend(trend(state, record).await?);
    // What pairs can tell; nights add up.
    if record.kind != RunKind::Drift {
        draft = draft.plan(plan(suite.chosen, None, &terms));
    }
    if let Some(judge) = &record.judge {
        draft = draft.judge(judge.clone());
    }
    let mut judging = 0;
    each_case(state, record, &suite, |case, spent| {
        judging += spent;
        draft.add(&case);
    })
    .await?;
    let mut report = draft.finish();
    report.run.judging_micro_usd = judging;
    report.run.cost_micro_usd = record.cost_micro_usd.saturating_sub(judging);
    Ok(report)
}

/// The suite as it was when the run began.
pub(super) struct Frozen {
    description: String,
    cases: BTreeMap<String, Case>,
    /// How many of them the depth asks, but for those that a change touches.
    chosen: u64,
    /// Cases that are the same as others.
    same: Vec<Same>,
    pub(super) suite: Option<Suite>,
    prompts: std::sync::Arc<Prompts>,
    candidate: Side,
}

// === impl Frozen ===

impl Frozen {
    pub(super) async fn read(state: &AdminState, record: &RunRecord) -> Result<Self, Problem> {
        let text = state.runs.text_of(&record.id).await?;
        let files = serde_json::from_str::<Vec<_>>(&text).unwrap_or_default();
        // What has become unreadable, by a newer program, is shown without its questions.
        let mut suite = Suite::parse(&record.suite, &files, &mut Problems::new());
        if let (Some(only), Some(suite)) = (&record.only, &mut suite) {
            only.leave_in(suite);
        }
        let same = suite.as_mut().map(Suite::leave_out_same).unwrap_or_default();
        let of = |suite: &Suite| {
            suite.cases.iter().map(|case| (case.id.clone(), case.clone())).collect()
        };
        let chosen = suite.as_ref().map_or(0, |suite| suite.chosen(record.depth).len() as u64);
        Ok(Self {
            description: suite.as_ref().map(|suite| suite.description.clone()).unwrap_or_default(),
            cases: suite.as_ref().map(of).unwrap_or_default(),
            chosen,
            same,
            suite,
            prompts: state.registry.prompts(),
            candidate: record.candidate.clone(),
        })
    }

    /// An empty one of the case's facts.
    fn case(&self, id: &str) -> CaseAnswers {
        let known = self.cases.get(id);
        CaseAnswers {
            id: id.to_owned(),
            description: known.map(|case| case.description.clone()).unwrap_or_default(),
            category: known.map(|case| case.category).unwrap_or_default(),
            is_critical: known.is_some_and(|case| case.is_critical),
            vars: known.map(|case| case.vars.clone()).unwrap_or_default(),
            question: known.map(|case| self.question(case)).unwrap_or_default(),
            baseline: Vec::new(),
            candidate: Vec::new(),
            preferences: BTreeMap::new(),
        }
    }

    /// What the candidate was asked.
    fn question(&self, case: &Case) -> String {
        let messages = match &self.candidate.prompt {
            SidePrompt::Inline { index, .. } => {
                self.suite.as_ref().and_then(|suite| suite.question(*index, &case.vars).ok())
            }
            SidePrompt::Registered { id, version } => {
                let version = version.parse::<Version>().ok();
                let prompt = version.and_then(|version| self.prompts.version(id, version));
                let rendered = prompt.and_then(|prompt| prompt.render(case.vars_for(prompt)).ok());
                rendered.map(|rendered| rendered.messages)
            }
        };
        let shown =
            |message: RenderedMessage| format!("{}: {}", message.role.as_str(), message.text);
        messages.into_iter().flatten().map(shown).collect::<Vec<_>>().join("\n\n")
    }
}

/// Reads all samples, case by case; with each, what judges cost for it.
pub(super) async fn each_case(
    state: &AdminState,
    record: &RunRecord,
    suite: &Frozen,
    mut take: impl FnMut(CaseAnswers, u64),
) -> Result<(), Problem> {
    let mut place: Option<SamplePlace> = None;
    let mut open: Option<(CaseAnswers, u64)> = None;
    loop {
        let page = state.runs.samples(&record.id, place.as_ref(), PAGE).await?;
        let Some(last) = page.last() else { break };
        place = Some(SamplePlace {
            case: last.case.clone(),
            sample: last.sample,
            is_candidate: last.is_candidate,
        });
        for row in page {
            let is_same = open.as_ref().is_some_and(|(case, _)| case.id == row.case);
            if !is_same {
                let next = (suite.case(&row.case), 0);
                if let Some((case, spent)) = open.replace(next) {
                    take(case, spent);
                }
            }
            if let Some((case, spent)) = &mut open {
                *spent += row.judging_micro_usd;
                add(case, row);
            }
        }
    }
    if let Some((case, spent)) = open {
        take(case, spent);
    }
    Ok(())
}

fn add(case: &mut CaseAnswers, row: SampleRow) {
    if let Some(preference) = row.preference {
        case.preferences.insert(row.sample, preference);
    }
    let side = if row.is_candidate { &mut case.candidate } else { &mut case.baseline };
    side.push(Graded {
        answer: row.answer,
        grade: row.grade,
        is_reused: row.reused_from.is_some(),
    });
}

/// What would be said if nothing more came.
async fn so_far(
    state: &AdminState,
    record: &RunRecord,
    suite: &Frozen,
    terms: &Terms,
) -> Result<Judgement, Problem> {
    let mut cases = Vec::new();
    each_case(state, record, suite, |case, _| cases.push(case.paired())).await?;
    let look = Look { samples: record.samples, can_ask_more: true };
    Ok(judge(&cases, terms, look))
}

fn facts(record: &RunRecord, suite: &Frozen) -> RunFacts {
    let kind = serde_json::to_value(record.kind).ok();
    RunFacts {
        id: record.id.clone(),
        kind: kind.as_ref().and_then(Value::as_str).unwrap_or_default().to_owned(),
        suite: record.suite.clone(),
        suite_hash: record.suite_hash.clone(),
        description: suite.description.clone(),
        baseline: record.baseline.clone(),
        candidate: record.candidate.clone(),
        depth: record.depth,
        suite_cases: suite.cases.len() as u64,
        seed: record.seed,
        started_ms: record.created_ms,
        ended_ms: record.ended_ms,
        cost_micro_usd: record.cost_micro_usd,
        judging_micro_usd: 0,
        first_night: record.is_first_night(),
        pair: None,
        ended_early: note(record),
        only: record.only.as_ref().map(ToString::to_string),
        same: suite.same.clone(),
    }
}

/// Where it is. That money or time has ended a run, its reason says.
fn state_of(record: &RunRecord) -> Shown {
    let is_capped = record.reason.as_ref().is_some_and(|why| why.starts_with("it ended early"));
    match record.state {
        RunState::Waiting => Shown::Waiting,
        RunState::Running => Shown::Running,
        RunState::Done if is_capped => Shown::Capped,
        RunState::Done => Shown::Done,
        RunState::Cancelled => Shown::Cancelled,
        RunState::Failed => Shown::Failed,
    }
}

/// What is to be known of its end.
fn note(record: &RunRecord) -> Option<String> {
    let reason = record.reason.clone();
    if record.state == RunState::Done {
        return reason;
    }
    let why = reason.map(|reason| format!(": {reason}")).unwrap_or_default();
    let (state, done) = (record.state.as_str(), record.samples_done);
    let planned = counted(record.samples_planned, "answer");
    Some(format!("the run is {state}, with {done} of {planned}{why}"))
}

/// How the candidate has fared before, the oldest first.
async fn trend(state: &AdminState, record: &RunRecord) -> Result<Vec<Night>, Problem> {
    let runs = state
        .runs
        .history((&record.suite, record.only.as_ref()), &record.candidate, NIGHTS)
        .await?;
    let night = |run: &RunRecord| {
        let judgement: Judgement = serde_json::from_value(run.judgement.clone()?).ok()?;
        let rate = judgement.criteria.iter().find(|one| one.measure == Measure::PassRate)?;
        Some(Night {
            run: run.id.clone(),
            at_ms: run.ended_ms?,
            baseline: rate.baseline,
            candidate: rate.candidate,
            verdict: judgement.verdict,
        })
    };
    Ok(runs.iter().rev().filter_map(night).collect())
}
