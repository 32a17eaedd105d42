//! `[cluster]`: where nodes share state.

use std::fmt;
use std::str::FromStr;

use redis::{ConnectionAddr, IntoConnectionInfo, ProtocolVersion, RedisConnectionInfo};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, Serializer};

/// Where the gateway shares limits and what it knows of providers with other nodes.
///
/// ```toml
/// [cluster]
/// url = "redis://:${REDIS_PASSWORD}@redis.internal:6379"
/// node = "eu-1"
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ClusterSettings {
    /// A Redis or Valkey server, `redis://[user:password@]host[:port][/database]`, or `rediss://`
    /// for TLS; `${NAME}` stands for an environment variable. One primary: Redis Cluster is not
    /// supported. Absent: this node is alone.
    #[schemars(extend("examples" = ["redis://127.0.0.1:6379"]))]
    pub url: Option<RedisUrl>,
    /// The name of this node, of letters, digits, `-`, `_` and `.`, at most 64. Absent: a new one
    /// at each start.
    #[schemars(extend("examples" = ["eu-1"]))]
    pub node: Option<String>,
    /// The first part of the names of all keys and channels, so that several clusters can use one
    /// server. Letters, digits, `-`, `_` and `.`, at most 64.
    pub namespace: String,
}

/// The address of a server with what may be a password in it, which is never shown.
#[derive(Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct RedisUrl(String);

/// A server, and how to log in.
#[derive(Clone)]
pub(super) struct Address {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) tls: bool,
    pub(super) login: RedisConnectionInfo,
}

/// Why a URL or a name is refused; says what would be right and never shows the URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ClusterSettingsError(String);

impl Default for ClusterSettings {
    fn default() -> Self {
        Self { url: None, node: None, namespace: "tidegate".to_owned() }
    }
}

// === impl ClusterSettings ===

impl ClusterSettings {
    /// What is wrong, each with the key it is about.
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let mut problems = Vec::new();
        if let Some(Err(error)) = self.url.as_ref().map(RedisUrl::address) {
            problems.push(("url", error.to_string()));
        }
        let names = [("node", self.node.as_ref()), ("namespace", Some(&self.namespace))];
        for (key, name) in names {
            if name.is_some_and(|name| !is_name(name)) {
                let message = "must be 1 to 64 letters, digits, `-`, `_` or `.`";
                problems.push((key, message.to_owned()));
            }
        }
        problems
    }
}

/// Names stand in keys of Redis, in logs and in metrics.
fn is_name(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    (1..=64).contains(&name.len()) && name.bytes().all(fits)
}

// === impl RedisUrl ===

impl RedisUrl {
    /// The URL as it was written.
    pub fn new(url: impl Into<String>) -> Self {
        Self(url.into())
    }

    /// The URL with its password.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// What it says.
    ///
    /// # Errors
    ///
    /// What is wrong with it, without showing it.
    pub(super) fn address(&self) -> Result<Address, ClusterSettingsError> {
        self.0.parse()
    }
}

impl fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address() {
            Ok(address) => address.fmt(f),
            Err(_) => f.write_str("<not a URL>"),
        }
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for RedisUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

// === impl Address ===

impl FromStr for Address {
    type Err = ClusterSettingsError;

    fn from_str(url: &str) -> Result<Self, Self::Err> {
        let refused = |why: &str| ClusterSettingsError(why.to_owned());
        let (scheme, rest) = url.split_once("://").unwrap_or_default();
        let tls = match scheme {
            "redis" | "valkey" => false,
            "rediss" | "valkeys" => true,
            _ => {
                return Err(refused("must begin with redis:// or, for TLS, rediss://"));
            }
        };
        if rest.contains(['?', '#']) {
            return Err(refused(
                "takes no `?` or `#`; write such characters of a password as %3F \
                                and %23",
            ));
        }
        // TLS is ours: the client library is built without it.
        let parsed = format!("redis://{rest}").into_connection_info().map_err(|_| {
            refused(
                "must be like redis://user:password@host:6379/0; write special characters of \
                     a password like %40 for @",
            )
        })?;
        let ConnectionAddr::Tcp(host, port) = parsed.addr() else {
            return Err(refused("must name a host"));
        };
        if parsed.redis_settings().db() < 0 {
            return Err(refused("the database must be a number from 0"));
        }
        // The third version of the protocol, of Redis 6 (2020), sends messages of channels on the
        // same connection as answers.
        let login = parsed.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
        Ok(Self { host: host.clone(), port: *port, tls, login })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "rediss" } else { "redis" };
        let login = if self.login.password().is_some() { "<secret>@" } else { "" };
        let (host, port, database) = (&self.host, self.port, self.login.db());
        let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        write!(f, "{scheme}://{login}{host}:{port}/{database}")
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
