//! Configuration from files and environment, as an operator meets it: what is wrong is said, all of
//! it, with lines; what is right takes effect; reloads keep what works.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tidegate::callers::AuthMode;
use tidegate::catalog::AuthScheme;
use tidegate::cli::{SourceArgs, check, explain};
use tidegate::clock::FixedWallClock;
use tidegate::config::{Environment, KeepAlive, Snapshot, Source, load, may_listen, reloading};
use tidegate::rejection::Rejection;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn environment() -> Environment {
    Environment::fixed([("SET", "key-one"), ("SET_TOO", "key-two"), ("EMPTY", " ")])
}

fn from_environment(variables: &[(&str, &str)]) -> Arc<Snapshot> {
    let environment = Environment::fixed(variables.iter().copied());
    load(&Source::environment(environment), None).unwrap()
}

fn from_text(text: &str) -> Result<Arc<Snapshot>, String> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tidegate.toml");
    std::fs::write(&file, text).unwrap();
    load(&source(&file), None).map_err(|problems| {
        let folder = format!("{}/", folder.path().display());
        problems.to_string().replace(&folder, "")
    })
}

fn source(file: &Path) -> Source {
    Source {
        file: Some(file.to_owned()),
        providers: providers(),
        ..Source::environment(environment())
    }
}

/// Compares what a command says with the golden file beside its input, or rewrites that with
/// `UPDATE=1`.
pub(crate) fn assert_golden(path: &Path, now: &str) {
    #[expect(clippy::disallowed_methods, reason = "a switch of the test run, not of the program")]
    if std::env::var("UPDATE").is_ok() {
        std::fs::write(path, now).unwrap();
    }
    let then = std::fs::read_to_string(path).unwrap_or_default();
    assert_eq!(then, now, "{} differs; look, then run with UPDATE=1", path.display());
}

/// Provider files that stay as they are, so that golden files do not change with the world.
fn providers() -> Option<PathBuf> {
    Some(root().join("tests/golden/config/providers"))
}

fn checked(file: &Path, json: bool) -> (u8, String) {
    let source = SourceArgs { config: Some(file.into()), providers: providers(), prompts: None };
    let (args, mut out) = (check::CheckArgs { source, json, without_keys: false }, Vec::new());
    let code = check::run(&args, environment(), &mut out).unwrap();
    let folder = format!("{}/", file.parent().unwrap().display());
    (code, String::from_utf8(out).unwrap().replace(&folder, ""))
}

fn explained(model: &str, json: bool) -> (u8, String) {
    let config = Some(root().join("tests/golden/config/good.toml"));
    let source = SourceArgs { config, providers: providers(), ..SourceArgs::default() };
    let args = explain::ExplainArgs { model: model.to_owned(), source, json, ..Default::default() };
    let mut out = Vec::new();
    let code = explain::run(&args, environment(), &mut out).unwrap();
    (code, String::from_utf8(out).unwrap())
}

// === Problems ===

#[test]
fn every_problem_is_reported_with_its_line() {
    let cases = ["keys", "types", "routes", "limits", "semantic", "unlearnt", "references"];
    for case in cases.into_iter().chain(["secrets", "syntax", "good"]) {
        let file = root().join(format!("tests/golden/config/{case}.toml"));
        let (code, said) = checked(&file, false);
        assert_eq!(code, if case == "good" { 0 } else { 2 }, "{case}: {said}");
        assert_golden(&file.with_extension("txt"), &said);
    }
}

#[test]
fn no_message_repeats_a_key() {
    let file = root().join("tests/golden/config/secrets.toml");
    for json in [false, true] {
        let (_, said) = checked(&file, json);
        for secret in ["aaaa", "bbbb", "cccc", "dddd", "eeee", "ffff", "key-one"] {
            assert!(!said.contains(secret), "{secret} in {said}");
        }
    }
}

#[test]
fn check_answers_in_json() {
    let (code, said) = checked(&root().join("tests/golden/config/keys.toml"), true);
    let said: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(code, 2);
    assert_eq!(said["ok"], false);
    assert_eq!(said["problems"][0]["line"], 2);
    assert_eq!(said["problems"][0]["key"], "colour");
}

