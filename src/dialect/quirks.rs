//! Where a provider departs from its dialect: a closed, typed list, not scripting.
//!
//! Needed by two providers, or by one and expressible: a quirk. The day a quirk needs a condition
//! on the data, it is a dialect.

use serde::{Deserialize, Serialize};

use super::NativePrefill;
use crate::units::HumanDuration;

/// Departures of one provider from its dialect. The default is no departure.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Quirks {
    /// What the token limit is called on `openai-chat`.
    pub max_tokens_param: MaxTokensParam,
    /// The role of instructions on `openai-chat`.
    pub system_role: SystemRole,
    /// Top-level request fields, by their wire name, that the provider refuses. They are left out
    /// and reported in `x-tidegate-dropped`.
    pub drop_params: Vec<String>,
    /// How usage of a stream is asked for on `openai-chat`.
    pub stream_usage: StreamUsage,
    /// Whether a stream on `openai-chat` says why it ended. Where one that should does not, it was
    /// cut, whatever marker follows.
    pub finish_reason: StreamFinish,
    /// The path of completions below the base URL, where it is not the dialect's own. `{model}`
    /// stands for the model.
    pub path: Option<String>,
    /// How its models go on from an answer that was begun, which is what continuing a broken stream
    /// takes. A model may say otherwise.
    pub native_prefill: NativePrefill,
    /// Whether it takes `prompt_cache_key`, by which it keeps together what begins alike.
    pub prompt_cache_key: bool,
    /// How long it keeps the beginning of a prompt after it was last read. Absent: 5 minutes, which
    /// most do.
    pub prefix_cache_ttl: Option<HumanDuration>,
}

/// What the token limit is called on `openai-chat`.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum MaxTokensParam {
    /// As the caller called it; `max_tokens` in translated requests.
    #[default]
    AsSent,
    /// Always `max_tokens`.
    MaxTokens,
    /// Always `max_completion_tokens`.
    MaxCompletionTokens,
}

/// The role of instructions on `openai-chat`.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum SystemRole {
    /// As the caller called it.
    #[default]
    AsSent,
    /// `developer` becomes `system` (a body that has it is then decoded, not passed through).
    System,
}

/// How usage of a stream is asked for on `openai-chat`.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum StreamUsage {
    /// With `stream_options.include_usage`, which the gateway adds where the caller did not.
    #[default]
    Option,
    /// It always comes; `stream_options` is not sent.
    Always,
}

/// Whether a stream on `openai-chat` says why it ended.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum StreamFinish {
    /// Always, as OpenAI does. A stream whose events never have the field at all counts as whole
    /// where the last of them has the usage of the whole answer.
    #[default]
    Required,
    /// Not always: `[DONE]` alone makes an answer whole.
    MayBeMissing,
}
