//! Tests of the admin API, in process.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use axum::body::Body;
use serde_json::json;
use tower::ServiceExt;

use super::*;
use crate::cache::{Cache, CacheSettings};
use crate::callers::{AuthMode, SecretKey};
use crate::chat::Usage;
use crate::clock::{FixedWallClock, Instant};
use crate::cluster::Cluster;
use crate::config::{self, Environment, Source};
use crate::dialect::Dialect;
use crate::failure::FailureKind;
use crate::ids::{CallerId, RequestId};
use crate::journal::{EndpointKind, Entry, JournalSettings, Outcome, Waste};
use crate::problems::KeyPath;
use crate::rollout::{Rollouts, Surroundings};
use crate::runs::{RunSurroundings, Runs};
use crate::store::Store;
use crate::units::{MicroUsd, Priority};

mod cache;
mod compat;
mod keys;
mod models;
mod openapi;
mod prompts;
mod requests;
mod rollouts;
mod targets;
mod teams;

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
        let callers = Callers::new(store.clone(), Some(&SecretKey::new(ADMIN)));
        callers.load().await.unwrap();
        let snapshot = Arc::new(ArcSwap::new(snapshot(folder.path())));
        let fleet = Arc::new(Fleet::new(Arc::default()));
        let limits = Limits::new(Arc::clone(&clock), Arc::default(), Cluster::alone());
        let limits = Arc::new(limits);
        let show_config = Arc::new(|| json!({ "revision": 7 }));
        let reload_config: Arc<dyn Fn() -> Reloading + Send + Sync> = Arc::new(|| {
            let mut problems = Problems::new();
            let at = KeyPath::root().key("server").key("listen");
            problems.add(Path::new("config/tidegate.toml"), 3, at, "no address");
            Box::pin(std::future::ready(Err(problems)))
        });
        let jobs = Jobs::new(journal.store().clone());
        let rollouts = RolloutLedger::new(
            journal.store().clone(),
            Rollouts::new(),
            "here",
            None,
            Arc::clone(&clock),
            Surroundings::none(),
        );
        let cache = Cache::new(&CacheSettings::default(), Arc::clone(&clock));
        let meanings = Meanings::new(&CacheSettings::default(), cache.clone());
        let (store, forever) = (journal.store().clone(), Duration::ZERO);
        let registry =
            Registry::new(store.clone(), Arc::clone(&snapshot), None, Arc::clone(&clock));
        registry.load().await.unwrap();
        let runs = Runs::new(store.clone(), Arc::clone(&clock), RunSurroundings::none());
        let feedback = Feedback::new(store, forever, Arc::clone(&clock), Arc::default());
        let state = AdminState {
            feedback,
            registry,
            cache,
            meanings,
            journal,
            callers,
            jobs,
            rollouts,
            runs,
            limits,
            fleet,
            snapshot,
            clock,
            show_config,
            reload_config,
        };
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
    snapshot_with(folder, "")
}

/// The same with more.
fn snapshot_with(folder: &Path, more: &str) -> Arc<Snapshot> {
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
    std::fs::write(&file, format!("{text}\n{more}")).unwrap();
    let environment = Environment::fixed([]);
    config::load(&Source { file: Some(file), ..config::Source::environment(environment) }, None)
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
        prompt: Some("help@1.2.0".into()),
        model_asked: Some("smart".into()),
        priority: Some(Priority::default()),
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
        waste: Waste { input: 17, output: 2, cost: MicroUsd(90), is_estimated: n == 2 },
        saved: MicroUsd(400),
        latency: Duration::from_millis(40),
        first_token: Some(Duration::from_millis(7)),
        overhead: Duration::from_micros(81),
        tags: vec![("team".to_owned(), "shop".to_owned())],
        reuse: None,
        part: None,
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
async fn what_cannot_be_done_is_refused_with_the_reason() {
    let admin = Admin::new().await;
    let id = admin.call("POST", "/keys", r#"{"name": "web"}"#).await.body["id"].clone();
    let path = format!("/keys/{}", id.as_str().unwrap());
    let limits = r#"{"name": "web", "limits": {"requests_per_week": 60}}"#;
    let large = format!(r#"{{"name": "{}"}}"#, "x".repeat(100_000));
    let cases = [
        ("POST", "/keys", limits, "400 invalid_request", "unknown field `requests_per_week`"),
        ("POST", "/keys", "{", "400 invalid_request", "line 1 column"),
        ("POST", "/keys", "{}", "400 invalid_request", "name: the name must not be empty"),
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
        ("GET", "/usage?format=xml", "", "400 invalid_request", "neither csv nor json"),
        ("GET", "/usage?limit=0", "", "400 invalid_request", "from 1 to 9999"),
        ("GET", "/usage?tem=a", "", "400 invalid_request", "unknown field `tem`"),
        ("GET", "/usage?route=a&route=b", "", "400 invalid_request", "duplicate field `route`"),
        ("GET", "/usage?endpoint=chats", "", "400 invalid_request", "none of chat"),
        ("GET", "/targets?route=smrt", "", "404 unknown_route", "did you mean `smart`?"),
        ("GET", "/targets?tools=yes", "", "400 invalid_request", "`true` or `false`"),
        (
            "GET",
            "/targets/sim/tide-smal",
            "",
            "404 unknown_target",
            "did you mean `sim/tide-small` or",
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
async fn a_body_that_cannot_be_read_is_told_where() {
    let admin = Admin::new().await;
    let many = r#"{"name":"web","limits":{"requests_per_minute":"many"}}"#;
    for (body, words) in [
        (r#"["web"]"#, "must be a JSON object"),
        ("{} {}", "body: trailing characters"),
        (many, "limits.requests_per_minute: invalid type"),
    ] {
        let reply = admin.call("POST", "/keys", body).await;
        assert_eq!(reply.problem(), "400 invalid_request", "{body}");
        assert!(reply.detail().contains(words), "{body}: {}", reply.detail());
    }
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
