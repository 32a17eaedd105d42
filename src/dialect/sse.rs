//! Server-sent events: bytes to frames, frames to events.
//!
//! A *frame* is everything up to and including a blank line, as it came. Line ends may be LF, CRLF
//! or CR, mixed. Frames are found without looking at what they mean, so that a scanner sees whole
//! frames and the wire sees the same bytes. Format:
//! <https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream>.

use std::borrow::Cow;

use bytes::{Bytes, BytesMut};
use memchr::{memchr2, memchr2_iter};

use crate::failure::{Failure, FailureKind};

#[cfg(test)]
mod tests;

/// The largest frame that is waited for. Frames carry a delta each; a megabyte of base64 audio is
/// the largest seen, and a provider that sends more without a blank line is broken.
pub const MAX_FRAME_BYTES: usize = 16 * 1024 * 1024;

/// A byte-order mark, which may open a stream.
const BOM: &[u8] = b"\xEF\xBB\xBF";

/// One event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SseEvent<'a> {
    /// The `event:` field; empty where absent.
    pub name: &'a str,
    /// The `data:` lines, joined by LF; empty where absent (a comment, for instance).
    pub data: Cow<'a, str>,
}

/// Cuts what arrives at frame boundaries. Usually a chunk holds whole frames and is handed on as
/// it is; only an unfinished tail is kept, and no byte is looked at twice.
#[derive(Debug)]
pub struct FrameBuffer {
    tail: BytesMut,
    /// Whether nothing has come yet since the last line end.
    line_is_empty: bool,
    after_cr: AfterCr,
}

/// What a CR at the very end of what came has done; an LF that follows belongs to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AfterCr {
    No,
    LineEnd,
    FrameEnd,
}

/// The frames of bytes that [`FrameBuffer::push`] returned.
#[derive(Debug, Clone)]
pub struct Frames<'a> {
    rest: &'a [u8],
}

/// The length of the first whole frame of `bytes`, its blank line included; `None` where it has
/// not all arrived. Blank lines before any field belong to the frame after them.
pub fn frame_len(bytes: &[u8]) -> Option<usize> {
    frame_len_from(bytes, 0)
}

/// As [`frame_len`], for a frame of which the first `scanned` bytes are known to hold no end. The
/// last three of those are looked at again, because a blank line may straddle.
pub fn frame_len_from(bytes: &[u8], scanned: usize) -> Option<usize> {
    // Nearly every frame is one line and a blank one.
    if scanned == 0
        && let Some(at) = memchr2(b'\n', b'\r', bytes).filter(|at| *at > 0)
        && bytes.get(at..at + 2) == Some(b"\n\n")
    {
        return Some(at + 2);
    }
    let start = scanned.saturating_sub(3);
    let mut line_start = if start == 0 { 0 } else { usize::MAX };
    let mut content = start > 0;
    for offset in memchr2_iter(b'\n', b'\r', bytes.get(start..)?) {
        let at = start + offset;
        let is_lf = bytes.get(at) == Some(&b'\n');
        if is_lf && at > 0 && bytes.get(at - 1) == Some(&b'\r') {
            // The second half of a CRLF whose first half ended the line already.
            line_start = at + 1;
            continue;
        }
        if line_start == usize::MAX {
            // The line's start lies before the window: whether it is blank shows its last byte.
            line_start = bytes
                .get(..at)
                .and_then(|before| memchr::memrchr2(b'\n', b'\r', before))
                .map_or(0, |end| end + 1);
        }
        let blank = at == line_start;
        if blank && content {
            // A CR may be followed by the LF that belongs to it.
            let crlf = !is_lf && bytes.get(at + 1) == Some(&b'\n');
            if !is_lf && at + 1 == bytes.len() {
                return None;
            }
            return Some(at + 1 + usize::from(crlf));
        }
        content |= !blank;
        line_start = at + 1;
    }
    None
}

