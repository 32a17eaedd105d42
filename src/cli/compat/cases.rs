//! The cases of a run as incidents: what has failed once is asked again for ever.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use serde_json::Value;

use super::CompatArgs;
use crate::cli::client::{ClientError, encoded};
use crate::cli::terms::{checked_id, text};

/// Which cases, and where to.
#[derive(Debug, Clone, Args)]
pub struct CasesArgs {
    /// The run: `cr_...`.
    pub id: String,
    /// Only those that the candidate fails in half of its answers or more.
    #[arg(long)]
    pub failing: bool,
    /// What the incident is called; without it by who failed.
    #[arg(long, value_name = "NAME")]
    pub incident: Option<String>,
    /// Where the cases are written to, a file that is not there yet; without it to standard output.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// Writes the cases. The exit code: 0 there are some, 1 there are none.
pub(super) fn run(
    args: &CompatArgs,
    wanted: &CasesArgs,
    out: &mut dyn Write,
    complaints: &mut dyn Write,
) -> anyhow::Result<u8> {
    let found = match ask(args, wanted) {
        Ok(found) => found,
        Err(error) if args.json => {
            writeln!(out, "{:#}", serde_json::json!({ "error": error.to_string() }))?;
            return Ok(error.exit_code());
        }
        Err(error) => {
            writeln!(complaints, "{error}")?;
            return Ok(error.exit_code());
        }
    };
    let count = |name: &str| found.get(name).and_then(Value::as_u64).unwrap_or(0);
    let (cases, left_out) = (count("cases"), count("left_out"));
    let known = match left_out {
        0 => String::new(),
        known => format!("; {known} more are incidents already"),
    };
    if cases == 0 {
        writeln!(complaints, "no cases{known}")?;
        return Ok(1);
    }
    let yaml = text(&found, "text");
    match &wanted.out {
        Some(path) => {
            let opened = OpenOptions::new().write(true).create_new(true).open(path);
            let written = opened.and_then(|mut file| file.write_all(yaml.as_bytes()));
            if let Err(error) = written {
                writeln!(complaints, "{} cannot be written: {error}", path.display())?;
                return Ok(2);
            }
        }
        None if args.json => writeln!(out, "{found:#}")?,
        None => write!(out, "{yaml}")?,
    }
    let suite = text(&found, "suite");
    let place = wanted.out.as_ref().map(|path| format!(" in {}", path.display()));
    writeln!(
        complaints,
        "{cases} cases{}{known}. In prompts/{suite}/cases/incidents.yaml they are asked from now on; \
         `tidegate compat run {suite} --only incidents` asks them alone",
        place.unwrap_or_default(),
    )?;
    Ok(0)
}

fn ask(args: &CompatArgs, wanted: &CasesArgs) -> Result<Value, ClientError> {
    let client = args.admin.client()?;
    let id = checked_id(&wanted.id, "cr", "compat")?;
    let mut path = format!("/compat/runs/{id}/cases?failing={}", wanted.failing);
    if let Some(incident) = &wanted.incident {
        path = format!("{path}&incident={}", encoded(incident));
    }
    client.call("GET", &path, None)
}
