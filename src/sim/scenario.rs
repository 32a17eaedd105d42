//! How the simulated providers behave: from a file, or the friendly default.

use std::path::Path;
use std::time::Duration;

use super::dice::Latency;
use super::fault::Fault;
use crate::problems::Problems;

mod read;

/// How the simulated providers behave.
#[derive(Debug, Clone, PartialEq)]
pub struct Scenario {
    /// Same seed and same order of requests: same bytes.
    pub seed: u64,
    /// Accepted keys. Empty: no key is looked at.
    pub keys: Vec<String>,
    /// The behaviour of each model, in the order of the file. `*` stands for every model that is
    /// not named; without it they do not exist.
    pub models: Vec<(String, Behaviour)>,
    /// What changes while time passes, earliest first.
    pub changes: Vec<Change>,
}

/// From a moment on, a model behaves in another way.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// Since the simulation began.
    pub at: Duration,
    /// The entry of [`Scenario::models`] that changes; it is added where it is not there.
    pub model: String,
    /// How it behaves from then on, complete.
    pub behaviour: Behaviour,
}

/// How one model behaves.
#[derive(Debug, Clone, PartialEq)]
pub struct Behaviour {
    /// Time to the first token.
    pub ttft: Latency,
    /// Time from token to token.
    pub token_gap: Latency,
    /// Tokens of text, least and most. `None`: as the answer falls.
    pub tokens: Option<(u64, u64)>,
    /// The share of answers, 0 to 1, with a slip, where the model does what it is told to in a
    /// system message. `None`: as the model is.
    pub slips: Option<f64>,
    /// The share of comparisons, 0 to 1, in which it prefers what it is shown first when it judges.
    pub bias: f64,
    /// The share of requests, 0 to 1, that are stragglers.
    pub slow_share: f64,
    /// How many times slower a straggler is.
    pub slow_factor: f64,
    /// How many times slower everything is, stragglers or not.
    pub slower: f64,
    /// How long an error status takes to come. `None`: half as long as a first token.
    pub error_after: Option<Duration>,
    /// How many requests it serves at once. `None` is no limit.
    pub capacity: Option<u64>,
    /// What becomes of more.
    pub over_capacity: Overload,
    /// The prefix cache of a self-hosted server. `None`: as the dialect's own company has it.
    pub prefix_cache: Option<PrefixCache>,
    /// Rates that are enforced.
    pub limits: Limits,
    /// What goes wrong; the first that applies does.
    pub faults: Vec<FaultRule>,
}

/// The prefix cache of a self-hosted server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PrefixCache {
    /// How many tokens it holds.
    pub tokens: u64,
    /// What a thousand tokens of a prompt take, beside the time to the first token, where they are
    /// not cached.
    pub prefill: Duration,
}

/// What a provider does with more requests at once than it has room for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Overload {
    /// Refuses them: status 529 on `anthropic`, 503 elsewhere.
    #[default]
    Refuse,
    /// Shares itself among all: twice the requests, half the pace.
    Slow,
}

/// Rates for each model and key. `None` is no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// Requests.
    pub requests_per_minute: Option<u64>,
    /// Tokens of prompts and answers together.
    pub tokens_per_minute: Option<u64>,
}

/// When a fault happens.
#[derive(Debug, Clone, PartialEq)]
pub struct FaultRule {
    /// The share of requests, 0 to 1.
    pub share: f64,
    /// Exactly these requests to the model, counted from 1. Empty: `share` decides.
    pub on_requests: Vec<u64>,
    /// What happens.
    pub fault: Fault,
}

// === impl Scenario ===

impl Scenario {
    /// The models that a list of models names when the scenario has only `*`: those of
    /// `providers/sim.toml`.
    pub const MODELS: [&'static str; 7] = [
        "tide-small",
        "tide-small-next",
        "tide-large",
        "tide-reasoner",
        "tide-instruct",
        "tide-embed",
        "moon-judge",
    ];

    /// Every model behaves alike and answers at once, without faults: for tests that are not
    /// about time.
    pub fn instant() -> Self {
        let behaviour = Behaviour {
            ttft: Latency::constant(Duration::ZERO),
            token_gap: Latency::constant(Duration::ZERO),
            ..Behaviour::default()
        };
        Self::uniform(behaviour)
    }

    /// Every model behaves like this.
    pub fn uniform(behaviour: Behaviour) -> Self {
        Self {
            seed: 0,
            keys: Vec::new(),
            models: vec![("*".to_owned(), behaviour)],
            changes: Vec::new(),
        }
    }

    /// Reads a scenario file.
    ///
    /// # Errors
    ///
    /// All problems, each with its line.
    pub fn parse(file: &Path, text: &str) -> Result<Self, Problems> {
        read::scenario(file, text)
    }

    /// The behaviour of a model at a simulated host: `host/model` before `model` before `host/*`
    /// before `*`.
    pub(super) fn behaviour(&self, host: &str, model: &str) -> Option<(&str, &Behaviour)> {
        let find = |wanted: &str| self.models.iter().find(|(name, _)| name == wanted);
        find(&format!("{host}/{model}"))
            .or_else(|| find(model))
            .or_else(|| find(&format!("{host}/*")))
            .or_else(|| find("*"))
            .map(|(name, behaviour)| (name.as_str(), behaviour))
    }

    /// The behaviour that an entry of this name has or would take the place of: itself, or the
    /// next wider one.
    fn nearest(&self, entry: &str) -> Option<&Behaviour> {
        let exact = self.models.iter().find(|(name, _)| name == entry);
        let found = exact.map(|(_, behaviour)| behaviour);
        let (host, model) = entry.split_once('/').unwrap_or(("", entry));
        found.or_else(|| self.behaviour(host, model).map(|(_, behaviour)| behaviour))
    }

    /// Gives an entry another behaviour, and adds it where it is not there.
    pub(super) fn set(&mut self, entry: &str, behaviour: Behaviour) {
        match self.models.iter_mut().find(|(name, _)| name == entry) {
            Some((_, old)) => *old = behaviour,
            None => self.models.push((entry.to_owned(), behaviour)),
        }
    }

    /// The names of all models that are listed.
    pub(super) fn names(&self) -> Vec<&str> {
        let named: Vec<&str> = self
            .models
            .iter()
            .map(|(name, _)| name.rsplit_once('/').map_or(name.as_str(), |(_, model)| model))
            .filter(|name| *name != "*")
            .collect();
        if named.is_empty() { Self::MODELS.to_vec() } else { named }
    }
}

impl Default for Scenario {
    /// A quick, healthy provider that takes any key and any model.
    fn default() -> Self {
        Self::uniform(Behaviour::default())
    }
}

// === impl Behaviour ===

impl Default for Behaviour {
    /// Quick enough to be pleasant, slow enough to see that it streams.
    fn default() -> Self {
        Self {
            ttft: Latency { median: Duration::from_millis(200), sigma: 0.3 },
            token_gap: Latency { median: Duration::from_millis(15), sigma: 0.3 },
            tokens: None,
            slips: None,
            bias: 0.0,
            slow_share: 0.0,
            slow_factor: 1.0,
            slower: 1.0,
            error_after: None,
            capacity: None,
            over_capacity: Overload::Refuse,
            prefix_cache: None,
            limits: Limits::default(),
            faults: Vec::new(),
        }
    }
}
