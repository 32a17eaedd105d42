//! Whether a credential may be used.
//!
//! A key that is not accepted, or whose credit is used up, is benched for five minutes with all
//! models behind it, on the first answer that says so; other credentials of the provider go on.
//! Then one request tries it again, and if that is answered it is back.
//!
//! Some providers refuse single models with the same words. So the model that was refused is
//! benched too, on its own, and an answer on another one that was asked for later frees the key but
//! not the model. A 403, which mostly is about what a key may do, benches the model alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use http::StatusCode;
use parking_lot::Mutex;
use prometheus::IntGauge;

use super::health::Health;
use crate::clock::Instant;
use crate::config::Endpoint;
use crate::failure::{Failure, FailureKind};
use crate::policy::quota::{ParkCause, Parking, ParkingSettings};
use crate::policy::rank::Exclusion;

/// The live side of one endpoint's credential.
#[derive(Debug)]
pub(super) struct CredentialLive {
    /// Whether it is anything but in use, so that nobody takes the lock of one that is well.
    is_troubled: AtomicBool,
    /// What is known of single models' refusals is void when this has changed.
    epoch: AtomicU32,
    state: Mutex<State>,
    parked: IntGauge,
}

#[derive(Debug)]
struct State {
    endpoint: Arc<Endpoint>,
    parking: Parking,
    parked_at: Instant,
}

/// A model that a credential was refused.
#[derive(Debug)]
pub(super) struct Refusal {
    epoch: u32,
    parking: Parking,
    at: Instant,
    /// When the attempt began that tries the model again.
    tried_at: Option<Instant>,
}

// === impl CredentialLive ===

impl CredentialLive {
    pub(super) fn new(endpoint: &Arc<Endpoint>, parked: IntGauge, now: Instant) -> Self {
        let state = State {
            endpoint: Arc::clone(endpoint),
            parking: Parking::new(ParkingSettings::default()),
            parked_at: now,
        };
        Self {
            is_troubled: AtomicBool::new(false),
            epoch: AtomicU32::new(0),
            state: Mutex::new(state),
            parked,
        }
    }

