//! Answers that are found by what a question means, and given only where that is known to be right.
//!
//! ```text
//! last words ─▶ vector ─▶ nearest in the namespace that says the same, word by word
//!    ├─ proven: errors per hit stay below what the route allows ─▶ given
//!    └─ not proven yet, or picked for an audit ─▶ asked upstream ─▶ a judge compares ─▶ learnt
//! ```
//!
//! The namespace ([`Query`]) is everything but the last words, so nothing passes from one tenant,
//! route or conversation to another. `semantic` decides: which words say the same, and from which
//! similarity on a domain's labels prove few enough errors. Here is what that needs: the entries in
//! this process, what was learnt (`lessons`), and the store behind both (`upkeep`).
//!
//! An audited hit is not given: its caller gets the fresh answer, which is compared with the kept
//! one. So an audit and a label in shadow are the same thing, and an audit costs the caller nothing
//! but the hit.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::{Mutex, RwLock};
use tokio::sync::mpsc;

use crate::cache::{Cache, CacheSettings, Kept, Mark, Purge, Purged, Unkept};
use crate::clock::Instant;
use crate::embed::{Embedder, Embedding};
use crate::semantic::traits::Difference;

mod calibrations;
mod entries;
mod lessons;
mod purges;
mod query;
#[cfg(test)]
mod tests;
mod upkeep;

pub use entries::Neighbour;
use entries::{Entries, Nearest};
pub use lessons::{Counts, Decision, Domain, LessonFigures, Terms};
use lessons::{Label, Lessons};
pub use query::{Query, Unfit};
use upkeep::{Errands, Put};

/// All answers that are found by their meaning, and what was learnt of them. Clones are the same.
#[derive(Clone)]
pub struct Meanings {
    core: Arc<Core>,
}

struct Core {
    entries: RwLock<Entries>,
    lessons: Mutex<Lessons>,
    /// Knows what was purged and which models are gone.
    cache: Cache,
    /// Set once, where there are any.
    embedders: OnceLock<BTreeMap<String, Embedder>>,
    errands: Errands,
    /// Bounded; full means that what would be learnt is not.
    trials: mpsc::Sender<Trial>,
    untaken: Mutex<Option<mpsc::Receiver<Trial>>>,
    max_bytes: u64,
    written: Writes,
}

/// Two answers to one question that a judge is to compare.
#[derive(Debug, Clone)]
pub struct Trial {
    /// What is learnt by it, and who judges.
    pub domain: Arc<Domain>,
    /// The question that was asked.
    pub question: Arc<str>,
    /// What would have been given, or would be if it were proven.
    pub kept: String,
    /// What a model has answered.
    pub fresh: String,
    /// The cosine of both questions.
    pub similarity: f64,
    /// Whether it would have been given.
    pub is_audit: bool,
}

/// What is near a question.
#[derive(Debug)]
pub enum Found {
    /// An answer that may be given.
    Hit(Box<Neighbour>),
    /// One that is to be compared with a fresh one.
    Compare {
        /// It.
        neighbour: Box<Neighbour>,
        /// Whether it would have been given, as far as similarity goes.
        is_audit: bool,
        /// Whether it may still be given where nobody answers.
        may_be_given: bool,
    },
    /// One that is not similar enough for what was proven.
    Below,
    /// The nearest one says something else.
    Differs(Difference),
    /// Nothing.
    Nothing,
}

/// What became of writes to the store.
#[derive(Debug, Default)]
struct Writes {
    written: AtomicU64,
    dropped: AtomicU64,
    failed: AtomicU64,
}

/// How much is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fill {
    /// Answers in this process.
    pub entries: u64,
    /// Bytes that they take, about.
    pub bytes: u64,
    /// Bytes that they may take.
    pub max_bytes: u64,
}

/// Comparisons that wait for a judge at most.
const MOST_TRIALS: usize = 256;

// === impl Meanings ===