#[test]
fn a_file_that_is_not_there_is_a_problem() {
    let (code, said) = checked(Path::new("/nowhere/at/all.toml"), false);
    assert_eq!(code, 2);
    assert_eq!(
        said,
        "all.toml: cannot be read: No such file or directory (os error 2)\n1 problem\n"
    );
}

#[test]
fn provider_files_of_a_folder_are_checked_and_take_the_place_of_built_in_ones() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    let facts = "source = \"https://example.com\"\nas_of = \"2026-11-01\"\n";
    write("notes.md", "not a provider");
    write(
        "sim.toml",
        &format!(
            "id = \"sim\"\nname = \"Ours\"\ndialect = \"anthropic\"\nbase_url = \"sim://ours\"\n{facts}\
             [[models]]\nid = \"only\"\n"
        ),
    );
    let with_folder = Source {
        providers: Some(folder.path().to_owned()),
        ..Source::environment(Environment::fixed([]))
    };
    let snapshot = load(&with_folder, None).unwrap();
    let names: Vec<_> = snapshot.models().map(|listed| listed.id.as_str()).collect();
    assert_eq!(names, ["default", "sim/only"]);

    write("bad.toml", "id = \"good\"\ndialect = \"openai\"\nprices = 1\nas_of = \"soon\"\n");
    let problems = load(&with_folder, None).unwrap_err().to_string();
    let problems = problems.replace(&format!("{}/", folder.path().display()), "");
    assert_eq!(
        problems,
        "bad.toml: name: missing\n\
         bad.toml: base_url: missing\n\
         bad.toml: source: missing\n\
         bad.toml:2: dialect: \"openai\" is not one of \"openai-chat\", \"anthropic\", \"gemini\"\n\
         bad.toml:3: prices: unknown key; known are `id`, `name`, `dialect`, `base_url`, \
         `key_env`, `auth`, `headers`, `rate_headers`, `quirks`, `open_models`, `source`, `as_of`, \
         `models`"
    );
}

#[test]
fn no_file_makes_the_check_panic() {
    let good = std::fs::read_to_string(root().join("tests/golden/config/good.toml")).unwrap();
    // Every file that ends too early, and every one with a line missing.
    for end in (0..good.len()).step_by(83) {
        let _ = from_text(good.get(..end).unwrap_or_default());
    }
    let lines: Vec<_> = good.lines().collect();
    for without in (0..lines.len()).step_by(2) {
        let mut lines = lines.clone();
        lines.remove(without);
        let _ = from_text(&lines.join("\n"));
    }
    let deep = 100_000;
    for text in [
        format!("a = {}", "[".repeat(deep)),
        format!("a = {}{}", "[".repeat(deep), "]".repeat(deep)),
        format!("{}a = 1", "a.".repeat(deep)),
        format!("[{}a]", "a.".repeat(deep)),
        format!("a = {}", "{a=".repeat(deep)),
    ] {
        let said = from_text(&text).unwrap_err();
        assert!(said.len() < 10_000_000, "{} bytes of problems", said.len());
    }
    assert!(from_text("\u{0}\u{feff}\u{1b}[31m = 1").is_err());
}

#[test]
fn a_file_that_is_no_text_or_too_large_is_a_problem() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tidegate.toml");
    std::fs::write(&file, b"a = \"\xff\xfe\"").unwrap();
    let problems = load(&source(&file), None).unwrap_err().to_string();
    assert!(problems.ends_with("cannot be read: stream did not contain valid UTF-8"), "{problems}");
    std::fs::write(&file, vec![b'#'; 5 << 20]).unwrap();
    let problems = load(&source(&file), None).unwrap_err().to_string();
    assert!(problems.ends_with("cannot be read: the file is larger than 4MiB"), "{problems}");
}

// === What is on ===

#[test]
fn without_any_key_the_simulated_provider_answers() {
    let snapshot = from_environment(&[]);
    let ids: Vec<_> = snapshot.endpoints().map(|on| on.id.as_str()).collect();
    assert_eq!(ids, ["sim"]);
    let route = snapshot.resolve("default").unwrap();
    let target = &route.tiers[0][0];
    assert!(target.endpoint.base.origin.sim);
    assert_eq!(target.endpoint.auth_header, None);
    assert_eq!(target.id.as_str(), "sim/tide-small");
}

