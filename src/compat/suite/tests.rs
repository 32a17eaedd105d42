//! Tests of reading suites. The configurations and what becomes of them are in
//! `tests/golden/promptfoo`.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::Path;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::compat::assertion::{GradeTerms, Graded};
use crate::compat::{Answer, Ask, Reply};

mod patterns;
mod shipped;
mod written;

/// Files by a closure, of which none can be listed.
struct Opened<F>(F);

impl<F: FnMut(&Path) -> io::Result<String>> Files for Opened<F> {
    fn read(&mut self, path: &Path) -> io::Result<String> {
        (self.0)(path)
    }

    fn list(&mut self, _: &Path) -> io::Result<Vec<(String, bool)>> {
        Err(io::Error::from(io::ErrorKind::NotFound))
    }
}

/// The text with its files put in; or what is wrong with them.
fn put_in(text: &str, files: &mut dyn Files) -> Result<String, String> {
    let whole = inline_files(text, files);
    let mut problems = Problems::new();
    whole.tell(Path::new("suite.yaml"), &mut problems);
    if problems.is_empty() { Ok(whole.text) } else { Err(problems.to_string()) }
}

/// Reads one file.
fn read(text: &str) -> Result<Suite, String> {
    let mut problems = Problems::new();
    let files = [(PathBuf::from("suite.yaml"), text.to_owned())];
    Suite::parse("suite", &files, &mut problems).ok_or_else(|| problems.to_string())
}

fn refused(text: &str) -> String {
    read(text).err().unwrap_or_else(|| panic!("it is read: {text}"))
}

fn ids(suite: &Suite) -> Vec<&str> {
    suite.cases.iter().map(|case| case.id.as_str()).collect()
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/promptfoo")
}

/// What becomes of a configuration, for people.
fn imported(name: &str) -> String {
    let text = fs::read_to_string(folder().join(name)).expect("a fixture");
    let mut open = Opened(|path: &Path| fs::read_to_string(folder().join(path)));
    let text = put_in(&text, &mut open).expect("its files");
    let mut problems = Problems::new();
    let files = [(PathBuf::from(name), text)];
    let mut told = String::new();
    let Some(suite) = Suite::parse("suite", &files, &mut problems) else {
        return format!("{problems}\n");
    };
    for (index, prompt) in suite.prompts.iter().enumerate() {
        writeln!(told, "prompt: {}", prompt.label).expect("a string");
        let case = suite.cases.first().expect("a case");
        for message in suite.question(index, &case.vars).expect("a question") {
            writeln!(told, "  {}: {}", message.role.as_str(), message.text).expect("a string");
        }
    }
    for SuiteModel { model, label, parameters } in &suite.models {
        let parameters: Vec<_> = parameters.keys().map(String::as_str).collect();
        writeln!(told, "model: {model} ({label}) {}", parameters.join(" ")).expect("a string");
    }
    for case in &suite.cases {
        let answer = Answer { text: "Hola, Paris".to_owned(), ..Answer::default() };
        let graded = case.grade(
            &answer,
            "",
            &|_| Some(Reply::Failed("nobody".to_owned())),
            GradeTerms::default(),
        );
        let Graded::Done(grade) = graded else { panic!("it asks though it was told") };
        let kinds: Vec<_> = grade.checks.iter().map(|check| check.kind.as_str()).collect();
        let vars = serde_json::to_string(&case.vars).expect("JSON");
        writeln!(told, "case: {} {:?} {vars}", case.id, case.category).expect("a string");
        writeln!(told, "  {}", kinds.join(", ")).expect("a string");
        if let Some(criteria) = &case.prefer {
            writeln!(told, "  prefer: {criteria}").expect("a string");
        }
    }
    writeln!(told, "left out: {}", suite.left_out.join(", ")).expect("a string");
    told
}

