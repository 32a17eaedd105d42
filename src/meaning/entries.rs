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
    /// Boxed: a table has room for twice what is in it.
    held: HashMap<EntryId, Box<Held>>,
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

/// How many of the nearest are compared word by word. Of questions that differ in a name or a
/// number alone many are nearer than the one in other words.
const LOOKED_AT: usize = 32;
/// What is less similar is no neighbour. The threshold has no steps below it either.
const LEAST_SIMILARITY: f32 = 0.5;
/// How many are where some of the nearest may not be given and no other of them agrees.
const LOOKED_AT_AGAIN: usize = 64;
/// What an entry takes beside its words, its vector and its answer: its places in three tables, and
/// what an allocator adds.
const ENTRY_BYTES: u64 = 240;
/// What a namespace takes before its first entry: its place in a table, and three tables of its
/// own.
const NAMESPACE_BYTES: u64 = 1_200;

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

    /// The most similar entry that agrees with a question, among the nearest that are not past
    /// their time and that `may` be given.
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
        let mut found = Nearest::Nothing;
        for most in [LOOKED_AT, LOOKED_AT_AGAIN] {
            let near = namespace.index.nearest(vector, most);
            let near = near.into_iter().take_while(|(_, cosine)| *cosine >= LEAST_SIMILARITY);
            let near: Vec<_> = near.collect();
            let usable = near.iter().filter_map(|(id, similarity)| {
                let id = EntryId::of(*id);
                let held = namespace.held.get(&id)?;
                (held.fresh_until > now && may(&held.kept)).then_some((id, *similarity, &**held))
            });
            let usable: Vec<_> = usable.collect();
            found = first_that_agrees(query, &usable);
            let all_were_seen = near.len() < most || usable.len() == near.len();
            if all_were_seen || matches!(found, Nearest::Agrees(_)) {
                break;
            }
        }
        found
    }

    /// Whether there is such an entry, and it was made no earlier.
    pub(super) fn has(&self, id: EntryId, made_at_ms: u64) -> bool {
        let home = self.homes.get(&id).and_then(|home| self.namespaces.get(home));
        let held = home.and_then(|namespace| namespace.held.get(&id));
        held.is_some_and(|held| held.kept.head.made_at_ms >= made_at_ms)
    }

    /// The answer that was given to these very words, if it is not past its time.
    pub(super) fn recall(&self, query: &Query, now: Instant) -> Option<(EntryId, &Kept)> {
        let id = Self::id_of(query.namespace, &query.text);
        let held = self.namespaces.get(&query.namespace)?.held.get(&id)?;
        (held.text == query.text && held.fresh_until > now).then_some((id, &held.kept))
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
        let bytes = bytes_of(&text, &traits, &kept);
        // What has no room alone must not push out all others.
        if NAMESPACE_BYTES + bytes + vector_bytes(vector) > self.max_bytes {
            return id;
        }
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
            namespace.held.insert(id, Box::new(held));
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

    /// Whether no table has anything left.
    #[cfg(test)]
    pub(super) fn is_empty_everywhere(&self) -> bool {
        self.namespaces.is_empty() && self.homes.is_empty() && self.uses.is_empty()
    }

    /// How many there are, and about how many bytes they take.
    pub(super) fn size(&self) -> (u64, u64) {
        (self.homes.len() as u64, self.bytes)
    }
}

/// The first of these, the most similar first, that says the same as far as words can tell.
fn first_that_agrees(query: &Query, near: &[(EntryId, f32, &Held)]) -> Nearest {
    let mut difference = None;
    for (id, similarity, held) in near {
        match agree(&query.traits, &held.traits) {
            Ok(()) => {
                let (text, kept) = (Arc::clone(&held.text), held.kept.clone());
                let similarity = f64::from(*similarity);
                return Nearest::Agrees(Box::new(Neighbour { id: *id, similarity, text, kept }));
            }
            Err(found) => _ = difference.get_or_insert(found),
        }
    }
    difference.map_or(Nearest::Nothing, Nearest::Differs)
}

/// What an entry takes, but for its vector.
fn bytes_of(text: &str, traits: &Traits, kept: &Kept) -> u64 {
    let held = size_of::<Held>() - size_of::<Kept>() + kept.bytes();
    ENTRY_BYTES + (held + text.len() + traits.bytes()) as u64
}

/// What a vector takes in an index, rounded and exact.
fn vector_bytes(vector: &Embedding) -> u64 {
    (vector.dimensions() * (size_of::<f32>() + 1)) as u64
}

#[cfg(test)]
mod tests;
