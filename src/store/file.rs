//! Files that keep the last good state of what a store says.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::follow::Snapshot;

/// Replaces a file as a whole, so that a crash leaves the old one or the new one. Only its owner
/// may read it.
///
/// # Errors
///
/// Where it cannot be written; the old one stays.
fn replace_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        fs::create_dir_all(folder)?;
    }
    let fresh = path.with_added_extension(format!("{}.new", std::process::id()));
    // One that a crash left may be readable by others.
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&fresh)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&fresh, path)
}

/// Makes a file that only its owner may read, where there is none. What SQLite puts beside a
/// database has the rights of the database. Where that fails, whoever opens the file next says why.
pub(super) fn create_private(path: &Path) {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let _made = options.open(path);
}

/// The last good state of something, on disk: what a gateway serves with that starts while its
/// store is away.
#[derive(Debug, Clone)]
pub(super) struct SnapshotFile {
    path: PathBuf,
}

/// What the file holds.
#[derive(Debug, Serialize, Deserialize)]
struct Saved<S, T> {
    format: u32,
    /// Which store it is of. What another one says is not ours.
    store: S,
    read_at_ms: u64,
    #[serde(flatten)]
    content: T,
}

/// What this version writes. It reads no other.
const FORMAT: u32 = 1;

// === impl SnapshotFile ===

impl SnapshotFile {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Takes the place of what was there.
    pub(super) fn write<T: Serialize>(&self, store: &str, kept: &Snapshot<T>) -> io::Result<()> {
        let Snapshot { read_at_ms, content } = kept;
        let saved = Saved { format: FORMAT, store, read_at_ms: *read_at_ms, content };
        replace_file(&self.path, &serde_json::to_vec(&saved)?)
    }

    /// What was kept of this store; `None` where nothing was.
    pub(super) fn read<T: DeserializeOwned>(&self, store: &str) -> io::Result<Option<Snapshot<T>>> {
        let bytes = match fs::read(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            read => read?,
        };
        let saved: Saved<String, T> = serde_json::from_slice(&bytes)?;
        if saved.format != FORMAT {
            let format = format!("its format is {}, not {FORMAT}", saved.format);
            return Err(io::Error::new(io::ErrorKind::InvalidData, format));
        }
        let Saved { read_at_ms, content, .. } = saved;
        Ok(Some(Snapshot { read_at_ms, content }).filter(|_| saved.store == store))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    struct Content {
        keys: Vec<String>,
    }

    #[test]
    fn a_snapshot_is_read_by_its_own_store_and_version_alone() {
        let folder = tempfile::tempdir().unwrap();
        let file = SnapshotFile::new(folder.path().join("a/b.snapshot"));
        assert_eq!(file.read::<Content>("sqlite:x").unwrap(), None);
        let kept = Snapshot { read_at_ms: 7, content: Content { keys: vec!["k".to_owned()] } };
        file.write("sqlite:x", &kept).unwrap();
        file.write("sqlite:x", &kept).unwrap();
        assert_eq!(file.read("sqlite:x").unwrap(), Some(kept));
        assert_eq!(file.read::<Content>("sqlite:y").unwrap(), None);
        assert_eq!(fs::read_dir(folder.path().join("a")).unwrap().count(), 1);

        let other = r#"{"format":2,"store":"sqlite:x","read_at_ms":7,"keys":[]}"#;
        fs::write(file.path(), other).unwrap();
        let error = file.read::<Content>("sqlite:x").unwrap_err();
        assert!(error.to_string().contains("format is 2"), "{error}");
        for damaged in ["", "{", r#"{"format":1,"store":"sqlite:x","read_at_ms":7}"#] {
            fs::write(file.path(), damaged).unwrap();
            assert!(file.read::<Content>("sqlite:x").is_err(), "{damaged:?}");
        }
    }
}
