//! `/admin/v1/config`: what runs, and reading it again.

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use super::AdminState;
use super::actor::By;
use super::problem::Problem;
use crate::audit::Event;

/// `GET /config`
pub(super) async fn show(State(state): State<AdminState>) -> Json<Value> {
    Json((state.show_config)())
}

/// `POST /config/reload`
pub(super) async fn reload(
    State(state): State<AdminState>,
    By(actor): By,
) -> Result<Json<Value>, Problem> {
    let revision = |shown: &Value| Some(json!({ "revision": shown["revision"] }));
    let before = revision(&(state.show_config)());
    let loaded = (state.reload_config)().await;
    let shown = loaded.map_err(|problems| Problem::from_problems(&problems))?;
    let event = Event {
        action: "config.reload",
        resource: "config".to_owned(),
        before,
        after: revision(&shown),
    };
    state.callers.audit().note(&actor, event, state.clock.unix_ms());
    Ok(Json(shown))
}
