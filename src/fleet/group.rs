//! The targets of one route: ranked for a request, and handed out one by one.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::budget::{Budgets, Extra};
use super::chance::Chance;
use super::demand::Demand;
use super::target::TargetLive;
use super::ticket::Ticket;
use crate::clock::Instant;
use crate::config::{Route, Target};
use crate::policy::breaker::State;
use crate::policy::eject::{self, Comparison};
use crate::policy::hedge;
use crate::policy::order::Place;
use crate::policy::rank::{self, Admission, Exclusion, Few, Pool, Prices, Score, Standing};

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

/// One target of a group.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) target: Arc<Target>,
    pub(super) live: Arc<TargetLive>,
    pub(super) prices: Prices,
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
        let members = members.into_iter().map(|(target, live)| Member::new(target, live));
        let conduct = &route.conduct;
        Self {
            route: Arc::clone(route),
            members: members.collect(),
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
        let standings = self.standings(demand, now);
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

    /// A request came in: what it may cost beyond its first attempt is earned here.
    pub fn on_request(&self, now: Instant) {
        self.budgets.on_request(self.hedge.as_ref(), now);
    }

    /// A number uniform in 0..1.
    pub fn chance(&self) -> f64 {
        self.chance.draw()
    }

    /// Draws the order in which to try the targets for a request.
    pub fn order(&self, demand: &Demand, now: Instant) -> Order {
        self.compare(demand, now);
        let standings = self.standings(demand, now);
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
        Order {
            picks: plan.order.iter().map(position).collect(),
            is_panic: plan.is_panic,
            excluded: standings.iter().map(|standing| standing.exclusion(&self.rank)).collect(),
        }
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
        Ticket::open(member, &self.budgets, demand, extra, is_panic, now)
    }

    /// Pays for an attempt beyond the first, if the route's budget has anything left.
    pub fn extra(&self, now: Instant) -> Option<Extra> {
        self.budgets.extra(now)
    }

    /// When the first of the targets that are out may be back, where that is known.
    pub fn ready_after(&self, now: Instant) -> Option<Duration> {
        let members = self.members.iter();
        members.filter_map(|member| member.live.health.lock().ready_after(now)).min()
    }

    /// What each target's score is made of for such a request, and the share of requests it gets.
    pub fn scores(&self, demand: &Demand, now: Instant) -> Vec<Score> {
        let standings = self.standings(demand, now);
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

    fn standings(&self, demand: &Demand, now: Instant) -> Vec<Standing> {
        let able = self.members.iter().any(|member| demand.fits(&member.target.model));
        let preferred = demand.sticky.and_then(|key| self.preferred(key));
        let output = self.budgets.expected_output(demand.max_output);
        let standing = |(position, member): (usize, &Member)| {
            // Where none can do it, what files say of models is wrong or the provider will explain.
            let capable = !able || demand.fits(&member.target.model);
            let mut standing = member.standing(demand, &self.rank, now);
            standing.output_tokens = output;
            standing.is_preferred = preferred == Some(position);
            if !capable {
                standing.admission = Admission::No(Exclusion::Incapable);
            }
            standing
        };
        self.members.iter().enumerate().map(standing).collect()
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
        let scores = self.scores(demand, now);
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

// === impl Member ===

impl Member {
    pub(super) fn new(target: Arc<Target>, live: Arc<TargetLive>) -> Self {
        let prices = prices_of(&target);
        Self { target, live, prices }
    }

    /// What is known of the target, for one request.
    pub(super) fn standing(
        &self,
        demand: &Demand,
        settings: &rank::Settings,
        now: Instant,
    ) -> Standing {
        let live = &self.live;
        let is_suspect = live.is_suspect();
        #[expect(clippy::cast_precision_loss, reason = "token counts are far below 2^52")]
        let input_tokens = demand.input_tokens as f64;
        let mut health = live.health.lock();
        health.breaker.set_suspect(is_suspect);
        let (ttft_seconds, idle_seconds) = health.latency.expected(demand.shape(), now);
        Standing {
            admission: self.admission(&health, now),
            success: health.success(now),
            ttft_seconds,
            idle_seconds,
            token_seconds: health.token_seconds(),
            input_tokens,
            output_tokens: 0.0,
            prices: self.prices,
            cached_share: 0.0,
            in_flight: live.in_flight(),
            limit: health.limit(),
            is_self_hosted: false,
            headroom: health.headroom(now),
            weight: self.target.weight,
            slow_start: health.back_for(now).map_or(1.0, |back| rank::slow_start(back, settings)),
            is_suspect,
            is_preferred: false,
        }
    }

    fn admission(&self, health: &super::health::Health, now: Instant) -> Admission {
        if self.live.is_drained() {
            return Admission::No(Exclusion::Drained);
        }
        if let Some(exclusion) = self.live.credential_exclusion(now) {
            return Admission::No(exclusion);
        }
        if health.is_cooling(now) {
            return Admission::No(Exclusion::RateLimited);
        }
        if health.ejection.out_until(now).is_some() {
            return Admission::No(Exclusion::Ejected);
        }
        match health.breaker.state(now) {
            State::Closed => Admission::Yes,
            State::Open { .. } => Admission::No(Exclusion::Open),
            State::HalfOpen if health.breaker.would_admit(now) => Admission::Trial,
            State::HalfOpen => Admission::No(Exclusion::Open),
        }
    }

    /// Compares the target with its siblings; returns whether it was taken out.
    fn on_comparison(
        &self,
        comparison: Comparison,
        settings: &eject::Settings,
        now: Instant,
    ) -> bool {
        let random = self.live.chance.draw();
        let change =
            self.live.health.lock().ejection.on_comparison(comparison, settings, now, random);
        match change {
            Some(eject::Change::Ejected { until, count }) => {
                tracing::warn!(
                    target.id = %self.live.id,
                    seconds = until.saturating_duration_since(now).as_secs_f64(),
                    count,
                    "target ejected: it is far worse than its siblings"
                );
                true
            }
            Some(eject::Change::Returned) => {
                tracing::info!(target.id = %self.live.id, "target returned from its ejection");
                false
            }
            None => false,
        }
    }
}

/// What a token of a target costs, in US dollars; nothing where that is not known.
fn prices_of(target: &Target) -> Prices {
    #[expect(clippy::cast_precision_loss, reason = "a price per token in 1e-12 dollars is small")]
    let usd = |pico: u128| pico as f64 * 1e-12;
    target.model.prices.map_or_else(Prices::default, |prices| Prices {
        input: usd(prices.input.pico_usd(1)),
        cached: usd(prices.cached_input.pico_usd(1)),
        output: usd(prices.output.pico_usd(1)),
    })
}
