//! The way to providers: one request out, one answer back, in bytes.
//!
//! A [`Transport`] knows sockets or a simulation, and nothing of what the bytes mean. There are
//! two:
//! [`live::LiveTransport`] speaks HTTP/1.1 over TCP and TLS, and the simulator answers in process.
//! [`Transports`] picks by the origin's scheme.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, StatusCode};

use crate::catalog::Origin;
use crate::failure::{Failure, FailureKind};

pub mod live;

/// What [`Transport::send`] returns.
pub type SendFuture<'a> = Pin<Box<dyn Future<Output = Result<UpstreamReply, Failure>> + Send + 'a>>;

/// Sends one request to a provider.
pub trait Transport: fmt::Debug + Send + Sync {
    /// Sends `request` and waits for the answer's head.
    ///
    /// # Errors
    ///
    /// [`FailureKind::Transport`] where no connection was made or it broke before the head. An
    /// error status is an answer, not an error.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection, which cancels the request upstream.
    fn send(&self, request: UpstreamRequest) -> SendFuture<'_>;
}

/// A request as a transport needs it. It is a `GET` where the body is empty, else a `POST`.
#[derive(Debug, Clone)]
pub struct UpstreamRequest {
    /// Where to.
    pub origin: Origin,
    /// Path and query.
    pub path: String,
    /// Everything but `host`, `content-length` and `connection`.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    /// How long a new connection, TLS included, may take.
    pub connect_timeout: Duration,
}

/// An answer, its body still to come.
#[derive(Debug)]
pub struct UpstreamReply {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Box<dyn UpstreamBody>,
}

/// An answer's body. Dropping it before its end cancels the request upstream.
pub trait UpstreamBody: fmt::Debug + Send {
    /// The next bytes that are ready, all of them; `None` at the proper end of the body.
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Failure>>>;
}

/// Sends to the simulator what is meant for it, and everything else over the network.
#[derive(Debug, Clone)]
pub struct Transports {
    /// The network.
    pub live: Arc<dyn Transport>,
    /// The simulator.
    pub sim: Arc<dyn Transport>,
}

// === impl Transports ===

impl Transport for Transports {
    fn send(&self, request: UpstreamRequest) -> SendFuture<'_> {
        if request.origin.sim { self.sim.send(request) } else { self.live.send(request) }
    }
}

// === impl dyn UpstreamBody ===

/// Waits for the next bytes of `body`.
///
/// # Errors
///
/// As [`UpstreamBody::poll_chunk`].
pub async fn next_chunk(body: &mut dyn UpstreamBody) -> Option<Result<Bytes, Failure>> {
    std::future::poll_fn(|cx| body.poll_chunk(cx)).await
}

/// Reads a body to its end.
///
/// # Errors
///
/// The body's own failure, or [`FailureKind::Degenerate`] where it is longer than `limit_bytes`.
pub async fn collect(body: &mut dyn UpstreamBody, limit_bytes: usize) -> Result<Bytes, Failure> {
    let mut whole = BytesMut::new();
    let mut first = None;
    while let Some(chunk) = next_chunk(body).await {
        let chunk = chunk?;
        if whole.len() + chunk.len() > limit_bytes {
            let message = format!("the answer is longer than {limit_bytes} bytes");
            return Err(Failure::new(FailureKind::Degenerate, message));
        }
        // Most answers come in one piece, which then need not be copied.
        match first.take() {
            None if whole.is_empty() => first = Some(chunk),
            None => whole.extend_from_slice(&chunk),
            Some(head) => {
                whole.extend_from_slice(&head);
                whole.extend_from_slice(&chunk);
            }
        }
    }
    Ok(first.unwrap_or_else(|| whole.freeze()))
}
