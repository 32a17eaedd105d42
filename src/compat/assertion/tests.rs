//! Tests of assertions, by tables.

use std::path::PathBuf;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::compat::Call;
use crate::compat::suite::Suite;
use crate::problems::Problems;

const COUNTS: GradeTerms<'static> = GradeTerms { judges_count: true, tools: &[] };

/// A case whose assertions are these, in flow style.
fn case(asserts: &str) -> Case {
    let text = format!(
        "[{{vars: {{name: Ada, list: [one, two]}}, options: {{disableVarExpansion: true}}, assert: [{asserts}]}}]"
    );
    let mut problems = Problems::new();
    let suite = Suite::parse("s", &[(PathBuf::from("s.yaml"), text)], &mut problems);
    suite.unwrap_or_else(|| panic!("{asserts}: {problems}")).cases.remove(0)
}

fn says(text: &str) -> Answer {
    Answer { text: text.to_owned(), ..Answer::default() }
}

fn done(graded: Graded) -> Grade {
    match graded {
        Graded::Done(grade) => grade,
        Graded::Asks(asks) => panic!("asks {asks:?}"),
    }
}

fn grade(asserts: &str, answer: &Answer) -> Grade {
    done(case(asserts).grade(answer, "", &|_| None, COUNTS))
}

/// Every ask gets this reply.
fn with(asserts: &str, reply: &Reply, terms: GradeTerms<'_>) -> Grade {
    done(case(asserts).grade(&says("text"), "", &|_| Some(reply.clone()), terms))
}

