//! Decisions and the reasons for them: as data, and as one sentence for people.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::ONE_IN;
use super::assign::{Arm, Share};
use super::guardrails::Guardrail;
use super::segments::Name;
use super::test::{Range, Tally};

#[cfg(test)]
mod tests;

/// What was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The next stage begins.
    Promote,
    /// The share was set by hand.
    Set,
    /// The stage lasts longer than its minimum, because something is not clear yet.
    Hold,
    /// The share stays until somebody resumes.
    Pause,
    /// It goes on.
    Resume,
    /// The control serves everybody again.
    RollBack,
    /// The candidate serves everybody for good.
    Finish,
}

/// Why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// A stage had its time and requests and nothing speaks against the candidate.
    GatesPassed,
    /// A guardrail, over all traffic.
    Guardrail(Guardrail),
    /// A guardrail in one part of the traffic.
    Segment(Name, Guardrail),
    /// Failures that need no statistics.
    HardFailures,
    /// The split is not what it ought to be.
    SampleRatio,
    /// The stage stayed undecided for too long.
    Undecided,
    /// What may be served without a verdict of compatibility is served.
    Compatibility,
    /// Somebody asked for it.
    Operator,
}

/// One side of a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Side {
    /// How many readings there are.
    pub count: u64,
    /// The share of bad ones (binary guardrails), the geometric mean (times, costs, lengths), or
    /// the mean (scores).
    pub value: f64,
}

/// What one guardrail says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// Which.
    pub guardrail: Guardrail,
    /// In which part of the traffic; all of it if there is none.
    pub segment: Option<Name>,
    /// The candidate's figures.
    pub candidate: Side,
    /// The control's.
    pub control: Side,
    /// The plausible effects: differences of shares or scores, or logarithms of ratios; positive is
    /// worse. None for segments.
    pub interval: Option<Range>,
    /// The evidence, of [`Self::needed`].
    pub evidence: f64,
    /// How much is enough: [`ONE_IN`].
    pub needed: f64,
}

/// A decision and all that led to it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// When, in Unix milliseconds.
    pub at_ms: u64,
    /// The rollout's revision that it leads to.
    pub revision: u64,
    /// What.
    pub verdict: Verdict,
    /// Why.
    pub cause: Cause,
    /// The share that the candidate has from now on.
    pub share: Share,
    /// What the guardrails said that mattered, the weightiest first.
    pub findings: Vec<Finding>,
    /// All of it in one sentence.
    pub sentence: String,
}

// === impl Verdict ===

impl Verdict {
    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Promote => "promote",
            Self::Set => "set",
            Self::Hold => "hold",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::RollBack => "roll_back",
            Self::Finish => "finish",
        }
    }
}

// === impl Finding ===

impl Finding {
    /// From the counts of both sides, if both have any. `evidence` is on the scale of [`ONE_IN`].
    pub(crate) fn new(guardrail: Guardrail, tally: &Tally, evidence: f64) -> Option<Self> {
        let side = |arm| {
            let value = value_of(guardrail, tally.mean(arm)?);
            Some(Side { count: tally.count(arm), value })
        };
        Some(Self {
            guardrail,
            segment: None,
            candidate: side(Arm::Candidate)?,
            control: side(Arm::Control)?,
            interval: None,
            evidence,
            needed: ONE_IN,
        })
    }

    fn in_words(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let times = self.candidate.value / self.control.value.max(f64::MIN_POSITIVE);
        match self.guardrail {
            Guardrail::Errors => self.rates(f, "fails"),
            Guardrail::Incomplete => self.rates(f, "breaks off"),
            Guardrail::InvalidOutput => self.rates(f, "gives invalid output in"),
            Guardrail::Refusals => self.rates(f, "refuses"),
            Guardrail::FirstToken => {
                write!(f, "candidate's first token takes {times:.2} times as long as control's")?;
                self.sides(f, " ms")
            }
            Guardrail::Pace => {
                write!(f, "candidate takes {times:.2} times as long per token as control")?;
                self.sides(f, " ms")
            }
            Guardrail::Cost => {
                write!(f, "candidate costs {times:.2} times as much as control")?;
                self.sides(f, "")
            }
            Guardrail::Longer | Guardrail::Shorter => {
                write!(f, "candidate's answers are {times:.2} times as long as control's")?;
                self.sides(f, " tokens")
            }
            Guardrail::Quality => {
                let (ours, theirs) = (self.candidate, self.control);
                write!(f, "candidate scores {:.3} in {}", ours.value, Grouped(ours.count))?;
                write!(f, " ratings, control {:.3} in {}", theirs.value, Grouped(theirs.count))
            }
        }
    }

    fn rates(&self, f: &mut fmt::Formatter<'_>, verb: &str) -> fmt::Result {
        let (ours, theirs) = (self.candidate, self.control);
        let percent = |side: Side| side.value * 100.0;
        write!(f, "candidate {verb} {:.1} % of {}", percent(ours), Grouped(ours.count))?;
        write!(f, " requests, control {:.1} % of {}", percent(theirs), Grouped(theirs.count))
    }

    fn sides(&self, f: &mut fmt::Formatter<'_>, unit: &str) -> fmt::Result {
        let (ours, theirs) = (self.candidate, self.control);
        write!(f, " ({}{unit} in {} requests", Short(ours.value), Grouped(ours.count))?;
        write!(f, " against {}{unit} in {})", Short(theirs.value), Grouped(theirs.count))
    }
}

impl fmt::Display for Finding {
    /// `candidate fails 4.1 % of 612 requests, control 1.0 % of 11,900; evidence 143 of 100 needed`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(segment) = &self.segment {
            write!(f, "where the {} is {}, ", segment.dimension.as_str(), segment.value)?;
        }
        self.in_words(f)?;
        // From 0 to a million, so the cast loses nothing but the fraction.
        let shown = self.evidence.clamp(0.0, 1e6) as u64;
        let more = if self.evidence > 1e6 { "more than " } else { "" };
        write!(f, "; evidence {more}{} of {:.0} needed", Grouped(shown), self.needed)
    }
}

/// A mean on the scale of comparison as people know it.
fn value_of(guardrail: Guardrail, mean: f64) -> f64 {
    match guardrail {
        Guardrail::Errors
        | Guardrail::Incomplete
        | Guardrail::InvalidOutput
        | Guardrail::Refusals
        | Guardrail::Quality => mean,
        Guardrail::FirstToken
        | Guardrail::Pace
        | Guardrail::Cost
        | Guardrail::Longer
        | Guardrail::Shorter => mean.exp(),
    }
}

/// A number with commas between thousands.
pub(crate) struct Grouped(pub(crate) u64);

impl fmt::Display for Grouped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.0.to_string();
        for (at, digit) in digits.chars().enumerate() {
            if at > 0 && (digits.len() - at).is_multiple_of(3) {
                f.write_str(",")?;
            }
            write!(f, "{digit}")?;
        }
        Ok(())
    }
}

/// A value with as many decimals as its size deserves.
struct Short(f64);

impl fmt::Display for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.abs() {
            size if size >= 100.0 => write!(f, "{:.0}", self.0),
            size if size >= 1.0 => write!(f, "{:.2}", self.0),
            _ => write!(f, "{:.5}", self.0),
        }
    }
}
