//! References to files: what they refer to, put in their place. Anywhere `file://` begins one;
//! where tests stand, a text is one without it, too. Tests and prompts may be referred to by a
//! pattern for several files.
//!
//! What is put in stands on the line of the reference, as JSON, which is YAML. So every other value
//! keeps its line. Tests and assertions that are put in carry the file and the line that they come
//! from ([`PLACE`]), and what is wrong with them is reported there.

use std::collections::HashSet;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::tree::{self, MAX_BYTES, Node, Yaml};
use crate::problems::{KeyPath, Problems};

mod pattern;
mod table;

/// Where the files are that a suite refers to. It decides what paths are relative to, and which
/// files may be read at all.
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

/// The member of a table that was put in which says where it comes from: `tests.csv:3`.
pub(super) const PLACE: &str = "$place";

/// A text with what it refers to put in.
#[derive(Debug)]
pub struct Inlined {
    /// The text. References that cannot be put in are as they were.
    pub text: String,
    /// Why they cannot.
    pub wrong: Vec<InlineError>,
}

/// Why a reference cannot be put in.
#[derive(Debug)]
pub struct InlineError {
    /// The line of the reference, from 1; 0 where the text itself cannot be read.
    pub line: u32,
    /// Where it stands.
    pub key: KeyPath,
    /// The file that it refers to, and the line in it (0: none), where something is wrong within
    /// it.
    pub within: Option<(PathBuf, u32)>,
    /// What is wrong.
    pub problem: String,
}

/// What is wrong with what a reference stands for: where within it, and why.
struct Fault {
    within: Option<(PathBuf, u32)>,
    why: String,
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
    wrong: Vec<InlineError>,
}

