//! What was learnt, in the store: one row a domain, with a version that every change raises, so
//! that nodes do not overwrite what others have learnt.

use std::sync::Arc;

use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AssertSqlSafe, Row as _};

use super::lessons::{Calibration, Domain, Terms};
use super::purges::Purges;
use crate::cache::Key;
use crate::store::{Kind, Store, StoreError};

/// The rows of a store.
#[derive(Debug, Clone)]
pub(super) struct Calibrations {
    store: Store,
    pub(super) purges: Purges,
}

/// A domain as the store has it.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) domain: Arc<Domain>,
    pub(super) calibration: Calibration,
    /// From 1.
    pub(super) version: i64,
}

/// What a store has of a domain.
#[derive(Debug)]
pub(super) enum Found {
    /// A calibration and its version.
    Calibration(Box<Calibration>, i64),
    /// One that another version of this program has written.
    Unreadable,
    /// Nothing.
    Nothing,
}

/// Domains that nobody has learnt anything of for so long are forgotten, in milliseconds: 90 days.
const FORGOTTEN_AFTER_MS: i64 = 90 * 86_400_000;
/// How long a statement may take from reading the store's clock to being seen by others.
const UNSEEN_MS: i64 = 10_000;
/// Rows that are read at a time.
const PAGE: i64 = 500;

// === impl Calibrations ===

impl Calibrations {
    pub(super) fn new(store: Store) -> Self {
        Self { purges: Purges::new(store.clone()), store }
    }

    /// Writes a calibration in place of the one with this `version`, or the first one where that is
    /// 0. `false` and nothing done where another node was quicker.
    pub(super) async fn replace(
        &self,
        domain: &Domain,
        calibration: &Calibration,
        version: i64,
    ) -> Result<bool, StoreError> {
        let state = serde_json::to_string(calibration).unwrap_or_default();
        let now = self.now();
        let sql = match version {
            0 => format!(
                "INSERT INTO semantic_calibrations (state, id, version, terms, changed_at_ms) \
                 VALUES ($1, $2, 1 + $3, $4, {now}) ON CONFLICT (id) DO NOTHING"
            ),
            _ => format!(
                "UPDATE semantic_calibrations SET state = $1, version = version + 1, \
                 changed_at_ms = {now} WHERE id = $2 AND version = $3"
            ),
        };
        let mut query =
            sqlx::query(AssertSqlSafe(sql)).bind(state).bind(domain.key().to_hex()).bind(version);
        if version == 0 {
            query = query.bind(serde_json::to_string(&domain.terms).unwrap_or_default());
        }
        let mut connection = self.store.writer().await?;
        let written = query
            .execute(&mut *connection as &mut AnyConnection)
            .await
            .map_err(StoreError::query("write what a semantic cache has learnt"))?;
        Ok(written.rows_affected() == 1)
    }

    /// What is there of a domain, and its version.
    pub(super) async fn find(&self, domain: &Domain) -> Result<Found, StoreError> {
        let failed = StoreError::query("read what a semantic cache has learnt");
        let mut connection = self.store.reader().await?;
        let row = sqlx::query("SELECT state, version FROM semantic_calibrations WHERE id = $1")
            .bind(domain.key().to_hex())
            .fetch_optional(&mut *connection as &mut AnyConnection)
            .await
            .map_err(&failed)?;
        let Some(row) = row else { return Ok(Found::Nothing) };
        let state: String = row.try_get("state").map_err(&failed)?;
        let version = row.try_get("version").map_err(&failed)?;
        let calibration = serde_json::from_str(&state).ok();
        Ok(calibration.map_or(Found::Unreadable, |read| Found::Calibration(read, version)))
    }

    /// Domains of which something was learnt since `after`, and where to go on; from 0 it is all of
    /// them. Those of the last seconds come again. Rows that cannot be read are left out: they are
    /// of another version.
    pub(super) async fn changed_since(&self, after: i64) -> Result<(Vec<Stored>, i64), StoreError> {
        let failed = StoreError::query("read what a semantic cache has learnt");
        let (mut all, mut latest, mut last_id) = (Vec::new(), after, String::new());
        loop {
            let mut connection = self.store.reader().await?;
            let rows = sqlx::query(
                "SELECT id, terms, state, version, changed_at_ms FROM semantic_calibrations \
                 WHERE changed_at_ms > $1 AND id > $2 ORDER BY id LIMIT $3",
            )
            .bind(after - UNSEEN_MS)
            .bind(last_id.clone())
            .bind(PAGE)
            .fetch_all(&mut *connection as &mut AnyConnection)
            .await
            .map_err(&failed)?;
            drop(connection);
            let Some(last) = rows.last() else { return Ok((all, latest)) };
            last_id = last.try_get("id").map_err(&failed)?;
            for row in &rows {
                latest = latest.max(row.try_get("changed_at_ms").map_err(&failed)?);
                all.extend(read(row).map_err(&failed)?);
            }
        }
    }

    /// Forgets domains of which nobody has learnt anything for long.
    pub(super) async fn sweep(&self) -> Result<u64, StoreError> {
        let sql =
            format!("DELETE FROM semantic_calibrations WHERE changed_at_ms < {} - $1", self.now());
        let mut connection = self.store.writer().await?;
        let deleted = sqlx::query(AssertSqlSafe(sql))
            .bind(FORGOTTEN_AFTER_MS)
            .execute(&mut *connection as &mut AnyConnection)
            .await
            .map_err(StoreError::query("forget what a semantic cache has learnt"))?;
        Ok(deleted.rows_affected())
    }

    /// The store's clock, in milliseconds since 1970.
    fn now(&self) -> &'static str {
        match self.store.kind() {
            Kind::Sqlite => "CAST(unixepoch('subsec') * 1000 AS INTEGER)",
            Kind::Postgres => "CAST(EXTRACT(EPOCH FROM statement_timestamp()) * 1000 AS BIGINT)",
        }
    }
}

fn read(row: &AnyRow) -> Result<Option<Stored>, sqlx::Error> {
    let (id, terms): (String, String) = (row.try_get("id")?, row.try_get("terms")?);
    let state: String = row.try_get("state")?;
    let domain = serde_json::from_str::<Terms>(&terms).ok().map(Domain::of);
    let calibration = serde_json::from_str::<Calibration>(&state).ok();
    let (Some(domain), Some(calibration)) = (domain, calibration) else { return Ok(None) };
    let version = row.try_get("version")?;
    // Terms that are written otherwise now are another domain.
    let is_same = Key::from_hex(&id) == Some(domain.key());
    Ok(is_same.then_some(Stored { domain, calibration, version }))
}
