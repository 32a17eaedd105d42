//! Tests of what is shown of the cache, and of purges.

use super::*;
use crate::cache::{Form, Head, Kept, Key, Owner, Question, RouteIdentity, Tenant};
use crate::chat::Completion;
use crate::dialect::Dialect;
use crate::ids::{CallerId, ModelName, ProviderId, RouteName, TargetId, TeamId};
use std::time::Duration;

/// Keeps an answer to a request of `route` by a key of `team`.
fn keep(admin: &Admin, number: u32, route: &str, team: &str) {
    let owner = Owner {
        team: Some(TeamId::new(team)),
        caller: CallerId::new("key_web"),
        route: RouteName::new(route),
        prompt: None,
        tags: vec![("env".to_owned(), "prod".to_owned())],
    };
    let (provider, model) = (ProviderId::new("p"), ModelName::new("m"));
    let body = format!("{{\"n\":{number}}}");
    let question = Question {
        tenant: Tenant::Team(&TeamId::new(team)),
        route: &RouteIdentity::of(&owner.route, [(0, &provider, &model)]),
        prompt: None,
        endpoint: "chat",
        dialect: Dialect::OpenAiChat,
        headers: &[],
        body: body.as_bytes(),
    };
    let head = Head {
        form: Form::Completion,
        target: TargetId::new("p/m"),
        reported: String::new(),
        cost: MicroUsd(1_500_000),
        dropped: Vec::new(),
        made_at_ms: NOW,
        ttl: Duration::from_secs(60),
        stale_for: Duration::ZERO,
        took: Duration::ZERO,
        owner,
    };
    let kept = Kept::completion(head, &Completion::default()).unwrap();
    let cache = &admin.state.cache;
    cache.keep(Key::of(&question).unwrap(), kept, cache.mark(), Instant::now()).unwrap();
}

#[tokio::test]
async fn the_cache_is_shown_with_what_it_saved_by_route() {
    let admin = Admin::new().await;
    let empty = admin.get("/cache").await;
    let max_bytes = 256_000_000;
    let nothing = json!({
        "entries": 0, "bytes": 0, "max_bytes": max_bytes, "shared": false, "routes": [],
    });
    assert_eq!((empty.status, empty.body), (200, nothing));
    keep(&admin, 1, "faq", "red");
    let faq = RouteName::new("faq");
    for saved in [None, Some(MicroUsd(1_500_000)), Some(MicroUsd(1_500_000))] {
        admin.state.cache.count(&faq, saved);
    }
    let shown = admin.get("/cache").await.body;
    assert_eq!(shown["entries"], 1);
    assert!(shown["bytes"].as_u64() > Some(100), "{shown}");
    let routes = json!([
        {"route": "faq", "hits": 2, "misses": 1, "hit_ratio": 0.6667, "saved_usd": "3.000000"},
    ]);
    assert_eq!(shown["routes"], routes);
}

#[tokio::test]
async fn what_is_named_is_forgotten_and_nothing_else_and_it_is_written_down() {
    let admin = Admin::new().await;
    let fill = || {
        keep(&admin, 1, "faq", "red");
        keep(&admin, 2, "faq", "blue");
        keep(&admin, 3, "docs", "red");
    };
    for (query, purged) in [
        ("team=red", 2),
        ("team=blue&route=faq", 1),
        ("team=blue&route=docs", 0),
        ("route=docs", 1),
        ("caller=key_web", 3),
        ("caller=key_other", 0),
        ("tag=env%3Dprod", 3),
        ("tag=env=test", 0),
        ("prompt=support", 0),
        ("all=true", 3),
    ] {
        fill();
        let found = admin.call("DELETE", &format!("/cache?{query}"), "").await;
        assert_eq!((found.status, &found.body), (200, &json!({ "purged": purged })), "{query}");
        assert_eq!(admin.get("/cache").await.body["entries"], 3 - purged, "{query}");
    }
    for query in ["", "?all=false", "?all=true&route=faq", "?tag=env", "?tag==x", "?rout=faq"] {
        let found = admin.call("DELETE", &format!("/cache{query}"), "").await;
        assert_eq!(found.status, 400, "{query}: {:?}", found.body);
    }
    admin.state.callers.audit().flush().await.unwrap();
    let audit = admin.get("/audit?action=cache.purge&limit=100").await.body;
    let rows = audit["data"].as_array().unwrap();
    assert_eq!(rows.len(), 10, "{audit}");
    let of_red = rows.iter().find(|row| row["after"]["purged"]["team"] == "red").unwrap();
    assert_eq!(of_red["after"]["entries"], 2);
}