/// Puts in what is referred to: YAML and JSON as values, CSV and JSON Lines as lists of tests, all
/// else as text. A text without references comes back as it is, and so do one that is no YAML and
/// references that are never put in, such as those to code: [`super::Suite::parse`] reports them
/// all.
pub fn inline_files(text: &str, files: &mut dyn Files) -> Inlined {
    let mut inlining = Inlining {
        files,
        bytes: text.len(),
        found: Vec::new(),
        seen: HashSet::new(),
        wrong: Vec::new(),
    };
    if let Ok(root) = tree::parse(text, &mut Vec::new()) {
        inlining.walk(&root, &KeyPath::root());
    }
    let Inlining { found, wrong, .. } = inlining;
    let text = if found.is_empty() { text.to_owned() } else { spliced(text, found) };
    Inlined { text, wrong }
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
    fn walk(&mut self, node: &Node, path: &KeyPath) {
        match &node.value {
            Yaml::Text(text) if is_reference(text, path) => {
                let faults = match &node.place {
                    None => vec![Fault::new("write the reference on one line")],
                    // An alias of one that was found already, or one that is reported later.
                    Some(place) if !self.seen.insert(place.start) => Vec::new(),
                    Some(_) if refused(text, path).is_some() => Vec::new(),
                    Some(place) => match self.value(text, path, 0) {
                        Ok(value) => {
                            self.found
                                .push(Found { place: place.clone(), json: value.to_string() });
                            Vec::new()
                        }
                        Err(faults) => faults,
                    },
                };
                let (line, key) = (node.line, path);
                self.wrong.extend(faults.into_iter().map(|Fault { within, why }| InlineError {
                    line,
                    key: key.clone(),
                    within,
                    problem: why,
                }));
            }
            Yaml::List(items) => {
                for (index, item) in items.iter().enumerate() {
                    self.walk(item, &path.index(index));
                }
            }
            Yaml::Table(members) => {
                for (key, member) in members {
                    self.walk(member, &path.key(&key.name));
                }
            }
            Yaml::Null | Yaml::Bool(_) | Yaml::Number(_) | Yaml::Text(_) => {}
        }
    }

    /// What a reference stands for.
    fn value(&mut self, reference: &str, at: &KeyPath, depth: usize) -> Result<Value, Vec<Fault>> {
        if depth > MAX_DEPTH {
            let why = format!("files refer to each other more than {MAX_DEPTH} times");
            return Err(vec![Fault::new(why)]);
        }
        let path = reference.strip_prefix("file://").unwrap_or(reference);
        if refused(reference, at).is_some() {
            return Ok(json!(reference));
        }
        let is_list = is_of_tests(at) || at.as_str().starts_with("prompts");
        if !(is_list && pattern::is_pattern(path)) {
            return self.file(path, at, depth);
        }
        let found = pattern::expand(path, self.files).map_err(|why| vec![Fault::new(why)])?;
        let (mut all, mut faults) = (Vec::new(), Vec::new());
        for file in found {
            match self.file(&file.to_string_lossy(), at, depth) {
                Ok(Value::Array(items)) => all.extend(items),
                Ok(
                    one @ (Value::Null
                    | Value::Bool(_)
                    | Value::Number(_)
                    | Value::String(_)
                    | Value::Object(_)),
                ) => all.push(one),
                Err(more) => faults.extend(more),
            }
        }
        if faults.is_empty() { Ok(Value::Array(all)) } else { Err(faults) }
    }

    /// What one file stands for. A test that stands alone in one is a list of one.
    fn file(&mut self, path: &str, at: &KeyPath, depth: usize) -> Result<Value, Vec<Fault>> {
        let one = |why: String| vec![Fault::new(why)];
        let within = |(line, why): (u32, String)| Fault::within(path, line, why);
        let (name, kind) = named(path, at).map_err(one)?;
        let text = self.files.read(&name);
        let text = text.map_err(|error| one(format!("cannot read {path:?}: {error}")))?;
        self.bytes = self.bytes.saturating_add(text.len());
        if text.len() > MAX_BYTES || self.bytes > MAX_TOTAL_BYTES {
            return Err(one(format!("{path:?} is too long")));
        }
        let value = match kind {
            Kind::Table => {
                let tests = table::tests(&text);
                let tests = tests.map_err(|all| all.into_iter().map(within).collect::<Vec<_>>())?;
                tests.into_iter().map(|(line, test)| placed(test, (path, line))).collect()
            }
            Kind::Lines => {
                let tests = lines(&text);
                let tests = tests.map_err(|all| all.into_iter().map(within).collect::<Vec<_>>())?;
                let tests = tests.into_iter().map(|(line, test)| placed(test, (path, line)));
                self.nested(tests.collect(), (path, at), depth)?
            }
            // A prompt and a variable are texts, whatever the file holds.
            Kind::Values if !is_text(at) => {
                let parsed = tree::parse(&text, &mut Vec::new());
                let node = parsed.map_err(|fault| vec![within(fault)])?;
                let json = if has_places(at) { marked(&node, path) } else { node.json() };
                let value = self.nested(json, (path, at), depth)?;
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

    /// Puts in references within what was put in of a file.
    fn nested(
        &mut self,
        value: Value,
        (file, at): (&str, &KeyPath),
        depth: usize,
    ) -> Result<Value, Vec<Fault>> {
        let mut faults = Vec::new();
        let whole = match value {
            Value::String(text) if is_reference(&text, at) => {
                let of_file = |fault: Fault| match fault.within {
                    Some(_) => fault,
                    None => Fault::within(file, 0, fault.why),
                };
                return self
                    .value(&text, at, depth + 1)
                    .map_err(|faults| faults.into_iter().map(of_file).collect());
            }
            Value::Array(items) => {
                let mut whole = Vec::with_capacity(items.len());
                for (index, item) in items.into_iter().enumerate() {
                    match self.nested(item, (file, &at.index(index)), depth) {
                        Ok(item) => whole.push(item),
                        Err(more) => faults.extend(more),
                    }
                }
                Value::Array(whole)
            }
            Value::Object(members) => {
                let mut whole = Map::new();
                for (name, member) in members {
                    match self.nested(member, (file, &at.key(&name)), depth) {
                        Ok(member) => _ = whole.insert(name, member),
                        Err(more) => faults.extend(more),
                    }
                }
                Value::Object(whole)
            }
            other @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) => other,
        };
        if faults.is_empty() { Ok(whole) } else { Err(faults) }
    }
}

// === impl Fault ===

impl Fault {
    fn new(why: impl Into<String>) -> Self {
        Self { within: None, why: why.into() }
    }

    fn within(file: &str, line: u32, why: String) -> Self {
        Self { within: Some((PathBuf::from(file), line)), why }
    }
}

/// A test with the place that it comes from.
fn placed(mut test: Value, (file, line): (&str, u32)) -> Value {
    if let Value::Object(members) = &mut test {
        members.insert(PLACE.to_owned(), json!(format!("{file}:{line}")));
    }
    test
}

/// Members that are tests or assertions, which people look for by their lines.
const PLACED: [&str; 4] = ["assert", "defaultTest", "scenarios", "tests"];

/// Whether tables of what stands there are tests or assertions. All else is data, and stays as it
/// is.
fn has_places(at: &KeyPath) -> bool {
    let path = at.as_str();
    let last = path.rsplit('.').next().unwrap_or_default();
    let name = last.split('[').next().unwrap_or_default();
    is_of_tests(at) || PLACED.contains(&name)
}

/// A value with places in its tests and assertions.
fn marked(node: &Node, file: &str) -> Value {
    match &node.value {
        Yaml::List(items) => items.iter().map(|item| marked(item, file)).collect(),
        Yaml::Table(members) => {
            let member = |(key, member): &(tree::Key, Node)| {
                let is_placed = PLACED.contains(&key.name.as_str());
                let value = if is_placed { marked(member, file) } else { member.json() };
                (key.name.clone(), value)
            };
            placed(Value::Object(members.iter().map(member).collect()), (file, node.line))
        }
        Yaml::Null | Yaml::Bool(_) | Yaml::Number(_) | Yaml::Text(_) => node.json(),
    }
}

/// The file and the line of a place.
pub(super) fn place_of(text: &str) -> Option<(&Path, u32)> {
    let (file, line) = text.rsplit_once(':')?;
    Some((Path::new(file), line.parse().ok()?))
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

/// Whether a file there is a text, whatever it holds: prompts, and variables, which promptfoo fills
/// in as they stand in their files.
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

/// The value of each line, or all lines that are none.
fn lines(text: &str) -> Result<Vec<(u32, Value)>, Vec<table::Wrong>> {
    let (mut values, mut wrong) = (Vec::new(), Vec::new());
    for (line, text) in (1_u32..).zip(text.lines()).filter(|(_, text)| !text.trim().is_empty()) {
        match serde_json::from_str(text) {
            Ok(value) => values.push((line, value)),
            Err(error) => wrong.push((line, error.to_string())),
        }
    }
    if wrong.is_empty() { Ok(values) } else { Err(wrong) }
}

// === impl Inlined ===

impl Inlined {
    /// Notes what could not be put in: in the file that is wrong, else at the reference in this
    /// one.
    pub fn tell(&self, file: &Path, problems: &mut Problems) {
        for error in &self.wrong {
            let InlineError { line, key, within, problem } = error;
            match within {
                Some((within, line)) => {
                    problems.add(&beside(file, within), *line, KeyPath::root(), problem.as_str());
                }
                None => problems.add(file, *line, key.clone(), problem.as_str()),
            }
        }
    }

    /// Leaves out what [`super::Suite::parse`] says of the same references: that they are still
    /// there.
    pub fn leave_out_of(&self, file: &Path, problems: &mut Problems) {
        problems.retain(|problem| {
            let is_same =
                |error: &InlineError| problem.line == error.line && problem.key == error.key;
            problem.file != file || !self.wrong.iter().any(is_same)
        });
    }
}

/// A file that another one names: relative to its folder.
pub(super) fn beside(file: &Path, named: &Path) -> PathBuf {
    file.parent().map(|folder| folder.join(named)).unwrap_or_else(|| named.to_owned())
}

/// A test whose variables are these.
fn test(vars: Map<String, Value>) -> Value {
    json!({ "vars": vars })
}
