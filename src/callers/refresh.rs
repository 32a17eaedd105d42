//! Keeps the table of callers what the store says, and serves on with the last good one where the
//! store is away.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde::Serialize;
use sqlx::AnyConnection;

use super::snapshot::Saved;
use super::{CallerTable, Callers, KeyHash, SecretKey, ledger};
use crate::clock::rfc3339;
use crate::store::{Kind, StoreError};

/// How well callers are known, for `/health`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CallersHealth {
    /// Valid keys.
    pub keys: usize,
    /// Where they were read.
    pub source: CallersSource,
    /// When the store was read, in milliseconds since 1970; 0 where it never was.
    pub read_at_ms: u64,
    /// Whether the store cannot be read at the moment. Keys that are known go on; one that is not
    /// known gets 503, because it may stand in the store.
    pub behind: bool,
    /// What is wrong, while `behind`.
    pub last_error: Option<String>,
    /// Changes by operators that are in no audit log, because the store was away for too long.
    pub unaudited: u64,
}

/// Where callers were read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CallersSource {
    /// Nowhere yet.
    Nothing,
    /// In the store.
    Store,
    /// In the snapshot on disk, because the store was away.
    Snapshot,
}

/// The first and the longest pause after the store could not be read.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
/// How often a store that other nodes change is asked for news.
const POLL: Duration = Duration::from_secs(1);
/// How long a server may take for an answer before it counts as away.
const ANSWER: Duration = Duration::from_secs(5);
/// The name of the admin key's hash among the settings.
const ADMIN_SETTING: &str = "admin_key_sha256";

// === impl Callers ===

impl Callers {
    /// Reads keys and admin key from the store. Where there is no admin key yet, one is made and
    /// returned: this is the only time it can be seen. Where the store cannot be read and nothing is
    /// known yet, the snapshot is read instead.
    ///
    /// # Errors
    ///
    /// [`StoreError`] where the store cannot be read; what was known before stays.
    pub async fn load(&self) -> Result<Option<SecretKey>, StoreError> {
        let loaded = async {
            let mut connection = self.shared.store.writer().await?;
            let made = self.load_admin(&mut connection).await?;
            self.load_table(&mut connection).await?;
            Ok(made)
        };
        let loaded = loaded.await;
        self.on_read(loaded.as_ref().err());
        loaded
    }

    /// Reads again soon, because the store may have been changed from outside. For SIGHUP, and for
    /// news from other nodes.
    pub fn reload(&self) {
        self.shared.reload.notify_one();
    }

    /// Keeps the table what the store says: reads it now, until it can be read, whenever
    /// [`Callers::reload`] asks, and, where other nodes may change it, every second when it has
    /// changed. Keeps the snapshot on disk what the table says. `announce` gets the admin key when
    /// one is made.
    pub async fn run(self, announce: impl Fn(&SecretKey)) {
        let mut pause = RETRY.0;
        let mut saved = None;
        let mut poller = None;
        let mut read = self.load().await.map(|made| made.iter().for_each(&announce));
        loop {
            match read {
                Ok(()) => {
                    pause = RETRY.0;
                    self.save(&mut saved);
                }
                Err(error) => {
                    // Said once, not with every try.
                    if pause == RETRY.0 {
                        let error = error.chain();
                        tracing::error!(%error, "cannot read callers; those known go on");
                    }
                    pause = (pause * 2).min(RETRY.1);
                }
            }
            let is_away = self.is_behind();
            let wait = match self.shared.store.kind() {
                _ if is_away => pause,
                Kind::Postgres => POLL,
                // Nobody else changes it.
                Kind::Sqlite => Duration::MAX,
            };
            let asked = tokio::select! {
                () = tokio::time::sleep(wait) => is_away,
                () = self.shared.reload.notified() => true,
                () = self.shared.unsaved.notified() => false,
            };
            read = if asked {
                self.load().await.map(|made| made.iter().for_each(&announce))
            } else {
                self.poll(&mut poller).await
            };
        }
    }

    /// How well callers are known.
    pub fn health(&self) -> CallersHealth {
        let table = self.shared.table.load();
        let trouble = self.shared.trouble.load();
        let (keys, source, read_at_ms) =
            table.as_deref().map_or((0, CallersSource::Nothing, 0), |table| {
                (table.valid_keys(), table.source, table.read_at_ms)
            });
        let last_error = trouble.as_deref().cloned();
        let unaudited = self.shared.audit.dropped();
        CallersHealth {
            keys,
            source,
            read_at_ms,
            behind: last_error.is_some(),
            last_error,
            unaudited,
        }
    }

    /// Asks a store that others change whether they did, on a connection of its own: operators who
    /// keep all the others busy must not make it look away.
    async fn poll(&self, poller: &mut Option<AnyConnection>) -> Result<(), StoreError> {
        if self.shared.store.kind() == Kind::Sqlite {
            return Ok(());
        }
        let looked = async {
            let mut connection = match poller.take() {
                Some(connection) => connection,
                None => self.shared.store.connect().await?,
            };
            let failed = StoreError::query("ask for changes of callers");
            let revision = ledger::read_revision(&mut connection).await.map_err(failed)?;
            if self.shared.table.load().as_deref().map(|table| table.revision) != Some(revision) {
                self.load_table(&mut connection).await?;
            }
            Ok(connection)
        };
        let looked = match tokio::time::timeout(ANSWER, looked).await {
            Ok(looked) => looked,
            Err(_) => Err(StoreError::query("ask for changes of callers")(timed_out())),
        };
        self.on_read(looked.as_ref().err());
        *poller = Some(looked?);
        Ok(())
    }

