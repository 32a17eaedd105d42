//! One upstream call, held back until its first token.
//!
//! Nothing is sent to the caller here, so whatever goes wrong is an ordinary failure and the next
//! target can be tried. Headers are no token: a provider that has sent them may still think for a
//! minute, or fail.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http::header::CONTENT_TYPE;

use super::plan::{Carriage, Plan, Prepared};
use super::stream::Live;
use super::wire::{self, Wire};
use super::{Account, Call, Lane};
use crate::chat::Completion;
use crate::clock::Instant;
use crate::config::Target;
use crate::dialect::{self, Codec, ReplyContext, StreamEncoder, StreamSummary, gemini};
use crate::failure::{Failure, FailureKind};
use crate::fleet::Ticket;
use crate::journal::EndpointKind;
use crate::upstream::{self, UpstreamReply, UpstreamRequest};

/// The longest answer that is taken whole. Embeddings of 2,048 texts at 3,072 dimensions are some
/// 80 MB as JSON numbers.
const MAX_REPLY_BYTES: usize = 128 * 1024 * 1024;
/// The longest error body that is read; what matters stands at its beginning.
const MAX_ERROR_BYTES: usize = 256 * 1024;
/// How long an error body is waited for once the status is known.
const ERROR_BODY_WITHIN: Duration = Duration::from_secs(2);
/// The most that a stream may say before its first token. Comments and envelopes are a few hundred
/// bytes; more is no way to begin an answer.
const MAX_HELD_BYTES: usize = 1024 * 1024;

/// An answer that has begun.
#[derive(Debug)]
pub(super) enum Begun {
    /// It is all here.
    Whole { body: Bytes, summary: Box<StreamSummary>, ticket: Ticket },
    /// Its first token is here.
    Stream(Box<Live>),
}

impl Lane {
    /// Makes one attempt.
    pub(super) async fn attempt(
        &self,
        call: &Call,
        plan: &Plan,
        target: &Arc<Target>,
        prepared: Prepared,
        account: &mut Account,
    ) -> Result<Begun, Failure> {
        let started = Instant::now();
        let ticket = self.fleet.admit(target, started);
        account.on_ticket(target, ticket.metrics());
        let limit = patience(call, plan);
        let answering = self.begin(call, plan, target, prepared, account);
        // Boxed: what an attempt holds across its waits would otherwise be copied up through every
        // future around it.
        let result = tokio::time::timeout(limit, Box::pin(answering)).await;
        let now = Instant::now();
        account.on_upstream_wait(now.saturating_duration_since(started));
        match result {
            Ok(Ok(begun)) => {
                ticket.on_first_token(now);
                account.on_first_token(now, matches!(begun, Unticketed::Stream(_)));
                Ok(begun.with(ticket))
            }
            Ok(Err(failure)) => {
                ticket.fail(failure.kind);
                Err(failure)
            }
            Err(_elapsed) => {
                ticket.fail(FailureKind::SlowStart);
                let message = format!("no first token within {limit:?}");
                Err(Failure::new(FailureKind::SlowStart, message))
            }
        }
    }

    async fn begin(
        &self,
        call: &Call,
        plan: &Plan,
        target: &Arc<Target>,
        prepared: Prepared,
        account: &Account,
    ) -> Result<Unticketed, Failure> {
        let Prepared { path, headers, body, carriage, .. } = prepared;
        let origin = target.endpoint.base.origin.clone();
        let connect_timeout = plan.route().timeouts.connect;
        let request = UpstreamRequest { origin, path, headers, body, connect_timeout };
        let mut reply = self.transport.send(request).await?;
        if !reply.status.is_success() {
            return Err(refusal(target, reply).await);
        }
        let context = account.reply_context(call, target);
        if !call.envelope.stream {
            let body = upstream::collect(&mut *reply.body, MAX_REPLY_BYTES).await?;
            return whole(call, target, &carriage, body, &context);
        }
        let first = match is_event_stream(&reply.headers) {
            true => None,
            false => upstream::next_chunk(&mut *reply.body).await.transpose()?,
        };
        if first.as_deref().is_some_and(looks_like_json) {
            let rest = upstream::collect(&mut *reply.body, MAX_REPLY_BYTES).await?;
            let body = [first.unwrap_or_default(), rest].concat();
            return whole_as_stream(call, target, &body, &carriage, context);
        }
        let wire = wire_of(&carriage, call, target, context);
        hold_back(reply, wire, first, plan, target).await
    }
}

