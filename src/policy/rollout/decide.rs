//! A rollout as a state machine: what happens goes in, what is to be done comes out.
//!
//! ```text
//!           gates passed, or promoted by hand
//!            ┌───────┐
//!            ▼       │     the last stage passed
//!   begin ─▶ running ┴──────────────────────────▶ done
//!            ▲   │ pause, little harm, split off,        │
//!    resumed │   ▼ undecided for too long                │ by hand
//!            paused                                      │
//!                │ harm, or by hand (from running too)   │
//!                └──────────▶ rolled back ◀──────────────┘
//! ```
//!
//! - The **share** may be set by hand at any time while it runs or pauses; the stage is then the
//!   last that serves no more.
//! - **Freezing** stops all growth, by itself or by hand, and nothing else: a frozen rollout still
//!   shrinks, pauses and rolls back.
//!   Setting it to nothing also pauses.
//! - A **bound** stops growth beyond it likewise; without one the rollout goes on where it was.
//! - A **pause** stops growth. Harm rolls back all the same, unless the split is off: then no
//!   figure is to be trusted, and only failures that need no statistics roll back.
//! - Evidence of **less harm than the margin** pauses once; who resumes has accepted it.
//!
//! Each change of state raises the **revision** by one. Whoever stores a rollout stores it on the
//! condition that the stored revision is still the one read: of two that lead the analysis at once,
//! one fails and acts on nothing.

use serde::{Deserialize, Serialize};

use super::analysis::{Alarm, Analysis};
use super::assign::{Salt, Share};
use super::bound::Bound;
use super::event::{Action, Event, PausedBy, Phase, Refusal};
use super::evidence::{Cause, Decision, Finding, Verdict};
use super::guardrails::Guardrail;
use super::plan::{Plan, PlanError, Stage};

#[cfg(test)]
mod tests;

/// A rollout: all of its state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rollout {
    salt: Salt,
    plan: Plan,
    phase: Phase,
    share: Share,
    stage: usize,
    /// When the stage began, in Unix milliseconds.
    since_ms: u64,
    revision: u64,
    is_frozen: bool,
    /// How far it may grow by what is known beside its figures.
    #[serde(default)]
    bound: Bound,
    /// Whether it was said that this stage is undecided.
    is_holding: bool,
    /// Guardrails whose lesser harm somebody has accepted.
    accepted: Vec<Guardrail>,
    analysis: Analysis,
}

/// Requests of the control that a stage needs at least, where it asks for as many of the candidate.
const LEAST_CONTROLS: u64 = 20;

// === impl Rollout ===

impl Rollout {
    /// Begins the first stage; the actions are those of every later change.
    pub fn begin(id: &str, plan: Plan, now_ms: u64) -> Result<(Self, Vec<Action>), PlanError> {
        plan.check()?;
        let share = plan.stages.first().map_or(Share::NONE, |stage| stage.share);
        let begun = Self {
            salt: Salt::of(id),
            phase: Phase::Running,
            share,
            stage: 0,
            since_ms: now_ms,
            revision: 1,
            is_frozen: false,
            bound: Bound::NONE,
            is_holding: false,
            accepted: Vec::new(),
            analysis: Analysis::new(plan.guardrails.clone()),
            plan,
        };
        let steer = begun.steer(false);
        Ok((begun, vec![steer]))
    }

