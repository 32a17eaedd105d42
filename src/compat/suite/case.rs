//! Tests: what is asked, and what must be true of the answers.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::read::{At, Fate, Reading, short};
use super::tree::Yaml;
use super::{Case, MAX_CASES};
use crate::compat::Category;
use crate::compat::assertion::{Entry, Known, Rule, RuleSet, Rules, Spec, Wrong, known, names};
use crate::problems::nearest;

/// The longest id.
const MAX_ID_CHARS: usize = 80;
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

#[rustfmt::skip] // A table reads best as a table.
const ASSERT: &[(&str, Fate)] = &[
    ("assert",           Fate::Read),
    ("config",           Fate::Unsupported("the assertions that are read take none")),
    ("contextTransform", Fate::Unsupported("suites run no code")),
    ("metric",           Fate::Read),
    ("provider",         Fate::LeftOut),
    ("rubricPrompt",     Fate::Unsupported("the judge's prompt is the gateway's own")),
    ("threshold",        Fate::Read),
    ("transform",        Fate::Unsupported("suites run no code")),
    ("type",             Fate::Read),
    ("value",            Fate::Read),
    ("weight",           Fate::Read),
];

#[rustfmt::skip] // A table reads best as a table.
const SCENARIO: &[(&str, Fate)] = &[
    ("config",      Fate::Read),
    ("description", Fate::Silent),
    ("tests",       Fate::Read),
];

/// A test as it is written, or several laid over each other.
#[derive(Debug, Clone, Default)]
pub(super) struct Written<'a> {
    description: Option<String>,
    vars: Map<String, Value>,
    asserts: Vec<At<'a>>,
    threshold: Option<f64>,
    metadata: Map<String, Value>,
    is_unexpanded: Option<bool>,
    drops_defaults: Option<bool>,
}

/// What has been read of the tests.
#[derive(Default)]
pub(super) struct Tests {
    pub(super) cases: Vec<Case>,
    ids: HashSet<String>,
    /// Assertions that were read before, by what they say.
    rules: HashMap<String, Arc<Rule>>,
}

/// The rules of one case, as they come together.
#[derive(Default)]
struct Drafted {
    entries: Vec<Entry>,
    prefer: Option<String>,
    /// What they say, for the hash.
    said: Vec<Value>,
}

/// `defaultTest`.
pub(super) fn defaults<'a>(reading: &mut Reading<'_>, at: Option<&At<'a>>) -> Written<'a> {
    at.map(|at| written(reading, at)).unwrap_or_default()
}

