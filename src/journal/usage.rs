//! Usage added up: tokens and money by whatever requests can be told apart by.

use jiff::Timestamp;
use jiff::civil::Date;
use sqlx::Row;
use sqlx::any::AnyRow;

use super::query::push_filter;
use super::{Journal, Outcome, RequestFilter, Waste};
use crate::chat::Usage;
use crate::store::{Kind, Sql, StoreError};
use crate::units::MicroUsd;

/// What usage is added up by.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum UsageKey {
    /// By whose key it was.
    Caller,
    /// By the team that the key is in now.
    Team,
    /// By route.
    Route,
    /// By who served it.
    Target,
    /// By the provider that served it.
    Provider,
    /// By the model that served it.
    Model,
    /// By what was called.
    Endpoint,
    /// By how it ended.
    Outcome,
    /// By how much it mattered, from 0 to 4.
    Priority,
    /// By registered prompt, `id@version`.
    Prompt,
    /// By rollout.
    Rollout,
    /// By the side of a rollout.
    Arm,
    /// By the hour, in UTC, in which it ended.
    Hour,
    /// By the day, in UTC, on which it ended.
    Day,
    /// By the month, in UTC, in which it ended.
    Month,
    /// By the value of a tag.
    Tag(String),
}

/// Usage of one group.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UsageSum {
    /// The group: a value for each key asked for, in that order. `None` where requests have none,
    /// such as the target of a request that was refused. Hours read `2026-11-20T09:00:00Z`, days
    /// `2026-11-20`, months `2026-11`.
    pub group: Vec<Option<String>>,
    /// Requests.
    pub requests: u64,
    /// Requests by outcome, in the order of [`Outcome::ALL`].
    pub outcomes: [u64; Outcome::ALL.len()],
    /// Tokens that callers are charged for.
    pub usage: Usage,
    /// Requests whose tokens we counted because the provider did not say.
    pub estimated: u64,
    /// What callers are charged.
    pub cost: MicroUsd,
    /// The part of `cost` that rests on our own counts.
    pub estimated_cost: MicroUsd,
    /// What other attempts took. It is estimated where that of any request is.
    pub waste: Waste,
    /// What answers from the cache would have cost.
    pub saved: MicroUsd,
}

// === impl Journal ===

impl Journal {
    /// The most groups of one sum; those that cost most come first.
    pub const MAX_GROUPS: u32 = 10_000;

    /// Usage, added up by `keys`; one sum where there are none. The dearest groups come first, at
    /// most `limit` of them and never more than [`Journal::MAX_GROUPS`].
    ///
    /// # Errors
    ///
    /// [`StoreError`] where the store cannot be read.
    pub async fn usage(
        &self,
        filter: &RequestFilter,
        keys: &[UsageKey],
        limit: u32,
    ) -> Result<Vec<UsageSum>, StoreError> {
        let kind = self.store.kind();
        let mut query = Sql::new("SELECT count(*)");
        for outcome in Outcome::ALL {
            query.push(", count(CASE WHEN outcome = ").bind(outcome.as_str()).push(" THEN 1 END)");
        }
        for column in SUMMED {
            query.push(", ").push(&total(column));
        }
        for key in keys {
            key.push(query.push(", "), kind);
        }
        query.push(" FROM requests");
        push_filter(&mut query, filter, kind);
        if !keys.is_empty() {
            let positions = (0..keys.len()).map(|at| (at + FIRST_KEY + 1).to_string());
            query.push(" GROUP BY ").push(&positions.collect::<Vec<_>>().join(", "));
        }
        let spent = total("cost_micro_usd + waste_micro_usd");
        query.push(" ORDER BY ").push(&spent).push(" DESC, count(*) DESC LIMIT ");
        query.bind(i64::from(limit.min(Self::MAX_GROUPS)));
        let mut reader = self.store.reader().await?;
        let failed = StoreError::query("add up the journal");
        let rows =
            query.query().map_err(&failed)?.fetch_all(&mut *reader).await.map_err(&failed)?;
        rows.iter().map(|row| UsageSum::read(row, keys)).collect::<Result<_, _>>().map_err(failed)
    }
}

/// The columns of [`UsageSum`] after the outcomes.
const SUMMED: [&str; 13] = [
    "input",
    "cached_input",
    "cache_write",
    "output",
    "reasoning",
    "usage_estimated",
    "cost_micro_usd",
    "usage_estimated * cost_micro_usd",
    "waste_input",
    "waste_output",
    "waste_micro_usd",
    "waste_estimated",
    "saved_micro_usd",
];
/// Where the sums begin: after the count and the outcomes.
const FIRST_SUM: usize = 1 + Outcome::ALL.len();
/// Where the group's values begin.
const FIRST_KEY: usize = FIRST_SUM + SUMMED.len();

/// A sum as a float, which cannot overflow and is exact up to 2^53.
fn total(column: &str) -> String {
    format!("coalesce(sum(CAST({column} AS DOUBLE PRECISION)), 0.0)")
}

/// Adds the value of a request's tag.
pub(super) fn push_tag(query: &mut Sql, name: &str, kind: Kind) {
    match kind {
        // A path would have to quote names, which may hold quotes.
        Kind::Sqlite => {
            query.push("(SELECT value FROM json_each(requests.tags) WHERE key = ");
            query.bind(name.to_owned()).push(")");
        }
        Kind::Postgres => {
            query.push("(CAST(tags AS jsonb) ->> ").bind(name.to_owned()).push(")");
        }
    }
}

// === impl UsageKey ===

impl UsageKey {
    /// The names of all keys that have a fixed one, as [`UsageKey::parse`] reads them.
    pub const NAMES: &'static str = "caller, team, route, target, provider, model, endpoint, outcome, priority, prompt, rollout, arm, hour, day, month, tag:NAME";

