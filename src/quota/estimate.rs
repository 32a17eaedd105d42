//! How long an answer will be: what is reserved for it before anybody knows.

use std::time::Duration;

use crate::clock::Instant;
use crate::policy::sketch::{Refreshed, SketchRing};

/// What is reserved for an answer of a route of which too little is known, in tokens.
pub const UNKNOWN_OUTPUT_TOKENS: u64 = 1_024;

/// Answers of which the quantile says something.
const ENOUGH: u64 = 20;

/// The part of answers that are no longer than what is reserved.
const QUANTILE: f64 = 0.9;

/// How long the answers of a route were, over the last four to five minutes.
///
/// Reserved is what nine of ten answers need, and never more than the caller asked for. The
/// caller's own maximum would be unfair: many clients send the model's, and use a hundredth of it.
#[derive(Debug, Clone, Default)]
pub struct Outputs {
    /// A token counts as a millisecond: the sketch is one of durations. It reaches to 600,000.
    lengths: SketchRing,
    usual: Refreshed<Option<u64>>,
}

// === impl Outputs ===

impl Outputs {
    /// Nothing is known.
    pub fn new() -> Self {
        Self::default()
    }

    /// An answer had so many tokens.
    pub fn observe(&mut self, output_tokens: u64, now: Instant) {
        self.lengths.insert(Duration::from_millis(output_tokens), now);
    }

    /// What to reserve for an answer of at most `max_tokens`.
    pub fn expect(&mut self, max_tokens: Option<u64>, now: Instant) -> u64 {
        let lengths = &self.lengths;
        let usual = self.usual.get(now, || {
            let enough = lengths.count(now) >= ENOUGH;
            let usual = lengths.quantile(QUANTILE, now).filter(|_| enough)?;
            u64::try_from(usual.as_millis()).ok()
        });
        usual.unwrap_or(UNKNOWN_OUTPUT_TOKENS).min(max_tokens.unwrap_or(u64::MAX))
    }
}