#[test]
fn the_shapes_of_promptfoos_examples_are_read_or_refused_by_name() {
    let mut names: Vec<String> = fs::read_dir(folder())
        .expect("fixtures")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .filter(|name| name.ends_with(".yaml"))
        .collect();
    names.sort();
    assert_eq!(names.len(), 10);
    for name in names {
        let told = imported(&name);
        let wanted = folder().join(name.replace(".yaml", ".imported.txt"));
        #[expect(
            clippy::disallowed_methods,
            reason = "a switch of the test run, not of the program"
        )]
        if std::env::var("UPDATE").is_ok() {
            fs::write(&wanted, &told).expect("written");
        }
        assert_eq!(
            told,
            fs::read_to_string(&wanted).expect("what it was"),
            "{name}: run with UPDATE=1"
        );
    }
}

#[test]
fn a_suite_is_asked_and_graded() {
    let suite = read(
        r#"
description: Capitals
prompts:
  - "What is the capital of {{country}}?"
providers: [openai:chat:gpt-4o-mini, anthropic:messages:claude-sonnet-4-5]
tests:
  - description: France
    vars: {country: France}
    assert:
      - {type: contains, value: Paris}
      - {type: llm-rubric, value: "names {{country}}"}
"#,
    )
    .expect("a suite");
    assert_eq!(suite.models[1].model, "anthropic/claude-sonnet-4-5");
    let case = &suite.cases[0];
    let question = suite.question(0, &case.vars).expect("a question");
    assert_eq!(question[0].text, "What is the capital of France?");
    let answer = Answer { text: "It is Paris.".to_owned(), ..Answer::default() };
    let terms = GradeTerms { judges_count: true, ..GradeTerms::default() };
    let Graded::Asks(asks) = case.grade(&answer, "q", &|_| None, terms) else { panic!("asks") };
    let [Ask::Rubric { rubric, .. }] = asks.as_slice() else { panic!("{asks:?}") };
    assert_eq!(rubric, "names France");
    let reply = Reply::Rated { passed: true, score: 0.5, reason: "well".to_owned() };
    let graded = case.grade(&answer, "q", &|_| Some(reply.clone()), terms);
    let Graded::Done(grade) = graded else { panic!("{graded:?}") };
    assert!(grade.passed);
    assert!((grade.score - 0.75).abs() < 1e-9, "{grade:?}");
}

#[test]
fn every_problem_is_reported_with_its_line_and_key() {
    let told = refused(
        "prompts: ['{{a']\nproviders: [gpt4]\ntests:\n  - vars: {a: 1}\n    metadata: {category: edgy}\n    \
         assert:\n      - type: contians\n        value: x\n  - vars: [1]\n    threshhold: 1\n",
    );
    let lines: Vec<&str> = told.lines().collect();
    let wanted = [
        "suite.yaml:1: prompts[0]: ",
        "suite.yaml:5: tests[0].metadata.category: must be one of functional, semantic, edge, performance; did \
         you mean `edge`?",
        "suite.yaml:7: tests[0].assert[0].type: `contians` is no assertion that is known; did you mean \
         `contains`?",
        "suite.yaml:9: tests[1].vars: must be a table, found a list",
        "suite.yaml:10: tests[1].threshhold: `threshhold` is not known; did you mean `threshold`?",
    ];
    for wanted in wanted {
        assert!(lines.iter().any(|line| line.starts_with(wanted)), "{wanted}\nis not in\n{told}");
    }
}

#[test]
fn a_problem_of_the_default_is_one_however_many_cases_there_are() {
    let tests = "  - vars: {a: 1}\n".repeat(500);
    let told = refused(&format!(
        "defaultTest: {{assert: [{{type: regex, value: '('}}]}}\ntests:\n{tests}"
    ));
    assert_eq!(told.matches("is no pattern").count(), 1, "{told}");
    // Ids do come twice, and only so many problems are shown.
    assert!(told.contains("more problems are not shown"), "{told}");
}

