//! The last good state of all rollouts, on disk: what a gateway steers by that starts while its store
//! is away. Without it a candidate that serves 25 % would serve nothing, or one that was rolled back
//! come back where the configuration names it.
//!
//! It is replaced as a whole, so that a crash leaves the old one or the new one.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::record::Standing;

/// What is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Saved {
    format: u32,
    /// Which store it is of. Another one's rollouts are not ours.
    store: String,
    /// When the store was read, in milliseconds since 1970.
    pub(super) read_at_ms: u64,
    pub(super) standing: Vec<Standing>,
}

/// Where it is kept.
#[derive(Debug)]
pub(super) struct SnapshotFile {
    path: PathBuf,
}

/// What this version writes. It reads no other.
const FORMAT: u32 = 1;

// === impl Saved ===

impl Saved {
    pub(super) fn new(store: String, read_at_ms: u64, standing: Vec<Standing>) -> Self {
        Self { format: FORMAT, store, read_at_ms, standing }
    }
}

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
        if let Some(folder) = self.path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            fs::create_dir_all(folder)?;
        }
        let fresh = self.path.with_added_extension(format!("{}.new", std::process::id()));
        let mut file = fs::File::create(&fresh)?;
        file.write_all(&serde_json::to_vec(saved)?)?;
        file.sync_all()?;
        fs::rename(&fresh, &self.path)
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
