//! Reports of a prompt that is held against itself night by night, and of a pair that is compared
//! again and again.

use serde::{Deserialize, Serialize};

use super::Report;
use super::numbers::counted;
use crate::compat::verdict::Verdict;

/// How often a pair was compared: the same versions on the same models, by the same cases.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PairRuns {
    /// Runs with a verdict, up to the one in question.
    pub number: u64,
    /// Those of them that were not found compatible.
    pub not_compatible: u64,
}

// === impl PairRuns ===

impl PairRuns {
    /// `the 3rd run of this pair; 2 were not compatible`, where there was more than one.
    pub fn in_words(&self) -> Option<String> {
        let Self { number, not_compatible } = *self;
        let ending = match (number % 10, number % 100) {
            (1, rest) if rest != 11 => "st",
            (2, rest) if rest != 12 => "nd",
            (3, rest) if rest != 13 => "rd",
            _ => "th",
        };
        let others = match not_compatible {
            0 => "all were compatible".to_owned(),
            1 => "1 was not compatible".to_owned(),
            more => format!("{more} were not compatible"),
        };
        (number > 1).then(|| format!("the {number}{ending} run of this pair; {others}"))
    }
}

// === impl Report ===

impl Report {
    /// The verdict in a word or two; there is none of a first night.
    pub fn word(&self) -> &'static str {
        match self.run.first_night {
            true => "first night",
            false => self.judgement.verdict.as_str(),
        }
    }

    /// Whether a prompt was held against itself.
    pub(super) fn is_of_nights(&self) -> bool {
        self.run.kind == "drift"
    }

    /// How many cases were asked, and how often.
    pub(super) fn extent(&self, times: &str) -> String {
        let cases = self.cases_in_words();
        let most = || self.cases.iter().map(|case| case.candidate.asked).max().unwrap_or(0);
        let (each, of_what) = match (self.run.first_night, self.is_of_nights()) {
            (true, _) => (most(), "answer"),
            (false, true) => (self.judgement.samples, "answer"),
            (false, false) => (self.judgement.samples, "pair"),
        };
        format!("{cases}{times}{}", counted(u64::from(each), of_what))
    }

    pub(super) fn headline_of_night(&self) -> String {
        let candidate = &self.run.candidate;
        if self.run.first_night {
            return format!("The first night of {candidate}: there is nothing to compare with yet");
        }
        let says = match self.judgement.verdict {
            Verdict::Compatible => "answers as well as",
            Verdict::Incompatible => "answers worse than",
            Verdict::Inconclusive => "is not proven to answer as well as",
        };
        format!("{candidate} {says} the nights before")
    }

    pub(super) fn step_of_night(&self) -> String {
        let step = match self.judgement.verdict {
            _ if self.run.first_night => {
                "Nothing: answers are kept, and the next night is held against them."
            }
            Verdict::Compatible => "Nothing: nothing has changed that these cases show.",
            Verdict::Incompatible => {
                "Read the newly failing cases and what the provider says it has changed; then change \
                 the prompt, or the model. The alert stays until a night is as good as those before."
            }
            Verdict::Inconclusive => {
                "Nothing: nights add up. More cases, or more answers to each (`compat.drift_samples`), \
                 tell sooner."
            }
        };
        step.to_owned()
    }
}
