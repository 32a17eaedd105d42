//! A receiver of webhooks on a real socket, which keeps what it gets and takes everything.

use std::net::SocketAddr;
use std::sync::Arc;

use http::HeaderMap;
use parking_lot::Mutex;
use serde_json::Value;
use standardwebhooks::Webhook;
use tidegate::clock::Instant;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::process::PATIENCE;

/// The receiver. It ends with the runtime that it was started on.
pub(super) struct Receiver {
    address: SocketAddr,
    got: Arc<Mutex<Vec<Got>>>,
}

/// A webhook as it came.
#[derive(Debug, Clone)]
pub(super) struct Got {
    /// Its `webhook-id`.
    pub(super) id: String,
    headers: HeaderMap,
    text: String,
    pub(super) body: Value,
}

// === impl Receiver ===

impl Receiver {
    #[expect(clippy::disallowed_methods, reason = "a test's own server")]
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let got: Arc<Mutex<Vec<Got>>> = Arc::default();
        let kept = Arc::clone(&got);
        tokio::task::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let kept = Arc::clone(&kept);
                tokio::task::spawn(async move {
                    // One that was cut off was not received.
                    if let Some((mut stream, got)) = read(stream).await {
                        kept.lock().push(got);
                        let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await;
                    }
                });
            }
        });
        Self { address, got }
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    pub(super) fn got(&self) -> Vec<Got> {
        self.got.lock().clone()
    }

    /// What came, once it is as wanted.
    pub(super) async fn until(&self, is_so: impl Fn(&[Got]) -> bool) -> Vec<Got> {
        let started = Instant::now();
        loop {
            let got = self.got();
            if is_so(&got) {
                return got;
            }
            assert!(started.elapsed() < PATIENCE, "only {} came", got.len());
            tokio::task::yield_now().await;
        }
    }
}

async fn read(mut stream: TcpStream) -> Option<(TcpStream, Got)> {
    let mut bytes = Vec::new();
    loop {
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
        if let Some(got) = Got::parse(&bytes) {
            return Some((stream, got));
        }
    }
}

// === impl Got ===

impl Got {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let (head, text) = std::str::from_utf8(bytes).ok()?.split_once("\r\n\r\n")?;
        let mut headers = HeaderMap::new();
        for line in head.lines().skip(1) {
            let (name, value) = line.split_once(": ")?;
            let name: http::HeaderName = name.parse().unwrap();
            headers.insert(name, value.parse().unwrap());
        }
        let length: usize = headers["content-length"].to_str().unwrap().parse().unwrap();
        (text.len() >= length).then(|| Self {
            id: headers["webhook-id"].to_str().unwrap().to_owned(),
            text: text.to_owned(),
            body: serde_json::from_str(text).unwrap(),
            headers,
        })
    }

    /// Checks the signature as a receiver does.
    pub(super) fn verify(&self, secret: &str) {
        Webhook::new(secret).unwrap().verify(self.text.as_bytes(), &self.headers).unwrap();
    }
}
