//! What routing needs of a request, without decoding it.
//!
//! One pass over the body checks that it is JSON (it goes to a provider, and garbage must not) and
//! notes where its top-level members are. Nothing else is looked at, so a 10 MB prompt costs a
//! scan and no copy. The four request shapes that callers send (chat completions, legacy
//! completions, embeddings, Anthropic messages) agree on the members that matter here.
//!
//! A member that comes twice is refused. Parsers disagree about which one counts, and the gateway
//! must not route by one `model` while the provider reads another.

use std::ops::Range;
use std::sync::OnceLock;

use bytes::Bytes;
use memchr::memmem;

use super::json::{self, Broken};
use super::{Dropped, MaxTokensParam, Quirks, StreamUsage, SystemRole};
use crate::rejection::Rejection;

mod needs;
mod splice;

#[cfg(test)]
mod tests;

pub use needs::Needs;
pub(super) use splice::{Edit, apply};
pub use splice::{Splice, append_member, extend_frame};

/// How many members the body may have at its top. The largest API has some forty; the bound keeps
/// the search for duplicates cheap.
const MAX_MEMBERS: usize = 256;

/// What routing needs of a request, and the request itself.
#[derive(Debug, Clone)]
pub struct Envelope {
    body: Bytes,
    members: Vec<Member>,
    /// The model as the caller names it; empty only where that is left to a registered prompt.
    pub model: String,
    /// Whether the answer shall be streamed.
    pub stream: bool,
    /// The cap on generated tokens: `max_completion_tokens`, else `max_tokens`. A negative number
    /// (local servers take -1 for "no cap") is none.
    pub max_tokens: Option<u64>,
    /// How many alternatives are asked for, where said.
    pub n: Option<u64>,
    /// Whether tools are offered.
    pub has_tools: bool,
    /// Whether a response format is asked for.
    pub has_response_format: bool,
    /// Whether the caller asked for usage in the stream.
    pub include_usage: bool,
    /// Whether there are images in the messages, once somebody wanted to know.
    has_images: OnceLock<bool>,
}

/// Where one top-level member is.
#[derive(Debug, Clone)]
struct Member {
    /// The key, with its quotes.
    key: Range<usize>,
    value: Range<usize>,
    /// The key's text where it was written with escapes.
    unescaped: Option<String>,
}

// === impl Envelope ===

impl Envelope {
    /// Reads a body.
    ///
    /// # Errors
    ///
    /// [`Rejection::Invalid`] with the position where the body stops being JSON, or with the
    /// member that is missing, comes twice, or has the wrong type.
    pub fn read(body: Bytes) -> Result<Self, Rejection> {
        if let Err(error) = simdutf8::compat::from_utf8(&body) {
            return Err(broken_at(&body, error.valid_up_to(), "UTF-8 text"));
        }
        let members = members_of(&body)?;
        Self::of_members(body, members)
    }

    /// The same of a body that is JSON, and whose members are known.
    fn of_members(body: Bytes, members: Vec<Member>) -> Result<Self, Rejection> {
        let mut envelope = Self {
            body,
            members,
            model: String::new(),
            stream: false,
            max_tokens: None,
            n: None,
            has_tools: false,
            has_response_format: false,
            include_usage: false,
            has_images: OnceLock::new(),
        };
        if envelope.members.len() > MAX_MEMBERS {
            return Err(invalid(format!("the body has more than {MAX_MEMBERS} members")));
        }
        envelope.check_duplicates()?;
        envelope.take()?;
        Ok(envelope)
    }

    /// The body as it came.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// The JSON text of a top-level member, such as `messages`.
    pub fn raw(&self, key: &str) -> Option<&[u8]> {
        self.body.get(self.members.get(self.position(key)?)?.value.clone())
    }

    /// The top-level members in order: each key, and its value as JSON text.
    pub(super) fn members(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.members.iter().map(|member| {
            (member.name(&self.body), self.body.get(member.value.clone()).unwrap_or_default())
        })
    }

