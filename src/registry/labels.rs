//! Labels in the store: what they stand for, and what they stood for.

use serde_json::{Value, json};
use sqlx::{AnyConnection, Row};

use super::Registry;
use super::error::RegistryError;
use super::ledger::{finish, released, take_number};
use super::records::{LabelRecord, shown};
use super::rolled;
use super::row::{LabelRow, count, int, label_columns};
use crate::audit::{self, Actor, Event};
use crate::prompt::{Version, is_label};
use crate::store::StoreError;

/// What shall become of a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// It stands for this version, and is protected or not; `None`: as it was.
    Set {
        /// The version.
        version: Version,
        /// Whether only who insists changes it from then on.
        protected: Option<bool>,
    },
    /// It is deleted.
    Delete,
}

/// A change of a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LabelChange<'a> {
    /// The prompt.
    pub prompt: &'a str,
    /// The label.
    pub label: &'a str,
    /// What shall become of it.
    pub wish: Wish,
    /// The etag that it still has to have; 0: it must not be there.
    pub if_changed: Option<u64>,
    /// Whether it is changed although it is protected.
    pub force: bool,
}

/// A label as it is written.
pub(super) struct LabelWrite<'a> {
    pub(super) prompt: &'a str,
    pub(super) label: &'a str,
    pub(super) version: Option<Version>,
    pub(super) is_protected: bool,
    pub(super) is_forced: bool,
}

/// Changes of a label that are listed.
const MAX_HISTORY: i64 = 1_000;

// === impl Registry ===

impl Registry {
    /// Lets a label stand for a version, or deletes it. The request path knows when this returns;
    /// what changes nothing is not written.
    ///
    /// # Errors
    ///
    /// Any [`RegistryError`] but those of pushes.
    pub async fn set_label(
        &self,
        change: &LabelChange<'_>,
        by: &Actor,
        now_ms: u64,
    ) -> Result<LabelRecord, RegistryError> {
        let &LabelChange { prompt, label, .. } = change;
        if !is_label(label) {
            let problem = "label: it is up to 40 of `a-z`, `0-9` and `-`, a letter first";
            return Err(RegistryError::Field(problem.to_owned()));
        }
        let mut connection = self.shared.store.writer().await?;
        self.seed(&mut connection).await?;
        let (mut transaction, number) = self.begin_change(&mut connection).await?;
        let made = self.write_change(&mut transaction, change, number, (by, now_ms)).await;
        let made = finish(transaction, made).await;
        released(&mut connection, &made);
        if let Some(record) = made? {
            self.on_changed(&mut connection).await;
            return Ok(record);
        }
        let record = self.labels(prompt)?.into_iter().find(|one| one.label == label);
        record.ok_or_else(|| unknown(prompt, label))
    }

    /// Writes what may be written; nothing where nothing would be different.
    async fn write_change(
        &self,
        connection: &mut AnyConnection,
        change: &LabelChange<'_>,
        number: i64,
        (by, now_ms): (&Actor, u64),
    ) -> Result<Option<LabelRecord>, RegistryError> {
        let &LabelChange { prompt, label, wish, .. } = change;
        let old = self.labels(prompt)?.into_iter().find(|old| old.label == label);
        let (version, protected) = match wish {
            Wish::Set { version, protected } => {
                self.version(prompt, version)?;
                (Some(version), protected)
            }
            Wish::Delete if old.is_none() => return Err(unknown(prompt, label)),
            Wish::Delete => (None, Some(false)),
        };
        check(change, old.as_ref())?;
        let was_protected = old.as_ref().is_some_and(|old| old.is_protected);
        let is_protected = protected.unwrap_or(was_protected);
        if old
            .as_ref()
            .is_some_and(|old| (old.version, old.is_protected) == (version, is_protected))
        {
            return Ok(None);
        }
        let moved = (old.as_ref().and_then(|old| old.version), version);
        rolled::check(connection, (prompt, label), moved, change.force).await?;
        let is_forced = was_protected && change.force;
        let write = LabelWrite { prompt, label, version, is_protected, is_forced };
        let failed = StoreError::query("change the label");
        write_label(connection, &write, number, by, now_ms).await.map_err(&failed)?;
        audit::record(connection, by, &write.event(old.as_ref()), now_ms).await.map_err(failed)?;
        Ok(Some(LabelRecord {
            label: label.to_owned(),
            version,
            is_protected,
            is_forced,
            changed: count(number),
            changed_at_ms: Some(now_ms),
            changed_by: Some(by.name.clone()),
        }))
    }

    /// What a label stood for, newest first.
    ///
    /// # Errors
    ///
    /// [`RegistryError::UnknownLabel`] where it never stood for anything, or [`RegistryError::Store`].
    pub async fn label_history(
        &self,
        prompt: &str,
        label: &str,
    ) -> Result<Vec<LabelRecord>, RegistryError> {
        let failed = StoreError::query("read the history of the label");
        let mut reader = self.shared.store.reader().await?;
        let rows = sqlx::query(concat!(
            "SELECT is_forced, ",
            label_columns!(),
            " FROM prompt_label_changes WHERE prompt = $1 AND label = $2
             ORDER BY changed DESC LIMIT $3",
        ))
        .bind(prompt)
        .bind(label)
        .bind(MAX_HISTORY)
        .fetch_all(&mut *reader)
        .await
        .map_err(&failed)?;
        let read = |row| {
            let is_forced = row_is_forced(row)?;
            Ok(LabelRecord { is_forced, ..LabelRecord::of(&LabelRow::read(row)?) })
        };
        let records: Vec<_> =
            rows.iter().map(read).collect::<Result<_, sqlx::Error>>().map_err(failed)?;
        if records.is_empty() {
            return Err(unknown(prompt, label));
        }
        Ok(records)
    }
}

