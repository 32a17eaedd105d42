//! How far a rollout may grow by what is known beside its own figures.

use serde::{Deserialize, Serialize};

use super::assign::Share;

/// How far a rollout may grow by what is known beside its own figures: by whether its prompt was
/// found compatible. Shrinking and rolling back are always possible.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bound {
    /// The most that the candidate may serve; what it serves already is not taken away.
    pub most: Share,
    /// Why it is no more, and what to do about it; for people. Empty where it may serve all.
    pub why: String,
}

// === impl Bound ===

impl Bound {
    /// None.
    pub const NONE: Self = Self { most: Share::ALL, why: String::new() };

    /// Whether a share is beyond it.
    pub fn forbids(&self, share: Share) -> bool {
        share > self.most
    }
}

impl Default for Bound {
    fn default() -> Self {
        Self::NONE
    }
}
