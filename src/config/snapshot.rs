//! The configuration as requests see it: immutable, complete, indexed by the name that is asked
//! for.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use serde::Serialize;

use super::conduct::{Conduct, DegradeSettings};
use super::embedders::EmbedderSettings;
use super::prompts::PromptSettings;
use super::settings::{
    AdmissionSettings, AuthSettings, KeepAliveSettings, ServerSettings, StoreSettings,
    TelemetrySettings, TimeoutSettings,
};
use super::suites::FileSuites;
use crate::cache::{CacheSettings, RouteCache};
use crate::callers::Caller;
use crate::catalog::{BaseUrl, Catalog, Model, RateHeaders};
use crate::cluster::ClusterSettings;
use crate::dialect::{Dialect, NativePrefill, Quirks};
use crate::idempotency::IdempotencySettings;
use crate::ids::{EndpointId, ProviderId, RouteName, TargetId};
use crate::jobs::{JobSettings, WebhookSettings};
use crate::journal::JournalSettings;
use crate::prompt::Prompts;
use crate::quota::Rule;
use crate::rejection::Rejection;
use crate::rollout::RolloutSettings;
use crate::runs::CompatSettings;

mod candidate;
mod index;

/// One complete, checked configuration. A request pins one at entry and never looks again.
#[derive(Debug)]
pub struct Snapshot {
    /// Changes whenever the configuration does: equal revisions mean equal content.
    pub revision: u64,
    /// What is not about routes and providers.
    pub settings: Settings,
    /// All providers that are known, also those that are not switched on.
    pub catalog: Arc<Catalog>,
    /// What a name stands for: route names, `provider/model`, and bare names that are unique.
    by_name: HashMap<Arc<str>, Arc<Route>>,
    /// Bare model names that several providers serve, with what could be meant.
    ambiguous: HashMap<Arc<str>, Vec<String>>,
    /// All endpoints.
    endpoints: BTreeMap<EndpointId, Arc<Endpoint>>,
    /// Endpoints of providers that serve models beyond their lists.
    open: HashMap<ProviderId, Vec<Arc<Endpoint>>>,
    /// What callers may use, in the order of the names.
    pub limits: Vec<Arc<Rule>>,
    /// What holds where no route says otherwise.
    defaults: Conduct,
    /// What `GET /v1/models` lists, in its order.
    listed: Vec<ListedModel>,
    /// Registered prompts.
    pub prompts: Arc<Prompts>,
    /// The cases beside prompts, by the prompt.
    pub suites: FileSuites,
    /// What an operator should know though it is no problem.
    notes: Vec<String>,
    /// Whether answers of any route are kept.
    pub has_caches: bool,
}

/// The sections that hold for the whole process.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Settings {
    /// `[server]`. Addresses and `worker_threads` take effect at start only.
    pub server: ServerSettings,
    /// `[auth]`.
    pub auth: AuthSettings,
    /// `[admission]`.
    pub admission: AdmissionSettings,
    /// `[store]`. Takes effect at start only.
    pub store: StoreSettings,
    /// `[cluster]`. Takes effect at start only.
    pub cluster: ClusterSettings,
    /// `[telemetry]`. Takes effect at start only.
    pub telemetry: TelemetrySettings,
    /// `[journal]`. Takes effect at start only.
    pub journal: JournalSettings,
    /// `[cache]`. `max_memory` takes effect at start only.
    pub cache: CacheSettings,
    /// `[idempotency]`.
    pub idempotency: IdempotencySettings,
    /// `[jobs]`. `workers` and `lease` take effect at start only.
    pub jobs: JobSettings,
    /// `[webhooks]`.
    pub webhooks: WebhookSettings,
    /// `[rollouts]`.
    pub rollouts: RolloutSettings,
    /// `[compat]`.
    pub compat: CompatSettings,
    /// `[prompts]`. `snapshot` takes effect at start only.
    pub prompts: PromptSettings,
    /// `[embedders]`, by name. Takes effect at start only.
    pub embedders: BTreeMap<String, EmbedderSettings>,
}

