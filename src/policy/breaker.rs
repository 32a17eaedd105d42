//! A circuit breaker for one target, as a pure state machine.
//!
//! The breaker decides and nothing else: it does not sleep, spawn, lock or read a clock. `fleet`
//! asks it for a [`Pass`] before each attempt and tells it how the attempt ended.
//!
//! ```text
//!             a run, a ratio or slowness                cooldown over
//!   Closed ────────────────────────────▶ Open ─────────────────────────▶ HalfOpen
//!     ▲                                    ▲  2 trials failed: cooldown × 2  │
//!     │                                    └─────────────────────────────────┤
//!     └──────────────────────── 2 of 3 trials succeeded ─────────────────────┘
//! ```
//!
//! Four rules open it, because none sees every outage: a run of hard failures (the only rule that
//! acts within seconds at less than 2 requests per second), a ratio of failures and one of slow
//! successes over 10 s, and a ratio over 60 s for targets with fewer than 20 attempts in 10 s.
//!
//! A trial is a lease: it expires, so an attempt that never reports cannot block the breaker, and a
//! cancelled one gives it back without a verdict. Every phase has a generation and every pass is of
//! one, so an attempt that was admitted in an earlier phase has no say in a later one.

use std::time::Duration;

use self::history::{Event, History};
pub use self::settings::{MAX_TRIALS, Settings};
use self::trials::{LeaseId, Trials};
use crate::clock::Instant;
use crate::failure::Severity;

mod history;
mod settings;
mod trials;

/// What the breaker lets through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Everything.
    Closed,
    /// Nothing, until then.
    Open {
        /// When trials may begin.
        until: Instant,
    },
    /// A few trials.
    HalfOpen,
}

/// Why it opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Too many hard failures in a row.
    Run,
    /// Too many of the attempts of the last 10 s failed.
    Failed,
    /// Too many of the attempts of the last 10 s were slow.
    Slow,
    /// Too many of the few attempts of the last 60 s failed.
    QuietFailed,
    /// The trials failed.
    Trials,
}

/// What changed, for the log and the metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transition {
    /// It opened.
    Opened {
        /// When trials may begin.
        until: Instant,
        /// Why.
        reason: Reason,
    },
    /// The cooldown is over: trials may begin.
    HalfOpened,
    /// The trials succeeded.
    Closed,
}

/// What an admitted attempt holds and tells its end with. Tell one end for each, and
/// [`Breaker::on_neutral`] for an attempt that is dropped; a stream that breaks after its success
/// was told is told as a failure too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub struct Pass {
    generation: u64,
    lease: Option<LeaseId>,
}

/// The breaker of one target.
///
/// How long a run must be grows with the root of the target's successes per 10 s, because at a high
/// rate errors that have nothing to do with each other make short runs by chance: with 10 % errors
/// at 20 requests per second a run of five comes about every 90 minutes. At that rate 17 are
/// asked, which an outage delivers in 0.85 s. Below 2 requests per second five stay enough, because
/// an outage is to be noticed: there, 10 % errors open it without cause up to once in 12 hours.
#[derive(Debug, Clone)]
pub struct Breaker {
    settings: Settings,
    phase: Phase,
    /// Of the phase; grows with every change.
    generation: u64,
    history: History,
    /// How often it opened without being forgiven.
    trips: u32,
    suspect: bool,
}

#[derive(Debug, Clone)]
enum Phase {
    Closed {
        /// When it recovered; nothing if it never opened.
        since: Option<Instant>,
    },
    Open {
        until: Instant,
    },
    HalfOpen(Trials),
}

/// Whether the provider of so many targets, of which so many are open, is itself in doubt, so that
/// its other targets get [`Breaker::set_suspect`]: at least half of them and at least two.
pub const fn provider_suspect(open: usize, targets: usize) -> bool {
    open >= 2 && open >= targets.div_ceil(2)
}

// === impl State ===

impl State {
    /// The word for logs, metrics and the admin API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open { .. } => "open",
            Self::HalfOpen => "half_open",
        }
    }
}

// === impl Reason ===

impl Reason {
    /// The word for logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Failed => "failed",
            Self::Slow => "slow",
            Self::QuietFailed => "quiet_failed",
            Self::Trials => "trials",
        }
    }
}

// === impl Pass ===

impl Pass {
    /// Whether it is one of the few that decide whether the target is back.
    pub const fn is_trial(&self) -> bool {
        self.lease.is_some()
    }
}

// === impl Breaker ===

