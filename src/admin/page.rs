//! What several resources read from a request: queries, limits, times, bodies.
//!
//! No text that reaches the store holds a NUL: PostgreSQL takes none, and it would be our fault.

use std::str::FromStr;

use axum::Json;
use axum::body::Body;
use axum::extract::Query;
use axum::response::{IntoResponse, Response};
use http::header::{ETAG, HeaderValue, IF_MATCH, LOCATION};
use http::{HeaderMap, StatusCode, Uri};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::PREFIX;
use super::problem::Problem;

/// Which page of a list.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct PageQuery {
    limit: Option<u32>,
    pub(super) cursor: Option<String>,
}

/// A page, newest first.
#[derive(Debug, Serialize)]
pub(super) struct Page<T> {
    data: Vec<T>,
    next_cursor: Option<String>,
}

/// Entries on a page when the request does not say.
const DEFAULT_LIMIT: u32 = 100;
/// The most on one page.
pub(super) const MAX_LIMIT: u32 = 1_000;
/// More than any body of this API holds, but for prompts.
const MAX_BODY_BYTES: usize = 64 * 1_024;
/// A NUL as addresses hold it, and as JSON does; neither can hold one as it is.
const NUL_IN_URI: &str = "%00";
const NUL_IN_JSON: &[u8] = b"\\u0000";

/// Refuses an address that holds a NUL: no id has one, and no filter is about one.
pub(super) fn refuse_nul(uri: &Uri) -> Result<(), Problem> {
    if uri.path().contains(NUL_IN_URI) {
        let detail = "nothing has an id with a NUL (%00)";
        return Err(Problem::new(StatusCode::NOT_FOUND, "not_found", detail));
    }
    match uri.query() {
        Some(query) if query.contains(NUL_IN_URI) => {
            Err(Problem::invalid("query: no value may hold a NUL (%00)"))
        }
        Some(_) | None => Ok(()),
    }
}

/// Reads a query string.
pub(super) fn query<T: DeserializeOwned>(uri: &Uri) -> Result<T, Problem> {
    Query::try_from_uri(uri).map(|Query(query)| query).map_err(|error| {
        // The inner error names the parameter.
        let cause = std::error::Error::source(&error).map(ToString::to_string);
        Problem::invalid(format!("query: {}", cause.unwrap_or_else(|| error.to_string())))
    })
}

/// Replies with what can be changed, and with its version for `If-Match`.
pub(super) fn versioned(status: StatusCode, view: &impl Serialize, version: u64) -> Response {
    let mut response = (status, Json(view)).into_response();
    if let Ok(tag) = HeaderValue::from_str(&format!("\"{version}\"")) {
        response.headers_mut().insert(ETAG, tag);
    }
    response
}

/// Replies with what was made and now stands at `path`.
pub(super) fn created(view: &impl Serialize, version: u64, path: &str) -> Response {
    let mut response = versioned(StatusCode::CREATED, view, version);
    if let Ok(location) = HeaderValue::from_str(&format!("{PREFIX}{path}")) {
        response.headers_mut().insert(LOCATION, location);
    }
    response
}

/// Checks a page's length.
pub(super) fn limit(asked: Option<u32>) -> Result<u32, Problem> {
    match asked {
        None => Ok(DEFAULT_LIMIT),
        Some(limit @ 1..=MAX_LIMIT) => Ok(limit),
        Some(limit) => {
            Err(Problem::invalid(format!("limit: {limit} is not between 1 and {MAX_LIMIT}")))
        }
    }
}

/// Reads a moment: RFC 3339, or milliseconds since 1970.
pub(super) fn time_ms(parameter: &str, text: Option<&str>) -> Result<Option<u64>, Problem> {
    let Some(text) = text else { return Ok(None) };
    let millis = text.parse::<u64>().ok().or_else(|| {
        let time: jiff::Timestamp = text.parse().ok()?;
        u64::try_from(time.as_millisecond()).ok()
    });
    millis.map(Some).ok_or_else(|| {
        Problem::invalid(format!(
            "{parameter}: `{text}` is no time; write it like 2026-11-20T23:49:49Z or as \
             milliseconds since 1970"
        ))
    })
}

