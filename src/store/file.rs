//! Files that keep the last good state of what a store says.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

/// Replaces a file as a whole, so that a crash leaves the old one or the new one. Only its owner may
/// read it.
///
/// # Errors
///
/// Where it cannot be written; the old one stays.
pub(crate) fn replace_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
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
