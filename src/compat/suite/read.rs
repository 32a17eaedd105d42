//! A configuration of promptfoo's, key by key.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::case::Tests;
use super::fill::Filler;
use super::prompts::{Inline, Listed};
use super::tree::{self, Node, Yaml};
use super::written::{self, Written};
use super::{Case, InlinePrompt, MAX_CASES, Suite, SuiteModel, files, models, prompts};
use crate::problems::{KeyPath, Problems, nearest};
use crate::prompt::ContentHash;

/// More problems than anybody reads; the rest is counted.
const MAX_PROBLEMS: usize = 200;

/// Keys of a configuration, and what becomes of them.
#[rustfmt::skip] // A table reads best as a table.
pub(super) const KEYS: &[(&str, Fate)] = &[
    ("$schema",            Fate::Silent),
    ("commandLineOptions", Fate::LeftOut),
    ("defaultTest",        Fate::Read),
    ("derivedMetrics",     Fate::Unsupported("it computes with JavaScript over all cases")),
    ("description",        Fate::Read),
    ("env",                Fate::Unsupported("what a suite asks does not depend on an environment; write the values")),
    ("evaluateOptions",    Fate::LeftOut),
    ("extensions",         Fate::Unsupported("suites run no code")),
    ("metadata",           Fate::LeftOut),
    ("nunjucksFilters",    Fate::Unsupported("suites run no code")),
    ("outputPath",         Fate::LeftOut),
    ("prompts",            Fate::Read),
    ("providers",          Fate::Read),
    ("redteam",            Fate::Unsupported("red teaming is no part of a compatibility run")),
    ("scenarios",          Fate::Read),
    ("sharing",            Fate::LeftOut),
    ("tags",               Fate::LeftOut),
    ("targets",            Fate::Read),
    ("tests",              Fate::Read),
    ("tracing",            Fate::Unsupported("a gateway sees answers, not traces of an agent")),
    ("writeLatestResults", Fate::LeftOut),
];

/// What becomes of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is read.
    Read,
    /// It says nothing of questions and grades: it is named in [`Suite::left_out`].
    LeftOut,
    /// It says nothing at all.
    Silent,
    /// It would change questions or grades and cannot be read, and why.
    Unsupported(&'static str),
}

/// A value and its place in the file.
#[derive(Debug, Clone)]
pub(super) struct At<'a> {
    pub(super) node: &'a Node,
    pub(super) path: KeyPath,
    /// Of the key, where it has one.
    pub(super) line: u32,
    /// The file and the line that it was put in from, if it was.
    pub(super) from: Option<(&'a Path, u32)>,
}

/// What is read, and where problems go.
pub(super) struct Reading<'a> {
    pub(super) file: &'a Path,
    problems: &'a mut Problems,
    pub(super) filler: &'a Filler,
    pub(super) left_out: &'a mut BTreeSet<String>,
    /// Problems that were found, those beyond [`MAX_PROBLEMS`] included.
    found: &'a mut usize,
}

/// What has been read of a suite.
#[derive(Default)]
struct Parts {
    description: String,
    prompts: Listed,
    models: Vec<SuiteModel>,
    tests: Tests,
}

pub(super) fn suite(
    id: &str,
    files: &[(PathBuf, String)],
    problems: &mut Problems,
) -> Option<Suite> {
    let filler = Filler::new();
    let mut left_out = BTreeSet::new();
    let mut found = 0;
    let mut parts = Parts::default();
    let first = files.first().map(|(file, _)| file.as_path()).unwrap_or(Path::new(""));
    let mut reading = Reading {
        file: first,
        problems: &mut *problems,
        filler: &filler,
        left_out: &mut left_out,
        found: &mut found,
    };
    for (file, text) in files {
        reading.file = file;
        if let Some(root) = reading.parse(text) {
            reading.configuration(&root, &mut parts);
        }
    }
    reading.file = first;
    let inline = Inline::new(&parts.prompts);
    if parts.tests.cases.is_empty() && *reading.found == 0 {
        reading.add(0, KeyPath::root(), "has no test; a suite has at least one".to_owned());
    }
    // What is wrong already would be said again, of each case.
    let unfilled = match *reading.found {
        0 => prompts::unfilled(&inline, &parts.prompts, &parts.tests.cases),
        _ => Vec::new(),
    };
    for ((file, line, path), message) in &unfilled {
        reading.file = file;
        reading.add(*line, path.clone(), message.clone());
    }
    if found > MAX_PROBLEMS {
        let more = format!("{} more problems are not shown", found - MAX_PROBLEMS);
        problems.add(first, 0, KeyPath::root(), more);
    }
    if found > 0 {
        return None;
    }
    let Parts { description, prompts, models, tests, .. } = parts;
    let prompts = prompts.prompts;
    let hash = hash(&prompts, &models, &tests.cases);
    let left_out = left_out.into_iter().collect();
    let id = id.to_owned();
    Some(Suite { id, hash, description, prompts, models, cases: tests.cases, left_out, inline })
}

