//! The data plane over HTTP: what applications call.
//!
//! Handlers translate and nothing else: HTTP to a [`Call`](crate::dispatch::Call), an
//! [`Answer`](crate::dispatch::Answer) to HTTP. What happens in between has never heard of axum.

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::response::Response;
use axum::routing::{get, post};

use crate::dispatch::Lane;
use crate::gateway::Gateway;
use crate::journal::EndpointKind;
use crate::rejection::Rejection;

mod body;
mod caller;
mod completion;
mod error;
mod feedback;
mod headers;
mod health;
mod idempotency;
mod jobs;
mod models;
mod panics;
mod reply;
pub mod server;
mod streams;
mod tokens;

use error::ApiError;

/// What every handler has at hand: one for each data thread.
#[derive(Debug, Clone)]
pub struct Edge {
    /// The gateway.
    pub gateway: Arc<Gateway>,
    /// This thread's way to providers.
    pub lane: Lane,
    /// Whether the listener can be reached from this machine alone.
    pub is_loopback: bool,
}

/// The routes of the data plane.
pub fn router(edge: Edge) -> Router {
    use EndpointKind as K;
    Router::new()
        .route("/v1/chat/completions", post(completion::of(K::Chat)))
        .route("/v1/completions", post(completion::of(K::Completions)))
        .route("/v1/embeddings", post(completion::of(K::Embeddings)))
        .route("/v1/messages", post(completion::of(K::Messages)))
        .route("/v1/messages/count_tokens", post(tokens::count))
        .route("/v1/feedback", post(feedback::give))
        .route("/v1/jobs", post(jobs::submit).get(jobs::list))
        .route("/v1/jobs/{id}", get(jobs::show).delete(jobs::cancel))
        .route("/v1/models", get(models::list))
        .route("/v1/models/{*id}", get(models::one))
        .route("/v1/streams/{id}", get(streams::read).delete(streams::cancel))
        .route("/livez", get(health::livez))
        .route("/readyz", get(health::readyz))
        .route("/health", get(health::health))
        .route("/metrics", get(health::metrics))
        .fallback(nothing_here)
        .method_not_allowed_fallback(wrong_method)
        .with_state(edge)
}

/// `404` in the dialect the caller seems to speak.
async fn nothing_here(request: Request) -> Response {
    let method = request.method().to_string();
    let path = request.uri().path().to_owned();
    let dialect = caller::dialect_of(&request);
    ApiError::new(Rejection::UnknownPath { method, path }, dialect).into_response()
}

/// `405` in the dialect the caller seems to speak. What is allowed the router adds as a header.
async fn wrong_method(request: Request) -> Response {
    let method = request.method().to_string();
    let path = request.uri().path().to_owned();
    let dialect = caller::dialect_of(&request);
    ApiError::new(Rejection::WrongMethod { method, path }, dialect).into_response()
}
