//! `Idempotency-Key`: a request that is sent again is not carried out again.

use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::error::ApiError;
use super::{Edge, completion, headers, panics, reply};
use crate::dispatch::{Account, Call, Ending, Served};
use crate::gateway::{Asked, Entered, Follower, Head, IfRunning, Work};
use crate::idempotency::{Claim, Fingerprint, IdempotencyKey, Scope};
use crate::ids::{CallerId, RequestId};
use crate::journal::Reuse;
use crate::rejection::{Duplicate, Rejection};

static KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// `join` or `conflict`: what is to happen while the request is being carried out.
static IF_RUNNING: HeaderName = HeaderName::from_static("x-idempotency");
/// Headers that change what is asked for, or the form of the answer. The same key with others is a
/// mistake.
const MEANT: [&str; 4] = ["anthropic-beta", "anthropic-version", "openai-beta", "x-resumable"];
/// The same for a request whose answer is fetched later.
const LATER: (&str, &[u8]) = ("prefer", b"respond-async");
/// On a reply that was made for an earlier request.
const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");
const CACHE: HeaderName = HeaderName::from_static("x-tidegate-cache");
/// The id of the request that got a reply which was made for another.
const DUPLICATE_ID: HeaderName = HeaderName::from_static("x-tidegate-duplicate-id");
/// How much longer than its own time a request waits for one that is carried out: whoever carries
/// it out has the same time, and says better what became of it.
const GRACE: Duration = Duration::from_millis(500);

/// What a request's headers say of its being sent again.
#[derive(Debug)]
pub(super) struct Keyed {
    key: IdempotencyKey,
    if_running: IfRunning,
}

/// A request that is carried out if no other with its key was.
struct Carried {
    edge: Edge,
    call: Box<Call>,
    account: Account,
}

// === impl Keyed ===

impl Keyed {
    /// Reads the headers; `None` where there is no key.
    ///
    /// # Errors
    ///
    /// [`Rejection::Invalid`] naming the header.
    pub(super) fn read(headers: &HeaderMap) -> Result<Option<Self>, Rejection> {
        let mut keys = headers.get_all(&KEY).iter();
        let (key, others) = (keys.next(), keys.next());
        let wish = headers.get(&IF_RUNNING);
        let Some(key) = key else {
            return match wish {
                None => Ok(None),
                Some(_) => {
                    let problem = "the header `x-idempotency` needs an `Idempotency-Key`";
                    Err(Rejection::invalid(IF_RUNNING.as_str(), problem))
                }
            };
        };
        let key = key.to_str().ok().and_then(|key| IdempotencyKey::parse(key.trim()));
        let Some(key) = key.filter(|_| others.is_none()) else {
            let problem = format!(
                "the header `Idempotency-Key` must come once and have 1 to {} visible characters \
                 of ASCII, without spaces",
                IdempotencyKey::MAX_CHARS
            );
            return Err(Rejection::invalid("Idempotency-Key", problem));
        };
        let if_running = match wish.map(HeaderValue::as_bytes) {
            None | Some(b"join") => IfRunning::Join,
            Some(b"conflict") => IfRunning::Conflict,
            Some(_) => {
                let problem = "the header `x-idempotency` must be `join` or `conflict`";
                return Err(Rejection::invalid(IF_RUNNING.as_str(), problem));
            }
        };
        Ok(Some(Self { key, if_running }))
    }

    /// What a request claims with its key.
    pub(super) fn claim(
        &self,
        caller: &CallerId,
        head: &Parts,
        body: &[u8],
        request_id: &RequestId,
    ) -> Claim {
        let scope =
            Scope { caller, method: head.method.as_str(), path: head.uri.path(), key: &self.key };
        let meant = MEANT.into_iter().flat_map(|name| {
            let values = head.headers.get_all(name).iter();
            values.map(move |value| (name, value.as_bytes()))
        });
        // A job is another answer than the one that is waited for.
        let later = headers::prefers_async(&head.headers).then_some(LATER);
        Claim {
            id: scope.row_id(),
            caller: caller.clone(),
            fingerprint: Fingerprint::of(body, meant.chain(later)),
            request_id: request_id.clone(),
        }
    }
}

/// Says that a reply was made for an earlier request, and which request got it now.
pub(super) fn mark_repeated(headers: &mut HeaderMap, own_id: &RequestId) {
    headers.insert(REPLAYED, HeaderValue::from_static("true"));
    reply::insert(headers, DUPLICATE_ID, own_id.as_str());
}

