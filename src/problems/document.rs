//! A TOML file that knows the line of each of its values, so that a problem found late, by meaning
//! and not by syntax, still names the line where it stands.
//!
//! The text is parsed once, with recovery: several syntax errors are several problems. The values
//! are kept as JSON, because the schema that describes the format speaks of JSON, too.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde_json::{Map, Number, Value};
use toml::de::{DeTable, DeValue};

use super::shape::{Advice, Shape};
use super::{KeyPath, Problems, refused};

/// The values of one file, with their lines.
#[derive(Debug, Clone)]
pub struct Document {
    file: PathBuf,
    root: Value,
    lines: HashMap<KeyPath, u32>,
    /// Values that were wrong in shape and therefore taken out.
    broken: Vec<KeyPath>,
}

/// Offsets of line starts, to turn a byte offset into a line.
struct Lines(Vec<usize>);

// === impl Document ===

impl Document {
    /// Parses `text`; what it cannot read it reports and leaves out.
    pub fn parse(file: &Path, text: &str, problems: &mut Problems) -> Self {
        let line_starts = Lines::of(text);
        let (table, errors) = DeTable::parse_recoverable(text);
        let mut readable = true;
        for error in errors {
            let line = error.span().map_or(0, |span| line_starts.at(span.start));
            problems.add(file, line, KeyPath::root(), syntax_message(error.message()));
            readable = false;
        }
        let mut document = Self {
            file: file.to_owned(),
            root: Value::Null,
            lines: HashMap::new(),
            broken: Vec::new(),
        };
        if !readable {
            // What was recovered may stand in the wrong table; problems found in it would mislead.
            document.broken.push(KeyPath::root());
            return document;
        }
        let root = document.table(table.get_ref(), &KeyPath::root(), &line_starts, problems);
        document.root = Value::Object(root);
        document
    }

    /// A document that holds nothing, for a file that is not there.
    pub fn empty(file: &Path) -> Self {
        Self {
            file: file.to_owned(),
            root: Value::Object(Map::new()),
            lines: HashMap::new(),
            broken: Vec::new(),
        }
    }

    /// Reports everything whose shape is not what `schema` (that of `T`) describes and takes it
    /// out, then reads the rest. None where too little is left to be read.
    pub fn read<T: DeserializeOwned>(
        &mut self,
        schema: &Value,
        advice: Advice,
        problems: &mut Problems,
    ) -> Option<T> {
        if self.broken.contains(&KeyPath::root()) {
            return None;
        }
        let mut found = Vec::new();
        let mut root = std::mem::take(&mut self.root);
        let whole = Shape::new(schema, advice, &mut found).check(&mut root);
        self.root = root;
        for (key, message) in found {
            problems.add(&self.file, self.line(&key), key.clone(), message);
            self.broken.push(key);
        }
        if !whole {
            return None;
        }
        // The schema may let something through that the type does not.
        let mut found = Vec::new();
        let read = refused::read(&mut self.root, &mut found);
        for (key, message) in found {
            problems.add(&self.file, self.line(&key), key.clone(), message);
            self.broken.push(key);
        }
        read
    }

    /// A document that was written as JSON: its values have no lines, only keys.
    pub fn of(file: &Path, root: Value) -> Self {
        Self { root, ..Self::empty(file) }
    }

    /// The file's name.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// The line of a value, or of the nearest thing around it that has one.
    pub fn line(&self, key: &KeyPath) -> u32 {
        let mut at = Some(key.clone());
        while let Some(path) = at {
            if let Some(line) = self.lines.get(&path) {
                return *line;
            }
            at = path.parent();
        }
        0
    }

    /// Whether the file says something at `key`, right or wrong.
    pub fn mentions(&self, key: &KeyPath) -> bool {
        self.lines.contains_key(key)
    }

    /// Reports a problem of meaning at `key`, unless it only follows from one of shape.
    pub fn report(&self, problems: &mut Problems, key: KeyPath, message: impl Into<String>) {
        if !self.is_broken(&key) {
            problems.add(&self.file, self.line(&key), key, message);
        }
    }

    /// Reports a problem of a table as a whole, such as its name, whatever is wrong in it.
    pub fn report_whole(&self, problems: &mut Problems, key: KeyPath, message: impl Into<String>) {
        if !self.broken.iter().any(|broken| broken.holds(&key)) {
            problems.add(&self.file, self.line(&key), key, message);
        }
    }

    /// Whether something at, in or around `key` had the wrong shape and was taken out.
    pub fn is_broken(&self, key: &KeyPath) -> bool {
        self.broken.iter().any(|broken| broken.holds(key) || key.holds(broken))
    }

    fn table(
        &mut self,
        table: &DeTable<'_>,
        path: &KeyPath,
        lines: &Lines,
        problems: &mut Problems,
    ) -> Map<String, Value> {
        let mut map = Map::new();
        for (key, value) in table {
            let path = path.key(key.get_ref());
            self.lines.insert(path.clone(), lines.at(key.span().start));
            if let Some(value) = self.value(value.get_ref(), &path, lines, problems) {
                map.insert(key.get_ref().clone().into_owned(), value);
            }
        }
        map
    }

    fn value(
        &mut self,
        value: &DeValue<'_>,
        path: &KeyPath,
        lines: &Lines,
        problems: &mut Problems,
    ) -> Option<Value> {
        match value {
            DeValue::String(text) => Some(Value::String(text.clone().into_owned())),
            DeValue::Boolean(truth) => Some(Value::Bool(*truth)),
            DeValue::Datetime(time) => Some(Value::String(time.to_string())),
            DeValue::Integer(digits) => i64::from_str_radix(digits.as_str(), digits.radix())
                .map(|number| Value::Number(number.into()))
                .map_err(|_| self.unreadable(path, "the number is too large", problems))
                .ok(),
            DeValue::Float(digits) => {
                digits.as_str().parse().ok().and_then(Number::from_f64).map(Value::Number).or_else(
                    || {
                        self.unreadable(path, "the number must be finite", problems);
                        None
                    },
                )
            }
            DeValue::Array(items) => {
                let mut array = Vec::with_capacity(items.len());
                for (index, item) in items.iter().enumerate() {
                    let path = path.index(index);
                    self.lines.insert(path.clone(), lines.at(item.span().start));
                    array.push(self.value(item.get_ref(), &path, lines, problems)?);
                }
                Some(Value::Array(array))
            }
            DeValue::Table(table) => Some(Value::Object(self.table(table, path, lines, problems))),
        }
    }

    fn unreadable(&mut self, path: &KeyPath, message: &str, problems: &mut Problems) {
        problems.add(&self.file, self.line(path), path.clone(), message);
        self.broken.push(path.clone());
    }
}

/// The parser's words, and what it nearly always is when it stumbles over a number.
fn syntax_message(message: &str) -> String {
    let number =
        ["float", "integer", "number", "datetime"].iter().any(|word| message.contains(word));
    let hint = if number { "; text stands in quotes" } else { "" };
    format!("not valid TOML: {message}{hint}")
}

// === impl Lines ===

impl Lines {
    fn of(text: &str) -> Self {
        let starts = memchr::memchr_iter(b'\n', text.as_bytes()).map(|at| at + 1);
        Self(std::iter::once(0).chain(starts).collect())
    }

    /// The line, from 1, that the byte at `offset` stands on.
    fn at(&self, offset: usize) -> u32 {
        u32::try_from(self.0.partition_point(|start| *start <= offset)).unwrap_or(u32::MAX)
    }
}
