//! What the store has to do with it: entries are written behind requests, read when a node starts,
//! and heard of when another node has written them; lessons come together there.
//!
//! Nothing here is ever waited for by a request. While the store is away entries are in memory
//! only, which is counted, and labels wait.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc};

use super::calibrations::{Calibrations, Found};
use super::lessons::Unstored;
use super::purges::Purges;
use super::{Core, Entries, Meanings, Query};
use crate::cache::{Kept, Key, Purge};
use crate::clock::Instant;
use crate::embed::{Change, Cursor, Embedding, Entry, EntryId, Rows};
use crate::semantic::traits::Traits;
use crate::store::{Store, StoreError};

/// An entry on its way to the store.
#[derive(Debug)]
pub(super) struct Put {
    entry: Entry,
    ttl: Duration,
}

/// What is to be done in the store.
#[derive(Debug)]
pub(super) struct Errands {
    /// Bounded; full means drop and count.
    puts: mpsc::Sender<Put>,
    to_do: Mutex<Option<mpsc::Receiver<Put>>>,
    /// What is to be forgotten. An operator's word is never dropped.
    purges: Mutex<Vec<Forget>>,
    is_due: Notify,
}

/// An operator's word, and when it was said, in milliseconds since 1970.
#[derive(Debug, Clone)]
pub(super) struct Forget {
    pub(super) id: i64,
    pub(super) purge: Purge,
    pub(super) at_ms: u64,
    /// Whether the store has it.
    pub(super) is_written: bool,
}

/// What of the store this node has read.
#[derive(Debug, Default)]
struct Read {
    entries: Cursor,
    /// When that was last moved.
    moved_at: Option<Instant>,
    lessons: i64,
    /// Whether it knows of purges that others have left behind.
    knows_purges: bool,
}

/// What became of an entry in the store.
#[derive(Debug)]
enum News {
    Kept {
        id: EntryId,
        query: Box<Query>,
        vector: Embedding,
        kept: Box<Kept>,
        fresh_until: Instant,
    },
    Removed(EntryId),
}

/// Entries that wait to be written.
const MOST_PUTS: usize = 1_024;
/// How often the store is asked for what others have written.
const EVERY: Duration = Duration::from_secs(2);
/// How often what has expired is taken out, here and there.
const SWEEP_EVERY: Duration = Duration::from_secs(300);
/// How often a lesson is written again at once, where another node was quicker.
const MOST_TRIES: u32 = 8;
/// Rows that are read at a time.
const PAGE: u32 = 200;
/// How far the clocks of nodes may be apart, in milliseconds.
const SKEW_MS: u64 = 5_000;
/// What began before a row was read is seen by then. Longer than [`Cursor::rewound`] goes back.
const SEEN_AFTER: Duration = Duration::from_secs(30);

// === impl Put ===

impl Put {
    pub(super) fn of((query, space): (&Query, &str), vector: &Embedding, kept: &Kept) -> Self {
        let id = Entries::id_of(query.namespace, &query.text);
        let answer = written(&query.text, kept).unwrap_or_default();
        let owner = &kept.head.owner;
        let entry = Entry {
            id,
            namespace: query.namespace.to_hex(),
            space: space.to_owned(),
            caller: owner.caller.clone(),
            route: owner.route.clone(),
            vector: vector.clone(),
            answer,
        };
        Self { entry, ttl: kept.head.ttl }
    }
}

/// An answer with the words it was given to.
fn written(text: &str, kept: &Kept) -> Option<Vec<u8>> {
    let mut bytes = format!("{}\n{text}", text.len()).into_bytes();
    bytes.extend_from_slice(&kept.to_bytes()?);
    Some(bytes)
}

/// What [`written`] wrote.
fn read(bytes: &[u8]) -> Option<(String, Kept)> {
    let (length, rest) = bytes.split_at_checked(memchr::memchr(b'\n', bytes)?)?;
    let length: usize = std::str::from_utf8(length).ok()?.parse().ok()?;
    let (text, kept) = rest.get(1..)?.split_at_checked(length)?;
    let kept = Kept::from_bytes(&bytes::Bytes::copy_from_slice(kept))?;
    Some((std::str::from_utf8(text).ok()?.to_owned(), kept))
}

// === impl Errands ===

impl Default for Errands {
    fn default() -> Self {
        let (puts, to_do) = mpsc::channel(MOST_PUTS);
        Self {
            puts,
            to_do: Mutex::new(Some(to_do)),
            purges: Mutex::default(),
            is_due: Notify::new(),
        }
    }
}

impl Errands {
    /// Has an entry written; `false` where there are too many.
    pub(super) fn put(&self, put: Put) -> bool {
        self.puts.try_send(put).is_ok()
    }

