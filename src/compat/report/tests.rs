//! Reports in all their forms. `UPDATE=1` writes the golden files anew.

use std::path::PathBuf;

use super::*;

mod example;
mod words;

const PLAIN: Style = Style { color: false, width: 80 };

fn golden(name: &str, text: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/compat").join(name);
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let wanted = std::fs::read_to_string(&path).unwrap();
    assert_eq!(text, wanted, "{} has changed; UPDATE=1 writes it anew", path.display());
}

#[test]
fn the_example_is_the_golden_report_and_survives_json() {
    let report = example::report();
    let text = serde_json::to_string_pretty(&report).unwrap() + "\n";
    golden("report.json", &text);
    let again: Report = serde_json::from_str(&text).unwrap();
    // The last digit of a fraction may be another: JSON is decimal.
    let exact = |text: &str| text.replace(|letter: char| letter.is_ascii_digit(), "");
    assert_eq!(again.cases.len(), report.cases.len());
    assert_eq!(again.judgement.reasons, report.judgement.reasons);
    let shape = exact(&serde_json::to_string_pretty(&again).unwrap());
    assert!(shape == exact(text.trim_end()), "names or values are lost");
}

#[test]
fn the_summary_fits_its_page_and_says_the_verdict_first() {
    let report = example::report();
    for (width, name) in [(80, "summary-80.txt"), (120, "summary-120.txt")] {
        let summary = report.summary(Style { width, ..PLAIN });
        assert!(summary.starts_with("INCOMPATIBLE  "), "{summary}");
        assert!(!summary.contains('\u{1b}'));
        let longest = summary.lines().map(|line| line.chars().count()).max();
        assert!(longest <= Some(width), "{longest:?} columns\n{summary}");
        golden(name, &summary);
    }
    let colored = report.summary(Style { color: true, ..PLAIN });
    assert!(colored.starts_with("\u{1b}[1;31mINCOMPATIBLE\u{1b}[0m"), "{colored}");
}

/// A run in which everything that others say is hostile.
fn hostile() -> Report {
    const EVIL: &str = "</pre><script>alert(1)</script><img src=x onerror=\"alert(2)\">'{{ 7*7 }}\u{1b}[2J\u{0}]]>";
    let mut cases = example::answers(3);
    cases.truncate(3);
    for case in &mut cases {
        case.id.push_str(EVIL);
        case.description = EVIL.to_owned();
        case.question = EVIL.to_owned();
        case.vars.insert(EVIL.to_owned(), serde_json::Value::from(EVIL));
        for graded in case.baseline.iter_mut().chain(&mut case.candidate) {
            graded.answer.text.push_str(EVIL);
            graded.answer.finish_reason = EVIL.to_owned();
            graded.answer.served_by = EVIL.to_owned();
            graded.answer.calls.push(Call { name: EVIL.to_owned(), arguments: EVIL.to_owned() });
            for check in graded.grade.iter_mut().flat_map(|grade| &mut grade.checks) {
                check.kind = EVIL.to_owned();
                check.reason = EVIL.to_owned();
                check.passed = Some(false);
            }
        }
    }
    let mut run = example::facts();
    run.description = EVIL.to_owned();
    run.suite = EVIL.to_owned();
    run.kind = EVIL.to_owned();
    run.candidate.model = EVIL.to_owned();
    run.ended_early = Some(EVIL.to_owned());
    let mut judgement = example::report().judgement;
    judgement.reasons.push(EVIL.to_owned());
    judgement.confirm.push(EVIL.to_owned());
    let mut draft = Draft::new(run, Terms::default(), judgement);
    cases.iter().for_each(|case| draft.add(case));
    draft.finish()
}

#[test]
fn nothing_that_a_model_says_is_markup_on_the_page() {
    let page = hostile().html().unwrap();
    assert_eq!(page.matches("<script").count(), 1, "there is one script, ours");
    assert!(!page.contains("<img") && !page.contains("onerror=\""));
    assert!(page.contains("&lt;script&gt;alert(1)"), "it is shown as text");
    assert!(page.contains("{{ 7*7 }}"), "it is no template");
    // The policy of the page names that script by its digest, and allows nothing else.
    assert!(page.contains("default-src 'none'") && page.contains("script-src 'sha256-"));
    for part in page.split("<script>").next().unwrap().split('<') {
        let tag = part.split('>').next().unwrap();
        let loads = ["link", "iframe", "object"].iter().any(|name| tag.starts_with(name));
        assert!(!loads && !tag.contains("src=") && !tag.contains("onerror"), "{tag}");
    }
}

#[test]
fn nothing_that_a_model_says_is_obeyed_by_a_terminal() {
    let summary = hostile().summary(PLAIN);
    let is_safe = |letter: char| letter == '\n' || !letter.is_control();
    assert!(summary.chars().all(is_safe), "{summary:?}");
}

#[test]
fn junit_says_what_the_verdict_says() {
    let example = example::report();
    let failing = example.with_standing(&[Standing::NewlyFailing]).len();
    let xml = example.junit().unwrap();
    let report = quick_junit::Report::deserialize_from_str(&xml).unwrap();
    let [verdict, cases] = report.test_suites.as_slice() else { panic!("{xml}") };
    assert_eq!((verdict.tests, verdict.failures), (6, 3), "the verdict is one of them");
    assert_eq!((cases.tests, cases.failures, cases.skipped), (44, failing, 1));
    let worst = &cases.test_cases[0];
    assert_eq!(worst.name.as_str(), "never-ask-card");
    let p95 = worst.properties.iter().find(|property| property.name.as_str() == "candidate_p95_ms");
    assert!(p95.is_some_and(|property| property.value.as_str().parse::<u64>().is_ok()));
    // Letters that XML cannot hold are left out, and markup is text.
    let evil = hostile().junit().unwrap();
    assert!(quick_junit::Report::deserialize_from_str(&evil).is_ok(), "{evil}");
    assert!(!evil.contains("<script"));
}

