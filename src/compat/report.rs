//! What a run has found, as data: what the terminal, scripts, CI systems and people read.
//!
//! A [`Report`] is JSON with stable names. It is drawn up by a [`Draft`], case by case, so that a
//! run of any size needs little memory: all cases keep their counts, and the most telling ones
//! their answers.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::agreement::Agreement;
use super::verdict::{Judgement, Measure, Plan, Terms, Verdict};
use super::{Answer, Call, Category, Check, Depth, Grade, Preference, Same, Side};

mod draft;
mod html;
mod junit;
mod lacking;
mod next;
mod nights;
mod numbers;
mod plots;
mod state;
mod summary;

pub use draft::{CaseAnswers, Draft, Graded};
pub use lacking::{Unanswered, Unjudged};
pub use nights::PairRuns;
pub use numbers::counted;
pub use state::RunState;
pub use summary::Style;

#[cfg(test)]
mod tests;

/// What the format of the JSON is called. Names are added without changing it.
pub const FORMAT: u32 = 1;

/// What a run has found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// [`FORMAT`].
    pub format: u32,
    /// Where the run is: what is said of one that goes on, or that ended early, is what is known so
    /// far.
    #[serde(default)]
    pub state: RunState,
    /// What was run.
    pub run: RunFacts,
    /// What it was held to.
    pub terms: Terms,
    /// What was announced before it began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<Plan>,
    /// The verdict, and all that led to it. A first night has none.
    #[serde(default = "Judgement::nothing", skip_serializing_if = "Judgement::is_nothing")]
    pub judgement: Judgement,
    /// Who judged what no rule can, if anybody did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub judge: Option<JudgeFacts>,
    /// Answers that did not come, if there are such.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unanswered: Option<Unanswered>,
    /// What was asserted and nobody could say, if there is such.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unjudged: Option<Unjudged>,
    /// All cases, the most telling first.
    pub cases: Vec<CaseReport>,
    /// Earlier runs of the same suite and candidate and this one, the oldest first.
    #[serde(default)]
    pub trend: Vec<Night>,
    /// How lengths, costs and times are spread.
    #[serde(default)]
    pub distributions: Vec<Distribution>,
}

/// What was run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunFacts {
    /// Its id.
    pub id: String,
    /// Why it was made: `asked`, `nightly`, `drift`.
    pub kind: String,
    /// The suite's id.
    pub suite: String,
    /// What the suite was, as one number.
    pub suite_hash: String,
    /// What the suite says it is; empty if it says nothing.
    #[serde(default)]
    pub description: String,
    /// What is there today.
    pub baseline: Side,
    /// What may take its place.
    pub candidate: Side,
    /// How many cases were asked.
    pub depth: Depth,
    /// Cases of the suite, whether this depth asks them or not; 0 where it cannot be read any more.
    #[serde(default)]
    pub suite_cases: u64,
    /// The seed of whatever was drawn.
    pub seed: u64,
    /// When it began, in Unix milliseconds.
    pub started_ms: u64,
    /// When it ended; `None` if it goes on.
    pub ended_ms: Option<u64>,
    /// What all answers cost that were asked for, in millionths of a dollar.
    pub cost_micro_usd: u64,
    /// What judges cost besides.
    pub judging_micro_usd: u64,
    /// Whether it is the first night of a prompt: it has kept answers, and had nothing to compare
    /// them with.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub first_night: bool,
    /// How often the same was compared, this run included; where it has a verdict.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pair: Option<PairRuns>,
    /// What is to be known of its end: that money or time ended it, or somebody; that it was the
    /// first night.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_early: Option<String>,
    /// Which of the cases alone were asked: `incidents`, a tag or an incident.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub only: Option<String>,
    /// Cases of the suite that are the same as others, and count once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub same: Vec<Same>,
}

/// Who judged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JudgeFacts {
    /// `provider/model`.
    pub model: String,
    /// The version of what it is asked with.
    pub protocol: String,
    /// How it agrees with people, where it was held against their labels.
    #[serde(default)]
    pub agreement: Agreement,
    /// Whether what it says counts: it is calibrated, or trusted all the same.
    pub counts: bool,
    /// How often it was asked, both orders being one.
    pub asked: u64,
    /// How often it said otherwise when it was asked the other way round.
    pub disagreed: u64,
}

/// A case and how both sides did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CaseReport {
    /// The case.
    pub id: String,
    /// What it is, in words; empty if nobody says.
    #[serde(default)]
    pub description: String,
    /// What it is there for.
    pub category: Category,
    /// Whether the candidate may not newly fail it.
    pub is_critical: bool,
    /// What became of it.
    pub standing: Standing,
    /// Whether some assertion could not be judged: the others alone passed or failed it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_not_judged_in_full: bool,
    /// How the baseline did.
    pub baseline: Tally,
    /// How the candidate did.
    pub candidate: Tally,
    /// Why the candidate's answers fail: the checks that do, each once, with a reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failures: Vec<Check>,
    /// The answers, of the most telling cases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shown: Option<Shown>,
}

/// What became of a case. The order is that of reports, but that critical cases which are not
/// passed come before all others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// The baseline mostly passes it, the candidate mostly does not.
    NewlyFailing,
    /// The candidate passes it less often, but mostly.
    Worse,
    /// The candidate mostly passes it, the baseline mostly does not.
    NewlyPassing,
    /// The candidate passes it more often.
    Better,
    /// Both sides pass it only now and then; it does not count.
    Quarantined,
    /// There is no pair of answers.
    Unanswered,
    /// Both mostly fail it, alike.
    StillFailing,
    /// Both mostly pass it, alike.
    StillPassing,
}

