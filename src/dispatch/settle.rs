//! The account of a request: opened when it is admitted, settled exactly once, however it ends.
//!
//! An [`Account`] that is dropped unsettled belongs to a caller who left, so it settles itself as
//! abandoned. Where the provider said how many tokens there were, the entry goes to the journal at
//! once; where it did not (a cut stream, a caller who left), they are estimated off the data
//! threads first.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use tokio::sync::mpsc;

use super::trace::{Finished, Trace};
use super::{Call, Served};
use crate::callers::Caller;
use crate::chat::Usage;
use crate::clock::{Instant, WallClock};
use crate::config::{Route, Target};
use crate::dialect::{Dialect, Dropped, ReplyContext, StreamBreak, StreamSummary};
use crate::failure::Failure;
use crate::ids::{ModelName, RequestId, RouteName, TargetId};
use crate::journal::{EndpointKind, Entry, Journal, Outcome};
use crate::rejection::Rejection;
use crate::telemetry::trace::TRACEPARENT;
use crate::telemetry::{Metrics, TargetMetrics, TraceContext, Tracer};
use crate::units::MicroUsd;

mod estimate;

pub use estimate::Estimator;
use estimate::{Estimate, Job, MAX_WAITING_ESTIMATES};

/// Where accounts are settled.
#[derive(Debug)]
pub struct Ledger {
    journal: Journal,
    metrics: Arc<Metrics>,
    wall: Arc<dyn WallClock>,
    /// `None` where traces are not exported.
    tracer: Option<Arc<Tracer>>,
    /// Bounded; full means the estimate is made by length, see [`MAX_WAITING_ESTIMATES`].
    estimates: mpsc::Sender<Job>,
}

/// The account of one request.
#[derive(Debug)]
#[must_use = "an account that is dropped counts as abandoned by its caller"]
pub struct Account {
    ledger: Arc<Ledger>,
    /// `None` once settled.
    open: Option<Box<Open>>,
}

/// What is known of a request so far.
#[derive(Debug)]
struct Open {
    entry: Entry,
    received: Instant,
    /// When the body was read and the gateway's own work began.
    read: Instant,
    first_token: Option<Instant>,
    upstream_wait: Duration,
    prompt: Bytes,
    tried: Option<(Arc<Target>, TargetMetrics)>,
    dropped: Dropped,
    /// Whether the answer comes token by token.
    flows: bool,
    /// `None` where the request leaves no span.
    trace: Option<Box<Trace>>,
}

// === impl Ledger ===

impl Ledger {
    /// A ledger, and the estimator that must run beside it.
    pub fn new(
        journal: Journal,
        metrics: Arc<Metrics>,
        wall: Arc<dyn WallClock>,
        tracer: Option<Arc<Tracer>>,
    ) -> (Arc<Self>, Estimator) {
        let (estimates, waiting) = mpsc::channel(MAX_WAITING_ESTIMATES);
        let ledger = Arc::new(Self { journal, metrics, wall, tracer, estimates });
        (Arc::clone(&ledger), Estimator::new(waiting, ledger))
    }

    /// Opens the account of a request that came in at `received`.
    pub fn open(
        self: &Arc<Self>,
        request_id: RequestId,
        caller: &Caller,
        kind: EndpointKind,
        dialect: Dialect,
        received: Instant,
    ) -> Account {
        self.journal.accepted();
        let entry = Entry {
            request_id,
            started_at_ms: self.wall.unix_ms(),
            caller: caller.id.clone(),
            endpoint: kind,
            dialect,
            model_asked: None,
            route: None,
            target: None,
            provider: None,
            model_served: None,
            streamed: false,
            outcome: Outcome::ClientGone,
            failure: None,
            error_code: None,
            status: 0,
            attempts: 0,
            usage: Usage::default(),
            usage_estimated: false,
            cost: MicroUsd::default(),
            latency: Duration::ZERO,
            first_token: None,
            overhead: Duration::ZERO,
            tags: Vec::new(),
        };
        let open = Open {
            entry,
            received,
            read: received,
            first_token: None,
            upstream_wait: Duration::ZERO,
            prompt: Bytes::new(),
            tried: None,
            dropped: Dropped::default(),
            flows: false,
            trace: None,
        };
        Account { ledger: Arc::clone(self), open: Some(Box::new(open)) }
    }

    /// Seconds since 1970.
    pub fn unix_seconds(&self) -> u64 {
        self.wall.unix_seconds()
    }

