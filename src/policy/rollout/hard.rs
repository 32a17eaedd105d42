//! Failures that need no statistics: a candidate that does not work at all.
//!
//! Rolled back at once are [`IN_A_ROW`] failures in a row, [`OF_THE_LAST`] failures of the last ten,
//! and a candidate whose first [`REJECTED_FIRST`] requests the provider all rejected (a wrong key, a
//! parameter that the model does not know). The evidence of the guardrails would take about as long
//! at a small share but longer at one half.
//!
//! This rule has no level, so it is kept to where it cannot be wrong: the control fails at most
//! [`CONTROL_AT_MOST`] of its own requests, over all and over its last ones (not an outage of both),
//! and the failures come from three units at least (not one user's doing). At 2 % failures, five of
//! ten are `C(10,5) 0.02^5 = 8e-7`; in a rollout of ten thousand requests 0.3 % at most, and at the
//! usual 1 % it is `2.5e-8`.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::assign::Arm;

/// How hard a request failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HardFailure {
    /// It did not.
    No,
    /// It failed.
    Failed,
    /// The provider would not have it: authentication, an unknown model, a parameter or schema.
    Rejected,
}

/// Failures in a row that are enough.
pub const IN_A_ROW: usize = 5;
/// Failures of the last ten that are enough.
pub const OF_THE_LAST: usize = 5;
/// Rejections of the first requests that are enough.
pub const REJECTED_FIRST: usize = 3;
/// How much the control may fail for the rule to hold.
pub const CONTROL_AT_MOST: f64 = 0.02;

const LAST: usize = 10;
const UNITS: usize = 3;
/// The weight of the past in the control's recent rate of failures: about its last 50 requests.
const MEMORY: f64 = 0.98;

/// The candidate's last requests and how the control does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Hard {
    /// The newest last, with the unit.
    last: VecDeque<(HardFailure, Option<u32>)>,
    candidates: u64,
    controls: u64,
    control_failures: u64,
    /// The control's rate of failures lately.
    control_lately: f64,
}

// === impl Hard ===

impl Hard {
    /// Nothing seen yet.
    pub const fn new() -> Self {
        let last = VecDeque::new();
        Self { last, candidates: 0, controls: 0, control_failures: 0, control_lately: 0.0 }
    }

    /// Counts a request and how hard it failed.
    pub fn record(&mut self, arm: Arm, failure: HardFailure, unit: Option<u32>) {
        let has_failed = failure != HardFailure::No;
        match arm {
            Arm::Control => {
                self.controls += 1;
                self.control_failures += u64::from(has_failed);
                let now = if has_failed { 1.0 } else { 0.0 };
                self.control_lately = self.control_lately * MEMORY + now * (1.0 - MEMORY);
            }
            Arm::Candidate => {
                self.candidates += 1;
                self.last.push_back((failure, unit));
                if self.last.len() > LAST {
                    self.last.pop_front();
                }
            }
        }
    }

    /// Why the candidate is to be rolled back at once, if it is.
    pub fn reason(&self) -> Option<String> {
        if !self.is_control_well() {
            return None;
        }
        let rejected = self.last.iter().filter(|(failure, _)| *failure == HardFailure::Rejected);
        if self.candidates as usize == REJECTED_FIRST && rejected.count() == REJECTED_FIRST {
            return Some(format!(
                "the provider rejected the candidate's first {REJECTED_FIRST} requests"
            ));
        }
        let failed = |(failure, _): &&(HardFailure, Option<u32>)| *failure != HardFailure::No;
        let in_a_row: Vec<_> = self.last.iter().rev().take_while(failed).collect();
        if in_a_row.len() >= IN_A_ROW && are_of_several(&in_a_row) {
            return Some(format!("the candidate failed {} times in a row", in_a_row.len()));
        }
        let of_last: Vec<_> = self.last.iter().filter(failed).collect();
        if of_last.len() >= OF_THE_LAST && are_of_several(&of_last) {
            let all = self.last.len();
            return Some(format!("the candidate failed {} of its last {all}", of_last.len()));
        }
        None
    }

    /// The control's requests and how many of them failed.
    pub fn control(&self) -> (u64, u64) {
        (self.controls, self.control_failures)
    }

    fn is_control_well(&self) -> bool {
        // One failure of the last 50 is no outage: twice the bound.
        self.control_failures as f64 <= 1.0 + CONTROL_AT_MOST * self.controls as f64
            && self.control_lately <= 2.0 * CONTROL_AT_MOST
    }
}

impl Default for Hard {
    fn default() -> Self {
        Self::new()
    }
}

/// Whether the failures come from [`UNITS`] units; requests without one are each their own.
fn are_of_several(failures: &[&(HardFailure, Option<u32>)]) -> bool {
    let is_first = |at: usize, unit: &Option<u32>| {
        unit.is_none() || failures.iter().take(at).all(|(_, earlier)| earlier != unit)
    };
    let units = failures.iter().enumerate().filter(|(at, (_, unit))| is_first(*at, unit));
    units.count() >= UNITS
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(candidates: &[HardFailure], controls_failed: usize, unit: Option<u32>) -> Hard {
        let mut hard = Hard::new();
        for at in 0..200 {
            let failed = at < controls_failed;
            let failure = if failed { HardFailure::Failed } else { HardFailure::No };
            hard.record(Arm::Control, failure, None);
        }
        for failure in candidates {
            hard.record(Arm::Candidate, *failure, unit);
        }
        hard
    }

    #[test]
    fn five_failures_in_a_row_are_enough_and_four_are_not() {
        use HardFailure::{Failed, No};
        assert_eq!(after(&[Failed; 4], 1, None).reason(), None);
        assert!(after(&[Failed; 5], 1, None).reason().unwrap().contains("5 times in a row"));
        let mixed = [Failed, No, Failed, No, Failed, No, Failed, No, Failed];
        assert!(after(&mixed, 1, None).reason().unwrap().contains("5 of its last 9"));
    }

    #[test]
    fn three_rejections_are_enough_only_at_the_very_start() {
        use HardFailure::{No, Rejected};
        assert!(after(&[Rejected; 3], 0, None).reason().unwrap().contains("first 3"));
        assert_eq!(after(&[No, Rejected, Rejected, Rejected], 0, None).reason(), None);
    }

    #[test]
    fn neither_one_user_nor_an_outage_of_both_sides_is_the_candidates_doing() {
        assert_eq!(after(&[HardFailure::Failed; 8], 1, Some(9)).reason(), None);
        assert_eq!(after(&[HardFailure::Failed; 8], 50, None).reason(), None);
    }
}
