//! `POST /v1/messages/count_tokens`.

use axum::extract::{Request, State};
use axum::response::Response;

use super::{Edge, completion};
use crate::journal::EndpointKind;

/// Counts with the provider where it can, and by estimate where it cannot.
pub(super) async fn count(state: State<Edge>, request: Request) -> Response {
    completion::of(EndpointKind::CountTokens)(state, request).await
}