/// Serves a call that has a key: carries it out, shares in the reply of the same request, or
/// repeats it.
pub(super) async fn answer(
    edge: &Edge,
    keyed: &Keyed,
    head: &Parts,
    call: Box<Call>,
    account: Account,
) -> Response {
    let (request_id, dialect) = (call.request_id.clone(), call.dialect);
    let (within, snapshot) = (patience(&call), call.snapshot.clone());
    let asked = asked(keyed, head, &call);
    let mut work = Carried { edge: edge.clone(), call, account };
    let rejection = loop {
        match edge.gateway.executions().enter(&asked, &snapshot.settings.idempotency, work) {
            Entered::First(follower) => match head_of(&follower, within).await {
                Ok(head) => {
                    let reuse = head.reuse;
                    return follow(head, follower, &request_id, reuse);
                }
                Err(rejection) => break rejection,
            },
            Entered::Joined(follower, mut joined) => {
                joined.account.step_aside();
                match head_of(&follower, within).await {
                    Ok(head) => {
                        let reuse = head.reuse.unwrap_or(Reuse::Coalesced);
                        joined.account.reuse(reuse, head.status.as_u16());
                        return follow(head, follower, &request_id, Some(reuse));
                    }
                    // That was the wish of the one who came first.
                    Err(Rejection::Duplicate(Duplicate::InProgress)) => work = joined,
                    Err(rejection) => {
                        joined.account.reject(&rejection);
                        break rejection;
                    }
                }
            }
            Entered::Refused(rejection, refused) => {
                refused.account.reject(&rejection);
                break rejection;
            }
        }
    };
    ApiError::of(rejection, dialect, request_id.as_str(), Served::default()).into_response()
}

fn asked(keyed: &Keyed, head: &Parts, call: &Call) -> Asked {
    let claim = keyed.claim(&call.caller.id, head, call.sent(), &call.request_id);
    let (if_running, streams) = (keyed.if_running, call.envelope.stream);
    Asked { claim, if_running, dialect: call.dialect, streams }
}

/// How long a request waits for the head of a reply.
fn patience(call: &Call) -> Duration {
    let route = call.snapshot.resolve(&call.envelope.model).ok();
    let total = route.map_or(Duration::MAX, |route| route.conduct.timeouts.total);
    call.timeout.map_or(total, |timeout| timeout.min(total))
}

async fn head_of(follower: &Follower, within: Duration) -> Result<Head, Rejection> {
    let head = tokio::time::timeout(within.saturating_add(GRACE), follower.head()).await;
    head.unwrap_or(Err(Rejection::DeadlinePassed { within }))
}

/// The reply of one who follows.
fn follow(head: Head, follower: Follower, own_id: &RequestId, reuse: Option<Reuse>) -> Response {
    let mut response = Response::new(Body::new(follower));
    *response.status_mut() = head.status;
    *response.headers_mut() = head.headers;
    let headers = response.headers_mut();
    match reuse {
        // An answer from the cache says so itself.
        None | Some(Reuse::Exact | Reuse::Semantic) => {}
        Some(Reuse::Replayed) => mark_repeated(headers, own_id),
        Some(Reuse::Coalesced) => {
            headers.insert(CACHE, HeaderValue::from_static("coalesced"));
            reply::insert(headers, DUPLICATE_ID, own_id.as_str());
        }
    }
    response
}

// === impl Carried ===

impl Work for Carried {
    type Reply = Body;

    async fn carry_out(mut self, ending: Ending) -> Response {
        self.account.tell(ending);
        let (request_id, dialect) = (self.call.request_id.clone(), self.call.dialect);
        // In a box: it is large, and a task of its own.
        let mut answered = Box::pin(completion::answer(&self.edge, self.call, self.account));
        panics::isolate(answered.as_mut(), dialect, &request_id).await
    }

    fn repeat(self, reuse: Reuse, status: u16) {
        self.account.reuse(reuse, status);
    }

    fn refuse(self, rejection: &Rejection) {
        self.account.reject(rejection);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(headers: &[(&'static str, &str)]) -> Result<Option<Keyed>, Rejection> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_str(value).unwrap());
        }
        Keyed::read(&map)
    }

    #[test]
    fn a_key_and_what_goes_with_it_are_read() {
        assert!(read(&[]).unwrap().is_none());
        for (wish, wanted) in [("join", IfRunning::Join), ("conflict", IfRunning::Conflict)] {
            let keyed =
                read(&[("idempotency-key", " k1 "), ("x-idempotency", wish)]).unwrap().unwrap();
            assert_eq!(Some(keyed.key), IdempotencyKey::parse("k1"));
            assert_eq!(keyed.if_running, wanted);
        }
        assert_eq!(
            read(&[("idempotency-key", "k1")]).unwrap().unwrap().if_running,
            IfRunning::Join
        );
    }

    #[test]
    fn what_means_nothing_is_refused_by_name() {
        let long = "k".repeat(256);
        let cases: [(&[(&str, &str)], &str); 7] = [
            (&[("idempotency-key", "")], "Idempotency-Key"),
            (&[("idempotency-key", "a b")], "Idempotency-Key"),
            (&[("idempotency-key", &long)], "Idempotency-Key"),
            (&[("idempotency-key", "é")], "Idempotency-Key"),
            (&[("idempotency-key", "a"), ("idempotency-key", "b")], "Idempotency-Key"),
            (&[("x-idempotency", "join")], "x-idempotency"),
            (&[("idempotency-key", "a"), ("x-idempotency", "wait")], "x-idempotency"),
        ];
        for (headers, param) in cases {
            let Err(rejection) = read(headers) else { panic!("{headers:?}") };
            assert_eq!(rejection.param(), Some(param), "{headers:?}");
        }
    }
}
