//! Suites in promptfoo's YAML: what is asked, of which models, and what must be true of the
//! answers.
//!
//! promptfoo's format is read as it is documented at
//! <https://www.promptfoo.dev/docs/configuration/reference/> (as of November 2025). What shapes a
//! question or a grade and is not known here is a problem with its name, its line and its key,
//! never skipped: a suite that silently checks less would be worse than none. What only says how a
//! run of promptfoo's own goes, such as `evaluateOptions`, is in [`Suite::left_out`].
//!
//! What promptfoo has no word for stands in `metadata` of a test: `id`, `category`, `critical`,
//! `smoke`, `incident`, `reference`, `tags`.
//!
//! Everything is checked and filled in when a suite is read: templates of assertions, patterns,
//! schemas. So a run meets no faults of a suite, and a case is graded without any template.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Map, Value};

use super::assertion::Rules;
use super::{Category, Depth};
use crate::problems::{Problems, nearest};
use crate::prompt::{Prompt, RenderedMessage, Role};

mod asserts;
mod case;
mod depth;
mod files;
mod fill;
mod models;
mod prompts;
mod read;
mod redact;
mod same;
mod tree;
mod write;
mod written;

#[cfg(test)]
mod tests;

pub use files::{Files, InlineError, Inlined, inline_files};
pub use redact::redact;
pub use write::{NewCase, write_cases};

use prompts::Inline;

/// More cases than anybody asks in a night.
pub const MAX_CASES: usize = 50_000;

/// The longest id of a case.
const MAX_ID_CHARS: usize = 80;

/// A suite, read and checked.
#[derive(Debug)]
pub struct Suite {
    /// Its id: a prompt's for the cases beside it, else a name of its own.
    pub id: String,
    /// Everything that shapes a question or a grade, as one number: 32 hex digits.
    pub hash: String,
    /// One line for people; empty where there is none.
    pub description: String,
    /// Prompts of its own. Empty where a run names a registered one.
    pub prompts: Vec<InlinePrompt>,
    /// Models that it names. Empty where a run does.
    pub models: Vec<SuiteModel>,
    /// The cases, in the order of the files, with arrays of variables written out.
    pub cases: Vec<Case>,
    /// Settings that were read past: they say how promptfoo runs a suite, not what it asks. Each
    /// once.
    pub left_out: Vec<String>,
    inline: Inline,
}

/// A prompt that stands in a suite.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InlinePrompt {
    /// What people call it; no two of a suite are the same.
    pub label: String,
    /// The templates of its messages. One of the user's for a prompt that is a plain text; one that
    /// begins as a conversation in JSON may become one when it is filled in.
    pub messages: Vec<InlineMessage>,
}

/// A message of a prompt that stands in a suite.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InlineMessage {
    /// Who speaks.
    pub role: Role,
    /// The template.
    pub content: String,
}

/// A model that a suite names.
#[derive(Debug, Clone, PartialEq)]
pub struct SuiteModel {
    /// `provider/model`, or a route.
    pub model: String,
    /// What people call it; the model where there is no other name.
    pub label: String,
    /// Parameters of chat completions: `temperature`, `tools`, `response_format`.
    pub parameters: Map<String, Value>,
}

/// One case.
#[derive(Debug, Clone)]
pub struct Case {
    /// `metadata.id`, else what the description comes to, else `case-` and a hash. Unique in its
    /// suite.
    pub id: String,
    /// For people; empty where there is none.
    pub description: String,
    /// What it is there for.
    pub category: Category,
    /// Whether one new failure of it makes a candidate incompatible.
    pub is_critical: bool,
    /// Whether it is asked even of a mere rewording.
    pub is_smoke: bool,
    /// The incident that it must not let happen again, as people call it.
    pub incident: Option<String>,
    /// An answer that is right, which a judge is shown beside a rubric (`metadata.reference`).
    pub reference: Option<String>,
    /// For people and for choosing.
    pub tags: Vec<String>,
    /// Variables of the prompt, and what assertions use besides.
    pub vars: Map<String, Value>,
    /// Where it stands: the file, and the line from 1.
    pub place: (Arc<Path>, u32),
    /// What shapes its question and its grade, as one number: 32 hex digits.
    pub hash: String,
    /// The same number for cases that ask and assert the same, however often and in whatever order.
    likeness: String,
    /// What makes one answer better than another, in words (`select-best`). `None`: nobody
    /// compares.
    pub prefer: Option<String>,
    pub(super) rules: Rules,
}

