//! An answer that is kept.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::chat::Completion;
use crate::ids::{CallerId, RouteName, TargetId, TeamId};
use crate::units::MicroUsd;

/// An answer that is kept, written as compactly as it can be read back.
#[derive(Debug, Clone, PartialEq)]
pub struct Kept {
    /// What is known of it.
    pub head: Head,
    /// What was said, in the form that [`Head::form`] names.
    pub said: Bytes,
}

/// What is known of a kept answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Head {
    /// In which form it is.
    pub form: Form,
    /// Who gave it: `provider/model`.
    pub target: TargetId,
    /// The model as the provider reported it; empty where it did not.
    pub reported: String,
    /// What it cost, which each repetition saves.
    pub cost: MicroUsd,
    /// Fields of the request that the provider did not take.
    pub dropped: Vec<String>,
    /// When it was given, in milliseconds since 1970.
    pub made_at_ms: u64,
    /// For how long it may be given again.
    pub ttl: Duration,
    /// For how long after that it is kept for times in which there is no other.
    pub stale_for: Duration,
    /// How long it took to be given.
    pub took: Duration,
    /// Whose it is.
    pub owner: Owner,
}

/// The form of what is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// A completion in canonical words, as JSON, which can be written as any caller wants it.
    Completion,
    /// A whole body of vectors as the caller got it.
    Vectors,
}

/// Whose an answer is, and what it can be purged by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// The team of the key that asked first.
    pub team: Option<TeamId>,
    /// That key.
    pub caller: CallerId,
    /// The route that was asked.
    pub route: RouteName,
    /// The registered prompt and its version, where one was used.
    pub prompt: Option<String>,
    /// The tags of the request.
    pub tags: Vec<(String, String)>,
}

// === impl Head ===

impl Head {
    /// How old it is at `unix_ms`.
    pub fn age(&self, unix_ms: u64) -> Duration {
        Duration::from_millis(unix_ms.saturating_sub(self.made_at_ms))
    }
}

// === impl Kept ===

impl Kept {
    /// Keeps a completion.
    pub fn completion(head: Head, completion: &Completion) -> Option<Self> {
        // Without room to grow, which would be kept as well.
        let said = serde_json::to_vec(completion).ok()?.into_boxed_slice();
        Some(Self { head: Head { form: Form::Completion, ..head }, said: said.into() })
    }

    /// Keeps a body of vectors.
    pub fn vectors(head: Head, body: &[u8]) -> Self {
        // A copy: what was read may be a part of something larger.
        let said = Bytes::copy_from_slice(body);
        Self { head: Head { form: Form::Vectors, ..head }, said }
    }

    /// What was said, if it is a completion.
    pub fn read(&self) -> Option<Completion> {
        match self.head.form {
            Form::Completion => serde_json::from_slice(&self.said).ok(),
            Form::Vectors => None,
        }
    }

    /// All of it, for other nodes and for later.
    pub fn to_bytes(&self) -> Option<Bytes> {
        let mut bytes = Vec::with_capacity(self.said.len() + 512);
        bytes.extend_from_slice(MAGIC);
        serde_json::to_writer(&mut bytes, &self.head).ok()?;
        // Where it was cut short, the number is another one.
        bytes.extend_from_slice(format!("\n{}\n", self.said.len()).as_bytes());
        bytes.extend_from_slice(&self.said);
        Some(bytes.into())
    }

    /// What was kept so; `None` where it cannot be read.
    pub fn from_bytes(bytes: &Bytes) -> Option<Self> {
        let rest = bytes.strip_prefix(MAGIC)?;
        let (head, rest) = rest.split_at_checked(memchr::memchr(b'\n', rest)?)?;
        let rest = rest.get(1..)?;
        let (length, said) = rest.split_at_checked(memchr::memchr(b'\n', rest)?)?;
        let said = said.get(1..)?;
        let length: usize = std::str::from_utf8(length).ok()?.parse().ok()?;
        let head = serde_json::from_slice(head).ok()?;
        (length == said.len()).then(|| Self { head, said: Bytes::copy_from_slice(said) })
    }

    /// Bytes that it takes, less what it takes to find it.
    pub(crate) fn bytes(&self) -> usize {
        let Head { target, reported, dropped, owner, .. } = &self.head;
        let Owner { team, caller, route, prompt, tags } = owner;
        let names = target.as_str().len()
            + reported.len()
            + team.as_ref().map_or(0, |team| team.as_str().len())
            + caller.as_str().len()
            + route.as_str().len()
            + prompt.as_ref().map_or(0, String::len);
        let dropped: usize = dropped.iter().map(|name| name.len() + A_STRING).sum();
        let tags: usize =
            tags.iter().map(|(key, value)| key.len() + value.len() + 2 * A_STRING).sum();
        self.said.len() + size_of::<Self>() + names + dropped + tags
    }
}

/// How what other nodes keep begins. Another form of it begins otherwise.
const MAGIC: &[u8] = b"tidegate 1\n";
/// What a string takes besides its bytes.
const A_STRING: usize = size_of::<String>();

#[cfg(test)]
mod tests {
    use super::*;

    fn kept() -> Kept {
        let owner = Owner {
            team: Some(TeamId::new("t")),
            caller: CallerId::new("c"),
            route: RouteName::new("r\n"),
            prompt: None,
            tags: vec![("a".to_owned(), "b".to_owned())],
        };
        let head = Head {
            form: Form::Completion,
            target: TargetId::new("p/m"),
            reported: "m-1".to_owned(),
            cost: MicroUsd(5),
            dropped: vec!["seed".to_owned()],
            made_at_ms: 7,
            ttl: Duration::from_millis(1_500),
            stale_for: Duration::ZERO,
            took: Duration::from_micros(3),
            owner,
        };
        Kept::completion(head, &Completion::default()).unwrap()
    }

    #[test]
    fn what_is_written_for_other_nodes_is_read_as_it_was() {
        let bytes = kept().to_bytes().unwrap();
        assert_eq!(Kept::from_bytes(&bytes), Some(kept()));
        assert_eq!(Kept::from_bytes(&bytes).unwrap().read(), Some(Completion::default()));
    }

    #[test]
    fn what_was_cut_or_is_of_another_form_is_not_read() {
        let whole = kept().to_bytes().unwrap();
        for cut in 0..whole.len() {
            assert_eq!(Kept::from_bytes(&whole.slice(..cut)), None, "{cut}");
        }
        let other = Bytes::from([b"tidegate 2\n", &whole[MAGIC.len()..]].concat());
        assert_eq!(Kept::from_bytes(&other), None);
        assert_eq!(Kept::from_bytes(&Bytes::from_static(b"\xff\n\n\n")), None);
    }
}
