//! Reload: on a changed file, on SIGHUP, and on command, with the last good snapshot kept.
//!
//! A reload builds a new [`Snapshot`] completely and then swaps it in; requests in flight keep the
//! one they pinned. A faulty file changes nothing but the [`ReloadStatus`], which says what is
//! wrong. Folders are watched rather than files, because editors and orchestrators replace a file
//! instead of writing to it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::{mpsc, oneshot, watch};

use super::draft::Source;
use super::snapshot::{Settings, Snapshot};
use crate::clock::WallClock;
use crate::problems::Problems;

mod hangups;

use hangups::Hangups;

/// Keeps the current snapshot up to date. Made by [`reloading`]; does nothing until
/// [`Watcher::run`] is polled.
#[derive(Debug)]
pub struct Watcher {
    source: Source,
    current: Arc<ArcSwap<Snapshot>>,
    clock: Arc<dyn WallClock>,
    status: watch::Sender<ReloadStatus>,
    commands: mpsc::Receiver<oneshot::Sender<Result<u64, Problems>>>,
    /// What the process was started with; what differs from it waits for the next start.
    started_with: Settings,
    /// Wants to know of reloads that nobody asked for by a command.
    listener: Option<Listener>,
}

/// Called with every reload that a file or a signal brought about.
struct Listener(Box<dyn Fn(Reloaded) + Send>);

/// A reload that put another snapshot in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reloaded {
    /// What brought it about.
    pub cause: ReloadCause,
    /// Revision of the snapshot before.
    pub before: u64,
    /// Revision of the snapshot now in use.
    pub after: u64,
}

/// What brings a reload about by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ReloadCause {
    /// A file was changed.
    File,
    /// The process got SIGHUP.
    Signal,
}

/// What everybody else holds: the current snapshot, how reloads went, and the command to reload.
#[derive(Debug, Clone)]
pub struct Current {
    snapshot: Arc<ArcSwap<Snapshot>>,
    status: watch::Receiver<ReloadStatus>,
    commands: mpsc::Sender<oneshot::Sender<Result<u64, Problems>>>,
}

/// How reloads went.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReloadStatus {
    /// Revision of the snapshot in use.
    pub revision: u64,
    /// When it was loaded, in milliseconds since 1970.
    pub loaded_at_unix_ms: u64,
    /// Reloads that put a new snapshot in use.
    pub reloads: u64,
    /// Reloads that found the files good, changed or not.
    pub good_reloads: u64,
    /// Reloads that failed.
    pub failed_reloads: u64,
    /// What is wrong with the files as they are now; none where they are what is in use.
    pub failure: Option<ReloadFailure>,
    /// Sections that were changed and take effect at the next start only.
    pub waiting_for_restart: Vec<&'static str>,
}

/// A reload that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReloadFailure {
    /// When, in milliseconds since 1970.
    pub at_unix_ms: u64,
    /// Why.
    pub problems: Problems,
}

/// How long files must be left alone before they are read: editors write in several steps.
const SETTLE: Duration = Duration::from_millis(150);

/// The longest that a stream of changes may put off a reload.
const MAX_SETTLE: Duration = Duration::from_secs(2);

/// Reload commands that may wait for their turn; the next caller waits for room.
const MAX_COMMANDS: usize = 8;

/// Splits a loaded snapshot into what is shared and what keeps it up to date.
pub fn reloading(
    source: Source,
    snapshot: Arc<Snapshot>,
    clock: Arc<dyn WallClock>,
) -> (Current, Watcher) {
    let (status, status_seen) = watch::channel(ReloadStatus {
        revision: snapshot.revision,
        loaded_at_unix_ms: clock.unix_ms(),
        ..ReloadStatus::default()
    });
    let (send, commands) = mpsc::channel(MAX_COMMANDS);
    tracing::info!(
        config.revision = format_args!("{:012x}", snapshot.revision),
        "configuration loaded"
    );
    say_notes(&snapshot);
    let started_with = snapshot.settings.clone();
    let shared = Arc::new(ArcSwap::new(snapshot));
    let current = Current { snapshot: Arc::clone(&shared), status: status_seen, commands: send };
    let watcher =
        Watcher { source, current: shared, clock, status, commands, started_with, listener: None };
    (current, watcher)
}

// === impl Current ===

impl Current {
    /// The snapshot in use. A request calls this once and keeps what it got.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// The place where the snapshot in use stands, for those who look often.
    pub fn shared(&self) -> Arc<ArcSwap<Snapshot>> {
        Arc::clone(&self.snapshot)
    }

    /// How reloads went.
    pub fn status(&self) -> ReloadStatus {
        self.status.borrow().clone()
    }

    /// Waits for the next change of [`Current::status`]. False where the watcher is gone.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost: a change that came first is seen by the next call.
    pub async fn changed(&mut self) -> bool {
        self.status.changed().await.is_ok()
    }

