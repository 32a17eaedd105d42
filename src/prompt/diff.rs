//! What differs between two versions: in words, and line by line.

use std::collections::BTreeSet;
use std::fmt::Write;

use serde_json::Value;

use super::{Change, Prompt, quoted};

/// What differs between two versions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// How much: what the number has to say.
    pub change: Change,
    /// What, each in a few words.
    pub what: Vec<String>,
    /// The lines that went (`-`), came (`+`) and stand around them, with `@@` where some are left
    /// out.
    pub lines: String,
}

/// Lines that are shown around a change.
const AROUND: usize = 3;
/// Above this product of numbers of lines a change is shown as a whole: nobody reads it by line.
const MAX_CELLS: usize = 4_000_000;

/// A line, and on which side it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line<'a> {
    Both(&'a str),
    Before(&'a str),
    After(&'a str),
}

// === impl Difference ===

impl Difference {
    /// What is different in `after`.
    pub fn between(before: &Prompt, after: &Prompt) -> Self {
        let (change, _) = Change::between(before, after);
        let (old, new) = (before.written(), after.written());
        let (old, new): (Vec<_>, Vec<_>) = (old.lines().collect(), new.lines().collect());
        Self { change, what: in_words(before, after), lines: shown(&lines(&old, &new)) }
    }
}

// === impl Prompt ===

impl Prompt {
    /// Everything that counts as its content, as lines.
    fn written(&self) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = writeln!(text, "target_model = {}", self.target_model.as_deref().unwrap_or("-"));
        for (index, (role, content)) in self.messages().enumerate() {
            let _ = writeln!(text, "messages[{index}] {}:", role.as_str());
            for line in content.lines() {
                let _ = writeln!(text, "  {line}");
            }
        }
        let parts = [
            ("parameters", Value::Object(self.parameters.clone())),
            ("variables", self.variables().clone()),
            ("tools", Value::Array(self.tools.clone())),
            ("response_format", self.response_format.clone().unwrap_or_default()),
        ];
        for (name, value) in parts {
            let _ = writeln!(text, "{name} = {value:#}");
        }
        text
    }

    fn variable_names(&self) -> BTreeSet<&str> {
        let properties = self.variables().get("properties").and_then(Value::as_object);
        properties.into_iter().flatten().map(|(name, _)| name.as_str()).collect()
    }
}

fn in_words(before: &Prompt, after: &Prompt) -> Vec<String> {
    let mut what = Vec::new();
    if before.target_model != after.target_model {
        let model = |prompt: &Prompt| prompt.target_model.clone().unwrap_or("none".to_owned());
        let family = if before.family() == after.family() { "" } else { ", another family" };
        what.push(format!("the target model: {} became {}{family}", model(before), model(after)));
    }
    messages_in_words(before, after, &mut what);
    let (old, new) = (before.variable_names(), after.variable_names());
    let came: Vec<_> = new.difference(&old).collect();
    let went: Vec<_> = old.difference(&new).collect();
    if !came.is_empty() {
        what.push(format!("new variables: {}", quoted(came)));
    }
    if !went.is_empty() {
        what.push(format!("variables that went: {}", quoted(went)));
    }
    let property = |prompt: &Prompt, name: &str| {
        prompt.variables().get("properties").and_then(|all| all.get(name)).cloned()
    };
    let other: Vec<_> = old
        .intersection(&new)
        .filter(|name| property(before, name) != property(after, name))
        .collect();
    if !other.is_empty() {
        what.push(format!("variables with other rules: {}", quoted(other)));
    } else if old == new && before.variables() != after.variables() {
        what.push("the rules of the variables as a whole".to_owned());
    }
    let names = before.parameters.keys().chain(after.parameters.keys()).collect::<BTreeSet<_>>();
    let differs = |name: &&String| before.parameters.get(*name) != after.parameters.get(*name);
    let parameters: Vec<_> = names.into_iter().filter(differs).collect();
    if !parameters.is_empty() {
        what.push(format!("parameters: {}", quoted(parameters)));
    }
    if before.tools != after.tools {
        what.push(format!("the tools: {} became {}", before.tools.len(), after.tools.len()));
    }
    if before.response_format != after.response_format {
        what.push("the form of the answer".to_owned());
    }
    what
}

fn messages_in_words(before: &Prompt, after: &Prompt, what: &mut Vec<String>) {
    let (old, new): (Vec<_>, Vec<_>) = (before.messages().collect(), after.messages().collect());
    if old.len() != new.len() {
        what.push(format!("the number of messages: {} became {}", old.len(), new.len()));
    }
    for (index, ((role, text), (new_role, new_text))) in old.into_iter().zip(new).enumerate() {
        if role != new_role {
            let (role, new_role) = (role.as_str(), new_role.as_str());
            what.push(format!("who speaks in messages[{index}]: {role} became {new_role}"));
        }
        if text != new_text {
            let (old, new): (Vec<_>, Vec<_>) = (text.lines().collect(), new_text.lines().collect());
            let lines = lines(&old, &new);
            let went = lines.iter().filter(|line| matches!(line, Line::Before(_))).count();
            let came = lines.iter().filter(|line| matches!(line, Line::After(_))).count();
            let role = new_role.as_str();
            what.push(format!(
                "the wording of messages[{index}] ({role}): {went} lines went, {came} came"
            ));
        }
    }
}

/// The lines of both sides in order, as few as can be of one side alone.
fn lines<'a>(old: &[&'a str], new: &[&'a str]) -> Vec<Line<'a>> {
    let same = |pairs: &mut dyn Iterator<Item = (&&str, &&str)>| {
        pairs.take_while(|(old, new)| old == new).count()
    };
    let head = same(&mut old.iter().zip(new));
    let (old_rest, new_rest) =
        (old.get(head..).unwrap_or_default(), new.get(head..).unwrap_or_default());
    let tail = same(&mut old_rest.iter().rev().zip(new_rest.iter().rev()));
    let (old_mid, old_tail) = old_rest.split_at(old_rest.len() - tail);
    let (new_mid, _) = new_rest.split_at(new_rest.len() - tail);
    let mut lines: Vec<_> = old.iter().take(head).map(|line| Line::Both(line)).collect();
    if old_mid.len().saturating_mul(new_mid.len()) > MAX_CELLS {
        lines.extend(old_mid.iter().map(|line| Line::Before(line)));
        lines.extend(new_mid.iter().map(|line| Line::After(line)));
    } else {
        common(old_mid, new_mid, &mut lines);
    }
    lines.extend(old_tail.iter().map(|line| Line::Both(line)));
    lines
}

/// By the table of the longest common subsequences (Wagner and Fischer, 1974).
fn common<'a>(old: &[&'a str], new: &[&'a str], lines: &mut Vec<Line<'a>>) {
    let width = new.len() + 1;
    let mut table = vec![0_u32; (old.len() + 1) * width];
    let at = |table: &[u32], row: usize, column: usize| {
        table.get(row * width + column).copied().unwrap_or_default()
    };
    for (row, before) in old.iter().enumerate().rev() {
        for (column, after) in new.iter().enumerate().rev() {
            let longest = match before == after {
                true => at(&table, row + 1, column + 1) + 1,
                false => at(&table, row + 1, column).max(at(&table, row, column + 1)),
            };
            if let Some(cell) = table.get_mut(row * width + column) {
                *cell = longest;
            }
        }
    }
    let (mut row, mut column) = (0, 0);
    loop {
        match (old.get(row), new.get(column)) {
            (None, None) => return,
            (Some(before), Some(after)) if before == after => {
                lines.push(Line::Both(before));
                (row, column) = (row + 1, column + 1);
            }
            (Some(before), after) => {
                let goes = at(&table, row + 1, column) >= at(&table, row, column + 1);
                match after.filter(|_| !goes) {
                    Some(after) => {
                        lines.push(Line::After(after));
                        column += 1;
                    }
                    None => {
                        lines.push(Line::Before(before));
                        row += 1;
                    }
                }
            }
            (None, Some(after)) => {
                lines.push(Line::After(after));
                column += 1;
            }
        }
    }
}

/// Changes, and a few lines around each.
fn shown(lines: &[Line<'_>]) -> String {
    let is_change = |line: &Line<'_>| !matches!(line, Line::Both(_));
    let mut text = String::new();
    let mut left_out = false;
    for (index, line) in lines.iter().enumerate() {
        let from = index.saturating_sub(AROUND);
        let near = lines.get(from..lines.len().min(index + AROUND + 1)).unwrap_or_default();
        if !near.iter().any(is_change) {
            left_out = true;
            continue;
        }
        if std::mem::take(&mut left_out) {
            text.push_str("@@\n");
        }
        let (mark, line) = match line {
            Line::Both(line) => (' ', line),
            Line::Before(line) => ('-', line),
            Line::After(line) => ('+', line),
        };
        // Writing to a string does not fail.
        let _ = writeln!(text, "{mark}{line}");
    }
    text
}
