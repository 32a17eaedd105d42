//! Every file of every corpus goes through the function that is fuzzed with it: what was found once
//! stays mended, on stable Rust and in seconds. CONTRIBUTING.md says how to fuzz.

use std::collections::BTreeSet;
use std::fs;
use std::panic::catch_unwind;

use crate::support::package;

#[expect(dead_code, unreachable_pub, reason = "it is a crate of its own, too")]
#[path = "../../fuzz/src/lib.rs"]
mod targets;

/// The most that all corpora may measure.
const MAX_CORPUS_BYTES: u64 = 1 << 20;

#[test]
fn every_target_holds_for_its_corpus() {
    let mut bytes_of_all = 0;
    let mut failed = Vec::new();
    for (name, target) in targets::TARGETS {
        let folder = package().join("fuzz/corpus").join(name);
        let files = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{folder:?}: {error}"));
        let mut files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
        files.sort();
        assert!(files.len() >= 3, "{name} has {} files", files.len());
        for file in files {
            let bytes = fs::read(&file).unwrap();
            bytes_of_all += bytes.len() as u64;
            if catch_unwind(|| target(&bytes)).is_err() {
                failed.push(file.strip_prefix(package()).unwrap().to_owned());
            }
        }
    }
    assert!(failed.is_empty(), "what each says is above: {failed:#?}");
    assert!(bytes_of_all <= MAX_CORPUS_BYTES, "the corpora have {bytes_of_all} bytes");
}

#[test]
fn every_target_can_be_fuzzed() {
    let named = |folder: &str| -> BTreeSet<String> {
        let entries = fs::read_dir(package().join(folder)).unwrap().map(Result::unwrap);
        let names = entries.map(|entry| entry.path().file_stem().unwrap().to_owned());
        names.map(|name| name.into_string().unwrap()).collect()
    };
    let targets: BTreeSet<String> =
        targets::TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(named("fuzz/fuzz_targets"), targets);
    assert_eq!(named("fuzz/corpus"), targets);
    let manifest = fs::read_to_string(package().join("fuzz/Cargo.toml")).unwrap();
    for name in &targets {
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name} is not in the manifest");
        let file = package().join(format!("fuzz/fuzz_targets/{name}.rs"));
        assert!(fs::read_to_string(file).unwrap().contains(&format!("\"{name}\"")), "{name}");
    }
}
