//! Tests of keys and of who may call.

use parking_lot::Mutex;
use sqlx::{Executor, SqlSafeStr};

use super::*;
use crate::audit::Actor;
use crate::store::places::places;

mod terms;

const NOW: u64 = 1_700_000_000_000;

fn store_in(folder: &tempfile::TempDir) -> Store {
    let path = folder.path().join("data/tidegate.db");
    Store::new(format!("sqlite:{}", path.display()).parse().unwrap())
}

async fn loaded_callers(folder: &tempfile::TempDir) -> Callers {
    loaded(&store_in(folder)).await
}

async fn loaded(store: &Store) -> Callers {
    let callers = Callers::new(store.clone(), None);
    callers.load().await.unwrap();
    callers
}

/// Who it is, or the status of the refusal.
fn verdict(callers: &Callers, key: Option<&str>, mode: AuthMode, is_loopback: bool) -> String {
    match callers.authenticate(key, mode, is_loopback) {
        Ok(caller) => caller.name.clone(),
        Err(rejection) => rejection.face().status.as_u16().to_string(),
    }
}

fn revoke() -> KeyChange {
    KeyChange { revoke: true, ..KeyChange::default() }
}

#[tokio::test]
async fn modes_decide_who_may_call() {
    for place in places() {
        use AuthMode::{Auto, Keys, Open};
        let callers = loaded(&place.store).await;
        let good = Some("tg-good");
        let anybody = "anonymous";
        // Before the first key: mode, loopback, without a key, with an unknown one.
        for (mode, is_loopback, without, with) in [
            (Auto, true, anybody, anybody),
            (Auto, false, "401", "401"),
            (Keys, true, "401", "401"),
            (Open, false, anybody, anybody),
        ] {
            assert_eq!(verdict(&callers, None, mode, is_loopback), without, "{mode:?}");
            assert_eq!(verdict(&callers, good, mode, is_loopback), with, "{mode:?}");
        }

        let (record, secret) = callers.create("web", Priority::default(), NOW).await.unwrap();
        let key = secret.reveal();
        assert_eq!(callers.any_key_exists(), Some(true));
        // With a key: mode, loopback, without it, with a wrong one, with it.
        for (mode, is_loopback, without, wrong, right) in [
            (Auto, true, "401", "401", "web"),
            (Auto, false, "401", "401", "web"),
            (Keys, true, "401", "401", "web"),
            (Open, true, anybody, anybody, "web"),
        ] {
            assert_eq!(verdict(&callers, None, mode, is_loopback), without, "{mode:?}");
            assert_eq!(verdict(&callers, good, mode, is_loopback), wrong, "{mode:?}");
            assert_eq!(verdict(&callers, Some(key), mode, is_loopback), right, "{mode:?}");
        }

        callers.change(record.id.as_str(), &revoke(), None, &Actor::gateway(), NOW).await.unwrap();
        assert_eq!(verdict(&callers, Some(key), Keys, true), "401");
        assert_eq!(
            verdict(&callers, None, Auto, true),
            "401",
            "a revoked key does not open the gate"
        );
    }
}

#[tokio::test]
async fn the_caller_of_a_key_is_its_public_id() {
    let folder = tempfile::tempdir().unwrap();
    let callers = loaded_callers(&folder).await;
    let (record, secret) = callers.create("  web ", Priority::default(), NOW).await.unwrap();
    let caller = callers.authenticate(Some(secret.reveal()), AuthMode::Keys, false).unwrap();
    assert_eq!((&caller.id, caller.name.as_str()), (&record.id, "web"));
    assert!(record.id.as_str().starts_with("key_"));
    assert_eq!(record.hint.len(), 4);
    assert!(secret.reveal().ends_with(&record.hint));
}

