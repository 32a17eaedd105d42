//! The head of a message: writing a request's, reading an answer's.

use std::io;
use std::mem::MaybeUninit;

use bytes::Bytes;
use http::header::{CONNECTION, HeaderMap, HeaderName, HeaderValue};
use http::{StatusCode, Version};

use super::connection::Connection;
use crate::upstream::UpstreamRequest;

/// The most an answer's head may measure. The largest seen has 6 KB of cookies and policy headers.
const MAX_HEAD_BYTES: usize = 64 * 1024;
/// The most header lines an answer may have.
const MAX_HEADERS: usize = 128;

/// A body up to this size is written with its head: the kernel takes one piece in less time than
/// two, and copying is cheaper than that.
const SHORT_BODY_BYTES: usize = 2 * 1024;

/// An answer's head.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    /// Whether the connection may be used again once the body was read.
    pub(super) keep_alive: bool,
}

/// Writes a request's head, and its body where that is short. The body's length is always known, so
/// there is no chunked request.
pub(super) fn encode(request: &UpstreamRequest) -> Vec<u8> {
    let origin = &request.origin;
    let short_body = if is_short(&request.body) { &request.body[..] } else { b"" };
    let mut head = Vec::with_capacity(512 + short_body.len());
    let is_get = request.body.is_empty();
    head.extend_from_slice(if is_get { b"GET " } else { b"POST " });
    head.extend_from_slice(request.path.as_bytes());
    head.extend_from_slice(b" HTTP/1.1\r\nhost: ");
    head.extend_from_slice(origin.authority().as_bytes());
    for (name, value) in &request.headers {
        head.extend_from_slice(b"\r\n");
        head.extend_from_slice(name.as_str().as_bytes());
        head.extend_from_slice(b": ");
        head.extend_from_slice(value.as_bytes());
    }
    if !is_get {
        head.extend_from_slice(b"\r\ncontent-length: ");
        head.extend_from_slice(itoa::Buffer::new().format(request.body.len()).as_bytes());
    }
    head.extend_from_slice(b"\r\n\r\n");
    head.extend_from_slice(short_body);
    head
}

/// What of a request does not stand with its head.
pub(super) fn rest(request: &UpstreamRequest) -> &[u8] {
    if is_short(&request.body) { b"" } else { &request.body }
}

fn is_short(body: &[u8]) -> bool {
    body.len() <= SHORT_BODY_BYTES
}

/// Reads an answer's head; interim answers (1xx) are skipped. `None` where the connection closed
/// before the first byte.
pub(super) async fn read(connection: &mut Connection) -> io::Result<Option<Head>> {
    loop {
        if let Some((length, head)) = parse(&connection.buffer)? {
            connection.consume(length);
            if head.status.is_informational() {
                continue;
            }
            return Ok(Some(head));
        }
        if connection.buffer.len() > MAX_HEAD_BYTES {
            return Err(io::Error::other("the answer's head is too long"));
        }
        if connection.fill().await? == 0 {
            return if connection.buffer.is_empty() {
                Ok(None)
            } else {
                Err(io::Error::other("closed within the answer's head"))
            };
        }
    }
}

fn parse(bytes: &[u8]) -> io::Result<Option<(usize, Head)>> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let mut lines = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let mut answer = httparse::Response::new(&mut []);
    let parsed = httparse::ParserConfig::default().parse_response_with_uninit_headers(
        &mut answer,
        bytes,
        &mut lines,
    );
    let length = match parsed.map_err(io::Error::other)? {
        httparse::Status::Complete(length) => length,
        httparse::Status::Partial => return Ok(None),
    };
    let status = StatusCode::from_u16(answer.code.unwrap_or_default()).map_err(io::Error::other)?;
    let version = if answer.version == Some(0) { Version::HTTP_10 } else { Version::HTTP_11 };
    let mut headers = HeaderMap::with_capacity(answer.headers.len());
    for line in answer.headers.iter() {
        let name = HeaderName::from_bytes(line.name.as_bytes()).map_err(io::Error::other)?;
        let value = HeaderValue::from_maybe_shared(Bytes::copy_from_slice(line.value))
            .map_err(io::Error::other)?;
        headers.append(name, value);
    }
    let keep_alive = keeps_alive(version, &headers);
    Ok(Some((length, Head { status, headers, keep_alive })))
}

fn keeps_alive(version: Version, headers: &HeaderMap) -> bool {
    let says = |word: &str| {
        headers
            .get_all(CONNECTION)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .any(|option| option.trim().eq_ignore_ascii_case(word))
    };
    if version == Version::HTTP_10 { says("keep-alive") } else { !says("close") }
}
