//! Tries targets until one answers.

use std::pin::pin;
use std::sync::Arc;

use super::attempt::{Begun, Whole};
use super::degrade::Step;
use super::plan::{Plan, Start};
use super::prepare::Scribe;
use super::race::{Failed, Outcome, Won, note_failure};
use super::sequel::Left;
use super::settle::Why;
use super::{Account, Call, Lane};
use crate::clock::Instant;
use crate::config::Target;
use crate::dialect::Dropped;
use crate::failure::{Blame, Failure, FailureKind, Retry};
use crate::policy::degrade::Level;
use crate::rejection::Rejection;

/// What has come of the targets tried so far.
#[derive(Default)]
struct Tried {
    /// The failure that tells most.
    worst: Option<Failure>,
    /// Why the first target that could not be told the request could not.
    refusal: Option<Rejection>,
    /// A complete answer with nothing in it, kept while one other target is asked: it may be what
    /// the model means to say, or a fault of this provider.
    empty: Option<Box<Empty>>,
}

struct Empty {
    answer: Whole,
    target: Arc<Target>,
    dropped: Dropped,
}

/// What to do after an attempt.
enum Then {
    /// Answer with this.
    Answer(Begun),
    /// Ask the next target, or the one at this position again if there is none and it may help.
    Next(Option<Failed>),
    /// Nothing more can help.
    Stop,
}

impl Lane {
    /// Tries targets until one answers, or the gateway stops.
    pub(super) async fn serve(
        &self,
        call: &Call,
        left: &mut Option<Box<Left>>,
        account: &mut Account,
    ) -> Result<Begun, Rejection> {
        let served = self.stop.unless(pin!(self.serve_on_its_side(call, left, account))).await;
        served.unwrap_or_else(|| {
            account.on_given_up(Why::Stopped);
            Err(Rejection::Draining)
        })
    }

    /// Tries targets until one answers; a candidate that is found to do harm before it has answered
    /// is left for the control.
    async fn serve_on_its_side(
        &self,
        call: &Call,
        left: &mut Option<Box<Left>>,
        account: &mut Account,
    ) -> Result<Begun, Rejection> {
        let rolled = call.rolled.as_ref().filter(|rolled| rolled.may_be_left());
        let began = Instant::now();
        let Some(rolled) = rolled else {
            return self.serve_by_plan(call, left, account, began).await;
        };
        let rollout = Arc::clone(&rolled.side().steered.id);
        // In boxes: few requests are on a candidate's side.
        tokio::select! {
            biased;
            served = Box::pin(self.serve_by_plan(call, left, account, began)) => return served,
            () = self.rolling.rollouts.harmed(&rollout) => {}
        }
        tracing::info!(request.id = %call.request_id, %rollout, "left the candidate for the control");
        rolled.leave();
        account.on_left_candidate();
        Box::pin(self.serve_by_plan(call, left, account, began)).await
    }

    /// Tries targets, in the order of the plan, until one answers. What was not tried then is
    /// `left`. The time runs since it `began`.
    async fn serve_by_plan(
        &self,
        call: &Call,
        left: &mut Option<Box<Left>>,
        account: &mut Account,
        began: Instant,
    ) -> Result<Begun, Rejection> {
        let mut plan = Plan::new(call, &self.fleet, Instant::now())?;
        plan.count_time_since(began);
        account.on_route(plan.route());
        account.on_upstream_wait(plan.wait_for_burst().await);
        let mut scribe = Scribe::new(call, plan.is_collected(), plan.take_hints());
        let mut level = Level::None;
        let mut refused = None;
        loop {
            let made = account.attempts();
            let rejection = match self.try_targets(call, &mut plan, &mut scribe, account).await {
                Ok(begun) => {
                    *left = call.wants_more().then(|| Box::new(Left { plan, scribe }));
                    return Ok(begun);
                }
                // What was said when there was more to read says more than that nobody can be
                // asked.
                Err(again) => match refused.take().filter(|_| account.attempts() == made) {
                    Some(first) => first,
                    None => again,
                },
            };
            let asked = (&mut plan, &mut scribe);
            match self.step_down(&mut level, &rejection, call, asked, account).await {
                Some(Step::Again) => refused = Some(rejection),
                Some(Step::Say(words)) => {
                    tracing::warn!(
                        request.id = %call.request_id,
                        code = rejection.face().code,
                        attempts = account.attempts(),
                        "answered in fixed words: {}",
                        rejection.loggable()
                    );
                    return Ok(Begun::Scripted(words));
                }
                Some(Step::Give(stale)) => {
                    tracing::warn!(
                        request.id = %call.request_id,
                        code = rejection.face().code,
                        attempts = account.attempts(),
                        age_s = stale.age.as_secs(),
                        "answered with what is past its time: {}",
                        rejection.loggable()
                    );
                    return Ok(Begun::Stale(stale));
                }
                None => return Err(rejection),
            }
        }
    }

