//! Rollouts as operators see them.

use std::sync::Arc;

use serde::Serialize;

use crate::clock::rfc3339;
use crate::policy::rollout::{Bound, Finding, PausedBy, Phase, Plan, Share, Stage, UnitKind};
use crate::rollout::{
    FreezeWindow, NodeSeen, Record, Standing, Steered, StoredDecision, Subject, phase_name,
};
use crate::units::HumanDuration;

/// A rollout in a list.
#[derive(Debug, Serialize)]
pub(in crate::admin) struct SummaryView {
    id: String,
    prompt: Option<String>,
    route: Option<String>,
    from: String,
    to: String,
    phase: String,
    percent: f64,
    /// Whether the candidate answers beside the control and is not served.
    is_shadow: bool,
    /// Whether requests are steered by it.
    is_live: bool,
    unit: UnitKind,
    revision: u64,
    created_by: String,
    created_at: String,
    ended_at: Option<String>,
}

/// A rollout with all there is to say about it.
#[derive(Debug, Serialize)]
pub(super) struct RolloutView {
    #[serde(flatten)]
    summary: SummaryView,
    /// What paused it, in words.
    paused_by: Option<&'static str>,
    frozen: bool,
    /// Why nothing grows now, by the configuration.
    freeze: Option<String>,
    /// How far it may grow without a verdict of compatibility.
    gate: Option<GateView>,
    /// Where it is, in words.
    says: String,
    stage: StageView,
    stages: Vec<PlanStageView>,
    shadow: Option<ShadowView>,
    serving: ServingView,
    estimate: EstimateView,
    /// Evidence of harm, of 100 needed to roll back.
    evidence: f64,
    guardrails: Vec<FindingView>,
    sample_ratio: RatioView,
    decisions: Vec<DecisionView>,
}

/// How far it may grow without a verdict of compatibility.
#[derive(Debug, Serialize)]
struct GateView {
    most_percent: f64,
    why: String,
}

#[derive(Debug, Serialize)]
struct StageView {
    /// From 1.
    number: usize,
    of: usize,
    kind: &'static str,
    /// Requests of the candidate in it.
    requests: u64,
}

#[derive(Debug, Serialize)]
struct PlanStageView {
    percent: f64,
    kind: &'static str,
    min_requests: u64,
    min_time: HumanDuration,
}

#[derive(Debug, Serialize)]
struct ShadowView {
    sample_percent: f64,
    usd: String,
    spent_usd: String,
}

#[derive(Debug, Serialize)]
struct ServingView {
    /// What this node gives the candidate; none where it steers by nothing.
    percent: Option<f64>,
    revision: Option<u64>,
    nodes: Vec<NodeView>,
}

#[derive(Debug, Serialize)]
struct NodeView {
    name: String,
    revision: u64,
    since: String,
}

#[derive(Debug, Serialize)]
struct EstimateView {
    requests_last_hour: u64,
    /// How long all stages take at least at that traffic; none without traffic.
    seconds: Option<u64>,
    says: String,
}

#[derive(Debug, Serialize)]
struct FindingView {
    guardrail: &'static str,
    says: String,
    evidence: f64,
    candidate: f64,
    candidate_count: u64,
    control: f64,
    control_count: u64,
    /// The plausible effects, positive is worse: differences, or logarithms of ratios.
    low: Option<f64>,
    high: Option<f64>,
}

#[derive(Debug, Serialize)]
struct RatioView {
    candidates: u64,
    controls: u64,
    /// Evidence that the split is wrong, of 1,000 needed.
    evidence: f64,
}

#[derive(Debug, Serialize)]
struct DecisionView {
    at: String,
    verdict: &'static str,
    by: String,
    percent: f64,
    revision: u64,
    sentence: String,
}

/// What of it is served.
pub(super) struct Serving {
    /// By this node.
    pub(super) steered: Option<Arc<Steered>>,
    /// By others, as they have said.
    pub(super) nodes: Vec<NodeSeen>,
}

/// How many requests there are.
pub(super) struct Traffic {
    /// In the last hour.
    pub(super) last_hour: u64,
}

// === impl SummaryView ===