    /// What follows from an event.
    pub fn on(&mut self, event: Event, now_ms: u64) -> Vec<Action> {
        let is_over = matches!(self.phase, Phase::Done | Phase::RolledBack);
        match event {
            Event::Exposed { arm, share, unit } => {
                self.analysis.expose(arm, share, unit);
                self.check_split(now_ms)
            }
            Event::Observed(seen) => {
                self.analysis.observe(&seen);
                self.judge(now_ms)
            }
            Event::Compared(pair) => {
                self.analysis.compare(&pair);
                self.judge(now_ms)
            }
            Event::Tick if is_over => Vec::new(),
            Event::Tick => self.pass_stage(now_ms),
            Event::Bounded(bound) => {
                self.bound = bound;
                Vec::new()
            }
            Event::RollBack(why) if self.phase != Phase::RolledBack => {
                let sentence = format!("rolled back by hand: {why}");
                self.roll_back(Cause::Operator, Vec::new(), sentence, now_ms)
            }
            Event::SetShare(_)
            | Event::Pause
            | Event::Resume
            | Event::Promote
            | Event::RollBack(_)
            | Event::Freeze
            | Event::Thaw
                if is_over =>
            {
                vec![Action::Refuse(Refusal::Over)]
            }
            Event::SetShare(share) => self.set_share(share, now_ms),
            Event::Pause if self.phase != Phase::Running => vec![Action::Refuse(Refusal::Paused)],
            Event::Pause => self.pause(PausedBy::Operator, "paused by hand".to_owned(), now_ms),
            Event::Resume => self.resume(now_ms),
            Event::Promote if self.is_frozen => vec![Action::Refuse(Refusal::Frozen)],
            Event::Promote if self.waits_for_bound() => vec![Action::Refuse(Refusal::Bounded)],
            Event::Promote => {
                self.phase = Phase::Running;
                self.next_stage(Cause::Operator, "promoted by hand", now_ms)
            }
            // Neither changes what is served.
            Event::Freeze | Event::Thaw => {
                self.is_frozen = event == Event::Freeze;
                self.revision += 1;
                Vec::new()
            }
            Event::RollBack(_) => Vec::new(),
        }
    }

    /// By what units are assigned.
    pub fn salt(&self) -> Salt {
        self.salt
    }

    /// How it is to go.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Where it is.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// What the candidate serves now.
    pub fn share(&self) -> Share {
        self.share
    }

    /// The stage, and its number from 0.
    pub fn stage(&self) -> (usize, Option<&Stage>) {
        (self.stage, self.plan.stages.get(self.stage))
    }

    /// Raised by each change of state: what is stored must have the one before.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Whether growth is stopped.
    pub fn is_frozen(&self) -> bool {
        self.is_frozen
    }

    /// How far it may grow by what is known beside its figures.
    pub fn bound(&self) -> &Bound {
        &self.bound
    }

    /// Whether the candidate answers beside the control and is not served.
    pub fn is_shadowing(&self) -> bool {
        self.share == Share::NONE
            && self.phase != Phase::RolledBack
            && self.plan.stages.get(self.stage).is_some_and(|stage| stage.share == Share::NONE)
    }

    /// What it knows of both sides.
    pub fn analysis(&self) -> &Analysis {
        &self.analysis
    }

    /// Rolls back, or pauses, if the evidence asks for it.
    fn judge(&mut self, now_ms: u64) -> Vec<Action> {
        let is_trusted = self.phase != Phase::Paused(PausedBy::SampleRatio);
        if matches!(self.phase, Phase::Done | Phase::RolledBack) {
            return Vec::new();
        }
        if let Some(why) = self.analysis.hard().reason() {
            let (all, failed) = self.analysis.hard().control();
            let sentence = format!("{why}, while the control failed {failed} of {all}");
            return self.roll_back(Cause::HardFailures, Vec::new(), sentence, now_ms);
        }
        let Some(alarm) = self.analysis.alarm().filter(|_| is_trusted) else { return Vec::new() };
        let Alarm { cause, is_harm, findings } = alarm;
        let sentence = findings.first().map(Finding::to_string).unwrap_or_default();
        if is_harm {
            return self.roll_back(cause, findings, sentence, now_ms);
        }
        let Cause::Guardrail(guardrail) = cause else { return Vec::new() };
        if self.phase != Phase::Running || self.accepted.contains(&guardrail) {
            return Vec::new();
        }
        let sentence = format!("{sentence}, but less harm than the margin");
        self.phase = Phase::Paused(PausedBy::SlightHarm(guardrail));
        let decided = self.decide(Verdict::Pause, cause, findings, sentence, now_ms);
        vec![Action::Page(decided.sentence.clone()), Action::Record(decided)]
    }

