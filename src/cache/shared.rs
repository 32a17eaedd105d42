//! Kept answers that nodes share, in Redis.
//!
//! It is the second level: asked where this process has nothing, written to behind requests, and
//! never needed. A server that is away or slow costs a request [`FETCH_WITHIN`] once and then
//! nothing, because the connection is given up. What is found there is kept here, too.
//!
//! Purges are told to all nodes and written to a list, which every node reads when it connects;
//! until it has, it takes nothing from there. Answers that were purged are taken away one after the
//! other; they are not given meanwhile, because who reads one compares it with the purges.
//!
//! Values are not compressed: they are a few kilobytes, and a data thread's time is dearer than the
//! server's memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};

use super::purge::{MOST_PURGES, PurgeRecord};
use super::{Kept, Key, Purge};
use crate::cluster::{Cluster, Fact, Heard, Shelf};

/// The level that nodes share.
#[derive(Debug)]
pub(super) struct Shared {
    cluster: Cluster,
    shelf: Shelf,
    /// Bounded; full means drop and count. Purges have [`ROOM_FOR_PURGES`] of their own.
    errands: mpsc::Sender<Errand>,
    to_do: Mutex<Option<mpsc::Receiver<Errand>>>,
    is_open: AtomicBool,
    waiting_bytes: AtomicUsize,
    /// Whether all purges are known that others have made.
    knows_purges: AtomicBool,
    counts: Counts,
}

/// What is done behind requests.
#[derive(Debug)]
pub(super) enum Errand {
    /// Keep this, for so long.
    Put(Key, Bytes, Duration),
    /// Forget what is under this key.
    Forget(Key),
    /// Tell of a purge, and take away what it is about.
    Purge(PurgeRecord),
}

/// What was found.
#[derive(Debug)]
pub(super) enum Fetched {
    /// An answer. It may be past its time.
    Found(Box<Kept>),
    /// None.
    Absent,
    /// Nobody knows: the server did not answer, or what others purged is not known.
    Failed,
    /// Something that cannot be read.
    Unreadable,
}

#[derive(Debug, Default)]
struct Counts {
    written: AtomicU64,
    dropped: AtomicU64,
    failed: AtomicU64,
}

/// How long a request waits for the server.
const FETCH_WITHIN: Duration = Duration::from_millis(30);
/// How long what nobody waits for may take.
const ASIDE_WITHIN: Duration = Duration::from_millis(500);
/// How soon a question is asked again that was not answered.
const AGAIN_AFTER: Duration = Duration::from_millis(500);
/// Answers that wait to be written, and their bytes.
const MOST_WAITING: usize = 1_024;
const MOST_WAITING_BYTES: usize = 16_000_000;
/// Purges that may wait besides.
const ROOM_FOR_PURGES: usize = 256;
/// How long purges are remembered: longer than any answer is kept.
const PURGES_FOR: Duration = Duration::from_secs(61 * 24 * 3_600);
/// Keys of answers begin so.
const ANSWERS: &str = "answer:";
/// The list of purges.
const PURGES: &str = "purges";

// === impl Shared ===

impl Shared {
    /// The level of this cluster; none where the node is alone.
    pub(super) fn of(cluster: &Cluster) -> Option<Self> {
        let shelf = cluster.shelf()?;
        let (errands, to_do) = mpsc::channel(MOST_WAITING + ROOM_FOR_PURGES);
        Some(Self {
            cluster: cluster.clone(),
            shelf,
            errands,
            to_do: Mutex::new(Some(to_do)),
            is_open: AtomicBool::new(false),
            waiting_bytes: AtomicUsize::new(0),
            knows_purges: AtomicBool::new(false),
            counts: Counts::default(),
        })
    }

    /// Has the connection made that this needs: not where no route keeps anything.
    pub(super) fn open(&self) {
        if !self.is_open.swap(true, Ordering::Relaxed) {
            self.shelf.open();
        }
    }

    /// What is kept under a key.
    pub(super) async fn fetch(&self, key: &Key) -> Fetched {
        self.open();
        if !self.knows_purges.load(Ordering::Acquire) {
            return Fetched::Failed;
        }
        match self.shelf.get(&name(key), FETCH_WITHIN).await {
            Err(_) => Fetched::Failed,
            Ok(None) => Fetched::Absent,
            Ok(Some(bytes)) => match Kept::from_bytes(&bytes) {
                Some(kept) => Fetched::Found(Box::new(kept)),
                None => {
                    self.forget(*key);
                    Fetched::Unreadable
                }
            },
        }
    }

