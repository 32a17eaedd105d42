//! A job as the store knows it.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sqlx::Row;
use sqlx::any::AnyRow;

use crate::ids::CallerId;
use crate::policy::job::JobState;
use crate::units::Priority;

/// A job, without its request and its result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// Its id: `job_` and 32 characters that sort by the time it was made.
    pub id: String,
    /// Whose it is.
    pub caller: CallerId,
    /// The path of the endpoint that it is a request to.
    pub endpoint: String,
    /// How much it matters.
    pub priority: Priority,
    /// Where it is.
    pub state: JobState,
    /// How often a worker has taken it.
    pub attempts: u32,
    /// How many attempts failed of something that may pass.
    pub failures: u32,
    /// What its caller wanted kept with it: a JSON object.
    pub metadata: String,
    /// The receiver that is told of its end.
    pub receiver: Option<String>,
    /// What became of it, where that is an error.
    pub error: Option<JobError>,
    /// When it was made; milliseconds since 1970 by the database's clock, here and below.
    pub created_at_ms: u64,
    /// When a worker took it first.
    pub started_at_ms: Option<u64>,
    /// When it ended.
    pub ended_at_ms: Option<u64>,
    /// When it is to be taken next.
    pub run_after_ms: u64,
    /// When it expires.
    pub deadline_ms: u64,
}

/// Why a job has no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobError {
    /// For programs.
    pub code: String,
    /// For people.
    pub message: String,
}

/// The reply that the caller would have had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobResult {
    /// Its status.
    pub status: u16,
    /// Headers that say how it came about.
    pub headers: Vec<(String, String)>,
    /// Its body, JSON in the caller's dialect.
    pub body: Bytes,
}

/// What headers said beside the body, as far as it matters for a job.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Particulars {
    /// The caller's own limit for the request once it runs.
    pub timeout_ms: Option<u64>,
    /// Who is behind it.
    pub sticky: Option<String>,
    /// Tags for the journal.
    pub tags: Vec<(String, String)>,
    /// Headers that go upstream.
    pub forwarded: Vec<(String, String)>,
}

// === impl Job ===

impl Job {
    pub(super) fn read(row: &AnyRow) -> Result<Self, sqlx::Error> {
        let state: &str = row.try_get("state")?;
        let state = JobState::parse(state).ok_or_else(|| damaged("state"))?;
        let priority: i64 = row.try_get("priority")?;
        let priority = Priority::try_from(priority.unsigned_abs());
        let code: Option<String> = row.try_get("error_code")?;
        let message: Option<String> = row.try_get("error_message")?;
        Ok(Self {
            id: row.try_get("id")?,
            caller: CallerId::new(row.try_get::<&str, _>("lane")?),
            endpoint: row.try_get("endpoint")?,
            priority: priority.map_err(|_| damaged("priority"))?,
            state,
            attempts: count(row, "attempts")?,
            failures: count(row, "failures")?,
            metadata: row.try_get("metadata")?,
            receiver: row.try_get("receiver")?,
            error: code.map(|code| JobError { code, message: message.unwrap_or_default() }),
            created_at_ms: time(row, "created_at_ms")?,
            started_at_ms: maybe_time(row, "started_at_ms")?,
            ended_at_ms: maybe_time(row, "ended_at_ms")?,
            run_after_ms: time(row, "run_after_ms")?,
            deadline_ms: time(row, "deadline_ms")?,
        })
    }
}

// === impl Particulars ===

impl Particulars {
    /// As they are kept.
    pub(super) fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

// === impl JobResult ===

impl JobResult {
    pub(super) fn read(row: &AnyRow) -> Result<Self, sqlx::Error> {
        let headers: &str = row.try_get("headers")?;
        let status: i64 = row.try_get("status")?;
        let body: Vec<u8> = row.try_get("body")?;
        Ok(Self {
            status: u16::try_from(status).map_err(|_| damaged("status"))?,
            headers: serde_json::from_str(headers).map_err(|_| damaged("headers"))?,
            body: body.into(),
        })
    }
}

/// A number of times.
pub(super) fn count(row: &AnyRow, column: &str) -> Result<u32, sqlx::Error> {
    Ok(u32::try_from(row.try_get::<i64, _>(column)?).unwrap_or_default())
}

/// A moment, in milliseconds since 1970.
pub(super) fn time(row: &AnyRow, column: &str) -> Result<u64, sqlx::Error> {
    Ok(row.try_get::<i64, _>(column)?.max(0).unsigned_abs())
}

/// A moment that may not have come.
pub(super) fn maybe_time(row: &AnyRow, column: &str) -> Result<Option<u64>, sqlx::Error> {
    let time: Option<i64> = row.try_get(column)?;
    Ok(time.map(|ms| ms.max(0).unsigned_abs()))
}

fn damaged(column: &str) -> sqlx::Error {
    sqlx::Error::Decode(format!("the column `{column}` is damaged").into())
}
