//! Keys in the store: making, listing, changing, rotating and revoking them, and reading them back
//! for the table of the request path.

use std::time::Duration;

use sqlx::{Any, AnyConnection, Transaction};

use super::error::{KeyError, expect_one, expect_version};
use super::record::{KeyChange, KeyRecord, StoredKey};
use super::row::{self, int};
use super::teams::{StoredTeam, read_teams};
use super::{Callers, SecretKey};
use crate::audit::{self, Actor, Event};
use crate::ids::{CallerId, TeamId};
use crate::store::{self, StoreError};
use crate::units::Priority;

/// What counts the changes of callers.
const REVISION: &str = "callers";
/// The longest time for which two secrets of a key are valid.
const MAX_OVERLAP: Duration = Duration::from_secs(30 * 86_400);
/// Every column that a [`KeyRecord`] is read from.
macro_rules! columns {
    () => {
        "id, name, hint, priority, team, terms, version, created_at_ms, expires_at_ms, \
         previous_until_ms, revoked_at_ms"
    };
}

// === impl Callers ===

impl Callers {
    /// Makes a key with nothing but a name and a priority, as the program itself does.
    ///
    /// # Errors
    ///
    /// As [`Callers::create_as`].
    pub async fn create(
        &self,
        name: &str,
        priority: Priority,
        now_ms: u64,
    ) -> Result<(KeyRecord, SecretKey), KeyError> {
        let priority = Some(priority);
        let change = KeyChange { name: Some(name.to_owned()), priority, ..KeyChange::default() };
        self.create_as(&change, &Actor::gateway(), now_ms).await
    }

    /// The same with an id that is given and not random, for rehearsals: what is decided by who
    /// calls is then alike in every run.
    ///
    /// # Errors
    ///
    /// As [`Self::create`]; [`KeyError::Store`] where there is a key with this id.
    pub async fn create_under(
        &self,
        id: CallerId,
        name: &str,
        priority: Priority,
        now_ms: u64,
    ) -> Result<SecretKey, KeyError> {
        let priority = Some(priority);
        let change = KeyChange { name: Some(name.to_owned()), priority, ..KeyChange::default() };
        let secret = SecretKey::generate();
        let record = KeyRecord { id, ..KeyRecord::new(&change, &secret, now_ms)? };
        self.insert(&record, &secret, &Actor::gateway()).await?;
        Ok(secret)
    }

    /// Makes a key. The secret is returned this once and is not kept.
    ///
    /// # Errors
    ///
    /// [`KeyError::Name`], [`KeyError::Terms`], [`KeyError::UnknownTeam`] or [`KeyError::Store`].
    pub async fn create_as(
        &self,
        new: &KeyChange,
        by: &Actor,
        now_ms: u64,
    ) -> Result<(KeyRecord, SecretKey), KeyError> {
        let secret = SecretKey::generate();
        let record = KeyRecord::new(new, &secret, now_ms)?;
        self.insert(&record, &secret, by).await?;
        Ok((record, secret))
    }

