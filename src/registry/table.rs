//! What the store says, compiled, and how files are merged into it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::refresh::RegistrySource;
use super::row::{LabelRow, VersionRow};
use super::{Origin, StoredVersion, Told, named};
use crate::ids::PromptId;
use crate::prompt::{ContentHash, Deprecation, Prompt, Prompts, Version};
use crate::store::follow::OF_SNAPSHOT;

/// What the store says.
#[derive(Debug, Clone)]
pub(super) struct Table {
    pub(super) versions: BTreeMap<(PromptId, Version), Arc<StoredVersion>>,
    /// By prompt and label, those included that were deleted.
    pub(super) labels: BTreeMap<(String, String), LabelRow>,
    /// All changes up to this one are in it; -1: it is of the snapshot on disk.
    pub(super) revision: i64,
    /// When the store was read, in milliseconds since 1970.
    pub(super) read_at_ms: u64,
    pub(super) source: RegistrySource,
    /// Rows that this version cannot read.
    pub(super) unreadable: BTreeMap<String, String>,
}

/// Problems and notes that are told; more are not.
const MAX_TOLD: usize = 20;

// === impl Table ===

impl Table {
    /// A table that says nothing yet.
    pub(super) fn empty(source: RegistrySource) -> Self {
        Self {
            versions: BTreeMap::new(),
            labels: BTreeMap::new(),
            revision: OF_SNAPSHOT,
            read_at_ms: 0,
            source,
            unreadable: BTreeMap::new(),
        }
    }

    /// Takes in a row. What is compiled already, here or as a file, is not compiled again.
    pub(super) fn take(&mut self, row: VersionRow, known: Option<&Self>, files: &Prompts) {
        let name = format!("{}@{}", row.prompt, row.version);
        match StoredVersion::of(row, known, files) {
            Ok(stored) => {
                self.unreadable.remove(&name);
                let key = (stored.prompt.id.clone(), stored.prompt.version);
                self.versions.insert(key, Arc::new(stored));
            }
            Err(problem) => {
                self.unreadable.insert(name, problem);
            }
        }
    }

    pub(super) fn take_label(&mut self, row: LabelRow) {
        self.labels.insert((row.prompt.clone(), row.label.clone()), row);
    }

    pub(super) fn version(&self, id: &PromptId, version: Version) -> Option<&Arc<StoredVersion>> {
        self.versions.get(&(id.clone(), version))
    }

    pub(super) fn label(&self, id: &str, label: &str) -> Option<&LabelRow> {
        self.labels.get(&(id.to_owned(), label.to_owned()))
    }

    /// What requests see, and what is to be told of files that say something else.
    pub(super) fn merge(&self, files: &Prompts) -> (Arc<Prompts>, Told) {
        let mut prompts = files.clone();
        let mut conflicts = Vec::new();
        for ((id, version), stored) in &self.versions {
            let file = files.version(id.as_str(), *version);
            match file {
                // What may be changed in a version that is out, its file says last.
                Some(file) if file.hash == stored.prompt.hash && stored.deprecated.is_none() => {
                    continue;
                }
                Some(file) if file.hash != stored.prompt.hash => conflicts.push(format!(
                    "{}: {} is registered and says something else ({} where the file has {}); a \
                     version never changes, so the registered one stays: put the new text in a file \
                     of its own",
                    file.file.display(),
                    named(id.as_str(), *version),
                    short(&stored.prompt.hash),
                    short(&file.hash),
                )),
                Some(_) | None => {}
            }
            prompts.insert(Arc::clone(&stored.prompt));
        }
        let mut notes = Vec::new();
        for row in self.labels.values() {
            let version = row.version.as_deref().and_then(|version| version.parse().ok());
            prompts.set_label(&row.prompt, &row.label, version);
            let of_file =
                files.versions(&row.prompt).and_then(|versions| versions.label(&row.label));
            if let Some(of_file) = of_file.filter(|of_file| Some(*of_file) != version) {
                let stands_for = row.version.as_deref().unwrap_or("nothing");
                notes.push(format!(
                    "the label `{}` of `{}` stands for {stands_for}; its file says {of_file}, which \
                     is where it began: `tidegate prompts label` moves it",
                    row.label, row.prompt
                ));
            }
        }
        conflicts.extend(
            self.unreadable
                .iter()
                .map(|(name, problem)| format!("{name} cannot be used: {problem}")),
        );
        conflicts.truncate(MAX_TOLD);
        notes.truncate(MAX_TOLD);
        (Arc::new(prompts), Told { conflicts, notes })
    }
}

/// As much of a hash as people compare.
fn short(hash: &ContentHash) -> String {
    hash.to_string().chars().take(12).collect()
}

// === impl StoredVersion ===

impl StoredVersion {
    fn of(row: VersionRow, known: Option<&Table>, files: &Prompts) -> Result<Self, String> {
        let id = Prompt::checked_id(&row.prompt)?;
        let version: Version =
            row.version.parse().map_err(|()| format!("{:?} is no version", row.version))?;
        let hash: ContentHash =
            row.hash.parse().map_err(|error| format!("its hash is damaged: {error}"))?;
        let reason = row.deprecation_reason.unwrap_or_default();
        let deprecated = row.deprecated_at.map(|at| Deprecation { at, reason });
        let is_it = |prompt: &&Arc<Prompt>| prompt.hash == hash && prompt.deprecated == deprecated;
        let compiled = known.and_then(|known| Some(&known.version(&id, version)?.prompt));
        let compiled = compiled.filter(is_it);
        let compiled = compiled.or_else(|| files.version(id.as_str(), version).filter(is_it));
        let prompt = match compiled {
            Some(prompt) => Arc::clone(prompt),
            None => {
                let content = serde_json::from_str(&row.content);
                let content =
                    content.map_err(|error| format!("its content is damaged: {error}"))?;
                let mut prompt = Prompt::of_json(&id, version, content).map_err(|problems| {
                    problems.iter().next().map(ToString::to_string).unwrap_or_default()
                })?;
                prompt.hash = hash;
                prompt.deprecated.clone_from(&deprecated);
                Arc::new(prompt)
            }
        };
        Ok(Self {
            prompt,
            origin: if row.origin == Origin::File.as_str() { Origin::File } else { Origin::Push },
            deprecated,
            changed: row.changed,
            created_at_ms: row.created_at_ms,
            created_by: row.created_by,
        })
    }

    /// The row it was made of.
    pub(super) fn row(&self) -> VersionRow {
        VersionRow {
            prompt: self.prompt.id.to_string(),
            version: self.prompt.version.to_string(),
            hash: self.prompt.hash.to_string(),
            content: self.prompt.content().to_string(),
            origin: self.origin.as_str().to_owned(),
            deprecated_at: self.deprecated.as_ref().map(|deprecated| deprecated.at.clone()),
            deprecation_reason: self.deprecated.as_ref().map(|one| one.reason.clone()),
            changed: self.changed,
            created_at_ms: self.created_at_ms,
            created_by: self.created_by.clone(),
        }
    }
}
