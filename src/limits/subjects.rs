//! Those whose use is counted: found by name, locked in order, forgotten when they have rested.

use std::collections::HashMap;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};

use crate::clock::Instant;
use crate::policy::rank;
use crate::quota::{Allowance, Dimension, LimitSettings, Moment, Rule};

/// Parts of the map, so that requests of different callers seldom wait for each other.
const SHARDS: usize = 16;
/// Subjects of one part. Tags are what callers say, so there may be any number: beyond it, new ones
/// of a limit share one allowance.
const MAX_IN_SHARD: usize = 4_096;
/// How often a full part is searched for subjects that can be forgotten.
const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// Stands for all subjects of a limit for which there is no room.
const OTHERS: &str = "|…";

/// All subjects that have used something.
#[derive(Debug, Default)]
pub(super) struct Subjects {
    shards: [Mutex<Shard>; SHARDS],
    next_order: AtomicU64,
    /// Whether other nodes use the same limits.
    is_shared: bool,
}

#[derive(Debug, Default)]
struct Shard {
    by_key: HashMap<String, Arc<Subject>>,
    swept: Option<Instant>,
}

/// Somebody whose use is counted for one limit.
#[derive(Debug)]
pub(super) struct Subject {
    key: String,
    /// Its place in the order in which several are locked, which keeps them from waiting for each
    /// other in a circle.
    pub(super) order: u64,
    /// Whether somebody has asked to look after it, and nobody has yet.
    pub(super) is_waiting: AtomicBool,
    made_at: Moment,
    live: Mutex<Live>,
}

/// What a subject may use.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) rule: Arc<Rule>,
    own: Option<LimitSettings>,
    /// What the configuration and the key say by now, where that is something else.
    to: Option<(Arc<Rule>, Option<LimitSettings>)>,
    is_shared: bool,
    allowance: Allowance,
}

/// A subject that nobody else changes meanwhile.
#[derive(Debug)]
pub(super) struct Locked<'a> {
    subject: &'a Subject,
    live: MutexGuard<'a, Live>,
}

/// Locks subjects, which must be in their order and each there once.
pub(super) fn lock(subjects: &[Arc<Subject>], moment: Moment) -> Vec<Locked<'_>> {
    let locked = subjects.iter().map(|subject| {
        let mut live = subject.live.lock();
        live.adapt(moment);
        Locked { subject, live }
    });
    locked.collect()
}

// === impl Subjects ===

impl Subjects {
    pub(super) fn new(is_shared: bool) -> Self {
        Self { is_shared, ..Self::default() }
    }

    /// The subject with this key, which may be a new one. `own` are the limits that a key has for
    /// itself.
    pub(super) fn get(
        &self,
        key: String,
        rule: &Arc<Rule>,
        own: Option<&LimitSettings>,
        moment: Moment,
    ) -> Arc<Subject> {
        let mut shard = self.shard(&key).lock();
        if let Some(subject) = shard.by_key.get(&key) {
            let subject = Arc::clone(subject);
            drop(shard);
            subject.live.lock().note(rule, own);
            return subject;
        }
        if shard.is_full(moment) {
            drop(shard);
            return self.others(rule, moment);
        }
        let subject = self.make(key.clone(), rule, own, moment);
        shard.by_key.insert(key, Arc::clone(&subject));
        subject
    }

