//! What of a request is looked for by its meaning.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::cache::{Key, Question};
use crate::semantic::traits::Traits;

/// The last words of a conversation, and where answers to such words are.
///
/// The namespace holds what an exact key holds, but for these words: who asks, the route, the
/// instructions, the turns before, the tools, the parameters. All of that must be equal; only the
/// last words may be others.
#[derive(Debug, Clone)]
pub struct Query {
    pub(super) namespace: Key,
    pub(super) text: Arc<str>,
    pub(super) traits: Traits,
}

/// Why a request has nothing that could be looked for by its meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unfit {
    /// It is too large to be looked at.
    TooLarge,
    /// Its last message is not a user's, or is not one text and nothing else.
    NoLastWords,
    /// The words are too many to be compared, or say nothing.
    Unreadable,
}

/// The largest body that is looked at: it is read into memory once more.
const MAX_BODY_BYTES: usize = 256 * 1024;

/// What is read of a body.
#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow)]
    messages: Vec<&'a RawValue>,
}

/// What is read of a message.
#[derive(Deserialize)]
struct Message<'a> {
    role: String,
    #[serde(borrow)]
    content: &'a RawValue,
}

/// What is read of a part of a message.
#[derive(Deserialize)]
struct Part<'a> {
    #[serde(rename = "type")]
    kind: String,
    #[serde(borrow)]
    text: &'a RawValue,
}

// === impl Query ===

impl Query {
    /// What is looked for among vectors of this `space`.
    ///
    /// # Errors
    ///
    /// Why there is nothing to look for.
    pub fn of(question: &Question<'_>, space: &str) -> Result<Self, Unfit> {
        if question.body.len() > MAX_BODY_BYTES {
            return Err(Unfit::TooLarge);
        }
        let words = last_words(question.body).ok_or(Unfit::NoLastWords)?;
        let text: String = serde_json::from_str(words.get()).map_err(|_| Unfit::NoLastWords)?;
        let traits = Traits::of(&text);
        if !traits.is_readable() {
            return Err(Unfit::Unreadable);
        }
        let rest = without(question.body, words).ok_or(Unfit::NoLastWords)?;
        let rest = Key::of(&Question { body: &rest, ..*question }).ok_or(Unfit::NoLastWords)?;
        Ok(Self { namespace: rest.within(space), text: text.into(), traits })
    }

    /// Who may know of them, in bytes that are like no other's.
    pub fn home(&self) -> &[u8] {
        self.namespace.as_bytes()
    }

    /// The words.
    pub fn text(&self) -> &Arc<str> {
        &self.text
    }
}

/// The words of the last message where they stand in a body: a user's text, alone.
fn last_words(body: &[u8]) -> Option<&RawValue> {
    let Body { messages } = serde_json::from_slice(body).ok()?;
    let last: Message<'_> = object(messages.last()?)?;
    if last.role != "user" {
        return None;
    }
    let words = match last.content.get().as_bytes().first()? {
        b'[' => {
            let parts: Vec<&RawValue> = serde_json::from_str(last.content.get()).ok()?;
            let [part] = parts.as_slice() else { return None };
            let part: Part<'_> = object(part)?;
            (part.kind == "text").then_some(part.text)?
        }
        _ => last.content,
    };
    words.get().starts_with('"').then_some(words)
}

/// A body with nothing where the words were. The rest stays as it was written, so that its key sees
/// all that the key of the whole would see.
fn without(body: &[u8], words: &RawValue) -> Option<Vec<u8>> {
    let words = words.get().as_bytes();
    let start = words.as_ptr().addr().checked_sub(body.as_ptr().addr())?;
    let (before, rest) = body.split_at_checked(start)?;
    let after = rest.strip_prefix(words)?;
    Some([before, b"null", after].concat())
}

/// What is read of an object; a list of its members is none.
fn object<'a, T: Deserialize<'a>>(raw: &'a RawValue) -> Option<T> {
    raw.get().starts_with('{').then(|| serde_json::from_str(raw.get()).ok()).flatten()
}

// === impl Unfit ===

impl Unfit {
    /// The word for metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TooLarge => "too_large",
            Self::NoLastWords => "no_last_words",
            Self::Unreadable => "unreadable",
        }
    }
}

#[cfg(test)]
mod tests;
