//! Answers that are kept to be given again: the same request gets the same answer, and nobody is
//! asked for it.
//!
//! ```text
//! request ──▶ may it be asked? (policy) ──▶ key ──▶ memory ──▶ hit: written anew for its caller
//!                                                      └─▶ miss: answered ──▶ may it be kept? ──▶ kept
//! ```
//!
//! A cache that lies is worse than none. So a key holds everything that may shape an answer and
//! whose it is ([`key`]); an answer is kept only where asking again would be as good ([`policy`]);
//! and what was kept of a model that its provider has since replaced under the same name is not
//! given again.
//!
//! One entry serves every form of an answer, whole or streamed.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};

use crate::clock::{Instant, WallClock};
use crate::ids::{RouteName, TargetId};
use crate::units::MicroUsd;

mod kept;
pub mod key;
mod memory;
pub mod policy;
mod purge;
mod settings;
#[cfg(test)]
mod tests;
mod words;

pub use kept::{Form, Head, Kept, Owner};
pub use key::{Key, Question, RouteIdentity, Tenant};
use memory::{Held, Memory};
pub use policy::{Answered, Bypass, CacheMode, CacheWish, Unkept};
pub use purge::Purge;
pub use settings::{CacheScope, CacheSettings, RouteCacheSettings};

/// All kept answers. Clones are the same.
#[derive(Clone)]
pub struct Cache {
    shared: Arc<Shared>,
}

/// What a route keeps, and what its keys begin with.
#[derive(Debug, Clone, PartialEq)]
pub struct RouteCache {
    /// What the configuration says.
    pub settings: RouteCacheSettings,
    /// What the route stands for.
    pub identity: RouteIdentity,
    /// The largest answer that is kept, in bytes.
    pub max_answer: usize,
}

/// What the cache has under a key.
#[derive(Debug)]
pub enum Look {
    /// An answer that may be given.
    Hit(Kept),
    /// None.
    Miss(Miss),
}

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Miss {
    /// There is none.
    Absent,
    /// There is one that is past its time, or older than the request takes.
    TooOld,
    /// Its provider has another model under that name now.
    OtherModel,
}

/// The moment at which a request was made, for purges that come while it is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark(u64);

/// What became of a route's requests.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RouteFigures {
    /// The route.
    pub route: String,
    /// How often everything that was kept of it was given up.
    pub epoch: u64,
    /// Requests that were answered from the cache.
    pub hits: u64,
    /// Requests that were looked up and not found.
    pub misses: u64,
    /// What the hits would have cost.
    pub saved: MicroUsd,
}

/// How full the cache is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Fill {
    /// Answers.
    pub entries: u64,
    /// Bytes that they take.
    pub bytes: u64,
    /// Bytes that they may take.
    pub max_bytes: u64,
}

struct Shared {
    memory: Memory,
    max_bytes: u64,
    routes: RwLock<HashMap<RouteName, Arc<RouteState>>>,
    /// The model that each target last reported.
    reported: RwLock<HashMap<TargetId, String>>,
    purges: Mutex<Purges>,
    clock: Arc<dyn WallClock>,
}

#[derive(Debug, Default)]
struct RouteState {
    epoch: AtomicU64,
    hits: AtomicU64,
    misses: AtomicU64,
    saved_micro_usd: AtomicU64,
}

/// The last purges, for answers that were asked for before them.
#[derive(Debug, Default)]
struct Purges {
    count: u64,
    last: VecDeque<Purge>,
}

/// Purges that are remembered. Who was asked before more of them keeps nothing.
const PURGES: usize = 64;

// === impl Cache ===

impl Cache {
    /// An empty cache of this size.
    pub fn new(settings: &CacheSettings, clock: Arc<dyn WallClock>) -> Self {
        let max_bytes = settings.max_memory.0;
        Self {
            shared: Arc::new(Shared {
                memory: Memory::new(max_bytes),
                max_bytes,
                routes: RwLock::default(),
                reported: RwLock::default(),
                purges: Mutex::default(),
                clock,
            }),
        }
    }

    /// How often everything that was kept of a route was given up: a part of its keys.
    pub fn epoch(&self, route: &RouteName) -> u64 {
        self.state(route).epoch.load(Ordering::Relaxed)
    }

    /// Gives up everything that was kept of a route.
    pub fn give_up(&self, route: &RouteName) {
        self.state(route).epoch.fetch_add(1, Ordering::Relaxed);
    }

    /// This moment, to be given to [`Cache::keep`] with what is asked now.
    pub fn mark(&self) -> Mark {
        Mark(self.shared.purges.lock().count)
    }

    /// Looks for an answer that is not past its time and not older than `max_age`.
    pub fn look(&self, key: &Key, max_age: Option<Duration>, now: Instant) -> Look {
        let Some(held) = self.shared.memory.get(key, now) else { return Look::Miss(Miss::Absent) };
        if held.fresh_until <= now || max_age.is_some_and(|most| self.age(&held.kept) > most) {
            return Look::Miss(Miss::TooOld);
        }
        if !self.is_of_its_model(&held.kept.head) {
            self.shared.memory.remove(key);
            return Look::Miss(Miss::OtherModel);
        }
        Look::Hit(held.kept.clone())
    }

