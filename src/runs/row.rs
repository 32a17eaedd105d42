//! Rows to values and back.

use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::Row;
use sqlx::any::AnyRow;

use super::{RunRecord, SampleRow, SuiteRow};
use crate::compat::{Answer, Grade, Only, Preference};

/// Every column that a [`RunRecord`] is read from.
pub(super) const RUN: &str = "id, kind, suite, suite_hash, baseline, candidate, depth, only_cases, samples, seed, \
    max_cost_micro_usd, state, reason, created_ms, ended_ms, samples_done, samples_planned, \
    samples_reused, cost_micro_usd, judge, judgement";
/// Every column that a [`SampleRow`] is read from.
pub(super) const SAMPLE: &str = "case_id, side, sample, answer, grade, preference, reused_from, \
    judging_micro_usd";
/// Every column that a [`SuiteRow`] is read from.
pub(super) const SUITE: &str = "id, prompt, hash, text, created_ms";

// === impl RunRecord ===

impl RunRecord {
    pub(super) fn read(row: &AnyRow) -> Result<Self, sqlx::Error> {
        let text = |column| row.try_get::<String, _>(column);
        let judgement: Option<String> = row.try_get("judgement")?;
        let judge: Option<String> = row.try_get("judge")?;
        let only: Option<String> = row.try_get("only_cases")?;
        Ok(Self {
            id: text("id")?,
            kind: word(&text("kind")?)?,
            suite: text("suite")?,
            suite_hash: text("suite_hash")?,
            baseline: json(&text("baseline")?)?,
            candidate: json(&text("candidate")?)?,
            depth: word(&text("depth")?)?,
            only: only.map(|text| Only::parse(&text)).transpose().map_err(|why| decode(&why))?,
            samples: small(row, "samples")?,
            seed: row.try_get::<i64, _>("seed")?.cast_unsigned(),
            max_cost_micro_usd: number(row, "max_cost_micro_usd")?,
            state: word(&text("state")?)?,
            reason: row.try_get("reason")?,
            created_ms: number(row, "created_ms")?,
            ended_ms: optional(row, "ended_ms")?,
            samples_done: number(row, "samples_done")?,
            samples_planned: number(row, "samples_planned")?,
            samples_reused: number(row, "samples_reused")?,
            cost_micro_usd: number(row, "cost_micro_usd")?,
            judge: judge.map(|text| json(&text)).transpose()?,
            judgement: judgement.map(|text| json(&text)).transpose()?,
        })
    }
}

// === impl SampleRow ===

impl SampleRow {
    pub(super) fn read(row: &AnyRow) -> Result<Self, sqlx::Error> {
        let answer: String = row.try_get("answer")?;
        let grade: Option<String> = row.try_get("grade")?;
        Ok(Self {
            case: row.try_get("case_id")?,
            is_candidate: number(row, "side")? == 1,
            sample: small(row, "sample")?,
            answer: json::<Answer>(&answer)?,
            grade: grade.map(|text| json::<Grade>(&text)).transpose()?,
            preference: preference(row)?,
            reused_from: row.try_get("reused_from")?,
            judging_micro_usd: number(row, "judging_micro_usd")?,
        })
    }
}

// === impl SuiteRow ===

impl SuiteRow {
    pub(super) fn read(row: &AnyRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            id: row.try_get("id")?,
            prompt: row.try_get("prompt")?,
            hash: row.try_get("hash")?,
            text: row.try_get("text")?,
            created_ms: number(row, "created_ms")?,
        })
    }
}

pub(super) fn preference(row: &AnyRow) -> Result<Option<Preference>, sqlx::Error> {
    row.try_get::<Option<String>, _>("preference")?.map(|text| word(&text)).transpose()
}

/// Databases count to 2^63 - 1.
pub(super) fn int(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(super) fn number(row: &AnyRow, column: &str) -> Result<u64, sqlx::Error> {
    Ok(row.try_get::<i64, _>(column)?.max(0).unsigned_abs())
}

pub(super) fn small(row: &AnyRow, column: &str) -> Result<u32, sqlx::Error> {
    Ok(u32::try_from(number(row, column)?).unwrap_or(u32::MAX))
}

pub(super) fn optional(row: &AnyRow, column: &str) -> Result<Option<u64>, sqlx::Error> {
    Ok(row.try_get::<Option<i64>, _>(column)?.map(|number| number.max(0).unsigned_abs()))
}

pub(super) fn json<T: DeserializeOwned>(text: &str) -> Result<T, sqlx::Error> {
    serde_json::from_str(text).map_err(|error| sqlx::Error::Decode(error.into()))
}

/// What is stored as JSON. PostgreSQL takes no zero in a text, and answers may have one escaped,
/// which is fine.
pub(super) fn json_text(value: &impl Serialize) -> Result<String, sqlx::Error> {
    serde_json::to_string(value).map_err(|error| sqlx::Error::Encode(error.into()))
}

fn decode(why: &str) -> sqlx::Error {
    sqlx::Error::Decode(why.into())
}

/// An enum by its word.
fn word<T: DeserializeOwned>(text: &str) -> Result<T, sqlx::Error> {
    serde_json::from_value(serde_json::Value::from(text))
        .map_err(|error| sqlx::Error::Decode(error.into()))
}

/// The word of an enum.
pub(super) fn word_of(value: &impl Serialize) -> Result<String, sqlx::Error> {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => Ok(word),
        Ok(other) => Err(sqlx::Error::Encode(format!("{other} is no word").into())),
        Err(error) => Err(sqlx::Error::Encode(error.into())),
    }
}
