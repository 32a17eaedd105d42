//! Server-sent events: the same frames however the bytes are cut.

use bytes::Bytes;
use tidegate::dialect::sse::{self, FrameBuffer};

/// The sizes of pieces in which a stream is read once more.
pub(crate) const STEPS: [usize; 5] = [1, 2, 3, 7, 61];

/// All frames of pieces, and what is left over.
fn framed<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<u8>, Vec<Vec<u8>>, Vec<u8>) {
    let mut buffer = FrameBuffer::new();
    let (mut whole, mut frames) = (Vec::new(), Vec::new());
    for piece in pieces {
        let ready = buffer.push(Bytes::copy_from_slice(piece)).expect("no frame is so large");
        frames.extend(sse::frames(&ready).map(<[u8]>::to_vec));
        whole.extend_from_slice(&ready);
    }
    let tail = buffer.take_tail();
    whole.extend_from_slice(&tail);
    (whole, frames, tail.to_vec())
}

pub(crate) fn sse(bytes: &[u8]) {
    let (whole, frames, tail) = framed(std::iter::once(bytes));
    assert_eq!(whole, bytes, "bytes were lost, or made");
    for frame in &frames {
        let event = sse::parse(frame);
        // What is no text becomes a sign of three bytes for each.
        assert!(event.data.len() <= 3 * frame.len());
        sse::first_data(frame);
    }
    let said = |frames: &[Vec<u8>]| -> Vec<(String, String)> {
        let events = frames.iter().map(|frame| sse::parse(frame));
        let told = events.filter(|event| !event.name.is_empty() || !event.data.is_empty());
        told.map(|event| (event.name.to_owned(), event.data.into_owned())).collect()
    };
    for step in STEPS {
        let (again, cut, rest) = framed(bytes.chunks(step));
        assert_eq!(again, bytes, "bytes were lost, or made, in pieces of {step}");
        assert_eq!(said(&cut), said(&frames), "pieces of {step} say something else");
        assert_eq!(sse::parse(&rest), sse::parse(&tail), "pieces of {step} leave something else");
    }
}