#[test]
fn files_beside_a_prompt_are_joined_and_their_defaults_are_their_own() {
    let files = [
        (
            "a.yaml",
            "defaultTest: {assert: [{type: contains, value: a}]}\ntests: [{description: one, vars: {}}]",
        ),
        ("b.yaml", "- {description: two, vars: {x: 1}}\n- {description: Two!, vars: {x: 2}}"),
    ];
    let files: Vec<_> =
        files.iter().map(|(name, text)| (PathBuf::from(name), (*text).to_owned())).collect();
    let mut problems = Problems::new();
    assert!(Suite::parse("s", &files, &mut problems).is_none());
    let told = problems.to_string();
    assert!(told.starts_with("b.yaml:2: [1]: another case has the id `two`"), "{told}");

    let mut problems = Problems::new();
    let suite = Suite::parse("s", &[files[0].clone()], &mut problems).expect("a suite");
    assert_eq!(ids(&suite), ["one"]);
    assert_eq!(suite.cases[0].rules.entries.len(), 1);
    assert!(suite.prompts.is_empty() && suite.models.is_empty());
}

#[test]
fn ids_are_given_described_or_hashed() {
    let suite = read(
        "tests:\n  - {metadata: {id: mine}, vars: {a: 1}}\n  - {description: 'Wie groß? {{a}}', vars: {a: [x, y]}}\n  \
         - {vars: {a: 3}}\n",
    )
    .expect("a suite");
    let [first, second, third, fourth] = ids(&suite)[..] else { panic!("{:?}", ids(&suite)) };
    assert_eq!((first, second, third), ("mine", "wie-groß-x-1", "wie-groß-y-2"));
    let hash: String = suite.cases[3].hash.chars().take(12).collect();
    assert_eq!(fourth, format!("case-{hash}"));
}

#[test]
fn the_hash_covers_what_shapes_questions_and_grades_and_nothing_else() {
    const SUITE: &str = "description: d\nprompts: ['{{a}}']\nproviders: [{id: 'openai:x', config: {temperature: 0}}]\n\
        tests:\n  - {description: t, metadata: {id: i, note: n}, vars: {a: 1}, threshold: 0.5, assert: [{type: contains, \
        value: v, weight: 1}, {type: select-best, value: better}]}\n";
    let hash = |text: &str| read(text).unwrap_or_else(|why| panic!("{why}")).hash;
    let whole = hash(SUITE);
    let same = [
        ("description: d", "description: e"),
        ("description: t", "description: u"),
        ("note: n", "note: m"),
        ("{{a}}']\n", "{{a}}']   # for people\n"),
        ("weight: 1", "weight: 1.0"),
    ];
    for (from, to) in same {
        assert_eq!(hash(&SUITE.replacen(from, to, 1)), whole, "{from} -> {to}");
    }
    let other = [
        ("'{{a}}'", "'{{a}}!'"),
        ("openai:x", "openai:y"),
        ("temperature: 0", "temperature: 1"),
        ("id: i", "id: j"),
        ("a: 1", "a: 2"),
        ("0.5", "0.6"),
        ("type: contains", "type: not-contains"),
        ("value: v", "value: w"),
        ("weight: 1", "weight: 2"),
        ("value: better", "value: shorter"),
        ("id: i,", "id: i, critical: true,"),
        ("id: i,", "id: i, category: edge,"),
    ];
    for (from, to) in other {
        let changed = SUITE.replacen(from, to, 1);
        assert_ne!(changed, SUITE, "{from}");
        assert_ne!(hash(&changed), whole, "{from} -> {to}");
    }
}

