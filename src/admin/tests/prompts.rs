//! Tests of prompts that are pushed, labelled and compared.

use super::openapi::same_members;
use super::*;

const ONE: &str = r#"{
    "version": "1.0.0", "target_model": "openai/gpt-5", "tested_models": ["openai/gpt-5"],
    "variables": {"properties": {"q": {"type": "string"}}},
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Answer:\n{{ q }}"}
    ],
    "parameters": {"temperature": 0}
}"#;

fn version(number: &str) -> Value {
    let mut version: Value = serde_json::from_str(ONE).unwrap();
    version["version"] = number.into();
    version
}

async fn push(admin: &Admin, version: &Value) -> Reply {
    admin.call("POST", "/prompts/support/versions", &version.to_string()).await
}

async fn label(admin: &Admin, name: &str, body: &Value, etag: Option<&str>) -> Reply {
    let mut request = request("PUT", &format!("/prompts/support/labels/{name}"));
    if let Some(etag) = etag {
        request = request.header("if-match", etag);
    }
    admin.send(request, &body.to_string()).await
}

/// Two versions, of which the first is `production`.
async fn two() -> Admin {
    let admin = Admin::new().await;
    assert_eq!(push(&admin, &version("1.0.0")).await.status, 201);
    let mut next = version("1.0.1");
    next["messages"][1]["content"] = "Answer in one line:\n{{ q }}".into();
    next["parameters"] = json!({"temperature": 1, "max_tokens": 50});
    assert_eq!(push(&admin, &next).await.status, 201);
    assert_eq!(label(&admin, "production", &json!({"version": "1.0.0"}), None).await.status, 200);
    admin
}

#[tokio::test]
async fn a_version_is_pushed_once_and_the_same_again_is_no_error() {
    let admin = Admin::new().await;
    let made = push(&admin, &version("1.0.0")).await;
    assert_eq!(made.status, 201, "{}", made.body);
    assert_eq!(made.headers["location"], "/admin/v1/prompts/support/versions/1.0.0");
    assert_eq!(made.headers["etag"], "\"1\"");
    assert_eq!(made.body["origin"], "push");
    assert_eq!(made.body["registered_by"], "admin");
    let again = push(&admin, &version("1.0.0")).await;
    assert_eq!((again.status, &again.body), (200, &made.body));
    let shown = admin.get("/prompts/support/versions/%5E1").await;
    assert_eq!(shown.body, made.body, "a range is what it means now");
    let mut other = version("1.0.0");
    other["messages"][0]["content"] = "Be long.".into();
    let refused = push(&admin, &other).await;
    assert_eq!(refused.problem(), "409 version_exists");
    assert!(refused.detail().contains("support@1.0.0 is there and says something else"));
}

#[tokio::test]
async fn what_is_no_version_is_refused_with_the_place() {
    let admin = two().await;
    for (member, value, code, words) in [
        ("version", json!("1.2"), "400 invalid_request", "\"1.2\" is no version"),
        ("messages", json!([]), "422 invalid_prompt", "messages: needs at least one message"),
        ("color", json!("red"), "422 invalid_prompt", "color: unknown key"),
        (
            "target_model",
            json!("anthropic/claude-sonnet-4-5"),
            "422 wrong_version_number",
            "MAJOR change: number it 2.0.0 or higher",
        ),
        (
            "tools",
            json!([{"type": "function", "function": {"name": "look"}}]),
            "422 wrong_version_number",
            "`tools` and the wording and `parameters` changed, which is a MINOR change: number it 1.1.0 or higher",
        ),
    ] {
        let mut pushed = version("1.0.2");
        pushed[member] = value;
        let refused = push(&admin, &pushed).await;
        assert_eq!(refused.problem(), code, "{member}: {}", refused.detail());
        assert!(refused.detail().contains(words), "{member}: {}", refused.detail());
    }
    for (template, words) in [
        ("{{ q", "messages[1].content: line 1 of the template: "),
        (
            "one\n{% include 'other' %}{{ q }}",
            "line 2 of the template: unknown statement include: a message is one text; there is no other template to take in",
        ),
        ("{% extends 'support' %}{{ q }}", "unknown statement extends: a message is one text"),
        ("{% from 'a' import b %}{{ q }}", "unknown statement from: a message is one text"),
        (
            "{{ q }} {{ quest }}",
            "the template uses `quest`, which is not one of `variables.properties`",
        ),
        ("no variable", "variables.properties.q: no message uses it"),
        ("{{ q | shout }}", "shout"),
    ] {
        let mut pushed = version("1.0.2");
        pushed["messages"][1]["content"] = template.into();
        let refused = push(&admin, &pushed).await;
        assert_eq!(refused.problem(), "422 invalid_prompt", "{template}");
        assert!(refused.detail().contains(words), "{template}: {}", refused.detail());
        let first = &refused.body["problems"][0];
        assert!(refused.detail().contains(first["key"].as_str().unwrap()), "{}", refused.body);
    }
    let mut long = version("1.0.2");
    long["messages"][0]["content"] = "x".repeat(300_000).into();
    let refused = push(&admin, &long).await;
    assert_eq!(refused.problem(), "422 invalid_prompt");
    assert!(refused.detail().contains("messages[0].content: is longer than 262144 bytes"));
    long["messages"] = json!(vec![json!({"role": "user", "content": "x".repeat(200_000)}); 9]);
    let refused = push(&admin, &long).await;
    assert_eq!(refused.problem(), "400 invalid_request");
    assert!(refused.detail().contains("over 1025 KiB"), "{}", refused.detail());
    let id = admin.call("POST", "/prompts/Sup%20port/versions", ONE).await;
    assert_eq!(id.problem(), "400 invalid_request");
    assert!(id.detail().contains("is no name of a prompt"), "{}", id.detail());
}

