//! The wire formats: what is read can be written on every wire, a scanner sees what a decoder
//! reads, and a stream says the same however it is cut.

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use serde::de::IgnoredAny;
use tidegate::chat::{Delta, FinishReason, Usage};
use tidegate::dialect::sse::{self, FrameBuffer};
use tidegate::dialect::{
    Dialect, Dropped, FrameKind, Quirks, ReplyContext, RequestTarget, StreamSummary,
};
use tidegate::failure::{Failure, FailureKind};

use super::frames::STEPS;

/// More makes no other case, and byte by byte takes long.
const MAX_STREAM_BYTES: usize = 16 << 10;

fn context() -> ReplyContext {
    ReplyContext {
        request_id: "req_1".to_owned(),
        model: "m".to_owned(),
        created: 1,
        include_usage: true,
    }
}

fn assert_json(bytes: &[u8], what: &str) {
    if let Err(error) = serde_json::from_slice::<IgnoredAny>(bytes) {
        panic!("{what} is no JSON: {error}: {}", String::from_utf8_lossy(bytes));
    }
}

/// Whole requests, answers and errors.
pub(crate) fn whole(dialect: Dialect, bytes: &[u8]) {
    request(dialect, bytes);
    let codec = dialect.codec();
    let scanned = codec.scan_reply(bytes);
    if let Ok(completion) = codec.decode_reply(bytes) {
        if let Ok(summary) = scanned {
            assert_eq!(summary.usage, completion.usage, "scanner and decoder differ");
        }
        for to in Dialect::ALL {
            assert_json(&to.codec().encode_reply(&completion, &context()), "a reply");
        }
    }
    for status in [400, 401, 404, 413, 429, 500, 503, 529] {
        let status = StatusCode::from_u16(status).expect("a status");
        let failure = codec.decode_failure(status, &HeaderMap::new(), bytes);
        assert!(failure.message.len() <= Failure::MAX_MESSAGE_BYTES);
        assert_eq!(failure.status, Some(status));
    }
}

fn request(dialect: Dialect, bytes: &[u8]) {
    let Ok(chat) = dialect.codec().decode_request(bytes) else { return };
    let quirks = Quirks::default();
    let target =
        RequestTarget { model: "m", label: "p/m", quirks: &quirks, output_tokens: Some(100) };
    for to in Dialect::ALL {
        let mut dropped = Dropped::default();
        let Ok(wire) = to.codec().encode_request(&chat, &target, &mut dropped) else { continue };
        assert_json(&wire.body, "a request");
        assert!(wire.path.bytes().all(|byte| byte.is_ascii_graphic()), "{}", wire.path);
    }
}

/// What came of a stream.
#[derive(Debug, PartialEq)]
struct Told {
    deltas: Vec<Delta>,
    decoded: Result<(), Failure>,
    kinds: Vec<FrameKind>,
    scanned: Result<bool, Failure>,
    summary: StreamSummary,
}

/// Streamed answers.
pub(crate) fn stream(dialect: Dialect, bytes: &[u8]) {
    if bytes.len() > MAX_STREAM_BYTES {
        return;
    }
    let told = told(dialect, std::iter::once(bytes));
    for step in STEPS {
        assert_eq!(self::told(dialect, bytes.chunks(step)), told, "in pieces of {step}");
    }
    if told.decoded.is_ok() && told.scanned == Ok(true) {
        let (usage, finish) = ending(&told.deltas);
        assert_eq!(told.summary.usage, usage, "scanner and decoder differ");
        assert_eq!(told.summary.finish.is_some(), finish.is_some(), "scanner and decoder differ");
    }
    for to in Dialect::ALL {
        let mut encoder = to.codec().stream_encoder(context());
        let mut written = Vec::new();
        for delta in &told.deltas {
            encoder.push(delta, &mut written);
        }
        let mut frames = FrameBuffer::new();
        let ready = frames.push(Bytes::from(written)).expect("no frame is so large");
        assert!(frames.tail().is_empty(), "every event is whole");
        let mut decoder = to.codec().stream_decoder();
        for frame in sse::frames(&ready) {
            if let Err(failure) = decoder.push(&sse::parse(frame), &mut Vec::new()) {
                let frame = String::from_utf8_lossy(frame);
                assert_ne!(failure.kind, FailureKind::Degenerate, "{to}: {failure}: {frame}");
            }
        }
    }
}

/// Reads a stream both ways, as the gateway does: what is whole as it comes, the rest at the end.
fn told<'a>(dialect: Dialect, pieces: impl Iterator<Item = &'a [u8]>) -> Told {
    let codec = dialect.codec();
    let (mut decoder, mut scanner) = (codec.stream_decoder(), codec.scanner());
    let mut buffer = FrameBuffer::new();
    let (mut deltas, mut kinds) = (Vec::new(), Vec::new());
    let (mut decoded, mut scanned) = (Ok(()), Ok(()));
    let mut take = |ready: &[u8]| {
        for frame in sse::frames(ready) {
            decoded = decoded.clone().and_then(|()| decoder.push(&sse::parse(frame), &mut deltas));
            scanned =
                scanned.clone().and_then(|()| scanner.scan(frame).map(|kind| kinds.push(kind)));
        }
    };
    for piece in pieces {
        take(&buffer.push(Bytes::copy_from_slice(piece)).expect("no frame is so large"));
    }
    take(&buffer.take_tail());
    let decoded = decoded.and_then(|()| decoder.finish(&mut deltas));
    let scanned = scanned.map(|()| scanner.is_complete());
    // Blank lines are frames of their own or a part of the next one, as they come.
    kinds.retain(|kind| *kind != FrameKind::Preamble);
    Told { deltas, decoded, kinds, scanned, summary: scanner.summary().clone() }
}

fn ending(deltas: &[Delta]) -> (Option<Usage>, Option<FinishReason>) {
    let (mut counted, mut finish) = (None, None);
    for delta in deltas {
        if let Delta::Usage { usage } = delta {
            counted = Some(*usage);
        } else if let Delta::Finish { reason, .. } = delta {
            finish.get_or_insert_with(|| reason.clone());
        }
    }
    (counted, finish)
}
