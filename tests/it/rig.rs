//! A whole gateway in process, over simulated providers, on the runtime's clock: its router is
//! called as a connection would, and a paused clock gives exact virtual times.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use sqlx::{Connection, SqliteConnection};
use tempfile::TempDir;
use tidegate::callers::Callers;
use tidegate::clock::{Instant, SystemWallClock};
use tidegate::config::{Environment, Source, load};
use tidegate::dialect::Dialect;
use tidegate::gateway::Gateway;
use tidegate::journal::{RequestFilter, StoredRequest};
use tidegate::rehearse::Stage;
use tidegate::sim::{Scenario, SimTransport};
use tidegate::store::Store;
use tidegate::upstream::Transport;
use tower::ServiceExt;

/// Providers of every wire. `alpha` comes first on the routes that have two targets.
const PROVIDERS: &str = r#"
[auth]
mode = "open"
[journal]
queue_entries = 100_000

[providers.chat]
dialect = "openai-chat"
base_url = "sim://chat/v1"
credentials = [{ none = true }]
models = [{ id = "alpha" }, { id = "beta" }, { id = "vectors", kind = "embedding" }]

[providers.claude]
dialect = "anthropic"
base_url = "sim://claude/v1"
credentials = [{ none = true }]
models = [{ id = "alpha" }, { id = "beta" }]

[providers.gem]
dialect = "gemini"
base_url = "sim://gem/v1beta"
credentials = [{ none = true }]
models = [{ id = "alpha" }, { id = "beta" }]
"#;

/// A gateway and the providers behind it.
pub(crate) struct Rig {
    pub(crate) gateway: Arc<Gateway>,
    stage: Stage,
    pub(crate) sim: SimTransport,
    pub(crate) router: Router,
    folder: TempDir,
}

/// What a caller asks for.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    pub(crate) dialect: Dialect,
    pub(crate) model: String,
    pub(crate) text: String,
    pub(crate) stream: bool,
    pub(crate) headers: Vec<(&'static str, String)>,
    /// Further members of the body, or others in the place of the usual ones.
    pub(crate) members: Vec<(&'static str, Value)>,
}

/// What a caller got, to the end of the body.
#[derive(Debug)]
pub(crate) struct Got {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
    /// From the request to the head, and to the end.
    pub(crate) head_after: Duration,
    pub(crate) end_after: Duration,
    /// When each piece of the body came.
    pub(crate) pieces: Vec<(Duration, String)>,
}

/// How a stream ended, as its reader sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The dialect's terminal marker, as the last event.
    Terminal,
    /// The dialect's error event, as the last event.
    Error,
    /// Neither, or both, or something after it.
    Wrong,
}

// === impl Rig ===

impl Rig {
    /// Providers that answer at once, and these routes.
    pub(crate) fn instant(routes: &str) -> Self {
        Self::new(Scenario::instant(), routes)
    }

    pub(crate) fn new(scenario: Scenario, routes: &str) -> Self {
        Self::of(scenario, &format!("{PROVIDERS}\n{routes}"))
    }

    /// The same with files beside the configuration, such as prompts.
    pub(crate) fn with_files(routes: &str, files: &[(&str, &str)]) -> Self {
        Self::beside(Scenario::instant(), &format!("{PROVIDERS}\n{routes}"), files)
    }

    /// Over a whole configuration.
    pub(crate) fn of(scenario: Scenario, config: &str) -> Self {
        Self::beside(scenario, config, &[])
    }

    fn beside(scenario: Scenario, config: &str, files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let file = folder.path().join("tidegate.toml");
        std::fs::write(&file, config).unwrap();
        let keys = Environment::fixed([("KEY_ONE", "sk-one"), ("KEY_TWO", "sk-two")]);
        let source = Source { file: Some(file), ..Source::environment(keys) };
        let snapshot = load(&source, None).unwrap_or_else(|problems| panic!("{problems}"));
        let url = format!("sqlite:{}/state/tidegate.db", folder.path().display());
        let store = Store::new(url.parse().unwrap());
        let clock = Arc::new(SystemWallClock);
        let callers = Callers::new(store.clone(), None);
        let stage = Stage::new(snapshot, callers, store, clock);
        // The same choices in every run.
        stage.gateway.seed(1);
        let sim = SimTransport::starting_at(scenario, 1_700_000_000_000).with_bills();
        let transport: Arc<dyn Transport> = Arc::new(sim.clone());
        let router = stage.router(transport);
        Self { gateway: Arc::clone(&stage.gateway), stage, sim, router, folder }
    }

    /// The same gateway's router over another transport.
    pub(crate) fn over(&self, transport: Arc<dyn Transport>) -> Router {
        self.stage.router(transport)
    }

    /// The reply's head and its body still to come.
    pub(crate) async fn open(&self, ask: &Ask) -> Response {
        self.router.clone().oneshot(ask.request()).await.unwrap()
    }

    /// Asks and reads to the end.
    pub(crate) async fn ask(&self, ask: &Ask) -> Got {
        read(&self.router, ask).await
    }

    /// Changes the store behind the gateway's back; says how many rows.
    pub(crate) async fn sql(&self, sql: &'static str) -> u64 {
        let file = self.folder.path().join("state/tidegate.db");
        let mut connection = SqliteConnection::connect(file.to_str().unwrap()).await.unwrap();
        sqlx::query(sql).execute(&mut connection).await.unwrap().rows_affected()
    }

    /// Takes the store away: where its folder was, there is a file.
    pub(crate) fn break_store(&self) {
        let state = self.folder.path().join("state");
        if state.is_dir() {
            std::fs::rename(&state, self.folder.path().join("away")).unwrap();
        }
        std::fs::write(state, "in the way").unwrap();
    }

