//! The embedder with the model of the suite, see `scripts/model-setup`.
#![expect(clippy::disallowed_methods, reason = "the suite reads which tests it must run")]

use super::*;
use crate::embed::Embedder;
use std::path::PathBuf;
use std::time::Duration;

#[expect(clippy::print_stdout, reason = "who skips tests says so")]
/// The folder of the model, or None where the tests are to be skipped.
fn installed() -> Option<PathBuf> {
    let wish = std::env::var("MODEL_TESTS").ok();
    let home = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/models/all-MiniLM-L6-v2");
    let there = home.join("checked").exists();
    if wish.as_deref() == Some("skip") || (wish.is_none() && !there) {
        println!("SKIPPED: the sentence model is not installed; scripts/model-setup does it");
        return None;
    }
    assert!(there, "the sentence model is not installed: run scripts/model-setup");
    Some(home)
}

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

/// An embedder of one thread.
fn embedder(folder: &Path) -> Embedder {
    let local = LocalEmbedder::open(folder, 1).expect("a model");
    Embedder::new("local", Duration::from_secs(60), Arc::new(local))
}

#[tokio::test]
async fn vectors_are_those_of_other_implementations() {
    let Some(folder) = installed() else { return };
    let embedder = embedder(&folder);
    assert_eq!((embedder.dimensions(), embedder.space()), (384, "bert-384-53aa5117"));
    // The first three and their cosines stand in the documentation of Sentence Transformers. All
    // numbers come from this model in NumPy with 64 bits, written for the purpose.
    let asked = texts(&[
        "The weather is lovely today.",
        "It's so sunny outside!",
        "He drove to the stadium.",
        "How do I reset my password?",
        "I forgot my password, how can I change it?",
        "How do I delete my account?",
        "Wie setze ich mein Passwort zurück?",
        "What is 17 times 23?",
        "日本の首都はどこですか？",
        "",
    ]);
    let found = embedder.embed(asked).await.expect("vectors").vectors;
    let cosines = [
        (0, 1, 0.66596),
        (0, 2, 0.10458),
        (1, 2, 0.14114),
        (3, 4, 0.89386),
        (3, 5, 0.58027),
        (4, 5, 0.51444),
        (3, 6, 0.23097),
        (6, 8, 0.27236),
        (7, 9, 0.21507),
        (0, 3, -0.05741),
    ];
    for (one, other, expected) in cosines {
        let cosine = found[one].cosine(&found[other]);
        assert!((cosine - expected).abs() < 2e-5, "{one} and {other}: {cosine}, not {expected}");
    }
    let starts = [
        (0, [0.019196, 0.120085, 0.159598, 0.067066]),
        (4, [-0.023783, -0.016202, -0.070469, -0.008919]),
        (8, [0.063734, 0.140878, 0.056383, 0.002275]),
    ];
    for (text, expected) in starts {
        for (value, expected) in found[text].values().iter().zip(expected) {
            assert!((value - expected).abs() < 2e-6, "{text}: {value}, not {expected}");
        }
    }
}

#[tokio::test]
async fn a_vector_does_not_depend_on_the_texts_beside_it() {
    let Some(folder) = installed() else { return };
    let embedder = embedder(&folder);
    let long = "a long text about nothing in particular ".repeat(30);
    let alone = embedder.embed(texts(&["How do I reset my password?"])).await.expect("a vector");
    let beside = embedder.embed(texts(&[&long, "How do I reset my password?", &long])).await;
    assert!(alone.vectors[0].cosine(&beside.expect("vectors").vectors[1]) > 0.999_999);
}

#[tokio::test]
async fn a_text_that_is_too_long_is_an_error_and_not_cut() {
    let Some(folder) = installed() else { return };
    let embedder = embedder(&folder);
    // Two marks and 254 words fill the model.
    let full = "word ".repeat(254);
    assert_eq!(embedder.embed(vec![full.clone()]).await.map(|found| found.vectors.len()), Ok(1));
    let too_long = Err(EmbedError::TooLong { limit: 256 });
    assert_eq!(
        embedder.embed(vec![full + "word"]).await.map(|found| found.vectors.len()),
        too_long
    );
    let huge = vec!["word ".repeat(10_000_000)];
    assert_eq!(embedder.embed(huge).await.map(|found| found.vectors.len()), too_long);
}

#[tokio::test]
async fn a_full_queue_and_a_passed_time_limit_are_busy() {
    let Some(folder) = installed() else { return };
    let local = LocalEmbedder::open(&folder, 1).expect("a model");
    let long = "word ".repeat(200);
    let waiting: Vec<_> = (0..MAX_WAITING * 2).map(|_| local.embed(texts(&[&long]))).collect();
    let patient = Embedder::new("local", Duration::from_secs(60), Arc::new(local.clone()));
    assert_eq!(patient.embed(texts(&["hello"])).await, Err(EmbedError::Busy));
    // Callers who left are not computed, so that whoever comes next is served soon.
    drop(waiting);
    let found = loop {
        match patient.embed(texts(&["hello"])).await {
            Err(EmbedError::Busy | EmbedError::Resting) => tokio::task::yield_now().await,
            other => break other,
        }
    };
    assert_eq!(found.expect("a vector").vectors.len(), 1);
    // Behind a minute of work, no preempted thread makes the answer come in time.
    let hasty = Embedder::new("local", Duration::from_millis(1), Arc::new(local.clone()));
    let before: Vec<_> = (0..MAX_WAITING / 2).map(|_| local.embed(texts(&[&long]))).collect();
    assert_eq!(hasty.embed(texts(&["hello"])).await, Err(EmbedError::Busy));
    drop(before);
}

#[test]
fn a_folder_without_a_model_says_what_is_missing() {
    let folder = tempfile::tempdir().expect("a folder");
    let error = LocalEmbedder::open(folder.path(), 1).expect_err("no model");
    assert!(error.to_string().contains("cannot read"), "{error}");
    assert!(error.to_string().ends_with("model.safetensors"), "{error}");
    std::fs::write(folder.path().join("model.safetensors"), b"not tensors").expect("written");
    let error = LocalEmbedder::open(folder.path(), 1).expect_err("no model");
    assert!(error.to_string().contains("model.safetensors is not usable"), "{error}");
    std::fs::write(folder.path().join("config.json"), b"{}").expect("written");
    let error = LocalEmbedder::open(folder.path(), 1).expect_err("no model");
    assert!(error.to_string().contains("config.json is not usable"), "{error}");
}
