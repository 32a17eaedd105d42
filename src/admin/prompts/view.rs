//! Prompts as replies show them.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use crate::clock::rfc3339;
use crate::ids::PromptId;
use crate::prompt::{Prompt, Versions};
use crate::registry::{LabelRecord, Origin, VersionRecord};

/// A prompt in the list of all.
#[derive(Debug, Serialize)]
pub(super) struct PromptView {
    pub(super) id: String,
    versions: usize,
    newest: Option<String>,
    description: String,
    labels: BTreeMap<String, String>,
}

/// A version in the list of a prompt.
#[derive(Debug, Serialize)]
pub(super) struct VersionSummary {
    prompt: String,
    pub(super) version: String,
    hash: String,
    description: String,
    target_model: Option<String>,
    tested_models: Vec<String>,
    origin: Origin,
    labels: Vec<String>,
    created_at: Option<String>,
    registered_at: Option<String>,
    registered_by: Option<String>,
    deprecated_at: Option<String>,
    deprecation_reason: Option<String>,
}

/// A version, and what it says.
#[derive(Debug, Serialize)]
pub(super) struct VersionView {
    #[serde(flatten)]
    summary: VersionSummary,
    parameters: Value,
    tools: Vec<Value>,
    response_format: Option<Value>,
    variables: Value,
    messages: Vec<MessageView>,
}

#[derive(Debug, Serialize)]
struct MessageView {
    role: &'static str,
    content: String,
}

/// A label.
#[derive(Debug, Serialize)]
pub(super) struct LabelView {
    label: String,
    version: Option<String>,
    protected: bool,
    etag: String,
    changed_at: Option<String>,
    changed_by: Option<String>,
}

/// What a label was after one change.
#[derive(Debug, Serialize)]
pub(super) struct LabelChangeView {
    #[serde(flatten)]
    label: LabelView,
    forced: bool,
}

// === impl PromptView ===

impl PromptView {
    pub(super) fn of(id: &PromptId, versions: &Versions) -> Self {
        let newest = versions.iter().last();
        let labels = versions.labels();
        Self {
            id: id.to_string(),
            versions: versions.iter().count(),
            newest: newest.map(|newest| newest.version.to_string()),
            description: newest.map(|newest| newest.description.clone()).unwrap_or_default(),
            labels: labels
                .map(|(label, version)| (label.to_owned(), version.to_string()))
                .collect(),
        }
    }
}

// === impl VersionSummary ===

impl VersionSummary {
    pub(super) fn of(record: &VersionRecord) -> Self {
        let prompt: &Prompt = &record.prompt;
        Self {
            prompt: prompt.id.to_string(),
            version: prompt.version.to_string(),
            hash: prompt.hash.to_string(),
            description: prompt.description.clone(),
            target_model: prompt.target_model.clone(),
            tested_models: prompt.tested_with_all(),
            origin: record.origin,
            labels: record.labels.clone(),
            created_at: prompt.created_at.clone(),
            registered_at: record.created_at_ms.map(rfc3339),
            registered_by: record.created_by.clone(),
            deprecated_at: prompt.deprecated.as_ref().map(|one| one.at.clone()),
            deprecation_reason: prompt.deprecated.as_ref().map(|one| one.reason.clone()),
        }
    }
}

// === impl VersionView ===

impl VersionView {
    pub(super) fn of(record: &VersionRecord) -> Self {
        let prompt: &Prompt = &record.prompt;
        let messages = prompt.messages();
        let messages = messages
            .map(|(role, text)| MessageView { role: role.as_str(), content: text.to_owned() });
        Self {
            summary: VersionSummary::of(record),
            parameters: Value::Object(prompt.parameters.clone()),
            tools: prompt.tools.clone(),
            response_format: prompt.response_format.clone(),
            variables: prompt.variables().clone(),
            messages: messages.collect(),
        }
    }
}

// === impl LabelView ===

impl LabelView {
    pub(super) fn of(record: &LabelRecord) -> Self {
        Self {
            label: record.label.clone(),
            version: record.version.map(|version| version.to_string()),
            protected: record.is_protected,
            etag: format!("\"{}\"", record.changed),
            changed_at: record.changed_at_ms.map(rfc3339),
            changed_by: record.changed_by.clone(),
        }
    }
}

// === impl LabelChangeView ===

impl LabelChangeView {
    pub(super) fn of(record: &LabelRecord) -> Self {
        Self { label: LabelView::of(record), forced: record.is_forced }
    }
}
