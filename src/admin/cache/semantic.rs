//! What `/admin/v1/cache` shows of answers that are given to other words.

use serde::Serialize;

use super::AdminState;
use crate::cache::RouteCache;
use crate::config::Snapshot;
use crate::meaning::{Counts, Domain, Fill, LessonFigures, Meanings, Terms};
use crate::semantic::threshold::Mode;
use crate::units::MicroUsd;

/// Answers that are found by their meaning, and what was learnt of them.
#[derive(Debug, Serialize)]
pub(super) struct SemanticView {
    entries: u64,
    bytes: u64,
    max_bytes: u64,
    store: WritesView,
    /// By route and tenant.
    domains: Vec<DomainView>,
}

/// What became of answers in the store.
#[derive(Debug, Default, Serialize)]
struct WritesView {
    written: u64,
    dropped: u64,
    failed: u64,
}

/// What was learnt of one tenant's requests of one route.
#[derive(Debug, Serialize)]
struct DomainView {
    route: String,
    tenant: TenantView,
    /// Whether the route is still the one of which it was learnt.
    current: bool,
    mode: &'static str,
    threshold: Option<f64>,
    /// Of errors per hit, with 95 % confidence.
    bound: Option<f64>,
    labels: u64,
    labels_needed: Option<u64>,
    /// Labels at the threshold or above, of all where there is none.
    seen: u64,
    wrong: u64,
    audited: Option<AuditedView>,
    alarms: u64,
    #[serde(flatten)]
    counts: CountsView,
    embedder_space: String,
    judge: String,
    max_error: f64,
}

#[derive(Debug, Serialize)]
struct TenantView {
    /// `team` or `key`.
    kind: String,
    id: String,
}

#[derive(Debug, Serialize)]
struct AuditedView {
    hits: u64,
    errors: u64,
    /// With 95 % confidence.
    error_bound: f64,
}

/// What this node has counted since it was started.
#[derive(Debug, Serialize)]
struct CountsView {
    hits: u64,
    not_given: u64,
    labelled: u64,
    unjudged: u64,
    lost_labels: u64,
    saved_usd: String,
    judging_usd: String,
    embedding_usd: String,
    /// May be negative.
    net_saved_usd: String,
}

// === impl SemanticView ===

impl SemanticView {
    pub(super) fn of(state: &AdminState) -> Self {
        let (meanings, snapshot) = (&state.meanings, state.snapshot.load());
        let Fill { entries, bytes, max_bytes } = meanings.fill();
        let figures = meanings.figures().into_iter();
        let domains = figures.map(|figures| DomainView::of(figures, &snapshot, meanings)).collect();
        Self { entries, bytes, max_bytes, store: WritesView::of(meanings), domains }
    }
}

// === impl WritesView ===

impl WritesView {
    fn of(meanings: &Meanings) -> Self {
        let mut view = Self::default();
        for (word, count) in meanings.writes() {
            match word {
                "written" => view.written = count,
                "dropped" => view.dropped = count,
                _ => view.failed = count,
            }
        }
        view
    }
}

// === impl DomainView ===

impl DomainView {
    fn of(figures: LessonFigures, snapshot: &Snapshot, meanings: &Meanings) -> Self {
        let Terms { route, tenant, space, judge, settings, .. } = &figures.domain.terms;
        let cache = snapshot.resolve(route.as_str()).ok().and_then(|route| route.cache.clone());
        let cache = cache.filter(|cache| is_of(&figures.domain, cache, meanings));
        let only_shadow = cache.as_ref().is_some_and(|cache| cache.settings.shadow);
        let (threshold, bound) = match figures.mode {
            Mode::Shadow => (None, None),
            Mode::Serve { threshold, bound } => (Some(threshold), Some(at_most(bound))),
        };
        let mode = match (figures.mode, only_shadow, figures.is_suspended) {
            (Mode::Shadow, ..) | (Mode::Serve { .. }, true, _) => "shadow",
            (Mode::Serve { .. }, false, true) => "suspended",
            (Mode::Serve { .. }, false, false) => "serve",
        };
        let (seen, wrong) = figures.seen;
        Self {
            route: route.to_string(),
            tenant: TenantView::of(tenant),
            current: cache.is_some(),
            mode,
            threshold,
            bound,
            labels: figures.labels,
            labels_needed: figures.labels_needed,
            seen,
            wrong,
            audited: figures.audited.map(|(hits, errors, bound)| AuditedView {
                hits,
                errors,
                error_bound: at_most(bound),
            }),
            alarms: figures.alarms,
            counts: CountsView::of(figures.counts),
            embedder_space: space.clone(),
            judge: judge.clone(),
            max_error: settings.delta,
        }
    }
}

/// Whether requests of a route with such a cache learn in this domain, or would for another tenant.
fn is_of(domain: &Domain, cache: &RouteCache, meanings: &Meanings) -> bool {
    let RouteCache { settings, identity, .. } = cache;
    let Terms { space, judge, identity: learnt_of, settings: held_to, .. } = &domain.terms;
    let embedder = meanings.embedder(settings.embedder.as_deref().unwrap_or_default());
    settings.semantic
        && settings.judge.as_deref() == Some(judge)
        && settings.max_error.to_bits() == held_to.delta.to_bits()
        && *learnt_of == format!("{identity:?}")
        // Where there is none, nothing is asked and nothing else is learnt either.
        && embedder.is_none_or(|embedder| embedder.space() == space)
}

/// A bound with four decimals, never below what it was.
fn at_most(bound: f64) -> f64 {
    (bound * 1e4).ceil() / 1e4
}

// === impl TenantView ===

impl TenantView {
    fn of(tenant: &str) -> Self {
        let (kind, id) = tenant.split_once(' ').unwrap_or(("key", tenant));
        Self { kind: kind.to_owned(), id: id.to_owned() }
    }
}

// === impl CountsView ===

impl CountsView {
    fn of(counts: Counts) -> Self {
        let Counts { hits, not_given, labelled, unjudged, lost_labels, .. } = counts;
        let Counts { saved, judging, embedding, .. } = counts;
        Self {
            hits,
            not_given,
            labelled,
            unjudged,
            lost_labels,
            saved_usd: saved.to_usd_string(),
            judging_usd: judging.to_usd_string(),
            embedding_usd: embedding.to_usd_string(),
            net_saved_usd: less(saved, judging + embedding),
        }
    }
}

/// A difference of money, with a sign where it is negative.
fn less(one: MicroUsd, other: MicroUsd) -> String {
    match one.0.checked_sub(other.0) {
        Some(rest) => MicroUsd(rest).to_usd_string(),
        None => format!("-{}", MicroUsd(other.0 - one.0).to_usd_string()),
    }
}
