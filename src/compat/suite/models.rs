//! Models that a suite names, as promptfoo writes them, in our names.

use serde_json::{Map, Value};

use super::SuiteModel;
use super::read::{At, Fate, Reading};
use super::tree::Yaml;
use crate::problems::nearest;

#[rustfmt::skip] // A table reads best as a table.
const KEYS: &[(&str, Fate)] = &[
    ("config",    Fate::Read),
    ("delay",     Fate::LeftOut),
    ("env",       Fate::LeftOut),
    ("id",        Fate::Read),
    ("inputs",    Fate::Unsupported("red teaming is no part of a compatibility run")),
    ("label",     Fate::Read),
    ("prompts",   Fate::Unsupported("a run names one prompt for each side")),
    ("transform", Fate::Unsupported("suites run no code")),
];

/// Parameters of chat completions, and what says how promptfoo reaches a provider.
#[rustfmt::skip] // A table reads best as a table.
const CONFIG: &[(&str, Fate)] = &[
    ("apiBaseUrl",            Fate::LeftOut),
    ("apiHost",               Fate::LeftOut),
    ("apiKey",                Fate::LeftOut),
    ("apiKeyEnvar",           Fate::LeftOut),
    ("apiVersion",            Fate::LeftOut),
    ("cost",                  Fate::LeftOut),
    ("frequency_penalty",     Fate::Read),
    ("functionToolCallbacks", Fate::Unsupported("suites run no code")),
    ("functions",             Fate::Unsupported("write them as `tools`")),
    ("function_call",         Fate::Unsupported("write it as `tool_choice`")),
    ("headers",               Fate::LeftOut),
    ("max_completion_tokens", Fate::Read),
    ("max_tokens",            Fate::Read),
    ("organization",          Fate::LeftOut),
    ("parallel_tool_calls",   Fate::Read),
    ("passthrough",           Fate::Unsupported("write the parameters themselves")),
    ("presence_penalty",      Fate::Read),
    ("projectId",             Fate::LeftOut),
    ("reasoning_effort",      Fate::Read),
    ("region",                Fate::LeftOut),
    ("response_format",       Fate::Read),
    ("seed",                  Fate::Read),
    ("showThinking",          Fate::LeftOut),
    ("stop",                  Fate::Read),
    ("temperature",           Fate::Read),
    ("tool_choice",           Fate::Read),
    ("tools",                 Fate::Read),
    ("top_p",                 Fate::Read),
];

/// promptfoo's names of providers and ours; the words that may stand between a provider and a
/// model, too.
#[rustfmt::skip] // A table reads best as a table.
const PROVIDERS: &[(&str, &str, &[&str])] = &[
    ("anthropic",    "anthropic",    &["messages"]),
    ("azure",        "azure-openai", &["chat"]),
    ("azureopenai",  "azure-openai", &["chat"]),
    ("cerebras",     "cerebras",     &[]),
    ("cohere",       "cohere",       &[]),
    ("deepinfra",    "deepinfra",    &["chat"]),
    ("deepseek",     "deepseek",     &[]),
    ("fireworks",    "fireworks",    &["chat"]),
    ("google",       "gemini",       &[]),
    ("groq",         "groq",         &[]),
    ("huggingface",  "huggingface",  &["chat"]),
    ("hyperbolic",   "hyperbolic",   &[]),
    ("llamacpp",     "llamacpp",     &[]),
    ("lmstudio",     "lmstudio",     &[]),
    ("mistral",      "mistral",      &["chat"]),
    ("moonshot",     "moonshot",     &[]),
    ("novita",       "novita",       &["chat"]),
    ("nvidia",       "nvidia",       &["chat"]),
    ("ollama",       "ollama",       &["chat"]),
    ("openai",       "openai",       &["chat", "responses"]),
    ("openrouter",   "openrouter",   &["chat"]),
    ("palm",         "gemini",       &[]),
    ("perplexity",   "perplexity",   &[]),
    ("sambanova",    "sambanova",    &[]),
    ("togetherai",   "together",     &["chat"]),
    ("vertex",       "gemini",       &[]),
    ("vllm",         "vllm",         &["chat"]),
    ("xai",          "xai",          &[]),
];

/// What promptfoo can ask and a gateway cannot.
const NO_MODELS: &[&str] = &[
    "browser",
    "echo",
    "exec",
    "golang",
    "http",
    "https",
    "javascript",
    "manual-input",
    "mcp",
    "package",
    "promptfoo",
    "python",
    "ruby",
    "sequence",
    "webhook",
    "websocket",
    "ws",
    "wss",
];

/// Words between a provider and a model that are not a conversation.
const NO_CHATS: &[&str] =
    &["assistant", "completion", "embedding", "embeddings", "image", "moderation", "realtime"];

