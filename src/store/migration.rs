//! The tables, embedded, and how an older store gets them.
//!
//! Every migration is written once, in words that both kinds of store understand or that are
//! translated: SQLite's `INTEGER` and `BLOB` are PostgreSQL's `BIGINT` and `BYTEA`, and `STRICT` is
//! what PostgreSQL always is.

use std::borrow::Cow;
use std::time::Duration;

use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};
use sqlx::{AnyConnection, AssertSqlSafe, SqlSafeStr};

use super::Kind;

/// Number, title and text of every migration. Released ones never change: their checksums are in
/// the stores of whoever ran them.
const ALL: &[(i64, &str, &str)] = &[
    (1, "requests and keys", include_str!("../../migrations/0001_requests_and_keys.sql")),
    (2, "priority of keys", include_str!("../../migrations/0002_priority_of_keys.sql")),
    (3, "degradation", include_str!("../../migrations/0003_degradation.sql")),
    (4, "revisions", include_str!("../../migrations/0004_revisions.sql")),
    (5, "teams", include_str!("../../migrations/0005_teams.sql")),
    (6, "audit", include_str!("../../migrations/0006_audit.sql")),
    (7, "idempotency", include_str!("../../migrations/0007_idempotency.sql")),
    (8, "jobs", include_str!("../../migrations/0008_jobs.sql")),
    (9, "webhooks", include_str!("../../migrations/0009_webhooks.sql")),
    (10, "semantic entries", include_str!("../../migrations/0010_semantic_entries.sql")),
    (11, "waste", include_str!("../../migrations/0011_waste.sql")),
    (12, "room for jobs", include_str!("../../migrations/0012_room_for_jobs.sql")),
    (13, "priority of requests", include_str!("../../migrations/0013_priority_of_requests.sql")),
    (14, "prompt registry", include_str!("../../migrations/0014_prompt_registry.sql")),
    (15, "prompt of requests", include_str!("../../migrations/0015_prompt_of_requests.sql")),
    (17, "feedback", include_str!("../../migrations/0017_feedback.sql")),
    (16, "rollouts", include_str!("../../migrations/0016_rollouts.sql")),
    (18, "saved", include_str!("../../migrations/0018_saved.sql")),
    (
        19,
        "what semantic caches learn",
        include_str!("../../migrations/0019_semantic_calibrations.sql"),
    ),
    (20, "purges of semantic caches", include_str!("../../migrations/0020_semantic_purges.sql")),
    (21, "rollout of requests", include_str!("../../migrations/0021_rollout_of_requests.sql")),
    (22, "compat runs", include_str!("../../migrations/0022_compat_runs.sql")),
    (23, "compat drift", include_str!("../../migrations/0023_compat_drift.sql")),
    (24, "only cases", include_str!("../../migrations/0024_only_cases.sql")),
];

/// What stands behind a migration's text for one kind alone: triggers have no common words.
const MORE: &[(i64, Kind, &str)] = &[
    (6, Kind::Sqlite, include_str!("../../migrations/0006_audit.sqlite.sql")),
    (6, Kind::Postgres, include_str!("../../migrations/0006_audit.postgres.sql")),
];

/// How often a step is tried anew that another process may have taken just now, and the pause.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(50);

/// Brings the tables behind `connection` to this version. Several nodes may do so at once: sqlx
/// holds an advisory lock on PostgreSQL. SQLite has none; a step is a transaction there, so whoever
/// comes second with it fails, looks again, and goes on behind it.
pub(super) async fn run(connection: &mut AnyConnection, kind: Kind) -> Result<(), MigrateError> {
    let migrations = ALL
        .iter()
        .map(|(version, title, sql)| {
            let mut sql = in_words_of(kind, sql);
            let more = MORE.iter().filter(|more| (more.0, more.1) == (*version, kind));
            more.for_each(|(_, _, text)| sql.push_str(text));
            let sql = AssertSqlSafe(sql).into_sql_str();
            Migration::new(*version, Cow::Borrowed(title), MigrationType::Simple, sql, false)
        })
        .collect();
    // `run` would make every future that opens the store one that no thread may be given.
    let migrator = Migrator::with_migrations(migrations);
    let mut tries = 1;
    loop {
        let ran = migrator.run_direct(None, &mut *connection, false).await;
        let is_taken = matches!(ran, Err(MigrateError::ExecuteMigration(..)));
        if !is_taken || kind != Kind::Sqlite || tries == TRIES {
            return ran;
        }
        tries += 1;
        tokio::time::sleep(PAUSE).await;
    }
}

fn in_words_of(kind: Kind, sql: &str) -> String {
    match kind {
        Kind::Sqlite => sql.to_owned(),
        Kind::Postgres => {
            sql.replace(" INTEGER", " BIGINT").replace(" BLOB", " BYTEA").replace(") STRICT", ")")
        }
    }
}
