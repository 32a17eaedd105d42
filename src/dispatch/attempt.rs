//! One upstream call, held back until its first token.
//!
//! Nothing is sent to the caller here, so whatever goes wrong is an ordinary failure and the next
//! target can be tried. Headers are no token: a provider that has sent them may still think for a
//! minute, or fail.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http::header::CONTENT_TYPE;

use super::cached::Stale;
use super::collect::Collector;
use super::live::Live;
use super::prepare::{Carriage, Prepared};
use super::wire::{self, Wire};
use super::{Call, Lane};
use crate::chat::Completion;
use crate::clock::Instant;
use crate::config::{Conduct, Target};
use crate::dialect::{self, Codec, ReplyContext, StreamEncoder, StreamSummary, gemini};
use crate::failure::{Failure, FailureKind};
use crate::fleet::{Gauge, Ticket};
use crate::journal::EndpointKind;
use crate::upstream::{self, UpstreamBody, UpstreamReply, UpstreamRequest};

/// The longest answer that is taken whole. Embeddings of 2,048 texts at 3,072 dimensions are some
/// 80 MB as JSON numbers.
pub(super) const MAX_REPLY_BYTES: usize = 128 * 1024 * 1024;
/// The longest error body that is read; what matters stands at its beginning.
const MAX_ERROR_BYTES: usize = 256 * 1024;
/// How long an error body is waited for once the status is known.
const ERROR_BODY_WITHIN: Duration = Duration::from_secs(2);
/// The most that a stream may say before its first token. Comments and envelopes are a few hundred
/// bytes; more is no way to begin an answer.
const MAX_HELD_BYTES: usize = 1024 * 1024;

/// An answer that has begun.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "moved a few times a request, and not kept")]
pub(super) enum Begun {
    /// It is all here.
    Whole(Whole),
    /// Its first token is here.
    Stream(Box<Live>),
    /// Nobody answered, and these are the route's own words.
    Scripted(Bytes),
    /// Nobody answered, and this was kept.
    Stale(Box<Stale>),
}

/// An answer of which nothing is missing.
#[derive(Debug)]
pub(super) struct Whole {
    pub(super) body: Bytes,
    /// What it says, where it was read on its way.
    pub(super) said: Option<Box<Completion>>,
    pub(super) summary: Box<StreamSummary>,
    /// Whether it came to its natural end and says nothing. It may be meant so, or not.
    pub(super) is_empty: bool,
    pub(super) ticket: Ticket,
    /// When it had come.
    pub(super) ended: Instant,
}

/// An attempt that failed, with what was seen of its answer where its provider may bill it.
#[derive(Debug)]
pub(super) struct Lost {
    pub(super) failure: Failure,
    pub(super) said: Option<Box<StreamSummary>>,
}

/// What all attempts of a call have in common.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms {
    pub(super) conduct: Conduct,
    pub(super) deadline: Instant,
    /// What the route gives a target until its first token. Who had less, because the caller gave
    /// less or others used it up, is not to blame for its end.
    pub(super) fair_share: Duration,
    /// Seconds since 1970, for answers that do not say when they were made.
    pub(super) created: u64,
}

impl Lane {
    /// Makes one attempt, up to its first token or its end.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future cancels the attempt upstream.
    pub(super) async fn attempt(
        &self,
        call: &Call,
        target: Arc<Target>,
        sent: (Prepared, Gauge),
        terms: &Terms,
        patience: Duration,
    ) -> Result<Unticketed, Lost> {
        let answering = self.begin(call, &target, sent, terms);
        match tokio::time::timeout(patience, answering).await {
            Ok(begun) => {
                begun.map_err(|lost| Lost { failure: concealed(lost.failure, &target), ..lost })
            }
            Err(_elapsed) => {
                let message = format!("no first token within {patience:?}");
                // It was sent, and nobody knows how far its provider has come.
                Err(Lost::billed(Failure::new(FailureKind::SlowStart, message)))
            }
        }
    }

