//! Answers that people have judged: what a judge is held against.

use serde::Deserialize;

use super::Ask;
use super::judge::MAX_BYTES;

/// An answer, what it was judged by, and what people said of it. One line of a file of labels.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Label {
    /// What was asked.
    pub question: String,
    /// The answer.
    pub answer: String,
    /// What must be true of it, in words. Either this, or `facts`.
    #[serde(default)]
    pub rubric: Option<String>,
    /// What it must agree with.
    #[serde(default)]
    pub facts: Option<String>,
    /// An answer that is right, besides a rubric.
    #[serde(default)]
    pub reference: Option<String>,
    /// Whether it is good enough, as people say.
    pub passed: bool,
}

/// The most labels that a judge is held against at a time.
pub const MAX_LABELS: usize = 2_000;

// === impl Label ===

impl Label {
    /// What a judge is asked of the answer: the same as when a suite asks it.
    ///
    /// # Errors
    ///
    /// What is wrong with the label, beginning with the field.
    pub fn ask(&self) -> Result<Ask, String> {
        let texts = [
            ("question", Some(&self.question)),
            ("answer", Some(&self.answer)),
            ("rubric", self.rubric.as_ref()),
            ("facts", self.facts.as_ref()),
            ("reference", self.reference.as_ref()),
        ];
        let long = texts.iter().find(|(_, text)| text.is_some_and(|text| text.len() > MAX_BYTES));
        if let Some((field, _)) = long {
            return Err(format!(
                "`{field}` is longer than the {MAX_BYTES} bytes that a judge reads"
            ));
        }
        let (question, answer) = (self.question.clone(), self.answer.clone());
        match (&self.rubric, &self.facts) {
            (Some(rubric), None) if rubric.trim().is_empty() => Err("`rubric` is empty".to_owned()),
            (None, Some(facts)) if facts.trim().is_empty() => Err("`facts` is empty".to_owned()),
            (Some(rubric), None) => Ok(Ask::Rubric {
                question,
                answer,
                rubric: rubric.clone(),
                reference: self.reference.clone(),
            }),
            (None, Some(_)) if self.reference.is_some() => {
                Err("`reference` belongs to a `rubric`; say in `facts` what is true".to_owned())
            }
            (None, Some(facts)) => Ok(Ask::Factuality { question, answer, facts: facts.clone() }),
            (Some(_), Some(_)) => {
                Err("`rubric` and `facts`: an answer is judged by one".to_owned())
            }
            (None, None) => {
                Err("`rubric` or `facts` is missing: what is the answer judged by?".to_owned())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn ask(more: Value) -> Result<Ask, String> {
        let mut label = json!({"question": "q", "answer": "a", "passed": true});
        label.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value::<Label>(label).map_err(|error| error.to_string())?.ask()
    }

    #[test]
    fn a_label_asks_what_a_suite_asks() {
        let rubric = Ask::Rubric {
            question: "q".to_owned(),
            answer: "a".to_owned(),
            rubric: "is polite".to_owned(),
            reference: None,
        };
        assert_eq!(ask(json!({"rubric": "is polite"})), Ok(rubric));
        let facts = ask(json!({"facts": "it is blue"}));
        assert!(matches!(facts, Ok(Ask::Factuality { .. })), "{facts:?}");
    }

    #[test]
    fn what_is_wrong_with_a_label_names_the_field() {
        for (more, words) in [
            (json!({}), "`rubric` or `facts` is missing"),
            (json!({"rubric": "x", "facts": "y"}), "`rubric` and `facts`"),
            (json!({"rubric": " "}), "`rubric` is empty"),
            (json!({"facts": "x", "reference": "y"}), "`reference`"),
            (json!({"rubric": "x".repeat(MAX_BYTES + 1)}), "`rubric` is longer"),
            (json!({"rubrik": "x"}), "rubrik"),
            (json!({"rubric": "x", "passed": "yes"}), "boolean"),
        ] {
            let problem = ask(more.clone()).unwrap_err();
            assert!(problem.contains(words), "{more}: {problem}");
        }
    }
}