    /// Takes note of whether the store could be read.
    fn on_read(&self, error: Option<&StoreError>) {
        let nothing_there = error.is_some() && self.shared.store.is_absent();
        self.shared.nothing_there.store(nothing_there, Ordering::Relaxed);
        let was_away = self.shared.trouble.load().is_some();
        self.shared.trouble.store(error.map(|error| Arc::new(error.chain())));
        match error {
            None if was_away => tracing::info!("callers are read again"),
            None => {}
            Some(_) => self.restore(),
        }
    }

    /// Takes what the snapshot says, where nothing is known.
    fn restore(&self) {
        let Some(file) = &self.shared.snapshot else { return };
        if self.shared.table.load().is_some() {
            return;
        }
        match file.read(&self.shared.store.url().to_string()) {
            Ok(None) => {}
            Ok(Some(saved)) => {
                tracing::warn!(
                    keys = saved.keys.len(),
                    read_at = %rfc3339(saved.read_at_ms),
                    "the store is away: callers are taken from the snapshot"
                );
                let source = CallersSource::Snapshot;
                let table =
                    CallerTable::new((saved.keys, saved.teams), -1, saved.read_at_ms, source);
                self.shared.table.store(Some(Arc::new(table)));
                if !self.shared.admin_is_given {
                    self.shared.admin.store(saved.admin.map(Arc::new));
                }
            }
            Err(error) => {
                let path = file.path().display();
                tracing::error!(%error, %path, "the snapshot of callers cannot be read");
            }
        }
    }

    /// Writes the snapshot where it is not what the table says.
    fn save(&self, saved: &mut Option<i64>) {
        let Some(file) = &self.shared.snapshot else { return };
        let table = self.shared.table.load_full();
        let Some(table) = table.filter(|table| *saved != Some(table.revision)) else { return };
        if table.source != CallersSource::Store {
            return;
        }
        let admin = self.shared.admin.load_full().map(|admin| *admin);
        let admin = admin.filter(|_| !self.shared.admin_is_given);
        let store = self.shared.store.url().to_string();
        let content =
            Saved::new(store, table.read_at_ms, admin, (table.keys.clone(), table.teams.clone()));
        match file.write(&content) {
            Ok(()) => *saved = Some(table.revision),
            Err(error) => {
                let path = file.path().display();
                tracing::error!(%error, %path, "the snapshot of callers cannot be written");
            }
        }
    }

    /// Tells other nodes that callers were changed here, and this one's request path. The change is
    /// made, whatever becomes of this: where the store goes away at this very moment, the loop reads
    /// it later.
    pub(super) async fn on_changed(&self, connection: &mut AnyConnection) {
        self.shared.changed_here.notify_one();
        if let Err(error) = self.load_table(connection).await {
            tracing::error!(error = %error.chain(), "a change of callers is not read back yet");
            self.reload();
        }
    }

    /// Reads all callers. The request path knows when this returns.
    pub(super) async fn load_table(
        &self,
        connection: &mut AnyConnection,
    ) -> Result<(), StoreError> {
        // The semaphore is never closed, so a permit always comes.
        let _one = self.shared.changing.acquire().await;
        let read_at_ms = self.shared.clock.unix_ms();
        let failed = StoreError::query("read the keys");
        let (revision, keys, teams) = ledger::read_all(connection).await.map_err(failed)?;
        let table = CallerTable::new((keys, teams), revision, read_at_ms, CallersSource::Store);
        self.shared.table.store(Some(Arc::new(table)));
        self.shared.unsaved.notify_one();
        Ok(())
    }

    /// Reads the admin key's hash, or makes a key, unless the environment gave one.
    async fn load_admin(
        &self,
        connection: &mut AnyConnection,
    ) -> Result<Option<SecretKey>, StoreError> {
        if self.shared.admin_is_given {
            return Ok(None);
        }
        let failed = StoreError::query("read or make the admin key");
        let fresh = SecretKey::generate_admin();
        // Whoever is first wins; both read what won.
        sqlx::query("INSERT INTO settings (name, value) VALUES ($1, $2) ON CONFLICT DO NOTHING")
            .bind(ADMIN_SETTING)
            .bind(fresh.hash().as_bytes())
            .execute(&mut *connection)
            .await
            .map_err(&failed)?;
        let stored: Vec<u8> = sqlx::query_scalar("SELECT value FROM settings WHERE name = $1")
            .bind(ADMIN_SETTING)
            .fetch_one(connection)
            .await
            .map_err(&failed)?;
        let hash = KeyHash::from_bytes(&stored)
            .ok_or_else(|| failed(sqlx::Error::Decode("the stored hash is damaged".into())))?;
        self.shared.admin.store(Some(Arc::new(hash)));
        Ok((hash == fresh.hash()).then_some(fresh))
    }
}

fn timed_out() -> sqlx::Error {
    sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, "no answer"))
}
