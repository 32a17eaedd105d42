//! `/admin/v1/keys`: callers' keys.

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::header::{ETAG, HeaderValue, LOCATION};
use http::{HeaderMap, StatusCode, Uri};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::problem::Problem;
use super::{AdminState, PREFIX, page};
use crate::callers::{KeyChange, KeyRecord, SecretKey};
use crate::clock::rfc3339;
use crate::units::Priority;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NewKey {
    name: String,
    #[serde(default)]
    priority: Priority,
    /// Later versions limit callers. Taking limits now and not applying them would be a lie.
    #[serde(default)]
    limits: Map<String, Value>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ChangedKey {
    name: Option<String>,
    priority: Option<Priority>,
    revoked: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct ListQuery {
    limit: Option<u32>,
    cursor: Option<String>,
}

/// A page of keys, newest first.
#[derive(Debug, Serialize)]
pub(super) struct KeyPage {
    data: Vec<KeyView>,
    next_cursor: Option<String>,
}

#[derive(Debug, Serialize)]
struct KeyView {
    id: String,
    /// The key itself, in the reply that made it and never again.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    name: String,
    hint: String,
    priority: Priority,
    created_at: String,
    revoked_at: Option<String>,
}

/// `POST /keys`
pub(super) async fn create(
    State(state): State<AdminState>,
    body: Body,
) -> Result<Response, Problem> {
    let new: NewKey = page::body(body).await?;
    if !new.limits.is_empty() {
        let detail = "limits: not supported by this version; leave them out";
        return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "unsupported", detail));
    }
    let now_ms = state.clock.unix_ms();
    let (record, secret) = state.callers.create(&new.name, new.priority, now_ms).await?;
    let location = format!("{PREFIX}/keys/{}", record.id);
    let mut response = one(StatusCode::CREATED, &record, Some(&secret));
    if let Ok(location) = HeaderValue::from_str(&location) {
        response.headers_mut().insert(LOCATION, location);
    }
    Ok(response)
}

/// `GET /keys`
pub(super) async fn list(
    State(state): State<AdminState>,
    uri: Uri,
) -> Result<Json<KeyPage>, Problem> {
    let query: ListQuery = page::query(&uri)?;
    let limit = page::limit(query.limit)?;
    let records = state.callers.list(query.cursor.as_deref(), limit).await?;
    let is_full = records.len() == limit as usize;
    let next_cursor = records.last().filter(|_| is_full).map(|last| last.id.to_string());
    let data = records.iter().map(|record| KeyView::of(record, None)).collect();
    Ok(Json(KeyPage { data, next_cursor }))
}

/// `GET /keys/{id}`
pub(super) async fn show(
    State(state): State<AdminState>,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    Ok(one(StatusCode::OK, &state.callers.find(&id).await?, None))
}

/// `PATCH /keys/{id}`
pub(super) async fn change(
    State(state): State<AdminState>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let changed: ChangedKey = page::body(body).await?;
    if changed.revoked == Some(false) {
        let detail = "revoked: a key cannot be made valid again; make a new one";
        return Err(Problem::invalid(detail));
    }
    let ChangedKey { name, priority, revoked } = changed;
    let change = KeyChange { name, priority, revoke: revoked.is_some() };
    let version = page::if_match(&headers)?;
    let record = state.callers.change(&id, &change, version, state.clock.unix_ms()).await?;
    Ok(one(StatusCode::OK, &record, None))
}

/// `DELETE /keys/{id}`: revokes it. Its row stays, so that its usage keeps its name.
pub(super) async fn revoke(
    State(state): State<AdminState>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    let change = KeyChange { revoke: true, ..KeyChange::default() };
    let version = page::if_match(&headers)?;
    state.callers.change(&id, &change, version, state.clock.unix_ms()).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn one(status: StatusCode, record: &KeyRecord, secret: Option<&SecretKey>) -> Response {
    let mut response = (status, Json(KeyView::of(record, secret))).into_response();
    if let Ok(tag) = HeaderValue::from_str(&format!("\"{}\"", record.version)) {
        response.headers_mut().insert(ETAG, tag);
    }
    response
}

// === impl KeyView ===

impl KeyView {
    fn of(record: &KeyRecord, secret: Option<&SecretKey>) -> Self {
        Self {
            id: record.id.to_string(),
            key: secret.map(|secret| secret.reveal().to_owned()),
            name: record.name.clone(),
            hint: record.hint.clone(),
            priority: record.priority,
            created_at: rfc3339(record.created_at_ms),
            revoked_at: record.revoked_at_ms.map(rfc3339),
        }
    }
}
