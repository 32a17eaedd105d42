//! What kinds of cases there are, and how many of them are asked.

use serde::{Deserialize, Serialize};

/// A case that is the same as another one of its suite, and counts no second time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Same {
    /// The case that is left out.
    pub case: String,
    /// The one that counts.
    pub as_case: String,
}

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

// === impl Same ===

impl Same {
    /// Cases that an account names.
    const NAMED: usize = 5;

    /// `1 case is the same as another and counts once: german-incident (german)`, where there is
    /// any.
    pub fn in_words(all: &[Self]) -> Option<String> {
        let named = all.iter().take(Self::NAMED);
        let named: Vec<_> =
            named.map(|Self { case, as_case }| format!("{case} ({as_case})")).collect();
        let more = match all.len().saturating_sub(Self::NAMED) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let count = match all.len() {
            0 => return None,
            1 => "1 case is the same as another and counts once".to_owned(),
            several => format!("{several} cases are the same as others and count once"),
        };
        Some(format!("{count}: {}{more}", named.join(", ")))
    }
}

/// How many cases of a suite are asked.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Depth {
    /// Critical cases, those marked `smoke`, and a few of each category: for another wording
    /// (PATCH).
    Smoke,
    /// Those, all functional and semantic ones, and what touches a changed variable or tool: for
    /// another structure (MINOR).
    Targeted,
    /// All: for another model family (MAJOR), and where there is no other version to compare with.
    #[default]
    Full,
}
