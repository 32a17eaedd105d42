//! All that a rollout knows of its two sides, and what it makes of it.

use serde::{Deserialize, Serialize};

use super::assign::{Arm, Share};
use super::evidence::{Cause, Finding};
use super::guardrails::{Guardrail, Guardrails};
use super::hard::{Hard, HardFailure};
use super::ratio::SampleRatio;
use super::segments::{Entry, Segment, Segments};
use super::spoken::Spoken;
use super::test::{Observation, Pair, Readings, Test};
use super::{MAIN_LEVEL, ONE_IN, segments};

/// Counts and evidence of a rollout, all of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Analysis {
    guardrails: Guardrails,
    /// One for each guardrail, in their order.
    tests: Vec<Test>,
    segments: Segments,
    spoken: Spoken,
    /// Units whose first request was counted for the sample ratio.
    exposed: Spoken,
    ratio: SampleRatio,
    hard: Hard,
    /// Requests of the candidate in this stage.
    requests: u64,
    /// Those of the control.
    #[serde(default)]
    controls: u64,
}

/// What the evidence says is wrong.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Alarm {
    pub(crate) cause: Cause,
    /// Whether the harm is as great as the margin.
    pub(crate) is_harm: bool,
    pub(crate) findings: Vec<Finding>,
}

/// Guardrails with this part of the evidence are among the reasons.
const REASON_PART: f64 = 0.1;
/// A guardrail with this much evidence of its own (1 says nothing) keeps a stage from passing.
const UNCLEAR: f64 = 5.0;

// === impl Analysis ===

impl Analysis {
    /// Nothing known yet.
    pub fn new(guardrails: Guardrails) -> Self {
        Self {
            tests: guardrails.0.iter().map(|rule| Test::new(rule.guardrail)).collect(),
            guardrails,
            segments: Segments::default(),
            spoken: Spoken::default(),
            exposed: Spoken::default(),
            ratio: SampleRatio::new(),
            hard: Hard::new(),
            requests: 0,
            controls: 0,
        }
    }

    /// Counts a unit that is served, before its outcome is known.
    pub fn expose(&mut self, arm: Arm, share: Share, unit: Option<u32>) {
        // Which guardrail does not matter: there is one list for exposures.
        if self.exposed.may(unit, Guardrail::Errors) {
            self.ratio.expose(arm, share);
        }
    }

    /// Takes a request of one side into account.
    pub fn observe(&mut self, seen: &Observation) {
        if let Some(failure) = seen.hard {
            self.hard.record(seen.arm, failure, seen.unit);
            self.requests += u64::from(seen.arm == Arm::Candidate);
            self.controls += u64::from(seen.arm == Arm::Control);
        }
        let (arm, part) = (seen.arm, seen.share.part());
        let is_drawn = part > 0.0 && part < 1.0;
        let places = self.segments.places(&seen.traits, &self.guardrails);
        for test in &mut self.tests {
            let guardrail = test.guardrail();
            let Some(reading) = seen.readings.of(guardrail) else { continue };
            let ratios =
                test.ratios(reading).filter(|_| is_drawn && self.spoken.may(seen.unit, guardrail));
            if let Some(ratios) = &ratios {
                test.settle(arm, part, ratios);
            }
            let scaled = test.count(arm, part, reading);
            self.segments
                .count(places, Entry { guardrail, arm, part, scaled, ratios: ratios.as_ref() });
        }
    }

    /// Takes a request into account that both sides answered.
    pub fn compare(&mut self, pair: &Pair) {
        self.requests += 1;
        self.controls += 1;
        let failure = |readings: &Readings| {
            let has_failed = readings.of(Guardrail::Errors).is_some_and(|reading| reading > 0.0);
            if has_failed { HardFailure::Failed } else { HardFailure::No }
        };
        self.hard.record(Arm::Control, failure(&pair.control), pair.unit);
        self.hard.record(Arm::Candidate, failure(&pair.candidate), pair.unit);
        for test in &mut self.tests {
            let guardrail = test.guardrail();
            let readings = (pair.candidate.of(guardrail), pair.control.of(guardrail));
            let (Some(candidate), Some(control)) = readings else { continue };
            // Only a pair that differs is evidence on a binary guardrail.
            let speaks = candidate != control && self.spoken.may(pair.unit, guardrail);
            test.compare(candidate, control, speaks);
        }
    }

    /// A stage begins.
    pub fn begin_stage(&mut self) {
        (self.requests, self.controls) = (0, 0);
        self.tests.iter_mut().for_each(Test::begin_stage);
    }

    /// Requests of the candidate in this stage.
    pub fn requests(&self) -> u64 {
        self.requests
    }

    /// Requests of the control in this stage.
    pub fn controls(&self) -> u64 {
        self.controls
    }

    /// The check of the split.
    pub fn ratio(&self) -> &SampleRatio {
        &self.ratio
    }