#[test]
fn keys_in_the_environment_switch_their_providers_on() {
    let snapshot = from_environment(&[
        ("OPENAI_API_KEY", " sk-1 \n"),
        ("GOOGLE_API_KEY", "g-1"),
        ("ANTHROPIC_API_KEY", ""),
    ]);
    let on: Vec<_> = snapshot.endpoints().map(|on| (on.id.as_str(), &*on.credential)).collect();
    assert_eq!(on, [("gemini", "env GOOGLE_API_KEY"), ("openai", "env OPENAI_API_KEY")]);
    let openai = snapshot.endpoints().find(|on| on.id.as_str() == "openai").unwrap();
    let (name, value) = openai.auth_header.as_ref().unwrap();
    assert_eq!((name.as_str(), value.to_str().unwrap()), ("authorization", "Bearer sk-1"));
    assert!(value.is_sensitive());
    assert!(!format!("{snapshot:?}").contains("sk-1"), "a key shows in the debug output");
}

#[test]
fn the_default_route_reaches_the_first_model_of_each_provider_that_is_on() {
    let snapshot = from_environment(&[("GROQ_API_KEY", "k"), ("ANTHROPIC_API_KEY", "k")]);
    let route = snapshot.resolve("default").unwrap();
    let providers: Vec<_> =
        route.tiers.iter().map(|tier| tier[0].endpoint.provider.as_str()).collect();
    assert_eq!(providers, ["anthropic", "groq"]);
    assert_eq!(route.tiers[1][0].tier, 1);
}

#[test]
fn a_base_url_of_the_environment_goes_before_the_provider_file() {
    let snapshot = from_environment(&[
        ("OPENAI_API_KEY", "k"),
        ("OPENAI_BASE_URL", "http://[::1]:9000/proxy/v1/"),
    ]);
    let base = &snapshot.endpoints().next().unwrap().base;
    assert_eq!((&*base.origin.host, base.origin.port, &*base.path), ("::1", 9000, "/proxy/v1"));
    assert_eq!(base.to_string(), "http://[::1]:9000/proxy/v1");
}

#[test]
fn a_key_that_switches_nothing_on_is_a_note_and_no_problem() {
    let snapshot = from_environment(&[
        ("AZURE_OPENAI_API_KEY", "k"),
        ("OPENAI_API_KEY", "k"),
        ("OPENAI_BASE_URL", "http://127.0.0.1:8080/v1"),
        ("MISTRAL_API_KEY", "not\na header"),
    ]);
    assert_eq!(
        snapshot.notes(),
        [
            "azure-openai stays off though AZURE_OPENAI_API_KEY is set: the environment variable \
             AZURE_OPENAI_RESOURCE is not set",
            "mistral stays off though MISTRAL_API_KEY is set: its value cannot be sent in a header",
            "openai stays off though OPENAI_API_KEY is set: http://127.0.0.1:8080/v1 is this \
             gateway itself",
        ]
    );
    let on: Vec<_> = snapshot.endpoints().map(|on| on.id.as_str()).collect();
    assert_eq!(on, ["sim"]);
}

