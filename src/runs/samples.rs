//! Samples: written as they come, read by pages, taken over from other runs, deleted when they are
//! old.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row};

use super::row::{SAMPLE, int, json_text, number, optional, preference, small, word_of};
use super::work::{Progress, is_running, write_progress};
use super::{Runs, SampleRow};
use crate::compat::Preference;
use crate::store::lease::Holding;
use crate::store::{self, Sql, StoreError};

/// Rows that one statement writes.
const WRITTEN_AT_A_TIME: usize = 20;
/// Keys that one statement looks for.
const SOUGHT_AT_A_TIME: usize = 100;
/// Samples of one page.
const MOST_LISTED: u32 = 10_000;
/// Runs whose samples one transaction deletes.
const SWEPT_AT_A_TIME: i64 = 10;

/// Where a page of samples begins: after this one. They are by case, number and side, the
/// baseline's first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SamplePlace {
    /// The case.
    pub case: String,
    /// The number.
    pub sample: u32,
    /// The side.
    pub is_candidate: bool,
}

/// A sample to write.
#[derive(Debug, Clone)]
pub(crate) struct NewSample {
    pub(crate) row: SampleRow,
    /// Tells case, side and prompt.
    pub(crate) reuse_key: String,
}

/// What a verdict needs to know of a sample.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct DoneSample {
    pub(crate) case: String,
    pub(crate) is_candidate: bool,
    pub(crate) sample: u32,
    pub(crate) passed: Option<bool>,
    pub(crate) output_tokens: u64,
    pub(crate) cost_micro_usd: u64,
    pub(crate) latency_ms: u64,
    pub(crate) spent_micro_usd: u64,
    pub(crate) preference: Option<Preference>,
    /// Whether another run has asked for it.
    pub(crate) is_reused: bool,
}

/// Whose answers are taken over as a baseline's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reuse {
    /// Any other run's that are not older than this, in Unix milliseconds; the newest first.
    Since(u64),
    /// The candidate's of this run.
    CandidateOf(String),
}

/// What became of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Committed {
    /// It is written.
    Yes,
    /// Another node leads.
    Lost,
    /// The run was ended by somebody else.
    Over,
}

/// Where samples come from that are taken over.
struct Source {
    run: String,
    side: i64,
    newest_ms: u64,
}

// === impl Runs ===