/// A name that clients ask for, and where it may be answered.
#[derive(Debug)]
pub struct Route {
    /// The name.
    pub name: RouteName,
    /// Targets by tier, best tier first. There is at least one tier and none is empty.
    pub tiers: Vec<Vec<Arc<Target>>>,
    /// How its requests are treated.
    pub conduct: Conduct,
    /// What a caller gets where no target can serve a request as it was asked.
    pub degrade: DegradeSettings,
    /// Whether requests of one user keep to one target.
    pub sticky: bool,
    /// Which answers are kept; `None` where none are.
    pub cache: Option<Arc<RouteCache>>,
    /// Where it has the candidate of a rollout in it: the name under which its live side is kept.
    pub rolled_as: Option<RouteName>,
}

/// One place to send a request: an endpoint and a model.
#[derive(Debug)]
pub struct Target {
    /// `provider/model`, with `#n` for the n-th credential.
    pub id: TargetId,
    /// Where.
    pub endpoint: Arc<Endpoint>,
    /// What.
    pub model: Arc<Model>,
    /// Its share among the targets of its tier; at least 1. Where a provider has several
    /// credentials, they share the weight that the route gives the model, so that a second key
    /// does not draw more traffic to it.
    pub weight: u32,
    /// Its tier, counted from 0 without gaps.
    pub tier: u32,
}

/// One base URL with one credential: what connections, limits and health belong to. An endpoint
/// that a reload leaves as it was stays the same `Arc`.
#[derive(Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// `provider`, or `provider#n` for the n-th credential.
    pub id: EndpointId,
    /// Whose it is.
    pub provider: ProviderId,
    /// What it speaks.
    pub dialect: Dialect,
    /// Where it is.
    pub base: BaseUrl,
    /// Where the credential came from, such as `env OPENAI_API_KEY`; `none` where there is none.
    pub credential: Arc<str>,
    /// The credential as a header, marked sensitive.
    pub auth_header: Option<(HeaderName, HeaderValue)>,
    /// Headers that every request carries.
    pub headers: HeaderMap,
    /// Where the provider departs from its dialect.
    pub quirks: Quirks,
    /// Names of the response headers that say what is left of the rate limit.
    pub rate_headers: RateHeaders,
}

/// How long each step of a request may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// To connect, the TLS handshake included.
    pub connect: Duration,
    /// From sending an attempt to its first token.
    pub first_token: Duration,
    /// Between two pieces of an answer.
    pub between_tokens: Duration,
    /// For the request and all its attempts.
    pub total: Duration,
}

/// What the caller of a stream hears while the model is silent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeepAlive {
    /// Silence after which a comment is sent; none: never.
    pub every: Option<Duration>,
    /// Whether that holds before the first token too, which commits the reply early.
    pub before_first_token: bool,
}

/// One line of `GET /v1/models`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ListedModel {
    /// What to send as `model`.
    pub id: String,
    /// The provider's id, or `tidegate` for a route.
    pub owned_by: String,
    /// Seconds since 1970: the day its facts were read; for a route the newest of its targets.
    pub created: u64,
}

// === impl Snapshot ===

impl Snapshot {
    /// What `model` stands for: a route, `provider/model`, or a bare model name that exactly one
    /// provider serves, in this order.
    ///
    /// # Errors
    ///
    /// [`Rejection::UnknownModel`] with near names; [`Rejection::Invalid`] where several providers
    /// serve a bare name.
    pub fn resolve(&self, model: &str) -> Result<Arc<Route>, Rejection> {
        if let Some(route) = self.by_name.get(model) {
            return Ok(Arc::clone(route));
        }
        if let Some(route) = self.resolve_open(model) {
            return Ok(Arc::new(route));
        }
        if let Some(candidates) = self.ambiguous.get(model) {
            let candidates: Vec<_> = candidates.iter().map(|name| format!("`{name}`")).collect();
            let candidates = candidates.join(" or ");
            return Err(Rejection::invalid(
                "model",
                format!("several providers serve `{model}`; ask for {candidates}"),
            ));
        }
        Err(self.unknown(model, |_| true))
    }

