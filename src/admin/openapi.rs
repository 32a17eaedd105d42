//! `/admin/v1/openapi.json`: the API's own description, written by hand in `openapi.json`.

use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;

/// The document.
pub(super) const DOCUMENT: &str = include_str!("openapi.json");

/// `GET /openapi.json`
pub(super) async fn show() -> Response {
    ([(CONTENT_TYPE, "application/json")], DOCUMENT).into_response()
}
