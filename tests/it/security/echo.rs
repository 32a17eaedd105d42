//! A provider on a real socket that keeps what it was sent, byte by byte, and answers what it is
//! told.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

/// What a provider was sent: a head and its body, for each request.
#[derive(Debug, Clone, Default)]
pub(super) struct Sent(Arc<Mutex<Vec<Message>>>);

/// A head and its body.
type Message = (String, Vec<u8>);

/// A provider that answers every request with what `answer` makes of its head and body.
pub(super) struct Provider {
    pub(super) address: SocketAddr,
    pub(super) sent: Sent,
}

// === impl Provider ===

impl Provider {
    pub(super) fn new(answer: impl Fn(&str, &[u8]) -> Vec<u8> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let sent = Sent::default();
        let (kept, answer) = (sent.clone(), Arc::new(answer));
        std::thread::spawn(move || {
            for socket in listener.incoming().map_while(Result::ok) {
                let (kept, answer) = (kept.clone(), Arc::clone(&answer));
                std::thread::spawn(move || serve(socket, &kept, &*answer));
            }
        });
        Self { address, sent }
    }
}

// === impl Sent ===

impl Sent {
    /// Heads and bodies so far.
    pub(super) fn all(&self) -> Vec<(String, Vec<u8>)> {
        self.0.lock().clone()
    }
}

/// Requests of one connection, until it closes. A request that cannot be taken apart is kept as a
/// head without an end.
fn serve(mut socket: TcpStream, kept: &Sent, answer: &dyn Fn(&str, &[u8]) -> Vec<u8>) {
    let _ = socket.set_read_timeout(Some(Duration::from_secs(20)));
    let mut bytes = Vec::new();
    let mut more = [0; 4_096];
    loop {
        if let Some((head, body, length)) = taken(&bytes) {
            let reply = answer(&head, &body);
            kept.0.lock().push((head, body));
            bytes.drain(..length);
            if socket.write_all(&reply).is_err() {
                return;
            }
            continue;
        }
        match socket.read(&mut more) {
            Ok(0) | Err(_) => break,
            Ok(count) => bytes.extend_from_slice(&more[..count]),
        }
    }
    if !bytes.is_empty() {
        kept.0.lock().push((String::from_utf8_lossy(&bytes).into_owned(), Vec::new()));
    }
}

/// The first request of some bytes, read as strictly as can be: one length, no coding.
fn taken(bytes: &[u8]) -> Option<(String, Vec<u8>, usize)> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let lower = head.to_ascii_lowercase();
    let lengths: Vec<usize> = lower
        .lines()
        .filter_map(|line| line.strip_prefix("content-length:"))
        .map(|length| length.trim().parse().expect("a length"))
        .collect();
    let length = lengths.first().copied().unwrap_or(0);
    let body = bytes.get(end..end + length)?.to_vec();
    Some((head, body, end + length))
}

/// An answer with this status and JSON.
pub(super) fn json(status: &str, body: &str) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body.as_bytes()].concat()
}

/// A good answer of OpenAI's wire.
pub(super) fn fine() -> Vec<u8> {
    json(
        "200 OK",
        r#"{"id":"c","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"fine"},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}"#,
    )
}
