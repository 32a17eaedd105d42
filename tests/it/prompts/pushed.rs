//! Prompts that are pushed to running gateways: real processes, one store, with and without Redis.

use std::time::Duration;

use serde_json::{Value, json};
use tidegate::clock::Instant;

use crate::process::{ADMIN_KEY, Answer, Program};
use crate::servers::postgres::PostgresServer;
use crate::servers::redis::Redis;
use crate::support::run;

fn config(store: &str, more: &str) -> String {
    format!("[store]\nurl = \"{store}\"\n[providers.sim]\n{more}")
}

fn version(number: &str, words: &str) -> Value {
    json!({
        "version": number,
        "target_model": "sim/tide-small",
        "variables": {"properties": {"name": {"type": "string"}}},
        "messages": [{"role": "user", "content": format!("[[sim:say={words} {{{{ name }}}}]]")}],
    })
}

async fn admin(gate: &Program, line: &str, headers: &str, body: &Value) -> Answer {
    let (method, path) = line.split_once(' ').unwrap();
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let length = body.len();
    let request = format!(
        "{method} /admin/v1{path} HTTP/1.1\r\nhost: test\r\nauthorization: Bearer {ADMIN_KEY}\r\n\
         content-type: application/json\r\n{headers}content-length: {length}\r\nconnection: close\r\n\r\n{body}"
    );
    gate.send(request).await
}

async fn push(gate: &Program, number: &str, words: &str) -> Answer {
    admin(gate, "POST /prompts/greet/versions", "", &version(number, words)).await
}

async fn set_label(gate: &Program, number: &str) -> Answer {
    let body = json!({ "version": number });
    admin(gate, "PUT /prompts/greet/labels/production", "", &body).await
}

/// Status, and which version answered with what.
async fn use_it(gate: &Program, wanted: Option<&str>) -> (u16, String, String) {
    let mut prompt = json!({"id": "greet", "variables": {"name": "Ada"}});
    if let Some(wanted) = wanted {
        prompt["version"] = wanted.into();
    }
    let body = json!({ "prompt": prompt }).to_string();
    let length = body.len();
    let request = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\nconnection: close\r\n\r\n{body}"
    );
    let answer = gate.send(request).await;
    let reply: Value = serde_json::from_str(&answer.body).unwrap();
    let said = reply.pointer("/choices/0/message/content").or(reply.pointer("/error/message"));
    let said = said.and_then(Value::as_str).unwrap_or_default().to_owned();
    (answer.status, answer.header("x-tidegate-prompt").to_owned(), said)
}

/// How long it takes until a node lets `production` stand for this version; requests then get it.
async fn until_served(gate: &Program, number: &str) -> Duration {
    let started = Instant::now();
    loop {
        let label = "GET /prompts/greet/labels/production";
        let label = admin(gate, label, "", &Value::Null).await.json();
        if label["version"] == number {
            break;
        }
        assert!(started.elapsed() < Duration::from_secs(20), "{label}");
    }
    let took = started.elapsed();
    let (status, served, said) = use_it(gate, None).await;
    assert_eq!((status, served), (200, format!("greet@{number}")), "{said}");
    took
}

/// Pushes 1.0.0 and 1.1.0 and labels the first.
async fn two_versions(gate: &Program) {
    for (number, words) in [("1.0.0", "Hello"), ("1.1.0", "Good day")] {
        let made = push(gate, number, words).await;
        assert_eq!(made.status, 201, "{made:?}");
    }
    assert_eq!(set_label(gate, "1.0.0").await.status, 200);
}

#[tokio::test]
async fn a_pushed_prompt_is_used_by_the_next_request_and_a_label_moves_it() {
    let folder = tempfile::tempdir().unwrap();
    let store = format!("sqlite:{}/tidegate.db", folder.path().display());
    let gate = Program::serve(&config(&store, ""));
    let (status, _, said) = use_it(&gate, None).await;
    assert_eq!((status, said.as_str()), (404, "the prompt `greet` does not exist"));
    two_versions(&gate).await;
    let hello = (200, "greet@1.0.0".to_owned(), "Hello Ada".to_owned());
    assert_eq!(use_it(&gate, None).await, hello);
    let stands = admin(&gate, "GET /prompts/greet/labels/production", "", &Value::Null).await;
    let etag = stands.header("etag").to_owned();
    assert_eq!(set_label(&gate, "1.1.0").await.status, 200);
    let good_day = (200, "greet@1.1.0".to_owned(), "Good day Ada".to_owned());
    assert_eq!(use_it(&gate, None).await, good_day);
    let (line, body) = ("PUT /prompts/greet/labels/production", json!({"version": "1.0.0"}));
    let late = admin(&gate, line, &format!("if-match: {etag}\r\n"), &body).await;
    assert_eq!(late.status, 412, "{late:?}");
    assert!(late.body.contains("the label `production` was changed meanwhile"), "{late:?}");
    let (status, _, said) = use_it(&gate, Some("staging")).await;
    assert_eq!(status, 404);
    assert!(
        said.contains("has no label `staging`; it has `1.1.0`, `1.0.0`, `production`"),
        "{said}"
    );
    assert_eq!(push(&gate, "1.1.0", "Hi").await.status, 409);
    let health = gate.get("/health").await;
    let health: Value = serde_json::from_str(&health.body).unwrap();
    assert_eq!(
        (&health["prompts"]["versions"], &health["prompts"]["source"]),
        (&json!(2), &json!("store"))
    );
}

