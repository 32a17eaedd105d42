//! Limits of hours, days and months that know what was used before they were there: before the
//! process started, or before a change of the configuration, a key or a team brought them in. It is
//! added up from the journal.
//!
//! A window that appears while the gateway runs counts from its first request on, and what was used
//! before is added as soon as it is known, a moment later; requests do not wait for that. Requests
//! that were running when it appeared are no concern of it.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use super::subjects::lock;
use super::{Limits, first_model, own_limits, team, tell};
use crate::callers::{Caller, CallersSource, Roster};
use crate::config::Snapshot;
use crate::journal::{Journal, Spent};
use crate::quota::{
    Amounts, By, Counted, Crossing, Dimension, LimitSettings, Period, Rule, Subject as Of,
};
use crate::store::StoreError;

/// What was restored so far.
#[derive(Debug, Default)]
pub struct Restored {
    windows: HashSet<Kind>,
    /// Keys and teams that were there then; `None` where that is not known for certain. What comes
    /// later has used nothing before.
    owners: Option<HashSet<String>>,
    /// Until when nothing else was there, in milliseconds since 1970.
    until_ms: u64,
    is_begun: bool,
}

/// How long a key may be used at other nodes before this one knows of it.
const UNKNOWN_FOR_MS: u64 = 10_000;

/// Windows that come and go together.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Kind {
    /// Whom the rule is about.
    rule: String,
    /// The key or the team whose own limit it is; `None` where it is the rule's.
    owner: Option<String>,
    dimension: Dimension,
}

/// What is to be restored.
struct Missing<'a> {
    snapshot: &'a Snapshot,
    roster: &'a Roster,
    kinds: HashSet<Kind>,
}

/// What one subject has used, and by what it goes.
struct Used<'a> {
    rule: &'a Arc<Rule>,
    own: Option<&'a LimitSettings>,
    amounts: BTreeMap<Dimension, u64>,
}

// === impl Limits ===

impl Limits {
    /// Counts what requests that started before `before_ms` have used of those windows that are not
    /// among what is `restored`: all of them at first, and then those that a change brought in.
    /// `before_ms` is when they came.
    ///
    /// # Errors
    ///
    /// [`StoreError`] where the journal cannot be read; nothing is counted then.
    pub async fn restore(
        &self,
        restored: &mut Restored,
        journal: &Journal,
        (snapshot, roster): (&Snapshot, &Roster),
        before_ms: u64,
    ) -> Result<(), StoreError> {
        let at_ms = self.moment().unix_ms;
        let kinds = self.kinds(snapshot, roster);
        let fresh: HashSet<_> = kinds.difference(&restored.windows).cloned().collect();
        let earliest_ms = restored.earliest_of(&fresh);
        let missing = Missing { snapshot, roster, kinds: fresh };
        let mut used = HashMap::new();
        for period in missing.periods() {
            let (since_ms, _) = period.around(at_ms);
            for spent in journal.spent(since_ms.max(earliest_ms), before_ms).await? {
                self.add_up(&missing, period, &spent, &mut used);
            }
        }
        for (key, used) in used {
            self.count(key, &used, (before_ms, at_ms), restored.is_begun);
        }
        let is_certain = roster.revision.1 == CallersSource::Store;
        let owners = is_certain.then(|| roster.all().flat_map(owners).collect());
        *restored = Restored { windows: kinds, owners, until_ms: at_ms, is_begun: true };
        Ok(())
    }

    /// All kinds of windows that there are.
    fn kinds(&self, snapshot: &Snapshot, roster: &Roster) -> HashSet<Kind> {
        let nobody = Caller::anonymous();
        let limited = |caller: &&Caller| own_limits(caller).is_some() || caller.team.is_some();
        let callers = roster.all().filter(limited).chain([&nobody]);
        let mut kinds = HashSet::new();
        for caller in callers {
            for (rule, own) in self.about(&snapshot.limits, caller) {
                kinds.extend(windows(rule, own, caller));
            }
        }
        kinds
    }

