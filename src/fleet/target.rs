//! The live side of one target, and of the provider it belongs to.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::chance::Chance;
use super::credential::CredentialLive;
use super::gate::Gate;
use super::health::Health;
use super::neighbours::Neighbours;
use super::prefix::Prefixes;
use crate::clock::Instant;
use crate::config::Target;
use crate::ids::TargetId;
use crate::policy::breaker::{self, Reason, State, Transition};
use crate::policy::rank::{self, Exclusion};
use crate::telemetry::{GateMetrics, TargetMetrics};

/// The live side of one target.
#[derive(Debug)]
pub struct TargetLive {
    /// Which one.
    pub id: TargetId,
    /// Its metrics.
    pub metrics: Arc<TargetMetrics>,
    pub(super) health: Mutex<Health>,
    /// What its prefix cache likely holds. Taken after `health` where both are.
    pub(super) prefixes: Mutex<Prefixes>,
    /// Who may be there at a time.
    pub(super) gate: Arc<Gate>,
    pub(super) provider: Arc<ProviderLive>,
    pub(super) chance: Arc<Chance>,
    /// Who else may have its credential.
    pub(super) neighbours: Arc<Neighbours>,
    pub(super) credential: Arc<CredentialLive>,
    /// See [`rank::hash`].
    pub(super) hash: u64,
    pub(super) in_flight: AtomicU32,
    /// Those of them that may have only a share.
    pub(super) guests: AtomicU32,
    pub(super) attempts: AtomicU64,
    pub(super) failures: AtomicU64,
    /// How often it was taken out or put back; odd while it is out.
    drainage: AtomicU32,
    /// Why its breaker opened last.
    opened_by: Mutex<Option<Reason>>,
    /// Whether its breaker is not closed, as its provider counts it.
    troubled: AtomicBool,
}

/// What targets of one provider have in common: most outages are the provider's.
#[derive(Debug, Default)]
pub(super) struct ProviderLive {
    targets: AtomicU32,
    /// Those whose breaker is not closed.
    troubled: AtomicU32,
}

/// What all targets have in common.
type FleetWide = (Arc<Chance>, Arc<Neighbours>);

// === impl TargetLive ===

impl TargetLive {
    pub(super) fn new(
        id: TargetId,
        target: &Target,
        (metrics, gate): (TargetMetrics, GateMetrics),
        (provider, credential, (chance, neighbours)): (
            Arc<ProviderLive>,
            Arc<CredentialLive>,
            FleetWide,
        ),
    ) -> Self {
        provider.targets.fetch_add(1, Ordering::Relaxed);
        let hash = rank::hash(id.as_str().as_bytes());
        Self {
            id,
            metrics: Arc::new(metrics),
            health: Mutex::new(Health::new(!target.model.is_made_up)),
            prefixes: Mutex::new(Prefixes::new(target)),
            gate: Gate::new(gate, Arc::clone(&chance), Instant::now()),
            provider,
            chance,
            neighbours,
            credential,
            hash,
            in_flight: AtomicU32::new(0),
            guests: AtomicU32::new(0),
            attempts: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            drainage: AtomicU32::new(0),
            opened_by: Mutex::new(None),
            troubled: AtomicBool::new(false),
        }
    }

    /// Who may be there at a time, and who waits for it.
    pub fn gate(&self) -> &Arc<Gate> {
        &self.gate
    }

    /// Attempts under way.
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Attempts under way that may have only a share.
    pub(super) fn guests(&self) -> u32 {
        self.guests.load(Ordering::Relaxed)
    }

    /// Whether an operator has taken it out: it gets no new attempts.
    pub fn is_drained(&self) -> bool {
        self.drain_version() % 2 == 1
    }

    /// Grows with every change of [`Self::is_drained`].
    pub fn drain_version(&self) -> u32 {
        self.drainage.load(Ordering::Relaxed)
    }

    /// Takes it out, or back in; whether that changed anything. Attempts under way go on.
    ///
    /// # Errors
    ///
    /// The version that it has, where that is not the one that is asked for.
    pub fn set_drained(&self, drained: bool, version: Option<u32>) -> Result<bool, u32> {
        let change = |now: u32| {
            let is_asked = version.is_none_or(|version| version == now);
            (is_asked && (now % 2 == 1) != drained).then(|| now.wrapping_add(1))
        };
        match self.drainage.fetch_update(Ordering::Relaxed, Ordering::Relaxed, change) {
            Ok(_) => Ok(true),
            Err(now) if version.is_none_or(|version| version == now) => Ok(false),
            Err(now) => Err(now),
        }
    }

    /// Why its breaker opened last; nothing where it never did.
    pub(super) fn opened_by(&self) -> Option<Reason> {
        *self.opened_by.lock()
    }

    /// Why its credential cannot be used now.
    pub(super) fn credential_exclusion(&self, now: Instant) -> Option<Exclusion> {
        self.credential.exclusion(now)
    }

    /// In how long it may be asked again, where it may not now and that is known.
    pub(super) fn ready_after(&self, now: Instant) -> Option<Duration> {
        let mut health = self.health.lock();
        let waits = [
            health.ready_after(now),
            health.quota_wait(now),
            health.refusal_wait(self.credential.epoch(), now),
            self.credential.ready_after(now),
        ];
        waits.into_iter().flatten().max()
    }

    /// Sets those metrics that pass with time.
    pub(super) fn publish(&self, now: Instant) {
        let mut health = self.health.lock();
        health.forget_limits(now);
        self.metrics.limit.set(i64::from(health.limit()));
        self.metrics.headroom.set(health.headroom(now));
    }

    /// Whether most of its provider's targets are out, though it is not.
    pub(super) fn is_suspect(&self) -> bool {
        let troubled = self.provider.troubled.load(Ordering::Relaxed);
        let targets = self.provider.targets.load(Ordering::Relaxed);
        breaker::provider_suspect(troubled as usize, targets as usize)
    }

    /// Writes down that its breaker changed.
    pub(super) fn on_transition(&self, transition: Option<Transition>, now: Instant) {
        let state = match transition {
            None => return,
            Some(Transition::Opened { until, reason }) => {
                *self.opened_by.lock() = Some(reason);
                tracing::warn!(
                    target.id = %self.id,
                    breaker.reason = reason.as_str(),
                    seconds = until.saturating_duration_since(now).as_secs_f64(),
                    "breaker opened: the target gets no requests for a while"
                );
                State::Open { until }
            }
            Some(Transition::HalfOpened) => {
                tracing::info!(target.id = %self.id, "breaker half open: trying the target again");
                State::HalfOpen
            }
            Some(Transition::Closed) => {
                tracing::info!(target.id = %self.id, "breaker closed: the target is back");
                State::Closed
            }
        };
        self.metrics.breaker_state.set(match state {
            State::Closed => 0,
            State::HalfOpen => 1,
            State::Open { .. } => 2,
        });
        let troubled = state != State::Closed;
        match (self.troubled.swap(troubled, Ordering::Relaxed), troubled) {
            (false, true) => self.provider.troubled.fetch_add(1, Ordering::Relaxed),
            (true, false) => self.provider.troubled.fetch_sub(1, Ordering::Relaxed),
            (true, true) | (false, false) => 0,
        };
    }
}
