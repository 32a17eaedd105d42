//! The admin API, `/admin/v1`: what operators and their scripts see and change.
//!
//! One file a resource, each with view types of its own, so that what is kept can change without
//! changing what scripts read. Errors are problem details (RFC 9457); lists are pages with a
//! cursor; what can be changed has an `ETag` and takes `If-Match`. The document at
//! `/admin/v1/openapi.json` is written by hand and a test holds it to the routes.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use arc_swap::ArcSwap;
use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, MethodRouter, on};
use http::header::{AUTHORIZATION, CACHE_CONTROL, HeaderValue, WWW_AUTHENTICATE};
use http::{HeaderMap, StatusCode};
use serde_json::Value;

use crate::cache::Cache;
use crate::callers::Callers;
use crate::clock::WallClock;
use crate::config::Snapshot;
use crate::feedback::Feedback;
use crate::fleet::Fleet;
use crate::jobs::Jobs;
use crate::journal::Journal;
use crate::limits::Limits;
use crate::meaning::Meanings;
use crate::problems::Problems;
use crate::registry::Registry;
use crate::rollout::RolloutLedger;
use crate::runs::Runs;

mod actor;
mod audit;
mod cache;
mod compat;
mod config;
mod csv;
mod feedback;
mod filter;
mod keys;
mod models;
mod openapi;
mod page;
mod problem;
mod prompts;
mod requests;
mod rollouts;
pub(crate) mod targets;
mod teams;
mod terms;
#[cfg(test)]
mod tests;
mod usage;
mod webhooks;

use problem::Problem;

/// All that the admin API speaks about.
#[derive(Clone)]
pub struct AdminState {
    /// The record of requests.
    pub journal: Journal,
    /// Callers' keys, and the admin key that guards this API.
    pub callers: Callers,
    /// Jobs, and the webhooks that tell of them.
    pub jobs: Jobs,
    /// Registered prompts.
    pub registry: Registry,
    /// How much is used of what keys and teams may use.
    pub limits: Arc<Limits>,
    /// Answers that are kept to be given again.
    pub cache: Cache,
    /// The same that are given to other words, and what was learnt of them.
    pub meanings: Meanings,
    /// What callers say of answers.
    pub feedback: Feedback,
    /// Progressive rollouts.
    pub rollouts: RolloutLedger,
    /// Runs of compatibility suites.
    pub runs: Runs,
    /// How targets fare.
    pub fleet: Arc<Fleet>,
    /// The running configuration.
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    /// The time of changes.
    pub clock: Arc<dyn WallClock>,
    /// Shows the running configuration and its revision, without secrets.
    pub show_config: Arc<dyn Fn() -> Value + Send + Sync>,
    /// Loads the configuration again. The answer is what `show_config` then shows, or why the old
    /// one was kept.
    pub reload_config: Arc<dyn Fn() -> Reloading + Send + Sync>,
}

/// A configuration that is being loaded.
pub type Reloading = Pin<Box<dyn Future<Output = Result<Value, Problems>> + Send>>;

/// Where the API begins.
const PREFIX: &str = "/admin/v1";

/// The admin API with its paths from the root (`/admin/v1/...`), ready to be merged into others.
pub fn router(state: AdminState) -> Router {
    let mut router = Router::new();
    for (_, path, route) in routes() {
        router = router.route(&format!("{PREFIX}{path}"), route);
    }
    router
        // What lies below the prefix and is no route is ours to refuse; the rest is not.
        .route(&format!("{PREFIX}/{{*rest}}"), axum::routing::any(nothing_here))
        .method_not_allowed_fallback(wrong_method)
        .layer(middleware::from_fn_with_state(state.clone(), guard))
        .with_state(state)
}

