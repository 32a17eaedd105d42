//! How the gateway is: for load balancers, scrapers and people.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::CONTENT_TYPE;
use serde_json::json;

use super::Edge;
use crate::clock::Instant;
use crate::cluster::ClusterState;
use crate::ids::RouteName;
use crate::rejection::Rejection;

/// So many routes are named that have nobody to ask.
const MAX_NAMED: usize = 3;

/// `GET /livez`: the process answers.
pub(super) async fn livez() -> &'static str {
    "ok\n"
}

/// `GET /readyz`: whether to send requests here. Not to a gateway that stops, nor to one that has
/// never read its keys and so can answer nobody; a store that goes away later is no reason, because
/// what was read from it stays.
pub(super) async fn readyz(State(edge): State<Edge>) -> Response {
    if edge.gateway.is_draining() {
        return (StatusCode::SERVICE_UNAVAILABLE, "draining\n").into_response();
    }
    let mode = edge.gateway.snapshot().settings.auth.mode;
    let nobody = edge.gateway.callers.authenticate(None, mode, edge.is_loopback);
    if let Err(away @ Rejection::Unavailable { .. }) = nobody {
        return (StatusCode::SERVICE_UNAVAILABLE, format!("{away}\n")).into_response();
    }
    "ok\n".into_response()
}

/// `GET /health`: what works and what does not, in JSON: a configuration file that is faulty and so
/// was not loaded, routes of which no target can be asked, a store of keys that is away, a journal
/// that loses entries, a run that was killed, a server of the cluster that is away. The status is
/// 200 as long as requests are served, because none of these is a reason to take a gateway out of
/// rotation.
pub(super) async fn health(State(edge): State<Edge>) -> Response {
    let gateway = &edge.gateway;
    let journal = gateway.journal.health();
    let callers = gateway.callers.health();
    let prompts = gateway.registry().health();
    let draining = gateway.is_draining();
    let reloads = gateway.reload_status().unwrap_or_default();
    let problems: Vec<String> = reloads
        .failure
        .iter()
        .flat_map(|failure| failure.problems.iter())
        .map(ToString::to_string)
        .collect();
    let targets = gateway.fleet().readiness(&gateway.snapshot(), Instant::now());
    let down: Vec<_> = targets.routes_down.iter().take(MAX_NAMED).map(RouteName::as_str).collect();
    let cluster = gateway.cluster.health();
    let degraded = cluster.state == ClusterState::Degraded
        || journal.degraded
        || journal.dropped > 0
        || callers.behind
        || callers.unaudited > 0
        || prompts.behind
        || !prompts.conflicts.is_empty()
        || gateway.limits().sharing().divided_by.is_some()
        || !problems.is_empty()
        || !down.is_empty();
    let status = match (draining, degraded) {
        (true, _) => "draining",
        (false, true) => "degraded",
        (false, false) => "ok",
    };
    let body = json!({
        "status": status,
        "version": env!("CARGO_PKG_VERSION"),
        "config": {
            "revision": format!("{:012x}", gateway.snapshot().revision),
            "problems": problems,
            "waiting_for_restart": reloads.waiting_for_restart,
        },
        "resumable_streams": {
            "running": gateway.streams().running(),
            "kept": gateway.streams().len(),
            "bytes": gateway.streams().bytes(),
        },
        "targets": targets,
        "routes_down": down,
        "limits": gateway.limits().sharing(),
        "in_flight": gateway.fleet().in_flight(),
        "replies_going_on": gateway.going_on(),
        "callers": callers,
        "prompts": prompts,
        "journal": journal,
        "cluster": cluster,
    });
    let code = if draining { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    (code, Json(body)).into_response()
}

/// `GET /metrics`: Prometheus text.
pub(super) async fn metrics(State(edge): State<Edge>) -> Response {
    let kind = (CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8");
    ([kind], edge.gateway.render_metrics()).into_response()
}
