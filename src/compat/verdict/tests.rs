//! Bounds against published figures, and verdicts of small runs.

use super::looks::Bounds;
use super::rates::{Pairs, tango};
use super::*;
use crate::compat::{Side, SidePrompt};

mod nights;
mod simulation;

const FIRST: Look = Look { samples: 3, can_ask_more: true };

fn sample(passed: bool) -> Sample {
    Sample { passed: Some(passed), output_tokens: 200, cost_micro_usd: 900, latency_ms: 1_500 }
}

/// A case with so many passed answers of so many, on either side; the passed ones first.
fn case(id: usize, (baseline, candidate): (usize, usize), of: usize) -> PairedCase {
    let side = |passed: usize| (0..of).map(|index| sample(index < passed)).collect();
    PairedCase {
        id: format!("case-{id:03}"),
        category: Category::Functional,
        is_critical: false,
        baseline: side(baseline),
        candidate: side(candidate),
        preferences: Vec::new(),
    }
}

fn cases(count: usize, of: impl Fn(usize) -> (usize, usize)) -> Vec<PairedCase> {
    (0..count).map(|index| case(index, of(index), 3)).collect()
}

fn assert_near(found: f64, wanted: f64, within: f64) {
    assert!((found - wanted).abs() <= within, "{found} is not {wanted} +- {within}");
}

#[test]
fn quantiles_are_those_of_the_tables() {
    assert_near(normal::exceeded(0.05), 1.644_854, 1e-6);
    assert_near(normal::exceeded(0.025), 1.959_964, 1e-6);
    assert_near(normal::below(1.0), 0.841_344_746, 1e-9);
    assert_near(normal::below(-4.0), 3.167e-5, 1e-8);
    assert_near(normal::student(normal::exceeded(0.05), 10), 1.812_461, 1e-3);
    assert_near(normal::student(normal::exceeded(0.025), 5), 2.570_582, 2e-3);
}

/// Airway hyper-responsiveness before and after a transplant, 21 children: the example of
/// Fagerland, Lydersen and Laake, "Recommended tests and confidence intervals for paired binomial
/// proportions", Statistics in Medicine 33 (2014).
#[test]
fn tangos_bounds_are_the_published_ones() {
    let (low, high) = tango(1.0, 7.0, 21.0, 1.959_964);
    assert_near(low, -0.517, 6e-4);
    assert_near(high, -0.026, 6e-4);
}

#[test]
fn one_pair_a_case_has_no_design_effect() {
    let pairs =
        Pairs::of(&(0..40).map(|at| case(at, (1, usize::from(at > 5)), 1)).collect::<Vec<_>>(), 1);
    assert_near(pairs.design_effect(), 1.0, 0.0);
    assert_eq!(pairs.bounds(1.7), tango(0.0, 6.0, 40.0, 1.7));
}

#[test]
fn cases_that_break_for_good_count_once_each_not_once_a_sample() {
    let pairs = Pairs::of(&cases(100, |at| (3, if at < 5 { 0 } else { 3 })), 3);
    assert_near(pairs.design_effect(), 3.0, 0.05);
}

/// The mid-p value of McNemar's exact test: 10 pairs differ, 1 of them for the better.
#[test]
fn single_pairs_are_tested_by_mcnemars_mid_p() {
    let pairs = Pairs::of(
        &(0..50)
            .map(|at| case(at, (usize::from(at != 0), usize::from(at >= 10 || at == 0)), 1))
            .collect::<Vec<_>>(),
        1,
    );
    assert_eq!((pairs.gained, pairs.lost), (1, 9));
    // (C(10,0) + C(10,1) / 2) / 2^10
    assert_near(pairs.chance_if_equal(), 6.0 / 1_024.0, 1e-12);
}

/// Two cases that break for good: C(3,0) C(3,3) / C(6,3) = 1/20 each, of which half counts.
#[test]
fn cases_with_several_pairs_are_strata() {
    let pairs = Pairs::of(&cases(10, |at| (3, if at < 2 { 0 } else { 3 })), 3);
    assert_near(pairs.chance_if_equal(), 1.0 / 400.0 / 2.0, 1e-12);
}

