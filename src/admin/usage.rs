//! `/admin/v1/usage`: requests, tokens and money, added up.

use axum::Json;
use axum::extract::State;
use http::Uri;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::problem::Problem;
use super::{AdminState, page, requests};
use crate::journal::{Journal, Outcome, RequestFilter, UsageKey, UsageSum};

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct UsageQuery {
    group_by: Option<String>,
    caller: Option<String>,
    route: Option<String>,
    target: Option<String>,
    model: Option<String>,
    outcome: Option<String>,
    since: Option<String>,
    until: Option<String>,
}

/// Usage by group, the dearest first.
#[derive(Debug, Serialize)]
pub(super) struct UsageView {
    data: Vec<GroupView>,
    /// Whether there are more groups than are shown.
    truncated: bool,
}

#[derive(Debug, Serialize)]
struct GroupView {
    group: Map<String, Value>,
    requests: u64,
    outcomes: Map<String, Value>,
    tokens: TokensView,
    requests_with_estimated_tokens: u64,
    cost_usd: String,
}

#[derive(Debug, Serialize)]
struct TokensView {
    input: u64,
    cached_input: u64,
    cache_write: u64,
    output: u64,
    reasoning: u64,
    total: u64,
}

/// `GET /usage`
pub(super) async fn sum(
    State(state): State<AdminState>,
    uri: Uri,
) -> Result<Json<UsageView>, Problem> {
    let query: UsageQuery = page::query(&uri)?;
    let keys = keys(query.group_by.as_deref().unwrap_or_default())?;
    let filter = RequestFilter {
        since_ms: page::time_ms("since", query.since.as_deref())?,
        until_ms: page::time_ms("until", query.until.as_deref())?,
        outcome: query.outcome.as_deref().map(requests::outcome).transpose()?,
        caller: query.caller,
        route: query.route,
        target: query.target,
        model: query.model,
    };
    let sums = state.journal.usage(&filter, &keys).await?;
    let truncated = sums.len() == Journal::MAX_GROUPS as usize;
    let data = sums.into_iter().map(|sum| GroupView::of(sum, &keys)).collect();
    Ok(Json(UsageView { data, truncated }))
}

fn keys(group_by: &str) -> Result<Vec<UsageKey>, Problem> {
    let mut keys = Vec::new();
    for name in group_by.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        let key = UsageKey::ALL.into_iter().find(|key| key.as_str() == name).ok_or_else(|| {
            let all = UsageKey::ALL.map(UsageKey::as_str).join(", ");
            Problem::invalid(format!("group_by: `{name}` is none of {all}"))
        })?;
        if keys.contains(&key) {
            return Err(Problem::invalid(format!("group_by: `{name}` is named twice")));
        }
        keys.push(key);
    }
    Ok(keys)
}

// === impl GroupView ===

impl GroupView {
    fn of(sum: UsageSum, keys: &[UsageKey]) -> Self {
        let names = keys.iter().map(|key| key.as_str().to_owned());
        let outcomes = Outcome::ALL.iter().map(|outcome| outcome.as_str().to_owned());
        Self {
            group: names.zip(sum.group.into_iter().map(Value::from)).collect(),
            requests: sum.requests,
            outcomes: outcomes.zip(sum.outcomes.map(Value::from)).collect(),
            tokens: TokensView {
                input: sum.usage.input,
                cached_input: sum.usage.cached_input,
                cache_write: sum.usage.cache_write,
                output: sum.usage.output,
                reasoning: sum.usage.reasoning,
                total: sum.usage.total(),
            },
            requests_with_estimated_tokens: sum.estimated,
            cost_usd: sum.cost.to_usd_string(),
        }
    }
}
