//! Simulated providers on real sockets, on the real clock.

use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tidegate::sim::{Scenario, SimTransport, serve};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Longer than anything here takes, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

struct Server {
    address: SocketAddr,
    sim: SimTransport,
    /// Ends the server when it is dropped.
    _tasks: JoinSet<io::Result<()>>,
}

async fn start(scenario: Scenario) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    let sim = SimTransport::new(scenario);
    let mut tasks = JoinSet::new();
    tasks.spawn(serve(listener, sim.clone(), pending()));
    Server { address, sim, _tasks: tasks }
}

async fn ask(server: &Server, text: &str) -> TcpStream {
    let body = format!(
        r#"{{"model":"tide-small","stream":true,"messages":[{{"role":"user","content":"{text}"}}]}}"#
    );
    let request = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: sim\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut stream = TcpStream::connect(server.address).await.expect("a connection");
    stream.write_all(request.as_bytes()).await.expect("the request is taken");
    stream
}

/// Reads until `wanted` has come.
async fn read_until(stream: &mut TcpStream, wanted: &str) -> String {
    let mut text = Vec::new();
    while !String::from_utf8_lossy(&text).contains(wanted) {
        let read = timeout(PATIENCE, stream.read_buf(&mut text)).await.expect("it comes in time");
        assert_ne!(read.expect("no error"), 0, "ended early: {}", String::from_utf8_lossy(&text));
    }
    String::from_utf8(text).expect("text")
}

/// Reads until the end and says how it ended.
async fn read_all(stream: &mut TcpStream) -> (String, Result<(), io::ErrorKind>) {
    let mut text = Vec::new();
    loop {
        match timeout(PATIENCE, stream.read_buf(&mut text)).await.expect("it ends in time") {
            Ok(0) => return (String::from_utf8_lossy(&text).into_owned(), Ok(())),
            Ok(_) => {}
            Err(error) => {
                return (String::from_utf8_lossy(&text).into_owned(), Err(error.kind()));
            }
        }
    }
}

#[tokio::test]
async fn an_answer_streams_and_the_connection_lives_on() {
    let server = start(Scenario::instant()).await;
    let mut stream = ask(&server, "[[sim:tokens=5]]").await;
    let first = read_until(&mut stream, "[DONE]\n\n\r\n0\r\n\r\n").await;
    assert!(first.starts_with("HTTP/1.1 200 OK\r\n"), "{first}");
    assert!(first.contains("content-type: text/event-stream"), "{first}");
    stream.write_all(b"GET /sim/stats HTTP/1.1\r\nhost: sim\r\n\r\n").await.expect("sent");
    let stats = read_until(&mut stream, "}}}").await;
    assert!(stats.contains(r#""requests":1,"in_flight":0,"completed":1,"cancelled":0"#), "{stats}");
    assert!(stats.contains(r#""models":{"tide-small":{"#), "{stats}");
}

#[tokio::test]
async fn tokens_come_one_by_one() {
    let server = start(Scenario::default()).await;
    // So many that a busy machine does not hear the first when all are said.
    let words = " more".repeat(400);
    let mut stream = ask(&server, &format!("[[sim:say=one{words}]]")).await;
    read_until(&mut stream, "\"one\"").await;
    assert_eq!(server.sim.stats().total.in_flight, 1, "the rest is still to come");
    drop(stream);
    timeout(PATIENCE, server.sim.idle()).await.expect("the client's leaving is noticed");
    assert_eq!(server.sim.stats().total.cancelled, 1);
}

#[tokio::test]
async fn a_reset_is_a_reset_after_the_tokens() {
    let server = start(Scenario::instant()).await;
    let mut stream = ask(&server, "[[sim:reset_after=1,say=one two three]]").await;
    let (text, end) = read_all(&mut stream).await;
    assert!(text.contains("\"one\"") && !text.contains("\" two\""), "{text}");
    assert_eq!(end, Err(io::ErrorKind::ConnectionReset));
}

#[tokio::test]
async fn a_refused_connection_is_reset_without_a_word() {
    let server = start(Scenario::instant()).await;
    let mut stream = ask(&server, "[[sim:connect_refused]]").await;
    let (text, end) = read_all(&mut stream).await;
    assert_eq!((text.as_str(), end), ("", Err(io::ErrorKind::ConnectionReset)));
}

#[tokio::test]
async fn a_cut_is_a_clean_end_of_the_body() {
    let server = start(Scenario::instant()).await;
    let mut stream = ask(&server, "[[sim:cut_after=1,say=one two three]]").await;
    let text = read_until(&mut stream, "\r\n0\r\n\r\n").await;
    assert!(text.contains("\"one\""), "{text}");
    assert!(!text.contains("\" two\"") && !text.contains("[DONE]"), "{text}");
}

#[tokio::test]
async fn a_stalled_stream_stays_open_until_the_client_leaves() {
    let server = start(Scenario::instant()).await;
    let mut stream = ask(&server, "[[sim:stall_after=1,say=one two three]]").await;
    read_until(&mut stream, "\"one\"").await;
    let more = timeout(Duration::from_millis(150), stream.read_u8()).await;
    assert!(more.is_err(), "nothing more comes and nothing ends: {more:?}");
    assert_eq!(server.sim.stats().total.in_flight, 1);
    drop(stream);
    timeout(PATIENCE, server.sim.idle()).await.expect("the client's leaving is noticed");
    assert_eq!(server.sim.stats().total.cancelled, 1);
}

#[tokio::test]
async fn a_client_that_leaves_before_the_head_is_noticed() {
    let server = start(Scenario::instant()).await;
    let stream = ask(&server, "[[sim:stall_before_head]]").await;
    timeout(PATIENCE, async {
        while server.sim.stats().total.in_flight == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("the request arrives");
    drop(stream);
    timeout(PATIENCE, server.sim.idle()).await.expect("the client's leaving is noticed");
    assert_eq!(server.sim.stats().total.cancelled, 1);
}
