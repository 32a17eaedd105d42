//! A request's spans, by OpenTelemetry's GenAI conventions: one for the request, which answers a
//! caller, and one below it for each attempt, which waits for a provider.
//!
//! Only the request's span carries token counts, so that whoever adds up spans counts them once.
//! Neither carries prompts, replies or the messages of providers, which may quote them.

use std::sync::Arc;

use http::{HeaderMap, StatusCode};

use crate::chat::FinishReason;
use crate::clock::Instant;
use crate::config::Target;
use crate::dialect::StreamSummary;
use crate::failure::{Failure, FailureKind};
use crate::ids::ProviderId;
use crate::journal::{EndpointKind, Entry, Outcome};
use crate::telemetry::trace::TRACEPARENT;
use crate::telemetry::{Span, SpanKind, SpanSource, TraceContext, Tracer};

/// What a request's spans are made of, beside its [`Entry`].
#[derive(Debug)]
pub(super) struct Trace {
    context: TraceContext,
    /// The caller's span.
    parent: Option<u64>,
    received: Instant,
    ended: Instant,
    attempts: Vec<Attempt>,
    /// The model as the provider reports it; may be empty.
    model: String,
    finish: Option<FinishReason>,
    /// What came of a stream that broke and was to be continued.
    midstream: Option<&'static str>,
}

#[derive(Debug)]
struct Attempt {
    context: TraceContext,
    target: Arc<Target>,
    began: Instant,
    /// When and how it ended, where that is not how the request did.
    ended: Option<Ended>,
}

#[derive(Debug)]
struct Ended {
    at: Instant,
    how: How,
    /// The provider's, where an answer came at all.
    status: Option<StatusCode>,
}

#[derive(Debug, Clone, Copy)]
enum How {
    Failed(FailureKind),
    /// It lost a race.
    Superseded,
    /// Nobody waited for it any longer.
    GivenUp,
}

/// A request that has ended, with all that is known of it.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) trace: Box<Trace>,
    pub(super) entry: Entry,
}

// === impl Trace ===

impl Trace {
    /// A request that came with `headers` at `received`.
    pub(super) fn start(tracer: &Tracer, headers: &HeaderMap, received: Instant) -> Self {
        let parent = headers.get(TRACEPARENT).and_then(TraceContext::parse);
        Self {
            context: tracer.start(parent),
            parent: parent.map(|parent| parent.span_id),
            received,
            ended: received,
            attempts: Vec::new(),
            model: String::new(),
            finish: None,
            midstream: None,
        }
    }

    /// Whether spans are written at all; where they are not, contexts still go upstream, so that
    /// nobody there begins a trace of half a request.
    pub(super) fn is_kept(&self) -> bool {
        self.context.sampled
    }

    /// Notes an attempt and returns its place in the trace.
    pub(super) fn on_attempt(&mut self, target: &Arc<Target>) -> (TraceContext, usize) {
        let context = self.context.child();
        let number = self.attempts.len();
        if self.is_kept() {
            let (target, began) = (Arc::clone(target), Instant::now());
            self.attempts.push(Attempt { context, target, began, ended: None });
        }
        (context, number)
    }

    /// Notes that an attempt failed.
    pub(super) fn on_failure(&mut self, failure: &Failure, number: usize) {
        if let Some(attempt) = self.attempts.get_mut(number) {
            let Failure { kind, status, .. } = *failure;
            attempt.ended = Some(Ended { at: Instant::now(), how: How::Failed(kind), status });
        }
    }

    /// Notes that the attempt broke whose answer the caller was getting.
    pub(super) fn on_break(&mut self, failure: &Failure) {
        if let Some(number) = self.attempts.iter().rposition(|attempt| attempt.ended.is_none()) {
            self.on_failure(failure, number);
        }
    }

    /// Notes what came of a stream that broke and was to be continued.
    pub(super) fn on_midstream(&mut self, result: &'static str) {
        self.midstream = Some(result);
    }