    async fn insert(
        &self,
        record: &KeyRecord,
        secret: &SecretKey,
        by: &Actor,
    ) -> Result<(), KeyError> {
        let now_ms = record.created_at_ms;
        let failed = StoreError::query("store the key");
        let kind = self.shared.store.kind();
        let mut connection = self.shared.store.writer().await?;
        let mut transaction = store::begin(&mut connection, kind).await.map_err(&failed)?;
        hold_team(&mut transaction, record.team.as_ref()).await?;
        sqlx::query(
            "INSERT INTO keys (id, name, hash, hint, priority, team, terms, version,
             created_at_ms, expires_at_ms) VALUES ($1, $2, $3, $4, $5, $6, $7, 1, $8, $9)",
        )
        .bind(record.id.as_str())
        .bind(&record.name)
        .bind(secret.hash().as_bytes())
        .bind(&record.hint)
        .bind(i64::from(record.priority.level()))
        .bind(record.team.as_ref().map(TeamId::as_str))
        .bind(row::terms_json(&record.terms))
        .bind(int(now_ms))
        .bind(record.expires_at_ms.map(int))
        .execute(&mut *transaction)
        .await
        .map_err(&failed)?;
        let event = record.event("key.create", None);
        commit(transaction, by, &event, now_ms).await.map_err(&failed)?;
        self.on_changed(&mut connection).await;
        Ok(())
    }

    /// Keys, newest first: those after the key with the id `after`, at most `limit`.
    ///
    /// # Errors
    ///
    /// [`KeyError::Unknown`] where `after` is no key; [`KeyError::Store`].
    pub async fn list(&self, after: Option<&str>, limit: u32) -> Result<Vec<KeyRecord>, KeyError> {
        let failed = StoreError::query("list the keys");
        let mut reader = self.shared.store.reader().await?;
        let place: i64 = match after {
            None => i64::MAX,
            Some(id) => sqlx::query_scalar("SELECT created_at_ms FROM keys WHERE id = $1")
                .bind(id)
                .fetch_optional(&mut *reader)
                .await
                .map_err(&failed)?
                .ok_or_else(|| KeyError::Unknown { id: id.to_owned() })?,
        };
        let rows = sqlx::query(concat!(
            "SELECT ",
            columns!(),
            " FROM keys WHERE (created_at_ms, id) < ($1, $2)
             ORDER BY created_at_ms DESC, id DESC LIMIT $3",
        ))
        .bind(place)
        .bind(after.unwrap_or_default())
        .bind(i64::from(limit))
        .fetch_all(&mut *reader)
        .await
        .map_err(&failed)?;
        let records = rows.iter().map(KeyRecord::read).collect::<Result<_, _>>();
        Ok(records.map_err(failed)?)
    }

    /// One key.
    ///
    /// # Errors
    ///
    /// [`KeyError::Unknown`] or [`KeyError::Store`].
    pub async fn find(&self, id: &str) -> Result<KeyRecord, KeyError> {
        let mut reader = self.shared.store.reader().await?;
        find_record(&mut reader, id).await
    }

    /// Changes a key, if it still has the version `if_version`, where that is given. The request
    /// path knows when this returns.
    ///
    /// # Errors
    ///
    /// Any [`KeyError`].
    pub async fn change(
        &self,
        id: &str,
        change: &KeyChange,
        if_version: Option<u64>,
        by: &Actor,
        now_ms: u64,
    ) -> Result<KeyRecord, KeyError> {
        let failed = StoreError::query("change the key");
        let kind = self.shared.store.kind();
        let mut connection = self.shared.store.writer().await?;
        let mut transaction = store::begin(&mut connection, kind).await.map_err(&failed)?;
        let old = find_record(&mut transaction, id).await?;
        expect_version(old.version, if_version)?;
        let new = old.changed(change, now_ms)?;
        if new == old {
            return Ok(old);
        }
        if new.team != old.team {
            hold_team(&mut transaction, new.team.as_ref()).await?;
        }
        let changed = sqlx::query(
            "UPDATE keys SET name = $1, priority = $2, team = $3, terms = $4, version = $5,
             expires_at_ms = $6, revoked_at_ms = $7 WHERE id = $8 AND version = $9",
        )
        .bind(&new.name)
        .bind(i64::from(new.priority.level()))
        .bind(new.team.as_ref().map(TeamId::as_str))
        .bind(row::terms_json(&new.terms))
        .bind(int(new.version))
        .bind(new.expires_at_ms.map(int))
        .bind(new.revoked_at_ms.map(int))
        .bind(id)
        .bind(int(old.version))
        .execute(&mut *transaction)
        .await
        .map_err(&failed)?;
        expect_one(changed.rows_affected(), old.version)?;
        let action = if change.revoke { "key.revoke" } else { "key.change" };
        let event = new.event(action, Some(&old));
        commit(transaction, by, &event, now_ms).await.map_err(&failed)?;
        self.on_changed(&mut connection).await;
        Ok(new)
    }

    /// Gives a key a new secret. The old one stays valid for `overlap`, at most 30 days; one that
    /// was old already ends now.
    ///
    /// # Errors
    ///
    /// [`KeyError::Revoked`], [`KeyError::Terms`] where `overlap` is too long; as
    /// [`Callers::change`].
    pub async fn rotate(
        &self,
        id: &str,
        overlap: Duration,
        if_version: Option<u64>,
        by: &Actor,
        now_ms: u64,
    ) -> Result<(KeyRecord, SecretKey), KeyError> {
        if overlap > MAX_OVERLAP {
            return Err(KeyError::Terms("overlap: must be at most 30d".to_owned()));
        }
        let failed = StoreError::query("rotate the key");
        let kind = self.shared.store.kind();
        let mut connection = self.shared.store.writer().await?;
        let mut transaction = store::begin(&mut connection, kind).await.map_err(&failed)?;
        let old = find_record(&mut transaction, id).await?;
        expect_version(old.version, if_version)?;
        if old.revoked_at_ms.is_some() {
            return Err(KeyError::Revoked);
        }
        let secret = SecretKey::generate();
        let overlap_ms = u64::try_from(overlap.as_millis()).unwrap_or(u64::MAX);
        let new = KeyRecord {
            hint: secret.hint(),
            version: old.version + 1,
            previous_until_ms: Some(now_ms.saturating_add(overlap_ms)),
            ..old.clone()
        };
        let changed = sqlx::query(
            "UPDATE keys SET previous_hash = hash, hash = $1, hint = $2, previous_until_ms = $3,
             version = $4 WHERE id = $5 AND version = $6",
        )
        .bind(secret.hash().as_bytes())
        .bind(&new.hint)
        .bind(new.previous_until_ms.map(int))
        .bind(int(new.version))
        .bind(id)
        .bind(int(old.version))
        .execute(&mut *transaction)
        .await
        .map_err(&failed)?;
        expect_one(changed.rows_affected(), old.version)?;
        let event = new.event("key.rotate", Some(&old));
        commit(transaction, by, &event, now_ms).await.map_err(&failed)?;
        self.on_changed(&mut connection).await;
        Ok((new, secret))
    }
}

