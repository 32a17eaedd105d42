//! `POST /v1/jobs`, and completions whose callers prefer to come back for the answer.
//!
//! A job's answer is whole: what its body says about streaming is taken out when it is accepted.
//! Everything else that could be wrong with a request is looked at here as well, while there is
//! somebody to tell.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, LOCATION, RETRY_AFTER};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde_json::Value;

use super::super::headers::{self, Wishes};
use super::super::idempotency::{self, Keyed};
use super::super::{Edge, body, caller, completion, reply};
use super::view::JobView;
use super::wish::{WebhookWish, Wish};
use super::{LOOK_AGAIN_S, Visit, away};
use crate::callers::Caller;
use crate::config::Snapshot;
use crate::dialect::{Envelope, Splice};
use crate::dispatch::Whose;
use crate::dispatch::prompted::Lookup;
use crate::gateway::Ask;
use crate::idempotency::Kept;
use crate::ids::RequestId;
use crate::jobs::{Accepted, NewJob, NewWebhook, Once, Particulars, SubmitError, Submitted};
use crate::journal::EndpointKind;
use crate::rejection::Rejection;
use crate::rollout::Rollouts;
use crate::units::{Priority, Spoken};
use crate::webhook::receiver::Receiver;
use crate::webhook::signature::SigningSecret;

/// Who hands a job in, and with what.
struct Sender<'a> {
    edge: &'a Edge,
    head: &'a Parts,
    request_id: &'a RequestId,
    caller: Arc<Caller>,
    snapshot: Arc<Snapshot>,
    keyed: Option<Keyed>,
}

/// Beside the body of a job's request: names, metadata and the webhook.
const WRAPPING_BYTES: u64 = 64 * 1024;
/// The most bytes of metadata.
const MAX_METADATA_BYTES: usize = 16 * 1024;
/// The priority of jobs that ask for none: those in the background.
const USUAL_PRIORITY: u64 = 3;

const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");

/// `POST /v1/jobs`
pub(in crate::api) async fn submit(State(edge): State<Edge>, request: Request) -> Response {
    let (visit, head, body) = Visit::begin(request);
    let request_id = visit.request_id.clone();
    let accepted = async {
        let sender = Sender::enter(&edge, &head, &request_id)?;
        let limit = sender.snapshot.settings.jobs.request_limit.0 + WRAPPING_BYTES;
        let bytes = sender.read(body, limit).await?;
        let asked = Wish::read(&bytes)?;
        sender.hand_in(sender.job_of(asked), &bytes, false).await
    };
    visit.answer(accepted).await
}

/// A completion whose caller prefers to come back for the answer.
pub(in crate::api) async fn accept(kind: EndpointKind, edge: Edge, request: Request) -> Response {
    let (visit, head, body) = Visit::begin(request);
    let request_id = visit.request_id.clone();
    let accepted = async {
        let sender = Sender::enter(&edge, &head, &request_id)?;
        let bytes = sender.read(body, sender.snapshot.settings.jobs.request_limit.0).await?;
        sender.hand_in(sender.draft(kind, bytes.clone()), &bytes, true).await
    };
    visit.answer(accepted).await
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
            format!(
                "`deadline` must be within the next {}",
                Spoken(Duration::from_millis(longest_ms))
            ),
        )),
        None => Err(Rejection::invalid(
            "deadline",
            "`deadline` must be a time like `2026-11-20T23:49:49Z`, or seconds since 1970",
        )),
    }
}

/// The reply to a job that was accepted, as it is given and kept.
fn accepted_reply(submitted: Submitted, request_id: &RequestId, is_preferred: bool) -> Kept {
    let Submitted { job, secret } = submitted;
    let view = JobView::of(&job).with_secret(secret.as_ref());
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(RETRY_AFTER, HeaderValue::from(LOOK_AGAIN_S));
    if is_preferred {
        headers.insert(PREFERENCE_APPLIED, HeaderValue::from_static("respond-async"));
    }
    reply::insert(&mut headers, LOCATION, &format!("/v1/jobs/{}", job.id));
    reply::identify_new(&mut headers, request_id.as_str());
    let headers = headers.iter().filter_map(|(name, value)| {
        Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned()))
    });
    Kept {
        status: StatusCode::ACCEPTED.as_u16(),
        headers: headers.collect(),
        body: serde_json::to_vec(&view).ok().map(Bytes::from),
    }
}

