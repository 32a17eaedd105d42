//! What to do now, by what the run has found.

use super::numbers::{self, counted};
use super::{Report, RunState, Standing};
use crate::compat::SidePrompt;
use crate::compat::verdict::{Criterion, Measure, Outcome, Verdict};

/// Critical cases that a sentence names.
const NAMED: usize = 5;

// === impl Report ===

impl Report {
    /// What to do now, in sentences.
    pub fn next_steps(&self) -> Vec<String> {
        let mut steps = Vec::new();
        match self.state {
            RunState::Waiting | RunState::Running => {
                let id = &self.run.id;
                return vec![format!("Wait: `tidegate compat watch {id}` shows the verdict.")];
            }
            RunState::Cancelled => {
                return vec!["Begin it again if it is to be decided.".to_owned()];
            }
            RunState::Failed => {
                return vec!["Mend what is said above, and begin it again.".to_owned()];
            }
            RunState::Done | RunState::Capped => {}
        }
        let judgement = &self.judgement;
        if !judgement.confirm.is_empty() {
            steps.push(format!(
                "Ask {} once more before they count: {}.",
                counted(judgement.confirm.len() as u64, "critical case"),
                judgement.confirm.join(", ")
            ));
        }
        match judgement.verdict {
            _ if self.is_of_nights() && self.state == RunState::Done => {
                steps.push(self.step_of_night());
            }
            Verdict::Compatible if self.run.only.is_some() => steps.push(
                "Run the whole suite: some of its cases are no verdict for a rollout.".to_owned(),
            ),
            Verdict::Compatible => {
                steps.push("The candidate may be rolled out past its canary.".to_owned());
            }
            Verdict::Incompatible => self.after_failing(&mut steps),
            Verdict::Inconclusive => self.after_nothing(&mut steps),
        }
        self.about_judging(&mut steps);
        if !judgement.quarantined.is_empty() {
            steps.push("Make the flaky cases say what they mean, or drop them.".to_owned());
        }
        steps
    }

    /// The criteria that the verdict hangs on and that came to this.
    fn gating(&self, outcome: Outcome) -> impl Iterator<Item = &Criterion> {
        let criteria = self.judgement.criteria.iter();
        criteria.filter(move |one| one.gates && one.outcome == outcome)
    }

    /// It is worse: each criterion that says so has a remedy of its own.
    fn after_failing(&self, steps: &mut Vec<String>) {
        let mut failing: Vec<_> = self.gating(Outcome::Fails).map(|one| one.measure).collect();
        failing.sort_by_key(|measure| *measure != Measure::Critical);
        steps.extend(failing.into_iter().map(|measure| self.remedy(measure)));
        if self.run.kind == "drift" {
            steps.push(
                "The prompt is what it was, the provider is not: hold it against another model by \
                 `--to-model`, or mend it for what the model is now."
                    .to_owned(),
            );
        } else if matches!(self.run.candidate.prompt, SidePrompt::Registered { .. }) {
            steps.push(
                "Then run the suite again; until then no rollout of it begins, and one that goes on does \
                 not grow."
                    .to_owned(),
            );
        } else {
            steps.push("Then run the suite again.".to_owned());
        }
    }

    fn remedy(&self, measure: Measure) -> String {
        let is_there = |of: Standing| self.cases.iter().any(|case| case.standing == of);
        match measure {
            Measure::PassRate if is_there(Standing::NewlyFailing) => {
                "Read the newly failing cases, and change the prompt.".to_owned()
            }
            Measure::PassRate => {
                "Read the cases that pass less often, and change the prompt.".to_owned()
            }
            Measure::Critical => {
                let broken = self.cases.iter().filter(|case| {
                    case.is_critical
                        && matches!(case.standing, Standing::NewlyFailing | Standing::Worse)
                });
                let names: Vec<_> = broken.take(NAMED).map(|case| case.id.as_str()).collect();
                format!("Mend the critical cases first, one is enough to fail: {}.", names.join(", "))
            }
            Measure::Preference => {
                "Read the pairs in which the judge prefers the baseline: the candidate lacks what it \
                 names."
                    .to_owned()
            }
            Measure::Length => {
                "Ask for shorter answers in the prompt, or set a lower `max_tokens`.".to_owned()
            }
            Measure::Cost => {
                "Make prompt or answers shorter, or take a cheaper model: answers cost more.".to_owned()
            }
            Measure::Latency => {
                "Look at the times of both models (`tidegate status`) and run it at a quieter hour: \
                 answers come more slowly, whatever they say."
                    .to_owned()
            }
        }
    }

    /// Nothing is proven: what would prove it.
    fn after_nothing(&self, steps: &mut Vec<String>) {
        let judgement = &self.judgement;
        if self.is_short_of_answers() {
            steps.push("Mend what keeps answers from coming, and begin it again.".to_owned());
            return;
        }
        if self.state == RunState::Capped {
            steps.push(
                "Give it more: `--max-cost`, or `max_cost` and `max_time` in `[compat]`."
                    .to_owned(),
            );
            return;
        }
        match (judgement.next_samples, judgement.samples_needed) {
            (Some(samples), _) => steps.push(format!(
                "Run it on: the next look needs {} of each side to each case.",
                counted(u64::from(samples), "answer")
            )),
            (None, Some(needed)) => steps.push(format!(
                "About {} would tell: add cases (more answers to the same ones help less), or widen \
                 the margin.",
                counted(needed, "more pair")
            )),
            (None, None) => {}
        }
        let is_rate = |one: &&Criterion| one.measure == Measure::PassRate;
        let has_advice = !steps.is_empty();
        let open = self.gating(Outcome::Unclear).filter(|one| !(has_advice && is_rate(one)));
        let open: Vec<_> = open.map(|one| numbers::name(one.measure)).collect();
        if !open.is_empty() {
            steps.push(format!(
                "Not clear yet: {}. More cases would tell; more answers to the same ones may not.",
                open.join(", ")
            ));
        } else if !has_advice {
            steps.push("Add cases: there is too little to tell anything by.".to_owned());
        }
        for criterion in self.gating(Outcome::Fails) {
            steps.push(self.remedy(criterion.measure));
        }
    }

    /// Whether more pairs lack an answer than may.
    pub(super) fn is_short_of_answers(&self) -> bool {
        let (unanswered, pairs) = (self.judgement.unanswered, self.judgement.pairs);
        let most = (unanswered + pairs) as f64 * self.terms.max_unanswered;
        self.unanswered.is_some() && unanswered > 0 && unanswered as f64 > most
    }

    fn about_judging(&self, steps: &mut Vec<String>) {
        if let Some(judge) = self.judge.as_ref().filter(|judge| !judge.agreement.is_calibrated()) {
            let counts = if judge.counts { "counts" } else { "does not count" };
            steps.push(format!(
                "The judge is not calibrated, and {counts}: label answers and run `tidegate compat \
                 calibrate`."
            ));
        }
    }
}
