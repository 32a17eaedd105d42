//! Scenario files.

use std::path::Path;

use super::*;

fn problems(text: &str) -> Vec<String> {
    let problems = Scenario::parse(Path::new("s.toml"), text).expect_err("it is wrong");
    problems.iter().map(ToString::to_string).collect()
}

#[test]
fn all_problems_are_reported_with_their_lines() {
    let text = r#"
sede = 7
keys = ["a", 1]

[models.fast]
ttft = { median = "300 parsecs", sigma = 9 }
token_gap = 5
tokens = { min = 9, max = 3 }
slow_share = 1.5
limits = { requests_per_minute = 0, tokens_per_hour = 3 }
faults = [
  { share = 0.1, fault = "cut_afer=3" },
  { fault = "status=503" },
  { share = 0.1, on_request = 2 },
  "status=503",
]
"#;
    let expected = [
        "s.toml:2: sede: unknown key; did you mean `seed`?",
        "s.toml:3: keys[1]: wants a text, found integer",
        "s.toml:6: models.fast.ttft.median: `300 parsecs` is no duration; write it like `500ms`, \
         `20s`, `15m`, `1h` or `7d`",
        "s.toml:6: models.fast.ttft.sigma: wants a number from 0 to 4",
        "s.toml:7: models.fast.token_gap: wants a duration, or a table like { median = \"300ms\", \
         sigma = 0.4 }, found integer",
        "s.toml:8: models.fast.tokens: wants min <= max <= 100000",
        "s.toml:9: models.fast.slow_share: wants a share from 0 to 1",
        "s.toml:10: models.fast.limits.requests_per_minute: wants a number from 1",
        "s.toml:10: models.fast.limits.tokens_per_hour: unknown key; did you mean \
         `tokens_per_minute`?",
        "s.toml:12: models.fast.faults[0].fault: unknown fault `cut_afer`; did you mean \
         `cut_after`?",
        "s.toml:13: models.fast.faults[1]: wants either `share` or `on_request`",
        "s.toml:14: models.fast.faults[2]: wants either `share` or `on_request`",
        "s.toml:14: models.fast.faults[2]: wants `fault`, such as fault = \"cut_after=5\"",
        "s.toml:15: models.fast.faults[3]: wants a table like { share = 0.02, fault = \
         \"status=503\" }, found string",
    ];
    let mut found = problems(text);
    let mut expected = expected.map(str::to_owned).to_vec();
    // Tables come in the order of their keys, not of the file.
    found.sort();
    expected.sort();
    assert_eq!(found, expected);
}

#[test]
fn broken_toml_is_reported_with_its_line() {
    let found = problems("seed = 1\nkeys = [\n");
    assert!(found[0].starts_with("s.toml:"), "{found:?}");
}

#[test]
fn the_examples_can_be_read() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let mut read = 0;
    for entry in std::fs::read_dir(&folder).expect("the folder is there") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("a text");
        if let Err(problems) = Scenario::parse(&path, &text) {
            panic!("{problems}");
        }
        read += 1;
    }
    assert!(read >= 3, "{read} scenarios");
}

#[test]
fn the_annotated_example_has_every_key() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios/every_key.toml");
    let text = std::fs::read_to_string(&path).expect("a text");
    let scenario = Scenario::parse(&path, &text).expect("it is right");
    let (name, behaviour) = scenario.behaviour("", "tide-small").expect("the model");
    assert_eq!(name, "tide-small");
    assert_eq!(behaviour.ttft, Latency { median: Duration::from_millis(300), sigma: 0.4 });
    assert_eq!(behaviour.tokens, Some((20, 120)));
    assert_eq!(behaviour.limits.tokens_per_minute, Some(20_000));
    for key in Fault::KEYS {
        assert!(text.contains(key), "{key} is not shown");
    }
}

#[test]
fn a_model_is_found_at_its_host_first() {
    let text = "[models.\"*\"]\n[models.\"gemini/*\"]\n[models.a]\n[models.\"gemini/a\"]\n";
    let scenario = Scenario::parse(Path::new("s.toml"), text).expect("it is right");
    let entry = |host, model| scenario.behaviour(host, model).expect("found").0;
    assert_eq!(entry("gemini", "a"), "gemini/a");
    assert_eq!(entry("local", "a"), "a");
    assert_eq!(entry("gemini", "b"), "gemini/*");
    assert_eq!(entry("local", "b"), "*");
}