    async fn begin(
        &self,
        call: &Call,
        target: &Arc<Target>,
        (prepared, gauge): (Prepared, Gauge),
        terms: &Terms,
    ) -> Result<Unticketed, Lost> {
        let Prepared { path, headers, body, carriage, is_collected, .. } = prepared;
        let origin = target.endpoint.base.origin.clone();
        let connect_timeout = terms.conduct.timeouts.connect;
        let request = UpstreamRequest { origin, path, headers, body, connect_timeout };
        let mut reply = self.transport.send(request).await?;
        let (own, unix_ms) = (&target.endpoint.rate_headers, self.ledger.unix_ms());
        gauge.on_headers(&reply.headers, own, unix_ms, Instant::now());
        if !reply.status.is_success() {
            return Err(refusal(target, reply).await.into());
        }
        let context = reply_context(call, target, terms.created);
        if !call.envelope.stream && !is_collected {
            let body = upstream::collect(&mut *reply.body, MAX_REPLY_BYTES).await;
            let body = body.map_err(Lost::billed)?;
            return whole(call, target, &carriage, body, &context).map_err(Lost::billed);
        }
        let first = match is_event_stream(&reply.headers) {
            true => None,
            false => {
                upstream::next_chunk(&mut *reply.body).await.transpose().map_err(Lost::billed)?
            }
        };
        if first.as_deref().is_some_and(looks_like_json) {
            let rest = upstream::collect(&mut *reply.body, MAX_REPLY_BYTES).await;
            let rest = rest.map_err(Lost::billed)?;
            let body = [first.unwrap_or_default(), rest].concat();
            if is_collected {
                return whole(call, target, &carriage, body.into(), &context).map_err(Lost::billed);
            }
            if matches!(carriage, Carriage::Onward) {
                let message = "the rest of the answer did not come as a stream";
                return Err(Lost::billed(Failure::new(FailureKind::Degenerate, message)));
            }
            let whole = whole_as_stream(call, target, &body, &carriage, context);
            return whole.map_err(Lost::billed);
        }
        let wire = match is_collected {
            true => collecting(call, target, context),
            false => wire_of(&carriage, call, target, context),
        };
        let is_onward = matches!(carriage, Carriage::Onward);
        let mut held = HeldBack { wire, bytes: Bytes::new(), tokens: 0 };
        let told = held.until_first_token(&mut *reply.body, first).await;
        match told.map_err(|failure| Lost::after(failure, held.wire.summary()))? {
            Told::Nothing if !is_onward => {
                let summary = Box::new(held.wire.summary().clone());
                Ok(Unticketed::Whole { body: held.bytes, said: None, summary, is_empty: true })
            }
            // Where an answer is continued, nothing may be all that was missing.
            Told::Something | Told::Nothing => {
                let HeldBack { wire, bytes, tokens } = held;
                let live = Live::new(reply.body, wire, (bytes, tokens), terms, target);
                Ok(Unticketed::Stream(Box::new(live)))
            }
            Told::NoAnswer(message) => {
                let failure = Failure::new(FailureKind::Degenerate, message);
                Err(Lost::after(failure, held.wire.summary()))
            }
        }
    }
}

// === impl Lost ===

impl Lost {
    /// A failure after the provider had begun, of whose answer nothing was seen.
    fn billed(failure: Failure) -> Self {
        Self { failure, said: Some(Box::default()) }
    }

    /// A failure after this was seen of an answer.
    fn after(failure: Failure, said: &StreamSummary) -> Self {
        Self { failure, said: Some(Box::new(said.clone())) }
    }
}

impl From<Failure> for Lost {
    /// A failure that no provider bills: there was no connection, or it refused.
    fn from(failure: Failure) -> Self {
        Self { failure, said: None }
    }
}

/// A [`Begun`] without its ticket, which stays with the attempt until it is known to succeed.
#[derive(Debug)]
pub(super) enum Unticketed {
    Whole {
        body: Bytes,
        said: Option<Box<Completion>>,
        summary: Box<StreamSummary>,
        is_empty: bool,
    },
    Stream(Box<Live>),
}

impl Begun {
    /// Whether it is complete and says nothing.
    pub(super) fn is_empty(&self) -> bool {
        match self {
            Self::Whole(whole) => whole.is_empty,
            Self::Stream(_) | Self::Scripted(_) | Self::Stale(_) => false,
        }
    }
}

impl Unticketed {
    pub(super) fn is_empty(&self) -> bool {
        match self {
            Self::Whole { is_empty, .. } => *is_empty,
            Self::Stream(_) => false,
        }
    }

    pub(super) fn with(self, ticket: Ticket, ended: Instant) -> Begun {
        match self {
            Self::Whole { body, said, summary, is_empty } => {
                Begun::Whole(Whole { body, said, summary, is_empty, ticket, ended })
            }
            Self::Stream(mut live) => {
                live.ticket = Some(ticket);
                Begun::Stream(live)
            }
        }
    }
}

/// What the writer of a translated answer has to know.
pub(super) fn reply_context(call: &Call, target: &Target, created: u64) -> ReplyContext {
    ReplyContext {
        request_id: call.request_id.to_string(),
        model: target.model.name.to_string(),
        created,
        include_usage: call.envelope.include_usage,
    }
}