/// Reads one frame. Comments, unknown fields and a byte-order mark are skipped; bytes that are not
/// UTF-8 become U+FFFD, as the format demands.
pub fn parse(frame: &[u8]) -> SseEvent<'_> {
    if let Some(data) = only_data(frame).filter(|data| memchr2(b'\n', b'\r', data).is_none()) {
        return SseEvent { name: "", data: text_of(data) };
    }
    let mut event = SseEvent::default();
    let mut rest = begun(frame);
    let mut has_data = false;
    while !rest.is_empty() {
        let end = memchr2(b'\n', b'\r', rest).unwrap_or(rest.len());
        let (line, tail) = rest.split_at(end);
        rest = tail.get(1..).unwrap_or_default();
        let Some(colon) = memchr::memchr(b':', line) else {
            continue;
        };
        let (field, value) = line.split_at(colon);
        let value = value.get(1..).unwrap_or_default();
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match field {
            b"data" if !has_data => {
                event.data = text_of(value);
                has_data = true;
            }
            b"data" => {
                let data = event.data.to_mut();
                data.push('\n');
                data.push_str(&text_of(value));
            }
            b"event" => event.name = std::str::from_utf8(value).unwrap_or_default(),
            _ => {}
        }
    }
    event
}

/// Text of bytes. Providers send UTF-8 nearly always, which is faster to see than to mend.
fn text_of(bytes: &[u8]) -> Cow<'_, str> {
    std::str::from_utf8(bytes).map_or_else(|_| String::from_utf8_lossy(bytes), Cow::Borrowed)
}

/// A frame from its first field on. Blank lines come with the frame after them or before it, as the
/// bytes were cut, so a byte-order mark behind them is one, too.
fn begun(frame: &[u8]) -> &[u8] {
    let blank = frame.iter().take_while(|byte| matches!(byte, b'\n' | b'\r')).count();
    let rest = frame.get(blank..).unwrap_or_default();
    rest.strip_prefix(BOM).unwrap_or(rest)
}

/// Reads a frame's first `data:` value as bytes, without joining further lines: what scanners use.
/// `None` for a frame without data.
pub fn first_data(frame: &[u8]) -> Option<&[u8]> {
    let value = from_first_data(frame)?;
    value.get(..memchr2(b'\n', b'\r', value).unwrap_or(value.len()))
}

/// A frame from its first `data:` value on, to the frame's end.
pub(super) fn from_first_data(frame: &[u8]) -> Option<&[u8]> {
    let mut rest = begun(frame);
    loop {
        if let Some(value) = rest.strip_prefix(b"data:") {
            return Some(value.strip_prefix(b" ").unwrap_or(value));
        }
        let next = memchr2(b'\n', b'\r', rest)? + 1;
        rest = rest.get(next..)?;
    }
}

/// What stands between `data: ` and the blank line of a frame that begins and ends as nearly all
/// do. Where it holds a line end, the frame has further lines.
pub(super) fn only_data(frame: &[u8]) -> Option<&[u8]> {
    frame.strip_prefix(b"data: ")?.strip_suffix(b"\n\n")
}

/// The frames of bytes that [`FrameBuffer::push`] returned, one after the other without a gap.
pub fn frames(whole: &[u8]) -> Frames<'_> {
    Frames { rest: whole }
}

/// Appends an event with an optional name and one line of data.
pub fn write(out: &mut Vec<u8>, name: &str, data: &[u8]) {
    if !name.is_empty() {
        out.extend_from_slice(b"event: ");
        out.extend_from_slice(name.as_bytes());
        out.push(b'\n');
    }
    out.extend_from_slice(b"data: ");
    out.extend_from_slice(data);
    out.extend_from_slice(b"\n\n");
}

// === impl FrameBuffer ===

impl FrameBuffer {
    /// Nothing has arrived.
    pub fn new() -> Self {
        Self { tail: BytesMut::new(), line_is_empty: true, after_cr: AfterCr::No }
    }