#[rustfmt::skip] // A table reads best as a table.
const TEXTS: &[(&str, &str, bool)] = &[
    ("{type: equals, value: 'a b'}", "a b", true),
    ("{type: equals, value: 'a b'}", "a b ", false),
    ("{type: equals, value: 5}", "5", true),
    ("{type: equals, value: 5.0}", "5", true),
    ("{type: equals, value: true}", "true", true),
    ("{type: equals, value: '{{name}}'}", "Ada", true),
    ("{type: equals, value: {a: [1, {b: null}]}}", r#"{"a": [1.0, {"b": null}]}"#, true),
    ("{type: equals, value: {a: 1}}", r#"{"a": 1, "c": 2}"#, false),
    ("{type: equals, value: {a: 1}}", "a: 1", false),
    ("{type: contains, value: 'Ada'}", "Dear Ada,", true),
    ("{type: contains, value: 'ada'}", "Dear Ada,", false),
    ("{type: contains, value: 42}", "it is 42.", true),
    ("{type: icontains, value: 'ÉCOLE'}", "une école", true),
    ("{type: contains-any, value: [x, '{{name}}']}", "Ada", true),
    ("{type: contains-any, value: 'x, y'}", "z", false),
    ("{type: contains-any, value: '\"a, b\", c'}", "a, b", true),
    ("{type: contains-all, value: [a, b]}", "b a", true),
    ("{type: contains-all, value: 'a, b, q'}", "b a", false),
    ("{type: icontains-any, value: [SORRY]}", "so sorry", true),
    ("{type: icontains-all, value: [SO, SORRY]}", "so sorry", true),
    ("{type: regex, value: '^\\d{4}-\\d\\d$'}", "2026-11", true),
    ("{type: regex, value: '\\bcat\\b'}", "concatenate", false),
    ("{type: starts-with, value: Dear}", "Dear Ada", true),
    ("{type: starts-with, value: Dear}", " Dear Ada", false),
    ("{type: ends-with, value: '!'}", "Yes!", true),
    ("{type: is-json}", "[1]", true),
    ("{type: is-json}", "```json\n{}\n```", false),
    ("{type: is-json, value: {type: object, required: [a]}}", "{\"a\": 1}", true),
    ("{type: is-json, value: {type: object, required: [a]}}", "{}", false),
    ("{type: is-json, value: \"type: object\\nrequired: [a]\"}", "{}", false),
    ("{type: contains-json}", "Here: {\"a\": {\"b\": 1}} done", true),
    ("{type: contains-json}", "Here: {a} and [1]", false),
    ("{type: contains-json, value: {required: [b]}}", "{\"a\": 1} and {\"b\": 1}", true),
    ("{type: contains-json, value: {required: [c]}}", "{\"a\": 1} and {\"b\": 1}", false),
    ("{type: word-count, value: 3}", " one  two\nthree ", true),
    ("{type: word-count, value: {min: 2, max: 3}}", "one", false),
    ("{type: word-count, value: {max: 3}}", "", true),
    ("{type: length, value: {chars: {max: 3}}}", "äöü", true),
    ("{type: length, value: {chars: {max: 3}, words: {min: 2}}}", "äöü", false),
    ("{type: length, value: {tokens: {min: 10}}}", "one two three four five six seven eight nine ten", true),
    ("{type: levenshtein, value: kitten}", "sitting", true),
    ("{type: levenshtein, value: kitten, threshold: 2}", "sitting", false),
    ("{type: levenshtein, value: kitten, threshold: 0}", "kitten", true),
    ("{type: rouge-n, value: 'the cat sat down'}", "the cat sat", true),
    ("{type: rouge-n, value: 'the cat sat down', threshold: .8}", "the cat sat", false),
    ("{type: bleu, value: 'the cat sat on the mat'}", "the cat sat on the mat", true),
    ("{type: bleu, value: 'the cat sat on the mat'}", "a dog lay there", false),
    ("{type: gleu, value: ['no', 'the cat sat on the mat.']}", "The cat sat on the mat", true),
    ("{type: gleu, value: 'the cat sat on the mat'}", "the cat", false),
    ("{type: is-refusal}", "I’m sorry, but I can’t help with that.", true),
    ("{type: is-refusal}", "Es tut mir leid, aber ich kann das nicht tun.", true),
    ("{type: is-refusal}", "  ", true),
    ("{type: is-refusal}", "Of course. I can help with that.", false),
    ("{type: is-refusal}", "You say: “I cannot log in”. Here is how.", false),
    ("{type: is-refusal}", "I cannot provide that.", true),
];

#[test]
fn texts_are_held_against_what_is_wanted() {
    for (assertion, text, wanted) in TEXTS {
        let found = grade(assertion, &says(text));
        assert_eq!(found.passed, *wanted, "{assertion} on {text:?}: {found:?}");
        assert_eq!(found.decided(), Some(*wanted));
    }
}

#[test]
fn what_is_known_of_an_answer_besides_its_text_is_held_against_limits() {
    let answer = Answer {
        text: "x".to_owned(),
        finish_reason: "length".to_owned(),
        cost_micro_usd: 1_500,
        latency_ms: 800,
        ..Answer::default()
    };
    #[rustfmt::skip] // A table reads best as a table.
    let cases = [
        ("{type: latency, threshold: 800}", true),
        ("{type: latency, threshold: 799}", false),
        ("{type: cost, threshold: 0.0015}", true),
        ("{type: cost, threshold: 0.001}", false),
        ("{type: finish-reason, value: length}", true),
        ("{type: finish-reason, value: stop}", false),
    ];
    for (assertion, wanted) in cases {
        assert_eq!(grade(assertion, &answer).passed, wanted, "{assertion}");
    }
    let filtered = Answer { finish_reason: "content_filter".to_owned(), ..says("half of") };
    assert!(grade("{type: is-refusal}", &filtered).passed);
    let refused = Answer { refused: true, ..says("Better not.") };
    assert!(grade("{type: is-refusal}", &refused).passed);
}

#[test]
fn calls_are_held_against_the_tools_that_were_given() {
    let call = |name: &str, arguments: &str| Call {
        name: name.to_owned(),
        arguments: arguments.to_owned(),
    };
    let schema = json!({"type": "object", "required": ["city"],
        "properties": {"city": {"type": "string"}}, "additionalProperties": false});
    let tools =
        [json!({"type": "function", "function": {"name": "weather", "parameters": schema}})];
    let terms = GradeTerms { judges_count: true, tools: &tools };
    let right = || call("weather", r#"{"city": "Rome"}"#);
    let passes = |assertion: &str, calls: Vec<Call>| {
        let answer = Answer { calls, ..Answer::default() };
        done(case(assertion).grade(&answer, "", &|_| None, terms)).passed
    };
    let valid = "{type: is-valid-openai-tools-call}";
    assert!(passes(valid, vec![right()]));
    assert!(passes(valid, vec![right(), right()]));
    assert!(!passes(valid, vec![]));
    assert!(!passes(valid, vec![right(), call("other", "{}")]));
    assert!(!passes(valid, vec![call("weather", "{}")]));
    assert!(!passes(valid, vec![call("weather", "city: Rome")]));
    assert!(passes("{type: is-valid-function-call}", vec![right()]));
    assert!(!passes("{type: is-valid-function-call}", vec![right(), right()]));
    assert!(passes("{type: tool-call-f1, value: weather}", vec![right(), right()]));
    assert!(!passes("{type: tool-call-f1, value: [weather, time]}", vec![right()]));
    assert!(passes("{type: tool-call-f1, value: [weather, time], threshold: 0.6}", vec![right()]));
    // Calls alone are their JSON where a text is wanted, as in promptfoo.
    assert!(passes("{type: contains, value: weather}", vec![right()]));
    assert!(!passes("{type: is-refusal}", vec![right()]));
}

#[test]
fn what_no_rule_can_find_out_is_asked_once_and_all_at_once() {
    let case = case(
        "{type: llm-rubric, value: polite}, {type: not-llm-rubric, value: polite}, \
         {type: factuality, value: fact}, {type: similar, value: [a, b]}, {type: contains, value: x}",
    );
    let Graded::Asks(asks) = case.grade(&says("text"), "why?", &|_| None, COUNTS) else {
        panic!("nothing is asked")
    };
    let [rubric, facts, Ask::Similarity { .. }, Ask::Similarity { .. }] = asks.as_slice() else {
        panic!("{asks:?}")
    };
    assert!(matches!(rubric, Ask::Rubric { question, .. } if question == "why?"));
    assert!(matches!(facts, Ask::Factuality { facts, .. } if facts == "fact"));
}

#[test]
fn a_judge_decides_only_where_judges_count() {
    let good = Reply::Rated { passed: true, score: 0.8, reason: "well".to_owned() };
    let bad = Reply::Rated { passed: false, score: 0.2, reason: "badly".to_owned() };
    let ignored = GradeTerms { judges_count: false, tools: &[] };
    let rubric = "{type: llm-rubric, value: polite}";
    assert!(with(rubric, &good, COUNTS).passed);
    assert!(!with(rubric, &bad, COUNTS).passed);
    let open = with(rubric, &bad, ignored);
    assert_eq!((open.decided(), open.checks[0].passed), (None, None));
    assert_eq!(open.checks[0].reason, "badly");
    let both = format!("{rubric}, {{type: contains, value: text}}");
    let grade = with(&both, &bad, ignored);
    assert_eq!((grade.decided(), grade.score), (Some(true), 1.0));
    // Nobody could say: nothing is decided, whichever way it was asked.
    let failed = Reply::Failed("no judge".to_owned());
    for kind in ["llm-rubric", "not-llm-rubric", "factuality", "similar", "not-similar"] {
        let grade = with(&format!("{{type: {kind}, value: x}}"), &failed, COUNTS);
        assert_eq!((grade.decided(), grade.checks[0].passed), (None, None), "{kind}");
    }
}

#[test]
fn thresholds_of_scores_are_promptfoos() {
    let rated = |score: f64| Reply::Rated { passed: true, score, reason: String::new() };
    assert!(with("{type: llm-rubric, value: x}", &rated(0.1), COUNTS).passed);
    assert!(!with("{type: llm-rubric, value: x, threshold: 0.5}", &rated(0.4), COUNTS).passed);
    assert!(with("{type: g-eval, value: x}", &rated(0.7), COUNTS).passed);
    assert!(!with("{type: g-eval, value: [x, y]}", &rated(0.69), COUNTS).passed);
    let near = Reply::Similarity(0.75);
    assert!(with("{type: similar, value: x}", &near, COUNTS).passed);
    assert!(!with("{type: similar, value: x, threshold: 0.8}", &near, COUNTS).passed);
    assert!(with("{type: not-similar, value: x, threshold: 0.8}", &near, COUNTS).passed);
}

#[test]
fn weights_thresholds_and_sets_add_up_as_in_promptfoo() {
    let grade = |asserts: &str, threshold: &str| {
        let text = format!("[{{vars: {{}}{threshold}, assert: [{asserts}]}}]");
        let mut problems = Problems::new();
        let suite = Suite::parse("s", &[(PathBuf::from("s.yaml"), text)], &mut problems);
        let suite = suite.unwrap_or_else(|| panic!("{problems}"));
        done(suite.cases[0].grade(&says("a"), "", &|_| None, COUNTS))
    };
    let (yes, no) = ("{type: contains, value: a}", "{type: contains, value: b}");
    let heavy = "{type: contains, value: a, weight: 3}";
    let found = grade(&format!("{heavy}, {no}"), "");
    assert_eq!((found.passed, found.score), (false, 0.75));
    // A threshold of the case decides alone.
    assert!(grade(&format!("{heavy}, {no}"), ", threshold: 0.75").passed);
    assert!(!grade(&format!("{heavy}, {no}"), ", threshold: 0.76").passed);
    assert!(grade(no, ", threshold: 0").passed);
    // A weight of 0 is only shown.
    let shown = grade(&format!("{yes}, {{type: contains, value: b, weight: 0, metric: tone}}"), "");
    assert_eq!((shown.passed, shown.score), (true, 1.0));
    assert!(shown.checks[1].reason.starts_with("tone: "), "{shown:?}");
    // A set counts as one, by its own threshold.
    let set = |terms: &str| format!("{{type: assert-set{terms}, assert: [{yes}, {no}]}}");
    assert!(!grade(&set(""), "").passed);
    let half = grade(&format!("{}, {yes}", set(", threshold: 0.5, weight: 2")), "");
    assert!(half.passed);
    assert!((half.score - (0.5 * 2.0 + 1.0) / 3.0).abs() < 1e-9, "{half:?}");
    let kinds: Vec<_> = half.checks.iter().map(|check| check.kind.as_str()).collect();
    assert_eq!(kinds, ["assert-set", "contains", "contains", "contains"]);
    // No assertion at all is passed.
    assert_eq!(grade("", "").decided(), Some(true));
}

/// One of each type.
const EACH: [&str; 28] = [
    "equals, value: abc",
    "equals, value: {a: 1}",
    "contains, value: a",
    "icontains, value: A",
    "contains-any, value: [a, '1']",
    "contains-all, value: [a, '1']",
    "icontains-any, value: [a, '1']",
    "icontains-all, value: [a, '1']",
    "regex, value: '[a-c]+\\d'",
    "starts-with, value: a",
    "ends-with, value: a",
    "is-json",
    "is-json, value: {type: object}",
    "contains-json",
    "contains-json, value: {required: [a]}",
    "is-refusal",
    "is-valid-openai-tools-call",
    "is-valid-function-call",
    "tool-call-f1, value: a",
    "word-count, value: {min: 1, max: 4}",
    "length, value: {chars: {max: 9}, tokens: {max: 4}}",
    "latency, threshold: 5",
    "cost, threshold: 5",
    "finish-reason, value: stop",
    "rouge-n, value: 'a b c'",
    "bleu, value: 'a b c'",
    "gleu, value: 'a b c'",
    "levenshtein, value: abc",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn no_text_makes_an_assertion_fail_to_answer_and_not_is_its_exact_negation(
        text in prop_oneof!["\\PC{0,60}", "[a-c{}\\[\\]\":,0-9 ]{0,80}", ".{0,20}"],
        name in "[a-c]{0,2}",
        arguments in "[\\{\\}a\":1]{0,8}",
        has_call: bool,
    ) {
        let calls = if has_call { vec![Call { name, arguments }] } else { Vec::new() };
        let answer = Answer { calls, latency_ms: text.len() as u64, ..says(&text) };
        for each in EACH {
            let is = grade(&format!("{{type: {each}}}"), &answer);
            let not = grade(&format!("{{type: not-{each}}}"), &answer);
            prop_assert_ne!(is.passed, not.passed, "{} on {:?}", each, answer);
            prop_assert!((is.score + not.score - 1.0).abs() < 1e-9, "{} on {:?}", each, answer);
            prop_assert!((0.0..=1.0).contains(&is.score));
        }
    }
}

#[test]
fn hostile_texts_take_no_time_to_speak_of() {
    let nested = "{\"a\":".repeat(100_000);
    let quotes = "{\"".repeat(200_000);
    let flat = format!("{{{}", "\"a\":1,{\"b\":2,".repeat(50_000));
    for text in [&nested, &quotes, &flat] {
        assert!(!grade("{type: is-json}", &says(text)).passed);
        grade("{type: contains-json, value: {required: [q]}}", &says(text));
        grade("{type: levenshtein, value: abc}", &says(text));
        grade("{type: gleu, value: abc}", &says(text));
        grade("{type: is-refusal}", &says(text));
    }
}

#[test]
fn what_is_wrong_with_an_assertion_is_said() {
    #[rustfmt::skip] // A table reads best as a table.
    let cases = [
        ("{type: contains}", "value: missing"),
        ("{type: contains, value: ''}", "value: must not be empty"),
        ("{type: contains, value: {a: 1}}", "value: must be a text"),
        ("{type: regex, value: '(a'}", "is no pattern: unclosed group"),
        ("{type: regex, value: '(?=a)'}", "look-around"),
        ("{type: regex, value: '(a)\\1'}", "backreferences"),
        ("{type: regex, value: 'a{1000}{1000}'}", "is no pattern"),
        ("{type: is-json, value: {type: objct}}", "is no JSON Schema"),
        ("{type: is-json, value: {$ref: 'https://example.com/x'}}", "remote references"),
        ("{type: latency}", "threshold: missing: milliseconds"),
        ("{type: similar, value: a, threshold: 3}", "threshold: must be 0 to 1"),
        ("{type: word-count, value: {max: 1, min: 2}}", "`min` must not be more than `max`"),
        ("{type: length, value: {lines: {max: 1}}}", "`lines` is unknown"),
        ("{type: javascript, value: 'true'}", "`javascript` is not supported: suites run no code"),
        ("{type: not-is-html}", "`not-is-html` is not supported"),
        ("{type: contain, value: a}", "`contain` is no assertion that is known; did you mean `contains`?"),
        ("{type: not-regexx, value: a}", "did you mean `regex`?"),
        ("{type: contains, value: a, treshold: 1}", "`treshold` is not known; did you mean `threshold`?"),
        ("{type: contains, value: a, transform: 'x'}", "`transform` is not supported"),
        ("{type: contains, value: '{{nme}}'}", "undefined"),
        ("{type: contains, value: a, weight: -1}", "must be at least 0"),
        ("{value: a}", "needs `type`"),
        ("{type: assert-set, assert: [{type: select-best, value: a}]}", "cannot stand in an `assert-set`"),
    ];
    for (assertion, wanted) in cases {
        let text = format!("[{{vars: {{name: Ada}}, assert: [{assertion}]}}]");
        let mut problems = Problems::new();
        let read = Suite::parse("s", &[(PathBuf::from("s.yaml"), text)], &mut problems);
        assert!(read.is_none(), "{assertion}");
        assert!(problems.to_string().contains(wanted), "{assertion}: {problems}");
        assert!(problems.to_string().starts_with("s.yaml:1: [0].assert[0]"), "{problems}");
    }
}

#[test]
fn a_judge_is_shown_the_golden_answer_beside_a_rubric() {
    let shown = |asserts: &str| {
        let graded = case(asserts).grade(&says("text"), "q", &|_| None, COUNTS);
        let Graded::Asks(asks) = graded else { panic!("{asserts}: {graded:?}") };
        let rubric = asks.into_iter().find_map(|ask| match ask {
            Ask::Rubric { reference, .. } => Some(reference),
            Ask::Similarity { .. } | Ask::Factuality { .. } | Ask::Prefer { .. } => None,
        });
        rubric.expect("a rubric")
    };
    let rubric = "{type: llm-rubric, value: is polite}";
    assert_eq!(shown(rubric), None);
    let golden = "{type: similar, value: 'Good day.'}";
    assert_eq!(shown(&format!("{golden}, {rubric}")).as_deref(), Some("Good day."));
    // What an answer may not mean, and one of several, is none.
    assert_eq!(shown(&format!("{{type: not-similar, value: 'Go away.'}}, {rubric}")), None);
    assert_eq!(shown(&format!("{{type: similar, value: [a, b]}}, {rubric}")), None);
    let mut named = case(&format!("{golden}, {rubric}"));
    named.reference = Some("Good evening.".to_owned());
    let Graded::Asks(asks) = named.grade(&says("text"), "q", &|_| None, COUNTS) else {
        panic!("it asks nobody")
    };
    assert!(asks.iter().any(
        |ask| matches!(ask, Ask::Rubric { reference: Some(one), .. } if one == "Good evening.")
    ));
}
