//! Tests that the document says what the API does.

use super::*;

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
    let more = [("PATCH", MethodFilter::PATCH), ("DELETE", MethodFilter::DELETE)];
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
    let audit = admin.get("/audit").await.body;
    let requests = admin.get("/requests").await.body;
    let usage = admin.get("/usage?group_by=day").await.body;
    let problem = admin.call("POST", "/config/reload", "").await.body;
    let targets = admin.get("/targets?route=smart").await.body;
    let target = &targets["data"][0];
    for (schema, reply) in [
        ("NewKey", &made),
        ("Key", &keys["data"][0]),
        ("Team", &team),
        ("AuditRecord", &audit["data"][0]),
        ("Request", &requests["data"][0]),
        ("UsageGroup", &usage["data"][0]),
        ("Target", target),
        ("TargetPlace", &target["routes"][0]),
        ("TargetScore", &target["score"]),
        ("TargetRoute", &targets["route"]),
        ("Problem", &problem),
    ] {
        same_members(&document["components"]["schemas"][schema], reply, schema);
    }
    let lists = [("/keys", &keys), ("/requests", &requests), ("/usage", &usage)];
    let more = [("/targets", &targets), ("/teams", &teams), ("/audit", &audit)];
    for (path, reply) in lists.into_iter().chain(more) {
        let content = &document["paths"][path]["get"]["responses"]["200"]["content"];
        same_members(&content["application/json"]["schema"], reply, path);
    }
}

fn same_members(schema: &Value, reply: &Value, at: &str) {
    let Some(properties) = schema["properties"].as_object() else { return };
    let described: BTreeSet<_> = properties.keys().collect();
    let held: BTreeSet<_> = reply.as_object().unwrap().keys().collect();
    assert_eq!(described, held, "{at}");
    for (name, property) in properties {
        same_members(property, &reply[name], &format!("{at}.{name}"));
    }
}
