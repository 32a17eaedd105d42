//! What was used in a time, for limits that last longer than a run of the gateway.

use sqlx::Row;
use sqlx::any::AnyRow;

use super::row::first_id_of;
use super::{EndpointKind, Journal};
use crate::chat::Usage;
use crate::store::{Sql, StoreError};
use crate::units::MicroUsd;

/// The most groups that are read; those that cost most come first.
const MAX_GROUPS: i64 = 100_000;

/// What requests of one caller, route and set of tags used together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spent {
    /// The public id of the key, or `anonymous`.
    pub caller: String,
    /// The route.
    pub route: String,
    /// The tags.
    pub tags: Vec<(String, String)>,
    /// Requests that a provider was asked for.
    pub requests: u64,
    /// Tokens.
    pub usage: Usage,
    /// Money.
    pub cost: MicroUsd,
}

// === impl Journal ===

impl Journal {
    /// What was used by requests that started at `since_ms` or later and before `before_ms`, and
    /// have ended.
    ///
    /// # Errors
    ///
    /// [`StoreError`] where the store cannot be read.
    pub async fn spent(&self, since_ms: u64, before_ms: u64) -> Result<Vec<Spent>, StoreError> {
        let whole = |ms: u64| i64::try_from(ms).unwrap_or(i64::MAX);
        let mut query = Sql::new("SELECT caller, route, tags, count(*)");
        let sums =
            ["input", "cached_input", "cache_write", "output", "reasoning", "cost_micro_usd"];
        for column in sums {
            let sum = format!(", coalesce(sum(CAST({column} AS DOUBLE PRECISION)), 0.0)");
            query.push(&sum);
        }
        query.push(" FROM requests WHERE id >= ").bind(first_id_of(since_ms));
        query.push(" AND started_at_ms >= ").bind(whole(since_ms));
        query.push(" AND started_at_ms < ").bind(whole(before_ms));
        query.push(" AND attempts > 0 AND route IS NOT NULL AND endpoint <> ");
        query.bind(EndpointKind::CountTokens.as_str());
        query.push(" GROUP BY caller, route, tags ORDER BY 10 DESC LIMIT ").bind(MAX_GROUPS);
        let mut reader = self.store.reader().await?;
        let failed = StoreError::query("add up what limits were used");
        let rows =
            query.query().map_err(&failed)?.fetch_all(&mut *reader).await.map_err(&failed)?;
        rows.iter().map(Spent::read).collect::<Result<_, _>>().map_err(failed)
    }
}

// === impl Spent ===

impl Spent {
    fn read(row: &AnyRow) -> Result<Self, sqlx::Error> {
        // Sums are floats that hold whole numbers.
        let sum = |at: usize| row.try_get::<f64, _>(at).map(|total| total as u64);
        let tags: Option<String> = row.try_get(2)?;
        let tags = tags.and_then(|tags| serde_json::from_str(&tags).ok());
        let tags: std::collections::BTreeMap<String, String> = tags.unwrap_or_default();
        Ok(Self {
            caller: row.try_get(0)?,
            route: row.try_get(1)?,
            tags: tags.into_iter().collect(),
            requests: row.try_get::<i64, _>(3)?.max(0).unsigned_abs(),
            usage: Usage {
                input: sum(4)?,
                cached_input: sum(5)?,
                cache_write: sum(6)?,
                output: sum(7)?,
                reasoning: sum(8)?,
            },
            cost: MicroUsd(sum(9)?),
        })
    }
}