#[tokio::test]
async fn nodes_of_one_database_see_a_push_within_a_second() {
    let Some(server) = PostgresServer::start() else { return };
    let config = config(&server.url(), "");
    let (one, other) = (Program::serve(&config), Program::serve(&config));
    two_versions(&one).await;
    until_served(&other, "1.0.0").await;
    let mut took = Vec::new();
    for number in ["1.1.0", "1.0.0", "1.1.0", "1.0.0", "1.1.0"] {
        assert_eq!(set_label(&one, number).await.status, 200);
        took.push(until_served(&other, number).await);
    }
    took.sort_unstable();
    println!("without Redis: {took:?}");
    // Twice a second is looked; the rest is for a machine that does other things, too.
    assert!(took[took.len() / 2] < Duration::from_secs(2), "{took:?}");
}

/// A file is not asked for news, so that only those of Redis can bring them.
#[tokio::test]
async fn nodes_that_share_a_redis_tell_each_other_of_a_push() {
    let Some(redis) = Redis::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let store = format!("sqlite:{}/tidegate.db", folder.path().display());
    let config = config(&store, &format!("[cluster]\nurl = \"{}\"\n", redis.url()));
    let (one, other) = (Program::serve(&config), Program::serve(&config));
    for node in [&one, &other] {
        node.until("/health", |health| {
            health["cluster"]["state"] == "connected" && health["cluster"]["nodes"] == 2
        })
        .await;
    }
    two_versions(&one).await;
    until_served(&other, "1.0.0").await;
    let mut took = Vec::new();
    for number in ["1.1.0", "1.0.0", "1.1.0", "1.0.0", "1.1.0"] {
        assert_eq!(set_label(&one, number).await.status, 200);
        took.push(until_served(&other, number).await);
    }
    println!("with Redis: {took:?}");
}

#[tokio::test]
async fn a_node_that_starts_while_its_database_is_away_serves_what_was_pushed() {
    let Some(mut server) = PostgresServer::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let kept = folder.path().join("prompts.snapshot");
    let keys = folder.path().join("callers.snapshot");
    let text = format!(
        "[auth]\nmode = \"open\"\n[store]\nurl = \"{}\"\nsnapshot = \"{}\"\n[providers.sim]\n[prompts]\nsnapshot = \"{}\"\n",
        server.url(),
        keys.display(),
        kept.display()
    );
    let gate = Program::serve(&text);
    two_versions(&gate).await;
    assert_eq!(set_label(&gate, "1.1.0").await.status, 200);
    let started = Instant::now();
    let saved = || std::fs::read_to_string(&kept).unwrap_or_default();
    while !saved().contains(r#""label":"production","version":"1.1.0""#) {
        assert!(started.elapsed() < Duration::from_secs(20), "{}", saved());
        tokio::task::yield_now().await;
    }
    server.stop();
    let good_day = (200, "greet@1.1.0".to_owned(), "Good day Ada".to_owned());
    assert_eq!(use_it(&gate, None).await, good_day, "what is known goes on");
    drop(gate);
    let gate = Program::serve(&text);
    assert_eq!(use_it(&gate, None).await, good_day);
    let health: Value = serde_json::from_str(&gate.get("/health").await.body).unwrap();
    assert_eq!(health["prompts"]["source"], "snapshot", "{health}");
    assert_eq!(push(&gate, "1.2.0", "Hi").await.status, 503);
    let listed = admin(&gate, "GET /prompts/greet/versions", "", &Value::Null).await;
    assert_eq!(listed.status, 200, "prompts can be seen while the store is away");
    server.start_again();
    gate.until("/health", |health| health["prompts"]["source"] == "store").await;
    assert_eq!(push(&gate, "1.2.0", "Hi").await.status, 201);
}

/// A gateway, and prompts in files beside it.
struct Terminal {
    gate: Program,
    folder: tempfile::TempDir,
}

