//! `/admin/v1/cache`: how full the cache is, what it saves, and forgetting what is in it.

use axum::Json;
use axum::extract::State;
use http::Uri;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::AdminState;
use super::actor::By;
use super::page;
use super::problem::Problem;
use crate::audit::Event;
use crate::cache::{Fill, Purge, RouteFigures};

mod semantic;

use semantic::SemanticView;

/// How full the cache of this node is, and what came of requests since it was started.
#[derive(Debug, Serialize)]
pub(super) struct CacheView {
    entries: u64,
    bytes: u64,
    max_bytes: u64,
    /// Whether nodes share answers.
    shared: bool,
    /// Routes that keep answers, by name.
    routes: Vec<RouteView>,
    /// What is given to other words that mean the same.
    semantic: SemanticView,
}

#[derive(Debug, Serialize)]
struct RouteView {
    route: String,
    hits: u64,
    misses: u64,
    /// Hits of all requests that were looked up, 0 to 1.
    hit_ratio: f64,
    saved_usd: String,
}

/// What was forgotten.
#[derive(Debug, Serialize)]
pub(super) struct Purged {
    /// Answers that this node had.
    purged: u64,
}

/// Which answers are meant.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Asked {
    team: Option<String>,
    caller: Option<String>,
    route: Option<String>,
    /// `name=value`.
    tag: Option<String>,
    prompt: Option<String>,
    all: bool,
}

/// `GET /cache`
pub(super) async fn show(State(state): State<AdminState>) -> Json<CacheView> {
    let Fill { entries, bytes, max_bytes } = state.cache.fill();
    let routes = state.cache.figures().into_iter().map(RouteView::of).collect();
    let (shared, semantic) = (state.cache.is_shared(), SemanticView::of(&state));
    Json(CacheView { entries, bytes, max_bytes, shared, routes, semantic })
}

/// `DELETE /cache`: forgets all answers of which everything holds that the query names, on all
/// nodes.
pub(super) async fn purge(
    State(state): State<AdminState>,
    uri: Uri,
    By(actor): By,
) -> Result<Json<Purged>, Problem> {
    page::refuse_nul(&uri)?;
    let asked: Asked = page::query(&uri)?;
    let purge = asked.purge()?;
    let purged = state.cache.purge(&purge);
    tracing::warn!(entries = purged, "kept answers were purged by the admin API");
    let event = Event {
        action: "cache.purge",
        resource: "cache".to_owned(),
        before: None,
        after: Some(json!({ "purged": purge, "entries": purged })),
    };
    state.callers.audit().note(&actor, event, state.clock.unix_ms());
    Ok(Json(Purged { purged }))
}

// === impl Asked ===

impl Asked {
    fn purge(self) -> Result<Purge, Problem> {
        let tag = self.tag.map(|tag| {
            let pair = tag.split_once('=').filter(|(name, _)| !name.is_empty());
            let pair = pair.map(|(name, value)| (name.to_owned(), value.to_owned()));
            pair.ok_or_else(|| Problem::invalid("tag: write it like env=prod"))
        });
        let purge = Purge {
            team: self.team,
            caller: self.caller,
            route: self.route,
            tag: tag.transpose()?,
            prompt: self.prompt,
        };
        match (purge.is_all(), self.all) {
            (true, false) => Err(Problem::invalid(
                "name a team, a caller, a route, a tag or a prompt; all=true forgets everything",
            )),
            (false, true) => Err(Problem::invalid("all: everything is more than what is named")),
            (true, true) | (false, false) => Ok(purge),
        }
    }
}

// === impl RouteView ===

impl RouteView {
    fn of(figures: RouteFigures) -> Self {
        let RouteFigures { route, hits, misses, saved } = figures;
        #[expect(clippy::cast_precision_loss, reason = "a share")]
        let hit_ratio = hits as f64 / (hits + misses).max(1) as f64;
        let hit_ratio = (hit_ratio * 1e4).round() / 1e4;
        Self { route, hits, misses, hit_ratio, saved_usd: saved.to_usd_string() }
    }
}