#[test]
fn the_normal_distribution_takes_over_where_there_are_very_many_cases() {
    let pairs = Pairs::of(&cases(300, |at| (at * 5 % 4, at * 7 % 11 % 4)), 3);
    let exact = pairs.chance_within(u64::MAX);
    assert!((0.005..0.45).contains(&exact), "{exact}");
    assert_near(pairs.chance_within(0), exact, 2e-3);
}

/// Three equally spaced looks of Pocock's test at 5 %, one-sided by half: 2.289 (Pocock, Biometrika
/// 64, 1977). Linear spending is near it but not the same; with one look it is the plain test.
#[test]
fn looks_together_err_no_more_than_they_may() {
    assert_near(Bounds::new(&[5], 0.05).at(0), 1.644_854, 1e-6);
    let bounds = Bounds::new(&[1, 2, 3], 0.025);
    let chances = bounds.power(0.0);
    for (chance, part) in chances.iter().zip([1.0 / 3.0, 2.0 / 3.0, 1.0]) {
        assert_near(*chance, 0.025 * part, 2e-5);
    }
    // Bonferroni's bound would be exceeded_by(0.025 / 3) = 2.394 at each look.
    assert!(bounds.z.iter().all(|z| *z < 2.395), "{bounds:?}");
    let pocock = Bounds { parts: bounds.parts, z: vec![2.289; 3] };
    assert_near(pocock.power(0.0)[2], 0.025, 1e-4);
}

/// 247 pairs find 5 points and 687 rule out 3, where 10 % of the pairs differ and there is one
/// look.
#[test]
fn sizes_are_those_of_the_formula_of_paired_proportions() {
    let drift = Bounds::new(&[1], 0.05).drift_for(0.8);
    assert!(plan::size(drift, 0.1, 0.05).abs_diff(247) <= 1);
    assert!(plan::size(drift, 0.1, 0.03).abs_diff(687) <= 1);
    assert!(plan::size(drift, 0.06, 0.02).abs_diff(928) <= 1);
    let terms = Terms { samples: 1, max_samples: 1, ..Terms::default() };
    assert!(plan(100, Some(0.1), &terms).pairs_for_margin.abs_diff(687) <= 1);
}

#[test]
fn a_plan_that_has_the_pairs_it_asks_for_has_the_power_it_promises() {
    let terms = Terms::default();
    let wanted = plan(1, Some(0.1), &terms);
    let power = |pairs: u64| plan(pairs.div_ceil(10), Some(0.1), &terms).looks;
    assert!((0.8..0.82).contains(&power(wanted.pairs_for_margin)[2].compatible));
    assert!((0.8..0.82).contains(&power(wanted.pairs_for_regression)[2].regression));
}

#[test]
fn a_candidate_that_passes_what_the_baseline_passes_is_compatible() {
    let judgement =
        judge(&cases(80, |at| if at < 4 { (0, 0) } else { (3, 3) }), &Terms::default(), FIRST);
    assert_eq!(judgement.verdict, Verdict::Compatible, "{:#?}", judgement.reasons);
    assert_eq!((judgement.pairs, judgement.next_samples), (240, None));
}

#[test]
fn a_candidate_that_breaks_a_tenth_of_the_cases_is_incompatible() {
    let judgement =
        judge(&cases(80, |at| (3, if at < 8 { 0 } else { 3 })), &Terms::default(), FIRST);
    assert_eq!(judgement.verdict, Verdict::Incompatible, "{:#?}", judgement.reasons);
    assert_eq!(judgement.newly_failing.len(), 8);
}

#[test]
fn too_few_pairs_are_inconclusive_and_say_how_many_are_missing() {
    let judgement = judge(&cases(20, |_| (3, 3)), &Terms::default(), FIRST);
    assert_eq!(judgement.verdict, Verdict::Inconclusive);
    assert_eq!(judgement.next_samples, Some(6));
    assert!(judgement.samples_needed.is_some_and(|needed| (1..300).contains(&needed)));
    let last =
        judge(&cases(20, |_| (3, 3)), &Terms::default(), Look { can_ask_more: false, ..FIRST });
    assert_eq!(last.next_samples, None);
}

