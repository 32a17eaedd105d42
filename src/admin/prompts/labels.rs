//! `/admin/v1/prompts/{id}/labels`: what labels stand for.

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::Response;
use http::{HeaderMap, StatusCode, Uri};
use serde::{Deserialize, Serialize};

use super::super::AdminState;
use super::super::actor::By;
use super::super::page;
use super::super::problem::Problem;
use super::parsed;
use super::view::{LabelChangeView, LabelView};
use crate::registry::{LabelChange, RegistryError, Wish};

/// What a label shall stand for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct LabelBody {
    version: String,
    #[serde(default)]
    protected: Option<bool>,
    #[serde(default)]
    force: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct DeleteQuery {
    force: bool,
}

/// Everything at once: a prompt has few labels.
#[derive(Debug, Serialize)]
pub(super) struct All<T> {
    data: Vec<T>,
}

/// `GET /prompts/{id}/labels`
pub(super) async fn list(
    State(state): State<AdminState>,
    Path(id): Path<String>,
) -> Result<Json<All<LabelView>>, Problem> {
    let labels = state.registry.labels(&id)?;
    Ok(Json(All { data: labels.iter().map(LabelView::of).collect() }))
}

/// `GET /prompts/{id}/labels/{label}`
pub(super) async fn show(
    State(state): State<AdminState>,
    Path((id, label)): Path<(String, String)>,
) -> Result<Response, Problem> {
    let labels = state.registry.labels(&id)?;
    let record = labels.iter().find(|record| record.label == label);
    let record = record.ok_or_else(|| {
        let label = label.chars().take(80).collect();
        RegistryError::UnknownLabel { id, label }
    })?;
    Ok(page::versioned(StatusCode::OK, &LabelView::of(record), record.changed))
}

/// `PUT /prompts/{id}/labels/{label}`
pub(super) async fn set(
    State(state): State<AdminState>,
    Path((prompt, label)): Path<(String, String)>,
    By(actor): By,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let LabelBody { version, protected, force } = page::body(body).await?;
    let wish = Wish::Set { version: parsed(&version)?, protected };
    let if_changed = page::if_match(&headers)?;
    let change = LabelChange { prompt: &prompt, label: &label, wish, if_changed, force };
    let record = state.registry.set_label(&change, &actor, state.clock.unix_ms()).await?;
    // One that is done gives way to a label.
    state.rollouts.reload();
    Ok(page::versioned(StatusCode::OK, &LabelView::of(&record), record.changed))
}

/// `DELETE /prompts/{id}/labels/{label}`
pub(super) async fn delete(
    State(state): State<AdminState>,
    Path((prompt, label)): Path<(String, String)>,
    By(actor): By,
    headers: HeaderMap,
    uri: Uri,
) -> Result<StatusCode, Problem> {
    let DeleteQuery { force } = page::query(&uri)?;
    let if_changed = page::if_match(&headers)?;
    let wish = Wish::Delete;
    let change = LabelChange { prompt: &prompt, label: &label, wish, if_changed, force };
    state.registry.set_label(&change, &actor, state.clock.unix_ms()).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `GET /prompts/{id}/labels/{label}/history`: newest first.
pub(super) async fn history(
    State(state): State<AdminState>,
    Path((id, label)): Path<(String, String)>,
) -> Result<Json<All<LabelChangeView>>, Problem> {
    let changes = state.registry.label_history(&id, &label).await?;
    Ok(Json(All { data: changes.iter().map(LabelChangeView::of).collect() }))
}
