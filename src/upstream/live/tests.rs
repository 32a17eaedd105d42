//! The client against raw sockets that say exactly what a test wants said.

use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::chunked::ChunkedDecoder;
use super::*;
use crate::catalog::Origin;
use crate::upstream::{collect, next_chunk};

fn transport_under_test() -> LiveTransport {
    LiveTransport::new(8, Duration::from_secs(60))
}

fn request(port: u16) -> UpstreamRequest {
    UpstreamRequest {
        origin: Origin { https: false, host: "127.0.0.1".into(), port, sim: false },
        path: "/v1/chat/completions".to_owned(),
        headers: HeaderMap::new(),
        body: Bytes::from_static(b"{}"),
        connect_timeout: Duration::from_secs(2),
    }
}

/// Reads one request with the body `{}` off a socket.
async fn read_request(socket: &mut TcpStream) -> Vec<u8> {
    let mut seen = Vec::new();
    while !seen.ends_with(b"\r\n\r\n{}") {
        assert_ne!(socket.read_buf(&mut seen).await.unwrap(), 0, "closed within the request");
    }
    seen
}

/// A provider that gives the n-th connection to `serve`.
async fn provider<F>(serve: impl Fn(usize, TcpStream) -> F + Send + 'static) -> u16
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let task = async move {
        let count = AtomicUsize::new(0);
        while let Ok((socket, _)) = listener.accept().await {
            drop(tokio::task::spawn_local(serve(count.fetch_add(1, Ordering::Relaxed), socket)));
        }
    };
    drop(tokio::task::spawn_local(task));
    port
}

async fn locally(test: impl Future<Output = ()>) {
    tokio::task::LocalSet::new().run_until(test).await;
}

const WHOLE: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nx-one: 1\r\n\r\nhello";

