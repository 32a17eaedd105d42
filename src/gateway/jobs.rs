//! Running a job as any other request is run: it is admitted, planned, served and settled as if
//! its caller had waited.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::{Ask, Gateway};
use crate::cache::CacheWish;
use crate::callers::Caller;
use crate::clock::{Instant, SystemWallClock, WallClock};
use crate::config::Snapshot;
use crate::control::jobs::{Ran, Runner};
use crate::dialect::Envelope;
use crate::dispatch::prompted::{self, Lookup};
use crate::dispatch::{Answer, Call, Lane, Prompted, Refused, Served, Whose};
use crate::failure::Midstream;
use crate::ids::RequestId;
use crate::jobs::{JobError, JobResult, JobSettings, Particulars, Taken};
use crate::journal::EndpointKind;
use crate::policy::job::Setback;
use crate::rejection::Rejection;

/// Runs jobs over a lane of their own.
#[derive(Debug)]
pub struct JobRunner {
    gateway: Arc<Gateway>,
    lane: Lane,
    /// Whether the gateway can be reached from this machine alone.
    is_loopback: bool,
}

/// Bytes of a body for one token of its prompt.
const BYTES_A_TOKEN: u64 = 4;

// === impl JobRunner ===

impl JobRunner {
    /// Runs jobs over `lane`.
    pub fn new(gateway: Arc<Gateway>, lane: Lane, is_loopback: bool) -> Self {
        Self { gateway, lane, is_loopback }
    }

    async fn attempt(
        &self,
        taken: &Taken,
        body: Bytes,
        left: Duration,
        request_id: &RequestId,
    ) -> Result<(Bytes, Served), Box<Refused>> {
        let job = &taken.job;
        let kind = EndpointKind::at(&job.endpoint).ok_or_else(|| {
            refused(Rejection::Internal { detail: format!("no endpoint {}", job.endpoint) })
        })?;
        let snapshot = self.gateway.snapshot();
        let caller = self.caller_of(taken, &snapshot).map_err(refused)?;
        let Particulars { timeout_ms, sticky, tags, forwarded } = taken.particulars.clone();
        let timeout = timeout_ms.map_or(left, |ms| left.min(Duration::from_millis(ms)));
        let (ledger, id, now) = (&self.lane.ledger, request_id.clone(), Instant::now());
        let mut account = ledger.open(id, &caller, kind, kind.dialect(), now);
        let forwarded = header_map(&forwarded);
        account.on_head(&forwarded);
        account.on_priority(job.priority);
        let cost = body.len() as u64 / BYTES_A_TOKEN;
        let ask = Ask::new(&caller.id, request_id.as_str(), job.priority, cost);
        let admitted = self.gateway.admit(&ask, &snapshot.settings.admission, timeout).await;
        let read = admitted.and_then(|slot| {
            account.on_admitted(slot);
            let (user, request) = (sticky.as_deref(), request_id.as_str());
            let whose = Whose { user, caller: &caller.id, request };
            self.read(kind, body, whose, (&caller, &snapshot))
        });
        let (envelope, prompted) = match read {
            Ok(read) => read,
            Err(rejection) => {
                account.reject(&rejection);
                return Err(refused(rejection));
            }
        };
        let call = Call {
            request_id: request_id.clone(),
            caller,
            kind,
            dialect: kind.dialect(),
            envelope,
            prompted,
            rolled: None,
            timeout: Some(timeout),
            priority: job.priority,
            midstream: Midstream::Terminate,
            sticky,
            client_retries: 0,
            resumable: false,
            may_be_cut: false,
            cache: CacheWish::default(),
            stale: None,
            held_back: None,
            share: None,
            forwarded,
            snapshot,
        };
        let tags = call.caller.tagged(tags);
        account.on_call(&call, tags);
        match self.lane.complete(Box::new(call), account).await? {
            Answer::Whole(body, served) => Ok((body, served)),
            // The body asks for none, see `api::jobs`.
            Answer::Stream(_, served) => Err(Box::new(Refused { rejection: not_whole(), served })),
        }
    }

    /// The body, with the registered prompt in it that it names.
    fn read(
        &self,
        kind: EndpointKind,
        body: Bytes,
        whose: Whose<'_>,
        (caller, snapshot): (&Caller, &Snapshot),
    ) -> Result<(Envelope, Option<Box<Prompted>>), Rejection> {
        let prompts = &|| self.gateway.registry().prompts();
        let rollouts = self.gateway.rollouts();
        let read = prompted::read(kind, body, Lookup { prompts, rollouts, whose })?;
        if let (envelope, Some(prompted)) = &read {
            snapshot.check_tested(&prompted.prompt, caller, &envelope.model)?;
        }
        Ok(read)
    }

