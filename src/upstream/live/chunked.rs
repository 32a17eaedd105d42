//! The chunked transfer coding, one way: coded bytes in, body bytes out (RFC 9112, section 7.1).

use bytes::BytesMut;

/// Where in the coding the decoder stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// In the digits of a chunk's size; `seen` once there was one.
    Size { seen: bool },
    /// After the digits, up to the line's end: an extension, which means nothing to us.
    Extension,
    /// In a chunk's bytes.
    Data,
    /// At the line's end after a chunk's bytes.
    DataEnd,
    /// In the trailer section; `line_empty` until the line has a byte.
    Trailer { line_empty: bool },
    /// After everything.
    End,
}

/// Takes the coding off, whatever way the bytes are cut.
#[derive(Debug)]
pub(super) struct ChunkedDecoder {
    state: State,
    /// Bytes left of the current chunk, or its size as far as it was read.
    left: u64,
    /// Bytes of extensions and trailers so far, bounded by [`MAX_OVERHEAD_BYTES`].
    overhead: usize,
}

/// Not the coding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("broken chunked coding")]
pub(super) struct BrokenCoding;

/// The most extensions and trailers may measure together in one body; no provider sends any.
const MAX_OVERHEAD_BYTES: usize = 64 * 1024;

// === impl ChunkedDecoder ===

impl ChunkedDecoder {
    pub(super) fn new() -> Self {
        Self { state: State::Size { seen: false }, left: 0, overhead: 0 }
    }

    /// Whether the last chunk and the trailers were seen.
    pub(super) fn is_end(&self) -> bool {
        self.state == State::End
    }

    /// Reads `coded` and appends the body's bytes to `out`. Returns how many of `coded` belong to
    /// this body: fewer than all only at its end.
    pub(super) fn decode(
        &mut self,
        coded: &[u8],
        out: &mut BytesMut,
    ) -> Result<usize, BrokenCoding> {
        let mut at = 0;
        while self.state != State::End {
            let Some(rest) = coded.get(at..).filter(|rest| !rest.is_empty()) else {
                break;
            };
            if self.state == State::Data {
                let here = usize::try_from(self.left).unwrap_or(usize::MAX).min(rest.len());
                if out.is_empty() {
                    // Once for all chunks that one read has brought.
                    out.reserve(rest.len());
                }
                out.extend_from_slice(rest.get(..here).unwrap_or_default());
                at += here;
                self.left -= here as u64;
                if self.left == 0 {
                    self.state = State::DataEnd;
                }
            } else {
                let byte = rest.first().copied().ok_or(BrokenCoding)?;
                self.state = self.step(byte)?;
                at += 1;
            }
        }
        Ok(at)
    }

    /// One byte outside of a chunk's bytes.
    fn step(&mut self, byte: u8) -> Result<State, BrokenCoding> {
        Ok(match (self.state, byte) {
            (State::Size { .. }, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                let digit = (byte as char).to_digit(16).ok_or(BrokenCoding)?;
                if self.left >> 56 != 0 {
                    return Err(BrokenCoding);
                }
                self.left = self.left << 4 | u64::from(digit);
                State::Size { seen: true }
            }
            (State::Size { seen: true } | State::Extension, b'\n') => self.after_size(),
            (State::Size { seen: true }, b';' | b' ' | b'\t' | b'\r') => State::Extension,
            (State::Extension, _) => {
                self.count_overhead()?;
                State::Extension
            }
            (State::DataEnd, b'\r') => State::DataEnd,
            (State::DataEnd, b'\n') => State::Size { seen: false },
            (State::Trailer { line_empty: true }, b'\n') => State::End,
            (State::Trailer { .. }, b'\n') => State::Trailer { line_empty: true },
            (State::Trailer { line_empty }, b'\r') => State::Trailer { line_empty },
            (State::Trailer { .. }, _) => {
                self.count_overhead()?;
                State::Trailer { line_empty: false }
            }
            (State::Size { .. } | State::Data | State::DataEnd | State::End, _) => {
                return Err(BrokenCoding);
            }
        })
    }

    fn after_size(&self) -> State {
        if self.left == 0 { State::Trailer { line_empty: true } } else { State::Data }
    }

    fn count_overhead(&mut self) -> Result<(), BrokenCoding> {
        self.overhead += 1;
        if self.overhead > MAX_OVERHEAD_BYTES { Err(BrokenCoding) } else { Ok(()) }
    }
}
