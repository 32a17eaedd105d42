//! What a continued answer cost, and whom.
//!
//! The caller pays for what was delivered, once, at the prices of the target that ended it. What the
//! broken attempt has cost besides is waste.

use std::sync::Arc;

use crate::catalog::Model;
use crate::chat::Usage;
use crate::config::Target;
use crate::dispatch::wire::delivered_once;
use crate::journal::Entry;
use crate::telemetry::{Metrics, TargetMetrics};

/// The attempt that broke, of an answer that another one continued.
#[derive(Debug)]
pub(super) struct SeamAccount {
    pub(super) target: Arc<Target>,
    pub(super) metrics: Arc<TargetMetrics>,
    /// Tokens that it delivered.
    pub(super) delivered_tokens: u64,
}

// === impl SeamAccount ===

impl SeamAccount {
    /// What both delivered, by what the second attempt took.
    pub(super) fn delivered(&self, second: Usage) -> Usage {
        delivered_once(second, self.delivered_tokens)
    }

    /// Fills in what a continued answer took, by what the second attempt did.
    pub(super) fn settle(
        &self,
        entry: &mut Entry,
        second: &Usage,
        (model, target): (&Model, &TargetMetrics),
        metrics: &Metrics,
    ) {
        entry.usage = self.delivered(*second);
        // What the first attempt delivered was counted by us.
        entry.usage_estimated = true;
        entry.cost = entry.cost + model.cost(&entry.usage);
        target.used(second, model.cost(second).0);
        self.book_waste(&entry.usage, metrics);
    }

    /// What the second attempt took, of what both delivered.
    pub(super) fn of_second(&self, delivered: &Usage) -> Usage {
        Usage {
            input: delivered.input.saturating_add(self.delivered_tokens),
            output: delivered.output.saturating_sub(self.delivered_tokens),
            ..*delivered
        }
    }

    /// Books what the first attempt took: the same prompt, and the tokens it delivered.
    pub(super) fn book_waste(&self, delivered: &Usage, metrics: &Metrics) {
        let first = Usage {
            input: delivered.total_input(),
            output: self.delivered_tokens,
            ..Usage::default()
        };
        let cost = self.target.model.cost(&first);
        self.metrics.used(&first, cost.0);
        metrics.requests.splice_waste.inc_by(cost.0);
    }
}
