//! What a run knows of its samples: a few numbers of each.

use std::collections::HashMap;

use super::plan::Plan;
use crate::compat::Preference;
use crate::compat::verdict::{CaseNight, PairedCase, Sample};
use crate::runs::DoneSample;

/// The samples of a run, without their answers.
#[derive(Debug)]
pub(super) struct Table {
    /// By the place of the case in the plan.
    cases: Vec<Row>,
    places: HashMap<String, usize>,
    /// Samples that this run has asked.
    pub(super) asked: u64,
    /// What they have cost, in millionths of a dollar.
    pub(super) spent_micro_usd: u64,
}

/// The samples of a case: of the baseline and of the candidate.
#[derive(Debug, Clone, Default)]
struct Row {
    sides: [Vec<Option<Sample>>; 2],
    preferences: Vec<Option<Preference>>,
    /// The numbers of the baseline's samples that others have asked.
    reused: Vec<u32>,
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
            asked: 0,
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
        match is_new {
            true if done.is_reused => row.reused.push(done.sample),
            true => self.asked += 1,
            false => {}
        }
        self.spent_micro_usd = self.spent_micro_usd.saturating_add(done.spent_micro_usd);
    }

    /// What is to be asked so that each case has `wanted` pairs, the first samples of all cases
    /// before the second ones. With `fresh_baseline` false the baseline is not asked: it is what it
    /// is.
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

    /// Of the first `wanted` samples of each case those that others have asked.
    pub(super) fn reused(&self, wanted: &[u32]) -> u64 {
        let cases = self.cases.iter().zip(wanted);
        let of_case = |(row, wanted): (&Row, &u32)| {
            row.reused.iter().filter(|sample| *sample < wanted).count() as u64
        };
        cases.map(of_case).sum()
    }

    /// The candidate's first `wanted` answers to each case, by the place of the case, and how many
    /// of them are missing: where not all were asked (`is_cut`), those that came without a grade.
    pub(super) fn tonight(&self, wanted: &[u32], is_cut: bool) -> Vec<(CaseNight, u32)> {
        let of_case = |(row, wanted): (&Row, &u32)| {
            let [_, candidate] = &row.sides;
            let there = || (0..*wanted).filter_map(|sample| at(candidate, sample));
            let graded = || there().filter_map(|sample| sample.passed);
            let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
            let night = CaseNight {
                passed: count(graded().filter(|passed| *passed).count()),
                answered: count(graded().count()),
            };
            let asked = if is_cut { count(there().count()) } else { *wanted };
            (night, asked.saturating_sub(night.answered))
        };
        self.cases.iter().zip(wanted).map(of_case).collect()
    }

    /// The cases with their first `wanted` pairs, no matter what is there besides. With
    /// `only_whole` those pairs are left out of which a half was not asked yet.
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

    /// How many of the candidate's samples were answered, and how many were asked.
    pub(super) fn answered(&self) -> (u64, u64) {
        let samples = || self.cases.iter().flat_map(|row| &row.sides[1]).flatten();
        let answered = samples().filter(|sample| sample.passed.is_some()).count();
        (answered as u64, samples().count() as u64)
    }

    /// The place of a case in the plan.
    pub(super) fn place(&self, case: &str) -> Option<usize> {
        self.places.get(case).copied()
    }
}

// === impl Unit ===

impl Unit {
    /// Answers that it asks for.
    pub(super) const fn answers(&self) -> u64 {
        match self.of {
            Of::Both => 2,
            Of::Baseline | Of::Candidate | Of::CandidateCompared => 1,
        }
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
