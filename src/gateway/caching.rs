//! What the cache has to hear of a new configuration.

use super::Gateway;
use crate::cache::{Purge, RouteIdentity};
use crate::config::{Current, Snapshot};
use crate::ids::RouteName;

impl Gateway {
    /// Gives up what is kept of routes whose targets a reload has changed, until there are no more
    /// reloads: they would be found again when the change is taken back.
    pub async fn mind_routes(&self, mut current: Current) {
        let mut known = cached_routes(&current.snapshot());
        while current.changed().await {
            let now = cached_routes(&current.snapshot());
            for route in given_up(&known, &now) {
                let purge = Purge { route: Some(route.to_string()), ..Purge::default() };
                let entries = self.cache().purge(&purge);
                tracing::info!(route = %route, entries, "targets have changed, kept answers are given up");
            }
            known = now;
        }
    }
}

/// The routes that keep answers, and what each stands for.
fn cached_routes(snapshot: &Snapshot) -> Vec<(RouteName, RouteIdentity)> {
    let routes = snapshot.routes().filter(|(listed, _)| listed.is_route());
    let cached =
        routes.filter_map(|(_, route)| Some((route.name.clone(), route.cache.as_ref()?.identity)));
    cached.collect()
}

/// Routes that are gone, or stand for something else now.
fn given_up<'a>(
    before: &'a [(RouteName, RouteIdentity)],
    now: &'a [(RouteName, RouteIdentity)],
) -> impl Iterator<Item = &'a RouteName> {
    before.iter().filter(|route| !now.contains(route)).map(|(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{ModelName, ProviderId};

    #[test]
    fn what_stays_as_it_was_is_not_given_up() {
        let of = |name: &str, model: &str| {
            let (name, provider) = (RouteName::new(name), ProviderId::new("p"));
            let model = ModelName::new(model);
            let identity = RouteIdentity::of(&name, [(0, &provider, &model)]);
            (name, identity)
        };
        let before = [of("same", "m"), of("other", "m"), of("gone", "m")];
        let now = [of("new", "m"), of("other", "n"), of("same", "m")];
        let names: Vec<_> = given_up(&before, &now).map(RouteName::as_str).collect();
        assert_eq!(names, ["other", "gone"]);
    }
}
