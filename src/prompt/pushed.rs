//! A version as JSON: what is pushed to a running gateway, and what a store keeps.
//!
//! The names are those of the file's format, so that a file can be pushed as it is.

use serde_json::{Map, Value, json};

use super::{Deprecation, Prompt, Version, file};
use crate::ids::PromptId;
use crate::problems::Problems;

// === impl Prompt ===

impl Prompt {
    /// The most that a version may take as JSON.
    pub const MAX_CONTENT_BYTES: usize = 1024 * 1024;

    /// Reads and compiles a version that was written as JSON, without `id` and `version`.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with it, each with its key.
    pub fn of_json(id: &PromptId, version: Version, content: Value) -> Result<Self, Problems> {
        let mut problems = Problems::new();
        file::parse_json((id, version), content, &mut problems).ok_or(problems)
    }

    /// The name of a prompt.
    ///
    /// # Errors
    ///
    /// What would be one.
    pub fn checked_id(text: &str) -> Result<PromptId, String> {
        if file::is_id(text) {
            return Ok(PromptId::new(text));
        }
        let shown: String = text.chars().take(80).collect();
        Err(file::no_id(&shown))
    }

    /// What it says, as JSON that reads as the same again. Fields that say nothing are left out.
    pub fn content(&self) -> Value {
        let messages = self.messages();
        let messages: Vec<_> =
            messages.map(|(role, text)| json!({"role": role, "content": text})).collect();
        let mut content = Map::new();
        let mut say = |name: &str, value: Value| {
            let is_nothing = match &value {
                Value::Null => true,
                Value::String(text) => text.is_empty(),
                Value::Array(list) => list.is_empty(),
                Value::Object(map) => map.is_empty(),
                Value::Bool(_) | Value::Number(_) => false,
            };
            if !is_nothing {
                content.insert(name.to_owned(), value);
            }
        };
        say("description", json!(self.description));
        say("target_model", json!(self.target_model));
        say("tested_models", json!(self.tested_models));
        say("created_at", json!(self.created_at));
        let deprecated = self.deprecated.as_ref();
        say("deprecated_at", json!(deprecated.map(|deprecated| &deprecated.at)));
        say("deprecation_reason", json!(deprecated.map(|deprecated| &deprecated.reason)));
        say("messages", Value::Array(messages));
        say("parameters", json!(self.parameters));
        say("tools", json!(self.tools));
        say("response_format", json!(self.response_format));
        say("variables", self.variables().clone());
        Value::Object(content)
    }
}

// === impl Deprecation ===

impl Deprecation {
    /// The longest reason, in characters.
    const MAX_REASON_CHARS: usize = 500;

    /// That a version should not be used since a day or a time.
    ///
    /// # Errors
    ///
    /// What is wrong, beginning with the field.
    pub fn new(at: &str, reason: &str) -> Result<Self, String> {
        if !file::is_time(at) {
            return Err(format!("deprecated_at: {}", file::NO_TIME));
        }
        if reason.chars().count() > Self::MAX_REASON_CHARS {
            let most = Self::MAX_REASON_CHARS;
            return Err(format!("deprecation_reason: must not be longer than {most} characters"));
        }
        Ok(Self { at: at.to_owned(), reason: reason.to_owned() })
    }
}
