//! YAML as a tree that knows the line of each value.
//!
//! The scalars are read as promptfoo's parser reads them: the core schema of YAML 1.2, and merge
//! keys (`<<`). JSON is YAML. A file is bounded in its bytes, and its tree in depth and in what
//! aliases may make of it.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use saphyr_parser::{Event, Parser, ScalarStyle, Span, Tag};
use serde_json::{Map, Number, Value};

/// The longest file.
pub(super) const MAX_BYTES: usize = 16 << 20;
/// How deep values may be within each other.
const MAX_DEPTH: usize = 64;
/// How many values a file may have, aliases written out. A value counts once more for each 64
/// bytes.
const MAX_WEIGHT: usize = 1_500_000;

/// The key that takes in another table.
const MERGE: &str = "<<";

/// A value and where it stands.
#[derive(Debug, Clone)]
pub(super) struct Node {
    /// From 1; 0 where it is not known.
    pub(super) line: u32,
    /// Of a scalar: its characters in the text, and whether it stands on its own, so that another
    /// value may be put in its place.
    pub(super) place: Option<Range<u32>>,
    pub(super) value: Yaml,
}

/// A value.
#[derive(Debug, Clone)]
pub(super) enum Yaml {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Node>),
    Table(Vec<(Key, Node)>),
}

/// The name of a member.
#[derive(Debug, Clone)]
pub(super) struct Key {
    pub(super) name: String,
    pub(super) line: u32,
}

/// What is wrong: the line, from 1, and why.
pub(super) type Fault = (u32, String);

/// Reads one document. What makes it useless is an error; what does not is noted in `faults`.
pub(super) fn parse(text: &str, faults: &mut Vec<Fault>) -> Result<Node, Fault> {
    if text.len() > MAX_BYTES {
        return Err((0, format!("is longer than {} MB", MAX_BYTES >> 20)));
    }
    let mut load =
        Load { open: Vec::new(), anchors: HashMap::new(), weight: 0, root: None, faults };
    let mut documents = 0_u32;
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| {
            (whole(error.marker().line()), format!("not valid YAML: {}", error.info()))
        })?;
        if matches!(event, Event::DocumentStart(_)) {
            documents += 1;
            if documents > 1 {
                let line = whole(span.start.line());
                return Err((line, "a second document begins; a file is one document".to_owned()));
            }
        }
        load.take(event, span)?;
    }
    Ok(load.root.unwrap_or(Node { line: 1, place: None, value: Yaml::Null }))
}

/// Something that is not over yet.
struct Open {
    line: u32,
    anchor: usize,
    held: Held,
}

enum Held {
    List(Vec<Node>),
    Table(Members),
}

/// A table that is not over yet.
#[derive(Default)]
struct Members {
    all: Vec<(Key, Node)>,
    names: HashSet<String>,
    /// Whose value comes next.
    key: Option<Key>,
}

struct Load<'a> {
    open: Vec<Open>,
    anchors: HashMap<usize, Node>,
    weight: usize,
    root: Option<Node>,
    faults: &'a mut Vec<Fault>,
}

// === impl Load ===

