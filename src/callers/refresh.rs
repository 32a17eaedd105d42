//! Keeps the table of callers what the store says, and serves on with the last good one where the
//! store is away.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sqlx::AnyConnection;

use super::{CallerTable, Callers, KeyHash, SecretKey, StoredKey, StoredTeam, ledger};
use crate::store::follow::{self, Follower, Following, OF_SNAPSHOT, Snapshot};
use crate::store::{Store, StoreError};

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

/// What the snapshot on disk keeps: hashes, and no keys.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Kept {
    admin: Option<KeyHash>,
    keys: Vec<StoredKey>,
    teams: Vec<StoredTeam>,
}

/// The callers that a node follows, and who hears of an admin key that is made.
struct Followed<'a, A> {
    callers: &'a Callers,
    announce: A,
}

/// The name of the admin key's hash among the settings.
const ADMIN_SETTING: &str = "admin_key_sha256";

// === impl Callers ===

impl Callers {
    /// Reads keys and admin key from the store. Where there is no admin key yet, one is made and
    /// returned: this is the only time it can be seen. Where the store cannot be read and nothing
    /// is known yet, the snapshot is read instead.
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
        self.shared.following.reload();
    }

    /// Keeps the table what the store says, and the snapshot on disk what the table says, see
    /// `store/follow.rs`. `announce` gets the admin key when one is made.
    pub async fn run(self, announce: impl Fn(&SecretKey) + Sync) {
        follow::follow(&Followed { callers: &self, announce }).await;
    }

    /// How well callers are known.
    pub fn health(&self) -> CallersHealth {
        let table = self.shared.table.load();
        let trouble = self.shared.following.trouble();
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

    /// Takes note of whether the store could be read.
    fn on_read(&self, error: Option<&StoreError>) {
        let nothing_there = error.is_some() && self.shared.store.is_absent();
        self.shared.nothing_there.store(nothing_there, Ordering::Relaxed);
        follow::note(&Followed { callers: self, announce: |_: &SecretKey| {} }, error);
    }

    /// Takes in what was changed here, and tells other nodes.
    pub(super) async fn on_changed(&self, connection: &mut AnyConnection) {
        follow::on_changed(&Followed { callers: self, announce: |_: &SecretKey| {} }, connection)
            .await;
    }

    /// Reads all callers. The request path knows when this returns.
    pub(super) async fn load_table(
        &self,
        connection: &mut AnyConnection,
    ) -> Result<(), StoreError> {
        let _one = self.shared.following.turn().await;
        let read_at_ms = self.shared.clock.unix_ms();
        let failed = StoreError::query("read the keys");
        let (revision, keys, teams) = ledger::read_all(connection).await.map_err(failed)?;
        let table = CallerTable::new((keys, teams), revision, read_at_ms, CallersSource::Store);
        self.shared.table.store(Some(Arc::new(table)));
        self.shared.following.on_unsaved();
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

// === impl Followed ===

impl<A: Fn(&SecretKey) + Sync> Follower for Followed<'_, A> {
    const WHAT: &'static str = "callers";
    const POLL: Duration = Duration::from_secs(1);
    type Kept = Kept;

    fn store(&self) -> &Store {
        &self.callers.shared.store
    }

    fn following(&self) -> &Following {
        &self.callers.shared.following
    }

    async fn load(&self) -> Result<(), StoreError> {
        self.callers.load().await.map(|made| made.iter().for_each(&self.announce))
    }

    async fn ask_revision(&self, connection: &mut AnyConnection) -> Result<i64, StoreError> {
        let failed = StoreError::query("ask for changes of callers");
        ledger::read_revision(connection).await.map_err(failed)
    }

    async fn read_news(&self, connection: &mut AnyConnection) -> Result<(), StoreError> {
        self.callers.load_table(connection).await
    }

    fn known(&self) -> Option<i64> {
        self.callers.shared.table.load().as_deref().map(|table| table.revision)
    }

    fn kept(&self) -> Snapshot<Kept> {
        let shared = &self.callers.shared;
        let admin = shared.admin.load_full().map(|admin| *admin);
        let admin = admin.filter(|_| !shared.admin_is_given);
        let table = shared.table.load();
        let (read_at_ms, keys, teams) = table.as_deref().map_or_else(Default::default, |table| {
            (table.read_at_ms, table.keys.clone(), table.teams.clone())
        });
        Snapshot { read_at_ms, content: Kept { admin, keys, teams } }
    }

    fn restore(&self, kept: Snapshot<Kept>) -> usize {
        let Snapshot { read_at_ms, content: Kept { admin, keys, teams } } = kept;
        let (shared, entries) = (&self.callers.shared, keys.len());
        let source = CallersSource::Snapshot;
        let table = CallerTable::new((keys, teams), OF_SNAPSHOT, read_at_ms, source);
        shared.table.store(Some(Arc::new(table)));
        if !shared.admin_is_given {
            shared.admin.store(admin.map(Arc::new));
        }
        entries
    }

    fn on_read(&self, error: Option<&StoreError>) {
        self.callers.on_read(error);
    }
}
