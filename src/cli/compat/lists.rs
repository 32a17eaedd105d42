//! Lists of suites and runs, and what changes them.

use std::io::{self, Write};

use anyhow::Context;
use serde_json::{Value, json};

use super::files;
use super::{CompatArgs, CompatCommand};
use crate::cli::client::{AdminClient, ClientError, encoded};
use crate::cli::terms::{answered, checked_id, every_page, table, text};

/// Runs a command that asks the gateway once.
pub(super) fn run(
    args: &CompatArgs,
    out: &mut dyn Write,
    complaints: &mut dyn Write,
) -> anyhow::Result<u8> {
    let pushed = match &args.command {
        CompatCommand::Push { file, id, prompt } => {
            Some(files::suite_body(file, id.as_deref(), prompt.as_deref())?)
        }
        CompatCommand::Run(_)
        | CompatCommand::Watch { .. }
        | CompatCommand::Report { .. }
        | CompatCommand::List { .. }
        | CompatCommand::Drift
        | CompatCommand::Cancel { .. }
        | CompatCommand::Suites
        | CompatCommand::Calibrate { .. }
        | CompatCommand::Check { .. } => None,
    };
    let answer = args.admin.client().and_then(|client| ask(&client, &args.command, pushed));
    answered(answer, args.json, (out, complaints), |answer, out| match &args.command {
        CompatCommand::List { .. } => runs(answer, out),
        CompatCommand::Drift => drifts(answer, out),
        CompatCommand::Suites => suites(answer, out),
        CompatCommand::Push { .. } => writeln!(
            out,
            "suite {}: {} cases",
            text(answer, "id"),
            answer.get("cases").map_or("-".to_owned(), Value::to_string)
        ),
        CompatCommand::Cancel { .. }
        | CompatCommand::Run(_)
        | CompatCommand::Watch { .. }
        | CompatCommand::Report { .. }
        | CompatCommand::Calibrate { .. }
        | CompatCommand::Check { .. } => {
            writeln!(out, "{}: {}", text(answer, "id"), text(answer, "state"))
        }
    })
    .context("the answer cannot be shown")
}

fn ask(
    client: &AdminClient,
    command: &CompatCommand,
    pushed: Option<Value>,
) -> Result<Value, ClientError> {
    match command {
        CompatCommand::List { suite } => every_page(
            client,
            &match suite {
                Some(suite) => format!("/compat/runs?suite={}", encoded(suite)),
                None => "/compat/runs".to_owned(),
            },
        ),
        CompatCommand::Suites => every_page(client, "/compat/suites"),
        CompatCommand::Drift => every_page(client, "/compat/drifts"),
        CompatCommand::Cancel { id } => {
            let id = checked_id(id, "cr", "compat")?;
            client.call("POST", &format!("/compat/runs/{id}/cancel"), Some(&json!({})))
        }
        CompatCommand::Push { .. }
        | CompatCommand::Run(_)
        | CompatCommand::Watch { .. }
        | CompatCommand::Report { .. }
        | CompatCommand::Calibrate { .. }
        | CompatCommand::Check { .. } => client.call("POST", "/compat/suites", pushed.as_ref()),
    }
}

/// Exit code 0 all the same: it is a list. Who wants to be woken watches `tidegate_compat_drift`.
fn drifts(runs: &Value, out: &mut dyn Write) -> io::Result<()> {
    let runs = runs.as_array().map(Vec::as_slice).unwrap_or_default();
    if runs.is_empty() {
        return writeln!(out, "nothing has drifted");
    }
    for run in runs {
        let why = said(run, "/judgement/reasons/0");
        let (suite, at) = (text(run, "suite"), text(run, "ended_at"));
        writeln!(
            out,
            "{suite}: {} since {at}: {why} ({})",
            said(run, "/to/says"),
            text(run, "id")
        )?;
    }
    Ok(())
}

fn runs(runs: &Value, out: &mut dyn Write) -> io::Result<()> {
    let runs = runs.as_array().map(Vec::as_slice).unwrap_or_default();
    if runs.is_empty() {
        return writeln!(out, "no runs; `tidegate compat run --help` shows how to make one");
    }
    let heading = ["ID", "SUITE", "FROM", "TO", "STATE", "VERDICT", "DONE", "USD", "BEGUN"];
    let rows: Vec<_> = std::iter::once(heading.map(str::to_owned))
        .chain(runs.iter().map(|run| {
            [
                text(run, "id"),
                text(run, "suite"),
                said(run, "/from/says"),
                said(run, "/to/says"),
                text(run, "state"),
                text(run, "verdict"),
                format!("{}/{}", number(run, "/samples/done"), number(run, "/samples/planned")),
                text(run, "cost_usd"),
                text(run, "created_at"),
            ]
        }))
        .collect();
    table(&rows, out)
}

fn suites(suites: &Value, out: &mut dyn Write) -> io::Result<()> {
    let suites = suites.as_array().map(Vec::as_slice).unwrap_or_default();
    if suites.is_empty() {
        return writeln!(
            out,
            "no suites; put cases into prompts/<id>/cases/*.yaml, or push a file by `tidegate \
             compat push`"
        );
    }
    let heading = ["ID", "PROMPT", "CASES", "CRITICAL", "ORIGIN"];
    let rows: Vec<_> = std::iter::once(heading.map(str::to_owned))
        .chain(suites.iter().map(|suite| {
            [
                text(suite, "id"),
                text(suite, "prompt"),
                number(suite, "/cases"),
                number(suite, "/critical"),
                text(suite, "origin"),
            ]
        }))
        .collect();
    table(&rows, out)
}

fn said(one: &Value, at: &str) -> String {
    one.pointer(at).and_then(Value::as_str).unwrap_or("-").to_owned()
}

fn number(one: &Value, at: &str) -> String {
    one.pointer(at).map_or("-".to_owned(), Value::to_string)
}
