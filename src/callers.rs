//! Who may call: API keys, their teams, and the admin key.
//!
//! A key is 40 random characters of base 62 behind `tg-`, shown once and stored as its SHA-256. A
//! slow hash would add nothing: it protects passwords that people choose, and nobody guesses 238
//! random bits. On the request path a key costs one SHA-256, one look into an immutable table and
//! one comparison in constant time.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwapOption;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;

use crate::audit::Audit;
use crate::clock::{SystemWallClock, WallClock};
use crate::ids::{CallerId, TeamId};
use crate::quota::LimitSettings;
use crate::rejection::Rejection;
use crate::store::Store;
use crate::store::follow::Following;
use crate::units::Priority;

mod error;
mod key;
mod ledger;
mod record;
mod refresh;
mod roster;
mod row;
mod teams;
mod terms;
#[cfg(test)]
mod tests;

pub use error::KeyError;
pub use key::{KeyHash, SecretKey};
use record::StoredKey;
pub use record::{KeyChange, KeyRecord};
pub use refresh::{CallersHealth, CallersSource};
pub use roster::Roster;
use teams::StoredTeam;
pub use teams::TeamRecord;
pub(crate) use terms::present;
pub use terms::{Access, Terms, TermsChange};

/// When callers need a key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AuthMode {
    /// Open on loopback until the first key is made, from then on a key is needed.
    #[default]
    Auto,
    /// A key is always needed.
    Keys,
    /// No key is needed. A valid one still says who calls.
    Open,
}

/// Who calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The public id of the key, or `anonymous`.
    pub id: CallerId,
    /// The name the operator gave it.
    pub name: String,
    /// The priority of requests that ask for none.
    pub priority: Priority,
    /// The best priority that a request may ask for.
    pub best_priority: Priority,
    /// The team the key belongs to, whose limits hold for all its keys together.
    pub team: Option<Arc<Team>>,
    /// How much the key may use.
    pub limits: LimitSettings,
    /// What the key may ask for, if its team may, too.
    pub access: Access,
    /// What its requests are tagged with: the key's tags, and its team's that the key does not set.
    pub tags: BTreeMap<String, String>,
}

/// A team of callers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Team {
    /// Its public id.
    pub id: TeamId,
    /// The name the operator gave it.
    pub name: String,
    /// How much all its keys together may use.
    pub limits: LimitSettings,
    /// What its keys may ask for.
    pub access: Access,
}

/// All callers. Clones are the same callers.
#[derive(Debug, Clone)]
pub struct Callers {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    store: Store,
    anonymous: Arc<Caller>,
    /// `None` until the store has been read once.
    table: ArcSwapOption<CallerTable>,
    /// `None` until it is known: given by the environment, or read from the store.
    admin: ArcSwapOption<KeyHash>,
    /// Whether the environment gave the admin key, so that the store is not asked.
    admin_is_given: bool,
    /// Whether the store cannot be opened because there is none, so that no key can exist.
    nothing_there: AtomicBool,
    following: Following,
    audit: Audit,
    clock: Arc<dyn WallClock>,
}

/// What the store says about keys, indexed for the request path.
pub(crate) struct CallerTable {
    by_hash: HashMap<KeyHash, Entry>,
    /// What it was made from, for the snapshot. Where it is empty no key was ever made; a gateway
    /// whose only key was revoked stays closed.
    keys: Vec<StoredKey>,
    teams: Vec<StoredTeam>,
    /// How many changes of callers the store had seen.
    revision: i64,
    /// When the store was read, in milliseconds since 1970.
    read_at_ms: u64,
    source: CallersSource,
}

/// One secret.
struct Entry {
    caller: Arc<Caller>,
    /// From when on it is not valid, in milliseconds since 1970.
    until_ms: Option<u64>,
}

/// Why nobody can say whose key it is.
const STORE_IS_AWAY: Rejection = Rejection::Unavailable { what: "the store of API keys" };

// === impl Callers ===

impl Callers {
    /// Callers as `store` knows them; nothing is read yet. `admin_key` is the one the environment
    /// gives; without it the store's is used.
    pub fn new(store: Store, admin_key: Option<&SecretKey>) -> Self {
        Self::keeping(store, admin_key, None)
    }

    /// The same, with a file that keeps the last good state for a start without the store.
    pub fn keeping(store: Store, admin_key: Option<&SecretKey>, snapshot: Option<PathBuf>) -> Self {
        Self::with_clock(store, admin_key, snapshot, Arc::new(SystemWallClock))
    }

    fn with_clock(
        store: Store,
        admin_key: Option<&SecretKey>,
        snapshot: Option<PathBuf>,
        clock: Arc<dyn WallClock>,
    ) -> Self {
        let anonymous = Arc::new(Caller::anonymous());
        let admin = ArcSwapOption::new(admin_key.map(|key| Arc::new(key.hash())));
        let audit = Audit::new(store.clone());
        Self {
            shared: Arc::new(Shared {
                store,
                audit,
                anonymous,
                table: ArcSwapOption::empty(),
                admin,
                admin_is_given: admin_key.is_some(),
                nothing_there: AtomicBool::new(false),
                following: Following::new(snapshot),
                clock,
            }),
        }
    }

