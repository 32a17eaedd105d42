//! The endpoints that models answer: chat completions, completions, embeddings, messages.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, HeaderName};

use super::error::ApiError;
use super::{Edge, body, caller, panics, reply};
use crate::clock::Instant;
use crate::dialect::{Dialect, Envelope};
use crate::dispatch::{Account, Answer, Call, Refused, Served};
use crate::ids::RequestId;
use crate::journal::EndpointKind;
use crate::rejection::Rejection;

/// Headers of the caller that mean something to a provider and go upstream as they are.
const FORWARDED: [HeaderName; 5] = [
    HeaderName::from_static("traceparent"),
    HeaderName::from_static("tracestate"),
    HeaderName::from_static("anthropic-beta"),
    HeaderName::from_static("anthropic-version"),
    HeaderName::from_static("openai-beta"),
];

/// What axum wants of a handler.
type Handled = Pin<Box<dyn Future<Output = Response> + Send>>;

/// The handler of one endpoint.
pub(super) fn of(kind: EndpointKind) -> impl Fn(State<Edge>, Request) -> Handled + Clone {
    move |State(edge), request| Box::pin(panics::isolate(serve(kind, edge, request), dialect(kind)))
}

/// The dialect that callers of an endpoint speak.
pub(super) const fn dialect(kind: EndpointKind) -> Dialect {
    match kind {
        EndpointKind::Chat | EndpointKind::Completions | EndpointKind::Embeddings => {
            Dialect::OpenAiChat
        }
        EndpointKind::Messages | EndpointKind::CountTokens => Dialect::Anthropic,
    }
}

async fn serve(kind: EndpointKind, edge: Edge, request: Request) -> Response {
    let received = Instant::now();
    let request_id = reply::new_request_id();
    let (parts, body) = request.into_parts();
    let refuse = |rejection| {
        ApiError::of(rejection, dialect(kind), request_id.as_str(), Served::default())
            .into_response()
    };
    let caller = match caller::authenticate(&edge, &parts.headers) {
        Ok(caller) => caller,
        Err(rejection) => return refuse(rejection),
    };
    if edge.gateway.is_draining() {
        return refuse(Rejection::Draining);
    }
    let ledger = &edge.lane.ledger;
    let mut account = ledger.open(request_id.clone(), &caller, kind, dialect(kind), received);
    account.on_head(&parts.headers);
    let snapshot = edge.gateway.snapshot();
    let server = &snapshot.settings.server;
    let body = body::read(body, server.request_body_limit.0, server.request_read_timeout.0).await;
    let asked = body.and_then(|body| Asked::read(kind, &parts.headers, body));
    let Asked { envelope, timeout, tags } = match asked {
        Ok(asked) => asked,
        Err(rejection) => {
            account.reject(&rejection);
            return refuse(rejection);
        }
    };
    let forwarded = forwarded(&parts.headers);
    let dialect = dialect(kind);
    let request_id = request_id.clone();
    let call = Call { request_id, caller, kind, dialect, envelope, timeout, forwarded, snapshot };
    account.on_call(&call, tags);
    answer(&edge, call, account).await
}

/// Serves a call and writes the reply.
async fn answer(edge: &Edge, call: Call, account: Account) -> Response {
    let request_id: RequestId = call.request_id.clone();
    let dialect = call.dialect;
    match edge.lane.complete(call, account).await {
        Ok(Answer::Whole(body, served)) => reply::whole(body, &request_id, &served),
        Ok(Answer::Stream(stream, served)) => reply::stream(*stream, &request_id, &served),
        Err(refused) => {
            let Refused { rejection, served } = *refused;
            ApiError::of(rejection, dialect, request_id.as_str(), served).into_response()
        }
    }
}

/// What the caller asks for, checked as far as every target needs it.
struct Asked {
    envelope: Envelope,
    timeout: Option<Duration>,
    tags: Vec<(String, String)>,
}

impl Asked {
    fn read(kind: EndpointKind, headers: &HeaderMap, body: Bytes) -> Result<Self, Rejection> {
        let timeout = timeout(headers)?;
        let tags = tags(headers)?;
        let mut envelope = Envelope::read(body)?;
        envelope.require(match kind {
            EndpointKind::Chat | EndpointKind::Messages | EndpointKind::CountTokens => "messages",
            EndpointKind::Completions => "prompt",
            EndpointKind::Embeddings => "input",
        })?;
        if kind == EndpointKind::Messages {
            envelope.require("max_tokens")?;
        }
        if matches!(kind, EndpointKind::Embeddings | EndpointKind::CountTokens) {
            // These answers come whole, whatever is asked for.
            envelope.stream = false;
        }
        Ok(Self { envelope, timeout, tags })
    }
}

fn forwarded(headers: &HeaderMap) -> HeaderMap {
    let mut forwarded = HeaderMap::new();
    for name in FORWARDED {
        for value in headers.get_all(&name) {
            forwarded.append(name.clone(), value.clone());
        }
    }
    forwarded
}

/// `x-tidegate-timeout-ms`: the caller's limit for the whole request.
fn timeout(headers: &HeaderMap) -> Result<Option<Duration>, Rejection> {
    const NAME: &str = "x-tidegate-timeout-ms";
    let Some(value) = headers.get(NAME) else { return Ok(None) };
    let ms = value.to_str().ok().and_then(|value| value.trim().parse::<u64>().ok());
    match ms {
        Some(ms @ 1..=86_400_000) => Ok(Some(Duration::from_millis(ms))),
        _ => Err(Rejection::invalid(
            NAME,
            format!(
                "the header `{NAME}` must be a whole number of milliseconds from 1 to 86400000"
            ),
        )),
    }
}

/// `x-tidegate-tags: team=search,env=prod`.
fn tags(headers: &HeaderMap) -> Result<Vec<(String, String)>, Rejection> {
    const NAME: &str = "x-tidegate-tags";
    let Some(value) = headers.get(NAME) else { return Ok(Vec::new()) };
    let pairs = value.to_str().unwrap_or_default().split(',').map(|pair| {
        let (name, value) = pair.split_once('=')?;
        let (name, value) = (name.trim(), value.trim());
        (!name.is_empty()).then(|| (name.to_owned(), value.to_owned()))
    });
    pairs.collect::<Option<Vec<_>>>().ok_or_else(|| {
        let problem = format!("the header `{NAME}` must look like `team=search,env=prod`");
        Rejection::invalid(NAME, problem)
    })
}
