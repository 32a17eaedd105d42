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

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};

use crate::clock::{Instant, WallClock};
use crate::cluster::Cluster;
use crate::ids::{RouteName, TargetId};
use crate::units::MicroUsd;

mod kept;
pub mod key;
mod memory;
pub mod policy;
mod purge;
mod refresh;
mod rendered;
mod settings;
mod shared;
#[cfg(test)]
mod tests;
mod words;

pub use kept::{Form, Head, Kept, Owner};
pub use key::{Key, Question, RouteIdentity, Tenant};
use memory::{Held, Memory};
pub use policy::{Answered, Bypass, CacheMode, CacheWish, Unkept};
pub use purge::{Mark, Purge};
use purge::{PurgeRecord, Purges};
pub use rendered::{Rendered, Wording};
pub use settings::{CacheScope, CacheSettings, RouteCacheSettings};
use shared::{Fetched, Shared};

/// All kept answers. Clones are the same.
#[derive(Clone)]
pub struct Cache {
    core: Arc<Core>,
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
    /// How long after its time an answer is kept for times in which there is no other.
    pub stale_for: Duration,
}

/// What the cache has under a key.
#[derive(Debug)]
pub enum Look {
    /// An answer that may be given.
    Hit(Box<Kept>),
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
    /// Its time is nearly over, and this request is the one that has it made anew.
    Early,
}

/// What the nodes of a cluster have under a key.
#[derive(Debug)]
pub enum Fetch {
    /// An answer that may be given.
    Hit(Box<Kept>),
    /// Nothing.
    Absent,
    /// One that is past its time, or older than the request takes.
    TooOld,
    /// One that was purged, or of a model that was replaced.
    Outdated,
    /// Something that cannot be read. It is taken away.
    Unreadable,
    /// The server did not answer.
    Failed,
}

/// What became of a route's requests.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RouteFigures {
    /// The route.
    pub route: String,
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

struct Core {
    memory: Memory,
    max_bytes: u64,
    routes: RwLock<HashMap<RouteName, Arc<RouteState>>>,
    /// The model that each target last reported.
    reported: RwLock<HashMap<TargetId, String>>,
    purges: Mutex<Purges>,
    clock: Arc<dyn WallClock>,
    /// What nodes share; `None` where this one is alone or keeps to itself.
    shared: Option<Arc<Shared>>,
    /// Who else keeps answers and has to hear of purges.
    listener: OnceLock<Arc<dyn Purged>>,
}

/// Somebody else who keeps answers.
pub trait Purged: Send + Sync {
    /// Forgets all answers that a purge is about and says how many there were here. `is_own`: it
    /// was made here, and not heard of from another node.
    fn purge(&self, purge: &Purge, is_own: bool) -> u64;
}

#[derive(Debug, Default)]
struct RouteState {
    hits: AtomicU64,
    misses: AtomicU64,
    saved_micro_usd: AtomicU64,
}

// === impl Cache ===

impl Cache {
    /// An empty cache, of this process alone.
    pub fn new(settings: &CacheSettings, clock: Arc<dyn WallClock>) -> Self {
        Self::with(settings, clock, None)
    }

    /// An empty cache, over what the nodes of a cluster share. [`Cache::upkeep`] must run beside
    /// it.
    pub fn of_cluster(
        settings: &CacheSettings,
        clock: Arc<dyn WallClock>,
        cluster: &Cluster,
    ) -> Self {
        let shared = settings.shared.then(|| Shared::of(cluster)).flatten();
        Self::with(settings, clock, shared.map(Arc::new))
    }

    fn with(
        settings: &CacheSettings,
        clock: Arc<dyn WallClock>,
        shared: Option<Arc<Shared>>,
    ) -> Self {
        let max_bytes = settings.max_memory.0;
        Self {
            core: Arc::new(Core {
                memory: Memory::new(max_bytes),
                max_bytes,
                routes: RwLock::default(),
                reported: RwLock::default(),
                purges: Mutex::default(),
                clock,
                shared,
                listener: OnceLock::new(),
            }),
        }
    }

    /// This moment, to be given to [`Cache::keep`] with what is asked now.
    pub fn mark(&self) -> Mark {
        self.core.purges.lock().mark()
    }