fn respond(kept: Kept) -> Response {
    let Kept { status, headers, body } = kept;
    let mut response = Response::new(Body::from(body.unwrap_or_default()));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::ACCEPTED);
    for (name, value) in &headers {
        if let Ok(name) = name.parse::<HeaderName>() {
            reply::insert(response.headers_mut(), name, value);
        }
    }
    response
}

fn webhook(wish: WebhookWish, snapshot: &Snapshot) -> Result<NewWebhook, Rejection> {
    let WebhookWish { url, secret } = wish;
    let allowed = &snapshot.settings.webhooks.allow_private;
    let receiver: Result<Receiver, _> = url.parse();
    let receiver = receiver.and_then(|receiver| receiver.check(allowed).map(|()| receiver));
    let receiver = receiver
        .map_err(|error| Rejection::invalid("webhook.url", format!("`webhook.url` {error}")))?;
    let secret = secret.as_deref().map(SigningSecret::parse).transpose();
    let secret = secret.map_err(|error| {
        Rejection::invalid("webhook.secret", format!("`webhook.secret` {error}"))
    })?;
    Ok(NewWebhook { receiver, secret })
}

fn refused(error: SubmitError) -> Rejection {
    match error {
        SubmitError::Full { limit } => Rejection::TooManyJobs { limit },
        SubmitError::NoRoom { of_all, limit_bytes, bytes } => {
            Rejection::TooLargeToWait { of_all, bytes, limit_bytes }
        }
        SubmitError::TooManyReceivers { .. } => {
            Rejection::invalid("webhook.url", error.to_string())
        }
        SubmitError::Duplicate(duplicate) => Rejection::Duplicate(duplicate),
        SubmitError::Store(error) => away(error),
    }
}

// === impl Sender ===

impl<'a> Sender<'a> {
    /// Who hands a job in, if anything is taken at the moment.
    fn enter(
        edge: &'a Edge,
        head: &'a Parts,
        request_id: &'a RequestId,
    ) -> Result<Self, Rejection> {
        let caller = caller::authenticate(edge, &head.headers)?;
        if edge.gateway.is_draining() {
            return Err(Rejection::Draining);
        }
        let keyed = Keyed::read(&head.headers)?;
        Ok(Self { edge, head, request_id, caller, snapshot: edge.gateway.snapshot(), keyed })
    }

    /// Reads the body of a request that is admitted as any other is, so that bodies that do not
    /// come to their end take no more room than those of requests that wait for their answers.
    async fn read(&self, body: Body, limit: u64) -> Result<Bytes, Rejection> {
        let settings = &self.snapshot.settings;
        let priority = self.caller.priority_of(Priority::try_from(USUAL_PRIORITY).ok());
        let ask = Ask::new(&self.caller.id, self.request_id.as_str(), priority, 0);
        let read = async {
            let _slot = self.edge.gateway.admit(&ask, &settings.admission, Duration::MAX).await?;
            let within = settings.server.request_read_timeout.0;
            body::read(&self.head.headers, body, limit, within).await
        };
        self.edge.lane.stop.unless(pin!(read)).await.unwrap_or(Err(Rejection::Draining))
    }