/// Reads `providers`: a name, a list of names and tables, or a table by names.
pub(super) fn read(reading: &mut Reading<'_>, at: &At<'_>, models: &mut Vec<SuiteModel>) {
    let entries = match &at.node.value {
        Yaml::List(_) => at.items(),
        Yaml::Text(_) | Yaml::Table(_) => vec![at.clone()],
        Yaml::Null | Yaml::Bool(_) | Yaml::Number(_) => {
            return reading.wrong_kind(at, "a provider or a list of providers");
        }
    };
    for entry in entries {
        match &entry.node.value {
            Yaml::Text(id) => {
                if let Some(model) = model(reading, &entry, id) {
                    push(
                        reading,
                        &entry,
                        models,
                        SuiteModel { label: model.clone(), model, parameters: Map::new() },
                    );
                }
            }
            Yaml::Table(_) if entry.get("id").is_some() => {
                table(reading, &entry, None, models);
            }
            // `- openai:gpt-4o: {config: …}`
            Yaml::Table(_) => {
                for (id, member) in entry.members() {
                    table(reading, &member, Some(id), models);
                }
            }
            Yaml::Null | Yaml::Bool(_) | Yaml::Number(_) | Yaml::List(_) => {
                reading.wrong_kind(&entry, "a provider");
            }
        }
    }
}

fn table(reading: &mut Reading<'_>, at: &At<'_>, id: Option<&str>, models: &mut Vec<SuiteModel>) {
    if !matches!(at.node.value, Yaml::Table(_)) {
        return reading.wrong_kind(at, "a table");
    }
    let keys = reading.keys(at, "providers", KEYS);
    let named = keys.get("id").and_then(|at| reading.text(at).map(|id| (at.clone(), id)));
    let (place, id) = match (named, id) {
        (Some(named), _) => named,
        (None, Some(id)) => (at.clone(), id.to_owned()),
        (None, None) => return,
    };
    let model = model(reading, &place, &id);
    let label = keys.get("label").and_then(|at| reading.text(at));
    let parameters = match keys.get("config") {
        Some(config) if matches!(config.node.value, Yaml::Table(_)) => {
            let known = reading.keys(config, "providers.config", CONFIG);
            let members = config.members().into_iter();
            let kept = members.filter(|(name, _)| known.contains_key(name));
            kept.map(|(name, at)| (name.to_owned(), at.node.json())).collect::<Map<_, _>>()
        }
        Some(config) => return reading.wrong_kind(config, "a table"),
        None => Map::new(),
    };
    let is_file = |value: &Value| value.as_str().is_some_and(|text| text.starts_with("file://"));
    for (name, value) in &parameters {
        if is_file(value) {
            reading.report(at, format!("`config.{name}` refers to a file that was not put in"));
        }
    }
    if let Some(model) = model {
        let label = label.unwrap_or_else(|| model.clone());
        push(reading, at, models, SuiteModel { model, label, parameters });
    }
}

fn push(reading: &mut Reading<'_>, at: &At<'_>, models: &mut Vec<SuiteModel>, model: SuiteModel) {
    if models.iter().any(|other| other.label == model.label) {
        let message = format!("another model is called {:?}, too; give it a `label`", model.label);
        return reading.report(at, message);
    }
    models.push(model);
}

/// Our name of a model; reports what is none.
fn model(reading: &mut Reading<'_>, at: &At<'_>, id: &str) -> Option<String> {
    let named = named(id);
    if let Err(why) = &named {
        reading.report(at, why.clone());
    }
    named.ok()
}

/// `openai:chat:gpt-4o` is `openai/gpt-4o`. What has no colon is a name of ours already.
fn named(id: &str) -> Result<String, String> {
    let id = id.trim();
    if id.is_empty() {
        return Err("must not be empty".to_owned());
    }
    if id.starts_with("file://") {
        return Err(format!("{id:?} refers to a file that is no list of models"));
    }
    let head = id.split(':').next().unwrap_or_default();
    if NO_MODELS.contains(&head) {
        return Err(format!("the provider `{head}` is not supported: it is no model of a gateway"));
    }
    let Some((provider, rest)) = id.split_once(':').filter(|_| !head.contains('/')) else {
        return Ok(id.to_owned());
    };
    let Some((_, ours, words)) = PROVIDERS.iter().find(|(theirs, _, _)| *theirs == provider) else {
        let hint = match nearest(provider, PROVIDERS.iter().map(|(theirs, _, _)| *theirs)) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "a name of ours, `provider/model`, is read, too".to_owned(),
        };
        return Err(format!("the provider `{provider}` is not supported ({hint})"));
    };
    let model = match rest.split_once(':') {
        Some((word, _)) if NO_CHATS.contains(&word) => {
            return Err(format!("`{provider}:{word}` is not supported: it is no chat model"));
        }
        Some((word, model)) if words.contains(&word) => model,
        Some(_) | None => rest,
    };
    if model.is_empty() || words.contains(&model) || NO_CHATS.contains(&model) {
        return Err(format!("{id:?} names no model; write it out, such as `{ours}/…`"));
    }
    Ok(format!("{ours}/{model}"))
}
