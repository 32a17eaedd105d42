//! The endpoints that models answer: chat completions, completions, embeddings, messages.

use std::future::Future;
use std::pin::{Pin, pin};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use bytes::Bytes;
use http::request::Parts;
use http_body::Body as _;

use super::error::ApiError;
use super::headers::{self, Wishes};
use super::idempotency::{self, Keyed};
use super::{Edge, body, caller, jobs, panics, reply, streams};
use crate::callers::Caller;
use crate::clock::Instant;
use crate::config::Snapshot;
use crate::dialect::{Dialect, Envelope};
use crate::dispatch::prompted::{self, Lookup};
use crate::dispatch::{Account, Answer, Call, Prompted, Refused, Served, Whose};
use crate::gateway::{Ask, Opened};
use crate::ids::RequestId;
use crate::journal::{EndpointKind, Outcome};
use crate::rejection::Rejection;
use crate::units::Priority;

/// Bytes of a body for one token of its prompt.
const BYTES_A_TOKEN: u64 = 4;
/// What an answer is taken for before anything is known of the request.
const USUAL_OUTPUT_TOKENS: u64 = 256;

/// What axum wants of a handler.
type Handled = Pin<Box<dyn Future<Output = Response> + Send>>;

/// The handler of one endpoint.
pub(super) fn of(kind: EndpointKind) -> impl Fn(State<Edge>, Request) -> Handled + Clone {
    move |State(edge), request| {
        Box::pin(async move {
            if kind != EndpointKind::CountTokens && headers::prefers_async(request.headers()) {
                // Elsewhere, so that who waits for an answer does not keep room for it.
                return Box::pin(jobs::accept(kind, edge, request)).await;
            }
            let request_id = edge.gateway.new_request_id();
            // Pinned here: moved into another future it would take its room twice.
            let served = pin!(serve(kind, edge, request, &request_id));
            panics::isolate(served, dialect(kind), &request_id).await
        })
    }
}

/// The dialect that callers of an endpoint speak.
pub(super) const fn dialect(kind: EndpointKind) -> Dialect {
    kind.dialect()
}

async fn serve(
    kind: EndpointKind,
    edge: Edge,
    request: Request,
    request_id: &RequestId,
) -> Response {
    let received = Instant::now();
    let (parts, body) = request.into_parts();
    let refuse = |rejection| {
        ApiError::of(rejection, dialect(kind), request_id.as_str(), Served::default())
            .into_response()
    };
    let caller = match caller::authenticate(&edge, &parts.headers) {
        Ok(caller) => caller,
        Err(rejection) => return refuse(turned_away(&edge, kind, rejection)),
    };
    if edge.gateway.is_draining() {
        return refuse(turned_away(&edge, kind, Rejection::Draining));
    }
    let ledger = &edge.lane.ledger;
    let mut account = ledger.open(request_id.clone(), &caller, kind, dialect(kind), received);
    account.on_head(&parts.headers);
    let snapshot = edge.gateway.snapshot();
    let asked = Asked::read(&edge, &caller, &snapshot, (kind, &parts, body), &mut account);
    // One statement, so that the account is free again after it.
    let asked = edge.lane.stop.unless(pin!(asked)).await.unwrap_or(Err(Rejection::Draining));
    let Asked { envelope, prompted, wishes, keyed, priority } = match asked {
        Ok(asked) => asked,
        Err(rejection) => {
            account.reject(&rejection);
            return refuse(rejection);
        }
    };
    // In a box: each future on the way to the provider would hold it twice.
    let call = Box::new(Call {
        request_id: request_id.clone(),
        kind,
        dialect: dialect(kind),
        envelope,
        prompted,
        rolled: None,
        timeout: wishes.timeout,
        priority,
        midstream: wishes.midstream,
        sticky: wishes.sticky,
        client_retries: wishes.client_retries,
        resumable: wishes.resumable,
        may_be_cut: false,
        cache: wishes.cache,
        stale: None,
        held_back: None,
        share: None,
        forwarded: headers::forwarded(&parts.headers),
        caller,
        snapshot,
    });
    let tags = call.caller.tagged(wishes.tags);
    account.on_call(&call, tags);
    match keyed {
        None => answer(&edge, call, account).await,
        Some(keyed) => idempotency::answer(&edge, &keyed, &parts, call, account).await,
    }
}

/// Counts a request that is refused before it has an account. It is not journaled: anybody can send
/// such requests, as many as they like, and each would cost a row.
fn turned_away(edge: &Edge, kind: EndpointKind, rejection: Rejection) -> Rejection {
    let (outcome, code) = (Outcome::Rejected.as_str(), rejection.face().code);
    edge.gateway.metrics.requests.ended(kind.as_str(), outcome, code);
    rejection
}