    /// The subject with this key, where it has used something.
    pub(super) fn find(
        &self,
        key: &str,
        rule: &Arc<Rule>,
        own: Option<&LimitSettings>,
    ) -> Option<Arc<Subject>> {
        let subject = Arc::clone(self.shard(key).lock().by_key.get(key)?);
        subject.live.lock().note(rule, own);
        Some(subject)
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().by_key.len()).sum()
    }

    /// All of them, in no order.
    pub(super) fn all(&self) -> Vec<Arc<Subject>> {
        let of = |shard: &Mutex<Shard>| shard.lock().by_key.values().cloned().collect::<Vec<_>>();
        self.shards.iter().flat_map(of).collect()
    }

    /// Forgets those that have rested.
    pub(super) fn sweep(&self, moment: Moment) {
        for shard in &self.shards {
            shard.lock().sweep(moment);
        }
    }

    /// The one that stands for all for which there is no room. It is there beside those.
    fn others(&self, rule: &Arc<Rule>, moment: Moment) -> Arc<Subject> {
        let key = format!("{}{OTHERS}", rule.name);
        let mut shard = self.shard(&key).lock();
        if let Some(subject) = shard.by_key.get(&key) {
            return Arc::clone(subject);
        }
        let subject = self.make(key.clone(), rule, None, moment);
        shard.by_key.insert(key, Arc::clone(&subject));
        subject
    }

    fn make(
        &self,
        key: String,
        rule: &Arc<Rule>,
        own: Option<&LimitSettings>,
        moment: Moment,
    ) -> Arc<Subject> {
        let live = Live {
            allowance: rule.allowance(own, self.is_shared, moment),
            is_shared: self.is_shared,
            rule: Arc::clone(rule),
            own: own.cloned(),
            to: None,
        };
        let order = self.next_order.fetch_add(1, Ordering::Relaxed);
        let is_waiting = AtomicBool::new(false);
        Arc::new(Subject { key, order, is_waiting, made_at: moment, live: Mutex::new(live) })
    }

    fn shard(&self, key: &str) -> &Mutex<Shard> {
        let [first, ..] = &self.shards;
        let at = usize::try_from(rank::hash(key.as_bytes()) % SHARDS as u64).unwrap_or_default();
        self.shards.get(at).unwrap_or(first)
    }
}

// === impl Subject ===

impl Subject {
    /// Who it is.
    pub(super) fn key(&self) -> &str {
        &self.key
    }

    /// When it was made: a time that has passed for it, where no better one is at hand.
    pub(super) const fn made_at(&self) -> Moment {
        self.made_at
    }
}

// === impl Shard ===

impl Shard {
    /// Whether there is no room, after a search for some.
    fn is_full(&mut self, moment: Moment) -> bool {
        let is_due = |swept: Instant| moment.now.saturating_duration_since(swept) >= SWEEP_EVERY;
        if self.by_key.len() >= MAX_IN_SHARD && self.swept.is_none_or(is_due) {
            self.sweep(moment);
        }
        self.by_key.len() >= MAX_IN_SHARD
    }

    /// Nobody else has a subject that is only in the map, and who wants it has to lock the map.
    fn sweep(&mut self, moment: Moment) {
        self.swept = Some(moment.now);
        self.by_key.retain(|_, subject| {
            Arc::strong_count(subject) > 1 || !subject.live.lock().allowance.is_unused(moment)
        });
    }
}

// === impl Live ===

impl Live {
    /// Notes what the configuration and the key say now.
    fn note(&mut self, rule: &Arc<Rule>, own: Option<&LimitSettings>) {
        let is_same = Arc::ptr_eq(&self.rule, rule) && self.own.as_ref() == own;
        self.to = (!is_same).then(|| (Arc::clone(rule), own.cloned()));
    }

    /// Goes by what was noted. What was used stays used.
    fn adapt(&mut self, moment: Moment) {
        if let Some((rule, own)) = self.to.take() {
            let to = rule.allowance(own.as_ref(), self.is_shared, moment);
            self.allowance.adapt(to, moment);
            (self.rule, self.own) = (rule, own);
        }
    }
}

// === impl Locked ===

impl Locked<'_> {
    /// Who it is.
    pub(super) fn key(&self) -> &str {
        &self.subject.key
    }

    /// Whose limit of a dimension it is, in words.
    pub(super) fn whose(&self, dimension: Dimension) -> String {
        self.live.rule.whose(self.live.own.as_ref(), dimension)
    }

    /// By what it goes.
    pub(super) fn live(&self) -> &Live {
        &self.live
    }
}

impl Deref for Locked<'_> {
    type Target = Allowance;

    fn deref(&self) -> &Allowance {
        &self.live.allowance
    }
}

impl DerefMut for Locked<'_> {
    fn deref_mut(&mut self) -> &mut Allowance {
        &mut self.live.allowance
    }
}
