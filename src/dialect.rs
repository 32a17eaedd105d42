//! Wire formats, both ways: towards providers that speak them and towards callers that do.
//!
//! A dialect is code, a provider is data. Codecs are stateless values, do no I/O, read no clock
//! and never panic on input from the network. Having both directions is what gives round-trip
//! tests for free and lets the simulator answer with the encoder that serves callers.
//!
//! Where both ends speak the same dialect nothing is decoded: a [`Scanner`] looks at each frame as
//! it passes and says what it is.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::chat::{ChatRequest, Completion, Delta, FinishReason, Usage};
use crate::failure::Failure;
use crate::rejection::Rejection;

mod anthropic;
mod around;
mod envelope;
pub mod gemini;
pub(crate) mod json;
mod mold;
mod openai_chat;
mod prefill;
mod prompt;
mod quirks;
mod retry_after;
pub mod sse;
mod stream_break;
mod summary;
mod words;

pub use anthropic::{Breakpoints, decode_count_tokens, encode_count_tokens, is_marked, mark};
pub use envelope::{Envelope, Needs, Splice, append_member, extend_frame};
pub use openai_chat::{PlainRequest, decode_text_request, encode_text_reply, text_stream_encoder};
pub use prefill::NativePrefill;
pub use prompt::{PromptParts, prompt_parts};
pub use quirks::{MaxTokensParam, Quirks, StreamFinish, StreamUsage, SystemRole};
pub use retry_after::of_headers as retry_after;
pub use stream_break::StreamBreak;
pub use summary::{StreamHead, StreamSummary, TextSample};

use sse::SseEvent;

/// Plain data as JSON. Writing it into memory cannot fail. (`Value::to_string` goes through the
/// machinery of formatting, which costs six times as much.)
fn json_bytes(value: &impl Serialize) -> Vec<u8> {
    let written = serde_json::to_vec(value);
    debug_assert!(written.is_ok(), "it is plain data");
    written.unwrap_or_default()
}

/// A wire format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Dialect {
    /// OpenAI's chat completions, and the many that follow it.
    #[serde(rename = "openai-chat")]
    OpenAiChat,
    /// Anthropic's Messages.
    Anthropic,
    /// Gemini's `generateContent` and `streamGenerateContent`.
    Gemini,
}

/// One wire format, both ways.
pub trait Codec: fmt::Debug + Send + Sync {
    /// Which one.
    fn dialect(&self) -> Dialect;

    // Towards a provider.

    /// Writes a request for `target`. What the wire cannot say is refused with the field's name,
    /// or, where `target.quirks` says so, left out and noted in `dropped`.
    ///
    /// # Errors
    ///
    /// [`Rejection::Unsupported`] names the field that cannot be carried.
    fn encode_request(
        &self,
        chat: &ChatRequest,
        target: &RequestTarget<'_>,
        dropped: &mut Dropped,
    ) -> Result<WireRequest, Rejection>;

    /// Reads a whole answer (HTTP 200).
    ///
    /// # Errors
    ///
    /// [`FailureKind::Degenerate`](crate::failure::FailureKind) where the body cannot be read; a
    /// provider's error inside a 200 is classified like an error status.
    fn decode_reply(&self, body: &[u8]) -> Result<Completion, Failure>;

    /// Reads a streamed answer, one event at a time.
    fn stream_decoder(&self) -> Box<dyn StreamDecoder>;

    /// Looks at the frames of a streamed answer without decoding them.
    fn scanner(&self) -> Box<dyn Scanner>;

    /// Looks at a whole answer (HTTP 200) without decoding its content: usage, finish reason, a
    /// sample of the text.
    ///
    /// # Errors
    ///
    /// As [`Codec::decode_reply`].
    fn scan_reply(&self, body: &[u8]) -> Result<StreamSummary, Failure>;

