//! `/v1/jobs`: requests that are answered later. `Prefer: respond-async` on a completion makes one,
//! too.

use std::future::Future;

use axum::Json;
use axum::body::Body;
use axum::extract::{Query, Request, State};
use axum::response::{IntoResponse, Response};
use http::header::RETRY_AFTER;
use http::request::Parts;
use http::{HeaderValue, Uri};
use serde::{Deserialize, Serialize};

use super::error::ApiError;
use super::{Edge, caller, panics, reply};
use crate::dialect::Dialect;
use crate::dispatch::Served;
use crate::ids::RequestId;
use crate::jobs;
use crate::policy::job::JobState;
use crate::rejection::Rejection;
use crate::store::StoreError;

mod submission;
mod view;
mod wish;

pub(super) use submission::{accept, submit};
use view::JobView;

/// A request on its way to an answer.
struct Visit {
    dialect: Dialect,
    request_id: RequestId,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct ListQuery {
    limit: Option<u32>,
    cursor: Option<String>,
    status: Option<String>,
}

/// A page of jobs, newest first.
#[derive(Debug, Serialize)]
struct JobPage {
    object: &'static str,
    data: Vec<JobView>,
    has_more: bool,
    next_cursor: Option<String>,
}

/// Jobs on a page when the request does not say, and the most.
const PAGE: (u32, u32) = (20, 100);
/// After how many seconds it is sensible to ask for a job's state.
const LOOK_AGAIN_S: u64 = 1;

/// `GET /v1/jobs/{id}`
pub(super) async fn show(State(edge): State<Edge>, request: Request) -> Response {
    let (visit, head, _body) = Visit::begin(request);
    let found = async {
        let caller = caller::authenticate(&edge, &head.headers)?;
        let id = id_in(&head.uri)?;
        let found = edge.gateway.jobs().find(&caller.id, id).await.map_err(away)?;
        let found = found.ok_or_else(|| unknown(id))?;
        let mut response = Json(JobView::of_found(&found)).into_response();
        if !found.job.state.is_final() {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(LOOK_AGAIN_S));
        }
        Ok(response)
    };
    visit.answer(found).await
}

/// `DELETE /v1/jobs/{id}`: gives it up, also while it runs. A job that is over stays as it is.
pub(super) async fn cancel(State(edge): State<Edge>, request: Request) -> Response {
    let (visit, head, _body) = Visit::begin(request);
    let cancelled = async {
        let caller = caller::authenticate(&edge, &head.headers)?;
        let id = id_in(&head.uri)?;
        let job = edge.gateway.jobs().cancel(&caller.id, id).await.map_err(away)?;
        let job = job.ok_or_else(|| unknown(id))?;
        Ok(Json(JobView::of(&job)).into_response())
    };
    visit.answer(cancelled).await
}

/// `GET /v1/jobs`
pub(super) async fn list(State(edge): State<Edge>, request: Request) -> Response {
    let (visit, head, _body) = Visit::begin(request);
    let listed = async {
        let caller = caller::authenticate(&edge, &head.headers)?;
        let query = ListQuery::read(&head.uri)?;
        let limit = query.limit()?;
        let (state, cursor) = (query.state()?, query.cursor()?);
        // One more than is shown says whether there are more.
        let listed = edge.gateway.jobs().list(&caller.id, state, cursor, limit + 1);
        let mut jobs = listed.await.map_err(away)?;
        let has_more = jobs.len() > limit as usize;
        jobs.truncate(limit as usize);
        let next_cursor = jobs.last().filter(|_| has_more).map(|job| job.id.clone());
        let data = jobs.iter().map(JobView::of).collect();
        Ok(Json(JobPage { object: "list", data, has_more, next_cursor }).into_response())
    };
    visit.answer(listed).await
}

/// The id that a path ends with. What cannot be one is the id of no job, and never reaches the
/// store.
fn id_in(uri: &Uri) -> Result<&str, Rejection> {
    let id = uri.path().rsplit('/').next().unwrap_or_default();
    if jobs::is_job_id(id) { Ok(id) } else { Err(unknown(id)) }
}

/// The store is our fault, not the caller's.
fn away(error: StoreError) -> Rejection {
    tracing::error!(error = %error.chain(), "the store of jobs cannot be reached");
    Rejection::Unavailable { what: "the store of jobs" }
}

fn unknown(id: &str) -> Rejection {
    Rejection::UnknownJob { id: id.chars().take(64).collect() }
}

// === impl Visit ===

impl Visit {
    fn begin(request: Request) -> (Self, Parts, Body) {
        let (dialect, request_id) = (caller::dialect_of(&request), reply::new_request_id());
        let (head, body) = request.into_parts();
        (Self { dialect, request_id }, head, body)
    }

    /// The reply: what `work` comes to, under the id of this request where the reply has none.
    async fn answer(self, work: impl Future<Output = Result<Response, Rejection>>) -> Response {
        let Self { dialect, request_id } = self;
        let answered = async {
            match work.await {
                Ok(mut response) => {
                    reply::identify_new(response.headers_mut(), request_id.as_str());
                    response
                }
                Err(rejection) => {
                    ApiError::of(rejection, dialect, request_id.as_str(), Served::default())
                        .into_response()
                }
            }
        };
        panics::isolate(answered, dialect, &request_id).await
    }
}

// === impl ListQuery ===

impl ListQuery {
    fn read(uri: &Uri) -> Result<Self, Rejection> {
        Query::try_from_uri(uri).map(|Query(query)| query).map_err(|error| {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            let problem = cause.unwrap_or_else(|| error.to_string());
            Rejection::Invalid { problem: format!("query: {problem}"), param: None }
        })
    }

    fn limit(&self) -> Result<u32, Rejection> {
        let limit = self.limit.unwrap_or(PAGE.0);
        if (1..=PAGE.1).contains(&limit) {
            return Ok(limit);
        }
        Err(Rejection::invalid("limit", format!("`limit` must be 1 to {}", PAGE.1)))
    }

    fn state(&self) -> Result<Option<JobState>, Rejection> {
        let Some(word) = &self.status else { return Ok(None) };
        JobState::parse(word).map(Some).ok_or_else(|| {
            let words = JobState::ALL.map(JobState::as_str).join("`, `");
            Rejection::invalid("status", format!("`status` must be one of `{words}`"))
        })
    }

    fn cursor(&self) -> Result<Option<&str>, Rejection> {
        let cursor = self.cursor.as_deref();
        if cursor.is_none_or(jobs::is_job_id) {
            return Ok(cursor);
        }
        let problem = "`cursor` must be the `next_cursor` of a page";
        Err(Rejection::invalid("cursor", problem))
    }
}
