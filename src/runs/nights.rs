//! The schedule's mark: what was due has been begun, once.

use sqlx::{AnyConnection, Row};

use super::ledger::insert;
use super::row::{int, number};
use super::{Committed, NewRun, Runs};
use crate::audit::Actor;
use crate::store::lease::Holding;
use crate::store::{self, StoreError};

/// The row.
const NAME: &str = "nightly";

/// Up to when the schedule has been kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Night {
    /// By which expression.
    pub expression: String,
    /// Up to when, in Unix milliseconds.
    pub until_ms: u64,
}

// === impl Runs ===

impl Runs {
    /// Up to when the schedule has been kept; `None` before the first time.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn night(&self) -> Result<Option<Night>, StoreError> {
        let failed = StoreError::query("read the schedule of compatibility runs");
        let mut reader = self.shared.store.reader().await?;
        let row = sqlx::query("SELECT expression, until_ms FROM compat_schedules WHERE name = $1")
            .bind(NAME)
            .fetch_optional(&mut *reader)
            .await
            .map_err(&failed)?;
        let night = |row: sqlx::any::AnyRow| {
            let until_ms = number(&row, "until_ms")?;
            Ok::<_, sqlx::Error>(Night { expression: row.try_get("expression")?, until_ms })
        };
        row.map(night).transpose().map_err(failed)
    }

    /// Begins these runs and marks the schedule as kept up to `next`, if it is still as `before`
    /// says: both or neither. Whoever comes second begins nothing. Suites that are not there any
    /// more are left out. How many runs were begun.
    pub(crate) async fn begin_night(
        &self,
        new: Vec<NewRun>,
        before: Option<&Night>,
        next: &Night,
        holding: &Holding,
    ) -> Result<Result<usize, Committed>, StoreError> {
        let mut records = Vec::new();
        for new in new {
            if let Some(suite) = self.suite(&new.suite).await? {
                records.push((self.record_of(new, &suite), suite.text));
            }
        }
        let failed = StoreError::query("begin the nightly compatibility runs");
        let kind = self.shared.store.kind();
        let mut connection = self.shared.store.writer().await?;
        let mut transaction = store::begin(&mut connection, kind).await.map_err(&failed)?;
        if !holding.hold(&mut transaction).await.map_err(&failed)? {
            return Ok(Err(Committed::Lost));
        }
        if !mark(&mut transaction, before, next).await.map_err(&failed)? {
            return Ok(Err(Committed::Over));
        }
        for (record, text) in &records {
            let written = insert(&mut transaction, (record, text), &Actor::gateway()).await;
            written.map_err(&failed)?;
        }
        transaction.commit().await.map_err(failed)?;
        self.shared.changed_here.notify_one();
        Ok(Ok(records.len()))
    }
}

/// Whether the mark was as `before` says.
async fn mark(
    connection: &mut AnyConnection,
    before: Option<&Night>,
    next: &Night,
) -> Result<bool, sqlx::Error> {
    let query = match before {
        None => sqlx::query(
            "INSERT INTO compat_schedules (name, expression, until_ms) VALUES ($1, $2, $3)
             ON CONFLICT (name) DO NOTHING",
        )
        .bind(NAME)
        .bind(&next.expression)
        .bind(int(next.until_ms)),
        Some(before) => sqlx::query(
            "UPDATE compat_schedules SET expression = $2, until_ms = $3
             WHERE name = $1 AND expression = $4 AND until_ms = $5",
        )
        .bind(NAME)
        .bind(&next.expression)
        .bind(int(next.until_ms))
        .bind(&before.expression)
        .bind(int(before.until_ms)),
    };
    Ok(query.execute(connection).await?.rows_affected() == 1)
}
