//! What operators see of targets.

use std::sync::atomic::Ordering;
use std::time::Duration;

use serde::Serialize;

use super::latency::Shape;
use super::target::TargetLive;
use crate::clock::Instant;
use crate::ids::TargetId;
use crate::policy::breaker::State;
use crate::policy::hedge::SizeBucket;
use crate::policy::rank::Score;

/// Operators look at streams: whole answers have no first token of their own.
const STREAMED: Shape = Shape { size: SizeBucket::UpTo1k, streamed: true };

/// How a target fares.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TargetView {
    /// Which one.
    pub id: TargetId,
    /// `closed`, `open` or `half_open`.
    pub breaker: &'static str,
    /// Seconds until an open breaker lets trials through.
    pub breaker_opens_in_seconds: Option<f64>,
    /// Seconds that it is still out because it was far worse than its siblings.
    pub ejected_for_seconds: Option<f64>,
    /// Whether an operator took it out.
    pub drained: bool,
    /// Attempts under way.
    pub in_flight: u32,
    /// The most attempts that may be under way; nothing where no limit was learnt.
    pub limit: Option<u32>,
    /// Attempts of the last minute.
    pub attempts_last_minute: u32,
    /// The part of them that failed, 0 to 1.
    pub error_rate: f64,
    /// Its part of the attempts of the last minute on all targets, 0 to 1.
    pub traffic_share: f64,
    /// The chance that the next attempt succeeds, 0 to 1.
    pub success_probability: f64,
    /// Time to the first token over the last five minutes, in milliseconds.
    pub ttft_ms: QuantilesView,
    /// Attempts since the start.
    pub attempts: u64,
    /// Those that failed.
    pub failures: u64,
    /// What the tightest rate limit has left, 0 to 1; 1 where none is known.
    pub headroom: f64,
}

/// Quantiles in milliseconds; nothing without samples.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct QuantilesView {
    /// Half of the samples are below.
    pub p50: Option<f64>,
    /// 95 % of them.
    pub p95: Option<f64>,
    /// 99 % of them.
    pub p99: Option<f64>,
    /// How many there are.
    pub samples: u64,
}

/// Where a target stands on a route, with every term of its score.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RankView {
    /// Which one.
    pub target: TargetId,
    /// Its tier on the route.
    pub tier: u32,
    /// The score's terms.
    #[serde(flatten)]
    pub score: Score,
}

// === impl TargetLive ===

impl TargetLive {
    pub(super) fn view(&self, now: Instant) -> TargetView {
        let mut health = self.health.lock();
        let (attempts, failed) = health.last_minute(now);
        let (_, all) = health.latency.quantiles(STREAMED, now);
        let ms = |duration: Option<Duration>| duration.map(|d| d.as_secs_f64() * 1e3);
        let left = |until: Instant| until.saturating_duration_since(now).as_secs_f64();
        let state = health.breaker.state(now);
        TargetView {
            id: self.id.clone(),
            breaker: state.as_str(),
            breaker_opens_in_seconds: match state {
                State::Open { until } => Some(left(until)),
                State::Closed | State::HalfOpen => None,
            },
            ejected_for_seconds: health.ejection.out_until(now).map(left),
            drained: self.is_drained(),
            in_flight: self.in_flight(),
            limit: Some(health.limit()).filter(|limit| *limit > 0),
            attempts_last_minute: attempts,
            error_rate: f64::from(failed) / f64::from(attempts.max(1)),
            traffic_share: 0.0,
            success_probability: health.success(now),
            ttft_ms: QuantilesView {
                p50: ms(all.p50),
                p95: ms(all.p95),
                p99: ms(all.p99),
                samples: all.samples,
            },
            attempts: self.attempts.load(Ordering::Relaxed),
            failures: self.failures.load(Ordering::Relaxed),
            headroom: health.headroom(now),
        }
    }
}

/// Fills in each target's part of the attempts of the last minute.
pub(super) fn share_of_traffic(views: &mut [TargetView]) {
    let all: u32 = views.iter().map(|view| view.attempts_last_minute).sum();
    for view in views {
        view.traffic_share = f64::from(view.attempts_last_minute) / f64::from(all.max(1));
    }
}