impl Meanings {
    /// Nothing kept and nothing learnt yet. [`Meanings::upkeep`] must run beside it.
    pub fn new(settings: &CacheSettings, cache: Cache) -> Self {
        let max_bytes = settings.max_semantic_memory.0;
        let (trials, untaken) = mpsc::channel(MOST_TRIALS);
        let core = Arc::new(Core {
            entries: RwLock::new(Entries::new(max_bytes)),
            lessons: Mutex::default(),
            cache,
            embedders: OnceLock::new(),
            errands: Errands::default(),
            trials,
            untaken: Mutex::new(Some(untaken)),
            max_bytes,
            written: Writes::default(),
        });
        core.cache.tell_of_purges(Arc::new(Forgets(Arc::downgrade(&core))));
        Self { core }
    }

    /// Sets what turns texts into vectors, by the names of the configuration. Only the first call
    /// counts.
    pub fn set_embedders(&self, embedders: BTreeMap<String, Embedder>) {
        let _ = self.core.embedders.set(embedders);
    }

    /// The embedder of this name, if it is there.
    pub fn embedder(&self, name: &str) -> Option<&Embedder> {
        self.core.embedders.get()?.get(name)
    }

    /// The answer that was given to these very words, among those that `may` be given. The
    /// namespace and the words are all that an exact key holds, so it needs no proof, and proves
    /// nothing: it is here after a restart, or from another node, when the exact cache has it no
    /// more.
    pub fn recall(&self, query: &Query, may: impl Fn(&Kept) -> bool, now: Instant) -> Option<Kept> {
        let found = {
            let entries = self.core.entries.read();
            let (id, kept) = entries.recall(query, now)?;
            may(kept).then(|| (id, kept.clone()))
        };
        let (id, kept) = found?;
        self.core.entries.write().touch(id);
        Some(kept)
    }

    /// Looks for an answer to such words among those that `may` be given, and decides about it.
    /// `chance` is uniform in 0..1. Nothing is given where `only_shadow`.
    pub fn look(
        &self,
        domain: &Arc<Domain>,
        (query, vector): (&Query, &Embedding),
        may: impl Fn(&Kept) -> bool,
        (chance, only_shadow): (f64, bool),
        now: Instant,
    ) -> Found {
        let neighbour = match self.core.entries.read().nearest(query, vector, now, may) {
            Nearest::Agrees(neighbour) => neighbour,
            Nearest::Differs(difference) => return Found::Differs(difference),
            Nearest::Nothing => return Found::Nothing,
        };
        let similarity = neighbour.similarity;
        let decision = self.core.lessons.lock().decide(domain, similarity, chance, only_shadow);
        match decision {
            Decision::Give => {
                self.core.entries.write().touch(neighbour.id);
                Found::Hit(neighbour)
            }
            Decision::Compare { is_audit, may_be_given } => {
                Found::Compare { neighbour, is_audit, may_be_given }
            }
            Decision::Leave => Found::Below,
        }
    }

    /// Keeps an answer to such words, asked at `since`, here and in the store.
    ///
    /// # Errors
    ///
    /// [`Unkept::Purged`] where what it belongs to was purged meanwhile.
    pub fn keep(
        &self,
        (query, space): (Query, &str),
        vector: &Embedding,
        kept: Kept,
        since: Mark,
        now: Instant,
    ) -> Result<(), Unkept> {
        let put = Put::of((&query, space), vector, &kept);
        {
            // Held until it is in, so that no purge comes between.
            let mut entries = self.core.entries.write();
            if self.core.cache.is_purged(since, &kept.head.owner) {
                return Err(Unkept::Purged);
            }
            let fresh_until = now + kept.head.ttl;
            entries.put(query, vector, (kept, fresh_until));
            // Within, so that a purge that finds it in memory finds it on its way to the store,
            // too.
            self.core.write(put);
        }
        Ok(())
    }

