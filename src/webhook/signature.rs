//! Signatures of webhooks, by the reference crate of Standard Webhooks: HMAC-SHA256 over id,
//! second and body, in base 64, each behind its version `v1,`.
//!
//! While a secret is being changed, a webhook carries a signature with each, so that receivers can
//! change theirs at any moment in between.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use standardwebhooks::Webhook;

#[cfg(test)]
mod tests;

/// The secret that a receiver's webhooks are signed with. It never prints.
#[derive(Clone, PartialEq, Eq)]
pub struct SigningSecret(String);

/// Why a text is no secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be `whsec_` and 24 to 64 bytes in base 64")]
pub struct SecretError;

/// What every secret starts with.
const PREFIX: &str = "whsec_";
/// How many bytes the standard wants of a secret.
const LENGTH: std::ops::RangeInclusive<usize> = 24..=64;

// === impl SigningSecret ===

impl SigningSecret {
    /// The secret of these bytes, which must be random.
    pub fn of(random: &[u8; 32]) -> Self {
        Self(format!("{PREFIX}{}", STANDARD.encode(random)))
    }

    /// Reads a secret as callers and the store write it.
    ///
    /// # Errors
    ///
    /// [`SecretError`].
    pub fn parse(text: &str) -> Result<Self, SecretError> {
        let encoded = text.strip_prefix(PREFIX).ok_or(SecretError)?;
        let bytes = STANDARD.decode(encoded).map_err(|_| SecretError)?;
        if LENGTH.contains(&bytes.len()) { Ok(Self(text.to_owned())) } else { Err(SecretError) }
    }

    /// The secret itself: for the store, and for the one time it is shown.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SigningSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<secret>")
    }
}

/// The value of `webhook-signature`: one signature for each secret, with a space between them.
/// `body` is what is sent, byte for byte.
pub fn sign(secrets: &[&SigningSecret], id: &str, unix_seconds: u64, body: &str) -> String {
    let seconds = i64::try_from(unix_seconds).unwrap_or(i64::MAX);
    let one = |secret: &&SigningSecret| {
        // A `SigningSecret` is base 64, and a `str` UTF-8: neither can fail.
        Webhook::new(&secret.0).and_then(|hook| hook.sign(id, seconds, body.as_bytes())).ok()
    };
    secrets.iter().filter_map(one).collect::<Vec<_>>().join(" ")
}
