//! What is known of one target: how often it answers, how fast, and whether it may be asked.
//!
//! All of it is arithmetic under one small lock, fed by tickets and read when a request is planned.

use std::time::Duration;

use super::credential::Refusal;
use super::demand::Demand;
use super::guests::Guests;
use super::latency::{Latencies, Shape};
use super::limits::Limits;
use super::quota::Quota;
use crate::clock::Instant;
use crate::failure::{Failure, FailureKind};
use crate::policy::breaker::{self, Breaker, Pass, State, Transition};
use crate::policy::eject::Ejection;
use crate::policy::ewma::{Decayed, Ewma};
use crate::policy::quota::Reservation;
use crate::policy::rank::Exclusion;
use crate::policy::window::Window;

/// The chance of success that is believed of a target that was never asked.
const PRIOR_SUCCESS: f64 = 0.99;
/// After this, half of what was learnt of a target's success is forgotten.
const SUCCESS_HALF_LIFE: Duration = Duration::from_secs(30);
/// How long the pace of tokens is remembered.
const PACE_TAU: Duration = Duration::from_secs(60);
/// An answer is slow where its first token took this long and several times as long as usual.
const SLOW_FROM: Duration = Duration::from_secs(10);
const SLOW_TIMES: u32 = 3;

/// What is known of one target.
#[derive(Debug)]
pub(super) struct Health {
    pub(super) breaker: Breaker,
    pub(super) ejection: Ejection,
    /// Whether a file lists the model, and not a caller made up its name.
    listed: bool,
    success: Decayed,
    pub(super) latency: Latencies,
    pace: Ewma,
    /// Attempts of the last minute, and those of them that failed.
    minute: Window<12, 2>,
    /// How much load it takes; nothing before it has turned anything away.
    pub(super) limits: Option<Box<Limits>>,
    /// What the provider allows; nothing before it has told.
    pub(super) quota: Option<Box<Quota>>,
    /// What guests may take.
    pub(super) guests: Guests,
    /// That its credential was refused for this model.
    pub(super) refused: Option<Refusal>,
}

/// What an attempt was admitted with.
#[derive(Debug)]
pub(super) struct Admitted {
    /// What the breaker is told the end with; none where it was passed over in a panic.
    pub(super) pass: Option<Pass>,
    /// What was taken of the provider's rate limits; none where none is known.
    pub(super) reservation: Option<Reservation>,
    /// Whether it tries the model again, which the credential was refused for.
    pub(super) is_model_trial: bool,
}

// === impl Health ===

impl Health {
    /// Nothing is known yet.
    pub(super) fn new(listed: bool) -> Self {
        Self {
            listed,
            breaker: Breaker::new(breaker::Settings::default()),
            ejection: Ejection::default(),
            success: Decayed::new(SUCCESS_HALF_LIFE),
            latency: Latencies::default(),
            pace: Ewma::new(PACE_TAU),
            minute: Window::new(Duration::from_secs(5)),
            limits: None,
            quota: None,
            guests: Guests::default(),
            refused: None,
        }
    }

    /// The chance that an attempt succeeds, 0 to 1.
    pub(super) fn success(&self, now: Instant) -> f64 {
        self.success.probability(PRIOR_SUCCESS, now)
    }

    /// In how long the target may be asked again, where it may not now.
    pub(super) fn ready_after(&self, now: Instant) -> Option<Duration> {
        let open = match self.breaker.state(now) {
            State::Open { until } => Some(until),
            State::Closed | State::HalfOpen => None,
        };
        let until = [open, self.ejection.out_until(now)].into_iter().flatten().max()?;
        Some(until.saturating_duration_since(now))
    }

    /// Seconds from token to token; nothing where none was seen.
    pub(super) fn token_seconds(&self) -> Option<f64> {
        self.pace.value()
    }

    /// The most attempts that may be under way; 0 where no limit was learnt.
    pub(super) fn limit(&self) -> u32 {
        self.limits.as_ref().map_or(0, |limits| limits.limit())
    }

    /// Attempts of the last minute, and those of them that failed.
    pub(super) fn last_minute(&mut self, now: Instant) -> (u32, u32) {
        let [attempts, failed] = self.minute.sums(now);
        (attempts, failed)
    }

    /// How long it has been back, after it was out; nothing where it never was.
    pub(super) fn back_for(&self, now: Instant) -> Option<Duration> {
        let ejected = self.ejection.returned_at(now);
        let ejected = ejected.map(|at| now.saturating_duration_since(at));
        match (self.breaker.closed_since(now), ejected) {
            (Some(closed), Some(ejected)) => Some(closed.min(ejected)),
            (closed, ejected) => closed.or(ejected),
        }
    }

