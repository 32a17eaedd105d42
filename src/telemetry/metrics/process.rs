//! The process itself: its configuration, connections, and what it could not write down.

use prometheus::{IntCounterVec, IntGauge, Registry};

use super::register::{counters, gauge};

/// What is counted of the process itself.
#[derive(Debug)]
pub struct ProcessMetrics {
    journal_dropped: IntCounterVec,
    config_reloads: IntCounterVec,
    spans_dropped: IntCounterVec,
    /// The running configuration's revision, folded to 53 bits, which Prometheus keeps exactly.
    pub config_revision: IntGauge,
    /// Open connections of callers.
    pub connections: IntGauge,
}

// === impl ProcessMetrics ===

impl ProcessMetrics {
    pub(super) fn new(registry: &Registry) -> Self {
        Self {
            journal_dropped: counters(
                registry,
                "tidegate_journal_dropped_total",
                "Journal entries that were lost.",
                &["reason"],
            ),
            config_reloads: counters(
                registry,
                "tidegate_config_reloads_total",
                "Reloads of the configuration by result: ok, or failed with the old one kept.",
                &["result"],
            ),
            spans_dropped: counters(
                registry,
                "tidegate_spans_dropped_total",
                "Requests whose spans were lost.",
                &["reason"],
            ),
            config_revision: gauge(
                registry,
                "tidegate_config_revision",
                "The running configuration.",
            ),
            connections: gauge(registry, "tidegate_connections", "Open connections of callers."),
        }
    }

    /// Sets how many journal entries were lost for a reason.
    pub fn set_journal_dropped(&self, reason: &str, count: u64) {
        let counter = self.journal_dropped.with_label_values(&[reason]);
        counter.inc_by(count.saturating_sub(counter.get()));
    }

    /// Sets how many reloads of the configuration ended so: `ok` or `failed`.
    pub fn set_config_reloads(&self, result: &str, count: u64) {
        let counter = self.config_reloads.with_label_values(&[result]);
        counter.inc_by(count.saturating_sub(counter.get()));
    }

    /// Sets how many requests left no span for a reason.
    pub fn set_spans_dropped(&self, reason: &str, count: u64) {
        let counter = self.spans_dropped.with_label_values(&[reason]);
        counter.inc_by(count.saturating_sub(counter.get()));
    }
}
