//! Names of things, one type each, so that a route cannot be passed where a model is meant.
//!
//! All of them are cheap to clone (a shared string) and print as the plain name.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Wraps a name as it stands; no normalisation takes place.
            pub fn new(name: impl AsRef<str>) -> Self {
                Self(Arc::from(name.as_ref()))
            }

            /// The name itself.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl From<&str> for $name {
            fn from(name: &str) -> Self {
                Self::new(name)
            }
        }
    )*};
}

names! {
    /// The company or server that answers, as named by `providers/<id>.toml` or the configuration.
    ProviderId;
    /// A model as its provider names it upstream.
    ModelName;
    /// A name that clients ask for and that stands for an ordered set of targets.
    RouteName;
    /// One base URL with one credential: `provider`, or `provider#n` for the n-th credential.
    EndpointId;
    /// Whose key a request came with; `anonymous` where no key is needed.
    CallerId;
    /// A team of callers.
    TeamId;
    /// A registered prompt: the name of its folder.
    PromptId;
    /// One request through the gateway; returned as `x-request-id`.
    RequestId;
    /// One place to send a request: `provider/model`, with `#n` for the n-th credential when a
    /// provider has several.
    TargetId;
}

// === impl RequestId ===

impl RequestId {
    /// Hexadecimal digits of the millisecond, and of what follows it.
    const DIGITS: (usize, usize) = (12, 20);

    /// An id that sorts by the time it was made: `req_`, the millisecond in 12 hexadecimal digits,
    /// and the lowest 80 bits of `random` in 20.
    pub fn at(unix_ms: u64, random: u128) -> Self {
        let (ms, random) = (unix_ms & ((1 << 48) - 1), random & ((1 << 80) - 1));
        // Every request has one, and formatting costs ten times as much.
        let mut id = *b"req_00000000000000000000000000000000";
        let digits = u128::from(ms) << 80 | random;
        for (place, digit) in id.iter_mut().skip(4).rev().zip(0_u32..) {
            let nibble = (digits >> (4 * digit)) & 0xF;
            *place = b"0123456789abcdef".get(nibble as usize).copied().unwrap_or(b'0');
        }
        Self::new(std::str::from_utf8(&id).unwrap_or_default())
    }

    /// When it was made, in milliseconds since 1970; `None` for what [`RequestId::at`] did not
    /// make.
    pub fn made_at_ms(&self) -> Option<u64> {
        let digits = self.as_str().strip_prefix("req_")?;
        let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if digits.len() != Self::DIGITS.0 + Self::DIGITS.1 || !digits.bytes().all(is_hex) {
            return None;
        }
        u64::from_str_radix(digits.get(..Self::DIGITS.0)?, 16).ok()
    }
}

// === impl CallerId ===

impl CallerId {
    /// The caller of a gateway that asks for no key.
    pub fn anonymous() -> Self {
        Self::new("anonymous")
    }

    /// The gateway itself, which asks for vectors and verdicts of its own.
    pub fn gateway() -> Self {
        Self::new("gateway")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_requests_sort_by_the_time_they_were_made_and_tell_it() {
        let now = 1_795_000_000_123;
        let (first, second) = (RequestId::at(now, u128::MAX), RequestId::at(now + 1, 0));
        assert!(first < second);
        assert_eq!(second.as_str(), "req_01a1ee565e7c00000000000000000000");
        for (id, made_at_ms) in [(first, Some(now)), (second, Some(now + 1))] {
            assert_eq!((id.as_str().len(), id.made_at_ms()), (36, made_at_ms));
        }
        for other in ["", "req_", "req_1", "chatcmpl-1", &format!("req_{}", "g".repeat(32))] {
            assert_eq!(RequestId::new(other).made_at_ms(), None, "{other}");
        }
    }
}
