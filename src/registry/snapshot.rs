//! The last good state of the registry, on disk: what a gateway serves with that starts while its
//! store is away.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::row::{LabelRow, VersionRow};
use crate::store::replace_file;

/// What is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Saved {
    pub(super) format: u32,
    /// Which store it is of. Another one's prompts are not ours.
    pub(super) store: String,
    /// When the store was read, in milliseconds since 1970.
    pub(super) read_at_ms: u64,
    pub(super) versions: Vec<VersionRow>,
    pub(super) labels: Vec<LabelRow>,
}

/// Where it is kept.
#[derive(Debug, Clone)]
pub(super) struct SnapshotFile {
    path: PathBuf,
}

/// What this version writes. It reads no other.
pub(super) const FORMAT: u32 = 1;

// === impl SnapshotFile ===

impl SnapshotFile {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Takes the place of what was there.
    pub(super) fn write(&self, saved: &Saved) -> io::Result<()> {
        replace_file(&self.path, &serde_json::to_vec(saved)?)
    }

    /// What was kept of this store; `None` where nothing was.
    pub(super) fn read(&self, store: &str) -> io::Result<Option<Saved>> {
        let bytes = match fs::read(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            read => read?,
        };
        let saved: Saved = serde_json::from_slice(&bytes)?;
        if saved.format != FORMAT {
            let format = format!("its format is {}, not {FORMAT}", saved.format);
            return Err(io::Error::new(io::ErrorKind::InvalidData, format));
        }
        Ok(Some(saved).filter(|saved| saved.store == store))
    }
}
