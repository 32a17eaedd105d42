//! Tests of connections: heads that cannot be read, and callers that are silent.

use axum::routing::get;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::*;
use crate::clock::Instant;

const LIMITS: ConnectionLimits = ConnectionLimits {
    head_bytes: 16_384,
    head_within: Duration::from_secs(30),
    idle_for: Duration::from_secs(90),
    unread_for: Duration::from_secs(60),
};

/// A caller's side of a connection, and what is counted about it.
struct Peer {
    socket: DuplexStream,
    metrics: Arc<Metrics>,
    _close: watch::Sender<bool>,
}

/// What came, up to the end of the connection.
struct Reply {
    status: String,
    head: String,
    body: String,
}

// === impl Peer ===

impl Peer {
    /// Serves a connection as long as `story` goes on.
    async fn beside(story: impl AsyncFnOnce(&mut Self)) {
        let router = Router::new().route("/v1/models", get(async || "fine"));
        let (near, socket) = tokio::io::duplex(1 << 20);
        let metrics = Arc::new(Metrics::new());
        let (close, closing) = watch::channel(false);
        let mut peer = Self { socket, metrics: Arc::clone(&metrics), _close: close };
        tokio::join!(
            serve(near, router, LIMITS, metrics, (closing.clone(), closing)),
            async move {
                story(&mut peer).await;
            }
        );
    }

    async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.socket.write_all(bytes.as_ref()).await.unwrap();
    }

    /// Sends a good request and reads the answer, but not further.
    async fn ask(&mut self) {
        self.send("GET /v1/models HTTP/1.1\r\nhost: x\r\n\r\n").await;
        let mut answer = Vec::new();
        while !answer.ends_with(b"fine") {
            answer.push(self.socket.read_u8().await.unwrap());
        }
        assert!(answer.starts_with(b"HTTP/1.1 200 "));
    }

    async fn rest(&mut self) -> Reply {
        let mut answer = String::new();
        self.socket.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{answer:?}"));
        let status = head.split(' ').nth(1).unwrap().to_owned();
        Reply { status, head: head.to_owned(), body: body.to_owned() }
    }

    fn counted(&self, code: &str) -> bool {
        self.metrics.render().contains(&format!(
            "tidegate_requests_total{{code=\"{code}\",endpoint=\"none\",outcome=\"rejected\"}} 1\n"
        ))
    }
}

// === impl Reply ===

impl Reply {
    /// The error, of the shape that callers of `path` expect.
    fn error(&self, path: &str) -> String {
        let header = |name: &str| {
            let line = self.head.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap_or_else(|| panic!("no {name} in {}", self.head)).to_owned()
        };
        assert_eq!(header("content-length: "), self.body.len().to_string());
        assert_eq!(header("content-type: "), "application/json");
        assert_eq!(header("connection: "), "close");
        assert_eq!(header("x-request-id: "), header("request-id: "));
        let error: Value = serde_json::from_str(&self.body).unwrap();
        assert_eq!(error["type"] == "error", path.starts_with("/v1/messages"), "{error}");
        assert!(error["error"]["type"].is_string(), "{error}");
        error["error"]["message"].as_str().unwrap().to_owned()
    }
}

