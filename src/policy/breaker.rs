//! A circuit breaker for one target, as a pure state machine.
//!
//! The breaker decides and nothing else: it does not sleep, spawn, lock or read a clock. `fleet` asks
//! it for a [`Pass`] before each attempt and tells it how the attempt ended.
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

use crate::clock::Instant;
use crate::policy::window::Window;

/// When to stop sending to a target, and when to try it again.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// Hard failures in a row that open it: 5. More at high rates, see [`Breaker`].
    pub max_run: u32,
    /// Attempts of the last 10 s before their ratios count: 20.
    pub min_attempts: u32,
    /// Share of failures that opens it, 0..=1: 0.5.
    pub max_failed: f64,
    /// Share of slow successes in the last 10 s that opens it, 0..=1: 0.8.
    pub max_slow: f64,
    /// Attempts of the last 60 s before `max_failed` counts for a quiet target: 10.
    pub quiet_min_attempts: u32,
    /// How long it stays open the first time: 30 s. Doubles each time it opens again.
    pub cooldown: Duration,
    /// The longest that doubling and `retry-after` make it, before jitter: 300 s.
    pub max_cooldown: Duration,
    /// By which share the cooldown is drawn longer or shorter, 0..=1: 0.2.
    pub jitter: f64,
    /// Closed for so long, the next cooldown is the first again: 5 min.
    pub forgiven_after: Duration,
    /// Trials while half open, 1..=[`MAX_TRIALS`]: 3. The majority decides.
    pub trials: u32,
    /// How long a trial may take before another may run in its place: 30 s.
    pub lease: Duration,
}

/// The most trials that the settings may ask for.
pub const MAX_TRIALS: u32 = 8;

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

/// How much a failure says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// The target does not work: counts in runs and ratios.
    Hard,
    /// The target has too much to do or answers badly: counts in ratios only.
    Soft,
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
    recent: Window<10, 4>,
    long: Window<60, 4>,
    /// Hard failures since the last success.
    run: u32,
    /// How often it opened without being forgiven.
    trips: u32,
    suspect: bool,
}

#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "208 bytes a target, and no allocation on opening")]
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

#[derive(Debug, Clone, Default)]
struct Trials {
    leases: [Option<Lease>; MAX_TRIALS as usize],
    issued: u32,
    good: u32,
    bad: u32,
}

#[derive(Debug, Clone, Copy)]
struct Lease {
    id: LeaseId,
    expires: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct LeaseId(u32);

/// The kinds in the windows.
const OK: [u32; 4] = [1, 0, 0, 0];
const FAILED: [u32; 4] = [0, 1, 0, 0];
const SLOW: [u32; 4] = [0, 0, 1, 0];
/// A success that was told and turned out to be none.
const TAKEN_BACK: [u32; 4] = [0, 0, 0, 1];

/// Whether the provider of so many targets, of which so many are open, is itself in doubt, so that
/// its other targets get [`Breaker::set_suspect`]: at least half of them and at least two.
pub const fn provider_suspect(open: usize, targets: usize) -> bool {
    open >= 2 && open >= targets.div_ceil(2)
}

// === impl Settings ===

impl Default for Settings {
    fn default() -> Self {
        Self {
            max_run: 5,
            min_attempts: 20,
            max_failed: 0.5,
            max_slow: 0.8,
            quiet_min_attempts: 10,
            cooldown: Duration::from_secs(30),
            max_cooldown: Duration::from_secs(300),
            jitter: 0.2,
            forgiven_after: Duration::from_secs(300),
            trials: 3,
            lease: Duration::from_secs(30),
        }
    }
}

impl Settings {
    fn trials(&self) -> u32 {
        self.trials.clamp(1, MAX_TRIALS)
    }

    /// Good trials that close it: the majority.
    fn good_enough(&self) -> u32 {
        self.trials() / 2 + 1
    }

    /// Bad trials that open it: as many as make a majority of good ones impossible.
    fn bad_enough(&self) -> u32 {
        self.trials() - self.good_enough() + 1
    }
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
            recent: Window::new(Duration::from_secs(1)),
            long: Window::new(Duration::from_secs(1)),
            run: 0,
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

