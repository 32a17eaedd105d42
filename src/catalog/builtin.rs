//! The provider files that are part of the program.

use std::path::{Path, PathBuf};

use include_dir::{Dir, include_dir};

static PROVIDERS: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/providers");

/// Name and text of each built-in provider file; the name is the one it has in the source tree.
pub fn builtin_files() -> impl Iterator<Item = (PathBuf, &'static str)> {
    PROVIDERS
        .files()
        .filter(|file| file.path().extension().is_some_and(|extension| extension == "toml"))
        .filter_map(|file| Some((Path::new("providers").join(file.path()), file.contents_utf8()?)))
}
