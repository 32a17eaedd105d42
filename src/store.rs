//! Durable state: one SQLite file by default, or a PostgreSQL database that many nodes share.
//!
//! A store is an address and the knowledge of how to open it. Nothing is opened before it is
//! needed, so a disk or a server that is away when the gateway starts is the same case as one that
//! goes away later: whoever needs the store gets an error, says so, and tries again. Connections
//! are kept for the next use, and looked at before it: a server that was started again costs no
//! caller an error.
//!
//! Both kinds speak one dialect of SQL: numbered parameters, 64-bit integers for
//! numbers, times and booleans, text, and bytes. `Arc<str>` must not be bound: the driver of SQLite
//! does not know it. Statements with thousands of values are better written with `?` on SQLite,
//! which looks up numbered ones one by one.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Once};
use std::time::Duration;

use parking_lot::Mutex;
use sqlx::any::AnyConnectOptions;
use sqlx::{Any, AnyConnection, ConnectOptions, Connection, Executor, Transaction};
use tokio::sync::Semaphore;

mod file;
pub(crate) mod follow;
pub(crate) mod lease;
mod migration;
#[cfg(test)]
pub(crate) mod places;
mod pool;
mod sql;
#[cfg(test)]
mod tests;
mod url;

pub(crate) use pool::Leased;
use pool::Pool;
pub(crate) use sql::Sql;
pub use url::{StoreUrl, StoreUrlError};

