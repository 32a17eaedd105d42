//! What nodes that share a credential tell each other of it.
//!
//! A provider that asks one node to stay away means all that have the same key, and a key that one
//! node was refused is refused to all. Whoever learns it tells it once; who is told does as if it
//! had been told by the provider, and tells nobody.

use std::sync::OnceLock;
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use super::Fleet;
use super::target::TargetLive;
use crate::clock::Instant;
use crate::cluster::{Cluster, Fact, Parked, ParkedWhy};
use crate::config::Endpoint;
use crate::policy::quota::{ParkCause, ParkingSettings};

/// The way to the other nodes, once there is one.
#[derive(Debug, Default)]
pub(super) struct Neighbours {
    cluster: OnceLock<Cluster>,
}

/// The longest that a neighbour's word is believed.
const MAX_PAUSE: Duration = Duration::from_secs(300);

// === impl Neighbours ===

impl Neighbours {
    pub(super) fn share(&self, cluster: Cluster) {
        let _ = self.cluster.set(cluster);
    }

    /// The provider asked to be left alone on this target for a while.
    pub(super) fn tell_pause(&self, live: &TargetLive, endpoint: &Endpoint, pause: Duration) {
        let model = model_of(live, endpoint).map(ToOwned::to_owned);
        self.tell(endpoint, model, ParkedWhy::RateLimited, pause);
    }

    /// A credential was parked.
    pub(super) fn tell_parked(&self, endpoint: &Endpoint, cause: ParkCause) {
        let why = match cause {
            ParkCause::AuthFault => ParkedWhy::AuthFault,
            ParkCause::HardQuota => ParkedWhy::HardQuota,
        };
        self.tell(endpoint, None, why, ParkingSettings::default().retry);
    }

    fn tell(&self, endpoint: &Endpoint, model: Option<String>, why: ParkedWhy, pause: Duration) {
        let Some(cluster) = self.cluster.get().filter(|cluster| !cluster.is_alone()) else {
            return;
        };
        let Some(credential) = digest(endpoint) else { return };
        let provider = endpoint.provider.to_string();
        let for_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
        cluster.publish(Fact::Parked(Parked { provider, credential, model, why, for_ms }));
    }
}

// === impl Fleet ===

impl Fleet {
    /// Tells the other nodes of a cluster what concerns them. Only the first call counts.
    pub fn share(&self, cluster: Cluster) {
        self.neighbours.share(cluster);
    }

    /// Another node was told to leave a provider alone. Holds for those targets that were asked for
    /// here before; others find out for themselves.
    pub fn on_parked_elsewhere(&self, parked: &Parked, now: Instant) {
        let pause = Duration::from_millis(parked.for_ms).min(MAX_PAUSE);
        for live in self.live.load().values() {
            let endpoint = live.credential.endpoint();
            if endpoint.provider.as_str() != parked.provider
                || digest(&endpoint).as_ref() != Some(&parked.credential)
            {
                continue;
            }
            match parked.why {
                ParkedWhy::RateLimited => {
                    let model = model_of(live, &endpoint);
                    if parked.model.as_deref().is_none_or(|asked| model == Some(asked)) {
                        let random = self.chance.draw();
                        live.health.lock().on_rate_limited(Some(pause), random, now);
                    }
                }
                ParkedWhy::AuthFault => live.credential.park_elsewhere(ParkCause::AuthFault, now),
                ParkedWhy::HardQuota => live.credential.park_elsewhere(ParkCause::HardQuota, now),
            }
        }
    }
}

/// The part of a target's id that nodes have in common: theirs may count credentials in another
/// order.
fn model_of<'a>(live: &'a TargetLive, endpoint: &Endpoint) -> Option<&'a str> {
    let (id, of) = (live.id.as_str(), endpoint.id.as_str());
    // Models that no file lists are together under their endpoint.
    let rest = id.strip_prefix(of).or_else(|| id.strip_prefix(endpoint.provider.as_str()))?;
    let model = rest.strip_prefix('/')?;
    let nth = of.strip_prefix(endpoint.provider.as_str()).unwrap_or_default();
    Some(model.strip_suffix(nth).unwrap_or(model))
}

/// Says whether two nodes have the same credential, and nothing else of it. Nothing where there is
/// none: what two nodes reach without a key, such as a model on the same machine, may be two
/// things.
fn digest(endpoint: &Endpoint) -> Option<String> {
    let (_, key) = endpoint.auth_header.as_ref()?;
    let mut digest = Sha256::new();
    for part in [b"tidegate credential", endpoint.provider.as_str().as_bytes(), key.as_bytes()] {
        digest.update((part.len() as u64).to_be_bytes());
        digest.update(part);
    }
    Some(digest.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect())
}
