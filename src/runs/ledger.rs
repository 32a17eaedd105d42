//! Beginning, listing, finding and cancelling runs.

use rand::distr::{Alphanumeric, SampleString};
use serde_json::{Value, json};
use sqlx::{AnyConnection, AssertSqlSafe, Row};

use super::matrix::push_of_prompt;
use super::row::{RUN, int, json_text, number, word_of};
use super::{NewRun, RunKind, RunRecord, RunState, Runs, RunsError, SuiteRow};
use crate::audit::{self, Actor};
use crate::compat::{Only, Side, SidePrompt};
use crate::store::{self, Sql, StoreError};

/// Runs that may wait or run at a time.
const MOST_OPEN: u64 = 1_000;
/// The most samples of a case that anybody asks for.
const MOST_SAMPLES: u32 = 100;
/// Runs of one page.
const MOST_LISTED: u32 = 1_000;
/// Verdicts that are looked at.
const MOST_VERDICTS: i64 = 100;

/// Which runs. Fields that are not given do not restrict.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RunFilter {
    /// Of this suite.
    pub suite: Option<String>,
    /// Whose candidate is a version of this registered prompt.
    pub prompt: Option<String>,
    /// In this state.
    pub state: Option<RunState>,
    /// Of this kind.
    pub kind: Option<RunKind>,
}

/// A prompt's version that was found compatible on a model.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tested {
    /// The prompt.
    pub prompt: String,
    /// The version.
    pub version: String,
    /// The model.
    pub model: String,
    /// When, in Unix milliseconds: the latest verdict.
    pub at_ms: u64,
    /// The run.
    pub run: String,
    /// The suite that it asked.
    pub suite: String,
}

// === impl Runs ===

impl Runs {
    /// Begins a run: it waits for its turn when this returns. It keeps to what its suite says now.
    ///
    /// # Errors
    ///
    /// [`RunsError`]: no such suite, numbers out of range, too many runs wait; the store.
    pub async fn begin(&self, new: NewRun, by: &Actor) -> Result<RunRecord, RunsError> {
        check(&new)?;
        let suite = self.suite(&new.suite).await?;
        let suite = suite.ok_or_else(|| RunsError::UnknownSuite(new.suite.clone()))?;
        let failed = StoreError::query("begin a compatibility run");
        let kind = self.shared.store.kind();
        let mut connection = self.shared.store.writer().await?;
        let mut transaction = store::begin(&mut connection, kind).await.map_err(&failed)?;
        let open = "SELECT COUNT(*) AS open FROM compat_runs WHERE ended_ms IS NULL";
        let open = sqlx::query(open).fetch_one(&mut *transaction).await.map_err(&failed)?;
        if number(&open, "open").map_err(&failed)? >= MOST_OPEN {
            return Err(RunsError::TooMany { limit: MOST_OPEN });
        }
        let record = self.record_of(new, &suite);
        insert(&mut transaction, (&record, &suite.text), by).await.map_err(&failed)?;
        transaction.commit().await.map_err(failed)?;
        self.shared.changed_here.notify_one();
        Ok(record)
    }

    /// What a run is when it begins now.
    pub(super) fn record_of(&self, new: NewRun, suite: &SuiteRow) -> RunRecord {
        let max_cost = new.max_cost_micro_usd.unwrap_or_else(|| self.settings().max_cost.0.0);
        RunRecord {
            id: format!("cr_{}", Alphanumeric.sample_string(&mut rand::rng(), 12)),
            kind: new.kind,
            suite: new.suite,
            suite_hash: suite.hash.clone(),
            baseline: new.baseline,
            candidate: new.candidate,
            depth: new.depth,
            only: new.only,
            samples: new.samples,
            seed: new.seed,
            max_cost_micro_usd: max_cost,
            state: RunState::Waiting,
            reason: None,
            created_ms: self.now_ms(),
            ended_ms: None,
            samples_done: 0,
            samples_planned: 0,
            samples_reused: 0,
            cost_micro_usd: 0,
            judge: None,
            judgement: None,
        }
    }

