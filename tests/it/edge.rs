//! The edge itself: what is counted though it was never served, what replies say of themselves, and
//! the admin API on an address of its own.

use sqlx::Connection;
use sqlx::sqlite::SqliteConnection;
use tidegate::dialect::Dialect;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::process::{ADMIN_KEY, Answer, PATIENCE, Program, post, read_answer};
use crate::rig::{Ask, End, Rig, read};
use crate::scripted::scripted;

const CALLERS: [Dialect; 2] = [Dialect::OpenAiChat, Dialect::Anthropic];

#[tokio::test(start_paused = true)]
async fn what_is_refused_while_stopping_is_counted() {
    let rig = Rig::instant("");
    rig.gateway.drain();
    for dialect in CALLERS {
        assert_eq!(rig.ask(&Ask::new(dialect, "chat/alpha", "hello")).await.status, 503);
    }
    let metrics = rig.gateway.render_metrics();
    for endpoint in ["chat", "messages"] {
        let line = format!(
            "tidegate_requests_total{{code=\"draining\",endpoint=\"{endpoint}\",outcome=\"rejected\"}} 1\n"
        );
        assert!(metrics.contains(&line), "{metrics}");
    }
    assert!(rig.journal().await.is_empty());
}

#[tokio::test]
async fn wrong_keys_are_counted_and_fill_no_journal() {
    let gate = Program::serve("[auth]\nmode = \"keys\"\n[providers.sim]\n");
    for _ in 0..3 {
        let answer = gate.post("/v1/chat/completions", "{}").await;
        assert_eq!(answer.status, 401, "{answer:?}");
    }
    let metrics = gate.get("/metrics").await.body;
    let line = "tidegate_requests_total{code=\"invalid_api_key\",endpoint=\"chat\",outcome=\"rejected\"} 3\n";
    assert!(metrics.contains(line), "{metrics}");
    let health = gate.get_json("/health").await;
    assert_eq!(health["journal"]["accepted"], 0, "{health}");
}