/// A [`Begun`] without its ticket, which stays with the attempt until it is known to succeed.
enum Unticketed {
    Whole(Bytes, Box<StreamSummary>),
    Stream(Box<Live>),
}

impl Unticketed {
    fn with(self, ticket: Ticket) -> Begun {
        match self {
            Self::Whole(body, summary) => Begun::Whole { body, summary, ticket },
            Self::Stream(mut live) => {
                live.ticket = Some(ticket);
                Begun::Stream(live)
            }
        }
    }
}

/// How long an attempt may take until its first token. An answer that is not streamed has its
/// first token with its last one, so `first_token` says nothing about it: each target gets an equal
/// share of the time that is left, so that one that hangs leaves time for the next.
fn patience(call: &Call, plan: &Plan) -> Duration {
    let remaining = plan.remaining();
    if call.envelope.stream {
        remaining.min(plan.route().timeouts.first_token)
    } else {
        remaining / plan.targets_left().saturating_add(1)
    }
}

async fn refusal(target: &Target, mut reply: UpstreamReply) -> Failure {
    // An error body that is cut, endless or never comes still has its status to go by.
    let body = upstream::collect(&mut *reply.body, MAX_ERROR_BYTES);
    let body = tokio::time::timeout(ERROR_BODY_WITHIN, body).await;
    let body = body.unwrap_or_else(|_elapsed| Ok(Bytes::new())).unwrap_or_default();
    let codec = target.endpoint.dialect.codec();
    if reply.status.is_redirection() {
        let message = "the provider redirects; set its `base_url` to where it redirects to";
        return Failure::new(FailureKind::ServerFault, message).with_status(reply.status);
    }
    codec.decode_failure(reply.status, &reply.headers, &body)
}

/// Reads a stream up to its first token. `first` is what was read of it already.
async fn hold_back(
    mut reply: UpstreamReply,
    mut wire: Wire,
    mut first: Option<Bytes>,
    plan: &Plan,
    target: &Arc<Target>,
) -> Result<Unticketed, Failure> {
    let mut held: Option<Bytes> = None;
    let mut ended = false;
    while !ended {
        let chunk = match first.take() {
            Some(chunk) => Some(Ok(chunk)),
            None => upstream::next_chunk(&mut *reply.body).await,
        };
        let progress = match chunk {
            Some(chunk) => wire.push(chunk?),
            None => {
                ended = true;
                wire.finish()
            }
        };
        let bytes = match held.take() {
            None => progress.bytes,
            Some(held) => {
                let mut both = BytesMut::from(held);
                both.extend_from_slice(&progress.bytes);
                both.freeze()
            }
        };
        // A failure in the same read as the first token came before anything was sent.
        if let Some(failure) = progress.failure {
            return Err(failure);
        }
        // A finish reason is a token only where there is something to finish.
        if progress.semantic && !wire.summary().is_hollow() {
            let live = Live::new(reply.body, wire, bytes, plan, target);
            return Ok(Unticketed::Stream(Box::new(live)));
        }
        if bytes.len() > MAX_HELD_BYTES {
            let message = format!("{MAX_HELD_BYTES} bytes and not a single token");
            return Err(Failure::new(FailureKind::Degenerate, message));
        }
        held = Some(bytes).filter(|bytes| !bytes.is_empty());
    }
    let message = "the stream ended without a single token";
    Err(Failure::new(FailureKind::Degenerate, message))
}

