//! Models that are taken out of service.

use prometheus::{IntGaugeVec, Registry};

use super::register::gauges;

/// What is told of models.
#[derive(Debug)]
pub struct ModelMetrics {
    retires_in: IntGaugeVec,
}

// === impl ModelMetrics ===

impl ModelMetrics {
    pub(super) fn new(registry: &Registry) -> Self {
        Self {
            retires_in: gauges(
                registry,
                "tidegate_model_retires_in_seconds",
                "Seconds until a model that routes or prompts use is taken out of service, where its \
                 date is known; less than 0 when that is over.",
                &["provider", "model"],
            ),
        }
    }

    /// Sets the models that have a date: provider, model and seconds.
    pub fn set_retirements<'a>(&self, all: impl IntoIterator<Item = (&'a str, &'a str, i64)>) {
        self.retires_in.reset();
        for (provider, model, seconds) in all {
            self.retires_in.with_label_values(&[provider, model]).set(seconds);
        }
    }
}
