//! Jobs and webhooks.

use prometheus::{IntCounter, IntCounterVec, Registry};

use super::register::{counter, counters};

/// What is counted of jobs and webhooks, in this process.
#[derive(Debug)]
pub struct JobMetrics {
    started: IntCounter,
    repeated: IntCounter,
    ended: IntCounterVec,
    webhooks: IntCounterVec,
}

// === impl JobMetrics ===

impl JobMetrics {
    pub(super) fn new(registry: &Registry) -> Self {
        Self {
            started: counter(registry, "tidegate_jobs_started_total", "Jobs that were taken."),
            repeated: counter(
                registry,
                "tidegate_jobs_repeated_total",
                "Jobs that were taken again because their node vanished; a provider may have been \
                 paid twice for each.",
            ),
            ended: counters(
                registry,
                "tidegate_jobs_ended_total",
                "Jobs that were worked on here and are over, by state.",
                &["state"],
            ),
            webhooks: counters(
                registry,
                "tidegate_webhooks_total",
                "Attempts to send a webhook by result: delivered, failed and to be repeated, or \
                 given_up.",
                &["result"],
            ),
        }
    }

    /// Counts a job that was taken, and whether somebody had vanished with it.
    pub fn started(&self, repeated: bool) {
        self.started.inc();
        self.repeated.inc_by(u64::from(repeated));
    }

    /// Counts a job that is over.
    pub fn ended(&self, state: &str) {
        self.ended.with_label_values(&[state]).inc();
    }

    /// Counts an attempt to send a webhook.
    pub fn webhook(&self, result: &str) {
        self.webhooks.with_label_values(&[result]).inc();
    }
}