#[tokio::test]
async fn a_kept_connection_serves_the_next_request() {
    locally(async {
        let port = provider(|n, mut socket| async move {
            assert_eq!(n, 0, "a second connection was opened");
            for _ in 0..3 {
                let seen = read_request(&mut socket).await;
                assert!(
                    seen.starts_with(b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:")
                );
                socket.write_all(WHOLE).await.unwrap();
            }
        })
        .await;
        let transport = transport_under_test();
        for _ in 0..3 {
            let mut reply = transport.send(request(port)).await.unwrap();
            assert_eq!(reply.headers["x-one"], "1");
            assert_eq!(collect(&mut *reply.body, 100).await.unwrap(), "hello");
        }
        assert_eq!(transport.idle_connections(), 1);
    })
    .await;
}

#[tokio::test]
async fn who_keeps_no_connections_keeps_none() {
    locally(async {
        let port = provider(|_, mut socket| async move {
            read_request(&mut socket).await;
            socket.write_all(WHOLE).await.unwrap();
            assert_eq!(socket.read(&mut [0; 16]).await.unwrap_or(0), 0, "it is closed");
        })
        .await;
        let transport = LiveTransport::new(0, Duration::ZERO);
        for _ in 0..2 {
            let mut reply = transport.send(request(port)).await.unwrap();
            assert_eq!(collect(&mut *reply.body, 100).await.unwrap(), "hello");
            assert_eq!(transport.idle_connections(), 0);
        }
    })
    .await;
}

#[tokio::test]
async fn a_connection_closed_while_idle_costs_no_attempt() {
    locally(async {
        let port = provider(|_, mut socket| async move {
            read_request(&mut socket).await;
            socket.write_all(WHOLE).await.unwrap();
            // Closes on the second request without a word, as a server does whose idle timer won
            // the race.
            read_request(&mut socket).await;
        })
        .await;
        let transport = transport_under_test();
        for _ in 0..2 {
            let mut reply = transport.send(request(port)).await.unwrap();
            assert_eq!(collect(&mut *reply.body, 100).await.unwrap(), "hello");
        }
    })
    .await;
}

#[tokio::test]
async fn a_request_that_was_read_is_not_sent_again() {
    locally(async {
        let port = provider(|n, mut socket| async move {
            assert_eq!(n, 0, "the request was sent again");
            read_request(&mut socket).await;
            socket.write_all(WHOLE).await.unwrap();
            read_request(&mut socket).await;
            // Works on it for longer than a connection takes to turn out closed.
            tokio::time::sleep(STALE_WITHIN + Duration::from_millis(100)).await;
        })
        .await;
        let transport = transport_under_test();
        let mut reply = transport.send(request(port)).await.unwrap();
        assert_eq!(collect(&mut *reply.body, 100).await.unwrap(), "hello");
        let failure = transport.send(request(port)).await.unwrap_err();
        assert_eq!(failure.kind, FailureKind::Transport);
    })
    .await;
}

#[tokio::test]
async fn connections_that_the_provider_closed_are_swept_away() {
    locally(async {
        let port = provider(|_, mut socket| async move {
            read_request(&mut socket).await;
            socket.write_all(WHOLE).await.unwrap();
        })
        .await;
        let transport = transport_under_test();
        let mut reply = transport.send(request(port)).await.unwrap();
        assert_eq!(collect(&mut *reply.body, 100).await.unwrap(), "hello");
        // The close arrives when the runtime next looks at its sockets.
        while transport.idle_connections() > 0 {
            tokio::task::yield_now().await;
            transport.pool.sweep();
        }
    })
    .await;
}

#[tokio::test]
async fn chunks_that_arrive_together_leave_together() {
    locally(async {
        let port = provider(|_, mut socket| async move {
            read_request(&mut socket).await;
            let head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
            let body = b"3\r\none\r\n3;x=y\r\ntwo\r\n5\r\nthree\r\n0\r\nx-trailer: 1\r\n\r\n";
            socket.write_all(&[&head[..], body].concat()).await.unwrap();
            read_request(&mut socket).await;
        })
        .await;
        let transport = transport_under_test();
        let mut reply = transport.send(request(port)).await.unwrap();
        assert_eq!(next_chunk(&mut *reply.body).await.unwrap().unwrap(), "onetwothree");
        assert!(next_chunk(&mut *reply.body).await.is_none());
        assert_eq!(transport.idle_connections(), 1);
    })
    .await;
}

#[tokio::test]
async fn a_body_that_is_cut_is_a_failure_and_not_an_end() {
    for head in ["content-length: 10", "transfer-encoding: chunked"] {
        locally(async move {
            let port = provider(move |_, mut socket| async move {
                read_request(&mut socket).await;
                let answer = format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n5\r\nhel");
                socket.write_all(answer.as_bytes()).await.unwrap();
            })
            .await;
            let transport = transport_under_test();
            let mut reply = transport.send(request(port)).await.unwrap();
            let failure = collect(&mut *reply.body, 100).await.unwrap_err();
            assert_eq!(failure.kind, FailureKind::MidStream);
            assert_eq!(transport.idle_connections(), 0);
        })
        .await;
    }
}

#[tokio::test]
async fn an_answer_whose_end_can_be_read_in_two_ways_is_none() {
    for (head, why) in [
        ("content-length: 5\r\ncontent-length: 6", "two lengths"),
        ("content-length: 5, 5", "no number"),
        ("content-length: +5", "no number"),
        ("content-length: -5", "no number"),
        ("content-length: 99999999999999999999", "no number"),
        ("content-length: 5\r\ntransfer-encoding: chunked", "a length and a transfer coding"),
        ("transfer-encoding: gzip, chunked", "not asked for"),
        ("transfer-encoding: chunked\r\ntransfer-encoding: chunked", "not asked for"),
        ("transfer-encoding: identity", "not asked for"),
        ("transfer-encoding : chunked", "invalid"),
        ("x-folded: a\r\n b\r\ncontent-length: 5", "invalid"),
        ("x-nul: a\0b\r\ncontent-length: 5", "invalid"),
    ] {
        locally(async move {
            let port = provider(move |_, mut socket| async move {
                read_request(&mut socket).await;
                let answer = format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n5\r\nhello\r\n0\r\n\r\n");
                socket.write_all(answer.as_bytes()).await.unwrap();
                // Not to be used again.
                assert_eq!(socket.read(&mut [0; 16]).await.unwrap_or(0), 0);
            })
            .await;
            let transport = transport_under_test();
            let failure = transport.send(request(port)).await.unwrap_err();
            assert_eq!(failure.kind, FailureKind::Transport, "{head}");
            assert!(failure.message.contains(why), "{head}: {failure}");
            assert_eq!(transport.idle_connections(), 0, "{head}");
        })
        .await;
    }
    // The same length twice is one.
    locally(async {
        let port = provider(|_, mut socket| async move {
            read_request(&mut socket).await;
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 5\r\n\r\nhello";
            socket.write_all(answer).await.unwrap();
        })
        .await;
        let mut reply = transport_under_test().send(request(port)).await.unwrap();
        assert_eq!(collect(&mut *reply.body, 100).await.unwrap(), "hello");
    })
    .await;
}

#[tokio::test]
async fn dropping_the_body_closes_the_connection() {
    locally(async {
        let (closed, mut was_closed) = tokio::sync::mpsc::channel(1);
        let port = provider(move |_, mut socket| {
            let closed = closed.clone();
            async move {
                read_request(&mut socket).await;
                let head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n";
                socket.write_all(head).await.unwrap();
                let read = socket.read(&mut [0; 16]).await.unwrap_or(0);
                closed.send(read).await.unwrap();
            }
        })
        .await;
        let mut reply = transport_under_test().send(request(port)).await.unwrap();
        assert_eq!(next_chunk(&mut *reply.body).await.unwrap().unwrap(), "one");
        drop(reply);
        assert_eq!(was_closed.recv().await, Some(0));
    })
    .await;
}

#[tokio::test]
async fn no_listener_is_a_transport_failure_that_names_the_address() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let failure = transport_under_test().send(request(port)).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Transport);
    assert!(failure.message.contains(&format!("127.0.0.1:{port}")), "{failure}");
}