// === impl Terminal ===

impl Terminal {
    fn new() -> Self {
        let terminal = Self {
            gate: Program::serve("[providers.sim]\n"),
            folder: tempfile::tempdir().unwrap(),
        };
        std::fs::create_dir_all(terminal.folder.path().join("greet")).unwrap();
        terminal.write("1.0.0", "Hello");
        terminal.write("1.1.0", "Good day");
        terminal
    }

    fn write(&self, number: &str, words: &str) {
        let text = format!(
            "target_model = 'sim/tide-small'\n[[messages]]\nrole = 'user'\n\
             content = '{words} {{{{ name }}}}'\n\
             [variables.properties]\nname = {{ type = 'string' }}\n"
        );
        let file = self.folder.path().join(format!("greet/{number}.toml"));
        std::fs::write(file, text).unwrap();
    }

    /// The exit code and all that is said; `DIR` is the folder of prompts.
    async fn call(&self, words: &str) -> (i32, String) {
        let url = format!("http://{}", self.gate.address);
        let folder = self.folder.path().to_str().unwrap();
        let words: Vec<String> = ["prompts", "--url", &url, "--admin-key", ADMIN_KEY]
            .into_iter()
            .chain(words.split(' '))
            .map(|word| word.replace("DIR", folder))
            .collect();
        let output = tokio::task::spawn_blocking(move || run(words)).await.unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout) + &text(output.stderr))
    }
}

#[tokio::test]
async fn the_command_line_pushes_files_and_folders() {
    let terminal = Terminal::new();
    let (code, said) = terminal.call("push DIR").await;
    assert_eq!(code, 0, "{said}");
    let lines: Vec<_> = said.lines().map(|line| line.split(" (").next().unwrap()).collect();
    assert_eq!(lines, ["greet@1.0.0 is registered", "greet@1.1.0 is registered"]);
    let (code, said) = terminal.call("push DIR/greet/1.1.0.toml").await;
    assert_eq!(code, 0, "{said}");
    assert!(said.starts_with("greet@1.1.0 was registered before"), "{said}");
    terminal.write("1.1.0", "Good evening");
    let (code, said) = terminal.call("push DIR/greet --json").await;
    assert_eq!(code, 1, "{said}");
    let answer: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(answer["data"][0]["is_new"], false);
    assert!(answer["error"].as_str().unwrap().contains("says something else"), "{answer}");
    terminal.write("1.1.0", "Good {{ evening");
    let (code, said) = terminal.call("push DIR").await;
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("greet/1.1.0.toml:"), "{said}");
}

#[tokio::test]
async fn the_command_line_labels_compares_and_deprecates() {
    let terminal = Terminal::new();
    assert_eq!(terminal.call("push DIR").await.0, 0);
    for (line, code, words) in [
        ("label greet production 1.0.0 --protect", 0, "production of greet stands for 1.0.0"),
        ("label greet production 1.1.0", 1, "is protected"),
        ("label greet production 1.1.0 --if-match 99 --force", 1, "was changed meanwhile"),
        ("label greet production 1.1.0 --force", 0, "stands for 1.1.0"),
        ("label greet", 0, "production  1.1.0    yes"),
        ("label greet production", 0, "yes, forced"),
        ("label greet production --delete --force", 0, "has no label production any more"),
        ("list", 0, "greet   1.1.0    -       sim/tide-small"),
        ("show greet 1.0.0", 0, "--- user\nHello {{ name }}"),
        ("show greet 3.0.0", 1, "has no version 3.0.0"),
        ("diff greet 1.0.0 1.1.0", 0, "greet 1.0.0 to 1.1.0: PATCH change"),
        ("render greet 1.0.0 --var name=Ada", 0, "Hello Ada"),
        ("render greet --var nam=Ada", 1, "`name` is missing"),
        ("deprecate greet 1.1.0 --reason curt", 0, "greet@1.1.0 is deprecated"),
        ("show greet", 0, "version: 1.0.0"),
        ("deprecate greet 1.1.0 --undo", 0, "greet@1.1.0 is no longer deprecated"),
        ("label greet Production 1.0.0", 2, "a letter first"),
    ] {
        let (ended, said) = terminal.call(line).await;
        assert_eq!(ended, code, "{line}: {said}");
        assert!(said.contains(words), "{line}: {said}");
    }
    let folder = terminal.folder.path().to_str().unwrap();
    let offline = run(["prompts", "diff", "greet", "1.0.0", "1.1.0", "--prompts", folder]);
    let said = String::from_utf8(offline.stdout).unwrap();
    assert!(said.contains("-  Hello {{ name }}\n+  Good day {{ name }}"), "{said}");
}
