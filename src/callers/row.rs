//! Values as columns hold them.

use sqlx::Row;
use sqlx::any::AnyRow;

use super::{KeyHash, Terms};
use crate::units::Priority;

/// Databases count to 2^63 - 1.
pub(super) fn int(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(super) fn count(number: i64) -> u64 {
    number.max(0).unsigned_abs()
}

pub(super) fn time(row: &AnyRow, column: &str) -> Result<Option<u64>, sqlx::Error> {
    Ok(row.try_get::<Option<i64>, _>(column)?.map(count))
}

pub(super) fn priority(row: &AnyRow) -> Result<Priority, sqlx::Error> {
    let level: i64 = row.try_get("priority")?;
    Priority::try_from(count(level)).map_err(|error| sqlx::Error::Decode(error.into()))
}

/// A hash; `None` where it is damaged or missing.
pub(super) fn hash(row: &AnyRow, column: &str) -> Result<Option<KeyHash>, sqlx::Error> {
    let bytes: Option<Vec<u8>> = row.try_get(column)?;
    Ok(bytes.as_deref().and_then(KeyHash::from_bytes))
}

pub(super) fn terms_json(terms: &Terms) -> String {
    serde_json::json!(terms).to_string()
}

pub(super) fn terms(row: &AnyRow) -> Result<Terms, sqlx::Error> {
    let text: String = row.try_get("terms")?;
    serde_json::from_str(&text).map_err(|error| sqlx::Error::Decode(error.into()))
}