#[tokio::test]
async fn a_path_cannot_end_the_request_line() {
    for path in ["/v1/x HTTP/1.1\r\nx-evil: 1\r\n\r\n", "/v1/a b", "/v1/\u{e9}"] {
        let request = UpstreamRequest { path: path.to_owned(), ..request(1) };
        let failure = transport_under_test().send(request).await.unwrap_err();
        assert!(failure.message.contains("path"), "{failure}");
    }
}

#[tokio::test]
async fn an_early_refusal_of_a_large_body_is_read() {
    locally(async {
        let port = provider(|_, mut socket| async move {
            let mut some = [0; 1024];
            assert_ne!(socket.read(&mut some).await.unwrap(), 0);
            let answer = b"HTTP/1.1 413 Payload Too Large\r\ncontent-length: 3\r\nconnection: close\r\n\r\nbig";
            socket.write_all(answer).await.unwrap();
            // Drains, so that the close is no reset that would take the answer with it.
            let mut sink = vec![0; 1 << 20];
            while socket.read(&mut sink).await.is_ok_and(|read| read > 0) {}
        })
        .await;
        let large = UpstreamRequest { body: Bytes::from(vec![b' '; 4 << 20]), ..request(port) };
        let transport = transport_under_test();
        let mut reply = transport.send(large).await.unwrap();
        assert_eq!(reply.status, 413);
        assert_eq!(collect(&mut *reply.body, 100).await.unwrap(), "big");
        assert_eq!(transport.idle_connections(), 0);
    })
    .await;
}

fn coded(chunks: &[Vec<u8>]) -> Vec<u8> {
    let mut coded = Vec::new();
    for chunk in chunks.iter().filter(|chunk| !chunk.is_empty()) {
        coded.extend_from_slice(format!("{:X};ext\r\n", chunk.len()).as_bytes());
        coded.extend_from_slice(chunk);
        coded.extend_from_slice(b"\r\n");
    }
    coded.extend_from_slice(b"0\r\nx-trailer: 1\r\n\r\n");
    coded
}

proptest! {
    #[test]
    fn the_coding_comes_off_wherever_it_is_cut(
        chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..8),
        step in 1_usize..50,
    ) {
        let mut decoder = ChunkedDecoder::new();
        let mut out = BytesMut::new();
        let mut whole = coded(&chunks);
        let length = whole.len();
        whole.extend_from_slice(b"HTTP/1.1 next");
        let mut used = 0;
        for piece in whole.chunks(step) {
            used += decoder.decode(piece, &mut out).unwrap();
        }
        prop_assert!(decoder.is_end());
        prop_assert_eq!(used, length);
        prop_assert_eq!(&out[..], &chunks.concat()[..]);
    }

    #[test]
    fn any_bytes_decode_or_fail(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut out = BytesMut::new();
        if let Ok(used) = ChunkedDecoder::new().decode(&bytes, &mut out) {
            prop_assert!(used <= bytes.len());
        }
    }
}
