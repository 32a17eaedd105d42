//! The real gateway with a collector beside it: what arrives there, and what providers are told.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    reason = "a test may panic"
)]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::metrics::v1::{Metric, metric::Data};
use opentelemetry_proto::tonic::trace::v1::{Span, span::SpanKind, status::StatusCode as Code};
use parking_lot::Mutex;
use prost::Message;
use serde_json::Value as Json;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, ChildStdout, Command};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Longer than anything here takes, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// The trace and the span of a caller.
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CALLER: &str = "b7ad6b7169203331";
/// What no collector may ever see.
const SECRET: &str = "xylophone";

/// Two providers and a collector, all on one address.
#[derive(Clone, Default)]
struct World(Arc<Mutex<Seen>>);

#[derive(Default)]
struct Seen {
    /// The `traceparent` of each attempt, by provider.
    parents: Vec<(&'static str, Option<String>)>,
    spans: Vec<Span>,
    resource: BTreeMap<String, String>,
    metrics: Vec<Metric>,
    /// Everything that the collector was sent, and with which keys.
    raw: Vec<u8>,
    keys: Vec<Option<String>>,
}

impl World {
    async fn start(tasks: &mut JoinSet<()>) -> (Self, SocketAddr) {
        let world = Self::default();
        let router = Router::new()
            .route("/up/chat/completions", post(up))
            .route("/down/chat/completions", post(down))
            .route("/v1/traces", post(take_traces))
            .route("/v1/metrics", post(take_metrics))
            .with_state(world.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tasks.spawn(async move { axum::serve(listener, router).await.unwrap() });
        (world, address)
    }
}

fn word(headers: &HeaderMap, name: &str) -> Option<String> {
    Some(headers.get(name)?.to_str().unwrap().to_owned())
}

async fn up(State(world): State<World>, headers: HeaderMap) -> Response {
    world.0.lock().parents.push(("up", word(&headers, "traceparent")));
    let chunk = |rest: &str| {
        format!(
            "data: {{\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m-2026\",{rest}}}\n\n"
        )
    };
    let say = |text: &str, finish: &str| {
        chunk(&format!(
            "\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{text}\"}},\"finish_reason\":{finish}}}]"
        ))
    };
    let usage = "\"choices\":[],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":4,\"total_tokens\":11}";
    let events =
        [say(SECRET, "null"), say(" ", "\"stop\""), chunk(usage), "data: [DONE]\n\n".to_owned()];
    ([("content-type", "text/event-stream")], events.concat()).into_response()
}

async fn down(State(world): State<World>, headers: HeaderMap) -> Response {
    world.0.lock().parents.push(("down", word(&headers, "traceparent")));
    let error =
        format!("{{\"error\":{{\"message\":\"cannot do {SECRET}\",\"type\":\"server_error\"}}}}");
    (StatusCode::INTERNAL_SERVER_ERROR, [("content-type", "application/json")], error)
        .into_response()
}

async fn take_traces(State(world): State<World>, headers: HeaderMap, body: Bytes) {
    let request = ExportTraceServiceRequest::decode(body.clone()).unwrap();
    let mut seen = world.0.lock();
    seen.raw.extend_from_slice(&body);
    seen.keys.push(word(&headers, "api-key"));
    for of_resource in request.resource_spans {
        seen.resource = plain(&of_resource.resource.unwrap().attributes);
        seen.spans.extend(of_resource.scope_spans.into_iter().flat_map(|scope| scope.spans));
    }
}

async fn take_metrics(State(world): State<World>, body: Bytes) {
    let request = ExportMetricsServiceRequest::decode(body.clone()).unwrap();
    let mut seen = world.0.lock();
    seen.raw.extend_from_slice(&body);
    let scopes = request.resource_metrics.into_iter().flat_map(|metrics| metrics.scope_metrics);
    seen.metrics = scopes.flat_map(|scope| scope.metrics).collect();
}

/// Attributes as plain text.
fn plain(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    fn text(value: &AnyValue) -> String {
        match value.value.as_ref().unwrap() {
            Value::StringValue(text) => text.clone(),
            Value::IntValue(number) => number.to_string(),
            Value::BoolValue(is) => is.to_string(),
            Value::ArrayValue(list) => list.values.iter().map(text).collect::<Vec<_>>().join(","),
            other => panic!("{other:?} is not used"),
        }
    }
    let plain = |pair: &KeyValue| (pair.key.clone(), text(pair.value.as_ref().unwrap()));
    attributes.iter().map(plain).collect()
}

/// A gateway in a process of its own.
struct Gateway {
    child: Child,
    address: SocketAddr,
    /// Held open: the greeting has more lines.
    _greeting: Lines<BufReader<ChildStdout>>,
    folder: TempDir,
}

impl Gateway {
    /// Starts it with the two providers of the world at `world`, and with these variables.
    async fn start(world: SocketAddr, variables: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = format!(
            r#"
            server = {{ listen = "127.0.0.1:0", worker_threads = 1 }}
            store = {{ url = "sqlite:{folder}/tidegate.db" }}
            [providers.up]
            dialect = "openai-chat"
            base_url = "http://{world}/up"
            models = [{{ id = "m" }}]
            credentials = [{{ none = true }}]
            [providers.down]
            dialect = "openai-chat"
            base_url = "http://{world}/down"
            models = [{{ id = "m" }}]
            credentials = [{{ none = true }}]
            [routes.smart]
            targets = [{{ model = "down/m" }}, {{ model = "up/m", tier = 1 }}]
            "#,
            folder = folder.path().display(),
        );
        let file = folder.path().join("tidegate.toml");
        std::fs::write(&file, config).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_tidegate"))
            .args(["serve", "--config"])
            .arg(file)
            .env_clear()
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(folder.path().join("log")).unwrap())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let greeted = async {
            loop {
                let line = lines.next_line().await.unwrap().expect("a greeting");
                if let Some((_, address)) = line.split_once(" on http://") {
                    return address.parse().unwrap();
                }
            }
        };
        let address = timeout(PATIENCE, greeted).await.expect("the gateway starts");
        Self { child, address, _greeting: lines, folder }
    }