/// Serves a call and writes the reply.
pub(super) async fn answer(edge: &Edge, call: Box<Call>, account: Account) -> Response {
    let request_id: RequestId = call.request_id.clone();
    let dialect = call.dialect;
    let resumable = call.resumable.then(|| call.caller.id.clone());
    match edge.lane.complete(call, account).await {
        Ok(Answer::Whole(body, served)) => reply::whole(body, &request_id, &served),
        Ok(Answer::Stream(stream, served)) => match resumable {
            None => {
                let expiry = stream.expiry();
                let mut response = reply::stream(Body::new(*stream), &request_id, &served);
                response.extensions_mut().insert(expiry);
                response
            }
            Some(owner) => {
                streams::open(edge, stream, Opened { id: request_id, owner, dialect, served })
            }
        },
        Err(refused) => {
            let Refused { rejection, served } = *refused;
            ApiError::of(rejection, dialect, request_id.as_str(), served).into_response()
        }
    }
}

/// What the caller asks for, checked as far as every target needs it.
struct Asked {
    envelope: Envelope,
    prompted: Option<Box<Prompted>>,
    wishes: Wishes,
    keyed: Option<Keyed>,
    priority: Priority,
}

impl Asked {
    /// Reads the headers, waits to be admitted by what they tell, and only then reads the body.
    async fn read(
        edge: &Edge,
        caller: &Caller,
        snapshot: &Snapshot,
        (kind, head, body): (EndpointKind, &Parts, Body),
        account: &mut Account,
    ) -> Result<Self, Rejection> {
        let wishes = Wishes::read(&head.headers)?;
        let keyed = Keyed::read(&head.headers)?;
        let priority = caller.priority_of(wishes.priority);
        account.on_priority(priority);
        let settings = &snapshot.settings;
        let ask = Ask::new(&caller.id, account.request_id(), priority, guess_cost(&body));
        let within = wishes.timeout.unwrap_or(Duration::MAX);
        let slot = edge.gateway.admit(&ask, &settings.admission, within).await?;
        account.on_admitted(slot);
        let server = &settings.server;
        let (limit, within) = (server.request_body_limit.0, server.request_read_timeout.0);
        let body = body::read(&head.headers, body, limit, within).await?;
        let lookup = Lookup {
            prompts: &|| edge.gateway.registry().prompts(),
            rollouts: edge.gateway.rollouts(),
            whose: Whose {
                user: wishes.sticky.as_deref(),
                caller: &caller.id,
                request: account.request_id(),
            },
        };
        let (envelope, prompted) = read_envelope(kind, body, wishes.resumable, lookup)?;
        if let Some(prompted) = &prompted {
            snapshot.check_tested(&prompted.prompt, caller, &envelope.model)?;
        }
        Ok(Self { envelope, prompted, wishes, keyed, priority })
    }
}

/// What a body is about, by endpoints.
const ESSENCE: [(&str, &str); 3] = [
    ("messages", "/v1/chat/completions"),
    ("prompt", "/v1/completions"),
    ("input", "/v1/embeddings"),
];

/// Refuses a body without the member that it is about. One with another endpoint's came to the
/// wrong place.
fn require_essence(kind: EndpointKind, envelope: &Envelope) -> Result<(), Rejection> {
    let needed = match kind {
        EndpointKind::Chat | EndpointKind::Messages | EndpointKind::CountTokens => "messages",
        EndpointKind::Completions => "prompt",
        EndpointKind::Embeddings => "input",
    };
    let Err(refused) = envelope.require(needed) else { return Ok(()) };
    match ESSENCE.iter().find(|(key, _)| *key != needed && envelope.has(key)) {
        None => Err(refused),
        Some((key, path)) => {
            let problem = format!("`{needed}` is missing; a body with `{key}` belongs to {path}");
            Err(Rejection::invalid(needed, problem))
        }
    }
}

/// Reads the body as far as every target needs it, with the registered prompt in it that it names.
pub(super) fn read_envelope(
    kind: EndpointKind,
    body: Bytes,
    is_resumable: bool,
    lookup: Lookup<'_>,
) -> Result<(Envelope, Option<Box<Prompted>>), Rejection> {
    let (mut envelope, prompted) = prompted::read(kind, body, lookup)?;
    require_essence(kind, &envelope)?;
    if kind == EndpointKind::Messages {
        envelope.require("max_tokens")?;
    }
    if matches!(kind, EndpointKind::Embeddings | EndpointKind::CountTokens) {
        // These answers come whole, whatever is asked for.
        envelope.stream = false;
    }
    if is_resumable && !envelope.stream {
        let problem = "`x-resumable: true` needs a request with `stream: true`, to an endpoint \
                       that streams";
        return Err(Rejection::invalid("x-resumable", problem));
    }
    Ok((envelope, prompted))
}

/// What a request costs in tokens, as far as its headers tell: its length is what it says.
fn guess_cost(body: &Body) -> u64 {
    body.size_hint().lower() / BYTES_A_TOKEN + USUAL_OUTPUT_TOKENS
}
