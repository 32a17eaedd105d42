//! The rules that keep the tree honest: see "Code map" in ARCHITECTURE.md.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use crate::support::package;

/// The layers of `src/`, lowest first. A module may use any layer below its own, and beside it only
/// what [`BESIDE`] lists.
const LAYERS: [&[&str]; 5] = [
    &["ids", "units", "clock", "chat", "failure", "rejection", "problems"],
    &[
        "dialect", "catalog", "tokens", "policy", "prompt", "quota", "semantic", "vectors",
        "webhook", "compat",
    ],
    &[
        "telemetry",
        "config",
        "upstream",
        "store",
        "cluster",
        "journal",
        "registry",
        "audit",
        "cache",
        "callers",
        "idempotency",
        "jobs",
        "embed",
        "feedback",
        "meaning",
        "rollout",
        "runs",
    ],
    &["fleet", "limits", "dispatch", "control", "gateway"],
    &["api", "admin", "cli", "sim", "rehearse"],
];

/// Who may use whom inside a layer. Without a circle, as the first test checks.
const BESIDE: &[(&str, &str)] = &[
    ("audit", "store"),
    ("cache", "cluster"),
    ("callers", "audit"),
    ("callers", "store"),
    ("catalog", "dialect"),
    ("cli", "admin"),
    ("cli", "api"),
    ("cli", "rehearse"),
    ("cli", "sim"),
    ("compat", "prompt"),
    ("compat", "tokens"),
    ("config", "cache"),
    ("config", "callers"),
    ("config", "cluster"),
    ("config", "idempotency"),
    ("config", "jobs"),
    ("config", "journal"),
    ("config", "rollout"),
    ("config", "runs"),
    ("config", "store"),
    ("control", "fleet"),
    ("dispatch", "fleet"),
    ("dispatch", "limits"),
    ("embed", "store"),
    ("feedback", "store"),
    ("feedback", "telemetry"),
    ("gateway", "control"),
    ("gateway", "dispatch"),
    ("gateway", "fleet"),
    ("idempotency", "store"),
    ("jobs", "idempotency"),
    ("jobs", "store"),
    ("gateway", "limits"),
    ("journal", "store"),
    ("meaning", "cache"),
    ("meaning", "embed"),
    ("meaning", "store"),
    ("problems", "units"),
    ("quota", "policy"),
    ("registry", "audit"),
    ("registry", "config"),
    ("registry", "store"),
    ("rehearse", "api"),
    ("rehearse", "sim"),
    ("rejection", "failure"),
    ("rejection", "units"),
    ("rollout", "audit"),
    ("rollout", "store"),
    ("runs", "audit"),
    ("runs", "store"),
    ("tokens", "dialect"),
];

/// The most code lines a file may have, and how many files may have more than the goal.
const HARD_LINES: usize = 600;
const GOAL_LINES: usize = 400;
const FILES_OVER_GOAL: usize = 8;

/// Waits on the real clock in tests. A test waits for a state, not for a while: the few here give
/// something the time to go wrong, or poll a process that cannot tell when it is done.
const REAL_SLEEPS: usize = 15;

/// A provider that follows a dialect is a file of so many lines at most.
const PROVIDER_LINES: usize = 40;

/// A source file.
struct File {
    path: PathBuf,
    text: String,
}

impl File {
    /// The text without comments and without the tests at its end. Code that looks like a comment
    /// inside a string is lost, too.
    fn code(&self) -> String {
        let cut = |line: &str| line.split_once("//").map_or(line, |(code, _)| code).to_owned();
        let tests = "\n#[cfg(test)]\nmod tests {";
        let text = self.text.split_once(tests).map_or(&*self.text, |(code, _)| code);
        let lines: Vec<String> = text.lines().map(cut).collect();
        lines.join("\n")
    }

    fn code_lines(&self) -> usize {
        let counts = |line: &&str| !line.trim().is_empty() && !line.trim().starts_with("//");
        self.text.lines().filter(counts).count()
    }