    /// The job that a submission asks for.
    fn job_of(&self, asked: Wish) -> Result<NewJob, Rejection> {
        let kind = EndpointKind::at(&asked.endpoint)
            .filter(|kind| *kind != EndpointKind::CountTokens)
            .ok_or_else(|| {
                let problem = "`endpoint` must be `/v1/chat/completions`, `/v1/completions`, \
                               `/v1/embeddings` or `/v1/messages`";
                Rejection::invalid("endpoint", problem)
            })?;
        let mut new = self.draft(kind, Bytes::copy_from_slice(asked.body.get().as_bytes()))?;
        if let Some(priority) = asked.priority {
            new.priority = self.caller.priority_of(Some(priority));
        }
        if let Some(deadline) = &asked.deadline {
            let now_ms = self.edge.lane.ledger.unix_ms();
            new.expires_in_ms = expires_in(deadline, now_ms, new.expires_in_ms)?;
        }
        new.webhook = asked.webhook.map(|wish| webhook(wish, &self.snapshot)).transpose()?;
        new.metadata = Value::Object(asked.metadata).to_string();
        if new.metadata.len() > MAX_METADATA_BYTES {
            let problem = format!("`metadata` must not be larger than {MAX_METADATA_BYTES} bytes");
            return Err(Rejection::invalid("metadata", problem));
        }
        Ok(new)
    }

    /// A job of this request, checked as far as every target needs it.
    fn draft(&self, kind: EndpointKind, body: Bytes) -> Result<NewJob, Rejection> {
        let Self { caller, snapshot, head, .. } = self;
        let headers = &head.headers;
        let limit_bytes = snapshot.settings.jobs.request_limit.0;
        if body.len() as u64 > limit_bytes {
            return Err(Rejection::TooLarge { limit_bytes });
        }
        let wishes = Wishes::read(headers)?;
        if wishes.resumable {
            let problem = "`x-resumable: true` is for streams; the answer of a job is kept anyway";
            return Err(Rejection::invalid("x-resumable", problem));
        }
        let lookup = Lookup {
            prompts: &|| self.edge.gateway.registry().prompts(),
            rollouts: &Rollouts::new(),
            whose: Whose { user: None, caller: &caller.id, request: "" },
        };
        let (envelope, prompted) = completion::read_envelope(kind, body, false, lookup)?;
        snapshot.resolve(&envelope.model)?;
        // A job gets the version that is right when it is carried out; here it only has to be one.
        let envelope = match prompted {
            None => envelope,
            Some(prompted) => {
                snapshot.check_tested(&prompted.prompt, caller, &envelope.model)?;
                Envelope::read(prompted.sent)?
            }
        };
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

    /// Hands a job in, if there is nothing wrong with it; `asked` is the body that asked for it.
    async fn hand_in(
        &self,
        new: Result<NewJob, Rejection>,
        asked: &[u8],
        is_preferred: bool,
    ) -> Result<Response, Rejection> {
        let (jobs, settings) = (self.edge.gateway.jobs(), &self.snapshot.settings);
        let now_ms = self.edge.lane.ledger.unix_ms();
        let reply = |submitted| accepted_reply(submitted, self.request_id, is_preferred);
        let Some(keyed) = &self.keyed else {
            let submitted = jobs.submit(new?, &settings.jobs, now_ms).await.map_err(refused)?;
            return Ok(respond(reply(submitted)));
        };
        let claim = keyed.claim(&self.caller.id, self.head, asked, self.request_id);
        let new = match new {
            Ok(new) => new,
            // What was right once may be so no more, such as its deadline: it is repeated.
            Err(rejection) => {
                let kept = jobs.reply_of(&claim).await.map_err(away)?;
                return kept.map(|kept| self.repeat(kept)).ok_or(rejection);
            }
        };
        let executions = self.edge.gateway.executions();
        let once = Once {
            claim,
            ttl: settings.idempotency.ttl.0,
            may_be_new: executions.may_have_more(&self.caller.id, &settings.idempotency),
        };
        let handed_in = jobs.submit_once(new, &once, &settings.jobs, now_ms, reply).await;
        executions.note_job(&self.caller.id, &handed_in);
        Ok(match handed_in.map_err(refused)? {
            Accepted::First(kept) => respond(kept),
            Accepted::Again(kept) => self.repeat(kept),
        })
    }

    fn repeat(&self, kept: Kept) -> Response {
        let mut response = respond(kept);
        idempotency::mark_repeated(response.headers_mut(), self.request_id);
        response
    }
}