impl Runs {
    /// The samples of a run by case, number and side: those after `place`, at most `limit` (10,000
    /// at most). None where they were deleted for their age.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn samples(
        &self,
        run: &str,
        place: Option<&SamplePlace>,
        limit: u32,
    ) -> Result<Vec<SampleRow>, StoreError> {
        let failed = StoreError::query("read the samples of a compatibility run");
        let mut query = Sql::new("SELECT ");
        query.push(SAMPLE).push(" FROM compat_samples WHERE run = ").bind(run.to_owned());
        if let Some(place) = place {
            query.push(" AND (case_id, sample, side) > (").bind(place.case.clone()).push(", ");
            query.bind(i64::from(place.sample)).push(", ");
            query.bind(i64::from(place.is_candidate)).push(")");
        }
        query.push(" ORDER BY case_id, sample, side LIMIT ");
        query.bind(i64::from(limit.min(MOST_LISTED)));
        let mut reader = self.shared.store.reader().await?;
        let query = query.query().map_err(&failed)?;
        let rows = query.fetch_all(&mut *reader).await.map_err(&failed)?;
        rows.iter().map(SampleRow::read).collect::<Result<_, _>>().map_err(failed)
    }

    /// Writes samples of a run, and how far it is where that is to be written. All or nothing.
    pub(crate) async fn commit(
        &self,
        run: &str,
        samples: &[NewSample],
        progress: Option<&Progress>,
        holding: &Holding,
    ) -> Result<Committed, StoreError> {
        let failed = StoreError::query("write samples of a compatibility run");
        let kind = self.shared.store.kind();
        let mut connection = self.shared.store.writer().await?;
        let mut transaction = store::begin(&mut connection, kind).await.map_err(&failed)?;
        if !holding.hold(&mut transaction).await.map_err(&failed)? {
            return Ok(Committed::Lost);
        }
        let goes_on = match progress {
            Some(progress) => write_progress(&mut transaction, run, progress).await,
            None => is_running(&mut transaction, run).await,
        };
        if !goes_on.map_err(&failed)? {
            return Ok(Committed::Over);
        }
        let now_ms = self.now_ms();
        for some in samples.chunks(WRITTEN_AT_A_TIME) {
            insert(&mut transaction, run, some, now_ms).await.map_err(&failed)?;
        }
        transaction.commit().await.map_err(failed)?;
        Ok(Committed::Yes)
    }

    /// What a verdict needs to know of all samples that a run has.
    pub(crate) async fn done(&self, run: &str) -> Result<Vec<DoneSample>, StoreError> {
        let failed = StoreError::query("read what a compatibility run has");
        let select = "SELECT case_id, side, sample, passed, output_tokens, cost_micro_usd,
                      latency_ms, spent_micro_usd, preference, reused_from FROM compat_samples
                      WHERE run = $1";
        let mut reader = self.shared.store.reader().await?;
        let rows = sqlx::query(select).bind(run).fetch_all(&mut *reader).await.map_err(&failed)?;
        rows.iter().map(DoneSample::read).collect::<Result<_, _>>().map_err(failed)
    }

    /// One sample, answer and all.
    pub(crate) async fn sample(
        &self,
        run: &str,
        place: &SamplePlace,
    ) -> Result<Option<SampleRow>, StoreError> {
        let failed = StoreError::query("read a sample of a compatibility run");
        let mut query = Sql::new("SELECT ");
        query.push(SAMPLE).push(" FROM compat_samples WHERE run = ").bind(run.to_owned());
        query.push(" AND case_id = ").bind(place.case.clone());
        query.push(" AND sample = ").bind(i64::from(place.sample));
        query.push(" AND side = ").bind(i64::from(place.is_candidate));
        let mut reader = self.shared.store.reader().await?;
        let query = query.query().map_err(&failed)?;
        let row = query.fetch_optional(&mut *reader).await.map_err(&failed)?;
        row.as_ref().map(SampleRow::read).transpose().map_err(failed)
    }

    /// Takes over answers to the same questions as the baseline's of `run`, of those numbers that
    /// are below `below`. What the run has already stays.
    pub(crate) async fn reuse(
        &self,
        run: &str,
        (keys, below): (&[String], u32),
        from: &Reuse,
        holding: &Holding,
    ) -> Result<Committed, StoreError> {
        let failed = StoreError::query("take over samples of another compatibility run");
        let kind = self.shared.store.kind();
        let mut connection = self.shared.store.writer().await?;
        let mut transaction = store::begin(&mut connection, kind).await.map_err(&failed)?;
        if !holding.hold(&mut transaction).await.map_err(&failed)? {
            return Ok(Committed::Lost);
        }
        for keys in keys.chunks(SOUGHT_AT_A_TIME) {
            let sources = match from {
                Reuse::Since(since_ms) => {
                    sources(&mut transaction, run, keys, *since_ms).await.map_err(&failed)?
                }
                Reuse::CandidateOf(other) => {
                    vec![Source { run: other.clone(), side: 1, newest_ms: 0 }]
                }
            };
            for source in sources {
                let copied = copy(&mut transaction, (run, below), keys, &source).await;
                copied.map_err(&failed)?;
            }
        }
        transaction.commit().await.map_err(failed)?;
        Ok(Committed::Yes)
    }

    /// Deletes samples of runs that ended longer ago than `keep`, and replies of judges as old. How
    /// many runs have lost theirs; more may be left where it is not 0.
    pub(crate) async fn sweep(&self, keep: Duration) -> Result<u64, StoreError> {
        let failed = StoreError::query("delete old samples of compatibility runs");
        let before = int(self.ago_ms(keep));
        let kind = self.shared.store.kind();
        let mut connection = self.shared.store.writer().await?;
        let mut transaction = store::begin(&mut connection, kind).await.map_err(&failed)?;
        let old = "SELECT id FROM compat_runs WHERE ended_ms < $1 AND swept_ms IS NULL LIMIT $2";
        let old = sqlx::query(old).bind(before).bind(SWEPT_AT_A_TIME);
        let old = old.fetch_all(&mut *transaction).await.map_err(&failed)?;
        for row in &old {
            let id: String = row.try_get("id").map_err(&failed)?;
            let delete = sqlx::query("DELETE FROM compat_samples WHERE run = $1").bind(&id);
            delete.execute(&mut *transaction).await.map_err(&failed)?;
            let mark = sqlx::query("UPDATE compat_runs SET swept_ms = $1 WHERE id = $2");
            let mark = mark.bind(int(self.now_ms())).bind(&id);
            mark.execute(&mut *transaction).await.map_err(&failed)?;
        }
        let forget = "DELETE FROM compat_replies WHERE at_ms < $1";
        let forget = sqlx::query(forget).bind(before).execute(&mut *transaction);
        forget.await.map_err(&failed)?;
        let unused = "DELETE FROM compat_texts WHERE NOT EXISTS (SELECT 1 FROM compat_runs r
                      WHERE r.text = compat_texts.hash AND r.swept_ms IS NULL)";
        sqlx::query(unused).execute(&mut *transaction).await.map_err(&failed)?;
        transaction.commit().await.map_err(failed)?;
        Ok(old.len() as u64)
    }
}