    /// The attempt had its first token in time, and its stream ended well or did not break in the 2 s
    /// after: told at the first token alone, streams that all break would each reset the run.
    pub fn on_success(&mut self, pass: Pass, now: Instant) -> Option<Transition> {
        if pass.generation != self.generation {
            return None;
        }
        self.run = 0;
        match &mut self.phase {
            Phase::Closed { .. } => {
                self.count(OK, now);
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
        if pass.generation == self.generation {
            self.run = 0;
        }
        self.on_bad(pass, SLOW, None, u, now)
    }

    /// The attempt failed. `retry_after` is what the provider asked for; `u` is uniform in 0..1, for
    /// the jitter.
    pub fn on_failure(
        &mut self,
        pass: Pass,
        severity: Severity,
        retry_after: Option<Duration>,
        u: f64,
        now: Instant,
    ) -> Option<Transition> {
        if pass.generation == self.generation && severity == Severity::Hard {
            self.run = self.run.saturating_add(1);
        }
        self.on_bad(pass, FAILED, retry_after, u, now)
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
                Phase::Closed { .. } => self.count(TAKEN_BACK, now),
                Phase::HalfOpen(trials) => trials.good = trials.good.saturating_sub(1),
                Phase::Open { .. } => {}
            }
        }
        self.on_failure(pass, severity, retry_after, u, now)
    }

    /// The attempt ended without saying anything of the target: cancelled, the caller's own fault, or
    /// limited by rate. A trial gives its lease back and counts neither way.
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
        kind: [u32; 4],
        retry_after: Option<Duration>,
        u: f64,
        now: Instant,
    ) -> Option<Transition> {
        if pass.generation != self.generation {
            return None;
        }
        let reason = match &mut self.phase {
            Phase::Closed { .. } => {
                self.count(kind, now);
                self.trip_reason(now)?
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

    fn count(&mut self, kind: [u32; 4], now: Instant) {
        self.recent.add(kind, now);
        self.long.add(kind, now);
    }

    fn trip_reason(&mut self, now: Instant) -> Option<Reason> {
        let settings = &self.settings;
        let [ok, failed, slow, taken_back] = self.recent.sums(now);
        let [long_ok, long_failed, long_slow, long_taken_back] = self.long.sums(now);
        let ok = ok.saturating_sub(taken_back);
        let long_ok = long_ok.saturating_sub(long_taken_back);
        let (recent, long) = (ok + failed + slow, long_ok + long_failed + long_slow);
        let over = |part: u32, all: u32, share: f64| f64::from(part) >= share * f64::from(all);

        let usual_in_10_s = (long_ok + long_slow) / 6;
        let longest_run =
            (settings.max_run + usual_in_10_s.isqrt()).saturating_sub(2).max(settings.max_run);
        if self.run >= longest_run {
            Some(Reason::Run)
        } else if recent >= settings.min_attempts {
            if over(failed, recent, settings.max_failed) {
                Some(Reason::Failed)
            } else {
                over(slow, recent, settings.max_slow).then_some(Reason::Slow)
            }
        } else {
            // A busy target whose traffic has just begun is not quiet: ten attempts say little.
            let quiet = long >= settings.quiet_min_attempts && long > recent;
            (quiet && over(long_failed, long, settings.max_failed)).then_some(Reason::QuietFailed)
        }
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
        self.recent.clear();
        self.long.clear();
        self.enter(Phase::Closed { since: Some(now) });
        Transition::Closed
    }

    fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        self.run = 0;
        self.generation += 1;
    }

    /// How many trials may run at once: what the verdicts so far leave, or one if suspect.
    fn permits(&self, trials: &Trials) -> u32 {
        let left = self.settings.trials().saturating_sub(trials.good + trials.bad);
        if self.suspect { left.min(1) } else { left }
    }
}

// === impl Trials ===

impl Trials {
    fn running(&self, now: Instant) -> u32 {
        self.leases.iter().flatten().map(|lease| u32::from(lease.expires > now)).sum()
    }

    fn lease(&mut self, settings: &Settings, now: Instant) -> Option<LeaseId> {
        let free = |slot: &&mut Option<Lease>| slot.is_none_or(|lease| lease.expires <= now);
        let slot = self.leases.iter_mut().find(free)?;
        let id = LeaseId(self.issued);
        *slot = Some(Lease { id, expires: now + settings.lease });
        self.issued = self.issued.wrapping_add(1);
        Some(id)
    }

    /// Frees the slot of a trial, unless its lease expired and another has the slot. The verdict of
    /// an expired trial counts all the same: were it lost, a target that always takes longer than a
    /// lease could never recover.
    fn end(&mut self, pass: Pass) {
        for slot in &mut self.leases {
            if slot.is_some_and(|lease| Some(lease.id) == pass.lease) {
                *slot = None;
            }
        }
    }
}

#[cfg(test)]
mod tests;
