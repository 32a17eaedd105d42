//! Tests of the store.

use super::places::{Place, places};
use super::*;

async fn count(connection: &mut AnyConnection) -> i64 {
    let count = sqlx::query_scalar("SELECT count(*) FROM settings");
    count.fetch_one(connection).await.unwrap()
}

async fn add(connection: &mut AnyConnection, name: &str) -> Result<(), sqlx::Error> {
    let insert = sqlx::query("INSERT INTO settings (name, value) VALUES ($1, $2)");
    insert.bind(name).bind(&b"\x00\xff"[..]).execute(connection).await.map(drop)
}

#[test]
fn urls_name_a_file_or_are_refused_with_what_would_be_right() {
    for (url, path) in [
        ("sqlite:data/tidegate.db", "data/tidegate.db"),
        ("sqlite:///var/lib/tidegate.db", "/var/lib/tidegate.db"),
        ("sqlite://data/x.db", "data/x.db"),
        ("sqlite:/x.db", "/x.db"),
    ] {
        let url: StoreUrl = url.parse().unwrap();
        assert_eq!(url.path(), Some(Path::new(path)));
        assert_eq!(url.to_string(), format!("sqlite:{path}"));
    }
    for url in ["", "sqlite:", "sqlite::memory:", "sqlite:data/", "x.db", "sqlite:x.db?mode=ro"] {
        let error = url.parse::<StoreUrl>().unwrap_err().to_string();
        assert!(error.contains("`sqlite:data/tidegate.db`"), "{url}: {error}");
    }
}

#[test]
fn urls_of_servers_never_show_their_password() {
    for (url, shown) in [
        ("postgres://ann:hunter2@db.example:6543/gate", "postgres://ann@db.example:6543/gate"),
        ("postgresql://ann:hunter2@db/gate?sslmode=require", "postgres://ann@db:5432/gate"),
    ] {
        let url: StoreUrl = url.parse().unwrap();
        assert_eq!((url.kind(), url.path()), (Kind::Postgres, None));
        assert_eq!((url.to_string(), format!("{url:?}")), (shown.to_owned(), shown.to_owned()));
        assert!(url.for_driver().contains("application_name=tidegate"));
        let store = Store::new(url);
        assert!(!format!("{store:?}").contains("hunter2"), "{store:?}");
    }
    for (url, word) in [
        ("postgres://ann:hunter2@db", "names no database"),
        ("postgres://ann:hunter2@db/gate?sslmod=require", "`sslmod` is no parameter"),
        ("postgres://ann:hunter2@db/gate?sslmode=yes", "no address"),
        ("postgres://ann:hunter#2@db/gate", "`%23`"),
        ("postgres://ann:hunter2@db:port/gate", "no address"),
    ] {
        let error = url.parse::<StoreUrl>().unwrap_err().to_string();
        assert!(error.contains(word), "{url}: {error}");
        assert!(!error.contains("hunter"), "{error}");
    }
}

#[tokio::test]
async fn folder_file_and_tables_are_made_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}/a b/%41/tidegate.db", folder.path().display());
    let store = Store::new(url.parse().unwrap());
    assert!(store.is_absent());
    let mut connection = store.connect().await.unwrap();
    assert!(!store.is_absent());
    assert!(folder.path().join("a b/%41/tidegate.db").exists());
    add(&mut connection, "x").await.unwrap();
    let mode: String =
        sqlx::query_scalar("PRAGMA journal_mode").fetch_one(&mut connection).await.unwrap();
    assert_eq!(mode, "wal");
    let busy_ms: i64 =
        sqlx::query_scalar("PRAGMA busy_timeout").fetch_one(&mut connection).await.unwrap();
    assert_eq!(u128::from(busy_ms.unsigned_abs()), BUSY_TIMEOUT.as_millis());
    connection.close().await.unwrap();

    // Another process, and the same one: nothing is migrated twice.
    for store in [Store::new(url.parse().unwrap()), store] {
        assert_eq!(count(&mut store.reader().await.unwrap()).await, 1);
    }
}

