//! Tests of what keys and teams may do, of their times, and of who changed them.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use serde_json::json;

use super::*;
use crate::audit::{AuditFilter, AuditRecord};

#[derive(Debug)]
struct SetClock(AtomicU64);

impl WallClock for SetClock {
    fn unix_ms(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

const HOUR: Duration = Duration::from_secs(3_600);

fn by() -> Actor {
    Actor { name: "admin".to_owned(), address: Some("10.0.0.7".to_owned()), request_id: None }
}

fn change(value: serde_json::Value) -> TermsChange {
    serde_json::from_value(value).unwrap()
}

fn named(name: &str, terms: serde_json::Value) -> KeyChange {
    KeyChange { name: Some(name.to_owned()), terms: change(terms), ..KeyChange::default() }
}

/// Callers at a clock that the test sets.
async fn at_clock(store: &Store) -> (Callers, Arc<SetClock>) {
    let clock = Arc::new(SetClock(AtomicU64::new(NOW)));
    let callers = Callers::with_clock(store.clone(), None, None, clock.clone());
    callers.load().await.unwrap();
    (callers, clock)
}

fn code(callers: &Callers, secret: &SecretKey) -> String {
    match callers.authenticate(Some(secret.reveal()), AuthMode::Keys, false) {
        Ok(caller) => caller.name.clone(),
        Err(rejection) => format!("{} {}", rejection.face().status.as_u16(), rejection.face().code),
    }
}

#[tokio::test]
async fn a_key_is_valid_until_it_expires_and_says_so_afterwards() {
    for place in places() {
        let (callers, clock) = at_clock(&place.store).await;
        let new = KeyChange { expires_at_ms: Some(Some(NOW + 5)), ..named("web", json!({})) };
        let (record, secret) = callers.create_as(&new, &by(), NOW).await.unwrap();
        clock.0.store(NOW + 4, Ordering::Relaxed);
        assert_eq!(code(&callers, &secret), "web");
        clock.0.store(NOW + 5, Ordering::Relaxed);
        assert_eq!(code(&callers, &secret), "401 api_key_expired");
        let open = callers.authenticate(Some(secret.reveal()), AuthMode::Open, false).unwrap();
        assert_eq!(open.name, "anonymous");

        let forever = KeyChange { expires_at_ms: Some(None), ..KeyChange::default() };
        let id = record.id.as_str();
        callers.change(id, &forever, None, &by(), NOW + 6).await.unwrap();
        assert_eq!(code(&callers, &secret), "web");
        let past = KeyChange { expires_at_ms: Some(Some(NOW)), ..KeyChange::default() };
        let error = callers.change(id, &past, None, &by(), NOW + 6).await.unwrap_err();
        assert_eq!(error.to_string(), "expires_at: must be in the future");
    }
}

#[tokio::test]
async fn a_rotated_key_has_two_secrets_for_a_while() {
    for place in places() {
        let (callers, clock) = at_clock(&place.store).await;
        let (record, first) = callers.create("web", Priority::default(), NOW).await.unwrap();
        let id = record.id.as_str();
        let (record, second) = callers.rotate(id, HOUR, Some(1), &by(), NOW).await.unwrap();
        assert_eq!((record.version, record.hint.as_str()), (2, second.hint().as_str()));
        assert_eq!(record.previous_until_ms, Some(NOW + 3_600_000));
        assert_eq!(callers.find(id).await.unwrap(), record);
        assert_eq!([code(&callers, &first), code(&callers, &second)], ["web", "web"]);
        clock.0.store(NOW + 3_600_000, Ordering::Relaxed);
        assert_eq!(
            [code(&callers, &first), code(&callers, &second)],
            ["401 api_key_expired", "web"]
        );

        // Only one old secret: what was old before ends at once.
        let (_, third) = callers.rotate(id, HOUR, None, &by(), NOW + 3_600_000).await.unwrap();
        assert_eq!(code(&callers, &first), "401 invalid_api_key");
        assert_eq!([code(&callers, &second), code(&callers, &third)], ["web", "web"]);

        callers.change(id, &revoke(), None, &by(), NOW).await.unwrap();
        for secret in [&second, &third] {
            assert_eq!(code(&callers, secret), "401 invalid_api_key");
        }
        let stale = callers.rotate(id, HOUR, Some(1), &by(), NOW).await.unwrap_err();
        assert!(matches!(stale, KeyError::Changed { .. }), "{stale:?}");
        let revoked = callers.rotate(id, HOUR, None, &by(), NOW).await.unwrap_err();
        assert!(matches!(revoked, KeyError::Revoked), "{revoked:?}");
        let long = callers.rotate(id, HOUR * 24 * 31, None, &by(), NOW).await.unwrap_err();
        assert_eq!(long.to_string(), "overlap: must be at most 30d");
    }
}

#[tokio::test]
async fn a_team_and_its_keys_share_terms() {
    for place in places() {
        let (callers, _) = at_clock(&place.store).await;
        let terms = json!({
            "limits": { "usd_per_month": "500" },
            "models": ["openai/*"],
            "routes": ["smart", "cheap"],
            "tags": { "team": "search", "env": "prod" },
        });
        let team = callers.create_team("search", &change(terms), &by(), NOW).await.unwrap();
        let in_it = KeyChange {
            team: Some(Some(team.id.clone())),
            ..named(
                "web",
                json!({
                    "limits": { "requests_per_minute": 60, "concurrent": 4 },
                    "routes": ["smart"],
                    "tags": { "env": "test" },
                }),
            )
        };
        let (record, secret) = callers.create_as(&in_it, &by(), NOW).await.unwrap();
        let caller = callers.authenticate(Some(secret.reveal()), AuthMode::Keys, false).unwrap();
        assert_eq!(caller.limits.requests_per_minute, Some(60));
        let its_team = caller.team.as_ref().unwrap();
        assert_eq!((&its_team.id, its_team.name.as_str()), (&team.id, "search"));
        assert_eq!(its_team.limits.usd_per_month.unwrap().0.0, 500_000_000);
        // Both must allow it.
        assert_eq!(["smart", "cheap"].map(|name| caller.may_use_route(name)), [true, false]);
        assert!(!caller.may_use_model("openai/gpt-5"), "the key names no model");
        let asked = vec![("env".to_owned(), "mine".to_owned()), ("a".to_owned(), "b".to_owned())];
        let tagged = caller.tagged(asked);
        let tagged: Vec<_> = tagged.iter().map(|(tag, value)| format!("{tag}={value}")).collect();
        assert_eq!(tagged, ["env=test", "team=search", "a=b"], "the key's win, then the team's");

        let anything = KeyChange {
            terms: change(json!({ "routes": null, "limits": {} })),
            ..KeyChange::default()
        };
        let id = record.id.as_str();
        callers.change(id, &anything, Some(1), &by(), NOW).await.unwrap();
        let caller = callers.authenticate(Some(secret.reveal()), AuthMode::Keys, false).unwrap();
        assert!(caller.limits.is_empty() && caller.access.is_open());
        assert!(caller.may_use_model("openai/gpt-5") && !caller.may_use_model("groq/llama"));

        let busy = callers.delete_team(team.id.as_str(), None, &by(), NOW).await.unwrap_err();
        assert!(matches!(busy, KeyError::TeamInUse { keys: 1 }), "{busy:?}");
        let out = KeyChange { team: Some(None), ..KeyChange::default() };
        callers.change(id, &out, None, &by(), NOW).await.unwrap();
        callers.delete_team(team.id.as_str(), Some(1), &by(), NOW).await.unwrap();
        let gone = callers.find_team(team.id.as_str()).await.unwrap_err();
        assert!(matches!(gone, KeyError::UnknownTeam { .. }), "{gone:?}");
        let late = callers.create_as(&in_it, &by(), NOW).await.unwrap_err();
        assert!(matches!(late, KeyError::UnknownTeam { .. }), "{late:?}");
        assert_eq!(callers.list_teams(None, 10).await.unwrap(), []);
    }
}

#[tokio::test]
async fn a_change_of_a_team_reaches_its_keys_and_needs_the_version_that_was_seen() {
    for place in places() {
        let (callers, _) = at_clock(&place.store).await;
        let team = callers.create_team("one", &change(json!({})), &by(), NOW).await.unwrap();
        let team_of_it = Some(Some(team.id.clone()));
        let new = KeyChange { team: team_of_it, ..named("web", json!({})) };
        let (_, secret) = callers.create_as(&new, &by(), NOW).await.unwrap();
        let (id, terms) = (team.id.as_str(), change(json!({ "limits": { "concurrent": 2 } })));
        let changed =
            callers.change_team(id, (Some("two"), &terms), Some(1), &by(), NOW).await.unwrap();
        assert_eq!((changed.name.as_str(), changed.version), ("two", 2));
        assert_eq!(callers.list_teams(None, 1).await.unwrap(), [changed]);
        let caller = callers.authenticate(Some(secret.reveal()), AuthMode::Keys, false).unwrap();
        assert_eq!(caller.team.as_ref().unwrap().limits.concurrent, Some(2));
        let stale = callers.change_team(id, (None, &terms), Some(1), &by(), NOW).await.unwrap_err();
        assert!(matches!(stale, KeyError::Changed { version: 2 }), "{stale:?}");
    }
}

#[test]
fn terms_that_make_no_sense_are_refused() {
    for (terms, word) in [
        (json!({ "limits": { "requests_per_minute": 0 } }), "limits.requests_per_minute"),
        (json!({ "limits": { "usd_per_day": "0" } }), "limits.usd_per_day"),
        (json!({ "routes": ["sm*rt"] }), "routes: `sm*rt`"),
        (json!({ "models": [""] }), "models: ``"),
        (json!({ "models": vec!["a"; 201] }), "models: at most 200"),
        (json!({ "tags": { "a b": "c" } }), "tags: `a b`"),
        (json!({ "tags": { "a": "b,c" } }), "tags: `a`"),
    ] {
        let error = Terms::default().changed(&change(terms)).unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    }
    let unknown = json!({ "limits": { "requests_per_year": 1 } });
    assert!(serde_json::from_value::<TermsChange>(unknown).is_err());
}

#[tokio::test]
async fn every_change_is_in_the_audit_log_without_secrets() {
    for place in places() {
        let (callers, _) = at_clock(&place.store).await;
        let (record, first) =
            callers.create_as(&named("web", json!({})), &by(), NOW).await.unwrap();
        let id = record.id.as_str();
        let (_, second) = callers.rotate(id, HOUR, None, &by(), NOW + 1).await.unwrap();
        let rename = KeyChange { name: Some("shop".to_owned()), ..KeyChange::default() };
        callers.change(id, &rename, None, &by(), NOW + 2).await.unwrap();
        // What changes nothing, and what fails, is no change.
        callers.change(id, &rename, None, &by(), NOW + 3).await.unwrap();
        callers.change(id, &revoke(), Some(1), &by(), NOW + 3).await.unwrap_err();
        callers.change(id, &revoke(), None, &by(), NOW + 4).await.unwrap();
        let rows = callers.audit().list(&AuditFilter::default(), None, 10).await.unwrap();
        let actions: Vec<_> = rows.iter().map(|row: &AuditRecord| row.action.as_str()).collect();
        assert_eq!(actions, ["key.revoke", "key.change", "key.rotate", "key.create"]);
        let renamed = &rows[1];
        assert_eq!(renamed.resource, format!("keys/{id}"));
        assert_eq!(
            (&renamed.before["name"], &renamed.after["name"]),
            (&json!("web"), &json!("shop"))
        );
        assert_eq!(
            (renamed.actor.as_str(), renamed.address.as_deref()),
            ("admin", Some("10.0.0.7"))
        );
        let all = format!("{rows:?}");
        for secret in [&first, &second] {
            let hash = serde_json::to_string(&secret.hash()).unwrap();
            assert!(!all.contains(secret.reveal()) && !all.contains(hash.trim_matches('"')));
        }
    }
}

#[tokio::test]
async fn a_snapshot_keeps_terms_and_times() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("callers.snapshot");
    let store = store_in(&folder);
    let callers = Callers::keeping(store.clone(), None, Some(path.clone()));
    callers.load().await.unwrap();
    let team = callers.create_team("t", &change(json!({})), &by(), NOW).await.unwrap();
    let new = KeyChange {
        team: Some(Some(team.id)),
        expires_at_ms: Some(Some(u64::MAX >> 1)),
        ..named("web", json!({ "limits": { "usd_per_day": "5" }, "routes": ["smart"] }))
    };
    let (record, first) = callers.create_as(&new, &by(), NOW).await.unwrap();
    let id = record.id.as_str();
    let (_, second) = callers.rotate(id, Duration::ZERO, None, &by(), NOW).await.unwrap();
    let known = callers.authenticate(Some(second.reveal()), AuthMode::Keys, false).unwrap();
    tokio::select! {
        () = callers.run(|_| {}) => panic!("the loop ended"),
        () = async { while !path.exists() { tokio::task::yield_now().await } } => {}
    }

    let in_the_way = folder.path().join("data");
    std::fs::remove_dir_all(&in_the_way).unwrap();
    std::fs::create_dir_all(&in_the_way).unwrap();
    std::fs::write(in_the_way.join("tidegate.db"), "no database at all, but something").unwrap();
    let again = Callers::keeping(Store::new(store.url().clone()), None, Some(path));
    again.load().await.unwrap_err();
    let restored = again.authenticate(Some(second.reveal()), AuthMode::Keys, false).unwrap();
    assert_eq!(*restored, *known);
    let away = |key: &str| again.authenticate(Some(key), AuthMode::Keys, false).unwrap_err();
    for key in [first.reveal(), "tg-nobody"] {
        assert_eq!(away(key).face().status, 503, "the store may know better");
    }
    assert!(again.health().behind);
    assert_eq!(again.health().source, CallersSource::Snapshot);
}
