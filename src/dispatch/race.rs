//! One attempt, and a second one beside it where the first is late.
//!
//! Both legs are futures of the request, so that dropping it drops them. The first token decides,
//! never headers: a provider that has sent those may still think for a minute. The loser's future
//! is dropped, which cancels it upstream; what its prompt has cost is booked as waste.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::time::{Sleep, sleep};

use super::attempt::{Begun, Lost, Terms, Unticketed};
use super::plan::{Plan, Start};
use super::prefix;
use super::prepare::{Prepared, Scribe};
use super::settle::Why;
use super::{Account, Call, Lane};
use crate::clock::Instant;
use crate::config::Target;
use crate::dialect::Dropped;
use crate::failure::{Failure, FailureKind, Retry};
use crate::fleet::{Race, Second, Ticket};
use crate::policy::hedge::Why as Refusal;

/// The shortest pause before a second attempt that was refused is asked for again.
const LEAST_PAUSE: Duration = Duration::from_millis(150);

/// What a race came to.
pub(super) enum Outcome {
    /// Somebody has begun to answer.
    Won(Box<Won>),
    /// All legs failed. The failure is the last leg's.
    Lost(Failed),
}

/// An answer that has begun, and whose it is.
pub(super) struct Won {
    pub(super) begun: Begun,
    pub(super) position: usize,
    pub(super) target: Arc<Target>,
    pub(super) dropped: Dropped,
    /// Its number in the trace.
    pub(super) span: Option<usize>,
}

/// A failed attempt, and on which target.
pub(super) struct Failed {
    pub(super) failure: Failure,
    pub(super) position: usize,
}

/// An attempt under way.
struct Leg<'a> {
    position: usize,
    target: Arc<Target>,
    ticket: Ticket,
    dropped: Dropped,
    span: Option<usize>,
    future: Pin<Box<dyn Future<Output = Result<Unticketed, Lost>> + Send + 'a>>,
}

/// What a race waits for.
enum Event {
    Ended(usize, Box<Result<Unticketed, Lost>>),
    /// The first leg's first token is late.
    Late,
}