    /// Whether a top-level member is there and not null.
    pub fn has(&self, key: &str) -> bool {
        self.raw(key).is_some_and(|value| value != b"null")
    }

    /// Where a top-level member's value is in the body.
    pub fn range(&self, key: &str) -> Option<Range<usize>> {
        Some(self.members.get(self.position(key)?)?.value.clone())
    }

    /// Whether it asks for a registered prompt: `prompt` is an object. That of legacy completions
    /// is a text or a list.
    pub fn names_prompt(&self) -> bool {
        self.raw("prompt").is_some_and(|prompt| prompt.first() == Some(&b'{'))
    }

    /// Demands a member that the endpoint cannot do without, such as `messages`.
    ///
    /// # Errors
    ///
    /// [`Rejection::Invalid`] where it is missing or null.
    pub fn require(&self, key: &str) -> Result<(), Rejection> {
        match self.has(key) {
            true => Ok(()),
            false => Err(Rejection::invalid(key, format!("`{key}` is missing"))),
        }
    }

    /// The value of a string member such as `user` or `safety_identifier`; `None` where it is
    /// absent, no string, or no text (a lone surrogate).
    pub fn text(&self, key: &str) -> Option<String> {
        serde_json::from_slice(self.raw(key)?).ok()
    }

    /// Whether the body has to be decoded and written anew for a provider with these quirks,
    /// because splicing its top level is not enough. May be wrong about a message that merely
    /// contains the word; that costs a decode.
    pub fn needs_decode(&self, quirks: &Quirks) -> bool {
        match quirks.system_role {
            SystemRole::AsSent => false,
            SystemRole::System => self.raw("messages").is_some_and(|messages| {
                memmem::find(messages, b"\"developer\"").is_some()
                    || memmem::find(messages, b"\\u00").is_some()
            }),
        }
    }

    /// The same call, to be asked for as a stream.
    #[must_use]
    pub fn as_stream(&self) -> Self {
        Self { stream: true, ..self.clone() }
    }

    /// The body as an `openai-chat` provider wants it: its own name for the model, its own name
    /// for the token cap, less what it refuses. With `want_usage` a stream is made to end with
    /// usage although the caller did not ask for it.
    pub fn for_openai_chat(
        &self,
        model: &str,
        quirks: &Quirks,
        want_usage: bool,
    ) -> (Bytes, Dropped) {
        let mut dropped = Dropped::default();
        let mut splice = Splice::new(self);
        splice.set_text("model", model);
        self.set_stream(&mut splice);
        // Legacy completions know only `max_tokens`.
        if self.has("messages") {
            let names = match quirks.max_tokens_param {
                MaxTokensParam::AsSent => None,
                MaxTokensParam::MaxTokens => Some(("max_completion_tokens", "max_tokens")),
                MaxTokensParam::MaxCompletionTokens => {
                    Some(("max_tokens", "max_completion_tokens"))
                }
            };
            if let Some((from, to)) = names
                && !splice.rename(from, to)
            {
                dropped.add(from);
            }
        }
        match quirks.stream_usage {
            StreamUsage::Option if self.stream && want_usage && !self.include_usage => {
                splice.set("stream_options", self.stream_options_with_usage());
            }
            StreamUsage::Option => {}
            StreamUsage::Always => splice.remove("stream_options"),
        }
        self.drop_params(quirks, &mut splice, &mut dropped);
        (splice.finish(), dropped)
    }

    /// The body as an `anthropic` provider wants it: its own name for the model, less what it
    /// refuses.
    pub fn for_anthropic(&self, model: &str, quirks: &Quirks) -> (Bytes, Dropped) {
        let mut dropped = Dropped::default();
        let mut splice = Splice::new(self);
        splice.set_text("model", model);
        self.set_stream(&mut splice);
        self.drop_params(quirks, &mut splice, &mut dropped);
        (splice.finish(), dropped)
    }

