//! Requests: how they ended, how long they took, and what it took to answer them.

use prometheus::{Gauge, Histogram, IntCounter, IntCounterVec, Registry};

use super::register::{
    OVERHEAD_SECONDS, SECONDS, TOKEN_SECONDS, counter, counters, histogram, register,
};

/// What is counted of requests, whoever serves them.
#[derive(Debug)]
pub struct RequestMetrics {
    ended: IntCounterVec,
    /// Attempts beyond a request's first one, on another target.
    pub fallbacks: IntCounter,
    /// Second attempts beside a first one that was late.
    pub hedges: IntCounter,
    hedges_refused: IntCounterVec,
    waste: IntCounterVec,
    midstream: IntCounterVec,
    degraded: IntCounterVec,
    idempotent: IntCounterVec,
    /// Further attempts on a target that had failed.
    pub retries: IntCounter,
    /// Attempts of the last 10 s that followed a failure, for each request, on the route where they
    /// are most.
    pub retry_ratio: Gauge,
    /// Requests, whole, in seconds.
    pub request_seconds: Histogram,
    /// From admission to the first token, in seconds.
    pub first_token_seconds: Histogram,
    /// Mean gap between tokens of a stream, in seconds.
    pub between_tokens_seconds: Histogram,
    /// The gateway's own part of a request, in seconds.
    pub overhead_seconds: Histogram,
}

// === impl RequestMetrics ===

impl RequestMetrics {
    #[expect(clippy::too_many_lines, reason = "a table: one entry for each metric")]
    pub(super) fn new(registry: &Registry) -> Self {
        Self {
            ended: counters(
                registry,
                "tidegate_requests_total",
                "Requests by endpoint, outcome and error code.",
                &["endpoint", "outcome", "code"],
            ),
            fallbacks: counter(
                registry,
                "tidegate_fallbacks_total",
                "Attempts on another target after a failure.",
            ),
            hedges: counter(
                registry,
                "tidegate_hedges_total",
                "Second attempts beside a first one whose first token was late.",
            ),
            hedges_refused: counters(
                registry,
                "tidegate_hedges_refused_total",
                "Late first attempts that got no second one beside them at once, by reason.",
                &["reason"],
            ),
            waste: counters(
                registry,
                "tidegate_waste_micro_usd_total",
                "What attempts cost that no caller is charged for, in millionths of a US dollar, \
                 by reason: hedge, failed, empty, left, stopped, splice.",
                &["reason"],
            ),
            midstream: counters(
                registry,
                "tidegate_midstream_total",
                "Streams that broke and were to be continued, by what came of it: `spliced`, or why \
                 not.",
                &["result"],
            ),
            degraded: counters(
                registry,
                "tidegate_degraded_total",
                "Answers that were less than what was asked for, by level: 1 oldest turns left \
                 out, 2 a later tier, 3 stale, 4 fixed words.",
                &["level"],
            ),
            idempotent: counters(
                registry,
                "tidegate_idempotent_requests_total",
                "What became of requests with an Idempotency-Key: executed, taken_over (executed \
                 though another node may have, so it may be paid for twice), joined, replayed; \
                 forgotten (executed, and may be again), unwritten (executed, and not kept); or \
                 why they were refused.",
                &["result"],
            ),
            retries: counter(
                registry,
                "tidegate_retries_total",
                "Further attempts on a target that had failed.",
            ),
            retry_ratio: register(
                registry,
                Gauge::new(
                    "tidegate_retry_ratio",
                    "Attempts after a failure for each request, over 10 s, on the worst route.",
                ),
            ),
            request_seconds: histogram(
                registry,
                "tidegate_request_seconds",
                "Whole requests.",
                &SECONDS,
            ),
            first_token_seconds: histogram(
                registry,
                "tidegate_first_token_seconds",
                "From admission to the first token.",
                &SECONDS,
            ),
            between_tokens_seconds: histogram(
                registry,
                "tidegate_between_tokens_seconds",
                "Mean gap between the tokens of a stream.",
                &TOKEN_SECONDS,
            ),
            overhead_seconds: histogram(
                registry,
                "tidegate_overhead_seconds",
                "The gateway's own part of a request.",
                &OVERHEAD_SECONDS,
            ),
        }
    }

    /// Counts a request that has ended.
    pub fn ended(&self, endpoint: &str, outcome: &str, code: &str) {
        self.ended.with_label_values(&[endpoint, outcome, code]).inc();
    }

    /// Counts a late first attempt that got no second one beside it.
    pub fn hedge_refused(&self, reason: &str) {
        self.hedges_refused.with_label_values(&[reason]).inc();
    }

    /// Counts a stream that broke and was to be continued: `spliced`, or why it was not.
    pub fn midstream(&self, result: &str) {
        self.midstream.with_label_values(&[result]).inc();
    }

    /// Counts what became of a request with an `Idempotency-Key`.
    pub fn idempotent(&self, result: &str) {
        self.idempotent.with_label_values(&[result]).inc();
    }

    /// Counts what an attempt cost that no caller is charged for.
    pub fn wasted(&self, reason: &str, micro_usd: u64) {
        self.waste.with_label_values(&[reason]).inc_by(micro_usd);
    }

    /// Counts a degraded answer of a level from 1 to 4; 0 is none.
    pub fn degraded(&self, level: u8) {
        if level > 0 {
            self.degraded.with_label_values(&[level.to_string().as_str()]).inc();
        }
    }
}
