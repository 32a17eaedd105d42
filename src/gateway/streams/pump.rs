//! What carries an answer into its ring, whoever reads it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use http_body::Body;

use super::Kept;
use super::stream::Stream;
use crate::dialect::sse;
use crate::dispatch::AnswerStream;
use crate::rejection::Rejection;

/// Events taken before other tasks get their turn.
const EVENTS_A_TURN: usize = 64;

/// Where a pump takes events from.
pub(super) trait Source: Unpin + Send + 'static {
    /// The next whole events; `None` at the end.
    fn poll_events(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>>;

    /// Ends the answer when it has to be over, and says with what. Asked where there is no room for
    /// more events.
    fn poll_overdue(&mut self, cx: &mut Context<'_>) -> Poll<Rejection>;

    /// Whether the end of the answer was among those that were given out.
    fn has_told_its_end(&self) -> bool;
}

/// The task of a stream.
pub(super) struct Pump<S: Source> {
    /// `None` once the stream is over.
    source: Option<S>,
    /// Events that came and were not taken yet.
    rest: Bytes,
    stream: Arc<Stream>,
    kept: Arc<Kept>,
}

// === impl AnswerStream ===

impl Source for Box<AnswerStream> {
    fn poll_events(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let polled = Pin::new(&mut **self).poll_frame(cx);
        // It gives out data only, and its errors cannot be.
        polled.map(|frame| frame?.ok()?.into_data().ok())
    }

    fn poll_overdue(&mut self, cx: &mut Context<'_>) -> Poll<Rejection> {
        AnswerStream::poll_overdue(self, cx)
    }

    fn has_told_its_end(&self) -> bool {
        AnswerStream::has_told_its_end(self)
    }
}

// === impl Pump ===

impl<S: Source> Pump<S> {
    pub(super) fn new(source: S, stream: Arc<Stream>, kept: Arc<Kept>) -> Self {
        Self { source: Some(source), rest: Bytes::new(), stream, kept }
    }

    /// Takes one event or asks for more; ready at the end.
    fn step(&mut self, cx: &mut Context<'_>) -> Step {
        let Some(source) = &mut self.source else { return Step::Over };
        if self.stream.attend(cx.waker()) {
            self.end(Some(&Rejection::StreamCancelled));
            return Step::Over;
        }
        if let Some(frame) = sse::frames(&self.rest).next() {
            if !self.stream.push(frame) {
                // A reader that has stalled does not stop the clock of the request.
                if let Poll::Ready(rejection) = source.poll_overdue(cx) {
                    self.end(Some(&rejection));
                    return Step::Over;
                }
                return Step::Waiting;
            }
            let taken = frame.len();
            self.rest.advance(taken);
            return Step::More;
        }
        match source.poll_events(cx) {
            Poll::Pending => Step::Waiting,
            Poll::Ready(Some(events)) => {
                self.rest = events;
                Step::More
            }
            Poll::Ready(None) => {
                self.end(None);
                Step::Over
            }
        }
    }

    /// Ends the stream. Where its end was not told yet, `rejection` says why there is none.
    fn end(&mut self, rejection: Option<&Rejection>) {
        let Some(source) = self.source.take() else { return };
        let is_told = source.has_told_its_end() && self.rest.is_empty();
        // Cancels what still goes on and settles the account before anybody is told.
        drop(source);
        self.stream.end(rejection.filter(|_| !is_told));
        self.kept.ended(&self.stream.opened.id);
    }
}

/// What became of a step.
enum Step {
    More,
    Waiting,
    Over,
}

impl<S: Source> Future for Pump<S> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let pump = self.get_mut();
        for _ in 0..EVENTS_A_TURN {
            match pump.step(cx) {
                Step::More => {}
                Step::Waiting => return Poll::Pending,
                Step::Over => return Poll::Ready(()),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl<S: Source> Drop for Pump<S> {
    /// The runtime ends before the stream does.
    fn drop(&mut self) {
        self.end(Some(&Rejection::Draining));
    }
}
