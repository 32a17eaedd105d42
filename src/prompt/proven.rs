//! Models that runs of the prompt's cases have found it compatible with.

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::Prompt;

/// Models with which a version was found compatible after it was written. It is all of a version
/// that changes, and none of what it says.
#[derive(Debug, Default)]
pub(super) struct Proven(ArcSwap<Vec<String>>);

// === impl Prompt ===

impl Prompt {
    /// From now on, those with which runs found it compatible: each `provider/model`, or a route.
    pub fn set_proven(&self, mut models: Vec<String>) {
        models.sort();
        if **self.proven.0.load() != models {
            self.proven.0.store(Arc::new(models));
        }
    }

    /// Models that it was tested with: those that it says, then those that runs have found since.
    pub fn tested_with_all(&self) -> Vec<String> {
        let proven = self.proven.0.load();
        let new = proven.iter().filter(|model| !self.tested_models.contains(model));
        self.tested_models.iter().chain(new).cloned().collect()
    }

    /// Whether runs have found it compatible with what `is` says.
    pub(super) fn is_proven(&self, is: impl Fn(&String) -> bool) -> bool {
        self.proven.0.load().iter().any(is)
    }
}