    /// Classifies an error answer by status, headers and body; takes over message, code, param and
    /// the pause that is asked for (`retry-after-ms`, then `retry-after` as seconds or as a date,
    /// then what the body says where the wire has a place for it).
    fn decode_failure(&self, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Failure;

    // Towards a caller.

    /// Reads a caller's request.
    ///
    /// # Errors
    ///
    /// [`Rejection::Invalid`] with the position of malformed JSON, or the path of a value that has
    /// the wrong type or is missing.
    fn decode_request(&self, body: &[u8]) -> Result<ChatRequest, Rejection>;

    /// Writes a whole answer.
    fn encode_reply(&self, completion: &Completion, context: &ReplyContext) -> Vec<u8>;

    /// Writes a streamed answer, one delta at a time.
    fn stream_encoder(&self, context: ReplyContext) -> Box<dyn StreamEncoder>;

    /// Writes an error answer's body.
    fn encode_error(&self, rejection: &Rejection, request_id: &str) -> Vec<u8>;

    /// Writes the event that ends a committed stream with an error, framed for the wire. No
    /// terminal marker follows it.
    fn encode_stream_error(&self, broken: &StreamBreak<'_>) -> Vec<u8>;

    /// What a committed, complete same-wire stream still needs when the provider left its last
    /// marker out (`[DONE]`); empty for most.
    fn missing_terminal(&self) -> &'static [u8] {
        b""
    }

    /// Whether a caller's messages hold state of another dialect's provider, so that they cannot
    /// pass to a provider of this one unread. May be wrong about text that looks like it; that
    /// costs a decode.
    fn holds_foreign_state(&self, _messages: &[u8]) -> bool {
        false
    }
}

/// Reads one streamed answer.
pub trait StreamDecoder: fmt::Debug + Send {
    /// Says what is known of the stream beforehand. Without it, the wire's last marker is believed.
    fn expect(&mut self, _expected: Expected) {}

    /// Reads one event and appends what it means.
    ///
    /// # Errors
    ///
    /// The provider's own error event, or an event that breaks the grammar, as a
    /// [`FailureKind::MidStream`](crate::failure::FailureKind) or a more telling kind (an overload
    /// before the first token is an overload). The stream is over then.
    fn push(&mut self, event: &SseEvent<'_>, out: &mut Vec<Delta>) -> Result<(), Failure>;

    /// The text of a frame that says nothing else, and whose alternative it is, where the frame is
    /// so like the one before that it need not be read. It counts as pushed; the text may be empty.
    /// Where there is none, the frame's event is to be [pushed](StreamDecoder::push).
    fn text_of<'a>(&mut self, _frame: &'a [u8]) -> Option<(u32, Cow<'a, str>)> {
        None
    }

    /// Notes that the connection ended. Appends the final usage and [`Delta::End`] where the
    /// wire's end was seen or is implied (a finish reason where no marker came) and `push` has not
    /// appended them yet.
    ///
    /// # Errors
    ///
    /// [`FailureKind::MidStream`](crate::failure::FailureKind) where the stream was cut.
    fn finish(&mut self, out: &mut Vec<Delta>) -> Result<(), Failure>;
}

/// Writes one streamed answer.
pub trait StreamEncoder: fmt::Debug + Send {
    /// Appends what `delta` is on this wire; often nothing, sometimes several events. Every event
    /// is whole.
    fn push(&mut self, delta: &Delta, out: &mut Vec<u8>);

    /// The same for who has no more use for the delta.
    fn push_owned(&mut self, delta: Delta, out: &mut Vec<u8>) {
        self.push(&delta, out);
    }

    /// The same for a piece of an alternative's text, which is not empty.
    fn push_text(&mut self, choice: u32, text: &str, out: &mut Vec<u8>) {
        self.push_owned(Delta::Text { choice, text: text.to_owned() }, out);
    }

    /// What every event of the stream says of the answer, where the wire repeats it.
    fn head(&self) -> StreamHead {
        StreamHead::default()
    }

    /// Sets the gateway's own words (cost, target) that ride in the usage event's `tidegate` field
    /// where the wire tolerates it. Called before [`Delta::Usage`] is pushed.
    fn set_extension(&mut self, extension: Value);
}

/// Looks at frames as they pass.
pub trait Scanner: fmt::Debug + Send {
    /// Says what one whole frame (with its blank line) is and remembers what it counted.
    ///
    /// # Errors
    ///
    /// The provider's error event, or a frame that cannot be read.
    fn scan(&mut self, frame: &[u8]) -> Result<FrameKind, Failure>;

    /// Says what is known of the stream beforehand. Without it, the wire's last marker is believed.
    fn expect(&mut self, _expected: Expected) {}

    /// Whether the last frame, which is part of the answer, also has the usage of the whole of it,
    /// so that the gateway's own words belong there.
    fn has_closing_usage(&self) -> bool {
        false
    }

    /// Whether the wire's end was seen or is implied.
    fn is_complete(&self) -> bool;

