//! Failures that need no statistics: a candidate that does not work at all.
//!
//! Rolled back at once are [`IN_A_ROW`] units in a row that failed, [`OF_THE_LAST`] of the last ten
//! units, [`REQUESTS_IN_A_ROW`] requests whosever they are (there may be few units), and a
//! candidate all of whose first requests, of [`REJECTED_FIRST`] units, the provider rejected while
//! it served as many of the control (a wrong key, a parameter that the model does not know). The
//! evidence of the guardrails would take about as long at a small share but longer at one half.
//!
//! This rule has no level, so it is kept to where it cannot be wrong: the control fails at most
//! [`CONTROL_AT_MOST`] of its own requests, over all and over its last ones (not an outage of both);
//! and of each unit only the last request counts (one user who always fails is not the candidate's
//! doing). At 2 % failures, five of
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

/// Units in a row whose failure is enough.
pub const IN_A_ROW: usize = 5;
/// Failures of the last ten units that are enough.
pub const OF_THE_LAST: usize = 5;
/// Failed requests in a row that are enough even if they are all of one unit.
pub const REQUESTS_IN_A_ROW: u64 = 20;
/// Units whose rejected first requests are enough, and requests of the control that were not.
pub const REJECTED_FIRST: u64 = 3;
/// How much the control may fail for the rule to hold.
pub const CONTROL_AT_MOST: f64 = 0.02;

const LAST: usize = 10;
/// The weight of the past in the control's recent rate of failures: about its last 50 requests.
const MEMORY: f64 = 0.98;

/// The candidate's last requests and how the control does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Hard {
    /// The last request of each of the last units, the newest last: whether it failed, and the
    /// unit.
    last: VecDeque<(bool, Option<u32>)>,
    failed_in_a_row: u64,
    rejected: u64,
    /// The units of which those were, the first three.
    #[serde(default)]
    rejected_of: Vec<Option<u32>>,
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
        Self {
            last: VecDeque::new(),
            failed_in_a_row: 0,
            rejected: 0,
            rejected_of: Vec::new(),
            candidates: 0,
            controls: 0,
            control_failures: 0,
            control_lately: 0.0,
        }
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
                if failure == HardFailure::Rejected {
                    self.rejected += 1;
                    let is_known = unit.is_some() && self.rejected_of.contains(&unit);
                    if !is_known && self.rejected_units() < REJECTED_FIRST {
                        self.rejected_of.push(unit);
                    }
                }
                self.failed_in_a_row = if has_failed { self.failed_in_a_row + 1 } else { 0 };
                self.last.retain(|(_, earlier)| unit.is_none() || *earlier != unit);
                self.last.push_back((has_failed, unit));
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
        let well = self.controls - self.control_failures;
        let is_all = self.rejected == self.candidates;
        if is_all && self.rejected_units() >= REJECTED_FIRST && well >= REJECTED_FIRST {
            return Some(format!(
                "the provider rejected the candidate's first {} requests",
                self.rejected
            ));
        }
        let in_a_row = self.last.iter().rev().take_while(|(has_failed, _)| *has_failed).count();
        if in_a_row >= IN_A_ROW {
            return Some(format!("the candidate failed {in_a_row} times in a row"));
        }
        let failed = self.last.iter().filter(|(has_failed, _)| *has_failed).count();
        if failed >= OF_THE_LAST {
            return Some(format!("the candidate failed {failed} of its last {}", self.last.len()));
        }
        if self.failed_in_a_row >= REQUESTS_IN_A_ROW {
            return Some(format!(
                "the candidate failed {} requests in a row",
                self.failed_in_a_row
            ));
        }
        None
    }

    /// The control's requests and how many of them failed.
    pub fn control(&self) -> (u64, u64) {
        (self.controls, self.control_failures)
    }

    fn rejected_units(&self) -> u64 {
        self.rejected_of.len() as u64
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
        assert_eq!(after(&[Rejected; 4], 0, Some(9)).reason(), None, "one user's own fault");
        let mut alone = Hard::new();
        (0..3).for_each(|_| alone.record(Arm::Candidate, Rejected, None));
        assert_eq!(alone.reason(), None, "nothing to compare with");
        (0..3).for_each(|_| alone.record(Arm::Control, No, None));
        assert!(alone.reason().unwrap().contains("first 3"));
    }

    #[test]
    fn neither_one_user_nor_an_outage_of_both_sides_is_the_candidates_doing() {
        assert_eq!(after(&[HardFailure::Failed; 8], 1, Some(9)).reason(), None);
        assert_eq!(after(&[HardFailure::Failed; 8], 50, None).reason(), None);
    }

    #[test]
    fn where_there_is_one_unit_only_twenty_requests_in_a_row_are_enough() {
        assert_eq!(after(&[HardFailure::Failed; 19], 0, Some(9)).reason(), None);
        let why = after(&[HardFailure::Failed; 20], 0, Some(9)).reason().unwrap();
        assert_eq!(why, "the candidate failed 20 requests in a row");
    }
}
