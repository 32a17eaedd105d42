//! The right to one attempt on a target. What a ticket sees, policies learn.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::budget::{Budgets, Extra};
use super::credential;
use super::demand::Demand;
use super::gate::Slot;
use super::health::{Admitted, Health};
use super::latency::Shape;
use super::member::Member;
use super::prefix::Sent;
use super::quota::Gauge;
use super::target::TargetLive;
use crate::chat::Usage;
use crate::clock::Instant;
use crate::config::Target;
use crate::failure::{Failure, FailureKind};
use crate::policy::breaker::Pass;
use crate::policy::quota::Reservation;
use crate::policy::rank::Exclusion;
use crate::telemetry::TargetMetrics;

/// The right to one attempt on a target.
///
/// A ticket that is dropped unsettled counts as given up, so that a caller who leaves can leak
/// nothing: no attempt in flight, no trial of a breaker, no budget, no part of a rate limit.
#[must_use]
#[derive(Debug)]
pub struct Ticket {
    live: Arc<TargetLive>,
    budgets: Arc<Budgets>,
    target: Arc<Target>,
    /// What the breaker is told the end with; none where it was passed over in a panic.
    pass: Option<Pass>,
    /// What was taken of the provider's rate limits.
    reservation: Option<Reservation>,
    /// Whether it tries a parked credential again.
    is_trial: bool,
    /// Whether it tries a model again that the credential was refused for.
    is_model_trial: bool,
    is_sent: bool,
    /// Whether it may have only a share of the target.
    is_guest: bool,
    /// What the target's cache will hold.
    prefix: Option<Box<Sent>>,
    shape: Shape,
    /// Tokens of the prompt, estimated.
    input_tokens: u64,
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
        let output = || budgets.expected_output(demand.max_output) as u64;
        let mut health = live.health.lock();
        let half_opened = health.breaker.poll(now);
        let counts = (live.in_flight(), live.guests());
        let admitted = health.admit(demand, output, counts, is_panic, now);
        if admitted.is_ok() {
            // Counted before the lock is given back, so that a limit is never exceeded.
            live.in_flight.fetch_add(1, Ordering::Relaxed);
            live.guests.fetch_add(u32::from(demand.share.is_some()), Ordering::Relaxed);
        }
        let limit = health.limit();
        drop(health);
        live.gate.learn_limit(limit);
        live.on_transition(half_opened, now);
        let Admitted { pass, reservation, is_model_trial } = match admitted {
            Ok(admitted) => admitted,
            Err(exclusion) => {
                // Nothing was asked.
                extra.into_iter().for_each(|extra| extra.repay(now));
                return Err(exclusion);
            }
        };
        let prefix = live.prefixes.lock().on_start(demand, &member.target, now);
        live.metrics.in_flight.inc();
        budgets.on_start();
        Ok(Self {
            live: Arc::clone(live),
            budgets: Arc::clone(budgets),
            target: Arc::clone(&member.target),
            pass,
            reservation,
            is_trial: live.credential.on_start(now),
            is_model_trial,
            is_sent: false,
            is_guest: demand.share.is_some(),
            prefix,
            shape: demand.shape(),
            input_tokens: demand.input_tokens,
            started: now,
            first_token: None,
            extra,
            _slot: slot,
            end: End::GivenUp("client_gone"),
        })
    }

    /// The target's metrics.
    pub fn metrics(&self) -> &Arc<TargetMetrics> {
        &self.live.metrics
    }

    /// When the attempt began.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// The request is sent now. The answer's headers are for the gauge.
    pub fn on_send(&mut self) -> Gauge {
        self.is_sent = true;
        Gauge::new(Arc::clone(&self.live), self.started)
    }

    /// The provider caches nothing of the prompt, because nothing of it is marked.
    pub fn is_not_cached(&mut self) {
        self.prefix = None;
    }

    /// Notes the first token: a piece of the answer, never headers or comments.
    pub fn on_first_token(&mut self, now: Instant) {
        let waited = now.saturating_duration_since(self.started);
        self.first_token = Some(now);
        self.live.metrics.first_token_seconds.observe(waited.as_secs_f64());
        if let Some(extra) = self.extra.take() {
            extra.repay(now);
        }
        if let Some(sent) = &self.prefix {
            self.live.prefixes.lock().on_read(sent, now);
        }
        let random = self.live.chance.draw();
        let mut health = self.live.health.lock();
        let transition = health.on_first_token(self.pass, self.shape, waited, random, now);
        health.on_load_accepted(now);
        health.on_accepted(self.started);
        drop(health);
        self.live.on_transition(transition, now);
        let endpoint = &self.target.endpoint;
        self.live.credential.on_answer(endpoint, self.started, self.is_trial);
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
            let usd = self.target.model.cost(usage).0 as f64 * 1e-6;
            self.budgets.on_answer(usage.total_output(), usd, now);
        }
        if let (Some(sent), Some(usage)) = (&self.prefix, &usage) {
            // A whole answer has its first token with its last, which says nothing of the prompt.
            let waited = self.first_token.filter(|_| self.shape.streamed);
            let waited = waited.map(|at| at.saturating_duration_since(self.started));
            self.live.prefixes.lock().on_answer(sent, usage, waited);
        }
        let gaps = usage.and_then(|usage| u32::try_from(usage.total_output()).ok()?.checked_sub(1));
        let streamed = self.first_token.map(|at| now.saturating_duration_since(at));
        let pace = gaps.filter(|gaps| *gaps > 0).zip(streamed).map(|(gaps, took)| took / gaps);
        let mut health = self.live.health.lock();
        let pace = pace.filter(|pace| !pace.is_zero());
        let transition = health.on_success(self.pass, pace, now);
        health.settle(self.reservation.take(), (self.input_tokens, usage.as_ref()), now);
        let limit = health.limit();
        drop(health);
        self.live.gate.learn_limit(limit);
        self.live.on_transition(transition, now);
        self.live.metrics.succeeded();
    }

    /// Settles an attempt that failed, before its first token or after.
    pub fn fail(mut self, failure: &Failure, now: Instant) {
        self.end = End::Failed(failure.kind.as_str());
        self.live.failures.fetch_add(1, Ordering::Relaxed);
        let live = Arc::clone(&self.live);
        let random = live.chance.draw();
        let mut health = live.health.lock();
        let waited = now.saturating_duration_since(self.started);
        let told = (self.shape, self.first_token.is_none().then_some(waited));
        let transition = health.on_failure(self.pass, told, failure, random, now);
        let pause = self.tell_limits(&mut health, failure, random, now);
        let limit = health.limit();
        drop(health);
        live.gate.learn_limit(limit);
        self.live.on_transition(transition, now);
        self.tell_credential(failure, now);
        if let Some(pause) = pause {
            live.neighbours.tell_pause(&live, &self.target.endpoint, pause);
        }
    }

    /// Tells what learns of load and rates how the attempt failed; a pause that is news.
    fn tell_limits(
        &mut self,
        health: &mut Health,
        failure: &Failure,
        random: f64,
        now: Instant,
    ) -> Option<Duration> {
        let is_begun = self.first_token.is_some();
        if failure.is_for_load() {
            let usual = health.latency.quantiles(self.shape, now).1.p50;
            health.on_load_rejected(self.live.in_flight(), usual, now);
        } else if !is_begun {
            health.on_load_neutral(self.started, now);
        }
        let is_rate_limited = failure.kind == FailureKind::RateLimited;
        let mut pause = None;
        if is_rate_limited && (failure.retry_after.is_some() || !failure.is_for_concurrency()) {
            pause = health.on_rate_limited(failure.retry_after, random, now);
        }
        // What broke off later has used about what it was expected to.
        if !is_begun {
            let is_counted = !is_rate_limited && failure.kind != FailureKind::Transport;
            health.give_back(self.reservation.take(), (self.input_tokens, is_counted), now);
        }
        pause
    }

    fn tell_credential(&mut self, failure: &Failure, now: Instant) {
        let credential = &self.live.credential;
        let is_trial = std::mem::take(&mut self.is_trial);
        let Some(cause) = credential::cause(failure) else {
            credential.on_neutral(is_trial, now);
            if self.is_model_trial {
                self.live.health.lock().on_refused_neutral(self.started, now);
            }
            return;
        };
        let was_parked = credential.exclusion(now).is_some();
        if credential.on_refusal(&self.target.endpoint, (cause, failure), is_trial, now) {
            let epoch = credential.epoch();
            self.live.health.lock().on_refused(cause, epoch, now);
        }
        if !was_parked && credential.exclusion(now).is_some() {
            self.live.neighbours.tell_parked(&self.target.endpoint, cause);
        }
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
        self.live.guests.fetch_sub(u32::from(self.is_guest), Ordering::Relaxed);
        self.live.metrics.in_flight.dec();
        self.live.attempts.fetch_add(1, Ordering::Relaxed);
        self.budgets.on_end();
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
            health.on_load_neutral(self.started, now);
            if self.is_model_trial {
                health.on_refused_neutral(self.started, now);
            }
            health.give_back(self.reservation.take(), (self.input_tokens, self.is_sent), now);
            drop(health);
            self.live.on_transition(transition, now);
            self.live.credential.on_neutral(self.is_trial, now);
        } else {
            self.live.health.lock().on_left(self.pass);
        }
    }
}
