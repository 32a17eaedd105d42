//! Logs that one node writes and others follow: how a stream that is answered here is read there.
//!
//! A log is a numbered list of entries, written by one writer from 0 on without gaps. Appending the
//! same number again changes nothing, so a writer whose answer was lost appends again. Nothing is
//! cut off at the front: a log that is full takes no more, and one that is forgotten (or that the
//! server lost) cannot be gone on with. Whoever follows reads from the beginning, or from where it
//! was. A log is forgotten [`KEPT_FOR`] after its last entry.
//!
//! Followers that have read all there is wait on a connection of their own, because waiting holds
//! one up; so many at most as [`MAX_WAITING`], and more look again every [`LOOK_EVERY`].

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use redis::Cmd;
use redis::aio::MultiplexedConnection;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::Unreachable;
use super::link::{Dial, Driver, Link, Script};
use crate::clock::Instant;

/// How long a log is kept after its last entry.
pub const KEPT_FOR: Duration = Duration::from_secs(600);
/// The most bytes that a log holds.
pub const MAX_LOG_BYTES: usize = 16 << 20;
/// The most bytes of all logs of a node that is alone.
const MAX_LOCAL_BYTES: usize = 64 << 20;
/// Entries that one read returns at most.
const BATCH: usize = 64;
/// How long an append or a read of what is there may take.
const WITHIN: Duration = Duration::from_secs(1);
/// Followers of a node that wait on connections of their own.
const MAX_WAITING: usize = 64;
/// How often the others look.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Logs that nodes share. Clones share.
#[derive(Clone)]
pub struct Relay {
    logs: Logs,
}

/// What became of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Appended {
    /// It is in the log now.
    Added,
    /// It was there before.
    Known,
    /// Entries before it are missing: the log was forgotten, and cannot be gone on with.
    Gone,
    /// The log is full, and stays as it is.
    Full,
}

/// Reads a log from a place on.
pub struct Follower {
    logs: Logs,
    id: String,
    next: u64,
    waiting: Option<Waiting>,
}

/// Why a log cannot be followed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FollowError {
    /// The server is away. Reading again later goes on at the same place.
    #[error(transparent)]
    Unreachable(#[from] Unreachable),
    /// The log was begun again under the same name.
    #[error("the log is not the one that was read before")]
    Replaced,
}

#[derive(Clone)]
enum Logs {
    Local(Arc<Local>),
    Shared(Arc<Shared>),
}

pub(super) struct Shared {
    pub(super) link: Arc<Link>,
    pub(super) dial: Arc<Dial>,
    pub(super) namespace: String,
    append: Script,
    waiting: Arc<Semaphore>,
}

/// The logs of a node that is alone.
#[derive(Default)]
struct Local {
    logs: Mutex<HashMap<String, LocalLog>>,
}

struct LocalLog {
    entries: Vec<Bytes>,
    bytes: usize,
    forgotten_at: Instant,
    grown: Arc<Notify>,
}

/// A connection that waits for a log to grow.
struct Waiting {
    connection: MultiplexedConnection,
    driver: Driver,
    _permit: OwnedSemaphorePermit,
}

/// An entry as the server tells it: its id, and names and values in turn.
type Told = (String, Vec<Vec<u8>>);

// === impl Relay ===

impl Relay {
    pub(super) fn alone() -> Self {
        Self { logs: Logs::Local(Arc::default()) }
    }

    pub(super) fn shared(link: Arc<Link>, dial: Arc<Dial>, namespace: String) -> Self {
        let append = Script::new(include_str!("append.lua"));
        let waiting = Arc::new(Semaphore::new(MAX_WAITING));
        let shared = Shared { link, dial, namespace, append, waiting };
        Self { logs: Logs::Shared(Arc::new(shared)) }
    }

