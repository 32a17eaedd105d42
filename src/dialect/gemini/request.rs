//! Requests towards Gemini.
//!
//! Decisions where the wires differ:
//! - System and developer messages at the start become `systemInstruction`; later ones become a
//!   user's turn in their place, because an instruction that moves to the front changes both its
//!   meaning and every cached prefix.
//! - Results of tools are turns of their own, apart from what a user says: the API counts the
//!   results in the turn after a call.
//! - Thoughts of other models are left out; Gemini wants only its own signatures back. Where the
//!   first call of a turn has none, models from Gemini 3 on get the placeholder that Google
//!   documents for this case.
//! - Ids of calls are sent in the call and in its result, so that parallel calls keep their pairs.
//! - A user's id, a participant's name and a schema's `strict` have no place on this wire and
//!   promise nothing that is lost: they are left out.

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::parts;
use super::settings;
use super::wire::{self, NAME, NO_SIGNATURE};
use crate::chat::{ChatRequest, Media, MediaSource, Message, Opaque, OpaqueKind, Part, Role};
use crate::dialect::{Dropped, RequestTarget, WireRequest};
use crate::rejection::Rejection;

/// What a turn is made of; parts of one kind that follow each other share a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    User,
    Results,
    Model,
}

/// Writes a request.
pub(super) fn encode(
    chat: &ChatRequest,
    target: &RequestTarget<'_>,
    dropped: &mut Dropped,
) -> Result<WireRequest, Rejection> {
    let mut body = Map::new();
    let head = chat.messages.iter().take_while(|message| is_system(message.role)).count();
    let (system, turns) = chat.messages.split_at_checked(head).unwrap_or((&[], &[]));
    let instructions = instructions(system, target)?;
    let mut contents = Contents::new(chat, target);
    for (at, message) in turns.iter().enumerate() {
        contents.add(head + at, message, dropped)?;
    }
    let contents = contents.finish();
    if contents.is_empty() {
        // The API wants something said: instructions alone are then what is said.
        body.insert("contents".into(), json!([{ "role": "user", "parts": instructions }]));
    } else {
        body.insert("contents".into(), contents.into());
        if !instructions.is_empty() {
            body.insert("systemInstruction".into(), json!({ "parts": instructions }));
        }
    }
    settings::write(chat, target, dropped, &mut body)?;
    let body = serde_json::to_vec(&body)
        .map_err(|error| Rejection::Internal { detail: format!("gemini request: {error}") })?;
    Ok(WireRequest {
        path: path(chat.stream, target),
        headers: Vec::new(),
        body: Bytes::from(body),
    })
}

/// A picture, sound or document as a part. The address of an uploaded file is its id.
pub(super) fn media_part(media: &Media) -> Value {
    let media_type = media.media_type.as_deref();
    match &media.source {
        MediaSource::Base64(data) => json!({ "inlineData": {
            "mimeType": media_type.unwrap_or("application/octet-stream"), "data": data,
        }}),
        MediaSource::Url(uri) | MediaSource::FileId(uri) => {
            let mut file = Map::new();
            if let Some(media_type) = media_type.or_else(|| guess_type(uri)) {
                file.insert("mimeType".into(), media_type.into());
            }
            file.insert("fileUri".into(), uri.as_str().into());
            json!({ "fileData": file })
        }
    }
}

/// A refusal that names what cannot be carried.
pub(super) fn unsupported(param: String, target: &RequestTarget<'_>, problem: &str) -> Rejection {
    Rejection::Unsupported { param, target: target.label.to_owned(), problem: problem.to_owned() }
}

/// Whether a model is Gemini 3 or newer, by its name: those think in levels and check signatures.
pub(super) fn is_gemini_3(model: &str) -> bool {
    let version = model.rsplit('/').next().and_then(|name| name.strip_prefix("gemini-"));
    let digits = version.and_then(|version| version.split(['.', '-']).next());
    digits.and_then(|digits| digits.parse::<u32>().ok()).is_some_and(|major| major >= 3)
}

fn is_system(role: Role) -> bool {
    matches!(role, Role::System | Role::Developer)
}

fn path(stream: bool, target: &RequestTarget<'_>) -> String {
    let method = if stream { ":streamGenerateContent?alt=sse" } else { ":generateContent" };
    match &target.quirks.path {
        Some(path) => format!("{}{method}", path.replace("{model}", target.model)),
        None if target.model.contains('/') => format!("/{}{method}", target.model),
        None => format!("/models/{}{method}", target.model),
    }
}