    /// Whose job it is, as long as its key is valid.
    fn caller_of(&self, taken: &Taken, snapshot: &Snapshot) -> Result<Arc<Caller>, Rejection> {
        let (callers, mode) = (&self.gateway.callers, snapshot.settings.auth.mode);
        let caller = callers.find_caller(&taken.job.caller, mode, self.is_loopback)?;
        caller.ok_or(Rejection::KeyRevoked)
    }

    fn refusal(&self, taken: &Taken, refused: &Refused, request_id: &RequestId) -> Ran {
        let Refused { rejection, served } = refused;
        let dialect = EndpointKind::at(&taken.job.endpoint).unwrap_or(EndpointKind::Chat).dialect();
        let body = dialect.codec().encode_error(rejection, request_id.as_str());
        let face = rejection.face();
        tracing::info!(
            job.id = taken.job.id,
            request.id = %request_id,
            code = face.code,
            attempts = served.attempts,
            "attempt at a job failed: {}",
            rejection.loggable()
        );
        let setback = Setback {
            passes: may_pass(rejection),
            was_tried: served.attempts > 0,
            retry_after: rejection.retry_after(),
        };
        let result = JobResult {
            status: face.status.as_u16(),
            headers: described(request_id, served),
            body: body.into(),
        };
        let error = JobError { code: face.code.to_owned(), message: rejection.to_string() };
        Ran::Failed { setback, result: Some(result), error }
    }
}

impl Runner for JobRunner {
    fn settings(&self) -> JobSettings {
        self.gateway.snapshot().settings.jobs.clone()
    }

    async fn run(&self, taken: &Taken, body: Bytes, left: Duration) -> Ran {
        let request_id = new_request_id();
        let limit = self.settings().result_limit.0;
        let refused = match self.attempt(taken, body, left, &request_id).await {
            Ok((body, served)) if body.len() as u64 <= limit => {
                return Ran::Answered(JobResult {
                    status: 200,
                    headers: described(&request_id, &served),
                    body,
                });
            }
            Ok((body, served)) => {
                tracing::warn!(job.id = taken.job.id, bytes = body.len(), "an answer is too large");
                Refused { rejection: Rejection::AnswerTooLarge { limit_bytes: limit }, served }
            }
            Err(refused) => *refused,
        };
        self.refusal(taken, &refused, &request_id)
    }
}

/// Whether the same request may be answered later. Statuses that clients repeat, and nothing that
/// says that it would end the same way.
pub(super) fn may_pass(rejection: &Rejection) -> bool {
    if let Rejection::LimitReached { retry_after, .. } = rejection {
        // However long it takes: a job has the time until its deadline.
        return retry_after.is_some();
    }
    let status = rejection.face().status;
    let repeated = status.is_server_error()
        || status == http::StatusCode::TOO_MANY_REQUESTS
        || status == http::StatusCode::REQUEST_TIMEOUT;
    if let Rejection::AttemptsFailed { failure, .. } = rejection {
        // A route that has spent its attempts on failures has new ones later.
        return repeated && !failure.kind.is_refused_credential();
    }
    let is_hopeless =
        matches!(rejection, Rejection::AnswerTooLarge { .. }) || rejection.is_hopeless();
    repeated && !is_hopeless
}

/// Headers that say how an answer came about.
fn described(request_id: &RequestId, served: &Served) -> Vec<(String, String)> {
    let by = served.by.as_ref().map(|by| {
        let by = by.as_str();
        by.split_once('#').map_or(by, |(name, _)| name).to_owned()
    });
    let headers = [
        ("x-request-id", Some(request_id.to_string())),
        ("x-tidegate-served-by", by),
        ("x-tidegate-attempts", Some(served.attempts.to_string())),
        ("x-tidegate-degradation", Some(served.degradation.to_string())),
        ("x-tidegate-cost-usd", served.cost.map(|cost| cost.to_usd_string())),
    ];
    let told = headers.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    told.collect()
}

fn header_map(headers: &[(String, String)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_str(value)) {
            map.append(name, value);
        }
    }
    map
}

/// A fresh id, unlike any other: each attempt at a job is a request of its own, and so is what the
/// gateway asks for itself.
pub(super) fn new_request_id() -> RequestId {
    RequestId::at(SystemWallClock.unix_ms(), rand::random())
}

fn not_whole() -> Rejection {
    Rejection::Internal { detail: "a job's answer came as a stream".to_owned() }
}

fn refused(rejection: Rejection) -> Box<Refused> {
    Box::new(Refused { rejection, served: Served::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_that_frees_itself_is_waited_for_however_long_that_takes() {
        let reached = |is_money, retry_after| Rejection::LimitReached {
            limit: "the limit `default`".to_owned(),
            dimension: "usd_per_day",
            is_money,
            retry_after,
        };
        let hours = Some(Duration::from_secs(13 * 3_600));
        assert!(may_pass(&reached(true, hours)));
        assert!(may_pass(&reached(false, hours)));
        assert!(!may_pass(&reached(true, None)), "more than there ever is");
    }
}