/// Reads a JSON body.
pub(super) async fn body<T: DeserializeOwned>(body: Body) -> Result<T, Problem> {
    body_within(body, MAX_BODY_BYTES).await
}

/// Reads a JSON body of up to so many bytes.
pub(super) async fn body_within<T: DeserializeOwned>(
    body: Body,
    most: usize,
) -> Result<T, Problem> {
    let bytes = axum::body::to_bytes(body, most).await.map_err(|error| {
        let most = most / 1_024;
        Problem::invalid(format!("the body cannot be read, or has over {most} KiB: {error}"))
    })?;
    if holds_nul(&bytes) {
        return Err(Problem::invalid("body: no text may hold a NUL (\\u0000)"));
    }
    // Serde would take a list for an object, its items for the members in their order.
    if bytes.trim_ascii_start().first() == Some(&b'[') {
        return Err(Problem::invalid("body: must be a JSON object, and is a list"));
    }
    let mut document = serde_json::Deserializer::from_slice(&bytes);
    let read = serde_path_to_error::deserialize(&mut document).map_err(|error| {
        let at = error.path().to_string();
        let at = if error.path().iter().len() == 0 { "body" } else { &at };
        Problem::invalid(format!("{at}: {}", error.into_inner()))
    })?;
    document.end().map_err(|error| Problem::invalid(format!("body: {error}")))?;
    Ok(read)
}

/// The same, where it may be empty.
pub(super) async fn optional_body<T: DeserializeOwned + Default>(body: Body) -> Result<T, Problem> {
    let bytes = axum::body::to_bytes(body, MAX_BODY_BYTES).await.map_err(|error| {
        Problem::invalid(format!("the body cannot be read, or has over 64 KiB: {error}"))
    })?;
    if bytes.trim_ascii().is_empty() {
        return Ok(T::default());
    }
    self::body(Body::from(bytes)).await
}

/// Whether some text of a JSON document holds a NUL. Behind a backslash that is itself behind one,
/// the same letters are just letters.
fn holds_nul(json: &[u8]) -> bool {
    memchr::memmem::find_iter(json, NUL_IN_JSON).any(|at| {
        let before = json.get(..at).unwrap_or_default();
        before.iter().rev().take_while(|byte| **byte == b'\\').count().is_multiple_of(2)
    })
}

/// The version that `If-Match` asks for; none where it is absent or `*`.
pub(super) fn if_match<T: FromStr>(headers: &HeaderMap) -> Result<Option<T>, Problem> {
    let Some(value) = headers.get(IF_MATCH) else { return Ok(None) };
    let text = value.to_str().unwrap_or_default().trim();
    if text == "*" {
        return Ok(None);
    }
    let version = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
    match version.and_then(|version| version.parse().ok()) {
        Some(version) => Ok(Some(version)),
        None => Err(Problem::new(
            StatusCode::PRECONDITION_FAILED,
            "changed_meanwhile",
            "if-match: take it from the `etag` of the reply",
        )),
    }
}

// === impl PageQuery ===

impl PageQuery {
    /// Reads a query string.
    pub(super) fn of(uri: &Uri) -> Result<(Self, u32), Problem> {
        let asked: Self = query(uri)?;
        let limit = limit(asked.limit)?;
        Ok((asked, limit))
    }
}

// === impl Page ===

impl<T> Page<T> {
    /// What was found where `limit` were asked for. The id of the last one is the cursor.
    pub(super) fn of(data: Vec<T>, limit: u32, id: impl Fn(&T) -> &String) -> Self {
        let is_full = data.len() == limit as usize;
        let next_cursor = data.last().filter(|_| is_full).map(|last| id(last).clone());
        Self { data, next_cursor }
    }
}
