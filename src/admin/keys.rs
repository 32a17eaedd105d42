//! `/admin/v1/keys`: callers' keys.

use std::collections::BTreeMap;

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
use super::terms::{self, TermsView, UsedView};
use crate::cache::Purge;
use crate::callers::{KeyChange, KeyRecord, SecretKey, TermsChange, present};
use crate::clock::rfc3339;
use crate::ids::TeamId;
use crate::limits::Owner;
use crate::quota::LimitSettings;
use crate::units::{HumanDuration, Priority};

/// What a key shall be, or shall be different about one. `null` takes away what can be absent.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct KeyBody {
    name: Option<String>,
    priority: Option<Priority>,
    #[serde(deserialize_with = "present")]
    team: Option<Option<TeamId>>,
    limits: Option<LimitSettings>,
    #[serde(deserialize_with = "present")]
    routes: Option<Option<Vec<String>>>,
    #[serde(deserialize_with = "present")]
    models: Option<Option<Vec<String>>>,
    tags: Option<BTreeMap<String, String>>,
    #[serde(deserialize_with = "present")]
    expires_at: Option<Option<String>>,
    revoked: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rotation {
    #[serde(default = "one_day")]
    overlap: HumanDuration,
}

#[derive(Debug, Serialize)]
pub(super) struct KeyView {
    id: String,
    /// The key itself, in the reply that made it and never again.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    name: String,
    hint: String,
    priority: Priority,
    team: Option<String>,
    #[serde(flatten)]
    terms: TermsView,
    created_at: String,
    expires_at: Option<String>,
    /// Until when the secret before the last rotation is valid, or was.
    previous_valid_until: Option<String>,
    revoked_at: Option<String>,
}

/// A key, and how much it has used of its limits.
#[derive(Debug, Serialize)]
struct KeyInUse {
    #[serde(flatten)]
    key: KeyView,
    usage: Vec<UsedView>,
}

/// `POST /keys`
pub(super) async fn create(
    State(state): State<AdminState>,
    By(actor): By,
    body: Body,
) -> Result<Response, Problem> {
    let body: KeyBody = page::body(body).await?;
    if body.revoked.is_some() {
        return Err(Problem::invalid("revoked: a key is made valid"));
    }
    let change = body.change()?;
    let (record, secret) = state.callers.create_as(&change, &actor, state.clock.unix_ms()).await?;
    let view = KeyView::of(&record, Some(&secret));
    Ok(page::created(&view, record.version, &format!("/keys/{}", record.id)))
}

/// `POST /keys/{id}/rotate`: a new secret, and for a while the old one as well.
pub(super) async fn rotate(
    State(state): State<AdminState>,
    Path(id): Path<String>,
    By(actor): By,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let Rotation { overlap } = page::body(body).await?;
    let version = page::if_match(&headers)?;
    let now_ms = state.clock.unix_ms();
    let (record, secret) = state.callers.rotate(&id, overlap.0, version, &actor, now_ms).await?;
    Ok(page::versioned(StatusCode::OK, &KeyView::of(&record, Some(&secret)), record.version))
}

/// `GET /keys`
pub(super) async fn list(
    State(state): State<AdminState>,
    uri: Uri,
) -> Result<Json<Page<KeyView>>, Problem> {
    let (query, limit) = PageQuery::of(&uri)?;
    let records = state.callers.list(query.cursor.as_deref(), limit).await?;
    let views = records.iter().map(|record| KeyView::of(record, None)).collect();
    Ok(Json(Page::of(views, limit, |view: &KeyView| &view.id)))
}

/// `GET /keys/{id}`
pub(super) async fn show(
    State(state): State<AdminState>,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let record = state.callers.find(&id).await?;
    let owner = Owner::Key {
        id: record.id.as_str(),
        team: record.team.as_ref().map(TeamId::as_str),
        own: &record.terms.limits,
    };
    let usage = UsedView::all(&state, owner);
    let view = KeyInUse { key: KeyView::of(&record, None), usage };
    Ok(page::versioned(StatusCode::OK, &view, record.version))
}

/// `PATCH /keys/{id}`
pub(super) async fn change(
    State(state): State<AdminState>,
    Path(id): Path<String>,
    By(actor): By,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let change = page::body::<KeyBody>(body).await?.change()?;
    let version = page::if_match(&headers)?;
    let now_ms = state.clock.unix_ms();
    let record = state.callers.change(&id, &change, version, &actor, now_ms).await?;
    if change.revoke {
        forget_answers(&state, id);
    }
    Ok(page::versioned(StatusCode::OK, &KeyView::of(&record, None), record.version))
}

/// `DELETE /keys/{id}`: revokes it. Its row stays, so that its usage keeps its name; its kept
/// answers go, on all nodes.
pub(super) async fn revoke(
    State(state): State<AdminState>,
    Path(id): Path<String>,
    By(actor): By,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    let change = KeyChange { revoke: true, ..KeyChange::default() };
    let version = page::if_match(&headers)?;
    state.callers.change(&id, &change, version, &actor, state.clock.unix_ms()).await?;
    forget_answers(&state, id);
    Ok(StatusCode::NO_CONTENT)
}

/// After the key is revoked: what it still has running began before, and is not kept either.
fn forget_answers(state: &AdminState, key: String) {
    state.cache.purge(&Purge { caller: Some(key), ..Purge::default() });
}

fn one_day() -> HumanDuration {
    HumanDuration::secs(86_400)
}

// === impl KeyBody ===

impl KeyBody {
    fn change(self) -> Result<KeyChange, Problem> {
        if self.revoked == Some(false) {
            let detail = "revoked: a key cannot be made valid again; make a new one";
            return Err(Problem::invalid(detail));
        }
        let Self { name, priority, team, limits, routes, models, tags, expires_at, revoked } = self;
        Ok(KeyChange {
            name,
            priority,
            team,
            terms: TermsChange { limits, routes, models, tags },
            expires_at_ms: terms::moment("expires_at", expires_at)?,
            revoke: revoked.is_some(),
        })
    }
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
            team: record.team.as_ref().map(ToString::to_string),
            terms: TermsView::of(&record.terms),
            created_at: rfc3339(record.created_at_ms),
            expires_at: record.expires_at_ms.map(rfc3339),
            previous_valid_until: record.previous_until_ms.map(rfc3339),
            revoked_at: record.revoked_at_ms.map(rfc3339),
        }
    }
}
