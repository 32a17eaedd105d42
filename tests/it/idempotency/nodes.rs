//! The same over sockets: one node on SQLite, and three on one PostgreSQL, with and without Redis.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use serde_json::json;
use sqlx::{Connection, PgConnection};

use crate::servers::postgres::PostgresServer;
use crate::servers::redis::Redis;
use crate::support::{Program, Reply};

const CHAT: &str = "POST /v1/chat/completions";

/// Gateways that share a store, in front of one simulator.
struct Nodes {
    gateways: Vec<Program>,
    sim: Program,
}

// === impl Nodes ===

impl Nodes {
    fn new(count: usize, store: &str) -> Self {
        Self::over(count, store, "")
    }

    /// The same with more in their configuration.
    fn over(count: usize, store: &str, more: &str) -> Self {
        let sim = Program::sim(None);
        let config = format!(
            "{more}[auth]\nmode = \"open\"\n[store]\nurl = \"{store}\"\n[providers.far]\n\
             dialect = \"openai-chat\"\nbase_url = \"{}/v1\"\nauth = \"none\"\n\
             credentials = [{{ none = true }}]\n[[providers.far.models]]\nid = \"tide-small\"\n",
            sim.url()
        );
        let gateways = (0..count).map(|_| Program::gateway(&config)).collect();
        Self { gateways, sim }
    }

    /// Requests that reached the provider.
    fn calls(&self) -> u64 {
        self.sim.get("/sim/stats").json()["requests"].as_u64().expect("a count")
    }

    fn ask(&self, node: usize, key: &str, body: &str) -> Reply {
        self.gateways[node].ask(CHAT, &[("idempotency-key", key)], body)
    }

    /// So many requests with one key, at the same time, to all nodes in turn.
    fn ask_at_once(&self, count: usize, key: &str, body: &str) -> Vec<Reply> {
        thread::scope(|scope| {
            let asking: Vec<_> = (0..count)
                .map(|n| scope.spawn(move || self.ask(n % self.gateways.len(), key, body)))
                .collect();
            asking.into_iter().map(|asked| asked.join().expect("an answer")).collect()
        })
    }
}

fn body(text: &str, stream: bool) -> String {
    let messages = json!([{ "role": "user", "content": text }]);
    json!({ "model": "far/tide-small", "stream": stream, "messages": messages }).to_string()
}

/// A hundred at once, streamed and whole, and others later: one call each.
fn one_call_for_a_hundred(nodes: &Nodes) {
    for stream in [true, false] {
        let before = nodes.calls();
        let key = format!("hundred-{stream}");
        let body = body("[[sim:ttft=200ms,gap=10ms,tokens=30]]", stream);
        let mut replies = nodes.ask_at_once(100, &key, &body);
        // From every node, whoever carried it out.
        replies.extend((0..nodes.gateways.len()).map(|node| nodes.ask(node, &key, &body)));
        assert_eq!(nodes.calls() - before, 1, "streamed: {stream}");
        let first = &replies[0];
        assert_eq!(first.status, 200, "{first:?}");
        assert!(first.body.contains(if stream { "[DONE]" } else { "\"usage\"" }), "{first:?}");
        for reply in &replies {
            assert_eq!((reply.status, &reply.body), (200, &first.body));
            for name in ["x-request-id", "content-type", "x-tidegate-served-by"] {
                assert_eq!(reply.header(name), first.header(name), "{reply:?}");
            }
        }
        let last = replies.last().expect("a reply");
        assert_eq!(last.header("idempotent-replayed"), Some("true"), "{last:?}");
        let other = nodes.ask(0, &key, &body.replace("tokens=30", "tokens=31"));
        assert_eq!(other.status, 422, "{other:?}");
    }
}

#[test]
fn one_node_makes_one_call_for_a_hundred_requests() {
    one_call_for_a_hundred(&Nodes::new(1, "sqlite:data/tidegate.db"));
}

#[test]
fn three_nodes_make_one_call_for_a_hundred_requests() {
    let Some(server) = PostgresServer::start() else { return };
    one_call_for_a_hundred(&Nodes::new(3, &server.url()));
}

#[test]
fn three_nodes_with_a_relay_make_one_call_for_a_hundred_requests() {
    let Some(server) = PostgresServer::start() else { return };
    let Some(redis) = Redis::start() else { return };
    let cluster = format!("[cluster]\nurl = \"{}\"\n", redis.url());
    let nodes = Nodes::over(3, &server.url(), &cluster);
    one_call_for_a_hundred(&nodes);
    let passed_on = nodes.gateways.iter().filter(|gateway| {
        let relayed = "tidegate_idempotent_requests_total{result=\"relayed\"}";
        gateway.get("/metrics").body.contains(relayed)
    });
    assert_eq!(passed_on.count(), 2, "those who did not make the stream passed it on");
}