    /// Says that the answer is wanted as a stream, where the body does not.
    fn set_stream(&self, splice: &mut Splice<'_>) {
        if self.stream && self.raw("stream") != Some(b"true") {
            splice.set("stream", b"true".to_vec());
        }
    }

    fn drop_params(&self, quirks: &Quirks, splice: &mut Splice<'_>, dropped: &mut Dropped) {
        for param in quirks.drop_params.iter().filter(|param| *param != "model") {
            if self.position(param).is_some() {
                splice.remove(param);
                dropped.add(param.as_str());
            }
        }
    }

    fn stream_options_with_usage(&self) -> Vec<u8> {
        let mut options: serde_json::Map<String, serde_json::Value> = self
            .raw("stream_options")
            .and_then(|raw| serde_json::from_slice(raw).ok())
            .unwrap_or_default();
        options.insert("include_usage".to_owned(), true.into());
        serde_json::Value::Object(options).to_string().into_bytes()
    }

    fn position(&self, key: &str) -> Option<usize> {
        self.members.iter().position(|member| member.name(&self.body) == key.as_bytes())
    }

    fn check_duplicates(&self) -> Result<(), Rejection> {
        for (at, member) in self.members.iter().enumerate() {
            let name = member.name(&self.body);
            let mut before = self.members.iter().take(at);
            if before.any(|earlier| earlier.name(&self.body) == name) {
                let name = String::from_utf8_lossy(name);
                let problem = format!("`{name}` comes twice; send it once");
                return Err(Rejection::invalid(name, problem));
            }
        }
        Ok(())
    }

    /// Takes the members that matter, checking their types.
    fn take(&mut self) -> Result<(), Rejection> {
        // A registered prompt may bring one.
        if self.has("model") || !self.names_prompt() {
            self.require("model")?;
            self.model = self
                .text("model")
                .filter(|model| !model.is_empty())
                .ok_or_else(|| wrong_type("model", "a string that is not empty"))?;
        }
        self.stream = match self.raw("stream") {
            None | Some(b"null" | b"false") => false,
            Some(b"true") => true,
            Some(_) => return Err(wrong_type("stream", "a boolean")),
        };
        self.max_tokens = self.number("max_completion_tokens")?.or(self.number("max_tokens")?);
        self.n = self.number("n")?;
        self.demand("messages", b'[', "an array")?;
        self.has_tools = self.demand("tools", b'[', "an array")?
            && self.raw("tools").is_some_and(|raw| !is_empty_array(raw));
        self.has_response_format = self.demand("response_format", b'{', "an object")?;
        if self.demand("stream_options", b'{', "an object")? {
            self.include_usage = self.wants_usage()?;
        }
        Ok(())
    }

    /// Whether a member is there, provided that its value begins as it should.
    fn demand(&self, key: &str, first: u8, expected: &str) -> Result<bool, Rejection> {
        match self.raw(key) {
            None | Some(b"null") => Ok(false),
            Some(raw) if raw.first() == Some(&first) => Ok(true),
            Some(_) => Err(wrong_type(key, expected)),
        }
    }

    fn number(&self, key: &str) -> Result<Option<u64>, Rejection> {
        match self.raw(key) {
            None | Some(b"null") => Ok(None),
            Some(raw) => match serde_json::from_slice::<i64>(raw) {
                Ok(number) => Ok(u64::try_from(number).ok()),
                Err(_) => Err(wrong_type(key, "a whole number")),
            },
        }
    }

    fn wants_usage(&self) -> Result<bool, Rejection> {
        #[derive(serde::Deserialize)]
        struct Options {
            include_usage: Option<bool>,
        }
        match self.raw("stream_options").map(serde_json::from_slice::<Options>) {
            None => Ok(false),
            Some(Ok(options)) => Ok(options.include_usage.unwrap_or_default()),
            Some(Err(_)) => Err(wrong_type("stream_options.include_usage", "a boolean")),
        }
    }
}

// === impl Member ===

