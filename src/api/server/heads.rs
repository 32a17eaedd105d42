//! A head that cannot be read is refused with a body, like every other bad request.
//!
//! hyper answers such a head by itself, with a status and nothing else, before anything of ours is
//! called, and then closes. That reply is recognised on its way to the socket and gets a body in
//! the caller's dialect. On the way of all other bytes stand a few comparisons.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use crate::api::error::ApiError;
use crate::api::reply;
use crate::dialect::Dialect;
use crate::dispatch::Served;
use crate::journal::Outcome;
use crate::rejection::Rejection;
use crate::telemetry::Metrics;

/// The most headers that hyper reads.
const MAX_HEADERS: usize = 100;
/// hyper's own replies are shorter.
const MAX_BARE_BYTES: usize = 256;
/// How hyper says that its own reply has no body.
const NO_BODY: &[u8] = b"content-length: 0\r\n";
/// What is no longer than this is written in one piece: the kernel takes that in less time than
/// several pieces, and copying is cheaper than that. It is room on the stack.
const SHORT_BYTES: usize = 2 * 1024;
/// How long to read on, for nothing, after the last reply. A socket that is closed with bytes
/// unread is reset, and the reset may overtake the reply.
const LINGER: Duration = Duration::from_secs(2);

/// A socket that explains hyper's own replies.
#[derive(Debug)]
pub(super) struct Heads<S> {
    socket: S,
    limit_bytes: u64,
    metrics: Arc<Metrics>,
    reads: Arc<AtomicU64>,
    /// What the caller speaks, by the last request line that was seen.
    dialect: Dialect,
    /// What is sent in place of hyper's reply, and how much of it was.
    refusal: Option<(Vec<u8>, usize)>,
    is_shut: bool,
    lingering: Option<Pin<Box<Sleep>>>,
}

// === impl Heads ===

impl<S> Heads<S> {
    pub(super) fn new(socket: S, limit_bytes: usize, metrics: Arc<Metrics>) -> Self {
        Self {
            socket,
            limit_bytes: u64::try_from(limit_bytes).unwrap_or(u64::MAX),
            metrics,
            reads: Arc::default(),
            dialect: Dialect::OpenAiChat,
            refusal: None,
            is_shut: false,
            lingering: None,
        }
    }

    /// How often something was read.
    pub(super) fn reads(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.reads)
    }

    /// The reply in place of hyper's, whose first line and date stay.
    fn explain(&self, bare: &Bare<'_>) -> Vec<u8> {
        let rejection = if bare.is_too_large {
            Rejection::HeadTooLarge { limit_bytes: self.limit_bytes, max_headers: MAX_HEADERS }
        } else {
            let problem = "the head of the request is not valid HTTP/1.1: its method, address, \
                           version, the name or value of a header, or the length of its body";
            Rejection::Invalid { problem: problem.to_owned(), param: None }
        };
        // No endpoint was reached.
        self.metrics.requests.ended("none", Outcome::Rejected.as_str(), rejection.face().code);
        let id = reply::new_request_id();
        let error = ApiError::of(rejection, self.dialect, id.as_str(), Served::default());
        let body = error.into_body();
        let headers = format!(
            "content-type: application/json\r\ncontent-length: {}\r\nx-request-id: {id}\r\n\
             request-id: {id}\r\n",
            body.len()
        );
        [bare.before, headers.as_bytes(), bare.after, &body].concat()
    }
}

/// A reply of hyper's own, around the place that says it has no body.
struct Bare<'a> {
    is_too_large: bool,
    before: &'a [u8],
    after: &'a [u8],
}

// === impl Bare ===

impl<'a> Bare<'a> {
    /// Recognises it.
    fn find(bytes: &'a [u8]) -> Option<Self> {
        let status = bytes.strip_prefix(b"HTTP/1.")?.get(1..6)?;
        let is_too_large = match status {
            b" 400 " => false,
            b" 414 " | b" 431 " => true,
            _ => return None,
        };
        if bytes.len() > MAX_BARE_BYTES || !bytes.ends_with(b"\r\n\r\n") {
            return None;
        }
        let at = memchr::memmem::find(bytes, NO_BODY)?;
        let (before, rest) = bytes.split_at_checked(at)?;
        Some(Self { is_too_large, before, after: rest.get(NO_BODY.len()..)? })
    }
}

/// All slices in one piece; nothing where they do not fit.
fn join<'a>(slices: &[io::IoSlice<'_>], room: &'a mut [u8]) -> Option<&'a [u8]> {
    let mut length = 0;
    for slice in slices {
        room.get_mut(length..length + slice.len())?.copy_from_slice(slice);
        length += slice.len();
    }
    room.get(..length)
}

/// The dialect of a request that begins with these bytes, if one does.
fn dialect_of(bytes: &[u8]) -> Option<Dialect> {
    let method = bytes.iter().take(8).position(|byte| *byte == b' ')?;
    let path = bytes.get(method + 1..)?;
    if path.starts_with(b"/v1/messages") {
        return Some(Dialect::Anthropic);
    }
    path.starts_with(b"/").then_some(Dialect::OpenAiChat)
}

impl<S: AsyncRead + Unpin> AsyncRead for Heads<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.socket).poll_read(cx, buffer))?;
        self.reads.fetch_add(1, Ordering::Relaxed);
        if let Some(dialect) = buffer.filled().get(before..).and_then(dialect_of) {
            self.dialect = dialect;
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> Heads<S> {
    /// Sends the rest of a refusal; whoever wrote `instead_of` so many bytes hears that they went.
    fn poll_refusal(&mut self, cx: &mut Context<'_>, instead_of: usize) -> Poll<io::Result<usize>> {
        let Some((bytes, sent)) = &mut self.refusal else { return Poll::Ready(Ok(instead_of)) };
        while let Some(rest) = bytes.get(*sent..).filter(|rest| !rest.is_empty()) {
            match ready!(Pin::new(&mut self.socket).poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => *sent += count,
            }
        }
        Poll::Ready(Ok(instead_of))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Heads<S> {
    /// Reads what still comes, for a while, where something does.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut waste = [0; 4_096];
        loop {
            let mut buffer = ReadBuf::new(&mut waste);
            let polled = Pin::new(&mut self.socket).poll_read(cx, &mut buffer);
            let is_over = match &polled {
                Poll::Ready(read) => read.is_err() || buffer.filled().is_empty(),
                Poll::Pending => self.lingering.is_none() && self.refusal.is_none(),
            };
            if is_over {
                return Poll::Ready(());
            }
            let time = self.lingering.get_or_insert_with(|| Box::pin(sleep(LINGER)));
            if time.as_mut().poll(cx).is_ready() {
                return Poll::Ready(());
            }
            ready!(polled.map(drop));
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Heads<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.refusal.is_none() {
            let Some(bare) = Bare::find(bytes) else {
                return Pin::new(&mut self.socket).poll_write(cx, bytes);
            };
            self.refusal = Some((self.explain(&bare), 0));
        }
        self.poll_refusal(cx, bytes.len())
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        // A reply of hyper's own comes in one piece.
        if let [bytes] = slices {
            return self.poll_write(cx, bytes);
        }
        let mut joined = [0; SHORT_BYTES];
        match join(slices, &mut joined) {
            Some(bytes) => Pin::new(&mut self.socket).poll_write(cx, bytes),
            None => Pin::new(&mut self.socket).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.is_shut {
            ready!(Pin::new(&mut self.socket).poll_shutdown(cx))?;
            self.is_shut = true;
        }
        self.poll_linger(cx).map(Ok)
    }
}
