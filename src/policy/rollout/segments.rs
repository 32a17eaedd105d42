//! Parts of the traffic, each with its own evidence: a candidate may fail in one language only.
//!
//! Four dimensions of [`PER_DIMENSION`] segments, the first that turn up; later ones are not tested
//! by themselves (they still count among all traffic). The number `m` of hypotheses is that
//! capacity, fixed before the first request, so that segments which turn up late cost nothing in
//! validity.
//!
//! A segment's evidence is the weighted mean over guardrails, as for all traffic. Which segments
//! are worse is decided by e-BH (Wang and Ramdas, "False discovery rate control with e-values",
//! JRSS B 2022): sort the evidence downwards; the first `k` are worse for the largest `k` with
//! `e_(k) >= m / (k a)`. The share of wrong ones among them is at most `a` in the mean, whatever
//! the dependence, and segments of different dimensions do overlap. If the candidate is worse
//! nowhere, then any is wrong, so that the chance of finding one at all is at most `a`: the first
//! time that one is found is a stopping time, and e-processes are e-values at those.
//!
//! A segment must be known before the side is drawn. The provider is one only where the candidate
//! does not change it.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use super::SEGMENTS_LEVEL;
use super::assign::Arm;
use super::bets::{Bets, Ratios};
use super::guardrails::{Guardrail, Guardrails};
use super::test::Tally;

#[cfg(test)]
mod tests;

/// By what traffic is divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dimension {
    /// Who calls.
    Caller,
    /// The language of the prompt.
    Language,
    /// How long the prompt is, in a few classes.
    PromptSize,
    /// Who serves.
    Provider,
}

/// The segment of a request in each dimension; `None` where it is not known. The order of the
/// fields is how nodes write them (`rollout::note`): new ones go last.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Traits {
    /// Who calls.
    pub caller: Option<Box<str>>,
    /// The language of the prompt.
    pub language: Option<Box<str>>,
    /// How long the prompt is.
    pub prompt_size: Option<Box<str>>,
    /// Who serves.
    pub provider: Option<Box<str>>,
}

/// The name of a segment.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Name {
    /// Of which dimension.
    pub dimension: Dimension,
    /// Its value there.
    pub value: Box<str>,
}

/// One segment's evidence and counts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Segment {
    name: Name,
    /// One for each guardrail, in their order.
    parts: Vec<Part>,
    evidence: f64,
}

/// One guardrail in one segment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Part {
    pub(crate) guardrail: Guardrail,
    /// Its share of the evidence.
    weight: f64,
    bets: Bets,
    pub(crate) tally: Tally,
}

/// All segments that have turned up.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Segments(Vec<Segment>);

/// A reading, ready to be counted in its segments.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry<'a> {
    pub(crate) guardrail: Guardrail,
    pub(crate) arm: Arm,
    /// The candidate's share when the side was drawn, 0 to 1.
    pub(crate) part: f64,
    /// On the scale of comparison.
    pub(crate) scaled: f64,
    /// `None` if it is no evidence.
    pub(crate) ratios: Option<&'a Ratios>,
}

/// Segments of a dimension that are tested by themselves.
pub const PER_DIMENSION: usize = 8;
/// All that may be tested: the `m` of e-BH.
pub const CAPACITY: usize = 4 * PER_DIMENSION;

// === impl Dimension ===

impl Dimension {
    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Caller => "caller",
            Self::Language => "language",
            Self::PromptSize => "prompt size",
            Self::Provider => "provider",
        }
    }
}

// === impl Segment ===

impl Segment {
    /// Which.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// The evidence that the candidate is worse in it; 1 says nothing.
    pub fn evidence(&self) -> f64 {
        self.evidence
    }

    /// Its guardrails, the one with most evidence first.
    pub(crate) fn by_evidence(&self) -> Vec<&Part> {
        let mut parts: Vec<_> = self.parts.iter().collect();
        parts.sort_by(|a, b| descending(a.evidence(), b.evidence()));
        parts
    }

    fn new(name: Name, guardrails: &Guardrails) -> Self {
        let parts = guardrails.0.iter().map(|rule| Part {
            guardrail: rule.guardrail,
            weight: guardrails.part(rule),
            bets: Bets::new(),
            tally: Tally::default(),
        });
        Self { name, parts: parts.collect(), evidence: 1.0 }
    }

    fn count(&mut self, entry: Entry<'_>) {
        let found = self.parts.iter_mut().find(|part| part.guardrail == entry.guardrail);
        let Some(part) = found else { return };
        part.tally.add(entry.arm, entry.scaled);
        if let Some(ratios) = entry.ratios {
            part.bets.settle(entry.arm, entry.part, ratios);
            self.evidence = self.parts.iter().map(Part::evidence).sum();
        }
    }
}

impl Part {
    pub(crate) fn evidence(&self) -> f64 {
        self.weight * self.bets.value()
    }
}

// === impl Segments ===

impl Segments {
    /// Where the segments of a request are, new ones included.
    pub(crate) fn places(
        &mut self,
        traits: &Traits,
        guardrails: &Guardrails,
    ) -> [Option<usize>; 4] {
        [
            (Dimension::Caller, &traits.caller),
            (Dimension::Language, &traits.language),
            (Dimension::PromptSize, &traits.prompt_size),
            (Dimension::Provider, &traits.provider),
        ]
        .map(|(dimension, value)| self.place(dimension, value.as_deref()?, guardrails))
    }

    /// Counts a reading in its segments.
    pub(crate) fn count(&mut self, places: [Option<usize>; 4], entry: Entry<'_>) {
        for place in places.into_iter().flatten() {
            if let Some(segment) = self.0.get_mut(place) {
                segment.count(entry);
            }
        }
    }

    /// The segments that e-BH finds the candidate worse in, the worst first.
    pub fn worse(&self) -> Vec<&Segment> {
        // The lowest bar is that of k = m. Most of the time nobody reaches even that.
        if self.0.iter().all(|segment| segment.evidence < 1.0 / SEGMENTS_LEVEL) {
            return Vec::new();
        }
        let mut sorted: Vec<_> = self.0.iter().collect();
        sorted.sort_by(|a, b| descending(a.evidence, b.evidence));
        let passes = |(at, segment): &(usize, &&Segment)| segment.evidence >= bar(at + 1);
        let last = sorted.iter().enumerate().rev().find(passes).map(|(at, _)| at + 1);
        sorted.truncate(last.unwrap_or(0));
        sorted
    }

    /// All that have turned up.
    pub fn all(&self) -> &[Segment] {
        &self.0
    }

    fn place(
        &mut self,
        dimension: Dimension,
        value: &str,
        guardrails: &Guardrails,
    ) -> Option<usize> {
        let mut known = 0;
        for (at, segment) in self.0.iter().enumerate() {
            if segment.name.dimension == dimension {
                if *segment.name.value == *value {
                    return Some(at);
                }
                known += 1;
            }
        }
        if known >= PER_DIMENSION {
            return None;
        }
        self.0.push(Segment::new(Name { dimension, value: value.into() }, guardrails));
        Some(self.0.len() - 1)
    }
}

/// What the `k`-th segment needs: `m / (k a)`.
pub(crate) fn bar(k: usize) -> f64 {
    CAPACITY as f64 / (k as f64 * SEGMENTS_LEVEL)
}

fn descending(a: f64, b: f64) -> Ordering {
    b.total_cmp(&a)
}