    /// Whether the wire's very last marker was forwarded (see [`Codec::missing_terminal`]).
    fn saw_terminal(&self) -> bool;

    /// What was counted so far.
    fn summary(&self) -> &StreamSummary;
}

/// What is known of a streamed answer before it comes, by those who know the request and the
/// provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expected {
    /// How many alternatives were asked for, at least 1: without a last marker, the stream has not
    /// ended before that many have.
    pub choices: u32,
    /// Whether the answer has to say why it ended.
    pub finish: StreamFinish,
}

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameKind {
    /// Nothing of the answer: comment, ping, envelope, role.
    Preamble,
    /// A piece of the answer; the first one is the first token.
    Semantic,
    /// Only usage. Left out where the caller did not ask for it.
    UsageOnly,
    /// The wire's last event.
    Terminal,
}

/// Where a request is going, as far as a codec needs to know.
#[derive(Debug, Clone, Copy)]
pub struct RequestTarget<'a> {
    /// The model as the provider names it.
    pub model: &'a str,
    /// `provider/model`, for error messages.
    pub label: &'a str,
    /// Where the provider departs from the dialect.
    pub quirks: &'a Quirks,
    /// The model's output limit in tokens, where known.
    pub output_tokens: Option<u64>,
}

/// A request as it goes upstream, less the address and the credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WireRequest {
    /// Path and query below the provider's base URL, such as `/chat/completions`.
    pub path: String,
    /// Headers the dialect needs, such as `anthropic-version`; `content-type` is understood.
    pub headers: Vec<(http::HeaderName, http::HeaderValue)>,
    /// The JSON body.
    pub body: Bytes,
}

/// What the answer's writer needs to know besides the answer.
#[derive(Debug, Clone)]
pub struct ReplyContext {
    /// The id to use where the provider sent none, and on wires whose ids look different.
    pub request_id: String,
    /// The model to name where the provider sent none.
    pub model: String,
    /// Seconds since 1970, where the provider sent none.
    pub created: u64,
    /// Whether a stream shall end with usage (OpenAI's `stream_options.include_usage`).
    pub include_usage: bool,
}

/// Fields that were left out because a quirk says the provider does not take them; reported in
/// `x-tidegate-dropped`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dropped(pub Vec<String>);

// === impl Dialect ===

impl Dialect {
    /// All dialects.
    pub const ALL: [Self; 3] = [Self::OpenAiChat, Self::Anthropic, Self::Gemini];

    /// The codec of this dialect. A new dialect is a variant, a line here and a module beside this.
    pub fn codec(self) -> &'static dyn Codec {
        match self {
            Self::OpenAiChat => &openai_chat::OpenAiChat,
            Self::Anthropic => &anthropic::Anthropic,
            Self::Gemini => &gemini::Gemini,
        }
    }

    /// Its name in files.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OpenAiChat => "openai-chat",
            Self::Anthropic => "anthropic",
            Self::Gemini => "gemini",
        }
    }
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

// === impl Expected ===

impl Expected {
    /// What a request for `choices` alternatives, where it says so, has to expect of a provider
    /// with these quirks.
    pub fn of(quirks: &Quirks, choices: Option<u64>) -> Self {
        let choices = u32::try_from(choices.unwrap_or(1).max(1)).unwrap_or(u32::MAX);
        Self { choices, finish: quirks.finish_reason }
    }
}

// === impl Dropped ===

impl Dropped {
    /// Notes a field, once.
    pub fn add(&mut self, field: impl Into<String>) {
        let field = field.into();
        if !self.0.contains(&field) {
            self.0.push(field);
        }
    }
}

/// Merges what later events of a stream say about usage into what earlier ones said: a count that
/// is present wins over one that is absent, and the larger of two wins, because providers repeat
/// counters, grow them, or null them on some events.
pub(crate) fn merge_usage(into: &mut Option<Usage>, update: Usage) {
    let merged = into.get_or_insert_with(Usage::default);
    merged.input = merged.input.max(update.input);
    merged.cached_input = merged.cached_input.max(update.cached_input);
    merged.cache_write = merged.cache_write.max(update.cache_write);
    merged.output = merged.output.max(update.output);
    merged.reasoning = merged.reasoning.max(update.reasoning);
}

/// Whether an ending is worth keeping over another one seen before it.
pub(crate) fn keep_finish(seen: &mut Option<FinishReason>, next: FinishReason) {
    if seen.is_none() {
        *seen = Some(next);
    }
}