    /// Adds what requests have used to all windows of a period that are missing and about them.
    fn add_up<'a>(
        &'a self,
        missing: &Missing<'a>,
        period: Period,
        spent: &Spent,
        to: &mut HashMap<String, Used<'a>>,
    ) {
        let Some(caller) = missing.roster.find(&spent.caller) else { return };
        let model = missing.snapshot.resolve(&spent.route).map(|route| first_model(&route));
        let of = Of {
            caller: &spent.caller,
            team: team(caller).map(|(id, _)| id),
            route: &spent.route,
            model: &model.unwrap_or_default(),
            tags: &spent.tags,
        };
        for (rule, own) in self.about(&missing.snapshot.limits, caller) {
            let kinds = windows(rule, own, caller).into_iter().filter(|kind| {
                kind.dimension.period == Some(period) && missing.kinds.contains(kind)
            });
            let dimensions: Vec<_> = kinds.map(|kind| kind.dimension).collect();
            let key = rule.subject(&of).filter(|_| !dimensions.is_empty());
            let Some(key) = key else { continue };
            let used = to.entry(key).or_insert(Used { rule, own, amounts: BTreeMap::new() });
            for dimension in dimensions {
                let amount = amount(spent, dimension.counted, rule.cached_permille);
                let sum = used.amounts.entry(dimension).or_default();
                *sum = sum.saturating_add(amount);
            }
        }
    }

    /// Counts what a subject used before `before_ms`, of windows that were open at `at_ms`.
    fn count(&self, key: String, used: &Used<'_>, (before_ms, at_ms): (u64, u64), is_news: bool) {
        let moment = self.moment();
        let only = [self.subjects.get(key, used.rule, used.own, moment)];
        for mut locked in lock(&only, moment) {
            for (dimension, amount) in &used.amounts {
                let Some(meter) = locked.meter_mut(*dimension) else { continue };
                meter.add_earlier(*amount, (before_ms, at_ms), is_news, moment);
                // Of what was there before the process started the earlier run has told.
                let crossed = meter.crossed(moment).filter(|_| is_news);
                if let Some(threshold) = crossed {
                    tell(&self.metrics, &locked, Crossing { dimension: *dimension, threshold });
                }
            }
        }
    }
}

// === impl Restored ===

impl Restored {
    /// Notes that nothing has changed since, so that a journal of a month need not be read for a
    /// key that was made just now.
    pub fn note_unchanged(&mut self, at_ms: u64) {
        self.until_ms = at_ms;
    }

    /// Before which time nothing can have been used of any of these.
    fn earliest_of(&self, kinds: &HashSet<Kind>) -> u64 {
        let is_new = |kind: &Kind| match (&kind.owner, &self.owners) {
            (Some(owner), Some(owners)) => !owners.contains(owner),
            (None, _) | (_, None) => false,
        };
        if kinds.iter().all(is_new) { self.until_ms.saturating_sub(UNKNOWN_FOR_MS) } else { 0 }
    }
}

// === impl Missing ===

impl Missing<'_> {
    fn periods(&self) -> BTreeSet<Period> {
        self.kinds.iter().filter_map(|kind| kind.dimension.period).collect()
    }
}

/// The kinds of windows that a rule has for a caller, with the limits that go with it.
fn windows(rule: &Rule, own: Option<&LimitSettings>, caller: &Caller) -> Vec<Kind> {
    let Rule { name, by, routes, models, teams, .. } = rule;
    let own = own.cloned().unwrap_or_default().each();
    let is_of_team = *by == [By::Team];
    let team = team(caller).map(|(id, _)| id).filter(|_| is_of_team);
    let owner = team.unwrap_or(caller.id.as_str());
    let limits = rule.limits.each().into_iter().zip(own);
    let limited = limits.filter_map(|((dimension, limit), (_, own))| {
        let is_window = dimension.period.is_some() && !dimension.flows();
        (is_window && own.or(limit).is_some()).then_some((dimension, own.is_some()))
    });
    let kinds = limited.map(|(dimension, is_own)| Kind {
        rule: format!("{name} {by:?} {routes:?} {models:?} {teams:?}"),
        owner: is_own.then(|| owner.to_owned()),
        dimension,
    });
    kinds.collect()
}

/// A caller and its team, as far as they can have limits of their own.
fn owners(caller: &Caller) -> impl Iterator<Item = String> {
    let team = team(caller).map(|(id, _)| id);
    [Some(caller.id.as_str()), team].into_iter().flatten().map(str::to_owned)
}

/// What requests have used, as a limit counts it.
fn amount(spent: &Spent, counted: Counted, cached_permille: u16) -> u64 {
    let used = Amounts {
        input_tokens: spent.usage.input.saturating_add(spent.usage.cache_write),
        cached_tokens: spent.usage.cached_input,
        output_tokens: spent.usage.total_output(),
        micro_usd: spent.cost.0,
    };
    match counted {
        Counted::Requests => spent.requests,
        Counted::Concurrent
        | Counted::Tokens
        | Counted::InputTokens
        | Counted::OutputTokens
        | Counted::Money => used.of(counted, cached_permille),
    }
}