#[test]
fn a_file_that_names_providers_switches_on_no_others() {
    let environment = Environment::fixed([("OPENAI_API_KEY", "k"), ("ANTHROPIC_API_KEY", "k")]);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tidegate.toml");
    let on = |text: &str| {
        std::fs::write(&file, text).unwrap();
        let source =
            Source { file: Some(file.clone()), ..Source::environment(environment.clone()) };
        let snapshot = load(&source, None).unwrap();
        snapshot.endpoints().map(|on| on.id.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(on("[providers.openai]\n"), ["openai"]);
    assert_eq!(on("[server]\nworker_threads = 1\n"), ["anthropic", "openai"]);
}

#[test]
fn a_file_overrides_what_a_provider_file_says() {
    let snapshot = from_text(
        r#"
        [providers.groq]
        credentials = [{ env = "SET" }]
        base_url = "http://${SET_TOO}.example.com:81/x"
        auth = "header:x-key"
        headers = { x-title = "Tidegate" }
        quirks = { system_role = "system" }
        rate_headers = { requests_left = "x-left" }
        open_models = true
        models = [{ id = "mine", context_tokens = 10 }, { id = "llama-3.3-70b-versatile", context_tokens = 7 }]
        "#,
    )
    .unwrap();
    let endpoint = snapshot.endpoints().next().unwrap();
    assert_eq!(endpoint.base.to_string(), "http://key-two.example.com:81/x");
    let (name, value) = endpoint.auth_header.as_ref().unwrap();
    assert_eq!((name.as_str(), value.to_str().unwrap()), ("x-key", "key-one"));
    assert_eq!(endpoint.headers["x-title"], "Tidegate");
    assert_eq!(endpoint.rate_headers.requests.as_ref().unwrap().remaining.as_str(), "x-left");
    let context = |model: &str| snapshot.resolve(model).unwrap().tiers[0][0].model.context_tokens;
    assert_eq!(context("groq/mine"), Some(10));
    assert_eq!(context("groq/llama-3.3-70b-versatile"), Some(7));
    assert_eq!(context("groq/some/other-model"), None);
    for evil in ["a b", "a\r\nx: y", "../files", "a//b", "a?key=x", "a%2e", "a/./b", ""] {
        assert!(snapshot.resolve(&format!("groq/{evil}")).is_err(), "{evil:?}");
    }
    let built_in = &snapshot.catalog.providers["groq"];
    assert_eq!(built_in.auth, AuthScheme::Bearer);
    let mut quirks = built_in.quirks.clone();
    quirks.system_role = endpoint.quirks.system_role;
    assert_eq!(endpoint.quirks, quirks, "keys that are not written stay as they are");
}

#[test]
fn a_key_may_come_from_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("key");
    std::fs::write(&key, "sk-from-file\n").unwrap();
    let text = format!("[providers.openai]\ncredentials = [{{ file = {key:?} }}]\n");
    let snapshot = from_text(&text).unwrap();
    let (_, value) = snapshot.endpoints().next().unwrap().auth_header.clone().unwrap();
    assert_eq!(value.to_str().unwrap(), "Bearer sk-from-file");
    std::fs::write(&key, "\n").unwrap();
    assert!(from_text(&text).unwrap_err().ends_with("is empty"));
}

#[test]
fn a_provider_that_takes_no_key_is_sent_none_even_where_there_is_one() {
    let environment = Environment::fixed([("OPENAI_API_KEY", "sk-1")]);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tidegate.toml");
    std::fs::write(&file, "[providers.openai]\nauth = \"none\"\n").unwrap();
    let source = Source { file: Some(file), ..Source::environment(environment) };
    let snapshot = load(&source, None).unwrap();
    let endpoint = snapshot.endpoints().next().unwrap();
    assert_eq!((&endpoint.auth_header, &*endpoint.credential), (&None, "none"));
}

// === Resolving ===

fn good() -> Arc<Snapshot> {
    load(&source(&root().join("tests/golden/config/good.toml")), None).unwrap()
}

#[test]
fn a_name_is_a_route_or_a_model_with_or_without_its_provider() {
    let snapshot = good();
    assert_eq!(snapshot.resolve("smart").unwrap().tiers.len(), 2);
    let full = snapshot.resolve("local-vllm/llama-3.3-70b").unwrap();
    let bare = snapshot.resolve("llama-3.3-70b").unwrap();
    assert!(Arc::ptr_eq(&full, &bare));
    assert_eq!(full.tiers[0][0].id.as_str(), "local-vllm/llama-3.3-70b");
    assert_eq!(full.conduct.timeouts.first_token, Duration::from_secs(30));
    assert_eq!(full.conduct.timeouts.between_tokens, Duration::from_secs(60));
}

#[test]
fn a_route_keeps_the_defaults_it_does_not_override() {
    let route = good().resolve("smart").unwrap();
    assert_eq!(route.conduct.timeouts.first_token, Duration::from_secs(30));
    assert_eq!(route.conduct.timeouts.total, Duration::from_secs(300));
    let every = Some(Duration::from_secs(15));
    assert_eq!(route.conduct.keep_alive, KeepAlive { every, before_first_token: false });
}

#[test]
fn the_keys_of_a_provider_share_the_weight_of_its_target() {
    let route = good().resolve("smart").unwrap();
    let shares: Vec<_> =
        route.tiers[0].iter().map(|target| (target.id.as_str(), target.weight)).collect();
    assert_eq!(
        shares,
        [("openai/gpt-5", 2), ("openai/gpt-5#2", 2), ("local-vllm/llama-3.3-70b", 2)]
    );
    let endpoint = |target: usize| &route.tiers[0][target].endpoint;
    assert_eq!(endpoint(1).id.as_str(), "openai#2");
    let direct = good().resolve("openai/gpt-5").unwrap();
    assert_eq!(direct.tiers[0].len(), 2);
}

#[test]
fn targets_of_one_credential_share_its_endpoint() {
    let snapshot = good();
    let route = snapshot.resolve("smart").unwrap();
    let direct = snapshot.resolve("openai/gpt-5-mini").unwrap();
    assert!(Arc::ptr_eq(&route.tiers[0][0].endpoint, &direct.tiers[0][0].endpoint));
}

#[test]
fn an_unknown_name_is_answered_with_near_ones() {
    let snapshot = good();
    let near = |model: &str| match snapshot.resolve(model) {
        Err(Rejection::UnknownModel { near, .. }) => near,
        other => panic!("{other:?}"),
    };
    assert_eq!(near("smrat"), ["smart"]);
    assert_eq!(near("sim/tide-smal")[0], "sim/tide-small");
    assert_eq!(near("Openai/GPT-5")[0], "openai/gpt-5");
    assert_eq!(near("openai/"), ["openai/gpt-5", "openai/gpt-5-mini"]);
    assert_eq!(near(""), Vec::<String>::new());
    assert_eq!(near("nothing-like-this-anywhere"), Vec::<String>::new());
}

#[test]
fn a_name_as_long_as_a_body_is_neither_repeated_nor_searched_for() {
    let error = good().resolve(&"é".repeat(5_000_000)).unwrap_err();
    assert!(error.to_string().len() < 700, "{} bytes", error.to_string().len());
    let open = from_text("[providers.vllm]\n").unwrap();
    assert!(open.resolve(&format!("vllm/{}", "x".repeat(1_000))).is_err());
    assert!(open.resolve("vllm/x").is_ok());
    assert!(open.resolve("vllm/").is_err());
}

#[test]
fn a_bare_name_that_several_providers_serve_is_refused_with_both() {
    let snapshot = from_text(
        "[providers.openai]\ncredentials = [{ env = \"SET\" }]\n[providers.mine]\n\
         dialect = \"openai-chat\"\nbase_url = \"http://10.0.0.1/v1\"\nmodels = [{ id = \"gpt-5\" }]\n",
    )
    .unwrap();
    let error = snapshot.resolve("gpt-5").unwrap_err();
    assert_eq!(
        error.to_string(),
        "several providers serve `gpt-5`; ask for `mine/gpt-5` or `openai/gpt-5`"
    );
    assert_eq!(error.param(), Some("model"));
}

#[test]
fn the_list_of_models_names_routes_and_models_with_their_owners() {
    let snapshot = good();
    let listed: Vec<_> = snapshot.models().collect();
    assert_eq!((listed[0].id.as_str(), listed[0].owned_by.as_str()), ("smart", "tidegate"));
    let local = listed.iter().find(|listed| listed.id == "local-vllm/llama-3.3-70b").unwrap();
    assert_eq!((local.owned_by.as_str(), local.created), ("local-vllm", 0));
    let sim = listed.iter().find(|listed| listed.owned_by == "sim").unwrap();
    assert!(sim.created > 1_700_000_000);
    for listed in listed {
        assert!(snapshot.resolve(&listed.id).is_ok(), "{} is listed and not served", listed.id);
    }
}

// === Start ===

#[test]
fn an_open_gateway_does_not_listen_to_other_machines_by_accident() {
    let open = "0.0.0.0:8080".parse().unwrap();
    let local = "127.0.0.1:8080".parse().unwrap();
    let v6 = "[::1]:8080".parse().unwrap();
    assert!(may_listen(AuthMode::Auto, [local, v6], false).is_ok());
    let refusal = may_listen(AuthMode::Auto, [local, open], false).unwrap_err();
    assert!(refusal.starts_with("0.0.0.0:8080 can be reached from other machines"), "{refusal}");
    assert!(may_listen(AuthMode::Auto, [open], true).is_ok());
    assert!(may_listen(AuthMode::Keys, [open], false).is_ok());
    assert!(may_listen(AuthMode::Open, [open], false).is_ok());
}

#[test]
fn an_address_from_the_command_line_goes_before_the_file() {
    let listen = "127.0.0.1:9999".parse().unwrap();
    let file = root().join("tests/golden/config/good.toml");
    let snapshot = load(&Source { listen: Some(listen), ..source(&file) }, None).unwrap();
    assert_eq!(snapshot.settings.server.listen, listen);
}

// === Explain ===

#[test]
fn explain_says_which_targets_in_which_order_and_why() {
    for (name, model) in [("route", "smart"), ("full", "openai/gpt-5"), ("bare", "tide-large")] {
        let (code, said) = explained(model, false);
        assert_eq!(code, 0);
        assert_golden(&root().join(format!("tests/golden/config/explain-{name}.txt")), &said);
        assert!(!said.contains("key-one"));
    }
    let (_, said) = explained("smart", true);
    let mut said: serde_json::Value = serde_json::from_str(&said).unwrap();
    // The revision differs with every change of a file.
    said["revision"] = 0.into();
    let said = format!("{said:#}\n");
    assert_golden(&root().join("tests/golden/config/explain-route.json"), &said);
}

#[test]
fn explain_says_no_to_an_unknown_model() {
    let (code, said) = explained("smrt", false);
    assert_eq!(
        (code, said.as_str()),
        (1, "the model `smrt` does not exist; did you mean `smart`?\n")
    );
}

// === Reload ===

const ONE: &str = "[providers.openai]\ncredentials = [{ env = \"SET\" }]\n";
const TWO: &str = "[providers.openai]\ncredentials = [{ env = \"SET\" }]\n[providers.sim]\n";
const FAULTY: &str = "[providers.opnai]\n";

/// A configuration file and what watches it.
struct Watched {
    folder: tempfile::TempDir,
    current: tidegate::config::Current,
    watcher: Option<tidegate::config::Watcher>,
}

impl Watched {
    fn new(text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("tidegate.toml"), text).unwrap();
        let source = source(&folder.path().join("tidegate.toml"));
        let snapshot = load(&source, None).unwrap();
        let (current, watcher) = reloading(source, snapshot, Arc::new(FixedWallClock(7)));
        Self { folder, current, watcher: Some(watcher) }
    }

    /// Replaces the file as an editor does.
    fn write(&self, text: &str) {
        let draft = self.folder.path().join("draft");
        std::fs::write(&draft, text).unwrap();
        std::fs::rename(draft, self.folder.path().join("tidegate.toml")).unwrap();
    }

    /// Runs `story` beside the watcher, with a limit of time.
    async fn run(&mut self, story: impl AsyncFnOnce(&mut Self)) {
        let watcher = self.watcher.take().unwrap();
        let story = async {
            tokio::select! {
                () = watcher.run() => panic!("the watcher ended"),
                () = story(self) => {}
            }
        };
        tokio::time::timeout(Duration::from_secs(20), story).await.expect("no reload in time");
    }
}

