//! `/admin/v1/config`: what runs, and reading it again.

use axum::Json;
use axum::extract::State;
use serde_json::Value;

use super::AdminState;
use super::problem::Problem;

/// `GET /config`
pub(super) async fn show(State(state): State<AdminState>) -> Json<Value> {
    Json((state.show_config)())
}

/// `POST /config/reload`
pub(super) async fn reload(State(state): State<AdminState>) -> Result<Json<Value>, Problem> {
    (state.reload_config)().map(Json).map_err(|problems| Problem::from_problems(&problems))
}
