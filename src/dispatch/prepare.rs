//! Writes a call in the words of one target.

use bytes::Bytes;
use http::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_TYPE, USER_AGENT};
use http::{HeaderMap, HeaderValue};

use super::Call;
use super::prefix::Hints;
use crate::chat::ChatRequest;
use crate::config::Target;
use crate::dialect::gemini::{self, EmbeddingsRequest};
use crate::dialect::{self, Dialect, Dropped, Envelope, RequestTarget};
use crate::journal::EndpointKind;
use crate::rejection::Rejection;

/// How many headers a request has beside those of its endpoint, about; growing means to place them
/// all again.
const USUAL_HEADERS: usize = 8;

/// A call as one target wants it.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) path: String,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    pub(super) dropped: Dropped,
    /// How the answer gets from the provider's wire to the caller's.
    pub(super) carriage: Carriage,
    /// Whether the answer comes as a stream and is collected, because the caller wants it whole.
    pub(super) is_collected: bool,
}

/// How an answer gets from the provider's wire to the caller's.
#[derive(Debug, Clone)]
pub(super) enum Carriage {
    /// It is passed on as it comes: both speak the same wire.
    Pass,
    /// It is decoded and encoded.
    Chat,
    /// It is decoded as a conversation's, and encoded as a text completion.
    Text,
    /// It is vectors from Gemini, wanted in this way.
    Vectors(EmbeddingsRequest),
    /// It is decoded and kept, to be joined to the beginning of an answer that broke off.
    Onward,
}

/// Writes one call for one target after the other.
#[derive(Debug, Default)]
pub(super) struct Scribe {
    /// The call in canonical words, decoded once, when the first target needs it.
    decoded: Option<Result<Box<ChatRequest>, Rejection>>,
    /// Whether it is no longer what the caller sent.
    is_rewritten: bool,
    /// The call as it is asked for where the caller wants an answer whole that comes as a stream.
    collected: Option<Box<Envelope>>,
    /// Whether its last turn is the beginning of an answer that broke off.
    is_onward: bool,
    /// What providers are told for their caches.
    hints: Option<Hints>,
}

// === impl Scribe ===

impl Scribe {
    /// With `is_collected`, providers are asked for a stream although the caller is not.
    pub(super) fn new(call: &Call, is_collected: bool, hints: Option<Hints>) -> Self {
        let collected = is_collected.then(|| Box::new(call.envelope.as_stream()));
        Self { collected, hints, ..Self::default() }
    }

    /// The call in canonical words.
    ///
    /// # Errors
    ///
    /// Why it cannot be read.
    pub(super) fn chat(&mut self, call: &Call) -> Result<&ChatRequest, Rejection> {
        let is_collected = self.collected.is_some();
        let decoded = self.decoded.get_or_insert_with(|| {
            let mut chat = decode(call)?;
            chat.stream |= is_collected;
            chat.include_usage |= is_collected;
            Ok(Box::new(chat))
        });
        decoded.as_deref().map_err(Clone::clone)
    }

    /// Puts other words in the place of the caller's.
    pub(super) fn rewrite(&mut self, chat: ChatRequest) {
        self.decoded = Some(Ok(Box::new(chat)));
        self.is_rewritten = true;
    }

    /// Puts a call in the place of the caller's whose last turn is the beginning of the answer.
    pub(super) fn go_on(&mut self, chat: ChatRequest) {
        self.rewrite(chat);
        self.is_onward = true;
    }

    /// Writes the call for `target`.
    pub(super) fn prepare(&mut self, call: &Call, target: &Target) -> Result<Prepared, Rejection> {
        let endpoint = &target.endpoint;
        let model = target.model.name.as_str();
        let quirks = &endpoint.quirks;
        let same_wire = endpoint.dialect == call.dialect
            && !call.envelope.needs_decode(quirks)
            && !holds_foreign_state(call)
            && !self.is_rewritten;
        let envelope = self.collected.as_deref().unwrap_or(&call.envelope);
        let mut headers = endpoint.headers.clone();
        headers.reserve(USUAL_HEADERS);
        let (mut path, mut body, dropped, mut carriage) = if same_wire {
            let (body, dropped) = match call.dialect {
                Dialect::Anthropic => envelope.for_anthropic(model, quirks),
                Dialect::OpenAiChat | Dialect::Gemini => {
                    envelope.for_openai_chat(model, quirks, true)
                }
            };
            (path_of(call.kind, quirks.path.as_deref(), model), body, dropped, Carriage::Pass)
        } else {
            self.translate(call, target, &mut headers)?
        };
        if self.is_onward {
            target.native_prefill().mark(&mut path, &mut body);
            carriage = Carriage::Onward;
        } else if let Some(hints) = &self.hints {
            body = hints.add_to(body, call, target);
        }
        self.add_headers(call, target, &mut headers);
        Ok(Prepared {
            path: format!("{}{path}", endpoint.base.path),
            headers,
            body,
            dropped,
            carriage,
            is_collected: self.collected.is_some(),
        })
    }

