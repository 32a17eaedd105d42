//! Durable state: one SQLite file by default.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Where durable state lives: `sqlite:data/tidegate.db`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct StoreUrl {
    path: PathBuf,
}

/// Why a store URL is refused; says what would be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct StoreUrlError(String);

/// Durable state. Clones are the same store. Making one opens nothing: a store that cannot be
/// opened must not stop the gateway.
#[derive(Debug, Clone)]
pub struct Store {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    url: StoreUrl,
}

// === impl StoreUrl ===

impl StoreUrl {
    /// The SQLite file.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Default for StoreUrl {
    fn default() -> Self {
        Self { path: PathBuf::from("data/tidegate.db") }
    }
}

impl FromStr for StoreUrl {
    type Err = StoreUrlError;

    fn from_str(url: &str) -> Result<Self, StoreUrlError> {
        if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            return Err(StoreUrlError(
                "PostgreSQL is not supported by this version; use `sqlite:data/tidegate.db`"
                    .to_owned(),
            ));
        }
        // The URL itself is not repeated: one of another kind may hold a password.
        let wrong = || {
            StoreUrlError(
                "this is no store; write a SQLite file like `sqlite:data/tidegate.db`".to_owned(),
            )
        };
        let path = url.strip_prefix("sqlite:").ok_or_else(wrong)?;
        // `sqlite:///var/lib/x.db` and `sqlite://data/x.db` are how other tools write it.
        let path = path.strip_prefix("//").unwrap_or(path);
        if path.is_empty() || path.starts_with(':') || path.ends_with('/') || path.contains('?') {
            return Err(wrong());
        }
        Ok(Self { path: PathBuf::from(path) })
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sqlite:{}", self.path.display())
    }
}

impl TryFrom<String> for StoreUrl {
    type Error = StoreUrlError;

    fn try_from(url: String) -> Result<Self, StoreUrlError> {
        url.parse()
    }
}

impl From<StoreUrl> for String {
    fn from(url: StoreUrl) -> Self {
        url.to_string()
    }
}

// === impl Store ===

impl Store {
    /// A store at `url`. Nothing is opened yet.
    pub fn new(url: StoreUrl) -> Self {
        Self { shared: Arc::new(Shared { url }) }
    }

    /// Where it is.
    pub fn url(&self) -> &StoreUrl {
        &self.shared.url
    }
}
