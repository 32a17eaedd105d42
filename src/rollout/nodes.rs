//! Which nodes serve which revision of a rollout, as they say themselves.

use sqlx::Row;
use sqlx::any::AnyRow;

use super::RolloutLedger;
use super::record::{Standing, int, number};
use crate::store::StoreError;

/// A node and what it serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeSeen {
    /// The node's name.
    pub name: String,
    /// The rollout's revision that it serves.
    pub revision: u64,
    /// Since when, in Unix milliseconds.
    pub at_ms: u64,
}

// === impl RolloutLedger ===

impl RolloutLedger {
    /// Says in the store which revisions this node serves.
    pub(super) async fn acknowledge(&self, standing: &[Standing]) -> Result<(), StoreError> {
        if standing.is_empty() {
            return Ok(());
        }
        let failed = StoreError::query("say what this node serves");
        let now_ms = self.shared.clock.unix_ms();
        let mut connection = self.shared.store.writer().await?;
        for one in standing {
            sqlx::query(
                "INSERT INTO rollout_nodes (node, name, rollout, revision, at_ms)
                 VALUES ($1, $2, $3, $4, $5) ON CONFLICT (node, rollout) DO UPDATE
                 SET revision = $4, at_ms = $5 WHERE rollout_nodes.revision <> $4",
            )
            .bind(&self.shared.node)
            .bind(&self.shared.name)
            .bind(&one.id)
            .bind(int(one.revision))
            .bind(int(now_ms))
            .execute(&mut *connection)
            .await
            .map_err(&failed)?;
        }
        Ok(())
    }

    /// Which nodes have said that they serve which revision of a rollout, the newest word first.
    ///
    /// # Errors
    ///
    /// [`StoreError`] where the store cannot be read.
    pub async fn nodes(&self, id: &str) -> Result<Vec<NodeSeen>, StoreError> {
        let failed = StoreError::query("read what nodes serve");
        let mut reader = self.shared.store.reader().await?;
        let select = "SELECT name, revision, at_ms FROM rollout_nodes WHERE rollout = $1
                      ORDER BY at_ms DESC, name LIMIT 100";
        let rows = sqlx::query(select).bind(id).fetch_all(&mut *reader).await.map_err(&failed)?;
        let seen = |row: &AnyRow| {
            let name = row.try_get("name")?;
            Ok(NodeSeen { name, revision: number(row, "revision")?, at_ms: number(row, "at_ms")? })
        };
        rows.iter().map(seen).collect::<Result<_, _>>().map_err(failed)
    }
}