impl Load<'_> {
    fn take(&mut self, event: Event<'_>, span: Span) -> Result<(), Fault> {
        let line = whole(span.start.line());
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                if self.wants_key() {
                    return self.key(text.into_owned(), line);
                }
                let is_inline = !matches!(style, ScalarStyle::Literal | ScalarStyle::Folded);
                let place = is_inline.then(|| whole(span.start.index())..whole(span.end.index()));
                let value = scalar(&text, style, tag.as_deref()).map_err(|why| (line, why))?;
                self.put(Node { line, place, value }, anchor)
            }
            Event::SequenceStart(anchor, tag) => {
                self.begin(Held::List(Vec::new()), (line, anchor), tag.as_deref())
            }
            Event::MappingStart(anchor, tag) => {
                self.begin(Held::Table(Members::default()), (line, anchor), tag.as_deref())
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(),
            Event::Alias(anchor) => {
                let node = self.anchors.get(&anchor).cloned();
                let node = node.ok_or((line, "an alias within what it stands for".to_owned()))?;
                if self.wants_key() {
                    return Err((line, "a key must be a text".to_owned()));
                }
                self.check(&node, self.open.len(), line)?;
                self.put(Node { line, place: None, ..node }, 0)
            }
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd => Ok(()),
        }
    }

    fn wants_key(&self) -> bool {
        matches!(self.open.last(), Some(Open { held: Held::Table(Members { key: None, .. }), .. }))
    }

    fn key(&mut self, name: String, line: u32) -> Result<(), Fault> {
        self.weight += name.len() / 64;
        if let Some(Open { held: Held::Table(members), .. }) = self.open.last_mut() {
            members.key = Some(Key { name, line });
        }
        Ok(())
    }

    fn begin(
        &mut self,
        held: Held,
        (line, anchor): (u32, usize),
        tag: Option<&Tag>,
    ) -> Result<(), Fault> {
        if self.wants_key() {
            return Err((line, "a key must be a text".to_owned()));
        }
        if let Some(tag) = tag.filter(|tag| !is_core(tag, &["seq", "map"])) {
            return Err((line, format!("the tag `{tag}` is not known")));
        }
        if self.open.len() >= MAX_DEPTH {
            return Err((line, format!("is more than {MAX_DEPTH} levels deep")));
        }
        self.open.push(Open { line, anchor, held });
        Ok(())
    }

    fn end(&mut self) -> Result<(), Fault> {
        let Some(Open { line, anchor, held }) = self.open.pop() else { return Ok(()) };
        let value = match held {
            Held::List(items) => Yaml::List(items),
            Held::Table(members) => Yaml::Table(self.merged(members)),
        };
        self.put(Node { line, place: None, value }, anchor)
    }

    fn put(&mut self, node: Node, anchor: usize) -> Result<(), Fault> {
        let text = if let Yaml::Text(text) = &node.value { text.as_str() } else { "" };
        self.weigh(text, node.line)?;
        if anchor > 0 {
            self.check(&node, self.open.len(), node.line)?;
            self.anchors.insert(anchor, node.clone());
        }
        match self.open.last_mut().map(|open| &mut open.held) {
            None => self.root = Some(node),
            Some(Held::List(items)) => items.push(node),
            Some(Held::Table(members)) => {
                if let Some(key) = members.key.take() {
                    if members.names.insert(key.name.clone()) || key.name == MERGE {
                        members.all.push((key, node));
                    } else {
                        self.faults.push((key.line, format!("the key `{}` comes twice", key.name)));
                    }
                }
            }
        }
        Ok(())
    }

    /// Writes out merge keys. A member that is written wins, then the first that is merged.
    fn merged(&mut self, members: Members) -> Vec<(Key, Node)> {
        let Members { all, mut names, .. } = members;
        if !names.contains(MERGE) {
            return all;
        }
        let (merges, mut own): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|(key, _)| key.name == MERGE);
        for (key, node) in merges {
            let sources = if let Yaml::List(items) = node.value { items } else { vec![node] };
            for source in sources {
                let Yaml::Table(members) = source.value else {
                    self.faults.push((key.line, "only tables can be merged by `<<`".to_owned()));
                    continue;
                };
                own.extend(members.into_iter().filter(|(key, _)| names.insert(key.name.clone())));
            }
        }
        own
    }

    fn weigh(&mut self, text: &str, line: u32) -> Result<(), Fault> {
        self.weight += 1 + text.len() / 64;
        if self.weight > MAX_WEIGHT {
            return Err((line, "has too many values, with its aliases written out".to_owned()));
        }
        Ok(())
    }

    /// Counts a copy of a node, and holds its depth against the limit.
    fn check(&mut self, node: &Node, depth: usize, line: u32) -> Result<(), Fault> {
        if depth > MAX_DEPTH {
            return Err((line, format!("is more than {MAX_DEPTH} levels deep")));
        }
        match &node.value {
            Yaml::Text(text) => self.weigh(text, line),
            Yaml::Null | Yaml::Bool(_) | Yaml::Number(_) => self.weigh("", line),
            Yaml::List(items) => {
                self.weigh("", line)?;
                items.iter().try_for_each(|item| self.check(item, depth + 1, line))
            }
            Yaml::Table(members) => {
                self.weigh("", line)?;
                for (key, member) in members {
                    self.weight += key.name.len() / 64;
                    self.check(member, depth + 1, line)?;
                }
                Ok(())
            }
        }
    }
}

