//! `tidegate compat` by the real program: where its reports go, and its exit codes.

use std::io::Read as _;
use std::process::{Child, Command, Output, Stdio};

use super::*;

/// Two providers' models by labels, as promptfoo's configurations name them.
const LABELLED: &str = r#"
prompts: ["Say good: {{q}}"]
providers:
  - {id: mock/gpt-base, label: Old one}
  - {id: mock/claude-new, label: New one, config: {temperature: 0.5}}
tests:
  - {vars: {q: a}, metadata: {id: a}, assert: [{type: contains, value: good}]}
  - {vars: {q: b}, metadata: {id: b}, assert: [{type: contains, value: good}]}
"#;

fn command(gate: &Program, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    command.arg("compat").args(args).current_dir(gate.folder());
    command.args(["--url", &format!("http://{}", gate.address), "--admin-key", ADMIN_KEY]);
    command
}

/// What it says on standard output and on standard error, and its exit code.
fn told(output: &Output) -> (String, String, Option<i32>) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr), output.status.code())
}

fn said(gate: &Program, args: &[&str]) -> (String, String, Option<i32>) {
    told(&command(gate, args).output().unwrap())
}

fn gate(provider: &Counting) -> Program {
    Program::serve(&config(provider, "samples = 1\nmax_samples = 1"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_asked_where_the_report_could_not_be_written() {
    let provider = Counting::new(0, |_, _| Said::text("all good")).await;
    let gate = gate(&provider);
    push(&gate, &suite(2, &contains_good())).await;
    let run = ["run", "suite", "--from-model", "mock/gpt-base", "--to-model", "mock/claude-new"];
    for (more, wanted) in [
        (&["--junit", "none/x.xml"][..], "--junit none/x.xml: cannot be written: "),
        (&["--html", "."][..], "--html .: cannot be written: "),
        (&["--html", "-", "--junit", "-"][..], "only one can go to standard output"),
        (&["--report-json", "-", "--json"][..], "only one can go to standard output"),
        (&["--max-cost", "0"][..], "--max-cost: must be more than 0"),
    ] {
        let (out, complaints, code) = said(&gate, &[&run[..], more].concat());
        assert_eq!(code, Some(2), "{more:?}: {out}{complaints}");
        assert!(format!("{out}{complaints}").contains(wanted), "{more:?}: {out}{complaints}");
    }
    assert_eq!(provider.count(), 0, "a model was asked");
    assert_eq!(gate.get_json("/admin/v1/compat/runs").await["data"], json!([]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_report_goes_to_standard_output_and_the_verdict_is_told_besides() {
    let provider = Counting::new(0, |_, _| Said::text("all good")).await;
    let gate = gate(&provider);
    push(&gate, &suite(300, &contains_good())).await;
    let id = begin(&gate, json!({})).await;
    over(&gate, &id).await;

    let (out, complaints, code) = said(&gate, &["report", &id, "--junit", "-"]);
    assert!(out.starts_with("<?xml") && !out.contains("COMPATIBLE"), "{out}");
    assert!(complaints.starts_with("COMPATIBLE"), "{complaints}");
    assert_eq!(code, Some(0));
    assert!(!gate.folder().join("-").exists(), "a file of that name was written");
    let (out, complaints, _) =
        said(&gate, &["report", &id, "--report-json", "-", "--html", "a.html"]);
    assert_eq!(serde_json::from_str::<Value>(&out).unwrap()["run"]["id"], json!(id));
    assert!(complaints.contains("written: a.html") && gate.folder().join("a.html").exists());

    // What cannot be written after all takes nothing of the verdict: a disk that is full.
    if cfg!(target_os = "linux") {
        let (out, complaints, code) = said(&gate, &["report", &id, "--html", "/dev/full"]);
        assert!(complaints.contains("--html /dev/full: cannot be written"), "{complaints}");
        assert!(out.starts_with("COMPATIBLE"), "{out}");
        assert_eq!(code, Some(0));
    }

    // A reader that has enough, such as `head -1`.
    let mut child: Child = command(&gate, &["report", &id])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let mut complaints = String::new();
    child.stderr.take().unwrap().read_to_string(&mut complaints).unwrap();
    assert_eq!((child.wait().unwrap().code(), complaints.as_str()), (Some(0), ""));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_label_of_a_model_names_it_and_a_slip_in_a_suites_name_is_told() {
    let provider = Counting::new(0, |_, _| Said::text("all good")).await;
    let gate = gate(&provider);
    push(&gate, LABELLED).await;
    for (from, to) in [("--from-model", "--to-model"), ("--from", "--to")] {
        let args = ["run", "suite", from, "New one", to, "Old one", "--no-wait", "--json"];
        let (out, complaints, code) = said(&gate, &args);
        assert_eq!(code, Some(0), "{out}{complaints}");
        let run: Value = serde_json::from_str(&out).unwrap();
        let side = |side: &str| (run[side]["prompt"].clone(), run[side]["model"].clone());
        let prompt = json!("Say good: {{q}}");
        assert_eq!(side("from"), (prompt.clone(), json!("mock/claude-new")), "{run}");
        assert_eq!(side("to"), (prompt, json!("mock/gpt-base")), "{run}");
        assert_eq!(run["from"]["parameters"], json!({"temperature": 0.5}));
    }
    for (args, code) in [(&["run", "siute"][..], 2), (&["list", "--suite", "siute"][..], 1)] {
        let (_, complaints, found) = said(&gate, args);
        assert!(complaints.contains("did you mean `suite`? (there are `suite`)"), "{complaints}");
        assert_eq!(found, Some(code), "{args:?}");
    }
    let (out, _, code) = said(&gate, &["list", "--suite", "suite", "--state", "cancelled"]);
    assert!(out.starts_with("no runs") && code == Some(0), "{out}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_is_the_word_of_an_answer_and_two_of_what_cannot_be_read() {
    let provider = Counting::new(0, |_, _| Said::text("all good")).await;
    let gate = gate(&provider);
    std::fs::write(gate.folder().join("bad.yaml"), "tests:\n  - none.csv\n  - {var: {}}\n")
        .unwrap();
    for args in [
        &["check", "missing.yaml"][..],
        &["check", "bad.yaml"][..],
        &["push", "missing.yaml"][..],
        &["run", "missing.yaml"][..],
        &["calibrate", "--judge", "mock/gemini-judge", "--labels", "missing.jsonl"][..],
    ] {
        let (out, complaints, code) = said(&gate, args);
        assert_eq!(code, Some(2), "{args:?}: {out}{complaints}");
    }
    let (_, complaints, _) = said(&gate, &["check", "missing.yaml"]);
    assert!(complaints.starts_with("missing.yaml: cannot be read: "), "{complaints}");
    // All that is wrong, at once.
    let (_, complaints, _) = said(&gate, &["push", "bad.yaml"]);
    assert!(complaints.contains("bad.yaml:2: tests[0]: cannot read \"none.csv\""), "{complaints}");
    assert!(complaints.contains("bad.yaml:3: tests[1].var: `var` is not known"), "{complaints}");
    let (out, _, code) = said(&gate, &["drift"]);
    assert_eq!((out.as_str(), code), ("nothing has drifted\n", Some(0)));
}
