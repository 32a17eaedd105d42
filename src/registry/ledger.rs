//! Versions in the store: pushing them, and that they should not be used any more.

use serde_json::{Value, json};
use sqlx::{Any, AnyConnection, Transaction};

use super::error::RegistryError;
use super::records::VersionRecord;
use super::refresh::{REVISION, Reach};
use super::row::int;
use super::{MAX_VERSIONS, Origin, Registry, named};
use crate::audit::{self, Actor, Event};
use crate::prompt::{Deprecation, Prompt, Version};
use crate::store::{self, Leased, StoreError};

/// What becomes of a version's deprecation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeprecationChange {
    /// Since when and why it should not be used; `None` where it may be again, as far as its file,
    /// if it has one, does not say otherwise.
    pub to: Option<Deprecation>,
    /// The etag that the version still has to have.
    pub if_changed: Option<u64>,
}

/// The most that all versions together may take in the store.
const MAX_BYTES: i64 = 256 << 20;

// === impl Registry ===

impl Registry {
    /// Puts a version into the registry. The request path knows it when this returns. `true` where
    /// it was not there yet; one that is there and says the same stays as it is.
    ///
    /// # Errors
    ///
    /// [`RegistryError::Exists`], [`RegistryError::Number`], [`RegistryError::Full`],
    /// [`RegistryError::Field`] where it is too large, or [`RegistryError::Store`].
    pub async fn push(
        &self,
        prompt: &Prompt,
        by: &Actor,
        now_ms: u64,
    ) -> Result<(VersionRecord, bool), RegistryError> {
        let content = checked_content(prompt).map_err(RegistryError::Field)?;
        let mut connection = self.shared.store.writer().await?;
        let (mut transaction, number) = self.begin_change(&mut connection).await?;
        let made = self.write(&mut transaction, (prompt, &content, number), (by, now_ms)).await;
        let made = finish(transaction, made).await;
        released(&mut connection, &made);
        let is_new = made?.is_some();
        if is_new {
            self.on_changed(&mut connection).await;
        }
        Ok((self.version(prompt.id.as_str(), prompt.version)?, is_new))
    }

    /// Writes a version that may be written; nothing where it is there.
    async fn write(
        &self,
        connection: &mut AnyConnection,
        (prompt, content, number): (&Prompt, &str, i64),
        (by, now_ms): (&Actor, u64),
    ) -> Result<Option<()>, RegistryError> {
        let (id, version) = (prompt.id.as_str(), prompt.version);
        let known = self.prompts();
        if let Some(there) = known.version(id, version) {
            if there.hash != prompt.hash {
                let (name, hash) = (named(id, version), there.hash.to_string());
                return Err(RegistryError::Exists { name, hash });
            }
            let table = self.shared.table.load();
            if table.as_deref().is_some_and(|table| table.version(&prompt.id, version).is_some()) {
                return Ok(None);
            }
        }
        if let Some(problem) = known.contradiction(prompt) {
            return Err(RegistryError::Number(problem));
        }
        check_room(connection, content).await?;
        let failed = StoreError::query("store the version");
        insert(connection, prompt, content, (Origin::Push, number), (&by.name, now_ms))
            .await
            .map_err(&failed)?;
        let event = Event {
            action: "prompt.push",
            resource: resource(id, version),
            before: None,
            after: Some(json!({ "hash": prompt.hash.to_string() })),
        };
        audit::record(connection, by, &event, now_ms).await.map_err(failed)?;
        Ok(Some(()))
    }

    /// Says of a version that it should not be used any more, or that it may be again.
    ///
    /// # Errors
    ///
    /// [`RegistryError::UnknownPrompt`], [`RegistryError::UnknownVersion`],
    /// [`RegistryError::Changed`] or [`RegistryError::Store`].
    pub async fn deprecate(
        &self,
        id: &str,
        version: Version,
        change: &DeprecationChange,
        by: &Actor,
        now_ms: u64,
    ) -> Result<VersionRecord, RegistryError> {
        let mut connection = self.shared.store.writer().await?;
        self.seed(&mut connection).await?;
        let (mut transaction, number) = self.begin_change(&mut connection).await?;
        let of = (id, version, number);
        let made = self.write_deprecation(&mut transaction, of, change, (by, now_ms)).await;
        let made = finish(transaction, made).await;
        released(&mut connection, &made);
        if made?.is_some() {
            self.on_changed(&mut connection).await;
        }
        self.version(id, version)
    }

    async fn write_deprecation(
        &self,
        connection: &mut AnyConnection,
        (id, version, number): (&str, Version, i64),
        change: &DeprecationChange,
        (by, now_ms): (&Actor, u64),
    ) -> Result<Option<()>, RegistryError> {
        let failed = StoreError::query("change the version");
        let old = self.version(id, version)?;
        if change.if_changed.is_some_and(|wanted| wanted != old.changed) {
            return Err(RegistryError::Changed {
                what: named(id, version),
                changed: old.changed,
                stands_for: "itself".to_owned(),
            });
        }
        if change.to == old.deprecated {
            return Ok(None);
        }
        let (at, reason) = match &change.to {
            Some(Deprecation { at, reason }) => (Some(at.as_str()), Some(reason.as_str())),
            None => (None, None),
        };
        sqlx::query(
            "UPDATE prompt_versions SET deprecated_at = $1, deprecation_reason = $2, changed = $3
             WHERE prompt = $4 AND version = $5",
        )
        .bind(at)
        .bind(reason)
        .bind(number)
        .bind(id)
        .bind(version.to_string())
        .execute(&mut *connection)
        .await
        .map_err(&failed)?;
        let shown = |deprecated: Option<&Deprecation>| {
            deprecated.map(|one| json!({"deprecated_at": one.at, "deprecation_reason": one.reason}))
        };
        let event = Event {
            action: "prompt.deprecate",
            resource: resource(id, version),
            before: shown(old.deprecated.as_ref()),
            after: shown(change.to.as_ref()),
        };
        audit::record(connection, by, &event, now_ms).await.map_err(failed)?;
        Ok(Some(()))
    }