// === impl DoneSample ===

impl DoneSample {
    fn read(row: &AnyRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            case: row.try_get("case_id")?,
            is_candidate: number(row, "side")? == 1,
            sample: small(row, "sample")?,
            passed: optional(row, "passed")?.map(|passed| passed == 1),
            output_tokens: number(row, "output_tokens")?,
            cost_micro_usd: number(row, "cost_micro_usd")?,
            latency_ms: number(row, "latency_ms")?,
            spent_micro_usd: number(row, "spent_micro_usd")?,
            preference: preference(row)?,
            is_reused: row.try_get::<Option<String>, _>("reused_from")?.is_some(),
        })
    }

    /// What will be read of a sample that is written.
    pub(crate) fn of(row: &SampleRow) -> Self {
        Self {
            case: row.case.clone(),
            is_candidate: row.is_candidate,
            sample: row.sample,
            passed: row.passed(),
            output_tokens: row.answer.output_tokens,
            cost_micro_usd: row.answer.cost_micro_usd,
            latency_ms: row.answer.latency_ms,
            spent_micro_usd: row.answer.cost_micro_usd.saturating_add(row.judging_micro_usd),
            preference: row.preference,
            is_reused: row.reused_from.is_some(),
        }
    }
}

// === impl SampleRow ===

impl SampleRow {
    /// Whether the case is passed; `None` where there is no answer, or nothing that decides.
    pub fn passed(&self) -> Option<bool> {
        match &self.answer.error {
            Some(_) => None,
            None => self.grade.as_ref()?.decided(),
        }
    }
}

