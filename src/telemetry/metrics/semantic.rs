//! Answers that are found by what a question means.

use prometheus::{IntCounter, IntCounterVec, IntGauge, Registry};

use super::register::{counter, counters, gauge};

/// What is counted of semantic caches.
#[derive(Debug)]
pub struct SemanticMetrics {
    lookups: IntCounterVec,
    writes: IntCounterVec,
    judged: IntCounterVec,
    judging: IntCounter,
    /// Answers in this process.
    pub entries: IntGauge,
    /// Bytes that they take, with their vectors.
    pub bytes: IntGauge,
}

// === impl SemanticMetrics ===

impl SemanticMetrics {
    pub(super) fn new(registry: &Registry) -> Self {
        Self {
            lookups: counters(
                registry,
                "tidegate_cache_semantic_lookups_total",
                "Questions of routes with a semantic cache, by what was found to other words.",
                &["result"],
            ),
            writes: counters(
                registry,
                "tidegate_cache_semantic_writes_total",
                "Answers found by meaning, by what became of them in the store.",
                &["result"],
            ),
            judged: counters(
                registry,
                "tidegate_cache_judged_total",
                "Answers that were compared with kept ones, by the verdict.",
                &["verdict"],
            ),
            judging: counter(
                registry,
                "tidegate_cache_judging_micro_usd_total",
                "What judges have cost, in millionths of a US dollar.",
            ),
            entries: gauge(
                registry,
                "tidegate_cache_semantic_entries",
                "Answers in this process that are found by their meaning.",
            ),
            bytes: gauge(
                registry,
                "tidegate_cache_semantic_bytes",
                "Bytes that answers take that are found by their meaning.",
            ),
        }
    }

    /// Counts a question that was looked for in other words: `hit`, or why there was none.
    pub fn looked(&self, result: &str) {
        self.lookups.with_label_values(&[result]).inc();
    }

    /// Sets how many answers for the store ended so.
    pub fn set_writes(&self, result: &str, count: u64) {
        let counter = self.writes.with_label_values(&[result]);
        counter.inc_by(count.saturating_sub(counter.get()));
    }

    /// Counts what a judge said: `same`, `different`, `unreadable`, `failed`, `too_long`.
    pub fn judged(&self, verdict: &str, micro_usd: u64) {
        self.judged.with_label_values(&[verdict]).inc();
        self.judging.inc_by(micro_usd);
    }
}