    /// One run.
    ///
    /// # Errors
    ///
    /// [`RunsError::UnknownRun`] or [`RunsError::Store`].
    pub async fn find(&self, id: &str) -> Result<RunRecord, RunsError> {
        let failed = StoreError::query("find a compatibility run");
        let mut reader = self.shared.store.reader().await?;
        let found = read(&mut reader, id).await.map_err(failed)?;
        found.ok_or_else(|| RunsError::UnknownRun(id.to_owned()))
    }

    /// Runs, newest first: those after the one with the id `cursor`, at most `limit` (1,000 at
    /// most).
    ///
    /// # Errors
    ///
    /// [`RunsError::UnknownRun`] where `cursor` is none; [`RunsError::Store`].
    pub async fn list(
        &self,
        filter: &RunFilter,
        cursor: Option<&str>,
        limit: u32,
    ) -> Result<Vec<RunRecord>, RunsError> {
        let failed = StoreError::query("list the compatibility runs");
        let place = match cursor {
            None => i64::MAX,
            Some(id) => int(self.find(id).await?.created_ms),
        };
        let mut query = select(" WHERE (created_ms, id) < (");
        query.bind(place).push(", ").bind(cursor.unwrap_or_default().to_owned()).push(")");
        if let Some(suite) = &filter.suite {
            query.push(" AND suite = ").bind(suite.clone());
        }
        if let Some(prompt) = &filter.prompt {
            push_of_prompt(&mut query, prompt);
        }
        if let Some(state) = filter.state {
            query.push(" AND state = ").bind(state.as_str());
        }
        if let Some(kind) = filter.kind {
            query.push(" AND kind = ").bind(word_of(&kind).map_err(&failed)?);
        }
        query.push(" ORDER BY created_ms DESC, id DESC LIMIT ");
        query.bind(i64::from(limit.min(MOST_LISTED)));
        Ok(self.read_all(query, "list the compatibility runs").await?)
    }

    /// Ends a run that waits or runs; what it has asked stays. It asks nothing more a moment later.
    ///
    /// # Errors
    ///
    /// [`RunsError::UnknownRun`], [`RunsError::Over`], [`RunsError::Store`].
    pub async fn cancel(&self, id: &str, by: &Actor) -> Result<RunRecord, RunsError> {
        let failed = StoreError::query("cancel a compatibility run");
        let kind = self.shared.store.kind();
        let mut connection = self.shared.store.writer().await?;
        let mut transaction = store::begin(&mut connection, kind).await.map_err(&failed)?;
        let now_ms = self.now_ms();
        let end = "UPDATE compat_runs SET state = 'cancelled', ended_ms = $1
                   WHERE id = $2 AND ended_ms IS NULL";
        let ended = sqlx::query(end).bind(int(now_ms)).bind(id).execute(&mut *transaction);
        let is_ended = ended.await.map_err(&failed)?.rows_affected() == 1;
        let record = read(&mut transaction, id).await.map_err(&failed)?;
        let record = record.ok_or_else(|| RunsError::UnknownRun(id.to_owned()))?;
        if !is_ended {
            return Err(RunsError::Over(record.state));
        }
        let after = json!({"samples_done": record.samples_done});
        let event = audit_event("compat.run.cancel", format!("compat/runs/{id}"), after);
        audit::record(&mut transaction, by, &event, now_ms).await.map_err(&failed)?;
        transaction.commit().await.map_err(failed)?;
        self.shared.changed_here.notify_one();
        Ok(record)
    }

