//! What callers are limited to.

use prometheus::{IntCounterVec, IntGauge, Registry};

use super::register::{counters, gauge};

/// What is counted of callers' limits.
#[derive(Debug)]
pub struct LimitMetrics {
    rejections: IntCounterVec,
    thresholds: IntCounterVec,
    /// Callers, teams, tags and so on of whose limits something is used.
    pub subjects: IntGauge,
    /// 1 while each node goes by its part of what several share.
    pub degraded: IntGauge,
}

// === impl LimitMetrics ===

impl LimitMetrics {
    pub(super) fn new(registry: &Registry) -> Self {
        Self {
            rejections: counters(
                registry,
                "tidegate_limit_rejections_total",
                "Requests turned away because a limit was reached, by what of it was used up.",
                &["dimension"],
            ),
            thresholds: counters(
                registry,
                "tidegate_limit_thresholds_total",
                "Limits of which 50, 80 or 100 percent were used, by dimension, once a window each.",
                &["dimension", "percent"],
            ),
            subjects: gauge(
                registry,
                "tidegate_limit_subjects",
                "Callers, teams, tags and so on of whose limits something is used.",
            ),
            degraded: gauge(
                registry,
                "tidegate_limiter_degraded",
                "1 while nodes cannot share limits, and each goes by its part of them.",
            ),
        }
    }

    /// Counts a request that was turned away.
    pub fn rejected(&self, dimension: &str) {
        self.rejections.with_label_values(&[dimension]).inc();
    }

    /// Counts a limit of which so much was used for the first time in its window.
    pub fn crossed(&self, dimension: &str, percent: u8) {
        self.thresholds.with_label_values(&[dimension, &percent.to_string()]).inc();
    }
}
