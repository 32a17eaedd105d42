//! Compatibility runs.

use prometheus::{IntCounter, IntCounterVec, IntGaugeVec, Registry};

use super::register::{counter, counters, gauges};

/// What is counted of compatibility runs, by the node that makes them.
#[derive(Debug)]
pub struct CompatMetrics {
    runs: IntCounterVec,
    samples: IntCounter,
    drift: IntGaugeVec,
}

// === impl CompatMetrics ===

impl CompatMetrics {
    pub(super) fn new(registry: &Registry) -> Self {
        Self {
            runs: counters(
                registry,
                "tidegate_compat_runs_total",
                "Compatibility runs that have ended, by why they were made and what they found.",
                &["kind", "verdict"],
            ),
            samples: counter(
                registry,
                "tidegate_compat_samples_total",
                "Answers of compatibility runs that were asked and written down.",
            ),
            drift: gauges(
                registry,
                "tidegate_compat_drift",
                "1 where a prompt's production version answers worse than the nights before, and no night \
                 since as well as they did; else 0. As the store has it.",
                &["suite"],
            ),
        }
    }

    /// A run has ended: with a verdict, or `failed`.
    pub fn ended(&self, kind: &str, verdict: &str) {
        self.runs.with_label_values(&[kind, verdict]).inc();
    }

    /// So many answers were written down.
    pub fn sampled(&self, count: u64) {
        self.samples.inc_by(count);
    }

    /// Sets whether a prompt has drifted.
    pub fn set_drift(&self, suite: &str, has_drifted: bool) {
        self.drift.with_label_values(&[suite]).set(i64::from(has_drifted));
    }
}
