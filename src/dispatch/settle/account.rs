//! What is known of one request, from its admission to its end.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;

use super::Ledger;
use super::ending::{self, Ending};
use super::seam::SeamAccount;
use super::waste::{Wasted, Why};
use crate::clock::Instant;
use crate::config::{Route, Target};
use crate::dialect::{Dropped, StreamBreak, StreamSummary};
use crate::dispatch::attempt::Whole;
use crate::dispatch::trace::Trace;
use crate::dispatch::{Call, Served};
use crate::failure::Failure;
use crate::fleet::Slot;
use crate::ids::{ModelName, ProviderId};
use crate::journal::{EndpointKind, Entry, Outcome, Reuse};
use crate::limits::{Reservation, Standing};
use crate::policy::degrade::Level;
use crate::rejection::Rejection;
use crate::telemetry::trace::TRACEPARENT;
use crate::telemetry::{TargetMetrics, TraceContext};
use crate::units::MicroUsd;

mod broken;
mod closing;
mod limits;

use broken::Broken;
use closing::Closing;

/// What `x-tidegate-dropped` says where a broken stream was to be continued.
const MIDSTREAM: &str = "midstream";

/// The account of one request.
#[derive(Debug)]
#[must_use = "an account that is dropped counts as abandoned by its caller"]
pub struct Account {
    ledger: Arc<Ledger>,
    /// `None` once settled.
    pub(super) open: Option<Box<Open>>,
}

/// What is known of a request so far.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) entry: Entry,
    received: Instant,
    /// When the body was read and the gateway's own work began.
    read: Instant,
    first_token: Option<Instant>,
    upstream_wait: Duration,
    prompt: Bytes,
    /// The attempt that the caller pays for if nothing else comes of it.
    tried: Option<(Arc<Target>, Arc<TargetMetrics>)>,
    /// The one that this one is raced against.
    beside: Option<(Arc<Target>, Arc<TargetMetrics>)>,
    /// Those that were in vain.
    wasted: Wasted,
    dropped: Dropped,
    /// Whether two attempts were raced.
    hedged: bool,
    /// How long an answer was held back after its first token.
    held: Duration,
    /// Whether the oldest turns of the conversation were left out.
    is_reduced: bool,
    /// Whether the caller wants a broken stream continued, which cannot be done.
    is_refused_more: bool,
    /// The attempt that broke within its answer, while another is looked for.
    broken: Option<Box<Broken>>,
    /// The attempt that broke within its answer, once another continues that.
    seam: Option<SeamAccount>,
    /// Whether the answer comes token by token.
    flows: bool,
    /// Whether a limit ended the answer.
    is_cut_short: bool,
    /// `None` where the request leaves no span.
    trace: Option<Box<Trace>>,
    /// Its place among those that the process serves at a time.
    slot: Option<Slot>,
    /// Who wants to know whether the reply stands.
    ending: Option<Ending>,
    /// Whether a provider counted tokens whose cost is not known.
    spent: bool,
    /// Whether the request itself was found at fault.
    is_callers: bool,
    /// What was taken from its caller's limits.
    reservation: Option<Reservation>,
    /// What is left of those.
    standing: Option<Box<Standing>>,
}

// === impl Account ===

impl Account {
    pub(super) fn new(ledger: Arc<Ledger>, entry: Entry, received: Instant) -> Self {
        let open = Open {
            entry,
            received,
            read: received,
            first_token: None,
            upstream_wait: Duration::ZERO,
            prompt: Bytes::new(),
            tried: None,
            beside: None,
            wasted: Wasted::default(),
            dropped: Dropped::default(),
            hedged: false,
            held: Duration::ZERO,
            is_reduced: false,
            is_refused_more: false,
            broken: None,
            seam: None,
            flows: false,
            is_cut_short: false,
            trace: None,
            slot: None,
            ending: None,
            spent: false,
            is_callers: false,
            reservation: None,
            standing: None,
        };
        Self { ledger, open: Some(Box::new(open)) }
    }

    /// Finds the request's place in its caller's trace, where traces are exported.
    pub fn on_head(&mut self, headers: &HeaderMap) {
        if let (Some(tracer), Some(open)) = (&self.ledger.tracer, &mut self.open) {
            open.trace = Some(Box::new(Trace::start(tracer, headers, open.received)));
        }
    }

    /// Notes that the process serves the request; until it is settled, no other has its slot.
    pub fn on_admitted(&mut self, slot: Slot) {
        if let Some(open) = &mut self.open {
            open.slot = Some(slot);
        }
    }

