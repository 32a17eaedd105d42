//! Tests of the admin API, in process.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use axum::body::Body;
use serde_json::json;
use tower::ServiceExt;

use super::*;
use crate::callers::{AuthMode, SecretKey};
use crate::chat::Usage;
use crate::clock::{FixedWallClock, Instant};
use crate::config::{self, Environment, Source};
use crate::dialect::Dialect;
use crate::failure::FailureKind;
use crate::ids::{CallerId, RequestId};
use crate::journal::{EndpointKind, Entry, JournalSettings, Outcome};
use crate::problems::KeyPath;
use crate::store::Store;
use crate::units::{MicroUsd, Priority};

const NOW: u64 = 1_700_049_600_000;
const ADMIN: &str = "the-admin-key";

/// A gateway's admin API over a store of its own.
struct Admin {
    state: AdminState,
    _folder: tempfile::TempDir,
}

struct Reply {
    status: u16,
    headers: HeaderMap,
    body: Value,
}

impl Admin {
    /// Starts one with `entries` in its journal.
    async fn with(entries: Vec<Entry>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}/tidegate.db", folder.path().display());
        let store = Store::new(url.parse().unwrap());
        let clock: Arc<dyn WallClock> = Arc::new(FixedWallClock(NOW));
        let settings = JournalSettings::default();
        let (journal, writer) = Journal::new(&settings, store.clone(), Arc::clone(&clock));
        entries.into_iter().for_each(|entry| journal.record(entry));
        journal.shut_down();
        writer.run().await;
        let callers = Callers::new(store, Some(&SecretKey::new(ADMIN)));
        callers.load().await.unwrap();
        let snapshot = Arc::new(ArcSwap::new(snapshot(folder.path())));
        let fleet = Arc::new(Fleet::new(Arc::default()));
        let show_config = Arc::new(|| json!({ "revision": 7 }));
        let reload_config: Arc<dyn Fn() -> Reloading + Send + Sync> = Arc::new(|| {
            let mut problems = Problems::new();
            let at = KeyPath::root().key("server").key("listen");
            problems.add(Path::new("config/tidegate.toml"), 3, at, "no address");
            Box::pin(std::future::ready(Err(problems)))
        });
        let state =
            AdminState { journal, callers, fleet, snapshot, clock, show_config, reload_config };
        Self { state, _folder: folder }
    }

    async fn new() -> Self {
        Self::with(Vec::new()).await
    }

    async fn send(&self, request: http::request::Builder, body: &str) -> Reply {
        let request = request.body(Body::from(body.to_owned())).unwrap();
        let response = router(self.state.clone()).oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        Reply { status: parts.status.as_u16(), headers: parts.headers, body }
    }

    async fn call(&self, method: &str, path: &str, body: &str) -> Reply {
        self.send(request(method, path), body).await
    }

    async fn get(&self, path: &str) -> Reply {
        self.call("GET", path, "").await
    }
}

fn request(method: &str, path: &str) -> http::request::Builder {
    http::Request::builder()
        .method(method)
        .uri(format!("{PREFIX}{path}"))
        .header("authorization", format!("Bearer {ADMIN}"))
}

impl Reply {
    /// Status and code of a problem, whose form is checked.
    fn problem(&self) -> String {
        assert_eq!(self.headers["content-type"], "application/problem+json");
        assert_eq!(self.body["status"], self.status);
        assert!(!self.body["title"].as_str().unwrap().is_empty());
        format!("{} {}", self.status, self.body["code"].as_str().unwrap())
    }

    fn detail(&self) -> &str {
        self.body["detail"].as_str().unwrap()
    }
}

/// Three targets on a route of two tiers.
fn snapshot(folder: &Path) -> Arc<Snapshot> {
    let file = folder.join("tidegate.toml");
    let text = r#"
        [providers.sim]
        [providers.sim-anthropic]
        [routes.smart]
        targets = [
            { model = "sim/tide-small", weight = 2 },
            { model = "sim-anthropic/tide-large" },
            { model = "sim/tide-large", tier = 1 },
        ]
        [routes.small]
        targets = [{ model = "sim/tide-small", weight = 5 }]
    "#;
    std::fs::write(&file, text).unwrap();
    let environment = Environment::fixed([]);
    config::load(&Source { file: Some(file), providers: None, listen: None, environment }, None)
        .unwrap()
}

