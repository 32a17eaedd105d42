//! Tests of the store.

use sqlx::Connection;

use super::*;

#[test]
fn urls_name_a_file_or_are_refused_with_what_would_be_right() {
    for (url, path) in [
        ("sqlite:data/tidegate.db", "data/tidegate.db"),
        ("sqlite:///var/lib/tidegate.db", "/var/lib/tidegate.db"),
        ("sqlite://data/x.db", "data/x.db"),
        ("sqlite:/x.db", "/x.db"),
    ] {
        let url: StoreUrl = url.parse().unwrap();
        assert_eq!(url.path(), Path::new(path));
        assert_eq!(url.to_string(), format!("sqlite:{path}"));
    }
    for url in ["", "sqlite:", "sqlite::memory:", "sqlite:data/", "x.db", "sqlite:x.db?mode=ro"] {
        let error = url.parse::<StoreUrl>().unwrap_err().to_string();
        assert!(error.contains("`sqlite:data/tidegate.db`"), "{url}: {error}");
    }
    let error = "postgres://user:hunter2@host/db".parse::<StoreUrl>().unwrap_err().to_string();
    assert!(error.contains("not supported by this version"), "{error}");
    assert!(!error.contains("hunter2"), "{error}");
}

#[tokio::test]
async fn folder_file_and_tables_are_made_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}/a/b/tidegate.db", folder.path().display());
    let store = Store::new(url.parse().unwrap());
    assert!(store.is_absent());
    let mut connection = store.connect().await.unwrap();
    assert!(!store.is_absent());
    sqlx::query("INSERT INTO settings VALUES ('x', x'00')").execute(&mut connection).await.unwrap();
    let mode: String =
        sqlx::query_scalar("PRAGMA journal_mode").fetch_one(&mut connection).await.unwrap();
    assert_eq!(mode, "wal");
    connection.close().await.unwrap();

    // Another process, and the same one: nothing is migrated twice.
    for store in [Store::new(url.parse().unwrap()), store] {
        let mut reader = store.reader().await.unwrap();
        let kept: i64 = sqlx::query_scalar("SELECT count(*) FROM settings")
            .fetch_one(&mut reader.connection)
            .await
            .unwrap();
        assert_eq!(kept, 1);
    }
}

#[tokio::test]
async fn many_may_open_a_new_store_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}/tidegate.db", folder.path().display());
    let store = Store::new(url.parse().unwrap());
    let (one, two, three) = tokio::join!(store.connect(), store.connect(), store.connect());
    one.unwrap();
    two.unwrap();
    three.unwrap();
}

#[tokio::test]
async fn errors_say_what_and_why() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tidegate.db");
    std::fs::write(&path, "this is no database, but long enough to be read as one".repeat(9))
        .unwrap();
    let store = Store::new(format!("sqlite:{}", path.display()).parse().unwrap());
    let error = store.connect().await.unwrap_err().chain();
    assert!(error.starts_with(&format!("cannot open the database {}: ", path.display())));
    assert!(error.contains("not a database"), "{error}");
}
