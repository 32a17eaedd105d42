//! `/v1/jobs`: requests that are answered later. `Prefer: respond-async` on a completion makes one,
//! too.
//!
//! A job's answer is whole: what its body says about streaming is taken out when it is accepted.
//! Everything else that could be wrong with a request is looked at here as well, while there is
//! somebody to tell.

use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, Query, Request, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header::{LOCATION, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::error::ApiError;
use super::headers::{self, Wishes};
use super::{Edge, body, caller, completion, reply};
use crate::callers::Caller;
use crate::config::Snapshot;
use crate::dialect::{Dialect, Envelope, Splice};
use crate::dispatch::Served;
use crate::gateway::Ask;
use crate::ids::RequestId;
use crate::jobs::{NewJob, NewWebhook, Particulars, SubmitError, Submitted};
use crate::journal::EndpointKind;
use crate::policy::job::JobState;
use crate::rejection::Rejection;
use crate::store::StoreError;
use crate::units::Priority;
use crate::webhook::receiver::Receiver;
use crate::webhook::signature::SigningSecret;

mod view;

use view::JobView;

/// What a request to `POST /v1/jobs` holds.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Submission {
    endpoint: String,
    body: Box<RawValue>,
    priority: Option<Priority>,
    deadline: Option<Value>,
    webhook: Option<WebhookWish>,
    #[serde(default)]
    metadata: Map<String, Value>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WebhookWish {
    url: String,
    secret: Option<String>,
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

/// Beside the body of a job's request: names, metadata and the webhook.
const WRAPPING_BYTES: u64 = 64 * 1024;
/// The most bytes of metadata.
const MAX_METADATA_BYTES: usize = 16 * 1024;
/// Jobs on a page when the request does not say, and the most.
const PAGE: (u32, u32) = (20, 100);
/// After how many seconds it is sensible to ask for a job's state.
const LOOK_AGAIN_S: u64 = 1;
/// The priority of jobs that ask for none: those in the background.
const USUAL_PRIORITY: u64 = 3;

const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");

/// `POST /v1/jobs`
pub(super) async fn submit(State(edge): State<Edge>, request: Request) -> Response {
    let dialect = caller::dialect_of(&request);
    let request_id = reply::new_request_id();
    let (parts, body) = request.into_parts();
    let accepted = async {
        let (caller, snapshot) = enter(&edge, &parts.headers)?;
        let limit = snapshot.settings.jobs.request_limit.0 + WRAPPING_BYTES;
        let bytes = read(&edge, (&caller, &snapshot), (&parts.headers, body), limit).await?;
        let asked: Submission = serde_json::from_slice(&bytes).map_err(|error| {
            Rejection::Invalid { problem: format!("the body is no job: {error}"), param: None }
        })?;
        let kind = EndpointKind::at(&asked.endpoint)
            .filter(|kind| *kind != EndpointKind::CountTokens)
            .ok_or_else(|| {
                let problem = "`endpoint` must be `/v1/chat/completions`, `/v1/completions`, \
                               `/v1/embeddings` or `/v1/messages`";
                Rejection::invalid("endpoint", problem)
            })?;
        let body = Bytes::copy_from_slice(asked.body.get().as_bytes());
        let mut new = draft(kind, &caller, &snapshot, &parts.headers, body)?;
        if let Some(priority) = asked.priority {
            new.priority = caller.priority_of(Some(priority));
        }
        if let Some(deadline) = &asked.deadline {
            new.expires_in_ms =
                expires_in(deadline, edge.lane.ledger.unix_ms(), new.expires_in_ms)?;
        }
        new.webhook = asked.webhook.map(|wish| wish.read(&snapshot)).transpose()?;
        new.metadata = Value::Object(asked.metadata).to_string();
        if new.metadata.len() > MAX_METADATA_BYTES {
            let problem = format!("`metadata` must not be larger than {MAX_METADATA_BYTES} bytes");
            return Err(Rejection::invalid("metadata", problem));
        }
        hand_in(&edge, &snapshot, new).await
    };
    match accepted.await {
        Ok(submitted) => accepted_reply(submitted, &request_id, false),
        Err(rejection) => refuse(rejection, dialect, &request_id),
    }
}

/// A completion whose caller prefers to come back for the answer.
pub(super) async fn accept(
    kind: EndpointKind,
    edge: Edge,
    request: Request,
    request_id: &RequestId,
) -> Response {
    let (parts, body) = request.into_parts();
    let accepted = async {
        let (caller, snapshot) = enter(&edge, &parts.headers)?;
        let limit = snapshot.settings.jobs.request_limit.0;
        let bytes = read(&edge, (&caller, &snapshot), (&parts.headers, body), limit).await?;
        let new = draft(kind, &caller, &snapshot, &parts.headers, bytes)?;
        hand_in(&edge, &snapshot, new).await
    };
    match accepted.await {
        Ok(submitted) => accepted_reply(submitted, request_id, true),
        Err(rejection) => refuse(rejection, kind.dialect(), request_id),
    }
}

/// `GET /v1/jobs/{id}`
pub(super) async fn show(
    State(edge): State<Edge>,
    Path(id): Path<String>,
    request: Request,
) -> Response {
    let dialect = caller::dialect_of(&request);
    let (parts, _body) = request.into_parts();
    let found = async {
        let caller = caller::authenticate(&edge, &parts.headers)?;
        let found = edge.gateway.jobs().find(&caller.id, &id).await.map_err(away)?;
        found.ok_or_else(|| unknown(&id))
    };
    match found.await {
        Ok(found) => {
            let waits = !found.job.state.is_final();
            let mut response = Json(JobView::of_found(&found)).into_response();
            if waits {
                response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(LOOK_AGAIN_S));
            }
            response
        }
        Err(rejection) => ApiError::new(rejection, dialect).into_response(),
    }
}

/// `DELETE /v1/jobs/{id}`: gives it up, also while it runs. A job that is over stays as it is.
pub(super) async fn cancel(
    State(edge): State<Edge>,
    Path(id): Path<String>,
    request: Request,
) -> Response {
    let dialect = caller::dialect_of(&request);
    let (parts, _body) = request.into_parts();
    let cancelled = async {
        let caller = caller::authenticate(&edge, &parts.headers)?;
        let job = edge.gateway.jobs().cancel(&caller.id, &id).await.map_err(away)?;
        job.ok_or_else(|| unknown(&id))
    };
    match cancelled.await {
        Ok(job) => Json(JobView::of(&job)).into_response(),
        Err(rejection) => ApiError::new(rejection, dialect).into_response(),
    }
}

/// `GET /v1/jobs`
pub(super) async fn list(State(edge): State<Edge>, request: Request) -> Response {
    let dialect = caller::dialect_of(&request);
    let (parts, _body) = request.into_parts();
    let listed = async {
        let caller = caller::authenticate(&edge, &parts.headers)?;
        let query = ListQuery::read(&parts.uri)?;
        let limit = query.limit()?;
        let (state, cursor) = (query.state()?, query.cursor.as_deref());
        // One more than is shown says whether there are more.
        let listed = edge.gateway.jobs().list(&caller.id, state, cursor, limit + 1);
        let mut jobs = listed.await.map_err(away)?;
        let has_more = jobs.len() > limit as usize;
        jobs.truncate(limit as usize);
        let next_cursor = jobs.last().filter(|_| has_more).map(|job| job.id.clone());
        let data = jobs.iter().map(JobView::of).collect();
        Ok(JobPage { object: "list", data, has_more, next_cursor })
    };
    match listed.await {
        Ok(page) => Json(page).into_response(),
        Err(rejection) => ApiError::new(rejection, dialect).into_response(),
    }
}

/// Who hands a job in, if anything is taken at the moment.
fn enter(
    edge: &Edge,
    headers: &HeaderMap,
) -> Result<(std::sync::Arc<Caller>, std::sync::Arc<Snapshot>), Rejection> {
    let caller = caller::authenticate(edge, headers)?;
    if edge.gateway.is_draining() {
        return Err(Rejection::Draining);
    }
    Ok((caller, edge.gateway.snapshot()))
}

/// A job of this request, checked as far as every target needs it.
fn draft(
    kind: EndpointKind,
    caller: &Caller,
    snapshot: &Snapshot,
    headers: &HeaderMap,
    body: Bytes,
) -> Result<NewJob, Rejection> {
    let limit_bytes = snapshot.settings.jobs.request_limit.0;
    if body.len() as u64 > limit_bytes {
        return Err(Rejection::TooLarge { limit_bytes });
    }
    let wishes = Wishes::read(headers)?;
    if wishes.resumable {
        let problem = "`x-resumable: true` is for streams; the answer of a job is kept anyway";
        return Err(Rejection::invalid("x-resumable", problem));
    }
    let envelope = completion::read_envelope(kind, body, false)?;
    snapshot.resolve(&envelope.model)?;
    let usual = Priority::try_from(USUAL_PRIORITY).unwrap_or(Priority::LOWEST);
    let expires_in = snapshot.settings.jobs.deadline.0;
    Ok(NewJob {
        caller: caller.id.clone(),
        endpoint: kind.path(),
        priority: caller.priority_of(wishes.priority.or(Some(usual))),
        expires_in_ms: u64::try_from(expires_in.as_millis()).unwrap_or(u64::MAX),
        particulars: particulars(wishes, headers),
        metadata: "{}".to_owned(),
        body: without_streaming(&envelope),
        webhook: None,
    })
}

fn particulars(wishes: Wishes, headers: &HeaderMap) -> Particulars {
    let forwarded = headers::forwarded(headers);
    let forwarded = forwarded.iter().filter_map(|(name, value)| {
        Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned()))
    });
    let timeout = wishes.timeout.map(|timeout| timeout.as_millis());
    Particulars {
        timeout_ms: timeout.map(|ms| u64::try_from(ms).unwrap_or(u64::MAX)),
        sticky: wishes.sticky,
        tags: wishes.tags,
        forwarded: forwarded.collect(),
    }
}

