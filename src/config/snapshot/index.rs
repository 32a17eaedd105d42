//! Builds a [`Snapshot`] from a checked configuration.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use super::{Endpoint, ListedModel, Route, Snapshot, TIDEGATE, Target};
use crate::cache::{RouteCache, RouteIdentity};
use crate::catalog::Model;
use crate::config::check::Config;
use crate::config::conduct::Conduct;
use crate::config::routes::{RoutePlan, TargetPlan};
use crate::ids::{EndpointId, ProviderId, RouteName};

/// Endpoints of each provider, in the order of its credentials.
type ByProvider = HashMap<ProviderId, Vec<Arc<Endpoint>>>;

impl Snapshot {
    /// Indexes a configuration. Endpoints that are as they were in `previous` are taken over.
    pub(in crate::config) fn build(config: Config, previous: Option<&Self>) -> Self {
        let mut by_provider = ByProvider::new();
        let mut endpoints: BTreeMap<EndpointId, Arc<Endpoint>> = BTreeMap::new();
        let mut open = ByProvider::new();
        let mut served: Vec<(ProviderId, Arc<Model>)> = Vec::new();
        for (id, enabled) in config.providers {
            let shared: Vec<_> =
                enabled.endpoints.into_iter().map(|endpoint| kept(endpoint, previous)).collect();
            endpoints.extend(shared.iter().map(|shared| (shared.id.clone(), Arc::clone(shared))));
            if enabled.provider.open_models {
                open.insert(id.clone(), shared.clone());
            }
            served.extend(
                enabled.provider.models.iter().map(|model| (id.clone(), Arc::clone(model))),
            );
            by_provider.insert(id, shared);
        }

        let max_answer = usize::try_from(config.settings.cache.max_answer.0).unwrap_or(usize::MAX);
        let mut names = Names { max_answer, ..Names::default() };
        for plan in config.routes {
            names.add_route(plan, &by_provider);
        }
        for (provider, model) in &served {
            names.add_model(provider, model, &by_provider, config.defaults);
        }
        names.add_bare(&served);
        let mut snapshot = Self {
            revision: config.revision,
            settings: config.settings,
            catalog: config.catalog,
            by_name: names.by_name,
            ambiguous: names.ambiguous,
            endpoints,
            open,
            limits: config.limits,
            defaults: config.defaults,
            listed: names.listed,
            prompts: Arc::new(config.prompts),
            suites: config.suites,
            notes: config.notes,
            has_caches: names.has_caches,
        };
        snapshot.note_prompts();
        snapshot
    }
}

impl Snapshot {
    /// Notes prompts that were written for a model which cannot be asked for.
    fn note_prompts(&mut self) {
        let prompts = Arc::clone(&self.prompts);
        let newest = prompts.iter().filter_map(|(_, versions)| versions.iter().last());
        for prompt in newest {
            if let Some(model) = prompt.target_model.as_ref()
                && self.resolve(model).is_err()
            {
                let name = &prompt.name;
                self.notes.push(format!(
                    "the prompt {name} was written for {model}, which cannot be asked for here"
                ));
            }
        }
    }
}

/// The names that can be asked for, as they are collected.
#[derive(Default)]
struct Names {
    by_name: HashMap<Arc<str>, Arc<Route>>,
    ambiguous: HashMap<Arc<str>, Vec<String>>,
    listed: Vec<ListedModel>,
    max_answer: usize,
    has_caches: bool,
}

// === impl Names ===

impl Names {
    fn add_route(&mut self, plan: RoutePlan, by_provider: &ByProvider) {
        let created = plan.targets.iter().map(|target| created(&target.model)).max();
        let RoutePlan { name, targets, conduct, degrade, sticky, cache } = plan;
        let named = targets.iter().map(|plan| (plan.tier, &plan.provider, &plan.model.name));
        let identity = RouteIdentity::of(&name, named).with_policy(&cache);
        let stale_for = if degrade.stale_cache { cache.stale_for.0 } else { Duration::ZERO };
        let cache = cache.is_on().then(|| {
            let max_answer = self.max_answer;
            Arc::new(RouteCache { settings: cache, identity, max_answer, stale_for })
        });
        self.has_caches |= cache.is_some();
        let tiers = tiers(&targets, by_provider);
        let route =
            Arc::new(Route { name, tiers, conduct, degrade, sticky, cache, rolled_as: None });
        self.list(route.name.as_str(), TIDEGATE, created.unwrap_or(0));
        self.by_name.insert(Arc::from(route.name.as_str()), route);
    }

