//! Which endpoint of which dialect a request is for, by its path.

use http::{HeaderMap, Method};

use super::engine::SimRequest;
use crate::dialect::Dialect;

/// An endpoint of a simulated provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Endpoint {
    /// A completion.
    Chat(ChatPath),
    /// OpenAI's completions from before chat.
    LegacyCompletion,
    /// OpenAI's embeddings.
    Embeddings,
    /// Gemini's embeddings of one model, of one text or several.
    GeminiEmbeddings { model: String, batch: bool },
    /// How many tokens a request has.
    CountTokens { dialect: Dialect, model: String },
    /// All models, or one.
    Models { dialect: Dialect, id: Option<String> },
    /// Nothing we know.
    Unknown { dialect: Dialect },
}

/// A completion, as far as the path tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ChatPath {
    pub(super) dialect: Dialect,
    /// Gemini names the model in the path.
    pub(super) model: Option<String>,
    /// Gemini asks for a stream in the path.
    pub(super) stream: Option<bool>,
    /// Gemini without `alt=sse` streams the elements of one JSON array.
    pub(super) array: bool,
}

// === impl Endpoint ===

impl Endpoint {
    /// The endpoint; prefixes such as `/openai/v1` do not matter.
    pub(super) fn of(request: &SimRequest<'_>) -> Self {
        let SimRequest { method, path: target, headers, host, .. } = *request;
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let chat =
            |dialect| Self::Chat(ChatPath { dialect, model: None, stream: None, array: false });
        if method == Method::GET {
            return Self::of_get(path, guess(host, path, headers));
        }
        if path.ends_with("/chat/completions") {
            chat(Dialect::OpenAiChat)
        } else if path.ends_with("/completions") {
            Self::LegacyCompletion
        } else if path.ends_with("/embeddings") {
            Self::Embeddings
        } else if path.ends_with("/messages") {
            chat(Dialect::Anthropic)
        } else if path.ends_with("/messages/count_tokens") {
            Self::CountTokens { dialect: Dialect::Anthropic, model: String::new() }
        } else {
            Self::of_gemini(path, query)
                .unwrap_or(Self::Unknown { dialect: guess(host, path, headers) })
        }
    }

    fn of_gemini(path: &str, query: &str) -> Option<Self> {
        let (_, rest) = path.rsplit_once("/models/")?;
        let (model, verb) = rest.rsplit_once(':')?;
        let (dialect, model) = (Dialect::Gemini, model.to_owned());
        Some(match verb {
            "generateContent" => Self::Chat(ChatPath {
                dialect,
                model: Some(model),
                stream: Some(false),
                array: false,
            }),
            "streamGenerateContent" => {
                let array = !query.split('&').any(|pair| pair == "alt=sse");
                Self::Chat(ChatPath { dialect, model: Some(model), stream: Some(true), array })
            }
            "batchEmbedContents" => Self::GeminiEmbeddings { model, batch: true },
            "embedContent" => Self::GeminiEmbeddings { model, batch: false },
            "countTokens" => Self::CountTokens { dialect, model },
            _ => return None,
        })
    }

    fn of_get(path: &str, dialect: Dialect) -> Self {
        if path.ends_with("/models") {
            return Self::Models { dialect, id: None };
        }
        match path.rsplit_once("/models/") {
            Some((_, id)) if !id.is_empty() => Self::Models { dialect, id: Some(id.to_owned()) },
            _ => Self::Unknown { dialect },
        }
    }

    /// Whose errors this endpoint speaks.
    pub(super) fn dialect(&self) -> Dialect {
        match self {
            Self::Chat(ChatPath { dialect, .. })
            | Self::CountTokens { dialect, .. }
            | Self::Models { dialect, .. }
            | Self::Unknown { dialect } => *dialect,
            Self::LegacyCompletion | Self::Embeddings => Dialect::OpenAiChat,
            Self::GeminiEmbeddings { .. } => Dialect::Gemini,
        }
    }
}

/// Whose endpoint a path is that several dialects have.
fn guess(host: &str, path: &str, headers: &HeaderMap) -> Dialect {
    let has = |name: &str| headers.contains_key(name);
    if host == "anthropic" || has("anthropic-version") || path.contains("/messages") {
        Dialect::Anthropic
    } else if host == "gemini" || has("x-goog-api-key") || path.contains("/v1beta") {
        Dialect::Gemini
    } else {
        Dialect::OpenAiChat
    }
}
