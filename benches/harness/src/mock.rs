//! A provider on loopback. It reads what it is asked, waits as long as it is told to, and writes
//! what `wires` made.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::{BodyExt, Either, Full};
use hyper::body::{Body, Bytes, Frame, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use memchr::memmem;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, Sleep, sleep, sleep_until};

use crate::wires::Wire;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Port on 127.0.0.1. 0: a free one. The address is printed either way.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Tokens of an answer.
    #[arg(long, default_value_t = 30)]
    tokens: usize,
    /// Milliseconds between two tokens of a stream.
    #[arg(long, default_value_t = 0)]
    gap_ms: u64,
    /// Milliseconds before the first token, or before a whole answer.
    #[arg(long, default_value_t = 0)]
    ttft_ms: u64,
    /// Events that go out with one write where there is no gap between them.
    #[arg(long, default_value_t = 4)]
    events_a_write: usize,
}

/// What all connections share.
struct Mock {
    openai: Wire,
    anthropic: Wire,
    gemini: Wire,
    gap: Duration,
    first_token: Duration,
    events_a_write: usize,
    asked: AtomicU64,
}

/// Serves until the process is ended.
pub(crate) async fn serve(args: Args) -> anyhow::Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", args.port)).await?;
    println!("mock on {}", listener.local_addr()?);
    let mock: &'static Mock = Box::leak(Box::new(Mock {
        openai: Wire::openai(args.tokens),
        anthropic: Wire::anthropic(args.tokens),
        gemini: Wire::gemini(args.tokens),
        gap: Duration::from_millis(args.gap_ms),
        first_token: Duration::from_millis(args.ttft_ms),
        events_a_write: args.events_a_write.max(1),
        asked: AtomicU64::new(0),
    }));
    loop {
        // Out of file descriptors, say: the callers' errors tell.
        let Ok((stream, _)) = listener.accept().await else {
            sleep(Duration::from_millis(10)).await;
            continue;
        };
        tokio::spawn(connection(stream, mock));
    }
}

async fn connection(stream: TcpStream, mock: &'static Mock) {
    // Both only fail where the other side has gone.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| answer(request, mock));
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

type Reply = Response<Either<Full<Bytes>, Events>>;

async fn answer(request: Request<Incoming>, mock: &'static Mock) -> Result<Reply, hyper::Error> {
    let path = request.uri().path();
    let (wire, mut is_stream) = if path.ends_with("/chat/completions") {
        (&mock.openai, false)
    } else if path.ends_with("/messages") {
        (&mock.anthropic, false)
    } else if path.ends_with(":generateContent") {
        (&mock.gemini, false)
    } else if path.ends_with(":streamGenerateContent") {
        (&mock.gemini, true)
    } else if path == "/asked" {
        return Ok(whole(200, mock.asked.load(Ordering::Relaxed).to_string().into()));
    } else {
        return Ok(whole(404, Bytes::from_static(br#"{"error":{"message":"no such path"}}"#)));
    };
    mock.asked.fetch_add(1, Ordering::Relaxed);
    let body = request.into_body().collect().await?.to_bytes();
    is_stream |= memmem::find(&body, br#""stream":true"#).is_some()
        || memmem::find(&body, br#""stream": true"#).is_some();
    if is_stream {
        return Ok(reply(200, "text/event-stream", Either::Right(Events::new(wire, mock))));
    }
    if !mock.first_token.is_zero() {
        sleep(mock.first_token).await;
    }
    Ok(whole(200, wire.whole.clone()))
}

fn whole(status: u16, body: Bytes) -> Reply {
    reply(status, "application/json", Either::Left(Full::new(body)))
}

fn reply(status: u16, kind: &'static str, body: Either<Full<Bytes>, Events>) -> Reply {
    let mut response = Response::new(body);
    *response.status_mut() = hyper::StatusCode::from_u16(status).unwrap_or_default();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

/// The body of a streamed answer.
struct Events {
    wire: &'static Wire,
    next: usize,
    gap: Duration,
    events_a_write: usize,
    /// When the next event is due. None: at once.
    due: Option<Pin<Box<Sleep>>>,
    /// A pause lets hyper write what it has.
    paused: bool,
}

impl Events {
    fn new(wire: &'static Wire, mock: &Mock) -> Self {
        let waits = !mock.first_token.is_zero() || !mock.gap.is_zero();
        Self {
            wire,
            next: 0,
            gap: mock.gap,
            events_a_write: mock.events_a_write,
            due: waits.then(|| Box::pin(sleep_until(Instant::now() + mock.first_token))),
            paused: false,
        }
    }
}

impl Body for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = self.get_mut();
        let Some(event) = this.wire.events.get(this.next) else { return Poll::Ready(None) };
        if let Some(due) = &mut this.due
            && due.as_mut().poll(context).is_pending()
        {
            return Poll::Pending;
        }
        if this.gap.is_zero()
            && this.next > 0
            && this.next.is_multiple_of(this.events_a_write)
            && !this.paused
        {
            this.paused = true;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        this.paused = false;
        this.next += 1;
        // What comes before the first token comes with it, and the end with the last.
        let is_later_token =
            this.next > this.wire.tokens.start && this.wire.tokens.contains(&this.next);
        if let Some(due) = &mut this.due
            && is_later_token
            && !this.gap.is_zero()
        {
            // From when the last one was due and not from now, or the pace would fall behind.
            let next = due.deadline() + this.gap;
            due.as_mut().reset(next);
        }
        Poll::Ready(Some(Ok(Frame::data(event.clone()))))
    }
}