#[tokio::test(start_paused = true)]
async fn a_head_that_is_too_large_is_refused_in_the_callers_dialect() {
    for path in ["/v1/chat/completions", "/v1/messages", "/v1/messages/count_tokens", "/"] {
        for headers in [
            format!("x-pad: {}\r\n", "y".repeat(100_000)),
            (0..101).map(|n| format!("x-{n}: y\r\n")).collect(),
        ] {
            Peer::beside(async |peer| {
                peer.send(format!("POST {path} HTTP/1.1\r\nhost: x\r\n{headers}\r\n")).await;
                let reply = peer.rest().await;
                assert_eq!(reply.status, "431");
                let error = reply.error(path);
                for words in ["16384 bytes", "`server.request_head_limit`", "100 headers"] {
                    assert!(error.contains(words), "{error}");
                }
                assert!(peer.counted("request_head_too_large"), "{}", peer.metrics.render());
            })
            .await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_head_may_be_as_large_as_the_limit() {
    let head = |pad: usize| {
        let pad = "y".repeat(pad);
        format!("GET /v1/models HTTP/1.1\r\nconnection: close\r\nx-pad: {pad}\r\n\r\n")
    };
    let pad = LIMITS.head_bytes - head(0).len();
    for (pad, status) in [(pad, "200"), (pad + 1, "431")] {
        Peer::beside(async |peer| {
            peer.send(head(pad)).await;
            assert_eq!(peer.rest().await.status, status);
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn as_many_headers_as_the_refusal_says_are_taken() {
    Peer::beside(async |peer| {
        let headers: String = (0..99).map(|n| format!("x-{n}: y\r\n")).collect();
        peer.send(format!("GET /v1/models HTTP/1.1\r\nconnection: close\r\n{headers}\r\n")).await;
        assert_eq!(peer.rest().await.status, "200");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_head_that_is_no_http_is_refused_in_the_callers_dialect() {
    for (path, head) in [
        ("/v1/messages", "POST /v1/messages HTTP/1.1\r\ncontent-length: -1\r\n\r\n"),
        ("/v1/completions", "POST /v1/completions HTTP/1.1\r\nhost : x\r\n\r\n"),
        ("/v1/completions", "POST /v1/completions HTTP/7.1\r\n\r\n"),
        ("", "\x16\x03\x01\x02\x00\x01\x00\x01\u{fc}\x03\x03"),
        ("", "what is this?\r\n\r\n"),
    ] {
        Peer::beside(async |peer| {
            peer.send(head).await;
            let reply = peer.rest().await;
            assert_eq!(reply.status, "400", "{head:?}");
            assert!(reply.error(path).contains("not valid HTTP/1.1"), "{}", reply.body);
            assert!(peer.counted("invalid_request"), "{head:?}");
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_faulty_head_after_a_good_request_is_refused_the_same_way() {
    Peer::beside(async |peer| {
        peer.ask().await;
        // In pieces, of which only the first says what was asked for.
        peer.send("POST /v1/messages HTTP/1.1\r\n").await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        peer.send("no header\r\n\r\n").await;
        let reply = peer.rest().await;
        assert_eq!(reply.status, "400");
        reply.error("/v1/messages");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_caller_who_sends_on_still_gets_the_refusal_and_is_not_listened_to_for_ever() {
    Peer::beside(async |peer| {
        let started = Instant::now();
        peer.send("POST /v1/messages HTTP/1.1\r\nno header\r\n\r\n").await;
        let mut sent = 0;
        while peer.socket.write_all(&[b'x'; 4_096]).await.is_ok() {
            sent += 1;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(peer.rest().await.status, "400");
        assert_eq!((started.elapsed().as_millis() + 50) / 100, 20, "after {sent} pieces");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_connection_may_be_idle_for_longer_than_a_head_may_take() {
    // What is sent so long after the last answer, and when the connection ends.
    for (silence, ends_after) in [(0, 90), (80, 110)] {
        Peer::beside(async |peer| {
            peer.ask().await;
            let started = Instant::now();
            if silence > 0 {
                tokio::time::sleep(Duration::from_secs(silence)).await;
                peer.send("G").await;
            }
            let mut rest = Vec::new();
            peer.socket.read_to_end(&mut rest).await.unwrap();
            assert_eq!((rest.len(), started.elapsed().as_secs()), (0, ends_after));
        })
        .await;
    }
    // It is a limit of each pause, not of all.
    Peer::beside(async |peer| {
        for _ in 0..5 {
            peer.ask().await;
            tokio::time::sleep(Duration::from_secs(80)).await;
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn the_first_head_has_no_idle_time_before_it() {
    for first in ["", "GET /v1/models HT"] {
        Peer::beside(async |peer| {
            peer.send(first).await;
            let started = Instant::now();
            let mut rest = Vec::new();
            peer.socket.read_to_end(&mut rest).await.unwrap();
            assert_eq!((rest.len(), started.elapsed().as_secs()), (0, 30));
        })
        .await;
    }
}
