//! Keeps the registry what the store says, and serves on with the last good one where the store is
//! away.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use sqlx::AnyConnection;

use super::Registry;
use super::row::{LabelRow, VersionRow, label_columns, version_columns};
use super::snapshot::{FORMAT, Saved};
use super::table::Table;
use crate::clock::rfc3339;
use crate::store::{Kind, StoreError};

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
    /// What files say that does not hold, because the store says otherwise, and versions that cannot
    /// be read.
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

/// What the loop does next.
enum Next {
    Load,
    Poll,
    Save,
}

/// The first and the longest pause after the store could not be read.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
/// How often a store that other nodes change is asked for news.
const POLL: Duration = Duration::from_millis(500);
/// How long a server may take for an answer before it counts as away.
const ANSWER: Duration = Duration::from_secs(5);
/// What counts the changes of prompts.
pub(super) const REVISION: &str = "prompts";
/// Versions that are compiled before others get their turn.
const AT_A_TIME: usize = 32;

// === impl Registry ===

impl Registry {
    /// Reads everything from the store, and puts into it what only files have. Where the store cannot
    /// be read and nothing is known yet, the snapshot on disk is read instead.
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
        self.on_read(loaded.as_ref().err());
        loaded
    }

    /// Reads everything again soon, because files were: for reloads of the configuration.
    pub fn reload(&self) {
        self.shared.files.notify_one();
    }

    /// Looks at once for what other nodes changed.
    pub fn on_news(&self) {
        self.shared.news.notify_one();
    }

    /// Keeps the registry what the store says: reads it now, until it can be read, when
    /// [`Registry::reload`] or [`Registry::on_news`] ask, and, where other nodes may change it, twice
    /// a second. Keeps the snapshot on disk.
    pub async fn run(self) {
        let mut pause = RETRY.0;
        let mut saved = None;
        let mut poller = None;
        let mut read = self.load().await;
        loop {
            match read {
                Ok(()) => {
                    pause = RETRY.0;
                    self.save(&mut saved).await;
                }
                Err(error) => {
                    // Said once, not with every try.
                    if pause == RETRY.0 {
                        let error = error.chain();
                        tracing::error!(%error, "cannot read prompts; those known go on");
                    }
                    pause = (pause * 2).min(RETRY.1);
                }
            }
            let is_away = self.is_behind();
            let wait = match self.shared.store.kind() {
                _ if is_away => pause,
                Kind::Postgres => POLL,
                // Who shares a file shares news, too.
                Kind::Sqlite => Duration::MAX,
            };
            let next = tokio::select! {
                () = tokio::time::sleep(wait) => if is_away { Next::Load } else { Next::Poll },
                () = self.shared.files.notified() => Next::Load,
                () = self.shared.news.notified() => if is_away { Next::Load } else { Next::Poll },
                () = self.shared.unsaved.notified() => Next::Save,
            };
            read = match next {
                Next::Load => self.load().await,
                Next::Poll => self.poll(&mut poller).await,
                Next::Save => Ok(()),
            };
        }
    }

    /// How well prompts are known.
    pub fn health(&self) -> RegistryHealth {
        let versions = self.prompts().iter().map(|(_, versions)| versions.iter().count()).sum();
        let table = self.shared.table.load();
        let (source, read_at_ms) = table
            .as_deref()
            .map_or((RegistrySource::Files, 0), |table| (table.source, table.read_at_ms));
        let last_error = self.shared.trouble.load().as_deref().cloned();
        let merged = self.shared.merged.load();
        let (conflicts, notes) = (merged.told.conflicts.clone(), merged.told.notes.clone());
        let behind = last_error.is_some();
        RegistryHealth { versions, source, read_at_ms, behind, last_error, conflicts, notes }
    }

    fn is_behind(&self) -> bool {
        self.shared.trouble.load().is_some()
    }

    /// Asks a store that others change whether they did, on a connection of its own: operators who
    /// keep all the others busy must not make it look away.
    async fn poll(&self, poller: &mut Option<AnyConnection>) -> Result<(), StoreError> {
        let kind = self.shared.store.kind();
        let looked = async {
            let mut connection = match poller.take() {
                Some(connection) => connection,
                None => self.shared.store.connect().await?,
            };
            let failed = StoreError::query("ask for changes of prompts");
            let revision = read_revision(&mut connection).await.map_err(failed)?;
            if self.shared.table.load().as_deref().map(|table| table.revision) != Some(revision) {
                self.read(&mut connection, Reach::News).await?;
            }
            Ok(connection)
        };
        let looked = match tokio::time::timeout(ANSWER, looked).await {
            Ok(looked) => looked,
            Err(_) => Err(StoreError::query("ask for changes of prompts")(timed_out())),
        };
        self.on_read(looked.as_ref().err());
        // A file may be another one by the next time.
        *poller = looked.map(Some)?.filter(|_| kind == Kind::Postgres);
        Ok(())
    }

    /// Takes note of whether the store could be read.
    fn on_read(&self, error: Option<&StoreError>) {
        let was_away = self.is_behind();
        self.shared.trouble.store(error.map(|error| Arc::new(error.chain())));
        match error {
            None if was_away => tracing::info!("prompts are read again"),
            None => {}
            Some(_) => self.restore(),
        }
    }

    /// Takes what the snapshot says, where nothing is known.
    fn restore(&self) {
        let Some(file) = &self.shared.kept else { return };
        if self.shared.table.load().is_some() {
            return;
        }
        match file.read(&self.shared.store.url().to_string()) {
            Ok(None) => {}
            Ok(Some(saved)) => {
                tracing::warn!(
                    versions = saved.versions.len(),
                    read_at = %rfc3339(saved.read_at_ms),
                    "the store is away: prompts are taken from the snapshot"
                );
                let mut table = Table::empty(RegistrySource::Snapshot);
                table.read_at_ms = saved.read_at_ms;
                let files = Arc::clone(&self.shared.snapshot.load().prompts);
                saved.versions.into_iter().for_each(|row| table.take(row, None, &files));
                saved.labels.into_iter().for_each(|row| table.take_label(row));
                self.shared.table.store(Some(Arc::new(table)));
                self.merge();
            }
            Err(error) => {
                let path = file.path().display();
                tracing::error!(%error, %path, "the snapshot of prompts cannot be read");
            }
        }
    }

    /// Writes the snapshot where it is not what the table says. A disk that is slow holds up nobody
    /// else on this thread.
    pub(super) async fn save(&self, saved: &mut Option<i64>) {
        let Some(file) = self.shared.kept.clone() else { return };
        let table = self.shared.table.load_full();
        let Some(table) = table.filter(|table| *saved != Some(table.revision)) else { return };
        if table.source != RegistrySource::Store {
            return;
        }
        let content = Saved {
            format: FORMAT,
            store: self.shared.store.url().to_string(),
            read_at_ms: table.read_at_ms,
            versions: table.versions.values().map(|stored| stored.row()).collect(),
            labels: table.labels.values().cloned().collect(),
        };
        let path = file.path().to_owned();
        let written = tokio::task::spawn_blocking(move || file.write(&content)).await;
        match written.unwrap_or_else(|error| Err(std::io::Error::other(error))) {
            Ok(()) => *saved = Some(table.revision),
            Err(error) => {
                let path = path.display();
                tracing::error!(%error, %path, "the snapshot of prompts cannot be written");
            }
        }
    }

    /// Takes in what was changed here, and tells other nodes. The change is made, whatever becomes of
    /// this: where the store goes away at this very moment, the loop reads it later.
    pub async fn on_changed(&self, connection: &mut AnyConnection) {
        self.shared.changed_here.notify_one();
        if let Err(error) = self.read(connection, Reach::News).await {
            tracing::error!(error = %error.chain(), "a change of prompts is not read back yet");
            self.reload();
        }
    }

    /// Reads the store. The request path knows when this returns.
    pub(super) async fn read(
        &self,
        connection: &mut AnyConnection,
        reach: Reach,
    ) -> Result<(), StoreError> {
        let failed = StoreError::query("read the prompts");
        // The semaphore is never closed, so a permit always comes.
        let _one = self.shared.reading.acquire().await;
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
        self.shared.unsaved.notify_one();
        Ok(())
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

fn timed_out() -> sqlx::Error {
    sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, "no answer"))
}