/// The way of a stream.
fn wire_of(carriage: &Carriage, call: &Call, target: &Target, context: ReplyContext) -> Wire {
    match carriage {
        Carriage::Pass => Wire::same(call.dialect.codec(), target, &call.envelope),
        // There are no streams of vectors.
        Carriage::Chat | Carriage::Text | Carriage::Vectors(_) => {
            let encoder = encoder_of(carriage, call, context);
            Wire::translated(target.endpoint.dialect, encoder, target, call.envelope.n)
        }
    }
}

fn encoder_of(carriage: &Carriage, call: &Call, context: ReplyContext) -> Box<dyn StreamEncoder> {
    match carriage {
        Carriage::Text => dialect::text_stream_encoder(context),
        Carriage::Pass | Carriage::Chat | Carriage::Vectors(_) => {
            call.dialect.codec().stream_encoder(context)
        }
    }
}

/// An answer that came whole, for a caller who wants it whole.
fn whole(
    call: &Call,
    target: &Target,
    carriage: &Carriage,
    body: Bytes,
    context: &ReplyContext,
) -> Result<Unticketed, Failure> {
    let codec = target.endpoint.dialect.codec();
    let (encoded, summary) = match carriage {
        Carriage::Pass if call.kind == EndpointKind::CountTokens => {
            (body, StreamSummary::default())
        }
        Carriage::Pass => {
            let summary = codec.scan_reply(&body)?;
            (body, summary)
        }
        Carriage::Vectors(request) => {
            let vectors = gemini::decode_embeddings(&body, request, &context.model)?;
            (vectors.to_string().into(), StreamSummary::default())
        }
        Carriage::Chat | Carriage::Text => {
            let completion = decode(codec, &body)?;
            let encoded = if matches!(carriage, Carriage::Text) {
                dialect::encode_text_reply(&completion, context)
            } else {
                call.dialect.codec().encode_reply(&completion, context)
            };
            (encoded.into(), summary_of(&completion))
        }
    };
    Ok(Unticketed::Whole(encoded, Box::new(summary)))
}

/// Reads a whole answer. One that has nothing in it is none.
fn decode(codec: &dyn Codec, body: &[u8]) -> Result<Completion, Failure> {
    let completion = codec.decode_reply(body)?;
    if completion.choices.is_empty() || summary_of(&completion).is_hollow() {
        return Err(Failure::new(FailureKind::Degenerate, "the answer holds nothing"));
    }
    Ok(completion)
}

/// Some servers ignore `stream` and answer whole: the caller still gets the stream it asked for.
fn whole_as_stream(
    call: &Call,
    target: &Arc<Target>,
    body: &[u8],
    carriage: &Carriage,
    context: ReplyContext,
) -> Result<Unticketed, Failure> {
    let completion = decode(target.endpoint.dialect.codec(), body)?;
    let mut encoder = encoder_of(carriage, call, context);
    let mut out = Vec::new();
    let summary = summary_of(&completion);
    for delta in completion.into_deltas() {
        encoder.push(&delta, &mut out);
    }
    Ok(Unticketed::Whole(Bytes::from(out), Box::new(summary)))
}

fn summary_of(completion: &Completion) -> StreamSummary {
    let mut summary = StreamSummary::default();
    for delta in completion.clone().into_deltas() {
        wire::note(&mut summary, &delta);
    }
    summary
}

fn is_event_stream(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    kind.is_some_and(|kind| kind.starts_with("text/event-stream"))
}

/// Whether an answer that is not labelled as a stream is none. Labels are wrong both ways: small
/// servers call their streams JSON, and others answer whole although a stream was asked for.
fn looks_like_json(first: &[u8]) -> bool {
    first.trim_ascii_start().first().is_some_and(|byte| matches!(byte, b'{' | b'['))
}
