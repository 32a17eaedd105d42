//! One connection of the writer, on one file, within one run.

use sqlx::sqlite::SqliteArguments;
use sqlx::{Arguments, AssertSqlSafe, Connection, Row, SqlSafeStr, SqlStr, SqliteConnection};

use super::row;
use super::{Entry, LostRun, Shared};
use crate::store::{FileId, Store, StoreError};

/// A connection that writes requests and the counts of this run.
#[derive(Debug)]
pub(super) struct Session {
    connection: SqliteConnection,
    store: Store,
    file: Option<FileId>,
    run_id: i64,
    last_id: i64,
    inserts: [(usize, SqlStr); INSERT_ROWS.len()],
}

/// What a run says about itself with every write.
#[derive(Debug, Clone, Copy)]
pub(super) struct Counts {
    pub(super) accepted: u64,
    pub(super) written: u64,
    pub(super) dropped: u64,
    pub(super) now_ms: u64,
}

/// Rows in one `INSERT`. Each statement costs a trip to SQLite's thread and back, about forty
/// microseconds, so most rows go by the hundred; the rest of a batch uses the smaller ones, because
/// every size is prepared once and kept.
const INSERT_ROWS: [usize; 4] = [100, 25, 5, 1];
/// Rows deleted in one statement, four times a second: more than any traffic brings, and a few
/// milliseconds of work.
const DELETE_ROWS: i64 = 5_000;

// === impl Session ===

impl Session {
    /// Opens a connection, looks after runs that did not end, and begins or goes on with this one.
    pub(super) async fn open(
        store: &Store,
        shared: &Shared,
        now_ms: u64,
    ) -> Result<Self, StoreError> {
        let mut connection = store.connect().await?;
        let file = store.file_id();
        let failed = StoreError::query("begin the run in the journal");
        let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await.map_err(&failed)?;
        let known = *shared.run_id.lock();
        let lost = if known.is_none() {
            find_lost_runs(&mut transaction).await.map_err(&failed)?
        } else {
            Vec::new()
        };
        let run_id = begin_run(&mut transaction, known, now_ms).await.map_err(&failed)?;
        let last_id = sqlx::query_scalar::<_, Option<i64>>("SELECT max(id) FROM requests")
            .fetch_one(&mut *transaction)
            .await
            .map_err(&failed)?
            .unwrap_or(0);
        transaction.commit().await.map_err(&failed)?;
        *shared.run_id.lock() = Some(run_id);
        shared.on_lost_runs(lost);
        let inserts =
            INSERT_ROWS.map(|rows| (rows, AssertSqlSafe(row::insert_sql(rows)).into_sql_str()));
        Ok(Self { connection, store: store.clone(), file, run_id, last_id, inserts })
    }

    /// Whether the file it writes to is still the one that others would open. SQLite goes on
    /// writing to a file that was deleted, where nobody will find it.
    pub(super) fn is_on_its_file(&self) -> bool {
        self.file == self.store.file_id()
    }

    /// Writes entries and counts in one transaction.
    pub(super) async fn write(
        &mut self,
        batch: &[Entry],
        counts: Counts,
    ) -> Result<(), StoreError> {
        let failed = StoreError::query("write requests to the journal");
        let mut last_id = self.last_id;
        let mut transaction =
            self.connection.begin_with("BEGIN IMMEDIATE").await.map_err(&failed)?;
        let mut rest = batch;
        for (rows, sql) in &self.inserts {
            while let Some((chunk, after)) = rest.split_at_checked(*rows) {
                rest = after;
                let mut values = SqliteArguments::default();
                values.reserve(rows * row::COLUMNS.len(), 0);
                for entry in chunk {
                    last_id = row::id_of(entry, last_id);
                    row::bind(&mut values, last_id, entry)
                        .map_err(|error| failed(sqlx::Error::Encode(error)))?;
                }
                sqlx::query_with(sql.clone(), values)
                    .execute(&mut *transaction)
                    .await
                    .map_err(&failed)?;
            }
        }
        sqlx::query(
            "UPDATE runs SET flushed_at_ms = ?, accepted = ?, written = ?, dropped = ? WHERE id = ?",
        )
        .bind(row::int(counts.now_ms))
        .bind(row::int(counts.accepted))
        .bind(row::int(counts.written))
        .bind(row::int(counts.dropped))
        .bind(self.run_id)
        .execute(&mut *transaction)
        .await
        .map_err(&failed)?;
        transaction.commit().await.map_err(&failed)?;
        self.last_id = last_id;
        Ok(())
    }

    /// Deletes some of the requests that ended before a moment; says whether none is left.
    pub(super) async fn delete_before(&mut self, before_ms: u64) -> Result<bool, StoreError> {
        let deleted = sqlx::query(
            "DELETE FROM requests WHERE id <= (SELECT max(id) FROM
             (SELECT id FROM requests WHERE id < ? ORDER BY id LIMIT ?))",
        )
        .bind(row::first_id_of(before_ms))
        .bind(DELETE_ROWS)
        .execute(&mut self.connection)
        .await
        .map_err(StoreError::query("delete old requests from the journal"))?
        .rows_affected();
        Ok(deleted < DELETE_ROWS.unsigned_abs())
    }

    /// Marks the run as ended and closes the connection.
    pub(super) async fn end(mut self, now_ms: u64) -> Result<(), StoreError> {
        let failed = StoreError::query("end the run in the journal");
        sqlx::query("UPDATE runs SET ended_at_ms = ? WHERE id = ?")
            .bind(row::int(now_ms))
            .bind(self.run_id)
            .execute(&mut self.connection)
            .await
            .map_err(&failed)?;
        self.connection.close().await.map_err(&failed)
    }
}

/// Finds runs that neither ended nor were looked after, and notes what each leaves unknown. A file
/// belongs to one gateway: a second one would take the first for dead.
async fn find_lost_runs(connection: &mut SqliteConnection) -> Result<Vec<LostRun>, sqlx::Error> {
    let rows = sqlx::query(
        "UPDATE runs SET unknown = max(0, accepted - written - dropped)
         WHERE ended_at_ms IS NULL AND unknown IS NULL
         RETURNING id, started_at_ms, flushed_at_ms, unknown",
    )
    .fetch_all(connection)
    .await?;
    rows.iter()
        .map(|row| {
            let count = |column| row.try_get::<i64, _>(column).map(|n| n.max(0).unsigned_abs());
            Ok(LostRun {
                run: count("id")?,
                started_at_ms: count("started_at_ms")?,
                flushed_at_ms: count("flushed_at_ms")?,
                unknown: count("unknown")?,
            })
        })
        .collect()
}

/// Makes sure that this run has its row: a new one at the start, or again where the file was
/// replaced while the gateway ran.
async fn begin_run(
    connection: &mut SqliteConnection,
    known: Option<i64>,
    now_ms: u64,
) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar(
        "INSERT INTO runs (id, started_at_ms, flushed_at_ms, accepted, written, dropped)
         VALUES (?1, ?2, ?2, 0, 0, 0)
         ON CONFLICT (id) DO UPDATE SET flushed_at_ms = ?2 RETURNING id",
    )
    .bind(known)
    .bind(row::int(now_ms))
    .fetch_one(connection)
    .await
}