#[tokio::test]
async fn a_label_moves_by_its_etag_and_a_protected_one_by_force() {
    let admin = two().await;
    let shown = admin.get("/prompts/support/labels/production").await;
    let etag = shown.headers["etag"].to_str().unwrap().to_owned();
    assert_eq!(shown.body["etag"], etag.as_str());
    let moved = label(&admin, "production", &json!({"version": "1.0.1"}), Some(&etag)).await;
    assert_eq!((moved.status, moved.body["version"].as_str()), (200, Some("1.0.1")));
    let late = label(&admin, "production", &json!({"version": "1.0.0"}), Some(&etag)).await;
    assert_eq!(late.problem(), "412 changed_meanwhile");
    assert!(late.detail().contains("it stands for 1.0.1"), "{}", late.detail());
    let wrong = label(&admin, "production", &json!({"version": "1.0.0"}), Some("x")).await;
    assert_eq!(wrong.problem(), "412 changed_meanwhile");
    for (name, body, problem) in [
        ("production", json!({"version": "9.0.0"}), "404 unknown_version"),
        ("production", json!({"version": "^1"}), "400 invalid_request"),
        ("Production", json!({"version": "1.0.0"}), "400 invalid_request"),
        ("production", json!({}), "400 invalid_request"),
    ] {
        assert_eq!(label(&admin, name, &body, None).await.problem(), problem, "{name} {body}");
    }
    let protect = json!({"version": "1.0.1", "protected": true});
    assert_eq!(label(&admin, "production", &protect, None).await.body["protected"], true);
    let refused = label(&admin, "production", &json!({"version": "1.0.0"}), None).await;
    assert_eq!(refused.problem(), "409 label_protected");
    assert!(refused.detail().contains(r#"send {"force": true}"#), "{}", refused.detail());
    let forced = json!({"version": "1.0.0", "force": true});
    assert_eq!(label(&admin, "production", &forced, None).await.status, 200);
    let refused = admin.call("DELETE", "/prompts/support/labels/production", "").await;
    assert_eq!(refused.problem(), "409 label_protected");
    let gone = admin.call("DELETE", "/prompts/support/labels/production?force=true", "").await;
    assert_eq!(gone.status, 204);
    let gone = admin.get("/prompts/support/labels/production").await;
    assert_eq!(gone.problem(), "404 unknown_label");
    let history = admin.get("/prompts/support/labels/production/history").await.body;
    let versions: Vec<_> =
        history["data"].as_array().unwrap().iter().map(|one| one["version"].clone()).collect();
    let expected = [json!(null), json!("1.0.0"), json!("1.0.1"), json!("1.0.1"), json!("1.0.0")];
    assert_eq!(versions, expected);
    assert_eq!(history["data"][1]["forced"], true);
    let audit = admin.get("/audit?action=prompt.label").await.body;
    assert_eq!(audit["data"].as_array().unwrap().len(), 4, "{audit}");
}

#[tokio::test]
async fn a_diff_says_in_words_and_lines_what_changed() {
    let admin = two().await;
    let diff = admin.get("/prompts/support/diff?from=production&to=1.0.1").await.body;
    assert_eq!((&diff["from"], &diff["change"]), (&json!("1.0.0"), &json!("PATCH")));
    let what = json!([
        "the wording of messages[1] (user): 1 lines went, 1 came",
        "parameters: `max_tokens`, `temperature`"
    ]);
    assert_eq!(diff["what"], what);
    let lines = diff["lines"].as_str().unwrap();
    assert!(lines.contains("\n-  Answer:\n+  Answer in one line:\n   {{ q }}\n"), "{lines}");
    let missing = admin.get("/prompts/support/diff?from=1.0.0").await;
    assert_eq!(missing.problem(), "400 invalid_request");
    let unknown = admin.get("/prompts/support/diff?from=1.0.0&to=3.0.0").await;
    assert_eq!(unknown.problem(), "404 unknown_version");
    assert_eq!(admin.get("/prompts/nobody/labels").await.problem(), "404 unknown_prompt");
}

#[tokio::test]
async fn a_version_is_deprecated_and_nothing_else_of_it_changes() {
    let admin = two().await;
    let path = "/prompts/support/versions/1.0.1";
    let gone = admin.call("PATCH", path, r#"{"deprecation_reason": "too curt"}"#).await;
    assert_eq!(gone.status, 200, "{}", gone.body);
    assert_eq!(gone.body["deprecated_at"], "2023-11-15", "the day of the gateway's clock");
    let newest = admin.get("/prompts/support/versions/%5E1").await.body;
    assert_eq!(newest["version"], "1.0.0");
    for (body, words) in [
        (r#"{"messages": []}"#, "unknown field `messages`"),
        ("{}", "deprecated_at: missing"),
        (r#"{"deprecated_at": "soon"}"#, "must be a day like 2026-11-02"),
        (r#"{"deprecated_at": null, "deprecation_reason": "x"}"#, "of what is not deprecated"),
    ] {
        let refused = admin.call("PATCH", path, body).await;
        assert_eq!(refused.problem(), "400 invalid_request", "{body}");
        assert!(refused.detail().contains(words), "{body}: {}", refused.detail());
    }
    let stale = request("PATCH", path).header("if-match", "\"1\"");
    let stale = admin.send(stale, r#"{"deprecated_at": null}"#).await;
    assert_eq!(stale.problem(), "412 changed_meanwhile");
    let back = admin.call("PATCH", path, r#"{"deprecated_at": null}"#).await;
    assert_eq!((back.status, &back.body["deprecated_at"]), (200, &Value::Null));
}

#[tokio::test]
async fn lists_are_pages_and_replies_are_what_the_document_says() {
    let admin = two().await;
    for id in ["answer", "zebra"] {
        let path = format!("/prompts/{id}/versions");
        assert_eq!(admin.call("POST", &path, ONE).await.status, 201);
    }
    let all = admin.get("/prompts").await.body;
    let ids: Vec<_> = all["data"].as_array().unwrap().iter().map(|one| &one["id"]).collect();
    assert_eq!(ids, ["answer", "support", "zebra"]);
    let page = admin.get("/prompts?limit=2").await.body;
    let next = format!("/prompts?limit=2&cursor={}", page["next_cursor"].as_str().unwrap());
    assert_eq!(admin.get(&next).await.body["data"][0]["id"], "zebra");
    let page = admin.get("/prompts/support/versions?limit=1").await.body;
    assert_eq!(page["data"][0]["version"], "1.0.1");
    let older = admin.get("/prompts/support/versions?limit=1&cursor=1.0.1").await.body;
    assert_eq!(older["data"][0]["version"], "1.0.0");
    assert_eq!(older["data"][0]["labels"], json!(["production"]));

    let document = admin.get("/openapi.json").await.body;
    let shown = admin.get("/prompts/support/versions/1.0.0").await.body;
    let diff = admin.get("/prompts/support/diff?from=1.0.0&to=1.0.1").await.body;
    let labels = admin.get("/prompts/support/labels").await.body;
    let history = admin.get("/prompts/support/labels/production/history").await.body;
    for (schema, reply) in [
        ("PromptVersionSummary", &older["data"][0]),
        ("PromptVersion", &shown),
        ("PromptDiff", &diff),
        ("PromptLabel", &labels["data"][0]),
        ("PromptLabelChange", &history["data"][0]),
    ] {
        same_members(&document["components"]["schemas"][schema], reply, schema);
    }
    let prompt = &all["data"][1];
    assert_eq!(prompt["labels"], json!({"production": "1.0.0"}));
    assert_eq!(prompt["versions"], 2);
}