    /// Appends an entry, `seq` counted from 0. Entries of a kilobyte and more cost the least; a
    /// writer of small ones puts several into one.
    ///
    /// # Errors
    ///
    /// [`Unreachable`] where the server did not answer in time. The entry may be there or not;
    /// appending it again is right.
    ///
    /// # Cancel safety
    ///
    /// When the future is dropped the entry may be there or not.
    pub async fn append(&self, id: &str, seq: u64, bytes: Bytes) -> Result<Appended, Unreachable> {
        match &self.logs {
            Logs::Local(local) => Ok(local.append(id, seq, bytes)),
            Logs::Shared(shared) => shared.append(id, seq, &bytes).await,
        }
    }

    /// Follows a log, which need not be there yet, from entry `from` on.
    pub fn follow(&self, id: &str, from: u64) -> Follower {
        let (logs, id) = (self.logs.clone(), id.to_owned());
        Follower { logs, id, next: from, waiting: None }
    }
}

// === impl Follower ===

impl Follower {
    /// The number of the entry that is read next.
    pub fn next_seq(&self) -> u64 {
        self.next
    }

    /// The entries that follow, at least one; none where none came within `wait`.
    ///
    /// # Errors
    ///
    /// [`FollowError`]
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when the future is dropped.
    pub async fn read(&mut self, wait: Duration) -> Result<Vec<Bytes>, FollowError> {
        let entries = match self.logs.clone() {
            Logs::Local(local) => local.read(&self.id, self.next, wait).await,
            Logs::Shared(shared) => self.read_shared(&shared, wait).await?,
        };
        self.next += entries.len() as u64;
        Ok(entries)
    }

    async fn read_shared(
        &mut self,
        shared: &Arc<Shared>,
        wait: Duration,
    ) -> Result<Vec<Bytes>, FollowError> {
        let until = Instant::now() + wait;
        if self.waiting.is_none() {
            loop {
                let entries = shared.read(&self.id, self.next).await?;
                if !entries.is_empty() || Instant::now() >= until {
                    return Ok(entries);
                }
                self.waiting = shared.start_waiting().await;
                if self.waiting.is_some() {
                    break;
                }
                let pause = LOOK_EVERY.min(until.saturating_duration_since(Instant::now()));
                tokio::time::sleep(pause).await;
            }
        }
        let Some(mut waiting) = self.waiting.take() else { return Ok(Vec::new()) };
        let left = until.saturating_duration_since(Instant::now());
        let entries = waiting.read(&shared.key(&self.id), self.next, left).await?;
        // Dropped on the way here, or after an error, the connection is not used again.
        self.waiting = Some(waiting);
        Ok(entries)
    }
}

impl std::fmt::Debug for Follower {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (id, next) = (&self.id, &self.next);
        f.debug_struct("Follower").field("id", id).field("next", next).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Relay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Relay").finish_non_exhaustive()
    }
}

// === impl Shared ===

impl Shared {
    fn key(&self, id: &str) -> String {
        format!("{{{}}}:relay:{id}", self.namespace)
    }

    async fn append(&self, id: &str, seq: u64, bytes: &[u8]) -> Result<Appended, Unreachable> {
        let mut call = redis::cmd("EVALSHA");
        call.arg(&self.append.hash).arg(1).arg(self.key(id));
        call.arg(seq).arg(bytes).arg(KEPT_FOR.as_millis() as u64).arg(MAX_LOG_BYTES);
        let outcome: i64 = self.link.run_script(&self.append, &call, WITHIN).await?;
        match outcome {
            1 => Ok(Appended::Added),
            0 => Ok(Appended::Known),
            -1 => Ok(Appended::Gone),
            -2 => Ok(Appended::Full),
            other => Err(Unreachable::Refused(format!("append answered {other}"))),
        }
    }

    /// What is there from entry `next` on.
    async fn read(&self, id: &str, next: u64) -> Result<Vec<Bytes>, FollowError> {
        let mut range = redis::cmd("XRANGE");
        range.arg(self.key(id)).arg(format!("{}-0", next + 1)).arg("+").arg("COUNT").arg(BATCH);
        let told: Vec<Told> = self.link.call(&range, WITHIN).await?;
        entries(told, next)
    }