/// Everything that shapes a question or a grade, and which cases count how.
fn hash(prompts: &[InlinePrompt], models: &[SuiteModel], cases: &[Case]) -> String {
    let prompts: Vec<Value> = prompts
        .iter()
        .map(|prompt| {
            let messages = prompt.messages.iter();
            messages.map(|message| json!([message.role.as_str(), message.content])).collect()
        })
        .collect();
    let models: Vec<Value> =
        models.iter().map(|model| json!([model.model, model.parameters])).collect();
    let cases: Vec<Value> = cases
        .iter()
        .map(|case| json!([case.id, case.hash, case.category, case.is_critical, case.is_smoke]))
        .collect();
    short(&json!({ "prompts": prompts, "models": models, "cases": cases }))
}

/// The first 16 bytes of the hash of a value, in hex.
pub(super) fn short(value: &Value) -> String {
    ContentHash::of(value).to_string().chars().take(32).collect()
}

/// Where a table says that it was put in from.
fn place_in(node: &Node) -> Option<(&Path, u32)> {
    let Yaml::Table(members) = &node.value else { return None };
    let (_, place) = members.iter().find(|(key, _)| key.name == files::PLACE)?;
    match &place.value {
        Yaml::Text(text) => files::place_of(text),
        Yaml::Null | Yaml::Bool(_) | Yaml::Number(_) | Yaml::List(_) | Yaml::Table(_) => None,
    }
}

// === impl At ===

impl<'a> At<'a> {
    pub(super) fn root(node: &'a Node) -> Self {
        Self { node, path: KeyPath::root(), line: node.line, from: place_in(node) }
    }

    /// A member of a table.
    pub(super) fn get(&self, name: &str) -> Option<Self> {
        self.members().into_iter().find(|(key, _)| *key == name).map(|(_, at)| at)
    }

    /// The members of a table, but for its place; none of anything else.
    pub(super) fn members(&self) -> Vec<(&'a str, Self)> {
        let Yaml::Table(members) = &self.node.value else { return Vec::new() };
        let at = |(key, node): &'a (tree::Key, Node)| {
            let path = self.path.key(&key.name);
            let from = place_in(node).or(self.from);
            (key.name.as_str(), At { node, path, line: key.line, from })
        };
        let is_place = |key: &tree::Key| key.name == files::PLACE && self.from.is_some();
        members.iter().filter(|(key, _)| !is_place(key)).map(at).collect()
    }

    /// The items of a list; none of anything else.
    pub(super) fn items(&self) -> Vec<Self> {
        let Yaml::List(items) = &self.node.value else { return Vec::new() };
        let at = |(index, node): (usize, &'a Node)| At {
            node,
            path: self.path.index(index),
            line: node.line,
            from: place_in(node).or(self.from),
        };
        items.iter().enumerate().map(at).collect()
    }

    /// The text, where it is one.
    pub(super) fn text(&self) -> Option<&'a str> {
        match &self.node.value {
            Yaml::Text(text) => Some(text),
            Yaml::Null | Yaml::Bool(_) | Yaml::Number(_) | Yaml::List(_) | Yaml::Table(_) => None,
        }
    }

    pub(super) const fn is_null(&self) -> bool {
        matches!(self.node.value, Yaml::Null)
    }
}

// === impl Reading ===