    /// Runs of a suite with a verdict of this candidate, against this baseline and on this model
    /// where these are named: the newest first, 100 at most. What was only held against itself, at
    /// night, is none.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn verdicts(
        &self,
        suite: &str,
        baseline: Option<&SidePrompt>,
        candidate: &SidePrompt,
        model: Option<&str>,
    ) -> Result<Vec<RunRecord>, StoreError> {
        let failed = StoreError::query("read verdicts");
        let prompt = json_text(candidate).map_err(&failed)?;
        let mut query = select(" WHERE verdict IS NOT NULL AND kind <> 'drift'");
        query.push(" AND candidate_prompt = ").bind(prompt);
        query.push(" AND suite = ").bind(suite.to_owned());
        if let Some(baseline) = baseline {
            let prompt = json_text(baseline).map_err(&failed)?;
            query.push(" AND baseline_prompt = ").bind(prompt);
        }
        if let Some(model) = model {
            query.push(" AND candidate_model = ").bind(model.to_owned());
        }
        query.push(" ORDER BY ended_ms DESC, id DESC LIMIT ").bind(MOST_VERDICTS);
        self.read_all(query, "read verdicts").await
    }

    /// What was found compatible when all cases were asked, by the newest decided verdict of each
    /// suite, version and model: sorted. A run of some cases proves nothing, and may refute.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn tested(&self) -> Result<Vec<Tested>, StoreError> {
        let failed = StoreError::query("read which models are tested");
        let newest = "SELECT id, suite, candidate_prompt, candidate_model, ended_ms
             FROM compat_runs r
             WHERE verdict = 'compatible' AND kind <> 'drift' AND depth = 'full'
             AND only_cases IS NULL AND NOT EXISTS (
                 SELECT 1 FROM compat_runs later
                 WHERE later.kind <> 'drift' AND (later.verdict = 'incompatible'
                     OR (later.verdict = 'compatible' AND later.only_cases IS NULL))
                 AND later.suite = r.suite AND later.candidate_prompt = r.candidate_prompt
                 AND later.candidate_model = r.candidate_model
                 AND (later.ended_ms, later.id) > (r.ended_ms, r.id))";
        let mut reader = self.shared.store.reader().await?;
        let rows = sqlx::query(newest).fetch_all(&mut *reader).await.map_err(&failed)?;
        let mut tested = Vec::new();
        for row in &rows {
            let read = || {
                let prompt: String = row.try_get("candidate_prompt")?;
                let model: String = row.try_get("candidate_model")?;
                let (run, suite): (String, String) = (row.try_get("id")?, row.try_get("suite")?);
                Ok::<_, sqlx::Error>((prompt, model, number(row, "ended_ms")?, run, suite))
            };
            let (prompt, model, at_ms, run, suite) = read().map_err(&failed)?;
            if let Ok(SidePrompt::Registered { id, version }) = serde_json::from_str(&prompt) {
                tested.push(Tested { prompt: id, version, model, at_ms, run, suite });
            }
        }
        tested.sort();
        Ok(tested)
    }

    /// Runs of the same cases of a suite with a verdict of this candidate, the newest first, at
    /// most `limit`: how it has fared night by night.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn history(
        &self,
        (suite, only): (&str, Option<&Only>),
        candidate: &Side,
        limit: u32,
    ) -> Result<Vec<RunRecord>, StoreError> {
        let mut query = select(" WHERE verdict IS NOT NULL AND suite = ");
        query.bind(suite.to_owned()).push(" AND candidate_hash = ").bind(candidate.hash());
        let only = only.map(Only::as_str).unwrap_or_default().to_owned();
        query.push(" AND COALESCE(only_cases, '') = ").bind(only);
        query
            .push(" ORDER BY ended_ms DESC, id DESC LIMIT ")
            .bind(i64::from(limit.min(MOST_LISTED)));
        self.read_all(query, "read earlier verdicts").await
    }

    pub(super) async fn read_all(
        &self,
        query: Sql,
        operation: &'static str,
    ) -> Result<Vec<RunRecord>, StoreError> {
        let failed = StoreError::query(operation);
        let mut reader = self.shared.store.reader().await?;
        let query = query.query().map_err(&failed)?;
        let rows = query.fetch_all(&mut *reader).await.map_err(&failed)?;
        rows.iter().map(RunRecord::read).collect::<Result<_, _>>().map_err(failed)
    }
}

