//! Progressive rollouts.

use prometheus::{GaugeVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

use super::register::{counter, counters, gauge, gauges, register};

/// What is counted of rollouts.
#[derive(Debug)]
pub struct RolloutMetrics {
    percent: GaugeVec,
    phase: IntGaugeVec,
    evidence: GaugeVec,
    decisions: IntCounterVec,
    notes_lost: IntCounter,
    fences_failed: IntCounter,
    /// Whether this node leads the analysis.
    pub is_leader: IntGauge,
}

// === impl RolloutMetrics ===

impl RolloutMetrics {
    pub(super) fn new(registry: &Registry) -> Self {
        let fractions = |name: &str, help: &str, labels: &[&str]| {
            register(registry, GaugeVec::new(Opts::new(name, help), labels))
        };
        Self {
            percent: fractions(
                "tidegate_rollout_percent",
                "What the candidate of a rollout serves, as this node knows it, in percent.",
                &["rollout", "subject"],
            ),
            phase: gauges(
                registry,
                "tidegate_rollout_phase",
                "1 for the phase a rollout is in: running, paused, done.",
                &["rollout", "phase"],
            ),
            evidence: fractions(
                "tidegate_rollout_evidence",
                "Evidence of harm of a rollout that this node leads; 100 is enough to roll back.",
                &["rollout"],
            ),
            decisions: counters(
                registry,
                "tidegate_rollout_decisions_total",
                "Decisions on rollouts that this node wrote, by verdict; page: somebody is needed.",
                &["verdict"],
            ),
            notes_lost: counter(
                registry,
                "tidegate_rollout_notes_lost_total",
                "Outcomes that are in no analysis: too many waited, or the store would not have them.",
            ),
            fences_failed: counter(
                registry,
                "tidegate_rollout_fences_failed_total",
                "Writes of the analysis that came second and were given up.",
            ),
            is_leader: gauge(
                registry,
                "tidegate_rollout_is_leader",
                "1 where this node leads the analysis of rollouts.",
            ),
        }
    }

    /// Forgets rollouts, which come and go.
    pub fn forget_all(&self) {
        self.percent.reset();
        self.phase.reset();
        self.evidence.reset();
    }

    /// Sets where a rollout stands.
    pub fn standing(&self, rollout: &str, subject: &str, phase: &str, percent: f64) {
        self.percent.with_label_values(&[rollout, subject]).set(percent);
        self.phase.with_label_values(&[rollout, phase]).set(1);
    }

    /// Sets the evidence of harm, of 100 needed.
    pub fn set_evidence(&self, rollout: &str, evidence: f64) {
        self.evidence.with_label_values(&[rollout]).set(evidence);
    }

    /// Sets how many decisions there were.
    pub fn set_decisions(&self, verdict: &str, count: u64) {
        let counter = self.decisions.with_label_values(&[verdict]);
        counter.inc_by(count.saturating_sub(counter.get()));
    }

    /// Sets how many notes were lost and how many writes came second.
    pub fn set_counts(&self, lost: u64, fences_failed: u64) {
        self.notes_lost.inc_by(lost.saturating_sub(self.notes_lost.get()));
        self.fences_failed.inc_by(fences_failed.saturating_sub(self.fences_failed.get()));
    }
}
