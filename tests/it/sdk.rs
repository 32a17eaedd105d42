//! Official SDKs, unmodified, against a started gateway. The programs are in `tests/sdk`.
//!
//! `scripts/sdk-setup` installs what they need; `make test` calls it and asks for these tests with
//! `SDK_TESTS=required`. Without it they are skipped where nothing is installed.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::support::{ADMIN_KEY, EVERY_SIM, Program, package};

/// A simulator behind sockets, a gateway in front of everything simulated, and one that wants keys.
struct Stage {
    sim: Program,
    gateway: Program,
    keyed: Program,
    key: String,
}

// === impl Stage ===

impl Stage {
    fn set() -> Self {
        let sim = Program::sim(None);
        let far = |id: &str, dialect: &str, base: &str, model: &str| {
            format!(
                "[providers.{id}]\ndialect = \"{dialect}\"\nbase_url = \"{}{base}\"\n\
                 auth = \"none\"\ncredentials = [{{ none = true }}]\n\
                 [[providers.{id}.models]]\nid = \"{model}\"\n",
                sim.url()
            )
        };
        let gateway = Program::gateway(&format!(
            "{EVERY_SIM}{}{}{}",
            far("far", "openai-chat", "/v1", "tide-small"),
            far("far-anthropic", "anthropic", "/v1", "tide-large"),
            far("far-gemini", "gemini", "/v1beta", "tide-reasoner"),
        ));
        let keyed = Program::gateway(
            "[server]\nrequest_body_limit = \"64KB\"\n[auth]\nmode = \"keys\"\n[providers.sim]\n",
        );
        let admin = format!("Bearer {ADMIN_KEY}");
        let headers = [("authorization", admin.as_str())];
        let made = keyed.ask("POST /admin/v1/keys", &headers, r#"{"name":"sdk"}"#);
        let key = made.json()["key"].as_str().expect("a key").to_owned();
        Self { sim, gateway, keyed, key }
    }

    /// Runs a program and fails with what it printed unless it ends well.
    fn play(&self, mut program: Command) {
        let output = program
            .env("GATEWAY", self.gateway.url())
            .env("SIM", self.sim.url())
            .env("KEYED", self.keyed.url())
            .env("KEY", &self.key)
            .env("ADMIN_KEY", ADMIN_KEY)
            .stdin(Stdio::null())
            .output()
            .expect("the program starts");
        let said = String::from_utf8_lossy(&output.stdout);
        let complained = String::from_utf8_lossy(&output.stderr);
        println!("{said}");
        assert!(output.status.success(), "{program:?}\n{said}{complained}");
        assert!(said.contains("cases passed"), "{program:?} ran no cases:\n{said}{complained}");
    }
}

/// The folder of the installed SDKs, or None where the tests are to be skipped.
fn installed() -> Option<PathBuf> {
    let wish = std::env::var_os("SDK_TESTS");
    let home = package().join("target/sdk");
    let there = home.join("installed").exists();
    if wish.as_ref().is_some_and(|wish| wish == "skip") || (wish.is_none() && !there) {
        println!("SKIPPED: the official SDKs are not installed; scripts/sdk-setup does it");
        return None;
    }
    assert!(there, "the official SDKs are not installed: run scripts/sdk-setup");
    Some(home)
}

/// Runs a Python program of `tests/sdk`.
pub(crate) fn python(name: &str, environment: &[(&str, &OsStr)]) {
    let Some(home) = installed() else { return };
    let mut program = Command::new(home.join("venv/bin/python"));
    // `-B` keeps the tree free of compiled modules.
    program.arg("-B").arg(package().join("tests/sdk").join(name)).envs(environment.iter().copied());
    Stage::set().play(program);
}

/// Runs a Node program of `tests/sdk`.
fn node(name: &str) {
    let Some(home) = installed() else { return };
    // Node looks for packages beside the program.
    let folder = home.join("node");
    for file in ["cases.mjs", name] {
        let from = package().join("tests/sdk").join(file);
        std::fs::copy(from, folder.join(file)).expect("copied");
    }
    let mut program = Command::new("node");
    program.arg(folder.join(name));
    Stage::set().play(program);
}

#[test]
fn openai_for_python_works_unmodified() {
    python("openai_sdk.py", &[]);
}

#[test]
fn anthropic_for_python_works_unmodified() {
    python("anthropic_sdk.py", &[]);
}

#[test]
fn openai_for_node_works_unmodified() {
    node("openai_sdk.mjs");
}

#[test]
fn anthropic_for_node_works_unmodified() {
    node("anthropic_sdk.mjs");
}