    /// Gives its place back: the request has only to wait for another.
    pub fn step_aside(&mut self) {
        if let Some(open) = &mut self.open {
            open.slot = None;
        }
    }

    /// Has `ending` told, when the request has ended, whether its reply stands.
    pub fn tell(&mut self, ending: Ending) {
        if let Some(open) = &mut self.open {
            open.ending = Some(ending);
        }
    }

    /// Notes what was asked, once the body was read.
    pub fn on_call(&mut self, call: &Call, tags: Vec<(String, String)>) {
        if let Some(open) = &mut self.open {
            open.read = Instant::now();
            open.prompt = call.envelope.body().clone();
            open.entry.model_asked = Some(ModelName::new(&call.envelope.model));
            open.entry.streamed = call.envelope.stream;
            open.is_refused_more = call.wants_more() && !call.is_continued();
            open.entry.tags = tags;
        }
    }

    pub(in crate::dispatch) fn on_route(&mut self, route: &Route) {
        if let Some(open) = &mut self.open {
            open.entry.route = Some(route.name.clone());
        }
    }

    pub(in crate::dispatch) fn on_attempt(&mut self, target: &Arc<Target>, dropped: &Dropped) {
        if let Some(open) = &mut self.open {
            open.entry.attempts += 1;
            open.entry.target = Some(target.id.clone());
            open.entry.provider = Some(target.endpoint.provider.clone());
            open.entry.model_served = Some(target.model.name.clone());
            open.dropped = dropped.clone();
        }
    }

    /// Makes an attempt a span of its own, and the parent of what its provider does. The number is
    /// the attempt's among those of the trace.
    pub(in crate::dispatch) fn trace_attempt(
        &mut self,
        target: &Arc<Target>,
        headers: &mut HeaderMap,
    ) -> Option<usize> {
        let trace = self.open.as_mut()?.trace.as_mut()?;
        let (context, number): (TraceContext, usize) = trace.on_attempt(target);
        headers.insert(TRACEPARENT, context.header());
        Some(number)
    }

    /// Notes that two attempts are raced.
    pub(in crate::dispatch) fn on_hedge(&mut self) {
        if let Some(open) = &mut self.open {
            open.hedged = true;
        }
    }

    /// Notes the attempt that lost a race. It was sent the same prompt; what it would have generated
    /// was cut off.
    pub(in crate::dispatch) fn on_superseded(
        &mut self,
        number: Option<usize>,
        target: &Target,
        metrics: &Arc<TargetMetrics>,
    ) {
        let Some(open) = &mut self.open else { return };
        open.wasted.add(target, metrics, Why::Hedge, None);
        open.forget(target);
        if let (Some(trace), Some(number)) = (&mut open.trace, number) {
            trace.on_superseded(number);
        }
    }

    /// Notes whose answer it is, of the attempts that were made.
    pub(in crate::dispatch) fn on_winner(
        &mut self,
        target: &Arc<Target>,
        dropped: Dropped,
        metrics: &Arc<TargetMetrics>,
    ) {
        if let Some(open) = &mut self.open {
            open.entry.target = Some(target.id.clone());
            open.entry.provider = Some(target.endpoint.provider.clone());
            open.entry.model_served = Some(target.model.name.clone());
            open.entry.degradation = open.level_of(target).number();
            open.dropped = dropped;
            open.tried = Some((Arc::clone(target), Arc::clone(metrics)));
            open.beside = None;
        }
    }

    /// Notes whose attempt is under way, for the tokens it may cost. One that was under way before
    /// is raced.
    pub(in crate::dispatch) fn on_ticket(
        &mut self,
        target: &Arc<Target>,
        metrics: &Arc<TargetMetrics>,
    ) {
        if let Some(open) = &mut self.open {
            open.beside = open.tried.replace((Arc::clone(target), Arc::clone(metrics)));
        }
    }

    pub(in crate::dispatch) fn on_failure(
        &mut self,
        target: &Target,
        failure: &Failure,
        number: Option<usize>,
    ) {
        if let Some(open) = &mut self.open {
            open.entry.failure = Some(failure.kind);
            open.entry.degradation = Level::None.number();
            if let (Some(trace), Some(number)) = (&mut open.trace, number) {
                trace.on_failure(failure, number);
            }
            open.forget(target);
        }
    }

    /// Notes that the oldest turns of the conversation are left out from now on.
    pub(in crate::dispatch) fn on_reduced(&mut self) {
        if let Some(open) = &mut self.open {
            open.is_reduced = true;
        }
    }

