//! Stage two: a draft to a checked configuration, with every cross reference resolved.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use super::conduct::Conduct;
use super::draft::{Draft, Source};
use super::embedders;
use super::limits::{self, Named};
use super::providers::{self, Enabled};
use super::routes::{self, RoutePlan};
use super::settings::{AdmissionSettings, KeepAliveSettings, ServerSettings, TelemetrySettings};
use super::snapshot::Settings;
use super::suites::{self, FileSuites};
use crate::callers::AuthMode;
use crate::catalog::{Catalog, placeholder};
use crate::cluster::{ClusterSettings, RedisUrl};
use crate::ids::ProviderId;
use crate::problems::{Document, KeyPath, Problems, nearest};
use crate::prompt::Prompts;
use crate::quota::Rule;
use crate::store::StoreUrl;

/// The longest that a request may be made to wait for its turn.
const MAX_WAIT: Duration = Duration::from_secs(60);

/// A configuration in which everything that is named exists.
#[derive(Debug)]
pub(super) struct Config {
    pub(super) settings: Settings,
    pub(super) catalog: Arc<Catalog>,
    pub(super) providers: BTreeMap<ProviderId, Enabled>,
    pub(super) routes: Vec<RoutePlan>,
    pub(super) limits: Vec<Arc<Rule>>,
    pub(super) defaults: Conduct,
    pub(super) prompts: Prompts,
    pub(super) suites: FileSuites,
    pub(super) notes: Vec<String>,
    pub(super) revision: u64,
}

/// What the parts of the check share.
pub(super) struct Checking<'a> {
    pub(super) document: &'a Document,
    pub(super) catalog: &'a Catalog,
    pub(super) source: &'a Source,
    pub(super) problems: &'a mut Problems,
    pub(super) notes: Vec<String>,
}

// === impl Config ===

impl Config {
    /// Reads and checks everything.
    ///
    /// # Errors
    ///
    /// Every problem there is, in the order of files and lines.
    pub(super) fn read(source: &Source, previous: Option<&Prompts>) -> Result<Self, Problems> {
        let mut problems = Problems::new();
        let Draft { document, settings: file, catalog, mut digest } = source.read(&mut problems);
        let prompts = source.read_prompts(previous, &mut digest, &mut problems);
        let suites = source.read_suites(&prompts, &mut digest, &mut problems);
        let mut checking = Checking {
            document: &document,
            catalog: &catalog,
            source,
            problems: &mut problems,
            notes: Vec::new(),
        };
        let settings = Settings {
            server: file.server.clone(),
            auth: file.auth.clone(),
            admission: file.admission.clone(),
            store: file.store.clone(),
            cluster: checking.cluster(&file.cluster),
            telemetry: file.telemetry.clone(),
            journal: file.journal.clone(),
            cache: file.cache.clone(),
            idempotency: file.idempotency.clone(),
            jobs: file.jobs.clone(),
            webhooks: file.webhooks.clone(),
            rollouts: file.rollouts.clone(),
            compat: file.compat.clone(),
            prompts: file.prompts.clone(),
            embedders: file.embedders.clone(),
        };
        checking.settings(&settings);
        let at = KeyPath::root().key("defaults");
        checking.timeouts(&file.defaults.timeouts, &at.key("timeouts"));
        checking.contradictions(&file.defaults.timeouts, &at.key("timeouts"));
        checking.keep_alive(&file.defaults.keep_alive, &at.key("keep_alive"));
        let providers = providers::enabled(&file, &mut checking);
        let routes = routes::plan(&file, &providers, &mut checking);
        let named = Named { providers: &providers, routes: &routes };
        let limits = limits::rules(&file.limits, &named, &mut checking);
        embedders::check(&file.embedders, &providers, &mut checking);
        suites::check(&file.compat, &named, &prompts, &mut checking);
        let mut notes = checking.notes;
        notes.extend(suites::notes(&suites, &prompts));
        if !problems.is_empty() {
            problems.sort();
            return Err(problems);
        }
        for enabled in providers.values() {
            enabled.digest(&mut digest);
        }
        Ok(Self {
            settings,
            catalog: Arc::new(catalog),
            providers,
            routes,
            limits: limits.into_iter().map(Arc::new).collect(),
            defaults: file.defaults.conduct(),
            prompts,
            suites,
            notes,
            revision: revision(digest),
        })
    }
}

// === impl Checking ===

