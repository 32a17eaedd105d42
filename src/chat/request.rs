//! What a caller asks for.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Extra, Part, Role};

/// A request for a completion, in no wire's words.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ChatRequest {
    /// What the caller asked for: a route, `provider/model`, or a model.
    pub model: String,
    /// The conversation, system messages included and in place.
    pub messages: Vec<Message>,
    /// Tools the model may call.
    pub tools: Vec<Tool>,
    /// Whether and which tool to call; `None` leaves it to the provider.
    pub tool_choice: Option<ToolChoice>,
    /// Whether several calls may come in one answer.
    pub parallel_tool_calls: Option<bool>,
    /// The form of the answer; `None` is free text.
    pub response_format: Option<ResponseFormat>,
    /// Randomness and stops.
    pub sampling: Sampling,
    /// The most tokens to generate, thinking included.
    pub max_tokens: Option<u64>,
    /// How many alternatives to generate; `None` is one.
    pub n: Option<u32>,
    /// Log probabilities with this many alternatives a token (0: of the chosen token only).
    pub logprobs: Option<u32>,
    /// How much to think.
    pub reasoning: Option<Reasoning>,
    /// Whether to stream.
    pub stream: bool,
    /// Whether the caller wants usage at the end of a stream. Anthropic and Gemini always send it.
    pub include_usage: bool,
    /// The end user on whose behalf the caller asks.
    pub user: Option<String>,
    /// The dialect's name that [`ChatRequest::extra`] belongs to, such as `openai-chat`.
    pub extra_dialect: String,
    /// Fields of the caller's dialect that are not modelled, verbatim.
    pub extra: Extra,
}

/// One turn.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said, in order.
    pub parts: Vec<Part>,
    /// OpenAI's `name` of a participant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// A function the model may ask for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tool {
    /// Its name.
    pub name: String,
    /// What it does, for the model to read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// JSON Schema of the arguments; `None` where the tool takes none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameters: Option<Value>,
    /// Whether the provider shall enforce the schema.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strict: Option<bool>,
    /// Anthropic's `cache_control` object, verbatim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<Value>,
    /// A tool that only one dialect knows (hosted search, code execution): the whole declaration
    /// and the dialect's name; the other fields are then empty but for `name`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hosted: Option<(String, Value)>,
}

/// Whether and which tool to call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToolChoice {
    /// The model decides.
    Auto,
    /// No tool.
    None,
    /// Some tool.
    Required,
    /// This tool.
    Tool(String),
    /// One of these tools, or, when the flag is set, some tool of these (OpenAI's
    /// `allowed_tools`).
    Allowed {
        /// The names.
        names: Vec<String>,
        /// Whether one of them must be called.
        required: bool,
    },
}

/// The form of the answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResponseFormat {
    /// Free text, said explicitly.
    Text,
    /// Any JSON object.
    Json,
    /// JSON that follows a schema.
    JsonSchema {
        /// A name for the schema.
        name: String,
        /// What it describes.
        description: Option<String>,
        /// The JSON Schema.
        schema: Value,
        /// Whether the provider shall enforce it.
        strict: Option<bool>,
    },
}

/// Randomness and stops. `None` leaves a value to the provider.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Sampling {
    /// 0 to 2 (1 on Anthropic).
    pub temperature: Option<f64>,
    /// 0 to 1.
    pub top_p: Option<f64>,
    /// From 1.
    pub top_k: Option<u64>,
    /// -2 to 2.
    pub frequency_penalty: Option<f64>,
    /// -2 to 2.
    pub presence_penalty: Option<f64>,
    /// Best-effort determinism.
    pub seed: Option<i64>,
    /// Texts that end the answer.
    pub stop: Vec<String>,
}

/// How much to think.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reasoning {
    /// In words, as OpenAI and newer Gemini models take it.
    pub effort: Option<Effort>,
    /// In tokens, as Anthropic and Gemini 2.5 take it; 0 switches thinking off.
    pub budget_tokens: Option<u64>,
    /// Whether the caller wants to read the thoughts; `None` is the dialect's default.
    pub visible: Option<bool>,
}

/// How much to think, in words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Effort {
    /// Not at all.
    None,
    /// As little as possible.
    Minimal,
    /// A little.
    Low,
    /// The usual.
    Medium,
    /// A lot.
    High,
    /// As much as possible.
    XHigh,
}

// === impl Message ===

impl Message {
    /// A message of one plain text.
    pub fn text(role: Role, text: impl Into<String>) -> Self {
        Self { role, parts: vec![Part::text(text)], name: None }
    }
}

// === impl Effort ===

impl Effort {
    /// A token budget that stands for this effort on wires that count tokens. The steps are those
    /// OpenRouter publishes (share of the output limit), taken of 32,768 tokens.
    pub fn budget_tokens(self) -> u64 {
        match self {
            Self::None => 0,
            Self::Minimal => 1_024,
            Self::Low => 4_096,
            Self::Medium => 8_192,
            Self::High => 16_384,
            Self::XHigh => 31_744,
        }
    }

    /// The effort that stands for a token budget on wires that take words.
    pub fn from_budget_tokens(tokens: u64) -> Self {
        match tokens {
            0 => Self::None,
            1..=1_024 => Self::Minimal,
            1_025..=4_096 => Self::Low,
            4_097..=8_192 => Self::Medium,
            8_193..=24_576 => Self::High,
            _ => Self::XHigh,
        }
    }
}
