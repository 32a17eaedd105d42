//! The registry of prompts: what files say, and what was pushed to a running gateway.
//!
//! Files seed it. A version that only files have is put into the store, so that every node has it;
//! one that the store has stays what the store says, and a file that says otherwise is a problem
//! that is told and changes nothing. Labels of files are where labels begin: one that the store
//! has, wins.
//!
//! Requests see one immutable table, [`Registry::prompts`]. It is made again, from versions that
//! stay compiled, when files are loaded again or the store has changed. A store that is away takes
//! nothing out of it: what was read last goes on, at a start what the snapshot on disk has kept,
//! and files in any case.
//!
//! Every row carries the revision that last changed it. Changes take the row of that count first
//! and hold it until they commit, so that revisions commit in their order and a reader who knows
//! all up to one asks for those above it.

use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapOption};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::clock::WallClock;
use crate::config::Snapshot;
use crate::prompt::{Deprecation, Prompt, Prompts, Version};
use crate::store::Store;
use crate::store::follow::Following;

mod error;
mod labels;
mod ledger;
mod records;
mod refresh;
mod rolled;
mod row;
mod seed;
mod table;
#[cfg(test)]
mod tests;

pub use error::RegistryError;
pub use labels::{LabelChange, Wish, move_label, move_labels};
pub use ledger::DeprecationChange;
pub use records::{LabelRecord, VersionRecord};
pub use refresh::{RegistryHealth, RegistrySource};
use table::Table;

/// Where a version came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// A file of some node.
    File,
    /// The admin API.
    Push,
}

/// All prompts. Clones are the same registry.
#[derive(Debug, Clone)]
pub struct Registry {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    store: Store,
    /// Whose `prompts` are what files say.
    snapshot: Arc<ArcSwap<Snapshot>>,
    /// What the store says; `None` until it, or the file that stands for it, has been read.
    table: ArcSwapOption<Table>,
    merged: ArcSwap<Merged>,
    /// One merging at a time, so that an older one never replaces a newer one.
    merging: Mutex<()>,
    following: Following,
    clock: Arc<dyn WallClock>,
}

/// What requests see, and of what it was made.
#[derive(Debug, Default)]
struct Merged {
    files: Arc<Prompts>,
    prompts: Arc<Prompts>,
    told: Told,
}

/// What operators are told of files that say something else than the store.
#[derive(Debug, Default, PartialEq, Eq)]
struct Told {
    /// What is wrong.
    conflicts: Vec<String>,
    /// What is as it should be, and may surprise.
    notes: Vec<String>,
}

/// A version as the store has it.
#[derive(Debug)]
struct StoredVersion {
    prompt: Arc<Prompt>,
    origin: Origin,
    deprecated: Option<Deprecation>,
    changed: i64,
    created_at_ms: u64,
    created_by: String,
}

/// More versions than a registry of this kind is good for.
const MAX_VERSIONS: usize = 10_000;

// === impl Registry ===

impl Registry {
    /// What files say, which is in `snapshot`, and `store`, of which nothing is read yet. `kept` is
    /// the file that keeps the last good state for a start without the store.
    pub fn new(
        store: Store,
        snapshot: Arc<ArcSwap<Snapshot>>,
        kept: Option<PathBuf>,
        clock: Arc<dyn WallClock>,
    ) -> Self {
        let registry = Self {
            shared: Arc::new(Shared {
                store,
                snapshot,
                table: ArcSwapOption::empty(),
                merged: ArcSwap::default(),
                merging: Mutex::default(),
                following: Following::new(kept),
                clock,
            }),
        };
        registry.merge();
        registry
    }

    /// All prompts as of now. A request that names one takes this once and keeps it.
    pub fn prompts(&self) -> Arc<Prompts> {
        let merged = self.shared.merged.load();
        if Arc::ptr_eq(&merged.files, &self.shared.snapshot.load().prompts) {
            return Arc::clone(&merged.prompts);
        }
        drop(merged);
        self.merge()
    }

    /// Waits until this node has changed something in the store, which other nodes do not know yet.
    /// For one listener.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost: a change that came first is seen by the next call.
    pub async fn changed_here(&self) {
        self.shared.following.changed_here().await;
    }

    /// Makes the table of requests from what files and the store say now.
    fn merge(&self) -> Arc<Prompts> {
        let _one = self.shared.merging.lock();
        let files = Arc::clone(&self.shared.snapshot.load().prompts);
        let table = self.shared.table.load_full();
        let (prompts, told) = match &table {
            Some(table) => table.merge(&files),
            None => (Arc::clone(&files), Told::default()),
        };
        let before = self.shared.merged.load();
        if told.conflicts != before.told.conflicts {
            for problem in &told.conflicts {
                tracing::error!(problem, "a file of a prompt does not hold");
            }
        }
        // Said with the files that say it, and not with every label that is moved.
        if !Arc::ptr_eq(&files, &before.files) {
            for note in &told.notes {
                tracing::info!("{note}");
            }
        }
        drop(before);
        let merged = Merged { files, prompts: Arc::clone(&prompts), told };
        self.shared.merged.store(Arc::new(merged));
        prompts
    }
}

// === impl Origin ===

impl Origin {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Push => "push",
        }
    }
}

/// `id@version`, as people write it.
fn named(id: &str, version: Version) -> String {
    format!("{id}@{version}")
}
