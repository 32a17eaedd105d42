//! What may be asked of the cache, and which answers may be kept: pure.
//!
//! An answer is kept only where giving it again is as good as asking again: it is whole, a model's
//! own, what was asked for, says the same tomorrow, and called nothing. Whatever is in doubt is not
//! kept, which costs money and is not wrong; but the middle of a long text is not looked at, see
//! `words`. Each reason has a word of its own for the metrics.

use std::time::Duration;

use super::RouteCacheSettings;
use super::words;
use crate::chat::{
    ChatRequest, Completion, Extra, FinishReason, MediaSource, Part, Role, ToolChoice,
};

#[cfg(test)]
mod tests;

/// What a request's headers say of the cache.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CacheWish {
    /// `x-tidegate-cache`; `None` leaves it to the route.
    pub mode: Option<CacheMode>,
    /// `Cache-Control: no-store`: neither answered from the cache nor kept.
    pub no_store: bool,
    /// `Cache-Control: no-cache`: not answered from the cache; a fresh answer is kept.
    pub no_cache: bool,
    /// `Cache-Control: max-age`: the oldest answer that will do.
    pub max_age: Option<Duration>,
}

/// `x-tidegate-cache`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheMode {
    /// No cache.
    Off,
    /// Answers to the same request.
    Exact,
    /// Answers to the same request, or to the same in other words.
    Semantic,
}

/// Why a request is neither answered from the cache nor its answer kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bypass {
    /// `x-tidegate-cache: off`.
    Off,
    /// `Cache-Control: no-store`.
    NoStore,
    /// The request is too large to be looked at.
    TooLarge,
    /// It cannot be read, or can be read in two ways.
    Unreadable,
    /// Several answers are asked for.
    SeveralChoices,
    /// A higher temperature than the route keeps answers of.
    Temperature,
    /// The provider is to keep something, or has kept something, that the answer depends on.
    Stateful,
    /// Functions are offered, of which nobody said that they only look.
    Tools,
    /// Functions are offered that the provider runs itself.
    HostedTools,
    /// It is about the day it is asked on.
    TimeSensitive,
    /// Something is to be fetched from elsewhere, which may be something else next time.
    RemoteMedia,
    /// The answer is to be spoken.
    Sound,
}

/// Why an answer is not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unkept {
    /// It is a lesser answer than was asked for, or the gateway's own words.
    Degraded,
    /// It broke off, and another attempt went on.
    Spliced,
    /// It did not come to its own end: a limit, a filter, a pause.
    Unfinished,
    /// It calls a function.
    ToolCall,
    /// The model declined.
    Refusal,
    /// It says nothing.
    Empty,
    /// It has parts that only its provider knows.
    ForeignParts,
    /// It has not one alternative.
    SeveralChoices,
    /// It speaks of the day it was given on.
    TimeSensitive,
    /// It is larger than what is kept.
    TooLarge,
    /// It cannot be read.
    Unreadable,
    /// What it would belong to was given up while it was made.
    Purged,
}

/// An answer, and how it came about.
#[derive(Debug, Clone, Copy)]
pub struct Answered<'a> {
    /// What was said.
    pub completion: &'a Completion,
    /// How far it is from what was asked for, 0 to 4.
    pub degradation: u8,
    /// Whether another attempt continued it.
    pub is_spliced: bool,
}

/// Fields of requests that lean on something a provider has kept.
const STATEFUL: [&str; 4] = ["previous_response_id", "conversation", "container", "background"];
/// Fields of requests that have the provider look something up or run something.
const HOSTED: [&str; 7] = [
    "web_search_options",
    "web_search",
    "search_parameters",
    "search_domain_filter",
    "search_recency_filter",
    "plugins",
    "mcp_servers",
];

// === impl CacheWish ===

impl CacheWish {
    /// Whether the request wants nothing of the cache.
    ///
    /// # Errors
    ///
    /// Why not.
    pub fn check(&self) -> Result<(), Bypass> {
        match (self.mode, self.no_store) {
            (Some(CacheMode::Off), _) => Err(Bypass::Off),
            (None | Some(CacheMode::Exact | CacheMode::Semantic), true) => Err(Bypass::NoStore),
            (None | Some(CacheMode::Exact | CacheMode::Semantic), false) => Ok(()),
        }
    }

    /// Whether an answer that is past its time may be given where there is no other.
    pub fn takes_stale(&self) -> bool {
        self.check().is_ok() && !self.no_cache && self.max_age.is_none()
    }
}

/// Whether the cache may be asked for the answer to a conversation.
///
/// # Errors
///
/// Why not.
pub fn may_ask(chat: &ChatRequest, settings: &RouteCacheSettings) -> Result<(), Bypass> {
    let best_of = chat.extra.get("best_of").and_then(serde_json::Value::as_u64);
    if chat.n.unwrap_or(1) != 1 || best_of.unwrap_or(1) != 1 {
        return Err(Bypass::SeveralChoices);
    }
    if chat.sampling.temperature.is_some_and(|asked| asked > settings.max_temperature) {
        return Err(Bypass::Temperature);
    }
    let is_asked = |key: &&str| !is_blank(&chat.extra, key);
    if STATEFUL.iter().any(&is_asked) || wants_storing(&chat.extra) {
        return Err(Bypass::Stateful);
    }
    if chat.tools.iter().any(|tool| tool.hosted.is_some()) || HOSTED.iter().any(&is_asked) {
        return Err(Bypass::HostedTools);
    }
    let may_call = !chat.tools.is_empty() && chat.tool_choice != Some(ToolChoice::None);
    if may_call && !settings.tools {
        return Err(Bypass::Tools);
    }
    if is_asked(&"audio") || is_asked(&"modalities") {
        return Err(Bypass::Sound);
    }
    if chat.messages.iter().any(|message| has_remote(&message.parts)) {
        return Err(Bypass::RemoteMedia);
    }
    let texts = chat.messages.iter().flat_map(|message| {
        message.parts.iter().filter_map(|part| Some((message.role, part.as_text()?)))
    });
    if !settings.time_sensitive && are_of_the_day(texts) {
        return Err(Bypass::TimeSensitive);
    }
    Ok(())
}

