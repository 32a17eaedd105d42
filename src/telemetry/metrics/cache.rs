//! Answers that are kept to be given again.

use prometheus::{IntCounter, IntCounterVec, IntGauge, Registry};

use super::register::{counter, counters, gauge};

/// What is counted of the cache.
#[derive(Debug)]
pub struct CacheMetrics {
    lookups: IntCounterVec,
    shared_lookups: IntCounterVec,
    shared_writes: IntCounterVec,
    bypassed: IntCounterVec,
    unkept: IntCounterVec,
    /// Answers that were kept.
    pub kept: IntCounter,
    /// Answers in this process.
    pub entries: IntGauge,
    /// Bytes that they take.
    pub bytes: IntGauge,
    saved: IntCounter,
    flights: IntCounterVec,
}

// === impl CacheMetrics ===

impl CacheMetrics {
    pub(super) fn new(registry: &Registry) -> Self {
        Self {
            lookups: counters(
                registry,
                "tidegate_cache_lookups_total",
                "Requests whose answer was looked for in the cache, by what was found.",
                &["result"],
            ),
            shared_lookups: counters(
                registry,
                "tidegate_cache_shared_lookups_total",
                "Answers looked for among those that nodes share, by what was found.",
                &["result"],
            ),
            shared_writes: counters(
                registry,
                "tidegate_cache_shared_writes_total",
                "Answers for other nodes, by what became of them: written, dropped, failed.",
                &["result"],
            ),
            bypassed: counters(
                registry,
                "tidegate_cache_bypassed_total",
                "Requests of routes with a cache whose answer was not looked for, by reason.",
                &["reason"],
            ),
            unkept: counters(
                registry,
                "tidegate_cache_not_kept_total",
                "Answers of routes with a cache that were not kept, by reason.",
                &["reason"],
            ),
            kept: counter(registry, "tidegate_cache_kept_total", "Answers that were kept."),
            entries: gauge(registry, "tidegate_cache_entries", "Answers kept in this process."),
            bytes: gauge(
                registry,
                "tidegate_cache_bytes",
                "Bytes that kept answers take in this process.",
            ),
            saved: counter(
                registry,
                "tidegate_cache_saved_micro_usd_total",
                "What answers from the cache would have cost, in millionths of a US dollar.",
            ),
            flights: counters(
                registry,
                "tidegate_coalesced_total",
                "Requests that came while the same was being answered, by what became of them.",
                &["result"],
            ),
        }
    }

    /// Counts a lookup: `exact`, or why there was nothing.
    pub fn looked(&self, result: &str) {
        self.lookups.with_label_values(&[result]).inc();
    }

    /// Counts an answer that was looked for among those that nodes share.
    pub fn fetched(&self, result: &str) {
        self.shared_lookups.with_label_values(&[result]).inc();
    }

    /// Sets how many answers for other nodes ended so.
    pub fn set_shared_writes(&self, result: &str, count: u64) {
        let counter = self.shared_writes.with_label_values(&[result]);
        counter.inc_by(count.saturating_sub(counter.get()));
    }

    /// Counts an answer that was given and need not be paid for.
    pub fn saved(&self, micro_usd: u64) {
        self.saved.inc_by(micro_usd);
    }

    /// Counts a request that met the same on its way: `shared` its answer, got `too_late` for it,
    /// was asked itself when that failed (`took_over`), or waited for it too long (`left`).
    pub fn met(&self, result: &str) {
        self.flights.with_label_values(&[result]).inc();
    }

    /// Counts a request that was not looked up.
    pub fn bypassed(&self, reason: &str) {
        self.bypassed.with_label_values(&[reason]).inc();
    }

    /// Counts an answer that was not kept.
    pub fn not_kept(&self, reason: &str) {
        self.unkept.with_label_values(&[reason]).inc();
    }
}