impl Member {
    /// The key's text.
    fn name<'a>(&'a self, body: &'a [u8]) -> &'a [u8] {
        match &self.unescaped {
            Some(text) => text.as_bytes(),
            None => body.get(self.key.start + 1..self.key.end - 1).unwrap_or_default(),
        }
    }
}

/// Checks the whole text and notes where the members of its object are.
fn members_of(text: &[u8]) -> Result<Vec<Member>, Rejection> {
    let start = json::skip_space(text, 0);
    let (members, end) = match text.get(start) {
        None => return Err(invalid("the body is empty; send a JSON object".to_owned())),
        Some(b'{') => {
            let (members, end) = read_members(text, start + 1)?;
            (Some(members), end)
        }
        Some(_) => {
            let end = json::skip_value(text, start, 0).map_err(|broken| broken.rejection(text))?;
            (None, end)
        }
    };
    let rest = json::skip_space(text, end);
    if rest < text.len() {
        return Err(broken_at(text, rest, "nothing after the end"));
    }
    members.ok_or_else(|| invalid("the body must be a JSON object".to_owned()))
}

fn read_members(text: &[u8], inside: usize) -> Result<(Vec<Member>, usize), Rejection> {
    let mut members = Vec::with_capacity(16);
    let mut at = json::skip_space(text, inside);
    if text.get(at) == Some(&b'}') {
        return Ok((members, at + 1));
    }
    loop {
        let member = read_member(text, at)?;
        at = json::skip_space(text, member.value.end);
        if members.len() == MAX_MEMBERS {
            return Err(invalid(format!("the body has more than {MAX_MEMBERS} members")));
        }
        members.push(member);
        match text.get(at) {
            Some(b',') => at = json::skip_space(text, at + 1),
            Some(b'}') => return Ok((members, at + 1)),
            _ => return Err(broken_at(text, at, "`,` or `}`")),
        }
    }
}

fn read_member(text: &[u8], at: usize) -> Result<Member, Rejection> {
    if text.get(at) != Some(&b'"') {
        return Err(broken_at(text, at, "a key in quotes"));
    }
    let rejection = |broken: Broken| broken.rejection(text);
    let key = json::skip_string(text, at).map_err(rejection)?;
    let unescaped = match key.escaped {
        false => None,
        true => Some(
            serde_json::from_slice(text.get(at..key.end).unwrap_or_default())
                .map_err(|_| broken_at(text, at, "a key that is text"))?,
        ),
    };
    let start = json::skip_colon(text, key.end).map_err(rejection)?;
    let end = json::skip_value(text, start, 1).map_err(rejection)?;
    Ok(Member { key: at..key.end, value: start..end, unescaped })
}

fn is_empty_array(raw: &[u8]) -> bool {
    raw.get(json::skip_space(raw, 1)) == Some(&b']')
}

fn wrong_type(param: &str, expected: &str) -> Rejection {
    Rejection::invalid(param, format!("`{param}` must be {expected}"))
}

fn invalid(problem: String) -> Rejection {
    Rejection::Invalid { problem, param: None }
}

// === impl Broken ===

impl Broken {
    fn rejection(self, text: &[u8]) -> Rejection {
        broken_at(text, self.at, self.expected)
    }
}

/// Says where the body stops being JSON. The column counts characters, as editors do.
fn broken_at(text: &[u8], at: usize, expected: &str) -> Rejection {
    let before = text.get(..at).unwrap_or(text);
    let line = 1 + memchr::memchr_iter(b'\n', before).count();
    let line_start = memchr::memrchr(b'\n', before).map_or(0, |end| end + 1);
    let tail = before.get(line_start..).unwrap_or_default();
    let column = 1 + tail.iter().filter(|byte| **byte & 0xC0 != 0x80).count();
    let found = if at >= text.len() { ", where the body ends" } else { "" };
    invalid(format!(
        "the body is not valid JSON: expected {expected} at line {line} column {column} \
         (byte {at}){found}"
    ))
}
