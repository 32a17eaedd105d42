//! What a request asks, as one number: requests with one key may get one answer.
//!
//! Everything counts that may shape an answer: who asks, the route with all its targets, the
//! instructions' version, the endpoint, headers that change what is asked for, and the whole body but
//! for the few members that are known to shape nothing ([`SHAPELESS`]). A member that nobody here has
//! heard of counts, too. Pictures and files count by their bytes, which are in the body.
//!
//! Bodies are compared as JSON values: the order of an object's members does not count, that of a
//! list does; `1` and `1.0` are the same number. A body in which a member comes twice has no key,
//! because readers disagree about which one counts; nor has one with a number that is too large to be
//! told from others.

use std::fmt;

use blake3::Hasher;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use crate::dialect::Dialect;
use crate::ids::{CallerId, ModelName, ProviderId, RouteName, TeamId};

#[cfg(test)]
mod tests;

/// The BLAKE3 hash of what a request asks.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key([u8; 32]);

/// What a route stands for: its name and all places where it may be answered.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct RouteIdentity([u8; 32]);

/// Who shares answers: they never pass to anybody else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tenant<'a> {
    /// The keys of a team.
    Team(&'a TeamId),
    /// One key.
    Caller(&'a CallerId),
    /// One user of a key, as the key's requests name it.
    User(&'a CallerId, &'a [u8]),
}

/// What a key is made of.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// Who asks.
    pub tenant: Tenant<'a>,
    /// What is asked.
    pub route: &'a RouteIdentity,
    /// The registered prompt and its version, where one is used.
    pub prompt: Option<&'a str>,
    /// The endpoint's word.
    pub endpoint: &'static str,
    /// The wire the caller speaks.
    pub dialect: Dialect,
    /// Headers that change what is asked for, in an order that is always the same.
    pub headers: &'a [(&'a str, &'a [u8])],
    /// The body.
    pub body: &'a [u8],
}

/// Top-level members of a body that do not shape an answer: how it is sent, whom it is for, what it
/// is filed under, and where a provider keeps prefixes of prompts. `model` is in the route.
pub const SHAPELESS: [&str; 9] = [
    "model",
    "stream",
    "stream_options",
    "user",
    "safety_identifier",
    "metadata",
    "prompt_cache_key",
    "prompt_cache_retention",
    "prompt_cache_options",
];

/// Another one makes other keys of the same questions.
const VERSION: &[u8] = b"tidegate 1";
/// Whole numbers up to here are the same as floats.
const EXACT: f64 = 9_007_199_254_740_992.0;
/// Whole numbers from here on (2^63) are read as floats, many of them as the same one.
const INEXACT: f64 = 9_223_372_036_854_775_808.0;

// === impl Key ===

impl Key {
    /// The key of a question; `None` where the body can be read in two ways, or is nested so deeply
    /// that it is not read.
    pub fn of(question: &Question<'_>) -> Option<Self> {
        let mut hash = Hasher::new();
        hash.update(VERSION);
        match question.tenant {
            Tenant::Team(team) => text(&mut hash, b't', team.as_str().as_bytes()),
            Tenant::Caller(caller) => text(&mut hash, b'c', caller.as_str().as_bytes()),
            Tenant::User(caller, user) => {
                text(&mut hash, b'c', caller.as_str().as_bytes());
                text(&mut hash, b'u', user);
            }
        }
        hash.update(&question.route.0);
        text(&mut hash, b'p', question.prompt.unwrap_or_default().as_bytes());
        text(&mut hash, b'e', question.endpoint.as_bytes());
        text(&mut hash, b'd', question.dialect.as_str().as_bytes());
        for (name, value) in question.headers {
            text(&mut hash, b'h', name.as_bytes());
            text(&mut hash, b'v', value);
        }
        let mut reader = serde_json::Deserializer::from_slice(question.body);
        let body = Value { hash: &mut hash, is_top: true };
        body.deserialize(&mut reader).and_then(|()| reader.end()).ok()?;
        Some(Self(hash.finalize().into()))
    }

    /// The key of what these bytes say.
    pub fn of_bytes(bytes: &[u8]) -> Self {
        let mut hash = Hasher::new();
        text(&mut hash, b'b', bytes);
        Self(hash.finalize().into())
    }

    /// The key that is written so, see [`Key::to_hex`].
    pub fn from_hex(hex: &str) -> Option<Self> {
        blake3::Hash::from_hex(hex).ok().map(|hash| Self(hash.into()))
    }