    /// The check starts anew.
    pub(crate) fn trust_ratio(&mut self) {
        self.ratio = SampleRatio::new();
    }

    /// The check that needs no statistics.
    pub fn hard(&self) -> &Hard {
        &self.hard
    }

    /// The tests, in the order of the plan's guardrails.
    pub fn tests(&self) -> &[Test] {
        &self.tests
    }

    /// The segments that have turned up.
    pub fn segments(&self) -> &[Segment] {
        self.segments.all()
    }

    /// The evidence over all traffic, of [`ONE_IN`] needed.
    pub fn evidence(&self) -> f64 {
        self.weighted().map(|(_, evidence)| evidence).sum()
    }

    /// What each guardrail says, the one with most evidence first; for reports.
    pub fn findings(&self) -> Vec<Finding> {
        let mut found: Vec<_> =
            self.weighted().filter_map(|(test, evidence)| finding(test, evidence)).collect();
        found.sort_by(|a, b| b.evidence.total_cmp(&a.evidence));
        found
    }

    /// Guardrails that speak against the next stage: there is some evidence of harm, or any and as
    /// much harm as the margin, and the confidence sequence does not exclude that.
    pub(crate) fn unclear(&self) -> Vec<Finding> {
        let is_unclear = |test: &Test| {
            let high = test.interval().map_or(f64::INFINITY, |interval| interval.high);
            let margin = self.margin(test.guardrail());
            let effect = test.tally().effect(test.guardrail());
            let is_bad = test.evidence() > 1.0 && effect.is_some_and(|effect| effect >= margin);
            (test.evidence() >= UNCLEAR || is_bad) && high >= margin
        };
        self.weighted()
            .filter(|(test, _)| is_unclear(test))
            .filter_map(|(test, evidence)| finding(test, evidence))
            .collect()
    }

    /// What is wrong, if anything is: harm before lesser things, all traffic before segments.
    pub(crate) fn alarm(&self) -> Option<Alarm> {
        let over_all = self.alarm_over_all();
        if over_all.as_ref().is_some_and(|alarm| alarm.is_harm) {
            return over_all;
        }
        self.alarm_in_segment().or(over_all)
    }

    fn alarm_over_all(&self) -> Option<Alarm> {
        let total = self.evidence();
        if total < ONE_IN {
            return None;
        }
        let mut findings = self.findings();
        findings.retain(|finding| finding.evidence >= REASON_PART * total);
        let is_harm = |finding: &Finding| {
            let test = self.tests.iter().find(|test| test.guardrail() == finding.guardrail);
            let effect = test.and_then(|test| test.tally().effect(finding.guardrail));
            effect.is_some_and(|effect| effect >= self.margin(finding.guardrail))
        };
        let harmful = findings.iter().position(is_harm);
        findings.rotate_left(harmful.unwrap_or(0));
        let first = findings.first_mut()?;
        // The reasons together have what is needed; the sentence names the first with all of it.
        first.evidence = total;
        let cause = Cause::Guardrail(first.guardrail);
        Some(Alarm { cause, is_harm: harmful.is_some(), findings })
    }

    fn alarm_in_segment(&self) -> Option<Alarm> {
        let worse = self.segments.worse();
        let found = worse.len().max(1);
        worse.iter().find_map(|segment| {
            let evidence = segment.evidence() / segments::bar(found) * ONE_IN;
            let part = segment.by_evidence().into_iter().find(|part| {
                let is_reason = part.evidence() >= REASON_PART * segment.evidence();
                let effect = part.tally.effect(part.guardrail);
                is_reason && effect.is_some_and(|effect| effect >= self.margin(part.guardrail))
            })?;
            let mut finding = Finding::new(part.guardrail, &part.tally, evidence)?;
            finding.segment = Some(segment.name().clone());
            let cause = Cause::Segment(segment.name().clone(), part.guardrail);
            Some(Alarm { cause, is_harm: true, findings: vec![finding] })
        })
    }

    /// Each test and its part of the evidence, of [`ONE_IN`] needed.
    fn weighted(&self) -> impl Iterator<Item = (&Test, f64)> {
        let all: f64 = self.guardrails.0.iter().map(|rule| rule.weight).sum();
        self.tests.iter().zip(&self.guardrails.0).map(move |(test, rule)| {
            (test, rule.weight / all * test.evidence() * MAIN_LEVEL * ONE_IN)
        })
    }

    /// The margin of a guardrail on the scale of comparison.
    fn margin(&self, guardrail: Guardrail) -> f64 {
        let rule = self.guardrails.0.iter().find(|rule| rule.guardrail == guardrail);
        rule.map_or(0.0, |rule| rule.margin.scaled())
    }
}

fn finding(test: &Test, evidence: f64) -> Option<Finding> {
    let mut finding = Finding::new(test.guardrail(), test.tally(), evidence)?;
    finding.interval = test.interval();
    Some(finding)
}
