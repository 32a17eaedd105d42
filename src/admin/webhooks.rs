//! `/admin/v1/webhooks`: receivers of webhooks, and what has been sent to them.

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::{StatusCode, Uri};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::AdminState;
use super::actor::By;
use super::page::{self, Page, PageQuery};
use super::problem::Problem;
use crate::audit::Event;
use crate::clock::rfc3339;
use crate::jobs::{Delivery, StoredReceiver};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ChangedReceiver {
    enabled: bool,
}

/// A receiver; never its secret.
#[derive(Debug, Serialize)]
pub(super) struct ReceiverView {
    id: String,
    caller: String,
    url: String,
    enabled: bool,
    disabled_at: Option<String>,
    disabled_why: Option<String>,
    failing_since: Option<String>,
    created_at: String,
}

/// A webhook.
#[derive(Debug, Serialize)]
pub(super) struct DeliveryView {
    id: String,
    job: String,
    status: String,
    attempts: u32,
    next_at: Option<String>,
    ended_at: Option<String>,
    last_status: Option<u16>,
    last_error: Option<String>,
}

/// `GET /webhooks`
pub(super) async fn list(
    State(state): State<AdminState>,
    uri: Uri,
) -> Result<Json<Page<ReceiverView>>, Problem> {
    let (query, limit) = PageQuery::of(&uri)?;
    let receivers = state.jobs.receivers(query.cursor.as_deref(), limit).await?;
    let views = receivers.iter().map(ReceiverView::of).collect();
    Ok(Json(Page::of(views, limit, |view: &ReceiverView| &view.id)))
}

/// `GET /webhooks/{id}`
pub(super) async fn show(
    State(state): State<AdminState>,
    Path(id): Path<String>,
) -> Result<Json<ReceiverView>, Problem> {
    let receiver = state.jobs.receiver(&id).await?.ok_or_else(|| no_receiver(&id))?;
    Ok(Json(ReceiverView::of(&receiver)))
}

/// `PATCH /webhooks/{id}`: switches a receiver on or off.
pub(super) async fn change(
    State(state): State<AdminState>,
    By(actor): By,
    Path(id): Path<String>,
    body: Body,
) -> Result<Json<ReceiverView>, Problem> {
    let changed: ChangedReceiver = page::body(body).await?;
    let old = state.jobs.receiver(&id).await?.ok_or_else(|| no_receiver(&id))?;
    let receiver = state.jobs.switch_receiver(&id, changed.enabled).await?;
    let receiver = receiver.ok_or_else(|| no_receiver(&id))?;
    let event = Event {
        action: "webhook.change",
        resource: format!("webhooks/{id}"),
        before: Some(json!({ "enabled": old.disabled.is_none() })),
        after: Some(json!({ "enabled": receiver.disabled.is_none() })),
    };
    state.callers.audit().note(&actor, event, state.clock.unix_ms());
    Ok(Json(ReceiverView::of(&receiver)))
}

/// `GET /webhooks/{id}/deliveries`
pub(super) async fn deliveries(
    State(state): State<AdminState>,
    Path(id): Path<String>,
    uri: Uri,
) -> Result<Json<Page<DeliveryView>>, Problem> {
    let (query, limit) = PageQuery::of(&uri)?;
    state.jobs.receiver(&id).await?.ok_or_else(|| no_receiver(&id))?;
    let deliveries = state.jobs.deliveries(&id, query.cursor.as_deref(), limit).await?;
    let views = deliveries.iter().map(DeliveryView::of).collect();
    Ok(Json(Page::of(views, limit, |view: &DeliveryView| &view.id)))
}

/// `POST /webhooks/{id}/deliveries/{delivery}/redeliver`: sends it again, under the same id.
pub(super) async fn redeliver(
    State(state): State<AdminState>,
    By(actor): By,
    Path((id, delivery)): Path<(String, String)>,
) -> Result<Response, Problem> {
    let sent = state.jobs.redeliver(&id, &delivery).await?.ok_or_else(|| {
        let detail = format!("no webhook to `{id}` has the id `{delivery}`");
        Problem::new(StatusCode::NOT_FOUND, "unknown_webhook", detail)
    })?;
    let event = Event {
        action: "webhook.redeliver",
        resource: format!("webhooks/{id}/deliveries/{delivery}"),
        before: None,
        after: None,
    };
    state.callers.audit().note(&actor, event, state.clock.unix_ms());
    Ok((StatusCode::ACCEPTED, Json(DeliveryView::of(&sent))).into_response())
}

fn no_receiver(id: &str) -> Problem {
    let detail = format!("no receiver of webhooks has the id `{id}`");
    Problem::new(StatusCode::NOT_FOUND, "unknown_receiver", detail)
}

// === impl ReceiverView ===

impl ReceiverView {
    fn of(receiver: &StoredReceiver) -> Self {
        let disabled = receiver.disabled.as_ref();
        Self {
            id: receiver.id.clone(),
            caller: receiver.caller.to_string(),
            url: receiver.url.clone(),
            enabled: disabled.is_none(),
            disabled_at: disabled.map(|(at, _)| rfc3339(*at)),
            disabled_why: disabled.map(|(_, why)| why.clone()),
            failing_since: receiver.failing_since_ms.map(rfc3339),
            created_at: rfc3339(receiver.created_at_ms),
        }
    }
}

// === impl DeliveryView ===

impl DeliveryView {
    fn of(delivery: &Delivery) -> Self {
        Self {
            id: delivery.id.clone(),
            job: delivery.job.clone(),
            status: delivery.state.clone(),
            attempts: delivery.attempts,
            next_at: delivery.next_at_ms.map(rfc3339),
            ended_at: delivery.ended_at_ms.map(rfc3339),
            last_status: delivery.last_status,
            last_error: delivery.last_error.clone(),
        }
    }
}
