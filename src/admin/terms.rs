//! What keys and teams may do, as JSON.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value};

use super::AdminState;
use super::problem::Problem;
use crate::callers::Terms;
use crate::clock::rfc3339;
use crate::limits::{Owner, Used};
use crate::quota::Counted;
use crate::units::MicroUsd;

/// Terms as replies show them.
#[derive(Debug, Serialize)]
pub(super) struct TermsView {
    /// Only what is limited.
    limits: Map<String, Value>,
    routes: Option<Vec<String>>,
    models: Option<Vec<String>>,
    tags: BTreeMap<String, String>,
}

/// How much of one limit is used.
#[derive(Debug, Serialize)]
pub(super) struct UsedView {
    rule: String,
    dimension: &'static str,
    limit: Value,
    at_once: Value,
    used: Value,
    share: f64,
    resets_at: Option<String>,
}

// === impl UsedView ===

impl UsedView {
    /// What is used of all limits that are about this key or this team alone.
    pub(super) fn all(state: &AdminState, owner: Owner<'_>) -> Vec<Self> {
        let rules = &state.snapshot.load().limits;
        state.limits.used(rules, owner).into_iter().map(Self::of).collect()
    }

    fn of(used: Used) -> Self {
        let Used { rule, dimension, limit, at_once, used, share, resets_at_ms } = used;
        let amount = |amount: u64| match dimension.counted {
            Counted::Money => Value::from(MicroUsd(amount).to_usd_string()),
            Counted::Requests
            | Counted::Tokens
            | Counted::InputTokens
            | Counted::OutputTokens
            | Counted::Concurrent => Value::from(amount),
        };
        Self {
            rule: rule.to_string(),
            dimension: dimension.as_str(),
            limit: amount(limit),
            at_once: amount(at_once),
            used: amount(used),
            share: (share * 1e4).round() / 1e4,
            resets_at: resets_at_ms.map(rfc3339),
        }
    }
}

// === impl TermsView ===

impl TermsView {
    pub(super) fn of(terms: &Terms) -> Self {
        let limits = serde_json::json!(terms.limits);
        let limits = limits.as_object().cloned().unwrap_or_default();
        Self {
            limits: limits.into_iter().filter(|(_, limit)| !limit.is_null()).collect(),
            routes: terms.access.routes.clone(),
            models: terms.access.models.clone(),
            tags: terms.tags.clone(),
        }
    }
}

/// Reads a moment that may be taken away: `Some(None)` for `null`.
pub(super) fn moment(
    field: &str,
    text: Option<Option<String>>,
) -> Result<Option<Option<u64>>, Problem> {
    match text {
        None => Ok(None),
        Some(text) => super::page::time_ms(field, text.as_deref()).map(Some),
    }
}