    /// Looks for an answer in this process that is not past its time and not older than `max_age`.
    /// `chance` is uniform in 0..1: shortly before an answer's time is over one request misses it,
    /// and it is made anew.
    pub fn look(&self, key: &Key, max_age: Option<Duration>, chance: f64, now: Instant) -> Look {
        let Some(held) = self.core.memory.get(key, now) else { return Look::Miss(Miss::Absent) };
        let left = held.fresh_until.saturating_duration_since(now);
        if left.is_zero() || max_age.is_some_and(|most| self.age(&held.kept.head) > most) {
            return Look::Miss(Miss::TooOld);
        }
        if !self.is_of_its_model(&held.kept.head) {
            self.core.memory.remove(key);
            return Look::Miss(Miss::OtherModel);
        }
        if refresh::is_early(left, held.kept.head.took, chance) {
            return Look::Miss(Miss::Early);
        }
        Look::Hit(Box::new(held.kept.clone()))
    }

    /// An answer in a form in which it was given before.
    pub fn rendered(&self, form: &Wording) -> Option<Arc<Rendered>> {
        self.core.memory.written.get(form)
    }

    /// Keeps an answer in the form in which it is given, for a while.
    pub fn keep_rendered(&self, form: Wording, rendered: Rendered) {
        self.core.memory.written.put(form, rendered);
    }

    /// Whether this process keeps an answer under a key, past its time or not.
    pub fn holds(&self, key: &Key) -> bool {
        self.core.memory.holds(key)
    }

    /// Has the connection to what nodes share made; without this, the first request makes it.
    pub fn open(&self) {
        if let Some(shared) = &self.core.shared {
            shared.open();
        }
    }

    /// Whether others may have what this process has not.
    pub fn is_shared(&self) -> bool {
        self.core.shared.is_some()
    }

    /// Looks for an answer among those that nodes share, and keeps it here as well. `since` is when
    /// it was asked for.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when the future is dropped.
    pub async fn fetch(&self, key: &Key, max_age: Option<Duration>, since: Mark) -> Fetch {
        let Some(shared) = &self.core.shared else { return Fetch::Absent };
        let kept = match shared.fetch(key).await {
            Fetched::Found(kept) => kept,
            Fetched::Absent => return Fetch::Absent,
            Fetched::Failed => return Fetch::Failed,
            Fetched::Unreadable => return Fetch::Unreadable,
        };
        if self.core.purges.lock().outdate(&kept.head) || !self.is_of_its_model(&kept.head) {
            shared.forget(*key);
            return Fetch::Outdated;
        }
        let age = self.age(&kept.head);
        let is_fresh = age < kept.head.ttl;
        if self.keep_here(*key, Kept::clone(&kept), since, Instant::now()).is_err() {
            return Fetch::Outdated;
        }
        match is_fresh && max_age.is_none_or(|most| age <= most) {
            true => Fetch::Hit(kept),
            false => Fetch::TooOld,
        }
    }