    /// Asks for `model` and returns the whole reply.
    async fn ask(&self, model: &str, traceparent: Option<&str>) -> String {
        let body = format!(
            r#"{{"model":"{model}","stream":true,"messages":[{{"role":"user","content":"{SECRET}"}}]}}"#
        );
        let parent = traceparent.map(|parent| format!("traceparent: {parent}\r\n"));
        let request = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: gateway\r\nconnection: close\r\n\
             content-type: application/json\r\n{}content-length: {}\r\n\r\n{body}",
            parent.unwrap_or_default(),
            body.len()
        );
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut reply = String::new();
        timeout(PATIENCE, stream.read_to_string(&mut reply)).await.expect("an answer").unwrap();
        reply
    }

    /// Tells it to stop, waits until it has, and returns what it logged.
    async fn stop(mut self) -> Vec<BTreeMap<String, Json>> {
        let pid = self.child.id().unwrap().to_string();
        assert!(Command::new("kill").arg(pid).status().await.unwrap().success());
        let status = timeout(PATIENCE, self.child.wait()).await.expect("it stops").unwrap();
        let log = std::fs::read_to_string(self.folder.path().join("log")).unwrap();
        assert!(status.success(), "{status}: {log}");
        log.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn metric<'a>(seen: &'a Seen, name: &str) -> &'a Data {
    let metric = seen.metrics.iter().find(|metric| metric.name == name);
    metric.unwrap_or_else(|| panic!("no {name}")).data.as_ref().unwrap()
}

#[tokio::test]
async fn spans_and_metrics_reach_the_collector_under_the_callers_trace() {
    let mut tasks = JoinSet::new();
    let (world, address) = World::start(&mut tasks).await;
    let collector = format!("http://{address}");
    let gateway = Gateway::start(
        address,
        &[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.as_str()),
            ("OTEL_EXPORTER_OTLP_HEADERS", "api-key=a%2Cb"),
            ("OTEL_SERVICE_NAME", "edge"),
            ("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test"),
            // Only the last export, at the stop, may carry them.
            ("OTEL_BSP_SCHEDULE_DELAY", "3600000"),
            ("OTEL_METRIC_EXPORT_INTERVAL", "3600000"),
        ],
    )
    .await;
    let reply = gateway.ask("smart", Some(&format!("00-{TRACE}-{CALLER}-01"))).await;
    assert!(reply.contains("[DONE]"), "{reply}");
    // Whom the caller does not trace, we do not trace either.
    let reply = gateway.ask("smart", Some(&format!("00-{TRACE}-{CALLER}-00"))).await;
    assert!(reply.contains("[DONE]"), "{reply}");
    gateway.stop().await;

    let seen = world.0.lock();
    let [request, first, second] = &seen.spans[..] else { panic!("{:#?}", seen.spans) };
    for span in &seen.spans {
        assert_eq!(hex(&span.trace_id), TRACE);
        assert!(span.start_time_unix_nano <= span.end_time_unix_nano);
        assert!(span.start_time_unix_nano > 1_700_000_000_000_000_000, "{span:?}");
    }
    check_request(request);
    check_attempts(request, first, second);

    let told: Vec<_> =
        seen.parents.iter().map(|(who, parent)| (*who, parent.clone().unwrap())).collect();
    let [(_, kept_down), (_, kept_up), (_, left_down), (_, left_up)] = &told[..] else {
        panic!("{told:?}")
    };
    assert_eq!(*kept_down, format!("00-{TRACE}-{}-01", hex(&first.span_id)));
    assert_eq!(*kept_up, format!("00-{TRACE}-{}-01", hex(&second.span_id)));
    for left in [left_down, left_up] {
        assert!(left.starts_with(&format!("00-{TRACE}-")) && left.ends_with("-00"), "{left}");
    }

    assert_eq!(seen.resource["service.name"], "edge");
    assert_eq!(seen.resource["deployment.environment.name"], "test");
    assert!(seen.resource.contains_key("service.instance.id"));
    assert_eq!(seen.keys, [Some("a,b".to_owned())]);
    check_metrics(&seen);
    let leaked = seen.raw.windows(SECRET.len()).any(|window| window == SECRET.as_bytes());
    assert!(!leaked, "text of a prompt, a reply or an error was exported");
}

