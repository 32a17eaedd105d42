//! How often and when to try again: attempts per request, budgets per group, pauses, deadlines.
//!
//! When everything fails, every retry adds load where there is least room for it. So extra attempts
//! are paid from a budget that first attempts fill, and a second budget bounds how many run at the
//! same time: long streams make a budget of rates alone blind.

use std::time::Duration;

use crate::clock::Instant;
use crate::policy::window::Window;

/// How many extra attempts a group may make.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BudgetSettings {
    /// Extra attempts per request, 0..=1: 0.2.
    pub ratio: f64,
    /// Extra attempts per second that are allowed even if `ratio` of the requests is less: 1. It is
    /// a floor and not added on top, so it has no part above `floor_per_second / ratio` = 5
    /// requests per second.
    pub floor_per_second: f64,
    /// How far back requests and extra attempts count: 10 s.
    pub ttl: Duration,
    /// Extra attempts running at once, as a share of the attempts in flight, 0..=1: 0.2.
    pub running_ratio: f64,
    /// Extra attempts that may run at once however few are in flight: 10. Fewer would refuse good
    /// failovers at a few requests per second, where a first token takes long.
    pub min_running: u32,
}

/// The budget for extra attempts (retries, failovers and hedges) of one group of targets. First
/// attempts are free.
#[derive(Debug, Clone)]
pub struct RetryBudget {
    settings: BudgetSettings,
    /// Requests, extra attempts, and those of them that were given back.
    window: Window<10, 3>,
    running: u32,
}

/// How many attempts a request may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttemptLimits {
    /// Over all targets, 1..=[`AttemptLimits::MAX`]: 3.
    pub total: usize,
    /// On one target: 2.
    pub per_target: usize,
}

/// The attempts of one request. `T` names a target.
#[derive(Debug, Clone)]
pub struct Attempts<T> {
    limits: AttemptLimits,
    made: [Option<T>; AttemptLimits::MAX],
}

/// What is kept of a request's time to answer the caller, rather than spent on an attempt.
pub const RESERVE: Duration = Duration::from_millis(200);
/// The bound of the first pause before the same target is tried again; it doubles with each.
pub const BACKOFF_BASE: Duration = Duration::from_millis(250);
/// The longest pause when somebody waits.
pub const BACKOFF_CAP_INTERACTIVE: Duration = Duration::from_secs(2);
/// The longest pause when nobody does.
pub const BACKOFF_CAP_BATCH: Duration = Duration::from_secs(8);

// === impl BudgetSettings ===

impl Default for BudgetSettings {
    fn default() -> Self {
        Self {
            ratio: 0.2,
            floor_per_second: 1.0,
            ttl: Duration::from_secs(10),
            running_ratio: 0.2,
            min_running: 10,
        }
    }
}

// === impl RetryBudget ===

impl RetryBudget {
    /// A budget that has seen no requests: the floor is all it has.
    pub fn new(settings: BudgetSettings) -> Self {
        Self { settings, window: Window::new(settings.ttl / 10), running: 0 }
    }

    /// Counts a request, once, whatever becomes of it.
    pub fn deposit(&mut self, now: Instant) {
        self.window.add([1, 0, 0], now);
    }

    /// Pays for one extra attempt, or says no. `in_flight` is how many attempts of the group run.
    /// Who gets a yes calls [`RetryBudget::release`] when the extra attempt has ended.
    #[must_use]
    pub fn try_withdraw(&mut self, in_flight: u32, now: Instant) -> bool {
        let share = (self.settings.running_ratio * f64::from(in_flight)) as u32;
        if self.running >= share.max(self.settings.min_running) || self.available(now) == 0 {
            return false;
        }
        self.window.add([0, 1, 0], now);
        self.running += 1;
        true
    }

    /// An extra attempt has ended, in whatever way.
    pub fn release(&mut self) {
        self.running = self.running.saturating_sub(1);
    }

    /// An extra attempt has begun to answer: it costs nothing. Attempts on a target that works are
    /// what failover is for; the budget is there for the ones that fail as well.
    pub fn repay(&mut self, now: Instant) {
        self.window.add([0, 0, 1], now);
        self.release();
    }