    /// Counts what became of a request of a route: what a hit has saved, or that it was none.
    pub fn count(&self, route: &RouteName, saved: Option<MicroUsd>) {
        let state = self.state(route);
        match saved {
            Some(saved) => {
                state.hits.fetch_add(1, Ordering::Relaxed);
                state.saved_micro_usd.fetch_add(saved.0, Ordering::Relaxed);
            }
            None => _ = state.misses.fetch_add(1, Ordering::Relaxed),
        }
    }

    /// Notes the model that a target reported with a fresh answer. What was kept of another one under
    /// the same name is not given again.
    pub fn saw_model(&self, target: &TargetId, reported: &str) {
        if reported.is_empty() {
            return;
        }
        let is_known =
            self.shared.reported.read().get(target).is_some_and(|known| known == reported);
        if !is_known {
            self.shared.reported.write().insert(target.clone(), reported.to_owned());
        }
    }

    /// Keeps an answer to what was asked at `since`.
    ///
    /// # Errors
    ///
    /// [`Unkept::Purged`] where what it belongs to was purged meanwhile.
    pub fn keep(&self, key: Key, kept: Kept, since: Mark, now: Instant) -> Result<(), Unkept> {
        // Held until it is in, so that no purge comes between.
        let purges = self.shared.purges.lock();
        if purges.concern(since, &kept.head.owner) {
            return Err(Unkept::Purged);
        }
        let fresh_until = now + kept.head.ttl;
        self.shared.memory.put(key, Held { kept, fresh_until, kept_until: fresh_until });
        Ok(())
    }

    /// Forgets all answers that a purge is about; says how many there were.
    pub fn purge(&self, purge: &Purge) -> u64 {
        self.shared.purges.lock().note(purge);
        let memory = &self.shared.memory;
        let keys = memory.keys_of(|kept| purge.is_about(&kept.head.owner));
        keys.iter().for_each(|key| memory.remove(key));
        memory.settle();
        keys.len() as u64
    }

    /// How full it is.
    pub fn fill(&self) -> Fill {
        self.shared.memory.settle();
        let (entries, bytes) = self.shared.memory.size();
        Fill { entries, bytes, max_bytes: self.shared.max_bytes }
    }

    /// What became of requests, by route in the order of their names.
    pub fn figures(&self) -> Vec<RouteFigures> {
        let routes = self.shared.routes.read();
        let mut figures: Vec<_> = routes.iter().map(|(name, state)| state.figures(name)).collect();
        figures.sort_by(|one, other| one.route.cmp(&other.route));
        figures
    }

    /// How old a kept answer is.
    pub fn age(&self, kept: &Kept) -> Duration {
        kept.age(self.shared.clock.unix_ms())
    }

    /// Milliseconds since 1970.
    pub fn unix_ms(&self) -> u64 {
        self.shared.clock.unix_ms()
    }

    /// Whether its target still reports the model that gave it.
    fn is_of_its_model(&self, head: &Head) -> bool {
        let reported = self.shared.reported.read();
        head.reported.is_empty()
            || reported.get(&head.target).is_none_or(|now| *now == head.reported)
    }

    fn state(&self, route: &RouteName) -> Arc<RouteState> {
        if let Some(state) = self.shared.routes.read().get(route) {
            return Arc::clone(state);
        }
        Arc::clone(self.shared.routes.write().entry(route.clone()).or_default())
    }
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache").field("memory", &self.shared.memory).finish_non_exhaustive()
    }
}

// === impl RouteState ===

impl RouteState {
    fn figures(&self, route: &RouteName) -> RouteFigures {
        RouteFigures {
            route: route.to_string(),
            epoch: self.epoch.load(Ordering::Relaxed),
            hits: self.hits.load(Ordering::Relaxed),
            misses: self.misses.load(Ordering::Relaxed),
            saved: MicroUsd(self.saved_micro_usd.load(Ordering::Relaxed)),
        }
    }
}

// === impl Purges ===

impl Purges {
    fn note(&mut self, purge: &Purge) {
        self.count += 1;
        if self.last.len() == PURGES {
            self.last.pop_front();
        }
        self.last.push_back(purge.clone());
    }

    /// Whether one that came after `since` is about this owner. One that is forgotten may be.
    fn concern(&self, since: Mark, owner: &Owner) -> bool {
        let later = usize::try_from(self.count.saturating_sub(since.0)).unwrap_or(usize::MAX);
        later > self.last.len()
            || self.last.iter().rev().take(later).any(|purge| purge.is_about(owner))
    }
}

// === impl Miss ===

impl Miss {
    /// The word for metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Absent => "miss",
            Self::TooOld => "too_old",
            Self::OtherModel => "other_model",
        }
    }
}
