//! One connection of the writer, on one file, within one run.

use parking_lot::Mutex;
use sqlx::any::AnyArguments;
use sqlx::{AnyConnection, AssertSqlSafe, Connection, Row, SqlSafeStr, SqlStr};

use super::alike::{LEAST, Numbered, Parted};
use super::row::{self, Ids, Shape};
use super::{Entry, LostRun, Shared};
use crate::ids::RequestId;
use crate::store::{self, FileId, Kind, Sql, Store, StoreError};

/// A connection that writes requests and the counts of this run.
#[derive(Debug)]
pub(super) struct Session {
    /// Never locked. Threads may not share a connection as they may the writer that holds this.
    connection: Mutex<AnyConnection>,
    store: Store,
    file: Option<FileId>,
    run_id: i64,
    ids: Ids,
    alike: [Insert; ALIKE_ROWS.len()],
    apart: [Insert; APART_ROWS.len()],
}

/// A statement that writes so many rows.
type Insert = (usize, SqlStr);

/// What a run says about itself with every write.
#[derive(Debug, Clone, Copy)]
pub(super) struct Counts {
    pub(super) accepted: u64,
    pub(super) written: u64,
    pub(super) dropped: u64,
    pub(super) now_ms: u64,
}

/// Rows that the database does not take.
#[derive(Debug, Default)]
pub(super) struct Refused {
    pub(super) rows: usize,
    /// The request of the first one, and why it is not taken.
    pub(super) first: Option<(RequestId, String)>,
}

