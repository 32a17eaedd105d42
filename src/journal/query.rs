//! Questions to the journal: requests newest first, and usage added up.
//!
//! Both read at most a bounded number of rows into memory, however large the table is.

use jiff::civil::Date;
use sqlx::Row;
use sqlx::any::AnyRow;

use super::row::{COLUMNS, ended_at_ms, first_id_of};
use super::{Journal, Outcome};
use crate::chat::Usage;
use crate::store::{Sql, StoreError};
use crate::units::MicroUsd;

/// Which requests. Fields that are not given do not restrict.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RequestFilter {
    /// The public id of a key, or `anonymous`.
    pub caller: Option<String>,
    /// A route.
    pub route: Option<String>,
    /// `provider/model`, with `#n` where a provider has several credentials.
    pub target: Option<String>,
    /// What was asked for or what served; either matches.
    pub model: Option<String>,
    /// How it ended.
    pub outcome: Option<Outcome>,
    /// Ended at this millisecond since 1970 or later.
    pub since_ms: Option<u64>,
    /// Ended before this millisecond since 1970.
    pub until_ms: Option<u64>,
}

/// A request as the journal holds it; see [`Entry`](super::Entry).
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are those of `Entry`, as text and numbers")]
pub struct StoredRequest {
    /// Its place in the journal; the cursor of the page after it.
    pub place: i64,
    /// When it ended, in milliseconds since 1970.
    pub ended_at_ms: u64,
    pub request_id: String,
    pub started_at_ms: u64,
    pub caller: String,
    pub endpoint: String,
    pub dialect: String,
    pub model_asked: Option<String>,
    pub route: Option<String>,
    pub target: Option<String>,
    pub provider: Option<String>,
    pub model_served: Option<String>,
    pub streamed: bool,
    pub outcome: String,
    pub failure: Option<String>,
    pub error_code: Option<String>,
    pub status: u64,
    pub attempts: u64,
    pub degradation: u64,
    pub usage: Usage,
    pub usage_estimated: bool,
    pub cost: MicroUsd,
    pub latency_ms: u64,
    pub first_token_ms: Option<u64>,
    pub overhead_us: u64,
    /// A JSON object.
    pub tags: Option<String>,
    pub reuse: Option<String>,
}

/// What usage is added up by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum UsageKey {
    /// By whose key it was.
    Caller,
    /// By route.
    Route,
    /// By who served it.
    Target,
    /// By the model that served it.
    Model,
    /// By the day, in UTC, on which it ended.
    Day,
}

/// Usage of one group.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UsageSum {
    /// The group: a value for each key asked for, in that order. `None` where requests have none,
    /// such as the target of a request that was refused. Days read `2026-11-20`.
    pub group: Vec<Option<String>>,
    /// Requests.
    pub requests: u64,
    /// Requests by outcome, in the order of [`Outcome::ALL`].
    pub outcomes: [u64; Outcome::ALL.len()],
    /// Tokens.
    pub usage: Usage,
    /// Requests whose tokens we counted because the provider did not say.
    pub estimated: u64,
    /// Money.
    pub cost: MicroUsd,
}

// === impl Journal ===

impl Journal {
    /// The most requests of one page.
    pub const MAX_PAGE: u32 = 1_000;
    /// The most groups of one sum; those that cost most come first.
    pub const MAX_GROUPS: u32 = 1_000;

    /// Requests, newest first: those that ended before the request at `before`, at most `limit`.
    ///
    /// # Errors
    ///
    /// [`StoreError`] where the store cannot be read.
    pub async fn requests(
        &self,
        filter: &RequestFilter,
        before: Option<i64>,
        limit: u32,
    ) -> Result<Vec<StoredRequest>, StoreError> {
        let mut query = Sql::new("SELECT ");
        query.push(&COLUMNS.join(", ")).push(" FROM requests");
        push_filter(&mut query, filter);
        if let Some(before) = before {
            query.push(" AND id < ").bind(before);
        }
        query.push(" ORDER BY id DESC LIMIT ").bind(i64::from(limit.min(Self::MAX_PAGE)));
        let mut reader = self.store.reader().await?;
        let failed = StoreError::query("read requests from the journal");
        let rows =
            query.query().map_err(&failed)?.fetch_all(&mut *reader).await.map_err(&failed)?;
        rows.iter().map(StoredRequest::read).collect::<Result<_, _>>().map_err(failed)
    }

    /// Usage, added up by `keys`; one sum where there are none. The dearest groups come first, at
    /// most [`Journal::MAX_GROUPS`].
    ///
    /// # Errors
    ///
    /// [`StoreError`] where the store cannot be read.
    pub async fn usage(
        &self,
        filter: &RequestFilter,
        keys: &[UsageKey],
    ) -> Result<Vec<UsageSum>, StoreError> {
        let mut query = Sql::new("SELECT count(*)");
        for outcome in Outcome::ALL {
            query.push(", count(CASE WHEN outcome = ").bind(outcome.as_str()).push(" THEN 1 END)");
        }
        for column in SUMMED {
            query.push(", ").push(&total(column));
        }
        for key in keys {
            query.push(", ").push(key.sql());
        }
        query.push(" FROM requests");
        push_filter(&mut query, filter);
        if !keys.is_empty() {
            let positions = (0..keys.len()).map(|at| (at + FIRST_KEY + 1).to_string());
            query.push(" GROUP BY ").push(&positions.collect::<Vec<_>>().join(", "));
        }
        let cost = total("cost_micro_usd");
        query.push(" ORDER BY ").push(&cost).push(" DESC, count(*) DESC LIMIT ");
        query.bind(i64::from(Self::MAX_GROUPS));
        let mut reader = self.store.reader().await?;
        let failed = StoreError::query("add up the journal");
        let rows =
            query.query().map_err(&failed)?.fetch_all(&mut *reader).await.map_err(&failed)?;
        rows.iter().map(|row| UsageSum::read(row, keys)).collect::<Result<_, _>>().map_err(failed)
    }
}

