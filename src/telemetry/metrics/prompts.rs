//! Requests that were made with registered prompts.

use prometheus::{IntCounterVec, Registry};

use super::register::counters;

/// What is counted of prompts.
#[derive(Debug)]
pub struct PromptMetrics {
    requests: IntCounterVec,
}

// === impl PromptMetrics ===

impl PromptMetrics {
    pub(super) fn new(registry: &Registry) -> Self {
        Self {
            requests: counters(
                registry,
                "tidegate_prompt_requests_total",
                "Requests with a registered prompt, by version, how they ended, and whether the \
                 version was tested with the model that answered: yes, no, unknown.",
                &["prompt", "outcome", "tested"],
            ),
        }
    }

    /// Counts a request with a prompt, given as `id@version`, that has ended.
    pub fn ended(&self, prompt: &str, outcome: &str, tested: Option<bool>) {
        let tested = match tested {
            Some(true) => "yes",
            Some(false) => "no",
            None => "unknown",
        };
        self.requests.with_label_values(&[prompt, outcome, tested]).inc();
    }
}