    /// A connection to wait on; none where there are too many or the server is away.
    async fn start_waiting(&self) -> Option<Waiting> {
        let permit = Arc::clone(&self.waiting).try_acquire_owned().ok()?;
        let (connection, driver) = self.dial.connect(None).await.ok()?;
        Some(Waiting { connection, driver, _permit: permit })
    }
}

// === impl Waiting ===

impl Waiting {
    async fn read(
        &mut self,
        key: &str,
        next: u64,
        wait: Duration,
    ) -> Result<Vec<Bytes>, FollowError> {
        // The server takes 0 for ever.
        let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).max(1);
        let mut read = Cmd::new();
        read.arg("XREAD").arg("COUNT").arg(BATCH).arg("BLOCK").arg(wait_ms);
        read.arg("STREAMS").arg(key).arg(format!("{next}-0"));
        let answer = read.query_async::<Option<HashMap<String, Vec<Told>>>>(&mut self.connection);
        let answer = tokio::select! {
            answer = timeout(wait + WITHIN, answer) => answer,
            () = &mut self.driver => return Err(Unreachable::NotConnected.into()),
        };
        match answer {
            Ok(Ok(streams)) => {
                let told = streams.into_iter().flat_map(HashMap::into_values).flatten().collect();
                entries(told, next)
            }
            Ok(Err(error)) => Err(Unreachable::Refused(error.to_string()).into()),
            Err(_elapsed) => Err(Unreachable::TimedOut(wait + WITHIN).into()),
        }
    }
}

/// The bytes of entries, which must be those from `next` on.
fn entries(told: Vec<Told>, next: u64) -> Result<Vec<Bytes>, FollowError> {
    let mut entries = Vec::with_capacity(told.len());
    for ((id, mut fields), seq) in told.into_iter().zip(next..) {
        let is_next = id.split_once('-').is_some_and(|(id, _)| id.parse() == Ok(seq + 1));
        match fields.pop() {
            Some(bytes) if is_next => entries.push(Bytes::from(bytes)),
            Some(_) | None => return Err(FollowError::Replaced),
        }
    }
    Ok(entries)
}

// === impl Local ===

impl Local {
    fn append(&self, id: &str, seq: u64, bytes: Bytes) -> Appended {
        let now = Instant::now();
        let mut logs = self.logs.lock();
        logs.retain(|_, log| log.forgotten_at > now);
        let total: usize = logs.values().map(|log| log.bytes).sum();
        let log = logs.entry(id.to_owned()).or_insert_with(|| LocalLog::new(now));
        let next = log.entries.len() as u64;
        if seq != next {
            return if seq < next { Appended::Known } else { Appended::Gone };
        }
        let is_full = log.bytes + bytes.len() > MAX_LOG_BYTES;
        if is_full || total + bytes.len() > MAX_LOCAL_BYTES {
            return Appended::Full;
        }
        log.bytes += bytes.len();
        log.entries.push(bytes);
        log.forgotten_at = now + KEPT_FOR;
        log.grown.notify_waiters();
        Appended::Added
    }

    async fn read(&self, id: &str, next: u64, wait: Duration) -> Vec<Bytes> {
        let until = Instant::now() + wait;
        loop {
            let grown = {
                let mut logs = self.logs.lock();
                let now = Instant::now();
                let log = logs.entry(id.to_owned()).or_insert_with(|| LocalLog::new(now));
                let from = usize::try_from(next).unwrap_or(usize::MAX);
                let entries = log.entries.get(from..).unwrap_or_default();
                if !entries.is_empty() {
                    return entries.iter().take(BATCH).cloned().collect();
                }
                Arc::clone(&log.grown).notified_owned()
            };
            if tokio::time::timeout_at(until, grown).await.is_err() {
                return Vec::new();
            }
        }
    }
}

// === impl LocalLog ===

impl LocalLog {
    fn new(now: Instant) -> Self {
        let forgotten_at = now + KEPT_FOR;
        Self { entries: Vec::new(), bytes: 0, forgotten_at, grown: Arc::default() }
    }
}
