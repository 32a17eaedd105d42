//! Which kept answers are to be forgotten, and which were.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Head, Owner};

/// Which kept answers are to be forgotten: those of which everything holds that is named here.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Purge {
    /// Of keys of this team.
    pub team: Option<String>,
    /// Of this key.
    pub caller: Option<String>,
    /// Of this route.
    pub route: Option<String>,
    /// Of requests with this tag: its name and its value.
    pub tag: Option<(String, String)>,
    /// Of this registered prompt, `id` or `id@version`.
    pub prompt: Option<String>,
}

/// A purge that was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PurgeRecord {
    /// Tells it from all others.
    pub(super) id: u64,
    /// When, in milliseconds since 1970, by the clock of the node that made it.
    pub(super) at_ms: u64,
    /// Of what.
    pub(super) purge: Purge,
}

/// The moment at which a request was made, for purges that come while it is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark(u64);

/// The last purges: for answers that were asked for before them, and for those that are kept
/// elsewhere.
#[derive(Debug, Default)]
pub(super) struct Purges {
    count: u64,
    last: VecDeque<PurgeRecord>,
    /// What was made before is taken for purged: the purges until then are not known any more.
    floor_ms: u64,
}

/// Purges that are remembered.
pub(super) const MOST_PURGES: usize = 256;
/// How far the clocks of nodes may be apart. An answer that was made so soon after a purge counts
/// as made before it.
const SKEW: Duration = Duration::from_secs(5);

// === impl Purges ===

impl Purges {
    /// This moment.
    pub(super) fn mark(&self) -> Mark {
        Mark(self.count)
    }

    /// Notes a purge; whether it is news.
    pub(super) fn note(&mut self, record: PurgeRecord) -> bool {
        if self.last.iter().any(|known| known.id == record.id) {
            return false;
        }
        self.count += 1;
        if self.last.len() == MOST_PURGES
            && let Some(oldest) = self.last.pop_front()
        {
            self.floor_ms = self.floor_ms.max(oldest.at_ms + skew_ms());
        }
        self.last.push_back(record);
        true
    }

    /// Whether one that came after `since` is about this owner. One that is forgotten may be.
    pub(super) fn concern(&self, since: Mark, owner: &Owner) -> bool {
        let later = usize::try_from(self.count.saturating_sub(since.0)).unwrap_or(usize::MAX);
        let mut lately = self.last.iter().rev().take(later);
        later > self.last.len() || lately.any(|record| record.purge.is_about(owner))
    }

    /// Whether what was made elsewhere was purged since.
    pub(super) fn outdate(&self, head: &Head) -> bool {
        let made_before = |record: &&PurgeRecord| head.made_at_ms <= record.at_ms + skew_ms();
        let mut later = self.last.iter().filter(made_before);
        head.made_at_ms <= self.floor_ms || later.any(|record| record.purge.is_about(&head.owner))
    }

    /// The ones that are remembered, read back from where they are kept: newest first. Where there
    /// are as many as are kept, there may have been older ones.
    pub(super) fn catch_up(&mut self, mut records: Vec<PurgeRecord>) -> Vec<PurgeRecord> {
        if records.len() >= MOST_PURGES
            && let Some(oldest) = records.last()
        {
            self.floor_ms = self.floor_ms.max(oldest.at_ms + skew_ms());
        }
        records.reverse();
        records.retain(|record| self.note(record.clone()));
        records
    }
}

fn skew_ms() -> u64 {
    u64::try_from(SKEW.as_millis()).unwrap_or(u64::MAX)
}

// === impl Purge ===

impl Purge {
    /// Whether it is about everything.
    pub fn is_all(&self) -> bool {
        *self == Self::default()
    }

