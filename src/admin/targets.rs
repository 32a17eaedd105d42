//! `/admin/v1/targets`: how targets fare and rank, and taking one out of service.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::header::{ETAG, HeaderValue};
use http::{HeaderMap, StatusCode, Uri};
use serde::Deserialize;
use serde_json::json;

use super::actor::By;
use super::problem::Problem;
use super::{AdminState, page};
use crate::audit::Event;
use crate::catalog::Feature;
use crate::clock::Instant;
use crate::config::{Route, Snapshot, Target};
use crate::fleet::{Demand, RouteView, TargetLive};
use crate::policy::rank;

mod view;

pub(crate) use view::{TargetList, TargetReply};

/// What a request would ask, where a route's targets are to be ranked for it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Asked {
    /// Only the targets of this route, with every term of their scores.
    pub(crate) route: Option<String>,
    /// Tokens of the prompt.
    pub(crate) input_tokens: Option<u64>,
    /// The cap on the answer.
    pub(crate) output_tokens: Option<u64>,
    /// Whether it has tools.
    pub(crate) tools: bool,
    /// Whether it wants JSON by a schema.
    pub(crate) json_schema: bool,
    /// Whether it has pictures.
    pub(crate) images: bool,
    /// Whose it is, where a route is sticky.
    pub(crate) user: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ChangedTarget {
    drained: bool,
}

/// The farthest that a name may be from what was asked for to be named.
const NEAR: usize = 3;

/// `GET /targets`
pub(super) async fn list(
    State(state): State<AdminState>,
    uri: Uri,
) -> Result<Json<TargetList>, Problem> {
    let asked: Asked = page::query(&uri)?;
    let (snapshot, demand, now) = (state.snapshot.load_full(), asked.demand(), Instant::now());
    let Some(name) = &asked.route else {
        return Ok(Json(TargetList { route: None, data: all(&state, &snapshot, &demand, now) }));
    };
    let route = snapshot.resolve(name).map_err(|rejection| {
        Problem::new(StatusCode::NOT_FOUND, "unknown_route", rejection.to_string())
    })?;
    let views = state.fleet.look(&[route], &demand, now);
    let list = views.first().map(|view| TargetList::of_route(view, &demand));
    list.map(Json).ok_or_else(|| Problem::invalid("route: it has no targets"))
}

/// `GET /targets/{id}`
pub(super) async fn show(
    State(state): State<AdminState>,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    one(&state, &state.snapshot.load(), &id)
}

/// `PATCH /targets/{id}`: takes a target out of service, or puts it back. Attempts under way go on.
pub(super) async fn change(
    State(state): State<AdminState>,
    Path(id): Path<String>,
    By(actor): By,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let ChangedTarget { drained } = page::body(body).await?;
    let version = page::if_match(&headers)?;
    let snapshot = state.snapshot.load();
    let live = live(&state, &snapshot, &id)?;
    match live.set_drained(drained, version) {
        Ok(true) => {
            let word = if drained { "drained" } else { "restored" };
            tracing::warn!(target.id = %live.id, "target {word} by the admin API");
            let event = Event {
                action: "target.change",
                resource: format!("targets/{}", live.id),
                before: Some(json!({ "drained": !drained })),
                after: Some(json!({ "drained": drained })),
            };
            state.callers.audit().note(&actor, event, state.clock.unix_ms());
        }
        Ok(false) => {}
        Err(_) => {
            let detail = format!("target `{id}` was changed meanwhile; read it again");
            return Err(Problem::new(StatusCode::PRECONDITION_FAILED, "changed_meanwhile", detail));
        }
    }
    one(&state, &snapshot, &id)
}

fn one(state: &AdminState, snapshot: &Snapshot, id: &str) -> Result<Response, Problem> {
    let targets = all(state, snapshot, &Demand::usual(), Instant::now());
    let Some(target) = targets.iter().find(|target| target.id == id) else {
        return Err(unknown(snapshot, id));
    };
    let version = state.fleet.target(id).map_or(0, |live| live.drain_version());
    let mut response = Json(target).into_response();
    if let Ok(tag) = HeaderValue::from_str(&format!("\"{version}\"")) {
        response.headers_mut().insert(ETAG, tag);
    }
    Ok(response)
}

