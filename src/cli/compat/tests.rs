//! Tests of what the command takes and says, without a gateway.

use clap::Parser;
use serde_json::json;

use super::*;
use crate::cli::client::ClientError;

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    compat: CompatArgs,
}

fn parsed(line: &str) -> Result<CompatCommand, String> {
    let words = std::iter::once("compat").chain(line.split(' '));
    let line = Line::try_parse_from(words).map_err(|error| error.to_string())?;
    Ok(line.compat.command)
}

#[test]
fn money_and_numbers_that_are_none_are_refused_at_their_option() {
    for (line, wanted) in [
        ("run x --max-cost abc", "'abc' for '--max-cost <USD>': `abc` is no amount of money"),
        ("run x --max-cost -1", "'-1' for '--max-cost <USD>': `-1` is no amount of money"),
        ("run x --samples -3", "'-3' for '--samples <N>': -3 is not in 1..=100"),
        ("run x --samples 0", "0 is not in 1..=100"),
        ("run x --samples 101", "101 is not in 1..=100"),
        ("run x --seed -1", "'-1' for '--seed <N>'"),
        ("list --state gone", "'gone' for '--state <STATE>'"),
    ] {
        let told = parsed(line).expect_err(line);
        assert!(told.contains(wanted), "{line}: {told}");
    }
    let Ok(CompatCommand::Run(run)) = parsed("run x --max-cost 2.50 --samples 5") else {
        panic!("it is right")
    };
    assert_eq!(
        (run.max_cost.map(|usd| usd.to_string()), run.samples),
        (Some("2.5".into()), Some(5))
    );
}

#[test]
fn a_refusal_names_options_where_the_gateway_names_members() {
    let said = |detail: &str| {
        let error = ClientError::Refused { status: 400, detail: detail.to_owned() };
        runs::in_flags(error).to_string()
    };
    assert_eq!(said("to_model: `x` cannot be asked: why"), "--to-model: `x` cannot be asked: why");
    assert_eq!(
        said("from, to: both are a; say which version (`to`) or which model (`to_model`) may"),
        "--from, --to: both are a; say which version (`--to`) or which model (`--to-model`) may"
    );
    assert_eq!(said("`samples`: must be 1 to 100"), "--samples: must be 1 to 100");
    assert_eq!(said("text: a.yaml:3: case `x` cannot"), "a.yaml:3: case `x` cannot");
    assert_eq!(said("suite: it has no prompts"), "suite: it has no prompts");
}

#[test]
fn what_a_run_leaves_out_of_a_file_is_named_with_how_to_run_it() {
    let suite = json!({
        "prompts": ["short", "long", "kind"], "models": ["sim/a", "sim/b", "sim/c"],
        "unknown_models": ["sim/c"],
    });
    let begun = json!({
        "from": {"prompt": "short", "model": "sim/a"}, "to": {"prompt": "long", "model": "sim/a"},
    });
    assert_eq!(
        runs::left_out("suite.yaml", &suite, &begun),
        [
            "not run: 1 prompt of the suite: 2 (kind)",
            "  to run it: tidegate compat run suite.yaml --from NUMBER --to NUMBER",
            "not run: 2 models of the suite: sim/b, sim/c",
            "  to run it: tidegate compat run suite.yaml --from-model NAME --to-model NAME",
            "this gateway does not know sim/c",
        ]
    );
    let whole = json!({"prompts": ["short", "long"], "models": ["sim/a"], "unknown_models": []});
    assert_eq!(runs::left_out("suite.yaml", &whole, &begun), Vec::<String>::new());
}

#[test]
fn a_list_asks_for_what_is_wanted() {
    let path = |line: &str| match parsed(line) {
        Ok(CompatCommand::List(list)) => list.path(),
        other => panic!("{other:?}"),
    };
    assert_eq!(path("list"), "/compat/runs");
    assert_eq!(
        path("list --prompt support-reply --state running --kind nightly --suite a"),
        "/compat/runs?suite=a&prompt=support-reply&state=running&kind=nightly"
    );
}

#[test]
fn the_matrix_has_versions_in_rows_and_models_in_columns() {
    let cell = |version: &str, model: &str, verdict: &str, depth: &str| {
        json!({"version": version, "model": model, "verdict": verdict, "depth": depth,
            "at": "2026-11-21T03:00:00Z", "run": "cr_Ab3dE6gH9jK2"})
    };
    let matrix = json!({
        "prompt": "support", "versions": ["1.1.0", "1.0.0"], "models": ["sim/a", "sim/b"],
        "cells": [
            cell("1.1.0", "sim/b", "compatible", "full"),
            cell("1.0.0", "sim/a", "incompatible", "smoke"),
        ],
    });
    let mut out = Vec::new();
    matrix::show(&matrix, &mut out).unwrap();
    let shown = String::from_utf8(out).unwrap();
    assert_eq!(
        shown.lines().collect::<Vec<_>>(),
        [
            "support  sim/a                 sim/b",
            "1.1.0    -                     compatible",
            "                               2026-11-21",
            "                               cr_Ab3dE6gH9jK2",
            "1.0.0    incompatible (smoke)  -",
            "         2026-11-21",
            "         cr_Ab3dE6gH9jK2",
        ]
    );
}