/// The `n`-th request; it ended `n` seconds after noon.
fn entry(n: u64) -> Entry {
    Entry {
        request_id: RequestId::new(format!("req_{n}")),
        started_at_ms: NOW + n * 1_000 - 40,
        caller: CallerId::new("key_web"),
        endpoint: EndpointKind::Messages,
        dialect: Dialect::Anthropic,
        model_asked: Some("smart".into()),
        route: Some("smart".into()),
        target: Some("openai/gpt-5".into()),
        provider: Some("openai".into()),
        model_served: Some("gpt-5".into()),
        streamed: true,
        outcome: if n == 3 { Outcome::Cut } else { Outcome::Complete },
        failure: (n == 3).then_some(FailureKind::MidStream),
        error_code: None,
        status: 200,
        attempts: 1,
        degradation: 0,
        usage: Usage { input: 10, cached_input: 4, cache_write: 3, output: 20, reasoning: 5 },
        usage_estimated: n == 3,
        cost: MicroUsd(1_250),
        latency: Duration::from_millis(40),
        first_token: Some(Duration::from_millis(7)),
        overhead: Duration::from_micros(81),
        tags: vec![("team".to_owned(), "shop".to_owned())],
    }
}

#[tokio::test]
async fn only_the_admin_key_opens_it() {
    let admin = Admin::new().await;
    let secret = admin.call("POST", "/keys", r#"{"name": "web"}"#).await.body["key"].clone();
    let callers_key = format!("Bearer {}", secret.as_str().unwrap());
    for key in ["", "Bearer", "Bearer x", "Basic the-admin-key", &callers_key] {
        for path in ["/keys", "/openapi.json", "/nothing"] {
            let request = http::Request::get(format!("{PREFIX}{path}")).header(AUTHORIZATION, key);
            let reply = admin.send(request, "").await;
            assert_eq!(reply.problem(), "401 invalid_api_key", "{key} {path}");
            assert_eq!(reply.headers[WWW_AUTHENTICATE], "Bearer realm=\"tidegate admin\"");
        }
    }
    let reply = admin.get("/keys").await;
    assert_eq!(reply.status, 200);
    assert_eq!(reply.headers["cache-control"], "no-store");
}

#[tokio::test]
async fn a_missing_admin_key_is_our_fault() {
    let mut admin = Admin::new().await;
    let store = Store::new("sqlite:/proc/none/tidegate.db".parse().unwrap());
    admin.state.callers = Callers::new(store, None);
    let reply = admin.get("/keys").await;
    assert_eq!(reply.problem(), "503 unavailable");
    assert_eq!(reply.headers["retry-after"], "1");
}

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
        "created_at": "2023-11-15T12:00:00.000Z",
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
async fn what_cannot_be_done_is_refused_with_the_reason() {
    let admin = Admin::new().await;
    let id = admin.call("POST", "/keys", r#"{"name": "web"}"#).await.body["id"].clone();
    let path = format!("/keys/{}", id.as_str().unwrap());
    let limits = r#"{"name": "web", "limits": {"requests_per_minute": 60}}"#;
    let large = format!(r#"{{"name": "{}"}}"#, "x".repeat(100_000));
    let cases = [
        ("POST", "/keys", limits, "422 unsupported", "limits: not supported by this version"),
        ("POST", "/keys", "{", "400 invalid_request", "line 1 column"),
        ("POST", "/keys", "{}", "400 invalid_request", "missing field `name`"),
        ("POST", "/keys", r#"{"name": 3}"#, "400 invalid_request", "expected a string"),
        ("POST", "/keys", r#"{"name": " "}"#, "400 invalid_request", "must not be empty"),
        ("POST", "/keys", r#"{"name":"a","nam":1}"#, "400 invalid_request", "unknown field `nam`"),
        (
            "POST",
            "/keys",
            r#"{"name":"a","priority":5}"#,
            "400 invalid_request",
            "from 0 (highest)",
        ),
        ("PATCH", &path, r#"{"priority": -1}"#, "400 invalid_request", "invalid value: integer"),
        ("POST", "/keys", &large, "400 invalid_request", "over 64 KiB"),
        ("PATCH", &path, r#"{"revoked": false}"#, "400 invalid_request", "cannot be made valid"),
        ("PATCH", "/keys/key_x", "{}", "404 unknown_key", "`key_x`"),
        ("GET", "/keys/key_x", "", "404 unknown_key", "`key_x`"),
        ("DELETE", "/keys/key_x", "", "404 unknown_key", "`key_x`"),
        ("GET", "/keys?cursor=key_x", "", "404 unknown_key", "`key_x`"),
        ("GET", "/keys?limit=0", "", "400 invalid_request", "not between 1 and 1000"),
        ("GET", "/keys?page=2", "", "400 invalid_request", "unknown field `page`"),
        ("GET", "/requests?limit=1001", "", "400 invalid_request", "not between 1 and 1000"),
        ("GET", "/requests?limit=ten", "", "400 invalid_request", "invalid digit"),
        ("GET", "/requests?since=friday", "", "400 invalid_request", "since: `friday` is no time"),
        ("GET", "/requests?cursor=x", "", "400 invalid_request", "`next_cursor`"),
        ("GET", "/requests?outcome=fine", "", "400 invalid_request", "none of complete, spliced"),
        ("GET", "/usage?group_by=day,moon", "", "400 invalid_request", "`moon` is none of caller"),
        ("GET", "/usage?group_by=day,day", "", "400 invalid_request", "named twice"),
        ("GET", "/targets?route=smrt", "", "404 unknown_route", "did you mean `smart`?"),
        ("GET", "/targets?tools=yes", "", "400 invalid_request", "`true` or `false`"),
        (
            "GET",
            "/targets/sim/tide-smal",
            "",
            "404 unknown_target",
            "did you mean `sim/tide-small`?",
        ),
        ("GET", "/targets/sim/(unlisted)", "", "404 unknown_target", "no target"),
        ("PATCH", "/targets/sim/x", r#"{"drained":true}"#, "404 unknown_target", "`sim/x`"),
        ("PATCH", "/targets/sim/tide-small", "{}", "400 invalid_request", "field `drained`"),
        ("GET", "/nothing", "", "404 not_found", "/admin/v1/nothing"),
        ("PUT", "/keys", "", "405 method_not_allowed", "PUT cannot be used on /admin/v1/keys"),
    ];
    for (method, path, body, problem, words) in cases {
        let reply = admin.call(method, path, body).await;
        assert_eq!(reply.problem(), problem, "{method} {path} {body:.60}");
        assert!(reply.detail().contains(words), "{method} {path}: {}", reply.detail());
    }
}

#[tokio::test]
async fn requests_are_listed_by_page() {
    let admin = Admin::with((1..=5).map(entry).collect()).await;
    let mut seen = Vec::new();
    let mut path = "/requests?caller=key_web&limit=2".to_owned();
    loop {
        let page = admin.get(&path).await;
        assert_eq!(page.status, 200);
        let requests = page.body["data"].as_array().unwrap();
        seen.extend(requests.iter().map(|one| one["id"].as_str().unwrap().to_owned()));
        let Some(cursor) = page.body["next_cursor"].as_str() else { break };
        path = format!("/requests?caller=key_web&limit=2&cursor={cursor}");
    }
    assert_eq!(seen, ["req_5", "req_4", "req_3", "req_2", "req_1"]);

    let since = "2023-11-15T12:00:03Z";
    let until = NOW + 4_000;
    let found = admin.get(&format!("/requests?since={since}&until={until}")).await;
    let expected = json!({
        "id": "req_3",
        "started_at": "2023-11-15T12:00:02.960Z",
        "ended_at": "2023-11-15T12:00:03.000Z",
        "caller": "key_web",
        "endpoint": "messages",
        "dialect": "anthropic",
        "streamed": true,
        "model": "smart",
        "route": "smart",
        "target": "openai/gpt-5",
        "provider": "openai",
        "served_model": "gpt-5",
        "outcome": "cut",
        "failure": "mid_stream",
        "error_code": null,
        "status": 200,
        "attempts": 1,
        "degradation": 0,
        "tokens": {
            "input": 10, "cached_input": 4, "cache_write": 3, "output": 20, "reasoning": 5,
            "total": 42, "estimated": true,
        },
        "cost_usd": "0.001250",
        "latency_ms": 40,
        "first_token_ms": 7,
        "overhead_us": 81,
        "tags": {"team": "shop"},
    });
    assert_eq!(found.body, json!({ "data": [expected], "next_cursor": null }));
}

#[tokio::test]
async fn usage_is_added_up() {
    let admin = Admin::with((1..=4).map(entry).collect()).await;
    let found = admin.get("/usage?group_by=day,caller&outcome=complete").await;
    let expected = json!({
        "data": [{
            "group": {"day": "2023-11-15", "caller": "key_web"},
            "requests": 3,
            "outcomes": {"complete": 3, "spliced": 0, "failed": 0, "cut": 0, "client_gone": 0, "rejected": 0},
            "tokens": {
                "input": 30, "cached_input": 12, "cache_write": 9, "output": 60, "reasoning": 15,
                "total": 126,
            },
            "requests_with_estimated_tokens": 0,
            "cost_usd": "0.003750",
        }],
        "truncated": false,
    });
    assert_eq!(found.body, expected);
    let all = admin.get("/usage").await;
    assert_eq!(all.body["data"][0]["requests"], 4);
    assert_eq!(all.body["data"][0]["outcomes"]["cut"], 1);
}

#[tokio::test]
async fn the_configuration_is_shown_and_a_faulty_one_is_not_taken() {
    let admin = Admin::new().await;
    assert_eq!(admin.get("/config").await.body, json!({ "revision": 7 }));
    let reply = admin.call("POST", "/config/reload", "").await;
    assert_eq!(reply.problem(), "422 invalid_config");
    let expected = json!([{
        "file": "config/tidegate.toml", "line": 3, "key": "server.listen", "message": "no address",
    }]);
    assert_eq!(reply.body["problems"], expected);
}

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
    let requests = admin.get("/requests").await.body;
    let usage = admin.get("/usage?group_by=day").await.body;
    let problem = admin.call("POST", "/config/reload", "").await.body;
    let targets = admin.get("/targets?route=smart").await.body;
    let target = &targets["data"][0];
    for (schema, reply) in [
        ("NewKey", &made),
        ("Key", &keys["data"][0]),
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
    for (path, reply) in lists.into_iter().chain([("/targets", &targets)]) {
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

#[tokio::test]
async fn targets_that_were_never_asked_are_listed_and_stay_so() {
    let admin = Admin::new().await;
    let list = admin.get("/targets").await.body;
    assert_eq!(list["route"], Value::Null);
    let targets = list["data"].as_array().unwrap();
    let ids: Vec<_> = targets.iter().map(|target| target["id"].as_str().unwrap()).collect();
    assert!(ids.is_sorted() && ids.contains(&"sim/tide-embed"), "{ids:?}");
    let small = targets.iter().find(|target| target["id"] == "sim/tide-small").unwrap();
    let places: Vec<_> = small["routes"].as_array().unwrap().iter().collect();
    assert_eq!((&places[0]["route"], &places[0]["weight"]), (&json!("smart"), &json!(2)));
    assert_eq!((&places[1]["route"], &places[1]["weight"]), (&json!("small"), &json!(5)));
    assert_eq!(places[1]["expected_share"], 1.0);
    assert_eq!(small["breaker"]["state"], "closed");
    assert_eq!(small["ttft_ms"]["samples"], 0);
    assert!(small.get("score").is_none());
    assert!(admin.state.fleet.targets(Instant::now()).is_empty(), "looking made them");
}

#[tokio::test]
async fn a_route_shows_every_term_for_the_request_that_is_described() {
    let admin = Admin::new().await;
    let list = admin.get("/targets?route=smart&input_tokens=200000&output_tokens=100").await.body;
    assert_eq!(list["route"]["demand"]["input_tokens"], 200_000);
    assert_eq!(list["route"]["demand"]["output_tokens"], 100.0);
    let by_tier = ["sim/tide-small", "sim-anthropic/tide-large", "sim/tide-large"];
    for (target, id) in list["data"].as_array().unwrap().iter().zip(by_tier) {
        assert_eq!(target["id"], id);
        let score = &target["score"];
        let term = |name: &str| score[name].as_f64().unwrap();
        let sum = term("latency_seconds") * term("load_factor")
            + term("money_seconds")
            + term("failure_seconds");
        let total = sum * term("headroom_factor") * term("suspect_factor") / term("sticky_factor");
        assert!((total - term("total_seconds")).abs() < 1e-4, "{id}: {total} {score}");
        assert_eq!(target["score_seconds"], score["total_seconds"]);
        assert_eq!(score["is_assumed"], true);
    }
    // 128,000 tokens are not enough for twice as many.
    let long = admin.get("/targets?route=smart&input_tokens=400000").await.body;
    let small = &long["data"][0];
    assert_eq!(small["excluded"], "incapable");
    assert_eq!(small["score"]["expected_share"], 0.0);
    let lacking = small["score"]["lacking"][0].as_str().unwrap();
    assert_eq!(lacking, "context for 400000 tokens (it has 128000)");
    assert_eq!(long["data"][1]["score"]["expected_share"], 1.0);
    assert_eq!(long["data"][2]["score"]["expected_share"], 0.0);
    assert_eq!(long["data"][2]["score"]["share_of_tier"], 1.0);
}

#[tokio::test]
async fn a_target_is_drained_at_once_and_through_a_reload() {
    let admin = Admin::new().await;
    let route = admin.state.snapshot.load().resolve("smart").unwrap();
    let picks = |route: &Arc<config::Route>| {
        let group = admin.state.fleet.group(route);
        let order = group.order(&crate::fleet::Demand::usual(), Instant::now());
        let ids = order.picks.iter().map(|at| group.target(*at).unwrap().id.to_string());
        ids.collect::<Vec<_>>()
    };
    assert_eq!(picks(&route).len(), 3);
    let path = "/targets/sim%2Ftide-small";
    let before = admin.get(path).await;
    assert_eq!((before.status, &before.headers["etag"]), (200, &HeaderValue::from_static("\"0\"")));
    let drained = admin.call("PATCH", "/targets/sim/tide-small", r#"{"drained": true}"#).await;
    assert_eq!((drained.status, &drained.body["drained"]), (200, &json!(true)));
    assert_eq!(drained.body["excluded"], "drained");
    assert_eq!(drained.headers["etag"], "\"1\"");
    assert_eq!(picks(&route), ["sim-anthropic/tide-large", "sim/tide-large"]);

    let again = admin.call("PATCH", path, r#"{"drained": true}"#).await;
    assert_eq!((again.status, &again.headers["etag"]), (200, &drained.headers["etag"]));
    let stale = request("PATCH", path).header("if-match", "\"0\"");
    let reply = admin.send(stale, r#"{"drained": false}"#).await;
    assert_eq!(reply.problem(), "412 changed_meanwhile");

    let folder = tempfile::tempdir().unwrap();
    admin.state.snapshot.store(snapshot(folder.path()));
    let reloaded = admin.state.snapshot.load().resolve("smart").unwrap();
    assert_eq!(picks(&reloaded).len(), 2);
    assert_eq!(admin.get(path).await.body["drained"], true);

    let fresh = request("PATCH", path).header("if-match", "\"1\"");
    assert_eq!(admin.send(fresh, r#"{"drained": false}"#).await.headers["etag"], "\"2\"");
    assert_eq!(picks(&reloaded).len(), 3);
}