#[test]
fn keys_are_long_random_and_do_not_print() {
    let (one, other) = (SecretKey::generate(), SecretKey::generate());
    assert_ne!(one.reveal(), other.reveal());
    let random = one.reveal().strip_prefix("tg-").unwrap();
    assert_eq!(random.len(), 40);
    assert!(random.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    assert_eq!(format!("{one:?} {:?}", one.hash()), "<secret> <hash>");
    assert!(SecretKey::generate_admin().reveal().starts_with("tga-"));
}

#[tokio::test]
async fn the_store_holds_no_key_in_the_clear() {
    let folder = tempfile::tempdir().unwrap();
    let callers = Callers::new(store_in(&folder), None);
    let admin = callers.load().await.unwrap().expect("made at the first start");
    let (_, secret) = callers.create("web", Priority::default(), NOW).await.unwrap();
    let mut bytes = Vec::new();
    for file in std::fs::read_dir(folder.path().join("data")).unwrap() {
        bytes.extend(std::fs::read(file.unwrap().path()).unwrap());
    }
    for (what, secret) in [("key", secret), ("admin key", admin)] {
        let needle = secret.reveal().as_bytes();
        assert!(memchr::memmem::find(&bytes, needle).is_none(), "the {what} is in the store");
        assert!(memchr::memmem::find(&bytes, secret.hash().as_bytes()).is_some(), "{what}");
    }
}

#[tokio::test]
async fn our_own_failure_is_never_a_401() {
    let folder = tempfile::tempdir().unwrap();
    let callers = Callers::new(store_in(&folder), None);
    for mode in [AuthMode::Auto, AuthMode::Keys] {
        assert_eq!(verdict(&callers, Some("tg-good"), mode, true), "503");
        assert_eq!(verdict(&callers, None, mode, true), "503");
    }
    assert_eq!(verdict(&callers, None, AuthMode::Open, false), "anonymous");
    let admin = callers.authenticate_admin(Some("tga-x")).unwrap_err();
    assert_eq!(admin.face().status, 503);
    assert_eq!(admin.retry_after(), Some(std::time::Duration::from_secs(1)));
}

#[tokio::test]
async fn a_store_that_cannot_be_made_holds_no_key() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("data"), "in the way").unwrap();
    let callers = Callers::new(store_in(&folder), None);
    callers.load().await.unwrap_err();
    assert_eq!(verdict(&callers, None, AuthMode::Auto, true), "anonymous");
    assert_eq!(verdict(&callers, None, AuthMode::Auto, false), "503");
    assert_eq!(verdict(&callers, None, AuthMode::Keys, true), "503");
    // One that is there but cannot be read may hold some.
    std::fs::remove_file(folder.path().join("data")).unwrap();
    std::fs::create_dir_all(folder.path().join("data")).unwrap();
    std::fs::write(folder.path().join("data/tidegate.db"), "no database at all").unwrap();
    callers.load().await.unwrap_err();
    assert_eq!(verdict(&callers, None, AuthMode::Auto, true), "503");
}

#[tokio::test]
async fn the_admin_key_is_made_once_and_found_again() {
    for place in places() {
        let callers = Callers::new(place.store.clone(), None);
        let made = callers.load().await.unwrap().expect("made at the first start");
        assert!(callers.load().await.unwrap().is_none());
        let again = loaded(&place.store).await;
        again.authenticate_admin(Some(made.reveal())).unwrap();
        for wrong in [None, Some(""), Some("tga-wrong")] {
            assert_eq!(again.authenticate_admin(wrong).unwrap_err().face().status, 401);
        }
    }
}

#[tokio::test]
async fn the_admin_key_of_the_environment_comes_before_the_stored_one() {
    let folder = tempfile::tempdir().unwrap();
    let made = Callers::new(store_in(&folder), None).load().await.unwrap().unwrap();
    let given = SecretKey::new("from-the-environment");
    let callers = Callers::new(store_in(&folder), Some(&given));
    // Known before the store is read, so that the admin API works without it.
    callers.authenticate_admin(Some("from-the-environment")).unwrap();
    assert!(callers.load().await.unwrap().is_none());
    callers.authenticate_admin(Some("from-the-environment")).unwrap();
    assert!(callers.authenticate_admin(Some(made.reveal())).is_err());
}

#[tokio::test]
async fn changes_need_the_version_that_was_seen() {
    for place in places() {
        let callers = loaded(&place.store).await;
        let (record, _) = callers.create("web", Priority::default(), NOW).await.unwrap();
        let id = record.id.as_str();
        let rename = |name: &str| KeyChange { name: Some(name.to_owned()), ..KeyChange::default() };

        let renamed =
            callers.change(id, &rename("shop"), Some(1), &Actor::gateway(), NOW).await.unwrap();
        assert_eq!((renamed.name.as_str(), renamed.version), ("shop", 2));
        let stale =
            callers.change(id, &rename("late"), Some(1), &Actor::gateway(), NOW).await.unwrap_err();
        assert!(matches!(stale, KeyError::Changed { version: 2 }), "{stale:?}");
        let same =
            callers.change(id, &rename("shop"), Some(2), &Actor::gateway(), NOW).await.unwrap();
        assert_eq!(same.version, 2);

        let revoked =
            callers.change(id, &revoke(), None, &Actor::gateway(), NOW + 5).await.unwrap();
        assert_eq!(revoked.revoked_at_ms, Some(NOW + 5));
        let again = callers.change(id, &revoke(), None, &Actor::gateway(), NOW + 9).await.unwrap();
        assert_eq!(again, revoked);
        assert_eq!(callers.find(id).await.unwrap(), revoked);

        let unknown =
            callers.change("key_none", &revoke(), None, &Actor::gateway(), NOW).await.unwrap_err();
        assert_eq!(unknown.to_string(), "no key has the id `key_none`");
    }
}

