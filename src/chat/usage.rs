//! Token counts in one disjoint structure.

use serde::{Deserialize, Serialize};

/// Tokens of one completion, counted once each: the five numbers never overlap.
///
/// Wires disagree. OpenAI's `prompt_tokens` includes cached tokens and its `completion_tokens`
/// includes reasoning; Anthropic's `input_tokens` excludes both kinds of cached tokens and its
/// `output_tokens` includes thinking; Gemini's `promptTokenCount` includes cached tokens and its
/// `candidatesTokenCount` excludes thoughts. Codecs convert on the way in and back on the way out,
/// so that money is computed from this structure alone and nothing is charged twice.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Prompt tokens that were neither read from nor written to a provider's prefix cache.
    pub input: u64,
    /// Prompt tokens read from the provider's prefix cache.
    pub cached_input: u64,
    /// Prompt tokens written to the provider's prefix cache.
    pub cache_write: u64,
    /// Generated tokens that the caller sees.
    pub output: u64,
    /// Generated tokens spent on thinking, where the wire tells them apart; else 0.
    pub reasoning: u64,
}

impl Usage {
    /// All prompt tokens.
    pub fn total_input(&self) -> u64 {
        self.input.saturating_add(self.cached_input).saturating_add(self.cache_write)
    }

    /// All generated tokens.
    pub fn total_output(&self) -> u64 {
        self.output.saturating_add(self.reasoning)
    }

    /// All tokens.
    pub fn total(&self) -> u64 {
        self.total_input().saturating_add(self.total_output())
    }

    /// Whether nothing was counted, which is how a missing usage looks.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
