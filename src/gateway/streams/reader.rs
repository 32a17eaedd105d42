//! A reader of a stream, as the body of a reply.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame};

use super::stream::Stream;

/// The events of a stream from some place on, those to come included. Dropping it leaves the stream
/// as it is.
#[derive(Debug)]
pub struct Reader {
    stream: Arc<Stream>,
    key: u64,
}

// === impl Reader ===

impl Reader {
    pub(super) fn new(stream: Arc<Stream>, key: u64) -> Self {
        Self { stream, key }
    }
}

impl Body for Reader {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let polled = self.stream.poll_read(self.key, cx);
        polled.map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.stream.leave(self.key);
    }
}
