//! Where a provider answers: scheme, host and port, and the path below which everything lies.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Scheme, host and port: what a connection belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Origin {
    /// Whether the connection is encrypted.
    pub https: bool,
    /// The host; an IPv6 address stands without its brackets.
    pub host: Arc<str>,
    /// The port.
    pub port: u16,
    /// Whether this is the simulated provider, which is reached without a socket.
    pub sim: bool,
}

/// An [`Origin`] and the path below which a provider's endpoints lie.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct BaseUrl {
    /// Where to connect.
    pub origin: Origin,
    /// The path in front of every endpoint: empty, or starts with `/` and does not end with one.
    pub path: Arc<str>,
}

/// Why a base URL could not be read; says what would be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UrlError(String);

// === impl Origin ===

impl Origin {
    /// The host as it stands in a `host` header: brackets around an IPv6 address, and the port
    /// only where it is not the scheme's own.
    pub fn authority(&self) -> String {
        // By hand: each request to a provider has it in its head.
        let mut authority = String::with_capacity(self.host.len() + "[]:65535".len());
        if self.host.contains(':') {
            authority.extend(["[", &self.host, "]"]);
        } else {
            authority.push_str(&self.host);
        }
        if !self.sim && self.port != default_port(self.https) {
            authority.extend([":", itoa::Buffer::new().format(self.port)]);
        }
        authority
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self {
            Self { sim: true, .. } => "sim",
            Self { https: true, .. } => "https",
            Self { .. } => "http",
        };
        write!(f, "{scheme}://{}", self.authority())
    }
}

// === impl BaseUrl ===

impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.origin, self.path)
    }
}

impl FromStr for BaseUrl {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        let wrong = |why: &str| {
            UrlError(format!(
                "`{text}` is no base URL: {why}; write it like `https://api.example.com/v1`"
            ))
        };
        let (scheme, rest) = text.split_once("://").ok_or_else(|| wrong("it has no scheme"))?;
        let (https, sim) = match scheme {
            "https" => (true, false),
            "http" => (false, false),
            "sim" => (false, true),
            _ => return Err(wrong("the scheme must be `https` or `http`")),
        };
        let (authority, path) = match rest.find('/') {
            Some(at) => rest.split_at_checked(at).ok_or_else(|| wrong("it cannot be read"))?,
            None => (rest, ""),
        };
        if authority.contains('@') {
            return Err(wrong("it must not hold credentials"));
        }
        if path.contains(['?', '#']) || authority.contains(['?', '#']) {
            return Err(wrong("it must not have a query or a fragment"));
        }
        let uri: http::Uri = format!("http://{authority}{path}")
            .parse()
            .map_err(|_| wrong("it has a character that does not belong there"))?;
        let host = uri.host().unwrap_or("").trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() {
            return Err(wrong("it has no host"));
        }
        let named_port = match authority.rsplit_once(':') {
            Some((_, port)) if !port.ends_with(']') => {
                Some(port.parse::<u16>().map_err(|_| wrong("the port must be 1 to 65535"))?)
            }
            _ => None,
        };
        let port = named_port.unwrap_or(default_port(https));
        if port == 0 {
            return Err(wrong("the port must be 1 to 65535"));
        }
        Ok(Self {
            origin: Origin { https, host: Arc::from(host.to_ascii_lowercase()), port, sim },
            path: Arc::from(path.trim_end_matches('/')),
        })
    }
}

const fn default_port(https: bool) -> u16 {
    if https { 443 } else { 80 }
}
