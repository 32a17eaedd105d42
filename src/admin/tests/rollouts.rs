//! Tests of rollouts over the admin API.

use super::*;
use crate::ids::RouteName;
use crate::policy::rollout::Share;

const START: &str =
    r#"{"route": "smart", "from": "sim/tide-small", "to": "sim/tide-reasoner", "percent": 1}"#;

/// What `smart` is steered by, in percent.
fn steered(admin: &Admin) -> Option<f64> {
    let steering = admin.state.rollouts.rollouts().steering();
    steering.routes.get(&RouteName::new("smart")).map(|steered| Share::percent(steered.share))
}

async fn started(admin: &Admin) -> String {
    let reply = admin.call("POST", "/rollouts", START).await;
    assert_eq!(reply.status, 201, "{}", reply.body);
    reply.body["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_rollout_is_begun_set_and_rolled_back_and_steers_at_once() {
    let admin = Admin::new().await;
    let reply = admin.call("POST", "/rollouts", START).await;
    assert_eq!(reply.status, 201, "{}", reply.body);
    let id = reply.body["id"].as_str().unwrap();
    assert!(id.starts_with("ro_"));
    assert_eq!(reply.headers["location"], format!("{PREFIX}/rollouts/{id}"));
    assert_eq!((&reply.body["percent"], &reply.body["phase"]), (&json!(1.0), &json!("running")));
    let shares: Vec<_> =
        reply.body["stages"].as_array().unwrap().iter().map(|it| &it["percent"]).collect();
    assert_eq!(shares, [1.0, 5.0, 20.0, 50.0, 100.0]);
    assert_eq!(steered(&admin), Some(1.0));

    let path = format!("/rollouts/{id}");
    let reply = admin.call("PATCH", &path, r#"{"percent": 25}"#).await;
    assert_eq!((reply.status, &reply.body["percent"]), (200, &json!(25.0)));
    assert_eq!(reply.body["decisions"][0]["sentence"], "set by hand from 1 % to 25 %");
    assert_eq!(reply.body["serving"]["percent"], 25.0);
    assert_eq!(steered(&admin), Some(25.0));
    let reply = admin.call("PATCH", &path, r#"{"percent": 25.01}"#).await;
    assert_eq!(reply.body["percent"], 25.01);

    let reply = admin.call("POST", &format!("{path}/rollback"), r#"{"reason": "odd"}"#).await;
    assert_eq!((reply.status, &reply.body["phase"]), (200, &json!("rolled_back")));
    assert_eq!(reply.body["says"], "sim/tide-small serves everybody again");
    assert_eq!(reply.body["decisions"][0]["sentence"], "rolled back by hand: odd");
    assert_eq!(steered(&admin), None);
    let again = admin.call("PATCH", &path, r#"{"percent": 1}"#).await;
    assert_eq!(again.problem(), "409 rollout_over");

    let audit = admin.get("/audit").await.body;
    let actions: Vec<_> =
        audit["data"].as_array().unwrap().iter().map(|one| &one["action"]).collect();
    let mut actions: Vec<_> = actions.into_iter().filter_map(Value::as_str).collect();
    // The clock stands still, so that they have no order.
    actions.sort_unstable();
    assert_eq!(actions, ["rollout.roll_back", "rollout.set", "rollout.set", "rollout.start"]);
    let list = admin.get("/rollouts").await.body;
    assert_eq!(list["data"][0]["id"], id);
}

#[tokio::test]
async fn a_rollout_can_be_paused_resumed_promoted_frozen_and_thawed() {
    let admin = Admin::new().await;
    let id = started(&admin).await;
    for (verb, problem, phase, percent) in [
        ("resume", "409 not_paused", "running", 1.0),
        ("pause", "", "paused", 1.0),
        ("pause", "409 paused", "paused", 1.0),
        ("resume", "", "running", 1.0),
        ("promote", "", "running", 5.0),
        ("freeze", "", "running", 5.0),
        ("promote", "409 frozen", "running", 5.0),
        ("thaw", "", "running", 5.0),
        ("promote", "", "running", 20.0),
    ] {
        let reply = admin.call("POST", &format!("/rollouts/{id}/{verb}"), "").await;
        if problem.is_empty() {
            assert_eq!(reply.status, 200, "{verb}: {}", reply.body);
        } else {
            assert_eq!(reply.problem(), problem, "{verb}");
        }
        let body = admin.get(&format!("/rollouts/{id}")).await.body;
        assert_eq!((&body["phase"], &body["percent"]), (&json!(phase), &json!(percent)), "{verb}");
    }
    let reply = admin.call("POST", &format!("/rollouts/{id}/explode"), "").await;
    assert!(reply.detail().contains("there is pause, resume"), "{}", reply.detail());
}

#[tokio::test]
async fn who_changes_what_is_not_so_any_more_is_told() {
    let admin = Admin::new().await;
    let id = started(&admin).await;
    let path = format!("/rollouts/{id}");
    let etag = admin.get(&path).await.headers["etag"].clone();
    let patch = |etag: http::HeaderValue| request("PATCH", &path).header("if-match", etag);
    assert_eq!(admin.send(patch(etag.clone()), r#"{"percent": 2}"#).await.status, 200);
    let late = admin.send(patch(etag), r#"{"percent": 50}"#).await;
    assert_eq!(late.problem(), "412 changed_meanwhile");
    assert_eq!(steered(&admin), Some(2.0));
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "a table")]
async fn what_cannot_be_rolled_out_is_refused_with_the_reason() {
    let admin = Admin::new().await;
    let id = started(&admin).await;
    let set = format!("/rollouts/{id}");
    let of = |route: &str, from: &str, to: &str, more: &str| {
        format!(r#"{{"route": "{route}", "from": "{from}", "to": "{to}"{more}}}"#)
    };
    let small = |more: &str| of("small", "sim/tide-small", "sim/tide-large", more);
    let cases = [
        (
            "PATCH",
            &*set,
            r#"{"percent": 101}"#.to_owned(),
            "400 invalid_request",
            "from 0 to 100 in steps of 0.01, not 101",
        ),
        ("PATCH", &set, r#"{"percent": -1}"#.to_owned(), "400 invalid_request", "not -1"),
        ("PATCH", &set, r#"{"percent": 2.005}"#.to_owned(), "400 invalid_request", "not 2.005"),
        ("PATCH", &set, r#"{"percent": "25"}"#.to_owned(), "400 invalid_request", "expected f64"),
        (
            "PATCH",
            &set,
            r#"{"share": 25}"#.to_owned(),
            "400 invalid_request",
            "unknown field `share`",
        ),
        (
            "PATCH",
            "/rollouts/ro_x",
            r#"{"percent": 2}"#.to_owned(),
            "404 unknown_rollout",
            "`ro_x`",
        ),
        ("POST", "/rollouts", START.to_owned(), "409 rollout_busy", &id),
        ("POST", "/rollouts", "{}".to_owned(), "400 invalid_request", "say what is rolled out"),
        (
            "POST",
            "/rollouts",
            of("smal", "sim/tide-small", "sim/tide-large", ""),
            "404 unknown_route",
            "`small`",
        ),
        (
            "POST",
            "/rollouts",
            of("sim/tide-large", "a", "b", ""),
            "404 unknown_route",
            "a model and no route",
        ),
        (
            "POST",
            "/rollouts",
            of("small", "sim/tide-large", "sim/tide-small", ""),
            "404 unknown_model",
            "it has `sim/tide-small`",
        ),
        (
            "POST",
            "/rollouts",
            of("small", "sim/tide-small", "sim/tide-larg", ""),
            "404 unknown_model",
            "`sim/tide-large`",
        ),
        (
            "POST",
            "/rollouts",
            of("small", "sim/tide-small", "smart", ""),
            "400 invalid_request",
            "to: is a route",
        ),
        (
            "POST",
            "/rollouts",
            of("small", "sim/tide-small", "sim/tide-small", ""),
            "400 invalid_request",
            "the same as `from`",
        ),
        (
            "POST",
            "/rollouts",
            small(r#", "percent": 101"#),
            "400 invalid_request",
            "percent: a percentage",
        ),
        (
            "POST",
            "/rollouts",
            small(r#", "stages": []"#),
            "400 invalid_request",
            "at least one stage",
        ),
        (
            "POST",
            "/rollouts",
            small(r#", "stages": [{"percent": 5}, {"percent": 5}]"#),
            "400 invalid_request",
            "stage 2 serves 5 %",
        ),
        (
            "POST",
            "/rollouts",
            small(r#", "unit": "galaxy""#),
            "400 invalid_request",
            "unknown variant `galaxy`",
        ),
        (
            "POST",
            "/rollouts",
            small(r#", "guardrails": [{"guardrail": "errors", "margin": {"times": 2}}]"#),
            "400 invalid_request",
            "no margin for the guardrail errors",
        ),
        (
            "POST",
            "/rollouts",
            r#"{"prompt": "none", "from": "1.0.0", "to": "1.1.0"}"#.to_owned(),
            "404 unknown_prompt",
            "`none` does not exist",
        ),
        (
            "POST",
            "/rollouts",
            r#"{"prompt": "none", "from": "new", "to": "1.1.0"}"#.to_owned(),
            "400 invalid_request",
            "`new` is no version",
        ),
        ("POST", "/rollouts", r#"{"after": "ro_x"}"#.to_owned(), "404 unknown_rollout", "`ro_x`"),
        (
            "POST",
            "/rollouts",
            format!(r#"{{"after": "{id}"}}"#),
            "409 not_rolled_back",
            "it is running",
        ),
    ];
    for (method, path, body, problem, words) in cases {
        let reply = admin.call(method, path, &body).await;
        assert_eq!(reply.problem(), problem, "{method} {path} {body}: {}", reply.detail());
        assert!(reply.detail().contains(words), "{method} {path} {body}: {}", reply.detail());
    }
}

#[tokio::test]
async fn what_was_rolled_back_is_in_quarantine_and_comes_back_gradually() {
    let admin = Admin::new().await;
    let id = started(&admin).await;
    admin.call("POST", &format!("/rollouts/{id}/rollback"), "").await;
    let reply = admin.call("POST", "/rollouts", START).await;
    assert_eq!(reply.problem(), "409 quarantined");
    assert!(reply.detail().contains(&id), "{}", reply.detail());
    let again = format!(r#"{{"after": "{id}", "gradual": true}}"#);
    assert_eq!(admin.call("POST", "/rollouts", &again).await.problem(), "409 quarantined");
    let again = format!(r#"{{"after": "{id}", "gradual": true, "force": true}}"#);
    let reply = admin.call("POST", "/rollouts", &again).await;
    assert_eq!(reply.status, 201, "{}", reply.body);
    assert_eq!(
        (&reply.body["to"], &reply.body["percent"]),
        (&json!("sim/tide-reasoner"), &json!(0.0))
    );
    assert_eq!(reply.body["stage"]["kind"], "shadow");
    assert_eq!(reply.body["stages"][1]["percent"], 1.0);
    assert_eq!(
        reply.body["shadow"],
        json!({"sample_percent": 10.0, "usd": "5.000000", "spent_usd": "0.000000"})
    );
    let audit = admin.get("/audit?action=rollout.start").await.body;
    // The clock stands still, so that they have no order.
    let mut begun = audit["data"].as_array().unwrap().iter().map(|one| &one["after"]);
    assert!(begun.any(|after| after["force"] == true && after["after"] == *id), "{audit}");
}