    /// The top-level module that the file belongs to.
    fn module(&self) -> Option<String> {
        let mut parts = self.path.strip_prefix("src").ok()?.components();
        let first = parts.next()?.as_os_str().to_str()?;
        Some(first.trim_end_matches(".rs").to_owned())
    }

    /// Whether it holds nothing but tests.
    fn is_test(&self) -> bool {
        self.path.starts_with("tests")
            || self.path.components().any(|part| part.as_os_str() == "tests")
            || self.path.ends_with("tests.rs")
    }
}

impl fmt::Display for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path.display().fmt(f)
    }
}

/// All files with this ending under some folders of the package; paths are relative to it.
fn files(folders: &[&str], ending: &str) -> Vec<File> {
    let mut found = Vec::new();
    for folder in folders {
        walk(Path::new(folder), &mut |path| {
            if path.to_string_lossy().ends_with(ending)
                && let Ok(text) = fs::read_to_string(package().join(path))
            {
                found.push(File { path: path.to_owned(), text });
            }
        });
    }
    assert!(!found.is_empty(), "no {ending} in {folders:?}");
    found
}

fn walk(folder: &Path, visit: &mut dyn FnMut(&Path)) {
    let Ok(entries) = fs::read_dir(package().join(folder)) else { return };
    let mut names: Vec<_> = entries.flatten().map(|entry| entry.file_name()).collect();
    names.sort();
    for name in names {
        let path = folder.join(&name);
        // In a worktree `.git` is a file.
        if ["target", ".git", "node_modules", "data", ".venv"].iter().any(|skip| name == *skip) {
            continue;
        }
        if package().join(&path).is_dir() {
            walk(&path, visit);
        } else {
            visit(&path);
        }
    }
}

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

/// The modules that a text names after `crate::`, also in braces.
fn named(code: &str) -> BTreeSet<String> {
    let word = |text: &str| {
        let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        text.get(..end.unwrap_or(text.len())).unwrap_or_default().to_owned()
    };
    let mut names = BTreeSet::new();
    for after in code.split("crate::").skip(1) {
        match after.strip_prefix('{') {
            None => _ = names.insert(word(after)),
            Some(group) => {
                let group = group.split_once("};").map_or(group, |(group, _)| group);
                names.extend(group.split([',', '{']).map(|name| word(name.trim())));
            }
        }
    }
    names
}

/// Every `crate::to` that stands in a module `from`, with one file where it does. Tests may look
/// anywhere.
fn uses() -> BTreeMap<(String, String), String> {
    let mut uses = BTreeMap::new();
    for file in files(&["src"], ".rs").iter().filter(|file| !file.is_test()) {
        let Some(from) = file.module().filter(|from| layer(from).is_some()) else { continue };
        for to in named(&file.code()) {
            if to != from && layer(&to).is_some() {
                uses.entry((from.clone(), to)).or_insert_with(|| file.to_string());
            }
        }
    }
    uses
}

#[test]
fn every_module_has_a_layer() {
    let lib = fs::read_to_string(package().join("src/lib.rs")).expect("the root");
    let modules: Vec<_> = lib.lines().filter_map(|line| line.strip_prefix("pub mod ")).collect();
    assert!(modules.len() > 20, "{modules:?}");
    for module in modules {
        let module = module.trim_end_matches(';');
        assert!(layer(module).is_some(), "`{module}` is in no layer");
    }
}

#[test]
fn modules_only_look_down() {
    let uses = uses();
    assert!(uses.len() > 60, "too few uses were found: {uses:#?}");
    let mut beside: BTreeSet<_> = BESIDE.iter().copied().collect();
    for ((from, to), file) in &uses {
        assert!(layer(to) <= layer(from), "{file}: `{from}` uses `{to}`, which is above it");
        if layer(to) == layer(from) {
            assert!(BESIDE.contains(&(from, to)), "{file}: `{from}` uses `{to}` of its own layer");
            beside.remove(&(from.as_str(), to.as_str()));
        }
    }
    assert!(beside.is_empty(), "allowed, but used nowhere: {beside:?}");
}