    /// Whether it is about the answers of this owner.
    pub fn is_about(&self, owner: &Owner) -> bool {
        let is = |wanted: &Option<String>, found: Option<&str>| {
            wanted.as_deref().is_none_or(|wanted| found == Some(wanted))
        };
        let prompt = owner.prompt.as_deref();
        let id = prompt.and_then(|prompt| prompt.split_once('@')).map(|(id, _)| id);
        is(&self.team, owner.team.as_ref().map(|team| team.as_str()))
            && is(&self.caller, Some(owner.caller.as_str()))
            && is(&self.route, Some(owner.route.as_str()))
            && self.tag.as_ref().is_none_or(|tag| owner.tags.contains(tag))
            && (is(&self.prompt, prompt) || is(&self.prompt, id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{CallerId, RouteName, TeamId};

    #[test]
    fn a_purge_is_about_what_has_all_that_it_names() {
        let owner = Owner {
            team: Some(TeamId::new("t")),
            caller: CallerId::new("c"),
            route: RouteName::new("r"),
            prompt: Some("support@1.2.0".to_owned()),
            tags: vec![("env".to_owned(), "prod".to_owned())],
        };
        let some = |text: &str| Some(text.to_owned());
        let tag = |name: &str, value: &str| Some((name.to_owned(), value.to_owned()));
        let all = Purge::default;
        let cases = [
            (all(), true),
            (Purge { team: some("t"), ..all() }, true),
            (Purge { team: some("x"), ..all() }, false),
            (Purge { caller: some("c"), route: some("r"), ..all() }, true),
            (Purge { caller: some("c"), route: some("x"), ..all() }, false),
            (Purge { tag: tag("env", "prod"), ..all() }, true),
            (Purge { tag: tag("env", "test"), ..all() }, false),
            (Purge { prompt: some("support"), ..all() }, true),
            (Purge { prompt: some("support@1.2.0"), ..all() }, true),
            (Purge { prompt: some("support@1.2.1"), ..all() }, false),
            (Purge { prompt: some("supp"), ..all() }, false),
        ];
        for (purge, wanted) in cases {
            assert_eq!(purge.is_about(&owner), wanted, "{purge:?}");
        }
        let alone = Owner { team: None, prompt: None, ..owner };
        assert!(!Purge { team: some("t"), ..all() }.is_about(&alone));
        assert!(!Purge { prompt: some("support"), ..all() }.is_about(&alone));
    }

    fn head(made_at_ms: u64, route: &str) -> Head {
        Head {
            form: super::super::Form::Completion,
            target: crate::ids::TargetId::new("p/m"),
            reported: String::new(),
            cost: crate::units::MicroUsd::default(),
            dropped: Vec::new(),
            made_at_ms,
            ttl: Duration::ZERO,
            stale_for: Duration::ZERO,
            took: Duration::ZERO,
            owner: Owner {
                team: None,
                caller: CallerId::new("c"),
                route: RouteName::new(route),
                prompt: None,
                tags: Vec::new(),
            },
        }
    }

    fn record(id: u64, at_ms: u64, route: &str) -> PurgeRecord {
        let purge = Purge { route: Some(route.to_owned()), ..Purge::default() };
        PurgeRecord { id, at_ms, purge }
    }

    #[test]
    fn what_was_made_before_a_purge_or_soon_after_is_outdated_by_it() {
        let mut purges = Purges::default();
        assert!(purges.note(record(1, 100_000, "r")));
        assert!(!purges.note(record(1, 100_000, "r")), "it is known");
        assert!(purges.outdate(&head(99_999, "r")));
        assert!(purges.outdate(&head(105_000, "r")), "clocks may differ");
        assert!(!purges.outdate(&head(105_001, "r")));
        assert!(!purges.outdate(&head(99_999, "other")));
    }

    #[test]
    fn of_purges_that_are_forgotten_everything_before_is_outdated() {
        let mut purges = Purges::default();
        for n in 0..=MOST_PURGES as u64 {
            purges.note(record(n, 100_000 + n, "r"));
        }
        assert!(purges.outdate(&head(100_000, "other")));
        assert!(!purges.outdate(&head(105_001, "other")));
    }

    #[test]
    fn purges_that_others_made_are_caught_up_with_once() {
        let mut purges = Purges::default();
        purges.note(record(1, 1_000, "r"));
        let all = vec![record(3, 3_000, "r"), record(2, 2_000, "r"), record(1, 1_000, "r")];
        let news = purges.catch_up(all.clone());
        assert_eq!(news, [record(2, 2_000, "r"), record(3, 3_000, "r")]);
        assert_eq!(purges.catch_up(all), []);
        let many = (0..MOST_PURGES as u64).rev().map(|n| record(10 + n, 50_000 + n, "r"));
        purges.catch_up(many.collect());
        assert!(purges.outdate(&head(50_000, "other")), "there may have been older ones");
    }
}
