//! The process itself: its configuration, connections, and what it could not write down.

use prometheus::{IntCounter, IntCounterVec, IntGauge, Registry};

use super::register::{counter, counters, gauge};

/// What is counted of the process itself.
#[derive(Debug)]
pub struct ProcessMetrics {
    journal_dropped: IntCounterVec,
    config_reloads: IntCounterVec,
    spans_dropped: IntCounterVec,
    cluster_round_trips: IntCounter,
    cluster_errors: IntCounter,
    cluster_nodes: IntGauge,
    cluster_degraded: IntGauge,
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
            cluster_round_trips: counter(
                registry,
                "tidegate_cluster_round_trips_total",
                "Questions to the server that nodes share state on.",
            ),
            cluster_errors: counter(
                registry,
                "tidegate_cluster_errors_total",
                "Questions to the server that nodes share state on without an answer of use.",
            ),
            cluster_nodes: gauge(registry, "tidegate_cluster_nodes", "Nodes, this one counted."),
            cluster_degraded: gauge(
                registry,
                "tidegate_cluster_degraded",
                "1 while the server that nodes share state on is away.",
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

    /// Sets how sharing with other nodes goes: questions and those of them without an answer.
    pub fn set_cluster(&self, (round_trips, errors): (u64, u64), nodes: u32, is_degraded: bool) {
        let asked = &self.cluster_round_trips;
        asked.inc_by(round_trips.saturating_sub(asked.get()));
        self.cluster_errors.inc_by(errors.saturating_sub(self.cluster_errors.get()));
        self.cluster_nodes.set(i64::from(nodes));
        self.cluster_degraded.set(i64::from(is_degraded));
    }

    /// Sets how many requests left no span for a reason.
    pub fn set_spans_dropped(&self, reason: &str, count: u64) {
        let counter = self.spans_dropped.with_label_values(&[reason]);
        counter.inc_by(count.saturating_sub(counter.get()));
    }
}
