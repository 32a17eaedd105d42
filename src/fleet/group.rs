//! The targets of one route: ranked for a request, and handed out one by one.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::budget::{Budgets, Extra};
use super::chance::Chance;
use super::demand::Demand;
use super::gate::{Ask, NoSlot, Slot};
use super::member::Member;
use super::target::TargetLive;
use super::ticket::Ticket;
use crate::clock::Instant;
use crate::config::{Route, Target};
use crate::policy::eject::{self, Comparison};
use crate::policy::hedge;
use crate::policy::rank::{self, Admission, Exclusion, Few, Place, Pool, Score, Standing};
use crate::rejection::NobodyWhy;

/// How often the targets of a route are compared with each other.
const COMPARE_EVERY: Duration = Duration::from_secs(1);

/// The targets of one route, with what is known of them.
#[derive(Debug)]
pub struct Group {
    route: Arc<Route>,
    /// By tier, best tier first.
    members: Vec<Member>,
    /// How many members each tier has.
    tiers: Vec<usize>,
    budgets: Arc<Budgets>,
    pub(super) rank: rank::Settings,
    pub(super) hedge: Option<hedge::Settings>,
    chance: Arc<Chance>,
    /// When its targets were last compared with each other.
    compared: Mutex<Option<Instant>>,
}

/// In which order to try the targets of a group, and why nobody could be asked where it is empty.
#[derive(Debug, Clone)]
pub struct Order {
    /// Positions in the group, the first to be tried first.
    pub picks: Few<usize>,
    /// Whether no target was well, so that health was ignored.
    pub is_panic: bool,
    /// Why targets are left out, by their position.
    pub excluded: Few<Option<Exclusion>>,
}

// === impl Group ===

impl Group {
    pub(super) fn new(
        route: &Arc<Route>,
        members: Vec<(Arc<Target>, Arc<TargetLive>)>,
        budgets: Arc<Budgets>,
        chance: Arc<Chance>,
    ) -> Self {
        let members: Vec<_> =
            members.into_iter().map(|(target, live)| Member::new(target, live)).collect();
        let conduct = &route.conduct;
        Self {
            route: Arc::clone(route),
            members: with_kinds(members),
            tiers: route.tiers.iter().map(Vec::len).collect(),
            budgets,
            rank: rank::Settings {
                output_weight: conduct.rank.pace,
                seconds_per_usd: conduct.rank.seconds_per_usd,
                // Where half of the pool is out the other half is protected by its limits; to send
                // more to those that are out would help nobody. Health is ignored only where
                // nothing is well.
                panic_below: f64::MIN_POSITIVE,
                ..rank::Settings::default()
            },
            hedge: conduct.hedge.map(|hedge| hedge::Settings {
                max_extra_requests: hedge.extra_requests,
                max_extra_spend: hedge.extra_spend,
                ..hedge::Settings::default()
            }),
            chance,
            compared: Mutex::new(None),
        }
    }

    /// Whether this is the route's, as it is configured now.
    pub(super) fn is_of(&self, route: &Arc<Route>) -> bool {
        Arc::ptr_eq(&self.route, route)
    }

    pub(super) fn budgets(&self) -> &Arc<Budgets> {
        &self.budgets
    }

    pub(super) fn member(&self, position: usize) -> Option<&Member> {
        self.members.get(position)
    }

    /// All targets, by tier.
    pub(super) fn members(&self) -> &[Member] {
        &self.members
    }

    /// The route, as it is configured.
    pub(super) fn route(&self) -> &Arc<Route> {
        &self.route
    }

    /// Whether no target is well for such a request, so that health would be ignored.
    pub(super) fn is_panic(&self, demand: &Demand, now: Instant) -> bool {
        let standings = self.standings(demand, now, None);
        let mut rest = &standings[..];
        let tiers = self.tiers.iter().map(|len| {
            let (tier, after) = rest.split_at(rest.len().min(*len));
            rest = after;
            tier
        });
        let tiers: Vec<_> = tiers.collect();
        rank::is_panic(tiers, &self.rank)
    }

    /// The target at a position.
    pub fn target(&self, position: usize) -> Option<&Arc<Target>> {
        self.members.get(position).map(|member| &member.target)
    }

