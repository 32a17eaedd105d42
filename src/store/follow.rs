//! What a node keeps in memory of the store, and how it keeps that true: keys, prompts, rollouts.
//!
//! Requests read a table in memory and never wait for the store. One loop, [`follow`], reads the
//! store at the start, after a change that somebody tells of, and at intervals where other nodes
//! may have changed it. Where the store is away the last good table goes on, and a node that starts
//! then takes what the snapshot on disk has kept.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::AnyConnection;
use tokio::sync::{Notify, Semaphore, SemaphorePermit};

use super::file::SnapshotFile;
use super::{Kind, Store, StoreError};
use crate::clock::{Instant, rfc3339};

/// Something that is kept in memory as the store says it.
pub(crate) trait Follower: Sync {
    /// What it is, for logs: `callers`.
    const WHAT: &'static str;
    /// How often a server is asked whether another node has changed it.
    const POLL: Duration;
    /// What the snapshot on disk keeps of it.
    type Kept: Serialize + DeserializeOwned + Send + 'static;

    /// Where it is read.
    fn store(&self) -> &Store;

    /// How well it is known.
    fn following(&self) -> &Following;

    /// Reads everything, and [takes note](Self::on_read) of how that went.
    fn load(&self) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// How many changes of it the store has seen.
    fn ask_revision(
        &self,
        connection: &mut AnyConnection,
    ) -> impl Future<Output = Result<i64, StoreError>> + Send;

    /// Reads what has changed. The request path knows when this returns.
    fn read_news(
        &self,
        connection: &mut AnyConnection,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// The revision of the table in memory: `None` where there is no table, [`OF_SNAPSHOT`] where
    /// it is the snapshot's.
    fn known(&self) -> Option<i64>;

    /// What the snapshot is to keep of the table in memory.
    fn kept(&self) -> Snapshot<Self::Kept>;

    /// Makes the table of what the snapshot has kept; says how many entries that are.
    fn restore(&self, kept: Snapshot<Self::Kept>) -> usize;

    /// Hears that a new table was read.
    fn on_table(&self) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }

    /// Hears that the loop has turned, at least every [`Self::POLL`].
    fn on_turn(&self) {}

    /// Takes note of whether the store could be read.
    fn on_read(&self, error: Option<&StoreError>) {
        note(self, error);
    }
}

/// How well something is known, and who waits for more.
#[derive(Debug)]
pub(crate) struct Following {
    snapshot: Option<SnapshotFile>,
    /// Why the store cannot be read at the moment: what is known may be behind it.
    trouble: ArcSwapOption<String>,
    /// One reading at a time, so that an older table never replaces a newer one.
    turn: Semaphore,
    reload: Notify,
    news: Notify,
    /// A table is not in the snapshot yet.
    unsaved: Notify,
    changed_here: Notify,
}

/// A table as it is kept on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Snapshot<T> {
    /// When the store was read, in milliseconds since 1970.
    pub(crate) read_at_ms: u64,
    pub(crate) content: T,
}

/// The revision of a table that was made of a snapshot: before all others.
pub(crate) const OF_SNAPSHOT: i64 = -1;

/// The first and the longest pause after the store could not be read.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
/// How long a server may take for an answer before it counts as away.
const ANSWER: Duration = Duration::from_secs(5);

/// How long a snapshot that could not be written is left alone: a full disk is not helped by
/// trying.
const SAVE_AGAIN: Duration = Duration::from_secs(10);

/// What became of the snapshot on disk.
#[derive(Debug, Default)]
pub(crate) struct Saved {
    /// The revision that it holds.
    revision: Option<i64>,
    /// When it was last tried and could not be written.
    failed_at: Option<Instant>,
}

/// What the loop does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Load,
    Look,
    Tick,
    Save,
}

/// Keeps the table what the store says, for ever: reads it now, until it can be read, when
/// [`Following::reload`] or [`Following::on_news`] ask, and at intervals where other nodes may change
/// it. Keeps the snapshot on disk what the table says.
pub(crate) async fn follow<F: Follower>(what: &F) {
    let following = what.following();
    let mut pause = RETRY.0;
    let (mut seen, mut saved) = (None, Saved::default());
    let mut poller = None;
    let mut read = what.load().await;
    loop {
        match read {
            Ok(()) => {
                pause = RETRY.0;
                if what.known() != seen {
                    seen = what.known();
                    what.on_table().await;
                }
                save(what, &mut saved).await;
            }
            Err(error) => {
                // Said once, not with every try.
                if pause == RETRY.0 {
                    let error = error.chain();
                    tracing::error!(%error, "cannot read {}; what is known goes on", F::WHAT);
                }
                pause = (pause * 2).min(RETRY.1);
            }
        }
        let is_away = following.is_behind();
        let next = tokio::select! {
            () = tokio::time::sleep(if is_away { pause } else { F::POLL }) => Next::Tick,
            () = following.reload.notified() => Next::Load,
            () = following.news.notified() => Next::Look,
            () = following.unsaved.notified() => Next::Save,
        };
        what.on_turn();
        read = match (next, what.store().kind()) {
            // Nothing counts as read while the store is away but what was read.
            (Next::Tick | Next::Look | Next::Save, _) if is_away => what.load().await,
            (Next::Load, _) => what.load().await,
            // Who shares a file tells of changes.
            (Next::Save, _) | (Next::Tick, Kind::Sqlite) => Ok(()),
            (Next::Look, _) | (Next::Tick, Kind::Postgres) => look(what, &mut poller).await,
        };
    }
}

