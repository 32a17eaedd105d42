//! A folder that is gone when it is no longer needed.

use std::path::{Path, PathBuf};

use rand::RngExt;

use super::RehearsalError;

/// A folder of its own among the system's temporary files.
#[derive(Debug)]
pub(super) struct Scratch(PathBuf);

// === impl Scratch ===

impl Scratch {
    pub(super) fn new() -> Result<Self, RehearsalError> {
        let name = format!("tidegate-rehearsal-{:016x}", rand::rng().random::<u64>());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).map_err(|source| {
            let operation = "make a temporary folder";
            RehearsalError::Io { operation, source }
        })?;
        Ok(Self(path))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed is left to the system's own sweeping.
        _ = std::fs::remove_dir_all(&self.0);
    }
}
