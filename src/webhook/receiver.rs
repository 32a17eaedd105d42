//! Where a webhook goes: the URL that a caller named, taken apart and checked as far as that can
//! be done without asking anybody.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

use super::address::{Network, is_among, may_receive};

#[cfg(test)]
mod tests;

/// A URL that webhooks may be sent to. Names that resolve to addresses of the inside are found out
/// only when a webhook is sent.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Receiver {
    /// Whether the connection is encrypted.
    pub https: bool,
    /// The host; an IPv6 address stands without its brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// Path and query, at least `/`.
    pub path: String,
}

/// Why webhooks cannot go to a URL; says what would be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ReceiverError(&'static str);

/// The longest URL.
const MAX_URL_BYTES: usize = 2_000;

// === impl Receiver ===

impl Receiver {
    /// Refuses what needs no look-up to be refused: an address of the inside, `localhost`, and
    /// `http://` to anywhere that the operator has not allowed.
    ///
    /// # Errors
    ///
    /// [`ReceiverError`] with the rule.
    pub fn check(&self, allowed: &[Network]) -> Result<(), ReceiverError> {
        let literal = self.literal();
        if literal.is_some_and(|address| !may_receive(address, allowed)) {
            return Err(ReceiverError(
                "is an address of a private network; webhooks go to public addresses and to those \
                 that `webhooks.allow_private` names",
            ));
        }
        match self.https {
            true => Ok(()),
            false if literal.is_some_and(|address| is_among(address, allowed)) => Ok(()),
            // A name: whether it is one of the allowed networks is known when it is looked up.
            false if literal.is_none() && !allowed.is_empty() => Ok(()),
            false => Err(ReceiverError("must begin with `https://`")),
        }
    }

    /// Whether a webhook may be sent to `address`, one of those that the host stands for. Without
    /// TLS only the operator's own networks are.
    pub fn may_connect(&self, address: IpAddr, allowed: &[Network]) -> bool {
        if self.https { may_receive(address, allowed) } else { is_among(address, allowed) }
    }

    /// The address, where the host is one. Old notations count (`2130706433`, `0x7f.1`,
    /// `017700000001`), because resolvers take them.
    fn literal(&self) -> Option<IpAddr> {
        if self.host == "localhost" || self.host.ends_with(".localhost") {
            return Some(Ipv4Addr::LOCALHOST.into());
        }
        self.host.parse().ok().or_else(|| old_notation(&self.host).map(IpAddr::V4))
    }
}

/// An IPv4 address of one to four numbers, each decimal, octal or hexadecimal, the last one filling
/// what is left (`inet_aton`).
fn old_notation(host: &str) -> Option<Ipv4Addr> {
    let mut parts: Vec<u32> = Vec::with_capacity(4);
    for part in host.strip_suffix('.').unwrap_or(host).split('.') {
        let number = match part.strip_prefix("0x").or_else(|| part.strip_prefix("0X")) {
            Some("") => 0,
            Some(hexadecimal) => u32::from_str_radix(hexadecimal, 16).ok()?,
            None if part.len() > 1 && part.starts_with('0') => u32::from_str_radix(part, 8).ok()?,
            None => part.parse().ok()?,
        };
        parts.push(number);
    }
    let last = parts.pop()?;
    if parts.len() > 3 || parts.iter().any(|part| *part > 255) {
        return None;
    }
    let rest_bits = 32 - 8 * u32::try_from(parts.len()).ok()?;
    if u64::from(last) >> rest_bits != 0 {
        return None;
    }
    let high = parts.iter().fold(0_u64, |high, part| high << 8 | u64::from(*part));
    u32::try_from(high << rest_bits | u64::from(last)).ok().map(Ipv4Addr::from_bits)
}

impl FromStr for Receiver {
    type Err = ReceiverError;

    fn from_str(url: &str) -> Result<Self, ReceiverError> {
        if url.len() > MAX_URL_BYTES {
            return Err(ReceiverError("must not be longer than 2000 characters"));
        }
        if url.contains('#') {
            return Err(ReceiverError("must not have a fragment (`#`)"));
        }
        let wrong = || ReceiverError("must be a URL like `https://example.com/hooks`");
        let uri: http::Uri = url.parse().map_err(|_| wrong())?;
        let https = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            Some(_) | None => return Err(ReceiverError("must begin with `https://`")),
        };
        let authority = uri.authority().ok_or_else(wrong)?;
        if authority.as_str().contains('@') {
            return Err(ReceiverError("must not hold a user or a password"));
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() || host.contains('%') {
            return Err(wrong());
        }
        let has_port = authority.as_str().len() > authority.host().len();
        let port = match authority.port_u16() {
            Some(0) => return Err(wrong()),
            None if has_port => return Err(wrong()),
            Some(port) => port,
            None if https => 443,
            None => 80,
        };
        let path = uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
        // Said at once: a transport would refuse to send it.
        if !path.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(ReceiverError("must have other letters than ASCII's written as `%C3%A9`"));
        }
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        Ok(Self { https, host: host.to_ascii_lowercase(), port, path })
    }
}

impl fmt::Display for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, usual) = if self.https { ("https", 443) } else { ("http", 80) };
        write!(f, "{scheme}://")?;
        if self.host.contains(':') {
            write!(f, "[{}]", self.host)?;
        } else {
            f.write_str(&self.host)?;
        }
        if self.port != usual {
            write!(f, ":{}", self.port)?;
        }
        f.write_str(&self.path)
    }
}
