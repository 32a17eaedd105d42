//! What operators see of targets.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde::Serialize;

use super::budget::Budgets;
use super::credential::CredentialLive;
use super::demand::Demand;
use super::group::Group;
use super::latency::Shape;
use super::member::Member;
use super::prefix::PrefixView;
use super::target::TargetLive;
use super::{Fleet, name_of};
use crate::clock::Instant;
use crate::config::{Route, Snapshot, Target};
use crate::ids::{RouteName, TargetId};
use crate::policy::breaker::{Reason, State};
use crate::policy::hedge::SizeBucket;
use crate::policy::rank::{self, Score};
use crate::telemetry::Metrics;

/// Operators look at streams: whole answers have no first token of their own.
const STREAMED: Shape = Shape { size: SizeBucket::UpTo1k, streamed: true };

/// How a target fares.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TargetView {
    /// Which one.
    pub id: TargetId,
    /// `closed`, `open` or `half_open`.
    pub breaker: &'static str,
    /// Why an open or half open breaker opened.
    pub breaker_reason: Option<&'static str>,
    /// Seconds until an open breaker lets trials through.
    pub breaker_opens_in_seconds: Option<f64>,
    /// Seconds that it is still out because it was far worse than its siblings.
    pub ejected_for_seconds: Option<f64>,
    /// Whether an operator took it out.
    pub drained: bool,
    /// Seconds until it may be asked again, where it may not now and that is known.
    pub ready_in_seconds: Option<f64>,
    /// Attempts under way.
    pub in_flight: u32,
    /// The most attempts that may be under way; nothing where no limit was learnt.
    pub limit: Option<u32>,
    /// Attempts of the last minute.
    pub attempts_last_minute: u32,
    /// The part of them that failed, 0 to 1.
    pub error_rate: f64,
    /// Its part of the attempts of the last minute on all targets, 0 to 1.
    pub traffic_share: f64,
    /// The chance that the next attempt succeeds, 0 to 1.
    pub success_probability: f64,
    /// Time to the first token over the last five minutes, in milliseconds.
    pub ttft_ms: QuantilesView,
    /// Attempts since the start.
    pub attempts: u64,
    /// Those that failed.
    pub failures: u64,
    /// What the tightest rate limit has left, 0 to 1; 1 where none is known.
    pub headroom: f64,
    /// What is known of its prefix cache.
    pub prefix_cache: PrefixView,
}

/// Quantiles in milliseconds; nothing without samples.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct QuantilesView {
    /// Half of the samples are below.
    pub p50: Option<f64>,
    /// 95 % of them.
    pub p95: Option<f64>,
    /// 99 % of them.
    pub p99: Option<f64>,
    /// How many there are.
    pub samples: u64,
}

/// A route's targets as they stand for a request.
#[derive(Debug)]
pub struct RouteView {
    /// Which one.
    pub route: Arc<Route>,
    /// Whether no target is well, so that health is ignored: then targets that are excluded for
    /// their health have a share nevertheless.
    pub is_panic: bool,
    /// Attempts of the last 10 s that followed a failure, for each request; 0 where there were too
    /// few requests to say.
    pub retry_ratio: f64,
    /// Tokens that an answer is expected to have.
    pub output_tokens: f64,
    /// Its targets, by tier.
    pub targets: Vec<RankView>,
}

/// Where a target stands on a route, with every term of its score.
#[derive(Debug)]
pub struct RankView {
    /// Which one, with its tier and weight.
    pub target: Arc<Target>,
    /// How it fares.
    pub live: TargetView,
    /// The score's terms. Its `share` is that of its tier.
    pub score: Score,
    /// The share of requests whose first attempt it gets, 0 to 1.
    pub expected_share: f64,
    /// What its model lacks for the request, in words.
    pub lacking: Vec<String>,
}

/// How many targets can be asked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Readiness {
    /// Targets of the configuration that may be asked now.
    pub ready: usize,
    /// All of them.
    pub total: usize,
    /// Those whose breaker is open.
    pub open: usize,
    /// Routes of which no target may be asked.
    #[serde(skip)]
    pub routes_down: Vec<RouteName>,
}