    /// The journal.
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Counts and writes an entry that is complete.
    fn close(&self, entry: Entry, trace: Option<Box<Trace>>) {
        let metrics = &self.metrics;
        metrics.request(
            entry.endpoint.as_str(),
            entry.outcome.as_str(),
            entry.error_code.unwrap_or(""),
        );
        metrics.request_seconds.observe(entry.latency.as_secs_f64());
        metrics.overhead_seconds.observe(entry.overhead.as_secs_f64());
        if let Some(first_token) = entry.first_token {
            metrics.first_token_seconds.observe(first_token.as_secs_f64());
        }
        for _ in 1..entry.attempts {
            metrics.fallbacks.inc();
        }
        tracing::debug!(
            request.id = %entry.request_id,
            caller.id = %entry.caller,
            endpoint = entry.endpoint.as_str(),
            route = entry.route.as_ref().map(RouteName::as_str),
            target.id = entry.target.as_ref().map(TargetId::as_str),
            outcome = entry.outcome.as_str(),
            status = entry.status,
            attempts = entry.attempts,
            latency_ms = entry.latency.as_secs_f64() * 1e3,
            first_token_ms = entry.first_token.map(|first| first.as_secs_f64() * 1e3),
            overhead_us = entry.overhead.as_secs_f64() * 1e6,
            input_tokens = entry.usage.total_input(),
            output_tokens = entry.usage.total_output(),
            "request ended"
        );
        if let (Some(tracer), Some(trace)) = (&self.tracer, trace.filter(|trace| trace.is_kept())) {
            tracer.record(Box::new(Finished { trace, entry: entry.clone() }));
        }
        self.journal.record(entry);
    }

    /// Counts how fast tokens came after the first one, where there were others.
    fn observe_pace(&self, took: Duration, usage: &Usage, metrics: &TargetMetrics) {
        let Some(gaps) = usage.total_output().checked_sub(1).filter(|gaps| *gaps > 0) else {
            return;
        };
        #[expect(clippy::cast_precision_loss, reason = "token counts are far below 2^52")]
        let gap = took.as_secs_f64() / gaps as f64;
        metrics.per_token_seconds.observe(gap);
        self.metrics.between_tokens_seconds.observe(gap);
    }
}

// === impl Account ===

impl Account {
    /// Finds the request's place in its caller's trace, where traces are exported.
    pub fn on_head(&mut self, headers: &HeaderMap) {
        if let (Some(tracer), Some(open)) = (&self.ledger.tracer, &mut self.open) {
            open.trace = Some(Box::new(Trace::start(tracer, headers, open.received)));
        }
    }

    /// Notes what was asked, once the body was read.
    pub fn on_call(&mut self, call: &Call, tags: Vec<(String, String)>) {
        if let Some(open) = &mut self.open {
            open.read = Instant::now();
            open.prompt = call.envelope.body().clone();
            open.entry.model_asked = Some(ModelName::new(&call.envelope.model));
            open.entry.streamed = call.envelope.stream;
            open.entry.tags = tags;
        }
    }

    pub(super) fn on_route(&mut self, route: &Route) {
        if let Some(open) = &mut self.open {
            open.entry.route = Some(route.name.clone());
        }
    }

    pub(super) fn on_attempt(&mut self, target: &Arc<Target>, dropped: &Dropped) {
        if let Some(open) = &mut self.open {
            open.entry.attempts += 1;
            open.entry.target = Some(target.id.clone());
            open.entry.provider = Some(target.endpoint.provider.clone());
            open.entry.model_served = Some(target.model.name.clone());
            open.dropped = dropped.clone();
        }
    }

    /// Makes an attempt a span of its own, and the parent of what its provider does.
    pub(super) fn trace_attempt(&mut self, target: &Arc<Target>, headers: &mut HeaderMap) {
        if let Some(trace) = self.open.as_mut().and_then(|open| open.trace.as_mut()) {
            let context: TraceContext = trace.on_attempt(target);
            headers.insert(TRACEPARENT, context.header());
        }
    }

    /// Notes whose attempt is under way, for the tokens it may cost.
    pub(super) fn on_ticket(&mut self, target: &Arc<Target>, metrics: &TargetMetrics) {
        if let Some(open) = &mut self.open {
            open.tried = Some((Arc::clone(target), metrics.clone()));
        }
    }

    pub(super) fn on_failure(&mut self, failure: &Failure) {
        if let Some(open) = &mut self.open {
            open.entry.failure = Some(failure.kind);
            if let Some(trace) = &mut open.trace {
                trace.on_failure(failure);
            }
            // A provider that failed before its first token charges nothing.
            open.tried = None;
        }
    }

    pub(super) fn on_upstream_wait(&mut self, waited: Duration) {
        if let Some(open) = &mut self.open {
            open.upstream_wait += waited;
        }
    }

    /// Notes the first token, and whether others follow it one by one.
    pub(super) fn on_first_token(&mut self, now: Instant, flows: bool) {
        if let Some(open) = &mut self.open {
            open.first_token = Some(now);
            open.flows = flows;
        }
    }

    pub(super) fn attempts(&self) -> u32 {
        self.open.as_ref().map_or(0, |open| open.entry.attempts)
    }

    pub(super) fn request_id(&self) -> &str {
        self.open.as_ref().map_or("", |open| open.entry.request_id.as_str())
    }

