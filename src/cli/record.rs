//! `tidegate record`: makes golden cases of the next requests with a registered prompt.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use serde_json::{Value, json};

use super::client::{AdminArgs, AdminClient, ClientError};
use super::terms::{checked_id, text};
use crate::compat::report::counted;
use crate::units::HumanDuration;

/// Records the next answers to requests with a registered prompt, as cases of a compatibility
/// suite.
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "Examples:\n  tidegate record --prompt support-reply --out prompts/support-reply/cases/golden.yaml\n  \
                  tidegate record --prompt support-reply --count 100 --for 2h > golden.yaml\n\n\
                  Only requests of the gateway that is asked are seen, of several nodes one. Read what was\n\
                  recorded before it is committed: names have no form that could be found.\n\n\
                  Exit codes: 0 there are cases; 1 there are none, or the gateway refused; 2 wrong use, or \
                  no gateway."
)]
pub struct RecordArgs {
    /// The registered prompt.
    #[arg(long, value_name = "ID")]
    pub prompt: String,
    /// Cases, up to 500; it ends with the last one.
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub count: u32,
    /// For how long, up to 24h.
    #[arg(long = "for", value_name = "TIME", default_value = "10m")]
    pub time: HumanDuration,
    /// Where the cases are written to, a file that is not there yet; without it to standard output.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Leaves e-mail addresses, numbers of telephones and cards, keys and the like in.
    #[arg(long)]
    pub no_redact: bool,
    /// Where the gateway is.
    #[command(flatten)]
    pub admin: AdminArgs,
}

/// How often the gateway is asked how far it is.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How often in a row it may be away.
const MOST_MISSES: u32 = 20;

/// Runs the command. The answer is the exit code.
///
/// # Errors
///
/// Where `out` or `complaints` cannot be written to, or the file cannot.
pub fn run(
    args: &RecordArgs,
    out: &mut dyn Write,
    complaints: &mut dyn Write,
) -> anyhow::Result<u8> {
    // Before anything is recorded: it would be lost.
    let mut file = match args.out.as_deref().map(open).transpose() {
        Ok(file) => file,
        Err(problem) => {
            writeln!(complaints, "{problem}")?;
            return Ok(2);
        }
    };
    let recorded = args.admin.client().and_then(|client| {
        let recorded = record(args, &client, complaints)?;
        // Nothing is kept that was handed over; where that fails, it is forgotten in an hour.
        let path = format!("/compat/recordings/{}", text(&recorded, "id"));
        let _ = client.call("DELETE", &path, None);
        Ok(recorded)
    });
    let cases = recorded.as_ref().map_or(0, |recorded| count(recorded, "recorded"));
    if let (0, Some(path)) = (cases, &args.out) {
        fs::remove_file(path).with_context(|| format!("{} cannot be removed", path.display()))?;
    }
    let recorded = match recorded {
        Ok(recorded) => recorded,
        Err(error) => {
            writeln!(complaints, "{error}")?;
            return Ok(error.exit_code());
        }
    };
    let left_out = match count(&recorded, "left_out") {
        1 => "1 answer makes none".to_owned(),
        left_out => format!("{} make none", counted(left_out, "answer")),
    };
    if cases == 0 {
        writeln!(complaints, "no cases; {left_out}")?;
        return Ok(1);
    }
    let yaml = text(&recorded, "cases");
    match &mut file {
        Some(file) => file.write_all(yaml.as_bytes()).context("the cases cannot be written")?,
        None => write!(out, "{yaml}")?,
    }
    let place = args.out.as_ref().map(|path| format!(" in {}", path.display()));
    writeln!(
        complaints,
        "{}{}; {left_out}. Read them before you commit them",
        counted(cases, "case"),
        place.unwrap_or_default()
    )?;
    Ok(0)
}

fn open(path: &Path) -> Result<fs::File, String> {
    let opened = OpenOptions::new().write(true).create_new(true).open(path);
    opened.map_err(|error| format!("{} cannot be made: {error}", path.display()))
}

/// Begins a recording and waits for its end.
fn record(
    args: &RecordArgs,
    client: &AdminClient,
    complaints: &mut dyn Write,
) -> Result<Value, ClientError> {
    let body = json!({
        "prompt": args.prompt, "count": args.count, "seconds": args.time.0.as_secs(),
        "redact": !args.no_redact,
    });
    let mut recording = client.call("POST", "/compat/recordings", Some(&body))?;
    let id = text(&recording, "id");
    let path = format!("/compat/recordings/{}", checked_id(&id, "rec", "record")?);
    let (mut misses, mut told) = (0, None);
    while text(&recording, "state") == "recording" {
        let cases = count(&recording, "recorded");
        if told != Some(cases) {
            told = Some(cases);
            // Where this cannot be written, what comes in the end can not be, either.
            let _ = writeln!(complaints, "{cases} of {} cases recorded", args.count);
        }
        thread::sleep(LOOK_EVERY);
        match client.call("GET", &path, None) {
            Ok(found) => (recording, misses) = (found, 0),
            Err(ClientError::Unreachable { .. }) if misses < MOST_MISSES => misses += 1,
            Err(error) => return Err(error),
        }
    }
    Ok(recording)
}

fn count(recording: &Value, name: &str) -> u64 {
    recording.get(name).and_then(Value::as_u64).unwrap_or(0)
}
