//! How much load a target takes: the limit of what runs at once, and the throttle.
//!
//! Both exist only once the target has turned something away, and are dropped when it has not done
//! so for long. A target that takes everything is limited by nothing of ours and costs a branch.

use std::time::Duration;

use super::health::Health;
use crate::clock::Instant;
use crate::policy::limit::{AimdSettings, ConcurrencyLimit, Throttle, ThrottleSettings};

/// Rejections before requests are turned away in the target's stead. A few are better borne than
/// answered with a refusal of our own.
const MIN_REJECTS: u32 = 10;

/// What was learnt of a target that has turned requests away.
#[derive(Debug)]
pub(super) struct Limits {
    concurrency: ConcurrencyLimit,
    throttle: Throttle,
    rejected_at: Instant,
}

// === impl Limits ===

impl Limits {
    fn new(now: Instant) -> Self {
        let throttle = ThrottleSettings { min_rejects: MIN_REJECTS, ..Default::default() };
        Self {
            concurrency: ConcurrencyLimit::aimd(AimdSettings::default(), now),
            throttle: Throttle::new(throttle, now),
            rejected_at: now,
        }
    }

    /// The most attempts that may be under way; 0 where there is no limit.
    pub(super) fn limit(&self) -> u32 {
        self.concurrency.limit()
    }
}

// === impl Health ===

impl Health {
    /// Forgets limits of a target that has turned nothing away for long.
    pub(super) fn forget_limits(&mut self, now: Instant) {
        let forget = AimdSettings::default().forget;
        self.limits.take_if(|limits| now.saturating_duration_since(limits.rejected_at) >= forget);
    }

    /// An attempt begins beside those under way. That there is a slot for it, its gate has said.
    pub(super) fn on_load_start(&mut self, in_flight: u32, now: Instant) {
        self.forget_limits(now);
        if let Some(limits) = &mut self.limits {
            limits.concurrency.on_start(in_flight.saturating_add(1), now);
        }
    }

    /// Whether a request should go elsewhere because the target turns most away; `random` yields a
    /// number uniform in 0..1.
    pub(super) fn turns_away(&mut self, random: impl FnOnce() -> f64, now: Instant) -> bool {
        let Some(limits) = &mut self.limits else { return false };
        let probability = limits.throttle.reject_probability(now);
        probability > 0.0 && random() < probability
    }

    /// An attempt begins, for the throttle: it counts when it is sent.
    pub(super) fn on_load_sent(&mut self, now: Instant) {
        if let Some(limits) = &mut self.limits {
            limits.throttle.on_send(now);
        }
    }

    /// An attempt got its first token.
    pub(super) fn on_load_accepted(&mut self, now: Instant) {
        if let Some(limits) = &mut self.limits {
            limits.throttle.on_accept(now);
        }
    }

    /// An attempt that began at `sent` ended before its first token for another reason than load.
    pub(super) fn on_load_neutral(&mut self, sent: Instant, now: Instant) {
        if let Some(limits) = &mut self.limits {
            limits.throttle.on_neutral(sent, now);
        }
    }

    /// An attempt was turned away for load. `in_flight` counts it; half of the first tokens come
    /// within `usual`.
    pub(super) fn on_load_rejected(
        &mut self,
        in_flight: u32,
        usual: Option<Duration>,
        now: Instant,
    ) {
        let limits = self.limits.get_or_insert_with(|| Box::new(Limits::new(now)));
        limits.concurrency.set_settle_time(usual.unwrap_or_default());
        limits.concurrency.on_reject(in_flight, now);
        limits.throttle.on_reject(now);
        limits.rejected_at = now;
    }
}