#[tokio::test]
async fn no_request_is_more_urgent_than_its_key() {
    for place in places() {
        let callers = loaded(&place.store).await;
        let level = |level| Priority::try_from(level).unwrap();
        let (record, secret) = callers.create("nightly", level(3), NOW).await.unwrap();
        let priority_of = |key: Option<&str>, mode, asked: Option<u64>| {
            let caller = callers.authenticate(key, mode, true).unwrap();
            caller.priority_of(asked.map(level)).level()
        };
        let key = Some(secret.reveal());
        // What is asked for, what a key of priority 3 gets, what somebody without a key gets.
        for (asked, with_key, without) in
            [(None, 3, 2), (Some(0), 3, 1), (Some(1), 3, 1), (Some(3), 3, 3), (Some(4), 4, 4)]
        {
            assert_eq!(priority_of(key, AuthMode::Keys, asked), with_key, "{asked:?}");
            assert_eq!(priority_of(None, AuthMode::Open, asked), without, "{asked:?}");
        }

        let change = KeyChange { priority: Some(Priority::HIGHEST), ..KeyChange::default() };
        let changed = callers
            .change(record.id.as_str(), &change, None, &Actor::gateway(), NOW)
            .await
            .unwrap();
        assert_eq!((changed.priority, changed.version), (Priority::HIGHEST, 2));
        assert_eq!(callers.find(record.id.as_str()).await.unwrap(), changed);
        assert_eq!(priority_of(key, AuthMode::Keys, Some(0)), 0);
    }
}

#[tokio::test]
async fn keys_of_an_older_version_get_the_usual_priority() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("data")).unwrap();
    let path = folder.path().join("data/tidegate.db");
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(&path).create_if_missing(true);
    let mut old = sqlx::ConnectOptions::connect(&options).await.unwrap();
    let tables = include_str!("../../migrations/0001_requests_and_keys.sql");
    let sql = sqlx::AssertSqlSafe(tables).into_sql_str();
    let kind = sqlx::migrate::MigrationType::Simple;
    let first = sqlx::migrate::Migration::new(1, "requests and keys".into(), kind, sql, false);
    sqlx::migrate::Migrator::with_migrations(vec![first]).run(&mut old).await.unwrap();
    old.execute("INSERT INTO keys VALUES ('key_old', 'web', x'00', 'last', 1, 0, NULL)")
        .await
        .unwrap();
    drop(old);
    let record = loaded_callers(&folder).await.find("key_old").await.unwrap();
    assert_eq!((record.name.as_str(), record.priority.level()), ("web", 2));
}

#[tokio::test]
async fn names_are_checked() {
    let folder = tempfile::tempdir().unwrap();
    let callers = loaded_callers(&folder).await;
    for name in ["", "  ", "a\nb", &"x".repeat(101)] {
        let error = callers.create(name, Priority::default(), NOW).await.unwrap_err();
        assert!(matches!(error, KeyError::Name(_)), "{name:?}: {error:?}");
    }
    assert_eq!(callers.any_key_exists(), Some(false));
}

#[tokio::test]
async fn lists_go_on_where_the_page_ended() {
    for place in places() {
        let callers = loaded(&place.store).await;
        for (name, at) in [("one", NOW), ("two", NOW + 1), ("three", NOW + 2)] {
            callers.create(name, Priority::default(), at).await.unwrap();
        }
        let names =
            |page: &[KeyRecord]| -> Vec<_> { page.iter().map(|k| k.name.clone()).collect() };
        let first = callers.list(None, 2).await.unwrap();
        assert_eq!(names(&first), ["three", "two"]);
        let second = callers.list(Some(first[1].id.as_str()), 2).await.unwrap();
        assert_eq!(names(&second), ["one"]);
        assert!(matches!(callers.list(Some("key_none"), 2).await, Err(KeyError::Unknown { .. })));
    }
}

#[tokio::test]
async fn the_loop_reads_the_store_when_it_appears_and_when_asked() {
    let folder = tempfile::tempdir().unwrap();
    let in_the_way = folder.path().join("data");
    std::fs::write(&in_the_way, "a file where the folder should be").unwrap();
    let callers = Callers::new(store_in(&folder), None);
    let announced = Mutex::new(Vec::new());
    let run = callers.clone().run(|key| announced.lock().push(key.clone()));
    let work = async {
        while !callers.nothing_there() {
            tokio::task::yield_now().await;
        }
        std::fs::remove_file(&in_the_way).unwrap();
        while callers.any_key_exists().is_none() {
            tokio::task::yield_now().await;
        }
        // Another process makes a key.
        let (_, secret) =
            loaded_callers(&folder).await.create("web", Priority::default(), NOW).await.unwrap();
        assert_eq!(verdict(&callers, Some(secret.reveal()), AuthMode::Keys, true), "401");
        callers.reload();
        while verdict(&callers, Some(secret.reveal()), AuthMode::Keys, true) != "web" {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        () = run => panic!("the loop ended"),
        () = work => {}
    }
    let announced = announced.into_inner();
    let [admin] = announced.as_slice() else { panic!("announced {}", announced.len()) };
    callers.authenticate_admin(Some(admin.reveal())).unwrap();
}

#[tokio::test]
async fn a_store_that_fails_later_leaves_what_is_known() {
    let folder = tempfile::tempdir().unwrap();
    let callers = loaded_callers(&folder).await;
    let (_, secret) = callers.create("web", Priority::default(), NOW).await.unwrap();
    let mut other = store_in(&folder).connect().await.unwrap();
    other.execute("DROP TABLE keys").await.unwrap();
    callers.load().await.unwrap_err();
    assert_eq!(verdict(&callers, Some(secret.reveal()), AuthMode::Keys, true), "web");
}
