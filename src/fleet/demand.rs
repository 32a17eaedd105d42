//! What a request asks of a target, as far as ranking needs it.

use super::gate::Ask;
use super::latency::Shape;
use crate::catalog::{Feature, Model};
use crate::policy::hedge::SizeBucket;
use crate::policy::prefix::Chain;
use crate::units::Ratio;

/// What a request asks of a target.
#[derive(Debug, Clone, Default)]
pub struct Demand {
    /// Who asks, where not all can be served.
    pub ask: Ask,
    /// The part of a target that requests of its kind may have together: it is a guest there.
    pub share: Option<Ratio>,
    /// Tokens of the prompt, estimated from its length.
    pub input_tokens: u64,
    /// The caller's cap on the answer, where there is one.
    pub max_output: Option<u64>,
    /// What the model must be able to do.
    pub features: Vec<Feature>,
    /// The hash of what requests stick together by, where the route wants that.
    pub sticky: Option<u64>,
    /// How its prompt begins, where that may matter.
    pub prefix: Option<Chain>,
    /// Whether the answer comes token by token.
    pub streamed: bool,
    /// Whether somebody waits for the answer.
    pub is_interactive: bool,
    /// How many alternatives are asked for.
    pub choices: u32,
    /// Whether the provider would keep state of the request or act on it.
    pub has_server_state: bool,
}

// === impl Demand ===

impl Demand {
    /// What is taken for a request where none is at hand: a thousand tokens, streamed, somebody
    /// waits.
    pub fn usual() -> Self {
        Self {
            input_tokens: 1_000,
            is_interactive: true,
            streamed: true,
            choices: 1,
            ..Self::default()
        }
    }

    /// What a model lacks for it, in words; nothing where it [fits](Self::fits).
    pub fn lacking(&self, model: &Model) -> Vec<String> {
        if self.fits(model) {
            return Vec::new();
        }
        let missing = self.features.iter().filter(|feature| !model.features.has(**feature));
        let mut lacking: Vec<_> = missing.map(|feature| feature.as_str().to_owned()).collect();
        if let Some(most) = model.context_tokens.filter(|most| self.input_tokens / 2 > *most) {
            lacking.push(format!("context for {} tokens (it has {most})", self.input_tokens));
        }
        lacking
    }

    /// What the time to its first token is compared with.
    pub(super) fn shape(&self) -> Shape {
        Shape { size: SizeBucket::of(self.input_tokens), streamed: self.streamed }
    }

    /// Whether a model can do what is asked, as far as it is known: nothing is known of a model
    /// that is not listed. The prompt must fit by half its estimated length, because the estimate
    /// can be wrong by that much and the provider knows better.
    pub fn fits(&self, model: &Model) -> bool {
        let able = || self.features.iter().all(|feature| model.features.has(*feature));
        let long = || model.context_tokens.is_some_and(|most| self.input_tokens / 2 > most);
        !model.listed || (able() && !long())
    }
}