    /// What the writer of a translated answer has to know.
    pub(super) fn reply_context(&self, call: &Call, target: &Target) -> ReplyContext {
        ReplyContext {
            request_id: call.request_id.to_string(),
            model: target.model.name.to_string(),
            created: self.ledger.unix_seconds(),
            include_usage: call.envelope.include_usage,
        }
    }

    /// How the answer came about so far.
    pub fn served(&self) -> Served {
        let Some(open) = &self.open else { return Served::default() };
        Served {
            by: open.entry.target.clone(),
            attempts: open.entry.attempts,
            dropped: open.dropped.clone(),
            cost: None,
            overhead: open.overhead(Instant::now()),
        }
    }

    /// The event that tells the caller of a committed stream what went wrong.
    /// `summary` is what the caller has of the answer.
    pub(super) fn error_event(
        &self,
        rejection: &Rejection,
        summary: Option<&StreamSummary>,
    ) -> Bytes {
        let Some(open) = &self.open else { return Bytes::new() };
        let broken = StreamBreak {
            rejection,
            request_id: open.entry.request_id.as_str(),
            provider: open
                .entry
                .provider
                .as_ref()
                .filter(|_| summary.is_some())
                .map(|id| id.as_str()),
            summary,
        };
        open.entry.dialect.codec().encode_stream_error(&broken).into()
    }

    /// Settles a request whose whole answer was sent, or is about to be.
    pub(super) fn complete(mut self, summary: &StreamSummary) -> Served {
        let served = self.served();
        let cost = self.settle(Outcome::Complete, 200, Some(summary));
        Served { cost, ..served }
    }

    /// Settles a request whose answer broke off after it had begun.
    pub(super) fn cut(mut self, rejection: &Rejection, summary: &StreamSummary) {
        if let Some(open) = &mut self.open {
            open.entry.error_code = Some(rejection.face().code);
            if let Rejection::StreamFailed { failure } = rejection {
                open.entry.failure = Some(failure.kind);
            }
        }
        self.settle(Outcome::Cut, 200, Some(summary));
    }

    /// Settles a request whose caller left within the answer.
    pub(super) fn abandon(mut self, summary: &StreamSummary) {
        self.settle(Outcome::ClientGone, 200, Some(summary));
    }

    /// Settles a request that got an error instead of an answer.
    pub fn reject(mut self, rejection: &Rejection) {
        let face = rejection.face();
        let attempted = self.attempts() > 0;
        if let Some(open) = &mut self.open {
            open.entry.error_code = Some(face.code);
            open.tried = None;
        }
        let outcome = if attempted { Outcome::Failed } else { Outcome::Rejected };
        self.settle(outcome, face.status.as_u16(), None);
    }

    fn settle(
        &mut self,
        outcome: Outcome,
        status: u16,
        summary: Option<&StreamSummary>,
    ) -> Option<MicroUsd> {
        let open = self.open.take()?;
        let now = Instant::now();
        let overhead = open.overhead(open.first_token.unwrap_or(now));
        let Open { mut entry, received, first_token, prompt, tried, flows, mut trace, .. } = *open;
        entry.outcome = outcome;
        entry.status = status;
        entry.latency = now.saturating_duration_since(received);
        entry.first_token = first_token.map(|at| at.saturating_duration_since(received));
        entry.overhead = overhead;
        if let Some(trace) = &mut trace {
            trace.end(now, summary);
        }
        let Some((target, metrics)) = tried else {
            self.ledger.close(entry, trace);
            return None;
        };
        if entry.endpoint == EndpointKind::CountTokens {
            // No model was asked anything.
            self.ledger.close(entry, trace);
            return Some(MicroUsd::default());
        }
        let known = summary.and_then(|summary| summary.usage);
        if let (Some(usage), Outcome::Complete) = (known, outcome) {
            entry.usage = usage;
            entry.cost = target.model.cost(&usage);
            metrics.used(&usage, entry.cost.0);
            if let (true, Some(first_token)) = (flows, first_token) {
                self.ledger.observe_pace(
                    now.saturating_duration_since(first_token),
                    &usage,
                    &metrics,
                );
            }
            let cost = entry.cost;
            self.ledger.close(entry, trace);
            return Some(cost);
        }
        self.ledger.estimate(Estimate {
            entry,
            prompt,
            text: summary.map(|summary| summary.text.clone()).unwrap_or_default(),
            known: known.unwrap_or_default(),
            model: Arc::clone(&target.model),
            metrics,
            trace,
        });
        None
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let detail = "panic".to_owned();
            let face = Rejection::Internal { detail }.face();
            if let Some(open) = &mut self.open {
                open.entry.error_code = Some(face.code);
            }
            self.settle(Outcome::Failed, face.status.as_u16(), None);
        }
        self.settle(Outcome::ClientGone, 499, None);
    }
}

// === impl Open ===

impl Open {
    /// The gateway's own part of the time between the body's end and `until`.
    fn overhead(&self, until: Instant) -> Duration {
        until.saturating_duration_since(self.read).saturating_sub(self.upstream_wait)
    }
}
