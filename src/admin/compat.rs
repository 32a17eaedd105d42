//! `/admin/v1/compat`: suites, runs and their reports, judges.

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{MethodFilter, MethodRouter, on};
use http::header::{ACCEPT, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, StatusCode, Uri};
use serde::Deserialize;

use super::AdminState;
use super::actor::By;
use super::page::{self, Page, PageQuery};
use super::problem::Problem;
use crate::runs::{RunFilter, RunKind, RunState};

mod calibrations;
mod cases;
mod matrix;
mod new;
mod recordings;
mod report;
mod suites;
mod view;

use new::NewBody;
use view::RunView;

/// Which runs are listed.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RunsQuery {
    limit: Option<u32>,
    cursor: Option<String>,
    suite: Option<String>,
    prompt: Option<String>,
    state: Option<RunState>,
    kind: Option<RunKind>,
}

/// In which form a report is wanted.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct ReportQuery {
    format: Option<Format>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Format {
    Json,
    Html,
    Junit,
}

/// What the page of a report may do: be looked at. Its one script is its own.
const PAGE_POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);

/// Every route: its method, its path, and who answers.
pub(super) fn routes() -> Vec<(MethodFilter, &'static str, MethodRouter<AdminState>)> {
    use MethodFilter as M;
    vec![
        (M::POST, "/compat/runs", on(M::POST, create)),
        (M::GET, "/compat/runs", on(M::GET, list)),
        (M::GET, "/compat/runs/{id}", on(M::GET, show)),
        (M::GET, "/compat/runs/{id}/report", on(M::GET, show_report)),
        (M::GET, "/compat/runs/{id}/cases", on(M::GET, cases::list)),
        (M::POST, "/compat/runs/{id}/cancel", on(M::POST, cancel)),
        (M::GET, "/compat/drifts", on(M::GET, drifts)),
        (M::GET, "/compat/matrix/{prompt}", on(M::GET, matrix::show)),
        (M::POST, "/compat/calibrations", on(M::POST, calibrations::create)),
        (M::GET, "/compat/calibrations", on(M::GET, calibrations::list)),
        (M::POST, "/compat/recordings", on(M::POST, recordings::create)),
        (M::GET, "/compat/recordings/{id}", on(M::GET, recordings::show)),
        (M::DELETE, "/compat/recordings/{id}", on(M::DELETE, recordings::forget)),
        (M::POST, "/compat/suites", on(M::POST, suites::push)),
        (M::GET, "/compat/suites", on(M::GET, suites::list)),
        (M::GET, "/compat/suites/{id}", on(M::GET, suites::show)),
    ]
}

/// `POST /compat/runs`
async fn create(
    State(state): State<AdminState>,
    By(actor): By,
    body: Body,
) -> Result<Response, Problem> {
    let body: NewBody = page::body(body).await?;
    // A version that was pushed to another node a moment ago. A store that is away says so below.
    let _ = state.registry.load().await;
    let suite = suites::find(&state, &body.suite).await?;
    let new = body.run(&state, &suite)?;
    let record = state.runs.begin(new, &actor).await?;
    let view = RunView::of(&record);
    Ok(page::created(&view, 1, &format!("/compat/runs/{}", record.id)))
}

/// `GET /compat/runs`: newest first.
async fn list(State(state): State<AdminState>, uri: Uri) -> Result<Json<Page<RunView>>, Problem> {
    let query: RunsQuery = page::query(&uri)?;
    let limit = page::limit(query.limit)?;
    let RunsQuery { suite, prompt, state: in_state, kind, cursor, limit: _ } = query;
    let filter = RunFilter { suite, prompt, state: in_state, kind };
    let records = state.runs.list(&filter, cursor.as_deref(), limit).await?;
    if let (true, Some(suite)) = (records.is_empty(), &filter.suite) {
        // Nothing of a suite that nobody knows is a slip of the pen, not a list.
        suites::find(&state, suite).await?;
    }
    let views = records.iter().map(RunView::of).collect();
    Ok(Json(Page::of(views, limit, |view: &RunView| &view.id)))
}

/// `GET /compat/runs/{id}`. Who asks for a page or for XML gets the report.
async fn show(
    State(state): State<AdminState>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let record = state.runs.find(&id).await?;
    match wanted(&headers) {
        Format::Json => Ok(Json(RunView::of(&record)).into_response()),
        format @ (Format::Html | Format::Junit) => {
            let report = report::of(&state, &record).await?;
            written(&report, format)
        }
    }
}

/// `GET /compat/runs/{id}/report`: as `format` or `Accept` says, else JSON.
async fn show_report(
    State(state): State<AdminState>,
    Path(id): Path<String>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, Problem> {
    let query: ReportQuery = page::query(&uri)?;
    let record = state.runs.find(&id).await?;
    let report = report::of(&state, &record).await?;
    written(&report, query.format.unwrap_or_else(|| wanted(&headers)))
}

/// `GET /compat/drifts`: what the providers have changed, as far as prompts show it.
async fn drifts(State(state): State<AdminState>) -> Result<Json<Page<RunView>>, Problem> {
    let records = state.runs.drifts().await?;
    let views: Vec<_> = records.iter().map(RunView::of).collect();
    // All of them: there is one a prompt at most.
    Ok(Json(Page::of(views, u32::MAX, |view: &RunView| &view.id)))
}

/// `POST /compat/runs/{id}/cancel`
async fn cancel(
    State(state): State<AdminState>,
    Path(id): Path<String>,
    By(actor): By,
) -> Result<Json<RunView>, Problem> {
    let record = state.runs.cancel(&id, &actor).await?;
    Ok(Json(RunView::of(&record)))
}

fn wanted(headers: &HeaderMap) -> Format {
    let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let first = accept.split([',', ';']).map(str::trim).find_map(|kind| match kind {
        "text/html" => Some(Format::Html),
        "application/xml" | "text/xml" => Some(Format::Junit),
        "application/json" => Some(Format::Json),
        _ => None,
    });
    first.unwrap_or(Format::Json)
}

fn written(report: &crate::compat::report::Report, format: Format) -> Result<Response, Problem> {
    let failed = |problem: String| {
        let detail = format!("the report cannot be written: {problem}");
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail)
    };
    match format {
        Format::Json => Ok(Json(report).into_response()),
        Format::Html => {
            let page = report.html().map_err(failed)?;
            let kind = (CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
            Ok(([kind, (CONTENT_SECURITY_POLICY, PAGE_POLICY)], page).into_response())
        }
        Format::Junit => {
            let xml = report.junit().map_err(failed)?;
            let kind = (CONTENT_TYPE, HeaderValue::from_static("application/xml"));
            Ok(([kind], xml).into_response())
        }
    }
}