impl SummaryView {
    pub(super) fn of(standing: &Standing) -> Self {
        let is_prompt = standing.kind == "prompt";
        let name = standing.subject.clone();
        Self {
            id: standing.id.clone(),
            prompt: is_prompt.then(|| name.clone()),
            route: (!is_prompt).then_some(name),
            from: standing.from.clone(),
            to: standing.to.clone(),
            phase: standing.phase.clone(),
            percent: standing.share.percent(),
            is_shadow: standing.is_shadow,
            is_live: standing.is_live,
            unit: standing.unit,
            revision: standing.revision,
            created_by: standing.created_by.clone(),
            created_at: rfc3339(standing.created_at_ms),
            ended_at: standing.ended_at_ms.map(rfc3339),
        }
    }

    fn of_record(record: &Record) -> Self {
        let (from, to) = record.subject.sides();
        let (prompt, route) = match &record.subject {
            Subject::Prompt { id, .. } => (Some(id.to_string()), None),
            Subject::Route { name, .. } => (None, Some(name.to_string())),
        };
        Self {
            id: record.id.clone(),
            prompt,
            route,
            from,
            to,
            phase: phase_name(record.rollout.phase()).to_owned(),
            percent: record.rollout.share().percent(),
            is_shadow: record.rollout.is_shadowing(),
            is_live: record.is_live,
            unit: record.rollout.plan().unit,
            revision: record.rollout.revision(),
            created_by: record.created_by.clone(),
            created_at: rfc3339(record.created_at_ms),
            ended_at: record.ended_at_ms.map(rfc3339),
        }
    }

    pub(super) fn id(&self) -> &String {
        &self.id
    }
}

// === impl RolloutView ===

impl RolloutView {
    pub(super) fn of(
        record: &Record,
        decisions: &[StoredDecision],
        serving: Serving,
        traffic: Traffic,
        freeze: Option<FreezeWindow>,
    ) -> Self {
        let rollout = &record.rollout;
        let analysis = rollout.analysis();
        let (candidates, controls) = analysis.ratio().counts();
        let paused_by = match rollout.phase() {
            Phase::Paused(by) => Some(paused(by)),
            Phase::Running | Phase::Done | Phase::RolledBack => None,
        };
        Self {
            paused_by,
            frozen: rollout.is_frozen(),
            freeze: freeze.map(|(until, why)| format!("until {until}: {why}")),
            gate: None,
            says: says(record, serving.steered.is_some()),
            stage: StageView::of(record),
            stages: rollout.plan().stages.iter().map(PlanStageView::of).collect(),
            shadow: record.shadow.map(|shadow| ShadowView {
                sample_percent: shadow.sample.percent(),
                usd: shadow.usd.to_usd_string(),
                spent_usd: record.spent.to_usd_string(),
            }),
            serving: ServingView::of(serving),
            estimate: EstimateView::of(rollout.plan(), &traffic),
            evidence: rounded(analysis.evidence()),
            guardrails: analysis.findings().iter().map(FindingView::of).collect(),
            sample_ratio: RatioView {
                // Counts of units: they are whole and far below what a float is exact for.
                candidates: candidates as u64,
                controls: controls as u64,
                evidence: rounded(analysis.ratio().evidence()),
            },
            decisions: decisions.iter().map(DecisionView::of).collect(),
            summary: SummaryView::of_record(record),
        }
    }

    /// With how far it may grow, where it may still grow.
    pub(super) fn gated(self, bound: &Bound) -> Self {
        let is_there = self.summary.ended_at.is_none() && bound.most < Share::ALL;
        let gate = is_there
            .then(|| GateView { most_percent: bound.most.percent(), why: bound.why.clone() });
        Self { gate, ..self }
    }
}

/// What paused it, in words.
fn paused(by: PausedBy) -> &'static str {
    match by {
        PausedBy::Operator => "an operator",
        PausedBy::SlightHarm(_) => "harm that is less than the margin",
        PausedBy::SampleRatio => "a split that is not what it ought to be",
        PausedBy::Undecided => "a stage that stayed undecided for too long",
    }
}