#[test]
fn a_case_that_is_newly_failed_is_green_in_a_compatible_run() {
    let mut report = example::report();
    report.judgement.verdict = Verdict::Compatible;
    let report = quick_junit::Report::deserialize_from_str(&report.junit().unwrap()).unwrap();
    assert_eq!(report.test_suites[1].failures, 0);
}

#[test]
fn the_most_telling_cases_keep_their_answers_whatever_the_order_they_come_in() {
    let of = |cases: &[CaseAnswers]| {
        let report = example::report();
        let mut draft = Draft::new(report.run, report.terms, report.judgement).shown(7);
        cases.iter().for_each(|case| draft.add(case));
        draft.finish()
    };
    let mut cases = example::answers(6);
    let first = of(&cases);
    cases.reverse();
    let second = of(&cases);
    assert_eq!(first, second);
    let shown: Vec<bool> = first.cases.iter().map(|case| case.shown.is_some()).collect();
    assert_eq!(shown.iter().filter(|shown| **shown).count(), 7);
    assert!(shown[..7].iter().all(|shown| *shown), "the first of the report are shown");
    assert_eq!(first.cases[0].id, "never-ask-card");
}

#[test]
fn long_answers_are_cut_and_say_by_how_much() {
    let mut cases = example::answers(1);
    cases[0].candidate[0].answer.text = "ü".repeat(10_000);
    let report = example::report();
    let mut draft = Draft::new(report.run, report.terms, report.judgement);
    draft.add(&cases[0]);
    let shown = draft.finish().cases.remove(0).shown.unwrap();
    let answer = &shown.pairs[0].candidate;
    assert_eq!((answer.text.chars().count(), answer.cut), (6_000, 4_000));
}

/// Writes the page and the XML where `REPORTS` says, for people to look at.
#[test]
fn the_page_and_the_xml_can_be_looked_at() {
    let report = example::report();
    let (page, xml) = (report.html().unwrap(), report.junit().unwrap());
    if let Some(folder) = std::env::var_os("REPORTS").map(PathBuf::from) {
        std::fs::write(folder.join("report.html"), &page).unwrap();
        std::fs::write(folder.join("report.xml"), &xml).unwrap();
    }
    assert!(page.contains("</html>") && xml.contains("</testsuites>"));
}

/// A night of a prompt against itself: the candidate's answers, and what is said of them.
fn night(judgement: Judgement, is_first: bool) -> Report {
    let mut facts = example::facts();
    (facts.kind, facts.first_night) = ("drift".to_owned(), is_first);
    facts.baseline = facts.candidate.clone();
    let first = "first night: answers are kept, nothing to compare with yet".to_owned();
    facts.ended_early = is_first.then_some(first);
    let mut draft = Draft::new(facts, Terms::default(), judgement);
    for mut case in example::answers(6) {
        if is_first {
            case.baseline.clear();
        }
        draft.add(&case);
    }
    draft.finish()
}

#[test]
fn a_first_night_is_no_failure_in_any_form() {
    let report = night(Judgement::nothing(), true);
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["run"]["first_night"], true);
    assert_eq!(json.get("judgement"), None, "no verdict");
    let again: Report = serde_json::from_value(json).unwrap();
    assert_eq!(again, report);
    let summary = report.summary(Style { width: 200, ..PLAIN });
    assert!(
        summary.starts_with("FIRST NIGHT  answers are kept, nothing to compare with yet\n"),
        "{summary}"
    );
    assert!(summary.contains("44 cases x 6 answers"), "{summary}");
    assert!(!summary.contains("baseline") && !summary.contains("INCONCLUSIVE"), "{summary}");
    let junit = report.junit().unwrap();
    assert!(!junit.contains("<failure") && !junit.contains("<error"), "{junit}");
    assert!(junit.contains("answers pass") && !junit.contains("no pair of answers"), "{junit}");
    let page = report.html().unwrap();
    assert!(page.contains("<p class=\"verdict\">first night</p>"), "{page}");
    assert!(!page.contains("<h2>Criteria</h2>") && !page.contains("inconclusive"), "{page}");
}

#[test]
fn a_night_says_what_nights_say_and_a_pair_how_often_it_was_run() {
    let verdict = Verdict::Incompatible;
    let report = night(Judgement { verdict, samples: 6, ..Judgement::nothing() }, false);
    let headline = report.headline();
    assert!(headline.ends_with("answers worse than the nights before"), "{headline}");
    let steps = report.next_steps().join(" ");
    assert!(steps.contains("what the provider says it has changed"), "{steps}");
    assert!(!steps.contains("canary"), "{steps}");

    let mut report = example::report();
    assert!(!report.summary(PLAIN).contains("run of this pair"));
    for (number, not_compatible, words) in [
        (3, 2, "the 3rd run of this pair; 2 were not compatible"),
        (11, 1, "the 11th run of this pair; 1 was not compatible"),
        (22, 0, "the 22nd run of this pair; all were compatible"),
    ] {
        report.run.pair = Some(PairRuns { number, not_compatible });
        let on_one_line = report.summary(Style { width: 2_000, ..PLAIN });
        assert!(on_one_line.contains(words), "{on_one_line}");
        assert!(report.html().unwrap().contains(words));
        assert!(report.junit().unwrap().contains(words));
    }
}