fn check_request(request: &Span) {
    assert_eq!(request.name, "chat smart");
    assert_eq!(request.kind, i32::from(SpanKind::Server));
    assert_eq!(hex(&request.parent_span_id), CALLER);
    assert_eq!(request.status, None);
    let mut attributes = plain(&request.attributes);
    for varying in ["tidegate.request.id", "tidegate.overhead_us", "tidegate.first_token_us"] {
        assert!(attributes.remove(varying).is_some_and(|value| !value.is_empty()), "{varying}");
    }
    let expected = [
        ("gen_ai.operation.name", "chat"),
        ("gen_ai.provider.name", "up"),
        ("gen_ai.request.model", "smart"),
        ("gen_ai.response.finish_reasons", "stop"),
        ("gen_ai.response.model", "m"),
        ("gen_ai.usage.input_tokens", "7"),
        ("gen_ai.usage.output_tokens", "4"),
        ("http.response.status_code", "200"),
        ("tidegate.attempts", "2"),
        ("tidegate.caller.id", "anonymous"),
        ("tidegate.cost_micro_usd", "0"),
        ("tidegate.degradation", "2"),
        ("tidegate.outcome", "complete"),
        ("tidegate.route", "smart"),
        ("tidegate.stream", "true"),
        ("tidegate.target", "up/m"),
        ("tidegate.usage.estimated", "false"),
    ];
    let expected = expected.map(|(key, value)| (key.to_owned(), value.to_owned()));
    assert_eq!(attributes, BTreeMap::from(expected));
}

fn check_attempts(request: &Span, first: &Span, second: &Span) {
    for attempt in [first, second] {
        assert_eq!(attempt.name, "chat m");
        assert_eq!(attempt.kind, i32::from(SpanKind::Client));
        assert_eq!(attempt.parent_span_id, request.span_id);
        assert!(attempt.start_time_unix_nano >= request.start_time_unix_nano);
        assert!(attempt.end_time_unix_nano <= request.end_time_unix_nano);
        assert_eq!(plain(&attempt.attributes)["server.address"], "127.0.0.1");
    }
    assert_ne!(first.span_id, second.span_id);
    assert!(first.end_time_unix_nano <= second.start_time_unix_nano);
    assert_eq!(first.status.as_ref().unwrap().code, i32::from(Code::Error));
    assert_eq!(second.status, None);
    let (first, second) = (plain(&first.attributes), plain(&second.attributes));
    assert_eq!(first["tidegate.target"], "down/m");
    assert_eq!(first["tidegate.attempt.result"], "server_fault");
    assert_eq!(first["error.type"], "server_fault");
    assert_eq!(first["http.response.status_code"], "500");
    assert_eq!(second["tidegate.target"], "up/m");
    assert_eq!(second["tidegate.attempt.result"], "success");
    assert_eq!((&*first["tidegate.attempt"], &*second["tidegate.attempt"]), ("1", "2"));
}

fn check_metrics(seen: &Seen) {
    let Data::Histogram(tokens) = metric(seen, "gen_ai.client.token.usage") else { panic!() };
    // The target that failed is there too, at zero.
    let used = tokens.data_points.iter().filter(|point| point.count > 0);
    let sums = used.map(|point| {
        let labels = plain(&point.attributes);
        assert_eq!(labels["gen_ai.provider.name"], "up");
        assert_eq!(labels["gen_ai.request.model"], "m");
        assert_eq!(point.bucket_counts.len(), point.explicit_bounds.len() + 1);
        (labels["gen_ai.token.type"].clone(), (point.count, point.sum.unwrap()))
    });
    let expected = [("input".to_owned(), (2, 14.0)), ("output".to_owned(), (2, 8.0))];
    assert_eq!(sums.collect::<BTreeMap<_, _>>(), BTreeMap::from(expected));

    for name in [
        "gen_ai.server.request.duration",
        "gen_ai.server.time_to_first_token",
        "gen_ai.server.time_per_output_token",
        "tidegate_between_tokens_seconds",
        "tidegate_request_seconds",
    ] {
        let Data::Histogram(histogram) = metric(seen, name) else { panic!("{name}") };
        let counted: u64 = histogram.data_points.iter().map(|point| point.count).sum();
        assert_eq!(counted, 2, "{name}");
    }
    let Data::Sum(requests) = metric(seen, "tidegate_requests_total") else { panic!() };
    assert!(requests.is_monotonic);
    let [point] = &requests.data_points[..] else { panic!("{requests:?}") };
    assert_eq!(plain(&point.attributes)["outcome"], "complete");
}

