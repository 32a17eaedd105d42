//! `tidegate check`: every problem of configuration and providers, without starting anything.

use std::io::{self, Write};

use clap::Args;
use jiff::civil::Date;
use serde_json::json;

use super::SourceArgs;
use crate::clock::{SystemWallClock, WallClock};
use crate::config::{Environment, Retiring, Snapshot, Source, date_of, load, may_listen};
use crate::problems::Problems;

/// Reports every problem of the configuration and the provider files as `file:line: key: problem`.
/// Nothing is started and nothing is sent.
#[derive(Debug, Clone, Default, Args)]
#[command(after_help = "Examples:\n  tidegate check --config config/tidegate.toml\n  \
                        tidegate check --config config/tidegate.toml --without-keys")]
pub struct CheckArgs {
    /// Where the configuration is.
    #[command(flatten)]
    pub source: SourceArgs,
    /// Does without the keys of providers, which need not be in the environment or their files
    /// then.
    #[arg(long)]
    pub without_keys: bool,
    /// Answers in JSON.
    #[arg(long)]
    pub json: bool,
}

/// Runs the command. The answer is the exit code: 0 good, 2 there are problems.
///
/// # Errors
///
/// Only where `out` cannot be written to.
pub fn run(args: &CheckArgs, environment: Environment, out: &mut dyn Write) -> io::Result<u8> {
    run_on(args, environment, date_of(SystemWallClock.unix_ms()), out)
}

/// The same as seen from a day, for models that are taken out of service.
///
/// # Errors
///
/// Only where `out` cannot be written to.
pub fn run_on(
    args: &CheckArgs,
    environment: Environment,
    today: Date,
    out: &mut dyn Write,
) -> io::Result<u8> {
    let source = Source { without_keys: args.without_keys, ..args.source.source(environment) };
    match load(&source, None) {
        Ok(snapshot) if args.json => {
            let answer = json!({
                "ok": true,
                "revision": snapshot.revision,
                "problems": [],
                "notes": notes(&snapshot, today),
                "retiring": snapshot.retiring(today).iter().map(retiring_json).collect::<Vec<_>>(),
            });
            writeln!(out, "{answer:#}")?;
            Ok(0)
        }
        Ok(snapshot) => {
            let providers = snapshot.endpoints().filter(|on| !on.id.as_str().contains('#')).count();
            let models = snapshot.models().count();
            let prompts = match snapshot.prompts.iter().count() {
                0 => String::new(),
                some => format!(", {}", count(some, "prompt")),
            };
            writeln!(
                out,
                "no problems; {} on, {} to ask for{prompts}",
                count(providers, "provider"),
                count(models, "model")
            )?;
            for note in notes(&snapshot, today) {
                writeln!(out, "note: {note}")?;
            }
            Ok(0)
        }
        Err(problems) if args.json => {
            writeln!(out, "{:#}", problems_json(&problems))?;
            Ok(2)
        }
        Err(problems) => {
            writeln!(out, "{problems}")?;
            writeln!(out, "{}", count(problems.len(), "problem"))?;
            Ok(2)
        }
    }
}

/// Problems as `check --json` answers them.
pub(super) fn problems_json(problems: &Problems) -> serde_json::Value {
    let list: Vec<_> = problems
        .iter()
        .map(|problem| {
            json!({
                "file": problem.file.display().to_string(),
                "line": problem.line,
                "key": problem.key.as_str(),
                "message": problem.message,
            })
        })
        .collect();
    json!({ "ok": false, "problems": list, "notes": [] })
}

/// What is no problem but worth a line, and what would be one at a first start.
fn notes(snapshot: &Snapshot, today: Date) -> Vec<String> {
    let server = &snapshot.settings.server;
    let addresses = std::iter::once(server.listen).chain(server.admin_listen);
    let at_start = may_listen(snapshot.settings.auth.mode, addresses, false).err();
    let retiring = snapshot.retiring(today);
    let retiring = retiring.iter().map(Retiring::note);
    snapshot.notes().iter().cloned().chain(retiring).chain(at_start).collect()
}

/// A model in use that is gone or goes soon, for programs.
fn retiring_json(retiring: &Retiring) -> serde_json::Value {
    let Retiring { used, retirement, replacement } = retiring;
    let routes = used.routes.iter().map(|(name, _)| name.as_str());
    let prompts = used.prompts.iter().map(|prompt| &*prompt.name);
    json!({
        "model": used.name(),
        "retires_on": retirement.on.to_string(),
        "days_left": retirement.days_left,
        "routes": routes.collect::<Vec<_>>(),
        "prompts": prompts.collect::<Vec<_>>(),
        "replacement": replacement.as_ref().map(|it| json!({
            "model": it.name,
            "proposed_by": it.by.as_str(),
        })),
    })
}

fn count(number: usize, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}
