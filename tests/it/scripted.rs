//! A provider that says exactly what a test tells it to, for what no simulated provider does.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use tidegate::failure::{Failure, FailureKind};
use tidegate::upstream::{SendFuture, Transport, UpstreamBody, UpstreamReply, UpstreamRequest};
use tokio::time::{Sleep, sleep};

/// One answer.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    status: StatusCode,
    kind: &'static str,
    headers: Vec<(&'static str, &'static str)>,
    steps: VecDeque<Step>,
}

#[derive(Debug, Clone)]
enum Step {
    Chunk(Bytes),
    Wait(Duration),
    Reset,
    Stall,
    Panic,
    PanicInTheEnd,
}

/// Answers every request with what the function says.
struct Scripted<F>(F);

struct Body {
    steps: VecDeque<Step>,
    sleep: Option<Pin<Box<Sleep>>>,
}

// === impl Reply ===

impl Reply {
    pub(crate) fn status(status: u16) -> Self {
        let status = StatusCode::from_u16(status).unwrap();
        Self { status, kind: "application/json", headers: Vec::new(), steps: VecDeque::new() }
    }

    /// A stream, with status 200.
    pub(crate) fn stream() -> Self {
        Self { kind: "text/event-stream", ..Self::status(200) }
    }

    /// A stream that is labelled as something else.
    pub(crate) fn mislabelled_stream() -> Self {
        Self::status(200)
    }

    pub(crate) fn with(mut self, name: &'static str, value: &'static str) -> Self {
        self.headers.push((name, value));
        self
    }

    pub(crate) fn chunk(self, bytes: impl Into<Bytes>) -> Self {
        self.then(Step::Chunk(bytes.into()))
    }

    /// A chunk of OpenAI's wire with this text.
    pub(crate) fn says(self, text: &str) -> Self {
        self.chunk(chat_chunk(text))
    }

    pub(crate) fn waits(self, time: Duration) -> Self {
        self.then(Step::Wait(time))
    }

    pub(crate) fn resets(self) -> Self {
        self.then(Step::Reset)
    }

    pub(crate) fn panics(self) -> Self {
        self.then(Step::Panic)
    }

    /// Whoever lets go of the answer panics.
    pub(crate) fn panics_in_the_end(self) -> Self {
        self.then(Step::PanicInTheEnd)
    }

    pub(crate) fn stalls(self) -> Self {
        self.then(Step::Stall)
    }

    fn then(mut self, step: Step) -> Self {
        self.steps.push_back(step);
        self
    }
}

/// A chunk of OpenAI's wire with this text.
pub(crate) fn chat_chunk(text: &str) -> String {
    format!(
        "data: {{\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\
         \"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{text}\"}},\"finish_reason\":null}}]}}\n\n"
    )
}

/// The chunk of OpenAI's wire with the finish reason.
pub(crate) const CHAT_FINISH: &str = "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\
     \"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
/// The last event of OpenAI's wire.
pub(crate) const DONE: &str = "data: [DONE]\n\n";

/// A transport that answers every request with what `answer` says.
pub(crate) fn scripted<F>(answer: F) -> Arc<dyn Transport>
where
    F: Fn(&UpstreamRequest) -> Reply + Send + Sync + 'static,
{
    Arc::new(Scripted(answer))
}

// === impl Scripted ===

impl<F> fmt::Debug for Scripted<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scripted")
    }
}

impl<F: Fn(&UpstreamRequest) -> Reply + Send + Sync> Transport for Scripted<F> {
    fn send(&self, request: UpstreamRequest) -> SendFuture<'_> {
        let Reply { status, kind, headers: more, steps } = (self.0)(&request);
        let mut headers = HeaderMap::new();
        headers.insert("content-type", HeaderValue::from_static(kind));
        headers.extend(
            more.into_iter().map(|(name, value)| {
                (HeaderName::from_static(name), HeaderValue::from_static(value))
            }),
        );
        let body = Box::new(Body { steps, sleep: None });
        Box::pin(async move { Ok(UpstreamReply { status, headers, body }) })
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Body")
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        let panics = matches!(self.steps.front(), Some(Step::PanicInTheEnd));
        assert!(!panics || std::thread::panicking(), "on purpose");
    }
}

impl UpstreamBody for Body {
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Failure>>> {
        loop {
            match self.steps.front() {
                None => return Poll::Ready(None),
                Some(Step::Stall | Step::PanicInTheEnd) => return Poll::Pending,
                Some(Step::Panic) => panic!("on purpose"),
                Some(Step::Wait(time)) => {
                    let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep(*time)));
                    std::task::ready!(sleep.as_mut().poll(cx));
                    self.sleep = None;
                    self.steps.pop_front();
                }
                Some(Step::Reset) => {
                    self.steps.pop_front();
                    let failure = Failure::new(FailureKind::MidStream, "reset");
                    return Poll::Ready(Some(Err(failure)));
                }
                Some(Step::Chunk(bytes)) => {
                    let bytes = bytes.clone();
                    self.steps.pop_front();
                    return Poll::Ready(Some(Ok(bytes)));
                }
            }
        }
    }
}
