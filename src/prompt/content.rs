//! What a version says, as one number: the BLAKE3 hash of its canonical form.
//!
//! Everything counts that shapes an answer. What is only about the version does not: its
//! description, when it was made, with what it was tested, and that it should not be used any more.
//! That may be changed in a version that is out.

use std::fmt;

use blake3::Hasher;
use serde_json::Value;

/// The BLAKE3 hash of what a version says.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ContentHash([u8; 32]);

// === impl ContentHash ===

impl ContentHash {
    /// The hash of a value; the order of an object's members does not count.
    pub fn of(value: &Value) -> Self {
        let mut hash = Hasher::new();
        hash.update(b"tidegate prompt 1");
        feed(&mut hash, value);
        Self(hash.finalize().into())
    }
}

impl std::str::FromStr for ContentHash {
    type Err = blake3::HexError;

    fn from_str(text: &str) -> Result<Self, blake3::HexError> {
        blake3::Hash::from_hex(text).map(|hash| Self(hash.into()))
    }
}

impl fmt::Display for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&blake3::Hash::from_bytes(self.0).to_hex())
    }
}

impl fmt::Debug for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A kind, a length and the bytes: nothing else reads the same.
fn feed(hash: &mut Hasher, value: &Value) {
    match value {
        Value::Null => text(hash, b'0', ""),
        Value::Bool(truth) => text(hash, b'b', if *truth { "t" } else { "f" }),
        Value::Number(number) => text(hash, b'n', &number.to_string()),
        Value::String(string) => text(hash, b's', string),
        Value::Array(items) => {
            text(hash, b'[', &items.len().to_string());
            items.iter().for_each(|item| feed(hash, item));
        }
        Value::Object(map) => {
            text(hash, b'{', &map.len().to_string());
            let mut members: Vec<_> = map.iter().collect();
            members.sort_unstable_by_key(|(key, _)| key.as_str());
            for (key, value) in members {
                text(hash, b'k', key);
                feed(hash, value);
            }
        }
    }
}

fn text(hash: &mut Hasher, kind: u8, text: &str) {
    hash.update(&[kind]);
    hash.update(&(text.len() as u64).to_le_bytes());
    hash.update(text.as_bytes());
}
