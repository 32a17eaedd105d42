//! The registry as people see it: all from memory, so that it can be read while the store is away.

use std::sync::Arc;

use super::error::RegistryError;
use super::row::{LabelRow, count};
use super::{Origin, Registry};
use crate::prompt::{Deprecation, Prompt, Version};

/// A version.
#[derive(Debug, Clone)]
pub struct VersionRecord {
    /// What it says.
    pub prompt: Arc<Prompt>,
    /// Where it came from.
    pub origin: Origin,
    /// Since when it should not be used, as the store says; its file may say so as well.
    pub deprecated: Option<Deprecation>,
    /// Its etag; 0 where the store does not have it yet.
    pub changed: u64,
    /// When it was registered, in milliseconds since 1970.
    pub created_at_ms: Option<u64>,
    /// By whom.
    pub created_by: Option<String>,
    /// Labels that stand for it.
    pub labels: Vec<String>,
}

/// A label, or what it was after one change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelRecord {
    /// The label.
    pub label: String,
    /// What it stands for; `None`: it was deleted.
    pub version: Option<Version>,
    /// Whether only who insists changes it.
    pub is_protected: bool,
    /// Whether it was changed although it was protected. Known of changes alone.
    pub is_forced: bool,
    /// Its etag; 0 where the store does not have it yet.
    pub changed: u64,
    /// When it was changed, in milliseconds since 1970.
    pub changed_at_ms: Option<u64>,
    /// By whom.
    pub changed_by: Option<String>,
}

// === impl Registry ===

impl Registry {
    /// All versions of a prompt, newest first.
    ///
    /// # Errors
    ///
    /// [`RegistryError::UnknownPrompt`].
    pub fn versions(&self, id: &str) -> Result<Vec<VersionRecord>, RegistryError> {
        let prompts = self.prompts();
        let unknown = || RegistryError::UnknownPrompt { id: shown(id) };
        let versions = prompts.versions(id).ok_or_else(unknown)?;
        let mut records: Vec<_> = versions.iter().map(|prompt| self.record(prompt)).collect();
        records.reverse();
        for (label, version) in versions.labels() {
            let mut of = records.iter_mut().filter(|record| record.prompt.version == version);
            of.by_ref().for_each(|record| record.labels.push(label.to_owned()));
        }
        Ok(records)
    }

    /// One version.
    ///
    /// # Errors
    ///
    /// [`RegistryError::UnknownPrompt`] or [`RegistryError::UnknownVersion`].
    pub fn version(&self, id: &str, version: Version) -> Result<VersionRecord, RegistryError> {
        let prompts = self.prompts();
        let unknown = || RegistryError::UnknownPrompt { id: shown(id) };
        let versions = prompts.versions(id).ok_or_else(unknown)?;
        let prompt = prompts
            .version(id, version)
            .ok_or_else(|| RegistryError::UnknownVersion { id: shown(id), version })?;
        let labels = versions.labels().filter(|(_, of)| *of == version);
        let labels = labels.map(|(label, _)| label.to_owned()).collect();
        Ok(VersionRecord { labels, ..self.record(prompt) })
    }

    /// The labels of a prompt.
    ///
    /// # Errors
    ///
    /// [`RegistryError::UnknownPrompt`].
    pub fn labels(&self, id: &str) -> Result<Vec<LabelRecord>, RegistryError> {
        let prompts = self.prompts();
        let unknown = || RegistryError::UnknownPrompt { id: shown(id) };
        let versions = prompts.versions(id).ok_or_else(unknown)?;
        let table = self.shared.table.load();
        let labels = versions.labels().map(|(label, version)| {
            let row = table.as_deref().and_then(|table| table.label(id, label));
            row.map_or_else(|| LabelRecord::of_file(label, version), LabelRecord::of)
        });
        Ok(labels.collect())
    }

    fn record(&self, prompt: &Arc<Prompt>) -> VersionRecord {
        let table = self.shared.table.load();
        let stored = table.as_deref().and_then(|table| table.version(&prompt.id, prompt.version));
        VersionRecord {
            prompt: Arc::clone(prompt),
            origin: stored.map_or(Origin::File, |stored| stored.origin),
            deprecated: stored.and_then(|stored| stored.deprecated.clone()),
            changed: stored.map_or(0, |stored| count(stored.changed)),
            created_at_ms: stored.map(|stored| stored.created_at_ms),
            created_by: stored.map(|stored| stored.created_by.clone()),
            labels: Vec::new(),
        }
    }
}

// === impl LabelRecord ===

impl LabelRecord {
    fn of_file(label: &str, version: Version) -> Self {
        Self {
            label: label.to_owned(),
            version: Some(version),
            is_protected: false,
            is_forced: false,
            changed: 0,
            changed_at_ms: None,
            changed_by: None,
        }
    }

    pub(super) fn of(row: &LabelRow) -> Self {
        Self {
            label: row.label.clone(),
            version: row.version.as_deref().and_then(|version| version.parse().ok()),
            is_protected: row.is_protected,
            is_forced: false,
            changed: count(row.changed),
            changed_at_ms: Some(row.changed_at_ms),
            changed_by: Some(row.changed_by.clone()),
        }
    }
}

/// An id of a caller's that is repeated.
pub(super) fn shown(id: &str) -> String {
    id.chars().take(80).collect()
}
