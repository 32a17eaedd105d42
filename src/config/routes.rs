//! Names that clients ask for: which targets they stand for.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::check::Checking;
use super::conduct::{Conduct, ConductSettings, DegradeSettings};
use super::providers::Enabled;
use super::sections::{FileSettings, RouteSettings, TargetSettings};
use super::semantic;
use crate::cache::RouteCacheSettings;
use crate::catalog::file::check_prices;
use crate::catalog::{Feature, Model, ModelKind, Prices};
use crate::ids::{ProviderId, RouteName};
use crate::problems::{KeyPath, nearest};

/// A route whose targets all exist.
#[derive(Debug)]
pub(super) struct RoutePlan {
    pub(super) name: RouteName,
    pub(super) targets: Vec<TargetPlan>,
    pub(super) conduct: Conduct,
    pub(super) degrade: DegradeSettings,
    pub(super) sticky: bool,
    pub(super) cache: RouteCacheSettings,
}

/// A model of a provider that is on.
#[derive(Debug)]
pub(super) struct TargetPlan {
    pub(super) provider: ProviderId,
    pub(super) model: Arc<Model>,
    pub(super) weight: u32,
    pub(super) tier: u32,
}

/// The route that is there when the file names neither providers nor this route: a name that works
/// whichever key is set.
const DEFAULT_ROUTE: &str = "default";

/// The order in which providers found in the environment serve the default route; others follow.
const FIRST_PROVIDERS: [&str; 3] = ["openai", "anthropic", "gemini"];

/// Resolves all routes.
pub(super) fn plan(
    file: &FileSettings,
    providers: &BTreeMap<ProviderId, Enabled>,
    checking: &mut Checking<'_>,
) -> Vec<RoutePlan> {
    let mut plans: Vec<_> = file
        .routes
        .iter()
        .map(|(name, route)| route_plan(name, route, file, providers, checking))
        .collect();
    let by_environment = !checking.document.mentions(&KeyPath::root().key("providers"));
    if by_environment && !file.routes.contains_key(DEFAULT_ROUTE) {
        plans.extend(default_route(file, providers));
    }
    plans
}

fn route_plan(
    name: &str,
    route: &RouteSettings,
    file: &FileSettings,
    providers: &BTreeMap<ProviderId, Enabled>,
    checking: &mut Checking<'_>,
) -> RoutePlan {
    let at = KeyPath::root().key("routes").key(name);
    if name.is_empty() || name.len() > 256 || name.chars().any(char::is_control) {
        let message = "the name must be 1 to 256 characters that can be printed";
        checking.document.report_whole(checking.problems, at.clone(), message);
    }
    if route.targets.is_empty() {
        let message = "a route needs targets; write targets = [{ model = \"provider/model\" }]";
        checking.report(at.key("targets"), message);
    }
    let mut targets: Vec<TargetPlan> = Vec::with_capacity(route.targets.len());
    for (index, settings) in route.targets.iter().enumerate() {
        let at = at.key("targets").index(index);
        let prices_at = at.key("usd_per_million");
        let at = at.key("model");
        match target_plan(settings, providers, checking) {
            Err(None) => {}
            Err(Some(message)) => checking.report(at, message),
            Ok(target) => match problem_beside(&target, &targets) {
                Some(message) => checking.report(at, message),
                None => {
                    if let Some(prices) = &settings.usd_per_million {
                        let (document, problems) = (checking.document, &mut *checking.problems);
                        check_prices(prices, target.model.kind, &prices_at, document, problems);
                    }
                    targets.push(target);
                }
            },
        }
    }
    let conduct = conduct(route, file, &at, checking);
    if conduct.hedge.is_some() && !has_two_domains(&targets, providers) && !targets.is_empty() {
        let message = "a race needs two targets of one tier that do not fail together: of two providers, \
             or of one that has two keys; add one or leave it out";
        let own = at.key("hedge");
        let defaults = KeyPath::root().key("defaults").key("hedge");
        checking.report(if route.hedge.is_empty() { defaults } else { own }, message);
    }
    let scripted = route.degrade.scripted.as_deref();
    if scripted.is_some_and(|words| words.trim().is_empty()) {
        checking.report(at.key("degrade").key("scripted"), "says nothing; leave it out");
    }
    if route.degrade.stale_cache && !route.cache.is_on() {
        let message =
            "has no effect, because the route keeps no answers; write cache = { exact = true }";
        checking.report(at.key("degrade").key("stale_cache"), message);
    }
    for (key, message) in route.cache.problems() {
        checking.report(at.key("cache").key(key), message);
    }
    let cache = semantic::resolve(&route.cache, file, providers, &at.key("cache"), checking);
    RoutePlan {
        name: RouteName::new(name),
        targets,
        conduct,
        degrade: route.degrade.clone(),
        sticky: route.sticky,
        cache,
    }
}

