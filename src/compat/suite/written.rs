//! A test as it is written, with what it inherits.

use serde_json::{Map, Value};

use super::read::{At, Fate, Reading};
use super::tree::Yaml;
use super::{MAX_CASES, MAX_ID_CHARS};
use crate::compat::Category;
use crate::problems::nearest;

/// How many rounds of `{{name}}` within variables are filled in, as in promptfoo.
const ROUNDS: usize = 5;

#[rustfmt::skip] // A table reads best as a table.
const KEYS: &[(&str, Fate)] = &[
    ("assert",                Fate::Read),
    ("assertScoringFunction", Fate::Unsupported("suites run no code")),
    ("description",           Fate::Read),
    ("metadata",              Fate::Read),
    ("options",               Fate::Read),
    ("prompts",               Fate::Unsupported("a run names one prompt for each side")),
    ("provider",              Fate::Unsupported("a run names the models")),
    ("providerOutput",        Fate::Unsupported("answers come from models")),
    ("providers",             Fate::Unsupported("a run names the models")),
    ("threshold",             Fate::Read),
    ("vars",                  Fate::Read),
];

#[rustfmt::skip] // A table reads best as a table.
const OPTIONS: &[(&str, Fate)] = &[
    ("disableConversationVar", Fate::LeftOut),
    ("disableDefaultAsserts",  Fate::Read),
    ("disableVarExpansion",    Fate::Read),
    ("factuality",             Fate::Unsupported("the five categories have promptfoo's scores")),
    ("postprocess",            Fate::Unsupported("suites run no code")),
    ("prefix",                 Fate::Unsupported("write it into the prompt")),
    ("provider",               Fate::LeftOut),
    ("response_format",        Fate::Unsupported("it stands in the prompt or at the model")),
    ("rubricPrompt",           Fate::Unsupported("the judge's prompt is the gateway's own")),
    ("runSerially",            Fate::LeftOut),
    ("storeOutputAs",          Fate::Unsupported("cases do not depend on each other")),
    ("suffix",                 Fate::Unsupported("write it into the prompt")),
    ("transform",              Fate::Unsupported("suites run no code")),
    ("transformVars",          Fate::Unsupported("suites run no code")),
];

/// A test as it is written, or several laid over each other.
#[derive(Debug, Clone, Default)]
pub(super) struct Written<'a> {
    pub(super) description: Option<String>,
    pub(super) vars: Map<String, Value>,
    pub(super) asserts: Vec<At<'a>>,
    pub(super) threshold: Option<f64>,
    pub(super) metadata: Map<String, Value>,
    is_unexpanded: Option<bool>,
    drops_defaults: Option<bool>,
}

/// `defaultTest`.
pub(super) fn defaults<'a>(reading: &mut Reading<'_>, at: Option<&At<'a>>) -> Written<'a> {
    at.map(|at| written(reading, at)).unwrap_or_default()
}

pub(super) fn written<'a>(reading: &mut Reading<'_>, at: &At<'a>) -> Written<'a> {
    if let Some(text) = at.text() {
        if !reading.is_file(at, text) {
            reading.wrong_kind(at, "a test");
        }
        return Written::default();
    }
    if !matches!(at.node.value, Yaml::Table(_)) {
        reading.wrong_kind(at, "a test");
        return Written::default();
    }
    let keys = reading.keys(at, "tests", KEYS);
    let mut read = Written {
        description: keys.get("description").and_then(|at| reading.text(at)),
        vars: keys.get("vars").map(|at| vars(reading, at)).unwrap_or_default(),
        asserts: keys.get("assert").map(|at| list(reading, at)).unwrap_or_default(),
        threshold: keys.get("threshold").and_then(|at| reading.number(at, (0.0, f64::INFINITY))),
        ..Written::default()
    };
    if let Some(at) = keys.get("metadata") {
        read.metadata = table(reading, at);
        check_metadata(reading, at);
    }
    if let Some(at) = keys.get("options") {
        let options = reading.keys(at, "options", OPTIONS);
        let mut truth = |name: &str| options.get(name).and_then(|at| reading.truth(at));
        read.is_unexpanded = truth("disableVarExpansion");
        read.drops_defaults = truth("disableDefaultAsserts");
    }
    read
}

fn table(reading: &mut Reading<'_>, at: &At<'_>) -> Map<String, Value> {
    match at.node.json() {
        Value::Object(members) => members,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            reading.wrong_kind(at, "a table");
            Map::new()
        }
    }
}

pub(super) fn list<'a>(reading: &mut Reading<'_>, at: &At<'a>) -> Vec<At<'a>> {
    if !matches!(at.node.value, Yaml::List(_)) {
        reading.wrong_kind(at, "a list");
    }
    at.items()
}

