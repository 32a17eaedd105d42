//! Registered prompts: versions that never change, with templates, variables and rules of
//! numbering.
//!
//! `prompts/<id>/<version>.toml` is one version, `prompts/<id>/labels.toml` says what `production`
//! and its like stand for. This module reads texts and decides; `config` opens the files. A version
//! is compiled once, when it is loaded: to render it is to check the variables, fill them in, and
//! copy.
//!
//! Who writes a template is trusted with the words, not with the machine: there is no file access
//! and no other template to include, the steps of one rendering and the size of what comes out are
//! bounded. Variables come from callers and are only ever text inside one message: they cannot
//! begin another one.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::ids::PromptId;

mod change;
mod content;
mod diff;
mod file;
mod growth;
mod proven;
mod pushed;
mod registry;
mod template;
mod untested;
mod variables;
mod version;
mod written;

#[cfg(test)]
mod tests;

pub use change::Change;
pub use content::ContentHash;
pub use diff::Difference;
pub(crate) use growth::bound_filters;
pub use registry::{Prompts, Unfound, Versions};
pub use untested::Untested;
pub use variables::VariableProblem;
pub use version::{Version, Wanted, is_label};

use proven::Proven;
use template::Templates;
use variables::Variables;
pub(crate) use variables::{
    compile as compile_schema, compile_of_caller as compile_callers_schema,
};

/// One version of a prompt, checked and compiled.
#[derive(Debug)]
pub struct Prompt {
    /// The prompt.
    pub id: PromptId,
    /// The version.
    pub version: Version,
    /// `id@version`, as headers, the journal and cache keys have it.
    pub name: Arc<str>,
    /// The file it was read from.
    pub file: PathBuf,
    /// What it says, as one number.
    pub hash: ContentHash,
    /// One line for people; empty where there is none.
    pub description: String,
    /// The model it was written for: what `model` is where a request names none.
    pub target_model: Option<String>,
    /// Models that it was tested with.
    pub tested_models: Vec<String>,
    /// The day or time it was made, as it is written.
    pub created_at: Option<String>,
    /// Since when it should not be used, and why.
    pub deprecated: Option<Deprecation>,
    /// What a request asks for where it does not say itself, under the names of chat completions.
    pub parameters: Map<String, Value>,
    /// Tools, in the form of chat completions.
    pub tools: Vec<Value>,
    /// The form of the answer, likewise.
    pub response_format: Option<Value>,
    roles: Vec<Role>,
    sources: Vec<String>,
    templates: Templates,
    variables: Variables,
    proven: Proven,
}

/// That a version should not be used any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deprecation {
    /// A day or a time, as it is written.
    pub at: String,
    /// Why; empty where the file does not say.
    pub reason: String,
}

/// Who speaks in a message of a prompt.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    serde::Serialize,
    serde::Deserialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The operator.
    System,
    /// The operator, in the words of newer OpenAI models.
    Developer,
    /// The user.
    User,
    /// The model.
    Assistant,
}

/// The messages of a prompt with all variables filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered {
    /// In order; there is at least one.
    pub messages: Vec<RenderedMessage>,
}

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenderedMessage {
    /// Who speaks.
    pub role: Role,
    /// What is said.
    pub text: String,
}

/// Why a prompt cannot be rendered with these variables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RenderError {
    /// Variables are missing, unknown or of the wrong kind. Never empty.
    Variables(Vec<VariableProblem>),
    /// What comes out is longer than [`Prompt::MAX_RENDERED_BYTES`].
    TooLong,
    /// A template failed.
    Template {
        /// The message, from 0.
        message: usize,
        /// The line of its template, from 1; 0 where it is not known.
        line: usize,
        /// What went wrong.
        problem: String,
    },
}

// === impl Prompt ===

impl Prompt {
    /// The most that the variables of one request may take, as JSON.
    pub const MAX_VARIABLES_BYTES: usize = 512 * 1024;
    /// The most that all messages of a rendered prompt may take together.
    pub const MAX_RENDERED_BYTES: usize = 1024 * 1024;

