//! What the gateway adds to a stream's usage: who served, at which prices.

use serde_json::{Value, json};

use super::Seam;
use crate::chat::Usage;
use crate::config::Target;

/// The gateway's own words in the usage event.
#[derive(Debug)]
pub(super) struct Notes {
    served_by: String,
    model: std::sync::Arc<crate::catalog::Model>,
}

// === impl Notes ===

impl Notes {
    pub(super) fn of(target: &Target) -> Self {
        Self { served_by: target.id.to_string(), model: std::sync::Arc::clone(&target.model) }
    }

    pub(super) fn extension(&self, usage: Option<Usage>, seam: Option<&Seam>) -> Value {
        let cost = self.model.cost(&usage.unwrap_or_default());
        let mut words = json!({ "served_by": self.served_by, "cost_usd": cost.to_usd_string() });
        if let (Some(seam), Some(words)) = (seam, words.as_object_mut()) {
            words.insert("spliced".to_owned(), seam.label().clone());
        }
        words
    }
}
