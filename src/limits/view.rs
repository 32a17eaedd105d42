//! How much of its limits a key or a team has used, for operators.

use std::sync::Arc;

use super::subjects::lock;
use super::{Limits, Rule};
use crate::quota::{By, Dimension, LimitSettings, Subject};

/// Whose use is asked for.
#[derive(Debug, Clone, Copy)]
pub enum Owner<'a> {
    /// A key's.
    Key {
        /// Its public id.
        id: &'a str,
        /// Its team.
        team: Option<&'a str>,
        /// The limits that it has for itself.
        own: &'a LimitSettings,
    },
    /// That of all keys of a team together.
    Team {
        /// Its public id.
        id: &'a str,
        /// The limits that it has for itself.
        own: &'a LimitSettings,
    },
}

/// How much of one limit is used.
#[derive(Debug, Clone, PartialEq)]
pub struct Used {
    /// The name of the limit in the configuration; `key` or `team` for what the key or the team has
    /// for itself and no other limit takes.
    pub rule: Arc<str>,
    /// What of it.
    pub dimension: Dimension,
    /// What is allowed: requests, tokens, or millionths of a US dollar.
    pub limit: u64,
    /// What may be used of it at once: of what flows its burst, of all else the limit.
    pub at_once: u64,
    /// What is used of it now, reservations of running requests among it. Of what flows, what has
    /// not flowed back yet.
    pub used: u64,
    /// The part of `at_once` that is used, 0 to 1: at 1 the next request is refused.
    pub share: f64,
    /// When nothing of it will be used if nothing else is, in milliseconds since 1970. `None` where
    /// nothing is, or where only the end of requests gives it back.
    pub resets_at_ms: Option<u64>,
}

// === impl Limits ===

impl Limits {
    /// How much is used of all limits that add up the use of this key or this team alone, as far as
    /// this node knows. Nothing is taken or asked for.
    pub fn used(&self, rules: &[Arc<Rule>], owner: Owner<'_>) -> Vec<Used> {
        let (by, of_own) = match owner {
            Owner::Key { .. } => ([By::Caller], &self.of_keys),
            Owner::Team { .. } => ([By::Team], &self.of_teams),
        };
        let own = Some(owner.limits()).filter(|limits| !limits.is_empty());
        let takes_own = |rule: &Rule| by == [By::Caller] && rule.takes_own();
        let is_taken = rules.iter().any(|rule| takes_own(rule));
        let about = rules.iter().filter(|rule| rule.by == by);
        about
            .map(|rule| (rule, own.filter(|_| takes_own(rule))))
            .chain(own.filter(|_| !is_taken).map(|own| (of_own, Some(own))))
            .flat_map(|(rule, own)| self.used_of(rule, own, owner))
            .collect()
    }

    fn used_of(
        &self,
        rule: &Arc<Rule>,
        own: Option<&LimitSettings>,
        owner: Owner<'_>,
    ) -> Vec<Used> {
        // Whichever of its routes is asked for, it is the same subject.
        let first = |names: &'_ [String]| names.first().cloned().unwrap_or_default();
        let (route, model) = (first(&rule.routes), first(&rule.models));
        let (caller, team) = owner.names();
        let of = Subject { caller, team, route: &route, model: &model, tags: &[] };
        let Some(key) = rule.subject(&of) else { return Vec::new() };
        let moment = self.moment();
        let unused = rule.allowance(own, false, moment);
        let only: Vec<_> = self.subjects.find(&key, rule, own).into_iter().collect();
        let locked = lock(&only, moment);
        let meters = locked.first().map_or(unused.meters(), |subject| subject.meters());
        let used = unused.meters().iter().filter_map(|(dimension, unused)| {
            let (_, meter) = meters.iter().find(|(other, _)| other == dimension)?;
            let (limit, at_once, _) = unused.standing(moment);
            let (_, left, reset) = meter.standing(moment);
            let used = at_once.saturating_sub(left);
            let reset_ms = u64::try_from(reset.as_millis()).unwrap_or(u64::MAX);
            #[expect(clippy::cast_precision_loss, reason = "a share")]
            let share = used as f64 / at_once.max(1) as f64;
            Some(Used {
                rule: Arc::clone(&rule.name),
                dimension: *dimension,
                limit,
                at_once,
                used,
                share,
                resets_at_ms: (used > 0 && reset_ms > 0)
                    .then(|| moment.unix_ms.saturating_add(reset_ms)),
            })
        });
        used.collect()
    }
}

// === impl Owner ===

impl<'a> Owner<'a> {
    fn limits(self) -> &'a LimitSettings {
        match self {
            Self::Key { own, .. } | Self::Team { own, .. } => own,
        }
    }

    /// The caller and the team.
    fn names(self) -> (&'a str, Option<&'a str>) {
        match self {
            Self::Key { id, team, .. } => (id, team),
            Self::Team { id, .. } => ("", Some(id)),
        }
    }
}