    /// Brings it back.
    pub(crate) fn mend_store(&self) {
        std::fs::remove_file(self.folder.path().join("state")).unwrap();
    }

    /// Starts the clock, which was paused, and reads the journal.
    pub(crate) async fn journal(self) -> Vec<StoredRequest> {
        // The database works on threads of its own, which a paused clock would not wait for.
        tokio::time::resume();
        self.journal_on_a_running_clock().await
    }

    /// Settles what is to be estimated, writes the journal and reads it, oldest request first.
    pub(crate) async fn journal_on_a_running_clock(self) -> Vec<StoredRequest> {
        let Self { stage, router, folder: _folder, .. } = self;
        let Stage { gateway, writer, estimator } = stage;
        drop(router);
        let (_open, closed) = tokio::sync::watch::channel(true);
        estimator.run(closed).await;
        let journal = &gateway.journal;
        let read = async {
            journal.flush().await;
            let mut all: Vec<StoredRequest> = Vec::new();
            loop {
                let before = all.last().map(|request| request.place);
                let page = journal.requests(&RequestFilter::default(), before, 1_000).await;
                let page = page.unwrap();
                if page.is_empty() {
                    break;
                }
                all.extend(page);
            }
            journal.shut_down();
            all.reverse();
            all
        };
        tokio::join!(writer.run(), read).1
    }
}

/// Asks and reads to the end.
pub(crate) async fn read(router: &Router, ask: &Ask) -> Got {
    let started = Instant::now();
    let response = router.clone().oneshot(ask.request()).await.unwrap();
    let head_after = started.elapsed();
    let (parts, mut body) = response.into_parts();
    let mut bytes = Vec::new();
    let mut pieces = Vec::new();
    while let Some(frame) = body.frame().await {
        let data = frame.unwrap().into_data().unwrap();
        pieces.push((started.elapsed(), String::from_utf8_lossy(&data).into_owned()));
        bytes.extend_from_slice(&data);
    }
    Got {
        status: parts.status,
        headers: parts.headers,
        body: String::from_utf8(bytes).expect("the body is UTF-8"),
        head_after,
        end_after: started.elapsed(),
        pieces,
    }
}

// === impl Ask ===

impl Ask {
    /// A streamed chat completion.
    pub(crate) fn chat(model: &str, text: &str) -> Self {
        Self::new(Dialect::OpenAiChat, model, text)
    }

    /// A streamed answer on any of the callers' wires.
    pub(crate) fn new(dialect: Dialect, model: &str, text: &str) -> Self {
        let (model, text) = (model.to_owned(), text.to_owned());
        Self { dialect, model, text, stream: true, headers: Vec::new(), members: Vec::new() }
    }

    /// The same, not streamed.
    pub(crate) fn whole(self) -> Self {
        Self { stream: false, ..self }
    }

    /// The same with a header.
    pub(crate) fn with(mut self, name: &'static str, value: impl ToString) -> Self {
        self.headers.push((name, value.to_string()));
        self
    }

    /// The same with a member of the body.
    pub(crate) fn having(mut self, key: &'static str, value: Value) -> Self {
        self.members.push((key, value));
        self
    }

    pub(crate) fn path(&self) -> &'static str {
        match self.dialect {
            Dialect::Anthropic => "/v1/messages",
            Dialect::OpenAiChat | Dialect::Gemini => "/v1/chat/completions",
        }
    }

    pub(crate) fn body(&self) -> Value {
        let mut body = json!({
            "model": self.model, "stream": self.stream, "max_tokens": 1_000,
            "messages": [{ "role": "user", "content": self.text }],
        });
        for (key, value) in &self.members {
            body[*key] = value.clone();
        }
        body
    }

    pub(crate) fn request(&self) -> Request<Body> {
        let mut request = Request::post(self.path()).header("content-type", "application/json");
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        request.body(Body::from(self.body().to_string())).unwrap()
    }
}

// === impl Got ===

impl Got {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    /// The text of a streamed answer.
    pub(crate) fn text(&self) -> String {
        events(&self.body).iter().filter_map(|(_, data)| text_of(data)).collect()
    }

    /// How a streamed answer ended.
    pub(crate) fn end(&self) -> End {
        end_of(&self.body)
    }
}

/// Names and data of all events of a stream; comments are left out.
pub(crate) fn events(body: &str) -> Vec<(String, String)> {
    let fields = |event: &str, field: &str| {
        let lines = event.lines().filter_map(|line| line.strip_prefix(field));
        lines.map(str::trim).collect::<Vec<_>>().join("\n")
    };
    let all = body.split("\n\n").map(|event| (fields(event, "event:"), fields(event, "data:")));
    all.filter(|(_, data)| !data.is_empty()).collect()
}

/// How a stream ended.
pub(crate) fn end_of(body: &str) -> End {
    let events = events(body);
    let is_terminal = |(name, data): &(String, String)| data == "[DONE]" || name == "message_stop";
    let is_error = |(name, data): &(String, String)| {
        let data: Value = serde_json::from_str(data).unwrap_or_default();
        name == "error" || data.get("error").is_some_and(Value::is_object)
    };
    let terminals = events.iter().filter(|event| is_terminal(event)).count();
    let errors = events.iter().filter(|event| is_error(event)).count();
    match (terminals, errors, events.last()) {
        (1, 0, Some(last)) if is_terminal(last) => End::Terminal,
        (0, 1, Some(last)) if is_error(last) => End::Error,
        _ => End::Wrong,
    }
}

fn text_of(data: &str) -> Option<String> {
    let data: Value = serde_json::from_str(data).ok()?;
    let openai = data.pointer("/choices/0/delta/content");
    let anthropic = data.pointer("/delta/text");
    openai.or(anthropic).and_then(Value::as_str).map(str::to_owned)
}
