//! Tests: what is asked, and what must be true of the answers.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::asserts::Drafted;
use super::read::{At, Fate, Reading, short};
use super::tree::Yaml;
use super::written::{Written, category, list, settle, written};
use super::{Case, MAX_CASES, MAX_ID_CHARS};
use crate::compat::assertion::{Rule, Rules};

#[rustfmt::skip] // A table reads best as a table.
const SCENARIO: &[(&str, Fate)] = &[
    ("config",      Fate::Read),
    ("description", Fate::Silent),
    ("tests",       Fate::Read),
];

/// What has been read of the tests.
#[derive(Default)]
pub(super) struct Tests {
    pub(super) cases: Vec<Case>,
    ids: HashSet<String>,
    /// Assertions that were read before, by what they say.
    pub(super) rules: HashMap<String, Arc<Rule>>,
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
        if at.get("path").is_some() {
            let message =
                "`path` is for tests that code makes, and suites run none; name the file itself";
            return reading.report(at, message);
        }
        for item in list(reading, at) {
            // A file of tests stands as a list where one of several files is named.
            if matches!(item.node.value, Yaml::List(_)) {
                self.list(reading, &item, defaults);
                continue;
            }
            // What was not put in is no test, and no case with an id that another one has.
            if item.text().is_some_and(|text| reading.is_file(&item, text)) {
                continue;
            }
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
            let (file, line) = reading.place(at);
            let place = (Arc::from(file), line);
            let number = is_several.then_some(number + 1);
            let case = case(reading, (test, place), vars, drafted, number);
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
}

fn case(
    reading: &Reading<'_>,
    (test, place): (&Written<'_>, (Arc<Path>, u32)),
    vars: Map<String, Value>,
    drafted: Drafted,
    number: Option<usize>,
) -> Case {
    let metadata = &test.metadata;
    let text = |name: &str| metadata.get(name).and_then(Value::as_str).map(str::to_owned);
    let is = |name: &str| metadata.get(name).and_then(Value::as_bool).unwrap_or_default();
    let description = test.description.clone().unwrap_or_default();
    let description = reading.filler.fill(&description, &vars).unwrap_or(description);
    let mut said = json!({
        "vars": vars,
        "rules": drafted.said,
        "threshold": test.threshold,
    });
    if let (Some(reference), Some(said)) = (metadata.get("reference"), said.as_object_mut()) {
        said.insert("reference".to_owned(), reference.clone());
    }
    let hash = short(&said);
    // All must hold, so that one twice, or another order, is the same; a mean has weights.
    let likeness = match (&test.threshold, &mut said["rules"]) {
        (None, Value::Array(rules)) => {
            rules.sort_by_cached_key(Value::to_string);
            rules.dedup();
            short(&said)
        }
        _ => hash.clone(),
    };
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
        reference: text("reference"),
        tags,
        vars,
        place,
        hash,
        likeness,
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
