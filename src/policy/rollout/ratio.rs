//! Whether the split is what it ought to be: a sequential check for sample ratio mismatch.
//!
//! If units that were assigned do not arrive as their share says, then something loses one side (a
//! crash before the exposure is recorded, a cache, a filter), and no figure of the rollout can be
//! trusted. Lindon and Malek, "Anytime-valid inference for multinomial count data", NeurIPS 2022:
//! the Bayes factor of a Dirichlet prior around the intended split against the split itself is an
//! e-process. With two sides and the prior's mean at the share `p`, it grows with each unit by
//!
//! ```text
//! (k p + candidates so far) / (k + units so far) / p       for a candidate,  k = 100
//! ```
//!
//! and likewise for a control. `k` is their reference implementation's default. When the share
//! changes the counts start anew and the evidence goes on: a product of such factors is one as
//! well.

use serde::{Deserialize, Serialize};

use super::assign::{Arm, Share};

/// In so many rollouts whose split is right, one is stopped at most.
pub const ONE_IN: f64 = 1_000.0;
/// How firmly the prior holds on to the intended split, in units.
const FIRMNESS: f64 = 100.0;
/// Evidence is kept in this range.
const RANGE: (f64, f64) = (1e-280, 1e280);

/// Counts of units by side, and the evidence that they are not as they should be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SampleRatio {
    share: Share,
    candidates: f64,
    controls: f64,
    evidence: f64,
}

// === impl SampleRatio ===

impl SampleRatio {
    /// Nobody seen yet.
    pub const fn new() -> Self {
        Self { share: Share::NONE, candidates: 0.0, controls: 0.0, evidence: 1.0 }
    }

    /// Counts a unit when it is first served, before its outcome is known. `share` is the one by
    /// which it was assigned.
    pub fn expose(&mut self, arm: Arm, share: Share) {
        if share == Share::NONE || share == Share::ALL {
            return;
        }
        if share != self.share {
            (self.share, self.candidates, self.controls) = (share, 0.0, 0.0);
        }
        let part = share.part();
        let (count, part) = match arm {
            Arm::Candidate => (&mut self.candidates, part),
            Arm::Control => (&mut self.controls, 1.0 - part),
        };
        let before = *count;
        *count += 1.0;
        let all = self.candidates + self.controls - 1.0;
        let factor = (FIRMNESS * part + before) / (FIRMNESS + all) / part;
        self.evidence = (self.evidence * factor).clamp(RANGE.0, RANGE.1);
    }

    /// The evidence; at [`ONE_IN`] the split is wrong.
    pub fn evidence(&self) -> f64 {
        self.evidence
    }

    /// Whether the split is wrong.
    pub fn is_off(&self) -> bool {
        self.evidence >= ONE_IN
    }

    /// Units seen since the share last changed: the candidate's and the control's.
    pub fn counts(&self) -> (f64, f64) {
        (self.candidates, self.controls)
    }
}

impl Default for SampleRatio {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    use super::*;

    /// After how many units, of at most `limit`, a split is found wrong whose true share is
    /// `truth`.
    fn found_after(seed: u64, share: Share, truth: f64, limit: u32) -> Option<u32> {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut ratio = SampleRatio::new();
        (1..=limit).find(|_| {
            let arm = if rng.random_bool(truth) { Arm::Candidate } else { Arm::Control };
            ratio.expose(arm, share);
            ratio.is_off()
        })
    }

    #[test]
    fn a_right_split_is_hardly_ever_called_wrong_however_often_one_looks() {
        let share = Share::from_percent(25.0).unwrap();
        let wrong =
            (0..500).filter(|seed| found_after(*seed, share, 0.25, 5_000).is_some()).count();
        assert!(wrong <= 3, "{wrong} of 500");
    }

    #[test]
    fn a_side_that_loses_one_unit_in_ten_is_found() {
        let share = Share::from_percent(50.0).unwrap();
        let mut found: Vec<_> = (0..50)
            .map(|seed| found_after(seed, share, 0.45 / 0.95, 100_000).expect("found at all"))
            .collect();
        found.sort_unstable();
        assert!(found[25] < 10_000, "median {}", found[25]);
    }

    #[test]
    fn a_change_of_the_share_is_no_mismatch() {
        let mut rng = StdRng::seed_from_u64(5);
        let mut ratio = SampleRatio::new();
        for percent in [1.0, 5.0, 20.0, 50.0, 5.0] {
            let share = Share::from_percent(percent).unwrap();
            for _ in 0..5_000 {
                let arm = if rng.random_bool(share.part()) { Arm::Candidate } else { Arm::Control };
                ratio.expose(arm, share);
            }
        }
        assert!(!ratio.is_off(), "{}", ratio.evidence());
    }
}
