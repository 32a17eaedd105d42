//! `tidegate keys` against the admin API on a real socket.
#![expect(clippy::unwrap_used, clippy::string_slice, reason = "a test may panic")]

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use clap::Parser;
use serde_json::{Value, json};
use tempfile::TempDir;
use tidegate::admin::{self, AdminState};
use tidegate::audit::AuditFilter;
use tidegate::cache::{Cache, CacheSettings};
use tidegate::callers::{AuthMode, Callers, SecretKey};
use tidegate::cli::explain::{self, ExplainArgs};
use tidegate::cli::keys::{self, KeysArgs};
use tidegate::cli::status::{self, StatusArgs};
use tidegate::cli::teams::{self, TeamsArgs};
use tidegate::clock::SystemWallClock;
use tidegate::cluster::Cluster;
use tidegate::config::{Environment, Source, load};
use tidegate::feedback::Feedback;
use tidegate::fleet::Fleet;
use tidegate::jobs::Jobs;
use tidegate::journal::{Journal, JournalSettings};
use tidegate::limits::Limits;
use tidegate::meaning::Meanings;
use tidegate::registry::Registry;
use tidegate::rollout::{RolloutLedger, Rollouts, Surroundings};
use tidegate::runs::{RunSurroundings, Runs};
use tidegate::store::Store;
use tidegate::units::Priority;

use crate::config::assert_golden;
use crate::servers::postgres::PostgresServer;
use crate::support::package;

const ADMIN: &str = "the-admin-key";

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    keys: KeysArgs,
}

/// What a command answered.
struct Answer {
    code: u8,
    out: String,
    err: String,
}

/// Runs `tidegate keys ...` on a thread, as it blocks.
async fn keys(line: &str) -> Answer {
    let words: Vec<_> = std::iter::once("keys").chain(line.split(' ')).map(str::to_owned).collect();
    let run = move || {
        let line = Line::try_parse_from(words).unwrap();
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let code = keys::run(&line.keys, &mut out, &mut err).unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Answer { code, out: text(out), err: text(err) }
    };
    tokio::task::spawn_blocking(run).await.unwrap()
}

/// Serves the admin API of a fresh store beside `work`, which gets its address.
async fn beside_a_gateway(work: impl AsyncFnOnce(String, Callers)) {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}/tidegate.db", folder.path().display());
    beside_a_gateway_with(&url, folder, work).await;
}

/// Two providers of one route.
const CONFIG: &str = r#"
    [providers.sim]
    [providers.sim-anthropic]
    [routes.smart]
    targets = [{ model = "sim/tide-small", weight = 3 }, { model = "sim-anthropic/tide-large" }]
"#;