    /// Notes an attempt that was in vain though its provider may bill it, with what was seen of its
    /// answer.
    pub(in crate::dispatch) fn on_waste(
        &mut self,
        target: &Target,
        metrics: &Arc<TargetMetrics>,
        why: Why,
        seen: &StreamSummary,
    ) {
        let Some(open) = &mut self.open else { return };
        // Nothing is generated for who only has tokens counted.
        if open.entry.endpoint != EndpointKind::CountTokens {
            open.wasted.add(target, metrics, why, Some(seen));
            let counted = seen.usage.unwrap_or_default();
            open.spent |= counted.total_input() + counted.total_output() > 0;
        }
    }

    /// Notes that the empty answer of `target` is the answer after all.
    pub(in crate::dispatch) fn on_empty_kept(
        &mut self,
        target: &Arc<Target>,
        dropped: Dropped,
        answer: &Whole,
    ) {
        self.on_winner(target, dropped, answer.ticket.metrics());
        if let Some(open) = &mut self.open {
            open.wasted.take_empty();
        }
    }

    pub(in crate::dispatch) fn on_upstream_wait(&mut self, waited: Duration) {
        // What is waited for within an answer is no part of the time to its first token.
        let first_part = |open: &&mut Box<Open>| open.broken.is_none() && open.seam.is_none();
        if let Some(open) = self.open.as_mut().filter(first_part) {
            open.upstream_wait += waited;
        }
    }

    /// Notes for how long the answer is held back that the caller gets.
    pub(in crate::dispatch) fn on_held(&mut self, held: Duration) {
        if let Some(open) = &mut self.open {
            open.held = held;
        }
    }

    /// Notes the first token, and whether others follow it one by one.
    pub(in crate::dispatch) fn on_first_token(&mut self, now: Instant, flows: bool) {
        if let Some(open) = self.open.as_mut().filter(|open| open.broken.is_none()) {
            open.first_token = Some(now);
            open.flows = flows;
        }
    }

    pub(in crate::dispatch) fn attempts(&self) -> u32 {
        self.open.as_ref().map_or(0, |open| open.entry.attempts)
    }

    /// The request's id.
    pub fn request_id(&self) -> &str {
        self.open.as_ref().map_or("", |open| open.entry.request_id.as_str())
    }

    /// How the answer came about so far.
    pub fn served(&self) -> Served {
        let Some(open) = &self.open else { return Served::default() };
        let mut dropped = open.dropped.clone();
        if open.is_refused_more {
            dropped.add(MIDSTREAM);
        }
        Served {
            by: open.entry.target.clone(),
            attempts: open.entry.attempts,
            hedged: open.hedged,
            degradation: open.entry.degradation,
            dropped,
            cost: None,
            dialect: Some(open.entry.dialect),
            limits: open.standing.clone(),
            overhead: open.overhead(Instant::now()).saturating_sub(open.held),
        }
    }

    /// The event that tells the caller of a committed stream what went wrong. `summary` is what the
    /// caller has of the answer.
    pub(in crate::dispatch) fn error_event(
        &self,
        rejection: &Rejection,
        summary: Option<&StreamSummary>,
    ) -> Bytes {
        let Some(open) = &self.open else { return Bytes::new() };
        let provider = open.entry.provider.as_ref().filter(|_| summary.is_some());
        let broken = StreamBreak {
            rejection,
            request_id: open.entry.request_id.as_str(),
            provider: provider.map(ProviderId::as_str),
            summary,
        };
        open.entry.dialect.codec().encode_stream_error(&broken).into()
    }

    /// Settles a request whose whole answer was sent, or is about to be.
    pub(in crate::dispatch) fn complete(mut self, summary: &StreamSummary) -> Served {
        let served = self.served();
        let is_spliced = self.open.as_ref().is_some_and(|open| open.seam.is_some());
        let outcome = if is_spliced { Outcome::Spliced } else { Outcome::Complete };
        let cost = self.settle(outcome, 200, Some(summary));
        Served { cost, ..served }
    }

    /// Settles a request that is answered in the route's own words, because no target could.
    pub(in crate::dispatch) fn script(mut self) -> Served {
        if let Some(open) = &mut self.open {
            open.tried = None;
            open.dropped = Dropped::default();
            open.entry.degradation = Level::Scripted.number();
        }
        let served = Served { by: None, cost: Some(MicroUsd::default()), ..self.served() };
        self.settle(Outcome::Complete, 200, None);
        served
    }