/// What keeps a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// One file, one gateway.
    Sqlite,
    /// A server, any number of gateways.
    Postgres,
}

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
    /// The database could not be opened.
    #[error("cannot open the database {store}")]
    Open {
        /// The file, or the server without a password.
        store: String,
        /// Why.
        source: sqlx::Error,
    },
    /// The tables could not be brought to what this version needs.
    #[error("cannot migrate the database {store}")]
    Migrate {
        /// The file, or the server without a password.
        store: String,
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
    readers: Pool,
    writers: Pool,
    /// One migration at a time.
    migrating: Semaphore,
    /// What has this version's tables.
    migrated: Mutex<Migrated>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Migrated {
    Nothing,
    File(FileId),
    Server,
}

/// Connections for queries at one time. So few that a crowd of operators cannot take memory or
/// threads from the traffic.
pub(crate) const READERS: usize = 4;
/// Connections that write, at one time, to a server. A file takes one.
pub(crate) const WRITERS: usize = 8;
/// How long SQLite itself waits for a lock. Short, because whoever waits longer says so meanwhile:
/// the journal keeps what it could not write and comes back to it, and leaders must renew their
/// lease.
const BUSY_TIMEOUT: Duration = Duration::from_millis(500);
/// The same for connections of [`Store::writer`]: operators' changes, samples of runs, recordings.
/// In one process they take turns, but the journal and three leaders write by connections of their
/// own, and SQLite gives the lock to whoever asks at the right moment, not to who has waited
/// longest. None of them comes back by itself, so they wait as long as for a turn rather than fail
/// with "database is locked".
const WRITERS_BUSY_TIMEOUT: Duration = pool::WAIT;
/// How long a server may take to let somebody in.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How often and after which pause opening is tried where several make the file at once: the change
/// to a write-ahead log does not wait for a lock as queries do.
const OPEN_TRIES: u32 = 5;
const OPEN_PAUSE: Duration = Duration::from_millis(20);

// === impl Store ===

impl Store {
    /// A store at `url`. Nothing is opened yet.
    pub fn new(url: StoreUrl) -> Self {
        static DRIVERS: Once = Once::new();
        DRIVERS.call_once(sqlx::any::install_default_drivers);
        let writers = match url.kind() {
            Kind::Sqlite => 1,
            Kind::Postgres => WRITERS,
        };
        Self {
            shared: Arc::new(Shared {
                url,
                readers: Pool::new(READERS, None),
                writers: Pool::new(writers, Some(WRITERS_BUSY_TIMEOUT)),
                migrating: Semaphore::new(1),
                migrated: Mutex::new(Migrated::Nothing),
            }),
        }
    }

    /// Where it is.
    pub fn url(&self) -> &StoreUrl {
        &self.shared.url
    }

    /// What keeps it.
    pub fn kind(&self) -> Kind {
        self.url().kind()
    }

    /// Whether there is certainly nothing in it yet, because its file does not exist.
    pub(crate) fn is_absent(&self) -> bool {
        use std::io::ErrorKind;
        let absent = [ErrorKind::NotFound, ErrorKind::NotADirectory];
        let path = self.url().path();
        path.is_some_and(|path| {
            path.symlink_metadata().is_err_and(|error| absent.contains(&error.kind()))
        })
    }

    /// The file that stands at the address now, if one does and the store is a file.
    pub(crate) fn file_id(&self) -> Option<FileId> {
        self.url().path().and_then(FileId::of)
    }

    /// Opens a connection of one's own to tables of this version, making folder, file and tables as
    /// needed. For who keeps it; others take [`Store::reader`] or [`Store::writer`].
    ///
    /// # Errors
    ///
    /// Any [`StoreError`] but `Query`.
    pub(crate) async fn connect(&self) -> Result<AnyConnection, StoreError> {
        let opened = match self.url().path() {
            Some(path) => self.open_file(path).await?,
            None => self.open_server().await,
        };
        let opened = opened.inspect_err(|_| {
            // What comes back may be another one.
            *self.shared.migrated.lock() = Migrated::Nothing;
        });
        let mut connection =
            opened.map_err(|source| StoreError::Open { store: self.name(), source })?;
        self.migrate(&mut connection).await?;
        Ok(connection)
    }

    /// A connection for queries. There are [`READERS`]; who comes later waits for a turn.
    ///
    /// # Errors
    ///
    /// As [`Store::connect`], and `Query` where no turn comes within five seconds.
    pub(crate) async fn reader(&self) -> Result<Leased<'_>, StoreError> {
        self.shared.readers.lease(self).await
    }

    /// A connection for changes: one at a time on SQLite, which locks the whole file, and up to
    /// [`WRITERS`] on PostgreSQL.
    ///
    /// # Errors
    ///
    /// As [`Store::reader`].
    pub(crate) async fn writer(&self) -> Result<Leased<'_>, StoreError> {
        self.shared.writers.lease(self).await
    }

    /// The store as errors name it.
    fn name(&self) -> String {
        match self.url().path() {
            Some(path) => path.display().to_string(),
            None => self.url().to_string(),
        }
    }

    fn options(&self) -> Result<AnyConnectOptions, sqlx::Error> {
        let options: AnyConnectOptions = self.url().for_driver().parse()?;
        Ok(options.disable_statement_logging())
    }

    async fn open_file(
        &self,
        path: &Path,
    ) -> Result<Result<AnyConnection, sqlx::Error>, StoreError> {
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder)
                .map_err(|source| StoreError::Folder { path: folder.to_owned(), source })?;
        }
        if self.is_absent() {
            // What comes to stand here is new, even where it gets the old one's number.
            *self.shared.migrated.lock() = Migrated::Nothing;
            file::create_private(path);
        }
        let mut tries = 1;
        loop {
            match self.open_file_once().await {
                Err(source) if tries < OPEN_TRIES && is_busy(&source) => {
                    tries += 1;
                    tokio::time::sleep(OPEN_PAUSE).await;
                }
                opened => return Ok(opened),
            }
        }
    }

    async fn open_file_once(&self) -> Result<AnyConnection, sqlx::Error> {
        let mut connection = self.options()?.connect().await?;
        let busy_ms = BUSY_TIMEOUT.as_millis();
        // A killed process loses nothing; a power cut may lose the last transactions, never the
        // file.
        let pragmas = format!(
            "PRAGMA busy_timeout = {busy_ms}; PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL"
        );
        connection.execute(sqlx::AssertSqlSafe(pragmas)).await?;
        Ok(connection)
    }

    async fn open_server(&self) -> Result<AnyConnection, sqlx::Error> {
        let options = self.options()?;
        match tokio::time::timeout(CONNECT_TIMEOUT, options.connect()).await {
            Ok(connected) => connected,
            Err(_) => Err(sqlx::Error::Io(std::io::Error::new(
                std::io::ErrorKind::TimedOut,
                "the server does not answer",
            ))),
        }
    }

    async fn migrate(&self, connection: &mut AnyConnection) -> Result<(), StoreError> {
        let goal = match self.kind() {
            Kind::Sqlite => self.file_id().map(Migrated::File),
            Kind::Postgres => Some(Migrated::Server),
        };
        let is_migrated = || goal == Some(*self.shared.migrated.lock());
        if is_migrated() {
            return Ok(());
        }
        // The semaphore is never closed, so a permit always comes.
        let _one = self.shared.migrating.acquire().await;
        if is_migrated() {
            return Ok(());
        }
        let mut tries = 1;
        // SQLite knows no lock for this: who comes second, from another process, fails once.
        while let Err(source) = migration::run(connection, self.kind()).await {
            if tries == OPEN_TRIES || self.kind() == Kind::Postgres {
                return Err(StoreError::Migrate { store: self.name(), source });
            }
            tries += 1;
            tokio::time::sleep(OPEN_PAUSE).await;
        }
        *self.shared.migrated.lock() = goal.unwrap_or(Migrated::Nothing);
        Ok(())
    }
}

