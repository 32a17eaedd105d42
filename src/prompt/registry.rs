//! All prompts that are known, and which version a request gets.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;

use super::change::contradiction;
use super::version::is_label;
use super::{Prompt, Version, Wanted, file, quoted};
use crate::ids::PromptId;
use crate::problems::{Document, KeyPath, Problems, nearest};

/// The label that a request without a version asks for.
const DEFAULT_LABEL: &str = "production";
/// The file of a prompt that is no version.
const LABELS: &str = "labels.toml";
/// Versions that an error lists.
const MAX_LISTED: usize = 8;

/// All prompts.
#[derive(Debug, Clone, Default)]
pub struct Prompts {
    by_id: BTreeMap<PromptId, Versions>,
}

/// All versions of a prompt. There is at least one.
#[derive(Debug, Clone, Default)]
pub struct Versions {
    versions: BTreeMap<Version, Arc<Prompt>>,
    labels: BTreeMap<String, Version>,
}

/// Why there is no such prompt: a sentence, and the field of the request that is to blame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfound {
    /// What is not there, and what is.
    pub problem: String,
    /// `prompt.id` or `prompt.version`.
    pub param: &'static str,
}

// === impl Prompts ===

impl Prompts {
    /// Reads files, each a path `…/<id>/<file>` and its text. Versions that cannot be used are left
    /// out, with every reason in `problems`. A version of `previous` never changes: where its file
    /// says something else now, that is a problem.
    pub fn parse<'a>(
        files: impl IntoIterator<Item = (&'a Path, &'a str)>,
        previous: Option<&Self>,
        problems: &mut Problems,
    ) -> Self {
        let mut by_id: BTreeMap<PromptId, Versions> = BTreeMap::new();
        let mut labels = Vec::new();
        for (path, text) in files {
            if path.file_name().is_some_and(|name| name == LABELS) {
                labels.push((path, text));
                continue;
            }
            let Some(prompt) = file::parse(path, text, problems) else { continue };
            by_id
                .entry(prompt.id.clone())
                .or_default()
                .versions
                .insert(prompt.version, prompt.into());
        }
        let mut prompts = Self { by_id };
        for versions in prompts.by_id.values() {
            versions.check_numbers(problems);
        }
        if let Some(previous) = previous {
            prompts.check_unchanged(previous, problems);
        }
        for (path, text) in labels {
            prompts.read_labels(path, text, problems);
        }
        prompts
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// All of them, by id.
    pub fn iter(&self) -> impl Iterator<Item = (&PromptId, &Versions)> {
        self.by_id.iter()
    }

    /// All versions of a prompt.
    pub fn versions(&self, id: &str) -> Option<&Versions> {
        self.by_id.get(id)
    }

    /// This very version, whatever labels say.
    pub fn version(&self, id: &str, version: Version) -> Option<&Arc<Prompt>> {
        self.by_id.get(id)?.versions.get(&version)
    }

    /// Adds a version, in the place of another of the same number.
    pub fn insert(&mut self, prompt: Arc<Prompt>) {
        let versions = self.by_id.entry(prompt.id.clone()).or_default();
        versions.versions.insert(prompt.version, prompt);
    }

    /// Lets a label stand for a version, or for nothing. A version that is not there gets none.
    pub fn set_label(&mut self, id: &str, label: &str, version: Option<Version>) {
        let Some(versions) = self.by_id.get_mut(id) else { return };
        match version.filter(|version| versions.versions.contains_key(version)) {
            Some(version) => versions.labels.insert(label.to_owned(), version),
            None => versions.labels.remove(label),
        };
    }

    /// Why a new version may not have its number between those that are there; nothing where it
    /// may.
    pub fn contradiction(&self, new: &Prompt) -> Option<String> {
        let versions = &self.by_id.get(new.id.as_str())?.versions;
        let before = versions.range(..new.version).next_back();
        let after = versions.range(new.version..).find(|(version, _)| **version != new.version);
        before.and_then(|(_, before)| contradiction(before, new)).or_else(|| {
            let (_, after) = after?;
            let problem = contradiction(new, after)?;
            Some(format!("it would stand before a version that then has a wrong number: {problem}"))
        })
    }

    /// The version that a request gets.
    ///
    /// # Errors
    ///
    /// [`Unfound`] with what there is instead.
    pub fn find(&self, id: &str, wanted: &Wanted) -> Result<&Arc<Prompt>, Unfound> {
        let Some(versions) = self.by_id.get(id) else {
            let names = || self.by_id.keys().map(PromptId::as_str);
            let hint = match nearest(id, names()) {
                Some(near) => format!("; did you mean `{near}`?"),
                None => String::new(),
            };
            let id: String = id.chars().take(64).collect();
            let problem = format!("the prompt `{id}` does not exist{hint}");
            return Err(Unfound { problem, param: "prompt.id" });
        };
        versions.find(wanted).ok_or_else(|| {
            let mut there: Vec<_> =
                versions.versions.keys().rev().map(Version::to_string).collect();
            there.truncate(MAX_LISTED);
            there.extend(versions.labels.keys().cloned());
            let problem = format!("the prompt `{id}` has no {wanted}; it has {}", quoted(&there));
            Unfound { problem, param: "prompt.version" }
        })
    }

    fn check_unchanged(&self, previous: &Self, problems: &mut Problems) {
        for (id, versions) in &self.by_id {
            let Some(known) = previous.by_id.get(id) else { continue };
            for (version, prompt) in &versions.versions {
                let Some(before) = known.versions.get(version) else { continue };
                if before.hash != prompt.hash {
                    let message = format!(
                        "{version} is in use and says something else; a version never changes: put \
                         the new text in a file of its own, and what this one said back"
                    );
                    problems.add(&prompt.file, 0, KeyPath::root(), message);
                }
            }
        }
    }

    fn read_labels(&mut self, path: &Path, text: &str, problems: &mut Problems) {
        let id = path.parent().and_then(Path::file_name).and_then(|id| id.to_str());
        let mut document = Document::parse(path, text, problems);
        // Any table will do: what it may hold is checked here.
        let read =
            document.read::<BTreeMap<String, Value>>(&Value::Bool(true), |_, _| None, problems);
        let Some(read) = read else { return };
        let Some(versions) = id.and_then(|id| self.by_id.get_mut(id)) else {
            if !read.is_empty() {
                let message = "there is no version beside it that could have a label";
                document.report(problems, KeyPath::root(), message);
            }
            return;
        };
        for (label, value) in read {
            let at = KeyPath::root().key(&label);
            if !is_label(&label) {
                let message = "a label is up to 40 of `a-z`, `0-9` and `-`, a letter first";
                document.report(problems, at, message);
                continue;
            }
            match value.as_str().and_then(|version| version.parse().ok()) {
                Some(version) if versions.versions.contains_key(&version) => {
                    versions.labels.insert(label, version);
                }
                Some(version) => {
                    let there: Vec<_> = versions.versions.keys().map(Version::to_string).collect();
                    let message =
                        format!("there is no version {version}; there is {}", quoted(&there));
                    document.report(problems, at, message);
                }
                None => {
                    document.report(problems, at, "must be a version in quotes such as \"1.2.0\"")
                }
            }
        }
    }
}