#[tokio::test]
async fn a_reload_swaps_the_snapshot_and_keeps_endpoints_that_did_not_change() {
    let mut watched = Watched::new(ONE);
    watched
        .run(async |watched| {
            let before = watched.current.snapshot();
            watched.write(TWO);
            let revision = watched.current.reload().await.unwrap();
            let after = watched.current.snapshot();
            assert_eq!(after.revision, revision);
            assert_ne!(before.revision, after.revision);
            assert!(before.resolve("sim/tide-small").is_err(), "a pinned snapshot changed");
            assert!(after.resolve("sim/tide-small").is_ok());
            let endpoint = |snapshot: &Snapshot| {
                Arc::clone(&snapshot.resolve("openai/gpt-5").unwrap().tiers[0][0].endpoint)
            };
            assert!(Arc::ptr_eq(&endpoint(&before), &endpoint(&after)));
        })
        .await;
}

#[tokio::test]
async fn a_faulty_file_keeps_the_last_good_snapshot_and_is_reported() {
    let mut watched = Watched::new(ONE);
    watched
        .run(async |watched| {
            let before = watched.current.snapshot();
            watched.write(FAULTY);
            let problems = watched.current.reload().await.unwrap_err();
            assert_eq!(problems.len(), 1);
            assert!(Arc::ptr_eq(&before, &watched.current.snapshot()));
            let status = watched.current.status();
            assert_eq!(status.revision, before.revision);
            // The watcher may have read the file, too.
            assert!((1..=2).contains(&status.failed_reloads), "{status:?}");
            assert_eq!(status.failure.unwrap().problems, problems);

            watched.write(ONE);
            watched.current.reload().await.unwrap();
            assert!(watched.current.status().failure.is_none());
            assert!(Arc::ptr_eq(&before, &watched.current.snapshot()), "nothing changed");
        })
        .await;
}