fn without_streaming(envelope: &Envelope) -> Bytes {
    let mut splice = Splice::new(envelope);
    splice.remove("stream");
    splice.remove("stream_options");
    splice.finish()
}

/// Milliseconds until the moment that a caller names: RFC 3339, or seconds since 1970.
fn expires_in(deadline: &Value, now_ms: u64, longest_ms: u64) -> Result<u64, Rejection> {
    let at_ms = match deadline {
        Value::Number(seconds) => seconds.as_u64().and_then(|seconds| seconds.checked_mul(1_000)),
        Value::String(text) => text
            .parse::<jiff::Timestamp>()
            .ok()
            .and_then(|time| u64::try_from(time.as_millisecond()).ok()),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    };
    let left = at_ms.map(|at_ms| at_ms.saturating_sub(now_ms));
    match left {
        Some(left) if (1..=longest_ms).contains(&left) => Ok(left),
        Some(_) => Err(Rejection::invalid(
            "deadline",
            format!("`deadline` must be within the next {} s", longest_ms / 1_000),
        )),
        None => Err(Rejection::invalid(
            "deadline",
            "`deadline` must be a time like `2026-11-20T23:49:49Z`, or seconds since 1970",
        )),
    }
}

/// Reads the body of a request that is admitted as any other is, so that bodies that do not come
/// to their end take no more room than those of requests that wait for their answers.
async fn read(
    edge: &Edge,
    (caller, snapshot): (&Caller, &Snapshot),
    (headers, body): (&HeaderMap, Body),
    limit: u64,
) -> Result<Bytes, Rejection> {
    if headers.contains_key("idempotency-key") {
        let problem = "jobs know no `Idempotency-Key`: the job would be made, and paid for, again";
        return Err(Rejection::invalid("Idempotency-Key", problem));
    }
    let settings = &snapshot.settings;
    let priority = caller.priority_of(Priority::try_from(USUAL_PRIORITY).ok());
    let ask = Ask::new(&caller.id, reply::new_request_id().as_str(), priority, 0);
    let _slot = edge.gateway.admit(&ask, &settings.admission, Duration::MAX).await?;
    body::read(body, limit, settings.server.request_read_timeout.0).await
}