// === impl Suite ===

impl Suite {
    /// Reads the files of one suite, YAML or JSON. Each is a configuration of promptfoo's or a bare
    /// list of tests; `file://` in them must have been put in by [`inline_files`]. `defaultTest`
    /// counts for the file that it stands in.
    ///
    /// Reports everything that is wrong, by file, line and key; `None` where anything is.
    pub fn parse(id: &str, files: &[(PathBuf, String)], problems: &mut Problems) -> Option<Self> {
        read::suite(id, files, problems)
    }

    /// Fills in a prompt of the suite's own.
    ///
    /// # Errors
    ///
    /// Why it cannot be filled in with these variables.
    pub fn question(
        &self,
        index: usize,
        vars: &Map<String, Value>,
    ) -> Result<Vec<RenderedMessage>, String> {
        self.inline.question(index, vars)
    }

    /// The cases that are asked at a depth, in the order of the suite; the same ones each time, and
    /// mostly the same after cases were added.
    pub fn chosen(&self, depth: Depth) -> Vec<&Case> {
        depth::chosen(&self.cases, depth, &[])
    }

    /// The cases that a registered prompt cannot be asked, and why: a variable that it needs is
    /// missing or is none that it takes.
    pub fn unaskable(&self, prompt: &Prompt) -> Vec<(&Case, String)> {
        let why = |case| {
            let refused = prompt.render(Case::vars_for(case, prompt)).err()?;
            Some((case, refused.to_string()))
        };
        self.cases.iter().filter_map(why).collect()
    }

    /// Variables of cases that none of these versions takes and that are called almost as one that
    /// they do take: the place, the case, the variable, and the one that may be meant.
    pub fn misspelled(&self, versions: &[Arc<Prompt>]) -> Vec<String> {
        let known: BTreeSet<&str> =
            versions.iter().flat_map(|prompt| known_variables(prompt)).collect();
        let mut found = Vec::new();
        for case in &self.cases {
            for name in case.vars.keys().filter(|name| !known.contains(name.as_str())) {
                let free = known.iter().copied().filter(|one| !case.vars.contains_key(*one));
                if let Some(near) = nearest(name, free) {
                    found.push(format!(
                        "{}: no version takes the variable `{name}`; did you mean `{near}`?",
                        case.at()
                    ));
                }
            }
        }
        found
    }

    /// As [`Self::chosen`], with what a change of the prompt touches: at [`Depth::Targeted`], cases
    /// that give one of these variables or have one of these tags, such as a tool's name, are
    /// asked, too.
    pub fn chosen_for(&self, depth: Depth, touched: &[String]) -> Vec<&Case> {
        depth::chosen(&self.cases, depth, touched)
    }
}

// === impl Case ===

impl Case {
    /// The variables that a registered prompt knows. What else a case has is for its assertions,
    /// and for other versions.
    pub fn vars_for(&self, prompt: &Prompt) -> Map<String, Value> {
        let known: BTreeSet<&str> = known_variables(prompt).collect();
        let is_known = |name: &str| known.contains(name);
        let vars = self.vars.iter().filter(|(name, _)| is_known(name));
        vars.map(|(name, value)| (name.clone(), value.clone())).collect()
    }

    /// Where it stands and what it is called: `suite.yaml:12: case `late-parcel``
    pub fn at(&self) -> String {
        let (file, line) = &self.place;
        format!("{}:{line}: case `{}`", file.display(), self.id)
    }
}

/// The names of the variables that a registered prompt takes.
fn known_variables(prompt: &Prompt) -> impl Iterator<Item = &str> {
    let properties = prompt.variables().get("properties").and_then(Value::as_object);
    properties.into_iter().flat_map(Map::keys).map(String::as_str)
}

/// A text in YAML, as JSON.
pub(super) fn json_of_yaml(text: &str) -> Result<Value, (u32, String)> {
    tree::parse(text, &mut Vec::new()).map(|node| node.json())
}