#[test]
fn a_depth_chooses_the_same_cases_each_time() {
    let mut text = String::from("tests:\n");
    for number in 0..40 {
        let category = ["functional", "semantic", "edge", "performance"][number % 4];
        let marks = match number {
            6 => ", critical: true",
            7 => ", smoke: true",
            11 => ", tags: [weather]",
            _ => "",
        };
        writeln!(
            text,
            "  - {{metadata: {{id: c{number}, category: {category}{marks}}}, vars: {{a{number}: 1}}}}"
        )
        .expect("a string");
    }
    let suite = read(&text).expect("a suite");
    let chosen = |depth| suite.chosen(depth).iter().map(|case| case.id.clone()).collect::<Vec<_>>();
    assert_eq!(chosen(Depth::Full).len(), 40);
    let smoke = chosen(Depth::Smoke);
    assert!((12..=14).contains(&smoke.len()), "{smoke:?}");
    assert!(["c6", "c7"].iter().all(|id| smoke.contains(&(*id).to_owned())), "{smoke:?}");
    let targeted = chosen(Depth::Targeted);
    assert!((26..=28).contains(&targeted.len()), "20, and what else is smoke: {targeted:?}");
    assert!(smoke.iter().all(|id| targeted.contains(id)), "{smoke:?} {targeted:?}");
    let touched = ["weather".to_owned(), "a10".to_owned()];
    let more = suite.chosen_for(Depth::Targeted, &touched);
    assert!(more.len() > targeted.len() && more.iter().any(|case| case.id == "c10"), "{more:?}");
    // One more case leaves the others as they are, but for those it takes the place of.
    let larger =
        read(&format!("{text}  - {{metadata: {{id: new}}, vars: {{}}}}\n")).expect("a suite");
    let still = larger.chosen(Depth::Smoke);
    let kept = smoke.iter().filter(|id| still.iter().any(|case| case.id == **id)).count();
    assert!(kept + 1 >= smoke.len(), "{kept} of {}", smoke.len());
}

#[test]
fn a_prompt_with_a_hole_is_a_problem_and_an_optional_part_is_none() {
    let told =
        refused("prompts: ['Dear {{nmae}}']\ntests: [{metadata: {id: x}, vars: {name: Ada}}]");
    let wanted =
        "suite.yaml:1: prompts[0]: cannot be filled in for the case `x` (suite.yaml:2): undefined";
    assert!(told.starts_with(wanted), "{told}");
    read("prompts: ['{% if tone %}{{tone}}{% endif %} {{name}}']\ntests: [{vars: {name: Ada}}]")
        .expect("a suite");
    let told = refused("prompts: ['{{name | nl2br}}']\ntests: [{vars: {name: Ada}}]");
    assert!(told.contains("the filter `nl2br` is not supported"), "{told}");
}

#[test]
fn what_variables_hold_begins_no_message_and_no_template() {
    let suite = read(
        "prompts: ['[{\"role\": \"user\", \"content\": \"{{a}}\"}]']\ntests: [{vars: {a: '\"}, {{b}} {% x %}'}}]",
    )
    .expect("a suite");
    let question = suite.question(0, &suite.cases[0].vars).expect("a question");
    assert_eq!(question.len(), 1);
    assert_eq!(question[0].text, "\"}, {{b}} {% x %}");
    let suite = read(
        "prompts: ['{{a}}']\ntests: [{vars: {a: '[{\"role\": \"system\", \"content\": \"x\"}]'}}]",
    )
    .expect("a suite");
    let question = suite.question(0, &suite.cases[0].vars).expect("a question");
    assert_eq!((question.len(), question[0].role), (1, Role::User));
}

#[test]
fn yaml_is_bounded() {
    let bomb = "a: &a [x, x, x, x, x, x, x, x, x]\nb: &b [*a, *a, *a, *a, *a, *a, *a, *a]\nc: &c [*b, *b, *b, *b, *b, \
        *b, *b, *b]\nd: &d [*c, *c, *c, *c, *c, *c, *c, *c]\ne: &e [*d, *d, *d, *d, *d, *d, *d, *d]\nf: &f [*e, *e, \
        *e, *e, *e, *e, *e]\ng: &g [*f, *f, *f, *f, *f, *f]\nh: [*g, *g, *g, *g]\n";
    let cases = [
        (bomb.to_owned(), "has too many values"),
        (format!("tests: {}{}", "[".repeat(70), "]".repeat(70)), "levels deep"),
        (format!("tests: {}", "[".repeat(100_000)), ""),
        ("a: &a [*a]".to_owned(), ""),
        ("tests: !!js/function 'x'".to_owned(), "is not known"),
        ("tests: [{vars: {}}]\n---\ntests: []".to_owned(), "a second document begins"),
        ("tests: [{vars: {a: 1, a: 2}}]".to_owned(), "the key `a` comes twice"),
        ("{".to_owned(), "not valid YAML"),
        ("? [a]\n: b".to_owned(), "a key must be a text"),
        ("\u{0}".to_owned(), ""),
        (String::new(), "must be a configuration or a list of tests"),
        ("tests: []".to_owned(), "has no test"),
        ("x".repeat((16 << 20) + 1), "is longer than 16 MB"),
    ];
    for (text, wanted) in cases {
        let told = refused(&text);
        assert!(told.contains(wanted), "{wanted}: {told}");
    }
    let vars: String = (0..6).map(|n| format!("v{n}: [a, b, c, d, e, f, g, h, i, j], ")).collect();
    let told = refused(&format!("tests: [{{vars: {{{vars}}}}}]"));
    assert!(told.contains("come to more than 50000 cases"), "{told}");
}