async fn hand_in(edge: &Edge, snapshot: &Snapshot, new: NewJob) -> Result<Submitted, Rejection> {
    let max_waiting = snapshot.settings.jobs.max_waiting;
    let now_ms = edge.lane.ledger.unix_ms();
    edge.gateway.jobs().submit(new, max_waiting, now_ms).await.map_err(|error| match error {
        SubmitError::Full { limit } => Rejection::TooManyJobs { limit },
        SubmitError::TooManyReceivers { .. } => {
            Rejection::invalid("webhook.url", error.to_string())
        }
        SubmitError::Store(error) => away(error),
    })
}

/// The store is our fault, not the caller's.
fn away(error: StoreError) -> Rejection {
    tracing::error!(error = %error.chain(), "the store of jobs cannot be reached");
    Rejection::Unavailable { what: "the store of jobs" }
}

fn unknown(id: &str) -> Rejection {
    Rejection::UnknownJob { id: id.chars().take(64).collect() }
}

fn refuse(rejection: Rejection, dialect: Dialect, request_id: &RequestId) -> Response {
    ApiError::of(rejection, dialect, request_id.as_str(), Served::default()).into_response()
}

fn accepted_reply(submitted: Submitted, request_id: &RequestId, preferred: bool) -> Response {
    let Submitted { job, secret } = submitted;
    let location = format!("/v1/jobs/{}", job.id);
    let view = JobView::of(&job).with_secret(secret.as_ref());
    let mut response = (StatusCode::ACCEPTED, Json(view)).into_response();
    let headers = response.headers_mut();
    headers.insert(RETRY_AFTER, HeaderValue::from(LOOK_AGAIN_S));
    if preferred {
        headers.insert(PREFERENCE_APPLIED, HeaderValue::from_static("respond-async"));
    }
    if let Ok(location) = HeaderValue::from_str(&location) {
        headers.insert(LOCATION, location);
    }
    reply::identify(headers, request_id.as_str());
    response
}

// === impl WebhookWish ===

impl WebhookWish {
    fn read(self, snapshot: &Snapshot) -> Result<NewWebhook, Rejection> {
        let allowed = &snapshot.settings.webhooks.allow_private;
        let receiver: Result<Receiver, _> = self.url.parse();
        let receiver = receiver.and_then(|receiver| receiver.check(allowed).map(|()| receiver));
        let receiver = receiver
            .map_err(|error| Rejection::invalid("webhook.url", format!("`webhook.url` {error}")))?;
        let secret = self.secret.as_deref().map(SigningSecret::parse).transpose();
        let secret = secret.map_err(|error| {
            Rejection::invalid("webhook.secret", format!("`webhook.secret` {error}"))
        })?;
        Ok(NewWebhook { receiver, secret })
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
}