    /// Says who calls. `key` is what came in `authorization: Bearer` or `x-api-key`; `is_loopback`
    /// says whether the listener is reachable from this machine alone.
    ///
    /// # Errors
    ///
    /// [`Rejection::Unauthorized`] without a valid key where one is needed;
    /// [`Rejection::Unavailable`] where the key is not known and the store cannot be read, in which
    /// it may stand: that is our fault and not the caller's.
    pub fn authenticate(
        &self,
        key: Option<&str>,
        mode: AuthMode,
        is_loopback: bool,
    ) -> Result<Arc<Caller>, Rejection> {
        let table = self.shared.table.load();
        let known = match (key, table.as_deref()) {
            (Some(key), Some(table)) => table.find(key),
            (None, _) | (_, None) => None,
        };
        let has_expired = match known {
            Some(entry) if entry.is_valid(&*self.shared.clock) => {
                return Ok(Arc::clone(&entry.caller));
            }
            Some(_) => true,
            None => false,
        };
        let open = match (mode, table.as_deref()) {
            (AuthMode::Open, _) => true,
            (AuthMode::Keys, Some(_)) => false,
            (AuthMode::Auto, Some(table)) => is_loopback && !table.any_key(),
            (AuthMode::Auto, None) if is_loopback && self.nothing_there() => true,
            (AuthMode::Keys | AuthMode::Auto, None) => {
                return Err(STORE_IS_AWAY);
            }
        };
        if open {
            return Ok(Arc::clone(&self.shared.anonymous));
        }
        // Where the store is away, the key may have been given more time there.
        if key.is_some() && self.is_behind() {
            return Err(STORE_IS_AWAY);
        }
        if has_expired {
            return Err(Rejection::KeyExpired);
        }
        let problem = match key {
            None => "no API key; send `authorization: Bearer tg-...`",
            Some(_) => "the API key is not known or was revoked",
        };
        Err(Rejection::Unauthorized { problem })
    }

    /// The caller with this id, where it may still call: its key was not revoked, or none is
    /// needed.
    ///
    /// # Errors
    ///
    /// [`Rejection::Unavailable`] where the keys could not be read.
    pub fn find_caller(
        &self,
        id: &CallerId,
        mode: AuthMode,
        is_loopback: bool,
    ) -> Result<Option<Arc<Caller>>, Rejection> {
        if *id == self.shared.anonymous.id {
            return match self.authenticate(None, mode, is_loopback) {
                Ok(caller) => Ok(Some(caller)),
                Err(Rejection::Unauthorized { .. }) => Ok(None),
                Err(other) => Err(other),
            };
        }
        match self.shared.table.load().as_deref() {
            Some(table) => {
                let valid = |entry: &&Entry| entry.is_valid(&*self.shared.clock);
                let mut callers = table.by_hash.values().filter(valid).map(|entry| &entry.caller);
                match callers.find(|caller| caller.id == *id) {
                    Some(caller) => Ok(Some(Arc::clone(caller))),
                    // It may be newer than what is known here.
                    None if self.is_behind() => Err(STORE_IS_AWAY),
                    None => Ok(None),
                }
            }
            None => Err(STORE_IS_AWAY),
        }
    }

    /// Checks the admin key.
    ///
    /// # Errors
    ///
    /// [`Rejection::Unauthorized`] where it is missing or wrong; [`Rejection::Unavailable`] where
    /// ours could not be read.
    pub fn authenticate_admin(&self, key: Option<&str>) -> Result<(), Rejection> {
        let Some(admin) = self.shared.admin.load_full() else {
            return Err(Rejection::Unavailable { what: "the store of the admin key" });
        };
        let Some(key) = key else {
            let problem = "no admin key; send `authorization: Bearer <admin key>`";
            return Err(Rejection::Unauthorized { problem });
        };
        if admin.ct_eq(&KeyHash::of(key)).into() {
            Ok(())
        } else {
            Err(Rejection::Unauthorized { problem: "the admin key is wrong" })
        }
    }

    /// Whether a key was ever made; `None` while the store has not been read.
    pub fn any_key_exists(&self) -> Option<bool> {
        self.shared.table.load().as_deref().map(CallerTable::any_key)
    }

    /// Who changed what.
    pub fn audit(&self) -> &Audit {
        &self.shared.audit
    }

    /// Whether what is known may be behind the store.
    fn is_behind(&self) -> bool {
        self.shared.following.is_behind()
    }

    /// Waits until this node has changed keys in the store, which other nodes do not know yet. For
    /// one listener.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost: a change that came first is seen by the next call.
    pub async fn changed_here(&self) {
        self.shared.following.changed_here().await;
    }