#[test]
fn no_modules_use_each_other() {
    // What is allowed beside each other, taken away from below: a circle would remain.
    let mut left: BTreeSet<_> = BESIDE.iter().copied().collect();
    loop {
        let users: BTreeSet<_> = left.iter().map(|(from, _)| *from).collect();
        let before = left.len();
        left.retain(|(_, to)| users.contains(to));
        if left.len() == before {
            break;
        }
    }
    assert!(left.is_empty(), "modules that use each other: {left:?}");
}

#[test]
fn pure_layers_stay_pure() {
    let words = [
        "tokio::",
        "reqwest",
        "axum",
        "hyper::",
        "sqlx",
        "async fn",
        "async move",
        ".await",
        "now()",
        "sleep(",
        "std::fs",
        "std::env",
        "std::thread",
        "TcpStream",
        "File::",
    ];
    let pure: Vec<_> = LAYERS.iter().take(2).flat_map(|layer| layer.iter()).collect();
    for file in files(&["src"], ".rs").iter().filter(|file| !file.is_test()) {
        let module = file.module().unwrap_or_default();
        // The clock is where the clock may be read.
        if module == "clock" || !pure.contains(&&module.as_str()) {
            continue;
        }
        for word in words {
            assert!(!file.code().contains(word), "{file} uses `{word}`");
        }
    }
}

#[test]
fn a_module_of_one_layer_is_not_known_where_it_must_not_be() {
    let forbidden: [(&[&str], &[&str]); 4] = [
        (&["gateway", "dispatch", "fleet"], &["axum"]),
        (&["api", "admin"], &["crate::upstream::live", "crate::sim", "Ticket", "fleet().admit("]),
        (&["api"], &["crate::fleet"]),
        (&["policy"], &["tokio", "crate::catalog"]),
    ];
    for file in files(&["src"], ".rs").iter().filter(|file| !file.is_test()) {
        let module = file.module().unwrap_or_default();
        for (modules, words) in forbidden {
            for word in words.iter().filter(|_| modules.contains(&module.as_str())) {
                assert!(!file.code().contains(word), "{file} knows of `{word}`");
            }
        }
    }
}

#[test]
fn only_one_place_spawns() {
    // The simulator's connections end with its server, which is a program of its own.
    let places = ["src/control/tasks.rs", "src/sim/serve.rs"];
    for file in files(&["src"], ".rs").iter().filter(|file| !file.is_test()) {
        // Work that is waited for may leave the thread with `spawn_blocking`.
        for word in ["tokio::spawn(", "task::spawn(", "task::spawn_local(", "JoinSet"] {
            let spawns = file.code().contains(word);
            assert!(!spawns || places.contains(&file.to_string().as_str()), "{file} has `{word}`");
        }
    }
}

#[test]
fn every_file_says_what_it_is() {
    for file in files(&["src", "tests", "benches"], ".rs") {
        assert!(file.text.starts_with("//! "), "{file} does not begin with `//!`");
    }
}

#[test]
fn files_are_small() {
    let mut large: Vec<_> = files(&["src", "tests", "benches"], ".rs")
        .iter()
        .map(|file| (file.code_lines(), file.to_string()))
        .filter(|(lines, _)| *lines > GOAL_LINES)
        .collect();
    large.sort_by(|a, b| b.cmp(a));
    println!("over {GOAL_LINES} code lines: {large:#?}");
    assert!(large.iter().all(|(lines, _)| *lines <= HARD_LINES), "over {HARD_LINES}: {large:#?}");
    assert!(large.len() <= FILES_OVER_GOAL, "more than {FILES_OVER_GOAL}: {large:#?}");
}

