//! Compatibility of prompts and models: what a suite asks, whether an answer is good, and whether a
//! candidate is as good as the baseline.
//!
//! A *suite* is a file in promptfoo's YAML: cases, and what must be true of the answers. A *run*
//! asks a *baseline* and a *candidate* the same cases, several times each, and compares them pair
//! by pair. This module reads and judges; it asks nobody. What needs another model to be known is
//! an [`Ask`], which whoever runs the suite answers with a [`Reply`].

pub mod agreement;
mod answer;
mod ask;
pub mod assertion;
mod case;
pub mod judge;
mod label;
mod only;
pub mod report;
mod side;
pub mod suite;
pub mod verdict;

pub use answer::{Answer, Call, Check, Grade};
pub use ask::{Ask, AskKey, Preference, Reply};
pub use case::{Category, Depth, Same};
pub use label::{Label, MAX_LABELS};
pub use only::Only;
pub use side::{Side, SidePrompt};
