//! What the node that makes runs writes of them.

use serde_json::Value;
use sqlx::AnyConnection;

use super::ledger::select;
use super::row::{int, json_text, number};
use super::{Committed, RunRecord, RunState, Runs};
use crate::compat::report::JudgeFacts;
use crate::store::lease::Holding;
use crate::store::{self, StoreError};

/// How far a run is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    pub(crate) samples_done: u64,
    pub(crate) samples_planned: u64,
    pub(crate) samples_reused: u64,
    pub(crate) cost_micro_usd: u64,
    /// How long it has asked, on all nodes one after another.
    pub(crate) worked_ms: u64,
}

/// How a run ends.
#[derive(Debug, Clone)]
pub(crate) struct Ending {
    /// [`RunState::Done`] or [`RunState::Failed`].
    pub(crate) state: RunState,
    pub(crate) reason: Option<String>,
    /// What it found, and the word for it.
    pub(crate) judgement: Option<(Value, String)>,
    /// Who judged what no rule can.
    pub(crate) judge: Option<JudgeFacts>,
    pub(crate) progress: Progress,
}

// === impl Runs ===

impl Runs {
    /// Runs that are not over, oldest first: those that were interrupted are where they were.
    pub(crate) async fn open(&self) -> Result<Vec<RunRecord>, StoreError> {
        let query = select(" WHERE ended_ms IS NULL ORDER BY created_ms, id");
        self.read_all(query, "look for compatibility runs").await
    }

    /// Takes up a run, new or interrupted. For how long it has asked so far, in milliseconds.
    pub(crate) async fn take_up(
        &self,
        run: &str,
        holding: &Holding,
    ) -> Result<Result<u64, Committed>, StoreError> {
        let failed = StoreError::query("take up a compatibility run");
        let kind = self.shared.store.kind();
        let mut connection = self.shared.store.writer().await?;
        let mut transaction = store::begin(&mut connection, kind).await.map_err(&failed)?;
        if !holding.hold(&mut transaction).await.map_err(&failed)? {
            return Ok(Err(Committed::Lost));
        }
        let take = "UPDATE compat_runs SET state = 'running' WHERE id = $1 AND ended_ms IS NULL";
        let taken = sqlx::query(take).bind(run).execute(&mut *transaction).await;
        if taken.map_err(&failed)?.rows_affected() == 0 {
            return Ok(Err(Committed::Over));
        }
        let worked = sqlx::query("SELECT worked_ms FROM compat_runs WHERE id = $1").bind(run);
        let worked = worked.fetch_one(&mut *transaction).await.map_err(&failed)?;
        let worked_ms = number(&worked, "worked_ms").map_err(&failed)?;
        transaction.commit().await.map_err(failed)?;
        Ok(Ok(worked_ms))
    }

    /// Ends a run.
    pub(crate) async fn end(
        &self,
        run: &str,
        ending: &Ending,
        holding: &Holding,
    ) -> Result<Committed, StoreError> {
        let failed = StoreError::query("end a compatibility run");
        let kind = self.shared.store.kind();
        let mut connection = self.shared.store.writer().await?;
        let mut transaction = store::begin(&mut connection, kind).await.map_err(&failed)?;
        if !holding.hold(&mut transaction).await.map_err(&failed)? {
            return Ok(Committed::Lost);
        }
        if !write_progress(&mut transaction, run, &ending.progress).await.map_err(&failed)? {
            return Ok(Committed::Over);
        }
        let (judgement, verdict) = match &ending.judgement {
            Some((judgement, verdict)) => {
                (Some(json_text(judgement).map_err(&failed)?), Some(verdict.as_str()))
            }
            None => (None, None),
        };
        let judge = ending.judge.as_ref().map(json_text).transpose().map_err(&failed)?;
        sqlx::query(
            "UPDATE compat_runs SET state = $1, reason = $2, judgement = $3, verdict = $4,
             ended_ms = $5, judge = $6 WHERE id = $7",
        )
        .bind(ending.state.as_str())
        .bind(ending.reason.as_deref())
        .bind(judgement)
        .bind(verdict)
        .bind(int(self.now_ms()))
        .bind(judge)
        .bind(run)
        .execute(&mut *transaction)
        .await
        .map_err(&failed)?;
        transaction.commit().await.map_err(failed)?;
        Ok(Committed::Yes)
    }
}

/// Writes how far a run is. Whether it still runs.
pub(super) async fn write_progress(
    connection: &mut AnyConnection,
    run: &str,
    progress: &Progress,
) -> Result<bool, sqlx::Error> {
    let update = "UPDATE compat_runs SET samples_done = $1, samples_planned = $2,
                  cost_micro_usd = $3, worked_ms = $4, samples_reused = $5
                  WHERE id = $6 AND state = 'running'";
    let updated = sqlx::query(update)
        .bind(int(progress.samples_done))
        .bind(int(progress.samples_planned))
        .bind(int(progress.cost_micro_usd))
        .bind(int(progress.worked_ms))
        .bind(int(progress.samples_reused))
        .bind(run)
        .execute(connection)
        .await?;
    Ok(updated.rows_affected() == 1)
}

/// Whether a run still runs.
pub(super) async fn is_running(
    connection: &mut AnyConnection,
    run: &str,
) -> Result<bool, sqlx::Error> {
    let select = "SELECT 1 AS found FROM compat_runs WHERE id = $1 AND state = 'running'";
    Ok(sqlx::query(select).bind(run).fetch_optional(connection).await?.is_some())
}