    /// How many extra attempts could be paid for now, were they short.
    pub fn available(&mut self, now: Instant) -> u32 {
        let [requests, spent, repaid] = self.window.sums(now);
        let spent = spent.saturating_sub(repaid);
        let floor = self.settings.floor_per_second * self.settings.ttl.as_secs_f64();
        let earned = (self.settings.ratio * f64::from(requests)).max(floor);
        // 0.29 of 100 is 28.999… in floating point, and means 29.
        ((earned + 1e-6) as u32).saturating_sub(spent)
    }

    /// How many extra attempts run.
    pub fn running(&self) -> u32 {
        self.running
    }
}

// === impl AttemptLimits ===

impl AttemptLimits {
    /// The most attempts a request can be given.
    pub const MAX: usize = 8;

    /// The limits for a request that is itself a retry of the caller's, as its
    /// `x-stainless-retry-count` says: one attempt and one failover, because the caller's attempts
    /// multiply with ours.
    #[must_use]
    pub fn for_retrying_caller(self) -> Self {
        Self { total: self.total.min(2), per_target: self.per_target.min(1) }
    }
}

impl Default for AttemptLimits {
    fn default() -> Self {
        Self { total: 3, per_target: 2 }
    }
}

// === impl Attempts ===

impl<T: Copy + PartialEq> Attempts<T> {
    /// No attempt yet.
    pub const fn new(limits: AttemptLimits) -> Self {
        Self { limits, made: [None; AttemptLimits::MAX] }
    }

    /// Whether there may be an attempt on `target`.
    pub fn allows(&self, target: T) -> bool {
        !self.exhausted() && self.on(target) < self.limits.per_target
    }

    /// Counts an attempt on `target`; `false` if there may be none.
    #[must_use]
    pub fn start(&mut self, target: T) -> bool {
        let allowed = self.allows(target);
        match self.made.iter_mut().find(|slot| slot.is_none()) {
            Some(slot) if allowed => {
                *slot = Some(target);
                true
            }
            Some(_) | None => false,
        }
    }

    /// How many attempts were made.
    pub fn made(&self) -> usize {
        self.made.iter().flatten().count()
    }

    /// How many attempts were made on `target`.
    pub fn on(&self, target: T) -> usize {
        self.made.iter().flatten().filter(|made| **made == target).count()
    }

    /// Whether no target may have another attempt.
    pub fn exhausted(&self) -> bool {
        self.made() >= self.limits.total.min(AttemptLimits::MAX)
    }
}

/// How long to wait before `target` is tried again; another target is tried at once. `None` where
/// the wait and an answer no longer fit into `remaining`: fail over instead.
///
/// What the provider asked for is kept exactly, else the wait is full jitter: `u` (uniform in 0..1)
/// times the base doubled by `retry` (0 for the first), at most the cap. Source: M. Brooker,
/// "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
pub fn backoff(
    retry: u32,
    interactive: bool,
    retry_after: Option<Duration>,
    remaining: Duration,
    u: f64,
) -> Option<Duration> {
    let cap = if interactive { BACKOFF_CAP_INTERACTIVE } else { BACKOFF_CAP_BATCH };
    let bound = BACKOFF_BASE.saturating_mul(1_u32 << retry.min(16)).min(cap);
    let wait = retry_after.unwrap_or_else(|| bound.mul_f64(u.clamp(0.0, 1.0)));
    (wait < remaining.saturating_sub(RESERVE)).then_some(wait)
}

/// The time an attempt gets: `cap`, or what remains but for the [`RESERVE`]. Zero: do not start.
pub fn attempt_timeout(cap: Duration, remaining: Duration) -> Duration {
    cap.min(remaining.saturating_sub(RESERVE))
}

/// Whether an attempt can be expected to answer in what remains: at least the target's median time
/// to its first token, where it is known, besides the [`RESERVE`].
pub fn worth_starting(remaining: Duration, median_first_token: Option<Duration>) -> bool {
    let usable = remaining.saturating_sub(RESERVE);
    !usable.is_zero() && median_first_token.is_none_or(|median| usable >= median)
}

#[cfg(test)]
mod tests;
