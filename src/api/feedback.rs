//! `POST /v1/feedback`: how good an answer was, as its caller sees it.

use std::pin::pin;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::request::Parts;
use serde::Serialize;

use super::error::ApiError;
use super::{Edge, body, caller, panics, reply};
use crate::dialect::Dialect;
use crate::dispatch::Served;
use crate::feedback::FeedbackError;
use crate::gateway::Ask;
use crate::ids::RequestId;
use crate::rejection::Rejection;
use crate::units::Priority;

mod wish;

use wish::Wish;

/// Larger than any feedback: every character of a comment may be written as six.
const LIMIT_BYTES: u64 = 64 * 1_024;
/// Words that have waited for the longest wait no more by then.
const LESS_WAIT: Duration = Duration::from_secs(60);
/// How much of an id that is not known is repeated.
const MAX_ID_CHARS: usize = 64;

/// What was taken.
#[derive(Debug, Serialize)]
struct GivenView {
    id: String,
    request_id: String,
}

/// `POST /v1/feedback`
pub(super) async fn give(State(edge): State<Edge>, request: Request) -> Response {
    let request_id = reply::new_request_id();
    let (head, body) = request.into_parts();
    let answered = async {
        match take(&edge, &head, body, &request_id).await {
            Ok(given) => {
                let mut response = (StatusCode::ACCEPTED, Json(given)).into_response();
                reply::identify_new(response.headers_mut(), request_id.as_str());
                response
            }
            Err(rejection) => {
                let (id, served) = (request_id.as_str(), Served::default());
                ApiError::of(rejection, Dialect::OpenAiChat, id, served).into_response()
            }
        }
    };
    panics::isolate(answered, Dialect::OpenAiChat, &request_id).await
}

async fn take(
    edge: &Edge,
    head: &Parts,
    body: Body,
    own_id: &RequestId,
) -> Result<GivenView, Rejection> {
    let caller = caller::authenticate(edge, &head.headers)?;
    if edge.gateway.is_draining() {
        return Err(Rejection::Draining);
    }
    let snapshot = edge.gateway.snapshot();
    let settings = &snapshot.settings;
    let read = async {
        // Admitted as any other request is, so that bodies that do not come to their end take no
        // more room; and shed before those that somebody waits for.
        let priority = caller.priority_of(Some(Priority::LOWEST));
        let ask = Ask::new(&caller.id, own_id.as_str(), priority, 0);
        let _slot = edge.gateway.admit(&ask, &settings.admission, Duration::MAX).await?;
        let within = settings.server.request_read_timeout.0;
        body::read(&head.headers, body, LIMIT_BYTES, within).await
    };
    let read = edge.lane.stop.unless(pin!(read)).await;
    let bytes = read.unwrap_or(Err(Rejection::Draining))?;
    let Wish { request_id, opinion } = Wish::read(&bytes)?;
    let given = edge.gateway.feedback().give(&caller.id, &request_id, &opinion).await;
    let given = given.map_err(|error| match error {
        FeedbackError::UnknownRequest => Rejection::UnknownRequest {
            id: request_id.as_str().chars().take(MAX_ID_CHARS).collect(),
        },
        FeedbackError::TooManyWaiting => Rejection::Overloaded { retry_after: LESS_WAIT },
        FeedbackError::Store(error) => {
            tracing::error!(error = %error.chain(), "the store of feedback cannot be reached");
            Rejection::Unavailable { what: "the store of feedback" }
        }
    })?;
    Ok(GivenView { id: given.id, request_id: request_id.as_str().to_owned() })
}
