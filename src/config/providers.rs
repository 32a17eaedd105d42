//! Which providers are on, and with which credentials.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use http::{HeaderName, HeaderValue};
use sha2::{Digest as _, Sha256};

use super::check::Checking;
use super::credentials::{Credential, auth_header, credentials};
use super::patch::Patch;
use super::secret::Secret;
use super::sections::{FileSettings, ProviderSettings};
use super::snapshot::Endpoint;
use crate::catalog::{AuthScheme, BaseUrl, Model, Provider, RateHeaders, file, placeholder};
use crate::dialect::{Dialect, Quirks};
use crate::ids::{EndpointId, ProviderId};
use crate::problems::{KeyPath, nearest};

/// A provider that is on: its facts with what the configuration overrides, and an endpoint for
/// each credential.
#[derive(Debug)]
pub(super) struct Enabled {
    pub(super) provider: Arc<Provider>,
    pub(super) endpoints: Vec<Endpoint>,
}

/// The provider that is on when nothing else is.
const SIMULATED: &str = "sim";

// === impl Enabled ===

impl Enabled {
    /// Adds what is not in any file to the digest of the configuration.
    pub(super) fn digest(&self, digest: &mut Sha256) {
        for endpoint in &self.endpoints {
            digest.update(format!("{}\n{}\n", endpoint.id, endpoint.base));
            if let Some((name, value)) = &endpoint.auth_header {
                digest.update(name.as_str());
                digest.update(value.as_bytes());
            }
        }
    }
}

/// The providers that are on: those the file names, else those whose keys are in the environment,
/// else the simulated one.
pub(super) fn enabled(
    file: &FileSettings,
    checking: &mut Checking<'_>,
) -> BTreeMap<ProviderId, Enabled> {
    if checking.document.mentions(&KeyPath::root().key("providers")) {
        return named(file, checking);
    }
    let mut enabled = BTreeMap::new();
    let catalog = checking.catalog;
    for (id, provider) in &catalog.providers {
        if let Some(on) = by_environment(provider, file, checking) {
            enabled.insert(id.clone(), on);
        }
    }
    if enabled.is_empty()
        && let Some(provider) = catalog.providers.get(SIMULATED)
        && let Ok(base) = provider.base_url.parse()
    {
        let endpoint = endpoint(provider, &base, 0, "none", None);
        let on = Enabled { provider: Arc::clone(provider), endpoints: vec![endpoint] };
        enabled.insert(provider.id.clone(), on);
    }
    enabled
}

/// A built-in provider, if its key is in the environment. What else it lacks is a note, not a
/// problem: a key may be there for another program.
fn by_environment(
    provider: &Arc<Provider>,
    file: &FileSettings,
    checking: &mut Checking<'_>,
) -> Option<Enabled> {
    let environment = &checking.source.environment;
    let name = provider.key_env.iter().find(|name| environment.get(name).is_some())?;
    let off = |why: String| format!("{} stays off though {name} is set: {why}", provider.id);
    let key = environment.get(name)?;
    let url =
        base_url_variable(&provider.id, checking).unwrap_or_else(|| provider.base_url.clone());
    let base = match resolve_base_url(&url, checking) {
        Ok(base) => base,
        Err(why) => {
            checking.notes.push(off(why));
            return None;
        }
    };
    if is_own_address(&base, file.server.listen) {
        checking.notes.push(off(format!("{base} is this gateway itself")));
        return None;
    }
    let Ok(header) = auth_header(&provider.auth, &Secret::new(&key)) else {
        checking.notes.push(off("its value cannot be sent in a header".to_owned()));
        return None;
    };
    let endpoint = endpoint(provider, &base, 0, &format!("env {name}"), header);
    Some(Enabled { provider: Arc::clone(provider), endpoints: vec![endpoint] })
}

