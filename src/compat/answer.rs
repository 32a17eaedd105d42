//! An answer, and what is found of it.

use serde::{Deserialize, Serialize};

/// What a model said to a case, once.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Answer {
    /// The text; empty where there are only calls.
    pub text: String,
    /// Calls of tools, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub calls: Vec<Call>,
    /// Whether the model said in a field of its own that it refuses.
    pub refused: bool,
    /// Why it ended, in the words of chat completions: `stop`, `length`, `tool_calls`,
    /// `content_filter`; empty where nothing is said.
    pub finish_reason: String,
    /// Tokens of the question.
    pub input_tokens: u64,
    /// Tokens of the answer.
    pub output_tokens: u64,
    /// What it cost, in millionths of a dollar.
    pub cost_micro_usd: u64,
    /// From the request to the last byte, in milliseconds.
    pub latency_ms: u64,
    /// Who answered: `provider/model`.
    pub served_by: String,
    /// Why there is no answer; everything else is empty then. What no model has said is no failure
    /// of the candidate: such samples are left out of pairs, and counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A call of a tool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// The tool.
    pub name: String,
    /// Its arguments as the model wrote them: JSON, if it is right.
    pub arguments: String,
}

/// What all assertions of a case say of one answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Grade {
    /// Whether the case is passed.
    pub passed: bool,
    /// The mean of the scores by their weights, from 0 to 1.
    pub score: f64,
    /// Each assertion, in order; those of a set are behind it.
    pub checks: Vec<Check>,
}

/// What one assertion says of one answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Check {
    /// Its type as the suite has it: `not-contains`, `llm-rubric`.
    pub kind: String,
    /// Whether it holds. `None`: it could not be found out, or it counts for nothing.
    pub passed: Option<bool>,
    /// From 0 to 1.
    pub score: f64,
    /// Why, for people; short.
    pub reason: String,
    /// Whether a model said so.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub by_judge: bool,
}

// === impl Grade ===

impl Grade {
    /// Whether the case is passed; `None` where it has assertions and none of them decides: they
    /// are a judge's that does not count, or could not be found out.
    pub fn decided(&self) -> Option<bool> {
        let is_open =
            !self.checks.is_empty() && self.checks.iter().all(|check| check.passed.is_none());
        (!is_open).then_some(self.passed)
    }
}
