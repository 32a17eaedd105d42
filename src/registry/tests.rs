//! Tests of the registry, over both kinds of store.

use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::audit::{Actor, Audit, AuditFilter};
use crate::clock::FixedWallClock;
use crate::config::{Environment, Source, load};
use crate::ids::PromptId;
use crate::prompt::Wanted;
use crate::store::follow;
use crate::store::places::{Place, places};

mod labels;

const NOW: u64 = 1_700_000_000_000;

/// One node: its files, and the registry over a store.
struct Node {
    registry: Registry,
    files: Arc<ArcSwap<Snapshot>>,
    folder: TempDir,
}

fn text(words: &str) -> String {
    format!("[[messages]]\nrole = 'user'\ncontent = '{words}'\n")
}

impl Node {
    fn new(store: &Store, files: &[(&str, String)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        write(&folder, files);
        let files = Arc::new(ArcSwap::new(read(&folder)));
        let kept = folder.path().join("state/prompts.snapshot");
        let clock = Arc::new(FixedWallClock(NOW));
        let registry = Registry::new(store.clone(), Arc::clone(&files), Some(kept), clock);
        Self { registry, files, folder }
    }

    async fn loaded(store: &Store, files: &[(&str, String)]) -> Self {
        let node = Self::new(store, files);
        node.registry.load().await.unwrap();
        node
    }

    /// What a request that wants this gets: the version and its first words.
    fn gets(&self, wanted: &str) -> String {
        let prompts = self.registry.prompts();
        match prompts.find("greet", &Wanted::parse(wanted).unwrap()) {
            Ok(prompt) => format!("{} {}", prompt.version, prompt.messages().next().unwrap().1),
            Err(unfound) => unfound.problem,
        }
    }

    async fn push(&self, version: &str, words: &str) -> Result<bool, RegistryError> {
        let prompt = prompt(version, words);
        self.registry.push(&prompt, &admin(), NOW).await.map(|(_, is_new)| is_new)
    }

    async fn label(
        &self,
        label: &str,
        version: &str,
        if_changed: Option<u64>,
    ) -> Result<LabelRecord, RegistryError> {
        let wish = Wish::Set { version: version.parse().unwrap(), protected: None };
        self.change(label, wish, if_changed, false).await
    }

    async fn change(
        &self,
        label: &str,
        wish: Wish,
        if_changed: Option<u64>,
        force: bool,
    ) -> Result<LabelRecord, RegistryError> {
        let change = LabelChange { prompt: "greet", label, wish, if_changed, force };
        self.registry.set_label(&change, &admin(), NOW).await
    }

    /// As the loop does where another node said that something changed.
    async fn look(&self) {
        let mut connection = self.registry.shared.store.writer().await.unwrap();
        self.registry.read(&mut connection, refresh::Reach::News).await.unwrap();
    }
}

fn write(folder: &TempDir, files: &[(&str, String)]) {
    std::fs::write(folder.path().join("tidegate.toml"), "").unwrap();
    for (name, text) in files {
        let path = folder.path().join("prompts/greet").join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
}

fn read(folder: &TempDir) -> Arc<Snapshot> {
    let file = Some(folder.path().join("tidegate.toml"));
    load(&Source { file, ..Source::environment(Environment::fixed([])) }, None).unwrap()
}

fn prompt(version: &str, words: &str) -> Prompt {
    let content = json!({"messages": [{"role": "user", "content": words}]});
    Prompt::of_json(&PromptId::new("greet"), version.parse().unwrap(), content).unwrap()
}

fn admin() -> Actor {
    Actor { name: "admin".to_owned(), ..Actor::default() }
}

fn set(version: &str, protected: bool) -> Wish {
    Wish::Set { version: version.parse().unwrap(), protected: Some(protected) }
}

/// What the audit log says was done, oldest first.
async fn done(store: &Store) -> Vec<String> {
    let records = Audit::new(store.clone()).list(&AuditFilter::default(), None, 100).await.unwrap();
    let rows = records.iter().rev();
    rows.map(|row| format!("{} {} {}", row.actor, row.action, row.resource)).collect()
}

#[tokio::test]
async fn a_pushed_version_is_there_at_once_and_for_every_other_node() {
    for place in places() {
        let (one, other) =
            (Node::loaded(&place.store, &[]).await, Node::loaded(&place.again(), &[]).await);
        assert_eq!(one.gets("1.0.0"), "the prompt `greet` does not exist");
        assert!(one.push("1.0.0", "Hello").await.unwrap());
        assert_eq!(one.gets("1.0.0"), "1.0.0 Hello");
        other.look().await;
        assert_eq!(other.gets("^1"), "1.0.0 Hello");
        assert!(!other.push("1.0.0", "Hello").await.unwrap(), "the same again is the same");
        let error = other.push("1.0.0", "Good day").await.unwrap_err();
        assert!(matches!(error, RegistryError::Exists { .. }), "{error}");
        let expected = ["admin prompt.push prompts/greet/versions/1.0.0"];
        assert_eq!(done(&place.store).await, expected);
        let record = other.registry.version("greet", Version::new(1, 0, 0)).unwrap();
        assert_eq!((record.origin, record.changed), (Origin::Push, 1));
        assert_eq!(record.created_by.as_deref(), Some("admin"));
    }
}

#[tokio::test]
async fn a_number_that_contradicts_what_changed_is_refused_on_both_sides() {
    for place in places() {
        let node = Node::loaded(&place.store, &[]).await;
        node.push("1.0.0", "Hello").await.unwrap();
        node.push("1.1.0", "Good day").await.unwrap();
        let content = json!({"messages": [
            {"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}
        ]});
        let id = PromptId::new("greet");
        for (version, why) in [
            ("1.1.1", "1.1.1 follows 1.1.0, but the number of messages changed"),
            ("1.0.1", "1.0.1 follows 1.0.0, but the number of messages changed"),
        ] {
            let version = version.parse().unwrap();
            let prompt = Prompt::of_json(&id, version, content.clone()).unwrap();
            let error = node.registry.push(&prompt, &admin(), NOW).await.unwrap_err();
            assert!(error.to_string().starts_with(why), "{error}");
        }
        let between = node.push("1.0.1", "Good day").await;
        assert!(between.unwrap(), "1.1.0 may say the same as a lower one of another minor");
        // What stands behind it would be a patch that is none.
        node.push("2.0.1", "Hi").await.unwrap();
        let two = Prompt::of_json(&id, Version::new(2, 0, 0), content).unwrap();
        let error = node.registry.push(&two, &admin(), NOW).await.unwrap_err();
        assert!(error.to_string().starts_with("it would stand before a version"), "{error}");
        assert!(error.to_string().contains("2.0.1 follows 2.0.0"), "{error}");
    }
}

#[tokio::test]
async fn files_seed_the_store_and_the_store_wins() {
    for place in places() {
        let files = [
            ("1.0.0.toml", text("Hello")),
            ("1.1.0.toml", text("Good day")),
            ("labels.toml", "production = '1.0.0'".to_owned()),
        ];
        let (one, two) = (Node::new(&place.store, &files), Node::new(&place.again(), &files));
        let (a, b) = tokio::join!(one.registry.load(), two.registry.load());
        a.unwrap();
        b.unwrap();
        assert_eq!(done(&place.store).await, ["file prompt.seed prompts/greet"]);
        let bare = Node::loaded(&place.again(), &[]).await;
        assert_eq!(bare.gets("production"), "1.0.0 Hello", "a node without files has them, too");

        bare.label("production", "1.1.0", None).await.unwrap();
        let other = [
            ("1.1.0.toml", text("Good evening")),
            ("1.2.0.toml", text("Good night")),
            ("labels.toml", "production = '1.2.0'\nstaging = '1.2.0'".to_owned()),
        ];
        let late = Node::loaded(&place.again(), &other).await;
        assert_eq!(late.gets("production"), "1.1.0 Good day", "the store's label and version stay");
        assert_eq!(late.gets("staging"), "1.2.0 Good night");
        let conflicts = late.registry.health().conflicts;
        assert_eq!(conflicts.len(), 1, "{conflicts:?}");
        assert!(conflicts[0].contains("greet@1.1.0 is registered and says something else"));
        let notes = late.registry.health().notes;
        let note = "the label `production` of `greet` stands for 1.1.0; its file says 1.2.0";
        assert!(notes.len() == 1 && notes[0].starts_with(note), "{notes:?}");

        // A label that was deleted does not come back with a file.
        late.change("staging", Wish::Delete, None, false).await.unwrap();
        let again = Node::loaded(&place.again(), &other).await;
        assert!(again.gets("staging").starts_with("the prompt `greet` has no label `staging`"));
    }
}

#[tokio::test]
async fn a_deprecated_version_is_passed_over_until_it_no_longer_is() {
    for place in places() {
        let node = Node::loaded(&place.store, &[("1.0.0.toml", text("Hello"))]).await;
        node.push("1.1.0", "Good day").await.unwrap();
        let version = Version::new(1, 1, 0);
        let to = Deprecation::new("2026-11-02", "too stiff").unwrap();
        let change = DeprecationChange { to: Some(to.clone()), if_changed: Some(99) };
        let error =
            node.registry.deprecate("greet", version, &change, &admin(), NOW).await.unwrap_err();
        assert!(matches!(error, RegistryError::Changed { .. }), "{error}");
        let change = DeprecationChange { to: Some(to.clone()), if_changed: None };
        let record = node.registry.deprecate("greet", version, &change, &admin(), NOW).await;
        assert_eq!(record.unwrap().prompt.deprecated, Some(to));
        assert_eq!(node.gets("^1"), "1.0.0 Hello");
        assert_eq!(node.gets("1.1.0"), "1.1.0 Good day", "who asks for it gets it");
        let other = Node::loaded(&place.again(), &[]).await;
        assert_eq!(other.gets("^1"), "1.0.0 Hello");
        let back = DeprecationChange { to: None, if_changed: None };
        node.registry.deprecate("greet", version, &back, &admin(), NOW).await.unwrap();
        assert_eq!(node.gets("^1"), "1.1.0 Good day");
        // One that is a file has it from the store as well.
        let one = Version::new(1, 0, 0);
        let to = Deprecation::new("2026-11-02", "").unwrap();
        let change = DeprecationChange { to: Some(to), if_changed: None };
        node.registry.deprecate("greet", one, &change, &admin(), NOW).await.unwrap();
        let served = node.registry.prompts();
        assert!(served.version("greet", one).unwrap().deprecated.is_some());
    }
}

#[tokio::test]
async fn a_change_of_a_label_compiles_nothing_again() {
    for place in places() {
        let node = Node::loaded(&place.store, &[("1.0.0.toml", text("Hello"))]).await;
        node.push("1.1.0", "Good day").await.unwrap();
        let all = |node: &Node| -> Vec<Arc<Prompt>> {
            let prompts = node.registry.prompts();
            prompts.versions("greet").unwrap().iter().cloned().collect()
        };
        let before = all(&node);
        node.label("production", "1.1.0", None).await.unwrap();
        // Nor does reading all of it again.
        node.registry.load().await.unwrap();
        for (before, after) in before.iter().zip(all(&node)) {
            assert!(Arc::ptr_eq(before, &after), "{}", after.name);
        }
        let files = &node.files.load().prompts;
        let file = files.version("greet", Version::new(1, 0, 0)).unwrap();
        assert!(Arc::ptr_eq(file, &all(&node)[0]), "that of the file is the one that is served");
    }
}

#[tokio::test]
async fn files_that_are_loaded_again_are_seen_without_the_loop() {
    let place = Place::file();
    let node = Node::loaded(&place.store, &[("1.0.0.toml", text("Hello"))]).await;
    write(&node.folder, &[("1.1.0.toml", text("Good day"))]);
    node.files.store(read(&node.folder));
    assert_eq!(node.gets("^1"), "1.1.0 Good day");
    node.registry.load().await.unwrap();
    let bare = Node::loaded(&place.again(), &[]).await;
    assert_eq!(bare.gets("^1"), "1.1.0 Good day");
}

#[tokio::test]
async fn a_node_that_starts_without_its_store_serves_what_was_kept() {
    let place = Place::file();
    let node = Node::loaded(&place.store, &[("1.0.0.toml", text("Hello"))]).await;
    node.push("1.1.0", "Good day").await.unwrap();
    node.label("production", "1.1.0", None).await.unwrap();
    follow::save(&node.registry, &mut follow::Saved::default()).await;

    let path = place.store.url().path().unwrap().to_owned();
    let folder = path.parent().unwrap().to_owned();
    std::fs::rename(&folder, folder.with_extension("away")).unwrap();
    std::fs::write(&folder, "in the way").unwrap();
    let clock = Arc::new(FixedWallClock(NOW));
    let kept = Some(node.folder.path().join("state/prompts.snapshot"));
    let registry = Registry::new(place.again(), Arc::clone(&node.files), kept, clock);
    let restarted = Node { registry, files: Arc::clone(&node.files), folder: node.folder };
    assert_eq!(restarted.gets("1.0.0"), "1.0.0 Hello", "files do not wait for anything");
    restarted.registry.load().await.unwrap_err();
    assert_eq!(restarted.gets("production"), "1.1.0 Good day");
    let health = restarted.registry.health();
    assert_eq!((health.source, health.behind), (RegistrySource::Snapshot, true));
    let error = restarted.push("1.2.0", "Hi").await.unwrap_err();
    assert!(matches!(error, RegistryError::Store(_)), "{error}");

    std::fs::remove_file(&folder).unwrap();
    std::fs::rename(folder.with_extension("away"), &folder).unwrap();
    restarted.registry.load().await.unwrap();
    assert!(!restarted.registry.health().behind);
    assert_eq!(restarted.registry.health().source, RegistrySource::Store);
    restarted.push("1.2.0", "Hi").await.unwrap();
    assert_eq!(restarted.gets("^1"), "1.2.0 Hi");
}

#[tokio::test]
async fn a_store_that_was_made_anew_is_read_as_a_whole_and_gets_the_files_again() {
    let place = Place::file();
    let node = Node::loaded(&place.store, &[("1.0.0.toml", text("Hello"))]).await;
    node.push("1.1.0", "Good day").await.unwrap();
    let path = place.store.url().path().unwrap().to_owned();
    std::fs::rename(path.parent().unwrap(), path.parent().unwrap().with_extension("old")).unwrap();
    node.registry.load().await.unwrap();
    assert!(node.gets("1.1.0").starts_with("the prompt `greet` has no version 1.1.0"));
    let bare = Node::loaded(&place.again(), &[]).await;
    assert_eq!(bare.gets("^1"), "1.0.0 Hello");
}

#[tokio::test]
async fn a_row_that_cannot_be_read_takes_nothing_else_away() {
    for place in places() {
        let node = Node::loaded(&place.store, &[]).await;
        node.push("1.0.0", "Hello").await.unwrap();
        node.push("1.1.0", "Good day").await.unwrap();
        let mut connection = place.store.writer().await.unwrap();
        sqlx::query("UPDATE prompt_versions SET content = '{}' WHERE version = '1.1.0'")
            .execute(&mut *connection)
            .await
            .unwrap();
        drop(connection);
        let other = Node::loaded(&place.again(), &[]).await;
        assert_eq!(other.gets("^1"), "1.0.0 Hello");
        let conflicts = other.registry.health().conflicts;
        assert!(conflicts[0].starts_with("greet@1.1.0 cannot be used: "), "{conflicts:?}");
    }
}

#[tokio::test]
async fn what_no_store_takes_is_refused_before_it_gets_there() {
    let place = Place::file();
    let node = Node::loaded(&place.store, &[]).await;
    let error = node.push("1.0.0", "a\0b").await.unwrap_err();
    assert_eq!(error.to_string(), "no text may hold a NUL");
    let messages: Vec<Value> =
        (0..5).map(|_| json!({"role": "user", "content": "x".repeat(250_000)})).collect();
    let id = PromptId::new("greet");
    let content = json!({ "messages": messages });
    let prompt = Prompt::of_json(&id, Version::new(1, 0, 0), content).unwrap();
    let error = node.registry.push(&prompt, &admin(), NOW).await.unwrap_err();
    assert!(error.to_string().contains("must not take more than 1048576 bytes"), "{error}");
}

#[test]
fn a_version_reads_as_the_same_from_what_is_kept_of_it() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("prompts");
    let mut problems = crate::problems::Problems::new();
    let mut files = Vec::new();
    for prompt in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        let versions = std::fs::read_dir(prompt).unwrap().map(|entry| entry.unwrap().path());
        let toml = versions.filter(|path| path.extension().is_some_and(|end| end == "toml"));
        files.extend(toml.map(|path| (path.clone(), std::fs::read_to_string(path).unwrap())));
    }
    let texts = files.iter().map(|(path, text)| (path.as_path(), text.as_str()));
    let prompts = Prompts::parse(texts, None, &mut problems);
    assert!(problems.is_empty(), "{problems}");
    let mut count = 0;
    for prompt in prompts.iter().flat_map(|(_, versions)| versions.iter()) {
        let kept = prompt.content().to_string();
        let content = serde_json::from_str(&kept).unwrap();
        let again = Prompt::of_json(&prompt.id, prompt.version, content).unwrap();
        assert_eq!(again.hash, prompt.hash, "{}", prompt.name);
        assert_eq!(again.content().to_string(), kept, "{}", prompt.name);
        count += 1;
    }
    assert!(count >= 3, "{count} examples");
}
