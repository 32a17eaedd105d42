//! Tests of parts of the traffic.

use super::*;
use crate::policy::rollout::bets;

fn language(value: &str) -> Traits {
    Traits { language: Some(value.into()), ..Traits::default() }
}

fn fail(segments: &mut Segments, traits: &Traits, arm: Arm, times: usize) {
    let guardrails = Guardrails::default();
    for _ in 0..times {
        let places = segments.places(traits, &guardrails);
        let (guardrail, ratios) = (Guardrail::Errors, Some(&bets::FAILURE));
        segments.count(places, Entry { guardrail, arm, part: 0.05, scaled: 1.0, ratios });
    }
}

#[test]
fn only_the_segment_that_is_worse_is_named() {
    let mut segments = Segments::default();
    fail(&mut segments, &language("en"), Arm::Control, 40);
    fail(&mut segments, &language("de"), Arm::Candidate, 12);
    let worse = segments.worse();
    assert_eq!(worse.len(), 1);
    assert_eq!(*worse[0].name().value, *"de");
    assert_eq!(worse[0].by_evidence()[0].guardrail, Guardrail::Errors);
}

#[test]
fn the_bar_falls_with_the_number_that_reach_it() {
    // With m = 32 and a = 0.002: 16,000 for one alone, 8,000 each for two.
    assert!((bar(1) - 16_000.0).abs() < 1e-6 && (bar(2) - 8_000.0).abs() < 1e-6);
    let with = |evidence: &[f64]| {
        let name = |at: usize| Name { dimension: Dimension::Caller, value: at.to_string().into() };
        let segments = Segments(
            evidence
                .iter()
                .enumerate()
                .map(|(at, evidence)| Segment {
                    name: name(at),
                    parts: Vec::new(),
                    evidence: *evidence,
                })
                .collect(),
        );
        segments.worse().len()
    };
    assert_eq!(with(&[9_000.0, 1.0]), 0);
    assert_eq!(with(&[9_000.0, 1.0, 8_500.0]), 2);
    assert_eq!(with(&[17_000.0, 1.0, 7_000.0]), 1);
    // Three pass at a third of the bar although the first two alone would not.
    assert_eq!(with(&[6_000.0, 5_500.0, 5_400.0]), 3);
}

#[test]
fn callers_beyond_the_capacity_are_not_tested_and_cost_no_memory() {
    let mut segments = Segments::default();
    for at in 0..1_000 {
        let caller = Some(format!("caller-{at}").into());
        fail(&mut segments, &Traits { caller, ..language("en") }, Arm::Candidate, 1);
    }
    assert_eq!(segments.all().len(), PER_DIMENSION + 1);
}