#[test]
fn every_file_that_architecture_names_is_there() {
    let text = fs::read_to_string(package().join("ARCHITECTURE.md")).unwrap();
    let named = text.split('`').skip(1).step_by(2).filter(|word| word.ends_with(".rs"));
    let mut missing: Vec<String> = Vec::new();
    let mut seen = 0;
    for word in named.filter(|word| word.contains('/') && !word.contains([' ', '\n'])) {
        // `a/{b,c}.rs` names two files; `foo/tests.rs` any.
        let (before, rest) = word.split_once('{').unwrap_or((word, "}"));
        let (names, after) = rest.split_once('}').unwrap();
        for name in names.split(',') {
            let path = format!("{before}{name}{after}");
            let places = [package().join(&path), package().join("src").join(&path)];
            let is_there = path.starts_with("foo/") || places.iter().any(|place| place.is_file());
            seen += 1;
            if !is_there {
                missing.push(path);
            }
        }
    }
    assert!(seen > 100, "only {seen} files are named: were they looked for rightly?");
    assert!(missing.is_empty(), "ARCHITECTURE.md names what is not there: {missing:#?}");
}

#[test]
fn nothing_is_left_undone() {
    let words = ["to", "unimplemen"].map(|start| match start {
        "to" => "todo!(".to_owned(),
        _ => format!("{start}ted!("),
    });
    for file in files(&["src", "tests", "benches"], ".rs") {
        if file.path.ends_with("architecture.rs") {
            continue;
        }
        for word in &words {
            assert!(!file.text.contains(word), "{file} has {word}…)");
        }
    }
}

#[test]
fn nothing_names_a_machine() {
    // Built from halves, so that this file does not name one either.
    let words = [
        format!("{}work/", "/"),
        format!("{}root/", "/"),
        format!("{}home/", "/"),
        format!("{}Users/", "/"),
        format!("registry.{}", "npmjs.org"),
        format!("pypi.{}", "org/simple"),
    ];
    let mut looked_at = 0;
    walk(Path::new(""), &mut |path| {
        let Ok(text) = fs::read_to_string(package().join(path)) else { return };
        looked_at += 1;
        for word in &words {
            assert!(!text.contains(word.as_str()), "{} names {word}", path.display());
        }
    });
    assert!(looked_at > 200, "{looked_at} files");
}

#[test]
fn tests_do_not_sleep_on_the_real_clock() {
    let mut sleeps = Vec::new();
    for file in files(&["src", "tests/it"], ".rs").iter().filter(|file| file.is_test()) {
        // A file with a paused clock has no other.
        if file.text.contains("start_paused") || file.path.ends_with("architecture.rs") {
            continue;
        }
        sleeps.extend(file.code().matches("sleep(").map(|_| file.to_string()));
    }
    assert!(sleeps.len() <= REAL_SLEEPS, "more than {REAL_SLEEPS} sleeps: {sleeps:#?}");
}

#[test]
fn a_provider_that_follows_a_dialect_is_a_short_file() {
    for file in files(&["providers"], ".toml") {
        // The company whose dialect it is has more models to list than those who follow it.
        if file.path.ends_with("openai.toml") && !file.path.ends_with("azure-openai.toml") {
            continue;
        }
        let lines = file.text.lines().count();
        assert!(lines <= PROVIDER_LINES, "{file} has {lines} lines");
    }
}

#[test]
fn the_makefile_and_the_readme_name_the_commands_that_people_type() {
    let makefile = fs::read_to_string(package().join("Makefile")).expect("a Makefile");
    for target in ["run", "test", "bench", "check"] {
        assert!(makefile.contains(&format!("\n{target}:")), "no target `{target}`");
    }
    let Ok(readme) = fs::read_to_string(package().join("README.md")) else {
        println!("SKIPPED: there is no README.md yet");
        return;
    };
    for command in ["make run", "make test"] {
        assert!(readme.contains(command), "README.md does not name `{command}`");
    }
}
