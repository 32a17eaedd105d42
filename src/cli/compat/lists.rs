//! Lists of suites and runs, and what changes them.

use std::io::{self, Write};

use anyhow::Context;
use serde_json::{Value, json};

use super::runs::in_flags;
use super::{CompatArgs, CompatCommand, ListArgs};
use super::{files, matrix};
use crate::cli::client::{AdminClient, ClientError, encoded};
use crate::cli::terms::{answered, checked_id, every_page, table, text};
use crate::compat::report::counted;

/// Runs a command that asks the gateway once.
pub(super) fn run(
    args: &CompatArgs,
    out: &mut dyn Write,
    complaints: &mut dyn Write,
) -> anyhow::Result<u8> {
    let pushed = match &args.command {
        CompatCommand::Push { file, id, prompt } => {
            match files::suite_body(file, id.as_deref(), prompt.as_deref()) {
                Ok(body) => Some(body),
                Err(problems) => {
                    return Ok(files::wrong(&problems, args.json, (out, complaints))?);
                }
            }
        }
        CompatCommand::Run(_)
        | CompatCommand::Watch { .. }
        | CompatCommand::Report { .. }
        | CompatCommand::List(_)
        | CompatCommand::Matrix { .. }
        | CompatCommand::Drift
        | CompatCommand::Cancel { .. }
        | CompatCommand::Suites
        | CompatCommand::Calibrate { .. }
        | CompatCommand::Cases(_)
        | CompatCommand::Check { .. } => None,
    };
    let answer = args.admin.client().and_then(|client| ask(&client, &args.command, pushed));
    let is_drift = matches!(args.command, CompatCommand::Drift);
    let drifted = is_drift && answer.as_ref().is_ok_and(|runs| each(runs).iter().any(has_drifted));
    let code = answered(answer, args.json, (out, complaints), |answer, out| match &args.command {
        CompatCommand::List(_) => runs(answer, out),
        CompatCommand::Matrix { .. } => matrix::show(answer, out),
        CompatCommand::Drift => drifts(answer, out),
        CompatCommand::Suites => suites(answer, out),
        CompatCommand::Push { .. } => {
            let cases = answer.get("cases").and_then(Value::as_u64).unwrap_or(0);
            writeln!(out, "suite {}: {}", text(answer, "id"), counted(cases, "case"))?;
            files::notes(answer, out)
        }
        CompatCommand::Cancel { .. }
        | CompatCommand::Run(_)
        | CompatCommand::Watch { .. }
        | CompatCommand::Report { .. }
        | CompatCommand::Calibrate { .. }
        | CompatCommand::Cases(_)
        | CompatCommand::Check { .. } => {
            writeln!(out, "{}: {}", text(answer, "id"), text(answer, "state"))
        }
    })
    .context("the answer cannot be shown")?;
    Ok(if drifted { 1 } else { code })
}

fn ask(
    client: &AdminClient,
    command: &CompatCommand,
    pushed: Option<Value>,
) -> Result<Value, ClientError> {
    match command {
        CompatCommand::List(list) => every_page(client, &list.path()),
        CompatCommand::Matrix { prompt } => {
            client.call("GET", &format!("/compat/matrix/{}", encoded(prompt)), None)
        }
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
        | CompatCommand::Cases(_)
        | CompatCommand::Check { .. } => {
            client.call("POST", "/compat/suites", pushed.as_ref()).map_err(in_flags)
        }
    }
}

/// What has drifted, which is the answer no: scripts need not read the list.
fn drifts(runs: &Value, out: &mut dyn Write) -> io::Result<()> {
    let runs = each(runs);
    if !runs.iter().any(has_drifted) {
        writeln!(out, "nothing has drifted")?;
    }
    for run in runs {
        // A night that could not tell is neither.
        let word = if has_drifted(run) { "drifted" } else { "undecided" };
        let why = said(run, "/judgement/reasons/0");
        let (suite, at) = (text(run, "suite"), text(run, "ended_at"));
        let (prompt, id) = (said(run, "/to/says"), text(run, "id"));
        writeln!(out, "{suite}: {prompt} {word}, night of {at}: {why} ({id})")?;
    }
    Ok(())
}

