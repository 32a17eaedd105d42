//! Every file of `providers/` as a provider: its facts, what it is sent, and how its answers and
//! failures reach a caller. A new file needs no new test; the golden request it gets here is read
//! before it is committed (`INSTA_UPDATE=always` writes it).

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::Request;
use http::header::{ACCEPT, ACCEPT_ENCODING, HOST, USER_AGENT};
use http_body_util::BodyExt;
use parking_lot::Mutex;
use serde_json::Value;
use tidegate::catalog::{Catalog, Model, ModelKind, Provider, builtin_files};
use tidegate::dialect::Dialect;
use tidegate::problems::Problems;
use tidegate::sim::{Scenario, SimTransport};
use tidegate::upstream::{SendFuture, Transport, UpstreamRequest};
use tower::ServiceExt;

use crate::rig::{Ask, End, Rig, read};

/// After this nothing is known of how a target failed.
const FORGOTTEN: Duration = Duration::from_secs(700);

/// Passes requests on to the simulator and keeps them.
#[derive(Debug)]
struct Recorder {
    sim: SimTransport,
    seen: Arc<Mutex<Vec<UpstreamRequest>>>,
}

/// One provider behind a gateway, simulated.
struct Stage {
    model: String,
    router: Router,
    seen: Arc<Mutex<Vec<UpstreamRequest>>>,
    _rig: Rig,
}

// === impl Recorder ===

impl Transport for Recorder {
    fn send(&self, request: UpstreamRequest) -> SendFuture<'_> {
        self.seen.lock().push(request.clone());
        self.sim.send(request)
    }
}

// === impl Stage ===

impl Stage {
    fn of(provider: &Arc<Provider>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let key = folder.path().join("key");
        std::fs::write(&key, "key-of-the-provider").unwrap();
        let credential = match &provider.key_env[..] {
            [] => "{ none = true }".to_owned(),
            [..] => format!("{{ file = {:?} }}", key.display().to_string()),
        };
        let path = path_of(&provider.base_url);
        let rig = Rig::new(
            Scenario::instant(),
            &format!(
                "[providers.{id}]\nbase_url = \"sim://{id}{path}\"\ncredentials = [{credential}]\n",
                id = provider.id
            ),
        );
        let seen = Arc::<Mutex<Vec<_>>>::default();
        let recorder = Recorder { sim: rig.sim.clone(), seen: seen.clone() };
        let model = provider.models.iter().find(|model| model.kind == ModelKind::Chat);
        let model = model.map_or("some-model", |model| model.name.as_str());
        Self {
            model: format!("{}/{model}", provider.id),
            router: rig.over(Arc::new(recorder)),
            seen,
            _rig: rig,
        }
    }

    /// Sends a request that is to succeed, and says what was left out of it.
    async fn send(&self, path: &str, body: &Value) -> String {
        let request = Request::post(path).body(Body::from(body.to_string())).unwrap();
        let reply = self.router.clone().oneshot(request).await.unwrap();
        let (head, body) = reply.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        assert_eq!(head.status, 200, "{}: {}", self.model, String::from_utf8_lossy(&body));
        let dropped = head.headers.get("x-tidegate-dropped");
        dropped.map_or(String::new(), |names| format!(", less {}", names.to_str().unwrap()))
    }

    fn ask(&self, dialect: Dialect, text: &str, stream: bool) -> Ask {
        Ask { stream, ..Ask::new(dialect, &self.model, text) }
    }
}

/// The path of a base URL, which may hold `${NAME}` in its host.
fn path_of(base_url: &str) -> &str {
    let rest = base_url.split_once("://").map_or(base_url, |(_, rest)| rest);
    rest.find('/').and_then(|at| rest.get(at..)).unwrap_or_default()
}

fn providers() -> Vec<Arc<Provider>> {
    let files: Vec<_> = builtin_files().collect();
    let mut problems = Problems::new();
    let texts = files.iter().map(|(path, text)| (path.as_path(), *text));
    let catalog = Catalog::parse(texts, &mut problems);
    assert_eq!(problems.to_string(), "");
    assert!(catalog.providers.len() >= 17, "{} providers", catalog.providers.len());
    catalog.providers.into_values().collect()
}

/// Whether the facts of a model, or of a file, say where they are from and when they were read.
fn is_sourced(source: &str, as_of: &str) -> bool {
    let known = ["https://", "sim://"].iter().any(|start| source.starts_with(start));
    known && jiff::civil::Date::strptime("%Y-%m-%d", as_of).is_ok()
}

#[test]
fn every_file_says_where_its_facts_come_from_and_what_its_models_cost() {
    for provider in providers() {
        let id = &provider.id;
        assert!(is_sourced(&provider.source, &provider.as_of), "{id}");
        assert!(provider.open_models || !provider.models.is_empty(), "{id} serves nothing");
        for model in &provider.models {
            let Model { name, prices, source, as_of, .. } = &**model;
            assert!(is_sourced(source, as_of), "{id}/{name}");
            assert!(prices.is_some(), "{id}/{name} has no price");
        }
    }
}

#[test]
fn every_model_resolves_to_its_provider() {
    for provider in providers() {
        let stage = Stage::of(&provider);
        let snapshot = stage._rig.gateway.snapshot();
        let listed = provider.models.iter().map(|model| model.name.as_str());
        for model in listed.chain(provider.open_models.then_some("some-model")) {
            let name = format!("{}/{model}", provider.id);
            let route = snapshot.resolve(&name).unwrap_or_else(|error| panic!("{name}: {error}"));
            let targets: Vec<_> = route.tiers.iter().flatten().collect();
            let [target] = targets[..] else { panic!("{name}: {targets:?}") };
            assert_eq!(target.id.to_string(), name);
            assert_eq!(target.endpoint.dialect, provider.dialect, "{name}");
        }
    }
}