fn written<'a>(reading: &mut Reading<'_>, at: &At<'a>) -> Written<'a> {
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

fn list<'a>(reading: &mut Reading<'_>, at: &At<'a>) -> Vec<At<'a>> {
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
                if !member.text().is_some_and(is_id) {
                    let message = format!("must be a text of 1 to {MAX_ID_CHARS} characters");
                    reading.report(&member, message);
                }
            }
            "category" => {
                if !member.text().is_some_and(|word| category(word).is_some()) {
                    let near = member.text().and_then(|word| nearest(word, CATEGORIES));
                    let hint = match near {
                        Some(near) => format!("; did you mean `{near}`?"),
                        None => String::new(),
                    };
                    let message = format!("must be one of {}{hint}", CATEGORIES.join(", "));
                    reading.report(&member, message);
                }
            }
            "critical" | "smoke" => _ = reading.truth(&member),
            "incident" => _ = reading.text(&member),
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

fn category(word: &str) -> Option<Category> {
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
    fn under(&self, other: &Self) -> Self {
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
    fn expanded(&self) -> Result<Vec<Map<String, Value>>, String> {
        let mut all = vec![Map::new()];
        for (name, value) in &self.vars {
            let choices = match value {
                Value::Array(items)
                    if self.is_unexpanded != Some(true)
                        && matches!(items.first(), Some(Value::String(_))) =>
                {
                    items.as_slice()
                }
                value => std::slice::from_ref(value),
            };
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

// === impl Tests ===

impl Tests {
    /// Reads `tests`.
    pub(super) fn list(&mut self, reading: &mut Reading<'_>, at: &At<'_>, defaults: &Written<'_>) {
        if let Some(text) = at.text() {
            if !reading.is_file(at, text) {
                reading.wrong_kind(at, "a list of tests");
            }
            return;
        }
        for item in list(reading, at) {
            let test = written(reading, &item);
            self.add(reading, &item, &defaults.under(&test));
        }
    }

    /// Reads `scenarios`: each of `config` with each of `tests`.
    pub(super) fn scenarios(
        &mut self,
        reading: &mut Reading<'_>,
        at: &At<'_>,
        defaults: &Written<'_>,
    ) {
        for scenario in list(reading, at) {
            if !matches!(scenario.node.value, Yaml::Table(_)) {
                reading.wrong_kind(&scenario, "a table of `config` and `tests`");
                continue;
            }
            let keys = reading.keys(&scenario, "scenarios", SCENARIO);
            let (Some(config), Some(tests)) = (keys.get("config"), keys.get("tests")) else {
                reading.report(&scenario, "needs `config` and `tests`");
                continue;
            };
            let settings: Vec<_> =
                list(reading, config).iter().map(|at| written(reading, at)).collect();
            let tests: Vec<_> =
                list(reading, tests).into_iter().map(|at| (written(reading, &at), at)).collect();
            for (number, setting) in settings.iter().enumerate() {
                for (test, at) in &tests {
                    let mut whole = defaults.under(setting).under(test);
                    if settings.len() > 1 {
                        let description = whole.description.take().unwrap_or_default();
                        whole.description = Some(format!("{description} {}", number + 1));
                        if let Some(Value::String(id)) = whole.metadata.get_mut("id") {
                            *id = format!("{id}-{}", number + 1);
                        }
                    }
                    self.add(reading, at, &whole);
                }
            }
        }
    }

    fn add(&mut self, reading: &mut Reading<'_>, at: &At<'_>, test: &Written<'_>) {
        let all = match test.expanded() {
            Ok(all) => all,
            Err(why) => return reading.report(at, why),
        };
        let is_several = all.len() > 1;
        for (number, mut vars) in all.into_iter().enumerate() {
            if self.cases.len() > MAX_CASES {
                return;
            }
            settle(&mut vars);
            let drafted = self.drafted(reading, &test.asserts, &vars);
            let case = case(reading, test, vars, drafted, is_several.then_some(number + 1));
            if !self.ids.insert(case.id.clone()) {
                let message = format!(
                    "another case has the id `{}`; give one of them a `metadata.id`",
                    case.id
                );
                reading.report(at, message);
            }
            self.cases.push(case);
        }
    }

    fn drafted(
        &mut self,
        reading: &mut Reading<'_>,
        asserts: &[At<'_>],
        vars: &Map<String, Value>,
    ) -> Drafted {
        let mut drafted = Drafted::default();
        for at in asserts {
            let Some((kind, keys)) = assertion(reading, at) else { continue };
            match kind.as_str() {
                "select-best" => {
                    let criteria = keys.get("value").map(|at| filled(reading, at, vars));
                    match criteria.flatten() {
                        Some(Value::String(criteria)) => {
                            drafted.said.push(json!(["select-best", criteria]));
                            drafted.prefer = Some(criteria);
                        }
                        _ => reading.report(at, "`select-best` needs a text as `value`"),
                    }
                }
                "assert-set" => self.set(reading, &keys, vars, &mut drafted),
                _ => {
                    if let Some((rule, said)) = self.rule(reading, (at, &kind), &keys, vars) {
                        drafted.said.push(said);
                        drafted.entries.push(Entry::One(rule));
                    }
                }
            }
        }
        drafted
    }

    fn set(
        &mut self,
        reading: &mut Reading<'_>,
        keys: &HashMap<&str, At<'_>>,
        vars: &Map<String, Value>,
        drafted: &mut Drafted,
    ) {
        let mut rules = Vec::new();
        let mut said = Vec::new();
        for at in keys.get("assert").map(|at| list(reading, at)).unwrap_or_default() {
            let Some((kind, keys)) = assertion(reading, &at) else { continue };
            if ["assert-set", "select-best"].contains(&kind.as_str()) {
                reading.report(&at, format!("`{kind}` cannot stand in an `assert-set`"));
            } else if let Some((rule, what)) = self.rule(reading, (&at, &kind), &keys, vars) {
                rules.push(rule);
                said.push(what);
            }
        }
        let mut number =
            |name: &str| keys.get(name).and_then(|at| reading.number(at, (0.0, f64::INFINITY)));
        let (threshold, weight) = (number("threshold"), number("weight").unwrap_or(1.0));
        drafted.said.push(json!(["assert-set", said, threshold, weight]));
        drafted.entries.push(Entry::Set(RuleSet { rules, threshold, weight }));
    }

    fn rule(
        &mut self,
        reading: &mut Reading<'_>,
        (at, kind): (&At<'_>, &str),
        keys: &HashMap<&str, At<'_>>,
        vars: &Map<String, Value>,
    ) -> Option<(Arc<Rule>, Value)> {
        let mut number =
            |name: &str| keys.get(name).map(|at| reading.number(at, (0.0, f64::INFINITY)));
        let (threshold, weight) = (number("threshold"), number("weight"));
        if threshold == Some(None) || weight == Some(None) {
            return None;
        }
        let (threshold, weight) = (threshold.flatten(), weight.flatten().unwrap_or(1.0));
        let value = match keys.get("value") {
            Some(at) => Some(filled(reading, at, vars)?),
            None => None,
        };
        let metric = keys.get("metric").and_then(|at| reading.text(at));
        let said = json!([kind, value, threshold, weight, metric]);
        let key = said.to_string();
        if let Some(rule) = self.rules.get(&key) {
            return Some((rule.clone(), said));
        }
        let metric = metric.as_deref();
        let spec = Spec { kind, value: value.as_ref(), threshold, weight, metric };
        match Rule::of(&spec) {
            Ok(rule) => {
                let rule = Arc::new(rule);
                self.rules.insert(key, rule.clone());
                Some((rule, said))
            }
            Err(Wrong { key, message }) => {
                let place = keys.get(key).unwrap_or(at);
                let place = At { path: at.path.key(key), ..place.clone() };
                reading.report(&place, message);
                None
            }
        }
    }
}

/// The type and the settings of an assertion; reports what is unknown or cannot be read.
fn assertion<'a>(
    reading: &mut Reading<'_>,
    at: &At<'a>,
) -> Option<(String, HashMap<&'a str, At<'a>>)> {
    if let Some(text) = at.text() {
        if !reading.is_file(at, text) {
            reading.wrong_kind(at, "an assertion");
        }
        return None;
    }
    if at.get("$ref").is_some() {
        reading.report(at, "`$ref` is not supported; use an anchor of YAML, `&name` and `*name`");
        return None;
    }
    let Some(place) = at.get("type") else {
        reading.report(at, "needs `type`");
        return None;
    };
    let kind = reading.text(&place)?;
    let is_ours = ["assert-set", "select-best"].contains(&kind.as_str());
    match known(&kind) {
        Known::Supported => {}
        _ if is_ours => {}
        Known::Unsupported(why) => {
            reading.report(&place, format!("`{kind}` is not supported: {why}"));
            return None;
        }
        Known::Unknown => {
            let hint = match nearest(kind.strip_prefix("not-").unwrap_or(&kind), names()) {
                Some(near) => format!("; did you mean `{near}`?"),
                None => String::new(),
            };
            reading.report(&place, format!("`{kind}` is no assertion that is known{hint}"));
            return None;
        }
    }
    let keys = reading.keys(at, "assert", ASSERT);
    if kind != "assert-set" {
        if let Some(at) = keys.get("assert") {
            reading.report(at, "only `assert-set` has assertions of its own");
        }
    }
    Some((kind, keys))
}

/// The value of an assertion, its texts filled in: itself, or those of a list.
fn filled(reading: &mut Reading<'_>, at: &At<'_>, vars: &Map<String, Value>) -> Option<Value> {
    if at.text().is_some_and(|text| reading.is_file(at, text)) {
        return None;
    }
    let value = at.node.json();
    let texts = match &value {
        Value::String(_) => true,
        Value::Array(items) => !items.iter().any(Value::is_object),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => false,
    };
    if !texts {
        return Some(value);
    }
    match reading.filler.fill_all(&value, vars) {
        Ok(value) => Some(value),
        Err(why) => {
            reading.report(at, why);
            None
        }
    }
}

/// Takes a line's end from the end of texts, and fills in variables that stand in others.
fn settle(vars: &mut Map<String, Value>) {
    for value in vars.values_mut() {
        if let Value::String(text) = value {
            if text.ends_with('\n') {
                text.pop();
            }
        }
    }
    for _ in 0..ROUNDS {
        let names: Vec<String> = vars.keys().cloned().collect();
        let mut is_changed = false;
        for name in names {
            let Some(Value::String(text)) = vars.get(&name) else { continue };
            let Some((before, other, after)) = placeholder(text) else { continue };
            let Some(value) = vars.get(other).filter(|_| other != name) else { continue };
            let value = match value {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
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

fn case(
    reading: &Reading<'_>,
    test: &Written<'_>,
    vars: Map<String, Value>,
    drafted: Drafted,
    number: Option<usize>,
) -> Case {
    let metadata = &test.metadata;
    let text = |name: &str| metadata.get(name).and_then(Value::as_str).map(str::to_owned);
    let is = |name: &str| metadata.get(name).and_then(Value::as_bool).unwrap_or_default();
    let description = test.description.clone().unwrap_or_default();
    let description = reading.filler.fill(&description, &vars).unwrap_or(description);
    let hash = short(&json!({
        "vars": vars,
        "rules": drafted.said,
        "threshold": test.threshold,
    }));
    let id = text("id").or_else(|| Some(slug(&description)).filter(|id| !id.is_empty()));
    let id = match (id, number) {
        // What variables come to may be in the description already.
        (Some(id), Some(number)) => format!("{id}-{number}"),
        (Some(id), None) => id,
        (None, _) => format!("case-{}", hash.chars().take(12).collect::<String>()),
    };
    let tags = match metadata.get("tags") {
        Some(Value::Array(tags)) => {
            tags.iter().filter_map(|tag| tag.as_str().map(str::to_owned)).collect()
        }
        Some(Value::String(tag)) => vec![tag.clone()],
        Some(_) | None => Vec::new(),
    };
    Case {
        id,
        description,
        category: text("category").and_then(|word| category(&word)).unwrap_or_default(),
        is_critical: is("critical"),
        is_smoke: is("smoke"),
        incident: text("incident"),
        tags,
        vars,
        hash,
        prefer: drafted.prefer,
        rules: Rules { entries: drafted.entries, threshold: test.threshold },
    }
}

/// A description as an id: letters, digits and hyphens.
fn slug(description: &str) -> String {
    let words: Vec<String> = description
        .to_lowercase()
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect();
    let slug: String = words.join("-").chars().take(MAX_ID_CHARS).collect();
    slug.trim_end_matches('-').to_owned()
}
