//! Which targets a call may be served by, in which order, and until when.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;

use super::Call;
use super::collect;
use super::prefix::{self, Hints};
use crate::clock::Instant;
use crate::config::{Route, Target};
use crate::failure::{Failure, FailureKind};
use crate::fleet::{Demand, Fleet, Group, Leader, NoSlot, Order, Slot, Ticket};
use crate::policy::midstream::Why;
use crate::policy::rank::{Exclusion, Few};
use crate::policy::retry::{self, AttemptLimits, Attempts};
use crate::rejection::Rejection;

mod burst;
mod demand;

pub(super) use demand::demand;
use demand::{can_serve, wrong_kind};

/// The part of a context that is left to an answer without a cap.
const ANSWERS_SHARE: u64 = 4;
/// The targets of one call, and what all its attempts share.
#[derive(Debug)]
pub(super) struct Plan {
    route: Arc<Route>,
    pub(super) group: Arc<Group>,
    pub(super) demand: Demand,
    pub(super) order: Order,
    /// How much of the order was looked at.
    next: usize,
    attempts: Attempts<usize>,
    /// Targets that could serve and have no free slot.
    full: Vec<usize>,
    /// When to come back, where the request was turned away from a queue.
    turned_away: Option<Duration>,
    limits: AttemptLimits,
    /// Whether all targets were tried before, with more to read.
    is_again: bool,
    /// Whether it is to continue a stream that broke.
    is_onward: bool,
    /// Whether answers come as streams that are collected, because the caller wants them whole.
    is_collected: bool,
    /// Whether a further attempt was refused because the route has made too many.
    out_of_budget: bool,
    /// Whether a provider said during this request that it has too much to do.
    pushback: bool,
    /// What providers are told for their caches.
    hints: Option<Hints>,
    /// What those of a burst wait for, while nothing has come of it.
    leader: Option<Leader>,
    deadline: Instant,
    budget: Duration,
}

/// An attempt that may begin.
#[derive(Debug)]
pub(super) struct Start {
    /// Its target's position in the group.
    pub(super) position: usize,
    pub(super) target: Arc<Target>,
    pub(super) ticket: Ticket,
}

// === impl Plan ===

impl Plan {
    /// Finds the route and draws the order.
    pub(super) fn new(call: &Call, fleet: &Fleet, now: Instant) -> Result<Self, Rejection> {
        let route = call.route()?;
        if !route.tiers.iter().flatten().any(|target| can_serve(&target.model, call.kind)) {
            return Err(wrong_kind(call, &route));
        }
        let group = fleet.group(&route);
        let demand = demand(call, &route, group.len());
        let hints = demand
            .prefix
            .as_ref()
            .and_then(|chain| prefix::hints(call, &route, &group, chain, now));
        group.on_request(call.envelope.stream, now);
        let order = group.order(&demand, now);
        let full = full(&order);
        let total = usize::try_from(route.conduct.attempts).unwrap_or(usize::MAX);
        let limits = AttemptLimits { total, ..AttemptLimits::default() };
        let limits = if call.client_retries > 0 { limits.for_retrying_caller() } else { limits };
        let total = route.conduct.timeouts.total;
        let budget = call.timeout.map_or(total, |timeout| timeout.min(total));
        let is_collected = collect::is_collected(call, &route);
        Ok(Self {
            route,
            group,
            demand,
            order,
            next: 0,
            attempts: Attempts::new(limits),
            full,
            turned_away: None,
            limits,
            is_again: false,
            is_onward: false,
            is_collected,
            out_of_budget: false,
            pushback: false,
            hints,
            leader: None,
            deadline: now + budget,
            budget,
        })
    }

    /// Takes off the time that went on before there was a plan.
    pub(super) fn count_time_since(&mut self, began: Instant) {
        self.deadline = self.deadline.min(began + self.budget);
    }

    pub(super) fn route(&self) -> &Arc<Route> {
        &self.route
    }

