//! Answers with the vectors of their questions, in this process: one index a namespace, and no more
//! bytes than allowed. What was used longest ago goes first.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::Query;
use crate::cache::{Kept, Key, Owner};
use crate::clock::Instant;
use crate::embed::{Embedding, EntryId};
use crate::semantic::traits::{Difference, Traits, agree};
use crate::vectors::Index;

/// All answers of this process.
#[derive(Debug)]
pub(super) struct Entries {
    namespaces: HashMap<Key, Namespace>,
    /// Where each entry is.
    homes: HashMap<EntryId, Key>,
    /// Entries by when they were last used: the count of uses at that time.
    uses: BTreeMap<u64, EntryId>,
    count_of_uses: u64,
    bytes: u64,
    max_bytes: u64,
}

#[derive(Debug)]
struct Namespace {
    index: Index,
    held: HashMap<EntryId, Held>,
}

/// An answer and the words it was given to.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) text: Arc<str>,
    traits: Traits,
    pub(super) kept: Kept,
    pub(super) fresh_until: Instant,
    used: u64,
    bytes: u64,
}

/// The entry that is nearest to a question.
#[derive(Debug, Clone)]
pub struct Neighbour {
    pub(super) id: EntryId,
    /// The cosine of both questions, 0.5 to 1.
    pub similarity: f64,
    /// The words that the answer was given to.
    pub text: Arc<str>,
    /// The answer.
    pub kept: Kept,
}

/// What is near a question.
#[derive(Debug)]
pub(super) enum Nearest {
    /// One that says the same, as far as words can tell.
    Agrees(Box<Neighbour>),
    /// The nearest one says something else.
    Differs(Difference),
    /// Nothing.
    Nothing,
}

/// How many of the nearest are compared word by word. Of questions that differ in a name or a number alone
/// many are nearer than the one in other words.
const LOOKED_AT: usize = 32;
/// What is less similar is no neighbour. The threshold has no steps below it either.
const LEAST_SIMILARITY: f32 = 0.5;
/// What an entry takes beside its words, its vector and its answer: its places in three tables.
const ENTRY_BYTES: u64 = 400;
/// What a namespace takes before its first entry.
const NAMESPACE_BYTES: u64 = 300;
/// The traits of a text take about as much as the text several times, in words of their own.
const TRAITS_SHARE: u64 = 8;

// === impl Entries ===

impl Entries {
    /// Room for so many bytes.
    pub(super) fn new(max_bytes: u64) -> Self {
        Self {
            namespaces: HashMap::new(),
            homes: HashMap::new(),
            uses: BTreeMap::new(),
            count_of_uses: 0,
            bytes: 0,
            max_bytes,
        }
    }

    /// Which entry the answer to such words is.
    pub(super) fn id_of(namespace: Key, text: &str) -> EntryId {
        EntryId::of(namespace.within(text).to_number())
    }

    /// The most similar entry that agrees with a question, among the nearest that are not past their
    /// time and that `may` be given.
    pub(super) fn nearest(
        &self,
        query: &Query,
        vector: &Embedding,
        now: Instant,
        may: impl Fn(&Kept) -> bool,
    ) -> Nearest {
        let Some(namespace) = self.namespaces.get(&query.namespace) else {
            return Nearest::Nothing;
        };
        let mut difference = None;
        for (id, similarity) in namespace.index.nearest(vector, LOOKED_AT) {
            if similarity < LEAST_SIMILARITY {
                break;
            }
            let id = EntryId::of(id);
            let Some(held) = namespace.held.get(&id) else { continue };
            if held.fresh_until <= now || !may(&held.kept) {
                continue;
            }
            match agree(&query.traits, &held.traits) {
                Ok(()) => {
                    let (text, kept) = (Arc::clone(&held.text), held.kept.clone());
                    let similarity = f64::from(similarity);
                    return Nearest::Agrees(Box::new(Neighbour { id, similarity, text, kept }));
                }
                Err(found) => _ = difference.get_or_insert(found),
            }
        }
        difference.map_or(Nearest::Nothing, Nearest::Differs)
    }

    /// Whether there is such an entry, and it was made no earlier.
    pub(super) fn has(&self, id: EntryId, made_at_ms: u64) -> bool {
        let home = self.homes.get(&id).and_then(|home| self.namespaces.get(home));
        let held = home.and_then(|namespace| namespace.held.get(&id));
        held.is_some_and(|held| held.kept.head.made_at_ms >= made_at_ms)
    }

    /// Notes that an entry was of use.
    pub(super) fn touch(&mut self, id: EntryId) {
        let Some(home) = self.homes.get(&id) else { return };
        let held = self.namespaces.get_mut(home).and_then(|found| found.held.get_mut(&id));
        let Some(held) = held else { return };
        self.uses.remove(&held.used);
        self.count_of_uses += 1;
        held.used = self.count_of_uses;
        self.uses.insert(held.used, id);
    }

    /// Keeps an answer to such words, in place of an earlier one to the same.
    pub(super) fn put(
        &mut self,
        query: Query,
        vector: &Embedding,
        (kept, fresh_until): (Kept, Instant),
    ) -> EntryId {
        let Query { namespace: home, text, traits } = query;
        let id = Self::id_of(home, &text);
        self.remove(id);
        let words = text.len() as u64;
        let answer = (kept.said.len() + size_of::<Kept>()) as u64;
        let bytes = ENTRY_BYTES + words * (1 + TRAITS_SHARE) + answer;
        self.count_of_uses += 1;
        let used = self.count_of_uses;
        let held = Held { text, traits, kept, fresh_until, used, bytes };
        let namespace = self.namespaces.entry(home).or_insert_with(|| {
            self.bytes += NAMESPACE_BYTES;
            let index = Index::new(vector.dimensions());
            Namespace { index, held: HashMap::new() }
        });
        let before = namespace.index.bytes();
        if namespace.index.insert(id.number(), vector) {
            namespace.held.insert(id, held);
            self.homes.insert(id, home);
            self.uses.insert(used, id);
            self.bytes += bytes + namespace.index.bytes() - before;
        }
        while self.bytes > self.max_bytes
            && let Some((_, oldest)) = self.uses.first_key_value()
        {
            self.remove(*oldest);
        }
        id
    }

    /// Takes an entry out; `false` where there was none.
    pub(super) fn remove(&mut self, id: EntryId) -> bool {
        let Some(home) = self.homes.remove(&id) else { return false };
        let Some(namespace) = self.namespaces.get_mut(&home) else { return false };
        let mut freed = namespace.index.bytes();
        namespace.index.remove(id.number());
        freed -= namespace.index.bytes();
        if let Some(held) = namespace.held.remove(&id) {
            self.uses.remove(&held.used);
            freed += held.bytes;
        }
        if namespace.held.is_empty() {
            freed += namespace.index.bytes() + NAMESPACE_BYTES;
            self.namespaces.remove(&home);
        }
        self.bytes -= freed;
        true
    }

    /// The entries whose owners or ends are such.
    pub(super) fn ids_of(&self, is_one: impl Fn(&Owner, Instant) -> bool) -> Vec<EntryId> {
        let held = self.namespaces.values().flat_map(|namespace| &namespace.held);
        held.filter(|(_, held)| is_one(&held.kept.head.owner, held.fresh_until))
            .map(|(id, _)| *id)
            .collect()
    }

    /// How many there are, and about how many bytes they take.
    pub(super) fn size(&self) -> (u64, u64) {
        (self.homes.len() as u64, self.bytes)
    }
}
