//! `/v1/streams/{id}`: coming back to a stream that was opened with `x-resumable: true`.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use http::{HeaderName, HeaderValue, StatusCode};

use super::error::ApiError;
use super::{Edge, caller, reply};
use crate::dispatch::AnswerStream;
use crate::gateway::{Opened, Reader, Stream};
use crate::rejection::Rejection;

/// Under which id a stream can be come back to.
const STREAM_ID: HeaderName = HeaderName::from_static("x-tidegate-stream-id");
/// `false` where a stream cannot, although that was asked for.
const RESUMABLE: HeaderName = HeaderName::from_static("x-tidegate-resumable");
/// What browsers and others send when they come back.
const LAST_EVENT_ID: &str = "last-event-id";
/// The same in the query, as OpenAI's clients name it.
const STARTING_AFTER: &str = "starting_after";

/// Lets an answer go on by itself, and gives its caller the first reader of it. Where there is no
/// room for that the answer is an ordinary one, and says so.
pub(super) fn open(edge: &Edge, answer: Box<AnswerStream>, opened: Opened) -> Response {
    match edge.gateway.streams().open(answer, opened.clone()) {
        Ok(reader) => follow(reader, &opened),
        Err(answer) => {
            tracing::warn!(
                request.id = %opened.id,
                bytes = edge.gateway.streams().bytes(),
                "no room for another resumable stream; this one is not"
            );
            let expiry = answer.expiry();
            let mut response = reply::stream(Body::new(*answer), &opened.id, &opened.served);
            response.extensions_mut().insert(expiry);
            response.headers_mut().insert(RESUMABLE, HeaderValue::from_static("false"));
            response
        }
    }
}

/// `GET /v1/streams/{id}`: what came after the event that `Last-Event-ID` or `?starting_after=`
/// names, and what is still to come.
pub(super) async fn read(State(edge): State<Edge>, request: Request) -> Response {
    let stream = match find(&edge, &request) {
        Ok(stream) => stream,
        Err(rejection) => {
            return ApiError::new(rejection, caller::dialect_of(&request)).into_response();
        }
    };
    match position(&request).and_then(|after| stream.read_after(after)) {
        Ok(reader) => follow(reader, &stream.opened),
        Err(rejection) => ApiError::new(rejection, stream.opened.dialect).into_response(),
    }
}

/// `DELETE /v1/streams/{id}`: cancels what still goes on, and forgets the rest.
pub(super) async fn cancel(State(edge): State<Edge>, request: Request) -> Response {
    let stream = match find(&edge, &request) {
        Ok(stream) => stream,
        Err(rejection) => {
            return ApiError::new(rejection, caller::dialect_of(&request)).into_response();
        }
    };
    edge.gateway.streams().cancel(&stream);
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let Opened { id, served, .. } = &stream.opened;
    reply::describe(response.headers_mut(), id.as_str(), served);
    response
}

/// The stream that the path names. One of somebody else is as unknown as one that never was.
fn find(edge: &Edge, request: &Request) -> Result<Arc<Stream>, Rejection> {
    let caller = caller::authenticate(edge, request.headers())?;
    let path = request.uri().path();
    let id = path.rsplit('/').next().unwrap_or_default();
    edge.gateway.streams().find(id, &caller.id).ok_or_else(|| Rejection::UnknownPath {
        method: request.method().to_string(),
        path: path.to_owned(),
    })
}

/// The event that the caller has got last; 0 where it says nothing. A client that reconnects by
/// itself repeats its query, so the header is the newer of the two.
fn position(request: &Request) -> Result<u64, Rejection> {
    let header = request.headers().get(LAST_EVENT_ID);
    let header = header.map(|value| (LAST_EVENT_ID, value.to_str().unwrap_or_default()));
    let mut fields = request.uri().query().unwrap_or_default().split('&');
    let query = fields.find_map(|field| {
        field.strip_prefix(STARTING_AFTER)?.strip_prefix('=').map(|value| (STARTING_AFTER, value))
    });
    let Some((name, value)) = header.or(query) else { return Ok(0) };
    value.trim().parse().map_err(|_not_a_number| {
        Rejection::invalid(name, format!("`{name}` must be the `id` of an event of the stream"))
    })
}

/// The reply of a reader.
fn follow(reader: Reader, opened: &Opened) -> Response {
    let mut response = reply::stream(Body::new(reader), &opened.id, &opened.served);
    if let Ok(id) = HeaderValue::from_str(opened.id.as_str()) {
        response.headers_mut().insert(STREAM_ID, id);
    }
    response
}
