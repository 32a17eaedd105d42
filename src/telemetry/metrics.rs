//! All metrics, by name, served as Prometheus text.
//!
//! Labels come from closed sets: configured targets, endpoints, outcomes. The children that a
//! request touches are looked up once, when its target is first seen, so that counting is an atomic
//! addition.

use std::fmt;

use prometheus::core::Collector;
use prometheus::proto::MetricFamily;
use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, TextEncoder,
};

use crate::chat::Usage;

/// Seconds a request or a first token takes: OpenTelemetry's buckets for the GenAI conventions.
const SECONDS: [f64; 14] =
    [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92];
/// Seconds between two tokens: as above, where tokens are.
const TOKEN_SECONDS: [f64; 12] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];
/// Seconds that the gateway itself takes.
const OVERHEAD_SECONDS: [f64; 12] = [
    0.000_025, 0.000_05, 0.000_1, 0.000_2, 0.000_4, 0.000_8, 0.001_6, 0.003_2, 0.006_4, 0.012_8,
    0.1, 1.0,
];
/// Tokens of a request: OpenTelemetry's buckets for the GenAI conventions.
const TOKENS: [f64; 14] = [
    1.0,
    4.0,
    16.0,
    64.0,
    256.0,
    1_024.0,
    4_096.0,
    16_384.0,
    65_536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
    67_108_864.0,
];

/// Every metric of the process.
pub struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    attempts: IntCounterVec,
    /// Attempts beyond a request's first one, on another target.
    pub fallbacks: IntCounter,
    /// Second attempts beside a first one that was late.
    pub hedges: IntCounter,
    hedges_refused: IntCounterVec,
    /// What the losers of races have cost, in millionths of a US dollar.
    pub hedge_waste: IntCounter,
    midstream: IntCounterVec,
    /// What broken attempts have cost whose answers were continued, in millionths of a US dollar.
    pub splice_waste: IntCounter,
    degraded: IntCounterVec,
    /// Further attempts on a target that had failed.
    pub retries: IntCounter,
    /// Attempts of the last 10 s that followed a failure, for each request, on the route where they
    /// are most.
    pub retry_ratio: Gauge,
    target_rank: GaugeVec,
    target_success: GaugeVec,
    /// Requests, whole, in seconds.
    pub request_seconds: Histogram,
    /// From admission to the first token, in seconds.
    pub first_token_seconds: Histogram,
    /// Mean gap between tokens of a stream, in seconds.
    pub between_tokens_seconds: Histogram,
    /// The gateway's own part of a request, in seconds.
    pub overhead_seconds: Histogram,
    in_flight: IntGaugeVec,
    queued: IntGaugeVec,
    sheds: IntCounterVec,
    breaker_state: IntGaugeVec,
    limit: IntGaugeVec,
    headroom: GaugeVec,
    credential_parked: IntGaugeVec,
    token_usage: HistogramVec,
    target_seconds: HistogramVec,
    target_first_token: HistogramVec,
    target_per_token: HistogramVec,
    cost: IntCounterVec,
    journal_dropped: IntCounterVec,
    config_reloads: IntCounterVec,
    spans_dropped: IntCounterVec,
    /// The running configuration's revision, folded to 53 bits, which Prometheus keeps exactly.
    pub config_revision: IntGauge,
    /// Open connections of callers.
    pub connections: IntGauge,
}

/// The metrics of one target, looked up once.
#[derive(Debug, Clone)]
pub struct TargetMetrics {
    /// Attempts under way.
    pub in_flight: IntGauge,
    /// 0: its breaker is closed, 1: half open, 2: open.
    pub breaker_state: IntGauge,
    /// The most attempts that may be under way; 0 where no limit was learnt.
    pub limit: IntGauge,
    /// What the tightest rate limit has left, 0 to 1; 1 where none is known.
    pub headroom: Gauge,
    succeeded: IntCounter,
    /// From sending an attempt to its end, in seconds.
    pub duration_seconds: Histogram,
    /// From sending an attempt to its first token, in seconds.
    pub first_token_seconds: Histogram,
    /// Mean gap between tokens, in seconds.
    pub per_token_seconds: Histogram,
    input_tokens: Histogram,
    output_tokens: Histogram,
    cost: IntCounter,
    attempts: IntCounterVec,
    target: String,
}

