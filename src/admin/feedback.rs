//! `/admin/v1/feedback`: what callers say of answers, and how good these were by prompt and model.

use axum::Json;
use axum::extract::State;
use http::Uri;
use serde::{Deserialize, Serialize};

use super::problem::Problem;
use super::{AdminState, page};
use crate::clock::rfc3339;
use crate::feedback::{Feedback, FeedbackFilter, FeedbackKind, FeedbackScore, StoredFeedback};

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct ListQuery {
    route: Option<String>,
    prompt: Option<String>,
    model: Option<String>,
    caller: Option<String>,
    request_id: Option<String>,
    kind: Option<String>,
    since: Option<String>,
    until: Option<String>,
    limit: Option<u32>,
    cursor: Option<String>,
}

/// A page of words, newest first.
#[derive(Debug, Serialize)]
pub(super) struct FeedbackPage {
    data: Vec<FeedbackView>,
    next_cursor: Option<String>,
}

#[derive(Debug, Serialize)]
struct FeedbackView {
    id: String,
    at: String,
    request_id: String,
    caller: String,
    kind: String,
    score: Option<f64>,
    words: Option<String>,
    changes: u64,
    waiting: bool,
    route: Option<String>,
    prompt: Option<String>,
    provider: Option<String>,
    model: Option<String>,
    rollout: Option<String>,
    arm: Option<String>,
}

/// Mean scores, the most rated first.
#[derive(Debug, Serialize)]
pub(super) struct ScorePage {
    data: Vec<ScoreView>,
    /// Whether there are more groups than are shown.
    truncated: bool,
}

#[derive(Debug, Serialize)]
struct ScoreView {
    prompt: Option<String>,
    provider: Option<String>,
    model: Option<String>,
    ratings: u64,
    mean_score: f64,
}

/// `GET /feedback`
pub(super) async fn list(
    State(state): State<AdminState>,
    uri: Uri,
) -> Result<Json<FeedbackPage>, Problem> {
    let query: ListQuery = page::query(&uri)?;
    let limit = page::limit(query.limit)?;
    let wrong = |_| Problem::invalid("cursor: take it from `next_cursor` of a page");
    let before = query.cursor.as_deref().map(str::parse).transpose().map_err(wrong)?;
    let found = state.feedback.list(&query.filter()?, before, limit).await?;
    let is_full = found.len() == limit as usize;
    let next_cursor = found.last().filter(|_| is_full).map(|last| last.place.to_string());
    Ok(Json(FeedbackPage { data: found.into_iter().map(FeedbackView::of).collect(), next_cursor }))
}

/// `GET /feedback/scores`
pub(super) async fn scores(
    State(state): State<AdminState>,
    uri: Uri,
) -> Result<Json<ScorePage>, Problem> {
    let query: ListQuery = page::query(&uri)?;
    if query.limit.is_some() || query.cursor.is_some() {
        return Err(Problem::invalid("query: `limit` and `cursor` are for /feedback"));
    }
    let scores = state.feedback.scores(&query.filter()?).await?;
    let truncated = scores.len() == Feedback::MAX_SCORES as usize;
    Ok(Json(ScorePage { data: scores.into_iter().map(ScoreView::of).collect(), truncated }))
}

// === impl ListQuery ===

impl ListQuery {
    fn filter(self) -> Result<FeedbackFilter, Problem> {
        let kind = self.kind.map(|word| {
            FeedbackKind::parse(&word).ok_or_else(|| {
                let all = FeedbackKind::ALL.map(FeedbackKind::as_str).join(", ");
                Problem::invalid(format!("kind: `{word}` is none of {all}"))
            })
        });
        Ok(FeedbackFilter {
            since_ms: page::time_ms("since", self.since.as_deref())?,
            until_ms: page::time_ms("until", self.until.as_deref())?,
            kind: kind.transpose()?,
            route: self.route,
            prompt: self.prompt,
            model: self.model,
            caller: self.caller,
            request_id: self.request_id,
        })
    }
}

// === impl FeedbackView ===

impl FeedbackView {
    fn of(stored: StoredFeedback) -> Self {
        Self {
            id: stored.id,
            at: rfc3339(stored.at_ms),
            request_id: stored.request_id,
            caller: stored.caller,
            kind: stored.kind,
            score: stored.score,
            words: stored.words,
            changes: stored.changes,
            waiting: stored.waits,
            route: stored.route,
            prompt: stored.prompt,
            provider: stored.provider,
            model: stored.model,
            rollout: stored.rollout,
            arm: stored.arm,
        }
    }
}

// === impl ScoreView ===

impl ScoreView {
    fn of(score: FeedbackScore) -> Self {
        Self {
            prompt: score.prompt,
            provider: score.provider,
            model: score.model,
            ratings: score.ratings,
            mean_score: (score.mean * 1e4).round() / 1e4,
        }
    }
}
