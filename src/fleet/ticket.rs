//! The right to one attempt on a target. What a ticket sees, policies learn.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::budget::{Budgets, Extra};
use super::demand::Demand;
use super::gate::Slot;
use super::group::Member;
use super::latency::Shape;
use super::target::TargetLive;
use crate::catalog::Model;
use crate::chat::Usage;
use crate::clock::Instant;
use crate::failure::Failure;
use crate::policy::breaker::Pass;
use crate::policy::rank::Exclusion;
use crate::telemetry::TargetMetrics;

/// The right to one attempt on a target.
///
/// A ticket that is dropped unsettled counts as given up, so that a caller who leaves can leak
/// nothing: no attempt in flight, no trial of a breaker, no budget.
#[must_use]
#[derive(Debug)]
pub struct Ticket {
    live: Arc<TargetLive>,
    budgets: Arc<Budgets>,
    model: Arc<Model>,
    /// What the breaker is told the end with; none where it was passed over in a panic.
    pass: Option<Pass>,
    shape: Shape,
    started: Instant,
    first_token: Option<Instant>,
    /// What an attempt beyond the first was paid with; given back with the ticket.
    extra: Option<Extra>,
    /// Its place among those that may be there at a time; given back with the ticket.
    _slot: Slot,
    end: End,
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Succeeded,
    Failed(&'static str),
    /// It was cut off from our side, which says nothing of the target. The reason is for metrics.
    GivenUp(&'static str),
}

// === impl Ticket ===

impl Ticket {
    /// Admits one attempt. In a panic an open breaker lets it pass, without a verdict.
    pub(super) fn open(
        member: &Member,
        budgets: &Arc<Budgets>,
        demand: &Demand,
        (slot, extra): (Slot, Option<Extra>),
        is_panic: bool,
        now: Instant,
    ) -> Result<Self, Exclusion> {
        let live = &member.live;
        let mut health = live.health.lock();
        let half_opened = health.breaker.poll(now);
        let pass = health.breaker.admit(now);
        if pass.is_none() && !is_panic {
            return Err(Exclusion::Open);
        }
        health.on_attempt(demand.shape(), now);
        let limit = health.limit();
        drop(health);
        live.gate.learn_limit(limit);
        live.on_transition(half_opened, now);
        live.in_flight.fetch_add(1, Ordering::Relaxed);
        live.metrics.in_flight.inc();
        budgets.on_start();
        Ok(Self {
            live: Arc::clone(live),
            budgets: Arc::clone(budgets),
            model: Arc::clone(&member.target.model),
            pass,
            shape: demand.shape(),
            started: now,
            first_token: None,
            extra,
            _slot: slot,
            end: End::GivenUp("client_gone"),
        })
    }

    /// The target's metrics.
    pub fn metrics(&self) -> &TargetMetrics {
        &self.live.metrics
    }

    /// When the attempt began.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// Notes the first token: a piece of the answer, never headers or comments.
    pub fn on_first_token(&mut self, now: Instant) {
        let waited = now.saturating_duration_since(self.started);
        self.first_token = Some(now);
        self.live.metrics.first_token_seconds.observe(waited.as_secs_f64());
        if let Some(extra) = self.extra.take() {
            extra.repay(now);
        }
        let random = rand::random();
        let mut health = self.live.health.lock();
        let transition = health.on_first_token(self.pass, self.shape, waited, random, now);
        drop(health);
        self.live.on_transition(transition, now);
    }

    /// Settles an attempt that answered completely, with its tokens where they are known.
    pub fn succeed(mut self, usage: Option<Usage>, now: Instant) {
        let lasted = now.saturating_duration_since(self.started);
        self.live.metrics.duration_seconds.observe(lasted.as_secs_f64());
        self.end = End::Succeeded;
        if self.first_token.is_none() {
            // An empty answer is one as well: it has no first token, and the target has answered.
            self.on_first_token(now);
        }
        if let Some(usage) = &usage {
            #[expect(clippy::cast_precision_loss, reason = "micro-dollars of one request are few")]
            let usd = self.model.cost(usage).0 as f64 * 1e-6;
            self.budgets.on_answer(usage.total_output(), usd, now);
        }
        let gaps = usage.and_then(|usage| u32::try_from(usage.total_output()).ok()?.checked_sub(1));
        let streamed = self.first_token.map(|at| now.saturating_duration_since(at));
        let pace = gaps.filter(|gaps| *gaps > 0).zip(streamed).map(|(gaps, took)| took / gaps);
        self.live.health.lock().on_success(pace.filter(|pace| !pace.is_zero()), now);
        self.live.metrics.succeeded();
    }

    /// Settles an attempt that failed, before its first token or after.
    pub fn fail(mut self, failure: &Failure, now: Instant) {
        self.end = End::Failed(failure.kind.as_str());
        self.live.failures.fetch_add(1, Ordering::Relaxed);
        let random = rand::random();
        let mut health = self.live.health.lock();
        let waited = now.saturating_duration_since(self.started);
        let told = (self.shape, self.first_token.is_none().then_some(waited));
        let transition = health.on_failure(self.pass, told, failure, random, now);
        drop(health);
        self.live.on_transition(transition, now);
    }

    /// Settles an attempt that lost a race: it was cut off before its first token.
    pub fn supersede(mut self) {
        self.end = End::GivenUp("superseded");
    }

    /// Settles an attempt that was cut off because the caller gave it less time than the route
    /// gives a target.
    pub fn out_of_time(mut self) {
        self.end = End::GivenUp("out_of_time");
    }

    /// How long the attempt has been waited for.
    pub fn waited(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.started)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.live.in_flight.fetch_sub(1, Ordering::Relaxed);
        self.live.metrics.in_flight.dec();
        self.live.attempts.fetch_add(1, Ordering::Relaxed);
        self.budgets.on_end();
        let limit = self.live.health.lock().limit();
        self.live.gate.learn_limit(limit);
        let reason = match self.end {
            End::Succeeded => return,
            End::Failed(kind) => return self.live.metrics.ended(kind),
            End::GivenUp(reason) => reason,
        };
        self.live.metrics.ended(reason);
        if self.first_token.is_none() {
            let now = Instant::now();
            let waited = self.waited(now);
            let mut health = self.live.health.lock();
            let transition = health.on_given_up(self.pass, self.shape, waited, now);
            drop(health);
            self.live.on_transition(transition, now);
        }
    }
}