    /// How many targets there are.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether there are none, which no configuration can say.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// A request came in, for a stream or not: what it may cost beyond its first attempt is earned
    /// here.
    pub fn on_request(&self, is_stream: bool, now: Instant) {
        self.budgets.on_request(self.hedge.as_ref(), is_stream, now);
    }

    /// Pays for the continuation of a stream that broke, if the route's share allows one more.
    pub fn take_splice(&self, now: Instant) -> bool {
        self.budgets.take_splice(now)
    }

    /// The median time to the first token of the target at a position, for such a request; nothing
    /// where it is not known.
    pub fn median_first_token(
        &self,
        position: usize,
        demand: &Demand,
        now: Instant,
    ) -> Option<Duration> {
        let member = self.members.get(position)?;
        let (own, all) = member.live.health.lock().latency.quantiles(demand.shape(), now);
        own.p50.or(all.p50)
    }

    /// How long a first token may take at the slowest of the targets, which is all but one in a
    /// hundred; nothing where that is not known of any.
    pub fn late_first_token(&self, demand: &Demand, now: Instant) -> Option<Duration> {
        let of = |member: &Member| {
            let (own, all) = member.live.health.lock().latency.quantiles(demand.shape(), now);
            own.p99.or(all.p99)
        };
        self.members.iter().filter_map(of).max()
    }

    /// A number uniform in 0..1.
    pub fn chance(&self) -> f64 {
        self.chance.draw()
    }

    /// Draws the order in which to try the targets for a request.
    pub fn order(&self, demand: &Demand, now: Instant) -> Order {
        if let [only] = &self.members[..] {
            return self.order_of_one(only, demand, now);
        }
        self.compare(demand, now);
        let mut random = || self.chance.draw();
        let standings = self.standings(demand, now, Some(&mut random));
        let mut rest = &standings[..];
        let tiers: Vec<&[Standing]> = self
            .tiers
            .iter()
            .map(|len| {
                let (tier, after) = rest.split_at(rest.len().min(*len));
                rest = after;
                tier
            })
            .collect();
        let plan = rank::plan(tiers.iter().copied(), &self.rank, || self.chance.draw());
        let position = |place: &Place| {
            let before: usize = self.tiers.iter().take(place.tier).sum();
            before + place.index
        };
        let excluded: Few<_> =
            standings.iter().map(|standing| standing.exclusion(&self.rank)).collect();
        let mut picks: Few<usize> = plan.order.iter().map(position).collect();
        if picks.is_empty() {
            picks = self.pressed(&excluded, now);
        }
        Order { picks, is_panic: plan.is_panic, excluded }
    }

    /// As [`Group::order`] for a route with one target, which most requests are for: there is
    /// nothing to compare it with.
    fn order_of_one(&self, only: &Member, demand: &Demand, now: Instant) -> Order {
        let mut random = || self.chance.draw();
        let standing = only.standing(demand, &self.rank, now, Some(&mut random));
        let excluded = standing.exclusion(&self.rank);
        let is_panic = excluded.is_some_and(Exclusion::is_health);
        let mut picks = Few::new();
        if excluded.is_none() || is_panic {
            picks.push(0);
        } else {
            picks = self.pressed(&[excluded], now);
        }
        Order { picks, is_panic, excluded: [excluded].into_iter().collect() }
    }

    /// The targets to ask where nothing else is left: those that rate limits keep out, though their
    /// provider has not asked for a pause.
    fn pressed(&self, excluded: &[Option<Exclusion>], now: Instant) -> Few<usize> {
        let limited = excluded.iter().enumerate();
        let limited = limited.filter(|(_, why)| **why == Some(Exclusion::RateLimited));
        let members = limited.filter_map(|(position, _)| Some((position, self.member(position)?)));
        let pressed = members.filter(|(_, member)| member.live.health.lock().may_be_pressed(now));
        pressed.map(|(position, _)| position).collect()
    }