    /// A key of its own for each of several words within this one.
    #[must_use]
    pub fn within(self, word: &str) -> Self {
        let mut hash = Hasher::new();
        hash.update(&self.0);
        text(&mut hash, b'w', word.as_bytes());
        Self(hash.finalize().into())
    }

    /// The first 8 bytes as a number.
    pub fn to_number(self) -> u64 {
        self.0.first_chunk().map_or(0, |first| u64::from_be_bytes(*first))
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// As 64 hexadecimal digits.
    pub fn to_hex(self) -> String {
        blake3::Hash::from_bytes(self.0).to_hex().to_string()
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_hex())
    }
}

// === impl RouteIdentity ===

impl RouteIdentity {
    /// The identity of a route with these targets: tier, provider and model of each.
    pub fn of<'a>(
        name: &RouteName,
        targets: impl IntoIterator<Item = (u32, &'a ProviderId, &'a ModelName)>,
    ) -> Self {
        // Which of a provider's credentials is used, and how often, shapes no answer.
        let mut targets: Vec<_> = targets
            .into_iter()
            .map(|(tier, provider, model)| (tier, provider.as_str(), model.as_str()))
            .collect();
        targets.sort_unstable();
        targets.dedup();
        let mut hash = Hasher::new();
        text(&mut hash, b'r', name.as_str().as_bytes());
        for (tier, provider, model) in targets {
            hash.update(&tier.to_le_bytes());
            text(&mut hash, b'p', provider.as_bytes());
            text(&mut hash, b'm', model.as_bytes());
        }
        Self(hash.finalize().into())
    }
}

impl fmt::Debug for RouteIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&blake3::Hash::from_bytes(self.0).to_hex())
    }
}

/// A kind, a length, and the bytes: nothing else reads the same.
fn text(hash: &mut Hasher, kind: u8, bytes: &[u8]) {
    hash.update(&[kind]);
    hash.update(&(bytes.len() as u64).to_le_bytes());
    hash.update(bytes);
}

/// Reads a JSON value into a hash.
struct Value<'a> {
    hash: &'a mut Hasher,
    /// Whether it is the body itself, some of whose members do not count.
    is_top: bool,
}

// === impl Value ===

impl Value<'_> {
    fn whole(&mut self, value: i128) {
        self.hash.update(b"i");
        self.hash.update(&value.to_le_bytes());
    }
}

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
        self.hash.update(b"0");
        Ok(())
    }

    fn visit_bool<E>(self, value: bool) -> Result<(), E> {
        self.hash.update(if value { b"T" } else { b"F" });
        Ok(())
    }

    fn visit_u64<E>(mut self, value: u64) -> Result<(), E> {
        self.whole(value.into());
        Ok(())
    }

    fn visit_i64<E>(mut self, value: i64) -> Result<(), E> {
        self.whole(value.into());
        Ok(())
    }

    fn visit_f64<E: Error>(mut self, value: f64) -> Result<(), E> {
        if value.abs() >= INEXACT {
            return Err(E::custom("a number that may be another one"));
        }
        if value.fract() == 0.0 && value.abs() < EXACT {
            #[expect(clippy::cast_possible_truncation, reason = "a whole number below 2^53")]
            self.whole(value as i128);
        } else {
            self.hash.update(b"f");
            self.hash.update(&value.to_bits().to_le_bytes());
        }
        Ok(())
    }

    fn visit_str<E>(self, value: &str) -> Result<(), E> {
        text(self.hash, b's', value.as_bytes());
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        self.hash.update(b"[");
        while items.next_element_seed(Value { hash: &mut *self.hash, is_top: false })?.is_some() {}
        self.hash.update(b"]");
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        let mut hashes: Vec<(String, [u8; 32])> = Vec::new();
        while let Some(key) = members.next_key::<String>()? {
            if self.is_top && SHAPELESS.contains(&key.as_str()) {
                members.next_value::<serde::de::IgnoredAny>()?;
                continue;
            }
            let mut hash = Hasher::new();
            members.next_value_seed(Value { hash: &mut hash, is_top: false })?;
            hashes.push((key, hash.finalize().into()));
        }
        hashes.sort_unstable();
        if hashes.windows(2).any(|pair| matches!(pair, [one, other] if one.0 == other.0)) {
            return Err(A::Error::custom("a member comes twice"));
        }
        self.hash.update(b"{");
        self.hash.update(&(hashes.len() as u64).to_le_bytes());
        for (key, value) in &hashes {
            text(self.hash, b'k', key.as_bytes());
            self.hash.update(value);
        }
        Ok(())
    }
}
