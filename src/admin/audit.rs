//! `/admin/v1/audit`: who changed what.

use axum::Json;
use axum::extract::State;
use http::Uri;
use serde::{Deserialize, Serialize};

use super::problem::Problem;
use super::{AdminState, page};
use crate::audit::{AuditFilter, AuditRecord};
use crate::clock::rfc3339;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct ListQuery {
    actor: Option<String>,
    action: Option<String>,
    resource: Option<String>,
    since: Option<String>,
    until: Option<String>,
    limit: Option<u32>,
    cursor: Option<String>,
}

/// A page of changes, newest first.
#[derive(Debug, Serialize)]
pub(super) struct AuditPage {
    data: Vec<ChangeView>,
    next_cursor: Option<String>,
}

#[derive(Debug, Serialize)]
struct ChangeView {
    at: String,
    #[serde(flatten)]
    record: AuditRecord,
}

/// `GET /audit`
pub(super) async fn list(
    State(state): State<AdminState>,
    uri: Uri,
) -> Result<Json<AuditPage>, Problem> {
    let query: ListQuery = page::query(&uri)?;
    let limit = page::limit(query.limit)?;
    let wrong = |_| Problem::invalid("cursor: take it from `next_cursor` of a page");
    let before = query.cursor.as_deref().map(str::parse).transpose().map_err(wrong)?;
    let filter = AuditFilter {
        since_ms: page::time_ms("since", query.since.as_deref())?,
        until_ms: page::time_ms("until", query.until.as_deref())?,
        actor: query.actor,
        action: query.action,
        resource: query.resource,
    };
    let found = state.callers.audit().list(&filter, before, limit).await?;
    let is_full = found.len() == limit as usize;
    let next_cursor = found.last().filter(|_| is_full).map(|last| last.place.to_string());
    let view = |record: AuditRecord| ChangeView { at: rfc3339(record.at_ms), record };
    Ok(Json(AuditPage { data: found.into_iter().map(view).collect(), next_cursor }))
}