    /// Has rows removed, however long it takes.
    pub(super) fn purge(&self, purge: Purge, at_ms: u64) {
        // The store's numbers have 63 bits.
        let id = (rand::random::<u64>() >> 1).cast_signed();
        self.purges.lock().push(Forget { id, purge, at_ms, is_written: false });
        self.is_due.notify_one();
    }
}

// === impl Meanings ===

impl Meanings {
    /// Reads, writes and forgets in the store, for ever. Only the first call does anything.
    pub async fn upkeep(self, store: Store) {
        let Some(mut puts) = self.core.errands.to_do.lock().take() else { return };
        let (rows, calibrations) = (Rows::new(store.clone()), Calibrations::new(store));
        let mut read = Read::default();
        let mut ticks = tokio::time::interval(EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let (mut swept, mut is_well) = (Instant::now(), true);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = self.core.errands.is_due.notified() => {}
                put = puts.recv() => match put {
                    Some(put) => {
                        self.core.put(&rows, put).await;
                        continue;
                    }
                    None => return,
                },
            }
            let done = self.core.turn(&rows, &calibrations, &mut read, &mut puts).await;
            match &done {
                Err(error) if is_well => {
                    tracing::warn!("answers found by meaning stay in this process: {error}");
                }
                Ok(()) if !is_well => tracing::info!("answers found by meaning are shared again"),
                Ok(()) | Err(_) => {}
            }
            is_well = done.is_ok();
            if swept.elapsed() >= SWEEP_EVERY {
                swept = Instant::now();
                self.core.sweep(&rows, &calibrations).await;
            }
        }
    }
}

// === impl Core ===