// === impl Fleet ===

impl Fleet {
    /// How routes stand for a request, without a trace: a target that was never asked stays so, and
    /// has no metrics.
    pub fn look(&self, routes: &[Arc<Route>], demand: &Demand, now: Instant) -> Vec<RouteView> {
        let nowhere = Metrics::new();
        let mut unseen = HashMap::new();
        let all: u32 = self.targets(now).iter().map(|view| view.attempts_last_minute).sum();
        let look = |route: &Arc<Route>| {
            let group = self.group_to_look_at(route, &nowhere, &mut unseen);
            let sticky = demand.sticky.filter(|_| route.sticky);
            let mut view = group.view(&Demand { sticky, ..demand.clone() }, now);
            for rank in &mut view.targets {
                rank.live.traffic_share = share(rank.live.attempts_last_minute, all);
            }
            view
        };
        routes.iter().map(look).collect()
    }

    /// How many targets of a configuration can be asked, and which routes have none. A model's own
    /// name counts as a route once it was asked for.
    pub fn readiness(&self, snapshot: &Snapshot, now: Instant) -> Readiness {
        let mut ready_by_id: HashMap<&str, bool> = HashMap::new();
        let mut readiness = Readiness::default();
        let (live, groups) = (self.live.load(), self.groups.load());
        for (listed, route) in snapshot.routes() {
            let mut any = false;
            for target in route.tiers.iter().flatten() {
                let ready = *ready_by_id.entry(target.id.as_str()).or_insert_with(|| {
                    let Some(live) = live.get(&target.id) else { return true };
                    let is_open = live.health.lock().breaker.state(now).as_str() == "open";
                    readiness.open += usize::from(is_open);
                    Member::new(Arc::clone(target), Arc::clone(live)).is_ready(now)
                });
                any |= ready;
            }
            if !any && (listed.is_route() || groups.contains_key(&route.name)) {
                readiness.routes_down.push(route.name.clone());
            }
        }
        readiness.total = ready_by_id.len();
        readiness.ready = ready_by_id.values().filter(|ready| **ready).count();
        readiness
    }

    fn group_to_look_at(
        &self,
        route: &Arc<Route>,
        nowhere: &Metrics,
        unseen: &mut HashMap<TargetId, Arc<TargetLive>>,
    ) -> Arc<Group> {
        let groups = self.groups.load();
        let known = groups.get(&route.name);
        if let Some(known) = known.filter(|known| known.is_of(route)) {
            return Arc::clone(known);
        }
        let budgets = known.map(|known| Arc::clone(known.budgets()));
        let budgets = budgets.unwrap_or_else(|| Arc::new(Budgets::new(route)));
        let seen = self.live.load();
        let member = |target: &Arc<Target>| {
            let (id, model) = name_of(target);
            let live = seen.get(&id).map_or_else(
                || {
                    let fresh = unseen.entry(id.clone()).or_insert_with(|| {
                        let provider = target.endpoint.provider.as_str();
                        let metrics = nowhere.targets.of(provider, model, id.as_str());
                        let metrics = (metrics, nowhere.gates.of_target(id.as_str()));
                        let endpoint = &target.endpoint;
                        let parked = nowhere.targets.credential_parked(endpoint.id.as_str());
                        let credential = CredentialLive::new(endpoint, parked, Instant::now());
                        let fleet_wide = (Arc::clone(&self.chance), Arc::default());
                        let shared = (Arc::default(), Arc::new(credential), fleet_wide);
                        Arc::new(TargetLive::new(id.clone(), target, metrics, shared))
                    });
                    Arc::clone(fresh)
                },
                Arc::clone,
            );
            (Arc::clone(target), live)
        };
        let members = route.tiers.iter().flatten().map(member).collect();
        Arc::new(Group::new(route, members, budgets, Arc::clone(&self.chance)))
    }
}

// === impl Group ===