    fn check_split(&mut self, now_ms: u64) -> Vec<Action> {
        if self.phase != Phase::Running || !self.analysis.ratio().is_off() {
            return Vec::new();
        }
        let (candidates, controls) = self.analysis.ratio().counts();
        let seen = 100.0 * candidates / (candidates + controls).max(1.0);
        let share = self.share;
        let sentence = format!(
            "the candidate was given {seen:.2} % of the units at a share of {share}: one side is lost \
             on the way, and the figures are not to be trusted"
        );
        self.pause(PausedBy::SampleRatio, sentence, now_ms)
    }

    /// Begins the next stage if this one has had its time and requests and nothing is unclear.
    fn pass_stage(&mut self, now_ms: u64) -> Vec<Action> {
        let Some(stage) = self.plan.stages.get(self.stage) else { return Vec::new() };
        let passed_ms = now_ms.saturating_sub(self.since_ms);
        let is_due = passed_ms >= stage.min_ms() && self.analysis.requests() >= stage.min_requests;
        if !is_due || self.is_frozen || self.phase != Phase::Running {
            return Vec::new();
        }
        let unclear = self.analysis.unclear();
        let doubt = match (self.uncompared(), unclear.first()) {
            (Some(sentence), _) => (Cause::Undecided, sentence),
            (None, Some(first)) => (Cause::Guardrail(first.guardrail), first.to_string()),
            (None, None) if self.waits_for_bound() => {
                (Cause::Compatibility, self.bound.why.clone())
            }
            (None, None) => {
                return self.next_stage(Cause::GatesPassed, "the stage passed", now_ms);
            }
        };
        let (cause, why) = doubt;
        let longest_ms = self.plan.longest_hold.0.as_millis();
        if u128::from(passed_ms) >= longest_ms.max(u128::from(stage.min_ms())) {
            let sentence = format!("undecided for too long: {why}");
            return self.pause(PausedBy::Undecided, sentence, now_ms);
        }
        if self.is_holding {
            return Vec::new();
        }
        self.is_holding = true;
        let sentence = format!("not clear yet: {why}");
        vec![Action::Record(self.decide(Verdict::Hold, cause, unclear, sentence, now_ms))]
    }

    /// Whether the next stage is beyond what the candidate may serve.
    fn waits_for_bound(&self) -> bool {
        let next = self.plan.stages.iter().find(|stage| stage.share > self.share);
        next.is_some_and(|stage| self.bound.forbids(stage.share))
    }

    /// Why nothing can be said of this stage: a candidate that has nothing beside it cannot be
    /// worse.
    fn uncompared(&self) -> Option<String> {
        let (_, stage) = self.stage();
        let least = u64::from(self.analysis.requests() > 0);
        let needed = stage.map_or(0, |stage| stage.min_requests.min(LEAST_CONTROLS)).max(least);
        let controls = self.analysis.controls();
        (self.share < Share::ALL && controls < needed).then(|| {
            format!(
                "the control has answered {controls} requests in this stage, and it takes {needed} \
                 to compare; are there other units than the candidate's?"
            )
        })
    }

    fn next_stage(&mut self, cause: Cause, why: &str, now_ms: u64) -> Vec<Action> {
        let next = self.plan.stages.iter().position(|stage| stage.share > self.share);
        let verdict = if let Some((at, stage)) =
            next.and_then(|at| self.plan.stages.get(at).map(|stage| (at, *stage)))
        {
            (self.stage, self.share) = (at, stage.share);
            Verdict::Promote
        } else {
            (self.phase, self.share) = (Phase::Done, Share::ALL);
            Verdict::Finish
        };
        let seen = self.analysis.requests();
        let evidence = self.analysis.evidence();
        let sentence = format!(
            "{why} after {seen} requests of the candidate; evidence of harm {evidence:.1}, where 100 \
             would be enough: it serves {} now",
            self.share
        );
        let findings = self.analysis.findings();
        self.begin_stage(now_ms);
        let decided = self.decide(verdict, cause, findings, sentence, now_ms);
        vec![self.steer(false), Action::Record(decided)]
    }

