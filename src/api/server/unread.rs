//! A connection whose peer takes nothing more is given up.
//!
//! A body is polled only while there is room to write it, so a caller who stops reading also stops
//! every clock of its own request, and would hold an upstream connection for as long as it likes. A
//! stream therefore says when it has to be over, and here that is seen to.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep_until};

use crate::clock::Instant;
use crate::dispatch::Expiry;

/// A socket that fails when a write has waited too long.
#[derive(Debug)]
pub(super) struct Unread<S> {
    socket: S,
    within: Duration,
    /// Runs while a write waits; a socket that is read has none.
    overdue: Option<Overdue>,
    answer: Answer,
}

/// A write that waits.
#[derive(Debug)]
struct Overdue {
    since: Instant,
    alarm: Pin<Box<Sleep>>,
}

/// When the answer that a connection is at has to be over, if that is known.
#[derive(Debug, Clone, Default)]
pub(super) struct Answer(Arc<Mutex<Option<Expiry>>>);

impl Answer {
    /// Notes the answer that the connection is at.
    pub(super) fn set(&self, expiry: Option<Expiry>) {
        *self.0.lock() = expiry;
    }

    fn deadline(&self) -> Option<Instant> {
        self.0.lock().as_ref().and_then(Expiry::get)
    }
}

impl<S> Unread<S> {
    pub(super) fn new(socket: S, within: Duration, answer: Answer) -> Self {
        Self { socket, within, overdue: None, answer }
    }

    fn check<T>(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.overdue = None;
            return written;
        }
        let overdue = self.overdue.get_or_insert_with(|| {
            let since = Instant::now();
            Overdue { since, alarm: Box::pin(sleep_until(since + self.within)) }
        });
        let deadline = self.answer.deadline();
        let until = overdue.since + self.within;
        let until = deadline.map_or(until, |deadline| until.min(deadline));
        if overdue.alarm.deadline() != until {
            overdue.alarm.as_mut().reset(until);
        }
        overdue.alarm.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Unread<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Unread<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write(cx, bytes);
        self.check(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write_vectored(cx, slices);
        self.check(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_reads_slowly_is_waited_for_and_one_that_does_not_is_not() {
        let (near, mut far) = tokio::io::duplex(10);
        let mut socket = Unread::new(near, Duration::from_secs(60), Answer::default());
        let started = Instant::now();
        let slow = async {
            for _ in 0..5 {
                tokio::time::sleep(Duration::from_secs(50)).await;
                far.read_exact(&mut [0; 10]).await.unwrap();
            }
            far
        };
        let (written, _far) = tokio::join!(socket.write_all(&[0; 60]), slow);
        written.unwrap();
        assert_eq!(started.elapsed().as_secs(), 250);
        let error = socket.write_all(&[0; 10]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(started.elapsed().as_secs(), 310);
    }
}