#[tokio::test]
async fn a_changed_file_is_loaded() {
    let mut watched = Watched::new(ONE);
    watched
        .run(async |watched| {
            // The first poll of the watcher registers it; a reload by command shows that it runs.
            watched.current.reload().await.unwrap();
            watched.write(TWO);
            while watched.current.status().reloads == 0 {
                assert!(watched.current.changed().await);
            }
            assert!(watched.current.snapshot().resolve("sim/tide-small").is_ok());
        })
        .await;
}

#[tokio::test]
async fn a_changed_provider_file_is_loaded() {
    let mut watched = Watched::new(TWO);
    let folder = tempfile::tempdir().unwrap();
    let sim = std::fs::read_to_string(providers().unwrap().join("sim.toml")).unwrap();
    std::fs::write(folder.path().join("sim.toml"), &sim).unwrap();
    let source = Source {
        providers: Some(folder.path().to_owned()),
        ..source(&watched.folder.path().join("tidegate.toml"))
    };
    let snapshot = load(&source, None).unwrap();
    let (current, watcher) = reloading(source, snapshot, Arc::new(FixedWallClock(7)));
    watched.current = current;
    watched.watcher = Some(watcher);
    watched
        .run(async |watched| {
            watched.current.reload().await.unwrap();
            let renamed = sim.replace("tide-large", "tide-vast");
            std::fs::write(folder.path().join("sim.toml"), renamed).unwrap();
            while watched.current.status().reloads == 0 {
                assert!(watched.current.changed().await);
            }
            assert!(watched.current.snapshot().resolve("tide-vast").is_ok());
        })
        .await;
}

