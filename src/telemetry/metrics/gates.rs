//! Gates: who waits and who is turned away.

use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry};

use super::register::{counters, gauges};

/// What is counted of all gates.
#[derive(Debug)]
pub struct GateFamilies {
    queued: IntGaugeVec,
    sheds: IntCounterVec,
}

/// The metrics of a place that takes only so many requests, looked up once.
#[derive(Debug, Clone)]
pub struct GateMetrics {
    /// Requests that wait.
    pub queued: IntGauge,
    /// Requests turned away, by priority.
    sheds: [IntCounter; 5],
}

// === impl GateFamilies ===

impl GateFamilies {
    pub(super) fn new(registry: &Registry) -> Self {
        Self {
            queued: gauges(
                registry,
                "tidegate_queued",
                "Requests that wait for a slot, at a target or (process) at the gateway's door.",
                &["target"],
            ),
            sheds: counters(
                registry,
                "tidegate_sheds_total",
                "Requests turned away because there were too many, by priority and by what was \
                 full: process or target.",
                &["priority", "where"],
            ),
        }
    }

    /// The metrics of a target's gate.
    pub fn of_target(&self, target: &str) -> GateMetrics {
        self.gate(target, "target")
    }

    /// The metrics of the gate of the whole process.
    pub fn of_process(&self) -> GateMetrics {
        self.gate("(process)", "process")
    }

    fn gate(&self, target: &str, place: &str) -> GateMetrics {
        let shed = |priority| self.sheds.with_label_values(&[priority, place]);
        GateMetrics {
            queued: self.queued.with_label_values(&[target]),
            sheds: ["0", "1", "2", "3", "4"].map(shed),
        }
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