#[test]
fn a_new_critical_failure_is_asked_once_more_and_then_counts() {
    let mut all = cases(80, |at| (3, if at == 7 { 0 } else { 3 }));
    all[7].is_critical = true;
    let judgement = judge(&all, &Terms::default(), FIRST);
    assert_eq!(judgement.verdict, Verdict::Inconclusive);
    assert_eq!((judgement.confirm, judgement.next_samples), (vec!["case-007".to_owned()], None));

    let mut again = all.clone();
    again[7].baseline.push(sample(true));
    again[7].candidate.push(sample(false));
    let judgement = judge(&again, &Terms::default(), FIRST);
    assert_eq!(judgement.verdict, Verdict::Incompatible, "{:#?}", judgement.reasons);
    assert!(judgement.reasons[0].contains("case-007"), "{:?}", judgement.reasons);

    let mut passed = all;
    passed[7] = PairedCase { is_critical: true, ..case(7, (3, 2), 3) };
    passed[7].baseline.push(sample(true));
    passed[7].candidate.push(sample(true));
    let judgement = judge(&passed, &Terms::default(), FIRST);
    assert_eq!(judgement.verdict, Verdict::Compatible, "{:#?}", judgement.reasons);
}

#[test]
fn many_missing_answers_decide_nothing() {
    let mut all = cases(80, |_| (3, 3));
    for case in &mut all[..12] {
        case.candidate.iter_mut().for_each(|sample| sample.passed = None);
    }
    let judgement = judge(&all, &Terms::default(), FIRST);
    assert_eq!((judgement.verdict, judgement.unanswered), (Verdict::Inconclusive, 36));
    assert!(judgement.reasons[0].contains("36 of 240"), "{:?}", judgement.reasons);
}

#[test]
fn longer_answers_gate_on_one_model_and_are_told_on_two() {
    let mut all = cases(80, |_| (3, 3));
    for sample in all.iter_mut().flat_map(|case| &mut case.candidate) {
        sample.output_tokens = 300;
    }
    let judgement = judge(&all, &Terms::default(), FIRST);
    assert_eq!(judgement.verdict, Verdict::Incompatible);
    let length = judgement.criterion(Measure::Length).unwrap();
    assert_eq!(length.equivalence, Some(Equivalence::Different));

    let side = |model: &str| Side {
        prompt: SidePrompt::Inline { index: 0, label: "a".to_owned() },
        model: model.to_owned(),
        parameters: serde_json::Map::new(),
    };
    let terms = Terms::default().between(&side("openai/gpt-5"), &side("mistral/large"));
    let judgement = judge(&all, &terms, FIRST);
    assert_eq!(judgement.verdict, Verdict::Compatible, "{:#?}", judgement.reasons);
    assert!(judgement.reasons.iter().any(|reason| reason.contains("told only")));
}

#[test]
fn a_flaky_case_is_quarantined_once_it_has_answers_enough() {
    let mut all: Vec<PairedCase> = (0..40).map(|at| case(at, (6, 6), 6)).collect();
    all[3] = case(3, (3, 2), 6);
    all[4] = case(4, (3, 0), 6);
    all[5] = PairedCase { is_critical: true, ..case(5, (3, 2), 6) };
    let look = Look { samples: 6, can_ask_more: true };
    assert_eq!(judge(&all, &Terms::default(), look).quarantined, ["case-003"]);
    assert!(judge(&all, &Terms::default(), FIRST).quarantined.is_empty());
}

#[test]
fn nothing_to_compare_is_inconclusive() {
    let judgement = judge(&[], &Terms::default(), FIRST);
    assert_eq!((judgement.verdict, judgement.pairs), (Verdict::Inconclusive, 0));
    assert_eq!(judgement.reasons, ["there is no pair to compare"]);
}

#[test]
fn judgements_survive_json() {
    let judgement = judge(&cases(80, |_| (3, 3)), &Terms::default(), FIRST);
    let text = serde_json::to_string(&judgement).unwrap();
    assert_eq!(serde_json::from_str::<Judgement>(&text).unwrap(), judgement);
}

#[test]
fn so_many_more_pairs_of_more_cases_would_tell() {
    // Of sixty pairs six differ, three each way: nothing is told yet.
    let some = |number: usize| match number % 20 {
        0 => (3, 2),
        1 => (2, 3),
        number if number < 16 => (3, 3),
        _ => (0, 0),
    };
    let terms = Terms::default();
    let look = Look { can_ask_more: false, ..FIRST };
    let few = judge(&cases(40, some), &terms, look);
    assert_eq!(few.verdict, Verdict::Inconclusive, "{few:?}");
    let needed = few.samples_needed.expect("it says how many");
    let enough = 40 * usize::try_from(needed + few.pairs).unwrap() / 120;
    let many = judge(&cases(enough.next_multiple_of(20), some), &terms, look);
    assert_eq!(many.verdict, Verdict::Compatible, "{needed} more: {many:?}");
    let half = judge(&cases((enough / 3).next_multiple_of(20), some), &terms, look);
    assert_eq!(half.verdict, Verdict::Inconclusive, "{needed} more: {half:?}");
}

