//! `GET /v1/models`, in the shape the caller's client expects.

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::response::Response;
use bytes::Bytes;
use serde_json::{Value, json};

use super::error::ApiError;
use super::{Edge, caller, reply};
use crate::clock;
use crate::config::ListedModel;
use crate::dialect::Dialect;
use crate::dispatch::Served;

/// `GET /v1/models`: routes first, then every model of every enabled provider.
pub(super) async fn list(State(edge): State<Edge>, request: Request) -> Response {
    let dialect = caller::dialect_of(&request);
    let caller = match caller::authenticate(&edge, request.headers()) {
        Ok(caller) => caller,
        Err(rejection) => return ApiError::new(rejection, dialect).into_response(),
    };
    let snapshot = edge.gateway.snapshot();
    let models: Vec<Value> =
        snapshot.models_for(&caller).map(|model| view(model, dialect)).collect();
    let body = if dialect == Dialect::Anthropic {
        let id = |model: Option<&Value>| model.and_then(|model| model.get("id")).cloned();
        json!({
            "first_id": id(models.first()), "last_id": id(models.last()), "has_more": false, "data": models,
        })
    } else {
        json!({ "object": "list", "data": models })
    };
    ok(&body)
}

/// `GET /v1/models/{id}`; ids have slashes.
pub(super) async fn one(
    State(edge): State<Edge>,
    id: Result<Path<String>, PathRejection>,
    request: Request,
) -> Response {
    // What is no UTF-8 names no model, and is named as it was sent.
    let sent = || request.uri().path().trim_start_matches("/v1/models/").to_owned();
    let id = id.map_or_else(|_| sent(), |Path(id)| id);
    let dialect = caller::dialect_of(&request);
    let caller = match caller::authenticate(&edge, request.headers()) {
        Ok(caller) => caller,
        Err(rejection) => return ApiError::new(rejection, dialect).into_response(),
    };
    let snapshot = edge.gateway.snapshot();
    let listed = snapshot.models_for(&caller).find(|model| model.id == id);
    match (listed, snapshot.resolve_for(&caller, &id)) {
        (Some(model), _) => ok(&view(model, dialect)),
        // A bare name, or a model that its provider serves without listing it.
        (None, Ok(route)) => {
            let owner = route.tiers.first().and_then(|tier| tier.first());
            let owned_by = owner.map_or("tidegate", |target| target.endpoint.provider.as_str());
            let model = ListedModel { id, owned_by: owned_by.to_owned(), created: 0 };
            ok(&view(&model, dialect))
        }
        (None, Err(rejection)) => ApiError::new(rejection, dialect).into_response(),
    }
}

fn view(model: &ListedModel, dialect: Dialect) -> Value {
    let ListedModel { id, owned_by, created } = model;
    match dialect {
        Dialect::Anthropic => json!({
            "type": "model", "id": id, "display_name": id,
            "created_at": clock::rfc3339(created.saturating_mul(1_000)),
        }),
        Dialect::OpenAiChat | Dialect::Gemini => json!({
            "id": id, "object": "model", "created": created, "owned_by": owned_by,
        }),
    }
}

fn ok(body: &Value) -> Response {
    let body = Bytes::from(body.to_string());
    reply::whole(body, &reply::new_request_id(), &Served::default())
}