/// Writes rows; those that are there stay as they are.
async fn insert(
    connection: &mut AnyConnection,
    run: &str,
    samples: &[NewSample],
    now_ms: u64,
) -> Result<(), sqlx::Error> {
    let mut query = Sql::new(
        "INSERT INTO compat_samples (run, side, case_id, sample, reuse_key, at_ms, passed, \
         output_tokens, cost_micro_usd, latency_ms, judging_micro_usd, spent_micro_usd, \
         preference, reused_from, answer, grade) VALUES ",
    );
    for (index, NewSample { row, reuse_key }) in samples.iter().enumerate() {
        let done = DoneSample::of(row);
        query.push(if index == 0 { "(" } else { ", (" }).bind(run.to_owned()).push(", ");
        query.bind(i64::from(row.is_candidate)).push(", ").bind(row.case.clone()).push(", ");
        query.bind(i64::from(row.sample)).push(", ").bind(reuse_key.clone());
        query.push(", ").bind(int(now_ms)).push(", ").bind(done.passed.map(i64::from));
        let numbers = [
            done.output_tokens,
            done.cost_micro_usd,
            done.latency_ms,
            row.judging_micro_usd,
            done.spent_micro_usd,
        ];
        for number in numbers {
            query.push(", ").bind(int(number));
        }
        let preference = row.preference.as_ref().map(word_of).transpose()?;
        query.push(", ").bind(preference).push(", ").bind(row.reused_from.clone());
        query.push(", ").bind(json_text(&row.answer)?).push(", ");
        query.bind(row.grade.as_ref().map(json_text).transpose()?).push(")");
    }
    query.push(" ON CONFLICT (run, case_id, sample, side) DO NOTHING");
    query.query()?.execute(connection).await.map(drop)
}

/// Which other runs have answers to these questions, the newest first.
async fn sources(
    connection: &mut AnyConnection,
    run: &str,
    keys: &[String],
    since_ms: u64,
) -> Result<Vec<Source>, sqlx::Error> {
    let mut query =
        Sql::new("SELECT run, side, MAX(at_ms) AS newest_ms FROM compat_samples WHERE ");
    push_keys(&mut query, keys);
    query.push(" AND at_ms >= ").bind(int(since_ms)).push(" AND run <> ").bind(run.to_owned());
    query.push(" AND passed IS NOT NULL GROUP BY run, side");
    let rows = query.query()?.fetch_all(connection).await?;
    let source = |row: &AnyRow| {
        let newest_ms = number(row, "newest_ms")?;
        Ok::<_, sqlx::Error>(Source {
            run: row.try_get("run")?,
            side: row.try_get("side")?,
            newest_ms,
        })
    };
    let mut sources = rows.iter().map(source).collect::<Result<Vec<_>, _>>()?;
    sources.sort_by(|one, other| {
        let by_run = || (&other.run, other.side).cmp(&(&one.run, one.side));
        other.newest_ms.cmp(&one.newest_ms).then_with(by_run)
    });
    Ok(sources)
}

/// Copies answers as the baseline's. They keep their time, so that none is used for longer by being
/// used often.
async fn copy(
    connection: &mut AnyConnection,
    (run, below): (&str, u32),
    keys: &[String],
    from: &Source,
) -> Result<(), sqlx::Error> {
    let mut query = Sql::new(
        "INSERT INTO compat_samples (run, side, case_id, sample, reuse_key, at_ms, passed, \
         output_tokens, cost_micro_usd, latency_ms, judging_micro_usd, spent_micro_usd, \
         preference, reused_from, answer, grade) SELECT ",
    );
    // The type of what stands in a list of columns is not known by itself.
    query.push("CAST(").bind(run.to_owned()).push(" AS TEXT)");
    query.push(
        ", 0, case_id, sample, reuse_key, at_ms, passed, output_tokens, cost_micro_usd, \
         latency_ms, 0, 0, NULL, COALESCE(reused_from, run), answer, grade \
         FROM compat_samples WHERE ",
    );
    push_keys(&mut query, keys);
    query.push(" AND run = ").bind(from.run.clone()).push(" AND side = ").bind(from.side);
    query.push(" AND passed IS NOT NULL AND sample < ").bind(i64::from(below));
    query.push(" ON CONFLICT (run, case_id, sample, side) DO NOTHING");
    query.query()?.execute(connection).await.map(drop)
}

fn push_keys(query: &mut Sql, keys: &[String]) {
    query.push("reuse_key IN (");
    for (index, key) in keys.iter().enumerate() {
        query.push(if index == 0 { "" } else { ", " }).bind(key.clone());
    }
    query.push(")");
}
