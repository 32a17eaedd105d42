//! The format of `providers/<id>.toml`, and of models that a configuration adds.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, LazyLock};

use http::{HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};

use super::{AuthScheme, BaseUrl, Feature, Features, Model, ModelKind, PriceSettings, Prices};
use super::{Provider, RateHeaders, WindowHeaders, placeholder};
use crate::dialect::{Dialect, NativePrefill, Quirks};
use crate::ids::{ModelName, ProviderId};
use crate::problems::{Document, KeyPath, Problems};

/// One provider's file as it is written.
#[derive(Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct ProviderFile {
    id: String,
    name: String,
    dialect: Dialect,
    base_url: String,
    #[serde(default)]
    key_env: Vec<String>,
    auth: Option<String>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(default)]
    rate_headers: RateHeaderSettings,
    #[serde(default)]
    quirks: Quirks,
    #[serde(default)]
    open_models: bool,
    source: String,
    as_of: String,
    #[serde(default)]
    models: Vec<ModelSettings>,
}

/// One model of a provider.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelSettings {
    /// The model as the provider names it.
    #[schemars(extend("examples" = ["llama-3.3-70b"]))]
    pub id: String,
    /// What the model does: `chat`, `completion` or `embedding`.
    #[serde(default)]
    pub kind: ModelKind,
    /// The most tokens of prompt and answer together. Absent: not known, nothing is refused.
    #[serde(default)]
    #[schemars(extend("examples" = [131_072]))]
    pub context_tokens: Option<u64>,
    /// The most tokens of an answer. Absent: not known.
    #[serde(default)]
    #[schemars(extend("examples" = [32_768]))]
    pub output_tokens: Option<u64>,
    /// What the model can do. Absent: everything is assumed.
    #[serde(default)]
    #[schemars(extend("examples" = [["stream", "tools"]]))]
    pub features: Option<Vec<Feature>>,
    /// How it goes on from an answer that was begun. Absent: as the provider's quirks say.
    #[serde(default)]
    #[schemars(extend("examples" = ["trailing_turn"]))]
    pub native_prefill: Option<NativePrefill>,
    /// The least tokens of a prompt that its prefix cache keeps. Absent: not known.
    #[serde(default)]
    #[schemars(extend("examples" = [1_024]))]
    pub cache_min_tokens: Option<u64>,
    /// What tokens cost. Absent: not known, requests are counted as free.
    #[serde(default)]
    #[schemars(extend("examples" = [{"input": "0.10", "output": "0.30"}]))]
    pub usd_per_million: Option<PriceSettings>,
    /// The first day on which the model does not answer any more, as `YYYY-MM-DD`. Absent: its
    /// provider has not said.
    #[serde(default)]
    #[schemars(extend("examples" = ["2027-01-31"]))]
    pub retires_on: Option<String>,
    /// What to use instead, by its provider's word: another model of the provider, or
    /// `provider/model`. Absent: the nearest model is proposed.
    #[serde(default)]
    #[schemars(extend("examples" = ["openai/gpt-6-sol"]))]
    pub replacement: Option<String>,
    /// Where the facts come from.
    #[serde(default)]
    #[schemars(extend("examples" = ["https://example.com/models"]))]
    pub source: Option<String>,
    /// The day the facts were read, as `YYYY-MM-DD`.
    #[serde(default)]
    #[schemars(extend("examples" = ["2026-11-01"]))]
    pub as_of: Option<String>,
}

/// Names of the response headers that say what is left of a rate limit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RateHeaderSettings {
    /// Requests left in the current window. Where the name has `remaining` in it, the same name
    /// with `limit` and with `reset` is read, too.
    pub requests_left: Option<String>,
    /// Tokens left in the current window, likewise.
    pub tokens_left: Option<String>,
}

/// What a provider file may say; derived once, because there are many files.
static SCHEMA: LazyLock<serde_json::Value> =
    LazyLock::new(|| schemars::schema_for!(ProviderFile).to_value());

/// Reads the text of one provider file. Reports everything that is wrong with it; none where it
/// cannot be used.
/// The document says where its values stand.
pub(super) fn parse(
    file: &Path,
    text: &str,
    problems: &mut Problems,
) -> Option<(Provider, Document)> {
    let before = problems.len();
    let mut document = Document::parse(file, text, problems);
    let read: ProviderFile = document.read(&SCHEMA, |_, _| None, problems)?;
    let provider = provider(&read, &document, problems);
    (problems.len() == before).then_some((provider, document))
}

