//! References to files: what they refer to, put in their place. Anywhere `file://` begins one; where tests
//! stand, a text is one without it, too. Tests and prompts may be referred to by a pattern for several files.
//!
//! What is put in stands on the line of the reference, as JSON, which is YAML. So every other value keeps
//! its line, and a problem of what was put in is reported at the line of its reference, with the key path
//! within it.

use std::collections::HashSet;
use std::fmt;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::tree::{self, MAX_BYTES, Node, Yaml};
use crate::problems::KeyPath;

mod pattern;
mod table;

/// Where the files are that a suite refers to. It decides what paths are relative to, and which files may be
/// read at all.
pub trait Files {
    /// What a file holds.
    ///
    /// # Errors
    ///
    /// It cannot be read, or may not be.
    fn read(&mut self, path: &Path) -> io::Result<String>;

    /// The names in a folder, each with whether it is a folder itself; links are none.
    ///
    /// # Errors
    ///
    /// It cannot be read, or may not be.
    fn list(&mut self, folder: &Path) -> io::Result<Vec<(String, bool)>>;
}

/// How often what was put in may refer to files itself.
const MAX_DEPTH: usize = 4;
/// The most that all files together may have.
const MAX_TOTAL_BYTES: usize = 64 << 20;

/// Why a reference cannot be put in.
#[derive(Debug)]
pub struct InlineError {
    /// The line of the reference, from 1; 0 where the text itself cannot be read.
    pub line: u32,
    /// Where it stands.
    pub key: KeyPath,
    /// What is wrong.
    pub problem: String,
}

/// A reference, and what stands in its place.
struct Found {
    place: Range<u32>,
    json: String,
}

struct Inlining<'a> {
    files: &'a mut dyn Files,
    bytes: usize,
    found: Vec<Found>,
    seen: HashSet<u32>,
}

/// Puts in what is referred to: YAML and JSON as values, CSV and JSON Lines as lists of tests, all else as
/// text. A text without references comes back as it is, and so do one that is no YAML and references that
/// cannot be put in, such as those to code: [`super::Suite::parse`] reports them all.
///
/// # Errors
///
/// The first file that cannot be read, or is too long.
pub fn inline_files(text: &str, files: &mut dyn Files) -> Result<String, InlineError> {
    let Ok(root) = tree::parse(text, &mut Vec::new()) else { return Ok(text.to_owned()) };
    let mut inlining =
        Inlining { files, bytes: text.len(), found: Vec::new(), seen: HashSet::new() };
    inlining.walk(&root, &KeyPath::root())?;
    match inlining.found.is_empty() {
        true => Ok(text.to_owned()),
        false => Ok(spliced(text, inlining.found)),
    }
}

/// The text with each found reference replaced. Places are counted in characters.
fn spliced(text: &str, mut found: Vec<Found>) -> String {
    found.sort_by_key(|found| found.place.start);
    let mut whole = String::with_capacity(text.len());
    let mut found = found.into_iter().peekable();
    let mut end = 0;
    for (at, character) in (0_u32..).zip(text.chars()) {
        if let Some(next) = found.next_if(|found| found.place.start == at) {
            whole.push_str(&next.json);
            end = next.place.end;
        }
        if at >= end {
            whole.push(character);
        }
    }
    whole
}

// === impl Inlining ===

