//! Rows, as columns hold them and as the snapshot on disk keeps them.

use serde::{Deserialize, Serialize};
use sqlx::Row;
use sqlx::any::AnyRow;

/// A version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct VersionRow {
    pub(super) prompt: String,
    pub(super) version: String,
    pub(super) hash: String,
    /// Canonical JSON.
    pub(super) content: String,
    pub(super) origin: String,
    pub(super) deprecated_at: Option<String>,
    pub(super) deprecation_reason: Option<String>,
    pub(super) changed: i64,
    pub(super) created_at_ms: u64,
    pub(super) created_by: String,
}

/// A label, or a change of one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LabelRow {
    pub(super) prompt: String,
    pub(super) label: String,
    /// `None` where it was deleted.
    pub(super) version: Option<String>,
    pub(super) is_protected: bool,
    pub(super) changed: i64,
    pub(super) changed_at_ms: u64,
    pub(super) changed_by: String,
}

/// Every column of a [`VersionRow`].
macro_rules! version_columns {
    () => {
        "prompt, version, hash, content, origin, deprecated_at, deprecation_reason, changed, \
         created_at_ms, created_by"
    };
}

/// Every column of a [`LabelRow`].
macro_rules! label_columns {
    () => {
        "prompt, label, version, is_protected, changed, changed_at_ms, changed_by"
    };
}

pub(super) use {label_columns, version_columns};

/// Databases count to 2^63 - 1.
pub(super) fn int(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(super) fn count(number: i64) -> u64 {
    number.max(0).unsigned_abs()
}

// === impl VersionRow ===

impl VersionRow {
    pub(super) fn read(row: &AnyRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            prompt: row.try_get("prompt")?,
            version: row.try_get("version")?,
            hash: row.try_get("hash")?,
            content: row.try_get("content")?,
            origin: row.try_get("origin")?,
            deprecated_at: row.try_get("deprecated_at")?,
            deprecation_reason: row.try_get("deprecation_reason")?,
            changed: row.try_get("changed")?,
            created_at_ms: count(row.try_get("created_at_ms")?),
            created_by: row.try_get("created_by")?,
        })
    }
}

// === impl LabelRow ===

impl LabelRow {
    pub(super) fn read(row: &AnyRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            prompt: row.try_get("prompt")?,
            label: row.try_get("label")?,
            version: row.try_get("version")?,
            is_protected: row.try_get::<i64, _>("is_protected")? != 0,
            changed: row.try_get("changed")?,
            changed_at_ms: count(row.try_get("changed_at_ms")?),
            changed_by: row.try_get("changed_by")?,
        })
    }
}