    /// The same for a caller who may not ask for everything: what it may not ask for does not
    /// exist.
    ///
    /// # Errors
    ///
    /// As [`Snapshot::resolve`].
    pub fn resolve_for(&self, caller: &Caller, model: &str) -> Result<Arc<Route>, Rejection> {
        if caller.may_ask_for_all() {
            return self.resolve(model);
        }
        match self.resolve(model) {
            Ok(route) if self.is_allowed(caller, route.name.as_str()) => Ok(route),
            // Several providers may serve it, and the caller may not know them.
            Ok(_) | Err(_) => Err(self.unknown(model, |name| self.is_allowed(caller, name))),
        }
    }

    /// What a caller can ask for, in the order in which it is listed.
    pub fn models_for<'a>(&'a self, caller: &'a Caller) -> impl Iterator<Item = &'a ListedModel> {
        let all = caller.may_ask_for_all();
        self.models().filter(move |model| all || self.is_allowed(caller, &model.id))
    }

    fn is_allowed(&self, caller: &Caller, name: &str) -> bool {
        // Routes come first in the list.
        let mut routes = self.listed.iter().take_while(|listed| listed.is_route());
        if routes.any(|route| route.id == name) {
            caller.may_use_route(name)
        } else {
            caller.may_use_model(name)
        }
    }

    fn unknown(&self, model: &str, is_shown: impl Fn(&str) -> bool) -> Rejection {
        // A name can be as long as a body; only its start is repeated and compared.
        let model = match model.char_indices().nth(MAX_NAME_CHARS) {
            Some((end, _)) => format!("{}…", model.get(..end).unwrap_or_default()),
            None => model.to_owned(),
        };
        Rejection::UnknownModel { near: self.near(&model, is_shown), model }
    }

    /// What an operator should know though it is no problem: a key that switched nothing on.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// All endpoints, each once, by id.
    pub fn endpoints(&self) -> impl Iterator<Item = &Arc<Endpoint>> {
        self.endpoints.values()
    }

    /// What can be asked for, in the order in which it is listed.
    pub fn models(&self) -> impl Iterator<Item = &ListedModel> {
        self.listed.iter()
    }

    /// All routes, each once, as [`Self::models`] lists them: those of the configuration, then the
    /// models that can be asked for by their own name.
    pub fn routes(&self) -> impl Iterator<Item = (&ListedModel, &Arc<Route>)> {
        self.listed.iter().filter_map(|listed| Some((listed, self.by_name.get(&*listed.id)?)))
    }

    /// Whether a route of the configuration has this model, `provider/model`, among its targets.
    pub fn route_has(&self, route: &str, model: &str) -> bool {
        let is_route = self.listed.iter().any(|listed| listed.is_route() && listed.id == route);
        let route = self.by_name.get(route).filter(|_| is_route);
        let targets = route.iter().flat_map(|route| route.tiers.iter().flatten());
        targets.into_iter().any(|target| target.name_without_credential() == model)
    }

    /// The targets of all routes. One that is of several comes several times.
    pub fn targets(&self) -> impl Iterator<Item = &Arc<Target>> {
        self.by_name.values().flat_map(|route| route.tiers.iter().flatten())
    }

    /// The endpoints of providers that serve models beyond their lists.
    pub fn open_endpoints(&self) -> impl Iterator<Item = &Arc<Endpoint>> {
        self.open.values().flatten()
    }

    /// A model that a provider serves though its file does not list it.
    fn resolve_open(&self, model: &str) -> Option<Route> {
        let (provider, name) = model.split_once('/')?;
        let endpoints = self.open.get(provider).filter(|_| is_model_name(name))?;
        let model = Arc::new(Model::unlisted(name));
        let targets = endpoints
            .iter()
            .map(|endpoint| Arc::new(Target::new(endpoint, &model, 1, 0)))
            .collect();
        let name = RouteName::new(format!("{provider}/{name}"));
        Some(Route::of_model(name, vec![targets], self.defaults))
    }

    /// Up to three names that could have been meant, nearest first.
    fn near(&self, model: &str, is_shown: impl Fn(&str) -> bool) -> Vec<String> {
        let model = model.to_lowercase();
        let names = self.by_name.keys().filter(|name| is_shown(name));
        let mut near: Vec<_> =
            names.filter_map(|name| Some((distance(&model, name)?, name))).collect();
        near.sort();
        near.truncate(3);
        near.into_iter().map(|(_, name)| name.to_string()).collect()
    }
}