    /// Tries targets until one answers, or none is left.
    pub(super) async fn try_targets(
        &self,
        call: &Call,
        plan: &mut Plan,
        scribe: &mut Scribe,
        account: &mut Account,
    ) -> Result<Begun, Rejection> {
        let mut tried = Tried::default();
        let mut last = None;
        while let Some(start) = self.next_start(call, plan, last.take(), account).await {
            let prepared = match scribe.prepare(call, &start.target) {
                Ok(prepared) => prepared,
                Err(rejection) => {
                    tried.refusal.get_or_insert(rejection);
                    continue;
                }
            };
            if account.attempts() > 0 && plan.is_first_on(start.position) {
                self.ledger.metrics().requests.fallbacks.inc();
            }
            let attempt = (start, prepared);
            let outcome = self.race(call, plan, scribe, attempt, account).await;
            plan.release_burst();
            match self.after(call, plan, outcome, &mut tried, account).await {
                Then::Answer(begun) => return Ok(begun),
                Then::Next(failed) => last = failed,
                Then::Stop => break,
            }
            if plan.remaining().is_zero() && tried.empty.is_none() {
                return Err(plan.deadline_passed());
            }
        }
        tried.conclude(plan, account)
    }

    /// The next attempt: on a target that was not tried, on one that has a free slot again, or
    /// after a pause once more on the last one.
    async fn next_start(
        &self,
        call: &Call,
        plan: &mut Plan,
        last: Option<Failed>,
        account: &mut Account,
    ) -> Option<Start> {
        let asked = Instant::now();
        if let Some(start) = plan.next_start(call, asked) {
            return Some(start);
        }
        let start = plan.next_free(call).await;
        account.on_upstream_wait(asked.elapsed());
        if let Some(start) = start {
            return Some(start);
        }
        let Failed { failure, position } = last?;
        if failure.kind.retry() != Retry::SameOrOther {
            return None;
        }
        let pause = plan.again(position, failure.retry_after, Instant::now())?;
        tokio::time::sleep(pause).await;
        account.on_upstream_wait(pause);
        let target = Arc::clone(plan.group.target(position)?);
        let start = plan.start(position, target, Instant::now()).ok()?;
        self.ledger.metrics().requests.retries.inc();
        Some(start)
    }

