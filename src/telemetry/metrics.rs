//! All metrics, by name, served as Prometheus text.
//!
//! Labels come from closed sets: configured targets, endpoints, outcomes. The children that a
//! request touches are looked up once, when its target is first seen, so that counting is an atomic
//! addition.

use std::fmt;

use prometheus::proto::MetricFamily;
use prometheus::{Registry, TextEncoder};

pub use self::cache::CacheMetrics;
pub use self::compat::CompatMetrics;
pub use self::feedback::FeedbackMetrics;
pub use self::gates::{GateFamilies, GateMetrics};
pub use self::jobs::JobMetrics;
pub use self::limits::LimitMetrics;
pub use self::models::ModelMetrics;
pub use self::process::ProcessMetrics;
pub use self::prompts::PromptMetrics;
pub use self::requests::RequestMetrics;
pub use self::rollouts::RolloutMetrics;
pub use self::semantic::SemanticMetrics;
pub use self::targets::{TargetFamilies, TargetMetrics};

mod cache;
mod compat;
mod feedback;
mod gates;
mod jobs;
mod limits;
mod models;
mod process;
mod prompts;
mod register;
mod requests;
mod rollouts;
mod semantic;
mod targets;

/// Every metric of the process.
pub struct Metrics {
    registry: Registry,
    /// Of requests, whoever serves them.
    pub requests: RequestMetrics,
    /// Of targets and endpoints.
    pub targets: TargetFamilies,
    /// Of gates.
    pub gates: GateFamilies,
    /// Of jobs and webhooks.
    pub jobs: JobMetrics,
    /// Of callers' limits.
    pub limits: LimitMetrics,
    /// Of the cache.
    pub cache: CacheMetrics,
    /// Of semantic caches.
    pub semantic: SemanticMetrics,
    /// Of registered prompts.
    pub prompts: PromptMetrics,
    /// Of feedback.
    pub feedback: FeedbackMetrics,
    /// Of models that are taken out of service.
    pub models: ModelMetrics,
    /// Of compatibility runs.
    pub compat: CompatMetrics,
    /// Of progressive rollouts.
    pub rollouts: RolloutMetrics,
    /// Of the process itself.
    pub process: ProcessMetrics,
}

// === impl Metrics ===

impl Metrics {
    /// All metrics, at zero.
    pub fn new() -> Self {
        let registry = Registry::new();
        Self {
            requests: RequestMetrics::new(&registry),
            targets: TargetFamilies::new(&registry),
            gates: GateFamilies::new(&registry),
            jobs: JobMetrics::new(&registry),
            limits: LimitMetrics::new(&registry),
            cache: CacheMetrics::new(&registry),
            semantic: SemanticMetrics::new(&registry),
            prompts: PromptMetrics::new(&registry),
            feedback: FeedbackMetrics::new(&registry),
            models: ModelMetrics::new(&registry),
            compat: CompatMetrics::new(&registry),
            rollouts: RolloutMetrics::new(&registry),
            process: ProcessMetrics::new(&registry),
            registry,
        }
    }

    /// All metrics as they are now.
    pub fn gather(&self) -> Vec<MetricFamily> {
        self.registry.gather()
    }

    /// All metrics in Prometheus' text format.
    pub fn render(&self) -> String {
        TextEncoder::new().encode_to_string(&self.gather()).unwrap_or_default()
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}
