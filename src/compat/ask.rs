//! What cannot be known without asking a model.

use serde::{Deserialize, Serialize};

/// A question that an assertion has to somebody else.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ask {
    /// How near two texts are: the cosine of their vectors.
    Similarity {
        /// The one.
        text: String,
        /// The other.
        reference: String,
    },
    /// Whether an answer is as a rubric wants it.
    Rubric {
        /// What was asked: the messages as they were rendered.
        question: String,
        /// The answer.
        answer: String,
        /// What must be true of it, in words.
        rubric: String,
        /// An answer that is right, where there is one.
        reference: Option<String>,
    },
    /// Whether an answer agrees with facts.
    Factuality {
        /// What was asked.
        question: String,
        /// The answer.
        answer: String,
        /// What is true.
        facts: String,
    },
    /// Which of two answers is better. Asked in both orders.
    Prefer {
        /// What was asked.
        question: String,
        /// What makes an answer better, in words.
        criteria: String,
        /// The baseline's answer.
        baseline: String,
        /// The candidate's.
        candidate: String,
    },
}

/// Tells questions apart: the same question has the same key, on every node.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct AskKey(pub String);

/// What was said to an [`Ask`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// To [`Ask::Similarity`]: from -1 to 1.
    Similarity(f64),
    /// To [`Ask::Rubric`] and [`Ask::Factuality`].
    Rated {
        /// Whether it is good enough.
        passed: bool,
        /// From 0 to 1.
        score: f64,
        /// Why, in the judge's words; short.
        reason: String,
    },
    /// To [`Ask::Prefer`].
    Preferred(Preference),
    /// Nobody could say, and why.
    Failed(String),
}

/// Which of two answers is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Preference {
    /// The candidate's.
    Candidate,
    /// The baseline's.
    Baseline,
    /// Neither, or the judge said otherwise when they were shown the other way round.
    Tie,
}

// === impl Ask ===

impl Ask {
    /// The first 16 bytes of the BLAKE3 of all it says, in hex.
    pub fn key(&self) -> AskKey {
        let said = serde_json::to_vec(self).unwrap_or_default();
        let hex = blake3::hash(&said).to_hex();
        AskKey(hex.chars().take(32).collect())
    }
}
