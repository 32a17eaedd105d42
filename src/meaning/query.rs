//! What of a request is looked for by its meaning.

use std::sync::Arc;

use serde_json::Value;

use crate::cache::{Key, Question};
use crate::semantic::traits::Traits;

/// The last words of a conversation, and where answers to such words are.
///
/// The namespace holds what an exact key holds, but for these words: who asks, the route, the
/// instructions, the turns before, the tools, the parameters. All of that must be equal; only the last
/// words may be others.
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
        let mut body: Value =
            serde_json::from_slice(question.body).map_err(|_| Unfit::NoLastWords)?;
        let text = take_last_words(&mut body).ok_or(Unfit::NoLastWords)?;
        let traits = Traits::of(&text);
        if !traits.is_readable() {
            return Err(Unfit::Unreadable);
        }
        let rest = serde_json::to_vec(&body).map_err(|_| Unfit::NoLastWords)?;
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

/// Takes the words of the last message out of a body: a user's text, alone.
fn take_last_words(body: &mut Value) -> Option<String> {
    let last = body.get_mut("messages")?.as_array_mut()?.last_mut()?;
    if last.get("role")?.as_str()? != "user" {
        return None;
    }
    let words = match last.get_mut("content")? {
        content @ Value::String(_) => content,
        Value::Array(parts) => {
            let [part] = parts.as_mut_slice() else { return None };
            if part.get("type")?.as_str()? != "text" {
                return None;
            }
            part.get_mut("text")?
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => return None,
    };
    match words.take() {
        Value::String(text) => Some(text),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            None
        }
    }
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
