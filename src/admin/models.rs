//! `/admin/v1/models`: which models are used and by what, and which are taken out of service.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use http::Uri;
use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use super::problem::Problem;
use super::{AdminState, page};
use crate::catalog::{ModelKind, Retirement};
use crate::config::{Replacement, Snapshot, UsedModel, date_of};
use crate::journal::{Journal, RequestFilter, UsageKey};

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct ListQuery {
    retiring: bool,
    days: Option<u64>,
}

/// All models in use, those first that go first.
#[derive(Debug, Serialize)]
pub(super) struct ModelList {
    data: Vec<ModelView>,
    /// How many days of requests were counted.
    days: u64,
}

#[derive(Debug, Serialize)]
struct ModelView {
    id: String,
    provider: String,
    model: String,
    kind: ModelKind,
    context_tokens: Option<u64>,
    status: &'static str,
    retires_on: Option<String>,
    days_left: Option<i32>,
    replacement: Option<ReplacementView>,
    routes: Vec<RouteUseView>,
    prompts: Vec<PromptUseView>,
    requests: Option<u64>,
}

#[derive(Debug, Serialize)]
struct ReplacementView {
    model: String,
    proposed_by: &'static str,
}

#[derive(Debug, Serialize)]
struct RouteUseView {
    name: String,
    tier: u32,
}

#[derive(Debug, Serialize)]
struct PromptUseView {
    name: String,
    used_as: &'static str,
}

/// Requests by provider and model.
type Counts = BTreeMap<(String, String), u64>;

/// How many days of requests are counted where the question does not say, and the most.
const DAYS: (u64, u64) = (7, 90);
const DAY_MS: u64 = 86_400_000;

/// `GET /models`
pub(super) async fn list(
    State(state): State<AdminState>,
    uri: Uri,
) -> Result<Json<ModelList>, Problem> {
    let query: ListQuery = page::query(&uri)?;
    let days = query.days.unwrap_or(DAYS.0);
    if days > DAYS.1 {
        return Err(Problem::invalid(format!("days: {days} is not between 0 and {}", DAYS.1)));
    }
    let (snapshot, now_ms) = (state.snapshot.load_full(), state.clock.unix_ms());
    let counts = match days {
        0 => None,
        days => Some(count(&state.journal, now_ms.saturating_sub(days * DAY_MS)).await?),
    };
    let today = date_of(now_ms);
    let mut used = snapshot.used_models();
    // The stable sort keeps those without a date in the order of their names.
    used.sort_by_key(|used| used.model.retires_on.unwrap_or(Date::MAX));
    let views = used.iter().map(|used| ModelView::of(used, &snapshot, counts.as_ref(), today));
    let data = views.filter(|view| !query.retiring || view.status != ACTIVE).collect();
    Ok(Json(ModelList { data, days }))
}

/// Requests since a moment that a model served or was asked for.
async fn count(journal: &Journal, since_ms: u64) -> Result<Counts, Problem> {
    let filter = RequestFilter { since_ms: Some(since_ms), ..RequestFilter::default() };
    let keys = [UsageKey::Provider, UsageKey::Model];
    let sums = journal.usage(&filter, &keys, Journal::MAX_GROUPS).await?;
    let counts = sums.into_iter().filter_map(|sum| {
        let mut group = sum.group.into_iter().flatten();
        Some(((group.next()?, group.next()?), sum.requests))
    });
    Ok(counts.collect())
}

const ACTIVE: &str = "active";

fn status(retirement: Option<Retirement>) -> &'static str {
    match retirement {
        Some(retirement) if retirement.is_over() => "retired",
        Some(retirement) if retirement.is_near() => "retiring",
        Some(_) | None => ACTIVE,
    }
}

// === impl ModelView ===

impl ModelView {
    fn of(used: &UsedModel, snapshot: &Snapshot, counts: Option<&Counts>, today: Date) -> Self {
        let retirement = used.model.retirement(today);
        let replacement =
            retirement.and_then(|_| snapshot.replacement_of(&used.provider, &used.model, today));
        let (provider, model) =
            (used.provider.as_str().to_owned(), used.model.name.as_str().to_owned());
        let key = (provider.clone(), model.clone());
        let routes = used
            .routes
            .iter()
            .map(|(name, tier)| RouteUseView { name: name.as_str().to_owned(), tier: *tier });
        let prompts = used.prompts.iter().map(|prompt| PromptUseView {
            name: prompt.name.to_string(),
            used_as: if prompt.is_target { "target" } else { "tested" },
        });
        Self {
            id: used.name(),
            kind: used.model.kind,
            context_tokens: used.model.context_tokens,
            status: status(retirement),
            retires_on: retirement.map(|retirement| retirement.on.to_string()),
            days_left: retirement.map(|retirement| retirement.days_left),
            replacement: replacement.map(ReplacementView::of),
            routes: routes.collect(),
            prompts: prompts.collect(),
            requests: counts.map(|counts| counts.get(&key).copied().unwrap_or_default()),
            provider,
            model,
        }
    }
}

// === impl ReplacementView ===

impl ReplacementView {
    fn of(replacement: Replacement) -> Self {
        Self { model: replacement.name, proposed_by: replacement.by.as_str() }
    }
}