/// What is compared with how many questions.
fn check(new: &NewRun) -> Result<(), RunsError> {
    if new.samples == 0 || new.samples > MOST_SAMPLES {
        return Err(RunsError::invalid("samples", format!("must be 1 to {MOST_SAMPLES}")));
    }
    for (field, side) in [("baseline", &new.baseline), ("candidate", &new.candidate)] {
        if side.model.is_empty() || side.model.len() > 300 {
            return Err(RunsError::invalid(field, "names no model"));
        }
    }
    Ok(())
}

/// What a run keeps to, as one number: the first 16 bytes of the BLAKE3 of the text in hex.
fn text_hash(text: &str) -> String {
    blake3::hash(text.as_bytes()).to_hex().chars().take(32).collect()
}

/// Writes a new run and the text it keeps to, with the audit log.
pub(super) async fn insert(
    connection: &mut AnyConnection,
    (run, text): (&RunRecord, &str),
    by: &Actor,
) -> Result<(), sqlx::Error> {
    let keep =
        "INSERT INTO compat_texts (hash, text) VALUES ($1, $2) ON CONFLICT (hash) DO NOTHING";
    sqlx::query(keep).bind(text_hash(text)).bind(text).execute(&mut *connection).await?;
    let mut insert = Sql::new(
        "INSERT INTO compat_runs (id, kind, suite, suite_hash, text, baseline, candidate, \
         baseline_prompt, candidate_prompt, candidate_model, candidate_hash, depth, only_cases, samples, seed, \
         max_cost_micro_usd, state, created_by, created_ms, worked_ms, samples_done, \
         samples_planned, cost_micro_usd) VALUES (",
    );
    let texts = [
        run.id.clone(),
        word_of(&run.kind)?,
        run.suite.clone(),
        run.suite_hash.clone(),
        text_hash(text),
        json_text(&run.baseline)?,
        json_text(&run.candidate)?,
        json_text(&run.baseline.prompt)?,
        json_text(&run.candidate.prompt)?,
        run.candidate.model.clone(),
        run.candidate.hash(),
        word_of(&run.depth)?,
    ];
    for text in texts {
        insert.bind(text).push(", ");
    }
    let only = run.only.as_ref().map(|only| only.as_str().to_owned());
    insert.bind(only).push(", ");
    insert.bind(i64::from(run.samples)).push(", ").bind(run.seed.cast_signed()).push(", ");
    insert.bind(int(run.max_cost_micro_usd)).push(", ").bind(run.state.as_str()).push(", ");
    insert.bind(by.name.clone()).push(", ").bind(int(run.created_ms)).push(", 0, 0, 0, 0)");
    insert.query()?.execute(&mut *connection).await?;
    let after = json!({
        "kind": run.kind, "suite": run.suite, "baseline": run.baseline.to_string(),
        "candidate": run.candidate.to_string(), "depth": run.depth, "only": run.only,
        "samples": run.samples,
        "max_cost_micro_usd": run.max_cost_micro_usd,
    });
    let event = audit_event("compat.run.begin", format!("compat/runs/{}", run.id), after);
    audit::record(connection, by, &event, run.created_ms).await
}

pub(super) async fn read(
    connection: &mut AnyConnection,
    id: &str,
) -> Result<Option<RunRecord>, sqlx::Error> {
    let query = format!("SELECT {RUN} FROM compat_runs WHERE id = $1");
    let row = sqlx::query(AssertSqlSafe(query)).bind(id).fetch_optional(connection).await?;
    row.as_ref().map(RunRecord::read).transpose()
}

pub(super) fn select(which: &str) -> Sql {
    let mut query = Sql::new("SELECT ");
    query.push(RUN).push(" FROM compat_runs").push(which);
    query
}

pub(super) fn audit_event(action: &'static str, resource: String, after: Value) -> audit::Event {
    audit::Event { action, resource, before: None, after: Some(after) }
}

// === impl RunState ===

impl RunState {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Running => "running",
            Self::Done => "done",
            Self::Cancelled => "cancelled",
            Self::Failed => "failed",
        }
    }
}