/// The providers that the file names.
fn named(file: &FileSettings, checking: &mut Checking<'_>) -> BTreeMap<ProviderId, Enabled> {
    let mut enabled = BTreeMap::new();
    for (id, settings) in &file.providers {
        let at = KeyPath::root().key("providers").key(id);
        let known = checking.catalog.providers.get(id.as_str()).map(Arc::clone);
        let provider = match known {
            Some(known) => overridden(&known, settings, &at, checking),
            None => match own(id, settings, &at, checking) {
                Some(own) => own,
                None => continue,
            },
        };
        let base = base_url(&provider, settings, &at, checking);
        let credentials = credentials(&provider, settings, &at, checking);
        let Some(base) = base else { continue };
        if is_own_address(&base, file.server.listen) {
            checking.report(at.key("base_url"), format!("{base} is this gateway itself"));
        }
        let endpoints = endpoints(&provider, &base, &credentials, checking);
        enabled.insert(provider.id.clone(), Enabled { provider: Arc::new(provider), endpoints });
    }
    check_replacements(file, &enabled, checking);
    enabled
}

/// Reports replacements of models that the file adds which nobody knows.
fn check_replacements(
    file: &FileSettings,
    enabled: &BTreeMap<ProviderId, Enabled>,
    checking: &mut Checking<'_>,
) {
    let catalog = checking.catalog;
    let own = enabled.values().map(|enabled| &*enabled.provider);
    let known: Vec<_> = own.chain(catalog.providers.values().map(|known| &**known)).collect();
    for (id, settings) in &file.providers {
        let Some(Enabled { provider, .. }) = enabled.get(id.as_str()) else { continue };
        for (index, model) in settings.models.iter().enumerate() {
            let model = provider.model(&model.id);
            if let Some(problem) = model.and_then(|it| it.replacement_problem(provider, &known)) {
                let at = KeyPath::root().key("providers").key(id).key("models").index(index);
                checking.report(at.key("replacement"), problem);
            }
        }
    }
}

/// A built-in provider with what the file says differently.
fn overridden(
    known: &Provider,
    settings: &ProviderSettings,
    at: &KeyPath,
    checking: &mut Checking<'_>,
) -> Provider {
    let mut provider = known.clone();
    let document = checking.document;
    let problems = &mut *checking.problems;
    if let Some(dialect) = settings.dialect.filter(|dialect| *dialect != known.dialect) {
        provider.dialect = dialect;
        provider.auth = AuthScheme::of(dialect);
    }
    if let Some(auth) = settings.auth.as_deref() {
        provider.auth =
            file::auth(Some(auth), provider.dialect, &at.key("auth"), document, problems);
    }
    provider.headers.extend(file::headers(
        &settings.headers,
        &at.key("headers"),
        document,
        problems,
    ));
    if let Some(names) = &settings.rate_headers {
        provider.rate_headers =
            file::rate_headers(names, &at.key("rate_headers"), document, problems);
    }
    provider.quirks = settings.quirks.over(&known.quirks);
    provider.name = settings.name.clone().unwrap_or(provider.name);
    provider.open_models = settings.open_models.unwrap_or(known.open_models);
    let facts = ("", "");
    for model in file::models(&settings.models, facts, &at.key("models"), document, problems) {
        place(&mut provider.models, model);
    }
    provider
}

/// A provider that only the file knows.
fn own(
    id: &str,
    settings: &ProviderSettings,
    at: &KeyPath,
    checking: &mut Checking<'_>,
) -> Option<Provider> {
    let (Some(dialect), Some(base_url)) = (settings.dialect, settings.base_url.as_ref()) else {
        let unread = |key| checking.document.is_broken(&at.key(key));
        if !unread("dialect") && !unread("base_url") {
            let message = unknown_provider(id, settings, checking);
            checking.document.report_whole(checking.problems, at.clone(), message);
        }
        return None;
    };
    if let Some(message) = file::id_problem(id) {
        checking.document.report_whole(checking.problems, at.clone(), message);
    }
    let bare = bare_provider(id, dialect, base_url);
    let mut provider = overridden(&bare, settings, at, checking);
    provider.open_models = settings.open_models.unwrap_or(settings.models.is_empty());
    Some(provider)
}

fn bare_provider(id: &str, dialect: Dialect, base_url: &str) -> Provider {
    Provider {
        id: ProviderId::new(id),
        name: id.to_owned(),
        dialect,
        base_url: base_url.to_owned(),
        key_env: Vec::new(),
        auth: AuthScheme::of(dialect),
        headers: http::HeaderMap::new(),
        rate_headers: RateHeaders::default(),
        quirks: Patch::<Quirks>::default().over(&Quirks::default()),
        open_models: false,
        models: Vec::new(),
        source: String::new(),
        as_of: String::new(),
    }
}