    /// Notes that an attempt lost a race.
    pub(super) fn on_superseded(&mut self, number: usize) {
        if let Some(attempt) = self.attempts.get_mut(number) {
            attempt.ended = Some(Ended::now(How::Superseded));
        }
    }

    /// Notes that the attempts under way were given up.
    pub(super) fn on_given_up(&mut self) {
        for attempt in self.attempts.iter_mut().filter(|attempt| attempt.ended.is_none()) {
            attempt.ended = Some(Ended::now(How::GivenUp));
        }
    }

    /// Notes the end, and what was seen of the answer.
    pub(super) fn end(&mut self, now: Instant, summary: Option<&StreamSummary>) {
        self.ended = now;
        if let Some(summary) = summary.filter(|_| self.is_kept()) {
            self.model.clone_from(&summary.model);
            self.finish.clone_from(&summary.finish);
        }
    }
}

// === impl Ended ===

impl Ended {
    fn now(how: How) -> Self {
        Self { at: Instant::now(), how, status: None }
    }
}

// === impl Finished ===

impl SpanSource for Finished {
    fn spans(&self) -> Vec<Span> {
        let attempts = self.trace.attempts.iter().zip(1..);
        let attempts = attempts.map(|(attempt, number)| self.attempt(attempt, number));
        std::iter::once(self.request()).chain(attempts).collect()
    }
}

impl Finished {
    fn request(&self) -> Span {
        let Self { trace, entry } = self;
        let operation = operation(entry.endpoint);
        // A name that stands for nothing here is the caller's own text, and names are indexed.
        let asked = entry.model_asked.as_ref().filter(|_| entry.route.is_some());
        let name = match asked {
            Some(model) => format!("{operation} {model}"),
            None => operation.to_owned(),
        };
        let times = (self.unix_nanos(trace.received), self.unix_nanos(trace.ended));
        let mut span = Span::new(name, SpanKind::Server, trace.context, trace.parent, times);
        span.text("gen_ai.operation.name", operation);
        if let Some(provider) = &entry.provider {
            span.text("gen_ai.provider.name", provider_name(provider));
        }
        if let Some(model) = asked {
            span.text("gen_ai.request.model", model.as_str());
        }
        self.describe_answer(&mut span);
        self.describe_request(&mut span);
        span
    }

    /// What came of the request, in the words of the GenAI conventions.
    fn describe_answer(&self, span: &mut Span) {
        let Self { trace, entry } = self;
        let usage = &entry.usage;
        let answered = matches!(entry.outcome, Outcome::Complete | Outcome::Spliced | Outcome::Cut);
        if let Some(model) = entry.model_served.as_ref().filter(|_| answered) {
            let reported = Some(trace.model.as_str()).filter(|model| !model.is_empty());
            span.text("gen_ai.response.model", reported.unwrap_or(model.as_str()));
        }
        if let Some(finish) = &trace.finish {
            span.list_of("gen_ai.response.finish_reasons", finish_reason(finish));
        }
        if !usage.is_empty() {
            span.int("gen_ai.usage.input_tokens", usage.total_input());
            span.int("gen_ai.usage.output_tokens", usage.total_output());
        }
        for (name, tokens) in [
            ("gen_ai.usage.cache_read.input_tokens", usage.cached_input),
            ("gen_ai.usage.cache_creation.input_tokens", usage.cache_write),
        ] {
            if tokens > 0 {
                span.int(name, tokens);
            }
        }
        if let Some(code) = entry.error_code {
            span.text("error.type", code);
        }
        // What the caller did wrong is no failure of the one who says so.
        if entry.outcome == Outcome::Cut || entry.status >= 500 {
            span.fail();
        }
        span.int("http.response.status_code", entry.status.into());
    }

