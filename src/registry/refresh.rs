//! Keeps the registry what the store says, and serves on with the last good one where the store is
//! away.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sqlx::AnyConnection;

use super::Registry;
use super::row::{LabelRow, VersionRow, label_columns, version_columns};
use super::table::Table;
use crate::store::follow::{self, Follower, Following, Snapshot};
use crate::store::{Store, StoreError};

/// How well prompts are known, for `/health`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RegistryHealth {
    /// Versions that requests can name.
    pub versions: usize,
    /// Where pushed versions and labels were read.
    pub source: RegistrySource,
    /// When the store was read, in milliseconds since 1970; 0 where it never was.
    pub read_at_ms: u64,
    /// Whether the store cannot be read at the moment. What is known goes on.
    pub behind: bool,
    /// What is wrong, while `behind`.
    pub last_error: Option<String>,
    /// What files say that does not hold, because the store says otherwise, and versions that
    /// cannot be read.
    pub conflicts: Vec<String>,
    /// Labels that were moved since their files set them. That is as it should be.
    pub notes: Vec<String>,
}

/// Where pushed versions and labels were read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RegistrySource {
    /// Nowhere yet: there are those of files.
    Files,
    /// In the store.
    Store,
    /// In the snapshot on disk, because the store was away.
    Snapshot,
}

/// How much of the store is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// Everything: the store may be another one.
    All,
    /// What changed.
    News,
    /// What changed up to this revision, which is all that is committed.
    NewsTo(i64),
}

/// What the snapshot on disk keeps.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Kept {
    versions: Vec<VersionRow>,
    labels: Vec<LabelRow>,
}

/// What counts the changes of prompts.
pub(super) const REVISION: &str = "prompts";
/// Versions that are compiled before others get their turn.
const AT_A_TIME: usize = 32;

// === impl Registry ===

impl Registry {
    /// Reads everything from the store, and puts into it what only files have. Where the store
    /// cannot be read and nothing is known yet, the snapshot on disk is read instead.
    ///
    /// # Errors
    ///
    /// [`StoreError`] where the store cannot be read; what was known before stays.
    pub async fn load(&self) -> Result<(), StoreError> {
        let loaded = async {
            let mut connection = self.shared.store.writer().await?;
            self.read(&mut connection, Reach::All).await?;
            self.seed(&mut connection).await
        };
        let loaded = loaded.await;
        follow::note(self, loaded.as_ref().err());
        loaded
    }

    /// Reads everything again soon, because files were: for reloads of the configuration.
    pub fn reload(&self) {
        self.shared.following.reload();
    }

    /// Looks at once for what other nodes changed.
    pub fn on_news(&self) {
        self.shared.following.on_news();
    }

    /// Keeps the registry what the store says, and the snapshot on disk what the registry says, see
    /// `store/follow.rs`.
    pub async fn run(self) {
        follow::follow(&self).await;
    }

    /// How well prompts are known.
    pub fn health(&self) -> RegistryHealth {
        let versions = self.prompts().iter().map(|(_, versions)| versions.iter().count()).sum();
        let table = self.shared.table.load();
        let (source, read_at_ms) = table
            .as_deref()
            .map_or((RegistrySource::Files, 0), |table| (table.source, table.read_at_ms));
        let last_error = self.shared.following.trouble().as_deref().cloned();
        let merged = self.shared.merged.load();
        let (conflicts, notes) = (merged.told.conflicts.clone(), merged.told.notes.clone());
        let behind = last_error.is_some();
        RegistryHealth { versions, source, read_at_ms, behind, last_error, conflicts, notes }
    }

    /// Takes in what was changed here, and tells other nodes.
    pub async fn on_changed(&self, connection: &mut AnyConnection) {
        follow::on_changed(self, connection).await;
    }

