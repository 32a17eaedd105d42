//! The threats that SECURITY.md lists, tried on the real program. Those that need less than that
//! are tested beside the code, and named there.

mod bombs;
mod doors;
mod echo;
mod secrets;
mod smuggling;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::support::package;

/// The names of all functions below a folder.
fn functions(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            functions(&path, found);
        } else if path.extension().is_some_and(|end| end == "rs") {
            let text = fs::read_to_string(path).unwrap();
            let names = text.split("fn ").skip(1).filter_map(|rest| rest.split('(').next());
            found.extend(names.map(str::to_owned));
        }
    }
}

#[test]
fn what_the_threat_model_names_is_there() {
    let text = fs::read_to_string(package().join("SECURITY.md")).unwrap();
    let mut known = BTreeSet::new();
    functions(&package().join("src"), &mut known);
    functions(&package().join("tests"), &mut known);
    let mut tests = 0;
    for word in text.split('`').skip(1).step_by(2) {
        if word.ends_with(".rs") || word.ends_with(".md") || word.ends_with(".toml") {
            assert!(package().join(word).exists(), "{word} is not there");
        } else if word.matches('_').count() > 2 && !word.contains('.') {
            assert!(known.contains(word), "there is no test {word}");
            tests += 1;
        }
    }
    assert!(tests > 60, "{tests} tests");
}