    /// Takes what arrived and returns all frames that are whole now as one piece, empty where none
    /// is. Where the chunk ends with a frame, which is usual, it is returned as it came; at most a
    /// chunk's beginning is copied, to the tail that waited for it.
    ///
    /// # Errors
    ///
    /// [`FailureKind::MidStream`] for a frame larger than [`MAX_FRAME_BYTES`].
    pub fn push(&mut self, chunk: Bytes) -> Result<Bytes, Failure> {
        if self.tail.is_empty() && chunk.ends_with(b"\n\n") {
            self.line_is_empty = true;
            self.after_cr = AfterCr::No;
            return Ok(chunk);
        }
        let end = self.last_end(&chunk);
        let kept = chunk.len() - end.unwrap_or(0);
        let waiting = if end.is_none() { self.tail.len() } else { 0 };
        if waiting + kept > MAX_FRAME_BYTES {
            let limit = MAX_FRAME_BYTES >> 20;
            let message = format!("the provider sent an event larger than {limit} MiB");
            return Err(Failure::new(FailureKind::MidStream, message));
        }
        let Some(end) = end else {
            self.tail.extend_from_slice(&chunk);
            return Ok(Bytes::new());
        };
        let whole = if self.tail.is_empty() {
            chunk.slice(..end)
        } else {
            self.tail.extend_from_slice(chunk.get(..end).unwrap_or_default());
            self.tail.split().freeze()
        };
        self.tail.extend_from_slice(chunk.get(end..).unwrap_or_default());
        Ok(whole)
    }

    /// What waits for its end. When the connection has ended this is the last frame: some
    /// providers leave its blank line out.
    pub fn tail(&self) -> &[u8] {
        &self.tail
    }

    /// As [`FrameBuffer::tail`], to forward it.
    pub fn take_tail(&mut self) -> Bytes {
        self.line_is_empty = true;
        self.after_cr = AfterCr::No;
        self.tail.split().freeze()
    }

    /// The end of the last whole frame in `chunk`, which follows on all that came before; 0 where
    /// a frame was whole before it.
    fn last_end(&mut self, chunk: &[u8]) -> Option<usize> {
        let mut last = None;
        let mut line_start = 0;
        for at in memchr2_iter(b'\n', b'\r', chunk) {
            let is_lf = chunk.get(at) == Some(&b'\n');
            let is_adjacent = at == line_start;
            let after_cr = std::mem::replace(&mut self.after_cr, AfterCr::No);
            if is_adjacent && is_lf && after_cr != AfterCr::No {
                line_start = at + 1;
                if after_cr == AfterCr::FrameEnd {
                    last = Some(line_start);
                }
                continue;
            }
            if after_cr == AfterCr::FrameEnd {
                // No LF followed the CR, so the frame ended right after it.
                last = Some(line_start);
            }
            let is_blank = is_adjacent && self.line_is_empty;
            self.line_is_empty = true;
            line_start = at + 1;
            match (is_lf, is_blank) {
                (true, true) => last = Some(line_start),
                (true, false) => {}
                (false, true) => self.after_cr = AfterCr::FrameEnd,
                (false, false) => self.after_cr = AfterCr::LineEnd,
            }
        }
        if line_start < chunk.len() {
            if self.after_cr == AfterCr::FrameEnd {
                last = Some(line_start);
            }
            self.line_is_empty = false;
            self.after_cr = AfterCr::No;
        }
        last
    }
}

impl Default for FrameBuffer {
    fn default() -> Self {
        Self::new()
    }
}

// === impl Frames ===

impl<'a> Iterator for Frames<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if self.rest.is_empty() {
            return None;
        }
        let end = frame_len(self.rest).unwrap_or(self.rest.len());
        let (frame, rest) = self.rest.split_at_checked(end)?;
        self.rest = rest;
        Some(frame)
    }
}
