//! What has failed once is kept as an incident and asked again.

use std::collections::BTreeSet;
use std::process::{Command, Output};

use super::*;

const SIM: &str = "[server]\nworker_threads = 1\n[compat]\nmax_samples = 4\n[providers.sim]\n";

/// Replies from facts, in the customer's language: what the next small model has forgotten.
const SUITE: &str = r#"
prompts:
  - - {role: system, content: "You write replies for the support team of Nord. Facts:\n- {{ fact }}\n"}
    - {role: user, content: "{{ message }}"}
defaultTest:
  assert: [{type: not-is-refusal}]
tests:
  - metadata: {id: german, tags: [language]}
    vars: {message: 'Ich möchte meine Bestellung nicht mehr, bitte.', fact: The order can be cancelled.}
    assert: [{type: contains, value: storniert}, {type: llm-rubric, value: Says that it can be cancelled.}]
  - metadata: {id: english}
    vars: {message: Where is my parcel?, fact: The parcel is in Hamburg.}
    assert: [{type: contains, value: Hamburg}]
  - metadata: {id: english-too}
    vars: {message: When does my tent arrive?, fact: The tent arrives on Friday.}
    assert: [{type: contains, value: Friday}]
"#;

fn tidegate(gate: &Program, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    command.args(args).current_dir(gate.folder());
    command.args(["--url", &format!("http://{}", gate.address), "--admin-key", ADMIN_KEY]);
    command.output().unwrap()
}

fn compat(gate: &Program, args: &[&str], code: i32) -> String {
    let output = tidegate(gate, &[&["compat"], args].concat());
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
    said
}

/// A run of this suite between two simulated models; its id and what was said.
async fn run(gate: &Program, to: &str, more: &[&str], code: i32) -> (String, String) {
    let models =
        ["run", "suite", "--from-model", "sim/tide-small", "--seed", "1", "--to-model", to];
    let said = compat(gate, &[&models, more].concat(), code);
    let runs = gate.get_json("/admin/v1/compat/runs").await;
    (runs["data"][0]["id"].as_str().unwrap().to_owned(), said)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_run_has_found_is_an_incident_and_asked_alone() {
    let gate = Program::serve(SIM);
    push(&gate, SUITE).await;
    let (id, said) = run(&gate, "sim/tide-small-next", &[], 1).await;
    assert!(said.contains("INCOMPATIBLE") && said.contains("german"), "{said}");
    assert!(!said.contains("not judged"), "a simulated judge judges simulated answers: {said}");
    let cases =
        ["cases", &id, "--failing", "--incident", "forgot German", "--out", "incidents.yaml"];
    let told = compat(&gate, &cases, 0);
    assert!(told.contains("1 cases in incidents.yaml"), "{told}");
    let written = std::fs::read_to_string(gate.folder().join("incidents.yaml")).unwrap();
    for part in
        ["german-incident", "forgot German", "storniert", "llm-rubric", "not-is-refusal", &id]
    {
        assert!(written.contains(part), "{part}: {written}");
    }
    compat(&gate, &cases, 2);
    assert_eq!(
        std::fs::read_to_string(gate.folder().join("incidents.yaml")).unwrap(),
        written,
        "nothing is written over"
    );

    // Beside the others from now on.
    let (_, tests) = written.split_once("tests:\n").unwrap();
    push(&gate, &format!("{SUITE}{tests}")).await;
    // In the whole suite it is the case that it was, once.
    let (whole, said) = run(&gate, "sim/tide-small-next", &[], 1).await;
    let on_one_line = said.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(on_one_line.contains("counts once: german-incident (german)"), "{said}");
    let report = gate.get_json(&format!("/admin/v1/compat/runs/{whole}/report")).await;
    let ids: BTreeSet<_> =
        report["cases"].as_array().unwrap().iter().filter_map(|case| case["id"].as_str()).collect();
    assert_eq!(ids, BTreeSet::from(["german", "english", "english-too"]), "{report}");
    assert_eq!(report["judgement"]["newly_failing"], json!(["german"]));
    let (bad, said) = run(&gate, "sim/tide-small-next", &["--only", "incidents"], 1).await;
    assert!(said.contains("german-incident") && !said.contains("english"), "{said}");
    let found = gate.get_json(&format!("/admin/v1/compat/runs/{bad}")).await;
    assert_eq!((&found["only"], &found["depth"]), (&json!("incidents"), &json!("full")), "{found}");
    let report = gate.get_json(&format!("/admin/v1/compat/runs/{bad}/report")).await;
    assert_eq!(report["cases"].as_array().map(Vec::len), Some(1), "{report}");
    // What is an incident already is none once more.
    let told = compat(&gate, &["cases", &bad, "--failing"], 1);
    assert!(told.contains("1 more are incidents already"), "{told}");

    // One incident is enough for a verdict: it holds or it does not.
    let (_, said) = run(&gate, "sim/tide-large", &["--only", "incidents"], 0).await;
    assert!(said.contains("COMPATIBLE") && said.contains("Run the whole suite"), "{said}");
    let (tagged, _) =
        run(&gate, "sim/tide-small-next", &["--only", "language", "--no-wait"], 0).await;
    let run = over(&gate, &tagged).await;
    assert_eq!(
        (&run["only"], &run["verdict"]),
        (&json!("language"), &json!("incompatible")),
        "{run}"
    );
    let from = ["run", "suite", "--from-model", "sim/tide-small", "--to-model", "sim/tide-large"];
    let wrong = compat(&gate, &[&from[..], &["--only", "tone"]].concat(), 2);
    assert!(wrong.contains("it has the tags `language`"), "{wrong}");
}

#[tokio::test]
async fn a_run_of_incidents_that_is_killed_goes_on_with_incidents_alone() {
    let provider = Counting::new(30, |_, _| Said::text("all good")).await;
    let config = config(&provider, "concurrency = 2\nsamples = 4\nmax_samples = 4");
    let gate = Program::serve(&config);
    let case = |number: usize| {
        let mut case = json!({
            "vars": {"q": format!("case {number};")}, "assert": [contains_good()],
            "metadata": {"id": format!("c{number}")},
        });
        if number.is_multiple_of(4) {
            case["metadata"]["incident"] = json!("it happened");
        }
        case
    };
    let tests: Vec<Value> = (0..40).map(case).collect();
    push(&gate, &json!({"prompts": ["{{q}}"], "tests": tests}).to_string()).await;
    let id = begin(&gate, json!({"only": "incidents"})).await;
    assert!(eventually(PATIENCE, async || provider.count() > 20).await, "it asks nothing");
    let gate = Program::serve_in(gate.kill(), &config, None);
    let run = over(&gate, &id).await;
    assert_eq!(
        (&run["verdict"], &run["only"]),
        (&json!("compatible"), &json!("incidents")),
        "{run}"
    );
    // Ten incidents, two sides, four answers of each.
    assert_eq!(run["samples"]["done"], 80, "{run}");
    let asked: BTreeSet<_> = provider.calls().iter().filter_map(|call| call.case).collect();
    assert_eq!(asked, (0..40).step_by(4).collect());
}