    /// What only this gateway knows.
    fn describe_request(&self, span: &mut Span) {
        let entry = &self.entry;
        span.text("tidegate.request.id", entry.request_id.as_str());
        span.text("tidegate.caller.id", entry.caller.as_str());
        span.text("tidegate.outcome", entry.outcome.as_str());
        span.int("tidegate.attempts", entry.attempts.into());
        span.int("tidegate.degradation", entry.degradation.into());
        span.flag("tidegate.stream", entry.streamed);
        span.int("tidegate.overhead_us", micros(entry.overhead));
        if let Some(midstream) = self.trace.midstream {
            span.text("tidegate.midstream", midstream);
        }
        if let Some(route) = &entry.route {
            span.text("tidegate.route", route.as_str());
        }
        if let Some(target) = &entry.target {
            span.text("tidegate.target", target.as_str());
        }
        if let Some(first_token) = entry.first_token {
            span.int("tidegate.first_token_us", micros(first_token));
        }
        if !entry.usage.is_empty() {
            span.flag("tidegate.usage.estimated", entry.usage_estimated);
            span.int("tidegate.cost_micro_usd", entry.cost.0);
        }
    }

    fn attempt(&self, attempt: &Attempt, number: u64) -> Span {
        let Self { trace, entry } = self;
        let Attempt { context, target, began, ended: early } = attempt;
        let operation = operation(entry.endpoint);
        let name = format!("{operation} {}", target.model.name);
        let ended = early.as_ref().map_or(trace.ended, |early| early.at);
        let times = (self.unix_nanos(*began), self.unix_nanos(ended));
        let parent = Some(trace.context.span_id);
        let mut span = Span::new(name, SpanKind::Client, *context, parent, times);
        span.text("gen_ai.operation.name", operation);
        span.text("gen_ai.provider.name", provider_name(&target.endpoint.provider));
        span.text("gen_ai.request.model", target.model.name.as_str());
        span.text("server.address", &*target.endpoint.base.origin.host);
        span.int("server.port", target.endpoint.base.origin.port.into());
        span.text("tidegate.target", target.id.as_str());
        span.int("tidegate.attempt", number);
        let result = match early.as_ref().map(|early| early.how) {
            Some(How::Failed(kind)) => kind.as_str(),
            Some(How::Superseded) => "superseded",
            Some(How::GivenUp) => "given_up",
            None if entry.outcome == Outcome::ClientGone => "client_gone",
            None if entry.error_code.is_some() => "given_up",
            None => "success",
        };
        span.text("tidegate.attempt.result", result);
        if let Some(How::Failed(kind)) = early.as_ref().map(|early| early.how) {
            span.text("error.type", kind.as_str());
            span.fail();
        }
        if let Some(status) = early.as_ref().and_then(|early| early.status) {
            span.int("http.response.status_code", status.as_u16().into());
        }
        span
    }

    /// The wall clock is read once, when the request comes in; all else is measured from there.
    fn unix_nanos(&self, at: Instant) -> u64 {
        let since = at.saturating_duration_since(self.trace.received).as_nanos();
        let started = self.entry.started_at_ms.saturating_mul(1_000_000);
        started.saturating_add(u64::try_from(since).unwrap_or(u64::MAX))
    }
}

fn micros(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// `gen_ai.operation.name`.
fn operation(endpoint: EndpointKind) -> &'static str {
    match endpoint {
        EndpointKind::Chat | EndpointKind::Messages => "chat",
        EndpointKind::Completions => "text_completion",
        EndpointKind::Embeddings => "embeddings",
        EndpointKind::CountTokens => "count_tokens",
    }
}

/// `gen_ai.provider.name`, which has names of its own for some.
fn provider_name(provider: &ProviderId) -> &str {
    match provider.as_str() {
        "azure-openai" => "azure.ai.openai",
        "gemini" => "gcp.gemini",
        "mistral" => "mistral_ai",
        "xai" => "x_ai",
        provider => provider,
    }
}

/// `gen_ai.response.finish_reasons`.
fn finish_reason(finish: &FinishReason) -> &str {
    match finish {
        FinishReason::Stop | FinishReason::StopSequence(_) => "stop",
        FinishReason::Length => "length",
        FinishReason::ToolCalls => "tool_call",
        FinishReason::ContentFilter => "content_filter",
        FinishReason::Refusal => "refusal",
        FinishReason::Pause => "pause",
        FinishReason::Other(word) => word,
    }
}
