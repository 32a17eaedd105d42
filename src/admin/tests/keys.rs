//! Tests of keys.

use super::*;

#[tokio::test]
async fn a_key_is_made_shown_once_renamed_and_revoked() {
    let admin = Admin::new().await;
    let body = r#"{"name": "web", "limits": {}}"#;
    let made = admin.call("POST", "/keys", body).await;
    assert_eq!(made.status, 201);
    let id = made.body["id"].as_str().unwrap().to_owned();
    let secret = made.body["key"].as_str().unwrap().to_owned();
    assert_eq!(made.headers["location"], format!("{PREFIX}/keys/{id}"));
    assert_eq!(made.headers["etag"], "\"1\"");
    let path = format!("/keys/{id}");
    let view = json!({
        "id": id,
        "name": "web",
        "hint": SecretKey::new(&secret).hint(),
        "priority": 2,
        "team": null,
        "limits": {},
        "routes": null,
        "models": null,
        "tags": {},
        "created_at": "2023-11-15T12:00:00.000Z",
        "expires_at": null,
        "previous_valid_until": null,
        "revoked_at": null,
    });
    let shown = admin.get(&path).await;
    assert_eq!((shown.status, &shown.body), (200, &view));
    let listed = admin.get("/keys").await;
    assert_eq!(listed.body, json!({ "data": [view], "next_cursor": null }));
    let callers = &admin.state.callers;
    let caller = callers.authenticate(Some(&secret), AuthMode::Keys, false).unwrap();
    assert_eq!(caller.id.as_str(), id);

    let rename = r#"{"name": "shop"}"#;
    let renamed = admin.send(request("PATCH", &path).header("if-match", "\"1\""), rename).await;
    assert_eq!((renamed.status, renamed.body["name"].as_str()), (200, Some("shop")));
    assert_eq!(renamed.headers["etag"], "\"2\"");
    let urgent = admin.call("PATCH", &path, r#"{"priority": 0}"#).await;
    assert_eq!((&urgent.body["priority"], &urgent.body["name"]), (&json!(0), &json!("shop")));
    let caller = callers.authenticate(Some(&secret), AuthMode::Keys, false).unwrap();
    assert_eq!(caller.priority, Priority::HIGHEST);
    for stale in ["\"2\"", "3", "W/\"3\""] {
        for method in ["PATCH", "DELETE"] {
            let request = request(method, &path).header("if-match", stale);
            let reply = admin.send(request, rename).await;
            assert_eq!(reply.problem(), "412 changed_meanwhile", "{method} {stale}");
        }
    }

    let request = request("DELETE", &path).header("if-match", "*");
    assert_eq!(admin.send(request, "").await.status, 204);
    assert!(callers.authenticate(Some(&secret), AuthMode::Keys, false).is_err());
    assert_eq!(admin.get(&path).await.body["revoked_at"], "2023-11-15T12:00:00.000Z");
    assert_eq!(admin.call("DELETE", &path, "").await.status, 204);
    assert_eq!(admin.call("PATCH", &path, r#"{"revoked": true}"#).await.status, 200);
}

#[tokio::test]
async fn a_nul_is_refused_before_it_reaches_the_store() {
    let admin = Admin::new().await;
    for path in ["/keys/%00", "/keys/key_a%00b/rotate", "/teams/%00", "/webhooks/%00/deliveries"] {
        for method in ["GET", "PATCH", "DELETE", "POST"] {
            let reply = admin.call(method, path, r#"{"name": "web"}"#).await;
            assert_eq!(reply.problem(), "404 not_found", "{method} {path}");
        }
    }
    let queries = [
        "/audit?actor=%00",
        "/audit?resource=keys/%00",
        "/usage?caller=a%00b",
        "/usage?group_by=tag:%00",
        "/requests?tag:a%00=b",
        "/requests?model=%00",
        "/keys?cursor=%00",
        "/teams?cursor=%00",
    ];
    for path in queries {
        let reply = admin.get(path).await;
        assert_eq!(reply.problem(), "400 invalid_request", "{path}");
        assert_eq!(reply.detail(), "query: no value may hold a NUL (%00)");
    }
    for body in [r#"{"name": "web", "team": "a\u0000"}"#, r#"{"name": "\\\u0000"}"#] {
        let reply = admin.call("POST", "/keys", body).await;
        assert_eq!(reply.detail(), "body: no text may hold a NUL (\\u0000)", "{body}");
    }
    // These are a backslash and five letters.
    let reply = admin.call("POST", "/keys", r#"{"name": "\\u0000"}"#).await;
    assert_eq!((reply.status, reply.body["name"].as_str()), (201, Some("\\u0000")));
}