/// How one side did in one case.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Tally {
    /// Answers that pass.
    pub passed: u32,
    /// Answers that were judged.
    pub answered: u32,
    /// Answers that were asked for.
    pub asked: u32,
    /// Answers that an earlier run has asked for.
    pub reused: u32,
    /// The mean score, 0 to 1.
    pub score: f64,
    /// Tokens of an answer, on average.
    pub output_tokens: f64,
    /// Cost of an answer, on average, in millionths of a dollar.
    pub cost_micro_usd: f64,
    /// The time that 95 % of answers take at most, in milliseconds.
    pub p95_latency_ms: u64,
}

/// A case's question and answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Shown {
    /// The variables.
    pub vars: Map<String, Value>,
    /// What was asked, as it was rendered; cut where it is long.
    pub question: String,
    /// Pairs of answers, the most telling first.
    pub pairs: Vec<ShownPair>,
    /// Pairs that there are besides.
    pub more: u32,
}

/// Two answers to the same question.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ShownPair {
    /// Which of the case's pairs, from 0.
    pub sample: u32,
    /// The baseline's answer.
    pub baseline: ShownAnswer,
    /// The candidate's.
    pub candidate: ShownAnswer,
    /// Which of them a judge likes better, if it was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preference: Option<Preference>,
}

/// An answer with what was found of it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ShownAnswer {
    /// The text; cut where it is long.
    pub text: String,
    /// Characters that were cut.
    pub cut: u64,
    /// Calls of tools.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub calls: Vec<Call>,
    /// Why there is no answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Whether it passes; `None` where nobody could say.
    pub passed: Option<bool>,
    /// What each assertion says.
    pub checks: Vec<Check>,
    /// Why it ended.
    pub finish_reason: String,
    /// Who answered: `provider/model`.
    pub served_by: String,
    /// Tokens of the answer.
    pub output_tokens: u64,
    /// What it cost, in millionths of a dollar.
    pub cost_micro_usd: u64,
    /// From the request to the last byte, in milliseconds.
    pub latency_ms: u64,
}

/// A run of the same suite and candidate, in a line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Night {
    /// The run.
    pub run: String,
    /// When it began, in Unix milliseconds.
    pub at_ms: u64,
    /// The part of the baseline's answers that passed.
    pub baseline: f64,
    /// The part of the candidate's.
    pub candidate: f64,
    /// What was said of it.
    pub verdict: Verdict,
}

/// How many answers have which length, cost or time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Distribution {
    /// What of.
    pub measure: Measure,
    /// Where the bins begin and end: one more than there are bins, growing.
    pub edges: Vec<f64>,
    /// The baseline's answers in each bin.
    pub baseline: Vec<u64>,
    /// The candidate's.
    pub candidate: Vec<u64>,
}

// === impl Report ===

impl Report {
    /// `44 cases`, or `12 of 18 cases` where the depth chose fewer.
    fn cases_in_words(&self) -> String {
        let (asked, all) = (self.cases.len() as u64, self.run.suite_cases);
        match all > asked {
            true => format!("{asked} of {}", counted(all, "case")),
            false => counted(asked, "case"),
        }
    }
}

// === impl JudgeFacts ===

impl JudgeFacts {
    /// Who judged, and how far to trust it.
    pub fn in_words(&self) -> String {
        let labels = counted(self.agreement.labels(), "label");
        let trust = match (self.agreement.is_calibrated(), self.agreement.kappa()) {
            (true, Some(kappa)) => format!(
                "calibrated on {}, kappa {:.2} ({:.2} to {:.2})",
                labels, kappa.value, kappa.low, kappa.high
            ),
            _ if self.agreement.labels() == 0 => "not calibrated: no labels by people".to_owned(),
            (false, _) | (true, None) => {
                let lacks = self.agreement.lacks().join(", and ");
                format!("not calibrated on {labels}: it takes {lacks}")
            }
        };
        let counts = if self.counts { "" } else { ", does not count" };
        let swayed = self.disagreed as f64 / self.asked.max(1) as f64;
        format!(
            "Judge {} (protocol {}), {trust}{counts}; asked {}, said otherwise in the other order in \
             {} of them",
            self.model,
            self.protocol,
            counted(self.asked, "time"),
            numbers::percent(swayed)
        )
    }
}

// === impl Standing ===

impl Standing {
    /// All, in the order of reports.
    pub const ALL: [Self; 8] = [
        Self::NewlyFailing,
        Self::Worse,
        Self::NewlyPassing,
        Self::Better,
        Self::Quarantined,
        Self::Unanswered,
        Self::StillFailing,
        Self::StillPassing,
    ];

    /// Its name, as in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NewlyFailing => "newly_failing",
            Self::Worse => "worse",
            Self::NewlyPassing => "newly_passing",
            Self::Better => "better",
            Self::Quarantined => "quarantined",
            Self::Unanswered => "unanswered",
            Self::StillFailing => "still_failing",
            Self::StillPassing => "still_passing",
        }
    }

    /// Whether the candidate does not do as well as it should.
    const fn is_bad(self) -> bool {
        match self {
            Self::NewlyFailing
            | Self::Worse
            | Self::Quarantined
            | Self::Unanswered
            | Self::StillFailing => true,
            Self::NewlyPassing | Self::Better | Self::StillPassing => false,
        }
    }

    /// What people call it.
    pub const fn in_words(self) -> &'static str {
        match self {
            Self::NewlyFailing => "newly failing",
            Self::Worse => "passing less often",
            Self::NewlyPassing => "newly passing",
            Self::Better => "passing more often",
            Self::Quarantined => "flaky, not counted",
            Self::Unanswered => "unanswered",
            Self::StillFailing => "still failing",
            Self::StillPassing => "still passing",
        }
    }
}