    /// Admits one attempt beside those in flight, of whom some are guests; `output` says how many
    /// tokens its answer is expected to have. In a panic an open breaker lets it pass, without a
    /// verdict.
    pub(super) fn admit(
        &mut self,
        demand: &Demand,
        output: impl FnOnce() -> u64,
        (in_flight, guests): (u32, u32),
        is_panic: bool,
        now: Instant,
    ) -> Result<Admitted, Exclusion> {
        let (input, output) = (demand.input_tokens, output());
        if let Some(share) = demand.share {
            let estimate = self.estimate(input, output);
            let admitted = self.admit_guest(share, estimate, (in_flight, guests), now);
            admitted.map_err(|no_room| no_room.why)?;
        }
        self.on_load_start(in_flight, now);
        let reservation =
            self.reserve(input, || output, now).map_err(|_must_wait| Exclusion::RateLimited)?;
        let pass = self.breaker.admit(now);
        if pass.is_none() && !is_panic {
            self.give_back(reservation, (input, false), now);
            return Err(Exclusion::Open);
        }
        let shape = demand.shape();
        self.minute.add([1, 0], now);
        self.latency.on_start(shape.streamed, now);
        self.on_load_sent(now);
        let is_model_trial = self.on_refused_start(now);
        Ok(Admitted { pass, reservation, is_model_trial })
    }

    /// The first token came after `waited`. The breaker's verdict on the attempt falls here, and is
    /// taken back if the answer breaks later; a trial is judged by its end.
    pub(super) fn on_first_token(
        &mut self,
        pass: Option<Pass>,
        shape: Shape,
        waited: Duration,
        random: f64,
        now: Instant,
    ) -> Option<Transition> {
        let usual = self.latency.quantiles(shape, now).0.p50;
        self.latency.on_first_token(shape, waited, now);
        self.ejection.on_sample();
        let slow = usual.is_some_and(|usual| waited > SLOW_FROM.max(usual * SLOW_TIMES));
        let pass = pass.filter(|pass| !pass.is_trial())?;
        if slow {
            self.breaker.on_slow_success(pass, random, now)
        } else {
            self.breaker.on_success(pass, now)
        }
    }

    /// The whole answer came; `pace` is the mean time from token to token, where there were
    /// several.
    pub(super) fn on_success(
        &mut self,
        pass: Option<Pass>,
        pace: Option<Duration>,
        now: Instant,
    ) -> Option<Transition> {
        self.success.add(true, now);
        if let Some(pace) = pace {
            self.pace.add(pace.as_secs_f64(), now);
        }
        let trial = pass.filter(Pass::is_trial)?;
        self.breaker.on_success(trial, now)
    }

    /// The caller left within the answer, which says nothing of a target that is on trial.
    pub(super) fn on_left(&mut self, pass: Option<Pass>) {
        if let Some(trial) = pass.filter(Pass::is_trial) {
            self.breaker.on_neutral(trial);
        }
    }

    /// The attempt failed.
    pub(super) fn on_failure(
        &mut self,
        pass: Option<Pass>,
        (shape, waited): (Shape, Option<Duration>),
        failure: &Failure,
        random: f64,
        now: Instant,
    ) -> Option<Transition> {
        let known = failure.kind.severity();
        // A model that a caller made up and nobody has says nothing of those that exist.
        let made_up = failure.kind == FailureKind::NotServed && !self.listed;
        let Some(severity) = known.filter(|_| !made_up) else {
            if waited.is_some() {
                self.latency.on_gone(shape.streamed);
            }
            self.breaker.on_neutral(pass?);
            return None;
        };
        self.minute.add([0, 1], now);
        self.success.add(false, now);
        self.ejection.on_sample();
        if let Some(waited) = waited {
            let heard = failure.kind != FailureKind::SlowStart;
            self.latency.on_failure(shape, (waited, failure.retry_after), heard, now);
        }
        let pass = pass?;
        if waited.is_none() && !pass.is_trial() {
            return self.breaker.on_broken(pass, severity, failure.retry_after, random, now);
        }
        self.breaker.on_failure(pass, severity, failure.retry_after, random, now)
    }

    /// The attempt was given up after `waited` without a first token: it would have taken at least
    /// that long.
    pub(super) fn on_given_up(
        &mut self,
        pass: Option<Pass>,
        shape: Shape,
        waited: Duration,
        now: Instant,
    ) -> Option<Transition> {
        self.latency.on_gone(shape.streamed);
        let expected = self.latency.expected(shape, now).0.unwrap_or_default();
        // A caller who leaves early says nothing of the target.
        if waited.as_secs_f64() > expected {
            self.latency.observe(shape, waited, now);
        }
        self.breaker.on_neutral(pass?);
        None
    }
}