fn instructions(messages: &[Message], target: &RequestTarget<'_>) -> Result<Vec<Value>, Rejection> {
    let mut out = Vec::new();
    for (at, message) in messages.iter().enumerate() {
        for (nth, part) in message.parts.iter().enumerate() {
            match part {
                Part::Text { text, .. } if text.is_empty() => {}
                Part::Text { text, .. } | Part::Refusal { text } => {
                    out.push(json!({ "text": text }))
                }
                Part::Other { dialect, value } if dialect == NAME => out.push(value.clone()),
                Part::Reasoning { .. } => {}
                Part::Media(_)
                | Part::ToolCall { .. }
                | Part::ToolResult { .. }
                | Part::Other { .. } => {
                    let param = format!("messages[{at}].content[{nth}]");
                    return Err(unsupported(param, target, "instructions are text"));
                }
            }
        }
    }
    Ok(out)
}

/// The turns of a conversation as they are written.
struct Contents<'a> {
    chat: &'a ChatRequest,
    target: &'a RequestTarget<'a>,
    turns: Vec<(Turn, Vec<Value>)>,
}

impl<'a> Contents<'a> {
    fn new(chat: &'a ChatRequest, target: &'a RequestTarget<'a>) -> Self {
        Self { chat, target, turns: Vec::new() }
    }

    fn add(
        &mut self,
        at: usize,
        message: &Message,
        dropped: &mut Dropped,
    ) -> Result<(), Rejection> {
        let speaker = if message.role == Role::Assistant { Turn::Model } else { Turn::User };
        for (nth, part) in message.parts.iter().enumerate() {
            let param = || format!("messages[{at}].content[{nth}]");
            match part {
                Part::Text { text, opaque, cache } => {
                    note_cache(cache.as_ref(), dropped);
                    self.text(speaker, text, opaque.as_ref());
                }
                Part::Refusal { text } => self.text(speaker, text, None),
                Part::Reasoning { text, opaque } => self.thought(text, opaque.as_ref()),
                Part::Media(media) => {
                    note_cache(media.cache.as_ref(), dropped);
                    let part = self.media(media, param)?;
                    self.push(speaker, part);
                }
                Part::ToolCall { id, name, arguments, opaque } => {
                    let call = parts::function_call(id, name, arguments, opaque.as_ref());
                    let problem = "its arguments are not a JSON object";
                    let call = call.ok_or_else(|| unsupported(param(), self.target, problem))?;
                    self.push(Turn::Model, call);
                }
                Part::ToolResult { cache, .. } => {
                    note_cache(cache.as_ref(), dropped);
                    self.result(part, at, param)?;
                }
                Part::Other { dialect, value } if dialect == NAME => {
                    let is_extra = value.as_object().is_some_and(wire::is_candidate_extra);
                    if !is_extra {
                        self.push(speaker, value.clone());
                    }
                }
                Part::Other { dialect, .. } => {
                    let problem = format!("only {dialect} knows this block");
                    return Err(unsupported(param(), self.target, &problem));
                }
            }
        }
        Ok(())
    }

    fn push(&mut self, turn: Turn, part: Value) {
        match self.turns.last_mut() {
            Some((last, parts)) if *last == turn => parts.push(part),
            _ => self.turns.push((turn, vec![part])),
        }
    }

    fn text(&mut self, turn: Turn, text: &str, opaque: Option<&Opaque>) {
        let signed = opaque.filter(|opaque| opaque.kind == OpaqueKind::GeminiSignature);
        if text.is_empty() {
            let Some(opaque) = signed else {
                return; // The API refuses text without a letter.
            };
            if let Some((last, parts)) = self.turns.last_mut()
                && *last == turn
                && let Some(media) = parts.last_mut().filter(|part| parts::is_unsigned_media(part))
            {
                return parts::sign(media, Some(opaque));
            }
        }
        self.push(turn, parts::text(text, signed));
    }

    fn thought(&mut self, text: &str, opaque: Option<&Opaque>) {
        if opaque.is_some_and(|opaque| opaque.kind == OpaqueKind::GeminiSignature) {
            self.push(Turn::Model, parts::thought(text, opaque));
        }
    }

    fn media(&self, media: &Media, param: impl Fn() -> String) -> Result<Value, Rejection> {
        let problem = match &media.source {
            MediaSource::FileId(id) if !id.starts_with("https://") => {
                "a file uploaded to another provider; Gemini knows files by their address"
            }
            MediaSource::Base64(_) if media.media_type.is_none() => {
                "Gemini wants the media type of inline data"
            }
            MediaSource::FileId(_) | MediaSource::Base64(_) | MediaSource::Url(_) => {
                return Ok(media_part(media));
            }
        };
        Err(unsupported(param(), self.target, problem))
    }