fn provider(read: &ProviderFile, document: &Document, problems: &mut Problems) -> Provider {
    let root = KeyPath::root();
    let stem = document.file().file_stem().and_then(|stem| stem.to_str()).unwrap_or("");
    if read.id != stem {
        let message = format!("{:?} must be the file's name, {stem:?}", read.id);
        document.report(problems, root.key("id"), message);
    }
    if let Some(message) = id_problem(&read.id) {
        document.report(problems, root.key("id"), message);
    }
    check_base_url(&read.base_url, &root.key("base_url"), document, problems);
    for (index, name) in read.key_env.iter().enumerate().filter(|(_, name)| !is_env_name(name)) {
        let message = format!("{name:?} is no name of an environment variable");
        document.report(problems, root.key("key_env").index(index), message);
    }
    let simulated = read.base_url.starts_with("sim://");
    if !read.source.starts_with("https://") && !simulated {
        document.report(problems, root.key("source"), "must be a link that starts with https://");
    }
    check_date(&read.as_of, &root.key("as_of"), document, problems);
    let at = root.key("models");
    let fallback = (read.source.as_str(), read.as_of.as_str());
    Provider {
        id: ProviderId::new(&read.id),
        name: read.name.clone(),
        dialect: read.dialect,
        base_url: read.base_url.clone(),
        key_env: read.key_env.clone(),
        auth: auth(read.auth.as_deref(), read.dialect, &root.key("auth"), document, problems),
        headers: headers(&read.headers, &root.key("headers"), document, problems),
        rate_headers: rate_headers(
            &read.rate_headers,
            &root.key("rate_headers"),
            document,
            problems,
        ),
        quirks: read.quirks.clone(),
        open_models: read.open_models,
        models: models(&read.models, fallback, &at, document, problems),
        source: read.source.clone(),
        as_of: read.as_of.clone(),
    }
}

/// Checks and converts a list of models. `fallback` is the source and date of those without.
pub fn models(
    models: &[ModelSettings],
    fallback: (&str, &str),
    at: &KeyPath,
    document: &Document,
    problems: &mut Problems,
) -> Vec<Arc<Model>> {
    let mut seen = std::collections::HashSet::new();
    let mut converted = Vec::with_capacity(models.len());
    for (index, model) in models.iter().enumerate() {
        let at = at.index(index);
        if model.id.is_empty() {
            document.report(problems, at.key("id"), "must not be empty");
        }
        if !seen.insert(model.id.as_str()) {
            let message = format!("the model {:?} is listed twice", model.id);
            document.report(problems, at.key("id"), message);
        }
        if let Some(date) = &model.as_of {
            check_date(date, &at.key("as_of"), document, problems);
        }
        let retires_on = model.retires_on.as_deref();
        if let Some(date) = retires_on {
            check_date(date, &at.key("retires_on"), document, problems);
        } else if model.replacement.is_some() {
            let message = "has no effect without `retires_on`; leave it out";
            document.report(problems, at.key("replacement"), message);
        }
        for (key, limit) in
            [("context_tokens", model.context_tokens), ("output_tokens", model.output_tokens)]
        {
            if limit == Some(0) {
                document.report(
                    problems,
                    at.key(key),
                    "must be at least 1; leave it out if unknown",
                );
            }
        }
        let prices = model.usd_per_million.as_ref().map(|prices| {
            check_prices(prices, model.kind, &at.key("usd_per_million"), document, problems);
            Prices::from(prices)
        });
        converted.push(Arc::new(Model {
            name: ModelName::new(&model.id),
            kind: model.kind,
            context_tokens: model.context_tokens,
            output_tokens: model.output_tokens,
            features: model
                .features
                .as_ref()
                .map_or(Features::ALL, |features| features.iter().copied().collect()),
            native_prefill: model.native_prefill,
            cache_min_tokens: model.cache_min_tokens,
            prices,
            retires_on: retires_on.and_then(|date| date.parse().ok()),
            replacement: model.replacement.clone(),
            source: model.source.clone().unwrap_or_else(|| fallback.0.to_owned()),
            listed: true,
            is_made_up: false,
            as_of: model.as_of.clone().unwrap_or_else(|| fallback.1.to_owned()),
        }));
    }
    converted
}

