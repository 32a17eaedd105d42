//! The HTTP/1.1 that providers answer with: heads, chunks, lengths; over a real socket.

use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use tidegate::catalog::Origin;
use tidegate::upstream::live::LiveTransport;
use tidegate::upstream::{UpstreamRequest, collect};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};

thread_local! {
    static RUNTIME: Runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
}

pub(crate) fn head_and_body(bytes: &[u8]) {
    RUNTIME.with(|runtime| runtime.block_on(exchange(bytes)));
}

async fn exchange(bytes: &[u8]) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let origin =
        Origin { https: false, host: "127.0.0.1".into(), port: address.port(), sim: false };
    let request = UpstreamRequest {
        origin,
        path: "/".to_owned(),
        headers: HeaderMap::new(),
        body: Bytes::new(),
        connect_timeout: Duration::from_secs(5),
    };
    let provider = async {
        let (mut socket, _) = listener.accept().await.expect("a connection");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            if socket.read_buf(&mut head).await.unwrap_or(0) == 0 {
                return;
            }
        }
        // Who has read enough closes before all is sent.
        let _ = socket.write_all(bytes).await;
        let _ = socket.shutdown().await;
        let _ = socket.read(&mut [0; 16]).await;
    };
    // Keeps no connection, so that the provider sees the end of each.
    let transport = LiveTransport::new(0, Duration::ZERO);
    let caller = async {
        let Ok(mut reply) = transport.send_to(address, request).await else { return };
        assert!(!reply.status.is_informational());
        if let Ok(body) = collect(&mut *reply.body, 1 << 20).await {
            assert!(body.len() <= bytes.len(), "more came than was sent");
        }
    };
    tokio::join!(provider, caller);
}