impl Core {
    async fn put(&self, rows: &Rows, put: Put) {
        let counter = match rows.put(&put.entry, put.ttl).await {
            Ok(()) => &self.written.written,
            Err(_) => &self.written.failed,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Everything that is due, in an order in which nothing that was purged comes back.
    async fn turn(
        &self,
        rows: &Rows,
        calibrations: &Calibrations,
        read: &mut Read,
        puts: &mut mpsc::Receiver<Put>,
    ) -> Result<(), StoreError> {
        // What was kept before a purge must be there before it. So purges that come from here on
        // have to wait for the next turn.
        self.note_purges(&calibrations.purges, read).await?;
        let purges = self.errands.purges.lock().clone();
        let purges: Vec<_> = purges.into_iter().take_while(|purge| purge.is_written).collect();
        for _ in 0..MOST_PUTS {
            let Ok(put) = puts.try_recv() else { break };
            self.put(rows, put).await;
        }
        self.carry_out(&purges, rows).await?;
        for purge in &purges {
            calibrations.purges.done(purge).await?;
        }
        let embedders = self.embedders.get();
        if embedders.is_some_and(std::collections::BTreeMap::is_empty) {
            return Ok(());
        }
        self.hear_of_entries(rows, read).await?;
        self.write_lessons(calibrations).await?;
        let (stored, latest) = calibrations.changed_since(read.lessons).await?;
        let mut lessons = self.lessons.lock();
        for stored in stored {
            lessons.on_stored(&stored.domain, stored.calibration, stored.version);
        }
        read.lessons = latest;
        Ok(())
    }

    /// Writes purges down before anything else, and hears of those that others have left behind.
    async fn note_purges(&self, store: &Purges, read: &mut Read) -> Result<(), StoreError> {
        if !read.knows_purges {
            let left = store.all().await?;
            self.errands.purges.lock().splice(..0, left);
            read.knows_purges = true;
        }
        let unwritten = self.errands.purges.lock().clone();
        for purge in unwritten.iter().filter(|purge| !purge.is_written) {
            store.write(purge).await?;
            let mut purges = self.errands.purges.lock();
            let written = purges.iter_mut().find(|other| other.id == purge.id);
            written.into_iter().for_each(|purge| purge.is_written = true);
        }
        Ok(())
    }

    /// Removes the rows that purges are about, also those that no process holds.
    async fn carry_out(&self, purges: &[Forget], rows: &Rows) -> Result<(), StoreError> {
        if purges.is_empty() {
            return Ok(());
        }
        let mut cursor = Cursor::default();
        loop {
            let (changes, next) = rows.changes(cursor, PAGE).await?;
            if next == cursor {
                break;
            }
            cursor = next;
            let kept = changes.iter().filter_map(|change| match change {
                Change::Kept(entry, _) => Some(entry),
                Change::Removed(_) => None,
            });
            let ids: Vec<_> =
                kept.filter(|entry| self.is_purged(purges, entry)).map(|entry| entry.id).collect();
            rows.remove(&ids).await?;
        }
        self.errands.purges.lock().drain(..purges.len());
        Ok(())
    }

    /// Whether one of these purges is about a row.
    fn is_purged(&self, purges: &[Forget], entry: &Entry) -> bool {
        // What cannot be read may be about anything.
        let Some((_, Kept { head, .. })) = read(&entry.answer) else { return true };
        let mut later = purges.iter().filter(|purge| head.made_at_ms <= purge.at_ms + SKEW_MS);
        // Memory was purged at once: what is there was kept after it.
        later.any(|purge| purge.purge.is_about(&head.owner))
            && !self.entries.read().has(entry.id, head.made_at_ms)
    }

    /// Takes over what others have written since, and forgets what they have removed.
    async fn hear_of_entries(&self, rows: &Rows, read: &mut Read) -> Result<(), StoreError> {
        let mut at = match read.moved_at {
            // Nothing that began before it can still come to light.
            Some(moved_at) if moved_at.elapsed() > SEEN_AFTER => read.entries,
            Some(_) | None => read.entries.rewound(),
        };
        loop {
            let (changes, next) = rows.changes(at, PAGE).await?;
            if next == at {
                break;
            }
            at = next;
            let changes = changes.into_iter().filter_map(News::of).collect::<Vec<_>>();
            let outdated = self.take_over(changes);
            for id in outdated {
                rows.remove(&[id]).await?;
            }
        }
        // Where rows have expired meanwhile it ends before.
        if at > read.entries {
            (read.entries, read.moved_at) = (at, Some(Instant::now()));
        }
        Ok(())
    }

    /// Keeps what other processes have made, or this one before it was started again. What was
    /// purged stays out: it was written after the purge had gone through the rows.
    fn take_over(&self, news: Vec<News>) -> Vec<EntryId> {
        let mut outdated = Vec::new();
        let mut entries = self.entries.write();
        for news in news {
            match news {
                News::Removed(id) => _ = entries.remove(id),
                News::Kept { id, kept, .. } if entries.has(id, kept.head.made_at_ms) => {}
                News::Kept { id, kept, .. } if self.cache.is_outdated(&kept.head) => {
                    entries.remove(id);
                    outdated.push(id);
                }
                News::Kept { query, vector, kept, fresh_until, .. } => {
                    entries.put(*query, &vector, (*kept, fresh_until));
                }
            }
        }
        outdated
    }

    async fn write_lessons(&self, calibrations: &Calibrations) -> Result<(), StoreError> {
        // Of nodes that write at once one is first; the others take over what it wrote and try
        // again.
        for _ in 0..MOST_TRIES {
            let unstored = self.lessons.lock().unstored();
            if unstored.is_empty() {
                break;
            }
            self.write_once(calibrations, unstored).await?;
        }
        Ok(())
    }

    async fn write_once(
        &self,
        calibrations: &Calibrations,
        unstored: Vec<Unstored>,
    ) -> Result<(), StoreError> {
        for lesson in unstored {
            let (domain, version) = (Arc::clone(&lesson.domain), lesson.version);
            if calibrations.replace(&domain, &lesson.calibration, version).await? {
                self.lessons.lock().on_written(lesson);
                continue;
            }
            let found = match calibrations.find(&domain).await? {
                Found::Calibration(calibration, version) => Some((*calibration, version)),
                Found::Nothing => None,
                // Labels wait, and those of a newer version stay.
                Found::Unreadable => continue,
            };
            self.lessons.lock().on_conflict(&domain, found);
        }
        Ok(())
    }

    /// Takes out what is past its time.
    async fn sweep(&self, rows: &Rows, calibrations: &Calibrations) {
        let now = Instant::now();
        {
            let mut entries = self.entries.write();
            let ids = entries.ids_of(|_, fresh_until| fresh_until <= now);
            for id in ids {
                entries.remove(id);
            }
        }
        let swept = async {
            rows.sweep().await?;
            calibrations.sweep().await
        };
        if let Err(error) = swept.await {
            tracing::debug!("what has expired stays in the store for now: {error}");
        }
    }
}

// === impl News ===

impl News {
    /// Reads what has changed; `None` where it cannot be read, or is not where it belongs.
    fn of(change: Change) -> Option<Self> {
        let (entry, left) = match change {
            Change::Removed(id) => return Some(Self::Removed(id)),
            Change::Kept(entry, left) => (*entry, left),
        };
        let Entry { id, vector, answer, .. } = entry;
        let namespace = Key::from_hex(&entry.namespace)?;
        let (text, kept) = read(&answer)?;
        if Entries::id_of(namespace, &text) != id {
            return None;
        }
        let traits = Traits::of(&text);
        let query = Box::new(Query { namespace, text: text.into(), traits });
        let kept = Box::new(kept);
        Some(Self::Kept { id, query, vector, kept, fresh_until: Instant::now() + left })
    }
}

#[cfg(test)]
mod tests;
