//! Rows of a batch that differ in little: who asks whom, and how it went, is the same for most.

use super::Entry;

/// An entry and its id.
pub(super) type Numbered<'a> = (i64, &'a Entry);

/// The rows of a batch, apart by what they have in common.
#[derive(Debug, Default)]
pub(super) struct Parted<'a> {
    /// Of each group all rows are [alike](is_alike), and there are [`LEAST`] at least.
    pub(super) groups: Vec<Vec<Numbered<'a>>>,
    /// All others.
    pub(super) rest: Vec<Numbered<'a>>,
}

/// The fewest rows that are worth a statement of their own.
pub(super) const LEAST: usize = 25;
/// Groups that are looked for. Where callers are many, a batch has no more large ones.
const MOST: usize = 8;

// === impl Parted ===

impl<'a> Parted<'a> {
    /// Parts a batch.
    pub(super) fn of(rows: impl Iterator<Item = Numbered<'a>>) -> Self {
        let mut parted = Self::default();
        for row in rows {
            let is_among = |group: &Vec<Numbered<'_>>| {
                group.first().is_some_and(|(_, first)| is_alike(first, row.1))
            };
            let known = parted.groups.len();
            let at = parted.groups.iter().position(is_among).unwrap_or(known);
            if at == known && known < MOST {
                parted.groups.push(Vec::new());
            }
            parted.groups.get_mut(at).unwrap_or(&mut parted.rest).push(row);
        }
        for small in parted.groups.extract_if(.., |group| group.len() < LEAST) {
            parted.rest.extend(small);
        }
        parted
    }

    /// How many rows there are.
    pub(super) fn len(&self) -> usize {
        self.rest.len() + self.groups.iter().map(Vec::len).sum::<usize>()
    }

    /// All of them as rows that have nothing in common.
    pub(super) fn apart(self) -> Vec<Numbered<'a>> {
        let mut all = self.rest;
        all.extend(self.groups.into_iter().flatten());
        all
    }
}

/// Whether two rows differ only in the columns that each row has of its own, see
/// [`OWN`](super::row::OWN).
fn is_alike(one: &Entry, other: &Entry) -> bool {
    let who = |entry: &Entry| (entry.endpoint, entry.dialect, entry.streamed, entry.priority);
    let how = |entry: &Entry| {
        (entry.outcome, entry.status, entry.failure, entry.error_code, entry.degradation)
    };
    let took = |entry: &Entry| {
        (entry.usage.cache_write, entry.usage_estimated, entry.waste, entry.saved, entry.reuse)
    };
    let side = |entry: &Entry| entry.part.as_ref().map(|part| (part.arm, part.share));
    let rollout = |entry: &'_ Entry| entry.part.as_ref().map(|part| part.rollout.clone());
    who(one) == who(other)
        && how(one) == how(other)
        && took(one) == took(other)
        && one.caller == other.caller
        && one.target == other.target
        && one.route == other.route
        && one.model_asked == other.model_asked
        && one.model_served == other.model_served
        && one.provider == other.provider
        && one.prompt == other.prompt
        && side(one) == side(other)
        && rollout(one) == rollout(other)
        && one.tags == other.tags
}

#[cfg(test)]
mod tests {
    use super::super::tests::given::entry;
    use super::*;
    use crate::ids::CallerId;

    #[test]
    fn rows_that_differ_in_their_own_columns_are_alike_and_few_of_them_are_not_parted() {
        let mut entries: Vec<Entry> = (0..60).map(|_| entry(40)).collect();
        for (entry, number) in entries.iter_mut().zip(0_u64..) {
            entry.started_at_ms += number;
            entry.usage.output = number;
            if number % 2 == 1 {
                entry.caller = CallerId::new("other");
            }
            if number < 10 {
                entry.status = 418;
            }
        }
        let parted = Parted::of(entries.iter().map(|entry| (0, entry)));
        assert_eq!(parted.groups.iter().map(Vec::len).collect::<Vec<_>>(), [25, 25]);
        assert_eq!((parted.rest.len(), parted.len()), (10, 60));
        for group in &parted.groups {
            assert!(group.iter().all(|(_, entry)| entry.caller == group[0].1.caller));
        }
        assert_eq!(parted.apart().len(), 60);
    }
}