    /// The right to an attempt on a target, or why there is none. In a panic an open breaker does
    /// not count.
    ///
    /// # Errors
    ///
    /// Why the target cannot be asked now, though it could when the order was drawn.
    pub fn admit(
        &self,
        position: usize,
        demand: &Demand,
        extra: Option<Extra>,
        is_panic: bool,
        now: Instant,
    ) -> Result<Ticket, Exclusion> {
        let member = self.members.get(position).ok_or(Exclusion::Incapable)?;
        let Some(slot) = member.live.gate.try_enter(&demand.ask) else {
            extra.into_iter().for_each(|extra| extra.repay(now));
            return Err(Exclusion::Full);
        };
        Ticket::open(member, &self.budgets, demand, (slot, extra), is_panic, now)
    }

    /// As [`Group::admit`], for a request that has waited for its slot.
    ///
    /// # Errors
    ///
    /// Why the target cannot be asked now.
    pub fn admit_waited(
        &self,
        position: usize,
        demand: &Demand,
        (slot, extra): (Slot, Option<Extra>),
        is_panic: bool,
        now: Instant,
    ) -> Result<Ticket, Exclusion> {
        let member = self.members.get(position).ok_or(Exclusion::Incapable)?;
        Ticket::open(member, &self.budgets, demand, (slot, extra), is_panic, now)
    }

    /// Of targets that are full, the one where a request waits best: of the best tier, the one
    /// where the fewest wait.
    pub fn least_crowded(&self, full: &[usize]) -> Option<usize> {
        let members = full.iter().filter_map(|position| Some((*position, self.member(*position)?)));
        let crowd = members.map(|(position, member)| {
            let live = &member.live;
            (member.target.tier, live.gate.pressure(), position)
        });
        let better = |a: &(u32, f64, usize), b: &(u32, f64, usize)| {
            a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)).then(a.2.cmp(&b.2))
        };
        crowd.min_by(better).map(|(_, _, position)| position)
    }

    /// Waits for a slot of a target, `within` this time at most.
    ///
    /// # Errors
    ///
    /// Why there is none.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up the place in the queue; no slot is lost.
    pub async fn wait(
        &self,
        position: usize,
        demand: &Demand,
        within: Duration,
    ) -> Result<Slot, NoSlot> {
        let member = self.member(position).ok_or(NoSlot::OutOfTime)?;
        let output = self.budgets.expected_output(demand.max_output).max(1.0);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "at least 1, and casts of floats saturate"
        )]
        let cost = demand.input_tokens.saturating_add(output as u64);
        member.live.gate.enter(&Ask { cost, ..demand.ask }, within).await
    }

    /// Pays for an attempt beyond the first, if the route's budget has anything left.
    pub fn extra(&self, now: Instant) -> Option<Extra> {
        self.budgets.extra(now)
    }

    /// When the first of the targets that are out may be back, where that is known.
    pub fn ready_after(&self, now: Instant) -> Option<Duration> {
        let members = self.members.iter();
        members.filter_map(|member| member.live.ready_after(now)).min()
    }

    /// What each target's score is made of for such a request, and the share of requests it gets.
    pub fn scores(&self, demand: &Demand, now: Instant) -> Vec<Score> {
        let standings = self.standings(demand, now, None);
        let mut scores = Vec::with_capacity(standings.len());
        let mut rest = &standings[..];
        for len in &self.tiers {
            let (tier, after) = rest.split_at(rest.len().min(*len));
            rest = after;
            let pool = Pool::of(tier, &self.rank);
            let mut of_tier: Vec<_> =
                tier.iter().map(|standing| rank::score(standing, &self.rank, &pool)).collect();
            rank::shares(&mut of_tier, &self.rank);
            scores.append(&mut of_tier);
        }
        scores
    }

    /// What is known of all targets. With `random`, whose numbers are uniform in 0..1, targets that
    /// turn most requests away are left out by chance.
    fn standings(
        &self,
        demand: &Demand,
        now: Instant,
        mut random: Option<&mut dyn FnMut() -> f64>,
    ) -> Vec<Standing> {
        let able = self.members.iter().any(|member| demand.fits(&member.target.model));
        let preferred = demand.sticky.and_then(|key| self.preferred(key));
        let output = self.budgets.expected_output(demand.max_output);
        let mut recent = Vec::new();
        let standing = |(position, member): (usize, &Member)| {
            // Where none can do it, what files say of models is wrong or the provider will explain.
            let capable = !able || demand.fits(&member.target.model);
            let mut standing = member.standing(demand, &self.rank, now, random.as_deref_mut());
            standing.output_tokens = output;
            standing.is_preferred = preferred == Some(position);
            if !capable {
                standing.admission = Admission::No(Exclusion::Incapable);
            }
            if demand.prefix.is_some() {
                recent.push(member.read_prefix(demand, &mut standing, now));
            }
            standing
        };
        let mut standings: Vec<_> = self.members.iter().enumerate().map(standing).collect();
        self.find_homes(demand, &mut standings, &recent);
        standings
    }

    /// The target of the first tier that a key prefers.
    fn preferred(&self, key: u64) -> Option<usize> {
        let first = self.tiers.first().copied().unwrap_or_default();
        let members = self.members.iter().take(first);
        rank::preferred(key, members.map(|member| (member.live.hash, member.target.weight)))
    }

    /// Compares the targets of each tier with each other, once a second, and takes out those that
    /// are far worse than their siblings.
    fn compare(&self, demand: &Demand, now: Instant) {
        if self.members.len() < 2 {
            return;
        }
        {
            let mut compared = self.compared.lock();
            if compared.is_some_and(|at| now.saturating_duration_since(at) < COMPARE_EVERY) {
                return;
            }
            *compared = Some(now);
        }
        // What one prompt finds cached says nothing of how a target fares.
        let scores = self.scores(&Demand { prefix: None, ..demand.clone() }, now);
        let settings = eject::Settings::default();
        let mut start = 0;
        let mut scratch = Vec::new();
        for len in &self.tiers {
            let range = start..start + len;
            start = range.end;
            let tier = scores.get(range.clone()).unwrap_or_default();
            let totals: Vec<f64> = tier.iter().map(|score| score.total_seconds).collect();
            let serving = tier.iter().filter(|score| score.excluded.is_none());
            let (mut count, mut weight) = (0, 0.0);
            serving.for_each(|score| (count, weight) = (count + 1, weight + score.weight));
            let total: f64 = tier.iter().map(|score| score.weight).sum();
            for (index, score) in tier.iter().enumerate() {
                let Some(member) = self.members.get(range.start + index) else { continue };
                let comparison = Comparison {
                    score: score.total_seconds,
                    others: eject::median_of_others(&totals, index, &mut scratch),
                    is_spare: score.excluded.is_none()
                        && eject::can_spare(score.weight, count, weight, total, &settings),
                };
                if member.on_comparison(comparison, &settings, now) {
                    (count, weight) = (count.saturating_sub(1), weight - score.weight);
                }
            }
        }
    }
}