    /// The next attempt on a target that was not tried yet. The first is free; what follows a
    /// failure is paid from the route's budget.
    pub(super) fn next_start(&mut self, call: &Call, now: Instant) -> Option<Start> {
        while let Some(position) = self.order.picks.get(self.next).copied() {
            self.next += 1;
            let target = Arc::clone(self.group.target(position)?);
            if !can_serve(&target.model, call.kind) || self.attempts.on(position) > 0 {
                continue;
            }
            match self.start(position, target, now) {
                Ok(start) => return Some(start),
                Err(None) => return None,
                Err(Some(exclusion)) => {
                    self.order.exclude(position, exclusion);
                    if exclusion == Exclusion::Full {
                        self.full.push(position);
                    }
                }
            }
        }
        None
    }

    /// The next attempt on a target that has no free slot, once it has one. To be asked where
    /// nothing else is left.
    pub(super) async fn next_free(&mut self, call: &Call) -> Option<Start> {
        // Guests wait in no queue: they would hold up those who come later.
        if self.turned_away.is_some() || self.out_of_budget || self.demand.share.is_some() {
            return None;
        }
        let group = Arc::clone(&self.group);
        loop {
            let attempts = &self.attempts;
            self.full.retain(|position| {
                let target = group.target(*position);
                target.is_some_and(|target| can_serve(&target.model, call.kind))
                    && attempts.on(*position) == 0
                    && attempts.allows(*position)
            });
            let position = group.least_crowded(&self.full)?;
            self.full.retain(|full| *full != position);
            let slot = match group.wait(position, &self.demand, self.remaining()).await {
                Ok(slot) => slot,
                Err(NoSlot::OutOfTime) => return None,
                Err(NoSlot::TurnedAway { retry_after }) => {
                    self.turned_away = Some(retry_after);
                    return None;
                }
            };
            let target = Arc::clone(group.target(position)?);
            match self.begin((position, target), Some(slot), Instant::now()) {
                Ok(start) => return Some(start),
                Err(None) => return None,
                Err(Some(_exclusion)) => {}
            }
        }
    }

    /// Another attempt on a target that failed, after a pause, where no other is left.
    pub(super) fn again(
        &mut self,
        position: usize,
        retry_after: Option<Duration>,
        now: Instant,
    ) -> Option<Duration> {
        let made = u32::try_from(self.attempts.made()).unwrap_or(u32::MAX).saturating_sub(1);
        let remaining = self.deadline.saturating_duration_since(now);
        if !self.attempts.allows(position) {
            return None;
        }
        let interactive = self.demand.is_interactive;
        // Who has to wait for longer is told so: their client knows better what to do meanwhile.
        let cap =
            if interactive { retry::BACKOFF_CAP_INTERACTIVE } else { retry::BACKOFF_CAP_BATCH };
        if retry_after.is_some_and(|after| after > cap) {
            return None;
        }
        retry::backoff(made, interactive, retry_after, remaining, self.group.chance())
    }

    /// Begins an attempt on a target; nothing where there is nothing to pay it with, or where the
    /// request has had its attempts.
    pub(super) fn start(
        &mut self,
        position: usize,
        target: Arc<Target>,
        now: Instant,
    ) -> Result<Start, Option<Exclusion>> {
        self.begin((position, target), None, now)
    }

    /// Begins an attempt, in the slot that the request has waited for, if it has.
    fn begin(
        &mut self,
        (position, target): (usize, Arc<Target>),
        slot: Option<Slot>,
        now: Instant,
    ) -> Result<Start, Option<Exclusion>> {
        if !self.attempts.allows(position) {
            return Err(None);
        }
        let extra = match self.attempts.made() {
            0 if !self.is_again => None,
            _ => match self.group.extra(now) {
                Some(extra) => Some(extra),
                None => {
                    self.out_of_budget = true;
                    return Err(None);
                }
            },
        };
        let (group, demand, is_panic) = (&self.group, &self.demand, self.order.is_panic);
        let ticket = match slot {
            None => group.admit(position, demand, extra, is_panic, now),
            Some(slot) => group.admit_waited(position, demand, (slot, extra), is_panic, now),
        };
        let ticket = ticket.map_err(Some)?;
        let _ = self.attempts.start(position);
        Ok(Start { position, target, ticket })
    }

