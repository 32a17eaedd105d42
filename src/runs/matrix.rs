//! What is known of a prompt's versions on models.

use super::ledger::select;
use super::{RunRecord, Runs};
use crate::store::{Sql, StoreError};

// === impl Runs ===

impl Runs {
    /// Of each version of a registered prompt on each model the newest run that decided something,
    /// else the newest with a verdict; in no order. Runs that held a prompt against itself, at
    /// night, are none, nor are those of some cases.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn newest_verdicts(&self, prompt: &str) -> Result<Vec<RunRecord>, StoreError> {
        let mut query = select(
            " r WHERE verdict IS NOT NULL AND kind <> 'drift' AND only_cases IS NULL AND NOT EXISTS (
                 SELECT 1 FROM compat_runs later
                 WHERE later.verdict IS NOT NULL AND later.kind <> 'drift' AND later.only_cases IS NULL
                 AND later.candidate_prompt = r.candidate_prompt
                 AND later.candidate_model = r.candidate_model
                 AND (CASE WHEN later.verdict = 'inconclusive' THEN 0 ELSE 1 END,
                      later.ended_ms, later.id)
                   > (CASE WHEN r.verdict = 'inconclusive' THEN 0 ELSE 1 END, r.ended_ms, r.id))",
        );
        push_of_prompt(&mut query, prompt);
        self.read_all(query, "read the newest verdicts of a prompt").await
    }
}

/// Only runs whose candidate is a version of this registered prompt: its column is JSON of ours,
/// which begins with the id.
pub(super) fn push_of_prompt(query: &mut Sql, prompt: &str) {
    let id = serde_json::Value::from(prompt);
    let start = format!("{{\"registered\":{{\"id\":{id},");
    let letters = start.chars().count().to_string();
    query.push(" AND substr(candidate_prompt, 1, ").push(&letters).push(") = ").bind(start);
}
