//! What tokens cost: prices as they are written and as they are reckoned with.
//!
//! Money is whole numbers throughout. A price is kept in 1e-12 US dollars a token, parts are added
//! in that unit, and the sum is rounded once for each answer, half up, to millionths of a dollar:
//! what providers bill is exact to the answer, and so is what is written down.

use serde::{Deserialize, Serialize};

use crate::chat::Usage;
use crate::units::{MicroUsd, UsdPerMillion};

#[cfg(test)]
mod tests;

/// What tokens of a model cost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Prices {
    /// What they usually cost.
    pub rates: Rates,
    /// What all tokens of a request cost whose prompt is long, where that is something else.
    pub long_prompt: Option<LongPrompt>,
}

/// What one token of each kind costs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rates {
    /// Prompt tokens.
    pub input: UsdPerMillion,
    /// Prompt tokens read from the provider's prefix cache.
    pub cached_input: UsdPerMillion,
    /// Prompt tokens written to the provider's prefix cache.
    pub cache_write: UsdPerMillion,
    /// Generated tokens that the caller sees.
    pub output: UsdPerMillion,
    /// Generated tokens spent on thinking.
    pub reasoning: UsdPerMillion,
}

/// The prices of requests with a long prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LongPrompt {
    /// They hold for prompts of more tokens than this, cached ones counted.
    pub over_tokens: u64,
    /// The prices, of all tokens of such a request.
    pub rates: Rates,
}

/// What tokens of a model cost, in US dollars per million.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PriceSettings {
    /// Prompt tokens.
    pub input: UsdPerMillion,
    /// Prompt tokens read from the provider's prefix cache. Absent: as `input`.
    #[serde(default)]
    pub cached_input: Option<UsdPerMillion>,
    /// Prompt tokens written to the provider's prefix cache. Absent: as `input`.
    #[serde(default)]
    pub cache_write: Option<UsdPerMillion>,
    /// Generated tokens. Needed for everything but embeddings.
    #[serde(default)]
    pub output: Option<UsdPerMillion>,
    /// Generated tokens spent on thinking. Absent: as `output`.
    #[serde(default)]
    pub reasoning: Option<UsdPerMillion>,
    /// What all tokens of a request cost whose prompt is long. Absent: the same.
    #[serde(default)]
    pub long_prompt: Option<LongPromptSettings>,
}

/// What all tokens of a request with a long prompt cost, in US dollars per million. What is absent
/// costs what it usually does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LongPromptSettings {
    /// Prompts of more tokens than this are long; cached ones count.
    #[schemars(range(min = 1))]
    pub over_tokens: u64,
    /// Prompt tokens.
    #[serde(default)]
    pub input: Option<UsdPerMillion>,
    /// Prompt tokens read from the provider's prefix cache.
    #[serde(default)]
    pub cached_input: Option<UsdPerMillion>,
    /// Prompt tokens written to the provider's prefix cache.
    #[serde(default)]
    pub cache_write: Option<UsdPerMillion>,
    /// Generated tokens.
    #[serde(default)]
    pub output: Option<UsdPerMillion>,
    /// Generated tokens spent on thinking. Absent: as `output` here, where that is given.
    #[serde(default)]
    pub reasoning: Option<UsdPerMillion>,
}

// === impl Prices ===

impl Prices {
    /// What `usage` costs. Parts are added in 1e-12 USD and the sum is rounded once, half up.
    pub fn cost(&self, usage: &Usage) -> MicroUsd {
        UsdPerMillion::round(self.rates_for(usage).pico_usd(usage))
    }

    fn rates_for(&self, usage: &Usage) -> &Rates {
        let long = self.long_prompt.as_ref();
        match long.filter(|long| usage.total_input() > long.over_tokens) {
            Some(long) => &long.rates,
            None => &self.rates,
        }
    }
}

impl From<&PriceSettings> for Prices {
    fn from(settings: &PriceSettings) -> Self {
        let output = settings.output.unwrap_or_default();
        let rates = Rates {
            input: settings.input,
            cached_input: settings.cached_input.unwrap_or(settings.input),
            cache_write: settings.cache_write.unwrap_or(settings.input),
            output,
            reasoning: settings.reasoning.unwrap_or(output),
        };
        let long_prompt = settings.long_prompt.as_ref().map(|long| LongPrompt {
            over_tokens: long.over_tokens,
            rates: Rates {
                input: long.input.unwrap_or(rates.input),
                cached_input: long.cached_input.unwrap_or(rates.cached_input),
                cache_write: long.cache_write.unwrap_or(rates.cache_write),
                output: long.output.unwrap_or(rates.output),
                reasoning: long.reasoning.or(long.output).unwrap_or(rates.reasoning),
            },
        });
        Self { rates, long_prompt }
    }
}

// === impl Rates ===

impl Rates {
    /// What `usage` costs, in 1e-12 USD.
    fn pico_usd(&self, usage: &Usage) -> u128 {
        let parts = [
            self.input.pico_usd(usage.input),
            self.cached_input.pico_usd(usage.cached_input),
            self.cache_write.pico_usd(usage.cache_write),
            self.output.pico_usd(usage.output),
            self.reasoning.pico_usd(usage.reasoning),
        ];
        parts.into_iter().fold(0_u128, u128::saturating_add)
    }
}
