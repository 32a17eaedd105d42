//! The sections of `config/tidegate.toml`: what each key means, its unit and its default.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize, Serializer};

use super::conduct::{
    Conduct, ConductSettings, HedgeSettings, HoldBackSettings, PrefixCacheSettings, RankSettings,
    RetrySettings,
};
use crate::callers::AuthMode;
use crate::store::StoreUrl;
use crate::units::{ByteCount, HumanDuration};

/// Where the gateway listens and what it takes from a caller.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ServerSettings {
    /// Address of the data plane and the admin API. An address that is not loopback needs keys
    /// (see `auth.mode`).
    #[schemars(extend("format" = "socket-address"))]
    pub listen: SocketAddr,
    /// Address of the admin API, which is then served only there. Absent: it shares `listen`.
    #[schemars(extend("format" = "socket-address", "examples" = ["127.0.0.1:8081"]))]
    pub admin_listen: Option<SocketAddr>,
    /// Largest request body that is read; a larger one is refused with 413.
    pub request_body_limit: ByteCount,
    /// Largest head of a request (request line and headers); a larger one is refused with 431.
    pub request_head_limit: ByteCount,
    /// How long a caller may take to send the head of a request before its connection is closed.
    pub head_read_timeout: HumanDuration,
    /// How long a connection may be idle between requests before it is closed.
    pub idle_timeout: HumanDuration,
    /// How long a caller may take to send a whole request; a slower one is refused with 408.
    pub request_read_timeout: HumanDuration,
    /// How long requests in flight may go on after the gateway was told to stop.
    pub drain_timeout: HumanDuration,
    /// Threads that serve requests, at most 1024. 0: one a core.
    #[schemars(range(min = 0, max = 1024))]
    pub worker_threads: u16,
}

impl Default for ServerSettings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080),
            admin_listen: None,
            request_body_limit: ByteCount(20_000_000),
            request_head_limit: ByteCount(65_536),
            head_read_timeout: HumanDuration::secs(30),
            idle_timeout: HumanDuration::secs(90),
            request_read_timeout: HumanDuration::secs(60),
            drain_timeout: HumanDuration::secs(30),
            worker_threads: 0,
        }
    }
}

/// How many requests are served at a time. Those beyond it wait, the more important ones first and
/// callers in turn, and are refused with 503 and `retry-after` where that takes too long.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AdmissionSettings {
    /// Requests in flight in this process, from 1 to 1000000. Priority 0 is served beyond it.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_in_flight: u32,
    /// How long a request may wait for its turn, at most 60s; a queue that has not been empty for
    /// two seconds makes everybody wait 250ms at most. 0s: nobody waits.
    pub max_wait: HumanDuration,
}

impl Default for AdmissionSettings {
    fn default() -> Self {
        Self { max_in_flight: 10_000, max_wait: HumanDuration::secs(2) }
    }
}

/// Who may ask.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AuthSettings {
    /// Whether callers need a key.
    pub mode: AuthMode,
}

/// Where keys and the journal are kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct StoreSettings {
    /// `sqlite:` and the path of the database file, relative to the working directory. Or
    /// `postgres://user:password@host:5432/database`, which many gateways may share; `?sslmode=`,
    /// `sslrootcert=`, `sslcert=` and `sslkey=` may follow. A password that shall not stand here
    /// comes from the environment, `PGPASSWORD` or the file that `PGPASSFILE` names.
    #[serde(serialize_with = "without_password")]
    pub url: String,
    /// Where the last good state of keys is kept, hashes only, so that a gateway that starts while
    /// the store is away knows its callers. What rollouts steer by is kept beside it, in a file
    /// with `.rollouts` behind the name. Empty: nowhere.
    pub snapshot: PathBuf,
}

impl Default for StoreSettings {
    fn default() -> Self {
        Self {
            url: "sqlite:data/tidegate.db".to_owned(),
            snapshot: PathBuf::from("data/callers.snapshot"),
        }
    }
}

/// What holds for models that are asked for without a route, and for routes that do not say
/// otherwise.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DefaultsSettings {
    /// How long each step of a request may take.
    pub timeouts: TimeoutSettings,
    /// What a caller hears while a model is silent.
    pub keep_alive: KeepAliveSettings,
    /// How much of a streamed answer is held back while another target could still take over.
    pub hold_back: HoldBackSettings,
    /// When a second attempt is raced against a first one that is late.
    pub hedge: HedgeSettings,
    /// What makes one target better than another.
    pub rank: RankSettings,
    /// How often a request is tried.
    pub retry: RetrySettings,
    /// What is done for the prefix caches of providers and of one's own servers.
    pub prefix_cache: PrefixCacheSettings,
}

/// The running configuration is shown to operators.
fn without_password<S: Serializer>(url: &str, to: S) -> Result<S::Ok, S::Error> {
    match url.parse::<StoreUrl>() {
        Ok(url) => to.collect_str(&url),
        Err(_) => to.serialize_str("<wrong>"),
    }
}

// === impl DefaultsSettings ===

impl DefaultsSettings {
    /// What holds for a model that is asked for without a route.
    pub(super) fn conduct(&self) -> Conduct {
        Conduct::from(ConductSettings {
            timeouts: &self.timeouts,
            keep_alive: &self.keep_alive,
            hold_back: &self.hold_back,
            hedge: &self.hedge,
            rank: &self.rank,
            retry: &self.retry,
            prefix_cache: &self.prefix_cache,
        })
    }
}

/// How long each step of a request may take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TimeoutSettings {
    /// To connect to the provider, the TLS handshake included.
    pub connect: HumanDuration,
    /// From sending an attempt to the first token of a streamed answer. An answer that is not
    /// streamed has its first token with its last: each target of its route gets a share of
    /// `total`.
    pub first_token: HumanDuration,
    /// Between two pieces of an answer.
    pub between_tokens: HumanDuration,
    /// For the request and all its attempts.
    pub total: HumanDuration,
}

impl Default for TimeoutSettings {
    fn default() -> Self {
        Self {
            connect: HumanDuration::secs(2),
            first_token: HumanDuration::secs(60),
            between_tokens: HumanDuration::secs(60),
            total: HumanDuration::secs(600),
        }
    }
}

/// What a caller of a stream hears while a model is silent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct KeepAliveSettings {
    /// How long a stream may be silent before the gateway sends an SSE comment. 0s: never.
    pub every: HumanDuration,
    /// Whether comments are sent even before the first token. That commits the reply to status 200
    /// early: a later failure can then only be an error event, though fallbacks go on as before.
    pub before_first_token: bool,
}

impl Default for KeepAliveSettings {
    fn default() -> Self {
        Self { every: HumanDuration::secs(15), before_first_token: false }
    }
}

/// Logs. Traces and metrics are exported by OTLP when `OTEL_EXPORTER_OTLP_ENDPOINT` is set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TelemetrySettings {
    /// What is logged: `error`, `warn`, `info`, `debug`, `trace` or `off`, with exceptions for
    /// single modules after commas, such as `info,tidegate::dispatch=debug`.
    pub log: String,
    /// How log lines look.
    pub log_format: LogFormat,
}

impl Default for TelemetrySettings {
    fn default() -> Self {
        Self { log: "info".to_owned(), log_format: LogFormat::Auto }
    }
}

/// How log lines look.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// Text on a terminal, else JSON.
    #[default]
    Auto,
    /// One line of text an event.
    Text,
    /// One JSON object a line.
    Json,
}
