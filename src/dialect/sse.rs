//! Server-sent events: bytes to frames, frames to events.
//!
//! A *frame* is everything up to and including a blank line, as it came. Line ends may be LF, CRLF
//! or CR, mixed. Frames are found without looking at what they mean, so that a scanner sees whole
//! frames and the wire sees the same bytes. Format:
//! <https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream>.

use std::borrow::Cow;

use memchr::{memchr2, memchr2_iter};

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

/// The length of the first whole frame of `bytes`, its blank line included; `None` where it has
/// not all arrived. Blank lines before any field belong to the frame after them.
pub fn frame_len(bytes: &[u8]) -> Option<usize> {
    frame_len_from(bytes, 0)
}

/// As [`frame_len`], for a frame of which the first `scanned` bytes are known to hold no end. The
/// last three of those are looked at again, because a blank line may straddle.
pub fn frame_len_from(bytes: &[u8], scanned: usize) -> Option<usize> {
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
    let mut event = SseEvent::default();
    let mut rest = frame.strip_prefix(BOM).unwrap_or(frame);
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
                event.data = String::from_utf8_lossy(value);
                has_data = true;
            }
            b"data" => {
                let data = event.data.to_mut();
                data.push('\n');
                data.push_str(&String::from_utf8_lossy(value));
            }
            b"event" => event.name = std::str::from_utf8(value).unwrap_or_default(),
            _ => {}
        }
    }
    event
}

/// Reads a frame's first `data:` value as bytes, without joining further lines: what scanners use.
/// `None` for a frame without data.
pub fn first_data(frame: &[u8]) -> Option<&[u8]> {
    let value = from_first_data(frame)?;
    value.get(..memchr2(b'\n', b'\r', value).unwrap_or(value.len()))
}

/// A frame from its first `data:` value on, to the frame's end.
pub(super) fn from_first_data(frame: &[u8]) -> Option<&[u8]> {
    let mut rest = frame.strip_prefix(BOM).unwrap_or(frame);
    loop {
        if let Some(value) = rest.strip_prefix(b"data:") {
            return Some(value.strip_prefix(b" ").unwrap_or(value));
        }
        let next = memchr2(b'\n', b'\r', rest)? + 1;
        rest = rest.get(next..)?;
    }
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
