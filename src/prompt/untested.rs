//! What becomes of a request whose prompt was not tested with the model that would answer.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::Prompt;

/// What becomes of a request whose prompt was not tested with the model that would answer. A
/// version without `tested_models` is never untested.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Untested {
    /// It is answered, and the reply says so in `x-tidegate-prompt-warning`.
    #[default]
    Warn,
    /// It is refused before anything is sent.
    Refuse,
}

// === impl Prompt ===

impl Prompt {
    /// Models it was tested with; the one it was written for is among them.
    fn tested_with(&self) -> BTreeSet<String> {
        self.tested_with_all().into_iter().chain(self.target_model.clone()).collect()
    }

    /// Why a request may not be sent to these models, each a provider and a model of it; nothing
    /// where it may. Each of them may come to answer, so that each has to be tested.
    pub fn refusal<'a>(
        &self,
        policy: Untested,
        models: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Option<String> {
        match policy {
            Untested::Warn => None,
            Untested::Refuse => {
                let is_untested = |(provider, model): &(&str, &str)| {
                    self.is_tested_with(provider, model) == Some(false)
                };
                let (provider, model) = models.into_iter().find(is_untested)?;
                Some(format!(
                    "the prompt `{}` was not tested with `{provider}/{model}`, and untested models \
                     are refused here; it was tested with {}",
                    self.name,
                    super::quoted(&self.tested_with())
                ))
            }
        }
    }
}
