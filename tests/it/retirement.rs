//! Models that are taken out of service: what `tidegate check`, the admin API and metrics say.

use std::path::Path;

use serde_json::{Value, json};
use tidegate::cli::{SourceArgs, check};
use tidegate::config::Environment;

use crate::support::{Program, run};

const CONFIG: &str = r#"
[providers.lab]
dialect = "openai-chat"
base_url = "sim://lab/v1"
credentials = [{ none = true }]
models = [
  { id = "one", retires_on = "2020-01-01", replacement = "three" },
  { id = "two", context_tokens = 8_000, features = ["stream", "tools"], retires_on = "2020-03-01" },
  { id = "three", retires_on = "2020-06-01" },
  { id = "four", context_tokens = 16_000, features = ["stream", "tools", "json"] },
  { id = "five", retires_on = "2020-01-01" },
]
[routes.smart]
targets = [{ model = "lab/two" }, { model = "lab/one", tier = 1 }]
"#;

const PROMPT: &str = "target_model = 'lab/one'\ntested_models = ['two', 'lab/four']\n\
                      messages = [{ role = 'user', content = 'Hi' }]\n";

/// A folder with the configuration and versions of a prompt.
fn folder(config: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let prompts = folder.path().join("prompts/greet");
    std::fs::create_dir_all(&prompts).unwrap();
    std::fs::write(folder.path().join("tidegate.toml"), config).unwrap();
    for version in ["1.0.0", "1.0.1", "1.0.2"] {
        let text = PROMPT.replace("Hi", &format!("Hi, by {version}"));
        std::fs::write(prompts.join(format!("{version}.toml")), text).unwrap();
    }
    std::fs::write(prompts.join("labels.toml"), "production = '1.0.0'").unwrap();
    folder
}

fn checked(folder: &Path, day: &str, json: bool) -> (u8, String) {
    let config = Some(folder.join("tidegate.toml"));
    let source = SourceArgs { config, ..SourceArgs::default() };
    let (args, mut out) = (check::CheckArgs { source, json, without_keys: false }, Vec::new());
    let environment = Environment::fixed([]);
    let code = check::run_on(&args, environment, day.parse().unwrap(), &mut out).unwrap();
    let said = String::from_utf8(out).unwrap();
    (code, said.replace(&format!("{}/", folder.display()), ""))
}

#[test]
fn check_says_who_uses_a_model_that_goes_and_what_to_use_instead() {
    let folder = folder(CONFIG);
    let (code, said) = checked(folder.path(), "2020-01-02", false);
    assert_eq!(code, 0, "{said}");
    let notes: Vec<_> = said.lines().filter_map(|line| line.strip_prefix("note: ")).collect();
    let expected = [
        "lab/one was retired on 2020-01-01, 1 day ago; used by the route `smart` (tier 1) and the \
         prompts greet@1.0.0 (written for it), greet@1.0.2 (written for it); proposed replacement: \
         lab/three, which its provider names",
        "lab/two retires on 2020-03-01, in 59 days; used by the route `smart` and the prompts \
         greet@1.0.0 (tested with it), greet@1.0.2 (tested with it); proposed replacement: \
         lab/four, the nearest in price of its provider's models with as large a window and the \
         same features; compare the two first",
    ];
    assert_eq!(notes, expected, "`five` is used by nobody");

    let (_, said) = checked(folder.path(), "2019-09-01", false);
    assert!(!said.contains("note: "), "nothing goes within 90 days: {said}");
    let (_, said) = checked(folder.path(), "2020-05-01", false);
    assert!(said.contains("121 days ago") && !said.contains("lab/three"), "{said}");
    assert!(said.contains("no replacement is known"), "`three` goes, too: {said}");
}

#[test]
fn check_answers_in_json_and_an_unknown_replacement_is_a_problem() {
    let there = folder(CONFIG);
    let (code, said) = checked(there.path(), "2020-01-02", true);
    let said: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((code, said["notes"].as_array().unwrap().len()), (0, 2));
    let expected = json!({
        "model": "lab/two", "retires_on": "2020-03-01", "days_left": 59, "routes": ["smart"],
        "prompts": ["greet@1.0.0", "greet@1.0.2"],
        "replacement": { "model": "lab/four", "proposed_by": "nearness" },
    });
    assert_eq!(said["retiring"][1], expected);
    let there = folder(&CONFIG.replace("replacement = \"three\"", "replacement = \"lab/fourr\""));
    let (code, said) = checked(there.path(), "2020-01-02", false);
    assert_eq!(code, 2);
    let problem = "tidegate.toml:7: providers.lab.models[0].replacement: unknown model \"lab/fourr\" \
                   (did you mean \"lab/four\"?)";
    assert!(said.starts_with(problem), "{said}");
}

#[test]
fn the_admin_api_and_metrics_tell_of_models_in_use() {
    let there = folder(CONFIG);
    let config = there.path().join("tidegate.toml");
    let output = run(["check", "--config", config.to_str().unwrap()]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(0), "a warning is no failure: {said}");
    assert!(said.contains("note: lab/one was retired on 2020-01-01, "), "{said}");

    let gateway = Program::gateway(CONFIG);
    let body = r#"{"model":"lab/one","messages":[{"role":"user","content":"Hello"}]}"#;
    assert_eq!(gateway.post("/v1/chat/completions", body).status, 200);
    let started = tidegate::clock::Instant::now();
    // The journal is written by and by.
    let models = loop {
        let models = gateway.get("/admin/v1/models").json();
        if models["data"][0]["requests"] == 1 {
            break models;
        }
        assert!(started.elapsed() < crate::support::PATIENCE, "{models}");
    };
    let ids = models["data"].as_array().unwrap().iter().map(|model| model["id"].as_str().unwrap());
    assert_eq!(ids.collect::<Vec<_>>(), ["lab/one", "lab/two"]);
    assert_eq!(models["data"][0]["status"], "retired");
    let metrics = gateway.get("/metrics").body;
    let gone = metrics
        .lines()
        .find_map(|line| {
            let name = "tidegate_model_retires_in_seconds{model=\"one\",provider=\"lab\"} ";
            line.strip_prefix(name)
        })
        .unwrap();
    assert!(gone.parse::<i64>().unwrap() < -86_400, "{gone}");
    assert!(!metrics.contains("tidegate_model_retires_in_seconds{model=\"five\""), "{metrics}");
}
