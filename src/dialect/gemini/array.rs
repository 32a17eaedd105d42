//! A stream without `alt=sse`: one JSON array, taken apart as it arrives.

use bytes::{Buf, Bytes, BytesMut};

use crate::dialect::sse::MAX_FRAME_BYTES;
use crate::failure::{Failure, FailureKind};

/// Takes a JSON array of objects apart, in pieces of any size. The text of each object is what an
/// event's data would be.
#[derive(Debug, Default)]
pub struct JsonArrayReader {
    buffer: BytesMut,
    /// Bytes of the buffer that were looked at.
    scanned: usize,
    /// Open brackets and braces of the object that the buffer begins with.
    depth: usize,
    in_text: bool,
    escaped: bool,
    is_closed: bool,
}

impl JsonArrayReader {
    /// Adds what arrived.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole object; `None` where it has not all arrived.
    ///
    /// # Errors
    ///
    /// [`FailureKind::MidStream`] where the bytes are no array of objects, or one object is larger
    /// than [`MAX_FRAME_BYTES`].
    pub fn next_object(&mut self) -> Result<Option<Bytes>, Failure> {
        if self.depth == 0 {
            self.skip_separators()?;
        }
        while let Some(&byte) = self.buffer.get(self.scanned) {
            self.scanned += 1;
            if self.in_text {
                match byte {
                    _ if self.escaped => self.escaped = false,
                    b'\\' => self.escaped = true,
                    b'"' => self.in_text = false,
                    _ => {}
                }
                continue;
            }
            match byte {
                b'"' => self.in_text = true,
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' => {
                    self.depth = self.depth.saturating_sub(1);
                    if self.depth == 0 {
                        let object = self.buffer.split_to(self.scanned).freeze();
                        self.scanned = 0;
                        return Ok(Some(object));
                    }
                }
                _ => {}
            }
        }
        if self.buffer.len() > MAX_FRAME_BYTES {
            return Err(failure("an object of the stream is too large"));
        }
        Ok(None)
    }

    /// Whether the array's closing bracket was seen.
    pub fn is_closed(&self) -> bool {
        self.is_closed
    }

    fn skip_separators(&mut self) -> Result<(), Failure> {
        while let Some(&byte) = self.buffer.first() {
            match byte {
                b'{' => return Ok(()),
                b']' => self.is_closed = true,
                b'[' | b',' | b' ' | b'\t' | b'\r' | b'\n' => {}
                _ => return Err(failure("the stream is no array of JSON objects")),
            }
            self.buffer.advance(1);
        }
        Ok(())
    }
}

fn failure(problem: &str) -> Failure {
    Failure::new(FailureKind::MidStream, problem)
}
