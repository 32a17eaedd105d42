//! Scenarios that are wrong, and figures that are out of their range.

use std::path::Path;

use super::record::Ending;
use super::*;
use crate::config::Environment;

const GATEWAY: &str = r#"
[gateway.config]
providers.alpha = { dialect = "openai-chat", base_url = "https://a.example/v1", credentials = [{ none = true }], models = [{ id = "m" }] }
"#;

fn problems(text: &str) -> Vec<String> {
    let problems = Rehearsal::parse(Path::new("s.toml"), text).expect_err("it is wrong");
    problems.iter().map(ToString::to_string).collect()
}

fn options() -> Options {
    let source = Source::environment(Environment::fixed([]));
    Options { source, replace: false, real: false }
}

fn rehearse(text: &str) -> Result<Report, RehearsalError> {
    let text = format!("{text}{GATEWAY}");
    let rehearsal = Rehearsal::parse(Path::new("s.toml"), &text).expect("it is right");
    run(&rehearsal, &options())
}

#[test]
fn all_problems_are_reported_with_their_lines() {
    let text = r#"sede = 1
[[changes]]
at = "soon"
model = "*"
slowr = 3
[[changes]]
slower = 2
[[traffic]]
rate = 0
until = "10s"
model = "m"
priority = 5
arrivals = "poison"
[[traffic]]
name = "b"
rate = 1e5
until = "1h"
[[expect]]
figure = "sucess_ratio"
[[expect]]
figure = "share"
traffic = "a"
run = "baseline"
[[expect]]
figure = "metric"
[[expect]]
figure = "ttft_p99"
than = "nothing"
minus = "nothing"
min = "2s"
max = 1
"#;
    let expected = [
        "s.toml:1: sede: unknown key; did you mean `seed`?",
        "s.toml:3: changes[0].at: `soon` is no duration; write it like `500ms`, `20s`, `15m`, \
         `1h` or `7d`",
        "s.toml:5: changes[0].slowr: unknown key; did you mean `slower`?",
        "s.toml:6: changes[1]: wants `at`, the time of the change, such as \"60s\"",
        "s.toml:6: changes[1]: wants `model`, such as \"beta/*\"",
        "s.toml:9: traffic[0].rate: wants requests per second, above 0 up to 100000",
        "s.toml:12: traffic[0].priority: wants a number up to 4",
        "s.toml:13: traffic[0].arrivals: `poison` is not known; did you mean `poisson`?",
        "s.toml:14: traffic[1]: wants `model`, such as model = \"smart\"",
        "s.toml:14: traffic[1]: is more than two million requests",
        "s.toml:19: expect[0].figure: `sucess_ratio` is not known; did you mean `success_ratio`?",
        "s.toml:20: expect[1]: wants `target`, such as target = \"beta/*\"",
        "s.toml:20: expect[1]: there is no traffic \"a\"",
        "s.toml:20: expect[1]: there is no `[baseline]`",
        "s.toml:24: expect[2]: wants `series`, such as \"tidegate_fallbacks_total\"",
        "s.toml:26: expect[3]: wants `than` or `minus`, not both",
        "s.toml:26: expect[3]: `min` is above `max`",
        "s.toml:26: expect[3]: no figure before this one has the name \"nothing\"",
    ];
    assert_eq!(problems(text), expected);
}

#[test]
fn a_wrong_configuration_is_reported_with_the_lines_of_the_scenario() {
    for text in [
        "seed = 1\n[gateway]\nconfig = \"\"\"\n[server]\nlissten = 1\n\"\"\"\n",
        "seed = 1\n[gateway]\n\n\nconfig = \"server.lissten = 1\"\n",
    ] {
        let rehearsal = Rehearsal::parse(Path::new("s.toml"), text).expect("it is right");
        let error = run(&rehearsal, &options()).expect_err("the configuration is wrong");
        let wanted = "s.toml:5: server.lissten: unknown key (did you mean `listen`?)";
        assert_eq!(error.to_string(), wanted);
    }
}

#[test]
fn a_figure_out_of_its_range_fails_and_says_so() {
    let report = rehearse(
        r#"
[models."*"]
faults = [{ share = 1.0, fault = "status=500" }]
[[traffic]]
rate = 5
until = "4s"
model = "alpha/m"
[[expect]]
figure = "success_ratio"
min = 0.5
[[expect]]
figure = "ttft_p50"
max = "1s"
[[expect]]
figure = "requests"
"#,
    )
    .expect("it runs");
    assert!(!report.is_good());
    let text = report.to_string();
    assert!(text.contains("FAIL  success_ratio: 0.0000  at least 0.5000"), "{text}");
    assert!(text.contains("FAIL  ttft_p50: nothing to measure  at most 1000 ms"), "{text}");
    assert!(text.contains("2 figures out of their ranges"), "{text}");
}

#[test]
fn clients_try_again_as_the_sdks_do() {
    let text = |answer: &str| {
        format!(
            r#"
[models."*"]
faults = [{{ share = 1.0, fault = "{answer}" }}]
[[traffic]]
rate = 1
arrivals = "even"
until = "1500ms"
model = "alpha/m"
retries = 2
[[expect]]
figure = "requests"
"#
        )
    };
    // The gateway has one target, so its client sees what the provider said.
    for (answer, requests) in [("status=500", 3.0), ("status=400", 1.0)] {
        let report = rehearse(&text(answer)).expect("it runs");
        let seen = report.lines.first().and_then(|line| line.value);
        assert_eq!(seen, Some(requests), "{answer}");
    }
}

#[test]
fn a_run_is_the_same_every_time() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios/every_choice.toml");
    let text = std::fs::read_to_string(&path).expect("a text");
    let rehearsal = Rehearsal::parse(&path, &text).expect("it is right");
    let record = || {
        let snapshot = run::configuration(rehearsal.gateway.as_ref().expect("a gateway"));
        run::one(&rehearsal, snapshot.expect("it is right"), false).expect("it runs")
    };
    let (once, again) = (record(), record());
    let ended = |ending: Ending| once.seen.iter().filter(|seen| seen.ending == ending).count();
    for decided in [Ending::Refused(429), Ending::Refused(503), Ending::Cut, Ending::Left] {
        assert!(ended(decided) > 0, "no request ended {decided:?}");
    }
    assert!(once.seen.iter().any(|seen| seen.attempts > 1), "no second attempt");
    for (one, other) in once.seen.iter().zip(&again.seen) {
        assert_eq!(one, other);
    }
    for ((_, one), (_, other)) in once.looks.iter().zip(&again.looks) {
        assert_eq!(one, other);
    }
    assert!(once == again, "clients see the same, and providers do not");
}

#[test]
fn scenarios_can_be_read() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let mut read = 0;
    for entry in std::fs::read_dir(folder).expect("the folder is there") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            let text = std::fs::read_to_string(&path).expect("a text");
            Rehearsal::parse(&path, &text).unwrap_or_else(|problems| panic!("{problems}"));
            read += 1;
        }
    }
    assert!(read >= 6, "{read} scenarios");
}

#[test]
fn the_annotated_example_has_every_figure() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios/every_figure.toml");
    let text = std::fs::read_to_string(path).expect("a text");
    for (word, _) in read::figures() {
        assert!(text.contains(word) || word.contains("_p"), "{word} is not shown");
    }
}
