//! Where a store is: the address as people write it, and as it may be shown.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use sqlx::postgres::PgConnectOptions;

use super::Kind;

/// Where durable state lives: `sqlite:data/tidegate.db` or
/// `postgres://user:password@host/database`. It shows itself without the password.
#[derive(Clone, PartialEq, Eq)]
pub struct StoreUrl(Place);

/// Why a store URL is refused; says what would be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct StoreUrlError(String);

#[derive(Clone, PartialEq, Eq)]
enum Place {
    Sqlite {
        path: PathBuf,
    },
    Postgres {
        /// With everything, as the driver takes it.
        url: String,
        /// Without the password and what stands behind the database's name.
        shown: String,
    },
}

/// What may stand behind the `?` of a PostgreSQL URL.
const PARAMETERS: [&str; 7] =
    ["sslmode", "sslrootcert", "sslcert", "sslkey", "host", "application_name", "options"];
/// What a session asks of the server where the URL does not say otherwise: a name that shows in
/// `pg_stat_activity`, no statement longer than half a minute, and no lock held by a gateway that
/// hangs.
const SESSION: [(&str, &str); 4] = [
    ("application_name", "tidegate"),
    ("options[statement_timeout]", "30s"),
    ("options[lock_timeout]", "10s"),
    ("options[idle_in_transaction_session_timeout]", "60s"),
];

// === impl StoreUrl ===

impl StoreUrl {
    /// What keeps it.
    pub fn kind(&self) -> Kind {
        match self.0 {
            Place::Sqlite { .. } => Kind::Sqlite,
            Place::Postgres { .. } => Kind::Postgres,
        }
    }

    /// The SQLite file, where it is one.
    pub fn path(&self) -> Option<&Path> {
        match &self.0 {
            Place::Sqlite { path } => Some(path),
            Place::Postgres { .. } => None,
        }
    }

    /// The address as the driver takes it. Holds the password.
    pub(super) fn for_driver(&self) -> String {
        match &self.0 {
            Place::Sqlite { path } => format!("sqlite:{}?mode=rwc", escaped(path)),
            Place::Postgres { url, .. } => {
                let mut url = url.clone();
                for (name, value) in SESSION {
                    if !url.contains(&format!("{name}=")) {
                        url.push(if url.contains('?') { '&' } else { '?' });
                        url.push_str(&format!("{name}={value}"));
                    }
                }
                url
            }
        }
    }

    fn postgres(url: &str) -> Result<Self, StoreUrlError> {
        // The URL itself is never repeated: it may hold a password.
        let wrong = |what: &str| {
            let right = "write it like `postgres://user:password@host:5432/database`";
            StoreUrlError(format!("{what}; {right}"))
        };
        if url.contains('#') {
            return Err(wrong("a `#` must be written as `%23`"));
        }
        let parameters = url.split_once('?').map_or("", |(_, parameters)| parameters);
        for parameter in parameters.split('&').filter(|parameter| !parameter.is_empty()) {
            let name = parameter.split(['=', '[']).next().unwrap_or_default();
            if !PARAMETERS.contains(&name) {
                let known = PARAMETERS.join(", ");
                return Err(StoreUrlError(format!(
                    "`{name}` is no parameter of a store; known are {known}"
                )));
            }
        }
        let options: PgConnectOptions =
            url.parse().map_err(|_| wrong("this is no address of a PostgreSQL database"))?;
        let database = options.get_database().ok_or_else(|| wrong("it names no database"))?;
        let host = match options.get_socket() {
            Some(socket) => socket.display().to_string(),
            None => options.get_host().to_owned(),
        };
        let (user, port) = (options.get_username(), options.get_port());
        let shown = format!("postgres://{user}@{host}:{port}/{database}");
        Ok(Self(Place::Postgres { url: url.to_owned(), shown }))
    }
}

/// A path within a URL.
fn escaped(path: &Path) -> String {
    let mut escaped = String::new();
    for byte in path.as_os_str().as_encoded_bytes() {
        if byte.is_ascii_alphanumeric() || b"/._-".contains(byte) {
            escaped.push(char::from(*byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

impl Default for StoreUrl {
    fn default() -> Self {
        Self(Place::Sqlite { path: PathBuf::from("data/tidegate.db") })
    }
}

impl FromStr for StoreUrl {
    type Err = StoreUrlError;

    fn from_str(url: &str) -> Result<Self, StoreUrlError> {
        if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            return Self::postgres(url);
        }
        let wrong = || {
            StoreUrlError(
                "this is no store; write a SQLite file like `sqlite:data/tidegate.db`, or \
                 `postgres://user:password@host/database`"
                    .to_owned(),
            )
        };
        let path = url.strip_prefix("sqlite:").ok_or_else(wrong)?;
        // `sqlite:///var/lib/x.db` and `sqlite://data/x.db` are how other tools write it.
        let path = path.strip_prefix("//").unwrap_or(path);
        if path.is_empty() || path.starts_with(':') || path.ends_with('/') || path.contains('?') {
            return Err(wrong());
        }
        Ok(Self(Place::Sqlite { path: PathBuf::from(path) }))
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Place::Sqlite { path } => write!(f, "sqlite:{}", path.display()),
            Place::Postgres { shown, .. } => f.write_str(shown),
        }
    }
}

impl fmt::Debug for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
