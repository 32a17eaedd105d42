//! An answer's body, read by whoever wants it.

use std::cell::RefCell;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, StatusCode};
use tokio::io::{AsyncRead, ReadBuf};

use super::chunked::ChunkedDecoder;
use super::connection::Connection;
use super::head::Head;
use super::pool::Pool;
use crate::catalog::Origin;
use crate::failure::{Failure, FailureKind};
use crate::upstream::UpstreamBody;

/// How much one read takes. A provider that is far ahead is read in several goes.
const READ_BYTES: usize = 32 * 1024;

thread_local! {
    /// Where reads land before their bytes are cut to size. One a thread, not one a stream, because
    /// thousands of streams wait for their next token and few are read at the same moment.
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_BYTES]);
}

/// How an answer says where its body ends.
#[derive(Debug)]
pub(super) enum Framing {
    /// By its length; this much is left.
    Length(u64),
    /// By the chunked coding.
    Chunked(ChunkedDecoder),
    /// By closing the connection, so that a cut cannot be told from the end.
    UntilClose,
}

/// An answer's body and the connection it comes over.
#[derive(Debug)]
pub(super) struct LiveBody {
    /// `None` once the body was read to its end or failed.
    connection: Option<Connection>,
    framing: Framing,
    /// Where the connection goes afterwards; `None` where it cannot be used again.
    home: Option<(Arc<Pool>, Origin)>,
}

// === impl Framing ===

impl Framing {
    /// RFC 9112, section 6.3. A head that says it in two ways is refused and its connection closed:
    /// who reads it the other way would take the rest of this answer for the next one, which is
    /// another caller's.
    ///
    /// # Errors
    ///
    /// What is wrong with the head.
    pub(super) fn of(head: &Head) -> Result<Self, &'static str> {
        if matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
            return Ok(Self::Length(0));
        }
        let length = length(&head.headers)?;
        let mut codings = head.headers.get_all(TRANSFER_ENCODING).iter();
        match (codings.next(), codings.next(), length) {
            (None, _, Some(length)) => Ok(Self::Length(length)),
            (None, _, None) => Ok(Self::UntilClose),
            (Some(_), _, Some(_)) => Err("the answer has a length and a transfer coding"),
            (Some(coding), None, None) if coding.as_bytes().eq_ignore_ascii_case(b"chunked") => {
                Ok(Self::Chunked(ChunkedDecoder::new()))
            }
            (Some(_), _, None) => Err("the answer has a transfer coding that was not asked for"),
        }
    }

    fn is_end(&self) -> bool {
        match self {
            Self::Length(left) => *left == 0,
            Self::Chunked(decoder) => decoder.is_end(),
            Self::UntilClose => false,
        }
    }

    /// Takes the body's bytes out of `raw`; returns how many of `raw` belong to it.
    fn take(&mut self, raw: &[u8], out: &mut BytesMut) -> Result<usize, Failure> {
        match self {
            Self::Length(left) => {
                let here = usize::try_from(*left).unwrap_or(usize::MAX).min(raw.len());
                out.extend_from_slice(raw.get(..here).unwrap_or_default());
                *left -= here as u64;
                Ok(here)
            }
            Self::Chunked(decoder) => {
                decoder.decode(raw, out).map_err(|error| cut(&error.to_string()))
            }
            Self::UntilClose => {
                out.extend_from_slice(raw);
                Ok(raw.len())
            }
        }
    }
}

/// The length that a head says, in one number however often.
fn length(headers: &HeaderMap) -> Result<Option<u64>, &'static str> {
    let mut said = None;
    for value in headers.get_all(CONTENT_LENGTH) {
        let digits = value.to_str().ok().filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
        let length = digits.and_then(|digits| digits.parse().ok());
        match (length, said) {
            (None, _) => return Err("the answer's length is no number"),
            (Some(length), Some(before)) if length != before => {
                return Err("the answer has two lengths");
            }
            (Some(_), _) => said = length,
        }
    }
    Ok(said)
}

// === impl LiveBody ===

impl LiveBody {
    pub(super) fn new(
        mut connection: Connection,
        framing: Framing,
        home: Option<(Arc<Pool>, Origin)>,
    ) -> Self {
        connection.release();
        Self { connection: Some(connection), framing, home }
    }

    /// Gives the connection back, if it can be used again.
    fn end(&mut self) {
        let reusable = !matches!(self.framing, Framing::UntilClose);
        if let (Some(connection), Some((pool, origin)), true) =
            (self.connection.take(), self.home.take(), reusable)
        {
            pool.put(origin, connection);
        }
    }

    /// What was read together with the head.
    fn take_buffered(&mut self, out: &mut BytesMut) -> Result<(), Failure> {
        let Some(connection) = &mut self.connection else { return Ok(()) };
        if !connection.buffer.is_empty() {
            let taken = self.framing.take(&connection.buffer, out)?;
            connection.consume(taken);
            connection.release();
        }
        Ok(())
    }

    /// Reads once. `Ok(false)` at the end of the connection.
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut BytesMut,
    ) -> Poll<Result<bool, Failure>> {
        let Some(connection) = &mut self.connection else { return Poll::Ready(Ok(false)) };
        SCRATCH.with_borrow_mut(|scratch| {
            let mut read = ReadBuf::new(scratch);
            if let Err(error) = ready!(Pin::new(&mut connection.stream).poll_read(cx, &mut read)) {
                return Poll::Ready(Err(cut(&error.to_string())));
            }
            let raw = read.filled();
            let taken = self.framing.take(raw, out)?;
            // What follows the body was not asked for: it makes the connection unfit for reuse.
            connection.buffer.extend_from_slice(raw.get(taken..).unwrap_or_default());
            Poll::Ready(Ok(!raw.is_empty()))
        })
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Failure>>> {
        let mut out = BytesMut::new();
        self.take_buffered(&mut out)?;
        loop {
            if self.framing.is_end() {
                self.end();
                return Poll::Ready((!out.is_empty()).then(|| Ok(out.freeze())));
            }
            if self.connection.is_none() {
                return Poll::Ready(None);
            }
            // One successful read is all that is ready: readiness is edge-triggered, and a second
            // read would mostly be a system call that says "try again".
            if !out.is_empty() {
                return Poll::Ready(Some(Ok(out.freeze())));
            }
            if !ready!(self.poll_read(cx, &mut out))? {
                return Poll::Ready(self.closed());
            }
        }
    }

    /// The peer closed the connection.
    fn closed(&mut self) -> Option<Result<Bytes, Failure>> {
        self.connection = None;
        match self.framing {
            Framing::UntilClose => None,
            Framing::Length(_) | Framing::Chunked(_) => {
                Some(Err(cut("the connection closed within the body")))
            }
        }
    }
}

impl UpstreamBody for LiveBody {
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Failure>>> {
        let polled = self.poll(cx);
        if let Poll::Ready(Some(Err(_))) = polled {
            self.connection = None;
        }
        polled
    }
}

fn cut(problem: &str) -> Failure {
    Failure::new(FailureKind::MidStream, problem)
}
