//! Parking of a credential that is not accepted or has no credit left.
//!
//! A bad key says nothing about the model behind it, so it benches the key alone, and without a
//! breaker's ratios: one answer is proof. Every few minutes one request tries it again.

use std::time::Duration;

use crate::clock::Instant;

/// How long a credential stays parked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParkingSettings {
    /// The time until a request tries the credential again.
    pub retry: Duration,
    /// How long that request keeps others away; a trial whose end nobody tells ends with this.
    pub trial: Duration,
}

/// Why a credential is parked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ParkCause {
    /// It is not accepted: 401, 403.
    AuthFault,
    /// Its quota or credit is used up.
    HardQuota,
}

/// Whether one credential may be used.
#[derive(Debug, Clone, Copy)]
pub struct Parking {
    settings: ParkingSettings,
    state: State,
}

#[derive(Debug, Clone, Copy)]
enum State {
    InUse,
    Parked { cause: ParkCause, until: Instant },
    Trial { cause: ParkCause, until: Instant },
}

impl Default for ParkingSettings {
    /// Tried again after five minutes, by one request that has one minute.
    fn default() -> Self {
        Self { retry: Duration::from_secs(300), trial: Duration::from_secs(60) }
    }
}

// === impl Parking ===

impl Parking {
    /// A credential in use.
    pub fn new(settings: ParkingSettings) -> Self {
        Self { settings, state: State::InUse }
    }

    /// Whether no request may use the credential now.
    pub fn is_parked(&self, now: Instant) -> bool {
        self.parked(now).is_some()
    }

    /// Why, and until when at the latest, no request may use the credential now.
    pub fn parked(&self, now: Instant) -> Option<(ParkCause, Instant)> {
        match self.state {
            State::Parked { cause, until } | State::Trial { cause, until } => {
                (now < until).then_some((cause, until))
            }
            State::InUse => None,
        }
    }

    /// A request starts with the credential. The first one after the parking time is the trial, and
    /// the credential is parked for all others until it ends. Returns whether this one is.
    pub fn on_start(&mut self, now: Instant) -> bool {
        match self.state {
            State::Parked { cause, until } | State::Trial { cause, until } if now >= until => {
                self.state = State::Trial { cause, until: now + self.settings.trial };
                true
            }
            State::Parked { .. } | State::Trial { .. } | State::InUse => false,
        }
    }

    /// The credential was not accepted.
    pub fn on_auth_fault(&mut self, now: Instant) {
        self.park(ParkCause::AuthFault, now);
    }

    /// The credential's quota or credit is used up.
    pub fn on_hard_quota(&mut self, now: Instant) {
        self.park(ParkCause::HardQuota, now);
    }

    /// A request with the credential succeeded. Only a trial ends the parking: a stream that began
    /// before the credit ran out proves nothing when it ends.
    pub fn on_success(&mut self) {
        if let State::Trial { .. } = self.state {
            self.state = State::InUse;
        }
    }

    /// The trial ended and proved nothing: the caller left, or the provider failed. The next
    /// request is the trial.
    pub fn on_neutral(&mut self, now: Instant) {
        if let State::Trial { cause, .. } = self.state {
            self.state = State::Parked { cause, until: now };
        }
    }

    fn park(&mut self, cause: ParkCause, now: Instant) {
        self.state = State::Parked { cause, until: now + self.settings.retry };
    }
}
