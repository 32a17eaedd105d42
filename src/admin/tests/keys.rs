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
    let mut with_usage = view.clone();
    with_usage["usage"] = json!([]);
    assert_eq!((shown.status, &shown.body), (200, &with_usage));
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

/// A request of 250 tokens that is running, by a key, under limits of a configuration.
async fn one_request(admin: &Admin, key: Option<&str>) -> crate::limits::Reservation {
    let limits = "[limits.default]\ntokens_per_day = 1_000\n[limits.routes]\nby = [\"route\"]\n\
                  requests_per_day = 7";
    let folder = tempfile::tempdir().unwrap();
    admin.state.snapshot.store(snapshot_with(folder.path(), limits));
    let snapshot = admin.state.snapshot.load_full();
    let caller = admin.state.callers.authenticate(key, AuthMode::Keys, false).unwrap();
    let ask = crate::limits::Ask {
        caller: &caller,
        route: &snapshot.resolve("smart").unwrap(),
        tags: &[],
        input_tokens: 240,
        max_output: Some(10),
        choices: 1,
        patience: Duration::MAX,
    };
    admin.state.limits.reserve(&snapshot.limits, &ask).await.unwrap().unwrap()
}

#[tokio::test]
async fn a_key_and_its_team_show_how_much_of_their_limits_is_used() {
    let admin = Admin::new().await;
    let team = r#"{"name": "search", "limits": {"usd_per_month": "500", "concurrent": 4}}"#;
    let team = admin.call("POST", "/teams", team).await.body["id"].clone();
    let key = json!({
        "name": "web",
        "team": team,
        "limits": { "requests_per_minute": 6, "usd_per_day": "5" },
    });
    let key = admin.call("POST", "/keys", &key.to_string()).await.body;
    let key_path = format!("/keys/{}", key["id"].as_str().unwrap());
    let team_path = format!("/teams/{}", team.as_str().unwrap());
    let usage = async |path: &str| admin.get(path).await.body["usage"].clone();
    let unused = |rule, dimension, limit: Value| {
        let used = if limit.is_string() { json!("0.000000") } else { json!(0) };
        json!({ "rule": rule, "dimension": dimension, "limit": limit, "at_once": limit, "used": used,
            "share": 0.0, "resets_at": null })
    };
    assert_eq!(
        usage(&key_path).await,
        json!([
            unused("key", "requests_per_minute", json!(6)),
            unused("key", "usd_per_day", json!("5.000000")),
        ])
    );

    // A limit of the configuration takes those of the key.
    let running = one_request(&admin, key["key"].as_str()).await;
    let day_ends = "2023-11-16T00:00:00.000Z";
    let used = usage(&key_path).await;
    let found = |dimension: &str| {
        let list = used.as_array().unwrap();
        list.iter().find(|used| used["dimension"] == dimension).unwrap().clone()
    };
    assert_eq!(used.as_array().unwrap().len(), 3);
    // Six requests may be made at once, and one comes back every ten seconds.
    let flows = found("requests_per_minute");
    assert_eq!((&flows["limit"], &flows["used"]), (&json!(6), &json!(1)));
    assert_eq!(flows["share"], 0.1667);
    let resets_at = flows["resets_at"].as_str().unwrap();
    assert!(("2023-11-15T12:00:01"..="2023-11-15T12:01:00").contains(&resets_at), "{resets_at}");
    let tokens = found("tokens_per_day");
    assert_eq!((&tokens["rule"], &tokens["limit"]), (&json!("default"), &json!(1_000)));
    assert_eq!((&tokens["used"], &tokens["resets_at"]), (&json!(250), &json!(day_ends)));
    let of_team = usage(&team_path).await;
    assert_eq!(of_team[0]["dimension"], "usd_per_month");
    assert_eq!(of_team[0]["resets_at"], "2023-12-01T00:00:00.000Z");
    assert!(of_team[0]["used"].as_str().unwrap() > "0.000000", "{of_team}");
    let places = json!({ "rule": "team", "dimension": "concurrent", "limit": 4, "at_once": 4,
        "used": 1,
        "share": 0.25, "resets_at": null });
    assert_eq!(of_team[1], places);

    // What was reserved and not used comes back.
    drop(running);
    assert_eq!(usage(&key_path).await[1], unused("default", "tokens_per_day", json!(1_000)));
    assert_eq!(usage(&team_path).await[1], unused("team", "concurrent", json!(4)));
}
