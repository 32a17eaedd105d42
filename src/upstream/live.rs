//! HTTP/1.1 to real providers: connect, write, read the head, hand out the body.
//!
//! # Why not a general client
//!
//! The cost of a streamed token is the cost of carrying one small chunk. General clients read each
//! connection in a task of its own and pass chunks through a channel, which is two task switches
//! and one write to the caller for every chunk. Here the request's own future reads its connection:
//! one read takes everything that is ready, all chunks of it leave as one piece, and dropping the
//! future closes the socket, which is how a provider learns that nobody is listening any more.
//! ARCHITECTURE.md has the figures.
//!
//! # What it leaves out
//!
//! HTTP/2 (providers speak both, and one connection a stream isolates streams from each other's
//! stalls), redirects (a provider's base URL is configured, and a key must not follow one),
//! compression (tokens are small; `accept-encoding: identity` is sent), proxies.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::{SendFuture, Transport, UpstreamReply, UpstreamRequest};
use crate::clock::Instant;
use crate::failure::{Failure, FailureKind};

mod body;
mod chunked;
mod connection;
mod head;
mod pool;
#[cfg(test)]
mod tests;

use body::{Framing, LiveBody};
use connection::{Connection, Connector};
use pool::Pool;

/// How often idle connections are looked through.
const SWEEP_EVERY: Duration = Duration::from_secs(10);

/// The network. One for each data thread, so that a connection stays on the thread that reads it.
#[derive(Debug)]
pub struct LiveTransport {
    pool: Arc<Pool>,
    connector: Connector,
}

/// How soon a kept connection must turn out to be closed for the request to be sent again. A peer
/// that had closed it already says so within a round trip; one that breaks off later may have read
/// the request and begun to work, and sending it again could be charged twice.
const STALE_WITHIN: Duration = Duration::from_millis(250);

/// How sending on one connection ended short of an answer.
enum Broken {
    /// The peer closed a kept connection at once and without a byte: it had timed out on its side
    /// before it could read the request. See [`STALE_WITHIN`].
    Stale,
    /// Anything else.
    Failed(Failure),
}

// === impl LiveTransport ===

impl LiveTransport {
    /// A transport with no connections yet. Idle connections are kept for `idle_timeout`, at most
    /// `max_idle` to each origin.
    pub fn new(max_idle: usize, idle_timeout: Duration) -> Self {
        Self { pool: Arc::new(Pool::new(max_idle, idle_timeout)), connector: Connector::default() }
    }

    /// Closes idle connections that are too old or that the provider has closed, every so often,
    /// for as long as it is polled. Without it those of an origin that is not asked again would
    /// stay.
    pub async fn sweep_idle(self: Arc<Self>) {
        loop {
            tokio::time::sleep(SWEEP_EVERY).await;
            self.pool.sweep();
        }
    }

    /// How many connections are kept idle.
    pub fn idle_connections(&self) -> usize {
        self.pool.len()
    }

    /// Sends to one address, whatever the name of the request's origin stands for by now; TLS still
    /// checks the name. The connection is not kept.
    ///
    /// # Errors
    ///
    /// As [`Transport::send`].
    ///
    /// # Cancel safety
    ///
    /// As [`Transport::send`].
    pub async fn send_to(
        &self,
        address: SocketAddr,
        request: UpstreamRequest,
    ) -> Result<UpstreamReply, Failure> {
        check_path(&request)?;
        let head = head::encode(&request);
        let connect = self.connector.connect(&request.origin, Some(address));
        self.exchange_anew(connect, &request, &head).await
    }

    async fn exchange(&self, request: UpstreamRequest) -> Result<UpstreamReply, Failure> {
        check_path(&request)?;
        let head = head::encode(&request);
        if let Some(connection) = self.pool.take(&request.origin) {
            match self.exchange_on(connection, &request, &head, true).await {
                Ok(reply) => return Ok(reply),
                Err(Broken::Failed(failure)) => return Err(failure),
                // Once, and free.
                Err(Broken::Stale) => {}
            }
        }
        let connect = self.connector.connect(&request.origin, None);
        self.exchange_anew(connect, &request, &head).await
    }

    /// Connects, and sends on that connection.
    async fn exchange_anew(
        &self,
        connect: impl Future<Output = Result<Connection, Failure>>,
        request: &UpstreamRequest,
        head: &[u8],
    ) -> Result<UpstreamReply, Failure> {
        let connection = tokio::time::timeout(request.connect_timeout, connect).await.map_err(
            |_elapsed| {
                let within = request.connect_timeout;
                transport(request, format_args!("no connection within {within:?}"))
            },
        )??;
        let answer = self.exchange_on(connection, request, head, false).await;
        answer.map_err(|broken| match broken {
            Broken::Failed(failure) => failure,
            Broken::Stale => transport(request, "closed before an answer"),
        })
    }

    async fn exchange_on(
        &self,
        mut connection: Connection,
        request: &UpstreamRequest,
        head: &[u8],
        reused: bool,
    ) -> Result<UpstreamReply, Broken> {
        // A provider that refuses a large body answers and closes before it has read all of it:
        // look for the answer even where writing failed.
        let written = connection.send(head, head::rest(request)).await;
        let sent = Instant::now();
        let answer = head::read(&mut connection).await;
        let head = match (answer, written) {
            (Ok(Some(head)), _) => head,
            (Ok(None) | Err(_), _)
                if reused && connection.is_untouched() && sent.elapsed() < STALE_WITHIN =>
            {
                return Err(Broken::Stale);
            }
            (Ok(None), Ok(())) => {
                return Err(Broken::Failed(transport(request, "closed before an answer")));
            }
            (Ok(None) | Err(_), Err(error)) | (Err(error), Ok(())) => {
                return Err(Broken::Failed(transport(request, error)));
            }
        };
        self.reply(connection, request, head).map_err(Broken::Failed)
    }

    fn reply(
        &self,
        connection: Connection,
        request: &UpstreamRequest,
        head: head::Head,
    ) -> Result<UpstreamReply, Failure> {
        let framing = Framing::of(&head).map_err(|problem| transport(request, problem))?;
        let home = head.keep_alive.then(|| (self.pool.clone(), request.origin.clone()));
        let body = LiveBody::new(connection, framing, home);
        Ok(UpstreamReply { status: head.status, headers: head.headers, body: Box::new(body) })
    }
}

impl Transport for LiveTransport {
    fn send(&self, request: UpstreamRequest) -> SendFuture<'_> {
        Box::pin(self.exchange(request))
    }
}

/// The last line of defence: what is not a path would become part of the head.
fn check_path(request: &UpstreamRequest) -> Result<(), Failure> {
    if request.path.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(());
    }
    Err(transport(request, "the path holds what no path may hold"))
}

fn transport(request: &UpstreamRequest, problem: impl std::fmt::Display) -> Failure {
    let origin = &request.origin;
    Failure::new(FailureKind::Transport, format!("{}:{}: {problem}", origin.host, origin.port))
}