    /// Writes a call for a target that speaks another wire.
    fn translate(
        &mut self,
        call: &Call,
        target: &Target,
        headers: &mut HeaderMap,
    ) -> Result<(String, Bytes, Dropped, Carriage), Rejection> {
        let refused = |param: &str, problem: &str| Rejection::Unsupported {
            param: param.to_owned(),
            target: target.id.to_string(),
            problem: problem.to_owned(),
        };
        let to = RequestTarget {
            model: target.model.name.as_str(),
            label: target.id.as_str(),
            quirks: &target.endpoint.quirks,
            output_tokens: target.model.output_tokens,
        };
        let mut dropped = Dropped::default();
        let (wire, carriage) = match (call.kind, target.endpoint.dialect) {
            (EndpointKind::Chat | EndpointKind::Messages | EndpointKind::Completions, dialect) => {
                let chat = self.chat(call)?;
                let is_text = call.kind == EndpointKind::Completions;
                let carriage = if is_text { Carriage::Text } else { Carriage::Chat };
                (dialect.codec().encode_request(chat, &to, &mut dropped)?, carriage)
            }
            (EndpointKind::Embeddings, Dialect::Gemini) => {
                let (request, wire) = gemini::encode_embeddings(call.envelope.body(), &to)?;
                (wire, Carriage::Vectors(request))
            }
            (EndpointKind::Embeddings, _) => {
                return Err(refused("input", "this provider has no embeddings"));
            }
            (EndpointKind::CountTokens, _) => {
                return Err(refused("messages", "this provider does not count tokens"));
            }
        };
        headers.extend(wire.headers.into_iter().map(|(name, value)| (Some(name), value)));
        Ok((wire.path, wire.body, dropped, carriage))
    }

    fn add_headers(&self, call: &Call, target: &Target, headers: &mut HeaderMap) {
        const AGENT: &str = concat!("tidegate/", env!("CARGO_PKG_VERSION"));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        // Tokens are too small to gain by compression, and a scanner reads them as they come.
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        let is_stream = call.envelope.stream || self.collected.is_some();
        let accept = if is_stream { "text/event-stream" } else { "application/json" };
        headers.insert(ACCEPT, HeaderValue::from_static(accept));
        headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
        forward(&call.forwarded, target.endpoint.dialect, headers);
        if target.endpoint.dialect == Dialect::Anthropic {
            let version = http::HeaderName::from_static("anthropic-version");
            headers.entry(version).or_insert(HeaderValue::from_static("2023-06-01"));
        }
        if let Some((name, value)) = &target.endpoint.auth_header {
            headers.insert(name, value.clone());
        }
    }
}

/// Passes on the caller's headers that mean something to a provider of this dialect. Betas are
/// lists: the caller's join those that the operator or the translation asks for.
fn forward(from: &HeaderMap, dialect: Dialect, to: &mut HeaderMap) {
    for name in from.keys() {
        let theirs = match name.as_str() {
            "anthropic-beta" | "anthropic-version" => dialect == Dialect::Anthropic,
            "openai-beta" => dialect == Dialect::OpenAiChat,
            _ => true,
        };
        if !theirs {
            continue;
        }
        if !name.as_str().ends_with("-beta") {
            to.remove(name);
        }
        for value in from.get_all(name) {
            to.append(name, value.clone());
        }
    }
}

/// Reads a call in canonical words.
pub(super) fn decode(call: &Call) -> Result<ChatRequest, Rejection> {
    let body = call.envelope.body();
    if call.kind == EndpointKind::Completions {
        dialect::decode_text_request(body)
    } else {
        call.dialect.codec().decode_request(body)
    }
}

/// The path of an endpoint below a provider's base URL, on the wire the caller speaks.
fn path_of(kind: EndpointKind, quirk: Option<&str>, model: &str) -> String {
    match (kind, quirk) {
        (EndpointKind::Chat | EndpointKind::Messages, Some(path)) => path.replace("{model}", model),
        (EndpointKind::Chat, None) => "/chat/completions".to_owned(),
        (EndpointKind::Messages, None) => "/messages".to_owned(),
        (EndpointKind::Completions, _) => "/completions".to_owned(),
        (EndpointKind::Embeddings, _) => "/embeddings".to_owned(),
        (EndpointKind::CountTokens, _) => "/messages/count_tokens".to_owned(),
    }
}

/// Whether the caller brings back what a provider of another dialect said.
fn holds_foreign_state(call: &Call) -> bool {
    let messages = call.envelope.raw("messages");
    messages.is_some_and(|messages| call.dialect.codec().holds_foreign_state(messages))
}