/// Reads all that the request path needs, and how many changes that has seen.
pub(super) async fn read_all(
    connection: &mut AnyConnection,
) -> Result<(i64, Vec<StoredKey>, Vec<StoredTeam>), sqlx::Error> {
    // First the count: what is changed meanwhile is read again, never missed.
    let revision = read_revision(connection).await?;
    let rows = sqlx::query(
        "SELECT id, name, hash, previous_hash, priority, team, terms, expires_at_ms,
         previous_until_ms, revoked_at_ms FROM keys",
    )
    .fetch_all(&mut *connection)
    .await?;
    let keys = rows.iter().map(StoredKey::read).collect::<Result<Vec<_>, _>>()?;
    Ok((revision, keys.into_iter().flatten().collect(), read_teams(connection).await?))
}

/// How many changes of callers the store has seen.
pub(super) async fn read_revision(connection: &mut AnyConnection) -> Result<i64, sqlx::Error> {
    let revision = sqlx::query_scalar("SELECT revision FROM revisions WHERE name = $1");
    Ok(revision.bind(REVISION).fetch_optional(connection).await?.unwrap_or(0))
}

/// Ends the transaction of a change, with its record in the audit log, and so that all nodes learn
/// of it.
pub(super) async fn commit(
    mut transaction: Transaction<'_, Any>,
    by: &Actor,
    event: &Event,
    now_ms: u64,
) -> Result<(), sqlx::Error> {
    audit::record(&mut transaction, by, event, now_ms).await?;
    count_change(&mut transaction).await?;
    transaction.commit().await
}

/// Tells all nodes, with the transaction, that something about callers is different.
async fn count_change(connection: &mut AnyConnection) -> Result<(), sqlx::Error> {
    let count = "INSERT INTO revisions (name, revision) VALUES ($1, 1)
                 ON CONFLICT (name) DO UPDATE SET revision = revisions.revision + 1";
    sqlx::query(count).bind(REVISION).execute(connection).await.map(drop)
}

/// Makes sure that a team is there, and stays until the transaction ends.
async fn hold_team(connection: &mut AnyConnection, team: Option<&TeamId>) -> Result<(), KeyError> {
    let Some(team) = team else { return Ok(()) };
    let hold = "UPDATE teams SET version = version WHERE id = $1 AND deleted_at_ms IS NULL";
    let held = sqlx::query(hold).bind(team.as_str()).execute(connection).await;
    match held.map_err(StoreError::query("read the team"))?.rows_affected() {
        0 => Err(KeyError::UnknownTeam { id: team.to_string() }),
        _ => Ok(()),
    }
}

async fn find_record(connection: &mut AnyConnection, id: &str) -> Result<KeyRecord, KeyError> {
    let failed = StoreError::query("read the key");
    let select = sqlx::query(concat!("SELECT ", columns!(), " FROM keys WHERE id = $1"));
    let row = select.bind(id).fetch_optional(connection).await.map_err(&failed)?;
    let row = row.ok_or_else(|| KeyError::Unknown { id: id.to_owned() })?;
    Ok(KeyRecord::read(&row).map_err(failed)?)
}