    /// Settles a request whose answer broke off after it had begun.
    pub(in crate::dispatch) fn cut(mut self, rejection: &Rejection, summary: &StreamSummary) {
        if let Some(open) = &mut self.open {
            open.entry.error_code = Some(rejection.face().code);
            if let Rejection::StreamFailed { failure } = rejection {
                open.entry.failure = Some(failure.kind);
            }
        }
        self.settle(Outcome::Cut, 200, Some(summary));
    }

    /// Settles a request whose caller left within the answer.
    pub(in crate::dispatch) fn abandon(mut self, summary: &StreamSummary) {
        self.settle(Outcome::ClientGone, 200, Some(summary));
    }

    /// Settles a request that gets the reply of another: nothing was asked of a provider for it.
    pub fn reuse(mut self, reuse: Reuse, status: u16) {
        if let Some(open) = &mut self.open {
            open.entry.reuse = Some(reuse);
            open.tried = None;
        }
        let outcome = if status < 400 { Outcome::Complete } else { Outcome::Failed };
        self.settle(outcome, status, None);
    }

    /// Settles a request that got an error instead of an answer.
    pub fn reject(mut self, rejection: &Rejection) {
        let face = rejection.face();
        let attempted = self.attempts() > 0;
        if let Some(open) = &mut self.open {
            open.entry.error_code = Some(face.code);
            open.entry.degradation = Level::None.number();
            open.tried = None;
            open.is_callers = ending::is_callers(rejection);
            open.beside = None;
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
        if let Some(ending) = &open.ending {
            ending.tell(open.stands(outcome, summary));
        }
        let now = Instant::now();
        let overhead = open.overhead(open.first_token.unwrap_or(now));
        let Open { mut entry, received, first_token, prompt, tried, mut trace, .. } = *open;
        let mut wasted = open.wasted;
        if let Some((target, metrics)) = open.beside {
            // The caller left within a race. It pays for one attempt.
            wasted.add(&target, &metrics, Why::Hedge, None);
        }
        entry.outcome = outcome;
        entry.status = status;
        entry.latency = now.saturating_duration_since(received);
        entry.first_token = first_token.map(|at| at.saturating_duration_since(received));
        entry.overhead = overhead;
        if let Some(trace) = &mut trace {
            trace.end(now, summary);
        }
        let flowed = first_token.filter(|_| open.flows);
        let closing = Closing {
            ledger: &self.ledger,
            entry,
            trace,
            wasted,
            prompt,
            reservation: open.reservation,
            seam: open.seam,
            flowed_for: flowed.map(|first_token| now.saturating_duration_since(first_token)),
            is_cut_short: open.is_cut_short,
        };
        closing.close(tried, summary)
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
        match self.on_not_joined() {
            // The caller left while the rest of its answer was looked for.
            Some(told) => self.settle(Outcome::ClientGone, 200, Some(&told)),
            None => self.settle(Outcome::ClientGone, 499, None),
        };
    }
}

// === impl Open ===

impl Open {
    /// Forgets an attempt that is under way no more. Another that it was raced against may still be.
    fn forget(&mut self, target: &Target) {
        let is = |attempt: &(Arc<Target>, Arc<TargetMetrics>)| std::ptr::eq(&*attempt.0, target);
        if self.tried.as_ref().is_some_and(is) {
            self.tried = self.beside.take();
        } else if self.beside.as_ref().is_some_and(is) {
            self.beside = None;
        }
    }

    /// How far an answer of `target` is from what was asked for.
    fn level_of(&self, target: &Target) -> Level {
        match (target.tier, self.is_reduced) {
            (0, false) => Level::None,
            (0, true) => Level::ReducedContext,
            (_later, _) => Level::SmallerModel,
        }
    }

    /// Whether the reply of a request that ends so stands.
    fn stands(&self, outcome: Outcome, summary: Option<&StreamSummary>) -> bool {
        let counted = summary.and_then(|summary| summary.usage);
        let spent = self.spent
            || self.entry.cost > MicroUsd::default()
            || counted.is_some_and(|usage| usage.total_input() + usage.total_output() > 0)
            || (self.tried.is_some() && self.first_token.is_some());
        ending::stands(outcome, self.entry.degradation, spent, self.is_callers)
    }

    /// The gateway's own part of the time between the body's end and `until`.
    fn overhead(&self, until: Instant) -> Duration {
        until.saturating_duration_since(self.read).saturating_sub(self.upstream_wait)
    }
}
