//! Teams in the store. What a team may do holds for all its keys together.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row};

use super::error::{KeyError, checked_name, expect_one, expect_version};
use super::key::random_base62;
use super::ledger::commit;
use super::record::ID_CHARS;
use super::row::{self, count, int};
use super::{Callers, Team, Terms, TermsChange};
use crate::audit::{Actor, Event};
use crate::ids::TeamId;
use crate::store::{self, StoreError};

/// A team as people see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TeamRecord {
    /// Its public id.
    pub id: TeamId,
    /// The name the operator gave it.
    pub name: String,
    /// What all its keys together may do.
    pub terms: Terms,
    /// Counts its changes, from 1.
    pub version: u64,
    /// When it was made, in milliseconds since 1970.
    pub created_at_ms: u64,
}

/// A team as the request path needs it, and as the snapshot keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StoredTeam {
    pub(super) id: TeamId,
    pub(super) name: String,
    pub(super) terms: Terms,
}

// === impl Callers ===

impl Callers {
    /// Makes a team.
    ///
    /// # Errors
    ///
    /// [`KeyError::Name`], [`KeyError::Terms`] or [`KeyError::Store`].
    pub async fn create_team(
        &self,
        name: &str,
        change: &TermsChange,
        by: &Actor,
        now_ms: u64,
    ) -> Result<TeamRecord, KeyError> {
        let record = TeamRecord {
            id: TeamId::new(format!("team_{}", random_base62(ID_CHARS))),
            name: checked_name(name)?.to_owned(),
            terms: Terms::default().changed(change)?,
            version: 1,
            created_at_ms: now_ms,
        };
        let failed = StoreError::query("store the team");
        let mut connection = self.shared.store.writer().await?;
        let kind = self.shared.store.kind();
        let mut transaction = store::begin(&mut connection, kind).await.map_err(&failed)?;
        sqlx::query(
            "INSERT INTO teams (id, name, terms, version, created_at_ms)
             VALUES ($1, $2, $3, 1, $4)",
        )
        .bind(record.id.as_str())
        .bind(&record.name)
        .bind(row::terms_json(&record.terms))
        .bind(int(now_ms))
        .execute(&mut *transaction)
        .await
        .map_err(&failed)?;
        let event = record.event("team.create", None, Some(&record));
        commit(transaction, by, &event, now_ms).await.map_err(&failed)?;
        self.on_changed(&mut connection).await;
        Ok(record)
    }

