//! Tests of the inventory of models.

use super::*;

/// Models of a provider of one's own, as seen from 2023-11-15: one goes soon, one is gone.
const OWN: &str = r#"
    [providers.own]
    dialect = "openai-chat"
    base_url = "http://127.0.0.1:9/v1"
    credentials = [{ none = true }]
    models = [
        { id = "old", retires_on = "2023-12-01", replacement = "sim/tide-large" },
        { id = "gone", context_tokens = 1_000, retires_on = "2023-11-01" },
        { id = "next", context_tokens = 2_000 },
        { id = "later", retires_on = "2024-06-01" },
    ]
    [routes.mixed]
    targets = [{ model = "own/old" }, { model = "own/gone", tier = 3 }, { model = "own/later", tier = 1 }]
"#;

async fn inventory(entries: Vec<Entry>) -> Admin {
    let admin = Admin::with(entries).await;
    admin.state.snapshot.store(snapshot_with(admin._folder.path(), OWN));
    admin
}

#[tokio::test]
async fn models_in_use_come_with_what_uses_them_and_how_long_they_stay() {
    let sim = |n| Entry {
        provider: Some("sim".into()),
        model_served: Some("tide-small".into()),
        ..entry(n)
    };
    let admin = inventory(vec![sim(1), sim(2), entry(3)]).await;
    let reply = admin.get("/models").await.body;
    assert_eq!(reply["days"], 7);
    let models = reply["data"].as_array().unwrap();
    let told: Vec<_> = models
        .iter()
        .map(|model| {
            let word = |key: &str| model[key].as_str().unwrap_or_default();
            (word("id"), word("status"), &model["days_left"], &model["requests"])
        })
        .collect();
    let expected = [
        ("own/gone", "retired", &json!(-14), &json!(0)),
        ("own/old", "retiring", &json!(16), &json!(0)),
        ("own/later", "active", &json!(199), &json!(0)),
        ("sim/tide-large", "active", &Value::Null, &json!(0)),
        ("sim/tide-small", "active", &Value::Null, &json!(2)),
        ("sim-anthropic/tide-large", "active", &Value::Null, &json!(0)),
    ];
    assert_eq!(told, expected);
    let replacement = |at: usize| &models[at]["replacement"];
    assert_eq!(*replacement(0), json!({ "model": "own/next", "proposed_by": "nearness" }));
    assert_eq!(*replacement(1), json!({ "model": "sim/tide-large", "proposed_by": "catalog" }));
    assert_eq!(*replacement(3), Value::Null);
    let document = admin.get("/openapi.json").await.body;
    let schema = &document["components"]["schemas"]["Replacement"];
    openapi::same_members(schema, replacement(0), "Replacement");
    assert_eq!(models[0]["routes"], json!([{ "name": "mixed", "tier": 2 }]), "gaps are closed");
    let routes = json!([{ "name": "small", "tier": 0 }, { "name": "smart", "tier": 0 }]);
    assert_eq!(models[4]["routes"], routes);
    assert_eq!(models[1]["retires_on"], "2023-12-01");
}

#[tokio::test]
async fn the_list_can_be_of_those_that_go_and_without_counting() {
    let admin = inventory(vec![]).await;
    let reply = admin.get("/models?retiring=true&days=0").await.body;
    let models = reply["data"].as_array().unwrap();
    let ids: Vec<_> = models.iter().map(|model| model["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["own/gone", "own/old"]);
    assert!(models.iter().all(|model| model["requests"].is_null()));
}

#[tokio::test]
async fn what_is_no_question_about_models_or_feedback_is_refused_with_the_reason() {
    let admin = Admin::new().await;
    for (path, words) in [
        ("/models?days=91", "not between 0 and 90"),
        ("/models?retiring=soon", "not `true` or `false`"),
        ("/feedback?kind=thumbs", "none of score, thumb"),
        ("/feedback?since=now", "since: `now` is no time"),
        ("/feedback?cursor=x", "`next_cursor`"),
        ("/feedback/scores?limit=3", "are for /feedback"),
    ] {
        let reply = admin.get(path).await;
        assert_eq!(reply.problem(), "400 invalid_request", "{path}");
        assert!(reply.detail().contains(words), "{path}: {}", reply.detail());
    }
}