/// The keys of a route over those of `[defaults]`.
fn conduct(
    route: &RouteSettings,
    file: &FileSettings,
    at: &KeyPath,
    checking: &mut Checking<'_>,
) -> Conduct {
    let timeouts = route.timeouts.over(&file.defaults.timeouts);
    if !route.timeouts.is_empty() {
        let at = at.key("timeouts");
        checking.timeouts(&timeouts, &at);
        checking.contradictions(&timeouts, &at);
    }
    let keep_alive = route.keep_alive.over(&file.defaults.keep_alive);
    if !route.keep_alive.is_empty() {
        checking.keep_alive(&keep_alive, &at.key("keep_alive"));
    }
    Conduct::from(ConductSettings {
        timeouts: &timeouts,
        keep_alive: &keep_alive,
        hold_back: &route.hold_back.over(&file.defaults.hold_back),
        hedge: &route.hedge.over(&file.defaults.hedge),
        rank: &route.rank.over(&file.defaults.rank),
        retry: &route.retry.over(&file.defaults.retry),
        prefix_cache: &route.prefix_cache.over(&file.defaults.prefix_cache),
    })
}

/// Whether two targets of one tier do not fail together because they share a key.
fn has_two_domains(targets: &[TargetPlan], providers: &BTreeMap<ProviderId, Enabled>) -> bool {
    let keys = |target: &TargetPlan| {
        providers.get(&target.provider).map_or(0, |enabled| enabled.endpoints.len())
    };
    targets.iter().any(|target| {
        let mut beside = targets.iter().filter(|other| other.tier == target.tier);
        keys(target) > 1 || beside.any(|other| other.provider != target.provider)
    })
}

/// What a target refers to, or what is wrong with the reference; an error without words follows
/// from a problem that was reported elsewhere.
fn target_plan(
    settings: &TargetSettings,
    providers: &BTreeMap<ProviderId, Enabled>,
    checking: &Checking<'_>,
) -> Result<TargetPlan, Option<String>> {
    let Some((provider, name)) = settings.model.split_once('/') else {
        return Err(Some(without_provider(&settings.model, providers)));
    };
    let Some(enabled) = providers.get(provider) else {
        return Err(absent_provider(provider, providers, checking));
    };
    let model = match enabled.provider.model(name) {
        Some(model) => Arc::clone(model),
        None if enabled.provider.open_models && !name.is_empty() => {
            Arc::new(Model { is_made_up: false, ..Model::unlisted(name) })
        }
        None => {
            let known = enabled.provider.models.iter().map(|model| model.name.as_str());
            let hint = nearest(name, known).map_or_else(
                || format!("; add it under [[providers.{provider}.models]] if it exists"),
                |near| format!(" (did you mean \"{provider}/{near}\"?)"),
            );
            return Err(Some(format!("unknown model {name:?} of provider {provider:?}{hint}")));
        }
    };
    let model = match &settings.usd_per_million {
        Some(prices) => Arc::new(Model { prices: Some(Prices::from(prices)), ..(*model).clone() }),
        None => model,
    };
    let provider = enabled.provider.id.clone();
    Ok(TargetPlan { provider, model, weight: settings.weight, tier: settings.tier })
}