    /// Reloads now and says the revision then in use.
    ///
    /// # Errors
    ///
    /// Every problem of the files; the last good snapshot stays in use.
    ///
    /// # Cancel safety
    ///
    /// The reload may take place all the same.
    pub async fn reload(&self) -> Result<u64, Problems> {
        let gone = || {
            let mut problems = Problems::new();
            let key = crate::problems::KeyPath::root();
            problems.add(Path::new(""), 0, key, "the gateway is shutting down");
            problems
        };
        let (reply, replied) = oneshot::channel();
        self.commands.send(reply).await.map_err(|_| gone())?;
        replied.await.map_err(|_| gone())?
    }
}

// === impl Watcher ===

impl Watcher {
    /// Tells `listener` of every change of the snapshot that a file or a signal brings about.
    /// Whoever reloads by [`Current::reload`] knows.
    #[must_use]
    pub fn telling(self, listener: impl Fn(Reloaded) + Send + 'static) -> Self {
        Self { listener: Some(Listener(Box::new(listener))), ..self }
    }

    /// Watches and reloads until every [`Current`] is gone.
    ///
    /// # Cancel safety
    ///
    /// May be dropped at any point.
    pub async fn run(mut self) {
        // One waiting signal is enough: it says that something changed, not what.
        let (notice, mut notices) = mpsc::channel(1);
        let mut watching = self.watch_folders(notice);
        let mut prompts = self.source.prompts_folder();
        let mut hangups = Hangups::new();
        loop {
            tokio::select! {
                command = self.commands.recv() => match command {
                    Some(reply) => {
                        let outcome = self.reload();
                        // Whoever asked may have gone.
                        let _ = reply.send(outcome);
                    }
                    None => return,
                },
                Some(()) = notices.recv() => {
                    settle(&mut notices).await;
                    self.reload_by(ReloadCause::File);
                    // It may be made, and made again, while the gateway runs.
                    let now = self.source.prompts_folder();
                    if let (Some(folder), Some(watching)) = (&now, &mut watching)
                        && prompts != now
                    {
                        if let Err(error) = watching.watch(folder, RecursiveMode::Recursive) {
                            tracing::warn!(%error, "prompts are not watched; reload with SIGHUP");
                        }
                        // What was written before it was watched.
                        self.reload_by(ReloadCause::File);
                    }
                    prompts = now;
                }
                () = hangups.next() => {
                    // What files said until now is read with it.
                    while notices.try_recv().is_ok() {}
                    self.reload_by(ReloadCause::Signal);
                }
            }
        }
    }

    fn reload_by(&mut self, cause: ReloadCause) {
        let before = self.current.load().revision;
        let reloaded = self.reload();
        if let (Ok(after), Some(listener)) = (reloaded, &self.listener)
            && after != before
        {
            (listener.0)(Reloaded { cause, before, after });
        }
    }

    /// Reads everything again. Blocks for the time it takes to read some small files.
    fn reload(&mut self) -> Result<u64, Problems> {
        let before = self.current.load_full();
        let now = self.clock.unix_ms();
        match super::load(&self.source, Some(&before)) {
            Ok(snapshot) => {
                let revision = snapshot.revision;
                if revision != before.revision {
                    tracing::info!(
                        config.revision = format_args!("{revision:012x}"),
                        "configuration reloaded"
                    );
                    say_notes(&snapshot);
                    self.current.store(Arc::clone(&snapshot));
                    let waiting = self.waiting_for_restart(&snapshot.settings);
                    if !waiting.is_empty() {
                        let sections = waiting.join(", ");
                        tracing::warn!(sections, "changed settings take effect at the next start");
                    }
                    self.status.send_modify(|status| {
                        status.revision = revision;
                        status.loaded_at_unix_ms = now;
                        status.reloads += 1;
                        status.waiting_for_restart = waiting;
                    });
                } else if self.status.borrow().failure.is_some() {
                    tracing::info!(
                        config.revision = format_args!("{revision:012x}"),
                        "configuration is good again"
                    );
                }
                self.status.send_modify(|status| {
                    status.good_reloads += 1;
                    status.failure = None;
                });
                Ok(revision)
            }
            Err(problems) => {
                self.failed(&problems, now);
                Err(problems)
            }
        }
    }

    fn failed(&self, problems: &Problems, now: u64) {
        let known = |status: &ReloadStatus| {
            status.failure.as_ref().is_some_and(|failure| failure.problems == *problems)
        };
        if !known(&self.status.borrow()) {
            tracing::error!(%problems, "configuration not reloaded, the last good one stays in use");
        }
        self.status.send_modify(|status| {
            status.failed_reloads += 1;
            status.failure = Some(ReloadFailure { at_unix_ms: now, problems: problems.clone() });
        });
    }