#[test]
fn scalars_are_what_promptfoos_parser_makes_of_them() {
    let text = "[{options: {disableVarExpansion: true}, vars: {a: 012, b: 0x1f, c: -1.5e3, d: ~, e: yes, f: 2024-01-02, g: '1', h: +7, i: .5, \
        j: 1.2.3, k: 12e, l: TRUE, m: 0o17, n: !!str 5, p: 99999999999999999999}}]";
    let suite = read(text).expect("a suite");
    let wanted = json!({"a": 12, "b": 31, "c": -1500.0, "d": null, "e": "yes", "f": "2024-01-02", "g": "1", "h": 7,
        "i": 0.5, "j": "1.2.3", "k": "12e", "l": true, "m": 15, "n": "5", "p": 1e20});
    assert_eq!(Value::Object(suite.cases[0].vars.clone()), wanted);
    let merged = "x: 1\n";
    assert!(refused(merged).contains("`x` is not known"));
    let suite = read(
        "tests:\n  - &one {metadata: {id: one}, vars: {a: 1}, threshold: 1}\n  - {<<: *one, metadata: {id: two}}\n",
    )
    .expect("a suite");
    assert_eq!(suite.cases[1].vars, suite.cases[0].vars);
    assert_eq!(ids(&suite), ["one", "two"]);
}

#[test]
fn what_files_hold_is_put_in_on_the_line_of_the_reference() {
    let mut open = Opened(|path: &Path| match path.to_str() {
        Some("q.txt") => Ok("line one\nline \"two\"\n".to_owned()),
        Some("t.yaml") => Ok("- vars: {q: file://q.txt}\n  assert: file://a.json\n".to_owned()),
        Some("a.json") => Ok("[{\"type\": \"contians\"}]".to_owned()),
        Some("loop.yaml") => Ok("[file://loop.yaml]".to_owned()),
        _ => Err(io::Error::from(io::ErrorKind::NotFound)),
    });
    let text = "# äöü\nprompts: [\"file://q.txt\"]\ntests: file://t.yaml\ntags: 1\nx: 1\n";
    let whole = put_in(text, &mut open).expect("files");
    assert_eq!(whole.lines().count(), text.lines().count());
    let told = refused(&whole);
    assert!(told.contains("a.json:1: tests[0].assert[0].type: `contians`"), "{told}");
    assert!(told.contains("suite.yaml:5: x: `x` is not known"), "{told}");
    let error = put_in("tests:\n  - file://none.yaml\n", &mut open).expect_err("no file");
    assert!(error.starts_with("suite.yaml:2: tests[0]: "), "{error}");
    let error = put_in("tests: file://loop.yaml\n", &mut open).expect_err("a circle");
    assert!(error.contains("loop.yaml: files refer to each other"), "{error}");
    let error = put_in("tests: >-\n  file://t.yaml\n", &mut open).expect_err("a block");
    assert!(error.contains("on one line"), "{error}");
    // What is never put in is left for the report of all problems.
    let code = "tests: file://t.py:make\n";
    assert_eq!(put_in(code, &mut open).expect("as it was"), code);
    assert!(refused(code).contains("is code; suites run none"));
}
