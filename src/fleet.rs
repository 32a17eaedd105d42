//! The live side of every target: what changes while requests run.
//!
//! This is the only module that feeds policies. Ranks, breakers and limits of a target live here
//! when they come; for now it counts what is in flight and how attempts end.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use arc_swap::ArcSwap;

use crate::clock::Instant;
use crate::config::Target;
use crate::failure::FailureKind;
use crate::ids::TargetId;
use crate::policy::order;
use crate::telemetry::{Metrics, TargetMetrics};

/// Stands for all models that a provider serves without listing them.
const UNLISTED: &str = "(unlisted)";

/// Every target that was ever tried.
#[derive(Debug)]
pub struct Fleet {
    /// Read by each attempt and copied when a target is new, so that reading takes no lock.
    live: ArcSwap<HashMap<TargetId, Arc<TargetLive>>>,
    metrics: Arc<Metrics>,
}

/// The live side of one target.
#[derive(Debug)]
pub struct TargetLive {
    /// Which one.
    pub id: TargetId,
    /// Its metrics.
    pub metrics: TargetMetrics,
    in_flight: AtomicU32,
    attempts: AtomicU64,
    failures: AtomicU64,
}

/// The right to one attempt on a target.
///
/// A ticket that is dropped unsettled counts as abandoned, so that a caller who leaves can leak
/// nothing.
#[must_use]
#[derive(Debug)]
pub struct Ticket {
    live: Arc<TargetLive>,
    started: Instant,
    settled: bool,
}

/// How a target has fared since the start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetCounts {
    /// Which one.
    pub id: TargetId,
    /// Attempts under way.
    pub in_flight: u32,
    /// Attempts that ended, however.
    pub attempts: u64,
    /// Those that failed.
    pub failures: u64,
}

// === impl Fleet ===

impl Fleet {
    /// No targets yet.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self { live: ArcSwap::default(), metrics }
    }

    /// The order in which to try the targets of `tiers`.
    pub fn order(&self, tiers: &[Vec<Arc<Target>>]) -> Vec<Arc<Target>> {
        if let [tier] = tiers
            && let [only] = &tier[..]
        {
            return vec![Arc::clone(only)];
        }
        let weights: Vec<Vec<u32>> =
            tiers.iter().map(|tier| tier.iter().map(|target| target.weight).collect()).collect();
        let mut rng = rand::rng();
        let places =
            order::draw(weights.iter().map(Vec::as_slice), || rand::RngExt::random(&mut rng));
        places
            .into_iter()
            .filter_map(|place| tiers.get(place.tier)?.get(place.index).cloned())
            .collect()
    }

    /// Admits one attempt.
    pub fn admit(&self, target: &Target, now: Instant) -> Ticket {
        let live = self.live_of(target);
        live.in_flight.fetch_add(1, Ordering::Relaxed);
        live.metrics.in_flight.inc();
        Ticket { live, started: now, settled: false }
    }

    /// How all targets have fared.
    pub fn counts(&self) -> Vec<TargetCounts> {
        let mut counts: Vec<_> = self.live.load().values().map(|live| live.counts()).collect();
        counts.sort_by(|a, b| a.id.cmp(&b.id));
        counts
    }

    /// Attempts under way on all targets.
    pub fn in_flight(&self) -> u64 {
        self.live.load().values().map(|live| u64::from(live.counts().in_flight)).sum()
    }

    fn live_of(&self, target: &Target) -> Arc<TargetLive> {
        if target.model.listed {
            return self.live_under(&target.id, target, target.model.name.as_str());
        }
        // A provider that serves any model lets callers make up names, and neither memory nor the
        // labels of metrics may grow with them: what is not listed is counted together.
        let together = TargetId::new(format!("{}/{UNLISTED}", target.endpoint.id));
        self.live_under(&together, target, UNLISTED)
    }

    fn live_under(&self, id: &TargetId, target: &Target, model: &str) -> Arc<TargetLive> {
        if let Some(live) = self.live.load().get(id) {
            return Arc::clone(live);
        }
        let provider = target.endpoint.provider.as_str();
        let metrics = self.metrics.target(provider, model, id.as_str());
        let fresh = Arc::new(TargetLive {
            id: id.clone(),
            metrics,
            in_flight: AtomicU32::new(0),
            attempts: AtomicU64::new(0),
            failures: AtomicU64::new(0),
        });
        self.live.rcu(|live| {
            let mut live = HashMap::clone(live);
            live.entry(id.clone()).or_insert_with(|| Arc::clone(&fresh));
            live
        });
        // Another request may have been first: then its entry is the one that counts.
        self.live.load().get(id).map_or(fresh, Arc::clone)
    }
}

// === impl TargetLive ===

impl TargetLive {
    fn counts(&self) -> TargetCounts {
        TargetCounts {
            id: self.id.clone(),
            in_flight: self.in_flight.load(Ordering::Relaxed),
            attempts: self.attempts.load(Ordering::Relaxed),
            failures: self.failures.load(Ordering::Relaxed),
        }
    }
}

// === impl Ticket ===

impl Ticket {
    /// The target's metrics.
    pub fn metrics(&self) -> &TargetMetrics {
        &self.live.metrics
    }

    /// When the attempt began.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// Notes the first token.
    pub fn on_first_token(&self, now: Instant) {
        let waited = now.saturating_duration_since(self.started);
        self.live.metrics.first_token_seconds.observe(waited.as_secs_f64());
    }

    /// Settles an attempt that answered completely.
    pub fn succeed(mut self, now: Instant) {
        self.settled = true;
        let lasted = now.saturating_duration_since(self.started);
        self.live.metrics.duration_seconds.observe(lasted.as_secs_f64());
        self.live.metrics.succeeded();
    }

    /// Settles an attempt that failed.
    pub fn fail(mut self, kind: FailureKind) {
        self.settled = true;
        self.live.failures.fetch_add(1, Ordering::Relaxed);
        self.live.metrics.ended(kind.as_str());
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.live.in_flight.fetch_sub(1, Ordering::Relaxed);
        self.live.metrics.in_flight.dec();
        self.live.attempts.fetch_add(1, Ordering::Relaxed);
        if !self.settled {
            self.live.metrics.ended("client_gone");
        }
    }
}
