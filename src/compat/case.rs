//! What kinds of cases there are, and how many of them are asked.

use serde::{Deserialize, Serialize};

/// What a case is there for.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Category {
    /// That the prompt does what it is for.
    #[default]
    Functional,
    /// That answers mean what golden answers mean.
    Semantic,
    /// What is unusual: very long, empty, hostile, in other languages.
    Edge,
    /// How long and how costly answers are.
    Performance,
}

/// How many cases of a suite are asked.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Depth {
    /// Critical cases, those marked `smoke`, and a few of each category: for another wording (PATCH).
    Smoke,
    /// Those, all functional and semantic ones, and what touches a changed variable or tool: for
    /// another structure (MINOR).
    Targeted,
    /// All: for another model family (MAJOR), and where there is no other version to compare with.
    #[default]
    Full,
}