/// As [`may_ask`], for a conversation of which nothing is to be looked at but these.
///
/// # Errors
///
/// Why not.
pub fn may_ask_texts<'a>(
    texts: impl IntoIterator<Item = (Role, &'a str)>,
    temperature: Option<f64>,
    settings: &RouteCacheSettings,
) -> Result<(), Bypass> {
    if temperature.is_some_and(|asked| asked > settings.max_temperature) {
        return Err(Bypass::Temperature);
    }
    if !settings.time_sensitive && are_of_the_day(texts) {
        return Err(Bypass::TimeSensitive);
    }
    Ok(())
}

/// Whether an answer may be kept.
///
/// # Errors
///
/// Why not.
pub fn may_keep(answered: Answered<'_>, settings: &RouteCacheSettings) -> Result<(), Unkept> {
    if answered.degradation != 0 {
        return Err(Unkept::Degraded);
    }
    if answered.is_spliced {
        return Err(Unkept::Spliced);
    }
    let [choice] = answered.completion.choices.as_slice() else {
        return Err(Unkept::SeveralChoices);
    };
    let mut said = String::new();
    for part in &choice.parts {
        match part {
            Part::Text { text, .. } => said.push_str(text),
            Part::Reasoning { .. } => {}
            Part::ToolCall { .. } => return Err(Unkept::ToolCall),
            Part::Refusal { .. } => return Err(Unkept::Refusal),
            Part::Media(_) | Part::ToolResult { .. } | Part::Other { .. } => {
                return Err(Unkept::ForeignParts);
            }
        }
    }
    match &choice.finish {
        Some(FinishReason::Stop | FinishReason::StopSequence(_)) => {}
        Some(FinishReason::ToolCalls) => return Err(Unkept::ToolCall),
        Some(FinishReason::Refusal | FinishReason::ContentFilter) => return Err(Unkept::Refusal),
        Some(FinishReason::Length | FinishReason::Pause | FinishReason::Other(_)) | None => {
            return Err(Unkept::Unfinished);
        }
    }
    if said.trim().is_empty() {
        return Err(Unkept::Empty);
    }
    if words::declines(&said) {
        return Err(Unkept::Refusal);
    }
    if !settings.time_sensitive && words::tells_the_day(&said) {
        return Err(Unkept::TimeSensitive);
    }
    Ok(())
}

/// Whether a field is missing or says nothing.
fn is_blank(fields: &Extra, key: &str) -> bool {
    use serde_json::Value;
    match fields.get(key) {
        None | Some(Value::Null | Value::Bool(false)) => true,
        Some(Value::Array(list)) => list.is_empty(),
        Some(Value::Bool(true) | Value::Number(_) | Value::String(_) | Value::Object(_)) => false,
    }
}

/// Whether the provider is to keep the answer for the caller to come back to.
fn wants_storing(fields: &Extra) -> bool {
    fields.get("store") == Some(&serde_json::Value::Bool(true))
}

fn has_remote(parts: &[Part]) -> bool {
    parts.iter().any(|part| match part {
        Part::Media(media) => match media.source {
            MediaSource::Url(_) => true,
            MediaSource::Base64(_) | MediaSource::FileId(_) => false,
        },
        Part::ToolResult { parts, .. } => has_remote(parts),
        // One dialect's own blocks may name anything.
        Part::Other { .. } => true,
        Part::Text { .. }
        | Part::ToolCall { .. }
        | Part::Reasoning { .. }
        | Part::Refusal { .. } => false,
    })
}

/// Whether the answer depends on the day: by what is asked, or by a time among the instructions.
fn are_of_the_day<'a>(texts: impl IntoIterator<Item = (Role, &'a str)>) -> bool {
    texts.into_iter().any(|(role, text)| match role {
        Role::User => words::asks_of_the_day(text),
        Role::System | Role::Developer => words::has_timestamp(text) || words::tells_the_day(text),
        Role::Assistant | Role::Tool => false,
    })
}

// === impl Bypass ===

impl Bypass {
    /// The word for metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::NoStore => "no_store",
            Self::TooLarge => "too_large",
            Self::Unreadable => "unreadable",
            Self::SeveralChoices => "several_choices",
            Self::Temperature => "temperature",
            Self::Stateful => "stateful",
            Self::Tools => "tools",
            Self::HostedTools => "hosted_tools",
            Self::TimeSensitive => "time_sensitive",
            Self::RemoteMedia => "remote_media",
            Self::Sound => "sound",
        }
    }
}

// === impl Unkept ===

impl Unkept {
    /// The word for metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Degraded => "degraded",
            Self::Spliced => "spliced",
            Self::Unfinished => "unfinished",
            Self::ToolCall => "tool_call",
            Self::Refusal => "refusal",
            Self::Empty => "empty",
            Self::ForeignParts => "foreign_parts",
            Self::SeveralChoices => "several_choices",
            Self::TimeSensitive => "time_sensitive",
            Self::TooLarge => "too_large",
            Self::Unreadable => "unreadable",
            Self::Purged => "purged",
        }
    }
}
