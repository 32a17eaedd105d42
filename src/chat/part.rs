//! What a message is made of.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Instructions from the application. Anthropic and Gemini carry them beside the messages.
    System,
    /// OpenAI's newer word for [`Role::System`]; other wires treat both alike.
    Developer,
    /// The person or program that asks.
    User,
    /// The model.
    Assistant,
    /// Results of tool calls. On wires without this role they are the user's.
    Tool,
}

/// One piece of a message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Part {
    /// Plain text. `cache` marks the end of a prefix that the provider shall cache.
    Text {
        /// The text; may be empty where only `opaque` matters.
        text: String,
        /// Anthropic's `cache_control` object, verbatim.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cache: Option<Value>,
        /// Provider state that must come back with this text in the next turn.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        opaque: Option<Opaque>,
    },
    /// A picture, sound, or document.
    Media(Media),
    /// The model asks for a tool.
    ToolCall {
        /// Unique within the conversation; made by the gateway where the provider sends none.
        id: String,
        /// The tool's name.
        name: String,
        /// Arguments as JSON text, exactly as the model wrote them: possibly cut, never `null`.
        /// An empty string means no arguments.
        arguments: String,
        /// Provider state that must come back with this call in the next turn.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        opaque: Option<Opaque>,
    },
    /// What a tool answered.
    ToolResult {
        /// The [`Part::ToolCall`] it answers.
        call_id: String,
        /// The tool's name where the wire gave it; Gemini wants it, and codecs look it up by
        /// `call_id` among earlier messages where it is absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
        /// Text and media of the answer.
        parts: Vec<Self>,
        /// Whether the tool failed.
        #[serde(default)]
        is_error: bool,
        /// Anthropic's `cache_control` object, verbatim.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cache: Option<Value>,
    },
    /// The model's thinking, readable or summarised. `opaque` is its signature. Hidden thinking
    /// has an empty text and only the opaque state.
    Reasoning {
        /// May be empty.
        text: String,
        /// Signature or encrypted content that the provider wants back.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        opaque: Option<Opaque>,
    },
    /// The model declines, in words.
    Refusal {
        /// The words.
        text: String,
    },
    /// A block that only one dialect knows (server-tool results, citations, executable code),
    /// verbatim. Carried when the same dialect is spoken at the other end.
    Other {
        /// The dialect's name, such as `anthropic`.
        dialect: String,
        /// The block as it stood on the wire.
        value: Value,
    },
}

/// A picture, sound, or document.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Media {
    /// Where the bytes are.
    pub source: MediaSource,
    /// MIME type where known: `image/png`, `audio/wav`, `application/pdf`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// A file's name, where the caller gave one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// OpenAI's `detail` for images: `low`, `high`, `auto`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Anthropic's `cache_control` object, verbatim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<Value>,
}

/// Where the bytes of a [`Media`] are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MediaSource {
    /// At an `https://` or `gs://` address that the provider fetches. Never a `data:` address:
    /// codecs turn those into [`MediaSource::Base64`].
    Url(String),
    /// Inline, in standard base64, never decoded here.
    Base64(String),
    /// A file the caller uploaded to the provider before; means nothing to another provider.
    FileId(String),
}

/// State that a provider hands out and wants back unchanged in the next turn, and that means
/// nothing to any other provider: Anthropic's thinking signatures, Gemini's thought signatures,
/// encrypted reasoning.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opaque {
    /// What it is, and thereby whose.
    pub kind: OpaqueKind,
    /// The state itself, as text.
    pub value: String,
}

/// Whose opaque state it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OpaqueKind {
    /// `signature` of an Anthropic `thinking` block.
    AnthropicSignature,
    /// `data` of an Anthropic `redacted_thinking` block.
    AnthropicRedacted,
    /// `thoughtSignature` of a Gemini part.
    GeminiSignature,
    /// An entry of OpenRouter-style `reasoning_details`, as JSON text.
    ReasoningDetail,
}

// === impl Part ===

impl Part {
    /// Plain text with nothing attached.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text { text: text.into(), cache: None, opaque: None }
    }

    /// The text of a text part; `None` for every other kind.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text { text, .. } => Some(text),
            Self::Media(_)
            | Self::ToolCall { .. }
            | Self::ToolResult { .. }
            | Self::Reasoning { .. }
            | Self::Refusal { .. }
            | Self::Other { .. } => None,
        }
    }
}
