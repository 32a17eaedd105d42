//! Listening and serving: sockets in, requests to the router, and a way to stop.
//!
//! Each data thread has a listener of its own on the same address (`SO_REUSEPORT`), so that the
//! kernel spreads connections and a request never crosses threads.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::control::peer;
use crate::control::tasks::Tasks;
use crate::dispatch::Expiry;
use crate::telemetry::Metrics;

mod heads;
mod idle;
#[cfg(test)]
mod tests;
mod unread;

use heads::Heads;
use idle::HeadTimer;
use unread::{Answer, Unread};

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 4_096;
/// How long to wait after an accept failed for want of file descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What a connection may cost.
#[derive(Debug, Clone, Copy)]
pub struct ConnectionLimits {
    /// The most a request's head may measure.
    pub head_bytes: usize,
    /// How long a request's head may take.
    pub head_within: Duration,
    /// How long a connection may be idle between requests.
    pub idle_for: Duration,
    /// How long a caller may take nothing of an answer that is there.
    pub unread_for: Duration,
}

/// Serves one listener until told to stop.
#[derive(Debug)]
pub struct Server {
    /// Where connections come from.
    pub listener: TcpListener,
    /// What answers them.
    pub router: Router,
    /// What they may cost.
    pub limits: ConnectionLimits,
    /// Where they are counted.
    pub metrics: Arc<Metrics>,
}

/// Binds an address for one of several threads.
///
/// # Errors
///
/// The operating system's, such as an address in use.
pub fn bind(address: SocketAddr, shared: bool) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if shared {
        socket.set_reuse_port(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

// === impl Server ===

impl Server {
    /// Accepts until `closing` turns true; from then on each connection ends with what it is at.
    /// Once `over` turns true what they are at is polled again, to see that it has to end. They run
    /// as `tasks`.
    pub async fn run(
        self,
        tasks: &Tasks,
        mut closing: watch::Receiver<bool>,
        over: &watch::Receiver<bool>,
    ) {
        loop {
            let accepted = tokio::select! {
                biased;
                () = closed(&mut closing) => break,
                accepted = self.listener.accept() => accepted,
            };
            match accepted {
                Ok((socket, peer)) => {
                    let connection = self.connection(socket, (closing.clone(), over.clone()));
                    tasks.spawn(peer::within(peer.ip(), connection));
                }
                // Out of file descriptors: the ones in use will be given back, and until then
                // trying at once would only burn the processor.
                Err(error) if !is_of_the_connection(&error) => {
                    tracing::error!("accept failed: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
                Err(_) => {}
            }
        }
    }

    fn connection(
        &self,
        socket: TcpStream,
        told: (watch::Receiver<bool>, watch::Receiver<bool>),
    ) -> impl Future<Output = ()> + Send + 'static {
        let (router, limits, metrics) =
            (self.router.clone(), self.limits, Arc::clone(&self.metrics));
        async move {
            // A token must not wait for the acknowledgement of the one before.
            let _ = socket.set_nodelay(true);
            let open = OpenConnection::new(Arc::clone(&metrics));
            serve(socket, router, limits, metrics, told).await;
            drop(open);
        }
    }
}

/// Serves one connection until its caller leaves, or it is time to close.
async fn serve<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    socket: S,
    router: Router,
    limits: ConnectionLimits,
    metrics: Arc<Metrics>,
    (mut closing, mut over): (watch::Receiver<bool>, watch::Receiver<bool>),
) {
    let answer = Answer::default();
    let socket = Unread::new(socket, limits.unread_for, answer.clone());
    let socket = Heads::new(socket, limits.head_bytes, metrics);
    let timer = HeadTimer::new(limits.head_within, limits.idle_for, socket.reads());
    let mut builder = http1::Builder::new();
    builder.timer(timer);
    builder.header_read_timeout(limits.head_within).max_buf_size(limits.head_bytes);
    // The buffer alone would let a larger head pass that comes in one piece.
    builder.max_header_size(limits.head_bytes);
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |request: Request<Incoming>| {
        let (reply, answer) = (router.call(request), answer.clone());
        async move {
            let reply = reply.await?;
            answer.set(reply.extensions().get::<Expiry>().cloned());
            Ok::<_, Infallible>(reply)
        }
    });
    let connection = builder.serve_connection(TokioIo::new(socket), service);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        ended = connection.as_mut() => {
            // Callers leave in every possible way, and each request has its own account.
            if let Err(error) = ended {
                tracing::trace!("connection ended: {error}");
            }
        }
        () = closed(&mut closing) => {
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                _ended = connection.as_mut() => {}
                () = closed(&mut over) => {
                    let _ = connection.await;
                }
            }
        }
    }
}

/// Waits until it is time to close.
async fn closed(closing: &mut watch::Receiver<bool>) {
    // An error means that whoever could have said so is gone, which says it too.
    let _ = closing.wait_for(|closing| *closing).await;
}

/// Whether an accept failed because of the connection that was to be accepted.
fn is_of_the_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
    )
}

/// Counts a connection as long as it is open.
struct OpenConnection(Arc<Metrics>);

impl OpenConnection {
    fn new(metrics: Arc<Metrics>) -> Self {
        metrics.process.connections.inc();
        Self(metrics)
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.process.connections.dec();
    }
}