/// A failure less the credential, which its provider may have repeated.
pub(super) fn concealed(failure: Failure, target: &Target) -> Failure {
    match target.endpoint.secret() {
        Some(secret) => failure.without(secret),
        None => failure,
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

/// The beginning of a stream, up to its first token.
struct HeldBack {
    wire: Wire,
    bytes: Bytes,
    tokens: u32,
}

/// What the beginning of a stream turned out to be.
enum Told {
    /// It has its first token.
    Something,
    /// It is over, as its provider meant it to be, and empty.
    Nothing,
    /// It is no answer.
    NoAnswer(String),
}

impl HeldBack {
    /// Reads up to the first token. `first` is what was read already.
    async fn until_first_token(
        &mut self,
        body: &mut dyn UpstreamBody,
        mut first: Option<Bytes>,
    ) -> Result<Told, Failure> {
        let mut ended = false;
        // After its terminal event a provider may keep the connection open.
        while !ended && !self.wire.saw_terminal() {
            let chunk = match first.take() {
                Some(chunk) => Some(Ok(chunk)),
                None => upstream::next_chunk(body).await,
            };
            let progress = match chunk {
                Some(chunk) => self.wire.push(chunk?),
                None => {
                    ended = true;
                    self.wire.finish()
                }
            };
            self.bytes = match std::mem::take(&mut self.bytes) {
                held if held.is_empty() => progress.bytes,
                held => wire::join(held, &progress.bytes),
            };
            // A failure in the same read as the first token came before anything was sent.
            if let Some(failure) = progress.failure {
                return Err(failure);
            }
            self.tokens = self.tokens.saturating_add(progress.tokens);
            // A finish reason is a token only where there is something to finish.
            if progress.tokens > 0 && !self.wire.summary().is_hollow() {
                return Ok(Told::Something);
            }
            if self.bytes.len() > MAX_HELD_BYTES {
                let message = format!("{MAX_HELD_BYTES} bytes and not a single token");
                return Ok(Told::NoAnswer(message));
            }
        }
        if self.wire.summary().is_hollow() {
            return Ok(Told::Nothing);
        }
        Ok(Told::NoAnswer("the stream ended without a single token".to_owned()))
    }
}

/// The way of a stream.
fn wire_of(carriage: &Carriage, call: &Call, target: &Target, context: ReplyContext) -> Wire {
    let wire = match carriage {
        Carriage::Pass if !call.may_be_cut => {
            Wire::same(call.dialect.codec(), target, &call.envelope)
        }
        // There are no streams of vectors.
        Carriage::Pass | Carriage::Chat | Carriage::Text | Carriage::Vectors(_) => {
            let encoder = encoder_of(carriage, call, context);
            Wire::translated(target.endpoint.dialect, encoder, target, call.envelope.n)
        }
        Carriage::Onward => return Wire::kept(target.endpoint.dialect, target),
    };
    if call.is_continued() { wire.remembering(target.endpoint.dialect) } else { wire }
}

/// The way of a stream that the caller gets whole.
fn collecting(call: &Call, target: &Target, context: ReplyContext) -> Wire {
    let collector = Collector::new(call.dialect.codec(), context);
    Wire::collected(target.endpoint.dialect, collector, target)
}

fn encoder_of(carriage: &Carriage, call: &Call, context: ReplyContext) -> Box<dyn StreamEncoder> {
    match carriage {
        Carriage::Text => dialect::text_stream_encoder(context),
        Carriage::Pass | Carriage::Chat | Carriage::Vectors(_) | Carriage::Onward => {
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
    let (body, said, summary) = match carriage {
        Carriage::Pass if call.kind == EndpointKind::CountTokens => {
            (body, None, StreamSummary::default())
        }
        Carriage::Pass => {
            let (summary, is_empty) = scan(codec, call.kind, &body)?;
            let summary = Box::new(summary);
            return Ok(Unticketed::Whole { body, said: None, summary, is_empty });
        }
        Carriage::Vectors(request) => {
            let vectors = gemini::decode_embeddings(&body, request, &context.model)?;
            (vectors.to_string().into(), None, StreamSummary::default())
        }
        Carriage::Chat | Carriage::Text | Carriage::Onward => {
            let completion = decode(codec, &body)?;
            let encoded = if matches!(carriage, Carriage::Text) {
                dialect::encode_text_reply(&completion, context)
            } else {
                call.dialect.codec().encode_reply(&completion, context)
            };
            let summary = summary_of(&completion);
            (encoded.into(), Some(Box::new(completion)), summary)
        }
    };
    let is_empty = summary.is_hollow();
    Ok(Unticketed::Whole { body, said, summary: Box::new(summary), is_empty })
}

/// Looks at an answer that passes as it came, and says whether it is empty. Where a scanner finds
/// nothing, the decoder, which sees more, has the last word.
fn scan(
    codec: &dyn Codec,
    kind: EndpointKind,
    body: &[u8],
) -> Result<(StreamSummary, bool), Failure> {
    let decoded = || {
        let summary = decode(codec, body).map(|completion| summary_of(&completion)).ok()?;
        Some(summary).filter(StreamSummary::is_hollow)
    };
    match codec.scan_reply(body) {
        Ok(summary) => {
            // What completes a text may well be nothing.
            let may_be_empty = summary.is_hollow() && kind != EndpointKind::Completions;
            Ok((summary, may_be_empty && decoded().is_some()))
        }
        Err(failure) if failure.kind == FailureKind::Degenerate => {
            decoded().map(|summary| (summary, true)).ok_or(failure)
        }
        Err(failure) => Err(failure),
    }
}

/// Reads a whole answer. One without any choice is none.
fn decode(codec: &dyn Codec, body: &[u8]) -> Result<Completion, Failure> {
    let completion = codec.decode_reply(body)?;
    if completion.choices.is_empty() {
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
    let is_empty = summary.is_hollow();
    Ok(Unticketed::Whole { body: out.into(), said: None, summary: Box::new(summary), is_empty })
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
