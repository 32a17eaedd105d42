//! Reads the folder of prompts: `<id>/<version>.toml` and `<id>/labels.toml`.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::draft::{Source, read_text};
use super::snapshot::Snapshot;
use crate::callers::Caller;
use crate::problems::{KeyPath, Problems};
use crate::prompt::{Prompt, Prompts, Untested};
use crate::rejection::Rejection;

/// Registered prompts: versions in files, and those that were pushed to a running gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PromptSettings {
    /// What becomes of a request whose prompt names the models it was tested with, and the one that
    /// would answer is not among them: `warn` answers it and says so in a header and a metric,
    /// `refuse` refuses it before anything is sent.
    pub untested: Untested,
    /// Where the last good state of pushed versions and labels is kept, so that a gateway that
    /// starts while the store is away knows them. Empty: nowhere. Takes effect at the next start.
    pub snapshot: PathBuf,
}

impl Default for PromptSettings {
    fn default() -> Self {
        Self { untested: Untested::Warn, snapshot: PathBuf::from("data/prompts.snapshot") }
    }
}

/// More files than a registry of this kind is good for.
const MAX_FILES: usize = 10_000;

// === impl Snapshot ===

impl Snapshot {
    /// Whether a request with this prompt may be sent where `model` leads, by `prompts.untested`. A
    /// model that the caller cannot ask for is refused elsewhere.
    ///
    /// # Errors
    ///
    /// [`Rejection::Invalid`] that names the model with which the prompt was not tested.
    pub fn check_tested(
        &self,
        prompt: &Prompt,
        caller: &Caller,
        model: &str,
    ) -> Result<(), Rejection> {
        let policy = self.settings.prompts.untested;
        if policy == Untested::Warn {
            return Ok(());
        }
        let Ok(route) = self.resolve_for(caller, model) else { return Ok(()) };
        let targets = route.tiers.iter().flatten();
        let models =
            targets.map(|target| (target.endpoint.provider.as_str(), target.model.name.as_str()));
        match prompt.refusal(policy, models) {
            Some(problem) => Err(Rejection::invalid("model", problem)),
            None => Ok(()),
        }
    }
}

// === impl Source ===

impl Source {
    /// The folder of prompts: the one that is named, else `prompts` beside the configuration, if it
    /// is there.
    pub fn prompts_folder(&self) -> Option<PathBuf> {
        let beside = || Some(self.file.as_ref()?.parent()?.join("prompts"));
        self.prompts.clone().or_else(|| beside().filter(|folder| folder.is_dir()))
    }

    /// Reads all prompts. What is wrong is reported and left out.
    pub(super) fn read_prompts(
        &self,
        previous: Option<&Prompts>,
        digest: &mut Sha256,
        problems: &mut Problems,
    ) -> Prompts {
        let Some(folder) = self.prompts_folder() else { return Prompts::default() };
        let mut texts = Vec::new();
        for path in files(&folder, problems) {
            match read_text(&path) {
                Ok(text) => {
                    digest.update(path.as_os_str().as_encoded_bytes());
                    digest.update(&text);
                    texts.push((path, text));
                }
                Err(error) => unreadable(&path, &error, problems),
            }
        }
        let texts = texts.iter().map(|(path, text)| (path.as_path(), text.as_str()));
        Prompts::parse(texts, previous, problems)
    }
}

/// All files of prompts, in order.
fn files(folder: &Path, problems: &mut Problems) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for path in entries(folder, problems) {
        if path.is_dir() {
            found.extend(entries(&path, problems).into_iter().filter(|path| is_toml(path)));
        } else if is_toml(&path) {
            let message = "belongs into a folder that is named like the prompt";
            problems.add(&path, 0, KeyPath::root(), message);
        }
        if found.len() > MAX_FILES {
            let message = format!("has more than {MAX_FILES} files");
            problems.add(folder, 0, KeyPath::root(), message);
            return Vec::new();
        }
    }
    found
}

/// What is in a folder but for what is hidden, in order.
pub(super) fn entries(folder: &Path, problems: &mut Problems) -> Vec<PathBuf> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) => {
            unreadable(folder, &error, problems);
            return Vec::new();
        }
    };
    let is_hidden = |name: &std::ffi::OsStr| name.as_encoded_bytes().starts_with(b".");
    let mut paths: Vec<_> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.file_name().is_some_and(|name| !is_hidden(name)))
        .collect();
    paths.sort();
    paths
}

fn is_toml(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "toml")
}

pub(super) fn unreadable(path: &Path, error: &std::io::Error, problems: &mut Problems) {
    problems.add(path, 0, KeyPath::root(), format!("cannot be read: {error}"));
}