/// What a provider received, without what no provider's file decides.
fn written(request: &UpstreamRequest) -> String {
    let mut text = format!("POST {}\n", request.path);
    let mut headers: Vec<_> = request.headers.iter().collect();
    headers.sort_by_key(|(name, _)| name.as_str().to_owned());
    for (name, value) in headers {
        if ![ACCEPT, ACCEPT_ENCODING, HOST, USER_AGENT].contains(name) && name != "traceparent" {
            writeln!(text, "{name}: {}", String::from_utf8_lossy(value.as_bytes())).unwrap();
        }
    }
    let body: Value = serde_json::from_slice(&request.body).unwrap();
    write!(text, "{body}\n\n").unwrap();
    text
}

/// A request with what files differ in: instructions, a limit, sampling, tools, a schema.
fn busy(model: &str) -> Value {
    let schema = serde_json::json!({
        "type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"],
        "additionalProperties": false,
    });
    serde_json::json!({
        "model": model,
        "messages": [
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": "Tides in Kiel? [[sim:say=High at noon]]"},
        ],
        "max_completion_tokens": 500,
        "temperature": 0.5,
        "tools": [{"type": "function", "function": {"name": "tides", "parameters": schema}}],
        "tool_choice": "auto",
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "place", "strict": true, "schema": schema},
        },
    })
}

#[tokio::test(start_paused = true)]
async fn every_provider_is_sent_what_it_takes() {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("../golden/providers");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    for provider in providers() {
        let stage = Stage::of(&provider);
        let mut golden = String::new();
        let plain = stage.ask(Dialect::OpenAiChat, "Hello", true);
        let foreign = stage.ask(Dialect::Anthropic, "Hello", false);
        let asks = [
            ("a stream", &plain, plain.body()),
            ("everything", &plain, busy(&stage.model)),
            ("of an Anthropic client", &foreign, foreign.body()),
        ];
        for (name, ask, body) in asks {
            stage.seen.lock().clear();
            let left_out = stage.send(ask.path(), &body).await;
            let seen = stage.seen.lock();
            let [request] = &seen[..] else { panic!("{} requests", seen.len()) };
            writeln!(golden, "# {name}{left_out}").unwrap();
            golden.push_str(&written(request));
        }
        settings.bind(|| insta::assert_snapshot!(provider.id.as_str(), golden));
    }
}

#[tokio::test(start_paused = true)]
async fn every_provider_answers_fails_and_breaks_as_a_caller_expects() {
    for provider in providers() {
        let stage = Stage::of(&provider);
        let id = &provider.id;
        for dialect in [Dialect::OpenAiChat, Dialect::Anthropic] {
            let got =
                read(&stage.router, &stage.ask(dialect, "[[sim:say=High at noon]]", false)).await;
            assert_eq!(got.status, 200, "{id}: {}", got.body);
            assert!(got.body.contains("High at noon"), "{id}: {}", got.body);
            assert_eq!(got.headers["x-tidegate-served-by"], stage.model.as_str());

            let got = read(&stage.router, &stage.ask(dialect, "[[sim:tokens=9]]", true)).await;
            assert_eq!((got.status.as_u16(), got.end()), (200, End::Terminal), "{id}");

            for (fault, status, after) in [
                ("status=429", 429, None),
                ("status=429,retry_after=7s", 429, Some("7")),
                ("status=500", 502, None),
                ("status=401", 503, None),
            ] {
                tokio::time::advance(FORGOTTEN).await;
                let ask = stage.ask(dialect, &format!("[[sim:{fault}]]"), false);
                let got = read(&stage.router, &ask).await;
                assert_eq!(got.status, status, "{id} {fault}: {}", got.body);
                if after.is_some() {
                    let told = got.headers.get("retry-after").map(|value| value.to_str().unwrap());
                    assert_eq!(told, after, "{id} {fault}: {:?}", got.headers);
                }
            }
            for fault in ["cut_after=4", "reset_after=4", "error_event=4", "no_terminal"] {
                tokio::time::advance(FORGOTTEN).await;
                let ask = stage.ask(dialect, &format!("[[sim:tokens=9,{fault}]]"), true);
                let got = read(&stage.router, &ask).await;
                assert_eq!(
                    (got.status.as_u16(), got.end()),
                    (200, End::Error),
                    "{id} {fault}: {}",
                    got.body
                );
            }
        }
    }
}

#[test]
fn every_quirk_is_some_providers() {
    let quirks: Vec<Value> = providers()
        .iter()
        .map(|provider| serde_json::to_value(&provider.quirks).unwrap())
        .collect();
    let plain = serde_json::to_value(tidegate::dialect::Quirks::default()).unwrap();
    for (key, value) in plain.as_object().unwrap() {
        let used = quirks.iter().any(|quirks| &quirks[key] != value);
        // What people's own gateways have: a path of their own; or streams that never say why they
        // ended, as recorded of Snowflake's, which has an address for each account.
        assert!(used || key == "path" || key == "finish_reason", "no provider needs `{key}`");
    }
}

#[test]
fn the_paths_of_base_urls_are_found() {
    assert_eq!(path_of("https://${NAME}.example/openai/v1"), "/openai/v1");
    assert_eq!(path_of("http://127.0.0.1:1234"), "");
}