/// Where it is, in words.
fn says(record: &Record, is_steering: bool) -> String {
    let (from, to) = record.subject.sides();
    let share = record.rollout.share();
    match record.rollout.phase() {
        Phase::Running | Phase::Paused(_) if !is_steering => format!(
            "nothing is steered on this node: the configuration does not have both {from} and {to}"
        ),
        Phase::Running if record.rollout.is_shadowing() => {
            format!("{to} answers beside {from} and nobody sees its answers")
        }
        Phase::Running => format!("{to} serves {share}, {from} the rest"),
        Phase::Paused(by) => {
            format!("paused by {}: {to} keeps {share}; resume, set or roll back", paused(by))
        }
        Phase::Done if is_steering => match &record.subject {
            Subject::Route { name, .. } => format!(
                "{to} serves everybody; put it in the place of {from} in the route {name}: until \
                 then the rollout stands in for that"
            ),
            Subject::Prompt { id, .. } => format!(
                "{to} serves everybody; the labels of {id} that stood for {from} stand for it"
            ),
        },
        Phase::Done => format!("{to} has taken the place of {from}"),
        Phase::RolledBack => format!("{from} serves everybody again"),
    }
}

/// To four places: evidence is a product of thousands of factors.
fn rounded(value: f64) -> f64 {
    (value * 1e4).round() / 1e4
}

// === impl StageView ===

impl StageView {
    fn of(record: &Record) -> Self {
        let rollout = &record.rollout;
        let (at, stage) = rollout.stage();
        Self {
            number: at + 1,
            of: rollout.plan().stages.len(),
            kind: stage.map_or("none", |stage| stage.kind().as_str()),
            requests: rollout.analysis().requests(),
        }
    }
}

// === impl PlanStageView ===

impl PlanStageView {
    fn of(stage: &Stage) -> Self {
        let Stage { share, min_time, min_requests } = *stage;
        let kind = stage.kind().as_str();
        Self { percent: Share::percent(share), kind, min_requests, min_time }
    }
}

// === impl ServingView ===

impl ServingView {
    fn of(serving: Serving) -> Self {
        let view = |seen: NodeSeen| NodeView {
            name: seen.name,
            revision: seen.revision,
            since: rfc3339(seen.at_ms),
        };
        Self {
            percent: serving.steered.as_ref().map(|steered| steered.share.percent()),
            revision: serving.steered.as_ref().map(|steered| steered.revision),
            nodes: serving.nodes.into_iter().map(view).collect(),
        }
    }
}

// === impl EstimateView ===

impl EstimateView {
    fn of(plan: &Plan, traffic: &Traffic) -> Self {
        let Traffic { last_hour } = *traffic;
        let seconds = plan.seconds_at(last_hour as f64 / 3_600.0);
        // A century is as good as never, and fits.
        let seconds = Some(seconds).filter(|seconds| *seconds < 3e9).map(|seconds| seconds as u64);
        let says = match seconds {
            None => format!("no stage ends at {last_hour} requests an hour, as in the last one"),
            Some(seconds) => {
                let time = in_words(seconds);
                format!("all stages take {time} at least at {last_hour} requests an hour")
            }
        };
        Self { requests_last_hour: last_hour, seconds, says }
    }
}

/// `3 h 20 min`
fn in_words(seconds: u64) -> String {
    match (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60) {
        (0, 0, minutes) => format!("{minutes} min"),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (days, hours, _) => format!("{days} d {hours} h"),
    }
}

// === impl FindingView ===

impl FindingView {
    fn of(finding: &Finding) -> Self {
        Self {
            guardrail: finding.guardrail.as_str(),
            says: finding.to_string(),
            evidence: rounded(finding.evidence),
            candidate: finding.candidate.value,
            candidate_count: finding.candidate.count,
            control: finding.control.value,
            control_count: finding.control.count,
            low: finding.interval.map(|interval| interval.low),
            high: finding.interval.map(|interval| interval.high),
        }
    }
}

// === impl DecisionView ===

impl DecisionView {
    fn of(stored: &StoredDecision) -> Self {
        let decision = &stored.decision;
        Self {
            at: rfc3339(decision.at_ms),
            verdict: decision.verdict.as_str(),
            by: stored.actor.clone(),
            percent: decision.share.percent(),
            revision: decision.revision,
            sentence: decision.sentence.clone(),
        }
    }
}
