//! What a run knows of its samples: a few numbers of each.

use std::collections::HashMap;

use super::plan::Plan;
use crate::compat::Preference;
use crate::compat::verdict::{PairedCase, Sample};
use crate::runs::DoneSample;

/// The samples of a run, without their answers.
#[derive(Debug)]
pub(super) struct Table {
    /// By the place of the case in the plan.
    cases: Vec<Row>,
    places: HashMap<String, usize>,
    /// Samples that are there.
    pub(super) done: u64,
    /// What they have cost, in millionths of a dollar.
    pub(super) spent_micro_usd: u64,
}

/// The samples of a case: of the baseline and of the candidate.
#[derive(Debug, Clone, Default)]
struct Row {
    sides: [Vec<Option<Sample>>; 2],
    preferences: Vec<Option<Preference>>,
}

/// Something to ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unit {
    /// The place of the case in the plan.
    pub(super) case: usize,
    pub(super) sample: u32,
    pub(super) of: Of,
}

/// Of whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Of {
    Baseline,
    Candidate,
    /// Of the candidate, whose answer is compared with the baseline's; that is there.
    CandidateCompared,
    /// Of both, because their answers are compared.
    Both,
}

// === impl Table ===

impl Table {
    /// A table of what a run has already.
    pub(super) fn new(plan: &Plan, done: &[DoneSample]) -> Self {
        let places = plan.cases().enumerate().map(|(place, case)| (case.id.clone(), place));
        let mut table = Self {
            cases: vec![Row::default(); plan.len()],
            places: places.collect(),
            done: 0,
            spent_micro_usd: 0,
        };
        done.iter().for_each(|done| table.take(done));
        table
    }

    /// A sample has come.
    pub(super) fn take(&mut self, done: &DoneSample) {
        let place = self.places.get(&done.case).copied();
        let Some(row) = place.and_then(|place| self.cases.get_mut(place)) else { return };
        let Ok(index) = usize::try_from(done.sample) else { return };
        let [baseline, candidate] = &mut row.sides;
        let side = if done.is_candidate { candidate } else { baseline };
        if side.len() <= index {
            side.resize(index + 1, None);
        }
        let Some(cell) = side.get_mut(index) else { return };
        let is_new = cell.is_none();
        *cell = Some(Sample {
            passed: done.passed,
            output_tokens: done.output_tokens,
            cost_micro_usd: done.cost_micro_usd,
            latency_ms: done.latency_ms,
        });
        if done.is_candidate {
            if row.preferences.len() <= index {
                row.preferences.resize(index + 1, None);
            }
            if let Some(preference) = row.preferences.get_mut(index) {
                *preference = done.preference;
            }
        }
        self.done += u64::from(is_new);
        self.spent_micro_usd = self.spent_micro_usd.saturating_add(done.spent_micro_usd);
    }

    /// What is to be asked so that each case has `wanted` pairs, the first samples of all cases before
    /// the second ones. With `fresh_baseline` false the baseline is not asked: it is what it is.
    pub(super) fn missing(&self, plan: &Plan, wanted: &[u32], fresh_baseline: bool) -> Vec<Unit> {
        let most = wanted.iter().copied().max().unwrap_or_default();
        let mut units = Vec::new();
        for sample in 0..most {
            for (case, row) in self.cases.iter().enumerate() {
                if wanted.get(case).is_none_or(|wanted| sample >= *wanted) {
                    continue;
                }
                let compares = plan.case(case).is_some_and(|case| case.prefer.is_some());
                let [baseline, candidate] = row.has(sample);
                let mut push = |of| units.push(Unit { case, sample, of });
                match (!baseline && fresh_baseline, !candidate) {
                    (true, true) if compares => push(Of::Both),
                    (true, true) => {
                        push(Of::Baseline);
                        push(Of::Candidate);
                    }
                    (true, false) => push(Of::Baseline),
                    (false, true) if compares && baseline => push(Of::CandidateCompared),
                    (false, true) => push(Of::Candidate),
                    (false, false) => {}
                }
            }
        }
        units
    }

    /// Samples that there will be, when each case has `wanted` pairs.
    pub(super) fn planned(&self, wanted: &[u32], fresh_baseline: bool) -> u64 {
        let pairs: u64 = wanted.iter().map(|wanted| u64::from(*wanted)).sum();
        let planned = if fresh_baseline { pairs * 2 } else { pairs + self.of_baseline() };
        planned.max(self.done)
    }

    fn of_baseline(&self) -> u64 {
        self.cases.iter().map(|row| row.sides[0].iter().flatten().count() as u64).sum()
    }

    /// Whether the baseline has any answer.
    pub(super) fn has_baseline(&self) -> bool {
        self.cases.iter().any(|row| row.sides[0].iter().any(Option::is_some))
    }

    /// The cases with their first `wanted` pairs, no matter what is there besides. With `only_whole`
    /// those pairs are left out of which a half was not asked yet.
    pub(super) fn paired(
        &self,
        plan: &Plan,
        wanted: &[u32],
        (only_whole, judges_count): (bool, bool),
    ) -> Vec<PairedCase> {
        let cases = plan.cases().zip(&self.cases).zip(wanted);
        let paired = cases.map(|((case, row), wanted)| {
            let indices =
                || (0..*wanted).filter(|sample| !only_whole || row.has(*sample) == [true; 2]);
            let side = |side: &[Option<Sample>]| {
                indices().map(|sample| at(side, sample).copied().unwrap_or_default()).collect()
            };
            let [baseline, candidate] = &row.sides;
            let preferences = indices().filter_map(|sample| at(&row.preferences, sample).copied());
            PairedCase {
                id: case.id.clone(),
                category: case.category,
                is_critical: case.is_critical,
                baseline: side(baseline),
                candidate: side(candidate),
                preferences: if judges_count { preferences.collect() } else { Vec::new() },
            }
        });
        paired.collect()
    }

    /// The place of a case in the plan.
    pub(super) fn place(&self, case: &str) -> Option<usize> {
        self.places.get(case).copied()
    }
}

// === impl Row ===

impl Row {
    /// Whether both sides have this sample.
    fn has(&self, sample: u32) -> [bool; 2] {
        let [baseline, candidate] = &self.sides;
        [at(baseline, sample).is_some(), at(candidate, sample).is_some()]
    }
}

fn at<T>(cells: &[Option<T>], sample: u32) -> Option<&T> {
    cells.get(usize::try_from(sample).ok()?)?.as_ref()
}
