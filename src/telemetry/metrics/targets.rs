//! Targets: attempts, their times, tokens and cost, and how each target fares.

use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
    Opts, Registry,
};

use super::register::{
    SECONDS, TOKEN_SECONDS, TOKENS, counters, gauges, histograms, ratios, register,
};
use crate::chat::Usage;

/// What is counted of targets and endpoints, all of them.
#[derive(Debug)]
pub struct TargetFamilies {
    attempts: IntCounterVec,
    in_flight: IntGaugeVec,
    rank: GaugeVec,
    success: GaugeVec,
    breaker_state: IntGaugeVec,
    limit: IntGaugeVec,
    headroom: GaugeVec,
    credential_parked: IntGaugeVec,
    token_usage: HistogramVec,
    seconds: HistogramVec,
    first_token: HistogramVec,
    per_token: HistogramVec,
    cost: IntCounterVec,
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

// === impl TargetFamilies ===

impl TargetFamilies {
    #[expect(clippy::too_many_lines, reason = "a table: one entry for each metric")]
    pub(super) fn new(registry: &Registry) -> Self {
        let per_target = ["provider", "model", "target"];
        Self {
            attempts: counters(
                registry,
                "tidegate_attempts_total",
                "Attempts upstream by target and result.",
                &["target", "result"],
            ),
            in_flight: gauges(registry, "tidegate_in_flight", "Attempts under way.", &["target"]),
            rank: ratios(
                registry,
                "tidegate_target_rank",
                "Expected cost of a good answer in seconds; the lower, the more requests.",
            ),
            success: ratios(
                registry,
                "tidegate_target_success_ratio",
                "The chance that an attempt succeeds.",
            ),
            breaker_state: gauges(
                registry,
                "tidegate_breaker_state",
                "The breaker of a target: 0 closed, 1 half open, 2 open.",
                &["target"],
            ),
            limit: gauges(
                registry,
                "tidegate_limit",
                "The most attempts that may be under way on a target; 0 where no limit was learnt.",
                &["target"],
            ),
            headroom: register(
                registry,
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
                registry,
                "tidegate_credential_parked",
                "1 while an endpoint's credential is not used, because it was refused or has no \
                 credit left.",
                &["endpoint"],
            ),
            token_usage: histograms(
                registry,
                "gen_ai_client_token_usage",
                "Tokens of a request.",
                &TOKENS,
                &["provider", "model", "gen_ai_token_type"],
            ),
            seconds: histograms(
                registry,
                "gen_ai_server_request_duration",
                "An attempt, whole, in seconds.",
                &SECONDS,
                &per_target,
            ),
            first_token: histograms(
                registry,
                "gen_ai_server_time_to_first_token",
                "From sending an attempt to its first token, in seconds.",
                &SECONDS,
                &per_target,
            ),
            per_token: histograms(
                registry,
                "gen_ai_server_time_per_output_token",
                "Mean gap between tokens, in seconds.",
                &TOKEN_SECONDS,
                &per_target,
            ),
            cost: counters(
                registry,
                "tidegate_cost_micro_usd_total",
                "What attempts cost, whoever pays, in millionths of a US dollar.",
                &["provider", "model"],
            ),
        }
    }

    /// The metrics of one target.
    pub fn of(&self, provider: &str, model: &str, target: &str) -> TargetMetrics {
        let names = [provider, model, target];
        let tokens = |kind| self.token_usage.with_label_values(&[provider, model, kind]);
        TargetMetrics {
            in_flight: self.in_flight.with_label_values(&[target]),
            breaker_state: self.breaker_state.with_label_values(&[target]),
            limit: self.limit.with_label_values(&[target]),
            headroom: self.headroom.with_label_values(&[target]),
            succeeded: self.attempts.with_label_values(&[target, "success"]),
            duration_seconds: self.seconds.with_label_values(&names),
            first_token_seconds: self.first_token.with_label_values(&names),
            per_token_seconds: self.per_token.with_label_values(&names),
            input_tokens: tokens("input"),
            output_tokens: tokens("output"),
            cost: self.cost.with_label_values(&[provider, model]),
            attempts: self.attempts.clone(),
            target: target.to_owned(),
        }
    }

    /// Whether the credential of an endpoint is parked, 0 or 1.
    pub fn credential_parked(&self, endpoint: &str) -> IntGauge {
        self.credential_parked.with_label_values(&[endpoint])
    }

    /// Sets the score of a target, in seconds.
    pub fn set_rank(&self, target: &str, seconds: f64) {
        self.rank.with_label_values(&[target]).set(seconds);
    }

    /// Sets the chance that an attempt on a target succeeds, 0 to 1.
    pub fn set_success(&self, target: &str, chance: f64) {
        self.success.with_label_values(&[target]).set(chance);
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
