//! What a continued answer cost, and whom.
//!
//! The caller pays for what was delivered, once, at the prices of the target that ended it. What
//! both attempts cost besides is waste.

use std::sync::Arc;

use crate::catalog::Model;
use crate::chat::Usage;
use crate::config::Target;
use crate::dispatch::wire::delivered_once;
use crate::journal::Entry;
use crate::telemetry::{Metrics, TargetMetrics};
use crate::units::MicroUsd;

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
        entry.cost = model.cost(&entry.usage);
        self.book_waste(entry, second, (model, target), metrics);
    }

    /// What the second attempt took, of what both delivered.
    pub(super) fn of_second(&self, delivered: &Usage) -> Usage {
        Usage {
            input: delivered.input.saturating_add(self.delivered_tokens),
            output: delivered.output.saturating_sub(self.delivered_tokens),
            ..*delivered
        }
    }

    /// Books what both attempts took, and as waste what of it the caller is not charged: the
    /// prompt, which both read, and what was delivered, which the second one read as well. The
    /// first attempt's part is estimated.
    pub(super) fn book_waste(
        &self,
        entry: &mut Entry,
        second: &Usage,
        (model, target): (&Model, &TargetMetrics),
        metrics: &Metrics,
    ) {
        let first = Usage {
            input: entry.usage.total_input(),
            output: self.delivered_tokens,
            ..Usage::default()
        };
        let (first_cost, second_cost) = (self.target.model.cost(&first), model.cost(second));
        self.metrics.used(&first, first_cost.0);
        target.used(second, second_cost.0);
        let cost = (first_cost + second_cost).0.saturating_sub(entry.cost.0);
        metrics.requests.wasted("splice", cost);
        let (charged, waste) = (entry.usage, &mut entry.waste);
        let input = first.total_input().saturating_add(second.total_input());
        let output = first.total_output().saturating_add(second.total_output());
        waste.input = waste.input.saturating_add(input.saturating_sub(charged.total_input()));
        waste.output = waste.output.saturating_add(output.saturating_sub(charged.total_output()));
        waste.cost = waste.cost + MicroUsd(cost);
        waste.is_estimated = true;
    }
}