    fn set_share(&mut self, share: Share, now_ms: u64) -> Vec<Action> {
        if self.is_frozen && share > self.share {
            return vec![Action::Refuse(Refusal::Frozen)];
        }
        if share > self.share && self.bound.forbids(share) {
            return vec![Action::Refuse(Refusal::Bounded)];
        }
        let sentence = format!("set by hand from {} to {share}", self.share);
        self.share = share;
        let last = self.plan.stages.iter().rposition(|stage| stage.share <= share);
        self.stage = last.unwrap_or(0);
        self.begin_stage(now_ms);
        if share == Share::NONE {
            // Who takes everything back does not want it to grow again by itself.
            self.phase = Phase::Paused(PausedBy::Operator);
        }
        let decided = self.decide(Verdict::Set, Cause::Operator, Vec::new(), sentence, now_ms);
        vec![self.steer(false), Action::Record(decided)]
    }

    fn pause(&mut self, by: PausedBy, sentence: String, now_ms: u64) -> Vec<Action> {
        self.phase = Phase::Paused(by);
        let cause = match by {
            PausedBy::Operator => Cause::Operator,
            PausedBy::SlightHarm(guardrail) => Cause::Guardrail(guardrail),
            PausedBy::SampleRatio => Cause::SampleRatio,
            PausedBy::Undecided => Cause::Undecided,
        };
        let page = (by != PausedBy::Operator).then(|| Action::Page(sentence.clone()));
        let findings = self.analysis.findings();
        let decided = self.decide(Verdict::Pause, cause, findings, sentence, now_ms);
        page.into_iter().chain([Action::Record(decided)]).collect()
    }

    fn resume(&mut self, now_ms: u64) -> Vec<Action> {
        let Phase::Paused(by) = self.phase else {
            return vec![Action::Refuse(Refusal::NotPaused)];
        };
        match by {
            PausedBy::SlightHarm(guardrail) => self.accepted.push(guardrail),
            PausedBy::SampleRatio => self.analysis.trust_ratio(),
            // The hold begins anew.
            PausedBy::Undecided => self.since_ms = now_ms,
            PausedBy::Operator => {}
        }
        self.phase = Phase::Running;
        let sentence = "resumed by hand".to_owned();
        vec![Action::Record(self.decide(
            Verdict::Resume,
            Cause::Operator,
            Vec::new(),
            sentence,
            now_ms,
        ))]
    }

    fn roll_back(
        &mut self,
        cause: Cause,
        findings: Vec<Finding>,
        sentence: String,
        now_ms: u64,
    ) -> Vec<Action> {
        (self.phase, self.share) = (Phase::RolledBack, Share::NONE);
        let is_harm = cause != Cause::Operator;
        let page = is_harm.then(|| Action::Page(sentence.clone()));
        let decided = self.decide(Verdict::RollBack, cause, findings, sentence, now_ms);
        let quarantine = u64::try_from(self.plan.quarantine.0.as_millis()).unwrap_or(u64::MAX);
        let mut actions = vec![self.steer(is_harm), Action::ForgetAnswers];
        actions.extend([
            Action::Quarantine { until_ms: now_ms.saturating_add(quarantine) },
            Action::Record(decided),
        ]);
        actions.extend(page);
        actions
    }

    fn begin_stage(&mut self, now_ms: u64) {
        self.since_ms = now_ms;
        self.is_holding = false;
        self.analysis.begin_stage();
    }

    fn decide(
        &mut self,
        verdict: Verdict,
        cause: Cause,
        findings: Vec<Finding>,
        sentence: String,
        now_ms: u64,
    ) -> Decision {
        self.revision += 1;
        let (share, revision) = (self.share, self.revision);
        Decision { at_ms: now_ms, revision, verdict, cause, share, findings, sentence }
    }

    fn steer(&self, is_harm: bool) -> Action {
        Action::Steer { share: self.share, is_shadow: self.is_shadowing(), is_harm }
    }
}