// === impl ListedModel ===

impl ListedModel {
    /// Whether it is a route of the configuration and not a model of a provider.
    pub fn is_route(&self) -> bool {
        self.owned_by == TIDEGATE
    }
}

// === impl Route ===

impl Route {
    /// The route of a model that is asked for by its own name.
    fn of_model(name: RouteName, tiers: Vec<Vec<Arc<Target>>>, defaults: Conduct) -> Self {
        let mut domains = tiers.iter().flatten().map(|target| &target.endpoint.id);
        // One key has nobody to race against.
        let several = domains.next().is_some() && domains.next().is_some();
        let hedge = defaults.hedge.filter(|_| several);
        let conduct = Conduct { hedge, ..defaults };
        let degrade = DegradeSettings::default();
        Self { name, tiers, conduct, degrade, sticky: false, cache: None, rolled_as: None }
    }
}

// === impl Endpoint ===

impl Endpoint {
    /// The credential itself, to be found where it must not be.
    pub fn secret(&self) -> Option<&str> {
        let (_, value) = self.auth_header.as_ref()?;
        let value = value.to_str().ok()?;
        Some(value.strip_prefix("Bearer ").unwrap_or(value))
    }
}

// === impl Target ===

impl Target {
    /// A model at an endpoint.
    pub fn new(endpoint: &Arc<Endpoint>, model: &Arc<Model>, weight: u32, tier: u32) -> Self {
        let provider = &endpoint.provider;
        let id = match endpoint.id.as_str().split_once('#') {
            Some((_, nth)) => TargetId::new(format!("{provider}/{}#{nth}", model.name)),
            None => TargetId::new(format!("{provider}/{}", model.name)),
        };
        Self { id, endpoint: Arc::clone(endpoint), model: Arc::clone(model), weight, tier }
    }

    /// `provider/model`, whichever credential it is.
    pub fn name_without_credential(&self) -> &str {
        let id = self.id.as_str();
        id.split_once('#').map_or(id, |(name, _)| name)
    }

    /// How it goes on from an answer that was begun.
    pub fn native_prefill(&self) -> NativePrefill {
        self.model.native_prefill.unwrap_or(self.endpoint.quirks.native_prefill)
    }
}

// === impl Timeouts ===

impl From<&TimeoutSettings> for Timeouts {
    fn from(settings: &TimeoutSettings) -> Self {
        Self {
            connect: settings.connect.0,
            first_token: settings.first_token.0,
            between_tokens: settings.between_tokens.0,
            total: settings.total.0,
        }
    }
}

// === impl KeepAlive ===

impl From<&KeepAliveSettings> for KeepAlive {
    fn from(settings: &KeepAliveSettings) -> Self {
        Self {
            every: Some(settings.every.0).filter(|every| !every.is_zero()),
            before_first_token: settings.before_first_token,
        }
    }
}

/// How far apart two names are, where they are near enough for one to be a slip for the other. A
/// name that begins with what was asked for is near, too: `gpt-5` for `gpt-5-mini`.
fn distance(asked: &str, name: &str) -> Option<usize> {
    let name = name.to_lowercase();
    let apart = strsim::damerau_levenshtein(asked, &name);
    let begun = asked.len() >= 3 && name.starts_with(asked);
    (begun || apart <= (name.chars().count() / 3).max(1)).then_some(apart)
}

/// Who owns a route.
const TIDEGATE: &str = "tidegate";

/// The longest name of a model that is taken or repeated.
const MAX_NAME_CHARS: usize = 256;

/// Whether a name that no file lists may be asked for. It goes into bodies and, on some wires, into
/// the path of a request that carries our credential: it must not be able to name another path.
fn is_model_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:/@+~=,".contains(&byte);
    let is_step = |segment: &str| matches!(segment, "" | "." | "..");
    name.len() <= MAX_NAME_CHARS && name.bytes().all(allowed) && !name.split('/').any(is_step)
}
