//! Kept answers in this process: moka, whose W-TinyLFU keeps what is asked for often and lets a
//! scan of keys that come once pass by.
//!
//! What an entry weighs is what it takes, in bytes. moka has a clock of its own, which tests cannot
//! set, so an entry carries the instant at which it ends and every reader looks at that; moka's own
//! expiry only gives the memory back.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use moka::Expiry;
use moka::sync::Cache;

use super::rendered::Written;
use super::{Kept, Key};
use crate::clock::Instant;

/// What it takes to find an entry: its place in the table and in the queues of the policy, two
/// shared counts, and what an allocator adds to each of them. Measured, see `benches/cache.rs`.
const ENTRY_BYTES: usize = 640;

/// The part of all bytes that the policy's tables take, one in so many: 4.4 MB of 64 were measured.
const POLICY_SHARE: u64 = 12;

/// The part of all bytes, one in so many, that answers take as they were written for callers.
const WRITTEN_SHARE: u64 = 8;

/// What moka tells the time by.
#[expect(clippy::disallowed_types, reason = "moka's trait has it; nothing here reads it")]
type MokaInstant = std::time::Instant;

/// Kept answers in this process.
pub(super) struct Memory {
    entries: Cache<Key, Arc<Held>>,
    /// What was written of them for callers.
    pub(super) written: Written,
}

/// An entry.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) kept: Kept,
    /// From when on it is past its time.
    pub(super) fresh_until: Instant,
    /// From when on it is not kept.
    pub(super) kept_until: Instant,
}

/// Gives the memory of what is past its time back.
struct Ends;

// === impl Memory ===

impl Memory {
    /// Room for so many bytes, the policy's own tables among them.
    pub(super) fn new(max_bytes: u64) -> Self {
        let written = max_bytes / WRITTEN_SHARE;
        let entries = Cache::builder()
            .max_capacity(max_bytes - max_bytes / POLICY_SHARE - written)
            .weigher(|_key, held: &Arc<Held>| held.weight())
            .expire_after(Ends)
            .build();
        Self { entries, written: Written::new(written) }
    }

    /// What is kept under a key, fresh or not.
    pub(super) fn get(&self, key: &Key, now: Instant) -> Option<Arc<Held>> {
        let held = self.entries.get(key)?;
        if held.kept_until <= now {
            self.entries.invalidate(key);
            return None;
        }
        Some(held)
    }

    /// Whether anything is kept under a key.
    pub(super) fn holds(&self, key: &Key) -> bool {
        self.entries.contains_key(key)
    }

    /// Keeps an answer. What is over the bytes that there is room for is gone when this returns.
    pub(super) fn put(&self, key: Key, held: Held) {
        self.entries.insert(key, Arc::new(held));
        // moka would put it off for a while, and have more than it may until then.
        self.entries.run_pending_tasks();
    }

    /// Forgets what is kept under a key.
    pub(super) fn remove(&self, key: &Key) {
        self.entries.invalidate(key);
    }

    /// Keys of entries of which this is so.
    pub(super) fn keys_of(&self, is_so: impl Fn(&Kept) -> bool) -> Vec<Key> {
        let fitting = self.entries.iter().filter(|(_, held)| is_so(&held.kept));
        fitting.map(|(key, _)| *key).collect()
    }

    /// Does what was put off.
    pub(super) fn settle(&self) {
        self.entries.run_pending_tasks();
    }

    /// How many entries there are, and how many bytes they take.
    pub(super) fn size(&self) -> (u64, u64) {
        (self.entries.entry_count(), self.entries.weighted_size() + self.written.bytes())
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (entries, bytes) = self.size();
        f.debug_struct("Memory").field("entries", &entries).field("bytes", &bytes).finish()
    }
}

// === impl Held ===

impl Held {
    /// Bytes that it takes. Allocators round sizes up, by an eighth at most.
    fn weight(&self) -> u32 {
        let bytes = self.kept.bytes();
        u32::try_from(bytes + bytes / 8 + ENTRY_BYTES).unwrap_or(u32::MAX)
    }
}

// === impl Ends ===

impl Expiry<Key, Arc<Held>> for Ends {
    fn expire_after_create(
        &self,
        _key: &Key,
        held: &Arc<Held>,
        _created_at: MokaInstant,
    ) -> Option<Duration> {
        Some(held.kept_until.saturating_duration_since(Instant::now()))
    }

    fn expire_after_update(
        &self,
        key: &Key,
        held: &Arc<Held>,
        updated_at: MokaInstant,
        _left: Option<Duration>,
    ) -> Option<Duration> {
        self.expire_after_create(key, held, updated_at)
    }
}
