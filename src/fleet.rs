//! The live side of every target: what changes while requests run.
//!
//! This is the only module that feeds policies. Each target has its health behind one small lock,
//! arithmetic only; a route's targets form a [`Group`], which ranks them and hands out the right to
//! an attempt as a [`Ticket`]. What a ticket sees is what policies learn.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use crate::clock::Instant;
use crate::config::{Endpoint, Route, Snapshot, Target};
use crate::ids::{EndpointId, ProviderId, RequestId, RouteName, TargetId};
use crate::telemetry::{GateMetrics, Metrics};

mod budget;
mod chance;
mod credential;
mod demand;
mod gate;
mod group;
mod guests;
mod habits;
mod health;
mod latency;
mod limits;
mod member;
mod neighbours;
mod prefix;
mod quota;
mod race;
mod target;
mod ticket;
mod view;
mod warming;

pub use budget::Extra;
pub use demand::Demand;
pub use gate::{Ask, Gate, NoSlot, Slot};
pub use group::{Group, Order};
pub use habits::Expected;
pub use prefix::PrefixView;
pub use quota::Gauge;
pub use race::{Race, Second};
pub use target::TargetLive;
pub use ticket::Ticket;
pub use view::{QuantilesView, RankView, Readiness, RouteView, TargetView};
pub use warming::{Burst, Follower, Leader};

use budget::Budgets;
use chance::Chance;
use credential::CredentialLive;
use neighbours::Neighbours;
use target::ProviderLive;

/// Stands for all models that a provider serves without listing them.
const UNLISTED: &str = "(unlisted)";

/// Every target that was ever tried.
#[derive(Debug)]
pub struct Fleet {
    /// Read by each request and copied when a target is new, so that reading takes no lock.
    live: ArcSwap<HashMap<TargetId, Arc<TargetLive>>>,
    /// One for each route that was asked for, of the configuration that was last asked for.
    groups: ArcSwap<HashMap<RouteName, Arc<Group>>>,
    owners: Mutex<Owners>,
    /// The budgets of all models that callers made up.
    made_up: OnceLock<Arc<Budgets>>,
    metrics: Arc<Metrics>,
    chance: Arc<Chance>,
    neighbours: Arc<Neighbours>,
}

/// What targets have in common.
#[derive(Debug, Default)]
struct Owners {
    providers: HashMap<ProviderId, Arc<ProviderLive>>,
    credentials: HashMap<EndpointId, Arc<CredentialLive>>,
}

// === impl Fleet ===

