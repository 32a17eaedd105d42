//! Tests of decisions in words.

use super::*;
use crate::policy::rollout::segments::Dimension;

fn finding(guardrail: Guardrail, ours: f64, theirs: f64) -> Finding {
    Finding {
        guardrail,
        segment: None,
        candidate: Side { count: 612, value: ours },
        control: Side { count: 11_900, value: theirs },
        interval: None,
        evidence: 143.4,
        needed: ONE_IN,
    }
}

#[test]
fn findings_read_as_people_would_say_them() {
    let said = |guardrail, ours, theirs| finding(guardrail, ours, theirs).to_string();
    assert_eq!(
        said(Guardrail::Errors, 0.041, 0.01),
        "candidate fails 4.1 % of 612 requests, control 1.0 % of 11,900; evidence 143 of 100 needed"
    );
    assert_eq!(
        said(Guardrail::FirstToken, 650.0, 500.0),
        "candidate's first token takes 1.30 times as long as control's (650 ms in 612 requests \
         against 500 ms in 11,900); evidence 143 of 100 needed"
    );
    assert_eq!(
        said(Guardrail::Quality, 0.7, 0.75),
        "candidate scores 0.700 in 612 ratings, control 0.750 in 11,900; evidence 143 of 100 needed"
    );
}

#[test]
fn a_segment_is_named_and_huge_evidence_is_cut() {
    let mut finding = finding(Guardrail::Refusals, 0.5, 0.0);
    let value = "de".into();
    finding.segment = Some(Name { dimension: Dimension::Language, value });
    finding.evidence = 1e40;
    assert_eq!(
        finding.to_string(),
        "where the language is de, candidate refuses 50.0 % of 612 requests, control 0.0 % of \
         11,900; evidence more than 1,000,000 of 100 needed"
    );
}