impl Reading<'_> {
    /// Reports a problem of a value.
    pub(super) fn report(&mut self, at: &At<'_>, message: impl Into<String>) {
        let (file, line) = self.place(at);
        self.add_in(&file, line, at.path.clone(), message.into());
    }

    /// The file and the line of a value: those that it was put in from, if it was.
    pub(super) fn place(&self, at: &At<'_>) -> (PathBuf, u32) {
        match at.from {
            Some((file, line)) => (files::beside(self.file, file), line),
            None => (self.file.to_owned(), at.line),
        }
    }

    fn add(&mut self, line: u32, path: KeyPath, message: String) {
        self.add_in(self.file, line, path, message);
    }

    /// The same problem of the same value is one: a default counts for every case.
    fn add_in(&mut self, file: &Path, line: u32, path: KeyPath, message: String) {
        let again = self.problems.iter().any(|problem| {
            problem.line == line
                && problem.key == path
                && problem.message == message
                && problem.file == file
        });
        if again {
            return;
        }
        *self.found += 1;
        if *self.found <= MAX_PROBLEMS {
            self.problems.add(file, line, path, message);
        }
    }

    pub(super) fn wrong_kind(&mut self, at: &At<'_>, wanted: &str) {
        self.report(at, format!("must be {wanted}, found {}", at.node.kind()));
    }

    /// Whether a text refers to a file, which it must not any more. Reported.
    pub(super) fn is_file(&mut self, at: &At<'_>, text: &str) -> bool {
        let is_file = files::is_reference(text, &at.path);
        if is_file {
            let why = files::refused(text, &at.path);
            let why =
                why.unwrap_or_else(|| format!("{text:?} refers to a file that was not put in"));
            self.report(at, why);
        }
        is_file
    }

    /// Reports what is wrong with a template.
    pub(super) fn template(&mut self, at: &At<'_>, text: &str) {
        if let Err(why) = self.filler.check(text) {
            self.report(at, why);
        }
    }

    /// A text that must be one.
    pub(super) fn text(&mut self, at: &At<'_>) -> Option<String> {
        let text = at.text().map(str::to_owned);
        if text.is_none() {
            self.wrong_kind(at, "a text");
        }
        text
    }

    /// A number that must be one, in a range.
    pub(super) fn number(&mut self, at: &At<'_>, (least, most): (f64, f64)) -> Option<f64> {
        let number = match &at.node.value {
            Yaml::Number(number) => number.as_f64(),
            Yaml::Null | Yaml::Bool(_) | Yaml::Text(_) | Yaml::List(_) | Yaml::Table(_) => None,
        };
        match number {
            Some(number) if (least..=most).contains(&number) => Some(number),
            Some(_) if most.is_finite() => {
                self.report(at, format!("must be {least} to {most}"));
                None
            }
            Some(_) => {
                self.report(at, format!("must be at least {least}"));
                None
            }
            None => {
                self.wrong_kind(at, "a number");
                None
            }
        }
    }

    /// A truth that must be one.
    pub(super) fn truth(&mut self, at: &At<'_>) -> Option<bool> {
        if let Yaml::Bool(truth) = at.node.value {
            return Some(truth);
        }
        self.wrong_kind(at, "`true` or `false`");
        None
    }

    /// Goes through the members of a table: those that are to be read come back, the others are
    /// named or reported. `within` is what the table is called where something is left out.
    pub(super) fn keys<'a>(
        &mut self,
        at: &At<'a>,
        within: &str,
        table: &[(&str, Fate)],
    ) -> HashMap<&'a str, At<'a>> {
        let mut read = HashMap::new();
        for (name, member) in at.members() {
            match table.iter().find(|(known, _)| *known == name).map(|(_, fate)| *fate) {
                Some(Fate::Read) => {
                    if !member.is_null() {
                        read.insert(name, member);
                    }
                }
                Some(Fate::Silent) => {}
                Some(Fate::LeftOut) => self.leave_out(within, name, &member),
                Some(Fate::Unsupported(why)) => {
                    self.report(&member, format!("`{name}` is not supported: {why}"));
                }
                None => {
                    let known = table.iter().map(|(name, _)| *name);
                    let hint = match nearest(name, known) {
                        Some(near) => format!("; did you mean `{near}`?"),
                        None => String::new(),
                    };
                    self.report(&member, format!("`{name}` is not known{hint}"));
                }
            }
        }
        read
    }

    /// Names what is read past, and what is in it.
    fn leave_out(&mut self, within: &str, name: &str, at: &At<'_>) {
        let name = if within.is_empty() { name.to_owned() } else { format!("{within}.{name}") };
        let members = at.members();
        if members.is_empty() {
            self.left_out.insert(name);
        } else {
            self.left_out.extend(members.iter().map(|(member, _)| format!("{name}.{member}")));
        }
    }

    fn parse(&mut self, text: &str) -> Option<Node> {
        let mut faults = Vec::new();
        let parsed = tree::parse(text, &mut faults);
        for (line, why) in faults {
            self.add(line, KeyPath::root(), why);
        }
        match parsed {
            Ok(root) => Some(root),
            Err((line, why)) => {
                self.add(line, KeyPath::root(), why);
                None
            }
        }
    }

    fn configuration(&mut self, root: &Node, parts: &mut Parts) {
        let root = At::root(root);
        match &root.node.value {
            Yaml::List(_) => return parts.tests.list(self, &root, &Written::default()),
            Yaml::Table(_) => {}
            Yaml::Null | Yaml::Bool(_) | Yaml::Number(_) | Yaml::Text(_) => {
                return self.wrong_kind(&root, "a configuration or a list of tests");
            }
        }
        let keys = self.keys(&root, "", KEYS);
        if let Some(description) = keys.get("description").and_then(|at| self.text(at))
            && parts.description.is_empty()
        {
            parts.description = description;
        }
        if let Some(at) = keys.get("prompts") {
            prompts::read(self, at, &mut parts.prompts);
        }
        for name in ["providers", "targets"] {
            if let Some(at) = keys.get(name) {
                models::read(self, at, &mut parts.models);
            }
        }
        let defaults = written::defaults(self, keys.get("defaultTest"));
        if let Some(at) = keys.get("tests") {
            parts.tests.list(self, at, &defaults);
        }
        if let Some(at) = keys.get("scenarios") {
            parts.tests.scenarios(self, at, &defaults);
        }
        if parts.tests.cases.len() > MAX_CASES {
            parts.tests.cases.truncate(MAX_CASES);
            self.report(&root, format!("has more than {MAX_CASES} cases"));
        }
    }
}