/// Begins a transaction that writes. SQLite is told so at once: a transaction that turns from
/// reading to writing fails where another has written meanwhile.
///
/// # Errors
///
/// Where the database does not answer, or is locked.
pub(crate) async fn begin(
    connection: &mut AnyConnection,
    kind: Kind,
) -> Result<Transaction<'_, Any>, sqlx::Error> {
    match kind {
        Kind::Sqlite => connection.begin_with("BEGIN IMMEDIATE").await,
        Kind::Postgres => connection.begin().await,
    }
}

/// Whether another connection holds the lock.
fn is_busy(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    code.is_some_and(|code| code == "5")
}

/// Whether the database refuses values that a statement brings: it would every time, while others
/// are taken. Not where a value is missing or a trigger refuses; those are faults of the table.
pub(crate) fn is_refusal(error: &sqlx::Error) -> bool {
    if matches!(error, sqlx::Error::Encode(_)) {
        return true;
    }
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    let Some(code) = code else { return false };
    match code.parse::<u32>() {
        // PostgreSQL's have five characters, the first two the class: data, integrity.
        _ if code.len() == 5 => {
            (code.starts_with("22") || code.starts_with("23")) && code != NOT_NULL_OF_POSTGRES
        }
        Ok(of_sqlite) => {
            REFUSALS_OF_SQLITE.contains(&(of_sqlite & 0xff))
                && !FAULTS_OF_TABLES.contains(&of_sqlite)
        }
        Err(_) => false,
    }
}

/// `not_null_violation`
const NOT_NULL_OF_POSTGRES: &str = "23502";
/// `SQLITE_TOOBIG`, `SQLITE_CONSTRAINT` and `SQLITE_MISMATCH`: the lowest eight bits of a code.
const REFUSALS_OF_SQLITE: [u32; 3] = [18, 19, 20];
/// `SQLITE_CONSTRAINT_NOTNULL` and `SQLITE_CONSTRAINT_TRIGGER`
const FAULTS_OF_TABLES: [u32; 2] = [1_299, 1_811];

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
            let why = error.to_string();
            // Some say their cause themselves.
            if !text.ends_with(&why) {
                text = format!("{text}: {why}");
            }
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
