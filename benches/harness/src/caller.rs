//! One connection to what is measured.

use anyhow::Context;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{HeaderMap, Request, Response, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::{Duration, Instant, timeout};

use crate::answer::Answer;
use crate::tally::{Ended, Window, micros};

/// What all requests of a load have in common.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) address: String,
    pub(crate) path: Uri,
    pub(crate) headers: HeaderMap,
    pub(crate) is_stream: bool,
    /// Tokens that an answer must have.
    pub(crate) tokens: usize,
    pub(crate) timeout: Duration,
    pub(crate) window: Window,
}

/// A caller with one connection, which is made anew where it breaks.
#[derive(Debug)]
pub(crate) struct Caller<'a> {
    asked: &'a Asked,
    connection: Option<SendRequest<Full<Bytes>>>,
}

impl<'a> Caller<'a> {
    pub(crate) fn new(asked: &'a Asked) -> Self {
        Self { asked, connection: None }
    }

    /// Asks and reads to the end. Times count from `due`.
    pub(crate) async fn ask(&mut self, body: Bytes, due: Instant) -> Ended {
        let mut ended = Ended {
            due,
            at: due,
            status: 0,
            problem: None,
            first_token: None,
            gaps: Vec::new(),
            tokens: 0,
        };
        let exchange = timeout(self.asked.timeout, self.exchange(body, &mut ended)).await;
        let problem = match exchange {
            Ok(Ok(problem)) => problem,
            Ok(Err(error)) => Some(format!("{error:#}")),
            Err(_) => Some(format!("nothing more after {:?}", self.asked.timeout)),
        };
        ended.at = Instant::now();
        ended.problem = problem;
        if ended.problem.is_some() {
            self.connection = None;
        }
        ended
    }

    async fn exchange(&mut self, body: Bytes, ended: &mut Ended) -> anyhow::Result<Option<String>> {
        let response = self.send(body).await?;
        ended.status = response.status().as_u16();
        let mut answer = Answer::new(self.asked.is_stream && ended.status == 200);
        let mut refusal = Vec::new();
        let mut last: Option<Instant> = None;
        let mut body = response.into_body();
        while let Some(frame) = body.frame().await {
            let frame = frame.context("the answer broke off")?;
            let Some(piece) = frame.data_ref() else { continue };
            if ended.status != 200 {
                refusal.extend_from_slice(piece);
                continue;
            }
            let tokens = answer.push(piece);
            if tokens == 0 {
                continue;
            }
            let now = Instant::now();
            if self.asked.window.holds(now) {
                ended.tokens += tokens as u64;
            }
            if self.asked.is_stream {
                ended.first_token.get_or_insert(now);
                // Tokens that came with this piece came together.
                ended.gaps.extend(last.map(|last| micros(now - last)));
                ended.gaps.extend(std::iter::repeat_n(0, tokens - 1));
                last = Some(now);
            }
        }
        if ended.status != 200 {
            let text = String::from_utf8_lossy(&refusal);
            return Ok(Some(text.chars().take(300).collect()));
        }
        Ok(answer.problem(self.asked.tokens))
    }

    async fn send(&mut self, body: Bytes) -> anyhow::Result<Response<Incoming>> {
        // A server may close what was idle, or ask for it with its last answer.
        if let Some(connection) = &mut self.connection
            && connection.ready().await.is_err()
        {
            self.connection = None;
        }
        let connection = match &mut self.connection {
            Some(connection) => connection,
            none => none.insert(connect(&self.asked.address).await.context("connecting")?),
        };
        let mut request = Request::post(self.asked.path.clone()).body(Full::new(body))?;
        *request.headers_mut() = self.asked.headers.clone();
        connection.send_request(request).await.context("sending")
    }
}

async fn connect(address: &str) -> anyhow::Result<SendRequest<Full<Bytes>>> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(async move {
        // Its end is seen where the next request is sent or the answer read.
        let _ = connection.await;
    });
    sender.ready().await?;
    Ok(sender)
}
