//! Tests that the document says what the API does.

use bytes::Bytes;

use super::*;
use crate::feedback::{Opinion, Thumb};
use crate::ids::CallerId;
use crate::jobs::{JobSettings, NewJob, NewWebhook, Particulars};
use crate::units::Priority;

#[tokio::test]
async fn the_document_names_every_route_and_no_other() {
    let admin = Admin::new().await;
    let document = admin.get("/openapi.json").await.body;
    let mut described = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys().filter(|key| *key != "parameters") {
            described.insert(format!("{} {path}", method.to_uppercase()));
        }
    }
    let routes = routes();
    let routes = routes.iter().map(|(method, path, _)| format!("{} {path}", name(method)));
    // That a parameter may hold slashes cannot be said there.
    let routes: BTreeSet<_> = routes.map(|route| route.replace("{*", "{")).collect();
    assert_eq!(described, routes);
}

fn name(filter: &MethodFilter) -> &'static str {
    let names = [("GET", MethodFilter::GET), ("POST", MethodFilter::POST)];
    let more = [
        ("PUT", MethodFilter::PUT),
        ("PATCH", MethodFilter::PATCH),
        ("DELETE", MethodFilter::DELETE),
    ];
    let found = names.into_iter().chain(more).find(|(_, method)| method == filter);
    found.expect("a method of the API").0
}

/// Every object in the document's schemas lists exactly the members that replies have.
#[tokio::test]
async fn the_document_describes_what_replies_hold() {
    let admin = Admin::with(vec![entry(1)]).await;
    let document = admin.get("/openapi.json").await.body;
    let made = admin.call("POST", "/keys", r#"{"name": "web"}"#).await.body;
    let keys = admin.get("/keys").await.body;
    let team = admin.call("POST", "/teams", r#"{"name": "search"}"#).await.body;
    let teams = admin.get("/teams").await.body;
    let limited = r#"{"name": "web", "limits": {"concurrent": 4}}"#;
    let limited = admin.call("POST", "/keys", limited).await.body["id"].clone();
    let limited = admin.get(&format!("/keys/{}", limited.as_str().unwrap())).await.body;
    let audit = admin.get("/audit").await.body;
    let requests = admin.get("/requests").await.body;
    let usage = admin.get("/usage?group_by=day").await.body;
    let problem = admin.call("POST", "/config/reload", "").await.body;
    let targets = admin.get("/targets?route=smart").await.body;
    let target = &targets["data"][0];
    tell_of_a_job(&admin.state.jobs).await;
    let rollout = r#"{"route": "smart", "from": "sim/tide-small", "to": "sim/tide-reasoner"}"#;
    let rollout = admin.call("POST", "/rollouts", rollout).await.body;
    let rollouts = admin.get("/rollouts").await.body;
    let receivers = admin.get("/webhooks").await.body;
    let receiver = receivers["data"][0]["id"].as_str().unwrap();
    let deliveries = admin.get(&format!("/webhooks/{receiver}/deliveries")).await.body;
    let opinion = Opinion { thumb: Some(Thumb::Up), ..Opinion::default() };
    let (caller, request) = (CallerId::new("key_web"), RequestId::new("req_1"));
    admin.state.feedback.give(&caller, &request, &opinion).await.unwrap();
    let feedback = admin.get("/feedback").await.body;
    let scores = admin.get("/feedback/scores").await.body;
    let models = admin.get("/models").await.body;
    for (schema, reply) in [
        ("UsedModel", &models["data"][0]),
        ("Feedback", &feedback["data"][0]),
        ("FeedbackScore", &scores["data"][0]),
        ("NewKey", &made),
        ("Key", &keys["data"][0]),
        ("Team", &team),
        ("UsedLimit", &limited["usage"][0]),
        ("AuditRecord", &audit["data"][0]),
        ("Request", &requests["data"][0]),
        ("UsageGroup", &usage["data"][0]),
        ("Target", target),
        ("TargetPlace", &target["routes"][0]),
        ("TargetScore", &target["score"]),
        ("TargetRoute", &targets["route"]),
        ("Receiver", &receivers["data"][0]),
        ("Delivery", &deliveries["data"][0]),
        ("Rollout", &rollout),
        ("RolloutSummary", &rollouts["data"][0]),
        ("Problem", &problem),
    ] {
        same_members(&document["components"]["schemas"][schema], reply, schema);
    }
    let lists = [("/keys", &keys), ("/requests", &requests), ("/usage", &usage)];
    let more = [("/targets", &targets), ("/teams", &teams), ("/audit", &audit)];
    let more = more.into_iter().chain([("/rollouts", &rollouts)]);
    let webhooks = [("/webhooks", &receivers), ("/webhooks/{id}/deliveries", &deliveries)];
    let feedback = [("/feedback", &feedback), ("/feedback/scores", &scores), ("/models", &models)];
    for (path, reply) in lists.into_iter().chain(more).chain(webhooks).chain(feedback) {
        let content = &document["paths"][path]["get"]["responses"]["200"]["content"];
        same_members(&content["application/json"]["schema"], reply, path);
    }
}

/// A job that is over, and whose caller wants to hear of it.
async fn tell_of_a_job(jobs: &Jobs) {
    let receiver = "https://example.com/".parse().unwrap();
    let new = NewJob {
        caller: CallerId::anonymous(),
        endpoint: "/v1/chat/completions",
        priority: Priority::LOWEST,
        expires_in_ms: 60_000,
        particulars: Particulars::default(),
        metadata: "{}".to_owned(),
        body: Bytes::from_static(b"{}"),
        webhook: Some(NewWebhook { receiver, secret: None }),
    };
    let job = jobs.submit(new, &JobSettings::default(), 1).await.unwrap().job;
    jobs.cancel(&job.caller, &job.id).await.unwrap();
}

pub(super) fn same_members(schema: &Value, reply: &Value, at: &str) {
    let Some(properties) = schema["properties"].as_object() else { return };
    let described: BTreeSet<_> = properties.keys().collect();
    let held: BTreeSet<_> = reply.as_object().unwrap().keys().collect();
    assert_eq!(described, held, "{at}");
    for (name, property) in properties {
        same_members(property, &reply[name], &format!("{at}.{name}"));
    }
}
