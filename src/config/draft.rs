//! Stage one: what was read, with the line of each value.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::advice::advice;
use super::environment::Environment;
use super::sections::FileSettings;
use crate::catalog::{Catalog, builtin_files};
use crate::problems::{Document, KeyPath, Problems};

/// Where the configuration comes from.
#[derive(Debug, Clone)]
pub struct Source {
    /// The configuration file. None: defaults, and the providers whose keys are in the
    /// environment.
    pub file: Option<PathBuf>,
    /// A folder of provider files that take the place of built-in ones of the same name, or add to
    /// them.
    pub providers: Option<PathBuf>,
    /// The folder of prompts. None: `prompts` beside the configuration file, if it is there.
    pub prompts: Option<PathBuf>,
    /// The address to listen on instead of the file's, from the command line.
    pub listen: Option<SocketAddr>,
    /// Environment variables.
    pub environment: Environment,
    /// Whether keys of providers that are not there are taken as if they were: what is made of this
    /// can be looked at and not served.
    pub without_keys: bool,
}

/// What was read.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) document: Document,
    pub(super) settings: FileSettings,
    pub(super) catalog: Catalog,
    /// Of all that was read so far; credentials are added when they are resolved.
    pub(super) digest: Sha256,
}

/// The largest file that is read. Far above any real one, far below what would hurt.
const MAX_FILE_BYTES: u64 = 4 << 20;

// === impl Source ===

impl Source {
    /// No file and nothing but the environment.
    pub fn environment(environment: Environment) -> Self {
        Self {
            file: None,
            providers: None,
            prompts: None,
            listen: None,
            environment,
            without_keys: false,
        }
    }

    /// Reads everything there is to read. What is wrong is reported and left out.
    pub(super) fn read(&self, problems: &mut Problems) -> Draft {
        let mut digest = Sha256::new();
        let catalog = self.catalog(&mut digest, problems);
        let mut document = match &self.file {
            None => Document::empty(Path::new("")),
            Some(file) => match read_text(file) {
                Ok(text) => {
                    digest.update(&text);
                    Document::parse(file, &text, problems)
                }
                Err(error) => {
                    problems.add(file, 0, KeyPath::root(), format!("cannot be read: {error}"));
                    Document::empty(file)
                }
            },
        };
        let schema = schemars::schema_for!(FileSettings).to_value();
        let mut settings: FileSettings =
            document.read(&schema, advice, problems).unwrap_or_default();
        if let Some(listen) = self.listen {
            settings.server.listen = listen;
        }
        Draft { document, settings, catalog, digest }
    }

    fn catalog(&self, digest: &mut Sha256, problems: &mut Problems) -> Catalog {
        let mut files: BTreeMap<String, (PathBuf, String)> = BTreeMap::new();
        for (path, text) in builtin_files() {
            files.insert(file_name(&path), (path, text.to_owned()));
        }
        for path in self.provider_files(problems) {
            match read_text(&path) {
                Ok(text) => {
                    digest.update(&text);
                    files.insert(file_name(&path), (path, text));
                }
                Err(error) => {
                    problems.add(&path, 0, KeyPath::root(), format!("cannot be read: {error}"));
                }
            }
        }
        let texts = files.values().map(|(path, text)| (path.as_path(), text.as_str()));
        Catalog::parse(texts, problems)
    }

    fn provider_files(&self, problems: &mut Problems) -> Vec<PathBuf> {
        let Some(folder) = &self.providers else { return Vec::new() };
        let entries = match std::fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) => {
                problems.add(folder, 0, KeyPath::root(), format!("cannot be read: {error}"));
                return Vec::new();
            }
        };
        let mut files: Vec<_> = entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
            .collect();
        files.sort();
        files
    }
}

/// Reads a text file of reasonable size.
pub(super) fn read_text(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    std::fs::File::open(path)?.take(MAX_FILE_BYTES + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_FILE_BYTES {
        return Err(std::io::Error::other("the file is larger than 4MiB"));
    }
    Ok(text)
}

fn file_name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}