impl Group {
    /// How the route's targets stand for a request.
    fn view(&self, demand: &Demand, now: Instant) -> RouteView {
        let is_panic = self.is_panic(demand, now);
        let mut scores = self.scores(demand, now);
        let mut targets = Vec::with_capacity(scores.len());
        let mut is_served = false;
        let tiers = self.members().chunk_by(|a, b| a.target.tier == b.target.tier);
        let mut rest = scores.as_mut_slice();
        for tier in tiers {
            let (own, after) = rest.split_at_mut(tier.len().min(rest.len()));
            rest = after;
            if is_panic {
                let mut tried = own.to_vec();
                for score in &mut tried {
                    score.excluded = score.excluded.filter(|why| !why.is_health());
                }
                rank::shares(&mut tried, &self.rank);
                own.iter_mut().zip(tried).for_each(|(own, tried)| own.share = tried.share);
            }
            // A tier gets first attempts where no better one has a target to ask.
            let served_before = is_served;
            is_served |= own.iter().any(|score| score.share > 0.0);
            targets.extend(tier.iter().zip(own).map(|(member, score)| RankView {
                target: Arc::clone(&member.target),
                live: member.live.view(now),
                score: *score,
                expected_share: if served_before { 0.0 } else { score.share },
                lacking: demand.lacking(&member.target.model),
            }));
        }
        RouteView {
            route: Arc::clone(self.route()),
            is_panic,
            retry_ratio: self.budgets().retry_ratio(now),
            output_tokens: self.budgets().expected_output(demand.max_output),
            targets,
        }
    }
}

// === impl Member ===

impl Member {
    fn is_ready(&self, now: Instant) -> bool {
        let settings = rank::Settings::default();
        self.standing(&Demand::usual(), &settings, now, None).exclusion(&settings).is_none()
    }
}

// === impl TargetLive ===

impl TargetLive {
    pub(super) fn view(&self, now: Instant) -> TargetView {
        let mut health = self.health.lock();
        let (attempts, failed) = health.last_minute(now);
        let (_, all) = health.latency.quantiles(STREAMED, now);
        let ms = |duration: Option<Duration>| duration.map(|d| d.as_secs_f64() * 1e3);
        let left = |until: Instant| until.saturating_duration_since(now).as_secs_f64();
        let state = health.breaker.state(now);
        TargetView {
            id: self.id.clone(),
            breaker: state.as_str(),
            breaker_reason: match state {
                State::Closed => None,
                State::Open { .. } | State::HalfOpen => self.opened_by().map(Reason::as_str),
            },
            breaker_opens_in_seconds: match state {
                State::Open { until } => Some(left(until)),
                State::Closed | State::HalfOpen => None,
            },
            ejected_for_seconds: health.ejection.out_until(now).map(left),
            drained: self.is_drained(),
            ready_in_seconds: health.ready_after(now).map(|after| after.as_secs_f64()),
            in_flight: self.in_flight(),
            limit: Some(health.limit()).filter(|limit| *limit > 0),
            attempts_last_minute: attempts,
            error_rate: f64::from(failed) / f64::from(attempts.max(1)),
            traffic_share: 0.0,
            success_probability: health.success(now),
            ttft_ms: QuantilesView {
                p50: ms(all.p50),
                p95: ms(all.p95),
                p99: ms(all.p99),
                samples: all.samples,
            },
            attempts: self.attempts.load(Ordering::Relaxed),
            failures: self.failures.load(Ordering::Relaxed),
            headroom: health.headroom(now),
            prefix_cache: self.prefixes.lock().view(),
        }
    }
}

/// Fills in each target's part of the attempts of the last minute.
pub(super) fn share_of_traffic(views: &mut [TargetView]) {
    let all: u32 = views.iter().map(|view| view.attempts_last_minute).sum();
    for view in views {
        view.traffic_share = share(view.attempts_last_minute, all);
    }
}

fn share(part: u32, all: u32) -> f64 {
    f64::from(part) / f64::from(all.max(1))
}
