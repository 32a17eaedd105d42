//! Dashboards and alerts name metrics that the gateway has, with labels that these have.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use regex::Regex;
use serde_json::Value;

use crate::support::package;

/// Of series, not of metrics: what a scrape adds, and the bounds of histograms.
const OF_EVERY_SERIES: [&str; 3] = ["job", "instance", "le"];

/// A metric, with what its series are chosen by.
static METRIC: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"\b((?:tidegate|gen_ai)_[a-z_]+)\b(?:\{([^}]*)\})?").unwrap());
/// One label of that.
static MATCHER: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r#"([a-z_]+)\s*(?:=~|!~|!=|=)\s*""#).unwrap());
/// A label that OpenTelemetry has named.
const LABEL_LIKE_A_METRIC: &str = "gen_ai_token_type";

/// All metrics of the gateway by the names that a scrape has, each with its labels: what
/// `src/telemetry/metrics` registers. A scrape itself lacks families nobody has counted in yet.
fn exposed() -> BTreeMap<String, BTreeSet<String>> {
    let name = Regex::new(r#""((?:tidegate|gen_ai)_[a-z_]+)""#).unwrap();
    let word = Regex::new(r#""([a-z_]+)""#).unwrap();
    let mut metrics = BTreeMap::new();
    for path in files("src/telemetry/metrics", "rs") {
        let source = fs::read_to_string(&path).unwrap();
        let found = name.captures_iter(&source).map(|found| found.get(1).unwrap());
        let starts: Vec<_> = found.filter(|it| it.as_str() != LABEL_LIKE_A_METRIC).collect();
        for (index, start) in starts.iter().enumerate() {
            let end = starts.get(index + 1).map_or(source.len(), |next| next.start());
            let before = source.get(..start.start()).unwrap();
            let after = source.get(start.end()..end).unwrap();
            let call = before.trim_end_matches('"').trim_end();
            let call = call.trim_end_matches("registry,").trim_end().trim_end_matches('(');
            let list = after.split_once("&[").and_then(|(_, rest)| rest.split_once(']'));
            let list = list.map_or("", |(list, _)| list);
            let mut labels: BTreeSet<_> =
                word.captures_iter(list).map(|found| found[1].to_owned()).collect();
            if call.ends_with("ratios") {
                labels.insert("target".to_owned());
            }
            if after.contains("&per_target") {
                labels.extend(["provider", "model", "target"].map(str::to_owned));
            }
            let is_histogram = call.ends_with("histogram") || call.ends_with("histograms");
            let forms: &[&str] = if is_histogram { &["_bucket", "_sum", "_count"] } else { &[""] };
            for form in forms {
                metrics.insert(format!("{}{form}", start.as_str()), labels.clone());
            }
        }
    }
    metrics
}

/// The files of a folder with this extension.
fn files(folder: &str, extension: &str) -> Vec<PathBuf> {
    let of_kind = |path: &Path| path.extension().is_some_and(|it| it == extension);
    let folder = package().join(folder);
    let entries = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let files: Vec<_> = entries.filter(|path| of_kind(path)).collect();
    assert!(!files.is_empty(), "no .{extension} in {}", folder.display());
    files
}

/// Every text of a dashboard: expressions, legends, variables, descriptions.
fn texts(value: &Value, into: &mut Vec<String>) {
    if let Value::String(text) = value {
        into.push(text.clone());
    }
    value.as_array().into_iter().flatten().for_each(|item| texts(item, into));
    value.as_object().into_iter().flatten().for_each(|(_, member)| texts(member, into));
}

/// What is wrong with the metrics that `text` names; and how many it names.
fn faults(text: &str, known: &BTreeMap<String, BTreeSet<String>>) -> (usize, Vec<String>) {
    let mut named = 0;
    let mut faults = Vec::new();
    for found in METRIC.captures_iter(text) {
        let name = &found[1];
        if name == LABEL_LIKE_A_METRIC {
            continue;
        }
        named += 1;
        let Some(labels) = known.get(name) else {
            faults.push(format!("there is no metric {name}: {text}"));
            continue;
        };
        let matched = found.get(2).map_or("", |it| it.as_str());
        for label in MATCHER.captures_iter(matched).map(|it| it[1].to_owned()) {
            if !labels.contains(&label) && !OF_EVERY_SERIES.contains(&&*label) {
                faults.push(format!("{name} has no label {label}: {text}"));
            }
        }
    }
    (named, faults)
}

#[test]
fn dashboards_and_alerts_name_what_the_gateway_has() {
    let known = exposed();
    for expected in ["tidegate_requests_total", "gen_ai_server_request_duration_bucket"] {
        assert!(known.contains_key(expected), "{expected} is not found in the sources");
    }
    let mut sources = Vec::new();
    for path in files("config/dashboards", "json") {
        let board: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        let mut all = Vec::new();
        texts(&board, &mut all);
        sources.push((path, all));
    }
    for path in files("deploy/prometheus", "yml") {
        let text = fs::read_to_string(&path).unwrap();
        let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
        sources.push((path.clone(), lines.map(str::to_owned).collect()));
    }
    let mut all_named = 0;
    let mut all_faults = Vec::new();
    for (path, texts) in sources {
        for text in texts {
            let (named, faults) = faults(&text, &known);
            all_named += named;
            all_faults.extend(faults.into_iter().map(|it| format!("{}: {it}", path.display())));
        }
    }
    assert!(all_faults.is_empty(), "{}", all_faults.join("\n"));
    assert!(all_named > 100, "only {all_named} names were found");
}

#[test]
fn a_name_or_a_label_that_is_none_is_found() {
    let known = exposed();
    let wrong = [
        "rate(tidegate_request_total[5m])",
        "tidegate_breaker_state{route=\"smart\"}",
        "gen_ai_server_request_duration{target=\"a\"}",
    ];
    for text in wrong {
        assert_eq!(faults(text, &known).1.len(), 1, "{text}");
    }
    let right = "rate(gen_ai_server_time_to_first_token_bucket{job=\"$job\", target=~\".*\"}[5m])";
    assert_eq!(faults(right, &known), (1, Vec::new()));
}