    /// Whether the attempt that was begun on a target is the first there.
    pub(super) fn is_first_on(&self, position: usize) -> bool {
        self.attempts.on(position) == 1
    }

    /// The positions of the targets that were asked.
    pub(super) fn tried(&self) -> Few<usize> {
        (0..self.group.len()).filter(|position| self.attempts.on(*position) > 0).collect()
    }

    /// Counts an attempt that was begun beside the plan: the second of a race.
    pub(super) fn on_second(&mut self, position: usize) {
        let _ = self.attempts.start(position);
    }

    /// Notes that an attempt failed.
    pub(super) fn on_failure(&mut self, failure: &Failure, position: usize) {
        self.pushback |= failure.kind.is_pushback();
        if failure.kind == FailureKind::ContextTooLong {
            self.on_overflow(position);
        }
    }

    /// Goes on with the targets whose context is longer than the one that was too short, the
    /// longest first. Of those whose context is not known any may do, after those that surely are
    /// longer.
    fn on_overflow(&mut self, position: usize) {
        let own = self.context(position);
        let is_longer = |other: &usize| match (self.context(*other), own) {
            (Some(other), Some(own)) => other > own,
            (None, _) | (_, None) => true,
        };
        let (tried, rest) = self.order.picks.split_at(self.next.min(self.order.picks.len()));
        let mut rest: Vec<usize> = rest.iter().copied().filter(is_longer).collect();
        rest.sort_by_key(|other| Reverse(self.context(*other)));
        self.order.picks = tried.iter().copied().chain(rest).collect();
    }

    fn context(&self, position: usize) -> Option<u64> {
        self.group.target(position).and_then(|target| target.model.context_tokens)
    }

    /// The tokens that a prompt may have to fit the longest context of those that can be asked,
    /// with the answer; nothing where no context is known.
    pub(super) fn room_for_prompt(&self) -> Option<u64> {
        let can_be_asked = |position: &usize| {
            let excluded = self.order.excluded.get(*position).copied().flatten();
            matches!(excluded, None | Some(Exclusion::Incapable))
        };
        let targets = || (0..self.group.len()).filter_map(|position| self.group.target(position));
        let ready = (0..self.group.len()).filter(can_be_asked);
        let longest = ready.filter_map(|position| self.context(position)).max();
        let longest = longest.or_else(|| targets().filter_map(|t| t.model.context_tokens).max())?;
        Some(longest.saturating_sub(self.demand.max_output.unwrap_or(longest / ANSWERS_SHARE)))
    }

    /// Begins again with a prompt of so many tokens: all targets that it fits may be tried again.
    /// Their attempts are paid from the route's budget.
    pub(super) fn begin_again(&mut self, input_tokens: u64, now: Instant) {
        self.demand.input_tokens = input_tokens;
        // It no longer begins as its caller wrote it.
        self.demand.prefix = None;
        self.order = self.group.order(&self.demand, now);
        let fits = |position: &usize| {
            self.context(*position).is_none_or(|context| context >= input_tokens)
        };
        let fitting: Few<usize> = self.order.picks.iter().copied().filter(fits).collect();
        if !fitting.is_empty() {
            self.order.picks = fitting;
        }
        self.attempts = Attempts::new(self.limits);
        self.is_again = true;
        self.next = 0;
    }

    /// Begins again to continue a stream that broke, of which the caller has so many tokens and
    /// wants at most so many more. Targets that were tried are not asked again.
    pub(super) fn go_on(&mut self, delivered: u64, tokens_left: Option<u64>, now: Instant) {
        self.demand.input_tokens = self.demand.input_tokens.saturating_add(delivered);
        self.demand.max_output = tokens_left;
        self.order = self.group.order(&self.demand, now);
        self.full = full(&self.order);
        self.next = 0;
        self.is_onward = true;
        self.out_of_budget = false;
        self.turned_away = None;
    }