/// Cases with a preference each, and nothing else that differs.
fn preferred(count: usize, preference: Preference) -> Vec<PairedCase> {
    let mut all = cases(120, |_| (3, 3));
    for case in all.iter_mut().take(count) {
        case.preferences = vec![preference; 3];
    }
    all
}

#[test]
fn what_a_judge_prefers_gates_from_ten_cases_on() {
    let verdict = |count, preference| {
        let judgement = judge(&preferred(count, preference), &Terms::default(), FIRST);
        let gates = judgement.criterion(Measure::Preference).map(|one| one.gates);
        (judgement.verdict, gates)
    };
    assert_eq!(verdict(0, Preference::Tie), (Verdict::Compatible, None));
    assert_eq!(verdict(9, Preference::Baseline), (Verdict::Compatible, Some(false)));
    assert_eq!(verdict(10, Preference::Baseline), (Verdict::Incompatible, Some(true)));
    assert_eq!(verdict(10, Preference::Candidate), (Verdict::Compatible, Some(true)));
}

#[test]
fn where_test_and_interval_disagree_it_is_said_by_which_it_was_decided() {
    // Two cases of 39 break for good: no chance, but two are few to know how cases vary.
    let broken = judge(&cases(39, |at| (3, if at < 2 { 0 } else { 3 })), &Terms::default(), FIRST);
    let rate = broken.criterion(Measure::PassRate).unwrap();
    assert_eq!(rate.outcome, Outcome::Fails, "{rate:?}");
    assert!(rate.high > 0.0, "{rate:?}");
    let test = rate.test.unwrap();
    assert!(test.chance <= test.level, "{test:?}");
    // (1/20)^2, half of it.
    assert_near(test.chance, 0.001_25, 1e-9);
    let said = rate.by_test().unwrap();
    assert!(said.contains("the interval reaches 0, but an exact test of the answers"), "{said}");
    assert!(said.contains("0.13 % by chance"), "{said}");
    assert!(broken.reasons[0].contains(&said), "{:?}", broken.reasons);
    let json = serde_json::to_value(rate).unwrap();
    assert_eq!(json["test"]["chance"].as_f64(), Some(test.chance));

    // Where both say the same, there is nothing to explain.
    for (count, broken) in [(39, 0), (200, 40)] {
        let of = |at: usize| (3, if at < broken { 0 } else { 3 });
        let judgement = judge(&cases(count, of), &Terms::default(), FIRST);
        let rate = judgement.criterion(Measure::PassRate).unwrap();
        assert_eq!(rate.by_test(), None, "{rate:?}");
        assert!(!judgement.reasons[0].contains("exact test"), "{:?}", judgement.reasons);
    }
    // The other way round: less than the test asks for.
    let test = Some(ExactTest { chance: 0.03, level: 0.01 });
    let open = Criterion { outcome: Outcome::Unclear, high: -0.01, test, ..rate.clone() };
    let said = open.by_test().unwrap();
    assert!(
        said.contains("is below 0")
            && said.contains("3 % by chance, where it has to be at most 1 %"),
        "{said}"
    );
}

#[test]
fn the_means_of_one_case_have_no_interval() {
    let mut one = cases(1, |_| (3, 3));
    one[0].candidate.iter_mut().for_each(|sample| sample.output_tokens = 400);
    let length = |all: &[PairedCase]| {
        let judgement = judge(all, &Terms { length: Bearing::Gates, ..Terms::default() }, FIRST);
        let reasons = judgement.reasons.join("; ");
        (judgement.criterion(Measure::Length).unwrap().is_bounded(), reasons)
    };
    let (is_bounded, reasons) = length(&one);
    assert!(!is_bounded && reasons.contains("one case tells no interval"), "{reasons}");
    let (is_bounded, reasons) = length(&cases(12, |_| (3, 3)));
    assert!(is_bounded && !reasons.contains("one case"), "{reasons}");
}