/// Rows in one `INSERT`. Each statement costs a trip to SQLite's thread and back, about forty
/// microseconds, so most rows go by the hundred; the rest of a batch uses the smaller ones, because
/// every size is prepared once and kept.
const APART_ROWS: [usize; 4] = [100, 25, 5, 1];
/// The same for rows that are alike. What is left of a group of those is written with all others.
const ALIKE_ROWS: [usize; 3] = [100, 25, LEAST];
/// Rows deleted in one statement, four times a second: more than any traffic brings, and a few
/// milliseconds of work.
const DELETE_ROWS: i64 = 5_000;
/// Where the numbers of runs begin among PostgreSQL's advisory locks; "tide" in ASCII. A session
/// holds the lock of its run, so that a run whose lock is free is known to be dead.
const LOCKS_OF_RUNS: i64 = 0x7469_6465 << 32;

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
        let kind = store.kind();
        let mut transaction = store::begin(&mut connection, kind).await.map_err(&failed)?;
        let known = *shared.run.lock();
        let lost = match known {
            None => find_lost_runs(&mut transaction, kind).await.map_err(&failed)?,
            Some(_) => Vec::new(),
        };
        let (run_id, ids) = match known {
            None => {
                let run_id = begin_run(&mut transaction, now_ms).await.map_err(&failed)?;
                let last = last_id(&mut transaction, kind).await.map_err(&failed)?;
                (run_id, Ids::new(run_id, last))
            }
            Some((run_id, ids)) => {
                go_on_with(&mut transaction, run_id, now_ms).await.map_err(&failed)?;
                (run_id, ids)
            }
        };
        transaction.commit().await.map_err(&failed)?;
        if kind == Kind::Postgres {
            lock_run(&mut connection, run_id).await.map_err(&failed)?;
        }
        *shared.run.lock() = Some((run_id, ids));
        shared.on_lost_runs(lost);
        let insert =
            |shape, rows| (rows, AssertSqlSafe(row::insert_sql(kind, shape, rows)).into_sql_str());
        let alike = ALIKE_ROWS.map(|rows| insert(Shape::Alike, rows));
        let apart = APART_ROWS.map(|rows| insert(Shape::Apart, rows));
        let connection = Mutex::new(connection);
        Ok(Self { connection, store: store.clone(), file, run_id, ids, alike, apart })
    }

    /// The ids that come next.
    pub(super) fn ids(&self) -> (i64, Ids) {
        (self.run_id, self.ids)
    }

    /// Whether the file it writes to is still the one that others would open. SQLite goes on
    /// writing to a file that was deleted, where nobody will find it.
    pub(super) fn is_on_its_file(&self) -> bool {
        self.file == self.store.file_id()
    }

    /// Writes entries and counts in one transaction. `counts` are those before this batch. What the
    /// database refuses for what it holds is left out, because it would hold up all after it.
    pub(super) async fn write(
        &mut self,
        batch: &[Entry],
        counts: Counts,
    ) -> Result<Refused, StoreError> {
        let failed = StoreError::query("write requests to the journal");
        let mut ids = self.ids;
        let parted = Parted::of(batch.iter().map(|entry| (ids.of(entry), entry)));
        let refused = match self.write_together(&parted, counts).await {
            Ok(()) => Refused::default(),
            Err(error) if store::is_refusal(&error) => {
                self.write_apart(&parted.apart(), counts).await.map_err(failed)?
            }
            Err(error) => return Err(failed(error)),
        };
        self.ids = ids;
        Ok(refused)
    }

    async fn write_together(
        &mut self,
        parted: &Parted<'_>,
        counts: Counts,
    ) -> Result<(), sqlx::Error> {
        let mut transaction = store::begin(self.connection.get_mut(), self.store.kind()).await?;
        let mut others = parted.rest.clone();
        for group in &parted.groups {
            let mut rest = &group[..];
            for (size, sql) in &self.alike {
                let chunks = rest.chunks_exact(*size);
                rest = chunks.remainder();
                for chunk in chunks {
                    insert(&mut transaction, sql, Shape::Alike, chunk).await?;
                }
            }
            others.extend(rest);
        }
        let mut rest = &others[..];
        for (size, sql) in &self.apart {
            let chunks = rest.chunks_exact(*size);
            rest = chunks.remainder();
            for chunk in chunks {
                insert(&mut transaction, sql, Shape::Apart, chunk).await?;
            }
        }
        counts.after(parted.len(), 0).update(&mut transaction, self.run_id).await?;
        transaction.commit().await
    }

    /// Writes rows of which some are refused: smaller and smaller parts, until those are found.
    async fn write_apart(
        &mut self,
        rows: &[Numbered<'_>],
        counts: Counts,
    ) -> Result<Refused, sqlx::Error> {
        let mut transaction = store::begin(self.connection.get_mut(), self.store.kind()).await?;
        let mut refused = Refused::default();
        let mut parts = vec![(rows, 0)];
        while let Some((part, level)) = parts.pop() {
            let Some((size, sql)) = self.apart.get(level) else { continue };
            let chunks = part.chunks_exact(*size);
            parts.push((chunks.remainder(), level + 1));
            for chunk in chunks {
                let mut attempt = transaction.begin().await?;
                match insert(&mut attempt, sql, Shape::Apart, chunk).await {
                    Ok(()) => attempt.commit().await?,
                    Err(error) if store::is_refusal(&error) => {
                        attempt.rollback().await?;
                        match chunk {
                            [(_, entry)] => refused.add(entry, &error),
                            _ => parts.push((chunk, level + 1)),
                        }
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        counts.after(rows.len(), refused.rows).update(&mut transaction, self.run_id).await?;
        transaction.commit().await?;
        Ok(refused)
    }

    /// Deletes some of the requests that ended before a moment; says whether none is left.
    pub(super) async fn delete_before(&mut self, before_ms: u64) -> Result<bool, StoreError> {
        let deleted = sqlx::query(
            "DELETE FROM requests WHERE id <= (SELECT max(id) FROM
             (SELECT id FROM requests WHERE id < $1 ORDER BY id LIMIT $2) AS oldest)",
        )
        .bind(row::first_id_of(before_ms))
        .bind(DELETE_ROWS)
        .execute(self.connection.get_mut())
        .await
        .map_err(StoreError::query("delete old requests from the journal"))?
        .rows_affected();
        Ok(deleted < DELETE_ROWS.unsigned_abs())
    }

    /// Marks the run as ended and closes the connection.
    pub(super) async fn end(mut self, now_ms: u64) -> Result<(), StoreError> {
        let failed = StoreError::query("end the run in the journal");
        sqlx::query("UPDATE runs SET ended_at_ms = $1 WHERE id = $2")
            .bind(row::int(now_ms))
            .bind(self.run_id)
            .execute(self.connection.get_mut())
            .await
            .map_err(&failed)?;
        self.connection.into_inner().close().await.map_err(&failed)
    }
}

/// Writes rows in one statement.
async fn insert(
    connection: &mut AnyConnection,
    sql: &SqlStr,
    shape: Shape,
    rows: &[Numbered<'_>],
) -> Result<(), sqlx::Error> {
    let mut values = AnyArguments::default();
    row::bind(&mut values, rows, shape).map_err(sqlx::Error::Encode)?;
    sqlx::query_with(sql.clone(), values).execute(connection).await.map(drop)
}

/// Finds runs that neither ended nor were looked after, and notes what each leaves unknown. A file
/// belongs to one gateway, so that any other run in it is over; at a server it is over when nobody
/// holds its lock. A node that was cut off and taken for dead says otherwise with its next write.
async fn find_lost_runs(
    connection: &mut AnyConnection,
    kind: Kind,
) -> Result<Vec<LostRun>, sqlx::Error> {
    let mut update = Sql::new(
        "UPDATE runs SET unknown = CASE WHEN accepted > written + dropped
             THEN accepted - written - dropped ELSE 0 END
         WHERE ended_at_ms IS NULL AND unknown IS NULL",
    );
    match kind {
        Kind::Sqlite => {}
        Kind::Postgres => {
            update.push(" AND pg_try_advisory_xact_lock(id + ").bind(LOCKS_OF_RUNS).push(")");
        }
    }
    update.push(" RETURNING id, started_at_ms, flushed_at_ms, unknown");
    let rows = update.query()?.fetch_all(connection).await?;
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

/// Makes this run's row.
async fn begin_run(connection: &mut AnyConnection, now_ms: u64) -> Result<i64, sqlx::Error> {
    loop {
        // Nothing comes back where another node took the number at the same moment.
        let run_id = sqlx::query_scalar(
            "INSERT INTO runs (id, started_at_ms, flushed_at_ms, accepted, written, dropped)
             SELECT coalesce(max(id), 0) + 1, $1, $1, 0, 0, 0 FROM runs WHERE true
             ON CONFLICT (id) DO NOTHING RETURNING id",
        )
        .bind(row::int(now_ms))
        .fetch_optional(&mut *connection)
        .await?;
        if let Some(run_id) = run_id {
            return Ok(run_id);
        }
    }
}

/// Makes sure that this run has its row, where the store was replaced while the gateway ran.
async fn go_on_with(
    connection: &mut AnyConnection,
    run_id: i64,
    now_ms: u64,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO runs (id, started_at_ms, flushed_at_ms, accepted, written, dropped)
         VALUES ($1, $2, $2, 0, 0, 0)
         ON CONFLICT (id) DO UPDATE SET flushed_at_ms = excluded.flushed_at_ms, unknown = NULL",
    )
    .bind(run_id)
    .bind(row::int(now_ms))
    .execute(connection)
    .await
    .map(drop)
}

/// The newest id, where this gateway is the only one that gives them: pages stay in order even
/// where the clock went back between two runs.
async fn last_id(connection: &mut AnyConnection, kind: Kind) -> Result<i64, sqlx::Error> {
    match kind {
        Kind::Sqlite => {
            let last: Option<i64> =
                sqlx::query_scalar("SELECT max(id) FROM requests").fetch_one(connection).await?;
            Ok(last.unwrap_or(0))
        }
        Kind::Postgres => Ok(0),
    }
}

/// Shows other nodes that this run lives, for as long as the session does. Where the server has not
/// yet noticed that the session before is gone, its lock still shows it.
async fn lock_run(connection: &mut AnyConnection, run_id: i64) -> Result<(), sqlx::Error> {
    let lock = sqlx::query("SELECT pg_try_advisory_lock($1)");
    lock.bind(LOCKS_OF_RUNS + run_id).execute(connection).await.map(drop)
}

// === impl Counts ===

impl Counts {
    /// What they are once this many more rows were dealt with, of which some are refused.
    fn after(self, rows: usize, refused: usize) -> Self {
        let (rows, refused) = (rows as u64, refused as u64);
        Self {
            written: self.written + rows.saturating_sub(refused),
            dropped: self.dropped + refused,
            ..self
        }
    }

    async fn update(self, connection: &mut AnyConnection, run_id: i64) -> Result<(), sqlx::Error> {
        sqlx::query(
            "UPDATE runs SET flushed_at_ms = $1, accepted = $2, written = $3, dropped = $4,
             unknown = NULL WHERE id = $5",
        )
        .bind(row::int(self.now_ms))
        .bind(row::int(self.accepted))
        .bind(row::int(self.written))
        .bind(row::int(self.dropped))
        .bind(run_id)
        .execute(connection)
        .await
        .map(drop)
    }
}

// === impl Refused ===

impl Refused {
    fn add(&mut self, entry: &Entry, error: &sqlx::Error) {
        self.rows += 1;
        self.first.get_or_insert_with(|| (entry.request_id.clone(), error.to_string()));
    }
}