fn unknown(prompt: &str, label: &str) -> RegistryError {
    RegistryError::UnknownLabel { id: shown(prompt), label: shown(label) }
}

fn row_is_forced(row: &sqlx::any::AnyRow) -> Result<bool, sqlx::Error> {
    Ok(row.try_get::<i64, _>("is_forced")? != 0)
}

/// Whether a change may be made to what is there.
fn check(change: &LabelChange<'_>, old: Option<&LabelRecord>) -> Result<(), RegistryError> {
    let changed = old.map_or(0, |old| old.changed);
    if change.if_changed.is_some_and(|wanted| wanted != changed) {
        let stands_for = old.and_then(|old| old.version).map(|version| version.to_string());
        return Err(RegistryError::Changed {
            what: format!("the label `{}`", change.label),
            changed,
            stands_for: stands_for.unwrap_or_else(|| "nothing".to_owned()),
        });
    }
    match old {
        Some(old) if old.is_protected && !change.force => {
            Err(RegistryError::Protected { label: change.label.to_owned() })
        }
        Some(_) | None => Ok(()),
    }
}

/// Lets a label stand for `to`, in a transaction of the caller's, if it stands for `from`. It may
/// be protected: who calls this has asked before. `false` where it stands for something else.
///
/// Whoever commits then calls [`Registry::on_changed`]. Other changes of prompts wait until that
/// transaction ends.
///
/// # Errors
///
/// Where the database fails.
pub async fn move_label(
    connection: &mut AnyConnection,
    (prompt, label): (&str, &str),
    (from, to): (Version, Version),
    by: &Actor,
    now_ms: u64,
) -> Result<bool, sqlx::Error> {
    let number = take_number(&mut *connection).await?;
    let old = sqlx::query(concat!(
        "SELECT ",
        label_columns!(),
        " FROM prompt_labels WHERE prompt = $1 AND label = $2 AND version = $3"
    ))
    .bind(prompt)
    .bind(label)
    .bind(from.to_string())
    .fetch_optional(&mut *connection)
    .await?;
    let Some(old) = old else { return Ok(false) };
    let old = LabelRecord::of(&LabelRow::read(&old)?);
    let (version, is_protected) = (Some(to), old.is_protected);
    let write = LabelWrite { prompt, label, version, is_protected, is_forced: is_protected };
    write_label(connection, &write, number, by, now_ms).await?;
    audit::record(connection, by, &write.event(Some(&old)), now_ms).await?;
    Ok(true)
}

/// Lets every label that stands for `from` stand for `to`, as [`move_label`] does. The answer is
/// which those were.
///
/// # Errors
///
/// Where the database fails.
pub async fn move_labels(
    connection: &mut AnyConnection,
    prompt: &str,
    (from, to): (Version, Version),
    by: &Actor,
    now_ms: u64,
) -> Result<Vec<String>, sqlx::Error> {
    let labels =
        "SELECT label FROM prompt_labels WHERE prompt = $1 AND version = $2 ORDER BY label";
    let labels: Vec<String> = sqlx::query_scalar(labels)
        .bind(prompt)
        .bind(from.to_string())
        .fetch_all(&mut *connection)
        .await?;
    let mut moved = Vec::new();
    for label in labels {
        if move_label(connection, (prompt, &label), (from, to), by, now_ms).await? {
            moved.push(label);
        }
    }
    Ok(moved)
}

/// Writes what a label stands for, and adds it to the label's history.
pub(super) async fn write_label(
    connection: &mut AnyConnection,
    write: &LabelWrite<'_>,
    number: i64,
    by: &Actor,
    now_ms: u64,
) -> Result<(), sqlx::Error> {
    let version = write.version.map(|version| version.to_string());
    sqlx::query(
        "INSERT INTO prompt_labels
         (prompt, label, version, is_protected, changed, changed_at_ms, changed_by)
         VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (prompt, label) DO UPDATE SET
         version = excluded.version, is_protected = excluded.is_protected,
         changed = excluded.changed, changed_at_ms = excluded.changed_at_ms,
         changed_by = excluded.changed_by",
    )
    .bind(write.prompt)
    .bind(write.label)
    .bind(version.as_deref())
    .bind(i64::from(write.is_protected))
    .bind(number)
    .bind(int(now_ms))
    .bind(&by.name)
    .execute(&mut *connection)
    .await?;
    sqlx::query(
        "INSERT INTO prompt_label_changes
         (prompt, label, changed, version, is_protected, is_forced, changed_at_ms, changed_by)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
    )
    .bind(write.prompt)
    .bind(write.label)
    .bind(number)
    .bind(version.as_deref())
    .bind(i64::from(write.is_protected))
    .bind(i64::from(write.is_forced))
    .bind(int(now_ms))
    .bind(&by.name)
    .execute(connection)
    .await
    .map(drop)
}

// === impl LabelWrite ===

impl LabelWrite<'_> {
    fn event(&self, old: Option<&LabelRecord>) -> Event {
        let shown = |version: Option<Version>, is_protected: bool| -> Value {
            json!({"version": version.map(|version| version.to_string()), "protected": is_protected})
        };
        let mut after = shown(self.version, self.is_protected);
        if let Some(members) = after.as_object_mut().filter(|_| self.is_forced) {
            members.insert("forced".to_owned(), Value::Bool(true));
        }
        Event {
            action: if self.version.is_some() { "prompt.label" } else { "prompt.unlabel" },
            resource: format!("prompts/{}/labels/{}", self.prompt, self.label),
            before: old.map(|old| shown(old.version, old.is_protected)),
            after: Some(after),
        }
    }
}
