//! A request's body: whole, bounded in size, and in time.

use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http::header::CONTENT_ENCODING;
use http::{HeaderMap, HeaderValue};
use http_body::Body as _;
use http_body_util::BodyExt;

use crate::rejection::Rejection;

/// A body up to this size is copied out of the connection's read buffer. It is kept until the
/// request is settled, and a slice of it would keep the whole buffer alive with it, and make the
/// connection take another one: twice 8 KB for every open stream.
const COPIED_BYTES: usize = 16 * 1024;

/// How much is repeated of an encoding that is refused.
const MAX_ENCODING_CHARS: usize = 32;

/// Reads a body to its end.
///
/// # Errors
///
/// [`Rejection::EncodedBody`] where the head says that it is compressed: a few bytes of that can
/// stand for any number of them. [`Rejection::TooLarge`] as soon as it is known to be longer than
/// `limit_bytes`,
/// [`Rejection::RequestTimeout`] where it did not come within `within`.
pub(super) async fn read(
    headers: &HeaderMap,
    body: Body,
    limit_bytes: u64,
    within: Duration,
) -> Result<Bytes, Rejection> {
    let is_encoded = |coding: &&HeaderValue| {
        let coding = coding.as_bytes().trim_ascii();
        !coding.is_empty() && !coding.eq_ignore_ascii_case(b"identity")
    };
    if let Some(encoding) = headers.get_all(CONTENT_ENCODING).iter().find(is_encoded) {
        let encoding = String::from_utf8_lossy(encoding.as_bytes());
        let encoding = encoding.chars().take(MAX_ENCODING_CHARS).collect();
        return Err(Rejection::EncodedBody { encoding });
    }
    if body.size_hint().lower() > limit_bytes {
        return Err(Rejection::TooLarge { limit_bytes });
    }
    tokio::time::timeout(within, collect(body, limit_bytes))
        .await
        .unwrap_or(Err(Rejection::RequestTimeout { within }))
}

async fn collect(mut body: Body, limit_bytes: u64) -> Result<Bytes, Rejection> {
    let expected = body.size_hint().exact().and_then(|length| usize::try_from(length).ok());
    let mut first = Bytes::new();
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Rejection::Invalid {
            problem: format!("the request body broke off: {error}"),
            param: None,
        })?;
        let Ok(data) = frame.into_data() else { continue };
        let length = first.len() + whole.len() + data.len();
        if length as u64 > limit_bytes {
            return Err(Rejection::TooLarge { limit_bytes });
        }
        if whole.is_empty() && first.is_empty() {
            // Most bodies come in one piece.
            first = data;
            continue;
        }
        if whole.is_empty() {
            // One allocation for the rest, where the caller said how much is coming. A length that
            // was only promised is not paid for: growth is bounded by what arrives.
            let room = expected.unwrap_or(length).min(length.saturating_mul(8));
            whole.reserve(room);
            whole.extend_from_slice(&first);
            first = Bytes::new();
        }
        whole.extend_from_slice(&data);
    }
    Ok(match (whole.is_empty(), first.len() <= COPIED_BYTES) {
        (true, true) => Bytes::copy_from_slice(&first),
        (true, false) => first,
        (false, _) => whole.freeze(),
    })
}
