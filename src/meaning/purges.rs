//! Purges in the store, from when they are said until they are carried out: a node that is ended
//! meanwhile, or had nothing to do with semantic caches, leaves them to the next one.

use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row as _};

use super::upkeep::Forget;
use crate::store::{Store, StoreError};

/// The rows of a store.
#[derive(Debug, Clone)]
pub(super) struct Purges {
    store: Store,
}

// === impl Purges ===

impl Purges {
    pub(super) fn new(store: Store) -> Self {
        Self { store }
    }

    /// Writes a purge, once.
    pub(super) async fn write(&self, forget: &Forget) -> Result<(), StoreError> {
        let mut connection = self.store.writer().await?;
        sqlx::query(
            "INSERT INTO semantic_purges (id, purge, at_ms) VALUES ($1, $2, $3) \
             ON CONFLICT (id) DO NOTHING",
        )
        .bind(forget.id)
        .bind(serde_json::to_string(&forget.purge).unwrap_or_default())
        .bind(i64::try_from(forget.at_ms).unwrap_or(i64::MAX))
        .execute(&mut *connection as &mut AnyConnection)
        .await
        .map_err(StoreError::query("write a purge"))?;
        Ok(())
    }

    /// Those that nobody has carried out. What cannot be read may be about anything.
    pub(super) async fn all(&self) -> Result<Vec<Forget>, StoreError> {
        let failed = StoreError::query("read purges");
        let mut connection = self.store.reader().await?;
        let rows = sqlx::query("SELECT id, purge, at_ms FROM semantic_purges ORDER BY id")
            .fetch_all(&mut *connection as &mut AnyConnection)
            .await
            .map_err(&failed)?;
        rows.iter().map(|row| read(row).map_err(&failed)).collect()
    }

    /// Takes one out that was carried out.
    pub(super) async fn done(&self, forget: &Forget) -> Result<(), StoreError> {
        let mut connection = self.store.writer().await?;
        sqlx::query("DELETE FROM semantic_purges WHERE id = $1")
            .bind(forget.id)
            .execute(&mut *connection as &mut AnyConnection)
            .await
            .map_err(StoreError::query("take a purge out"))?;
        Ok(())
    }
}

fn read(row: &AnyRow) -> Result<Forget, sqlx::Error> {
    let purge: String = row.try_get("purge")?;
    let at_ms: i64 = row.try_get("at_ms")?;
    Ok(Forget {
        id: row.try_get("id")?,
        purge: serde_json::from_str(&purge).unwrap_or_default(),
        at_ms: at_ms.max(0).unsigned_abs(),
        is_written: true,
    })
}