// === impl Node ===

impl Node {
    /// Without lines.
    pub(super) fn json(&self) -> Value {
        match &self.value {
            Yaml::Null => Value::Null,
            Yaml::Bool(truth) => Value::Bool(*truth),
            Yaml::Number(number) => Value::Number(number.clone()),
            Yaml::Text(text) => Value::String(text.clone()),
            Yaml::List(items) => Value::Array(items.iter().map(Self::json).collect()),
            Yaml::Table(members) => {
                let members = members.iter().map(|(key, member)| (key.name.clone(), member.json()));
                Value::Object(members.collect::<Map<_, _>>())
            }
        }
    }

    /// What it is, for people.
    pub(super) const fn kind(&self) -> &'static str {
        match &self.value {
            Yaml::Null => "nothing",
            Yaml::Bool(_) => "a boolean",
            Yaml::Number(_) => "a number",
            Yaml::Text(_) => "a text",
            Yaml::List(_) => "a list",
            Yaml::Table(_) => "a table",
        }
    }
}

/// What a scalar is. Only a plain one can be something else than text.
fn scalar(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Result<Yaml, String> {
    let is_plain = style == ScalarStyle::Plain;
    match tag {
        None if is_plain => Ok(plain(text)),
        None => Ok(Yaml::Text(text.to_owned())),
        Some(tag) if is_core(tag, &["str"]) => Ok(Yaml::Text(text.to_owned())),
        Some(tag) if is_core(tag, &["int", "float", "bool", "null"]) => Ok(plain(text)),
        Some(tag) if tag.handle == "!" && tag.suffix.is_empty() => Ok(Yaml::Text(text.to_owned())),
        Some(tag) => Err(format!("the tag `{tag}` is not known")),
    }
}

/// Whether a tag is one of these of the core schema.
fn is_core(tag: &Tag, names: &[&str]) -> bool {
    tag.is_yaml_core_schema() && names.contains(&tag.suffix.as_str())
}

fn plain(text: &str) -> Yaml {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Yaml::Null,
        "true" | "True" | "TRUE" => Yaml::Bool(true),
        "false" | "False" | "FALSE" => Yaml::Bool(false),
        _ => number(text).map_or_else(|| Yaml::Text(text.to_owned()), Yaml::Number),
    }
}

/// A number of the core schema: `12`, `-1.5e3`, `0x1f`, `0o17`.
fn number(text: &str) -> Option<Number> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(rest) => (-1_i64, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    for (prefix, radix) in [("0x", 16), ("0o", 8), ("0b", 2)] {
        if let Some(digits) = digits.strip_prefix(prefix) {
            let is_digit = |c: char| c.is_digit(radix);
            let whole = digits.chars().all(is_digit).then(|| i64::from_str_radix(digits, radix));
            return whole?.ok().map(|number| Number::from(number * sign));
        }
    }
    let first = digits.chars().next()?;
    let is_number = (first.is_ascii_digit() || first == '.')
        && digits.chars().all(|c| c.is_ascii_digit() || matches!(c, '.' | 'e' | 'E' | '+' | '-'))
        && digits.chars().any(|c| c.is_ascii_digit());
    if !is_number {
        return None;
    }
    if digits.bytes().all(|byte| byte.is_ascii_digit())
        && let Ok(number) = digits.parse::<i64>()
    {
        return Some(Number::from(number * sign));
    }
    text.strip_prefix('+').unwrap_or(text).parse::<f64>().ok().and_then(Number::from_f64)
}

fn whole(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
