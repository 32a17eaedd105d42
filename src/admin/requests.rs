//! `/admin/v1/requests`: what happened to each request.

use axum::Json;
use axum::extract::State;
use http::Uri;
use serde::Serialize;
use serde_json::Value;

use super::filter::Question;
use super::problem::Problem;
use super::usage::WasteView;
use super::{AdminState, page};
use crate::clock::rfc3339;
use crate::journal::{Outcome, StoredRequest};
use crate::policy::rollout::Arm;

/// A page of requests, newest first.
#[derive(Debug, Serialize)]
pub(super) struct RequestPage {
    data: Vec<RequestView>,
    next_cursor: Option<String>,
}

#[derive(Debug, Serialize)]
struct RequestView {
    id: String,
    started_at: String,
    ended_at: String,
    caller: String,
    endpoint: String,
    dialect: String,
    streamed: bool,
    model: Option<String>,
    prompt: Option<String>,
    rollout: Option<String>,
    arm: Option<String>,
    priority: Option<u64>,
    route: Option<String>,
    target: Option<String>,
    provider: Option<String>,
    served_model: Option<String>,
    outcome: String,
    failure: Option<String>,
    error_code: Option<String>,
    status: u64,
    attempts: u64,
    degradation: u64,
    tokens: TokensView,
    cost_usd: String,
    waste: WasteView,
    saved_usd: String,
    latency_ms: u64,
    first_token_ms: Option<u64>,
    overhead_us: u64,
    tags: Value,
    reuse: Option<String>,
}

/// Tokens, counted once each: the five counts never overlap.
#[derive(Debug, Serialize)]
struct TokensView {
    input: u64,
    cached_input: u64,
    cache_write: u64,
    output: u64,
    reasoning: u64,
    total: u64,
    estimated: bool,
}

/// `GET /requests`
pub(super) async fn list(
    State(state): State<AdminState>,
    uri: Uri,
) -> Result<Json<RequestPage>, Problem> {
    let question = Question::of(&uri, &["limit", "cursor"])?;
    let limit = question.own("limit").map(str::parse).transpose();
    let limit = limit.map_err(|error| Problem::invalid(format!("query: limit: {error}")))?;
    let limit = page::limit(limit)?;
    let before = question.own("cursor").map(cursor).transpose()?;
    let found = state.journal.requests(&question.filter, before, limit).await?;
    let is_full = found.len() == limit as usize;
    let next_cursor = found.last().filter(|_| is_full).map(|last| last.place.to_string());
    Ok(Json(RequestPage { data: found.into_iter().map(RequestView::of).collect(), next_cursor }))
}

fn cursor(text: &str) -> Result<i64, Problem> {
    text.parse().map_err(|_| Problem::invalid("cursor: take it from `next_cursor` of a page"))
}

/// Reads an outcome's name.
pub(super) fn outcome(name: &str) -> Result<Outcome, Problem> {
    Outcome::ALL.into_iter().find(|outcome| outcome.as_str() == name).ok_or_else(|| {
        let all = Outcome::ALL.map(Outcome::as_str).join(", ");
        Problem::invalid(format!("outcome: `{name}` is none of {all}"))
    })
}

/// Reads a side's name.
pub(super) fn arm(name: &str) -> Result<Arm, Problem> {
    Arm::ALL.into_iter().find(|arm| arm.as_str() == name).ok_or_else(|| {
        let all = Arm::ALL.map(Arm::as_str).join(", ");
        Problem::invalid(format!("arm: `{name}` is none of {all}"))
    })
}

// === impl RequestView ===

impl RequestView {
    fn of(stored: StoredRequest) -> Self {
        let tags = stored.tags.and_then(|tags| serde_json::from_str(&tags).ok());
        Self {
            id: stored.request_id,
            started_at: rfc3339(stored.started_at_ms),
            ended_at: rfc3339(stored.ended_at_ms),
            caller: stored.caller,
            endpoint: stored.endpoint,
            dialect: stored.dialect,
            streamed: stored.streamed,
            model: stored.model_asked,
            prompt: stored.prompt,
            rollout: stored.rollout,
            arm: stored.arm,
            priority: stored.priority,
            route: stored.route,
            target: stored.target,
            provider: stored.provider,
            served_model: stored.model_served,
            outcome: stored.outcome,
            failure: stored.failure,
            error_code: stored.error_code,
            status: stored.status,
            attempts: stored.attempts,
            degradation: stored.degradation,
            tokens: TokensView {
                input: stored.usage.input,
                cached_input: stored.usage.cached_input,
                cache_write: stored.usage.cache_write,
                output: stored.usage.output,
                reasoning: stored.usage.reasoning,
                total: stored.usage.total(),
                estimated: stored.usage_estimated,
            },
            cost_usd: stored.cost.to_usd_string(),
            waste: WasteView::of(stored.waste),
            saved_usd: stored.saved.to_usd_string(),
            latency_ms: stored.latency_ms,
            first_token_ms: stored.first_token_ms,
            overhead_us: stored.overhead_us,
            tags: tags.unwrap_or_else(|| Value::Object(serde_json::Map::new())),
            reuse: stored.reuse,
        }
    }
}
