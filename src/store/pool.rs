//! Connections that are kept between uses.

use std::ops::{Deref, DerefMut};
use std::time::Duration;

use parking_lot::Mutex;
use sqlx::{AnyConnection, Connection, Executor as _};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::{FileId, Kind, Store, StoreError};

/// So many connections at one time, and those of them that nobody uses.
#[derive(Debug)]
pub(super) struct Pool {
    permits: Semaphore,
    /// How long SQLite waits for a lock, where it is not as long as everywhere.
    busy_timeout: Option<Duration>,
    idle: Mutex<Vec<Idle>>,
}

#[derive(Debug)]
struct Idle {
    connection: AnyConnection,
    /// The SQLite file it is on.
    file: Option<FileId>,
}

/// A connection for one piece of work; it goes back when this is dropped. A transaction that was
/// begun and not committed is rolled back.
#[derive(Debug)]
pub(crate) struct Leased<'a> {
    /// `None` only while it is dropped.
    connection: Option<AnyConnection>,
    file: Option<FileId>,
    /// It holds what others wait for.
    is_held: bool,
    pool: &'a Pool,
    _permit: SemaphorePermit<'a>,
}

/// How long a turn is waited for: longer than any work that may be going on should take.
pub(super) const WAIT: Duration = Duration::from_secs(5);
/// How long a server that was fine may take to say that it still is.
const PING: Duration = Duration::from_secs(1);

// === impl Pool ===

impl Pool {
    pub(super) fn new(connections: usize, busy_timeout: Option<Duration>) -> Self {
        Self { permits: Semaphore::new(connections), busy_timeout, idle: Mutex::default() }
    }

    /// Waits for a turn and gives a connection that works.
    pub(super) async fn lease<'a>(&'a self, store: &Store) -> Result<Leased<'a>, StoreError> {
        let turn = tokio::time::timeout(WAIT, self.permits.acquire()).await;
        let permit = turn
            .map_err(|_| sqlx::Error::PoolTimedOut)
            .and_then(|permit| permit.map_err(|_| sqlx::Error::PoolClosed))
            .map_err(StoreError::query("wait for a connection"))?;
        let idle = match self.take_working(store).await {
            Some(idle) => idle,
            None => {
                let mut connection = store.connect().await?;
                self.set_patience(&mut connection, store.kind()).await?;
                Idle { connection, file: store.file_id() }
            }
        };
        let Idle { connection, file } = idle;
        let connection = Some(connection);
        Ok(Leased { connection, file, is_held: false, pool: self, _permit: permit })
    }

    async fn set_patience(
        &self,
        connection: &mut AnyConnection,
        kind: Kind,
    ) -> Result<(), StoreError> {
        let (Some(busy_timeout), Kind::Sqlite) = (self.busy_timeout, kind) else { return Ok(()) };
        let pragma = format!("PRAGMA busy_timeout = {}", busy_timeout.as_millis());
        let set = connection.execute(sqlx::AssertSqlSafe(pragma)).await;
        set.map(drop).map_err(StoreError::query("prepare a connection"))
    }

    async fn take_working(&self, store: &Store) -> Option<Idle> {
        loop {
            let mut idle = self.idle.lock().pop()?;
            let works = match store.kind() {
                Kind::Sqlite => idle.file.is_some() && idle.file == store.file_id(),
                Kind::Postgres => {
                    let ping = tokio::time::timeout(PING, idle.connection.ping()).await;
                    ping.is_ok_and(|ping| ping.is_ok())
                }
            };
            if works {
                return Some(idle);
            }
        }
    }
}

// === impl Leased ===

impl Leased<'_> {
    /// Says whether a transaction holds what others wait for. Where the work is given up before it
    /// has ended, the connection is closed, which ends the transaction: the driver of PostgreSQL
    /// would roll it back only with the connection's next use.
    pub(crate) fn set_held(&mut self, is_held: bool) {
        self.is_held = is_held;
    }
}

impl Deref for Leased<'_> {
    type Target = AnyConnection;

    fn deref(&self) -> &AnyConnection {
        match &self.connection {
            Some(connection) => connection,
            None => unreachable!("a lease is not used while it is dropped"),
        }
    }
}

impl DerefMut for Leased<'_> {
    fn deref_mut(&mut self) -> &mut AnyConnection {
        match &mut self.connection {
            Some(connection) => connection,
            None => unreachable!("a lease is not used while it is dropped"),
        }
    }
}

impl Drop for Leased<'_> {
    fn drop(&mut self) {
        let file = self.file;
        // One whose transaction is still being rolled back is not worth waiting for.
        let is_free = !self.is_held;
        let connection = self.connection.take().filter(|it| is_free && !it.is_in_transaction());
        self.pool.idle.lock().extend(connection.map(|connection| Idle { connection, file }));
    }
}
