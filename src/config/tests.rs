//! Tests of reading, checking and indexing. The golden files under `tests/golden/config` hold the
//! messages; see `tests/it/config.rs`.

use std::path::PathBuf;

use super::*;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Compares a generated file with what stands in the tree, or rewrites it with `UPDATE=1`.
fn assert_generated(path: &str, now: &str) {
    let path = root().join(path);
    #[expect(clippy::disallowed_methods, reason = "a switch of the test run, not of the program")]
    if std::env::var("UPDATE").is_ok() {
        std::fs::write(&path, now).unwrap();
    }
    let then = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(then == now, "{} is out of date: run the test with UPDATE=1", path.display());
}

#[test]
fn the_reference_page_is_what_the_structs_say() {
    assert_generated("config/reference.toml", &reference_toml());
}

/// The snapshot that `text` makes, with every variable of the examples set.
fn loaded(text: &str) -> Result<Arc<Snapshot>, String> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tidegate.toml");
    std::fs::write(&file, text).unwrap();
    let keys = ["OPENAI_API_KEY", "ANTHROPIC_API_KEY", "LOCAL_VLLM_API_KEY"];
    let environment = Environment::fixed(keys.map(|name| (name, "key")));
    let source = Source { file: Some(file), ..Source::environment(environment) };
    load(&source, None).map_err(|problems| problems.to_string())
}

#[test]
fn the_reference_page_as_it_is_changes_nothing() {
    let reference = loaded(&reference_toml()).unwrap();
    let nothing = loaded("").unwrap();
    assert_eq!(reference.settings, nothing.settings);
    assert_eq!(
        reference.resolve("default").unwrap().conduct,
        nothing.resolve("default").unwrap().conduct
    );
}

#[test]
fn the_examples_of_the_reference_page_load() {
    let page = reference_toml();
    // The examples of embedders are of two kinds, and name a folder.
    let (before, embedders) = page.split_once("#[embedders.small]").unwrap();
    let after = embedders.split_once("\n#[").map_or("", |(_, after)| after);
    let rest = format!("{before}\n{}{after}", if after.is_empty() { "" } else { "#[" });
    let text: Vec<_> = rest
        .lines()
        .map(|line| {
            match line.strip_prefix('#') {
                Some(code) if code.starts_with(|c: char| c == '[' || c.is_ascii_lowercase()) => {
                    code
                }
                _ => line,
            }
            .to_owned()
        })
        .collect();
    let snapshot = loaded(&text.join("\n")).unwrap();
    assert_eq!(snapshot.resolve("smart").unwrap().tiers.len(), 2);
    assert_eq!(snapshot.settings.server.admin_listen.unwrap().port(), 8081);
}

#[test]
fn every_key_is_on_the_reference_page_with_its_meaning() {
    let page = reference_toml();
    let lines: Vec<_> = page.lines().collect();
    for (number, line) in lines.iter().enumerate() {
        let code = line.strip_prefix('#').unwrap_or(line);
        let is_key = code.starts_with(|c: char| c.is_ascii_lowercase()) && code.contains(" = ");
        assert!(
            !is_key || lines[number - 1].starts_with("# ") || lines[number - 1].starts_with("#  "),
            "{line} has no words"
        );
    }
    for key in ["weight:", "tier:", "env:", "drop_params:", "\"json_schema\":"] {
        assert!(page.contains(key), "{key} is not on the page");
    }
}

#[test]
fn the_example_configuration_loads() {
    let text = std::fs::read_to_string(root().join("config/tidegate.toml")).unwrap();
    let snapshot = loaded(&text).unwrap();
    assert_eq!(snapshot.resolve("smart").unwrap().tiers.len(), 2);
}

#[test]
fn a_secret_does_not_show() {
    let secret = Secret::new(" sk-1\n");
    assert_eq!(format!("{secret} {secret:?}"), "<secret> <secret>");
    assert_eq!(secret.reveal(), "sk-1");
    let environment = Environment::fixed([("NAME", "value")]);
    assert!(!format!("{environment:?}").contains("value"));
}

#[test]
fn equal_configurations_have_equal_revisions_and_a_changed_key_another() {
    let revision = |key: &str| {
        let environment = Environment::fixed([("OPENAI_API_KEY", key)]);
        load(&Source::environment(environment), None).unwrap().revision
    };
    assert_eq!(revision("one"), revision("one"));
    assert_ne!(revision("one"), revision("two"));
    assert!(revision("one") < 1 << 48);
}

#[test]
fn the_schema_is_what_the_structs_say() {
    assert_generated("config/schema.json", &schema_json());
}

#[test]
fn comments_that_are_never_sent_cannot_be_asked_for_before_the_first_token() {
    let problem = "has no effect, because `every = \"0s\"` means that no comments are sent; give \
                   `every` a time or leave this out";
    let route = "[routes.smart]\ntargets = [{ model = \"sim/tide-small\" }]\n";
    let off = "keep_alive = { every = \"0s\", before_first_token = true }";
    let sim = "[providers.sim]\n";
    for (text, line, key) in [
        (format!("{sim}[defaults]\n{off}"), 3, "defaults"),
        (format!("{sim}{route}{off}"), 4, "routes.smart"),
        // Half of it comes from the defaults.
        (
            format!(
                "[defaults]\nkeep_alive = {{ every = \"0s\" }}\n{sim}{route}keep_alive = {{ before_first_token = true }}"
            ),
            6,
            "routes.smart",
        ),
        (
            format!(
                "[defaults]\nkeep_alive = {{ before_first_token = true }}\n{sim}{route}keep_alive = {{ every = \"0s\" }}"
            ),
            6,
            "routes.smart",
        ),
    ] {
        let said = loaded(&text).unwrap_err();
        let at = format!("{key}.keep_alive.before_first_token: {problem}");
        assert!(said.contains(&format!("tidegate.toml:{line}: {at}")), "{text}\n{said}");
        assert_eq!(said.matches(problem).count(), 1, "{said}");
    }
    loaded(&format!("{sim}[defaults]\nkeep_alive = {{ every = \"0s\" }}\n")).unwrap();
}

#[test]
fn models_of_compat_that_nobody_knows_are_problems_and_a_prompt_is_a_note() {
    let providers = "[providers.local]\ndialect = \"openai-chat\"\nbase_url = \"http://127.0.0.1:1/v1\"\n\
                     credentials = [{ none = true }]\nmodels = [{ id = \"alpha\" }]\n";
    let compat = |judges: &str, models: &str| {
        loaded(&format!(
            "{providers}[compat]\nmatrix = [{{ prompt = \"nobody\", models = [{models}] }}]\n\
             [compat.judge]\nmodels = [{judges}]\n"
        ))
    };
    let told = compat("\"local/alpa\"", "\"local/alpha\", \"lokal/alpha\"").unwrap_err();
    for key in ["compat.judge.models[0]: ", "compat.matrix[0].models[1]: "] {
        assert!(told.contains(key), "{told}");
    }
    assert!(!told.contains("models[0].models") && !told.contains("matrix[0].models[0]"), "{told}");
    let snapshot = compat("\"local/alpha\"", "\"local/alpha\"").unwrap();
    let notes = snapshot.notes().join("\n");
    assert!(notes.contains("[[compat.matrix]] names the prompt `nobody`"), "{notes}");
}