/// Takes in what was changed here, and tells other nodes. The change is made, whatever becomes of
/// this: where the store goes away at this very moment, the loop reads it later.
pub(crate) async fn on_changed<F: Follower>(what: &F, connection: &mut AnyConnection) {
    what.following().on_changed_here();
    if let Err(error) = what.read_news(connection).await {
        tracing::error!(error = %error.chain(), "a change of {} is not read back yet", F::WHAT);
        what.following().reload();
    }
}

/// Asks whether the store was changed, on a connection of its own: operators who keep all the
/// others busy must not make it look away.
async fn look<F: Follower>(what: &F, poller: &mut Option<AnyConnection>) -> Result<(), StoreError> {
    let looked = async {
        let mut connection = match poller.take() {
            Some(connection) => connection,
            None => what.store().connect().await?,
        };
        if what.known() != Some(what.ask_revision(&mut connection).await?) {
            what.read_news(&mut connection).await?;
        }
        Ok(connection)
    };
    let looked = match tokio::time::timeout(ANSWER, looked).await {
        Ok(looked) => looked,
        Err(_) => Err(StoreError::query("ask for changes")(timed_out())),
    };
    what.on_read(looked.as_ref().err());
    // A file may be another one by the next time.
    *poller = looked.map(Some)?.filter(|_| what.store().kind() == Kind::Postgres);
    Ok(())
}

/// Takes note of whether the store could be read.
pub(crate) fn note<F: Follower + ?Sized>(what: &F, error: Option<&StoreError>) {
    let following = what.following();
    let was_away = following.is_behind();
    following.trouble.store(error.map(|error| Arc::new(error.chain())));
    match error {
        None if was_away => tracing::info!("{} are read again", F::WHAT),
        None => {}
        Some(_) => restore(what),
    }
}

/// Takes what the snapshot says, where nothing is known.
fn restore<F: Follower + ?Sized>(what: &F) {
    let Some(file) = &what.following().snapshot else { return };
    if what.known().is_some() {
        return;
    }
    match file.read(&what.store().url().to_string()) {
        Ok(None) => {}
        Ok(Some(kept)) => {
            let read_at = rfc3339(kept.read_at_ms);
            let entries = what.restore(kept);
            tracing::warn!(
                entries,
                %read_at,
                "the store is away: {} are taken from the snapshot",
                F::WHAT
            );
        }
        Err(error) => {
            let path = file.path().display();
            tracing::error!(%error, %path, "the snapshot of {} cannot be read", F::WHAT);
        }
    }
}

/// Writes the snapshot where it is not what the table says. A disk that is slow holds up nobody
/// else on this thread.
pub(crate) async fn save<F: Follower>(what: &F, saved: &mut Saved) {
    let Some(file) = what.following().snapshot.clone() else { return };
    let Some(revision) = what.known().filter(|revision| Some(*revision) != saved.revision) else {
        return;
    };
    let is_left_alone = saved.failed_at.is_some_and(|at| at.elapsed() < SAVE_AGAIN);
    if revision == OF_SNAPSHOT || is_left_alone {
        return;
    }
    let (kept, store) = (what.kept(), what.store().url().to_string());
    let path = file.path().to_owned();
    let written = tokio::task::spawn_blocking(move || file.write(&store, &kept)).await;
    match written.unwrap_or_else(|error| Err(std::io::Error::other(error))) {
        Ok(()) => *saved = Saved { revision: Some(revision), failed_at: None },
        Err(error) => {
            // Said once, not with every try.
            if saved.failed_at.replace(Instant::now()).is_none() {
                let path = path.display();
                tracing::error!(%error, %path, "the snapshot of {} cannot be written", F::WHAT);
            }
        }
    }
}

fn timed_out() -> sqlx::Error {
    sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, "no answer"))
}

// === impl Following ===

impl Following {
    /// Nothing is known yet. `snapshot` is the file that keeps the last good state for a start
    /// without the store.
    pub(crate) fn new(snapshot: Option<PathBuf>) -> Self {
        Self {
            snapshot: snapshot.map(SnapshotFile::new),
            trouble: ArcSwapOption::empty(),
            turn: Semaphore::new(1),
            reload: Notify::new(),
            news: Notify::new(),
            unsaved: Notify::new(),
            changed_here: Notify::new(),
        }
    }

    /// Whether what is known may be behind the store.
    pub(crate) fn is_behind(&self) -> bool {
        self.trouble.load().is_some()
    }

    /// Why the store cannot be read at the moment, if it cannot.
    pub(crate) fn trouble(&self) -> Option<Arc<String>> {
        self.trouble.load_full()
    }

    /// Reads everything again soon.
    pub(crate) fn reload(&self) {
        self.reload.notify_one();
    }

    /// Looks soon for what other nodes changed.
    pub(crate) fn on_news(&self) {
        self.news.notify_one();
    }

    /// Hears that a new table is not in the snapshot yet.
    pub(crate) fn on_unsaved(&self) {
        self.unsaved.notify_one();
    }

    /// Waits for the turn to read, which ends when this is dropped.
    pub(crate) async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        // The semaphore is never closed, so a permit always comes.
        self.turn.acquire().await.ok()
    }

    /// Hears that this node has changed the store.
    pub(crate) fn on_changed_here(&self) {
        self.changed_here.notify_one();
    }

    /// Waits until this node has changed the store, which other nodes do not know yet. For one
    /// listener.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost: a change that came first is seen by the next call.
    pub(crate) async fn changed_here(&self) {
        self.changed_here.notified().await;
    }
}