impl Breaker {
    /// A closed breaker.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            phase: Phase::Closed { since: None },
            generation: 0,
            history: History::new(),
            trips: 0,
            suspect: false,
        }
    }

    /// What it lets through now.
    pub fn state(&self, now: Instant) -> State {
        match self.phase {
            Phase::Closed { .. } => State::Closed,
            Phase::Open { until } if now < until => State::Open { until },
            Phase::Open { .. } | Phase::HalfOpen(_) => State::HalfOpen,
        }
    }

    /// Whether [`Breaker::admit`] would let an attempt through.
    pub fn would_admit(&self, now: Instant) -> bool {
        match &self.phase {
            Phase::Closed { .. } => true,
            Phase::Open { until } => now >= *until,
            Phase::HalfOpen(trials) => trials.running(now) < self.permits(trials),
        }
    }

    /// Notes that the cooldown is over, if it is. [`Breaker::admit`] does so too but cannot say it:
    /// who logs transitions calls this first.
    pub fn poll(&mut self, now: Instant) -> Option<Transition> {
        let Phase::Open { until } = self.phase else { return None };
        if now < until {
            return None;
        }
        self.enter(Phase::HalfOpen(Trials::default()));
        Some(Transition::HalfOpened)
    }

    /// Lets an attempt through, or not.
    pub fn admit(&mut self, now: Instant) -> Option<Pass> {
        self.poll(now);
        if !self.would_admit(now) {
            return None;
        }
        let lease = match &mut self.phase {
            Phase::Closed { .. } => None,
            Phase::Open { .. } => return None,
            Phase::HalfOpen(trials) => Some(trials.lease(&self.settings, now)?),
        };
        Some(Pass { generation: self.generation, lease })
    }

    /// The attempt had its first token in time, and its stream ended well or did not break in the 2
    /// s after: told at the first token alone, streams that all break would each reset the run.
    pub fn on_success(&mut self, pass: Pass, now: Instant) -> Option<Transition> {
        if pass.generation != self.generation {
            return None;
        }
        match &mut self.phase {
            Phase::Closed { .. } => {
                self.history.add(Event::Good, now);
                None
            }
            Phase::Open { .. } => None,
            Phase::HalfOpen(trials) => {
                trials.end(pass);
                trials.good += 1;
                let enough = trials.good >= self.settings.good_enough();
                enough.then(|| self.close(now))
            }
        }
    }

    /// The attempt succeeded, but slowly. `u` is uniform in 0..1, for the jitter.
    pub fn on_slow_success(&mut self, pass: Pass, u: f64, now: Instant) -> Option<Transition> {
        self.on_bad(pass, Event::Slow, None, u, now)
    }

    /// The attempt failed. `retry_after` is what the provider asked for; `u` is uniform in 0..1,
    /// for the jitter.
    pub fn on_failure(
        &mut self,
        pass: Pass,
        severity: Severity,
        retry_after: Option<Duration>,
        u: f64,
        now: Instant,
    ) -> Option<Transition> {
        self.on_bad(pass, Event::Failed(severity), retry_after, u, now)
    }

    /// The attempt broke after its success was told: that one is taken back, and it is a failure.
    /// Without this, a target all of whose streams break would fail by half.
    pub fn on_broken(
        &mut self,
        pass: Pass,
        severity: Severity,
        retry_after: Option<Duration>,
        u: f64,
        now: Instant,
    ) -> Option<Transition> {
        if pass.generation == self.generation {
            match &mut self.phase {
                Phase::Closed { .. } => self.history.add(Event::TakenBack, now),
                Phase::HalfOpen(trials) => trials.good = trials.good.saturating_sub(1),
                Phase::Open { .. } => {}
            }
        }
        self.on_failure(pass, severity, retry_after, u, now)
    }

    /// The attempt ended without saying anything of the target: cancelled, the caller's own fault,
    /// or limited by rate. A trial gives its lease back and counts neither way.
    pub fn on_neutral(&mut self, pass: Pass) {
        if let Phase::HalfOpen(trials) = &mut self.phase
            && pass.generation == self.generation
        {
            trials.end(pass);
        }
    }

    /// Whether its provider is in doubt ([`provider_suspect`]): then one trial runs at a time.
    pub fn set_suspect(&mut self, suspect: bool) {
        self.suspect = suspect;
    }

    /// How long ago it recovered, for the slow start; nothing if it never opened or is not closed.
    pub fn closed_since(&self, now: Instant) -> Option<Duration> {
        match self.phase {
            Phase::Closed { since } => since.map(|since| now.saturating_duration_since(since)),
            Phase::Open { .. } | Phase::HalfOpen(_) => None,
        }
    }

    fn on_bad(
        &mut self,
        pass: Pass,
        event: Event,
        retry_after: Option<Duration>,
        u: f64,
        now: Instant,
    ) -> Option<Transition> {
        if pass.generation != self.generation {
            return None;
        }
        let reason = match &mut self.phase {
            Phase::Closed { .. } => {
                self.history.add(event, now);
                self.history.reason_to_open(&self.settings, now)?
            }
            Phase::Open { .. } => return None,
            Phase::HalfOpen(trials) => {
                trials.end(pass);
                trials.bad += 1;
                if trials.bad < self.settings.bad_enough() {
                    return None;
                }
                Reason::Trials
            }
        };
        Some(self.open(reason, retry_after, u, now))
    }

    fn open(
        &mut self,
        reason: Reason,
        retry_after: Option<Duration>,
        u: f64,
        now: Instant,
    ) -> Transition {
        let forgiven =
            self.closed_since(now).is_some_and(|since| since >= self.settings.forgiven_after);
        self.trips = if forgiven { 1 } else { self.trips.saturating_add(1) };

        let Settings { cooldown, max_cooldown, jitter, .. } = self.settings;
        let doubled = cooldown.saturating_mul(1_u32 << (self.trips - 1).min(16)).min(max_cooldown);
        let jittered = doubled.mul_f64((1.0 + jitter * (2.0 * u.clamp(0.0, 1.0) - 1.0)).max(0.0));
        let asked = retry_after.unwrap_or_default().min(max_cooldown);
        let until = now + jittered.max(asked);
        self.enter(Phase::Open { until });
        Transition::Opened { until, reason }
    }

    fn close(&mut self, now: Instant) -> Transition {
        self.history.clear();
        self.enter(Phase::Closed { since: Some(now) });
        Transition::Closed
    }

    fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        self.history.forget_run();
        self.generation += 1;
    }

    /// How many trials may run at once: what the verdicts so far leave, or one if suspect.
    fn permits(&self, trials: &Trials) -> u32 {
        let left = self.settings.trials().saturating_sub(trials.good + trials.bad);
        if self.suspect { left.min(1) } else { left }
    }
}

#[cfg(test)]
mod tests;
