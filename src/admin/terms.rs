//! What keys and teams may do, as JSON.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value};

use super::problem::Problem;
use crate::callers::Terms;

/// Terms as replies show them.
#[derive(Debug, Serialize)]
pub(super) struct TermsView {
    /// Only what is limited.
    limits: Map<String, Value>,
    routes: Option<Vec<String>>,
    models: Option<Vec<String>>,
    tags: BTreeMap<String, String>,
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