/// Every route: its method, its path below the prefix, and who answers.
fn routes() -> Vec<(MethodFilter, &'static str, MethodRouter<AdminState>)> {
    use MethodFilter as M;
    let mut routes = Vec::new();
    let mut add = |method, path, route| routes.push((method, path, route));
    add(M::GET, "/requests", on(M::GET, requests::list));
    add(M::GET, "/usage", on(M::GET, usage::sum));
    add(M::GET, "/models", on(M::GET, models::list));
    add(M::GET, "/feedback", on(M::GET, feedback::list));
    add(M::GET, "/feedback/scores", on(M::GET, feedback::scores));
    add(M::GET, "/targets", on(M::GET, targets::list));
    // Ids hold slashes; those that are percent-encoded match as well.
    add(M::GET, "/targets/{*id}", on(M::GET, targets::show));
    add(M::PATCH, "/targets/{*id}", on(M::PATCH, targets::change));
    add(M::POST, "/keys", on(M::POST, keys::create));
    add(M::GET, "/keys", on(M::GET, keys::list));
    add(M::GET, "/keys/{id}", on(M::GET, keys::show));
    add(M::PATCH, "/keys/{id}", on(M::PATCH, keys::change));
    add(M::DELETE, "/keys/{id}", on(M::DELETE, keys::revoke));
    add(M::POST, "/keys/{id}/rotate", on(M::POST, keys::rotate));
    add(M::POST, "/teams", on(M::POST, teams::create));
    add(M::GET, "/teams", on(M::GET, teams::list));
    add(M::GET, "/teams/{id}", on(M::GET, teams::show));
    add(M::PATCH, "/teams/{id}", on(M::PATCH, teams::change));
    add(M::DELETE, "/teams/{id}", on(M::DELETE, teams::delete));
    add(M::GET, "/audit", on(M::GET, audit::list));
    add(M::GET, "/webhooks", on(M::GET, webhooks::list));
    add(M::GET, "/webhooks/{id}", on(M::GET, webhooks::show));
    add(M::PATCH, "/webhooks/{id}", on(M::PATCH, webhooks::change));
    add(M::GET, "/webhooks/{id}/deliveries", on(M::GET, webhooks::deliveries));
    let redeliver = "/webhooks/{id}/deliveries/{delivery}/redeliver";
    add(M::POST, redeliver, on(M::POST, webhooks::redeliver));
    add(M::POST, "/rollouts", on(M::POST, rollouts::create));
    add(M::GET, "/rollouts", on(M::GET, rollouts::list));
    add(M::GET, "/rollouts/{id}", on(M::GET, rollouts::show));
    add(M::PATCH, "/rollouts/{id}", on(M::PATCH, rollouts::set));
    add(M::POST, "/rollouts/{id}/{verb}", on(M::POST, rollouts::act));
    add(M::GET, "/cache", on(M::GET, cache::show));
    add(M::DELETE, "/cache", on(M::DELETE, cache::purge));
    add(M::GET, "/config", on(M::GET, config::show));
    add(M::POST, "/config/reload", on(M::POST, config::reload));
    add(M::GET, "/openapi.json", on(M::GET, openapi::show));
    routes.extend(prompts::routes());
    routes.extend(compat::routes());
    routes
}

/// Lets the admin key pass, gives each request an id, and keeps replies out of caches.
async fn guard(State(state): State<AdminState>, mut request: Request, next: Next) -> Response {
    let id = actor::new_request_id();
    request.extensions_mut().insert(id.clone());
    let mut response = match state.callers.authenticate_admin(bearer(request.headers())) {
        Ok(()) => match page::refuse_nul(request.uri()) {
            Ok(()) => next.run(request).await,
            Err(problem) => problem.into_response(),
        },
        Err(rejection) => {
            let mut response = Problem::from_rejection(&rejection).into_response();
            if response.status() == StatusCode::UNAUTHORIZED {
                let scheme = HeaderValue::from_static("Bearer realm=\"tidegate admin\"");
                response.headers_mut().insert(WWW_AUTHENTICATE, scheme);
            }
            response
        }
    };
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Ok(id) = HeaderValue::from_str(id.as_str()) {
        response.headers_mut().insert("x-request-id", id);
    }
    response
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, key) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
}

async fn nothing_here(request: Request) -> Problem {
    let detail = format!("there is nothing at {}; see {PREFIX}/openapi.json", request.uri().path());
    Problem::new(StatusCode::NOT_FOUND, "not_found", detail)
}

async fn wrong_method(request: Request) -> Problem {
    let detail = format!("{} cannot be used on {}", request.method(), request.uri().path());
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail)
}

// === impl AdminState ===

impl fmt::Debug for AdminState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdminState")
            .field("journal", &self.journal)
            .field("callers", &self.callers)
            .finish_non_exhaustive()
    }
}