    /// Fills in the variables.
    ///
    /// # Errors
    ///
    /// [`RenderError`] naming each variable that is missing, unknown or wrong.
    pub fn render(&self, given: Map<String, Value>) -> Result<Rendered, RenderError> {
        let filled = self.variables.fill(given).map_err(RenderError::Variables)?;
        let texts = self.templates.render(filled).map_err(|error| self.explain(error))?;
        let messages = self.roles.iter().zip(texts);
        let messages = messages.map(|(role, text)| RenderedMessage { role: *role, text });
        Ok(Rendered { messages: messages.collect() })
    }

    /// Whether it was tested with a model, given as `provider/model`: as it says, or by a run of
    /// its cases. `None` where it does not say with which it was.
    pub fn is_tested_with(&self, provider: &str, model: &str) -> Option<bool> {
        if self.tested_models.is_empty() {
            return None;
        }
        let names = self.tested_models.iter().chain(&self.target_model);
        let is = |name: &String| {
            name == model
                || name.strip_prefix(provider).and_then(|rest| rest.strip_prefix('/'))
                    == Some(model)
        };
        Some(names.into_iter().any(&is) || self.is_proven(is))
    }

    /// The messages as they are written: role and template.
    pub fn messages(&self) -> impl Iterator<Item = (Role, &str)> {
        self.roles.iter().copied().zip(self.sources.iter().map(String::as_str))
    }

    /// The JSON Schema of the variables, as it is written.
    pub fn variables(&self) -> &Value {
        self.variables.schema()
    }

    /// A value that is not there is nearly always a variable that need not be given.
    fn explain(&self, error: RenderError) -> RenderError {
        match error {
            RenderError::Template { message, line, problem } => {
                let optional = self.variables.optional();
                let problem = match optional.is_empty() || !problem.contains("undefined") {
                    true => problem,
                    false => format!(
                        "{problem}; variables that may be left out are {}, and the template must \
                         say what to do without them",
                        quoted(optional)
                    ),
                };
                RenderError::Template { message, line, problem }
            }
            other @ (RenderError::Variables(_) | RenderError::TooLong) => other,
        }
    }
}

// === impl Role ===

impl Role {
    /// The word of chat completions.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::Developer => "developer",
            Self::User => "user",
            Self::Assistant => "assistant",
        }
    }
}

// === impl RenderError ===

impl RenderError {
    /// The field of the request that is to blame, such as `prompt.variables.name`.
    pub fn param(&self) -> String {
        match self {
            Self::Variables(problems) => match problems.first() {
                Some(first) => first.param(),
                None => "prompt.variables".to_owned(),
            },
            Self::TooLong | Self::Template { .. } => "prompt.variables".to_owned(),
        }
    }
}

impl fmt::Display for RenderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Variables(problems) => {
                for (index, problem) in problems.iter().enumerate() {
                    let gap = if index == 0 { "" } else { "; " };
                    write!(f, "{gap}{problem}")?;
                }
                Ok(())
            }
            Self::TooLong => write!(
                f,
                "with these variables the prompt is longer than {} bytes; give it less text",
                Prompt::MAX_RENDERED_BYTES
            ),
            Self::Template { message, line, problem } => {
                write!(f, "messages[{message}] of the prompt cannot be filled in")?;
                if *line > 0 {
                    write!(f, ", line {line} of its template")?;
                }
                write!(f, ": {problem}")
            }
        }
    }
}

impl std::error::Error for RenderError {}

/// Names in back quotes, with commas.
fn quoted<'a>(names: impl IntoIterator<Item = &'a (impl AsRef<str> + ?Sized + 'a)>) -> String {
    let names: Vec<_> = names.into_iter().map(|name| format!("`{}`", name.as_ref())).collect();
    names.join(", ")
}
