//! What only another model can say of an answer.

use super::found::{Found, Seen};
use super::test::{Replies, Spec, Wrong};
use crate::compat::{Ask, Reply};

/// The least score of `g-eval` where none is written.
const G_EVAL_THRESHOLD: f64 = 0.7;

/// What is no reply to what was asked.
const MISPLACED: &str = "a reply to another question";

/// `similar`: near enough to one of several texts.
#[derive(Debug)]
pub(super) struct Similar {
    references: Vec<String>,
    threshold: f64,
}

/// What a judge is asked.
#[derive(Debug)]
pub(super) struct Judged {
    about: About,
    /// The least score, besides the judge's own word.
    threshold: Option<f64>,
}

#[derive(Debug)]
enum About {
    Rubric(String),
    Facts(String),
}

// === impl Similar ===

impl Similar {
    pub(super) fn of(spec: &Spec<'_>) -> Result<Self, Wrong> {
        Ok(Self { references: spec.texts()?, threshold: spec.share(0.75)? })
    }

    /// The reference, where it is the only one.
    pub(super) fn only_reference(&self) -> Option<&str> {
        match self.references.as_slice() {
            [only] => Some(only),
            [] | [_, ..] => None,
        }
    }

    /// Asks for all references at once; the nearest counts.
    pub(super) fn on(&self, seen: &Seen<'_>, replies: &mut Replies<'_>) -> Option<Found> {
        if seen.text.trim().is_empty() {
            return Some(Found::is(false, "is empty"));
        }
        let ask = |reference: &String| {
            let text = seen.text.clone().into_owned();
            replies(Ask::Similarity { text, reference: reference.clone() })
        };
        let came: Vec<Option<Reply>> = self.references.iter().map(ask).collect();
        let mut nearest: Option<f64> = None;
        let mut failed = None;
        for reply in came {
            match cosine_of(reply?) {
                Ok(cosine) => nearest = Some(nearest.map_or(cosine, |most| most.max(cosine))),
                Err(why) => failed = Some(why),
            }
        }
        Some(match (nearest, failed) {
            // One that failed might have been nearer.
            (Some(cosine), failed) if failed.is_none() || cosine >= self.threshold => {
                Found::scored(cosine, self.threshold, "similarity")
            }
            (_, failed) => Found::open(failed.unwrap_or_default()),
        })
    }
}

// === impl Judged ===

impl Judged {
    pub(super) fn of(name: &str, spec: &Spec<'_>) -> Result<Self, Wrong> {
        let share = || spec.threshold.map(|share| spec.share(share)).transpose();
        let (about, threshold) = match name {
            "factuality" | "model-graded-factuality" => (About::Facts(spec.text()?), None),
            "model-graded-closedqa" => {
                let rubric = format!("The answer meets this criterion: {}", spec.text()?);
                (About::Rubric(rubric), None)
            }
            "g-eval" => {
                let rubric = match spec.texts()?.as_slice() {
                    [one] => one.clone(),
                    several => format!("All of these, equally:\n- {}", several.join("\n- ")),
                };
                let threshold = spec.share(G_EVAL_THRESHOLD)?;
                (About::Rubric(rubric), Some(threshold))
            }
            _ => {
                let rubric = match spec.value {
                    Some(value @ serde_json::Value::Object(_)) => value.to_string(),
                    Some(_) | None => spec.text()?,
                };
                (About::Rubric(rubric), share()?)
            }
        };
        Ok(Self { about, threshold })
    }

    pub(super) fn on(&self, seen: &Seen<'_>, replies: &mut Replies<'_>) -> Option<Found> {
        let question = seen.question.to_owned();
        let answer = seen.text.clone().into_owned();
        let ask = match &self.about {
            About::Rubric(rubric) => {
                let reference = seen.reference.map(str::to_owned);
                Ask::Rubric { question, answer, rubric: rubric.clone(), reference }
            }
            About::Facts(facts) => Ask::Factuality { question, answer, facts: facts.clone() },
        };
        Some(match replies(ask)? {
            Reply::Rated { passed, score, reason } => {
                let score = if score.is_finite() { score.clamp(0.0, 1.0) } else { 0.0 };
                let reaches = self.threshold.is_none_or(|threshold| score >= threshold);
                Found { passed: Some(passed && reaches), score, reason }
            }
            Reply::Failed(why) => Found::open(why),
            Reply::Similarity(_) | Reply::Preferred(_) => Found::open(MISPLACED),
        })
    }
}

/// A similarity, or why there is none.
fn cosine_of(reply: Reply) -> Result<f64, String> {
    match reply {
        Reply::Similarity(cosine) if cosine.is_finite() => Ok(cosine),
        Reply::Failed(why) => Err(why),
        Reply::Similarity(_) | Reply::Rated { .. } | Reply::Preferred(_) => {
            Err(MISPLACED.to_owned())
        }
    }
}
