//! Prompts that are held against themselves at night: their nights, and what has drifted.

use std::collections::BTreeMap;

use serde::Deserialize;
use sqlx::Row;

use super::ledger::select;
use super::row::{int, json_text, small};
use super::{RunRecord, Runs};
use crate::compat::report::PairRuns;
use crate::compat::verdict::{MOST_NIGHTS, Verdict};
use crate::store::{Sql, StoreError};

/// Prompts of which it is told.
const MOST_LISTED: i64 = 1_000;

/// What one night has answered to a case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NightOfCase {
    /// Tells case, side and prompt.
    pub(crate) reuse_key: String,
    pub(crate) passed: u32,
    /// Those that were judged.
    pub(crate) answered: u32,
}

// === impl Runs ===

impl Runs {
    /// The nights before a run that have the same side of the same suite and still have their
    /// answers: the newest first, 28 at most.
    pub(crate) async fn nights_before(
        &self,
        run: &RunRecord,
    ) -> Result<Vec<RunRecord>, StoreError> {
        let mut query = select(" WHERE kind = 'drift' AND state = 'done' AND swept_ms IS NULL");
        query.push(" AND suite = ").bind(run.suite.clone());
        query.push(" AND candidate_hash = ").bind(run.candidate.hash());
        query.push(" AND ended_ms <= ").bind(int(run.created_ms)).push(" AND id <> ");
        query.bind(run.id.clone()).push(" ORDER BY ended_ms DESC, id DESC LIMIT ");
        query.bind(i64::from(MOST_NIGHTS));
        self.read_all(query, "look for earlier nights").await
    }

    /// Whether a prompt is being held against itself: by a night that waits or asks.
    pub(crate) async fn night_goes_on(&self, suite: &str) -> Result<bool, StoreError> {
        let mut query = select(" WHERE kind = 'drift' AND ended_ms IS NULL AND suite = ");
        query.bind(suite.to_owned()).push(" LIMIT 1");
        Ok(!self.read_all(query, "look for a night that goes on").await?.is_empty())
    }

    /// What a night has answered, case by case, answers that could not be judged apart.
    pub(crate) async fn answers_of_night(&self, run: &str) -> Result<Vec<NightOfCase>, StoreError> {
        let failed = StoreError::query("read the answers of an earlier night");
        let select = "SELECT reuse_key, COUNT(*) AS answered,
                      COUNT(NULLIF(passed, 0)) AS passed FROM compat_samples
                      WHERE run = $1 AND side = 1 AND passed IS NOT NULL
                      GROUP BY reuse_key";
        let mut reader = self.shared.store.reader().await?;
        let rows = sqlx::query(select).bind(run).fetch_all(&mut *reader).await.map_err(&failed)?;
        let read = |row: &sqlx::any::AnyRow| {
            Ok::<_, sqlx::Error>(NightOfCase {
                reuse_key: row.try_get("reuse_key")?,
                passed: small(row, "passed")?,
                answered: small(row, "answered")?,
            })
        };
        rows.iter().map(read).collect::<Result<_, _>>().map_err(failed)
    }

