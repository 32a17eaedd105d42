//! The key that a caller chooses, and what it stands for.

use std::fmt;

use sha2::{Digest as _, Sha256};

use crate::ids::CallerId;

/// What a caller sent as `Idempotency-Key`: 1 to 255 visible characters of ASCII.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyKey(String);

/// What a key is unique within. The same key of another caller, or for another endpoint, is another
/// one.
#[derive(Debug, Clone, Copy)]
pub struct Scope<'a> {
    /// Whose key it is.
    pub caller: &'a CallerId,
    /// The request's method.
    pub method: &'a str,
    /// The request's path, without its query.
    pub path: &'a str,
    /// The key.
    pub key: &'a IdempotencyKey,
}

/// Scope and key as one name. Of fixed size, and nothing that a caller chose is kept in the clear.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RowId(pub(super) [u8; 32]);

impl fmt::Display for RowId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

// === impl IdempotencyKey ===

impl IdempotencyKey {
    /// The longest key.
    pub const MAX_CHARS: usize = 255;

    /// Reads a key; `None` where it is empty, too long, or has a character that cannot be seen.
    pub fn parse(text: &str) -> Option<Self> {
        let is_good = (1..=Self::MAX_CHARS).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_graphic());
        is_good.then(|| Self(text.to_owned()))
    }
}

// === impl Scope ===

impl Scope<'_> {
    /// The name of the row.
    pub fn row_id(&self) -> RowId {
        let mut hash = Sha256::new();
        for part in [self.caller.as_str(), self.method, self.path, &self.key.0] {
            // The length first, so that no two scopes read the same.
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        RowId(hash.finalize().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_1_to_255_visible_characters() {
        let longest = "k".repeat(255);
        for good in ["1", "\"8e03978e\"", "stainless-python-retry-8e03", "~!", &longest] {
            assert!(IdempotencyKey::parse(good).is_some(), "{good}");
        }
        let too_long = "k".repeat(256);
        for bad in ["", " ", "a b", "a\tb", "a\u{7f}", "schlüssel", &too_long] {
            assert_eq!(IdempotencyKey::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn the_same_key_of_another_scope_is_another_row() {
        let [one, two] = ["k1", "k1a"].map(|key| IdempotencyKey::parse(key).unwrap());
        let [ann, bob] = ["ann", "bob"].map(CallerId::new);
        let scope = Scope { caller: &ann, method: "POST", path: "/v1/messages", key: &one };
        let same = Scope { ..scope };
        assert_eq!(scope.row_id(), same.row_id());
        let others = [
            Scope { caller: &bob, ..scope },
            Scope { method: "PUT", ..scope },
            Scope { path: "/v1/embeddings", ..scope },
            Scope { key: &two, ..scope },
            // What ends one part does not begin the next.
            Scope { path: "/v1/messagesk", key: &IdempotencyKey::parse("1").unwrap(), ..scope },
        ];
        for other in others {
            assert_ne!(scope.row_id(), other.row_id(), "{other:?}");
        }
    }
}
