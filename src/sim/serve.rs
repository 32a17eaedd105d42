//! Plays scripts on real sockets: HTTP/1.1, where a reset is a TCP reset and a client that leaves
//! is noticed.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Sleep, sleep};

use super::engine::SimRequest;
use super::play::{Next, SimBody, SimTransport};

/// Larger requests are refused: real providers take some 20 to 30 MB.
const MAX_REQUEST_BYTES: usize = 64 * 1024 * 1024;

/// Says which simulated host a request on a socket is for; without it, none.
pub const HOST_HEADER: &str = "x-sim-host";

/// How long a client may take to send a request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// What was written is given so long to reach the client before its connection is reset.
const BEFORE_RESET: Duration = Duration::from_millis(2);

/// Serves simulated providers until `shutdown` completes, which ends all connections.
///
/// `GET /sim/stats` tells the counts.
///
/// # Errors
///
/// Where the listener fails for good.
pub async fn serve(
    listener: TcpListener,
    sim: SimTransport,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let mut connections = JoinSet::new();
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => return Ok(()),
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => _ = connections.spawn(connection(stream, sim.clone())),
                Err(error) if is_passing(&error) => sleep(Duration::from_millis(50)).await,
                Err(error) => return Err(error),
            },
        }
    }
}

/// Out of file descriptors, or a connection that was gone before it was accepted.
fn is_passing(error: &io::Error) -> bool {
    const ENFILE: i32 = 23;
    const EMFILE: i32 = 24;
    matches!(error.raw_os_error(), Some(ENFILE | EMFILE))
        || matches!(
            error.kind(),
            io::ErrorKind::ConnectionAborted
                | io::ErrorKind::ConnectionReset
                | io::ErrorKind::Interrupted
        )
}

async fn connection(stream: TcpStream, sim: SimTransport) {
    // Without it the kernel would hold small frames back; where it fails, they come late.
    _ = stream.set_nodelay(true);
    let reset = Arc::new(AtomicBool::new(false));
    let io = Resettable { stream, reset: reset.clone() };
    let service = service_fn(move |request| respond(request, sim.clone(), reset.clone()));
    // Errors are clients that left or resets we made: both are counted where they happen.
    _ = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(io), service)
        .await;
}

async fn respond(
    request: Request<Incoming>,
    sim: SimTransport,
    reset: Arc<AtomicBool>,
) -> Result<Response<PlayedBody>, Torn> {
    let (head, body) = request.into_parts();
    if head.method == Method::GET && head.uri.path() == "/sim/stats" {
        let body = serde_json::to_vec(&sim.stats()).unwrap_or_default();
        return Ok(in_one_piece(StatusCode::OK, body));
    }
    let body = match Limited::new(body, MAX_REQUEST_BYTES).collect().await {
        Ok(body) => body.to_bytes(),
        Err(_) => {
            let message = b"the request body broke off or is too large".to_vec();
            return Ok(in_one_piece(StatusCode::PAYLOAD_TOO_LARGE, message));
        }
    };
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    let host =
        head.headers.get(HOST_HEADER).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let played = sim.begin(&SimRequest {
        host,
        method: &head.method,
        path,
        headers: &head.headers,
        body: &body,
    });
    let Some((status, headers, body)) = played.head().await else {
        reset.store(true, Ordering::Relaxed);
        return Err(Torn);
    };
    let body = PlayedBody { source: Source::Script(body), reset, before_reset: None };
    Ok(response(status, headers, body))
}

fn response(status: StatusCode, headers: HeaderMap, body: PlayedBody) -> Response<PlayedBody> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

fn in_one_piece(status: StatusCode, bytes: Vec<u8>) -> Response<PlayedBody> {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let source = Source::Whole(Some(bytes.into()));
    response(status, headers, PlayedBody { source, reset: Arc::default(), before_reset: None })
}

/// The connection is to be torn down without a word.
#[derive(Debug, Clone, Copy)]
struct Torn;

impl fmt::Display for Torn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the scenario resets this connection")
    }
}

impl std::error::Error for Torn {}

#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "one a reply of a simulator")]
enum Source {
    Script(SimBody),
    Whole(Option<Bytes>),
}

/// A script as hyper reads it.
#[derive(Debug)]
struct PlayedBody {
    source: Source,
    /// Tells the connection that it ends with a reset.
    reset: Arc<AtomicBool>,
    before_reset: Option<Pin<Box<Sleep>>>,
}

impl http_body::Body for PlayedBody {
    type Data = Bytes;
    type Error = Torn;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Torn>>> {
        let this = &mut *self;
        if let Some(pause) = &mut this.before_reset {
            ready!(pause.as_mut().poll(cx));
            this.reset.store(true, Ordering::Relaxed);
            return Poll::Ready(Some(Err(Torn)));
        }
        let next = match &mut this.source {
            Source::Whole(bytes) => {
                return Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes))));
            }
            Source::Script(body) => ready!(body.poll_next(cx)),
        };
        match next {
            Next::Chunk(bytes) => Poll::Ready(Some(Ok(Frame::data(bytes)))),
            Next::End => Poll::Ready(None),
            Next::Reset => {
                // hyper writes what it holds while the body is pending.
                this.before_reset = Some(Box::pin(sleep(BEFORE_RESET)));
                self.poll_frame(cx)
            }
        }
    }
}

/// A socket that can end with a reset instead of a farewell.
#[derive(Debug)]
struct Resettable {
    stream: TcpStream,
    reset: Arc<AtomicBool>,
}

impl Resettable {
    fn is_reset(&self) -> bool {
        self.reset.load(Ordering::Relaxed)
    }
}

impl Drop for Resettable {
    fn drop(&mut self) {
        if self.is_reset() {
            // Closing a socket that must not linger sends RST.
            _ = socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
        }
    }
}

impl AsyncRead for Resettable {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Resettable {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_reset() {
            // A farewell before the reset would read as a clean end.
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