    /// What has drifted, and what is open: of each prompt that is held against itself at night, the
    /// newest run that found it worse, where none has found it as good as before since; else the
    /// newest one, where that could not decide. Of the version and model of the newest night only.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn drifts(&self) -> Result<Vec<RunRecord>, StoreError> {
        let mut query = select(
            " r WHERE kind = 'drift' AND verdict IN ('incompatible', 'inconclusive')
             AND NOT EXISTS (
                 SELECT 1 FROM compat_runs other WHERE other.kind = 'drift'
                 AND other.state = 'done' AND other.suite = r.suite
                 AND other.candidate_hash <> r.candidate_hash
                 AND (other.ended_ms, other.id) > (r.ended_ms, r.id))
             AND NOT EXISTS (
                 SELECT 1 FROM compat_runs later WHERE later.kind = 'drift'
                 AND later.suite = r.suite
                 AND (later.verdict IN ('compatible', 'incompatible')
                     OR (later.verdict = 'inconclusive' AND r.verdict = 'inconclusive'))
                 AND (later.ended_ms, later.id) > (r.ended_ms, r.id))
             ORDER BY suite, verdict LIMIT ",
        );
        query.bind(MOST_LISTED);
        let mut drifts = self.read_all(query, "read what has drifted").await?;
        // `incompatible` comes first; a night that could not decide takes nothing back.
        drifts.dedup_by(|next, first| next.suite == first.suite);
        Ok(drifts)
    }

    /// Of each suite that was held against itself, whether it has drifted.
    pub(crate) async fn drifted(&self) -> Result<BTreeMap<String, bool>, StoreError> {
        let failed = StoreError::query("read what has drifted");
        let all = "SELECT DISTINCT suite FROM compat_runs
                   WHERE kind = 'drift' AND verdict IS NOT NULL LIMIT $1";
        let mut drifted = BTreeMap::new();
        {
            let mut reader = self.shared.store.reader().await?;
            let rows = sqlx::query(all).bind(MOST_LISTED).fetch_all(&mut *reader).await;
            for row in &rows.map_err(&failed)? {
                drifted.insert(row.try_get("suite").map_err(&failed)?, false);
            }
        }
        for run in self.drifts().await? {
            if run.verdict() == Some(Verdict::Incompatible) {
                drifted.insert(run.suite, true);
            }
        }
        Ok(drifted)
    }

    /// How often the pair of this run was compared, up to this run. What was ended before it had a
    /// pair has compared nothing.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn runs_of_pair(&self, run: &RunRecord) -> Result<PairRuns, StoreError> {
        let failed = StoreError::query("count the runs of a pair");
        let mut query = Sql::new("SELECT judgement FROM compat_runs");
        query.push(" WHERE verdict IS NOT NULL AND kind <> 'drift' AND suite = ");
        query.bind(run.suite.clone()).push(" AND candidate_hash = ").bind(run.candidate.hash());
        query.push(" AND suite_hash = ").bind(run.suite_hash.clone());
        let only = run.only.as_ref().map(|only| only.as_str()).unwrap_or_default().to_owned();
        query.push(" AND COALESCE(only_cases, '') = ").bind(only);
        query.push(" AND baseline = ").bind(json_text(&run.baseline).map_err(&failed)?);
        query.push(" AND ended_ms <= ").bind(int(run.ended_ms.unwrap_or(u64::MAX)));
        query.push(" ORDER BY ended_ms DESC, id DESC LIMIT ").bind(MOST_LISTED);
        let mut reader = self.shared.store.reader().await?;
        let query = query.query().map_err(&failed)?;
        let judgements = query.fetch_all(&mut *reader).await.map_err(&failed)?;
        let mut counts = PairRuns { number: 0, not_compatible: 0 };
        for judgement in &judgements {
            let text: Option<String> = judgement.try_get("judgement").map_err(&failed)?;
            let found = text.and_then(|text| serde_json::from_str(&text).ok());
            let found: Found = found.unwrap_or_default();
            let is_compatible = found.verdict == Verdict::Compatible.as_str();
            if found.pairs != Some(0) {
                counts.number += 1;
                counts.not_compatible += u64::from(!is_compatible);
            }
        }
        Ok(counts)
    }
}

/// What of a judgement is looked at where runs are only counted.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Found {
    /// As it is written: a later version may know words that this one does not.
    verdict: serde_json::Value,
    pairs: Option<u64>,
}

// === impl RunRecord ===

impl RunRecord {
    /// What it says of the candidate, where it is done and there was anything to compare.
    pub fn verdict(&self) -> Option<Verdict> {
        let verdict = self.judgement.as_ref()?.get("verdict")?.clone();
        serde_json::from_value(verdict).ok()
    }

    /// Whether it has compared anything. Money or time may have ended it before.
    pub fn has_pairs(&self) -> bool {
        let pairs = self.judgement.as_ref().and_then(|judgement| judgement.get("pairs"));
        pairs.and_then(serde_json::Value::as_u64).is_none_or(|pairs| pairs > 0)
    }
}
