//! Tests of what is shown of the cache, and of purges.

use super::*;
use crate::cache::{Form, Head, Kept, Key, Owner, Question, RouteIdentity, Tenant};
use crate::chat::Completion;
use crate::dialect::Dialect;
use crate::ids::{CallerId, ModelName, ProviderId, RouteName, TargetId, TeamId};
use crate::meaning::{Domain, Terms, Trial};
use crate::semantic::threshold;
use std::time::Duration;

/// Keeps an answer to a request of `route` by a key of `team`.
fn keep(admin: &Admin, number: u32, route: &str, team: &str) {
    keep_of(admin, number, route, (team, "key_web"));
}

fn keep_of(admin: &Admin, number: u32, route: &str, (team, caller): (&str, &str)) {
    let owner = Owner {
        team: Some(TeamId::new(team)),
        caller: CallerId::new(caller),
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
        "semantic": {
            "entries": 0, "bytes": 0, "max_bytes": 128_000_000,
            "store": {"written": 0, "dropped": 0, "failed": 0}, "domains": [],
        },
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

/// An admin API whose route `faq` has a semantic cache with this in it.
async fn with_semantic(more: &str) -> Admin {
    let admin = Admin::new().await;
    let folder = tempfile::tempdir().unwrap();
    let text = format!(
        "[embedders.small]\nkind = \"provider\"\nmodel = \"sim/tide-embed\"\ndimensions = 256\n\
         [routes.faq]\ntargets = [{{ model = \"sim/tide-small\" }}]\n\
         cache = {{ semantic = true, judge = \"sim/tide-large\"{more} }}\n"
    );
    admin.state.snapshot.store(snapshot_with(folder.path(), &text));
    admin
}

/// What requests of a tenant on `faq` learn in, under this judge.
fn domain(admin: &Admin, tenant: &str, judge: &str) -> Arc<Domain> {
    let faq = admin.state.snapshot.load().resolve("faq").unwrap();
    Domain::of(Terms {
        route: faq.name.clone(),
        tenant: tenant.to_owned(),
        space: "sim/tide-embed".to_owned(),
        judge: judge.to_owned(),
        identity: format!("{:?}", faq.cache.as_ref().unwrap().identity),
        settings: threshold::Settings::default(),
    })
}

fn learn(admin: &Admin, domain: &Arc<Domain>, labels: usize, (same, is_audit): (bool, bool)) {
    let trial = Trial {
        domain: Arc::clone(domain),
        question: "How long is a tide?".into(),
        kept: String::new(),
        fresh: String::new(),
        similarity: 0.95,
        is_audit,
    };
    (0..labels).for_each(|_| admin.state.meanings.learn(&trial, same));
}

#[tokio::test]
async fn a_domain_is_shown_from_its_first_label_to_its_audits() {
    let admin = with_semantic("").await;
    let red = domain(&admin, "team red", "sim/tide-large");
    learn(&admin, &red, 3, (true, false));
    admin.state.meanings.count(&red, |counts| {
        counts.judging = MicroUsd(2_500_000);
        counts.embedding = MicroUsd(1);
        counts.saved = MicroUsd(1_000_000);
        (counts.hits, counts.not_given, counts.unjudged, counts.lost_labels) = (4, 5, 6, 7);
    });
    let shown = admin.get("/cache").await.body["semantic"]["domains"].take();
    let expected = json!([{
        "route": "faq", "tenant": {"kind": "team", "id": "red"}, "current": true,
        "mode": "shadow", "threshold": null, "bound": null, "labels": 3, "labels_needed": 460,
        "seen": 3, "wrong": 0, "audited": null, "alarms": 0,
        "hits": 4, "not_given": 5, "labelled": 3, "unjudged": 6, "lost_labels": 7,
        "saved_usd": "1.000000", "judging_usd": "2.500000", "embedding_usd": "0.000001",
        "net_saved_usd": "-1.500001",
        "embedder_space": "sim/tide-embed", "judge": "sim/tide-large", "max_error": 0.01,
    }]);
    assert_eq!(shown, expected);
    // As many as it asks for, without one that is wrong, and it serves.
    learn(&admin, &red, 457, (true, false));
    learn(&admin, &red, 1, (false, true));
    let shown = admin.get("/cache").await.body["semantic"]["domains"][0].take();
    assert_eq!((&shown["mode"], &shown["threshold"]), (&json!("serve"), &json!(0.95)), "{shown}");
    assert_eq!((&shown["seen"], &shown["wrong"]), (&json!(461), &json!(1)), "{shown}");
    let bound = shown["bound"].as_f64().unwrap();
    assert!(bound > 0.005 && bound <= 0.01, "{bound}");
    assert_eq!(shown["audited"], json!({"hits": 1, "errors": 1, "error_bound": 1.0}));
    assert_eq!(shown["labels_needed"], 920);
}

#[tokio::test]
async fn a_mode_says_what_callers_get_and_not_only_what_is_proven() {
    let admin = with_semantic("").await;
    let red = domain(&admin, "key key_web", "sim/tide-large");
    learn(&admin, &red, 460, (true, false));
    let mode = || async {
        let domain = admin.get("/cache").await.body["semantic"]["domains"][0].take();
        assert_eq!(domain["tenant"], json!({"kind": "key", "id": "key_web"}));
        assert_eq!(domain["threshold"], 0.95);
        (domain["mode"].as_str().unwrap().to_owned(), domain["current"] == true)
    };
    assert_eq!(mode().await, ("serve".to_owned(), true));
    // Its judge has no verdict for a while.
    let trial = Trial {
        domain: Arc::clone(&red),
        question: "Why?".into(),
        kept: String::new(),
        fresh: "Because.".to_owned(),
        similarity: 0.95,
        is_audit: true,
    };
    (0..20).for_each(|_| admin.state.meanings.miss(&trial));
    assert_eq!(mode().await, ("suspended".to_owned(), true));
    admin.state.meanings.learn(&trial, true);
    assert_eq!(mode().await, ("serve".to_owned(), true));
    // The operator wants to see only.
    let shadow = with_semantic(", shadow = true").await;
    admin.state.snapshot.store(shadow.state.snapshot.load_full());
    assert_eq!(mode().await, ("shadow".to_owned(), true));
    // What was learnt under another error, judge, or set of targets is not what is learnt now.
    for other in [", max_error = 0.02", ", ttl = \"1h\""] {
        let now = with_semantic(other).await;
        admin.state.snapshot.store(now.state.snapshot.load_full());
        assert_eq!(mode().await.1, other.contains("ttl"), "{other}");
    }
    let other = domain(&admin, "key key_web", "sim/tide-small");
    learn(&admin, &other, 1, (true, false));
    let domains = admin.get("/cache").await.body["semantic"]["domains"].take();
    let former = domains.as_array().unwrap().iter().find(|one| one["judge"] == "sim/tide-small");
    assert_eq!(former.unwrap()["current"], false);
}

#[tokio::test]
async fn the_document_describes_what_is_shown_of_semantic_caches() {
    let admin = with_semantic("").await;
    let red = domain(&admin, "team red", "sim/tide-large");
    learn(&admin, &red, 461, (true, true));
    admin.state.cache.count(&RouteName::new("faq"), None);
    let cache = admin.get("/cache").await.body;
    let semantic = &cache["semantic"];
    let domain = &semantic["domains"][0];
    assert_eq!(domain["audited"]["hits"], 1, "{domain}");
    let targets = admin.get("/targets?route=faq").await.body;
    let document = admin.get("/openapi.json").await.body;
    let schemas = &document["components"]["schemas"];
    for (schema, reply) in [
        (&schemas["Cache"], &cache),
        (&schemas["CachedRoute"], &cache["routes"][0]),
        (&schemas["SemanticCache"], semantic),
        (&schemas["SemanticDomain"], domain),
        (&schemas["SemanticDomain"]["properties"]["audited"]["oneOf"][0], &domain["audited"]),
        (&schemas["TargetRoute"]["properties"]["cache"]["oneOf"][0], &targets["route"]["cache"]),
    ] {
        openapi::same_members(schema, reply, &reply.to_string());
    }
    let expected = json!({
        "exact": true, "semantic": true, "ttl": null, "scope": "team", "embedder": "small",
        "judge": "sim/tide-large", "max_error": 0.01, "shadow": false,
    });
    assert_eq!(targets["route"]["cache"], expected);
}

#[tokio::test]
async fn a_key_that_is_revoked_and_a_team_that_is_deleted_take_their_answers_along() {
    let admin = Admin::new().await;
    let made = async |path: &str| {
        let made = admin.call("POST", path, r#"{"name": "web"}"#).await;
        made.body["id"].as_str().unwrap().to_owned()
    };
    let (deleted, revoked, changed) =
        (made("/keys").await, made("/keys").await, made("/keys").await);
    let team = made("/teams").await;
    for (number, caller) in [(1, &deleted), (2, &revoked), (3, &changed)] {
        keep_of(&admin, number, "faq", ("other", caller));
    }
    keep_of(&admin, 4, "faq", (&team, "key_web"));
    keep_of(&admin, 5, "faq", ("other", "key_web"));
    let none = admin.call("DELETE", "/keys/key_none", "").await;
    assert_eq!(none.status, 404);
    let key = |id: &str| format!("/keys/{id}");
    for (method, path, body, entries) in [
        ("PATCH", key(&changed), r#"{"name": "shop"}"#, 5),
        ("DELETE", key(&deleted), "", 4),
        ("PATCH", key(&revoked), r#"{"revoked": true}"#, 3),
        ("DELETE", format!("/teams/{team}"), "", 2),
    ] {
        let reply = admin.call(method, &path, body).await;
        assert!(reply.status < 300, "{method} {path}: {:?}", reply.body);
        assert_eq!(admin.get("/cache").await.body["entries"], entries, "{method} {path}");
    }
}