    /// Teams, newest first: those after the team with the id `after`, at most `limit`.
    ///
    /// # Errors
    ///
    /// [`KeyError::UnknownTeam`] where `after` is no team; [`KeyError::Store`].
    pub async fn list_teams(
        &self,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<TeamRecord>, KeyError> {
        let failed = StoreError::query("list the teams");
        let mut reader = self.shared.store.reader().await?;
        let place: i64 = match after {
            None => i64::MAX,
            Some(id) => sqlx::query_scalar("SELECT created_at_ms FROM teams WHERE id = $1")
                .bind(id)
                .fetch_optional(&mut *reader)
                .await
                .map_err(&failed)?
                .ok_or_else(|| KeyError::UnknownTeam { id: id.to_owned() })?,
        };
        let rows = sqlx::query(
            "SELECT id, name, terms, version, created_at_ms FROM teams
             WHERE deleted_at_ms IS NULL AND (created_at_ms, id) < ($1, $2)
             ORDER BY created_at_ms DESC, id DESC LIMIT $3",
        )
        .bind(place)
        .bind(after.unwrap_or_default())
        .bind(i64::from(limit))
        .fetch_all(&mut *reader)
        .await
        .map_err(&failed)?;
        let records = rows.iter().map(TeamRecord::read).collect::<Result<_, _>>();
        Ok(records.map_err(failed)?)
    }

    /// One team.
    ///
    /// # Errors
    ///
    /// [`KeyError::UnknownTeam`] or [`KeyError::Store`].
    pub async fn find_team(&self, id: &str) -> Result<TeamRecord, KeyError> {
        find_team(&mut *self.shared.store.reader().await?, id).await
    }

    /// Changes a team, if it still has the version `if_version`, where that is given. The request
    /// path knows when this returns.
    ///
    /// # Errors
    ///
    /// Any [`KeyError`] but those of keys.
    pub async fn change_team(
        &self,
        id: &str,
        (name, change): (Option<&str>, &TermsChange),
        if_version: Option<u64>,
        by: &Actor,
        now_ms: u64,
    ) -> Result<TeamRecord, KeyError> {
        let failed = StoreError::query("change the team");
        let mut connection = self.shared.store.writer().await?;
        let kind = self.shared.store.kind();
        let mut transaction = store::begin(&mut connection, kind).await.map_err(&failed)?;
        let old = find_team(&mut transaction, id).await?;
        expect_version(old.version, if_version)?;
        let mut new = old.clone();
        new.terms = old.terms.changed(change)?;
        if let Some(name) = name {
            new.name = checked_name(name)?.to_owned();
        }
        if new == old {
            return Ok(old);
        }
        new.version += 1;
        let changed = sqlx::query(
            "UPDATE teams SET name = $1, terms = $2, version = $3 WHERE id = $4 AND version = $5",
        )
        .bind(&new.name)
        .bind(row::terms_json(&new.terms))
        .bind(int(new.version))
        .bind(id)
        .bind(int(old.version))
        .execute(&mut *transaction)
        .await
        .map_err(&failed)?;
        expect_one(changed.rows_affected(), old.version)?;
        let event = new.event("team.change", Some(&old), Some(&new));
        commit(transaction, by, &event, now_ms).await.map_err(&failed)?;
        self.on_changed(&mut connection).await;
        Ok(new)
    }

    /// Deletes a team that has no valid keys. Its row stays for the names in what it used.
    ///
    /// # Errors
    ///
    /// [`KeyError::TeamInUse`] where keys belong to it; as [`Callers::change_team`].
    pub async fn delete_team(
        &self,
        id: &str,
        if_version: Option<u64>,
        by: &Actor,
        now_ms: u64,
    ) -> Result<(), KeyError> {
        let failed = StoreError::query("delete the team");
        let mut connection = self.shared.store.writer().await?;
        let kind = self.shared.store.kind();
        let mut transaction = store::begin(&mut connection, kind).await.map_err(&failed)?;
        let old = find_team(&mut transaction, id).await?;
        expect_version(old.version, if_version)?;
        // First the deletion: whoever adds a key meanwhile waits for the row and finds it deleted.
        sqlx::query("UPDATE teams SET deleted_at_ms = $1, version = version + 1 WHERE id = $2")
            .bind(int(now_ms))
            .bind(id)
            .execute(&mut *transaction)
            .await
            .map_err(&failed)?;
        let keys: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM keys WHERE team = $1 AND revoked_at_ms IS NULL",
        )
        .bind(id)
        .fetch_one(&mut *transaction)
        .await
        .map_err(&failed)?;
        if keys > 0 {
            return Err(KeyError::TeamInUse { keys: keys.unsigned_abs() });
        }
        let event = old.event("team.delete", Some(&old), None);
        commit(transaction, by, &event, now_ms).await.map_err(&failed)?;
        self.on_changed(&mut connection).await;
        Ok(())
    }
}

pub(super) async fn find_team(
    connection: &mut AnyConnection,
    id: &str,
) -> Result<TeamRecord, KeyError> {
    let failed = StoreError::query("read the team");
    let select = sqlx::query(
        "SELECT id, name, terms, version, created_at_ms FROM teams
                     WHERE id = $1 AND deleted_at_ms IS NULL",
    );
    let row = select.bind(id).fetch_optional(connection).await.map_err(&failed)?;
    let row = row.ok_or_else(|| KeyError::UnknownTeam { id: id.to_owned() })?;
    Ok(TeamRecord::read(&row).map_err(failed)?)
}

/// All teams, for the request path.
pub(super) async fn read_teams(
    connection: &mut AnyConnection,
) -> Result<Vec<StoredTeam>, sqlx::Error> {
    let rows = sqlx::query("SELECT id, name, terms FROM teams WHERE deleted_at_ms IS NULL")
        .fetch_all(connection)
        .await?;
    rows.iter()
        .map(|row| {
            Ok(StoredTeam {
                id: TeamId::new(row.try_get::<&str, _>("id")?),
                name: row.try_get("name")?,
                terms: row::terms(row)?,
            })
        })
        .collect()
}

// === impl StoredTeam ===

impl StoredTeam {
    /// As callers share it.
    pub(super) fn shared(&self) -> Arc<Team> {
        Arc::new(Team {
            id: self.id.clone(),
            name: self.name.clone(),
            limits: self.terms.limits.clone(),
            access: self.terms.access.clone(),
        })
    }
}

// === impl TeamRecord ===

impl TeamRecord {
    fn read(row: &AnyRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            id: TeamId::new(row.try_get::<&str, _>("id")?),
            name: row.try_get("name")?,
            terms: row::terms(row)?,
            version: count(row.try_get("version")?),
            created_at_ms: count(row.try_get("created_at_ms")?),
        })
    }

    /// What it is, for the audit log.
    fn audited(&self) -> Value {
        json!({ "name": self.name, "terms": self.terms, "version": self.version })
    }

    fn event(&self, action: &'static str, old: Option<&Self>, new: Option<&Self>) -> Event {
        Event {
            action,
            resource: format!("teams/{}", self.id),
            before: old.map(Self::audited),
            after: new.map(Self::audited),
        }
    }
}