    /// What a race means for the request.
    async fn after(
        &self,
        call: &Call,
        plan: &mut Plan,
        outcome: Outcome,
        tried: &mut Tried,
        account: &mut Account,
    ) -> Then {
        let won = match outcome {
            Outcome::Won(won) => won,
            Outcome::Lost(failed) => return tried.on_failure(failed, plan),
        };
        let Won { begun, position, target, dropped, span } = *won;
        match begun {
            Begun::Whole(answer)
                if answer.is_empty && tried.empty.is_none() && plan.may_fail_over() =>
            {
                account.on_waste(&target, answer.ticket.metrics(), Why::Empty, &answer.summary);
                let failure = Failure::new(FailureKind::Degenerate, "the answer is empty");
                account.on_failure(&target, &failure, span);
                tried.empty = Some(Box::new(Empty { answer, target, dropped }));
                Then::Next(None)
            }
            Begun::Stream(mut live) if plan.is_collected() || plan.may_fail_over() => {
                let began = Instant::now();
                let most = plan.route().conduct.hold_back;
                let held = match plan.is_collected() {
                    true => self.stop.unless(pin!(live.collect())).await,
                    false => self.stop.unless(pin!(live.hold_back(most))).await,
                };
                // What was told is given, though its connection's end was not seen.
                let held = held.or_else(|| live.is_told().then_some(Ok(())));
                let ended = Instant::now();
                let waited = ended.saturating_duration_since(began);
                match (held, live.ticket.take()) {
                    (Some(Ok(())), Some(ticket)) => {
                        account.on_held(waited);
                        tried.answer(live.held_back(ticket, ended, plan.is_collected()))
                    }
                    (None, Some(ticket)) => {
                        account.on_upstream_wait(waited);
                        account.on_waste(&target, ticket.metrics(), Why::Stopped, live.summary());
                        account.on_out_of_time(&target);
                        // Whoever waits for this looks whether the gateway stops.
                        std::future::pending().await
                    }
                    (Some(Err(_failure)), Some(ticket)) if live.is_out_of_time(ended) => {
                        account.on_upstream_wait(waited);
                        account.on_waste(&target, ticket.metrics(), Why::Failed, live.summary());
                        account.on_out_of_time(&target);
                        ticket.out_of_time();
                        // After an empty answer one other target is asked, and no third.
                        if tried.empty.is_some() { Then::Stop } else { Then::Next(None) }
                    }
                    (Some(Err(failure)), Some(ticket)) => {
                        account.on_upstream_wait(waited);
                        note_failure(call, &target, &failure, span, account);
                        account.on_waste(&target, ticket.metrics(), Why::Failed, live.summary());
                        ticket.fail(&failure, ended);
                        tried.on_failure(Failed { failure, position }, plan)
                    }
                    // Who began to answer has a ticket.
                    (_, None) => Then::Stop,
                }
            }
            begun @ (Begun::Whole(_) | Begun::Stream(_) | Begun::Scripted(_) | Begun::Stale(_)) => {
                tried.answer(begun)
            }
        }
    }
}

// === impl Tried ===

impl Tried {
    fn answer(&mut self, begun: Begun) -> Then {
        if let Some(empty) = self.empty.take() {
            empty.give_up(&begun);
        }
        Then::Answer(begun)
    }

    fn on_failure(&mut self, failed: Failed, plan: &mut Plan) -> Then {
        let failure = &failed.failure;
        plan.on_failure(failure, failed.position);
        // After an empty answer one other target is asked, and no third.
        let ends = failure.kind.retry() == Retry::Never || self.empty.is_some();
        keep_more_telling(&mut self.worst, failure.clone());
        if ends { Then::Stop } else { Then::Next(Some(failed)) }
    }

    /// What the caller gets where nobody answered.
    fn conclude(self, plan: &Plan, account: &mut Account) -> Result<Begun, Rejection> {
        if let Some(empty) = self.empty {
            let Empty { answer, target, dropped } = *empty;
            account.on_empty_kept(&target, dropped, &answer);
            return Ok(Begun::Whole(answer));
        }
        match (self.worst, self.refusal) {
            (Some(failure), _) => Err(Rejection::AttemptsFailed {
                attempts: account.attempts(),
                failure,
                is_futile: plan.is_out_of_budget(),
            }),
            (None, Some(rejection)) => Err(rejection),
            (None, None) => Err(plan.nobody(Instant::now())),
        }
    }
}

// === impl Empty ===

impl Empty {
    /// Settles the attempt by what the other target made of the same request.
    fn give_up(self, other: &Begun) {
        let Whole { ticket, ended, summary, .. } = self.answer;
        if other.is_empty() {
            ticket.succeed(summary.usage, ended);
        } else {
            let failure = Failure::new(FailureKind::Degenerate, "the answer is empty");
            ticket.fail(&failure, ended);
        }
    }
}

/// Keeps the failure that tells the caller most: what is said about the caller's own request before
/// what is said about a provider, then what passes with time before what does not, and of equals
/// the last.
fn keep_more_telling(kept: &mut Option<Failure>, next: Failure) {
    let rank = |failure: &Failure| match (failure.kind.blame(), failure.kind.retry()) {
        // That one provider lacks the model says little where another has it and failed.
        _ if failure.kind == FailureKind::NotServed => 0,
        (Blame::Caller, _) => 3,
        (Blame::Provider, _) => 2,
        (Blame::Credential, Retry::SameOrOther) => 1,
        (Blame::Credential, Retry::Other | Retry::Never) => 0,
    };
    let better = kept.as_ref().is_none_or(|kept| rank(&next) >= rank(kept));
    if better {
        *kept = Some(next);
    }
}