fn unknown_provider(id: &str, settings: &ProviderSettings, checking: &Checking<'_>) -> String {
    let known = checking.catalog.providers.keys().map(ProviderId::as_str);
    match (nearest(id, known), settings.dialect, &settings.base_url) {
        (_, Some(_), None) => "a provider of your own needs a `base_url`".to_owned(),
        (_, None, Some(_)) => "a provider of your own needs a `dialect`".to_owned(),
        (Some(near), ..) => format!("unknown provider {id:?} (did you mean {near:?}?)"),
        (None, ..) => {
            format!("unknown provider {id:?}; one of your own needs a `dialect` and a `base_url`")
        }
    }
}

fn place(models: &mut Vec<Arc<Model>>, model: Arc<Model>) {
    match models.iter_mut().find(|known| known.name == model.name) {
        Some(known) => *known = model,
        None => models.push(model),
    }
}

fn base_url(
    provider: &Provider,
    settings: &ProviderSettings,
    at: &KeyPath,
    checking: &mut Checking<'_>,
) -> Option<BaseUrl> {
    let url = settings
        .base_url
        .clone()
        .or_else(|| base_url_variable(&provider.id, checking))
        .unwrap_or_else(|| provider.base_url.clone());
    match resolve_base_url(&url, checking) {
        Ok(base) => Some(base),
        Err(message) => {
            checking.report(at.key("base_url"), message);
            None
        }
    }
}

/// `OPENAI_BASE_URL` for `openai`, `LOCAL_VLLM_BASE_URL` for `local-vllm`.
fn base_url_variable(id: &ProviderId, checking: &Checking<'_>) -> Option<String> {
    let name = format!("{}_BASE_URL", id.as_str().to_ascii_uppercase().replace('-', "_"));
    checking.source.environment.get(&name)
}

fn resolve_base_url(url: &str, checking: &Checking<'_>) -> Result<BaseUrl, String> {
    let environment = &checking.source.environment;
    placeholder::fill(url, |name| environment.get(name).ok_or_else(|| name.to_owned()))
        .map_err(|error| error.to_string())?
        .parse::<BaseUrl>()
        .map_err(|error| error.to_string())
}

/// Whether a provider would be asked at the gateway's own address, which happens when a variable
/// meant for clients of the gateway is set for the gateway, too.
fn is_own_address(base: &BaseUrl, listen: SocketAddr) -> bool {
    let host = &*base.origin.host;
    let here = host == "localhost"
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|ip| ip.is_loopback() || ip.is_unspecified() || ip == listen.ip());
    !base.origin.sim && here && base.origin.port == listen.port()
}

fn endpoints(
    provider: &Provider,
    base: &BaseUrl,
    credentials: &[Credential],
    checking: &mut Checking<'_>,
) -> Vec<Endpoint> {
    let mut endpoints = Vec::with_capacity(credentials.len());
    for (index, credential) in credentials.iter().enumerate() {
        let header = match &credential.key {
            None => Ok(None),
            Some(key) => auth_header(&provider.auth, key),
        };
        let Ok(header) = header else {
            let message = format!("the key ({}) cannot be sent in a header", credential.from);
            checking.report(credential.at.clone(), message);
            continue;
        };
        endpoints.push(endpoint(provider, base, index, &credential.from, header));
    }
    endpoints
}

fn endpoint(
    provider: &Provider,
    base: &BaseUrl,
    index: usize,
    credential: &str,
    auth_header: Option<(HeaderName, HeaderValue)>,
) -> Endpoint {
    let id = match index {
        0 => EndpointId::new(provider.id.as_str()),
        _ => EndpointId::new(format!("{}#{}", provider.id, index + 1)),
    };
    Endpoint {
        id,
        provider: provider.id.clone(),
        dialect: provider.dialect,
        base: base.clone(),
        credential: credential.into(),
        auth_header,
        headers: provider.headers.clone(),
        quirks: provider.quirks.clone(),
        rate_headers: provider.rate_headers.clone(),
    }
}
