//! Who has spoken: each unit is evidence once.
//!
//! A unit's requests are all on one side. One user whose requests always fail says nothing about
//! the candidate, and yet a hundred failures on one side would look like proof: at a share of 5 %
//! one such user in twenty falls to the candidate, and would roll it back. So a unit's *first*
//! failure is evidence, and its first reading of each measure; what it does later is counted and
//! shown, not bet on. The first is enough for the test to be exact, however different users are:
//! before a unit has spoken nothing is known of its side. (Later successes would leak it, which is
//! why binary guardrails bet on failures only.)
//!
//! Memory is bounded: when [`CAPACITY`] is reached, only units whose fingerprint ends in one more
//! zero may speak from then on. That choice knows neither sides nor outcomes.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use super::guardrails::Guardrail;

/// How many pairs of unit and guardrail are remembered; 4 bytes each.
pub const CAPACITY: usize = 32_768;

/// Pairs of unit and guardrail that have been evidence.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Spoken {
    /// How many low bits of a fingerprint must be zero.
    zeros: u32,
    /// Fingerprint and guardrail, the latter in the low four bits.
    pairs: HashSet<u32>,
}

// === impl Spoken ===

impl Spoken {
    /// Whether the unit may be evidence on a guardrail now, after which it may not again. A request
    /// that is its own unit has no fingerprint and always may.
    pub fn may(&mut self, unit: Option<u32>, guardrail: Guardrail) -> bool {
        let Some(unit) = unit else { return true };
        if unit.trailing_zeros() < self.zeros {
            return false;
        }
        // Ten guardrails fit into four bits, and 28 bits of a fingerprint into the rest.
        let is_new = self.pairs.insert((unit << 4) | guardrail.index() as u32);
        while self.pairs.len() > CAPACITY {
            self.zeros += 1;
            let zeros = self.zeros;
            self.pairs.retain(|pair| (pair >> 4).trailing_zeros() >= zeros);
        }
        is_new && unit.trailing_zeros() >= self.zeros
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::rollout::assign::Salt;

    #[test]
    fn a_unit_speaks_once_on_each_guardrail_and_requests_always() {
        let mut spoken = Spoken::default();
        assert!(spoken.may(Some(7), Guardrail::Errors));
        assert!(!spoken.may(Some(7), Guardrail::Errors));
        assert!(spoken.may(Some(7), Guardrail::Cost));
        assert!(spoken.may(Some(8), Guardrail::Errors));
        assert!(spoken.may(None, Guardrail::Errors) && spoken.may(None, Guardrail::Errors));
    }

    #[test]
    fn memory_is_bounded_and_nobody_speaks_twice() {
        let salt = Salt::of("r");
        let mut spoken = Spoken::default();
        let units: Vec<_> =
            (0..200_000_u32).map(|n| Some(salt.draw(&n.to_le_bytes()).fingerprint())).collect();
        let first = units.iter().filter(|unit| spoken.may(**unit, Guardrail::Errors)).count();
        assert!(first > CAPACITY && first < 200_000, "{first}");
        assert!(spoken.pairs.len() <= CAPACITY);
        let again = units.iter().filter(|unit| spoken.may(**unit, Guardrail::Errors)).count();
        assert_eq!(again, 0);
    }
}