/// A request on a connection that is read piece by piece.
fn open(node: &Program, key: &str, body: &str) -> TcpStream {
    let mut caller = TcpStream::connect(node.address).expect("a connection");
    let head = format!("HTTP/1.1\r\nhost: test\r\nidempotency-key: {key}\r\nconnection: close");
    write!(caller, "{CHAT} {head}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).expect("sent");
    caller
}

/// Reads until this much text of the stream has come.
fn read_until(caller: &mut TcpStream, heard: &mut String, count: usize) {
    let mut piece = [0; 4_096];
    while heard.matches("data:").count() < count {
        let read = caller.read(&mut piece).expect("more");
        assert_ne!(read, 0, "it ended: {heard}");
        heard.push_str(std::str::from_utf8(&piece[..read]).expect("text"));
    }
}

#[test]
fn a_stream_is_passed_on_between_nodes_as_it_comes() {
    let Some(server) = PostgresServer::start() else { return };
    let Some(mut redis) = Redis::start() else { return };
    let cluster = format!("[cluster]\nurl = \"{}\"\n", redis.url());
    let nodes = Nodes::over(2, &server.url(), &cluster);
    let body = body("[[sim:ttft=100ms,gap=100ms,tokens=40]]", true);
    // The second time the relay dies in the middle; the row has the rest.
    for (key, dies) in [("live", false), ("broken", true)] {
        let before = nodes.calls();
        let (mut here, mut heard) = (open(&nodes.gateways[0], key, &body), String::new());
        read_until(&mut here, &mut heard, 3);
        let (mut there, mut passed_on) = (open(&nodes.gateways[1], key, &body), String::new());
        read_until(&mut there, &mut passed_on, 3);
        let running = "SELECT token, done FROM idempotency WHERE done = 0";
        assert_eq!(sql(&server, running).len(), 1, "it was over before it was passed on");
        if dies {
            redis.kill();
        }
        here.read_to_string(&mut heard).expect("the rest");
        there.read_to_string(&mut passed_on).expect("the rest");
        let text = |heard: &str| {
            let (_, body) = heard.split_once("\r\n\r\n").expect("a head");
            body.lines().filter(|line| line.starts_with("data:")).map(str::to_owned).collect()
        };
        let (made, got): (Vec<String>, Vec<String>) = (text(&heard), text(&passed_on));
        assert_eq!(got, made);
        assert_eq!(made.last().map(String::as_str), Some("data: [DONE]"), "{key}");
        assert!(passed_on.contains("x-tidegate-cache: coalesced"), "{passed_on}");
        assert_eq!(nodes.calls() - before, 1, "{key}");
    }
}

/// Runs a statement on the server that gives two numbers a row.
fn sql(server: &PostgresServer, sql: &'static str) -> Vec<(i64, i64)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let mut connection = PgConnection::connect(&server.url()).await.expect("a connection");
        sqlx::query_as(sql).fetch_all(&mut connection).await.expect("it is done")
    })
}

/// Waits until something is so.
fn until(is_so: impl Fn() -> bool) {
    while !is_so() {
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn when_a_node_dies_the_next_one_takes_over() {
    let Some(server) = PostgresServer::start() else { return };
    let mut nodes = Nodes::new(2, &server.url());
    let body = body("[[sim:ttft=60s,first=1,tokens=5]]", true);
    let dying = nodes.gateways.remove(0);
    let mut caller = TcpStream::connect(dying.address).expect("a connection");
    let length = body.len();
    let head = "HTTP/1.1\r\nhost: test\r\nidempotency-key: dead\r\ncontent-length";
    write!(caller, "{CHAT} {head}: {length}\r\n\r\n{body}").expect("sent");
    until(|| nodes.calls() == 1);
    // As with kill -9.
    drop(dying);
    let rows = sql(&server, "SELECT token, done FROM idempotency");
    let [(token, 0)] = rows[..] else { panic!("{rows:?}") };
    // While the lease lasts, others wait.
    let impatient = [("idempotency-key", "dead"), ("x-idempotency", "conflict")];
    let conflict = nodes.gateways[0].ask(CHAT, &impatient, &body);
    assert_eq!(conflict.status, 409, "{conflict:?}");
    let got = thread::scope(|scope| {
        let waiting = scope.spawn(|| nodes.ask(0, "dead", &body));
        assert_eq!(nodes.calls(), 1);
        let late = "UPDATE idempotency SET lease_until_ms = 0 RETURNING token, done";
        assert_eq!(sql(&server, late), [(token, 0)]);
        waiting.join().expect("an answer")
    });
    assert_eq!(got.status, 200, "{got:?}");
    assert!(got.body.contains("[DONE]"), "{got:?}");
    assert_eq!(nodes.calls(), 2, "one more for the kill");
    let again = nodes.ask(0, "dead", &body);
    assert_eq!((&again.body, again.header("idempotent-replayed")), (&got.body, Some("true")));
    assert_eq!(sql(&server, "SELECT token, claims FROM idempotency"), [(token + 1, 2)]);
    let metrics = nodes.gateways[0].get("/metrics").body;
    let taken = "tidegate_idempotent_requests_total{result=\"taken_over\"} 1\n";
    assert!(metrics.contains(taken), "{metrics}");
}