#[tokio::test]
async fn without_a_collector_the_callers_trace_passes_unchanged() {
    let mut tasks = JoinSet::new();
    let (world, address) = World::start(&mut tasks).await;
    let collector = format!("http://{address}");
    let variables =
        [("OTEL_EXPORTER_OTLP_ENDPOINT", collector.as_str()), ("OTEL_SDK_DISABLED", "true")];
    let gateway = Gateway::start(address, &variables).await;
    let parent = format!("00-{TRACE}-{CALLER}-01");
    for traceparent in [Some(&*parent), None] {
        let reply = gateway.ask("up/m", traceparent).await;
        assert!(reply.contains("[DONE]"), "{reply}");
    }
    gateway.stop().await;
    let seen = world.0.lock();
    assert_eq!(seen.parents, [("up", Some(parent)), ("up", None)]);
    assert!(seen.raw.is_empty(), "something was exported");
}

#[tokio::test]
async fn a_collector_that_is_away_holds_nothing_up() {
    let mut tasks = JoinSet::new();
    let (world, address) = World::start(&mut tasks).await;
    // Nobody listens there.
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let collector = format!("http://{gone}");
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.as_str()),
        ("OTEL_BSP_SCHEDULE_DELAY", "1"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "10"),
    ];
    let gateway = Gateway::start(address, &variables).await;
    for _ in 0..3 {
        let reply = gateway.ask("up/m", None).await;
        assert!(reply.contains("[DONE]"), "{reply}");
    }
    gateway.stop().await;
    let told = world.0.lock().parents.clone();
    let traces: Vec<_> = told.iter().map(|(_, parent)| parent.clone().unwrap()).collect();
    assert!(traces.iter().all(|parent| parent.ends_with("-01")), "{traces:?}");
}

/// The lines that are about a request.
fn about_requests(log: &[BTreeMap<String, Json>]) -> Vec<&BTreeMap<String, Json>> {
    log.iter().filter(|line| line.contains_key("request.id")).collect()
}

#[tokio::test]
async fn a_failed_request_is_one_line_and_a_good_one_none() {
    let mut tasks = JoinSet::new();
    let (_, address) = World::start(&mut tasks).await;
    let gateway = Gateway::start(address, &[]).await;
    // Good, the one only after a fallback.
    for model in ["up/m", "smart"] {
        let reply = gateway.ask(model, None).await;
        assert!(reply.contains("[DONE]"), "{reply}");
    }
    let reply = gateway.ask("down/m", None).await;
    assert!(reply.starts_with("HTTP/1.1 502"), "{reply}");
    let log = gateway.stop().await;
    let [line] = about_requests(&log)[..] else { panic!("{log:#?}") };
    let id = line["request.id"].as_str().unwrap();
    assert!(reply.contains(&format!("x-request-id: {id}")), "{id}: {reply}");
    assert_eq!(line["level"], "WARN");
    assert_eq!(line["code"], "upstream_failed");
    assert_eq!(line["target.id"], "down/m");
    assert_eq!((&line["status"], &line["attempts"]), (&Json::from(502), &Json::from(2)));
}

#[tokio::test]
async fn a_debug_log_tells_of_every_request_and_of_no_prompt() {
    let mut tasks = JoinSet::new();
    let (_, address) = World::start(&mut tasks).await;
    let gateway = Gateway::start(address, &[("TIDEGATE_LOG", "debug")]).await;
    let reply = gateway.ask("up/m", None).await;
    assert!(reply.contains("[DONE]"), "{reply}");
    let reply = gateway.ask("up/m\",\"stream\":\"xylophone", None).await;
    assert!(reply.starts_with("HTTP/1.1 400"), "{reply}");
    let log = gateway.stop().await;
    let ended: Vec<_> = log.iter().filter(|line| line["message"] == "request ended").collect();
    let outcomes: Vec<_> = ended.iter().map(|line| line["outcome"].as_str().unwrap()).collect();
    assert_eq!(outcomes, ["complete", "rejected"]);
    assert_eq!(ended[0]["output_tokens"], 4);
    assert!(!format!("{log:?}").contains(SECRET), "{log:#?}");
}