    /// Reads the store. The request path knows when this returns.
    pub(super) async fn read(
        &self,
        connection: &mut AnyConnection,
        reach: Reach,
    ) -> Result<(), StoreError> {
        let failed = StoreError::query("read the prompts");
        let _one = self.shared.following.turn().await;
        let read_at_ms = self.shared.clock.unix_ms();
        // First the count: what is changed meanwhile is read again, never missed.
        let revision = match reach {
            Reach::NewsTo(revision) => revision,
            Reach::All | Reach::News => read_revision(connection).await.map_err(&failed)?,
        };
        let known = self.shared.table.load_full();
        let known = known.as_deref();
        let mut table = match known {
            // One that counts less is another store.
            Some(known) if reach != Reach::All && (0..=revision).contains(&known.revision) => {
                known.clone()
            }
            Some(_) | None => Table::empty(RegistrySource::Store),
        };
        let (versions, labels) = read_since(connection, table.revision).await.map_err(&failed)?;
        let files = Arc::clone(&self.shared.snapshot.load().prompts);
        for (index, row) in versions.into_iter().enumerate() {
            table.take(row, known, &files);
            if index % AT_A_TIME == AT_A_TIME - 1 {
                tokio::task::yield_now().await;
            }
        }
        labels.into_iter().for_each(|row| table.take_label(row));
        table.revision = revision;
        table.read_at_ms = read_at_ms;
        self.shared.table.store(Some(Arc::new(table)));
        self.merge();
        self.shared.following.on_unsaved();
        Ok(())
    }
}

impl Follower for Registry {
    const WHAT: &'static str = "prompts";
    const POLL: Duration = Duration::from_millis(500);
    type Kept = Kept;

    fn store(&self) -> &Store {
        &self.shared.store
    }

    fn following(&self) -> &Following {
        &self.shared.following
    }

    async fn load(&self) -> Result<(), StoreError> {
        Self::load(self).await
    }

    async fn ask_revision(&self, connection: &mut AnyConnection) -> Result<i64, StoreError> {
        let failed = StoreError::query("ask for changes of prompts");
        read_revision(connection).await.map_err(failed)
    }

    async fn read_news(&self, connection: &mut AnyConnection) -> Result<(), StoreError> {
        self.read(connection, Reach::News).await
    }

    fn known(&self) -> Option<i64> {
        self.shared.table.load().as_deref().map(|table| table.revision)
    }

    fn kept(&self) -> Snapshot<Kept> {
        let table = self.shared.table.load();
        let (versions, labels) = table.as_deref().map_or_else(Default::default, |table| {
            let versions = table.versions.values().map(|stored| stored.row()).collect();
            (versions, table.labels.values().cloned().collect())
        });
        let read_at_ms = table.as_deref().map_or(0, |table| table.read_at_ms);
        Snapshot { read_at_ms, content: Kept { versions, labels } }
    }

    fn restore(&self, kept: Snapshot<Kept>) -> usize {
        let Snapshot { read_at_ms, content: Kept { versions, labels } } = kept;
        let entries = versions.len();
        let mut table = Table::empty(RegistrySource::Snapshot);
        table.read_at_ms = read_at_ms;
        let files = Arc::clone(&self.shared.snapshot.load().prompts);
        versions.into_iter().for_each(|row| table.take(row, None, &files));
        labels.into_iter().for_each(|row| table.take_label(row));
        self.shared.table.store(Some(Arc::new(table)));
        self.merge();
        entries
    }
}

async fn read_since(
    connection: &mut AnyConnection,
    since: i64,
) -> Result<(Vec<VersionRow>, Vec<LabelRow>), sqlx::Error> {
    let versions = sqlx::query(concat!(
        "SELECT ",
        version_columns!(),
        " FROM prompt_versions WHERE changed > $1"
    ));
    let versions = versions.bind(since).fetch_all(&mut *connection).await?;
    let versions = versions.iter().map(VersionRow::read).collect::<Result<_, _>>()?;
    let labels =
        sqlx::query(concat!("SELECT ", label_columns!(), " FROM prompt_labels WHERE changed > $1"));
    let labels = labels.bind(since).fetch_all(connection).await?;
    Ok((versions, labels.iter().map(LabelRow::read).collect::<Result<_, _>>()?))
}

/// How many changes of prompts the store has seen.
async fn read_revision(connection: &mut AnyConnection) -> Result<i64, sqlx::Error> {
    let revision = sqlx::query_scalar("SELECT revision FROM revisions WHERE name = $1");
    Ok(revision.bind(REVISION).fetch_optional(connection).await?.unwrap_or(0))
}
