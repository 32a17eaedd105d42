//! How the gateway is: for load balancers, scrapers and people.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::CONTENT_TYPE;
use serde_json::json;

use super::Edge;

/// `GET /livez`: the process answers.
pub(super) async fn livez() -> &'static str {
    "ok\n"
}

/// `GET /readyz`: whether to send requests here.
pub(super) async fn readyz(State(edge): State<Edge>) -> Response {
    if edge.gateway.is_draining() {
        return (StatusCode::SERVICE_UNAVAILABLE, "draining\n").into_response();
    }
    "ok\n".into_response()
}

/// `GET /health`: what works and what does not, in JSON. The status is 200 as long as requests are
/// served, because a journal in trouble is no reason to take a gateway out of rotation.
pub(super) async fn health(State(edge): State<Edge>) -> Response {
    let gateway = &edge.gateway;
    let journal = gateway.journal.health();
    let draining = gateway.is_draining();
    let degraded = journal.degraded || journal.dropped > 0;
    let status = match (draining, degraded) {
        (true, _) => "draining",
        (false, true) => "degraded",
        (false, false) => "ok",
    };
    let body = json!({
        "status": status,
        "version": env!("CARGO_PKG_VERSION"),
        "config": { "revision": format!("{:016x}", gateway.snapshot().revision) },
        "in_flight": gateway.fleet().in_flight(),
        "journal": journal,
    });
    let code = if draining { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    (code, Json(body)).into_response()
}

/// `GET /metrics`: Prometheus text.
pub(super) async fn metrics(State(edge): State<Edge>) -> Response {
    let kind = (CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8");
    ([kind], edge.gateway.render_metrics()).into_response()
}
