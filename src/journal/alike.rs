//! Rows of a batch that differ in little: who asks whom, and how it went, is the same for most.

use super::{Entry, Part};

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
pub(super) const LEAST: usize = 5;
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
                parted.groups.push(vec![row]);
                continue;
            }
            // A row of a kind that has come once gives its place up to one that may come again.
            let single = parted.groups.iter().position(|group| group.len() == 1);
            match parted.groups.get_mut(if at < known { at } else { single.unwrap_or(known) }) {
                Some(group) if at < known => group.push(row),
                Some(group) => parted.rest.append(&mut std::mem::replace(group, vec![row])),
                None => parted.rest.push(row),
            }
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
    let took =
        |entry: &Entry| (entry.usage.cache_write, entry.usage_estimated, entry.waste, entry.reuse);
    let (one_part, other_part) = (one.part.as_deref(), other.part.as_deref());
    let side = |part: &Part| (part.arm, part.share);
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
        && one_part.map(side) == other_part.map(side)
        && one_part.map(|part| &part.rollout) == other_part.map(|part| &part.rollout)
        && one.tags == other.tags
}

#[cfg(test)]
mod tests {
    use super::super::row::COMMON;
    use super::super::tests::given::entry;
    use super::super::{EndpointKind, Outcome, Reuse};
    use super::*;
    use crate::dialect::Dialect;
    use crate::failure::FailureKind;
    use crate::ids::{CallerId, ModelName, ProviderId, RouteName, TargetId};
    use crate::policy::rollout::{Arm, Share};
    use crate::units::MicroUsd;

    /// What changes each of the common columns, in their order.
    const CHANGES: [fn(&mut Entry); COMMON.len()] = [
        |entry| entry.caller = CallerId::new("other"),
        |entry| entry.endpoint = EndpointKind::Embeddings,
        |entry| entry.dialect = Dialect::Gemini,
        |entry| entry.model_asked = None,
        |entry| entry.route = Some(RouteName::new("other")),
        |entry| entry.target = Some(TargetId::new("other/model")),
        |entry| entry.provider = Some(ProviderId::new("other")),
        |entry| entry.model_served = Some(ModelName::new("other")),
        |entry| entry.streamed = !entry.streamed,
        |entry| entry.outcome = Outcome::Cut,
        |entry| entry.status = 418,
        |entry| entry.priority = None,
        |entry| entry.failure = Some(FailureKind::Overloaded),
        |entry| entry.error_code = Some("other"),
        |entry| entry.degradation = 3,
        |entry| entry.usage.cache_write = 77,
        |entry| entry.usage_estimated = !entry.usage_estimated,
        |entry| entry.tags.push(("other".to_owned(), "tag".to_owned())),
        |entry| entry.reuse = Some(Reuse::Semantic),
        |entry| entry.waste.input = 77,
        |entry| entry.waste.output = 77,
        |entry| entry.waste.cost = MicroUsd(77),
        |entry| entry.waste.is_estimated = !entry.waste.is_estimated,
        |entry| entry.prompt = Some("other".into()),
        |entry| part(entry).rollout = "other".into(),
        |entry| part(entry).arm = Arm::Control,
        |entry| part(entry).share = Share::try_from(77).unwrap(),
    ];

    fn part(entry: &mut Entry) -> &mut Part {
        entry.part.as_mut().unwrap()
    }

    #[test]
    fn rows_that_differ_in_any_common_column_are_not_alike() {
        let base = entry(40);
        assert!(is_alike(&base, &base.clone()));
        for (change, column) in CHANGES.iter().zip(COMMON) {
            let mut other = base.clone();
            change(&mut other);
            assert!(!is_alike(&base, &other), "{column}");
        }
    }

    #[test]
    fn kinds_that_come_once_keep_no_place() {
        let mut entries: Vec<Entry> = (0..40).map(|_| entry(40)).collect();
        for (entry, number) in entries.iter_mut().zip(0..30_u16) {
            entry.status = number;
        }
        let parted = Parted::of(entries.iter().map(|entry| (0, entry)));
        assert_eq!(parted.groups.iter().map(Vec::len).collect::<Vec<_>>(), [10]);
        assert_eq!(parted.rest.len(), 30);
    }

    #[test]
    fn rows_that_differ_in_their_own_columns_are_alike_and_few_of_them_are_not_parted() {
        let mut entries: Vec<Entry> = (0..60).map(|_| entry(40)).collect();
        for (entry, number) in entries.iter_mut().zip(0_u64..) {
            entry.started_at_ms += number;
            entry.usage.output = number;
            if number % 2 == 1 {
                entry.caller = CallerId::new("other");
            }
            if number < 8 {
                entry.status = 418;
            }
        }
        let parted = Parted::of(entries.iter().map(|entry| (0, entry)));
        assert_eq!(parted.groups.iter().map(Vec::len).collect::<Vec<_>>(), [26, 26]);
        assert_eq!((parted.rest.len(), parted.len()), (8, 60));
        for group in &parted.groups {
            assert!(group.iter().all(|(_, entry)| entry.caller == group[0].1.caller));
        }
        assert_eq!(parted.apart().len(), 60);
    }
}
