//! Suites: those of files, and those that were pushed.

use serde_json::json;
use sqlx::{AnyConnection, AssertSqlSafe, Row};

use super::ledger::audit_event;
use super::row::{SUITE, int};
use super::{Runs, RunsError, SuiteRow};
use crate::audit::{self, Actor};
use crate::store::{self, StoreError};

/// The most bytes of a suite's text.
const MOST_BYTES: usize = 16 << 20;
/// The most suites that may be pushed.
const MOST_SUITES: i64 = 1_000;

/// A suite to push. What it says has been checked by whoever pushes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewSuite {
    /// Its id: up to 128 letters, digits, `-`, `_` and `.`.
    pub id: String,
    /// The prompt it belongs to, if it is one's.
    pub prompt: Option<String>,
    /// What it says, as one number.
    pub hash: String,
    /// Its text with what it refers to put in. At most 16 MiB.
    pub text: String,
}

// === impl Runs ===

impl Runs {
    /// Pushes a suite; one of the same id is replaced. Runs that were begun keep to the old one.
    ///
    /// # Errors
    ///
    /// [`RunsError`]: an id that is none or one of files, a text too long, too many suites; the store.
    pub async fn push_suite(&self, new: NewSuite, by: &Actor) -> Result<SuiteRow, RunsError> {
        check(&new)?;
        if self.of_files().iter().any(|suite| suite.id == new.id) {
            return Err(RunsError::SuiteOfFiles(new.id));
        }
        let failed = StoreError::query("store a compatibility suite");
        let kind = self.shared.store.kind();
        let mut connection = self.shared.store.writer().await?;
        let mut transaction = store::begin(&mut connection, kind).await.map_err(&failed)?;
        let count = "SELECT COUNT(*) FROM compat_suites WHERE id <> $1";
        let count: i64 = sqlx::query_scalar(count)
            .bind(&new.id)
            .fetch_one(&mut *transaction)
            .await
            .map_err(&failed)?;
        if count >= MOST_SUITES {
            return Err(RunsError::invalid(
                "id",
                format!("there are {MOST_SUITES} suites already"),
            ));
        }
        let before: Option<String> =
            sqlx::query_scalar("SELECT hash FROM compat_suites WHERE id = $1")
                .bind(&new.id)
                .fetch_optional(&mut *transaction)
                .await
                .map_err(&failed)?;
        let now_ms = self.now_ms();
        let NewSuite { id, prompt, hash, text } = new;
        let row = SuiteRow { id, prompt, hash, text, created_ms: now_ms };
        upsert(&mut transaction, &row, &by.name).await.map_err(&failed)?;
        let after = json!({"hash": row.hash, "prompt": row.prompt, "bytes": row.text.len()});
        let mut event =
            audit_event("compat.suite.push", format!("compat/suites/{}", row.id), after);
        event.before = before.map(|hash| json!({"hash": hash}));
        audit::record(&mut transaction, by, &event, now_ms).await.map_err(&failed)?;
        transaction.commit().await.map_err(failed)?;
        Ok(row)
    }

    /// Puts a suite of files into the store, so that nodes without the files have it. Nobody has
    /// changed anything, so the audit log says nothing of it.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn put_suite(&self, suite: &SuiteRow) -> Result<(), StoreError> {
        let failed = StoreError::query("store a compatibility suite of files");
        let mut writer = self.shared.store.writer().await?;
        upsert(&mut writer, suite, "file").await.map_err(failed)
    }

    /// The suite of this id, of files or pushed.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn suite(&self, id: &str) -> Result<Option<SuiteRow>, StoreError> {
        if let Some(suite) = self.of_files().into_iter().find(|suite| suite.id == id) {
            return Ok(Some(suite));
        }
        let failed = StoreError::query("read a compatibility suite");
        let mut reader = self.shared.store.reader().await?;
        let query = format!("SELECT {SUITE} FROM compat_suites WHERE id = $1");
        let row = sqlx::query(AssertSqlSafe(query)).bind(id).fetch_optional(&mut *reader).await;
        row.map_err(&failed)?.as_ref().map(SuiteRow::read).transpose().map_err(failed)
    }

    /// All suites, by id. One of files hides a pushed one.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn suites(&self) -> Result<Vec<SuiteRow>, StoreError> {
        let mut suites = self.of_files();
        let failed = StoreError::query("list the compatibility suites");
        let mut reader = self.shared.store.reader().await?;
        let query = format!("SELECT {SUITE} FROM compat_suites ORDER BY id");
        let rows = sqlx::query(AssertSqlSafe(query)).fetch_all(&mut *reader).await;
        for row in &rows.map_err(&failed)? {
            let suite = SuiteRow::read(row).map_err(&failed)?;
            if suites.iter().all(|known| known.id != suite.id) {
                suites.push(suite);
            }
        }
        suites.sort_by(|one, other| one.id.cmp(&other.id));
        Ok(suites)
    }

    /// What a run keeps to.
    ///
    /// # Errors
    ///
    /// [`RunsError::UnknownRun`] or [`RunsError::Store`].
    pub async fn text_of(&self, run: &str) -> Result<String, RunsError> {
        let failed = StoreError::query("read what a compatibility run keeps to");
        let mut reader = self.shared.store.reader().await?;
        let select = "SELECT t.text FROM compat_runs r JOIN compat_texts t ON t.hash = r.text
                      WHERE r.id = $1";
        let row = sqlx::query(select).bind(run).fetch_optional(&mut *reader).await;
        let row = row.map_err(&failed)?.ok_or_else(|| RunsError::UnknownRun(run.to_owned()))?;
        Ok(row.try_get("text").map_err(failed)?)
    }

    fn of_files(&self) -> Vec<SuiteRow> {
        (self.shared.around.suites)()
    }
}

async fn upsert(
    connection: &mut AnyConnection,
    suite: &SuiteRow,
    by: &str,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO compat_suites (id, prompt, hash, text, created_ms, created_by)
         VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (id) DO UPDATE SET
         prompt = excluded.prompt, hash = excluded.hash, text = excluded.text,
         created_ms = excluded.created_ms, created_by = excluded.created_by",
    )
    .bind(&suite.id)
    .bind(suite.prompt.as_deref())
    .bind(&suite.hash)
    .bind(&suite.text)
    .bind(int(suite.created_ms))
    .bind(by)
    .execute(connection)
    .await
    .map(drop)
}

fn check(new: &NewSuite) -> Result<(), RunsError> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if new.id.is_empty() || new.id.len() > 128 || !new.id.bytes().all(is_plain) {
        let problem = "must be 1 to 128 letters, digits, `-`, `_` and `.`";
        return Err(RunsError::invalid("id", problem));
    }
    if new.text.len() > MOST_BYTES {
        return Err(RunsError::invalid("text", format!("must have {MOST_BYTES} bytes at most")));
    }
    Ok(())
}