#[cfg(unix)]
#[tokio::test]
async fn sighup_reloads() {
    // A key file outside the watched folders: nothing but the signal makes it be read again.
    let key = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(key.path(), "one").unwrap();
    let path = key.path();
    let mut watched =
        Watched::new(&format!("[providers.openai]\ncredentials = [{{ file = {path:?} }}]\n"));
    watched
        .run(async |watched| {
            let before = watched.current.reload().await.unwrap();
            std::fs::write(key.path(), "two").unwrap();
            let own = std::process::id().to_string();
            let sent = std::process::Command::new("kill").args(["-HUP", &own]).status().unwrap();
            assert!(sent.success());
            while watched.current.status().revision == before {
                assert!(watched.current.changed().await);
            }
        })
        .await;
}

#[tokio::test]
async fn settings_that_need_a_restart_are_named() {
    let mut watched = Watched::new(ONE);
    watched
        .run(async |watched| {
            let listen = ("listen", "127.0.0.1:9");
            for (key, value) in [listen, ("request_head_limit", "8KiB"), ("idle_timeout", "7s")] {
                watched.write(&format!("[server]\n{key} = \"{value}\"\n{ONE}"));
                watched.current.reload().await.unwrap();
                let waiting = watched.current.status().waiting_for_restart;
                assert_eq!(waiting, [format!("server.{key}")]);
            }
        })
        .await;
}

#[tokio::test]
async fn the_watcher_ends_when_nobody_is_left_to_ask() {
    let Watched { current, watcher, folder } = Watched::new(ONE);
    drop(current);
    let end = tokio::time::timeout(Duration::from_secs(20), watcher.unwrap().run()).await;
    assert!(end.is_ok());
    drop(folder);
}