    /// Reads a key's name; `key` is another for `caller`.
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "caller" | "key" => Self::Caller,
            "team" => Self::Team,
            "route" => Self::Route,
            "target" => Self::Target,
            "provider" => Self::Provider,
            "model" => Self::Model,
            "endpoint" => Self::Endpoint,
            "outcome" => Self::Outcome,
            "priority" => Self::Priority,
            "prompt" => Self::Prompt,
            "rollout" => Self::Rollout,
            "arm" => Self::Arm,
            "hour" => Self::Hour,
            "day" => Self::Day,
            "month" => Self::Month,
            _ => Self::Tag(name.strip_prefix("tag:").filter(|tag| !tag.is_empty())?.to_owned()),
        })
    }

    /// Its name.
    pub fn name(&self) -> String {
        let name = match self {
            Self::Caller => "caller",
            Self::Team => "team",
            Self::Route => "route",
            Self::Target => "target",
            Self::Provider => "provider",
            Self::Model => "model",
            Self::Endpoint => "endpoint",
            Self::Outcome => "outcome",
            Self::Priority => "priority",
            Self::Prompt => "prompt",
            Self::Rollout => "rollout",
            Self::Arm => "arm",
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Month => "month",
            Self::Tag(name) => return format!("tag:{name}"),
        };
        name.to_owned()
    }

    /// Adds the expression whose value makes the group, always a text.
    fn push(&self, query: &mut Sql, kind: Kind) {
        let sql = match (self, kind) {
            (Self::Caller, _) => "caller",
            (Self::Team, _) => "(SELECT team FROM keys WHERE keys.id = requests.caller)",
            (Self::Route, _) => "route",
            (Self::Target, _) => "target",
            (Self::Provider, _) => "provider",
            (Self::Model, _) => "coalesce(model_served, model_asked)",
            (Self::Endpoint, _) => "endpoint",
            (Self::Outcome, _) => "outcome",
            (Self::Priority, _) => "CAST(priority AS TEXT)",
            (Self::Prompt, _) => "prompt",
            (Self::Rollout, _) => "rollout",
            (Self::Arm, _) => "arm",
            // Milliseconds of the end over those of an hour or a day.
            (Self::Hour, _) => "CAST((id >> 20) / 3600000 AS TEXT)",
            (Self::Day, _) => "CAST((id >> 20) / 86400000 AS TEXT)",
            (Self::Month, Kind::Sqlite) => "strftime('%Y-%m', (id >> 20) / 1000, 'unixepoch')",
            (Self::Month, Kind::Postgres) => {
                "to_char(to_timestamp((id >> 20) / 1000) AT TIME ZONE 'UTC', 'YYYY-MM')"
            }
            (Self::Tag(name), _) => return push_tag(query, name, kind),
        };
        query.push(sql);
    }

    /// The group as people read it.
    fn shown(&self, value: Option<String>) -> Option<String> {
        match self {
            Self::Hour => {
                let hour = value?.parse::<i64>().ok()?;
                Timestamp::from_second(hour.checked_mul(3_600)?).ok().map(|hour| hour.to_string())
            }
            Self::Day => {
                let day = value?.parse::<i32>().ok()?;
                let epoch = Date::constant(1970, 1, 1);
                let day = epoch.checked_add(jiff::Span::new().try_days(day).ok()?).ok()?;
                Some(day.to_string())
            }
            Self::Caller
            | Self::Team
            | Self::Route
            | Self::Target
            | Self::Provider
            | Self::Model
            | Self::Endpoint
            | Self::Outcome
            | Self::Priority
            | Self::Prompt
            | Self::Rollout
            | Self::Arm
            | Self::Month
            | Self::Tag(_) => value,
        }
    }
}

// === impl UsageSum ===

impl UsageSum {
    fn read(row: &AnyRow, keys: &[UsageKey]) -> Result<Self, sqlx::Error> {
        // Sums are floats that hold whole numbers.
        let sum = |at: usize| row.try_get::<f64, _>(FIRST_SUM + at).map(|total| total as u64);
        let count = |at: usize| row.try_get::<i64, _>(at).map(|n| n.max(0).unsigned_abs());
        let mut outcomes = [0; Outcome::ALL.len()];
        for (at, outcome) in outcomes.iter_mut().enumerate() {
            *outcome = count(1 + at)?;
        }
        let group = keys.iter().enumerate();
        let group = group.map(|(at, key)| Ok(key.shown(row.try_get(FIRST_KEY + at)?)));
        Ok(Self {
            group: group.collect::<Result<_, sqlx::Error>>()?,
            requests: count(0)?,
            outcomes,
            usage: Usage {
                input: sum(0)?,
                cached_input: sum(1)?,
                cache_write: sum(2)?,
                output: sum(3)?,
                reasoning: sum(4)?,
            },
            estimated: sum(5)?,
            cost: MicroUsd(sum(6)?),
            estimated_cost: MicroUsd(sum(7)?),
            waste: Waste {
                input: sum(8)?,
                output: sum(9)?,
                cost: MicroUsd(sum(10)?),
                is_estimated: sum(11)? > 0,
            },
            saved: MicroUsd(sum(12)?),
        })
    }

    /// The part of the money, waste included, that rests on our own counts: 0 to 1. All of the
    /// waste of a group counts as estimated where some of it is.
    pub fn estimated_share(&self) -> f64 {
        let waste = if self.waste.is_estimated { self.waste.cost } else { MicroUsd::default() };
        let (part, whole) = (self.estimated_cost + waste, self.cost + self.waste.cost);
        #[expect(clippy::cast_precision_loss, reason = "a share")]
        let share = part.0 as f64 / whole.0.max(1) as f64;
        share
    }
}