    /// Begins a change and takes its number. Until it ends nobody else changes prompts, and this
    /// node knows all that was changed before. Ends with [`finish`] and [`released`].
    pub(super) async fn begin_change<'c>(
        &self,
        connection: &'c mut Leased<'_>,
    ) -> Result<(Transaction<'c, Any>, i64), StoreError> {
        connection.set_held(true);
        let failed = StoreError::query("begin a change of prompts");
        let kind = self.shared.store.kind();
        let mut transaction = store::begin(connection, kind).await.map_err(&failed)?;
        let number = take_number(&mut transaction).await.map_err(failed)?;
        self.read(&mut transaction, Reach::NewsTo(number - 1)).await?;
        Ok((transaction, number))
    }
}

/// Commits what was made, and takes back what was not.
///
/// # Errors
///
/// That of `made`, or that the store failed.
pub(super) async fn finish<T>(
    transaction: Transaction<'_, Any>,
    made: Result<Option<T>, RegistryError>,
) -> Result<Option<T>, RegistryError> {
    let failed = StoreError::query("end a change of prompts");
    match &made {
        Ok(Some(_)) => transaction.commit().await.map_err(failed)?,
        Ok(None) | Err(_) => transaction.rollback().await.map_err(failed)?,
    }
    made
}

/// Keeps a connection whose change has ended in order.
pub(super) fn released<T>(connection: &mut Leased<'_>, made: &Result<T, RegistryError>) {
    connection.set_held(matches!(made, Err(RegistryError::Store(_))));
}

/// Counts a change of prompts and holds the count until the transaction ends.
pub(super) async fn take_number(connection: &mut AnyConnection) -> Result<i64, sqlx::Error> {
    let count = "INSERT INTO revisions (name, revision) VALUES ($1, 1)
                 ON CONFLICT (name) DO UPDATE SET revision = revisions.revision + 1
                 RETURNING revision";
    sqlx::query_scalar(count).bind(REVISION).fetch_one(connection).await
}

/// Writes a version, unless it is there.
pub(super) async fn insert(
    connection: &mut AnyConnection,
    prompt: &Prompt,
    content: &str,
    (origin, number): (Origin, i64),
    (by, now_ms): (&str, u64),
) -> Result<bool, sqlx::Error> {
    let deprecated = prompt.deprecated.as_ref();
    let inserted = sqlx::query(
        "INSERT INTO prompt_versions (prompt, version, hash, content, origin, deprecated_at,
         deprecation_reason, changed, created_at_ms, created_by)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT (prompt, version) DO NOTHING",
    )
    .bind(prompt.id.as_str())
    .bind(prompt.version.to_string())
    .bind(prompt.hash.to_string())
    .bind(content)
    .bind(origin.as_str())
    .bind(deprecated.map(|deprecated| deprecated.at.as_str()))
    .bind(deprecated.map(|deprecated| deprecated.reason.as_str()))
    .bind(number)
    .bind(int(now_ms))
    .bind(by)
    .execute(connection)
    .await?;
    Ok(inserted.rows_affected() > 0)
}

/// What is kept of a version.
///
/// # Errors
///
/// Why it cannot be kept.
pub(super) fn checked_content(prompt: &Prompt) -> Result<String, String> {
    let content: Value = prompt.content();
    let content = content.to_string();
    if content.len() > Prompt::MAX_CONTENT_BYTES {
        let most = Prompt::MAX_CONTENT_BYTES;
        return Err(format!(
            "a version must not take more than {most} bytes, this takes {}",
            content.len()
        ));
    }
    // PostgreSQL takes none.
    if content.contains("\\u0000") {
        return Err("no text may hold a NUL".to_owned());
    }
    Ok(content)
}

async fn check_room(connection: &mut AnyConnection, content: &str) -> Result<(), RegistryError> {
    let failed = StoreError::query("count the versions");
    let versions: i64 = sqlx::query_scalar("SELECT count(*) FROM prompt_versions")
        .fetch_one(&mut *connection)
        .await
        .map_err(&failed)?;
    if usize::try_from(versions).is_ok_and(|versions| versions >= MAX_VERSIONS) {
        return Err(RegistryError::Full(format!("there are {MAX_VERSIONS} versions already")));
    }
    let bytes = "SELECT CAST(coalesce(sum(length(content)), 0) AS BIGINT) FROM prompt_versions";
    let bytes: i64 = sqlx::query_scalar(bytes).fetch_one(connection).await.map_err(failed)?;
    if bytes.saturating_add(i64::try_from(content.len()).unwrap_or(i64::MAX)) > MAX_BYTES {
        return Err(RegistryError::Full(format!("all versions would take over {MAX_BYTES} bytes")));
    }
    Ok(())
}

/// A version as the audit log names it.
fn resource(id: &str, version: Version) -> String {
    format!("prompts/{id}/versions/{version}")
}
