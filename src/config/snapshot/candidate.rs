//! A route in which another model has taken the place of one: what a rollout serves on its
//! candidate's side.

use std::sync::Arc;

use super::{Route, Snapshot, Target};
use crate::cache::{RouteCache, RouteIdentity};
use crate::ids::RouteName;

// === impl Snapshot ===

impl Snapshot {
    /// `route` with the targets of `to` where those of `from` are, both as `provider/model`; with
    /// their tiers, and all their weight for each. `None` where the route does not have `from`, or
    /// nobody serves `to`.
    pub fn with_candidate(
        &self,
        route: &Route,
        from: &str,
        to: &str,
        rollout: &str,
    ) -> Option<Route> {
        let named = self.by_name.get(to).map(Arc::clone);
        let named = named.or_else(|| self.resolve_open(to).map(Arc::new))?;
        let candidates: Vec<&Arc<Target>> = named.tiers.iter().flatten().collect();
        let is_control = |target: &Arc<Target>| target.is_of(from);
        if candidates.is_empty() || !route.tiers.iter().flatten().any(is_control) {
            return None;
        }
        let with_candidate = |tier: &Vec<Arc<Target>>| {
            let controls = || tier.iter().filter(|target| is_control(target));
            let weight: u32 = controls().map(|target| target.weight).sum();
            let number = controls().map(|target| target.tier).next();
            let mut targets: Vec<_> =
                tier.iter().filter(|target| !is_control(target)).cloned().collect();
            let share = |count: usize| (weight / u32::try_from(count).unwrap_or(1).max(1)).max(1);
            if let Some(number) = number {
                // One that was there beside the control is there once.
                targets.retain(|target| !target.is_of(to));
                let added = candidates.iter().map(|candidate| {
                    let weight = share(candidates.len());
                    Arc::new(Target::new(&candidate.endpoint, &candidate.model, weight, number))
                });
                targets.splice(0..0, added);
            }
            targets
        };
        let tiers: Vec<Vec<_>> = route.tiers.iter().map(with_candidate).collect();
        // Answers of one side are not given on the other.
        let cache = route.cache.as_ref().map(|cache| {
            let targets = tiers.iter().flatten();
            let named =
                targets.map(|target| (target.tier, &target.endpoint.provider, &target.model.name));
            let identity = RouteIdentity::of(&route.name, named).with_policy(&cache.settings);
            Arc::new(RouteCache { identity, ..RouteCache::clone(cache) })
        });
        Some(Route {
            name: route.name.clone(),
            tiers,
            conduct: route.conduct,
            degrade: route.degrade.clone(),
            sticky: route.sticky,
            cache,
            rolled_as: Some(RouteName::new(format!("{}~{rollout}", route.name))),
        })
    }
}

// === impl Target ===

impl Target {
    /// Whether it serves this model, as `provider/model`, with any credential.
    pub fn is_of(&self, model: &str) -> bool {
        let (provider, name) = (self.endpoint.provider.as_str(), self.model.name.as_str());
        model.strip_prefix(provider).and_then(|rest| rest.strip_prefix('/')) == Some(name)
    }
}
