//! Assertions as they are written down again: promptfoo's form, templates filled in.

use serde_json::{Map, Value, json};

use super::{Entry, Rule, RuleSet};
use crate::compat::suite::Case;

// === impl Case ===

impl Case {
    /// What must be true of an answer, in promptfoo's form, with the defaults of its file.
    pub fn asserts(&self) -> Vec<Value> {
        let entries = self.rules.entries.iter().map(|entry| match entry {
            Entry::One(rule) => rule.written(),
            Entry::Set(set) => set.written(),
        });
        let prefer = self.prefer.iter();
        let prefer = prefer.map(|criteria| json!({"type": "select-best", "value": criteria}));
        entries.chain(prefer).collect()
    }

    /// The mean score from which it is passed, whatever single assertions say.
    pub fn threshold(&self) -> Option<f64> {
        self.rules.threshold
    }
}

// === impl Rule ===

impl Rule {
    fn written(&self) -> Value {
        let members = [
            ("type", Some(json!(self.kind))),
            ("value", self.value.clone()),
            ("threshold", self.threshold.map(|threshold| json!(threshold))),
            ("weight", weight(self.weight)),
            ("metric", self.metric.as_ref().map(|metric| json!(metric))),
        ];
        object(members)
    }
}

// === impl RuleSet ===

impl RuleSet {
    fn written(&self) -> Value {
        let rules: Value = self.rules.iter().map(|rule| rule.written()).collect();
        let members = [
            ("type", Some(json!("assert-set"))),
            ("threshold", self.threshold.map(|threshold| json!(threshold))),
            ("weight", weight(self.weight)),
            ("assert", Some(rules)),
        ];
        object(members)
    }
}

/// A weight where it is not the usual one.
fn weight(weight: f64) -> Option<Value> {
    #[expect(clippy::float_cmp, reason = "1.0 is what stands for nothing written")]
    (weight != 1.0).then(|| json!(weight))
}

fn object<const N: usize>(members: [(&str, Option<Value>); N]) -> Value {
    let said = members.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    Value::Object(said.collect::<Map<_, _>>())
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::compat::suite::{NewCase, Suite, write_cases};
    use crate::problems::Problems;

    const SUITE: &str = r#"
defaultTest:
  assert: [{type: not-is-refusal}]
tests:
  - metadata: {id: a, reference: 'It is {{ this }}.'}
    options: {disableVarExpansion: true}
    vars: {name: Ada, facts: [one, two], odd: "a {{ b }}"}
    threshold: 0.5
    assert:
      - {type: icontains-any, value: ['{{name}}', x, '%}'], weight: 2, metric: who}
      - {type: regex, value: '^\d{2}'}
      - {type: similar, value: golden, threshold: 0.6}
      - {type: length, value: {chars: {max: 9}}}
      - {type: assert-set, threshold: 0.5, assert: [{type: contains, value: b}, {type: cost, threshold: 0.1}]}
      - {type: select-best, value: 'is short'}
"#;

    fn read(text: &str) -> Case {
        let mut problems = Problems::new();
        let suite = Suite::parse("s", &[(PathBuf::from("s.yaml"), text.to_owned())], &mut problems);
        suite.unwrap_or_else(|| panic!("{problems}: {text}")).cases.remove(0)
    }

    #[test]
    fn what_is_written_again_is_the_same_case() {
        let case = read(SUITE);
        let mut metadata = Map::new();
        metadata.insert("reference".to_owned(), json!(case.reference));
        let again = NewCase {
            id: case.id.clone(),
            description: String::new(),
            category: case.category,
            is_critical: false,
            incident: None,
            tags: Vec::new(),
            metadata,
            vars: case.vars.clone(),
            asserts: case.asserts(),
            threshold: case.threshold(),
        };
        let text = write_cases(&[again]);
        let again = read(&text);
        assert_eq!(again.asserts(), case.asserts(), "{text}");
        assert_eq!((&again.vars, again.threshold()), (&case.vars, Some(0.5)));
        assert_eq!((&again.reference, &again.prefer), (&case.reference, &case.prefer));
        assert_eq!(again.asserts().len(), 7, "{text}");
    }
}