    /// An answer that may be past its time, for times in which there is no other.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when the future is dropped.
    pub async fn stale(&self, key: &Key, since: Mark) -> Option<Kept> {
        let here = || self.core.memory.get(key, Instant::now());
        let held = match here() {
            Some(held) => held,
            None if self.is_shared() => {
                let _ = self.fetch(key, None, since).await;
                here()?
            }
            None => return None,
        };
        self.is_of_its_model(&held.kept.head).then(|| held.kept.clone())
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

    /// Notes the model that a target reported with a fresh answer. What was kept of another one
    /// under the same name is not given again.
    pub fn saw_model(&self, target: &TargetId, reported: &str) {
        if reported.is_empty() {
            return;
        }
        let is_known = self.core.reported.read().get(target).is_some_and(|known| known == reported);
        if !is_known {
            self.core.reported.write().insert(target.clone(), reported.to_owned());
        }
    }

    /// Keeps an answer to what was asked at `since`, here and for other nodes.
    ///
    /// # Errors
    ///
    /// [`Unkept::Purged`] where what it belongs to was purged meanwhile.
    pub fn keep(&self, key: Key, kept: Kept, since: Mark, now: Instant) -> Result<(), Unkept> {
        if let Some(shared) = &self.core.shared {
            // Whoever reads it there compares it with the purges.
            shared.put(key, &kept);
        }
        self.keep_here(key, kept, since, now)
    }

    fn keep_here(&self, key: Key, kept: Kept, since: Mark, now: Instant) -> Result<(), Unkept> {
        // Held until it is in, so that no purge comes between.
        let purges = self.core.purges.lock();
        if purges.concern(since, &kept.head.owner) {
            return Err(Unkept::Purged);
        }
        let fresh_until = now + kept.head.ttl.saturating_sub(self.age(&kept.head));
        let whole = kept.head.ttl + kept.head.stale_for;
        let kept_until = now + whole.saturating_sub(self.age(&kept.head));
        self.core.memory.put(key, Held { kept, fresh_until, kept_until });
        Ok(())
    }

    /// Forgets all answers that a purge is about, here and on all nodes; says how many there were
    /// here.
    pub fn purge(&self, purge: &Purge) -> u64 {
        let (id, at_ms) = (rand::random(), self.unix_ms());
        let record = PurgeRecord { id, at_ms, purge: purge.clone() };
        self.core.purges.lock().note(record.clone());
        if let Some(shared) = &self.core.shared {
            shared.tell(record);
        }
        self.purge_here(purge, true)
    }

    /// Lets somebody else hear of purges. Only the first call counts.
    pub fn tell_of_purges(&self, listener: Arc<dyn Purged>) {
        let _ = self.core.listener.set(listener);
    }

    /// Whether a purge has come after `since` that is about this owner.
    pub fn is_purged(&self, since: Mark, owner: &Owner) -> bool {
        self.core.purges.lock().concern(since, owner)
    }

    /// Whether a purge that is known is about an answer that was made before it, or so soon after
    /// that clocks cannot tell.
    pub fn is_outdated(&self, head: &Head) -> bool {
        self.core.purges.lock().outdate(head)
    }

    /// Whether an answer that somebody else has kept may still be given: its target reports the
    /// model that gave it, and it is no older than `max_age`.
    pub fn may_give(&self, kept: &Kept, max_age: Option<Duration>) -> bool {
        let is_young = max_age.is_none_or(|most| self.age(&kept.head) <= most);
        is_young && self.is_of_its_model(&kept.head)
    }

    fn purge_here(&self, purge: &Purge, is_own: bool) -> u64 {
        let memory = &self.core.memory;
        let keys = memory.keys_of(|kept| purge.is_about(&kept.head.owner));
        keys.iter().for_each(|key| memory.remove(key));
        memory.written.clear();
        memory.settle();
        let others = self.core.listener.get();
        keys.len() as u64 + others.map_or(0, |listener| listener.purge(purge, is_own))
    }

    /// Writes what nodes share and hears what others purge, for ever; returns at once where nothing
    /// is shared.
    pub async fn upkeep(self) {
        let Some(shared) = self.core.shared.clone() else { return };
        let heard = |records: Vec<PurgeRecord>| {
            let news = self.core.purges.lock().catch_up(records);
            news.iter().for_each(|record| _ = self.purge_here(&record.purge, false));
        };
        shared.run(heard).await;
    }

    /// What became of answers that were to be written for other nodes, by the word for it.
    pub fn shared_writes(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.core.shared.iter().flat_map(|shared| shared.writes())
    }

    /// How full it is.
    pub fn fill(&self) -> Fill {
        self.core.memory.settle();
        let (entries, bytes) = self.core.memory.size();
        Fill { entries, bytes, max_bytes: self.core.max_bytes }
    }

    /// What became of requests, by route in the order of their names.
    pub fn figures(&self) -> Vec<RouteFigures> {
        let routes = self.core.routes.read();
        let mut figures: Vec<_> = routes.iter().map(|(name, state)| state.figures(name)).collect();
        figures.sort_by(|one, other| one.route.cmp(&other.route));
        figures
    }

    /// How old a kept answer is.
    pub fn age(&self, head: &Head) -> Duration {
        head.age(self.core.clock.unix_ms())
    }

    /// Milliseconds since 1970.
    pub fn unix_ms(&self) -> u64 {
        self.core.clock.unix_ms()
    }

    /// Whether its target still reports the model that gave it.
    fn is_of_its_model(&self, head: &Head) -> bool {
        let reported = self.core.reported.read();
        head.reported.is_empty()
            || reported.get(&head.target).is_none_or(|now| *now == head.reported)
    }

    fn state(&self, route: &RouteName) -> Arc<RouteState> {
        if let Some(state) = self.core.routes.read().get(route) {
            return Arc::clone(state);
        }
        Arc::clone(self.core.routes.write().entry(route.clone()).or_default())
    }
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache").field("memory", &self.core.memory).finish_non_exhaustive()
    }
}

// === impl RouteState ===

impl RouteState {
    fn figures(&self, route: &RouteName) -> RouteFigures {
        RouteFigures {
            route: route.to_string(),
            hits: self.hits.load(Ordering::Relaxed),
            misses: self.misses.load(Ordering::Relaxed),
            saved: MicroUsd(self.saved_micro_usd.load(Ordering::Relaxed)),
        }
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
            Self::Early => "early",
        }
    }
}

// === impl Fetch ===

impl Fetch {
    /// The word for metrics.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Hit(_) => "hit",
            Self::Absent => "miss",
            Self::TooOld => "too_old",
            Self::Outdated => "outdated",
            Self::Unreadable => "unreadable",
            Self::Failed => "failed",
        }
    }
}
