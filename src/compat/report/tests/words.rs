//! Tests of what a report says in words: where the run is, what failed, what to do.

use super::*;
use crate::compat::agreement::Agreement;
use crate::compat::verdict::{Criterion, Outcome};

fn with_errors(errors: &[&str]) -> Report {
    let mut cases = example::answers(3);
    cases.truncate(5);
    let answers = cases.iter_mut().flat_map(|case| &mut case.candidate);
    for (graded, error) in answers.zip(errors) {
        graded.answer = Answer { error: Some((*error).to_owned()), ..Answer::default() };
        graded.grade = None;
    }
    let report = example::report();
    let mut draft = Draft::new(report.run, report.terms, report.judgement);
    cases.iter().for_each(|case| draft.add(case));
    draft.finish()
}

#[test]
fn the_commonest_error_is_named_with_its_count_its_share_and_its_model() {
    let refused = "401 authentication_error: the key is not known (request 7)";
    let again = "401 authentication_error: the key is not known (request 12)";
    let report = with_errors(&[refused, "no answer in time", again]);
    let told = report.unanswered.as_ref().unwrap().in_words();
    assert_eq!(
        told,
        "3 of 30 answers failed (10 %): 2 x 401 authentication_error from openai/gpt-5-mini: the key \
         is not known (request 12)"
    );
    assert!(report.summary(PLAIN).contains("3 of 30 answers failed (10 %)"));
    assert!(report.html().unwrap().contains("3 of 30 answers failed (10 %)"));
    assert!(report.junit().unwrap().contains("2 x 401 authentication_error"));
    let told = with_errors(&["it cannot be asked: `x` is missing"]).unanswered.unwrap().in_words();
    assert_eq!(
        told,
        "1 of 30 answers failed (3.3 %): from openai/gpt-5-mini: it cannot be asked: `x` is missing"
    );
    assert_eq!(with_errors(&[]).unanswered, None);
}

#[test]
fn a_run_that_is_not_simply_done_says_so_first_everywhere() {
    let mut report = example::report();
    for (state, name) in [
        (RunState::Running, "running"),
        (RunState::Capped, "capped"),
        (RunState::Cancelled, "cancelled"),
        (RunState::Failed, "failed"),
    ] {
        report.state = state;
        report.run.ended_early = Some("it has 7 of 12 answers".to_owned());
        let summary = report.summary(PLAIN);
        let heading = format!("{}  it has 7 of 12 answers. What is known", name.to_uppercase());
        assert!(summary.starts_with(&heading), "{summary}");
        assert_eq!(summary.matches("7 of 12").count(), 1, "it is said once: {summary}");
        let page = report.html().unwrap();
        assert!(page.contains(&format!("<p class=\"badge\">{name}</p>")));
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["state"], name);
    }
    report.state = RunState::Done;
    assert!(!report.html().unwrap().contains("<p class=\"badge\">"));
    assert!(report.summary(PLAIN).contains("Note: it has 7 of 12 answers."));
}

/// The next steps where this criterion alone failed.
fn after(measure: Measure, outcome: Outcome, verdict: Verdict) -> String {
    let mut report = example::report();
    let mut criterion: Criterion = report.judgement.criteria[0].clone();
    (criterion.measure, criterion.outcome, criterion.gates) = (measure, outcome, true);
    report.judgement.criteria = vec![criterion];
    report.judgement.verdict = verdict;
    (report.judgement.next_samples, report.judgement.samples_needed) = (None, None);
    report.judgement.quarantined.clear();
    report.next_steps().join("\n")
}

#[test]
fn what_to_do_follows_from_the_criterion_that_failed() {
    let failed = |measure| after(measure, Outcome::Fails, Verdict::Incompatible);
    assert!(failed(Measure::PassRate).starts_with("Read the newly failing cases"));
    assert!(
        failed(Measure::Critical).contains("critical cases first, one is enough to fail: never")
    );
    assert!(failed(Measure::Preference).contains("the judge prefers the baseline"));
    assert!(failed(Measure::Length).contains("shorter answers"));
    assert!(failed(Measure::Cost).contains("cheaper model"));
    let slow = failed(Measure::Latency);
    assert!(slow.contains("answers come more slowly") && !slow.contains("failing cases"), "{slow}");
    let open = after(Measure::Length, Outcome::Unclear, Verdict::Inconclusive);
    assert!(open.starts_with("Not clear yet: length."), "{open}");
}

#[test]
fn one_is_never_told_as_many() {
    let mut report = example::report();
    report.judgement.verdict = Verdict::Inconclusive;
    report.judgement.unanswered = 1;
    (report.judgement.next_samples, report.judgement.samples_needed) = (None, Some(1));
    let summary = report.summary(PLAIN);
    assert!(summary.contains("About 1 more pair would tell"), "{summary}");
    assert!(summary.contains("1 pair unanswered"), "{summary}");
    let unjudged = Unjudged { cases: 1, of: 1, why: "nobody judges".to_owned() };
    assert!(unjudged.in_words().starts_with("1 of 1 case was not judged"));
}

#[test]
fn a_run_that_lacks_answers_is_told_to_mend_that_and_a_capped_one_to_ask_for_more() {
    let mut report = with_errors(&["401 authentication_error: no"; 15]);
    report.judgement.verdict = Verdict::Inconclusive;
    (report.judgement.unanswered, report.judgement.pairs) = (15, 0);
    let steps = report.next_steps().join("\n");
    assert!(steps.starts_with("Mend what keeps answers from coming"), "{steps}");
    report.judgement.unanswered = 0;
    report.state = RunState::Capped;
    assert!(report.next_steps()[0].contains("--max-cost"));
}