    /// Sections that differ from what the process was started with and are read at start only.
    fn waiting_for_restart(&self, now: &Settings) -> Vec<&'static str> {
        let started = &self.started_with;
        let (a, b) = (&started.server, &now.server);
        let sections = [
            ("server.listen", a.listen != b.listen),
            ("server.admin_listen", a.admin_listen != b.admin_listen),
            ("server.request_head_limit", a.request_head_limit != b.request_head_limit),
            ("server.head_read_timeout", a.head_read_timeout != b.head_read_timeout),
            ("server.idle_timeout", a.idle_timeout != b.idle_timeout),
            ("server.drain_timeout", a.drain_timeout != b.drain_timeout),
            ("server.worker_threads", a.worker_threads != b.worker_threads),
            ("store", started.store != now.store),
            ("cluster", started.cluster != now.cluster),
            ("telemetry", started.telemetry != now.telemetry),
            ("journal", started.journal != now.journal),
            ("cache.max_memory", started.cache.max_memory != now.cache.max_memory),
            ("cache.shared", started.cache.shared != now.cache.shared),
            (
                "cache.max_semantic_memory",
                started.cache.max_semantic_memory != now.cache.max_semantic_memory,
            ),
            ("prompts.snapshot", started.prompts.snapshot != now.prompts.snapshot),
            ("embedders", started.embedders != now.embedders),
        ];
        sections.into_iter().filter(|(_, differs)| *differs).map(|(section, _)| section).collect()
    }

    /// Watches the folders of all files; without a watcher SIGHUP and the admin API still reload.
    fn watch_folders(&self, notice: mpsc::Sender<()>) -> Option<RecommendedWatcher> {
        let folders = self.folders();
        if folders.is_empty() && self.source.prompts_folder().is_none() {
            return None;
        }
        let store = self.started_with.store.url.clone();
        let on_event = move |event: notify::Result<notify::Event>| {
            // Reading a file is an event, too; reacting to it would go on for ever.
            if event.is_ok_and(|event| !event.kind.is_access() && !is_of_store(&event, &store)) {
                let _ = notice.try_send(());
            }
        };
        let watcher = notify::recommended_watcher(on_event).and_then(|mut watcher| {
            for folder in &folders {
                watcher.watch(folder, RecursiveMode::NonRecursive)?;
            }
            if let Some(prompts) = self.source.prompts_folder() {
                watcher.watch(&prompts, RecursiveMode::Recursive)?;
            }
            Ok(watcher)
        });
        watcher
            .inspect_err(|error| {
                tracing::warn!(%error, "files are not watched; reload with SIGHUP");
            })
            .ok()
    }

    fn folders(&self) -> Vec<PathBuf> {
        let of_file = self.source.file.as_deref().map(|file| match file.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => PathBuf::from("."),
        });
        of_file.into_iter().chain(self.source.providers.clone()).collect()
    }
}

impl std::fmt::Debug for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Listener")
    }
}

// === impl ReloadCause ===

impl ReloadCause {
    /// The word for the audit log.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Signal => "signal",
        }
    }
}

/// Whether only the store's database changed. It may lie beside the files, and under load it is
/// written all the time.
fn is_of_store(event: &notify::Event, url: &str) -> bool {
    let Some(path) = url.strip_prefix("sqlite:") else { return false };
    let database = path.rsplit('/').next().unwrap_or_default();
    // Its folders are made at the first start.
    let is_folder = |name: &str| {
        let folders = path.strip_suffix(database).unwrap_or_default();
        !name.is_empty() && folders.split('/').any(|folder| folder == name)
    };
    let is_its = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        // What SQLite keeps beside a database is called so.
        matches!(name.strip_prefix(database), Some("" | "-wal" | "-shm" | "-journal"))
            || is_folder(name)
    };
    !event.paths.is_empty() && event.paths.iter().all(is_its)
}

fn say_notes(snapshot: &Snapshot) {
    for note in snapshot.notes() {
        tracing::warn!("{note}");
    }
}

/// Waits until changes stop coming, but not for ever.
async fn settle(notices: &mut mpsc::Receiver<()>) {
    let quiet =
        async { while let Ok(Some(())) = tokio::time::timeout(SETTLE, notices.recv()).await {} };
    let _ = tokio::time::timeout(MAX_SETTLE, quiet).await;
}

#[cfg(test)]
mod tests {
    use notify::EventKind;

    use super::*;

    #[test]
    fn what_the_store_writes_beside_the_files_is_no_change_of_theirs() {
        let is_of_store = |names: &[&str], url| {
            let event = notify::Event::new(EventKind::Any);
            let paths = names.iter().map(|name| PathBuf::from("/etc/tidegate").join(name));
            super::is_of_store(&paths.fold(event, notify::Event::add_path), url)
        };
        let url = "sqlite:/etc/tidegate/state.db";
        for name in ["state.db", "state.db-wal", "state.db-shm", "state.db-journal"] {
            assert!(is_of_store(&[name], url), "{name}");
            assert!(is_of_store(&[name], "sqlite:state.db"), "{name}");
        }
        for name in ["tidegate.toml", "..data", "state.db-prod.toml", "state", "x-state.db"] {
            assert!(!is_of_store(&[name], url), "{name}");
        }
        assert!(is_of_store(&["data"], "sqlite:data/state.db"), "its folder is made");
        assert!(!is_of_store(&["state.db-wal", "tidegate.toml"], url), "one of two is enough");
        assert!(!is_of_store(&[], url), "a queue that overflowed names nothing");
        assert!(!is_of_store(&["tidegate"], "postgres://host/tidegate"), "it is elsewhere");
    }
}
