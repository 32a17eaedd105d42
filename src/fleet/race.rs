//! When a second attempt is raced against a first one that is late, and with whom.

use std::sync::Arc;
use std::time::Duration;

use super::demand::Demand;
use super::group::{Group, Order};
use super::member::Member;
use super::ticket::Ticket;
use crate::clock::Instant;
use crate::config::Target;
use crate::policy::breaker::State;
use crate::policy::hedge::{self, Candidate, Facts, Separation, Settings, Why};
use crate::policy::rank::Few;

/// What a request has seen so far, for the decision on a second attempt.
#[derive(Debug, Clone)]
pub struct Race {
    /// The position of the target that is late.
    pub first: usize,
    /// How long it has been waited for.
    pub waited: Duration,
    /// The time that is left.
    pub remaining: Duration,
    /// Whether any target of this request said that it has too much to do.
    pub has_pushback: bool,
    /// The positions of all targets that were asked, the late one among them.
    pub tried: Few<usize>,
}

/// A second attempt that may begin.
#[derive(Debug)]
pub struct Second {
    /// The position of its target.
    pub position: usize,
    /// Its target.
    pub target: Arc<Target>,
    /// The right to it.
    pub ticket: Ticket,
}

// === impl Group ===

impl Group {
    /// How long a first attempt is waited for before a second may begin; nothing where the route
    /// does not race, or where the request cannot be raced whatever happens.
    pub fn hedge_delay(
        &self,
        position: usize,
        order: &Order,
        demand: &Demand,
        remaining: Duration,
        now: Instant,
    ) -> Option<Duration> {
        let settings = self.hedge.as_ref().filter(|_| !order.is_panic && order.picks.len() > 1)?;
        if !demand.is_interactive || demand.choices > 1 || demand.has_server_state {
            return None;
        }
        let member = self.member(position)?;
        let (shape, quantile) = (demand.shape(), settings.quantile());
        let (own, all) = member.live.health.lock().latency.late(shape, quantile, now);
        Some(hedge::delay(own, all, remaining, settings))
    }

    /// Begins a second attempt, if everything that has to be so is so.
    ///
    /// # Errors
    ///
    /// Why there is none.
    pub fn second<P>(
        &self,
        race: &Race,
        order: &Order,
        demand: &Demand,
        prepare: impl FnOnce(&Target) -> Option<P>,
        now: Instant,
    ) -> Result<(Second, P), Why> {
        let settings = self.hedge.as_ref().ok_or(Why::NoOther)?;
        let first = self.member(race.first).ok_or(Why::NoOther)?;
        // Another tier is another model: that is for when this one cannot serve.
        let tier = first.target.tier;
        let beside = |position: &usize| {
            let is_of_tier = self.member(*position).is_some_and(|m| m.target.tier == tier);
            !race.tried.contains(position) && is_of_tier
        };
        let positions: Vec<usize> = order.picks.iter().copied().filter(beside).collect();
        let candidates: Vec<Candidate> = positions
            .iter()
            .filter_map(|position| self.member(*position))
            .zip(0..)
            .map(|(member, rank)| member.candidate(first, rank, now))
            .collect();
        let chosen = hedge::second(&candidates, settings);
        let other = chosen.and_then(|index| candidates.get(index).copied());
        let position = chosen.and_then(|index| positions.get(index).copied());
        let second = position.and_then(|position| self.member(position));
        let input_usd = second.map_or(0.0, |member| input_usd(member, demand));
        let facts = Facts {
            is_interactive: demand.is_interactive,
            choices: demand.choices,
            has_server_state: demand.has_server_state,
            is_pinned: false,
            prompt_tokens: demand.input_tokens,
            input_usd,
            legs: 1,
            has_pushback: race.has_pushback,
            is_brown_out: self.is_brown_out(order, demand, settings, now),
            is_panic: order.is_panic,
            other,
            delay: race.waited,
            remaining: race.remaining,
            median_of_other: second.and_then(|member| {
                let (own, all) = member.live.health.lock().latency.quantiles(demand.shape(), now);
                own.p50.or(all.p50)
            }),
            q99_of_first: {
                let (own, all) = first.live.health.lock().latency.quantiles(demand.shape(), now);
                let backed = |q: super::latency::Quantiles| {
                    q.p99.filter(|_| q.samples >= settings.min_samples)
                };
                backed(own).or_else(|| backed(all))
            },
        };
        hedge::eligible(&facts, settings)?;
        let (Some(position), Some(second)) = (position, second) else { return Err(Why::NoOther) };
        // First, because writing the request anew costs more than asking for the money.
        let extra = self.budgets().hedge(input_usd, settings, now)?;
        let refund = |_: &Why| self.budgets().refund_hedge(input_usd, settings, now);
        let Some(prepared) = prepare(&second.target) else {
            extra.repay(now);
            return Err(Why::NoOther).inspect_err(refund);
        };
        let ticket = self.admit(position, demand, Some(extra), false, now);
        let ticket = ticket.map_err(|_full| Why::NotClosed).inspect_err(refund)?;
        let target = Arc::clone(&second.target);
        Ok((Second { position, target, ticket }, prepared))
    }

    /// Whether all targets that could serve are much slower than they use to be.
    fn is_brown_out(
        &self,
        order: &Order,
        demand: &Demand,
        settings: &Settings,
        now: Instant,
    ) -> bool {
        let members = order.picks.iter().filter_map(|position| self.member(*position));
        let shape = demand.shape();
        hedge::is_brown_out(
            members.map(|member| member.live.health.lock().latency.slowdown(shape, now)),
            settings,
        )
    }
}

// === impl Member ===

impl Member {
    /// This target as the second of a race. `rank` is its place in the order that was drawn, which
    /// is by score already.
    fn candidate(&self, first: &Self, rank: u32, now: Instant) -> Candidate {
        let health = self.live.health.lock();
        Candidate {
            separation: separation(&first.target, &self.target),
            is_closed: health.breaker.state(now) == State::Closed,
            headroom: health.headroom(now),
            total_seconds: f64::from(rank),
        }
    }
}

/// How far two targets are from failing together.
fn separation(first: &Target, second: &Target) -> Separation {
    if first.endpoint.provider != second.endpoint.provider {
        Separation::Provider
    } else if first.endpoint.base != second.endpoint.base {
        Separation::Region
    } else if first.endpoint.id != second.endpoint.id {
        Separation::Credential
    } else {
        Separation::None
    }
}

fn input_usd(member: &Member, demand: &Demand) -> f64 {
    hedge::waste_usd(demand.input_tokens, 0.0, 0, &member.prices)
}