    fn add_model(
        &mut self,
        provider: &ProviderId,
        model: &Arc<Model>,
        by_provider: &ByProvider,
        conduct: Conduct,
    ) {
        let name = format!("{provider}/{}", model.name);
        if self.by_name.contains_key(name.as_str()) {
            return; // A route of this name goes first.
        }
        self.list(&name, provider.as_str(), created(model));
        let target =
            TargetPlan { provider: provider.clone(), model: Arc::clone(model), weight: 1, tier: 0 };
        let tiers = tiers(&[target], by_provider);
        let name = RouteName::new(name);
        let route = Route::of_model(name.clone(), tiers, conduct);
        self.by_name.insert(Arc::from(name.as_str()), Arc::new(route));
    }

    /// Bare model names: those that one provider serves, and those that several do.
    fn add_bare(&mut self, served: &[(ProviderId, Arc<Model>)]) {
        let mut serving: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for (provider, model) in served {
            let full = format!("{provider}/{}", model.name);
            serving.entry(model.name.as_str()).or_default().push(full);
        }
        for (name, full) in serving {
            if self.by_name.contains_key(name) {
                continue;
            }
            match full.as_slice() {
                [only] => {
                    if let Some(route) = self.by_name.get(only.as_str()).map(Arc::clone) {
                        self.by_name.insert(Arc::from(name), route);
                    }
                }
                _ => {
                    self.ambiguous.insert(Arc::from(name), full);
                }
            }
        }
    }

    fn list(&mut self, id: &str, owned_by: &str, created: u64) {
        self.listed.push(ListedModel { id: id.to_owned(), owned_by: owned_by.to_owned(), created });
    }
}

/// The endpoint of the previous snapshot, if it is the same in every respect.
fn kept(endpoint: Endpoint, previous: Option<&Snapshot>) -> Arc<Endpoint> {
    match previous.and_then(|previous| previous.endpoints.get(&endpoint.id)) {
        Some(same) if **same == endpoint => Arc::clone(same),
        _ => Arc::new(endpoint),
    }
}

/// Targets by tier, the gaps between tier numbers closed. A model's weight is shared by the
/// endpoints of its provider: all weights of a tier are multiplied so that the shares are whole
/// numbers.
fn tiers(plans: &[TargetPlan], by_provider: &ByProvider) -> Vec<Vec<Arc<Target>>> {
    let mut by_number: BTreeMap<u32, Vec<&TargetPlan>> = BTreeMap::new();
    for plan in plans {
        by_number.entry(plan.tier).or_default().push(plan);
    }
    let endpoints_of = |plan: &TargetPlan| by_provider.get(&plan.provider).map_or(&[][..], |v| v);
    let mut tiers = Vec::with_capacity(by_number.len());
    for (plans, tier) in by_number.values().zip(0..) {
        let counts = plans.iter().map(|plan| endpoints_of(plan).len() as u64);
        let whole = counts.filter(|count| *count > 0).fold(1, lcm);
        let mut targets = Vec::new();
        for plan in plans {
            let endpoints = endpoints_of(plan);
            let share =
                u64::from(plan.weight).saturating_mul(whole / endpoints.len().max(1) as u64);
            let weight = u32::try_from(share).unwrap_or(u32::MAX).max(1);
            targets.extend(
                endpoints
                    .iter()
                    .map(|endpoint| Arc::new(Target::new(endpoint, &plan.model, weight, tier))),
            );
        }
        if !targets.is_empty() {
            tiers.push(targets);
        }
    }
    tiers
}

/// The day a model's facts were read, in seconds since 1970; 0 where no day is known.
fn created(model: &Model) -> u64 {
    let seconds = || {
        let day: jiff::civil::Date = model.as_of.parse().ok()?;
        let time = jiff::tz::Offset::UTC.to_timestamp(day.at(0, 0, 0, 0)).ok()?;
        u64::try_from(time.as_second()).ok()
    };
    seconds().unwrap_or(0)
}

/// The least common multiple, saturating.
fn lcm(a: u64, b: u64) -> u64 {
    let gcd = |mut a: u64, mut b: u64| {
        while b != 0 {
            (a, b) = (b, a % b);
        }
        a
    };
    (a / gcd(a, b).max(1)).saturating_mul(b)
}