/// The columns of [`UsageSum`] after the outcomes.
const SUMMED: [&str; 7] = [
    "input",
    "cached_input",
    "cache_write",
    "output",
    "reasoning",
    "usage_estimated",
    "cost_micro_usd",
];
/// Where the group's values begin: after the count, the outcomes and the sums.
const FIRST_KEY: usize = 1 + Outcome::ALL.len() + SUMMED.len();

/// A sum as a float, which cannot overflow and is exact up to 2^53.
fn total(column: &str) -> String {
    format!("coalesce(sum(CAST({column} AS DOUBLE PRECISION)), 0.0)")
}

fn push_filter(query: &mut Sql, filter: &RequestFilter) {
    query.push(" WHERE id >= ").bind(filter.since_ms.map_or(0, first_id_of));
    if let Some(until_ms) = filter.until_ms {
        query.push(" AND id < ").bind(first_id_of(until_ms));
    }
    let names = [("caller", &filter.caller), ("route", &filter.route), ("target", &filter.target)];
    for (column, value) in names {
        if let Some(value) = value {
            query.push(" AND ").push(column).push(" = ").bind(value.clone());
        }
    }
    if let Some(model) = &filter.model {
        query.push(" AND ").bind(model.clone()).push(" IN (model_asked, model_served)");
    }
    if let Some(outcome) = filter.outcome {
        query.push(" AND outcome = ").bind(outcome.as_str());
    }
}

// === impl StoredRequest ===

impl StoredRequest {
    fn read(row: &AnyRow) -> Result<Self, sqlx::Error> {
        let count = |column| row.try_get::<i64, _>(column).map(|n| n.max(0).unsigned_abs());
        let place = row.try_get("id")?;
        let first_token_ms: Option<i64> = row.try_get("first_token_ms")?;
        Ok(Self {
            place,
            ended_at_ms: ended_at_ms(place),
            request_id: row.try_get("request_id")?,
            started_at_ms: count("started_at_ms")?,
            caller: row.try_get("caller")?,
            endpoint: row.try_get("endpoint")?,
            dialect: row.try_get("dialect")?,
            model_asked: row.try_get("model_asked")?,
            route: row.try_get("route")?,
            target: row.try_get("target")?,
            provider: row.try_get("provider")?,
            model_served: row.try_get("model_served")?,
            streamed: count("streamed")? != 0,
            outcome: row.try_get("outcome")?,
            failure: row.try_get("failure")?,
            error_code: row.try_get("error_code")?,
            status: count("status")?,
            attempts: count("attempts")?,
            degradation: count("degradation")?,
            usage: Usage {
                input: count("input")?,
                cached_input: count("cached_input")?,
                cache_write: count("cache_write")?,
                output: count("output")?,
                reasoning: count("reasoning")?,
            },
            usage_estimated: count("usage_estimated")? != 0,
            cost: MicroUsd(count("cost_micro_usd")?),
            latency_ms: count("latency_ms")?,
            first_token_ms: first_token_ms.map(|ms| ms.max(0).unsigned_abs()),
            overhead_us: count("overhead_us")?,
            tags: row.try_get("tags")?,
            reuse: row.try_get("reuse")?,
        })
    }
}

// === impl UsageKey ===

impl UsageKey {
    /// All keys.
    pub const ALL: [Self; 5] = [Self::Caller, Self::Route, Self::Target, Self::Model, Self::Day];

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Caller => "caller",
            Self::Route => "route",
            Self::Target => "target",
            Self::Model => "model",
            Self::Day => "day",
        }
    }

    /// The expression whose value makes the group.
    const fn sql(self) -> &'static str {
        match self {
            Self::Caller => "caller",
            Self::Route => "route",
            Self::Target => "target",
            Self::Model => "coalesce(model_served, model_asked)",
            // Milliseconds of the end over those of a day, as text like the others.
            Self::Day => "CAST((id >> 20) / 86400000 AS TEXT)",
        }
    }

    /// The group as people read it.
    fn shown(self, value: Option<String>) -> Option<String> {
        match self {
            Self::Caller | Self::Route | Self::Target | Self::Model => value,
            Self::Day => {
                let day = value?.parse::<i32>().ok()?;
                let epoch = Date::constant(1970, 1, 1);
                epoch
                    .checked_add(jiff::Span::new().try_days(day).ok()?)
                    .ok()
                    .map(|day| day.to_string())
            }
        }
    }
}

// === impl UsageSum ===

impl UsageSum {
    fn read(row: &AnyRow, keys: &[UsageKey]) -> Result<Self, sqlx::Error> {
        // Sums are floats that hold whole numbers.
        let sum = |at: usize| row.try_get::<f64, _>(at).map(|total| total as u64);
        let count = |at: usize| row.try_get::<i64, _>(at).map(|n| n.max(0).unsigned_abs());
        let mut outcomes = [0; Outcome::ALL.len()];
        let first = 1 + outcomes.len();
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
                input: sum(first)?,
                cached_input: sum(first + 1)?,
                cache_write: sum(first + 2)?,
                output: sum(first + 3)?,
                reasoning: sum(first + 4)?,
            },
            estimated: sum(first + 5)?,
            cost: MicroUsd(sum(first + 6)?),
        })
    }
}
