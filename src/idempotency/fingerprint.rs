//! What a request says, as one number: two requests with one key must say the same.
//!
//! Bodies are compared as JSON values. Clients write the same value in more than one way: a retry
//! may order members differently or leave other blanks. Everything else counts, the order of an
//! array as well as `1` against `1.0`.
//!
//! The body is read once and no copy of it is made. Members of an object are hashed one by one and
//! their hashes sorted, so that an object takes 32 bytes a member while it is read.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use sha2::{Digest as _, Sha256};

/// The SHA-256 of what a request says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint(pub(super) [u8; 32]);

/// Reads a JSON value into a hash.
struct Value<'a>(&'a mut Sha256);

/// Reads a key into a hash.
struct Key<'a>(&'a mut Sha256);

// === impl Fingerprint ===

impl Fingerprint {
    /// Takes the body, and those headers which change what is asked for: name and value, in an
    /// order that is always the same.
    pub fn of<'a>(
        body: &[u8],
        headers: impl IntoIterator<Item = (&'static str, &'a [u8])>,
    ) -> Self {
        let mut hash = Sha256::new();
        for (name, value) in headers {
            text(&mut hash, b'h', name.as_bytes());
            text(&mut hash, b'v', value);
        }
        let mut value = Sha256::new();
        let mut reader = serde_json::Deserializer::from_slice(body);
        let read = Value(&mut value).deserialize(&mut reader).and_then(|()| reader.end());
        match read {
            Ok(()) => {
                hash.update(b"j");
                hash.update(value.finalize());
            }
            // Not JSON, or nested deeper than is read: then the bytes say what it says.
            Err(_) => text(&mut hash, b'b', body),
        }
        Self(hash.finalize().into())
    }
}

/// A kind, a length, and the bytes: nothing else reads the same.
fn text(hash: &mut Sha256, kind: u8, bytes: &[u8]) {
    hash.update([kind]);
    hash.update((bytes.len() as u64).to_le_bytes());
    hash.update(bytes);
}

// === impl Value ===

impl<'de> DeserializeSeed<'de> for Value<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Value<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        self.0.update(b"0");
        Ok(())
    }

    fn visit_bool<E>(self, value: bool) -> Result<(), E> {
        self.0.update(if value { b"T" } else { b"F" });
        Ok(())
    }

    fn visit_u64<E>(self, value: u64) -> Result<(), E> {
        self.0.update(b"i");
        self.0.update(i128::from(value).to_le_bytes());
        Ok(())
    }

    fn visit_i64<E>(self, value: i64) -> Result<(), E> {
        self.0.update(b"i");
        self.0.update(i128::from(value).to_le_bytes());
        Ok(())
    }

    fn visit_f64<E>(self, value: f64) -> Result<(), E> {
        self.0.update(b"f");
        self.0.update(value.to_bits().to_le_bytes());
        Ok(())
    }

    fn visit_str<E>(self, value: &str) -> Result<(), E> {
        text(self.0, b's', value.as_bytes());
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        self.0.update(b"[");
        while items.next_element_seed(Value(&mut *self.0))?.is_some() {}
        self.0.update(b"]");
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        let mut hashes: Vec<[u8; 32]> = Vec::new();
        loop {
            let mut member = Sha256::new();
            if members.next_key_seed(Key(&mut member))?.is_none() {
                break;
            }
            members.next_value_seed(Value(&mut member))?;
            hashes.push(member.finalize().into());
        }
        hashes.sort_unstable();
        self.0.update(b"{");
        self.0.update((hashes.len() as u64).to_le_bytes());
        for hash in &hashes {
            self.0.update(hash);
        }
        Ok(())
    }
}

// === impl Key ===

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<(), E> {
        text(self.0, b'k', key.as_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(body: &str) -> Fingerprint {
        Fingerprint::of(body.as_bytes(), [])
    }

    #[test]
    fn the_same_value_written_differently_is_the_same() {
        let plain = r#"{"model":"m","n":1,"messages":[{"role":"user","content":"é"}],"x":null}"#;
        for same in [
            "{ \"model\" : \"m\",\n\"n\":1, \"messages\": [ {\"role\":\"user\",\
             \"content\":\"\\u00e9\"} ], \"x\":null }",
            r#"{"x":null,"messages":[{"content":"é","role":"user"}],"n":1,"model":"m"}"#,
        ] {
            assert_eq!(of(plain), of(same), "{same}");
        }
    }

    #[test]
    fn every_other_difference_counts() {
        let bodies = [
            r#"{"a":1}"#,
            r#"{"a":1.0}"#,
            r#"{"a":-1}"#,
            r#"{"a":"1"}"#,
            r#"{"a":[1]}"#,
            r#"{"a":[1,2]}"#,
            r#"{"a":[2,1]}"#,
            r#"{"a":[[1],2]}"#,
            r#"{"a":[[1,2]]}"#,
            r#"{"a":[],"b":1}"#,
            r#"{"a":{"b":1}}"#,
            r#"{"a":true}"#,
            r#"{"a":false}"#,
            r#"{"a":null}"#,
            r#"{"b":1}"#,
            r#"{"a":1,"b":1}"#,
            r#"{"a":1,"a":1}"#,
            r#"{"ab":""}"#,
            r#"{"a":"b"}"#,
            "{}",
            "[]",
            "\"a\"",
            "not JSON",
            "not  JSON",
            "{}x",
            "",
        ];
        for (index, one) in bodies.iter().enumerate() {
            for other in bodies.iter().skip(index + 1) {
                assert_ne!(of(one), of(other), "{one} {other}");
            }
        }
    }

    #[test]
    fn headers_that_change_what_is_asked_for_count() {
        let beta = |value: &'static str| Fingerprint::of(b"{}", [("beta", value.as_bytes())]);
        assert_eq!(beta("a"), beta("a"));
        assert_ne!(beta("a"), beta("b"));
        assert_ne!(beta(""), of("{}"));
    }

    #[test]
    fn nesting_without_end_is_compared_by_its_bytes() {
        let deep = |end: &str| format!("{}{end}", "[".repeat(100_000));
        assert_eq!(of(&deep("1")), of(&deep("1")));
        assert_ne!(of(&deep("1")), of(&deep("2")));
    }
}