    /// Leaves out the targets that are unfit, and those that were tried.
    ///
    /// # Errors
    ///
    /// Why the last one is, where none is left.
    pub(super) fn retain(
        &mut self,
        is_fit: impl Fn(&Self, usize, &Target) -> Result<(), Why>,
    ) -> Result<(), Why> {
        let mut why = Why::NoTarget;
        let mut fit = |position: &usize| {
            let target = self.group.target(*position)?;
            let is_new = self.attempts.on(*position) == 0;
            let fit = if is_new { is_fit(self, *position, target) } else { return None };
            fit.inspect_err(|unfit| why = *unfit).ok()
        };
        let picks: Few<usize> =
            self.order.picks.iter().copied().filter(|p| fit(p).is_some()).collect();
        let full: Vec<usize> = self.full.iter().copied().filter(|p| fit(p).is_some()).collect();
        if picks.is_empty() && full.is_empty() {
            return Err(why);
        }
        self.order.picks = picks;
        self.full = full;
        Ok(())
    }

    /// The median time to a target's first token; nothing known is no time at all.
    pub(super) fn median_first_token(&self, position: usize) -> Duration {
        let median = self.group.median_first_token(position, &self.demand, Instant::now());
        median.unwrap_or_default()
    }

    /// Whether answers come as streams that are collected.
    pub(super) fn is_collected(&self) -> bool {
        self.is_collected
    }

    /// Whether a provider said during this request that it has too much to do.
    pub(super) fn has_pushback(&self) -> bool {
        self.pushback
    }

    /// How many targets can still be tried after the one at hand.
    pub(super) fn targets_left(&self) -> u32 {
        let ahead = self.order.picks.iter().skip(self.next);
        let ahead = ahead.filter(|position| self.attempts.on(**position) == 0).count();
        u32::try_from(ahead).unwrap_or(u32::MAX)
    }

    /// Whether another attempt may follow the one at hand. The rest of an answer may be empty, and
    /// is not doubted.
    pub(super) fn may_fail_over(&self) -> bool {
        !self.is_onward && self.targets_left() > 0 && !self.attempts.exhausted()
    }

    /// Whether the route has made so many further attempts that there are none for this request.
    pub(super) fn is_out_of_budget(&self) -> bool {
        self.out_of_budget
    }

    /// When the request has to be over.
    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }

    pub(super) fn remaining(&self) -> Duration {
        self.remaining_at(Instant::now())
    }

    pub(super) fn remaining_at(&self, now: Instant) -> Duration {
        self.deadline.saturating_duration_since(now)
    }

    pub(super) fn deadline_passed(&self) -> Rejection {
        Rejection::DeadlinePassed { within: self.budget }
    }

    /// The rejection where none of the route's targets could be asked at all.
    pub(super) fn nobody(&self, now: Instant) -> Rejection {
        if let Some(retry_after) = self.turned_away {
            return Rejection::Overloaded { retry_after };
        }
        if now >= self.deadline {
            return self.deadline_passed();
        }
        let why = |(position, exclusion): (usize, &Option<Exclusion>)| {
            let target = self.group.target(position)?;
            Some(format!("{} {}", target.id, exclusion.map_or("busy", Exclusion::as_str)))
        };
        let targets = self.order.excluded.iter().enumerate().filter_map(why).collect();
        let retry_after = self.group.ready_after(now);
        let why = self.order.why();
        Rejection::NobodyReady { route: self.route.name.to_string(), targets, why, retry_after }
    }
}

/// The positions of the targets that have no free slot.
fn full(order: &Order) -> Vec<usize> {
    let is_full = |(position, why): (usize, &Option<Exclusion>)| {
        (*why == Some(Exclusion::Full)).then_some(position)
    };
    order.excluded.iter().enumerate().filter_map(is_full).collect()
}
