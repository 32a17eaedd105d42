//! Judges, held against what people say.

use std::io::Write as _;
use std::process::Command;

use super::*;

/// A judge that passes answers that say splendid, and says nothing of those that say mute9.
fn judges(call: &provider::Call, _: usize) -> Said {
    let passes = call.text.contains("splendid");
    match call.text.contains("mute9") {
        true => Said::Status(400, "unsupported_value"),
        false => Said::text(&json!({"reason": "r", "score": 1, "pass": passes}).to_string()),
    }
}

/// So many labels; people agree with the judge on all but every `off`-th.
fn labels(count: usize, off: usize) -> Vec<Value> {
    let label = |number: usize| {
        let is_good = number.is_multiple_of(2);
        let answer = format!("case {number}; {}", if is_good { "splendid" } else { "dreadful" });
        let passed = is_good != (number.is_multiple_of(off));
        json!({"question": "How is it?", "answer": answer, "rubric": "is well", "passed": passed})
    };
    (0..count).map(label).collect()
}

#[tokio::test]
async fn a_judge_that_agrees_with_people_is_calibrated_and_then_counts() {
    let provider = Counting::new(1, judges).await;
    let compat = "samples = 3\nmax_samples = 3\n[compat.judge]\nmodels = [\"mock/gemini-judge\"]";
    let gate = Program::serve(&config(&provider, compat));
    let body = json!({"judge": "mock/gemini-judge", "labels": labels(120, 20)});
    let found = admin(&gate, "/compat/calibrations", &body).await;
    assert_eq!(found.status, 201, "{found:?}");
    let view = found.json();
    assert_eq!((&view["labels"], &view["agreed"]), (&json!(120), &json!(114)), "{view}");
    assert_eq!((&view["is_calibrated"], &view["lacks"]), (&json!(true), &json!([])), "{view}");
    assert_eq!(provider.count(), 120);
    let audit = gate.get_json("/admin/v1/audit").await;
    assert_eq!(audit["data"][0]["action"], "compat.judge.calibrate", "{audit}");

    // The same answers, and fewer that people agree on: nobody is asked again.
    let body = json!({"judge": "mock/gemini-judge", "labels": labels(120, 3)});
    let found = admin(&gate, "/compat/calibrations", &body).await.json();
    assert_eq!(found["is_calibrated"], false, "{found}");
    assert!(found["lacks"][0].as_str().unwrap().starts_with("a kappa of 0.6"), "{found}");
    assert_eq!(provider.count(), 120);
    let listed = gate.get_json("/admin/v1/compat/calibrations?judge=mock/gemini-judge").await;
    assert_eq!(listed["data"], json!([found]));
}

#[tokio::test]
async fn who_asks_again_comes_further_and_nothing_is_asked_twice() {
    let provider = Counting::new(150, judges).await;
    let gate = Program::serve(&config(&provider, "concurrency = 1"));
    let mut labels = labels(12, 5);
    labels.push(json!({"question": "q", "answer": "mute9", "facts": "f", "passed": true}));
    let body = json!({"judge": "mock/gemini-judge", "labels": labels, "wait_seconds": 1});
    let first = admin(&gate, "/compat/calibrations", &body).await;
    assert_eq!(first.status, 202, "{first:?}");
    let judged = first.json()["judged"].as_u64().unwrap();
    assert!((1..13).contains(&judged), "{judged}");
    let began = Instant::now();
    let found = loop {
        let next = admin(&gate, "/compat/calibrations", &body).await;
        if next.status == 201 {
            break next.json();
        }
        assert!(began.elapsed() < PATIENCE * 6, "{next:?}");
    };
    assert_eq!((&found["labels"], &found["failed"]), (&json!(12), &json!(1)), "{found}");
    assert_eq!(provider.count(), 13, "each was asked once");
}

// The command blocks one thread, and the provider is on another.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_says_whether_a_judge_counts_and_what_is_missing() {
    let provider = Counting::new(1, judges).await;
    let gate = Program::serve(&config(&provider, ""));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("labels.jsonl");
    let write = |lines: Vec<String>| {
        let mut to = std::fs::File::create(&file).unwrap();
        to.write_all(lines.join("\n").as_bytes()).unwrap();
    };
    let run = |file: &std::path::Path| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
        command.args(["compat", "calibrate", "--judge", "mock/gemini-judge", "--labels"]);
        command.arg(file).args(["--url", &format!("http://{}", gate.address)]);
        command.args(["--admin-key", ADMIN_KEY]);
        let output = command.output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    write(labels(110, 40).iter().map(Value::to_string).collect());
    let (code, said, _) = run(&file);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("agreed on 107 of 110 labels; kappa 0.9"), "{said}");
    assert!(said.contains("calibrated: what mock/gemini-judge says counts"), "{said}");
    write(labels(20, 40).iter().map(Value::to_string).collect());
    let (code, said, _) = run(&file);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("80 more labels"), "{said}");
    write(vec![labels(1, 2)[0].to_string(), String::new(), "{\"question\": 1}".to_owned()]);
    let (code, _, complaints) = run(&file);
    assert_eq!(code, Some(2));
    assert!(complaints.contains("labels.jsonl:3: invalid type"), "{complaints}");
}
