//! Rows of rollouts: one statement a step.

use sqlx::{AnyConnection, Row};

use super::error::RolloutError;
use super::record::{
    Record, Standing, int, json_text, number, phase_name, record_columns, standing_columns,
};
use crate::policy::rollout::{Action, Decision, Phase};
use crate::store::StoreError;

/// What counts the changes of rollouts.
const REVISION: &str = "rollouts";

/// Reads a rollout.
pub(super) async fn read(connection: &mut AnyConnection, id: &str) -> Result<Record, RolloutError> {
    let failed = StoreError::query("read the rollout");
    let select = sqlx::query(concat!("SELECT ", record_columns!(), " FROM rollouts WHERE id = $1"));
    let row = select.bind(id).fetch_optional(connection).await.map_err(&failed)?;
    let row = row.ok_or_else(|| RolloutError::Unknown { id: id.to_owned() })?;
    Ok(Record::read(&row).map_err(failed)?)
}

/// All that nodes steer by, and what ended at `since_ms` or later.
pub(super) async fn read_standing(
    connection: &mut AnyConnection,
    since_ms: u64,
) -> Result<Vec<Standing>, sqlx::Error> {
    let rows = sqlx::query(concat!(
        "SELECT ",
        standing_columns!(),
        " FROM rollouts WHERE is_live = 1 OR ended_at_ms >= $1 ORDER BY id",
    ))
    .bind(int(since_ms))
    .fetch_all(connection)
    .await?;
    rows.iter().map(Standing::read).collect()
}

/// How many changes of rollouts the store has seen.
pub(super) async fn read_revision(connection: &mut AnyConnection) -> Result<i64, sqlx::Error> {
    let revision = sqlx::query_scalar("SELECT revision FROM revisions WHERE name = $1");
    Ok(revision.bind(REVISION).fetch_optional(connection).await?.unwrap_or(0))
}

/// Tells all nodes, with the transaction, that something about rollouts is different; whoever else
/// does so waits until the transaction ends.
pub(super) async fn count_change(connection: &mut AnyConnection) -> Result<(), sqlx::Error> {
    let count = "INSERT INTO revisions (name, revision) VALUES ($1, 1)
                 ON CONFLICT (name) DO UPDATE SET revision = revisions.revision + 1";
    sqlx::query(count).bind(REVISION).execute(connection).await.map(drop)
}

/// Writes what became of a rollout and the decisions that led there, if it is still as it was read.
/// Whether it was; if not, the transaction is to be given up.
pub(super) async fn write(
    connection: &mut AnyConnection,
    record: &mut Record,
    actions: &[Action],
    actor: &str,
    now_ms: u64,
) -> Result<bool, sqlx::Error> {
    let phase = record.rollout.phase();
    for action in actions {
        if let Action::Steer { is_harm, .. } = action {
            record.is_harm = *is_harm;
        }
    }
    // One that is done steers on until nothing is left to steer.
    record.is_live &= phase != Phase::RolledBack;
    let is_over = !record.is_active();
    let ended_anew = phase == Phase::RolledBack && !actions.is_empty();
    if is_over && (record.ended_at_ms.is_none() || ended_anew) {
        record.ended_at_ms = Some(now_ms);
    }
    let updated = sqlx::query(
        "UPDATE rollouts SET phase = $1, share = $2, is_shadow = $3, is_harm = $4, is_live = $5,
         spent_micro_usd = $6, revision = $7, state = $8, consumed = $9, ended_at_ms = $10,
         version = $11 WHERE id = $12 AND version = $13",
    )
    .bind(phase_name(phase))
    .bind(i64::from(u16::from(record.rollout.share())))
    .bind(i64::from(record.rollout.is_shadowing()))
    .bind(i64::from(record.is_harm))
    .bind(i64::from(record.is_live))
    .bind(int(record.spent.0))
    .bind(int(record.rollout.revision()))
    .bind(json_text(&record.rollout)?)
    .bind(json_text(&record.consumed)?)
    .bind(record.ended_at_ms.map(int))
    .bind(int(record.version + 1))
    .bind(&record.id)
    .bind(int(record.version))
    .execute(&mut *connection)
    .await?;
    if updated.rows_affected() == 0 {
        return Ok(false);
    }
    record.version += 1;
    for action in actions {
        match action {
            Action::Record(decision) => keep(connection, &record.id, decision, actor).await?,
            Action::Quarantine { until_ms } => quarantine(connection, record, *until_ms).await?,
            Action::Steer { .. } | Action::Page(_) | Action::ForgetAnswers | Action::Refuse(_) => {}
        }
    }
    Ok(true)
}

