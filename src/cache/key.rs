//! What a request asks, as one number: requests with one key may get one answer.
//!
//! Everything counts that may shape an answer: who asks, the route with all its targets, the
//! instructions' version, the endpoint, headers that change what is asked for, and the whole body
//! but for the few members that are known to shape nothing ([`SHAPELESS`]). A member that nobody
//! here has heard of counts, too. Pictures and files count by their bytes, which are in the body.
//!
//! Bodies are compared as JSON values: the order of an object's members does not count, that of a
//! list does; `1` and `1.0` are the same number. A body in which a member comes twice has no key,
//! because readers disagree about which one counts; nor has one with a number that is too large to
//! be told from others.

use std::fmt;

use super::RouteCacheSettings;
use crate::dialect::Dialect;
use crate::ids::{CallerId, ModelName, ProviderId, RouteName, TeamId};

mod canonical;
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
const VERSION: &[u8] = b"tidegate 3";
/// What comes before the body, about.
const USUAL_REST: usize = 256;
/// What becomes of a body, about, however long its texts are.
const USUAL_BODY: usize = 4 * 1024;

// === impl Key ===

impl Key {
    /// The key of a question; `None` where the body can be read in two ways, or is nested so deeply
    /// that it is not read.
    pub fn of(question: &Question<'_>) -> Option<Self> {
        let mut out = Vec::with_capacity(question.body.len().min(USUAL_BODY) + USUAL_REST);
        out.extend_from_slice(VERSION);
        match question.tenant {
            Tenant::Team(team) => text(&mut out, b't', team.as_str().as_bytes()),
            Tenant::Caller(caller) => text(&mut out, b'c', caller.as_str().as_bytes()),
            Tenant::User(caller, user) => {
                text(&mut out, b'c', caller.as_str().as_bytes());
                text(&mut out, b'u', user);
            }
        }
        out.extend_from_slice(&question.route.0);
        text(&mut out, b'p', question.prompt.unwrap_or_default().as_bytes());
        text(&mut out, b'e', question.endpoint.as_bytes());
        text(&mut out, b'd', question.dialect.as_str().as_bytes());
        for (name, value) in question.headers {
            text(&mut out, b'h', name.as_bytes());
            text(&mut out, b'v', value);
        }
        canonical::write(&mut out, question.body)?;
        Some(Self(blake3::hash(&out).into()))
    }

    /// The key of what these bytes say.
    pub fn of_bytes(bytes: &[u8]) -> Self {
        let mut out = Vec::with_capacity(bytes.len() + USUAL_REST);
        text(&mut out, b'b', bytes);
        Self(blake3::hash(&out).into())
    }

    /// The key that is written so, see [`Key::to_hex`].
    pub fn from_hex(hex: &str) -> Option<Self> {
        blake3::Hash::from_hex(hex).ok().map(|hash| Self(hash.into()))
    }

    /// A key of its own for each of several words within this one.
    #[must_use]
    pub fn within(self, word: &str) -> Self {
        let mut out = self.0.to_vec();
        text(&mut out, b'w', word.as_bytes());
        Self(blake3::hash(&out).into())
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
        let mut out = Vec::new();
        text(&mut out, b'r', name.as_str().as_bytes());
        for (tier, provider, model) in targets {
            out.extend_from_slice(&tier.to_le_bytes());
            text(&mut out, b'p', provider.as_bytes());
            text(&mut out, b'm', model.as_bytes());
        }
        Self(blake3::hash(&out).into())
    }

    /// The same with what shapes which answers may be kept, see [`policy`](super::policy): what is
    /// found under one's key was allowed under these settings.
    #[must_use]
    pub fn with_policy(self, settings: &RouteCacheSettings) -> Self {
        let RouteCacheSettings { max_temperature, tools, time_sensitive, .. } = settings;
        let mut out = self.0.to_vec();
        out.extend_from_slice(&max_temperature.to_le_bytes());
        out.extend_from_slice(&[u8::from(*tools), u8::from(*time_sensitive)]);
        Self(blake3::hash(&out).into())
    }
}

impl fmt::Debug for RouteIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&blake3::Hash::from_bytes(self.0).to_hex())
    }
}

/// A kind, a length, and the bytes: nothing else reads the same.
fn text(out: &mut Vec<u8>, kind: u8, bytes: &[u8]) {
    out.push(kind);
    out.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
    out.extend_from_slice(bytes);
}
