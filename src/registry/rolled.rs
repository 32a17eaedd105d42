//! What a change of a label has to know of rollouts, by the rows of those in the store.
//!
//! A rollout of a prompt is about the requests that find its control by a label. Who moves that
//! label away would end the rollout without a word, and its evidence with it.

use sqlx::{AnyConnection, Row as _};

use super::RegistryError;
use crate::prompt::Version;
use crate::store::StoreError;

/// Refuses to move a label off the control of a rollout that goes on, unless that is forced. One
/// that is done and still steers gives way to a label that is set to its control.
pub(super) async fn check(
    connection: &mut AnyConnection,
    (prompt, label): (&str, &str),
    (old, new): (Option<Version>, Option<Version>),
    is_forced: bool,
) -> Result<(), RegistryError> {
    let failed = StoreError::query("look for rollouts of the prompt");
    let live = "SELECT id, phase, control FROM rollouts
                WHERE kind = 'prompt' AND subject = $1 AND is_live = 1";
    let live = sqlx::query(live).bind(prompt).fetch_all(&mut *connection).await;
    for row in live.map_err(&failed)? {
        let text = |column| row.try_get::<String, _>(column);
        let (id, phase) = (text("id").map_err(&failed)?, text("phase").map_err(&failed)?);
        let control: Option<Version> = text("control").map_err(&failed)?.parse().ok();
        if phase == "done" {
            if new.is_some() && new == control {
                settle(connection, &id).await.map_err(&failed)?;
            }
        } else if old.is_some() && old == control && new != control && !is_forced {
            return Err(RegistryError::RollingOut { label: label.to_owned(), rollout: id });
        }
    }
    Ok(())
}

/// Ends the steering of a rollout that is done.
async fn settle(connection: &mut AnyConnection, id: &str) -> Result<(), sqlx::Error> {
    let count = "INSERT INTO revisions (name, revision) VALUES ('rollouts', 1)
                 ON CONFLICT (name) DO UPDATE SET revision = revisions.revision + 1";
    sqlx::query(count).execute(&mut *connection).await?;
    let settle = "UPDATE rollouts SET is_live = 0, version = version + 1 WHERE id = $1";
    sqlx::query(settle).bind(id).execute(connection).await.map(drop)
}