impl Inlining<'_> {
    fn walk(&mut self, node: &Node, path: &KeyPath) -> Result<(), InlineError> {
        match &node.value {
            Yaml::Text(text) if is_reference(text, path) => {
                let failed = |problem| InlineError { line: node.line, key: path.clone(), problem };
                let Some(place) = &node.place else {
                    return Err(failed("write the reference on one line".to_owned()));
                };
                // An alias of one that was found already, or one that is reported later.
                if self.seen.insert(place.start) && refused(text, path).is_none() {
                    let value = self.value(text, path, 0).map_err(failed)?;
                    self.found.push(Found { place: place.clone(), json: value.to_string() });
                }
                Ok(())
            }
            Yaml::List(items) => items
                .iter()
                .enumerate()
                .try_for_each(|(index, item)| self.walk(item, &path.index(index))),
            Yaml::Table(members) => {
                members.iter().try_for_each(|(key, member)| self.walk(member, &path.key(&key.name)))
            }
            Yaml::Null | Yaml::Bool(_) | Yaml::Number(_) | Yaml::Text(_) => Ok(()),
        }
    }

    /// What a reference stands for.
    fn value(&mut self, reference: &str, at: &KeyPath, depth: usize) -> Result<Value, String> {
        if depth > MAX_DEPTH {
            return Err(format!("files refer to each other more than {MAX_DEPTH} times"));
        }
        let path = reference.strip_prefix("file://").unwrap_or(reference);
        if refused(reference, at).is_some() {
            return Ok(json!(reference));
        }
        let is_list = is_of_tests(at) || at.as_str().starts_with("prompts");
        if !(is_list && pattern::is_pattern(path)) {
            return self.file(path, at, depth);
        }
        let mut all = Vec::new();
        for file in pattern::expand(path, self.files)? {
            let file = file.to_string_lossy();
            match self.file(&file, at, depth)? {
                Value::Array(items) => all.extend(items),
                one @ (Value::Null
                | Value::Bool(_)
                | Value::Number(_)
                | Value::String(_)
                | Value::Object(_)) => all.push(one),
            }
        }
        Ok(Value::Array(all))
    }

    /// What one file stands for. A test that stands alone in one is a list of one.
    fn file(&mut self, path: &str, at: &KeyPath, depth: usize) -> Result<Value, String> {
        let (name, kind) = named(path, at)?;
        let text = self.files.read(&name);
        let text = text.map_err(|error| format!("cannot read {path:?}: {error}"))?;
        self.bytes = self.bytes.saturating_add(text.len());
        if text.len() > MAX_BYTES || self.bytes > MAX_TOTAL_BYTES {
            return Err(format!("{path:?} is too long"));
        }
        // A prompt and a variable are texts, whatever the file holds.
        let is_text = is_text(at);
        let value = match kind {
            Kind::Table => {
                Value::Array(table::tests(&text).map_err(|why| format!("{path}: {why}"))?)
            }
            Kind::Lines => self.nested(lines(&text, path)?, at, depth)?,
            Kind::Values if !is_text => {
                let parsed = tree::parse(&text, &mut Vec::new());
                let node = parsed.map_err(|(line, why)| format!("{path}:{line}: {why}"))?;
                let value = self.nested(node.json(), at, depth)?;
                match value.is_object() && is_of_tests(at) {
                    true => Value::Array(vec![value]),
                    false => value,
                }
            }
            Kind::Values | Kind::Text => match at.as_str().starts_with("prompts") {
                true => prompts(&text),
                false => Value::String(text.trim().to_owned()),
            },
        };
        Ok(value)
    }

    /// Puts in references within what was put in.
    fn nested(&mut self, value: Value, at: &KeyPath, depth: usize) -> Result<Value, String> {
        match value {
            Value::String(text) if is_reference(&text, at) => self.value(&text, at, depth + 1),
            Value::Array(items) => {
                let items = items.into_iter().enumerate();
                let items = items.map(|(index, item)| self.nested(item, &at.index(index), depth));
                items.collect::<Result<_, _>>().map(Value::Array)
            }
            Value::Object(members) => {
                let mut whole = Map::new();
                for (name, member) in members {
                    let member = self.nested(member, &at.key(&name), depth)?;
                    whole.insert(name, member);
                }
                Ok(Value::Object(whole))
            }
            other @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) => {
                Ok(other)
            }
        }
    }
}

/// What a file holds, by its name.
enum Kind {
    Values,
    Lines,
    Table,
    Text,
}

/// Why a reference is never put in, whatever there is.
pub(super) fn refused(reference: &str, at: &KeyPath) -> Option<String> {
    named(reference.strip_prefix("file://").unwrap_or(reference), at).err()
}

