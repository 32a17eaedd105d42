//! `/admin/v1/teams`: what the keys of a team may do together.

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::Response;
use http::{HeaderMap, StatusCode, Uri};
use serde::{Deserialize, Serialize};

use super::AdminState;
use super::actor::By;
use super::page::{self, Page, PageQuery};
use super::problem::Problem;
use super::terms::{TermsView, UsedView};
use crate::cache::Purge;
use crate::callers::{TeamRecord, TermsChange, present};
use crate::clock::rfc3339;
use crate::limits::Owner;
use crate::quota::LimitSettings;

/// What a team shall be, or shall be different about one.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct TeamBody {
    name: Option<String>,
    limits: Option<LimitSettings>,
    #[serde(deserialize_with = "present")]
    routes: Option<Option<Vec<String>>>,
    #[serde(deserialize_with = "present")]
    models: Option<Option<Vec<String>>>,
    tags: Option<std::collections::BTreeMap<String, String>>,
}

#[derive(Debug, Serialize)]
pub(super) struct TeamView {
    id: String,
    name: String,
    #[serde(flatten)]
    terms: TermsView,
    created_at: String,
}

/// A team, and how much it has used of its limits.
#[derive(Debug, Serialize)]
struct TeamInUse {
    #[serde(flatten)]
    team: TeamView,
    usage: Vec<UsedView>,
}

/// `POST /teams`
pub(super) async fn create(
    State(state): State<AdminState>,
    By(actor): By,
    body: Body,
) -> Result<Response, Problem> {
    let (name, change) = page::body::<TeamBody>(body).await?.split();
    let now_ms = state.clock.unix_ms();
    let name = name.unwrap_or_default();
    let record = state.callers.create_team(&name, &change, &actor, now_ms).await?;
    let path = format!("/teams/{}", record.id);
    Ok(page::created(&TeamView::of(&record), record.version, &path))
}

/// `GET /teams`
pub(super) async fn list(
    State(state): State<AdminState>,
    uri: Uri,
) -> Result<Json<Page<TeamView>>, Problem> {
    let (query, limit) = PageQuery::of(&uri)?;
    let records = state.callers.list_teams(query.cursor.as_deref(), limit).await?;
    let views = records.iter().map(TeamView::of).collect();
    Ok(Json(Page::of(views, limit, |view: &TeamView| &view.id)))
}

/// `GET /teams/{id}`
pub(super) async fn show(
    State(state): State<AdminState>,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let record = state.callers.find_team(&id).await?;
    let owner = Owner::Team { id: record.id.as_str(), own: &record.terms.limits };
    let usage = UsedView::all(&state, owner);
    let view = TeamInUse { team: TeamView::of(&record), usage };
    Ok(page::versioned(StatusCode::OK, &view, record.version))
}

/// `PATCH /teams/{id}`
pub(super) async fn change(
    State(state): State<AdminState>,
    Path(id): Path<String>,
    By(actor): By,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let (name, change) = page::body::<TeamBody>(body).await?.split();
    let version = page::if_match(&headers)?;
    let (change, now_ms) = ((name.as_deref(), &change), state.clock.unix_ms());
    let record = state.callers.change_team(&id, change, version, &actor, now_ms).await?;
    Ok(page::versioned(StatusCode::OK, &TeamView::of(&record), record.version))
}

/// `DELETE /teams/{id}`: its kept answers go with it, on all nodes.
pub(super) async fn delete(
    State(state): State<AdminState>,
    Path(id): Path<String>,
    By(actor): By,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    let version = page::if_match(&headers)?;
    state.callers.delete_team(&id, version, &actor, state.clock.unix_ms()).await?;
    state.cache.purge(&Purge { team: Some(id), ..Purge::default() });
    Ok(StatusCode::NO_CONTENT)
}

// === impl TeamBody ===

impl TeamBody {
    fn split(self) -> (Option<String>, TermsChange) {
        let Self { name, limits, routes, models, tags } = self;
        (name, TermsChange { limits, routes, models, tags })
    }
}

// === impl TeamView ===

impl TeamView {
    fn of(record: &TeamRecord) -> Self {
        Self {
            id: record.id.to_string(),
            name: record.name.clone(),
            terms: TermsView::of(&record.terms),
            created_at: rfc3339(record.created_at_ms),
        }
    }
}
