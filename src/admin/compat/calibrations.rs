//! `/admin/v1/compat/calibrations`: how far judges agree with people.

use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::{StatusCode, Uri};
use serde::{Deserialize, Serialize};

use super::{AdminState, By, Page, Problem, page};
use crate::callers::Caller;
use crate::clock::rfc3339;
use crate::compat::agreement::{Agreement, Kappa};
use crate::compat::judge::PROTOCOL;
use crate::compat::{Ask, Label, MAX_LABELS, Reply};
use crate::runs::Calibration;

/// Answers that people have labelled, and the judge that is held against them.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CalibrationBody {
    judge: String,
    labels: Vec<Label>,
    /// How long the reply may take, in seconds.
    #[serde(default)]
    wait_seconds: Option<u64>,
}

/// Which are listed.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct CalibrationsQuery {
    judge: Option<String>,
}

/// How far a judge agrees with people.
#[derive(Debug, Serialize)]
pub(super) struct CalibrationView {
    judge: String,
    /// The version of what it is asked by.
    protocol: String,
    /// Labels of which the judge has said something.
    labels: u64,
    /// Those of which it said the same as people.
    agreed: u64,
    /// Labels that are left out: the judge could not say.
    failed: u64,
    agreement: Agreement,
    kappa: Option<Kappa>,
    is_calibrated: bool,
    /// What keeps it from being so.
    lacks: Vec<String>,
    at: String,
}

/// How far the judge is.
#[derive(Debug, Serialize)]
struct JudgedView {
    judged: usize,
    labels: usize,
}

/// More than that many labels take, if they are not all as long as may be.
const MAX_LABELS_BYTES: usize = 16 << 20;
/// How long a reply may take, in seconds: less than what clients wait.
const MAX_WAIT_SECONDS: u64 = 20;
/// More than any model's name is long.
const MAX_JUDGE_BYTES: usize = 256;

/// `POST /compat/calibrations`: 201 when the judge has said something of all, else 202; then it is
/// to be sent again.
pub(super) async fn create(
    State(state): State<AdminState>,
    By(actor): By,
    body: Body,
) -> Result<Response, Problem> {
    let body: CalibrationBody = page::body_within(body, MAX_LABELS_BYTES).await?;
    let asks = body.asks(&state)?;
    let wait = body.wait_seconds.unwrap_or(MAX_WAIT_SECONDS).min(MAX_WAIT_SECONDS);
    let replies = state.runs.judge(&body.judge, asks, Duration::from_secs(wait)).await?;
    let judged = replies.iter().filter(|reply| reply.is_some()).count();
    if judged < body.labels.len() {
        let view = JudgedView { judged, labels: body.labels.len() };
        return Ok((StatusCode::ACCEPTED, Json(view)).into_response());
    }
    let found = Calibration {
        agreement: body.agreement(&replies),
        judge: body.judge,
        protocol: PROTOCOL.to_owned(),
        failed: replies.iter().filter(|reply| why_failed(reply).is_some()).count() as u64,
        at_ms: state.clock.unix_ms(),
    };
    if found.agreement.labels() == 0 {
        // What was found before is worth more than nothing.
        let why = replies.iter().find_map(why_failed).unwrap_or_default();
        let detail = format!("`{}` could say nothing of any answer: {why}", found.judge);
        return Err(Problem::new(StatusCode::BAD_GATEWAY, "judge_failed", detail));
    }
    state.runs.calibrate(&found, &actor).await?;
    Ok((StatusCode::CREATED, Json(CalibrationView::of(&found))).into_response())
}

/// `GET /compat/calibrations`: by judge.
pub(super) async fn list(
    State(state): State<AdminState>,
    uri: Uri,
) -> Result<Json<Page<CalibrationView>>, Problem> {
    let query: CalibrationsQuery = page::query(&uri)?;
    let all = state.runs.calibrations().await?;
    let is_wanted =
        |found: &&Calibration| query.judge.as_ref().is_none_or(|judge| found.judge == *judge);
    let views: Vec<_> = all.iter().filter(is_wanted).map(CalibrationView::of).collect();
    // All of them: there are as many as judges.
    Ok(Json(Page::of(views, u32::MAX, |view: &CalibrationView| &view.judge)))
}

fn why_failed(reply: &Option<Reply>) -> Option<&str> {
    match reply {
        Some(Reply::Failed(why)) => Some(why),
        Some(Reply::Rated { .. } | Reply::Similarity(_) | Reply::Preferred(_)) | None => None,
    }
}

// === impl CalibrationBody ===

impl CalibrationBody {
    /// What the judge is asked.
    fn asks(&self, state: &AdminState) -> Result<Vec<Ask>, Problem> {
        if self.judge.len() > MAX_JUDGE_BYTES {
            return Err(Problem::invalid(format!("judge: has over {MAX_JUDGE_BYTES} bytes")));
        }
        let snapshot = state.snapshot.load_full();
        snapshot.resolve_for(&Caller::gateway(), &self.judge).map_err(|rejection| {
            Problem::invalid(format!("judge: `{}` cannot be asked: {rejection}", self.judge))
        })?;
        if !(1..=MAX_LABELS).contains(&self.labels.len()) {
            let count = self.labels.len();
            return Err(Problem::invalid(format!("labels: {count}, not 1 to {MAX_LABELS}")));
        }
        let asks = self.labels.iter().enumerate().map(|(at, label)| {
            label.ask().map_err(|problem| Problem::invalid(format!("labels[{at}]: {problem}")))
        });
        asks.collect()
    }

    /// What both said, where the judge said something.
    fn agreement(&self, replies: &[Option<Reply>]) -> Agreement {
        let pairs = replies.iter().zip(&self.labels).filter_map(|(reply, label)| match reply {
            Some(Reply::Rated { passed, .. }) => Some((*passed, label.passed)),
            Some(Reply::Similarity(_) | Reply::Preferred(_) | Reply::Failed(_)) | None => None,
        });
        Agreement::of(pairs)
    }
}

// === impl CalibrationView ===

impl CalibrationView {
    fn of(found: &Calibration) -> Self {
        let agreement = found.agreement;
        Self {
            judge: found.judge.clone(),
            protocol: found.protocol.clone(),
            labels: agreement.labels(),
            agreed: agreement.both_pass + agreement.both_fail,
            failed: found.failed,
            agreement,
            kappa: agreement.kappa(),
            is_calibrated: agreement.is_calibrated(),
            lacks: agreement.lacks(),
            at: rfc3339(found.at_ms),
        }
    }
}
