//! The last good state of all callers, on disk: what a gateway serves with that starts while its
//! store is away.
//!
//! The file holds hashes and no keys. It is replaced as a whole, so that a crash leaves the old one or
//! the new one, and only its owner may read it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{KeyHash, StoredKey, StoredTeam};
use crate::store::replace_file;

/// What is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Saved {
    format: u32,
    /// Which store it is of. Another one's callers are not ours.
    pub(super) store: String,
    /// When the store was read, in milliseconds since 1970.
    pub(super) read_at_ms: u64,
    pub(super) admin: Option<KeyHash>,
    pub(super) keys: Vec<StoredKey>,
    pub(super) teams: Vec<StoredTeam>,
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
    pub(super) fn new(
        store: String,
        read_at_ms: u64,
        admin: Option<KeyHash>,
        (keys, teams): (Vec<StoredKey>, Vec<StoredTeam>),
    ) -> Self {
        Self { format: FORMAT, store, read_at_ms, admin, keys, teams }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_is_read_by_its_own_store_and_version_alone() {
        let folder = tempfile::tempdir().unwrap();
        let file = SnapshotFile::new(folder.path().join("a/b.snapshot"));
        assert_eq!(file.read("sqlite:x").unwrap(), None);
        let hash = KeyHash::of("tg-x");
        let saved = Saved::new("sqlite:x".to_owned(), 7, Some(hash), Default::default());
        file.write(&saved).unwrap();
        file.write(&saved).unwrap();
        assert_eq!(file.read("sqlite:x").unwrap(), Some(saved.clone()));
        assert_eq!(file.read("sqlite:y").unwrap(), None);
        assert_eq!(fs::read_dir(folder.path().join("a")).unwrap().count(), 1);

        file.write(&Saved { format: 2, ..saved }).unwrap();
        assert!(file.read("sqlite:x").unwrap_err().to_string().contains("format is 2"));
        for damaged in ["", "{", r#"{"format":1,"store":"sqlite:x","admin":"zz"}"#] {
            fs::write(file.path(), damaged).unwrap();
            assert!(file.read("sqlite:x").is_err(), "{damaged:?}");
        }
    }
}