async fn beside_a_gateway_with(
    url: &str,
    folder: TempDir,
    work: impl AsyncFnOnce(String, Callers),
) {
    let store = Store::new(url.parse().unwrap());
    let clock = Arc::new(SystemWallClock);
    let settings = JournalSettings::default();
    let (journal, _writer) = Journal::new(&settings, store.clone(), clock.clone());
    let callers = Callers::new(store.clone(), Some(&SecretKey::new(ADMIN)));
    callers.load().await.unwrap();
    let file = folder.path().join("tidegate.toml");
    std::fs::write(&file, CONFIG).unwrap();
    let environment = Environment::fixed([]);
    let source = Source { file: Some(file), ..Source::environment(environment) };
    let snapshot = load(&source, None).unwrap();
    let fleet = Arc::new(Fleet::new(Arc::default()));
    // One target of two is out.
    let drained = Arc::clone(&snapshot.resolve("sim-anthropic/tide-large").unwrap().tiers[0][0]);
    fleet.adopt(&drained).set_drained(true, None).unwrap();
    let limits = Limits::new(clock.clone(), Arc::default(), Cluster::alone());
    let cache = Cache::new(&CacheSettings::default(), clock.clone());
    let rollouts = RolloutLedger::new(
        journal.store().clone(),
        Rollouts::new(),
        "here",
        None,
        clock.clone(),
        Surroundings::none(),
    );
    let snapshot = Arc::new(ArcSwap::new(snapshot));
    let registry = Registry::new(store.clone(), snapshot.clone(), None, clock.clone());
    let runs = Runs::new(store.clone(), clock.clone(), RunSurroundings::none());
    let state = AdminState {
        rollouts,
        runs,
        limits: Arc::new(limits),
        meanings: Meanings::new(&CacheSettings::default(), cache.clone()),
        cache,
        jobs: Jobs::new(journal.store().clone()),
        feedback: Feedback::new(
            journal.store().clone(),
            Duration::ZERO,
            clock.clone(),
            Arc::default(),
        ),
        fleet,
        registry,
        snapshot,
        journal,
        callers: callers.clone(),
        clock,
        show_config: Arc::new(|| json!({})),
        reload_config: Arc::new(|| Box::pin(std::future::ready(Ok(json!({}))))),
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serve = async { axum::serve(listener, admin::router(state)).await.unwrap() };
    tokio::select! {
        () = serve => panic!("the server ended"),
        () = work(format!("--url http://{address} --admin-key {ADMIN}"), callers) => {}
    }
}

#[tokio::test]
async fn keys_are_made_listed_and_revoked_from_a_terminal() {
    beside_a_gateway(make_list_and_revoke).await;
    let Some(server) = PostgresServer::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    beside_a_gateway_with(&server.url(), folder, make_list_and_revoke).await;
}

async fn make_list_and_revoke(to: String, callers: Callers) {
    let empty = keys(&format!("{to} list")).await;
    assert_eq!(
        (empty.code, empty.out.as_str()),
        (0, "no keys; `tidegate keys create NAME` makes one\n")
    );

    // Options may stand before the command or behind it.
    let made = keys(&format!("create web {to}")).await;
    assert_eq!(made.code, 0, "{}", made.err);
    let secret = made.out.trim_end();
    let caller = callers.authenticate(Some(secret), AuthMode::Keys, false).unwrap();
    assert!(made.err.starts_with(&format!("This is key {} (web).", caller.id)), "{}", made.err);

    let listed = keys(&format!("{to} list")).await.out;
    let hint = &secret[secret.len() - 4..];
    let row = listed.lines().nth(1).unwrap();
    assert!(
        row.starts_with(&format!("{}  web   tg-...{hint}  2         -     20", caller.id)),
        "{listed}"
    );
    assert!(row.ends_with("  -"), "{listed}");

    let made = keys(&format!("{to} create nightly --priority 4 --json")).await;
    let made: Value = serde_json::from_str(&made.out).unwrap();
    assert_eq!(made["priority"], 4);
    let caller_of_it = callers.authenticate(made["key"].as_str(), AuthMode::Keys, false).unwrap();
    assert_eq!(caller_of_it.priority, Priority::LOWEST);
    let listed = keys(&format!("{to} list")).await.out;
    assert!(listed.lines().nth(1).unwrap().contains("  4         -     20"), "{listed}");

    let revoked = keys(&format!("{to} revoke {}", caller.id)).await;
    assert_eq!((revoked.code, revoked.out), (0, format!("{} is revoked\n", caller.id)));
    assert!(callers.authenticate(Some(secret), AuthMode::Keys, false).is_err());
    let list: Value = serde_json::from_str(&keys(&format!("{to} list --json")).await.out).unwrap();
    assert_eq!(list[1]["id"], caller.id.as_str());
    assert!(list[1]["revoked_at"].is_string(), "{list}");
}

#[derive(Parser)]
struct TeamsLine {
    #[command(flatten)]
    teams: TeamsArgs,
}

/// Runs `tidegate teams ...` on a thread, as it blocks.
async fn teams(line: &str) -> Answer {
    let words: Vec<_> =
        std::iter::once("teams").chain(line.split(' ')).map(str::to_owned).collect();
    let run = move || {
        let line = TeamsLine::try_parse_from(words).unwrap();
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let code = teams::run(&line.teams, &mut out, &mut err).unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Answer { code, out: text(out), err: text(err) }
    };
    tokio::task::spawn_blocking(run).await.unwrap()
}

#[tokio::test]
async fn teams_and_what_keys_may_do_are_set_from_a_terminal() {
    beside_a_gateway(async |to, callers| {
        let empty = teams(&format!("{to} list")).await;
        assert_eq!(empty.out, "no teams; `tidegate teams create NAME` makes one\n");
        let line = "create search --limit usd_per_month=500 --tag team=search --json";
        let made = teams(&format!("{to} {line}")).await;
        let team: Value = serde_json::from_str(&made.out).unwrap();
        assert_eq!(team["limits"], json!({ "usd_per_month": "500" }));
        let team = team["id"].as_str().unwrap().to_owned();
        assert!(teams(&format!("{to} list")).await.out.contains(&format!("{team}  search  20")));

        let options = "--limit requests_per_minute=60 --route smart --expires 2090-01-01T00:00:00Z";
        let made = keys(&format!("{to} create web --team {team} {options} --json")).await;
        let key: Value = serde_json::from_str(&made.out).unwrap_or_else(|_| panic!("{}", made.err));
        let secret = key["key"].as_str().unwrap();
        let caller = callers.authenticate(Some(secret), AuthMode::Keys, false).unwrap();
        assert_eq!(caller.limits.requests_per_minute, Some(60));
        assert!(caller.may_use_route("smart") && !caller.may_use_route("cheap"));
        assert_eq!(caller.tags["team"], "search");

        let id = key["id"].as_str().unwrap();
        let rotated = keys(&format!("{to} rotate {id} --overlap 2h")).await;
        // The key and nothing else, for scripts.
        let fresh = rotated.out.trim_end();
        assert!(rotated.err.contains("The one before is valid until 20"), "{}", rotated.err);
        for secret in [secret, fresh] {
            callers.authenticate(Some(secret), AuthMode::Keys, false).unwrap();
        }
        let line = format!("{to} update {id} --name shop --no-team --any-model --no-expiry");
        let updated = keys(&line).await.out;
        assert!(updated.contains("name: shop\n"), "{updated}");
        assert!(updated.contains("limits: requests_per_minute=60\n"), "{updated}");
        for gone in ["team:", "routes:", "expires_at:"] {
            assert!(!updated.contains(gone), "{updated}");
        }
        let shown = keys(&format!("{to} show {id}")).await.out;
        let usage = "\nLIMIT                OF   ALLOWED  AT ONCE  USED  SHARE  RESETS\n\
                     requests_per_minute  key  60       10       0     0 %    -\n";
        assert_eq!(shown, format!("{updated}{usage}"));
        let shown = teams(&format!("{to} show {team}")).await.out;
        let usage = "\nLIMIT          OF    ALLOWED     AT ONCE     USED      SHARE  RESETS\n\
                     usd_per_month  team  500.000000  500.000000  0.000000  0 %    -\n";
        assert!(shown.ends_with(usage), "{shown}");
        let deleted = teams(&format!("{to} delete {team}")).await;
        assert_eq!((deleted.code, deleted.out), (0, format!("{team} is deleted\n")));
        let gone = teams(&format!("{to} show {team}")).await;
        assert_eq!((gone.code, gone.out.as_str()), (1, ""));
        let wrong = keys(&format!("{to} update {id} --limit lots")).await;
        assert_eq!(
            (wrong.code, wrong.err.as_str()),
            (2, "--limit lots: write it like NAME=N, such as requests_per_minute=60\n")
        );
        let audit = callers.audit().list(&AuditFilter::default(), None, 10).await.unwrap();
        assert_eq!(audit.len(), 5, "{audit:?}");
        assert!(audit.iter().all(|row| row.actor == "cli"), "{audit:?}");
    })
    .await;
}

#[tokio::test]
async fn a_list_longer_than_a_page_is_whole() {
    beside_a_gateway(async |to, callers| {
        for n in 0..103 {
            callers.create(&format!("caller-{n}"), Priority::default(), n).await.unwrap();
        }
        let list: Value =
            serde_json::from_str(&keys(&format!("{to} list --json")).await.out).unwrap();
        let names: Vec<_> =
            list.as_array().unwrap().iter().map(|key| key["name"].as_str().unwrap()).collect();
        let expected: Vec<_> = (0..103).rev().map(|n| format!("caller-{n}")).collect();
        assert_eq!(names, expected);
    })
    .await;
}

#[tokio::test]
async fn refusals_and_wrong_use_have_their_own_exit_codes() {
    beside_a_gateway(async |to, _| {
        let url = to.split(" --admin-key").next().unwrap();
        let cases = [
            (format!("{to} revoke key_x"), 1, "no key has the id `key_x`"),
            (format!("{to} create web --expires soon"), 2, "expires_at: `soon` is no time"),
            (format!("{to} revoke ../config"), 2, "`../config` is no id of a key"),
            (format!("{url} --admin-key wrong list"), 2, "the admin key is wrong"),
            (
                format!("--url https://example.com --admin-key {ADMIN} list"),
                2,
                "must begin with http://",
            ),
            (format!("--url http:// --admin-key {ADMIN} list"), 2, "names no host"),
            (
                format!("--url http://127.0.0.1:1 --admin-key {ADMIN} list"),
                2,
                "is the gateway running",
            ),
        ];
        for (line, code, words) in cases {
            let answer = keys(&line).await;
            assert_eq!(answer.code, code, "{line}: {}", answer.err);
            assert!(answer.err.contains(words), "{line}: {}", answer.err);
            assert_eq!(answer.out, "", "{line}");
            let in_json = keys(&format!("{line} --json")).await;
            assert_eq!(in_json.code, code);
            let error: Value = serde_json::from_str(&in_json.out).unwrap();
            assert!(error["error"].as_str().unwrap().contains(words), "{error}");
        }
    })
    .await;
}

#[derive(Parser)]
struct ExplainLine {
    #[command(flatten)]
    explain: ExplainArgs,
}

async fn explained(line: &str) -> (u8, String) {
    let line = ExplainLine::parse_from(std::iter::once("explain").chain(line.split_whitespace()));
    let run = move || {
        let mut out = Vec::new();
        let code = explain::run(&line.explain, Environment::fixed([]), &mut out).unwrap();
        (code, String::from_utf8(out).unwrap())
    };
    tokio::task::spawn_blocking(run).await.unwrap()
}

#[tokio::test]
async fn explain_shows_how_the_targets_of_a_running_gateway_stand() {
    beside_a_gateway(async |to, _| {
        let (code, said) = explained(&format!("{to} --model smart --input-tokens 4000")).await;
        assert_eq!(code, 0, "{said}");
        let url = to.split_whitespace().nth(1).unwrap();
        let golden = package().join("tests/golden/config/explain-live.txt");
        assert_golden(&golden, &said.replace(url, "http://127.0.0.1:8080"));

        let (code, said) = explained(&format!("{to} --model smrt")).await;
        assert_eq!(
            (code, said.as_str()),
            (1, "the model `smrt` does not exist; did you mean `smart`?\n")
        );
        let (_, said) = explained(&format!("{to} --model smart --tools --json")).await;
        let said: Value = serde_json::from_str(&said).unwrap();
        assert_eq!(said["route"]["demand"]["features"], json!(["tools"]));
    })
    .await;
    let (code, said) = explained("--url http://127.0.0.1:1 --admin-key x --model smart").await;
    assert_eq!(code, 2);
    assert!(said.contains("is the gateway running"), "{said}");
}

#[derive(Parser)]
struct StatusLine {
    #[command(flatten)]
    status: StatusArgs,
}

#[tokio::test]
async fn status_says_how_a_running_gateway_is() {
    beside_a_gateway(async |to, _| {
        let run = move || {
            let words = std::iter::once("status").chain(to.split(' '));
            let line = StatusLine::try_parse_from(words).unwrap();
            let (mut out, mut err) = (Vec::new(), Vec::new());
            let code = status::run(&line.status, &mut out, &mut err).unwrap();
            (code, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
        };
        let (code, out, err) = tokio::task::spawn_blocking(run).await.unwrap();
        assert_eq!((code, err.as_str()), (0, ""));
        let rows: Vec<Vec<_>> = out.lines().map(|line| line.split_whitespace().collect()).collect();
        let states: Vec<_> = rows
            .iter()
            .filter_map(|row| row.first().zip(row.get(1)))
            .filter(|(target, _)| target.starts_with("sim"))
            .collect();
        let expected = [(&"sim-anthropic/tide-large", &"drained"), (&"sim/tide-small", &"serves")];
        assert_eq!(states, expected, "{out}");
    })
    .await;
}
