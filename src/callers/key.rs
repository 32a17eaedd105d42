//! One key: how it is made, and what is kept of it.

use std::fmt;

use rand::RngExt;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

/// A key in the clear: fresh from [`SecretKey::generate`], or given by the operator. It never
/// prints.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretKey(String);

/// The SHA-256 of a key, which is all that is kept.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyHash([u8; 32]);

/// What a caller's key starts with.
const CALLER_PREFIX: &str = "tg-";
/// What a generated admin key starts with.
const ADMIN_PREFIX: &str = "tga-";
/// 40 characters of 62 are 238 bits.
const RANDOM_CHARS: usize = 40;
const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Less than this can be guessed, by who may try often enough.
const SAFE_CHARS: usize = 16;

// === impl SecretKey ===

impl SecretKey {
    /// Whether it is too short to be safe.
    pub fn is_short(&self) -> bool {
        self.0.len() < SAFE_CHARS
    }

    /// A key as the operator gave it.
    pub fn new(key: impl Into<String>) -> Self {
        Self(key.into())
    }

    /// A new key for a caller: `tg-` and 40 random characters.
    pub fn generate() -> Self {
        Self(format!("{CALLER_PREFIX}{}", random_base62(RANDOM_CHARS)))
    }

    /// A new admin key: `tga-` and 40 random characters.
    pub fn generate_admin() -> Self {
        Self(format!("{ADMIN_PREFIX}{}", random_base62(RANDOM_CHARS)))
    }

    /// The key itself, for the one time it is shown.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// What is kept of it.
    pub fn hash(&self) -> KeyHash {
        KeyHash::of(&self.0)
    }

    /// The last four characters, by which people tell keys apart.
    pub fn hint(&self) -> String {
        let skip = self.0.chars().count().saturating_sub(4);
        self.0.chars().skip(skip).collect()
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<secret>")
    }
}

// === impl KeyHash ===

impl KeyHash {
    /// The hash of a key in the clear.
    pub fn of(key: &str) -> Self {
        Self(Sha256::digest(key.as_bytes()).into())
    }

    /// A hash as the store gives it back; `None` if it is none.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// For the store.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl Serialize for KeyHash {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&self.0.map(|byte| format!("{byte:02x}")).concat())
    }
}

impl<'de> Deserialize<'de> for KeyHash {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let digits = text.as_bytes().chunks_exact(2);
        let bytes: Option<Vec<u8>> = digits
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
            .collect();
        let hash = bytes.filter(|_| text.len() == 64).and_then(|bytes| Self::from_bytes(&bytes));
        hash.ok_or_else(|| D::Error::custom("a hash is 64 hexadecimal digits"))
    }
}

impl ConstantTimeEq for KeyHash {
    fn ct_eq(&self, other: &Self) -> Choice {
        self.0.ct_eq(&other.0)
    }
}

impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<hash>")
    }
}

/// `count` random characters of base 62, from the operating system by way of a generator that is
/// made for secrets.
pub(crate) fn random_base62(count: usize) -> String {
    let mut rng = rand::rng();
    (0..count)
        .map(|_| {
            let at = rng.random_range(0..BASE62.len());
            BASE62.get(at).map_or('0', |byte| char::from(*byte))
        })
        .collect()
}