    /// Has an answer kept, soon.
    pub(super) fn put(&self, key: Key, kept: &Kept) {
        let Some(bytes) = kept.to_bytes() else { return };
        let length = bytes.len();
        let waiting = self.waiting_bytes.fetch_add(length, Ordering::Relaxed);
        let for_ = kept.head.ttl + kept.head.stale_for;
        let is_full = waiting + length > MOST_WAITING_BYTES
            || self.errands.capacity() <= ROOM_FOR_PURGES
            || self.errands.try_send(Errand::Put(key, bytes, for_)).is_err();
        if is_full {
            self.waiting_bytes.fetch_sub(length, Ordering::Relaxed);
            self.counts.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Has what is under a key forgotten, soon; where there is no room for that, whoever finds it
    /// next says so again.
    pub(super) fn forget(&self, key: Key) {
        if self.errands.capacity() > ROOM_FOR_PURGES {
            let _ = self.errands.try_send(Errand::Forget(key));
        }
    }

    /// Tells all nodes of a purge.
    pub(super) fn tell(&self, record: PurgeRecord) {
        self.open();
        if self.errands.try_send(Errand::Purge(record)).is_err() {
            tracing::error!("a purge of the cache could not be told to other nodes: too many wait");
        }
    }

    /// What became of what was to be written: written, dropped because too much waited, failed.
    pub(super) fn writes(&self) -> [(&'static str, u64); 3] {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let Counts { written, dropped, failed } = &self.counts;
        [("written", of(written)), ("dropped", of(dropped)), ("failed", of(failed))]
    }

    /// Does what waits to be done, for ever. `heard` takes the purges of other nodes.
    pub(super) async fn run(self: Arc<Self>, heard: impl Fn(Vec<PurgeRecord>)) {
        let Some(mut to_do) = self.to_do.lock().take() else { return };
        let mut facts = self.cluster.facts();
        let mut state = self.shelf.state();
        loop {
            let knows = self.knows_purges.load(Ordering::Acquire);
            tokio::select! {
                fact = facts.next() => match fact {
                    Some(Heard::Fact(Fact::CachePurged { purge })) => {
                        heard(serde_json::from_str(&purge).into_iter().collect());
                    }
                    Some(Heard::Missed) => self.knows_purges.store(false, Ordering::Release),
                    Some(Heard::Fact(_)) => {}
                    None => return,
                },
                errand = to_do.recv() => match errand {
                    Some(errand) => self.carry_out(errand).await,
                    None => return,
                },
                () = connected(&mut state), if !knows => {}
            }
            let is_connected = *state.borrow();
            if is_connected && !self.knows_purges.load(Ordering::Acquire) {
                self.catch_up(&heard).await;
            }
        }
    }

    /// Reads what others have purged.
    async fn catch_up(&self, heard: &impl Fn(Vec<PurgeRecord>)) {
        let Ok(lines) = self.shelf.lines(PURGES, ASIDE_WITHIN).await else {
            return tokio::time::sleep(AGAIN_AFTER).await;
        };
        // A line of a newer version may be about anything.
        let unreadable = |_| PurgeRecord { id: 0, at_ms: u64::MAX / 2, purge: Purge::default() };
        let records =
            lines.iter().map(|line| serde_json::from_str(line).unwrap_or_else(unreadable));
        heard(records.collect());
        self.knows_purges.store(true, Ordering::Release);
    }

    async fn carry_out(&self, errand: Errand) {
        match errand {
            Errand::Put(key, bytes, for_) => {
                let put = self.shelf.put(&name(&key), &bytes, for_, ASIDE_WITHIN).await;
                self.waiting_bytes.fetch_sub(bytes.len(), Ordering::Relaxed);
                let count = if put.is_ok() { &self.counts.written } else { &self.counts.failed };
                count.fetch_add(1, Ordering::Relaxed);
            }
            Errand::Forget(key) => {
                let _ = self.shelf.remove(&[name(&key)], ASIDE_WITHIN).await;
            }
            Errand::Purge(record) => self.purge(&record).await,
        }
    }

    /// Tells of a purge until the list has it, and then takes away what it is about.
    async fn purge(&self, record: &PurgeRecord) {
        let Ok(line) = serde_json::to_string(record) else { return };
        let kept_for = (MOST_PURGES, PURGES_FOR);
        while self.shelf.add_line(PURGES, &line, kept_for, ASIDE_WITHIN).await.is_err() {
            tokio::time::sleep(AGAIN_AFTER).await;
        }
        self.cluster.publish(Fact::CachePurged { purge: line });
        if let Err(error) = self.sweep(&record.purge).await {
            tracing::warn!(
                "purged answers stay in Redis, unused, until their time is over: {error}"
            );
        }
    }

    async fn sweep(&self, purge: &Purge) -> Result<(), crate::cluster::Unreachable> {
        let mut cursor = 0;
        loop {
            let (next, found) = self.shelf.some(ANSWERS, cursor, ASIDE_WITHIN).await?;
            let is_meant = |value: &Bytes| {
                Kept::from_bytes(value).is_none_or(|kept| purge.is_about(&kept.head.owner))
            };
            let meant: Vec<_> = found
                .into_iter()
                .filter(|(_, value)| is_meant(value))
                .map(|(key, _)| key)
                .collect();
            self.shelf.remove(&meant, ASIDE_WITHIN).await?;
            if next == 0 {
                return Ok(());
            }
            cursor = next;
        }
    }
}

/// Waits for a connection. What the wait leaves behind must not be held while others wait.
async fn connected(state: &mut watch::Receiver<bool>) {
    let _ = state.wait_for(|connected| *connected).await;
}

fn name(key: &Key) -> String {
    format!("{ANSWERS}{}", key.to_hex())
}