fn each(records: &Value) -> &[Value] {
    records.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn has_drifted(run: &Value) -> bool {
    text(run, "verdict") == "incompatible"
}

fn runs(runs: &Value, out: &mut dyn Write) -> io::Result<()> {
    let nothing = "no runs; `tidegate compat run --help` shows how to make one";
    let heading =
        ["ID", "SUITE", "FROM", "TO", "DEPTH", "STATE", "VERDICT", "DONE", "USD", "BEGUN"];
    let row = |run: &Value| {
        [
            text(run, "id"),
            text(run, "suite"),
            said(run, "/from/says"),
            said(run, "/to/says"),
            text(run, "depth"),
            text(run, "state"),
            text(run, "verdict"),
            format!("{}/{}", number(run, "/samples/done"), number(run, "/samples/planned")),
            text(run, "cost_usd"),
            text(run, "created_at"),
        ]
    };
    listed(runs, nothing, (heading, row), out)
}

fn suites(suites: &Value, out: &mut dyn Write) -> io::Result<()> {
    let nothing = "no suites; put cases into prompts/<id>/cases/*.yaml, or push a file by `tidegate \
                   compat push`";
    let row = |suite: &Value| {
        [
            text(suite, "id"),
            text(suite, "prompt"),
            number(suite, "/cases"),
            number(suite, "/critical"),
            text(suite, "origin"),
        ]
    };
    listed(suites, nothing, (["ID", "PROMPT", "CASES", "CRITICAL", "ORIGIN"], row), out)
}

/// A table of records, or what is said where there are none.
fn listed<const N: usize>(
    records: &Value,
    nothing: &str,
    (heading, row): ([&str; N], impl Fn(&Value) -> [String; N]),
    out: &mut dyn Write,
) -> io::Result<()> {
    let records = each(records);
    if records.is_empty() {
        return writeln!(out, "{nothing}");
    }
    let rows = std::iter::once(heading.map(str::to_owned)).chain(records.iter().map(row));
    table(&rows.collect::<Vec<_>>(), out)
}

fn said(one: &Value, at: &str) -> String {
    one.pointer(at).and_then(Value::as_str).unwrap_or("-").to_owned()
}

fn number(one: &Value, at: &str) -> String {
    one.pointer(at).map_or("-".to_owned(), Value::to_string)
}

// === impl ListArgs ===

impl ListArgs {
    /// What is asked of the gateway.
    pub(super) fn path(&self) -> String {
        let given = [
            ("suite", self.suite.clone()),
            ("prompt", self.prompt.clone()),
            ("state", self.state.as_ref().map(super::word)),
            ("kind", self.kind.as_ref().map(super::word)),
        ];
        let said = given
            .into_iter()
            .filter_map(|(name, value)| value.map(|value| format!("{name}={}", encoded(&value))));
        let query = said.collect::<Vec<_>>().join("&");
        let mark = if query.is_empty() { "" } else { "?" };
        format!("/compat/runs{mark}{query}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_night_that_could_not_tell_is_told_in_its_own_word() {
        let run = |suite: &str, verdict: &str| {
            json!({
                "id": "cr_1", "suite": suite, "verdict": verdict, "ended_at": "2026-11-21T03:10:00Z",
                "to": {"says": format!("{suite}@1.0.0 on a/b")}, "judgement": {"reasons": ["because"]},
            })
        };
        let said = |runs: Value| {
            let mut out = Vec::new();
            drifts(&runs, &mut out).unwrap();
            String::from_utf8(out).unwrap()
        };
        assert_eq!(said(json!([])), "nothing has drifted\n");
        let open = said(json!([run("reply", "inconclusive")]));
        assert_eq!(
            open,
            "nothing has drifted\nreply: reply@1.0.0 on a/b undecided, night of \
             2026-11-21T03:10:00Z: because (cr_1)\n"
        );
        let both = said(json!([run("reply", "inconclusive"), run("sums", "incompatible")]));
        assert!(both.contains("undecided") && both.contains("sums@1.0.0 on a/b drifted"), "{both}");
        assert!(!both.contains("nothing"), "{both}");
    }
}