impl Checking<'_> {
    /// Reports a problem of meaning.
    pub(super) fn report(&mut self, key: KeyPath, message: impl Into<String>) {
        self.document.report(self.problems, key, message);
    }

    fn settings(&mut self, settings: &Settings) {
        let root = KeyPath::root();
        self.server(&settings.server, &root.key("server"));
        self.admission(&settings.admission, &root.key("admission"));
        self.store(&settings.store.url, root.key("store").key("url"));
        self.telemetry(&settings.telemetry, &root.key("telemetry"));
        self.section(settings.journal.problems(), &root.key("journal"));
        self.section(settings.cache.problems(), &root.key("cache"));
        self.section(settings.idempotency.problems(), &root.key("idempotency"));
        self.section(settings.jobs.problems(), &root.key("jobs"));
        self.section(settings.webhooks.problems(), &root.key("webhooks"));
        self.section(settings.rollouts.problems(), &root.key("rollouts"));
        self.section(settings.compat.problems(), &root.key("compat"));
    }

    fn server(&mut self, server: &ServerSettings, at: &KeyPath) {
        if server.admin_listen == Some(server.listen) && server.listen.port() != 0 {
            self.report(at.key("admin_listen"), "is the same address as `listen`; leave it out");
        }
        self.within(server.request_body_limit.0, 1_000, 1 << 30, "1KB to 1GiB", || {
            at.key("request_body_limit")
        });
        self.within(server.request_head_limit.0, 4_096, 1 << 20, "4KiB to 1MiB", || {
            at.key("request_head_limit")
        });
        self.not_zero(server.head_read_timeout.0, || at.key("head_read_timeout"));
        self.not_zero(server.idle_timeout.0, || at.key("idle_timeout"));
        self.not_zero(server.request_read_timeout.0, || at.key("request_read_timeout"));
    }

    fn admission(&mut self, admission: &AdmissionSettings, at: &KeyPath) {
        self.within(u64::from(admission.max_in_flight), 1, 1_000_000, "1 to 1000000", || {
            at.key("max_in_flight")
        });
        if admission.max_wait.0 > MAX_WAIT {
            self.report(at.key("max_wait"), "must be at most 60s");
        }
    }

    fn store(&mut self, url: &str, at: KeyPath) {
        if let Err(error) = url.parse::<StoreUrl>() {
            self.report(at, error.to_string());
        }
    }

    /// The section with its placeholders filled.
    fn cluster(&mut self, cluster: &ClusterSettings) -> ClusterSettings {
        let at = KeyPath::root().key("cluster");
        let environment = &self.source.environment;
        let filled = cluster.url.as_ref().map(|url| {
            placeholder::fill(url.reveal(), |name| {
                environment.get(name).ok_or_else(|| name.to_owned())
            })
        });
        match filled.transpose() {
            Ok(url) => {
                let settings = ClusterSettings { url: url.map(RedisUrl::new), ..cluster.clone() };
                for (key, message) in settings.problems() {
                    self.report(at.key(key), message);
                }
                settings
            }
            Err(error) => {
                self.report(at.key("url"), error.to_string());
                cluster.clone()
            }
        }
    }

    fn telemetry(&mut self, telemetry: &TelemetrySettings, at: &KeyPath) {
        const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
        for part in telemetry.log.split(',') {
            let level = part.rsplit_once('=').map_or(part, |(_, level)| level).trim();
            if LEVELS.contains(&level) {
                continue;
            }
            let near = nearest(level, LEVELS)
                .map_or(String::new(), |near| format!(" (did you mean {near:?}?)"));
            let levels = LEVELS.join(", ");
            self.report(at.key("log"), format!("{level:?} is not one of {levels}{near}"));
        }
    }

    /// Reports what a section says of itself.
    fn section(&mut self, problems: Vec<(&'static str, &'static str)>, at: &KeyPath) {
        for (key, message) in problems {
            self.report(at.key(key), message);
        }
    }

    /// Checks what the types of timeouts cannot rule out.
    pub(super) fn timeouts(&mut self, timeouts: &super::settings::TimeoutSettings, at: &KeyPath) {
        self.not_zero(timeouts.connect.0, || at.key("connect"));
        self.not_zero(timeouts.first_token.0, || at.key("first_token"));
        self.not_zero(timeouts.between_tokens.0, || at.key("between_tokens"));
        self.not_zero(timeouts.total.0, || at.key("total"));
    }

    /// Checks that comments which are asked for can be sent.
    pub(super) fn keep_alive(&mut self, settings: &KeepAliveSettings, at: &KeyPath) {
        if settings.before_first_token && settings.every.0.is_zero() {
            let message = "has no effect, because `every = \"0s\"` means that no comments are sent; \
                           give `every` a time or leave this out";
            self.report(at.key("before_first_token"), message);
        }
    }

    fn not_zero(&mut self, duration: Duration, at: impl FnOnce() -> KeyPath) {
        if duration.is_zero() {
            self.report(at(), "must be more than 0s");
        }
    }

    fn within(
        &mut self,
        value: u64,
        least: u64,
        most: u64,
        range: &str,
        at: impl FnOnce() -> KeyPath,
    ) {
        if value < least || value > most {
            self.report(at(), format!("must be {range}"));
        }
    }
}

/// Whether the gateway may start to listen: a gateway that asks for no key must not be reachable
/// from other machines by accident.
///
/// # Errors
///
/// A sentence that says what to do about it.
pub fn may_listen(
    mode: AuthMode,
    addresses: impl IntoIterator<Item = SocketAddr>,
    any_key_exists: bool,
) -> Result<(), String> {
    if mode != AuthMode::Auto || any_key_exists {
        return Ok(());
    }
    match addresses.into_iter().find(|address| !address.ip().is_loopback()) {
        None => Ok(()),
        Some(address) => Err(format!(
            "{address} can be reached from other machines and there is no key yet, so anyone could \
             use the gateway; listen on 127.0.0.1 first and make a key there with `tidegate keys \
             create`, or set auth.mode = \"keys\" to be closed from the start, or \"open\" if that \
             is meant"
        )),
    }
}

/// The first 48 bits of the digest: enough to tell configurations apart, and exact as a JSON number
/// and as a metric.
fn revision(digest: Sha256) -> u64 {
    digest.finalize().iter().take(6).fold(0, |revision, byte| revision << 8 | u64::from(*byte))
}