/// Reports what is wrong with prices.
pub fn check_prices(
    prices: &PriceSettings,
    kind: ModelKind,
    at: &KeyPath,
    document: &Document,
    problems: &mut Problems,
) {
    if prices.output.is_none() && kind != ModelKind::Embedding {
        let message = "missing; only embeddings have no output";
        document.report(problems, at.key("output"), message);
    }
}

/// Checks and converts `auth`; absent, the dialect's own way to send a key.
pub fn auth(
    auth: Option<&str>,
    dialect: Dialect,
    at: &KeyPath,
    document: &Document,
    problems: &mut Problems,
) -> AuthScheme {
    let Some(text) = auth else { return AuthScheme::of(dialect) };
    text.parse().unwrap_or_else(|message: String| {
        document.report(problems, at.clone(), message);
        AuthScheme::of(dialect)
    })
}

/// Checks and converts fixed headers. A header that carries a key is refused, because keys are
/// references.
pub fn headers(
    headers: &BTreeMap<String, String>,
    at: &KeyPath,
    document: &Document,
    problems: &mut Problems,
) -> HeaderMap {
    const KEYS: [&str; 5] =
        ["authorization", "proxy-authorization", "x-api-key", "api-key", "x-goog-api-key"];
    const OURS: [&str; 6] = [
        "host",
        "content-length",
        "content-type",
        "transfer-encoding",
        "connection",
        "accept-encoding",
    ];
    let mut converted = HeaderMap::new();
    for (name, value) in headers {
        let at = at.key(name);
        let lower = name.to_ascii_lowercase();
        if KEYS.contains(&lower.as_str()) {
            let message = "keys do not belong in headers; name them under `credentials`";
            document.report(problems, at, message);
        } else if OURS.contains(&lower.as_str()) {
            document.report(problems, at, "the gateway sets this header itself");
        } else {
            match (HeaderName::try_from(name), HeaderValue::try_from(value)) {
                (Ok(name), Ok(value)) => {
                    converted.insert(name, value);
                }
                (Err(_), _) => document.report(problems, at, "is no name of a header"),
                (_, Err(_)) => document.report(problems, at, "is no value of a header"),
            }
        }
    }
    converted
}

/// Checks and converts the names of rate-limit headers.
pub fn rate_headers(
    settings: &RateHeaderSettings,
    at: &KeyPath,
    document: &Document,
    problems: &mut Problems,
) -> RateHeaders {
    let mut name = |key: &str, name: &Option<String>| {
        let name = name.as_ref()?;
        let parsed = HeaderName::try_from(name).ok();
        if parsed.is_none() {
            document.report(problems, at.key(key), format!("{name:?} is no name of a header"));
        }
        parsed.map(WindowHeaders::beside)
    };
    RateHeaders {
        requests: name("requests_left", &settings.requests_left),
        tokens: name("tokens_left", &settings.tokens_left),
    }
}

/// Reports a base URL that cannot be right, whatever its placeholders stand for.
pub fn check_base_url(url: &str, at: &KeyPath, document: &Document, problems: &mut Problems) {
    let filled = placeholder::fill(url, |name| {
        if is_env_name(name) { Ok("x".to_owned()) } else { Err(name.to_owned()) }
    });
    let message = match filled {
        Ok(filled) => filled.parse::<BaseUrl>().err().map(|error| error.to_string()),
        Err(error) => Some(error.to_string()),
    };
    if let Some(message) = message {
        document.report(problems, at.clone(), message);
    }
}

/// What is wrong with a provider's id, if anything. It is half of `provider/model` and stands in
/// headers, labels and file names.
pub fn id_problem(id: &str) -> Option<String> {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_');
    (id.is_empty() || id.len() > 64 || !id.chars().all(allowed))
        .then(|| format!("{id:?} must be made of a-z, 0-9, `-` and `_`, at most 64 of them"))
}

/// Whether `name` may be the name of an environment variable.
pub fn is_env_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn check_date(date: &str, at: &KeyPath, document: &Document, problems: &mut Problems) {
    if date.parse::<jiff::civil::Date>().is_err() {
        let message = format!("{date:?} is no date; write it like \"2026-11-01\"");
        document.report(problems, at.clone(), message);
    }
}
