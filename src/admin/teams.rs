//! `/admin/v1/teams`: what the keys of a team may do together.

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::header::{ETAG, HeaderValue, LOCATION};
use http::{HeaderMap, StatusCode, Uri};
use serde::{Deserialize, Serialize};

use super::actor::By;
use super::problem::Problem;
use super::terms::TermsView;
use super::{AdminState, PREFIX, page};
use crate::callers::{TeamRecord, TermsChange, present};
use crate::clock::rfc3339;
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

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct ListQuery {
    limit: Option<u32>,
    cursor: Option<String>,
}

/// A page of teams, newest first.
#[derive(Debug, Serialize)]
pub(super) struct TeamPage {
    data: Vec<TeamView>,
    next_cursor: Option<String>,
}

#[derive(Debug, Serialize)]
struct TeamView {
    id: String,
    name: String,
    #[serde(flatten)]
    terms: TermsView,
    created_at: String,
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
    let mut response = one(StatusCode::CREATED, &record);
    if let Ok(location) = HeaderValue::from_str(&format!("{PREFIX}/teams/{}", record.id)) {
        response.headers_mut().insert(LOCATION, location);
    }
    Ok(response)
}

/// `GET /teams`
pub(super) async fn list(
    State(state): State<AdminState>,
    uri: Uri,
) -> Result<Json<TeamPage>, Problem> {
    let query: ListQuery = page::query(&uri)?;
    let limit = page::limit(query.limit)?;
    let records = state.callers.list_teams(query.cursor.as_deref(), limit).await?;
    let is_full = records.len() == limit as usize;
    let next_cursor = records.last().filter(|_| is_full).map(|last| last.id.to_string());
    Ok(Json(TeamPage { data: records.iter().map(TeamView::of).collect(), next_cursor }))
}

/// `GET /teams/{id}`
pub(super) async fn show(
    State(state): State<AdminState>,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    Ok(one(StatusCode::OK, &state.callers.find_team(&id).await?))
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
    Ok(one(StatusCode::OK, &record))
}

/// `DELETE /teams/{id}`
pub(super) async fn delete(
    State(state): State<AdminState>,
    Path(id): Path<String>,
    By(actor): By,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    let version = page::if_match(&headers)?;
    state.callers.delete_team(&id, version, &actor, state.clock.unix_ms()).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn one(status: StatusCode, record: &TeamRecord) -> Response {
    let mut response = (status, Json(TeamView::of(record))).into_response();
    if let Ok(tag) = HeaderValue::from_str(&format!("\"{}\"", record.version)) {
        response.headers_mut().insert(ETAG, tag);
    }
    response
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