fn vars(reading: &mut Reading<'_>, at: &At<'_>) -> Map<String, Value> {
    for (_, member) in at.members() {
        let members = member.items();
        for at in members.iter().chain([&member]) {
            if let Some(text) = at.text() {
                reading.is_file(at, text);
            }
        }
    }
    table(reading, at)
}

/// What is ours in `metadata`.
fn check_metadata(reading: &mut Reading<'_>, at: &At<'_>) {
    for (name, member) in at.members() {
        match name {
            "id" => {
                let is_id = |id: &str| {
                    !id.is_empty()
                        && id.chars().count() <= MAX_ID_CHARS
                        && id.trim() == id
                        && !id.chars().any(char::is_control)
                };
                if member.text().is_none_or(|id| !is_id(id)) {
                    let message = format!("must be a text of 1 to {MAX_ID_CHARS} characters");
                    reading.report(&member, message);
                }
            }
            "category" if member.text().and_then(category).is_none() => {
                let near = member.text().and_then(|word| nearest(word, CATEGORIES));
                let hint = match near {
                    Some(near) => format!("; did you mean `{near}`?"),
                    None => String::new(),
                };
                let message = format!("must be one of {}{hint}", CATEGORIES.join(", "));
                reading.report(&member, message);
            }
            "critical" | "smoke" => _ = reading.truth(&member),
            "incident" | "reference" => _ = reading.text(&member),
            "tags" => {
                let is_texts = !member.items().is_empty()
                    && member.items().iter().all(|item| item.text().is_some());
                if !is_texts && member.text().is_none() {
                    reading.wrong_kind(&member, "a list of texts");
                }
            }
            _ => {}
        }
    }
}

const CATEGORIES: [&str; 4] = ["functional", "semantic", "edge", "performance"];

pub(super) fn category(word: &str) -> Option<Category> {
    match word {
        "functional" => Some(Category::Functional),
        "semantic" => Some(Category::Semantic),
        "edge" => Some(Category::Edge),
        "performance" => Some(Category::Performance),
        _ => None,
    }
}

// === impl Written ===

impl<'a> Written<'a> {
    /// This with `other` laid over it: what that says wins, assertions add up.
    pub(super) fn under(&self, other: &Self) -> Self {
        let mut both = self.clone();
        both.description = other.description.clone().or(both.description);
        both.vars.extend(other.vars.clone());
        if other.drops_defaults == Some(true) {
            both.asserts.clear();
        }
        both.asserts.extend(other.asserts.iter().cloned());
        both.threshold = other.threshold.or(both.threshold);
        both.metadata.extend(other.metadata.clone());
        both.is_unexpanded = other.is_unexpanded.or(both.is_unexpanded);
        both
    }

    /// All combinations of variables that are lists of texts.
    pub(super) fn expanded(&self) -> Result<Vec<Map<String, Value>>, String> {
        let mut all = vec![Map::new()];
        for (name, value) in &self.vars {
            let is_choice = |items: &&Vec<Value>| {
                self.is_unexpanded != Some(true) && items.first().is_some_and(Value::is_string)
            };
            let choices = value.as_array().filter(is_choice);
            let choices = choices.map_or(std::slice::from_ref(value), Vec::as_slice);
            if all.len().saturating_mul(choices.len()) > MAX_CASES {
                return Err(format!("its variables come to more than {MAX_CASES} cases"));
            }
            let with = |vars: &Map<String, Value>, choice: &Value| {
                let mut vars = vars.clone();
                vars.insert(name.clone(), choice.clone());
                vars
            };
            all = all
                .iter()
                .flat_map(|vars| choices.iter().map(move |choice| with(vars, choice)))
                .collect();
        }
        Ok(all)
    }
}

/// Takes a line's end from the end of texts, and fills in variables that stand in others.
pub(super) fn settle(vars: &mut Map<String, Value>) {
    for value in vars.values_mut() {
        if let Value::String(text) = value
            && text.ends_with('\n')
        {
            text.pop();
        }
    }
    for _ in 0..ROUNDS {
        let names: Vec<String> = vars.keys().cloned().collect();
        let mut is_changed = false;
        for name in names {
            let Some(Value::String(text)) = vars.get(&name) else { continue };
            let Some((before, other, after)) = placeholder(text) else { continue };
            let Some(value) = vars.get(other).filter(|_| other != name) else { continue };
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            let whole = format!("{before}{value}{after}");
            vars.insert(name, Value::String(whole));
            is_changed = true;
        }
        if !is_changed {
            break;
        }
    }
}

/// The first `{{ name }}` of a text, and what is around it.
fn placeholder(text: &str) -> Option<(&str, &str, &str)> {
    let (before, rest) = text.split_once("{{")?;
    let (name, after) = rest.split_once("}}")?;
    let name = name.trim();
    let is_name = !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || c == '_');
    is_name.then_some((before, name, after))
}