    /// The endpoint as it is configured now. Where a reload has changed it, what is known of the
    /// credential says nothing any more.
    pub(super) fn adopt(&self, endpoint: &Arc<Endpoint>) {
        let mut state = self.state.lock();
        if !Arc::ptr_eq(&state.endpoint, endpoint) {
            state.endpoint = Arc::clone(endpoint);
            self.free(&mut state);
            self.epoch.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The endpoint whose credential it is.
    pub(super) fn endpoint(&self) -> Arc<Endpoint> {
        Arc::clone(&self.state.lock().endpoint)
    }

    /// Another node was refused with it.
    pub(super) fn park_elsewhere(&self, cause: ParkCause, now: Instant) {
        let mut state = self.state.lock();
        if state.parking.is_parked(now) {
            return;
        }
        state.park(cause, now);
        self.is_troubled.store(true, Ordering::Relaxed);
        self.parked.set(1);
        tracing::warn!(
            endpoint.id = %state.endpoint.id,
            credential = &*state.endpoint.credential,
            "credential parked: another node was refused with it; it is tried again in 5 min"
        );
    }

    /// Why it cannot be used now.
    pub(super) fn exclusion(&self, now: Instant) -> Option<Exclusion> {
        self.parked(now).map(|(cause, _)| exclusion(cause))
    }

    /// In how long it may be tried again, where it may not now.
    pub(super) fn ready_after(&self, now: Instant) -> Option<Duration> {
        self.parked(now).map(|(_, until)| until.saturating_duration_since(now))
    }

    pub(super) fn epoch(&self) -> u32 {
        self.epoch.load(Ordering::Relaxed)
    }

    /// An attempt begins; returns whether it is the one that tries a parked credential again.
    pub(super) fn on_start(&self, now: Instant) -> bool {
        self.is_troubled.load(Ordering::Relaxed) && self.state.lock().parking.on_start(now)
    }

    /// An attempt that began at `started` was answered.
    pub(super) fn on_answer(&self, endpoint: &Arc<Endpoint>, started: Instant, is_trial: bool) {
        if !self.is_troubled.load(Ordering::Relaxed) {
            return;
        }
        let mut state = self.state.lock();
        if !Arc::ptr_eq(&state.endpoint, endpoint) {
            return;
        }
        if is_trial {
            self.epoch.fetch_add(1, Ordering::Relaxed);
        } else if started < state.parked_at {
            // A stream that began before the credit ran out proves nothing.
            return;
        }
        let credential = &*endpoint.credential;
        tracing::info!(endpoint.id = %endpoint.id, credential, "credential accepted again");
        self.free(&mut state);
    }

    /// An attempt ended and proved nothing.
    pub(super) fn on_neutral(&self, is_trial: bool, now: Instant) {
        if is_trial {
            self.state.lock().parking.on_neutral(now);
        }
    }

    /// The credential was refused. Returns whether it is the one in use now.
    pub(super) fn on_refusal(
        &self,
        endpoint: &Arc<Endpoint>,
        (cause, failure): (ParkCause, &Failure),
        is_trial: bool,
        now: Instant,
    ) -> bool {
        let mut state = self.state.lock();
        if !Arc::ptr_eq(&state.endpoint, endpoint) {
            return false;
        }
        if failure.status == Some(StatusCode::FORBIDDEN) {
            if is_trial {
                state.parking.on_neutral(now);
            }
            return true;
        }
        let is_new = is_trial || !state.parking.is_parked(now);
        state.park(cause, now);
        self.is_troubled.store(true, Ordering::Relaxed);
        self.parked.set(1);
        if is_new {
            tracing::error!(
                endpoint.id = %endpoint.id,
                credential = &*endpoint.credential,
                failure.kind = failure.kind.as_str(),
                status = failure.status.map(|status| status.as_u16()),
                "credential parked: the provider does not accept it; it is tried again in 5 min"
            );
        }
        true
    }

    fn parked(&self, now: Instant) -> Option<(ParkCause, Instant)> {
        if !self.is_troubled.load(Ordering::Relaxed) {
            return None;
        }
        self.state.lock().parking.parked(now)
    }

    fn free(&self, state: &mut State) {
        state.parking = Parking::new(ParkingSettings::default());
        self.is_troubled.store(false, Ordering::Relaxed);
        self.parked.set(0);
    }
}

// === impl State ===

impl State {
    fn park(&mut self, cause: ParkCause, now: Instant) {
        self.parked_at = now;
        park(&mut self.parking, cause, now);
    }
}

// === impl Health ===

impl Health {
    /// Why the credential cannot be used for this model.
    pub(super) fn refusal(&self, epoch: u32, now: Instant) -> Option<Exclusion> {
        let refusal = self.refused.as_ref().filter(|refusal| refusal.epoch == epoch)?;
        refusal.parking.parked(now).map(|(cause, _)| exclusion(cause))
    }

    /// In how long it may be tried again, where it may not now.
    pub(super) fn refusal_wait(&self, epoch: u32, now: Instant) -> Option<Duration> {
        let refusal = self.refused.as_ref().filter(|refusal| refusal.epoch == epoch)?;
        let (_, until) = refusal.parking.parked(now)?;
        Some(until.saturating_duration_since(now))
    }

    /// An attempt begins: the first after the time of a refusal tries the model again. Returns
    /// whether this one does.
    pub(super) fn on_refused_start(&mut self, now: Instant) -> bool {
        let Some(refusal) = &mut self.refused else { return false };
        let is_trial = refusal.parking.on_start(now);
        if is_trial {
            refusal.tried_at = Some(now);
        }
        is_trial
    }

    /// An attempt that began at `started` was answered.
    pub(super) fn on_accepted(&mut self, started: Instant) {
        self.refused.take_if(|refusal| refusal.at <= started);
    }

    /// The attempt that began at `started` and tried the model again proved nothing. One that took
    /// too long has had its place taken by another.
    pub(super) fn on_refused_neutral(&mut self, started: Instant, now: Instant) {
        if let Some(refusal) = &mut self.refused
            && refusal.tried_at == Some(started)
        {
            refusal.parking.on_neutral(now);
        }
    }

    /// The credential was refused when this model was asked for.
    pub(super) fn on_refused(&mut self, cause: ParkCause, epoch: u32, now: Instant) {
        let mut parking = Parking::new(ParkingSettings::default());
        park(&mut parking, cause, now);
        self.refused = Some(Refusal { epoch, parking, at: now, tried_at: None });
    }
}

/// What a failure says of the credential; nothing where it says nothing.
pub(super) fn cause(failure: &Failure) -> Option<ParkCause> {
    let causes = [
        (FailureKind::AuthFault, ParkCause::AuthFault),
        (FailureKind::HardQuota, ParkCause::HardQuota),
    ];
    causes.into_iter().find(|(kind, _)| *kind == failure.kind).map(|(_, cause)| cause)
}

fn park(parking: &mut Parking, cause: ParkCause, now: Instant) {
    match cause {
        ParkCause::AuthFault => parking.on_auth_fault(now),
        ParkCause::HardQuota => parking.on_hard_quota(now),
    }
}

fn exclusion(cause: ParkCause) -> Exclusion {
    match cause {
        ParkCause::AuthFault => Exclusion::Unauthorized,
        ParkCause::HardQuota => Exclusion::QuotaUsedUp,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_attempt_that_tries_a_refused_model_again_may_leave_that_to_another() {
        let began = Instant::now();
        let at = |secs| began + Duration::from_secs(secs);
        let mut health = Health::new(true);
        health.on_refused(ParkCause::AuthFault, 0, began);
        assert!(!health.on_refused_start(at(1)), "it is benched");
        assert!(health.on_refused_start(at(300)));
        assert!(!health.on_refused_start(at(301)), "it is being tried");
        for older in [began, at(1), at(301)] {
            health.on_refused_neutral(older, at(302));
            assert_eq!(health.refusal(0, at(302)), Some(Exclusion::Unauthorized));
        }
        assert!(health.on_refused_start(at(360)), "the first has had its minute");
        health.on_refused_neutral(at(300), at(361));
        assert_eq!(health.refusal(0, at(361)), Some(Exclusion::Unauthorized));
        health.on_refused_neutral(at(360), at(362));
        assert_eq!(health.refusal(0, at(362)), None, "the next one tries it");
        assert!(health.on_refused_start(at(362)));
    }
}
