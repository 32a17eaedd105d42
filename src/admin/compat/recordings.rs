//! `/admin/v1/compat/recordings`: golden cases from traffic.

use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::Response;
use http::StatusCode;
use serde::{Deserialize, Serialize};

use super::{AdminState, By, Problem, page};
use crate::clock::rfc3339;
use crate::runs::{NewRecording, Recorded, RecordingState, RunsError};

/// What is to be recorded.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RecordingBody {
    prompt: String,
    #[serde(default)]
    count: Option<u32>,
    #[serde(default)]
    seconds: Option<u64>,
    #[serde(default)]
    redact: Option<bool>,
}

/// A recording.
#[derive(Debug, Serialize)]
pub(super) struct RecordingView {
    id: String,
    prompt: String,
    state: RecordingState,
    /// Cases that are wanted, and those there are.
    count: u32,
    recorded: usize,
    /// Answers that make no case.
    left_out: u64,
    seconds: u64,
    redact: bool,
    created_at: String,
    /// In promptfoo's YAML.
    cases: String,
}

/// Cases and seconds where nothing is said.
const COUNT: u32 = 20;
const SECONDS: u64 = 600;

/// `POST /compat/recordings`
pub(super) async fn create(
    State(state): State<AdminState>,
    By(actor): By,
    body: Body,
) -> Result<Response, Problem> {
    let body: RecordingBody = page::body(body).await?;
    state.registry.versions(&body.prompt)?;
    let new = NewRecording {
        prompt: body.prompt,
        count: body.count.unwrap_or(COUNT),
        time: Duration::from_secs(body.seconds.unwrap_or(SECONDS)),
        redact: body.redact.unwrap_or(true),
    };
    let id = state.runs.record(new, &actor).await?;
    let view = found(&state, &id)?;
    Ok(page::created(&view, 1, &format!("/compat/recordings/{id}")))
}

/// `GET /compat/recordings/{id}`
pub(super) async fn show(
    State(state): State<AdminState>,
    Path(id): Path<String>,
) -> Result<Json<RecordingView>, Problem> {
    found(&state, &id).map(Json)
}

/// `DELETE /compat/recordings/{id}`: ends it, and forgets what it has.
pub(super) async fn forget(
    State(state): State<AdminState>,
    Path(id): Path<String>,
    By(actor): By,
) -> Result<StatusCode, Problem> {
    state.runs.forget_recording(&id, &actor).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn found(state: &AdminState, id: &str) -> Result<RecordingView, Problem> {
    let found = state.runs.recordings().find(id);
    let unknown = || RunsError::UnknownRecording(id.chars().take(64).collect());
    Ok(RecordingView::of(found.ok_or_else(unknown)?))
}

// === impl RecordingView ===

impl RecordingView {
    fn of(recorded: Recorded) -> Self {
        let Recorded { id, wanted, state, cases, left_out, began_ms, text } = recorded;
        Self {
            id,
            prompt: wanted.prompt,
            state,
            count: wanted.count,
            recorded: cases,
            left_out,
            seconds: wanted.time.as_secs(),
            redact: wanted.redact,
            created_at: rfc3339(began_ms),
            cases: text,
        }
    }
}
