//! Durable state: one SQLite file by default.
//!
//! A store is an address and the knowledge of how to open it. It keeps no pool: the journal's
//! writer holds one connection for as long as it lives, and everything else (making a key, a query
//! of the admin API) is rare enough to open one, which takes about a millisecond and costs an idle
//! gateway nothing. Because nothing is opened before it is needed, a disk that is away when the
//! gateway starts is the same case as one that goes away later: whoever needs the store gets an
//! error, says so, and tries again.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, SqliteConnection};
use tokio::sync::{Semaphore, SemaphorePermit};

mod migration;
/// Whether another connection holds the lock.
fn is_busy(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    code.is_some_and(|code| code == "5")
}

#[cfg(test)]
mod tests;

/// Where durable state lives: `sqlite:data/tidegate.db`.
#[derive(Debug, Clone, PartialEq, Eq)]
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

/// What could not be done with the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The folder of the database file could not be made.
    #[error("cannot make the folder {}", .path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The database file could not be opened.
    #[error("cannot open the database {}", .path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        source: sqlx::Error,
    },
    /// The tables could not be brought to what this version needs.
    #[error("cannot migrate the database {}", .path.display())]
    Migrate {
        /// The file.
        path: PathBuf,
        /// Why.
        source: sqlx::migrate::MigrateError,
    },
    /// A statement failed.
    #[error("cannot {operation}")]
    Query {
        /// What was to be done, such as `write requests`.
        operation: &'static str,
        /// Why.
        source: sqlx::Error,
    },
}

/// A connection for one query. At most [`READERS`] exist at a time, so that a crowd of operators
/// cannot take memory or threads from the traffic.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    pub(crate) connection: SqliteConnection,
    _permit: SemaphorePermit<'a>,
}

/// Tells one file from another that took its place under the same name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileId {
    device: u64,
    inode: u64,
    /// File systems give the number of a deleted file to the next one.
    created: Option<std::time::SystemTime>,
}

#[derive(Debug)]
struct Shared {
    url: StoreUrl,
    readers: Semaphore,
    /// One migration at a time.
    migrating: Semaphore,
    /// The file that has this version's tables.
    migrated: Mutex<Option<FileId>>,
}

/// Connections for queries at one time.
pub(crate) const READERS: usize = 4;
/// How long SQLite itself waits for a lock. Short, because whoever waits longer says so meanwhile.
const BUSY_TIMEOUT: Duration = Duration::from_millis(500);

/// How often and after which pause opening is tried where several make the file at once: the change
/// to a write-ahead log does not wait for a lock as queries do.
const OPEN_TRIES: u32 = 5;
const OPEN_PAUSE: Duration = Duration::from_millis(20);

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

// === impl Store ===

impl Store {
    /// A store at `url`. Nothing is opened yet.
    pub fn new(url: StoreUrl) -> Self {
        Self {
            shared: Arc::new(Shared {
                url,
                readers: Semaphore::new(READERS),
                migrating: Semaphore::new(1),
                migrated: Mutex::new(None),
            }),
        }
    }

    /// Where it is.
    pub fn url(&self) -> &StoreUrl {
        &self.shared.url
    }

    /// Whether there is certainly nothing in it yet, because its file does not exist.
    pub(crate) fn is_absent(&self) -> bool {
        use std::io::ErrorKind;
        let absent = [ErrorKind::NotFound, ErrorKind::NotADirectory];
        self.url().path().symlink_metadata().is_err_and(|error| absent.contains(&error.kind()))
    }

    /// The file that stands at the address now, if one does.
    pub(crate) fn file_id(&self) -> Option<FileId> {
        FileId::of(self.url().path())
    }

    /// Opens a connection to tables of this version, making folder, file and tables as needed.
    ///
    /// # Errors
    ///
    /// Any [`StoreError`] but `Query`.
    pub(crate) async fn connect(&self) -> Result<SqliteConnection, StoreError> {
        let path = self.url().path();
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder)
                .map_err(|source| StoreError::Folder { path: folder.to_owned(), source })?;
        }
        if self.is_absent() {
            // What comes to stand here is new, even where it gets the old one's number.
            *self.shared.migrated.lock() = None;
        }
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            // A killed process loses nothing; a power cut may lose the last transactions, never
            // the file.
            .synchronous(SqliteSynchronous::Normal)
            .busy_timeout(BUSY_TIMEOUT)
            .disable_statement_logging();
        let mut tries = 1;
        let mut connection = loop {
            match options.connect().await {
                Ok(connection) => break connection,
                Err(source) if tries < OPEN_TRIES && is_busy(&source) => {
                    tries += 1;
                    tokio::time::sleep(OPEN_PAUSE).await;
                }
                Err(source) => return Err(StoreError::Open { path: path.to_owned(), source }),
            }
        };
        self.migrate(&mut connection).await?;
        Ok(connection)
    }

    /// Opens a connection for one query.
    ///
    /// # Errors
    ///
    /// As [`Store::connect`].
    pub(crate) async fn reader(&self) -> Result<Reader<'_>, StoreError> {
        let permit = self.shared.readers.acquire().await.map_err(|_| StoreError::Query {
            operation: "wait for a connection",
            source: sqlx::Error::PoolClosed,
        })?;
        Ok(Reader { connection: self.connect().await?, _permit: permit })
    }

    async fn migrate(&self, connection: &mut SqliteConnection) -> Result<(), StoreError> {
        let file = self.file_id();
        let is_migrated = || file.is_some() && *self.shared.migrated.lock() == file;
        if is_migrated() {
            return Ok(());
        }
        // The semaphore is never closed, so a permit always comes.
        let _one = self.shared.migrating.acquire().await;
        if is_migrated() {
            return Ok(());
        }
        let path = self.url().path();
        migration::run(connection)
            .await
            .map_err(|source| StoreError::Migrate { path: path.to_owned(), source })?;
        *self.shared.migrated.lock() = file;
        Ok(())
    }
}

// === impl StoreError ===

impl StoreError {
    /// Names what a statement was for.
    pub(crate) fn query(operation: &'static str) -> impl Fn(sqlx::Error) -> Self {
        move |source| Self::Query { operation, source }
    }

    /// The error with all its causes, for the log and for `/health`.
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            text = format!("{text}: {error}");
            cause = error.source();
        }
        text
    }
}

// === impl FileId ===

impl FileId {
    #[cfg(unix)]
    fn of(path: &Path) -> Option<Self> {
        use std::os::unix::fs::MetadataExt;
        let file = path.metadata().ok()?;
        Some(Self { device: file.dev(), inode: file.ino(), created: file.created().ok() })
    }

    #[cfg(not(unix))]
    fn of(path: &Path) -> Option<Self> {
        let created = path.metadata().ok()?.created().ok();
        Some(Self { device: 0, inode: 0, created })
    }
}
