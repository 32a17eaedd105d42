//! Tests of `/admin/v1/compat`.

use super::*;
use crate::audit::Actor;
use crate::compat::agreement::Agreement;
use crate::runs::Calibration;

/// A suite whose two prompts are asked of a simulated model.
const SUITE: &str = "
description: greetings
prompts:
  - 'Say hello to {{name}}.'
  - 'Greet {{name}} in one word.'
providers: [sim/tide-small, sim/tide-large]
tests:
  - vars: {name: Ann}
    assert:
      - type: icontains
        value: hello
    metadata: {critical: true}
  - vars: {name: Bob}
    assert:
      - type: not-contains
        value: error
";

async fn pushed(admin: &Admin) -> Reply {
    let body = json!({ "id": "greetings", "text": SUITE }).to_string();
    admin.call("POST", "/compat/suites", &body).await
}

#[tokio::test]
async fn a_suite_is_pushed_listed_and_run() {
    let admin = Admin::new().await;
    let suite = pushed(&admin).await;
    assert_eq!(suite.status, 201, "{}", suite.body);
    assert_eq!((&suite.body["cases"], &suite.body["critical"]), (&json!(2), &json!(1)));
    let suites = admin.get("/compat/suites").await.body;
    assert_eq!(suites["data"], json!([suite.body]));
    let begun = admin.call("POST", "/compat/runs", r#"{"suite": "greetings"}"#).await;
    assert_eq!(begun.status, 201, "{}", begun.body);
    let says = |side: &str| begun.body[side]["says"].as_str().unwrap().to_owned();
    assert!(says("from").ends_with("on sim/tide-small"), "{}", says("from"));
    assert!(says("to").contains("one word"), "the second prompt: {}", says("to"));
    assert_eq!((&begun.body["state"], &begun.body["depth"]), (&json!("waiting"), &json!("full")));
    let id = begun.body["id"].as_str().unwrap();
    let cases = admin.get(&format!("/compat/runs/{id}/cases?failing=true")).await;
    assert_eq!((cases.status, &cases.body["cases"]), (200, &json!(0)), "{}", cases.body);
    let report = admin.get(&format!("/compat/runs/{id}/report")).await;
    assert_eq!(report.status, 200, "{}", report.body);
    assert_eq!(report.body["judgement"]["verdict"], "inconclusive");
    let ended = admin.call("POST", &format!("/compat/runs/{id}/cancel"), "{}").await;
    assert_eq!((ended.status, &ended.body["state"]), (200, &json!("cancelled")));
    let again = admin.call("POST", &format!("/compat/runs/{id}/cancel"), "{}").await;
    assert_eq!((again.status, &again.body["code"]), (409, &json!("run_over")));
    let runs = admin.get("/compat/runs?suite=greetings&state=cancelled").await.body;
    assert_eq!(runs["data"][0]["id"], begun.body["id"]);
    let document = admin.get("/openapi.json").await.body;
    let schemas = &document["components"]["schemas"];
    openapi::same_members(&schemas["CompatSuite"], &suite.body, "CompatSuite");
    openapi::same_members(&schemas["CompatSide"], &begun.body["from"], "CompatSide");
    openapi::same_members(&schemas["CompatRun"], &begun.body, "CompatRun");
    openapi::same_members(&schemas["CompatCases"], &cases.body, "CompatCases");
}

#[tokio::test]
async fn what_cannot_be_run_is_refused_with_what_would_be_right() {
    let admin = Admin::new().await;
    pushed(&admin).await;
    for (path, body, status, words) in [
        ("/compat/runs", r#"{"suite": "none"}"#, 404, "tidegate compat push"),
        ("/compat/runs", r#"{"suite": "greetings", "to": "7"}"#, 400, "or their numbers from 0"),
        (
            "/compat/runs",
            r#"{"suite": "greetings", "to": "0", "to_model": "sim/tide-small"}"#,
            400,
            "nothing to compare",
        ),
        (
            "/compat/runs",
            r#"{"suite": "greetings", "to_model": "nobody/x"}"#,
            400,
            "to_model: `nobody/x`",
        ),
        ("/compat/runs", r#"{"suite": "greetings", "samples": 0}"#, 400, "from 1 to 100"),
        (
            "/compat/runs",
            r#"{"suite": "greetings", "only": "incidents"}"#,
            400,
            "`metadata.incident`; `tidegate compat cases RUN --failing`",
        ),
        ("/compat/runs", r#"{"suite": "greetings", "only": "tone"}"#, 400, "it has no tags"),
        (
            "/compat/suites",
            r#"{"id": "a b", "text": "tests: [{assert: [{type: equals, value: x}]}]"}"#,
            400,
            "`id`",
        ),
        (
            "/compat/suites",
            r#"{"id": "a", "text": "prompts: [x]\nproviders: [sim/a]\ntests:\n  - assert: [{type: javascript, value: 'true'}]"}"#,
            400,
            "javascript",
        ),
    ] {
        let reply = admin.call("POST", path, body).await;
        let detail = reply.body["detail"].as_str().unwrap_or_default();
        assert_eq!(reply.status, status, "{body}: {}", reply.body);
        assert!(detail.contains(words), "{body}: {detail}");
    }
    assert_eq!(admin.get("/compat/runs/cr_000000000000").await.status, 404);
}

/// A prompt with two versions: only the second one needs `order`.
async fn with_prompt(admin: &Admin) {
    for (version, required) in [("1.0.0", json!(["q"])), ("1.1.0", json!(["q", "order"]))] {
        let property = json!({"type": "string"});
        let mut properties = json!({"q": property, "order": property});
        if version == "1.0.0" {
            properties = json!({"q": {"type": "string", "maxLength": 5}, "order": property});
        }
        let version = json!({
            "version": version, "target_model": "sim/tide-small",
            "variables": {"properties": properties, "required": required},
            "messages": [
                {"role": "user", "content": "{{ q }}{% if order %} {{ order }}{% endif %}"},
            ],
        });
        let pushed = admin.call("POST", "/prompts/orders/versions", &version.to_string()).await;
        assert_eq!(pushed.status, 201, "{}", pushed.body);
    }
}

async fn push_cases(admin: &Admin, text: &str, dry_run: bool) -> Reply {
    let body = json!({
        "id": "of-orders", "prompt": "orders", "text": text, "file": "cases/late.yaml",
        "dry_run": dry_run,
    });
    admin.call("POST", "/compat/suites", &body.to_string()).await
}

#[tokio::test]
async fn cases_are_held_against_the_versions_of_their_prompt_when_they_are_pushed() {
    let admin = Admin::new().await;
    with_prompt(&admin).await;
    let lacking = "tests:\n  - {metadata: {id: late}, vars: {q: Where?, ordr: b}}\n";
    let refused = push_cases(&admin, lacking, false).await;
    let detail = refused.body["detail"].as_str().unwrap_or_default();
    assert_eq!(refused.status, 400, "{}", refused.body);
    assert!(
        detail.contains("cases/late.yaml:2: case `late` cannot be asked of orders@1.1.0"),
        "{detail}"
    );
    assert!(detail.contains("`order` is missing"), "{detail}");
    let misspelled = "no version takes the variable `ordr`; did you mean `order`?";
    assert!(detail.contains(misspelled), "{detail}");
    let near = "tests:\n  - {metadata: {id: late}, vars: {q: Where is it?, order: a}}\n";
    let noted = push_cases(&admin, near, true).await;
    assert_eq!((noted.status, &noted.body["origin"]), (200, &json!("push")), "{}", noted.body);
    let notes: Vec<_> =
        noted.body["notes"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    let [old] = notes.as_slice() else { panic!("{notes:?}") };
    assert!(
        old.starts_with("cases/late.yaml:2: case `late` cannot be asked of orders@1.0.0"),
        "{old}"
    );
    let suites = admin.get("/compat/suites").await.body;
    assert_eq!(suites["data"], json!([]), "it was only asked what would come of it");
    assert_eq!(push_cases(&admin, near, false).await.status, 201);
}

#[tokio::test]
async fn models_that_the_gateway_does_not_know_are_named_when_a_suite_is_pushed() {
    let admin = Admin::new().await;
    let text = SUITE.replace("sim/tide-large", "nobody/x");
    let body = json!({ "id": "greetings", "text": text }).to_string();
    let pushed = admin.call("POST", "/compat/suites", &body).await;
    assert_eq!(pushed.status, 201, "{}", pushed.body);
    assert_eq!(pushed.body["unknown_models"], json!(["nobody/x"]));
}

#[tokio::test]
async fn the_matrix_and_the_list_are_of_a_prompts_versions() {
    let admin = Admin::new().await;
    with_prompt(&admin).await;
    let cases = "tests: [{metadata: {id: a}, vars: {q: Here, order: b}}]";
    assert_eq!(push_cases(&admin, cases, false).await.status, 201);
    let body = r#"{"suite": "of-orders", "from": "1.0.0", "to": "1.1.0"}"#;
    let begun = admin.call("POST", "/compat/runs", body).await;
    assert_eq!(begun.status, 201, "{}", begun.body);
    for (query, count) in [
        ("prompt=orders", 1),
        ("prompt=order", 0),
        ("prompt=orders&kind=nightly", 0),
        ("prompt=orders&kind=asked&state=waiting", 1),
    ] {
        let runs = admin.get(&format!("/compat/runs?{query}")).await.body;
        assert_eq!(runs["data"].as_array().map(Vec::len), Some(count), "{query}: {runs}");
    }
    let matrix = admin.get("/compat/matrix/orders").await;
    assert_eq!(matrix.status, 200, "{}", matrix.body);
    let document = admin.get("/openapi.json").await.body;
    openapi::same_members(
        &document["components"]["schemas"]["CompatMatrix"],
        &matrix.body,
        "matrix",
    );
    assert_eq!(matrix.body["versions"], json!(["1.1.0", "1.0.0"]));
    assert_eq!(matrix.body["models"], json!(["sim/tide-small"]));
    assert_eq!(matrix.body["cells"], json!([]), "it has no verdict yet");
    assert_eq!(admin.get("/compat/matrix/none").await.problem(), "404 unknown_prompt");
}

fn label(more: Value) -> Value {
    let mut label = json!({"question": "q", "answer": "a", "rubric": "is polite", "passed": true});
    label.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
    label
}

#[tokio::test]
async fn labels_that_cannot_be_judged_are_refused_with_their_place() {
    let admin = Admin::new().await;
    let good = label(json!({}));
    let many = vec![good.clone(); 2_001];
    for (judge, labels, words) in [
        ("nobody/x", json!([good]), "judge: `nobody/x` cannot be asked"),
        (&*"x".repeat(300), json!([good]), "judge: has over"),
        ("sim/tide-small", json!([]), "labels: 0, not 1 to 2000"),
        ("sim/tide-small", json!(many), "labels: 2001"),
        ("sim/tide-small", json!([good, label(json!({"rubric": null}))]), "labels[1]: `rubric`"),
        (
            "sim/tide-small",
            json!([label(json!({"facts": "f"}))]),
            "labels[0]: `rubric` and `facts`",
        ),
        ("sim/tide-small", json!([label(json!({"pass": true}))]), "unknown field `pass`"),
    ] {
        let body = json!({"judge": judge, "labels": labels}).to_string();
        let reply = admin.call("POST", "/compat/calibrations", &body).await;
        assert_eq!(reply.problem(), "400 invalid_request", "{}", reply.body);
        assert!(reply.detail().contains(words), "{words}: {}", reply.detail());
    }
    let body = json!({"judge": "sim/tide-small", "labels": [good]}).to_string();
    let reply = admin.call("POST", "/compat/calibrations", &body).await;
    assert_eq!(reply.problem(), "503 no_judge", "nothing makes runs here");
}

#[tokio::test]
async fn a_calibration_says_what_is_missing() {
    let admin = Admin::new().await;
    let agreement = Agreement { both_pass: 30, judge_only: 2, human_only: 3, both_fail: 20 };
    let (judge, protocol) = ("sim/tide-large".to_owned(), "p".to_owned());
    let found = Calibration { judge, protocol, agreement, failed: 1, at_ms: NOW };
    admin.state.runs.calibrate(&found, &Actor::gateway()).await.unwrap();
    let found = admin.get("/compat/calibrations?judge=sim/tide-large").await.body;
    let view = &found["data"][0];
    assert_eq!((&view["labels"], &view["agreed"]), (&json!(55), &json!(50)), "{view}");
    assert_eq!(view["is_calibrated"], false);
    assert_eq!(view["lacks"], json!(["45 more labels, of 100 at least"]));
    assert_eq!(admin.get("/compat/calibrations?judge=other").await.body["data"], json!([]));
    let document = admin.get("/openapi.json").await.body;
    let schema = &document["components"]["schemas"]["CompatCalibration"];
    openapi::same_members(schema, view, "CompatCalibration");
}

#[tokio::test]
async fn a_recording_is_begun_shown_and_forgotten_and_the_audit_log_says_so() {
    let admin = Admin::new().await;
    let version = json!({
        "version": "1.0.0", "variables": {"properties": {"q": {"type": "string"}}},
        "messages": [{"role": "user", "content": "{{ q }}"}],
    });
    let pushed = admin.call("POST", "/prompts/help/versions", &version.to_string()).await;
    assert_eq!(pushed.status, 201, "{}", pushed.body);
    for (body, words) in [
        (r#"{"prompt": "none"}"#, "404 unknown_prompt"),
        (r#"{"prompt": "help", "count": 501}"#, "400 invalid_request"),
        (r#"{"prompt": "help", "seconds": 0}"#, "400 invalid_request"),
        (r#"{"prompt": "help", "for": "1h"}"#, "400 invalid_request"),
    ] {
        let reply = admin.call("POST", "/compat/recordings", body).await;
        assert_eq!(reply.problem(), words, "{body}: {}", reply.body);
    }
    let begun = admin.call("POST", "/compat/recordings", r#"{"prompt": "help"}"#).await;
    assert_eq!(begun.status, 201, "{}", begun.body);
    let document = admin.get("/openapi.json").await.body;
    let schema = &document["components"]["schemas"]["CompatRecording"];
    openapi::same_members(schema, &begun.body, "CompatRecording");
    let again = admin.call("POST", "/compat/recordings", r#"{"prompt": "help"}"#).await;
    assert_eq!(again.problem(), "409 already_recorded");
    let path = format!("/compat/recordings/{}", begun.body["id"].as_str().unwrap());
    assert_eq!(admin.get(&path).await.body, begun.body);
    assert_eq!(begun.body["redact"], true);
    assert_eq!(admin.call("DELETE", &path, "").await.status, 204);
    assert_eq!(admin.get(&path).await.problem(), "404 unknown_recording");
    assert_eq!(admin.call("DELETE", &path, "").await.status, 404);
    let audit = admin.get("/audit").await.body;
    let actions = audit["data"].as_array().unwrap().iter().map(|one| one["action"].as_str());
    let actions: BTreeSet<_> = actions.flatten().filter(|one| one.starts_with("compat.")).collect();
    assert_eq!(actions, BTreeSet::from(["compat.recording.begin", "compat.recording.end"]));
}
