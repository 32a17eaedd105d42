//! The tables, embedded, and how an older file gets them.

use std::borrow::Cow;

use sqlx::SqliteConnection;
use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};
use sqlx::{AssertSqlSafe, SqlSafeStr};

/// Number, title and text of every migration. Released ones never change: their checksums are in
/// the files of whoever ran them.
const ALL: [(i64, &str, &str); 3] = [
    (1, "requests and keys", include_str!("../../migrations/0001_requests_and_keys.sql")),
    (2, "priority of keys", include_str!("../../migrations/0002_priority_of_keys.sql")),
    (3, "degradation", include_str!("../../migrations/0003_degradation.sql")),
];

/// Brings the tables behind `connection` to this version.
pub(super) async fn run(connection: &mut SqliteConnection) -> Result<(), MigrateError> {
    let migrations = ALL
        .iter()
        .map(|(version, title, sql)| {
            let sql = AssertSqlSafe(*sql).into_sql_str();
            Migration::new(*version, Cow::Borrowed(title), MigrationType::Simple, sql, false)
        })
        .collect();
    // `run` would make every future that opens the store one that no thread may be given.
    Migrator::with_migrations(migrations).run_direct(None, connection, false).await
}
