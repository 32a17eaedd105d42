//! `/admin/v1/usage`: requests, tokens and money, added up.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::{ACCEPT, CONTENT_DISPOSITION, CONTENT_TYPE};
use http::{HeaderMap, Uri};
use serde::Serialize;
use serde_json::{Map, Value};

use super::AdminState;
use super::csv::Table;
use super::filter::Question;
use super::problem::Problem;
use crate::journal::{Journal, Outcome, UsageKey, UsageSum, Waste};

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
    estimated_cost_usd: String,
    waste: WasteView,
    saved_usd: String,
    estimated_share: f64,
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

/// What attempts took that no caller is charged for.
#[derive(Debug, Serialize)]
pub(super) struct WasteView {
    pub(super) input: u64,
    pub(super) output: u64,
    pub(super) cost_usd: String,
    pub(super) estimated: bool,
}

/// Groups that are shown where the request does not say how many.
const DEFAULT_GROUPS: u32 = 1_000;
/// More keys than a question has; each makes groups smaller and more.
const MAX_KEYS: usize = 6;

/// `GET /usage`
pub(super) async fn sum(
    State(state): State<AdminState>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let question = Question::of(&uri, &["group_by", "format", "limit"])?;
    let keys = keys(question.own("group_by").unwrap_or_default())?;
    let is_csv = is_csv(question.own("format"), &headers)?;
    let limit = limit(question.own("limit"))?;
    // One more than is shown tells whether there are more.
    let mut sums = state.journal.usage(&question.filter, &keys, limit + 1).await?;
    let truncated = sums.len() > limit as usize;
    sums.truncate(limit as usize);
    if is_csv {
        let head = [
            (CONTENT_TYPE, "text/csv; charset=utf-8; header=present"),
            (CONTENT_DISPOSITION, "attachment; filename=\"usage.csv\""),
        ];
        let more = [("x-tidegate-truncated", if truncated { "true" } else { "false" })];
        return Ok((head, more, table(&sums, &keys)).into_response());
    }
    let data = sums.into_iter().map(|sum| GroupView::of(sum, &keys)).collect();
    Ok(Json(UsageView { data, truncated }).into_response())
}

fn keys(group_by: &str) -> Result<Vec<UsageKey>, Problem> {
    let mut keys = Vec::new();
    for name in group_by.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        let key = UsageKey::parse(name).ok_or_else(|| {
            Problem::invalid(format!("group_by: `{name}` is none of {}", UsageKey::NAMES))
        })?;
        if keys.contains(&key) {
            return Err(Problem::invalid(format!("group_by: `{name}` is named twice")));
        }
        if keys.len() == MAX_KEYS {
            return Err(Problem::invalid(format!("group_by: more than {MAX_KEYS} keys")));
        }
        keys.push(key);
    }
    Ok(keys)
}

fn is_csv(format: Option<&str>, headers: &HeaderMap) -> Result<bool, Problem> {
    match format {
        Some("csv") => Ok(true),
        Some("json") => Ok(false),
        Some(other) => Err(Problem::invalid(format!("format: `{other}` is neither csv nor json"))),
        None => Ok(headers.get_all(ACCEPT).iter().any(|value| {
            let kinds = value.to_str().unwrap_or_default().split(',');
            kinds.filter_map(|kind| kind.split(';').next()).any(|kind| kind.trim() == "text/csv")
        })),
    }
}

fn limit(asked: Option<&str>) -> Result<u32, Problem> {
    let most = Journal::MAX_GROUPS - 1;
    match asked.map(str::parse) {
        None => Ok(DEFAULT_GROUPS),
        Some(Ok(limit)) if (1..=most).contains(&limit) => Ok(limit),
        Some(Ok(_) | Err(_)) => {
            Err(Problem::invalid(format!("limit: must be a number from 1 to {most}")))
        }
    }
}

/// The sums for a spreadsheet: a column for each key, then the figures.
fn table(sums: &[UsageSum], keys: &[UsageKey]) -> String {
    let mut table = Table::default();
    let names: Vec<_> = keys.iter().map(UsageKey::name).collect();
    let outcomes = Outcome::ALL.map(Outcome::as_str);
    let figures = FIGURES.iter().copied();
    table.line(names.iter().map(String::as_str).chain(["requests"]).chain(outcomes).chain(figures));
    for sum in sums {
        let numbers = std::iter::once(sum.requests).chain(sum.outcomes);
        let tokens = [
            sum.usage.input,
            sum.usage.cached_input,
            sum.usage.cache_write,
            sum.usage.output,
            sum.usage.reasoning,
            sum.estimated,
        ];
        let mut cells: Vec<_> =
            sum.group.iter().map(|name| name.clone().unwrap_or_default()).collect();
        cells.extend(numbers.chain(tokens).map(|number| number.to_string()));
        cells.extend([sum.cost.to_usd_string(), sum.estimated_cost.to_usd_string()]);
        cells.extend([sum.waste.input.to_string(), sum.waste.output.to_string()]);
        cells.push(sum.waste.cost.to_usd_string());
        cells.push(sum.saved.to_usd_string());
        table.line(cells.iter().map(String::as_str));
    }
    table.into_text()
}

/// Columns after the outcomes.
const FIGURES: [&str; 12] = [
    "input_tokens",
    "cached_input_tokens",
    "cache_write_tokens",
    "output_tokens",
    "reasoning_tokens",
    "requests_with_estimated_tokens",
    "cost_usd",
    "estimated_cost_usd",
    "waste_input_tokens",
    "waste_output_tokens",
    "waste_usd",
    "saved_usd",
];

// === impl GroupView ===

impl GroupView {
    fn of(sum: UsageSum, keys: &[UsageKey]) -> Self {
        let estimated_share = (sum.estimated_share() * 1e4).round() / 1e4;
        let names = keys.iter().map(UsageKey::name);
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
            estimated_cost_usd: sum.estimated_cost.to_usd_string(),
            waste: WasteView::of(sum.waste),
            saved_usd: sum.saved.to_usd_string(),
            estimated_share,
        }
    }
}

// === impl WasteView ===

impl WasteView {
    pub(super) fn of(waste: Waste) -> Self {
        Self {
            input: waste.input,
            output: waste.output,
            cost_usd: waste.cost.to_usd_string(),
            estimated: waste.is_estimated,
        }
    }
}
