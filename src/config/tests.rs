//! Tests of reading, checking and indexing. The golden files under `tests/golden/config` hold the
//! messages; see `tests/it/config.rs`.

use std::path::{Path, PathBuf};

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

#[test]
fn the_schema_is_what_the_structs_say() {
    assert_generated("config/schema.json", &schema_json());
}