/// Whether a text stands for a file.
pub(super) fn is_reference(text: &str, at: &KeyPath) -> bool {
    text.starts_with("file://") || (is_of_tests(at) && !text.trim().is_empty())
}

/// Whether tests stand there, in a list or as one: `tests`, `tests[3]`, `[3]`, `tests[0][2]`.
fn is_of_tests(at: &KeyPath) -> bool {
    let path = at.as_str();
    let rest = path.strip_prefix("tests").unwrap_or(path);
    let is_root = path.is_empty();
    let is_index = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    let inner = rest.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    !is_root && (rest.is_empty() || inner.is_some_and(|inner| inner.split("][").all(is_index)))
}

fn named(path: &str, at: &KeyPath) -> Result<(PathBuf, Kind), String> {
    if let Some((scheme, _)) = path.split_once("://") {
        return Err(format!("`{scheme}://` is not supported: put it into a file"));
    }
    let may_be_several = is_of_tests(at) || at.as_str().starts_with("prompts");
    if !may_be_several && pattern::is_pattern(path) {
        return Err(format!(
            "{path:?} is a pattern for several files, which only tests and prompts may be; name each"
        ));
    }
    let code = [".js", ".mjs", ".cjs", ".ts", ".py", ".rb", ".go"];
    let is_code = |path: &str| code.iter().any(|end| path.ends_with(end));
    if is_code(path) || path.rsplit_once(':').is_some_and(|(file, _)| is_code(file)) {
        return Err(format!("{path:?} is code; suites run none"));
    }
    let end = Path::new(path).extension().and_then(|end| end.to_str()).unwrap_or_default();
    let end = end.split('#').next().unwrap_or_default();
    let kind = match end.to_ascii_lowercase().as_str() {
        "yaml" | "yml" | "json" => Kind::Values,
        "jsonl" | "ndjson" => Kind::Lines,
        "csv" => Kind::Table,
        "xlsx" | "xls" | "pdf" | "png" | "jpg" | "jpeg" | "gif" | "webp" | "mp3" | "wav"
        | "mp4" => {
            return Err(format!("{path:?} is no text; files of `.{end}` are not supported"));
        }
        _ if is_of_tests(at) && !pattern::is_pattern(path) => {
            return Err(format!(
                "{path:?} holds no tests; they are in .yaml, .json, .jsonl or .csv"
            ));
        }
        _ => Kind::Text,
    };
    Ok((PathBuf::from(path), kind))
}

/// Whether a file there is a text, whatever it holds: prompts, and variables, which promptfoo fills in as
/// they stand in their files.
fn is_text(at: &KeyPath) -> bool {
    let path = at.as_str();
    path.starts_with("prompts") || path.contains(".vars.")
}

/// The prompts of a file: one, or several with lines of `---` between them.
fn prompts(text: &str) -> Value {
    let is_rule = |line: &&str| line.trim_end() == "---";
    let is_chat = text.trim_start().starts_with(['[', '{']);
    if is_chat || !text.lines().any(|line| is_rule(&line)) {
        return Value::String(text.trim().to_owned());
    }
    let lines: Vec<&str> = text.lines().collect();
    let parts = lines.split(is_rule).map(|part| part.join("\n").trim().to_owned());
    parts.filter(|part| !part.is_empty()).map(Value::String).collect()
}

fn lines(text: &str, path: &str) -> Result<Value, String> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let values = lines.map(|(number, line)| {
        serde_json::from_str(line).map_err(|error| format!("{path}:{}: {error}", number + 1))
    });
    values.collect::<Result<_, _>>().map(Value::Array)
}

// === impl InlineError ===

impl fmt::Display for InlineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line > 0 {
            write!(f, "line {}: ", self.line)?;
        }
        if !self.key.as_str().is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.problem)
    }
}

impl std::error::Error for InlineError {}

/// A test whose variables are these.
fn test(vars: Map<String, Value>) -> Value {
    json!({ "vars": vars })
}