// === impl Versions ===

impl Versions {
    /// The version that is wanted: of several the newest, and only where there is no other one that
    /// is deprecated.
    pub fn find(&self, wanted: &Wanted) -> Option<&Arc<Prompt>> {
        let labelled = |label: &str| self.versions.get(self.labels.get(label)?);
        match wanted {
            Wanted::Exact(version) => self.versions.get(version),
            Wanted::Label(label) => labelled(label),
            Wanted::Unsaid => labelled(DEFAULT_LABEL).or_else(|| self.newest(wanted)),
            Wanted::Within(..) => self.newest(wanted),
        }
    }

    /// All of them, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Prompt>> {
        self.versions.values()
    }

    /// What a label stands for.
    pub fn label(&self, label: &str) -> Option<Version> {
        self.labels.get(label).copied()
    }

    /// The labels and what they stand for.
    pub fn labels(&self) -> impl Iterator<Item = (&str, Version)> {
        self.labels.iter().map(|(label, version)| (label.as_str(), *version))
    }

    fn newest(&self, wanted: &Wanted) -> Option<&Arc<Prompt>> {
        let fitting = || self.versions.values().rev().filter(|prompt| wanted.takes(prompt.version));
        fitting().find(|prompt| prompt.deprecated.is_none()).or_else(|| fitting().next())
    }

    /// Compares each version with the one before it.
    fn check_numbers(&self, problems: &mut Problems) {
        for (before, after) in self.versions.values().zip(self.versions.values().skip(1)) {
            if let Some(message) = contradiction(before, after) {
                problems.add(&after.file, 0, KeyPath::root(), message);
            }
        }
    }
}