/// Writes a new rollout.
pub(super) async fn insert(
    connection: &mut AnyConnection,
    record: &Record,
) -> Result<(), sqlx::Error> {
    let (from, to) = record.subject.sides();
    let shadow = record.shadow.as_ref().map(json_text).transpose()?;
    sqlx::query(
        "INSERT INTO rollouts (id, kind, subject, control, candidate, content, unit, phase, share,
         is_shadow, is_harm, is_live, shadow, spent_micro_usd, revision, version, state, consumed,
         created_by, created_at_ms)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 0, 1, $11, 0, $12, $13, $14, $15, $16, $17)",
    )
    .bind(&record.id)
    .bind(record.subject.kind())
    .bind(record.subject.name())
    .bind(from)
    .bind(to)
    .bind(&record.content)
    .bind(json_text(&record.rollout.plan().unit)?)
    .bind(phase_name(record.rollout.phase()))
    .bind(i64::from(u16::from(record.rollout.share())))
    .bind(i64::from(record.rollout.is_shadowing()))
    .bind(shadow)
    .bind(int(record.rollout.revision()))
    .bind(int(record.version))
    .bind(json_text(&record.rollout)?)
    .bind(json_text(&record.consumed)?)
    .bind(&record.created_by)
    .bind(int(record.created_at_ms))
    .execute(connection)
    .await
    .map(drop)
}

async fn keep(
    connection: &mut AnyConnection,
    id: &str,
    decision: &Decision,
    actor: &str,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO rollout_decisions (rollout, revision, at_ms, verdict, sentence, actor, decision)
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(id)
    .bind(int(decision.revision))
    .bind(int(decision.at_ms))
    .bind(decision.verdict.as_str())
    .bind(&decision.sentence)
    .bind(actor)
    .bind(json_text(decision)?)
    .execute(connection)
    .await
    .map(drop)
}

async fn quarantine(
    connection: &mut AnyConnection,
    record: &Record,
    until_ms: u64,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO rollout_quarantine (content, rollout, until_ms) VALUES ($1, $2, $3)
         ON CONFLICT (content) DO UPDATE SET rollout = $2, until_ms = $3",
    )
    .bind(&record.content)
    .bind(&record.id)
    .bind(int(until_ms))
    .execute(connection)
    .await
    .map(drop)
}

/// Refuses what is in quarantine.
pub(super) async fn check_quarantine(
    connection: &mut AnyConnection,
    content: &str,
    now_ms: u64,
) -> Result<(), RolloutError> {
    let failed = StoreError::query("read the quarantine");
    let select = "SELECT rollout, until_ms FROM rollout_quarantine
                  WHERE content = $1 AND until_ms > $2";
    let row = sqlx::query(select).bind(content).bind(int(now_ms)).fetch_optional(connection).await;
    let Some(row) = row.map_err(&failed)? else { return Ok(()) };
    let rollout = row.try_get("rollout").map_err(&failed)?;
    Err(RolloutError::Quarantined { rollout, until_ms: number(&row, "until_ms").map_err(failed)? })
}

/// Ends the steering of a rollout that is done.
pub(super) async fn settle(connection: &mut AnyConnection, id: &str) -> Result<(), sqlx::Error> {
    let settle = "UPDATE rollouts SET is_live = 0, version = version + 1 WHERE id = $1";
    sqlx::query(settle).bind(id).execute(connection).await.map(drop)
}