/// The metrics of a place that takes only so many requests, looked up once.
#[derive(Debug, Clone)]
pub struct GateMetrics {
    /// Requests that wait.
    pub queued: IntGauge,
    /// Requests turned away, by priority.
    sheds: [IntCounter; 5],
}

// === impl Metrics ===

impl Metrics {
    /// All metrics, at zero.
    #[expect(clippy::too_many_lines, reason = "it is a list, and one place to look for all names")]
    pub fn new() -> Self {
        let registry = Registry::new();
        let per_target = ["provider", "model", "target"];
        Self {
            requests: counters(
                &registry,
                "tidegate_requests_total",
                "Requests by endpoint, outcome and error code.",
                &["endpoint", "outcome", "code"],
            ),
            attempts: counters(
                &registry,
                "tidegate_attempts_total",
                "Attempts upstream by target and result.",
                &["target", "result"],
            ),
            fallbacks: counter(
                &registry,
                "tidegate_fallbacks_total",
                "Attempts on another target after a failure.",
            ),
            hedges: counter(
                &registry,
                "tidegate_hedges_total",
                "Second attempts beside a first one whose first token was late.",
            ),
            hedges_refused: counters(
                &registry,
                "tidegate_hedges_refused_total",
                "Late first attempts that got no second one beside them, by reason.",
                &["reason"],
            ),
            hedge_waste: counter(
                &registry,
                "tidegate_hedge_waste_micro_usd_total",
                "What the losers of races have cost, in millionths of a US dollar, estimated.",
            ),
            midstream: counters(
                &registry,
                "tidegate_midstream_total",
                "Streams that broke and were to be continued, by what came of it: `spliced`, or why \
                 not.",
                &["result"],
            ),
            splice_waste: counter(
                &registry,
                "tidegate_splice_waste_micro_usd_total",
                "What broken attempts have cost whose answers others continued, in millionths of a \
                 US dollar, estimated.",
            ),
            degraded: counters(
                &registry,
                "tidegate_degraded_total",
                "Answers that were less than what was asked for, by level: 1 oldest turns left \
                 out, 2 a later tier, 3 stale, 4 fixed words.",
                &["level"],
            ),
            retries: counter(
                &registry,
                "tidegate_retries_total",
                "Further attempts on a target that had failed.",
            ),
            retry_ratio: register(
                &registry,
                Gauge::new(
                    "tidegate_retry_ratio",
                    "Attempts after a failure for each request, over 10 s, on the worst route.",
                ),
            ),
            target_rank: ratios(
                &registry,
                "tidegate_target_rank",
                "Expected cost of a good answer in seconds; the lower, the more requests.",
            ),
            target_success: ratios(
                &registry,
                "tidegate_target_success_ratio",
                "The chance that an attempt succeeds.",
            ),
            request_seconds: histogram(
                &registry,
                "tidegate_request_seconds",
                "Whole requests.",
                &SECONDS,
            ),
            first_token_seconds: histogram(
                &registry,
                "tidegate_first_token_seconds",
                "From admission to the first token.",
                &SECONDS,
            ),
            between_tokens_seconds: histogram(
                &registry,
                "tidegate_between_tokens_seconds",
                "Mean gap between the tokens of a stream.",
                &TOKEN_SECONDS,
            ),
            overhead_seconds: histogram(
                &registry,
                "tidegate_overhead_seconds",
                "The gateway's own part of a request.",
                &OVERHEAD_SECONDS,
            ),
            in_flight: gauges(&registry, "tidegate_in_flight", "Attempts under way.", &["target"]),
            queued: gauges(
                &registry,
                "tidegate_queued",
                "Requests that wait for a slot, at a target or (process) at the gateway's door.",
                &["target"],
            ),
            sheds: counters(
                &registry,
                "tidegate_sheds_total",
                "Requests turned away because there were too many, by priority and by what was \
                 full: process or target.",
                &["priority", "where"],
            ),
            breaker_state: gauges(
                &registry,
                "tidegate_breaker_state",
                "The breaker of a target: 0 closed, 1 half open, 2 open.",
                &["target"],
            ),
            limit: gauges(
                &registry,
                "tidegate_limit",
                "The most attempts that may be under way on a target; 0 where no limit was learnt.",
                &["target"],
            ),
            headroom: register(
                &registry,
                GaugeVec::new(
                    Opts::new(
                        "tidegate_headroom",
                        "What the tightest rate limit of a target has left, 0 to 1; 1 where none \
                         is known.",
                    ),
                    &["target"],
                ),
            ),
            credential_parked: gauges(
                &registry,
                "tidegate_credential_parked",
                "1 while an endpoint's credential is not used, because it was refused or has no \
                 credit left.",
                &["endpoint"],
            ),
            token_usage: histograms(
                &registry,
                "gen_ai_client_token_usage",
                "Tokens of a request.",
                &TOKENS,
                &["provider", "model", "gen_ai_token_type"],
            ),
            target_seconds: histograms(
                &registry,
                "gen_ai_server_request_duration",
                "An attempt, whole, in seconds.",
                &SECONDS,
                &per_target,
            ),
            target_first_token: histograms(
                &registry,
                "gen_ai_server_time_to_first_token",
                "From sending an attempt to its first token, in seconds.",
                &SECONDS,
                &per_target,
            ),
            target_per_token: histograms(
                &registry,
                "gen_ai_server_time_per_output_token",
                "Mean gap between tokens, in seconds.",
                &TOKEN_SECONDS,
                &per_target,
            ),
            cost: counters(
                &registry,
                "tidegate_cost_micro_usd_total",
                "What answers cost, in millionths of a US dollar.",
                &["provider", "model"],
            ),
            journal_dropped: counters(
                &registry,
                "tidegate_journal_dropped_total",
                "Journal entries that were lost.",
                &["reason"],
            ),
            config_reloads: counters(
                &registry,
                "tidegate_config_reloads_total",
                "Reloads of the configuration by result: ok, or failed with the old one kept.",
                &["result"],
            ),
            spans_dropped: counters(
                &registry,
                "tidegate_spans_dropped_total",
                "Requests whose spans were lost.",
                &["reason"],
            ),
            config_revision: gauge(
                &registry,
                "tidegate_config_revision",
                "The running configuration.",
            ),
            connections: gauge(&registry, "tidegate_connections", "Open connections of callers."),
            registry,
        }
    }