// === impl Order ===

impl Order {
    /// A target turned out not to be one that can be asked.
    pub fn exclude(&mut self, position: usize, why: Exclusion) {
        if let Some(excluded) = self.excluded.get_mut(position) {
            *excluded = Some(why);
        }
    }

    /// Why nobody could be asked, in a word: what will pass of itself before what somebody has to
    /// mend. What cannot serve in any case counts for nothing.
    pub fn why(&self) -> NobodyWhy {
        let (mut limited, mut refused) = (false, false);
        for why in self.excluded.iter() {
            match why {
                Some(Exclusion::RateLimited) => limited = true,
                Some(Exclusion::Unauthorized | Exclusion::QuotaUsedUp) => refused = true,
                Some(Exclusion::Incapable | Exclusion::Drained) => {}
                Some(
                    Exclusion::Open | Exclusion::Ejected | Exclusion::Full | Exclusion::Throttled,
                )
                | None => return NobodyWhy::Busy,
            }
        }
        match (limited, refused) {
            (true, _) => NobodyWhy::RateLimited,
            (false, true) => NobodyWhy::Credential,
            (false, false) => NobodyWhy::Busy,
        }
    }
}

/// Numbers the members of a group so that those have the same that serve the same model in one
/// tier.
fn with_kinds(mut members: Vec<Member>) -> Vec<Member> {
    let same = |a: &Target, b: &Target| a.tier == b.tier && a.model.name == b.model.name;
    let kinds: Vec<usize> = members
        .iter()
        .enumerate()
        .map(|(at, member)| {
            let first = members.iter().position(|other| same(&other.target, &member.target));
            first.unwrap_or(at)
        })
        .collect();
    members.iter_mut().zip(kinds).for_each(|(member, kind)| member.kind = kind);
    members
}