/// Every target of the configuration, by id. Models that are asked for though no file lists them
/// are one target a credential, once there was one.
fn all(state: &AdminState, snapshot: &Snapshot, demand: &Demand, now: Instant) -> Vec<TargetReply> {
    let (listed, routes): (Vec<_>, Vec<Arc<Route>>) =
        snapshot.routes().map(|(listed, route)| (listed, Arc::clone(route))).unzip();
    let mut views: Vec<(bool, RouteView)> = listed
        .iter()
        .map(|listed| listed.is_route())
        .zip(state.fleet.look(&routes, demand, now))
        .collect();
    // The route with the most targets says what a target is worth; its own name only where it
    // stands on no other.
    views.sort_by_key(|(is_route, view)| std::cmp::Reverse((*is_route, view.targets.len())));
    let mut targets: BTreeMap<String, TargetReply> = BTreeMap::new();
    for (is_route, view) in &views {
        for rank in &view.targets {
            let entry = targets.entry(rank.target.id.to_string());
            let target = entry.or_insert_with(|| TargetReply::of(rank));
            if *is_route {
                target.stands_on(view, rank);
            }
        }
    }
    for live in state.fleet.targets(now) {
        let endpoint = live.id.as_str().strip_suffix("/(unlisted)").unwrap_or_default();
        if let Some(endpoint) = snapshot.endpoints().find(|one| one.id.as_str() == endpoint) {
            let reply = TargetReply::unlisted(endpoint.provider.as_str(), &live);
            targets.insert(live.id.to_string(), reply);
        }
    }
    targets.into_values().collect()
}

/// The live side of a target of the configuration.
fn live(state: &AdminState, snapshot: &Snapshot, id: &str) -> Result<Arc<TargetLive>, Problem> {
    if let Some(target) = configured(snapshot).find(|target| target.id.as_str() == id) {
        return Ok(state.fleet.adopt(target));
    }
    let endpoint = id.strip_suffix("/(unlisted)").unwrap_or_default();
    let is_configured = snapshot.endpoints().any(|one| one.id.as_str() == endpoint);
    let live = state.fleet.target(id).filter(|_| is_configured);
    live.ok_or_else(|| unknown(snapshot, id))
}

fn configured(snapshot: &Snapshot) -> impl Iterator<Item = &Arc<Target>> {
    snapshot.routes().flat_map(|(_, route)| route.tiers.iter().flatten())
}

fn unknown(snapshot: &Snapshot, id: &str) -> Problem {
    let id = id.chars().take(200).collect::<String>();
    let mut near: Vec<_> = configured(snapshot)
        .map(|target| (strsim::damerau_levenshtein(&id, target.id.as_str()), target.id.as_str()))
        .filter(|(distance, name)| *distance <= NEAR || (!id.is_empty() && name.contains(&id)))
        .collect();
    near.sort_unstable();
    near.dedup();
    let near: Vec<_> = near.iter().take(3).map(|(_, name)| format!("`{name}`")).collect();
    let detail = match near.as_slice() {
        [] => format!("there is no target `{id}`; GET /admin/v1/targets lists them"),
        near => format!("there is no target `{id}`; did you mean {}?", near.join(" or ")),
    };
    Problem::new(StatusCode::NOT_FOUND, "unknown_target", detail)
}

// === impl Asked ===

impl Asked {
    /// The same as ranking takes it.
    pub(crate) fn demand(&self) -> Demand {
        let usual = Demand::usual();
        let needs = [
            (self.tools, Feature::Tools),
            (self.json_schema, Feature::JsonSchema),
            (self.images, Feature::Vision),
        ];
        Demand {
            input_tokens: self.input_tokens.unwrap_or(usual.input_tokens),
            max_output: self.output_tokens,
            features: needs.iter().filter(|(needed, _)| *needed).map(|(_, f)| *f).collect(),
            sticky: self.user.as_ref().map(|user| rank::hash(user.as_bytes())),
            ..usual
        }
    }
}
