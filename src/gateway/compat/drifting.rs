//! A prompt that is held against itself: tonight's answers, and those of the nights before.
//!
//! Nights count that asked the same cases of the same version on the same model and were graded by
//! the same judge. What they have answered is read as two numbers a case; the answers of one of
//! them are taken over, to be shown beside tonight's and for what is compared pair by pair.

use std::collections::HashMap;

use super::Engine;
use super::bench::Bench;
use super::making::{Left, Making};
use super::plan::Plan;
use super::stored;
use crate::compat::verdict::{CaseNight, CaseNights, Judgement, Verdict, judge_nights};
use crate::runs::RunRecord;

/// What earlier nights have answered.
#[derive(Debug, Default)]
pub(super) struct Past {
    /// By the place of the case in the plan; the oldest night first.
    cases: Vec<Vec<CaseNight>>,
    /// The night whose answers are shown: the newest that was not found worse than those before it,
    /// else the newest.
    pub(super) shown: Option<String>,
}

// === impl Engine ===

impl Engine {
    /// Reads them.
    pub(super) async fn past(&self, run: &RunRecord, plan: &Plan, bench: &Bench) -> Past {
        let look = || self.runs.nights_before(run);
        let mut nights = stored("look for earlier nights", look).await;
        // One that was ended before anything was answered is no night to be held against.
        nights.retain(|night| has_same_judge(night, bench) && night.has_pairs());
        let is_good = |night: &&RunRecord| night.verdict() != Some(Verdict::Incompatible);
        let shown = nights.iter().find(is_good).or(nights.first()).map(|night| night.id.clone());
        let keys: Vec<String> = plan.cases().map(|case| plan.reuse_key(case, true)).collect();
        let mut cases = vec![Vec::with_capacity(nights.len() + 1); keys.len()];
        for night in nights.iter().rev() {
            let read = || self.runs.answers_of_night(&night.id);
            let answers = stored("read the answers of an earlier night", read).await;
            let by_key: HashMap<&str, CaseNight> = answers
                .iter()
                .map(|one| {
                    let night = CaseNight { passed: one.passed, answered: one.answered };
                    (one.reuse_key.as_str(), night)
                })
                .collect();
            for (case, key) in cases.iter_mut().zip(&keys) {
                case.push(by_key.get(key.as_str()).copied().unwrap_or_default());
            }
        }
        Past { cases, shown }
    }
}

/// Whether a night was graded as tonight's answers are, as far as it is known.
fn has_same_judge(night: &RunRecord, bench: &Bench) -> bool {
    match (&night.judge, bench.judge()) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(then), Some((judge, protocol, counts))) => {
            then.model == judge && then.protocol == protocol && then.counts == counts
        }
    }
}

// === impl Making ===

impl Making {
    /// Asks what there is to ask tonight, once, and judges it.
    pub(super) async fn night(mut self) -> Result<(), Left> {
        let wanted = vec![self.run.samples; self.sampling.plan.len()];
        let cap = self.fill(&wanted).await?;
        let judgement = self.judge_night(&wanted, cap.is_some());
        self.end(judgement, cap).await
    }

    /// `None`: no case was answered before.
    fn judge_night(&self, wanted: &[u32], is_cut: bool) -> Option<Judgement> {
        let plan = &self.sampling.plan;
        let tonight = self.table.tonight(wanted, is_cut);
        let cases = plan.cases().zip(&self.past.cases).zip(&tonight);
        let cases = cases.map(|((case, past), (night, unanswered))| CaseNights {
            id: case.id.clone(),
            is_critical: case.is_critical,
            nights: past.iter().chain([night]).copied().collect(),
            unanswered: *unanswered,
        });
        // Cases that are new tonight are compared tomorrow.
        let is_known = |case: &CaseNights| {
            let before = case.nights.split_last().map(|(_, before)| before).unwrap_or_default();
            before.iter().any(|night| night.answered > 0)
        };
        let known: Vec<CaseNights> = cases.filter(is_known).collect();
        if known.is_empty() {
            return None;
        }
        let pairs = self.table.paired(plan, wanted, (true, self.sampling.bench.counts));
        Some(judge_nights(&known, &pairs, &self.terms))
    }
}