fn without_provider(model: &str, providers: &BTreeMap<ProviderId, Enabled>) -> String {
    let serving = providers.values().find(|enabled| enabled.provider.model(model).is_some());
    match serving {
        Some(enabled) => {
            format!("names no provider; write \"{}/{model}\"", enabled.provider.id)
        }
        None => format!("{model:?} names no provider; write it as \"provider/model\""),
    }
}

fn absent_provider(
    provider: &str,
    providers: &BTreeMap<ProviderId, Enabled>,
    checking: &Checking<'_>,
) -> Option<String> {
    if checking.document.mentions(&KeyPath::root().key("providers").key(provider)) {
        return None; // It is there and wrong, which has been said.
    }
    if let Some(known) = checking.catalog.providers.get(provider) {
        let key = known.key_env.first().map_or(String::new(), |name| format!(" and set {name}"));
        return Some(format!(
            "provider {provider:?} is not on; add a section [providers.{provider}]{key}"
        ));
    }
    let known = providers.keys().chain(checking.catalog.providers.keys()).map(ProviderId::as_str);
    let hint =
        nearest(provider, known).map_or(String::new(), |near| format!(" (did you mean {near:?}?)"));
    Some(format!("unknown provider {provider:?}{hint}"))
}

fn problem_beside(target: &TargetPlan, others: &[TargetPlan]) -> Option<String> {
    let same = |other: &&TargetPlan| {
        other.provider == target.provider && other.model.name == target.model.name
    };
    if others.iter().any(|other| same(&other)) {
        return Some(format!("\"{}/{}\" is listed twice", target.provider, target.model.name));
    }
    let first = others.first().filter(|first| first.model.kind != target.model.kind)?;
    Some(format!(
        "is for {} and cannot stand beside \"{}/{}\", which is for {}",
        target.model.kind, first.provider, first.model.name, first.model.kind
    ))
}

/// One tier for each provider, each with its cheapest chat model that can call tools: what is asked
/// for without naming a model is mostly a first try, and should neither cost much nor lack much.
fn default_route(
    file: &FileSettings,
    providers: &BTreeMap<ProviderId, Enabled>,
) -> Option<RoutePlan> {
    let rank = |enabled: &&Enabled| {
        let id = enabled.provider.id.as_str();
        FIRST_PROVIDERS.iter().position(|first| *first == id).unwrap_or(FIRST_PROVIDERS.len())
    };
    let mut ordered: Vec<_> = providers.values().collect();
    ordered.sort_by_key(rank);
    let chat = |enabled: &&Enabled| {
        let models = enabled.provider.models.iter();
        let model = models
            .filter(|model| model.kind == ModelKind::Chat)
            .min_by_key(|model| (!model.features.has(Feature::Tools), price_of_a_try(model)))?;
        Some((enabled.provider.id.clone(), Arc::clone(model)))
    };
    let targets: Vec<_> = ordered
        .iter()
        .filter_map(chat)
        .zip(0..)
        .map(|((provider, model), tier)| TargetPlan { provider, model, weight: 1, tier })
        .collect();
    (!targets.is_empty()).then(|| RoutePlan {
        name: RouteName::new(DEFAULT_ROUTE),
        targets,
        // One key is enough to begin with, and then there is nobody to race.
        conduct: Conduct { hedge: None, ..file.defaults.conduct() },
        degrade: DegradeSettings::default(),
        sticky: false,
        cache: RouteCacheSettings::default(),
    })
}

/// What a short conversation costs, in 1e-12 US dollars. A model without a price comes last.
fn price_of_a_try(model: &Model) -> u128 {
    model.prices.map_or(u128::MAX, |prices| {
        prices.rates.input.pico_usd(3) + prices.rates.output.pico_usd(1)
    })
}