#[tokio::test(start_paused = true)]
async fn a_reply_that_is_committed_early_does_not_claim_to_know_how_it_was_served() {
    let rig = Rig::instant(
        r#"
        [routes.early]
        targets = [{ model = "chat/alpha" }]
        keep_alive = { every = "15s", before_first_token = true }
        "#,
    );
    for dialect in CALLERS {
        // Before the first comment is due, all is known.
        for (text, attempts) in [("hello", "1"), ("[[sim:ttft=20s,say=late]]", "")] {
            let got = rig.ask(&Ask::new(dialect, "early", text)).await;
            assert_eq!((got.status.as_u16(), got.end()), (200, End::Terminal), "{got:#?}");
            assert_eq!(got.header("x-tidegate-attempts"), attempts, "{got:#?}");
            let is_known = !attempts.is_empty();
            for name in ["x-tidegate-served-by", "x-tidegate-overhead-us", "x-tidegate-hedged"] {
                assert_eq!(got.headers.contains_key(name), is_known, "{name}: {got:#?}");
            }
            assert!(got.header("x-request-id").starts_with("req_"), "{got:#?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_has_the_request_id_of_its_journal_entry() {
    let rig = Rig::instant("");
    let router = rig.over(scripted(|_| panic!("on purpose")));
    let got = read(&router, &Ask::chat("chat/alpha", "hello")).await;
    assert_eq!(got.status, 500, "{got:#?}");
    let [entry] = rig.journal().await.try_into().unwrap();
    assert_eq!(got.header("x-request-id"), entry.request_id.as_str());
}

#[tokio::test]
async fn reloads_are_counted_by_their_result() {
    let gate = Program::serve("[providers.sim]\n");
    let reload = format!(
        "POST /admin/v1/config/reload HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
         authorization: Bearer {ADMIN_KEY}\r\ncontent-length: 0\r\n\r\n"
    );
    let results = async || {
        let metrics = gate.get("/metrics").await.body;
        ["ok", "failed"].map(|result| {
            let name = format!("tidegate_config_reloads_total{{result=\"{result}\"}} ");
            let count = metrics.lines().find_map(|line| line.strip_prefix(&name));
            count.unwrap_or_else(|| panic!("{metrics}")).parse::<u32>().unwrap()
        })
    };
    assert_eq!(results().await, [0, 0]);
    assert_eq!(gate.send(&reload).await.status, 200);
    assert_eq!(results().await, [1, 0]);
    // The watcher may see the change, too.
    std::fs::write(gate.folder().join("tidegate.toml"), "nonsense = 1\n").unwrap();
    assert_eq!(gate.send(&reload).await.status, 422);
    let [ok, failed] = results().await;
    assert!(ok == 1 && failed >= 1, "{ok} ok, {failed} failed");
}

/// A gateway whose admin API has an address of its own, and that address.
fn with_admin_address(drain_timeout: &str) -> (Program, std::net::SocketAddr) {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let config = format!(
        "[server]\nadmin_listen = \"{address}\"\nhead_read_timeout = \"1s\"\n\
         drain_timeout = \"{drain_timeout}\"\n[providers.sim]\n"
    );
    (Program::serve(&config), address)
}

async fn ask_admin(address: std::net::SocketAddr, request: String) -> Answer {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // An early refusal may come before all is sent.
    let _ = stream.write_all(request.as_bytes()).await;
    read_answer(&mut stream).await
}

#[tokio::test]
async fn the_admin_address_keeps_the_limits_of_the_other_one() {
    let (gate, address) = with_admin_address("30s");
    let keys = |headers: &str| {
        format!(
            "GET /admin/v1/keys HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
             authorization: Bearer {ADMIN_KEY}\r\n{headers}\r\n"
        )
    };
    assert_eq!(ask_admin(address, keys("")).await.status, 200);
    assert_eq!(gate.get("/admin/v1/keys").await.status, 404);
    let large = ask_admin(address, keys(&format!("x-pad: {}\r\n", "y".repeat(100_000)))).await;
    assert_eq!(large.status, 431, "{large:?}");
    assert!(large.body.contains("server.request_head_limit"), "{large:?}");
    // Whoever does not finish a head is let go.
    let mut slow = TcpStream::connect(address).await.unwrap();
    slow.write_all(b"GET /admin/v1/keys HTTP/1.1\r\nhost:").await.unwrap();
    let end = timeout(PATIENCE, slow.read_u8()).await.expect("it is closed");
    assert!(end.is_err(), "{end:?}");
}

/// A gateway over a simulator that waits half a second for requests when it stops.
fn that_stops_soon(sim: &Program) -> Program {
    Program::serve_far(
        sim,
        r#"
        [server]
        drain_timeout = "500ms"
        [routes.one]
        targets = [{ model = "far/alpha" }]
        [routes.faq]
        targets = [{ model = "far/alpha" }]
        cache = { exact = true }
        "#,
    )
}

#[tokio::test]
async fn what_is_under_way_when_the_gateway_has_to_stop_ends_with_an_error() {
    let sim = Program::sim("");
    let gate = that_stops_soon(&sim);
    let begun = "One two three. [[sim:stall_after=2]]";
    let silent = "Nothing. [[sim:stall_before_head]]";
    let asks = [
        Ask::chat("one", begun),
        Ask::new(Dialect::Anthropic, "one", begun),
        // Of these the second shares the first one's answer.
        Ask::chat("faq", begun),
        Ask::chat("faq", begun),
        // These go on without a connection.
        Ask::chat("one", begun).with("x-resumable", "true"),
        Ask::chat("one", silent).whole().with("idempotency-key", "once"),
        Ask::chat("one", silent).whole(),
        Ask::chat("faq", silent).whole(),
    ];
    let mut callers = Vec::new();
    for ask in &asks {
        let mut caller = gate.connect().await;
        let mut request = post(ask.path(), ask.body().to_string().as_bytes());
        for (name, value) in &ask.headers {
            let first_line = request.iter().position(|byte| *byte == b'\n').unwrap() + 1;
            request.splice(first_line..first_line, format!("{name}: {value}\r\n").into_bytes());
        }
        caller.write_all(&request).await.unwrap();
        if ask.stream {
            let mut first = [0; 1];
            caller.peek(&mut first).await.unwrap();
        }
        callers.push(caller);
    }
    sim.until("/sim/stats", |stats| stats["requests"] == 7).await;
    // This one's body is still being read.
    let head = "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\n\
                content-length: 100\r\n\r\n";
    let mut unread = gate.connect().await;
    unread.write_all(head.as_bytes()).await.unwrap();
    let mut go_on = [0; b"HTTP/1.1 100 Continue\r\n\r\n".len()];
    timeout(PATIENCE, unread.read_exact(&mut go_on)).await.expect("it is read").unwrap();
    gate.ask_to_stop();
    let told = timeout(PATIENCE, read_answer(&mut unread)).await.expect("it ends");
    assert_eq!((told.status, told.is_whole), (503, true), "{told:?}");
    assert!(told.body.contains("\"draining\""), "{told:?}");
    for (ask, caller) in asks.iter().zip(&mut callers) {
        let answer = timeout(PATIENCE, read_answer(caller)).await.expect("it ends");
        assert!(answer.is_whole, "{ask:?} {answer:?}");
        assert_eq!(answer.status, if ask.stream { 200 } else { 503 }, "{answer:?}");
        assert!(answer.body.contains("the gateway is shutting down"), "{ask:?} {answer:?}");
        assert!(!answer.body.contains("[DONE]") && !answer.body.contains("message_stop"));
    }
    let gate = gate.stopped().await;
    let url = format!("sqlite:{}/data/tidegate.db", gate.folder().display());
    let mut store = SqliteConnection::connect(&url).await.unwrap();
    let count = "SELECT count(*) FROM requests WHERE error_code = 'draining'";
    let ended: i64 = sqlx::query_scalar(count).fetch_one(&mut store).await.unwrap();
    assert_eq!(ended, 9, "nobody else is to blame");
}

#[tokio::test]
async fn a_request_that_waits_for_another_node_hears_that_its_own_stops() {
    let (sim, folder) = (Program::sim(""), tempfile::tempdir().unwrap());
    let store = format!("[store]\nurl = \"sqlite:{}/shared.db\"", folder.path().display());
    let config = format!("[server]\ndrain_timeout = \"500ms\"\n{store}");
    let nodes = [Program::serve_far(&sim, &config), Program::serve_far(&sim, &config)];
    let body = Ask::chat("far/alpha", "Nothing. [[sim:stall_before_head]]").whole().body();
    let request = String::from_utf8(post("/v1/chat/completions", body.to_string().as_bytes()));
    let request = request.unwrap().replacen("\r\n", "\r\nidempotency-key: once\r\n", 1);
    let mut callers = Vec::new();
    for node in &nodes {
        let mut caller = node.connect().await;
        caller.write_all(request.as_bytes()).await.unwrap();
        sim.until("/sim/stats", |stats| stats["requests"] == 1).await;
        callers.push(caller);
    }
    let [first, second] = nodes;
    second.until("/health", |health| health["replies_going_on"] == 1).await;
    second.ask_to_stop();
    let told = timeout(PATIENCE, read_answer(&mut callers[1])).await.expect("it ends");
    assert_eq!((told.status, told.is_whole), (503, true), "{told:?}");
    assert!(told.body.contains("\"draining\""), "{told:?}");
    second.stopped().await;
    drop(first);
}

#[tokio::test]
async fn a_gateway_that_never_read_its_keys_is_not_ready_and_one_that_needs_none_is() {
    for (mode, status) in [("keys", 503), ("auto", 503), ("open", 200)] {
        let gate = Program::serve(&format!(
            "[auth]\nmode = \"{mode}\"\n[store]\nurl = \"postgres://nobody@127.0.0.1:1/none\"\n\
             [providers.sim]\n"
        ));
        let ready = gate.get("/readyz").await;
        assert_eq!(ready.status, status, "{mode}: {ready:?}");
        assert_eq!(
            ready.body.contains("the store of API keys"),
            status == 503,
            "{mode}: {ready:?}"
        );
        assert_eq!(gate.get("/livez").await.status, 200);
    }
}

#[cfg(unix)]
#[tokio::test]
async fn a_new_database_is_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let gate = Program::serve("[providers.sim]\n");
    gate.post("/v1/chat/completions", "{}").await;
    let files = std::fs::read_dir(gate.folder().join("data")).unwrap().map(Result::unwrap);
    let modes: Vec<_> = files
        .map(|file| (file.file_name(), file.metadata().unwrap().permissions().mode() & 0o777))
        .collect();
    assert!(modes.iter().any(|(name, _)| name == "tidegate.db"), "{modes:?}");
    assert!(modes.iter().all(|(_, mode)| *mode == 0o600), "{modes:?}");
}

#[tokio::test]
async fn an_admin_request_in_flight_is_finished_when_the_gateway_stops() {
    let (mut gate, address) = with_admin_address("30s");
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = format!(
        "POST /admin/v1/keys HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {ADMIN_KEY}\r\n\
         expect: 100-continue\r\ncontent-length: 16\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut go_on = [0; 25];
    timeout(PATIENCE, stream.read_exact(&mut go_on)).await.expect("it is read").unwrap();
    let pid = gate.child.id().to_string();
    assert!(std::process::Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    // It listens no more; what was begun goes on.
    while TcpStream::connect(address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    stream.write_all(br#"{"name": "late"}"#).await.unwrap();
    let answer = read_answer(&mut stream).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    let ended = timeout(PATIENCE, tokio::task::spawn_blocking(move || gate.child.wait().unwrap()));
    assert!(ended.await.expect("it stops").unwrap().success());
}