/// Leaders and the journal write by connections of their own, and nobody comes back to an
/// operator's change.
#[tokio::test]
async fn a_writer_waits_for_other_connections_as_long_as_for_a_turn() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}/tidegate.db", folder.path().display());
    let store = Store::new(url.parse().unwrap());
    let patience = async |connection: &mut AnyConnection| {
        let busy_ms: i64 =
            sqlx::query_scalar("PRAGMA busy_timeout").fetch_one(connection).await.unwrap();
        Duration::from_millis(busy_ms.unsigned_abs())
    };
    assert_eq!(patience(&mut store.writer().await.unwrap()).await, WRITERS_BUSY_TIMEOUT);
    assert_eq!(patience(&mut store.reader().await.unwrap()).await, BUSY_TIMEOUT);
    assert!(WRITERS_BUSY_TIMEOUT > 5 * BUSY_TIMEOUT);
}

#[tokio::test]
async fn many_may_open_a_new_store_at_once() {
    for place in places() {
        let (one, two, three) = (place.again(), place.again(), place.again());
        let (one, two, three) = tokio::join!(one.connect(), two.connect(), three.connect());
        one.unwrap();
        two.unwrap();
        three.unwrap();
    }
}

#[tokio::test]
async fn connections_are_kept_and_changes_that_were_not_committed_are_taken_back() {
    for Place { store, server, _folder } in places() {
        for _ in 0..3 {
            let mut writer = store.writer().await.unwrap();
            let mut transaction = begin(&mut writer, store.kind()).await.unwrap();
            add(&mut transaction, "never").await.unwrap();
            // Dropped: whoever began it is gone.
        }
        let mut writer = store.writer().await.unwrap();
        let mut transaction = begin(&mut writer, store.kind()).await.unwrap();
        add(&mut transaction, "kept").await.unwrap();
        add(&mut transaction, "kept").await.expect_err("the name is taken");
        drop(transaction);
        add(&mut writer, "kept").await.unwrap();
        drop(writer);
        assert_eq!(count(&mut store.reader().await.unwrap()).await, 1);
        if server.is_some() {
            let open = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'tidegate'";
            let mut reader = store.reader().await.unwrap();
            let open: i64 = sqlx::query_scalar(open).fetch_one(&mut *reader).await.unwrap();
            assert_eq!(open, 2, "one reads, one writes");
        }
    }
}

#[tokio::test]
async fn who_waits_too_long_for_a_turn_is_told() {
    for place in places() {
        let store = &place.store;
        let mut turns = Vec::new();
        for _ in 0..READERS {
            turns.push(store.reader().await.unwrap());
        }
        tokio::time::pause();
        let error = store.reader().await.unwrap_err().chain();
        tokio::time::resume();
        assert!(error.starts_with("cannot wait for a connection: "), "{error}");
        turns.pop();
        store.reader().await.unwrap();
    }
}

#[tokio::test]
async fn a_server_that_was_started_again_costs_no_error() {
    for Place { store, server, _folder } in places() {
        let Some(mut server) = server else { continue };
        add(&mut store.writer().await.unwrap(), "before").await.unwrap();
        server.stop();
        let error = store.reader().await.unwrap_err().chain();
        assert!(error.starts_with(&format!("cannot open the database {}: ", store.url())));
        server.start_again();
        add(&mut store.writer().await.unwrap(), "after").await.unwrap();
        assert_eq!(count(&mut store.reader().await.unwrap()).await, 2);
        // Both ends of the pool had a connection that broke.
        server.stop();
        server.start_again();
        add(&mut store.writer().await.unwrap(), "again").await.unwrap();
        assert_eq!(count(&mut store.reader().await.unwrap()).await, 3);
    }
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
    assert_eq!(error.matches("not a database").count(), 1, "{error}");
    // Nobody listens there, and the password stays here.
    let store = Store::new("postgres://ann:hunter2@127.0.0.1:1/gate".parse().unwrap());
    let error = store.connect().await.unwrap_err().chain();
    assert!(error.starts_with("cannot open the database postgres://ann@127.0.0.1:1/gate: "));
    assert!(!error.contains("hunter2"), "{error}");
    assert_eq!(error.matches("refused").count(), 1, "{error}");
}
