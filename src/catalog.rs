//! What is known about providers: where they answer, what they speak, which models they have.
//!
//! A provider is a file, `providers/<id>.toml`, and no code. This module parses the text of such
//! files and opens none; `config` brings the text, embedded or from a folder.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use http::{HeaderMap, HeaderName};
use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use crate::chat::Usage;
use crate::dialect::{Dialect, NativePrefill, Quirks};
use crate::ids::{ModelName, ProviderId};
use crate::problems::{KeyPath, Problems};
use crate::units::MicroUsd;

mod builtin;
mod features;
pub mod file;
mod origin;
pub mod placeholder;
mod price;
mod rate;
mod retirement;

#[cfg(test)]
mod tests;

pub use builtin::builtin_files;
pub use features::{Feature, Features};
pub use origin::{BaseUrl, Origin};
pub use price::{LongPrompt, LongPromptSettings, PriceSettings, Prices, Rates};
pub use rate::{RateReading, RateWindow, WindowHeaders};
pub use retirement::{ProposedBy, Retirement};

/// All providers that are known, by id.
#[derive(Debug, Clone, Default)]
pub struct Catalog {
    /// The providers.
    pub providers: BTreeMap<ProviderId, Arc<Provider>>,
}

/// One provider: the facts of its file.
#[derive(Debug, Clone)]
pub struct Provider {
    /// The id, which is also the file's name and the first half of `provider/model`.
    pub id: ProviderId,
    /// The name for people.
    pub name: String,
    /// The wire format it speaks.
    pub dialect: Dialect,
    /// Where it answers. May hold `${NAME}`, which stands for an environment variable.
    pub base_url: String,
    /// Environment variables whose presence switches the provider on where no configuration file
    /// names it. Empty: it needs no key.
    pub key_env: Vec<String>,
    /// How the key is sent.
    pub auth: AuthScheme,
    /// Headers that every request carries.
    pub headers: HeaderMap,
    /// Names of the response headers that say what is left of the rate limit.
    pub rate_headers: RateHeaders,
    /// Where it departs from its dialect.
    pub quirks: Quirks,
    /// Whether it serves models that the file does not list.
    pub open_models: bool,
    /// The models the file lists.
    pub models: Vec<Arc<Model>>,
    /// Where the facts come from.
    pub source: String,
    /// The day they were read, as `YYYY-MM-DD`.
    pub as_of: String,
}

/// How a key is sent to a provider.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum AuthScheme {
    /// `authorization: Bearer <key>`.
    #[default]
    Bearer,
    /// The key alone, in this header.
    Header(HeaderName),
    /// No key is sent.
    None,
}

/// Names of the response headers that say what is left of a rate limit, where they are not those
/// that everyone uses. [`RateReading::of`] reads them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RateHeaders {
    /// Those of requests.
    pub requests: Option<WindowHeaders>,
    /// Those of tokens.
    pub tokens: Option<WindowHeaders>,
}

/// One model of a provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Model {
    /// The model as the provider names it.
    pub name: ModelName,
    /// What it does.
    pub kind: ModelKind,
    /// The most tokens of prompt and answer together, where known.
    pub context_tokens: Option<u64>,
    /// The most tokens of an answer, where known.
    pub output_tokens: Option<u64>,
    /// What it can do.
    pub features: Features,
    /// How it goes on from an answer that was begun, where that is not as the provider's quirks
    /// say.
    pub native_prefill: Option<NativePrefill>,
    /// The least tokens of a prompt that its prefix cache keeps, where known.
    pub cache_min_tokens: Option<u64>,
    /// What it costs, where known.
    pub prices: Option<Prices>,
    /// The first day on which it does not answer any more, where its provider has said so.
    pub retires_on: Option<Date>,
    /// What its provider says is to be used instead: a model of the same provider, or
    /// `provider/model`.
    pub replacement: Option<String>,
    /// Where the facts come from.
    pub source: String,
    /// The day they were read, as `YYYY-MM-DD`.
    pub as_of: String,
    /// Whether a file lists it, so that something is known of it.
    pub listed: bool,
    /// Whether its name is a caller's, and neither a file nor a route has it.
    pub is_made_up: bool,
}

/// What a model does.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum ModelKind {
    /// Answers conversations.
    #[default]
    Chat,
    /// Continues a text.
    Completion,
    /// Turns text into vectors.
    Embedding,
}

// === impl Catalog ===

impl Catalog {
    /// Reads provider files, each a name and its text. Files that cannot be used are left out,
    /// with every reason in `problems`.
    pub fn parse<'a>(
        files: impl IntoIterator<Item = (&'a Path, &'a str)>,
        problems: &mut Problems,
    ) -> Self {
        let read = files.into_iter().filter_map(|(file, text)| file::parse(file, text, problems));
        let read: Vec<_> = read.collect();
        let mut catalog = Self::default();
        for (provider, document) in &read {
            let known: Vec<_> = read.iter().map(|(provider, _)| provider).collect();
            let before = problems.len();
            for (index, model) in provider.models.iter().enumerate() {
                if let Some(problem) = model.replacement_problem(provider, &known) {
                    let at = KeyPath::root().key("models").index(index).key("replacement");
                    document.report(problems, at, problem);
                }
            }
            if problems.len() == before {
                catalog.providers.insert(provider.id.clone(), Arc::new(provider.clone()));
            }
        }
        catalog
    }
}

// === impl Provider ===

impl Provider {
    /// The model of this name, if the file lists it.
    pub fn model(&self, name: &str) -> Option<&Arc<Model>> {
        self.models.iter().find(|model| model.name.as_str() == name)
    }
}

// === impl AuthScheme ===

impl AuthScheme {
    /// How a dialect's own company takes its keys.
    pub fn of(dialect: Dialect) -> Self {
        match dialect {
            Dialect::OpenAiChat => Self::Bearer,
            Dialect::Anthropic => Self::Header(HeaderName::from_static("x-api-key")),
            Dialect::Gemini => Self::Header(HeaderName::from_static("x-goog-api-key")),
        }
    }
}

impl FromStr for AuthScheme {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "bearer" => return Ok(Self::Bearer),
            "none" => return Ok(Self::None),
            _ => {}
        }
        text.strip_prefix("header:")
            .and_then(|name| HeaderName::try_from(name).ok())
            .map(Self::Header)
            .ok_or_else(|| {
                format!(
                    "{text:?} is not one of \"bearer\", \"none\" and \"header:\" with a header's name"
                )
            })
    }
}

// === impl Model ===

impl Model {
    /// A model of which only the name is known, as a caller gave it.
    pub fn unlisted(name: &str) -> Self {
        Self {
            name: ModelName::new(name),
            kind: ModelKind::Chat,
            context_tokens: None,
            output_tokens: None,
            features: Features::ALL,
            native_prefill: None,
            cache_min_tokens: None,
            prices: None,
            retires_on: None,
            replacement: None,
            source: String::new(),
            as_of: String::new(),
            listed: false,
            is_made_up: true,
        }
    }

    /// What `usage` costs: nothing where no price is known.
    pub fn cost(&self, usage: &Usage) -> MicroUsd {
        self.prices.map_or(MicroUsd(0), |prices| prices.cost(usage))
    }
}

// === impl ModelKind ===

impl ModelKind {
    /// Its name in files.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Completion => "completion",
            Self::Embedding => "embedding",
        }
    }
}

impl fmt::Display for ModelKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