impl Fleet {
    /// No targets yet.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            live: ArcSwap::default(),
            groups: ArcSwap::default(),
            owners: Mutex::default(),
            made_up: OnceLock::new(),
            metrics,
            chance: Arc::default(),
            neighbours: Arc::default(),
        }
    }

    /// Makes decisions the same in every run, for rehearsals. Only the first call counts.
    pub fn seed(&self, seed: u64) {
        self.chance.seed(seed);
    }

    /// A number uniform in 0..1 for a decision; the same ones in every run where a rehearsal wants
    /// that.
    pub fn chance(&self) -> f64 {
        self.chance.draw()
    }

    /// A fresh id for a request that came at `unix_ms`, in milliseconds since 1970. The same ones
    /// in every run where a rehearsal wants that: whether a gate turns a request away goes by its
    /// id.
    pub fn request_id(&self, unix_ms: u64) -> RequestId {
        RequestId::at(unix_ms, self.chance.for_id())
    }

    /// A gate of another place than a target, with the chances that targets have.
    pub fn gate(&self, metrics: GateMetrics) -> Arc<Gate> {
        Gate::new(metrics, Arc::clone(&self.chance), Instant::now())
    }

    /// The targets of a route with what is known of them. Budgets of a route outlive its
    /// configuration, and what is known of a target outlives both.
    pub fn group(&self, route: &Arc<Route>) -> Arc<Group> {
        let groups = self.groups.load();
        let name = route.rolled_as.as_ref().unwrap_or(&route.name);
        let known = groups.get(name);
        if let Some(known) = known.filter(|known| known.is_of(route)) {
            return Arc::clone(known);
        }
        let is_made_up = route.tiers.iter().flatten().any(|target| target.model.is_made_up);
        let budgets = match known {
            Some(known) => Arc::clone(known.budgets()),
            // Names that callers make up share one budget, or each name would have its own.
            None if is_made_up => {
                Arc::clone(self.made_up.get_or_init(|| Arc::new(Budgets::new(route))))
            }
            None => Arc::new(Budgets::new(route)),
        };
        let targets = route.tiers.iter().flatten();
        let members = targets.map(|target| (Arc::clone(target), self.live_of(target))).collect();
        let group = Arc::new(Group::new(route, members, budgets, Arc::clone(&self.chance)));
        // Memory may not grow with the names that callers make up.
        if !is_made_up {
            self.groups.rcu(|groups| {
                let mut groups = HashMap::clone(groups);
                groups.insert(name.clone(), Arc::clone(&group));
                groups
            });
        }
        group
    }

    /// How all targets fare, by id.
    pub fn targets(&self, now: Instant) -> Vec<TargetView> {
        let live = self.live.load();
        let mut views: Vec<_> = live.values().map(|live| live.view(now)).collect();
        view::share_of_traffic(&mut views);
        views.sort_by(|a, b| a.id.cmp(&b.id));
        views
    }

    /// The live side of a target; nothing where it was never asked for.
    pub fn target(&self, id: &str) -> Option<Arc<TargetLive>> {
        self.live.load().get(id).map(Arc::clone)
    }

    /// The live side of a target of the configuration, from now on.
    pub fn adopt(&self, target: &Target) -> Arc<TargetLive> {
        self.live_of(target)
    }

    /// Whether a request is turned away by what its headers tell, and when to try again. They do
    /// not say which targets it is for, so it is only where every target that it could be for
    /// would: an overloaded provider costs nothing to requests for another.
    pub fn turns_away(&self, ask: &Ask, snapshot: &Snapshot, now: Instant) -> Option<Duration> {
        let live = self.live.load();
        let named = snapshot.targets().map(|target| live.get(name_of(target).0.as_str()));
        let unlisted = snapshot.open_endpoints().map(|at| live.get(unlisted_at(at).as_str()));
        let mut soonest: Option<(Duration, &Arc<TargetLive>)> = None;
        for target in named.chain(unlisted) {
            // What was never asked is idle.
            let target = target?;
            let after = target.gate.would_turn_away(ask, now)?;
            if soonest.is_none_or(|(soonest, _)| after < soonest) {
                soonest = Some((after, target));
            }
        }
        let (after, target) = soonest?;
        target.gate.count_turned_away(ask, now);
        Some(after)
    }

    /// Attempts under way on all targets.
    pub fn in_flight(&self) -> u64 {
        self.live.load().values().map(|live| u64::from(live.in_flight())).sum()
    }

    /// Sets those metrics that are not counted but looked up.
    pub fn look_up_metrics(&self, now: Instant) {
        let groups = self.groups.load();
        let mut groups: Vec<_> = groups.values().collect();
        // Of several routes the one with the most targets says what a target is worth.
        groups.sort_by_key(|group| (group.len(), group.route().name.clone()));
        let demand = Demand::usual();
        let mut most = 0.0_f64;
        for group in groups {
            most = most.max(group.budgets().retry_ratio(now));
            for (member, score) in group.members().iter().zip(group.scores(&demand, now)) {
                self.metrics.targets.set_rank(member.live.id.as_str(), score.total_seconds);
            }
        }
        self.metrics.requests.retry_ratio.set(most);
        for live in self.live.load().values() {
            let success = live.health.lock().success(now);
            self.metrics.targets.set_success(live.id.as_str(), success);
            live.publish(now);
        }
    }

    fn live_of(&self, target: &Target) -> Arc<TargetLive> {
        let (id, model) = name_of(target);
        let live = self.live_under(&id, target, model);
        live.credential.adopt(&target.endpoint);
        live
    }

    fn live_under(&self, id: &TargetId, target: &Target, model: &str) -> Arc<TargetLive> {
        if let Some(live) = self.live.load().get(id) {
            return Arc::clone(live);
        }
        // Held over the whole, so that of two requests that are first only one makes it.
        let mut owners = self.owners.lock();
        if let Some(live) = self.live.load().get(id) {
            return Arc::clone(live);
        }
        let provider = &target.endpoint.provider;
        let metrics = self.metrics.targets.of(provider.as_str(), model, id.as_str());
        let metrics = (metrics, self.metrics.gates.of_target(id.as_str()));
        let parent = Arc::clone(owners.providers.entry(provider.clone()).or_default());
        let endpoint = &target.endpoint;
        let credential = owners.credentials.entry(endpoint.id.clone()).or_insert_with(|| {
            let parked = self.metrics.targets.credential_parked(endpoint.id.as_str());
            Arc::new(CredentialLive::new(endpoint, parked, Instant::now()))
        });
        let fleet_wide = (Arc::clone(&self.chance), Arc::clone(&self.neighbours));
        let shared = (parent, Arc::clone(credential), fleet_wide);
        let fresh = Arc::new(TargetLive::new(id.clone(), target, metrics, shared));
        self.live.rcu(|live| {
            let mut live = HashMap::clone(live);
            live.insert(id.clone(), Arc::clone(&fresh));
            live
        });
        fresh
    }
}

/// Under which id and model a target is kept. A provider that serves any model lets callers make up
/// names, and neither memory nor the labels of metrics may grow with them: those are kept together.
/// A model that a route names is one of its own, whether or not a file lists it.
fn name_of(target: &Target) -> (TargetId, &str) {
    if target.model.is_made_up {
        (unlisted_at(&target.endpoint), UNLISTED)
    } else {
        (target.id.clone(), target.model.name.as_str())
    }
}

/// The target that stands for all models that an endpoint serves without listing them.
fn unlisted_at(endpoint: &Endpoint) -> TargetId {
    TargetId::new(format!("{}/{UNLISTED}", endpoint.id))
}