    fn nothing_there(&self) -> bool {
        self.shared.nothing_there.load(Ordering::Relaxed)
    }
}

// === impl Caller ===

impl Caller {
    /// Whoever calls a gateway that asks for no key.
    pub fn anonymous() -> Self {
        Self {
            id: CallerId::anonymous(),
            name: "anonymous".to_owned(),
            priority: Priority::default(),
            best_priority: Priority::BEST_WITHOUT_KEY,
            team: None,
            limits: LimitSettings::default(),
            access: Access::default(),
            tags: BTreeMap::new(),
        }
    }

    /// The gateway itself, for what it asks on its own behalf. Nothing limits it and no key is its.
    pub fn gateway() -> Self {
        Self {
            id: CallerId::gateway(),
            name: "gateway".to_owned(),
            best_priority: Priority::default(),
            ..Self::anonymous()
        }
    }

    fn of(key: &StoredKey, teams: &HashMap<&str, (Arc<Team>, &Terms)>) -> Self {
        let team = key.team.as_ref().and_then(|id| teams.get(id.as_str()));
        let mut tags = team.map(|(_, terms)| terms.tags.clone()).unwrap_or_default();
        tags.extend(key.terms.tags.clone());
        Self {
            id: key.id.clone(),
            name: key.name.clone(),
            priority: key.priority,
            best_priority: key.priority,
            team: team.map(|(team, _)| Arc::clone(team)),
            limits: key.terms.limits.clone(),
            access: key.terms.access.clone(),
            tags,
        }
    }

    /// Whether everything may be asked for.
    pub fn may_ask_for_all(&self) -> bool {
        self.accesses().all(Access::is_open)
    }

    /// Whether a route of the configuration may be asked for.
    pub fn may_use_route(&self, name: &str) -> bool {
        self.accesses().all(|access| access.allows_route(name))
    }

    /// Whether a model, as `provider/model`, may be asked for by its own name.
    pub fn may_use_model(&self, name: &str) -> bool {
        self.accesses().all(|access| access.allows_model(name))
    }

    fn accesses(&self) -> impl Iterator<Item = &Access> {
        std::iter::once(&self.access).chain(self.team.iter().map(|team| &team.access))
    }

    /// The tags of a request that brings these: the caller's own take their place.
    pub fn tagged(&self, mut asked: Vec<(String, String)>) -> Vec<(String, String)> {
        if !self.tags.is_empty() {
            asked.retain(|(tag, _)| !self.tags.contains_key(tag));
            let own = self.tags.iter().map(|(tag, value)| (tag.clone(), value.clone()));
            // First, so that they stay where there are too many.
            asked.splice(0..0, own);
        }
        asked
    }

    /// The priority of a request that asks for this one: never better than the caller may have.
    pub fn priority_of(&self, asked: Option<Priority>) -> Priority {
        asked.map_or(self.priority, |asked| asked.max(self.best_priority))
    }
}

// === impl CallerTable ===

impl CallerTable {
    fn new(
        (keys, teams): (Vec<StoredKey>, Vec<StoredTeam>),
        revision: i64,
        read_at_ms: u64,
        source: CallersSource,
    ) -> Self {
        let by_id = teams.iter().map(|team| (team.id.as_str(), (team.shared(), &team.terms)));
        let by_id = by_id.collect();
        let mut by_hash = HashMap::with_capacity(keys.len());
        for key in keys.iter().filter(|key| key.revoked_at_ms.is_none()) {
            let caller = Arc::new(Caller::of(key, &by_id));
            if let Some(previous) = key.previous {
                let ends = [key.previous_until_ms, key.expires_at_ms];
                let until_ms = ends.into_iter().flatten().min();
                by_hash.insert(previous, Entry { caller: Arc::clone(&caller), until_ms });
            }
            by_hash.insert(key.hash, Entry { caller, until_ms: key.expires_at_ms });
        }
        Self { by_hash, keys, teams, revision, read_at_ms, source }
    }

    fn any_key(&self) -> bool {
        !self.keys.is_empty()
    }

    fn valid_keys(&self) -> usize {
        self.keys.iter().filter(|key| key.revoked_at_ms.is_none()).count()
    }

    fn find(&self, key: &str) -> Option<&Entry> {
        let hash = KeyHash::of(key);
        let (stored, entry) = self.by_hash.get_key_value(&hash)?;
        // The lookup's own timing depends on the hash alone, which nobody can choose bit by bit;
        // the comparison that decides takes the same time whatever differs.
        bool::from(stored.ct_eq(&hash)).then_some(entry)
    }
}

impl Entry {
    fn is_valid(&self, clock: &dyn WallClock) -> bool {
        self.until_ms.is_none_or(|until_ms| clock.unix_ms() < until_ms)
    }
}

impl fmt::Debug for CallerTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallerTable")
            .field("keys", &self.by_hash.len())
            .field("revision", &self.revision)
            .finish_non_exhaustive()
    }
}
