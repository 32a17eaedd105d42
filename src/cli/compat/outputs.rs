//! Where reports go: to files, or to standard output.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::Path;

use super::FileArgs;

/// What stands for standard output.
const STANDARD_OUTPUT: &str = "-";

// === impl FileArgs ===

impl FileArgs {
    /// Each form of a report that is wanted, as the gateway calls it, with its flag and where it
    /// goes.
    pub(super) fn wanted(&self) -> impl Iterator<Item = (&'static str, &'static str, &Path)> {
        let all = [
            ("html", "--html", &self.html),
            ("junit", "--junit", &self.junit),
            ("json", "--report-json", &self.report),
        ];
        all.into_iter().filter_map(|(form, flag, path)| Some((form, flag, path.as_deref()?)))
    }

    /// Whether all can be written, known before anything is asked that costs money. `is_json`:
    /// standard output is taken already.
    ///
    /// # Errors
    ///
    /// What cannot be written, by its flag and path.
    pub(super) fn check(&self, is_json: bool) -> Result<(), String> {
        let flags = self.wanted().filter(|(_, _, path)| is_standard_output(path));
        let mut flags: Vec<_> = flags.map(|(_, flag, _)| format!("{flag} -")).collect();
        flags.extend(is_json.then(|| "--json".to_owned()));
        if flags.len() > 1 {
            return Err(format!("{}: only one can go to standard output", flags.join(", ")));
        }
        for (_, flag, path) in self.wanted().filter(|(_, _, path)| !is_standard_output(path)) {
            let cannot = |error| format!("{flag} {}: cannot be written: {error}", path.display());
            try_out(path).map_err(cannot)?;
        }
        Ok(())
    }
}

pub(super) fn is_standard_output(path: &Path) -> bool {
    path.as_os_str() == STANDARD_OUTPUT
}

/// Opens a file for writing, and leaves all as it was. What is no file, such as a pipe, is not
/// opened: that may wait for who reads it.
fn try_out(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            OpenOptions::new().write(true).create_new(true).open(path)?;
            fs::remove_file(path)
        }
        Err(error) => Err(error),
        // Where a link leads nowhere, its target is tried, and would be made.
        Ok(known) if known.is_symlink() && !path.try_exists()? => {
            try_out(&path.parent().unwrap_or(Path::new("")).join(fs::read_link(path)?))
        }
        Ok(_) => match fs::metadata(path)? {
            file if file.is_file() || file.is_dir() => {
                OpenOptions::new().append(true).open(path).map(drop)
            }
            _ => Ok(()),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn files(html: &Path, junit: &str) -> FileArgs {
        FileArgs { html: Some(html.to_owned()), junit: Some(PathBuf::from(junit)), report: None }
    }

    #[test]
    fn what_cannot_be_written_is_known_by_its_flag_and_path_and_nothing_is_left_behind() {
        let folder = tempfile::tempdir().unwrap();
        let (good, bad) = (folder.path().join("a.html"), folder.path().join("none/a.html"));
        assert_eq!(files(&good, "-").check(false), Ok(()));
        assert!(!good.exists());
        fs::write(&good, "before").unwrap();
        assert_eq!(files(&good, "-").check(false), Ok(()));
        assert_eq!(fs::read_to_string(&good).unwrap(), "before");
        let told = files(&bad, "-").check(false).unwrap_err();
        assert!(
            told.starts_with("--html ") && told.contains("none/a.html: cannot be written"),
            "{told}"
        );
        let told = files(folder.path(), "-").check(false).unwrap_err();
        assert!(told.contains("cannot be written"), "{told}");
        let (link, target) = (folder.path().join("link"), folder.path().join("target"));
        std::os::unix::fs::symlink(&target, &link).unwrap();
        assert_eq!(files(&link, "-").check(false), Ok(()));
        assert!(link.is_symlink() && !target.exists(), "as they were");
    }

    #[test]
    fn standard_output_is_taken_by_one_alone() {
        let (one, two) = (files(Path::new("-"), "-"), FileArgs::default());
        let told = one.check(false).unwrap_err();
        assert_eq!(told, "--html -, --junit -: only one can go to standard output");
        let html = FileArgs { html: Some(PathBuf::from("-")), ..FileArgs::default() };
        let told = html.check(true).unwrap_err();
        assert_eq!(told, "--html -, --json: only one can go to standard output");
        assert_eq!((html.check(false), two.check(true)), (Ok(()), Ok(())));
    }
}
