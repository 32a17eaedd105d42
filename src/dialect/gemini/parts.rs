//! Parts of a turn, both ways.

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::wire::{self, NAME};
use crate::chat::{Media, MediaSource, Opaque, OpaqueKind, Part};

/// Names tool calls of one answer, because Gemini mostly leaves that to its callers.
///
/// A made name is a digest of the answer's own id and the call's ordinal: the same answer always
/// gets the same names, and two turns of a conversation never share one.
#[derive(Debug, Clone, Default)]
pub(super) struct CallIds {
    seed: Vec<u8>,
    /// Alternatives are told apart: some servers give the same name to a call in each.
    choice: u32,
    used: Vec<(u32, String)>,
}

/// What a part of an answer is, borrowed from the wire.
#[derive(Debug)]
pub(super) enum Piece<'a> {
    /// Visible text; empty where only the signature matters.
    Text(&'a str),
    /// Thinking.
    Thought(&'a str),
    /// A function call that has a name.
    Call(&'a Map<String, Value>),
    /// Inline bytes: type and base64.
    Inline(&'a str, &'a str),
    /// Bytes elsewhere: type and address.
    File(&'a str, &'a str),
    /// Anything else.
    Other,
}

/// Says what a part is.
pub(super) fn classify(part: &Map<String, Value>) -> Piece<'_> {
    let is_thought = wire::get(part, "thought").and_then(Value::as_bool).unwrap_or_default();
    if let Some(text) = wire::get(part, "text").and_then(Value::as_str) {
        return if is_thought { Piece::Thought(text) } else { Piece::Text(text) };
    }
    if let Some(call) = wire::object(part, "functionCall") {
        return if wire::text(call, "name").is_empty() { Piece::Other } else { Piece::Call(call) };
    }
    // A clip's bounds or a resolution beside the bytes can be said on this wire alone.
    let is_plain = |name: &str| {
        !is_thought
            && part
                .keys()
                .all(|key| [name, "thoughtSignature"].iter().any(|n| wire::is_key(key, n)))
    };
    if let Some(blob) = wire::object(part, "inlineData").filter(|_| is_plain("inlineData")) {
        return Piece::Inline(wire::text(blob, "mimeType"), wire::text(blob, "data"));
    }
    if let Some(file) = wire::object(part, "fileData").filter(|_| is_plain("fileData")) {
        return Piece::File(wire::text(file, "mimeType"), wire::text(file, "fileUri"));
    }
    let only_signature = part.keys().all(|key| wire::is_key(key, "thoughtSignature"));
    if only_signature { Piece::Text("") } else { Piece::Other }
}

/// The signature of a part.
pub(super) fn signature(part: &Map<String, Value>) -> Option<Opaque> {
    let value = wire::text(part, "thoughtSignature");
    (!value.is_empty())
        .then(|| Opaque { kind: OpaqueKind::GeminiSignature, value: value.to_owned() })
}

/// Arguments of a function call as JSON text; `{}` where there are none.
pub(super) fn arguments(call: &Map<String, Value>) -> String {
    match wire::get(call, "args") {
        Some(args) => args.to_string(),
        None => "{}".to_owned(),
    }
}

/// Reads a part of an answer, or of a model's turn in a request.
pub(super) fn read(value: &Value, ids: &mut CallIds, out: &mut Vec<Part>) {
    let Some(part) = value.as_object() else {
        return;
    };
    let opaque = signature(part);
    match classify(part) {
        Piece::Text("") if opaque.is_none() => {}
        Piece::Text(text) => out.push(Part::Text { text: text.to_owned(), cache: None, opaque }),
        Piece::Thought("") if opaque.is_none() => {}
        Piece::Thought(text) => out.push(Part::Reasoning { text: text.to_owned(), opaque }),
        Piece::Call(call) => out.push(Part::ToolCall {
            id: ids.name(wire::text(call, "id")),
            name: wire::text(call, "name").to_owned(),
            arguments: arguments(call),
            opaque,
        }),
        Piece::Inline(..) | Piece::File(..) => {
            out.extend(media(part).map(Part::Media));
            if opaque.is_some() {
                out.push(Part::Text { text: String::new(), cache: None, opaque });
            }
        }
        Piece::Other => {
            out.push(Part::Other { dialect: NAME.to_owned(), value: value.clone() });
        }
    }
}

/// The picture, sound or document that a part is.
pub(super) fn media(part: &Map<String, Value>) -> Option<Media> {
    let (media_type, source) = match classify(part) {
        Piece::Inline(media_type, data) => (media_type, MediaSource::Base64(data.to_owned())),
        Piece::File(media_type, uri) => (media_type, MediaSource::Url(uri.to_owned())),
        Piece::Text(_) | Piece::Thought(_) | Piece::Call(_) | Piece::Other => return None,
    };
    let media_type = (!media_type.is_empty()).then(|| media_type.to_owned());
    Some(Media { source, media_type, name: None, detail: None, cache: None })
}

/// Puts a Gemini signature on the part just written; others mean nothing here.
pub(super) fn sign(part: &mut Value, opaque: Option<&Opaque>) {
    let ours = opaque.filter(|opaque| opaque.kind == OpaqueKind::GeminiSignature);
    if let (Some(opaque), Some(part)) = (ours, part.as_object_mut()) {
        part.insert("thoughtSignature".into(), opaque.value.clone().into());
    }
}

/// A `functionCall` part; `None` where the arguments are no JSON object, which the wire demands.
pub(super) fn function_call(
    id: &str,
    name: &str,
    arguments: &str,
    opaque: Option<&Opaque>,
) -> Option<Value> {
    let args = match arguments.trim() {
        "" => Map::new(),
        text => serde_json::from_str(text).ok()?,
    };
    let mut call = Map::new();
    call.insert("name".into(), name.into());
    call.insert("args".into(), Value::Object(args));
    if !id.is_empty() {
        call.insert("id".into(), id.into());
    }
    let mut part = json!({ "functionCall": call });
    sign(&mut part, opaque);
    Some(part)
}

/// A text part.
pub(super) fn text(text: &str, opaque: Option<&Opaque>) -> Value {
    let mut part = json!({ "text": text });
    sign(&mut part, opaque);
    part
}

/// A thought part.
pub(super) fn thought(text: &str, opaque: Option<&Opaque>) -> Value {
    let mut part = json!({ "text": text, "thought": true });
    sign(&mut part, opaque);
    part
}

/// Whether a part was written from a [`Media`], so that a bare signature after it is its own.
pub(super) fn is_unsigned_media(part: &Value) -> bool {
    part.get("thoughtSignature").is_none()
        && (part.get("inlineData").is_some() || part.get("fileData").is_some())
}

// === impl CallIds ===

impl CallIds {
    /// Names calls of an answer: by its id, or where it has none by its bytes.
    pub(super) fn for_answer(answer: &Map<String, Value>) -> Self {
        let seed = match wire::text(answer, "responseId") {
            "" => Value::Object(answer.clone()).to_string(),
            id => id.to_owned(),
        };
        Self { seed: seed.into_bytes(), ..Self::default() }
    }

    /// Goes on with the calls of another alternative.
    pub(super) fn enter(&mut self, choice: u32) {
        self.choice = choice;
    }

    /// The provider's name for a call where it gave one that is new, else a made one.
    pub(super) fn name(&mut self, given: &str) -> String {
        let is_used = |(choice, id): &(u32, String)| *choice == self.choice && id == given;
        let is_new = !given.is_empty() && !self.used.iter().any(is_used);
        let id = if is_new { given.to_owned() } else { self.make() };
        self.used.push((self.choice, id.clone()));
        id
    }

    fn make(&self) -> String {
        let mut digest = Sha256::new();
        digest.update(&self.seed);
        digest.update(b"/");
        digest.update(self.used.len().to_string());
        let hex: String =
            digest.finalize().iter().take(12).map(|byte| format!("{byte:02x}")).collect();
        format!("call_{hex}")
    }
}