    /// Has two answers compared, some time. Where there is too much to compare it is left.
    pub fn compare(&self, trial: Trial) {
        // What says nothing in words cannot be compared.
        if trial.kept.is_empty() || trial.fresh.is_empty() {
            return self.core.lessons.lock().miss(&trial.domain);
        }
        if let Err(error) = self.core.trials.try_send(trial) {
            let (mpsc::error::TrySendError::Full(trial) | mpsc::error::TrySendError::Closed(trial)) =
                error;
            self.miss(&trial);
        }
    }

    /// Learns from two answers that are the same to the letter, for which no judge is needed. They
    /// come the same way as others, so that what there is no room for is left whatever it says.
    pub fn learn_same(&self, trial: &Trial) {
        let Trial { similarity, is_audit, .. } = *trial;
        self.core.lessons.lock().learn_same(&trial.domain, similarity, is_audit);
    }

    /// The comparisons to be made, for whoever makes them. Only the first call gets them.
    pub fn trials(&self) -> Option<mpsc::Receiver<Trial>> {
        self.core.untaken.lock().take()
    }

    /// Learns from a comparison.
    pub fn learn(&self, trial: &Trial, same: bool) {
        let Trial { similarity, is_audit, .. } = *trial;
        let label = Label { similarity, same, is_audit };
        self.core.lessons.lock().learn(&trial.domain, label);
    }

    /// Takes note of a comparison without a verdict. Where there are two answers it is the judge
    /// that said nothing.
    pub fn miss(&self, trial: &Trial) {
        let mut lessons = self.core.lessons.lock();
        match trial.fresh.is_empty() {
            true => lessons.miss(&trial.domain),
            false => lessons.miss_judge(&trial.domain, trial.is_audit),
        }
    }

    /// Counts for a domain.
    pub fn count(&self, domain: &Arc<Domain>, count: impl FnOnce(&mut Counts)) {
        self.core.lessons.lock().count(domain, count);
    }

    /// What was learnt of all domains, in the order of route and tenant.
    pub fn figures(&self) -> Vec<LessonFigures> {
        self.core.lessons.lock().figures()
    }

    /// How much is kept in this process.
    pub fn fill(&self) -> Fill {
        let (entries, bytes) = self.core.entries.read().size();
        Fill { entries, bytes, max_bytes: self.core.max_bytes }
    }

    /// What became of answers that were to be written to the store, by the word for it.
    pub fn writes(&self) -> [(&'static str, u64); 3] {
        let Writes { written, dropped, failed } = &self.core.written;
        [("written", written), ("dropped", dropped), ("failed", failed)]
            .map(|(word, count)| (word, count.load(Ordering::Relaxed)))
    }
}

impl fmt::Debug for Meanings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Meanings").field("fill", &self.fill()).finish_non_exhaustive()
    }
}

// === impl Found ===

impl Found {
    /// The word for metrics.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Hit(_) => "hit",
            Self::Compare { is_audit: true, .. } => "audited",
            Self::Compare { is_audit: false, .. } => "compared",
            Self::Below => "below",
            Self::Differs(_) => "differs",
            Self::Nothing => "miss",
        }
    }
}

// === impl Core ===

impl Core {
    fn write(&self, put: Put) {
        if !self.errands.put(put) {
            self.written.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Forgets what is kept in this process and is about to go; says how many there were.
    fn forget(&self, purge: &Purge) -> u64 {
        let mut entries = self.entries.write();
        let ids = entries.ids_of(|owner, _| purge.is_about(owner));
        ids.iter().filter(|id| entries.remove(**id)).count() as u64
    }
}

/// Hears of purges for as long as somebody else holds the rest.
struct Forgets(std::sync::Weak<Core>);

impl Purged for Forgets {
    fn purge(&self, purge: &Purge, is_own: bool) -> u64 {
        let Some(core) = self.0.upgrade() else { return 0 };
        let forgotten = core.forget(purge);
        // After that: what was on its way here by then is on its way to the store, before this.
        if is_own {
            core.errands.purge(purge.clone(), core.cache.unix_ms());
        }
        forgotten
    }
}