    /// Counts a request that has ended.
    pub fn request(&self, endpoint: &str, outcome: &str, code: &str) {
        self.requests.with_label_values(&[endpoint, outcome, code]).inc();
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

    /// Counts a late first attempt that got no second one beside it.
    pub fn hedge_refused(&self, reason: &str) {
        self.hedges_refused.with_label_values(&[reason]).inc();
    }

    /// Counts a stream that broke and was to be continued: `spliced`, or why it was not.
    pub fn midstream(&self, result: &str) {
        self.midstream.with_label_values(&[result]).inc();
    }

    /// Counts a degraded answer of a level from 1 to 4; 0 is none.
    pub fn degraded(&self, level: u8) {
        if level > 0 {
            self.degraded.with_label_values(&[level.to_string().as_str()]).inc();
        }
    }

    /// Sets how many requests left no span for a reason.
    pub fn set_spans_dropped(&self, reason: &str, count: u64) {
        let counter = self.spans_dropped.with_label_values(&[reason]);
        counter.inc_by(count.saturating_sub(counter.get()));
    }

    /// The metrics of a target's gate.
    pub fn target_gate(&self, target: &str) -> GateMetrics {
        self.gate(target, "target")
    }

    /// The metrics of the gate of the whole process.
    pub fn process_gate(&self) -> GateMetrics {
        self.gate("(process)", "process")
    }

    fn gate(&self, target: &str, place: &str) -> GateMetrics {
        let shed = |priority| self.sheds.with_label_values(&[priority, place]);
        GateMetrics {
            queued: self.queued.with_label_values(&[target]),
            sheds: ["0", "1", "2", "3", "4"].map(shed),
        }
    }

    /// Whether the credential of an endpoint is parked, 0 or 1.
    pub fn credential_parked(&self, endpoint: &str) -> IntGauge {
        self.credential_parked.with_label_values(&[endpoint])
    }

    /// Sets the score of a target, in seconds.
    pub fn set_target_rank(&self, target: &str, seconds: f64) {
        self.target_rank.with_label_values(&[target]).set(seconds);
    }

    /// Sets the chance that an attempt on a target succeeds, 0 to 1.
    pub fn set_target_success(&self, target: &str, chance: f64) {
        self.target_success.with_label_values(&[target]).set(chance);
    }

    /// The metrics of one target.
    pub fn target(&self, provider: &str, model: &str, target: &str) -> TargetMetrics {
        let names = [provider, model, target];
        let tokens = |kind| self.token_usage.with_label_values(&[provider, model, kind]);
        TargetMetrics {
            in_flight: self.in_flight.with_label_values(&[target]),
            breaker_state: self.breaker_state.with_label_values(&[target]),
            limit: self.limit.with_label_values(&[target]),
            headroom: self.headroom.with_label_values(&[target]),
            succeeded: self.attempts.with_label_values(&[target, "success"]),
            duration_seconds: self.target_seconds.with_label_values(&names),
            first_token_seconds: self.target_first_token.with_label_values(&names),
            per_token_seconds: self.target_per_token.with_label_values(&names),
            input_tokens: tokens("input"),
            output_tokens: tokens("output"),
            cost: self.cost.with_label_values(&[provider, model]),
            attempts: self.attempts.clone(),
            target: target.to_owned(),
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

// === impl GateMetrics ===

impl GateMetrics {
    /// Counts a request that was turned away.
    pub fn shed(&self, priority: u8) {
        if let Some(count) = self.sheds.get(usize::from(priority)).or(self.sheds.last()) {
            count.inc();
        }
    }
}

// === impl TargetMetrics ===

impl TargetMetrics {
    /// Counts an attempt that succeeded.
    pub fn succeeded(&self) {
        self.succeeded.inc();
    }

    /// Counts an attempt that did not, by the kind of its failure or `client_gone`.
    pub fn ended(&self, result: &str) {
        self.attempts.with_label_values(&[&*self.target, result]).inc();
    }

    /// Counts tokens and money of an answer.
    pub fn used(&self, usage: &Usage, micro_usd: u64) {
        #[expect(clippy::cast_precision_loss, reason = "token counts are far below 2^52")]
        let observe = |histogram: &Histogram, tokens: u64| histogram.observe(tokens as f64);
        observe(&self.input_tokens, usage.total_input());
        observe(&self.output_tokens, usage.total_output());
        self.cost.inc_by(micro_usd);
    }
}

/// A metric that is registered cannot fail to be one: names are constants, checked by a test that
/// builds them all.
fn register<C: Collector + Clone + 'static>(
    registry: &Registry,
    built: prometheus::Result<C>,
) -> C {
    #[expect(clippy::expect_used, reason = "names are constants and each is used once")]
    let metric = built.expect("a valid metric");
    #[expect(clippy::expect_used, reason = "names are constants and each is used once")]
    registry.register(Box::new(metric.clone())).expect("a name used once");
    metric
}

fn counter(registry: &Registry, name: &str, help: &str) -> IntCounter {
    register(registry, IntCounter::new(name, help))
}

fn counters(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    register(registry, IntCounterVec::new(Opts::new(name, help), labels))
}

fn gauge(registry: &Registry, name: &str, help: &str) -> IntGauge {
    register(registry, IntGauge::new(name, help))
}

fn gauges(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
    register(registry, IntGaugeVec::new(Opts::new(name, help), labels))
}

/// Numbers with a fraction, one a target.
fn ratios(registry: &Registry, name: &str, help: &str) -> GaugeVec {
    register(registry, GaugeVec::new(Opts::new(name, help), &["target"]))
}

fn histogram(registry: &Registry, name: &str, help: &str, buckets: &[f64]) -> Histogram {
    let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
    register(registry, Histogram::with_opts(options))
}

fn histograms(
    registry: &Registry,
    name: &str,
    help: &str,
    buckets: &[f64],
    labels: &[&str],
) -> HistogramVec {
    let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
    register(registry, HistogramVec::new(options, labels))
}