impl Lane {
    /// Makes an attempt, and a second one beside it if the first is late and the route wants that.
    pub(super) async fn race(
        &self,
        call: &Call,
        plan: &mut Plan,
        scribe: &mut Scribe,
        (start, prepared): (Start, Prepared),
        account: &mut Account,
    ) -> Outcome {
        let terms = self.terms(call, plan);
        let (began, first) = (Instant::now(), start.position);
        let remaining = plan.remaining_at(began);
        let delay = plan.group.hedge_delay(first, &plan.order, &plan.demand, remaining, began);
        let mut late = delay.map(|delay| Box::pin(sleep(delay)));
        let mut refused = None;
        let patience = patience(call, plan, began);
        let mut empty: Option<(Leg<'_>, Unticketed)> = None;
        let mut legs = [Some(self.leg(call, (start, prepared), &terms, patience, account)), None];
        let outcome = loop {
            match next_event(&mut legs, &mut late).await {
                Event::Late => {
                    late = None;
                    match self.second(call, plan, scribe, (first, began, &terms), account) {
                        Ok(second) => legs[1] = Some(second),
                        Err(why) => {
                            if refused.replace(why).is_none() {
                                self.ledger.metrics().requests.hedge_refused(why.as_str());
                            }
                            // Whoever waits longer has more to win, and budgets fill.
                            let pause = delay.filter(|_| why.may_pass()).map(|delay| delay / 4);
                            late = pause.map(|pause| Box::pin(sleep(pause.max(LEAST_PAUSE))));
                        }
                    }
                }
                Event::Ended(index, ended) => {
                    let Some(leg) = legs[index].take() else { continue };
                    let now = Instant::now();
                    let is_last = legs.iter().all(Option::is_none);
                    match *ended {
                        // Nothing said is doubted while somebody else may say something.
                        Ok(begun) if begun.is_empty() && !is_last => empty = Some((leg, begun)),
                        Ok(begun) => {
                            if let Some((other, said)) = empty.take() {
                                give_up(other, said, account, now);
                            }
                            break self.won(leg, begun, &mut legs, account, now);
                        }
                        Err(lost) => {
                            let ends = lost.failure.kind.retry() == Retry::Never;
                            let failed = self.lost(leg, lost, (call, &terms), account, now);
                            if let Some((leg, begun)) = empty.take() {
                                break self.won(leg, begun, &mut legs, account, now);
                            }
                            if is_last || ends {
                                self.supersede(&mut legs, account);
                                break Outcome::Lost(failed);
                            }
                            plan.on_failure(&failed.failure, failed.position);
                        }
                    }
                }
            }
        };
        account.on_upstream_wait(began.elapsed());
        outcome
    }

    fn terms(&self, call: &Call, plan: &Plan) -> Terms {
        Terms {
            conduct: plan.route().conduct,
            deadline: plan.deadline(),
            fair_share: fair_share(call, plan),
            created: self.ledger.unix_seconds(),
        }
    }

    fn leg<'a>(
        &'a self,
        call: &'a Call,
        (start, mut prepared): (Start, Prepared),
        terms: &'a Terms,
        patience: Duration,
        account: &mut Account,
    ) -> Leg<'a> {
        let Start { position, target, mut ticket } = start;
        account.on_attempt(&target, &prepared.dropped);
        account.on_ticket(&target, ticket.metrics());
        let span = account.trace_attempt(&target, &mut prepared.headers);
        if !prefix::is_kept(&prepared.body, &target) {
            ticket.is_not_cached();
        }
        let dropped = prepared.dropped.clone();
        // Boxed: what an attempt holds across its waits would otherwise be copied up through every
        // future around it.
        let sent = (prepared, ticket.on_send());
        let future = Box::pin(self.attempt(call, Arc::clone(&target), sent, terms, patience));
        Leg { position, target, ticket, dropped, span, future }
    }

    /// Begins the second leg.
    ///
    /// # Errors
    ///
    /// Why it may not, now.
    fn second<'a>(
        &'a self,
        call: &'a Call,
        plan: &mut Plan,
        scribe: &mut Scribe,
        (first, began, terms): (usize, Instant, &'a Terms),
        account: &mut Account,
    ) -> Result<Leg<'a>, Refusal> {
        let now = Instant::now();
        let race = Race {
            first,
            waited: now.saturating_duration_since(began),
            remaining: plan.remaining_at(now),
            has_pushback: plan.has_pushback(),
            tried: plan.tried(),
        };
        // A target that cannot be told the request is no second.
        let prepare = |target: &Target| scribe.prepare(call, target).ok();
        let (second, prepared) =
            plan.group.second(&race, &plan.order, &plan.demand, prepare, now)?;
        let Second { position, target, ticket } = second;
        plan.on_second(position);
        account.on_hedge();
        self.ledger.metrics().requests.hedges.inc();
        let start = Start { position, target, ticket };
        Ok(self.leg(call, (start, prepared), terms, patience(call, plan, now), account))
    }

    fn won(
        &self,
        leg: Leg<'_>,
        begun: Unticketed,
        legs: &mut [Option<Leg<'_>>; 2],
        account: &mut Account,
        now: Instant,
    ) -> Outcome {
        let Leg { position, target, mut ticket, dropped, span, .. } = leg;
        self.supersede(legs, account);
        account.on_winner(&target, dropped.clone(), ticket.metrics());
        if !begun.is_empty() {
            ticket.on_first_token(now);
            account.on_first_token(now, matches!(begun, Unticketed::Stream(_)));
        }
        Outcome::Won(Box::new(Won {
            begun: begun.with(ticket, now),
            position,
            target,
            dropped,
            span,
        }))
    }

    /// Cancels the legs that have lost.
    fn supersede(&self, legs: &mut [Option<Leg<'_>>; 2], account: &mut Account) {
        for loser in legs.iter_mut().filter_map(Option::take) {
            let Leg { target, ticket, span, future, .. } = loser;
            drop(future);
            account.on_superseded(span, &target, ticket.metrics());
            ticket.supersede();
        }
    }

    fn lost(
        &self,
        leg: Leg<'_>,
        lost: Lost,
        (call, terms): (&Call, &Terms),
        account: &mut Account,
        now: Instant,
    ) -> Failed {
        let Leg { position, target, ticket, span, .. } = leg;
        let Lost { failure, said } = lost;
        if let Some(said) = said {
            account.on_waste(&target, ticket.metrics(), Why::Failed, &said);
        }
        note_failure(call, &target, &failure, span, account);
        let given = terms.fair_share;
        if failure.kind == FailureKind::SlowStart && ticket.waited(now) < given {
            ticket.out_of_time();
        } else {
            ticket.fail(&failure, now);
        }
        Failed { failure, position }
    }
}

/// Settles an answer that is complete and says nothing, where another target has something to say.
fn give_up(leg: Leg<'_>, said: Unticketed, account: &mut Account, now: Instant) {
    let Leg { target, ticket, span, .. } = leg;
    let failure = Failure::new(FailureKind::Degenerate, "the answer is empty");
    if let Unticketed::Whole { summary, .. } = &said {
        account.on_waste(&target, ticket.metrics(), Why::Empty, summary);
    }
    account.on_failure(&target, &failure, span);
    ticket.fail(&failure, now);
}

/// Writes down that an attempt failed.
pub(super) fn note_failure(
    call: &Call,
    target: &Target,
    failure: &Failure,
    span: Option<usize>,
    account: &mut Account,
) {
    tracing::debug!(
        request.id = %call.request_id,
        target.id = %target.id,
        failure.kind = failure.kind.as_str(),
        "attempt failed: {}",
        failure.loggable()
    );
    account.on_failure(target, failure, span);
}

/// The next thing that happens to a race. Of two legs that end at once the first counts.
async fn next_event(legs: &mut [Option<Leg<'_>>; 2], late: &mut Option<Pin<Box<Sleep>>>) -> Event {
    poll_fn(|cx| {
        for (index, leg) in legs.iter_mut().enumerate() {
            if let Some(leg) = leg
                && let Poll::Ready(ended) = leg.future.as_mut().poll(cx)
            {
                return Poll::Ready(Event::Ended(index, Box::new(ended)));
            }
        }
        match late {
            Some(alarm) => alarm.as_mut().poll(cx).map(|()| Event::Late),
            None => Poll::Pending,
        }
    })
    .await
}

/// How long an attempt may take until its first token. An answer that is not streamed has its
/// first token with its last one, so `first_token` says nothing about it: each target gets an equal
/// share of the time that is left, so that one that hangs leaves time for the next.
fn patience(call: &Call, plan: &Plan, now: Instant) -> Duration {
    let remaining = plan.remaining_at(now);
    if call.envelope.stream || plan.is_collected() {
        remaining.min(plan.route().conduct.timeouts.first_token)
    } else {
        remaining / plan.targets_left().saturating_add(1)
    }
}

/// What the route gives each target until its first token.
fn fair_share(call: &Call, plan: &Plan) -> Duration {
    let timeouts = &plan.route().conduct.timeouts;
    if call.envelope.stream || plan.is_collected() {
        return timeouts.first_token;
    }
    let targets = u32::try_from(plan.group.len()).unwrap_or(u32::MAX).max(1);
    timeouts.first_token.min(timeouts.total / targets)
}
