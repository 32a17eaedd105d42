//! What an account notes of the attempts that are made for its request.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;

use super::Account;
use super::open::Open;
use crate::clock::Instant;
use crate::config::Target;
use crate::dialect::{Dropped, StreamSummary};
use crate::dispatch::attempt::Whole;
use crate::dispatch::settle::waste::Why;
use crate::failure::Failure;
use crate::journal::EndpointKind;
use crate::policy::degrade::Level;
use crate::telemetry::trace::TRACEPARENT;
use crate::telemetry::{TargetMetrics, TraceContext};

// === impl Account ===

impl Account {
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

    /// Notes that the attempts under way were given up with the candidate of a rollout.
    pub(in crate::dispatch) fn on_left_candidate(&mut self) {
        let Some(open) = &mut self.open else { return };
        // The control answers now: nothing of it is the candidate's.
        open.watched = None;
        open.give_up_attempts(Why::Left);
    }

    /// Notes that the gateway stops, so that how the request ends says nothing of anybody, and
    /// nothing of what would come of it if it was made again.
    pub(in crate::dispatch) fn on_stopped(&mut self) {
        let Some(open) = &mut self.open else { return };
        open.watched = None;
        open.is_stopped = true;
    }

    /// Notes that the attempts under way were given up before any had answered.
    pub(in crate::dispatch) fn on_given_up(&mut self, why: Why) {
        if let Some(open) = &mut self.open {
            open.give_up_attempts(why);
        }
    }

    /// Notes the attempt that lost a race. It was sent the same prompt; what it would have
    /// generated was cut off.
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

    /// Notes that an attempt was cut off because the request has no more time.
    pub(in crate::dispatch) fn on_out_of_time(&mut self, target: &Target) {
        if let Some(open) = &mut self.open {
            open.forget(target);
            if let Some(trace) = &mut open.trace {
                trace.on_given_up();
            }
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
}