    /// A result, and its media beside it: only the newest models take media inside.
    fn result(
        &mut self,
        part: &Part,
        at: usize,
        param: impl Fn() -> String,
    ) -> Result<(), Rejection> {
        let Part::ToolResult { call_id, name, parts, is_error, .. } = part else {
            return Ok(());
        };
        let name = match name {
            Some(name) => name.as_str(),
            None => self.name_of(call_id, at).ok_or_else(|| {
                let problem = format!("no earlier tool call has the id `{call_id}`");
                Rejection::invalid(format!("messages[{at}].tool_call_id"), problem)
            })?,
        };
        let mut text = String::new();
        let mut media = Vec::new();
        for part in parts {
            match part {
                Part::Text { text: piece, .. } | Part::Refusal { text: piece } => {
                    text.push_str(piece);
                }
                Part::Media(one) => media.push(self.media(one, &param)?),
                Part::Reasoning { .. } => {}
                Part::ToolCall { .. } | Part::ToolResult { .. } | Part::Other { .. } => {
                    return Err(unsupported(param(), self.target, "a result is text and media"));
                }
            }
        }
        let mut response = Map::new();
        response.insert("name".into(), name.into());
        response.insert("response".into(), response_object(&text, *is_error));
        if !call_id.is_empty() {
            response.insert("id".into(), call_id.as_str().into());
        }
        self.push(Turn::Results, json!({ "functionResponse": response }));
        for media in media {
            self.push(Turn::Results, media);
        }
        Ok(())
    }

    /// The name of the nearest earlier call with this id.
    fn name_of(&self, call_id: &str, at: usize) -> Option<&'a str> {
        let earlier = self.chat.messages.get(..=at)?;
        let parts = earlier.iter().rev().flat_map(|message| message.parts.iter().rev());
        parts.into_iter().find_map(|part| {
            let Part::ToolCall { id, name, .. } = part else {
                return None;
            };
            (id == call_id).then_some(name.as_str())
        })
    }

    fn finish(mut self) -> Vec<Value> {
        if is_gemini_3(self.target.model) {
            for (_, parts) in self.turns.iter_mut().filter(|(turn, _)| *turn == Turn::Model) {
                vouch(parts);
            }
        }
        let turns = self.turns.into_iter().map(|(turn, parts)| {
            let role = if turn == Turn::Model { "model" } else { "user" };
            json!({ "role": role, "parts": parts })
        });
        turns.collect()
    }
}

/// Puts the placeholder on the first call of a turn in which no call is signed.
fn vouch(parts: &mut [Value]) {
    let mut calls = parts.iter_mut().filter(|part| part.get("functionCall").is_some()).peekable();
    let Some(first) = calls.next() else {
        return;
    };
    let is_signed = |part: &Value| part.get("thoughtSignature").is_some();
    if is_signed(first) || calls.any(|call| is_signed(call)) {
        return;
    }
    if let Some(first) = first.as_object_mut() {
        first.insert("thoughtSignature".into(), NO_SIGNATURE.into());
    }
}

/// The API wants an object: other results go under `result`, failures under `error`.
fn response_object(text: &str, is_error: bool) -> Value {
    let object = serde_json::from_str::<Map<String, Value>>(text).ok();
    match (object, is_error) {
        (Some(object), false) => Value::Object(object),
        (Some(object), true) => json!({ "error": object }),
        (None, false) => json!({ "result": text }),
        (None, true) => json!({ "error": text }),
    }
}

fn note_cache(cache: Option<&Value>, dropped: &mut Dropped) {
    if cache.is_some() {
        dropped.add("cache_control");
    }
}

/// The media type that an address's ending stands for.
fn guess_type(uri: &str) -> Option<&'static str> {
    let path = uri.split(['?', '#']).next()?;
    let (_, ending) = path.rsplit_once('.')?;
    Some(match ending.to_ascii_lowercase().as_str() {
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "webp" => "image/webp",
        "gif" => "image/gif",
        "heic" => "image/heic",
        "heif" => "image/heif",
        "pdf" => "application/pdf",
        "txt" | "md" => "text/plain",
        "html" | "htm" => "text/html",
        "csv" => "text/csv",
        "json" => "application/json",
        "mp3" => "audio/mp3",
        "wav" => "audio/wav",
        "flac" => "audio/flac",
        "ogg" => "audio/ogg",
        "m4a" => "audio/m4a",
        "mp4" => "video/mp4",
        "mov" => "video/quicktime",
        "webm" => "video/webm",
        _ => return None,
    })
}
