//! Questions to the journal: requests, newest first.
//!
//! They read at most a bounded number of rows into memory, however large the table is.

use sqlx::Row;
use sqlx::any::AnyRow;

use super::row::{COMMON, OWN, ended_at_ms, first_id_of};
use super::usage::push_tag;
use super::{Journal, Outcome, Waste};
use crate::chat::Usage;
use crate::store::{Kind, Sql, StoreError};
use crate::units::{MicroUsd, Priority};

/// Which requests. Fields that are not given do not restrict.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RequestFilter {
    /// The public id of a key, or `anonymous`.
    pub caller: Option<String>,
    /// The team that the key is in now.
    pub team: Option<String>,
    /// A route.
    pub route: Option<String>,
    /// `provider/model`, with `#n` where a provider has several credentials.
    pub target: Option<String>,
    /// What was asked for or what served; either matches.
    pub model: Option<String>,
    /// Who served it.
    pub provider: Option<String>,
    /// What was called: [`EndpointKind::as_str`](super::EndpointKind::as_str).
    pub endpoint: Option<String>,
    /// How it ended.
    pub outcome: Option<Outcome>,
    /// How much it mattered.
    pub priority: Option<Priority>,
    /// The registered prompt it was made with: `id`, or `id@version`.
    pub prompt: Option<String>,
    /// The rollout it took part in.
    pub rollout: Option<String>,
    /// The side of that: `control` or `candidate`.
    pub arm: Option<String>,
    /// Tags that it has, names and values.
    pub tags: Vec<(String, String)>,
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
    pub waste: Waste,
    /// What the answer from the cache would have cost.
    pub saved: MicroUsd,
    pub latency_ms: u64,
    pub first_token_ms: Option<u64>,
    pub overhead_us: u64,
    /// A JSON object.
    pub tags: Option<String>,
    pub reuse: Option<String>,
    pub priority: Option<u64>,
    pub prompt: Option<String>,
    pub rollout: Option<String>,
    pub arm: Option<String>,
}

// === impl Journal ===

impl Journal {
    /// The most requests of one page.
    pub const MAX_PAGE: u32 = 1_000;

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
        query.push(&[&OWN[..], &COMMON[..]].concat().join(", ")).push(" FROM requests");
        push_filter(&mut query, filter, self.store.kind());
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
}

/// Adds the conditions of a filter.
pub(super) fn push_filter(query: &mut Sql, filter: &RequestFilter, kind: Kind) {
    query.push(" WHERE id >= ").bind(filter.since_ms.map_or(0, first_id_of));
    if let Some(until_ms) = filter.until_ms {
        query.push(" AND id < ").bind(first_id_of(until_ms));
    }
    query
        .and_is("caller", filter.caller.as_deref())
        .and_is("route", filter.route.as_deref())
        .and_is("target", filter.target.as_deref())
        .and_is("provider", filter.provider.as_deref())
        .and_is("endpoint", filter.endpoint.as_deref())
        .and_is("rollout", filter.rollout.as_deref())
        .and_is("arm", filter.arm.as_deref())
        .and_is("outcome", filter.outcome.map(Outcome::as_str))
        .and_is_version("prompt", filter.prompt.as_deref());
    if let Some(team) = &filter.team {
        query
            .push(" AND caller IN (SELECT id FROM keys WHERE team = ")
            .bind(team.clone())
            .push(")");
    }
    if let Some(model) = &filter.model {
        query.push(" AND ").bind(model.clone()).push(" IN (model_asked, model_served)");
    }
    if let Some(priority) = filter.priority {
        query.push(" AND priority = ").bind(i64::from(priority.level()));
    }
    for (name, value) in &filter.tags {
        push_tag(query.push(" AND "), name, kind);
        query.push(" = ").bind(value.clone());
    }
}

// === impl StoredRequest ===

impl StoredRequest {
    fn read(row: &AnyRow) -> Result<Self, sqlx::Error> {
        let count = |column| row.try_get::<i64, _>(column).map(|n| n.max(0).unsigned_abs());
        let place = row.try_get("id")?;
        let priority: Option<i64> = row.try_get("priority")?;
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
            waste: Waste {
                input: count("waste_input")?,
                output: count("waste_output")?,
                cost: MicroUsd(count("waste_micro_usd")?),
                is_estimated: count("waste_estimated")? != 0,
            },
            saved: MicroUsd(count("saved_micro_usd")?),
            latency_ms: count("latency_ms")?,
            first_token_ms: first_token_ms.map(|ms| ms.max(0).unsigned_abs()),
            overhead_us: count("overhead_us")?,
            tags: row.try_get("tags")?,
            reuse: row.try_get("reuse")?,
            priority: priority.map(|level| level.max(0).unsigned_abs()),
            prompt: row.try_get("prompt")?,
            rollout: row.try_get("rollout")?,
            arm: row.try_get("arm")?,
        })
    }
}
