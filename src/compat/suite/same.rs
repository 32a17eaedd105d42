//! Cases that ask the same and are graded alike: the copy of a case that has become an incident,
//! beside the case itself. What fails one fails the other, so that they are one case.

use std::collections::HashMap;

use super::{Case, Suite};
use crate::compat::Same;

// === impl Suite ===

impl Suite {
    /// Cases that are the same as another one, in the order of the suite: with the same variables,
    /// assertions, threshold and reference. The one that counts is the first that is no incident,
    /// since nights and baselines know it longer.
    pub fn same(&self) -> Vec<Same> {
        let mut kept: HashMap<&str, &Case> = HashMap::new();
        for case in &self.cases {
            let one = kept.entry(&case.likeness).or_insert(case);
            if one.incident.is_some() && case.incident.is_none() {
                *one = case;
            }
        }
        let same = |case: &Case| {
            let kept = kept.get(case.likeness.as_str()).filter(|kept| kept.id != case.id)?;
            Some(Same { case: case.id.clone(), as_case: kept.id.clone() })
        };
        self.cases.iter().filter_map(same).collect()
    }

    /// Leaves out what is the same as another case; what is known of either holds of the one that
    /// stays.
    pub fn leave_out_same(&mut self) -> Vec<Same> {
        let same = self.same();
        for Same { case, as_case } in &same {
            let Some(at) = self.cases.iter().position(|one| one.id == *case) else { continue };
            let left = self.cases.remove(at);
            if let Some(kept) = self.cases.iter_mut().find(|one| one.id == *as_case) {
                kept.is_critical |= left.is_critical;
                kept.is_smoke |= left.is_smoke;
                kept.incident = kept.incident.take().or(left.incident);
                let new: Vec<_> =
                    left.tags.into_iter().filter(|tag| !kept.tags.contains(tag)).collect();
                kept.tags.extend(new);
            }
        }
        same
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use serde_json::Map;

    use super::super::{NewCase, write_cases};
    use super::*;
    use crate::compat::Only;
    use crate::problems::Problems;

    const SUITE: &str = "
defaultTest: {assert: [{type: not-is-refusal}]}
tests:
- {vars: {q: 'Wo?', n: 2}, metadata: {id: german, tags: [tone], reference: Hier.}, assert: [{type: contains, value: '{{q}}', weight: 2}]}
- {vars: {q: 'Where?'}, metadata: {id: english}, threshold: 0.5}
";

    fn parsed(files: &[(&str, &str)]) -> Suite {
        let mut problems = Problems::new();
        let files: Vec<_> =
            files.iter().map(|(file, text)| (PathBuf::from(file), (*text).to_owned())).collect();
        Suite::parse("s", &files, &mut problems).unwrap_or_else(|| panic!("{problems}"))
    }

    /// The file of incidents that a run's cases make.
    fn incidents(suite: &Suite) -> String {
        let copied = suite.cases.iter().map(|case| NewCase {
            id: format!("{}-incident", case.id),
            description: case.description.clone(),
            category: case.category,
            is_critical: true,
            incident: Some("spring".to_owned()),
            tags: vec!["tone".to_owned(), "spring".to_owned()],
            metadata: case
                .reference
                .iter()
                .map(|text| ("reference".to_owned(), text.as_str().into()))
                .collect::<Map<_, _>>(),
            vars: case.vars.clone(),
            asserts: case.asserts(),
            threshold: case.threshold(),
        });
        write_cases(&copied.collect::<Vec<_>>())
    }

    fn ids(suite: &Suite) -> Vec<&str> {
        suite.cases.iter().map(|case| case.id.as_str()).collect()
    }

    #[test]
    fn an_incident_beside_the_case_that_it_was_counts_once_and_makes_it_critical() {
        let written = incidents(&parsed(&[("cases.yaml", SUITE)]));
        for order in [["cases.yaml", "incidents.yaml"], ["incidents.yaml", "z.yaml"]] {
            let text = |name: &str| if name == "incidents.yaml" { written.as_str() } else { SUITE };
            let files = order.map(|name| (name, text(name)));
            let mut suite = parsed(&files);
            let same = suite.leave_out_same();
            let told: Vec<_> = same.iter().map(|one| (&*one.case, &*one.as_case)).collect();
            assert_eq!(told, [("german-incident", "german"), ("english-incident", "english")]);
            assert_eq!(ids(&suite), ["german", "english"]);
            let german = &suite.cases[0];
            assert!(german.is_critical && german.incident.as_deref() == Some("spring"));
            assert_eq!(german.tags, ["tone", "spring"]);
            assert_eq!(suite.leave_out_same(), []);
            // Alone they are what is asked.
            let mut suite = parsed(&files);
            Only::parse("incidents").unwrap().leave_in(&mut suite);
            assert_eq!(suite.leave_out_same(), []);
            assert_eq!(ids(&suite), ["german-incident", "english-incident"]);
        }
    }

    #[test]
    fn an_assertion_of_the_files_defaults_that_the_copy_has_too_makes_no_other_case() {
        let text = "
defaultTest: {assert: [{type: not-is-refusal}]}
tests:
- {metadata: {id: a}, vars: {q: x}, assert: [{type: contains, value: y}]}
- {metadata: {id: b, incident: i}, vars: {q: x}, assert: [{type: contains, value: y}, {type: not-is-refusal}]}
- {metadata: {id: c}, vars: {q: x}, threshold: 0.5, assert: [{type: contains, value: y}]}
- {metadata: {id: d}, vars: {q: x}, threshold: 0.5, assert: [{type: contains, value: y}, {type: not-is-refusal}]}
";
        let mut suite = parsed(&[("s.yaml", text)]);
        let same = suite.leave_out_same();
        assert_eq!(same, [Same { case: "b".to_owned(), as_case: "a".to_owned() }]);
        assert_eq!(ids(&suite), ["a", "c", "d"], "a mean counts what is there twice");
    }

    #[test]
    fn what_asks_or_asserts_anything_else_is_another_case() {
        let mut suite = parsed(&[(
            "s.yaml",
            "
- {metadata: {id: a}, vars: {q: x}, assert: [{type: contains, value: y}]}
- {metadata: {id: b}, vars: {q: y}, assert: [{type: contains, value: y}]}
- {metadata: {id: c}, vars: {q: x}, assert: [{type: contains, value: x}]}
- {metadata: {id: d}, vars: {q: x}, assert: [{type: contains, value: y}], threshold: 1}
",
        )]);
        assert_eq!(suite.leave_out_same(), []);
        assert_eq!(suite.cases.len(), 4);
    }
}
