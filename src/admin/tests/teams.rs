//! Tests of teams, of what keys may do, and of the audit log.

use super::*;

#[tokio::test]
async fn a_team_is_made_changed_and_deleted() {
    let admin = Admin::new().await;
    let body =
        r#"{"name": "search", "limits": {"usd_per_month": "500", "tokens_per_minute": 1000}}"#;
    let made = admin.call("POST", "/teams", body).await;
    assert_eq!(made.status, 201, "{:?}", made.body);
    let id = made.body["id"].as_str().unwrap().to_owned();
    let view = json!({
        "id": id,
        "name": "search",
        "limits": { "tokens_per_minute": 1000, "usd_per_month": "500" },
        "routes": null,
        "models": null,
        "tags": {},
        "created_at": "2023-11-15T12:00:00.000Z",
    });
    assert_eq!(made.body, view);
    let path = format!("/teams/{id}");
    assert_eq!(made.headers["location"], format!("{PREFIX}{path}"));
    assert_eq!(admin.get("/teams").await.body, json!({ "data": [view], "next_cursor": null }));

    let change = r#"{"models": ["openai/*"], "limits": {}}"#;
    let changed = admin.send(request("PATCH", &path).header("if-match", "\"1\""), change).await;
    assert_eq!(
        (changed.status, &changed.headers["etag"]),
        (200, &HeaderValue::from_static("\"2\""))
    );
    assert_eq!(changed.body["models"], json!(["openai/*"]));
    assert_eq!(changed.body["limits"], json!({}));
    let stale = admin.send(request("PATCH", &path).header("if-match", "\"1\""), change).await;
    assert_eq!(stale.problem(), "412 changed_meanwhile");

    let key = format!(r#"{{"name": "web", "team": "{id}"}}"#);
    let key = admin.call("POST", "/keys", &key).await;
    assert_eq!((key.status, &key.body["team"]), (201, &json!(id)));
    assert_eq!(admin.call("DELETE", &path, "").await.problem(), "409 team_in_use");
    let key_path = format!("/keys/{}", key.body["id"].as_str().unwrap());
    admin.call("PATCH", &key_path, r#"{"team": null}"#).await;
    assert_eq!(admin.call("DELETE", &path, "").await.status, 204);
    assert_eq!(admin.get(&path).await.problem(), "404 unknown_team");
}

#[tokio::test]
async fn keys_take_what_they_may_do_and_refuse_nonsense() {
    let admin = Admin::new().await;
    let body = r#"{"name": "web", "limits": {"requests_per_minute": 60, "usd_per_day": "5"},
        "routes": ["smart"], "tags": {"env": "prod"}, "expires_at": "2090-01-01T00:00:00Z"}"#;
    let made = admin.call("POST", "/keys", body).await;
    assert_eq!(made.status, 201, "{:?}", made.body);
    assert_eq!(made.body["limits"], json!({ "requests_per_minute": 60, "usd_per_day": "5" }));
    assert_eq!(made.body["expires_at"], "2090-01-01T00:00:00.000Z");
    let path = format!("/keys/{}", made.body["id"].as_str().unwrap());

    let rotated = admin.call("POST", &format!("{path}/rotate"), r#"{"overlap": "2h"}"#).await;
    assert_eq!(rotated.status, 200, "{:?}", rotated.body);
    assert_ne!(rotated.body["key"], made.body["key"]);
    assert_eq!(rotated.body["previous_valid_until"], "2023-11-15T14:00:00.000Z");
    let cleared = admin.call("PATCH", &path, r#"{"expires_at": null, "routes": null}"#).await;
    assert_eq!(
        (&cleared.body["expires_at"], &cleared.body["routes"]),
        (&Value::Null, &Value::Null)
    );
    assert_eq!(cleared.body["tags"], json!({ "env": "prod" }), "what is not sent stays");

    for (body, problem) in [
        (r#"{"limits": {}}"#, "400 invalid_request"),
        (r#"{"name": "x", "limits": {"requests_per_year": 1}}"#, "400 invalid_request"),
        (r#"{"name": "x", "limits": {"usd_per_day": "many"}}"#, "400 invalid_request"),
        (r#"{"name": "x", "limits": {"concurrent": 0}}"#, "400 invalid_request"),
        (r#"{"name": "x", "routes": ["a b"]}"#, "400 invalid_request"),
        (r#"{"name": "x", "expires_at": "2001-01-01T00:00:00Z"}"#, "400 invalid_request"),
        (r#"{"name": "x", "expires_at": "tomorrow"}"#, "400 invalid_request"),
        (r#"{"name": "x", "team": "team_none"}"#, "404 unknown_team"),
        (r#"{"name": "x", "revoked": true}"#, "400 invalid_request"),
        (r#"{"name": "x", "color": 1}"#, "400 invalid_request"),
    ] {
        assert_eq!(admin.call("POST", "/keys", body).await.problem(), problem, "{body}");
    }
    for (body, problem) in [
        (r#"{"overlap": "31d"}"#, "400 invalid_request"),
        (r#"{"overlap": 7}"#, "400 invalid_request"),
    ] {
        let reply = admin.call("POST", &format!("{path}/rotate"), body).await;
        assert_eq!(reply.problem(), problem, "{body}");
    }
    admin.call("DELETE", &path, "").await;
    let late = admin.call("POST", &format!("{path}/rotate"), "{}").await;
    assert_eq!(late.problem(), "409 key_revoked");
}

#[tokio::test]
async fn the_audit_log_says_who_changed_what() {
    let admin = Admin::new().await;
    let made = admin.call("POST", "/keys", r#"{"name": "web"}"#).await.body;
    let id = made["id"].as_str().unwrap();
    let by_cli = request("DELETE", &format!("/keys/{id}")).header("user-agent", "tidegate-cli/1");
    let revoked = admin.send(by_cli, "").await;
    let drained = admin.call("PATCH", "/targets/sim/tide-small", r#"{"drained": true}"#).await;
    assert_eq!(drained.status, 200, "{:?}", drained.body);
    // A change that is none.
    admin.call("PATCH", "/targets/sim/tide-small", r#"{"drained": true}"#).await;
    admin.state.callers.audit().flush().await.unwrap();

    let page = admin.get("/audit?limit=2").await.body;
    let cursor = page["next_cursor"].as_str().unwrap();
    let rest = admin.get(&format!("/audit?limit=2&cursor={cursor}")).await.body;
    let rows: Vec<_> =
        [page, rest].iter().flat_map(|page| page["data"].as_array().unwrap().clone()).collect();
    let mut seen: Vec<_> = rows
        .iter()
        .map(|row| format!("{} {} {}", row["actor"], row["action"], row["resource"]))
        .map(|row| row.replace('"', ""))
        .collect();
    seen.sort();
    let expected = [
        "admin key.create".to_owned() + &format!(" keys/{id}"),
        "admin target.change targets/sim/tide-small".to_owned(),
        format!("cli key.revoke keys/{id}"),
    ];
    assert_eq!(seen, expected);
    let row = rows.iter().find(|row| row["action"] == "key.revoke").unwrap();
    assert_eq!(row["request_id"], revoked.headers["x-request-id"].to_str().unwrap());
    assert_eq!(
        (&row["before"]["revoked_at_ms"], &row["after"]["revoked_at_ms"]),
        (&Value::Null, &json!(NOW))
    );
    assert_eq!(row["at"], "2023-11-15T12:00:00.000Z");
    let all = serde_json::to_string(&rows).unwrap();
    assert!(!all.contains(made["key"].as_str().unwrap()));

    let some = admin.get("/audit?action=target.change&actor=admin").await.body;
    assert_eq!(some["data"].as_array().unwrap().len(), 1);
    let none = admin.get(&format!("/audit?since={}", NOW + 1)).await.body;
    assert_eq!(none, json!({ "data": [], "next_cursor": null }));
    assert_eq!(admin.get("/audit?cursor=x").await.problem(), "400 invalid_request");
}