#[test]
fn critical_cases_that_fail_come_before_all_others_and_holes_in_judging_have_a_badge() {
    let mut cases = example::answers(6);
    let late = cases.iter_mut().find(|case| case.id == "tone-angry-4").unwrap();
    late.is_critical = true;
    for check in late.candidate.iter_mut().flat_map(|one| &mut one.grade.as_mut().unwrap().checks) {
        if check.kind == "llm-rubric" {
            check.passed = None;
        }
    }
    let report = example::report();
    let mut draft = Draft::new(report.run, report.terms, report.judgement);
    cases.iter().for_each(|case| draft.add(case));
    let report = draft.finish();
    let first: Vec<_> = report.cases.iter().take(3).map(|case| case.id.as_str()).collect();
    assert_eq!(first[..2], ["never-ask-card", "tone-angry-4"], "{first:?}");
    let holes: Vec<_> = report.cases.iter().filter(|one| one.is_not_judged_in_full).collect();
    assert_eq!(holes.len(), 1);
    let page = report.html().unwrap();
    assert_eq!(page.matches("not judged in full</span>").count(), 1);
    assert!(page.contains("<p class=\"badge\">not judged in full</p>"));
}

#[test]
fn what_a_reader_would_not_see_is_shown_by_its_number() {
    let page = hostile().html().unwrap();
    assert!(page.contains("\\x1b[2J\\x00]]&gt;"), "the terminal's commands are text");
    let is_seen = |letter: char| letter == '\n' || !letter.is_control();
    assert!(page.chars().all(is_seen));
    assert_eq!(numbers::visible("a\tb\nc"), "a\tb\nc");
    assert_eq!(numbers::visible("\u{202e}abc\u{7f}\u{85}"), "\\u{202e}abc\\x7f\\x85");
}

#[test]
fn fewer_cases_than_the_suite_has_are_told_as_such() {
    let mut report = example::report();
    let wide = Style { width: 200, ..PLAIN };
    assert!(report.summary(wide).contains("44 cases x 6 pairs"));
    report.run.suite_cases = 60;
    assert!(report.summary(wide).contains("44 of 60 cases x 6 pairs"));
    assert!(report.html().unwrap().contains("44 of 60 cases × 6 pairs"));
}

#[test]
fn junit_has_no_empty_interval_and_counts_what_judges_cost() {
    let mut report = example::report();
    let critical = Criterion {
        measure: Measure::Critical,
        ..report.judgement.criterion(Measure::PassRate).unwrap().clone()
    };
    let length = report.judgement.criterion(Measure::Length).unwrap().clone();
    let of_one = Criterion { low: (-10.0_f64).exp_m1(), high: 10.0_f64.exp_m1(), ..length };
    report.judgement.criteria = vec![critical, of_one];
    (report.run.cost_micro_usd, report.run.judging_micro_usd) = (2_000_000, 500_000);
    let xml = report.junit().unwrap();
    assert!(!xml.contains("(interval )") && !xml.contains("interval one case"), "{xml}");
    assert!(xml.contains("name=\"cost_usd\" value=\"2.500000\""), "{xml}");
    assert!(xml.contains("name=\"judging_usd\" value=\"0.500000\""), "{xml}");
    let summary = report.summary(Style { width: 200, ..PLAIN });
    assert!(summary.contains("one case") && !summary.contains("to ?"), "{summary}");
    let page = report.html().unwrap();
    assert!(page.contains("one case") && !page.contains("-100 to ?"), "{page}");
}

#[test]
fn cases_that_count_once_are_told_in_every_form() {
    let mut report = example::report();
    let same = |case: &str| Same { case: format!("{case}-incident"), as_case: case.to_owned() };
    report.run.same = vec![same("german"), same("late")];
    let words = "2 cases are the same as others and count once: german-incident (german), \
                 late-incident (late)";
    assert!(report.summary(Style { width: 200, ..PLAIN }).contains(words));
    assert!(report.html().unwrap().contains(words));
    assert!(report.junit().unwrap().contains(words));
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["run"]["same"][0]["as_case"], "german");
    report.run.same.truncate(1);
    let summary = report.summary(Style { width: 200, ..PLAIN });
    assert!(summary.contains("1 case is the same as another and counts once: german"), "{summary}");
}

#[test]
fn a_judge_says_how_many_labels_it_lacks() {
    let of = |both_pass, both_fail, counts| JudgeFacts {
        model: "a/b".to_owned(),
        protocol: "p-1".to_owned(),
        agreement: Agreement { both_pass, both_fail, ..Agreement::default() },
        counts,
        asked: 4,
        disagreed: 0,
    };
    let told = of(1, 0, false).in_words();
    assert!(told.contains("not calibrated on 1 label: it takes 99 more labels, of 100"), "{told}");
    assert!(told.contains("does not count"), "{told}");
    let told = of(0, 0, true).in_words();
    assert!(told.contains("no labels by people") && !told.contains("does not count"), "{told}");
    let told = of(50, 50, true).in_words();
    assert!(told.contains(", calibrated on 100 labels, kappa 1.00"), "{told}");
}
