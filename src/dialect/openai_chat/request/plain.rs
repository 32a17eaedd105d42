//! Requests of texts alone, which most are: what is asked, read without making anything of it.

use std::borrow::Cow;

use super::super::scan::{text_of, walk_array, walk_object};
use crate::chat::Role;
use crate::dialect::Envelope;
use crate::dialect::json;

/// A request of one answer to texts, with nothing offered and nothing else wanted. It borrows the
/// texts that have no escapes. Members of conduct may be of wrong types: the provider says so.
#[derive(Debug)]
pub struct PlainRequest<'a> {
    texts: Vec<(Role, Cow<'a, str>)>,
    /// The temperature that is asked for.
    pub temperature: Option<f64>,
}

/// Members that say how an answer is made and sent, and not what it may depend on.
const OF_CONDUCT: [&[u8]; 11] = [
    b"model",
    b"stream",
    b"stream_options",
    b"max_tokens",
    b"max_completion_tokens",
    b"top_p",
    b"stop",
    b"seed",
    b"presence_penalty",
    b"frequency_penalty",
    b"user",
];

/// Messages of a conversation, about.
const USUAL_MESSAGES: usize = 8;

// === impl PlainRequest ===

impl<'a> PlainRequest<'a> {
    /// Reads a request; `None` where it asks for anything else, or has to be looked at more
    /// closely.
    pub fn read(envelope: &'a Envelope) -> Option<Self> {
        let mut request = Self { texts: Vec::new(), temperature: None };
        for (key, value) in envelope.members() {
            match key {
                b"messages" => request.texts = texts_of(value)?,
                b"temperature" => request.temperature = serde_json::from_slice(value).ok()?,
                key if OF_CONDUCT.contains(&key) => {}
                _ => return None,
            }
        }
        (!request.texts.is_empty()).then_some(request)
    }

    /// Who says what, in order.
    pub fn texts(&self) -> impl Iterator<Item = (Role, &str)> {
        self.texts.iter().map(|(role, text)| (*role, &**text))
    }
}

/// What messages say that are texts alone.
fn texts_of(messages: &[u8]) -> Option<Vec<(Role, Cow<'_, str>)>> {
    let mut texts = Vec::with_capacity(USUAL_MESSAGES);
    let mut is_plain = messages.first() == Some(&b'[');
    let walked = walk_array(messages, 0, |at| {
        let (mut role, mut text) = (None, None);
        let end = walk_object(messages, at, |key, value| {
            let end = json::skip_value(messages, value, 0)?;
            let raw = messages.get(value..end).unwrap_or_default();
            match key {
                b"role" => role = role_of(raw),
                b"content" => text = text_of(raw),
                _ => is_plain = false,
            }
            Ok(end)
        })?;
        match (role, text) {
            (Some(role), Some(text)) => texts.push((role, text)),
            (Some(_) | None, _) => is_plain = false,
        }
        Ok(end)
    });
    (is_plain && walked.is_ok()).then_some(texts)
}

fn role_of(value: &[u8]) -> Option<Role> {
    Some(match value {
        b"\"system\"" => Role::System,
        b"\"developer\"" => Role::Developer,
        b"\"user\"" => Role::User,
        b"\"assistant\"" => Role::Assistant,
        _ => return None,
    })
}
