//! Runs: beginning one, waiting for its verdict, and its report.

use std::fs;
use std::io::{self, IsTerminal as _, Write};
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Map, Value};

use super::{CompatArgs, FileArgs, RunArgs, files, outputs};
use crate::cli::client::{AdminClient, ClientError, encoded};
use crate::cli::terms::{checked_id, text};
use crate::compat::report::{Report, Style, counted};

/// How often a run is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(300);
/// How many looks are between two lines where there is no terminal to draw a bar on.
const LOOKS_A_LINE: u32 = 17;
/// How many looks in a row may find no gateway: it may be restarted, and the run goes on.
const MOST_MISSES: u32 = 200;
/// How wide a summary is where no terminal says.
const WIDTH: usize = 100;

/// Begins a run.
pub(super) fn begin(
    args: &CompatArgs,
    run: &RunArgs,
    out: &mut dyn Write,
    complaints: &mut dyn Write,
) -> anyhow::Result<u8> {
    if let Err(why) = run.files.check(args.json) {
        return refused(&ClientError::Usage(why), args.json, out, complaints);
    }
    let pushed = match files::is_file(&run.suite) {
        true => match files::suite_body(Path::new(&run.suite), None, None) {
            Ok(body) => Some(body),
            Err(problems) => return Ok(files::wrong(&problems, args.json, (out, complaints))?),
        },
        false => None,
    };
    let begun = args.admin.client().and_then(|client| {
        let mut body = run.body();
        if let Some(pushed) = &pushed {
            let suite = client.call("POST", "/compat/suites", Some(pushed)).map_err(in_flags)?;
            body.insert("suite".to_owned(), Value::from(text(&suite, "id")));
        }
        let body = Value::Object(body);
        let begun = client.call("POST", "/compat/runs", Some(&body)).map_err(in_flags)?;
        Ok((client, begun))
    });
    if let Ok((client, begun)) = &begun
        && !args.json
    {
        for line in not_run(client, &run.suite, begun) {
            writeln!(complaints, "{line}")?;
        }
    }
    match begun {
        Ok((_, begun)) if run.no_wait && args.json => {
            writeln!(out, "{begun:#}")?;
            Ok(0)
        }
        Ok((_, begun)) if run.no_wait => {
            let id = text(&begun, "id");
            writeln!(out, "{id} has begun; `tidegate compat watch {id}` waits for its verdict")?;
            Ok(0)
        }
        Ok((client, begun)) => {
            if !args.json {
                writeln!(complaints, "{}", plan(&begun))?;
            }
            wait(args, (&client, &begun), &run.files, out, complaints)
        }
        Err(error) => refused(&error, args.json, out, complaints),
    }
}

/// Shows the report of a run: when it has a verdict where that is waited for, else as it is now.
pub(super) fn show(
    args: &CompatArgs,
    (id, waits): (&str, bool),
    files: &FileArgs,
    out: &mut dyn Write,
    complaints: &mut dyn Write,
) -> anyhow::Result<u8> {
    if let Err(why) = files.check(args.json) {
        return refused(&ClientError::Usage(why), args.json, out, complaints);
    }
    let found = args.admin.client().and_then(|client| {
        let run = look(&client, id)?;
        Ok((client, run))
    });
    match found {
        Ok((client, run)) if waits => wait(args, (&client, &run), files, out, complaints),
        Ok((client, run)) => conclude(args, (&client, &run), files, out, complaints),
        Err(error) => refused(&error, args.json, out, complaints),
    }
}

fn wait(
    args: &CompatArgs,
    (client, begun): (&AdminClient, &Value),
    files: &FileArgs,
    out: &mut dyn Write,
    complaints: &mut dyn Write,
) -> anyhow::Result<u8> {
    let id = text(begun, "id");
    let mut progress = Progress::new(&id, args.json);
    let (mut run, mut misses) = (begun.clone(), 0);
    while !is_over(&run) {
        thread::sleep(LOOK_EVERY);
        match look(client, &id) {
            Ok(found) => (run, misses) = (found, 0),
            Err(ClientError::Unreachable { .. }) if misses < MOST_MISSES => misses += 1,
            Err(error) => {
                progress.end();
                return refused(&error, args.json, out, complaints);
            }
        }
        progress.show(&run, complaints)?;
    }
    progress.end();
    conclude(args, (client, &run), files, out, complaints)
}

/// Shows and writes the report; the exit code is the verdict.
fn conclude(
    args: &CompatArgs,
    (client, run): (&AdminClient, &Value),
    files: &FileArgs,
    out: &mut dyn Write,
    complaints: &mut dyn Write,
) -> anyhow::Result<u8> {
    let id = text(run, "id");
    let path = |format: &str| format!("/compat/runs/{id}/report?format={format}");
    let mut written = Vec::new();
    let mut to_out = None;
    for (form, flag, file) in files.wanted() {
        match client.text(&path(form)) {
            Ok(text) if outputs::is_standard_output(file) => to_out = Some(text),
            // The verdict is told all the same: it has cost money, and it is what counts.
            Ok(text) => match fs::write(file, text) {
                Ok(()) => written.push(file.display().to_string()),
                Err(error) => {
                    let file = file.display();
                    writeln!(complaints, "{flag} {file}: cannot be written: {error}")?;
                }
            },
            Err(error) => return refused(&error, args.json, out, complaints),
        }
    }
    let report = match client.text(&path("json")) {
        Ok(text) => text,
        Err(error) => return refused(&error, args.json, out, complaints),
    };
    if args.json {
        unless_closed(writeln!(out, "{}", report.trim_end()))?;
    } else {
        let report: Report = serde_json::from_str(&report)
            .context("the gateway's report is not one that this program knows")?;
        let files = match written.is_empty() {
            false => format!("\nwritten: {}\n", written.join(", ")),
            true if to_out.is_some() => String::new(),
            true => {
                format!("\nread it in a browser: tidegate compat report {id} --html report.html\n")
            }
        };
        match to_out {
            Some(text) => {
                write!(complaints, "{}{files}", report.summary(Style { color: false, ..style() }))?;
                unless_closed(writeln!(out, "{}", text.trim_end()))?;
            }
            None => unless_closed(write!(out, "{}{files}", report.summary(style())))?,
        }
    }
    Ok(match run.get("verdict").and_then(Value::as_str) {
        Some("compatible") => 0,
        Some("incompatible") => 1,
        // There is nothing to fail.
        None if run.get("first_night") == Some(&Value::Bool(true)) => 0,
        Some(_) | None => 2,
    })
}

/// A reader that had enough, such as `head`, is no fault, and the verdict is the exit code all the
/// same.
fn unless_closed(written: io::Result<()>) -> io::Result<()> {
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

/// Says why there is no answer.
pub(super) fn refused(
    error: &ClientError,
    json: bool,
    out: &mut dyn Write,
    complaints: &mut dyn Write,
) -> anyhow::Result<u8> {
    if json {
        writeln!(out, "{:#}", serde_json::json!({ "error": error.to_string() }))?;
    } else {
        writeln!(complaints, "{error}")?;
    }
    // 1 is the word of a verdict alone.
    Ok(2)
}

fn look(client: &AdminClient, id: &str) -> Result<Value, ClientError> {
    let id = checked_id(id, "cr", "compat")?;
    client.call("GET", &format!("/compat/runs/{id}"), None)
}

/// The same refusal in the words of the command line: options for members of the body.
pub(super) fn in_flags(error: ClientError) -> ClientError {
    match error {
        ClientError::Refused { status, detail } => {
            let mut detail = detail;
            // Files have names, and lines.
            if let Some(why) = detail.strip_prefix("text: ") {
                detail = why.to_owned();
            }
            if let Some((fields, why)) = detail.split_once(": ") {
                let flags: Option<Vec<_>> =
                    fields.trim_matches('`').split(", ").map(flag).collect();
                if let Some(flags) = flags {
                    detail = format!("{}: {why}", flags.join(", "));
                }
            }
            for (field, flag) in FLAGS {
                detail = detail.replace(&format!("`{field}`"), &format!("`{flag}`"));
            }
            ClientError::Refused { status, detail }
        }
        ClientError::Usage(_) | ClientError::Unreachable { .. } => error,
    }
}

/// Members of the body that begins a run, and the options that say them.
const FLAGS: [(&str, &str); 9] = [
    ("depth", "--depth"),
    ("from", "--from"),
    ("from_model", "--from-model"),
    ("max_cost_usd", "--max-cost"),
    ("only", "--only"),
    ("samples", "--samples"),
    ("seed", "--seed"),
    ("to", "--to"),
    ("to_model", "--to-model"),
];

fn flag(field: &str) -> Option<&'static str> {
    FLAGS.iter().find(|(known, _)| *known == field).map(|(_, flag)| *flag)
}

/// What of a suite with prompts and models of its own this run leaves out, and how to run that;
/// nothing where the gateway cannot say it.
fn not_run(client: &AdminClient, named: &str, begun: &Value) -> Vec<String> {
    let path = format!("/compat/suites/{}", encoded(&text(begun, "suite")));
    let Ok(suite) = client.call("GET", &path, None) else { return Vec::new() };
    left_out(named, &suite, begun)
}

/// As [`not_run`], of a suite that the gateway has.
pub(super) fn left_out(named: &str, suite: &Value, begun: &Value) -> Vec<String> {
    let of = |member: &str| {
        let said = suite.get(member).and_then(Value::as_array).map(Vec::as_slice);
        said.unwrap_or_default().iter().filter_map(Value::as_str).map(str::to_owned)
    };
    let sides = |member: &str| -> Vec<String> {
        ["from", "to"]
            .iter()
            .filter_map(|side| begun.get(*side))
            .map(|one| text(one, member))
            .collect()
    };
    let (asked_prompts, asked_models) = (sides("prompt"), sides("model"));
    let prompts = of("prompts").enumerate().filter(|(_, label)| !asked_prompts.contains(label));
    let prompts: Vec<_> = prompts.map(|(at, label)| format!("{at} ({label})")).collect();
    let models: Vec<_> = of("models").filter(|model| !asked_models.contains(model)).collect();
    let mut lines = Vec::new();
    let mut say = |count: usize, what: &str, names: String, how: &str| {
        if count > 0 {
            let what = counted(count as u64, what);
            lines.push(format!("not run: {what} of the suite: {names}"));
            lines.push(format!("  to run it: tidegate compat run {named} {how}"));
        }
    };
    say(prompts.len(), "prompt", prompts.join(", "), "--from NUMBER --to NUMBER");
    say(models.len(), "model", models.join(", "), "--from-model NAME --to-model NAME");
    let unknown: Vec<_> = of("unknown_models").collect();
    if !unknown.is_empty() {
        lines.push(format!("this gateway does not know {}", unknown.join(", ")));
    }
    lines
}

fn is_over(run: &Value) -> bool {
    !matches!(run.get("state").and_then(Value::as_str), Some("waiting" | "running"))
}

/// What is compared with what, and how much that is.
fn plan(run: &Value) -> String {
    let says = |at: &str| run.pointer(at).and_then(Value::as_str).unwrap_or("-").to_owned();
    let count = |at: &str| run.pointer(at).and_then(Value::as_u64).unwrap_or(0);
    format!(
        "{}: {} depth, {} of each side to each case at first\n  baseline   {}\n  candidate  {}",
        text(run, "id"),
        text(run, "depth"),
        counted(count("/samples/each"), "answer"),
        says("/from/says"),
        says("/to/says"),
    )
}

fn style() -> Style {
    let is_terminal = io::stdout().is_terminal();
    let is_plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let width = match is_terminal {
        true => usize::from(console::Term::stdout().size().1),
        false => WIDTH,
    };
    Style { color: is_terminal && !is_plain, width }
}

// === impl RunArgs ===

impl RunArgs {
    /// What is said, and nothing of what is not.
    fn body(&self) -> Map<String, Value> {
        let text = |value: &Option<String>| value.clone().map(Value::from);
        let of_both = |value: &Option<String>| text(value).or_else(|| text(&self.model));
        let members = [
            ("suite", Some(Value::from(self.suite.as_str()))),
            ("from", text(&self.from)),
            ("to", text(&self.to)),
            ("from_model", of_both(&self.from_model)),
            ("to_model", of_both(&self.to_model)),
            ("depth", self.depth.map(|depth| Value::from(super::word(&depth)))),
            ("only", text(&self.only)),
            ("samples", self.samples.map(Value::from)),
            ("seed", self.seed.map(Value::from)),
            ("max_cost_usd", self.max_cost.map(|usd| Value::from(usd.to_string()))),
        ];
        let said = members.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
        said.collect()
    }
}

/// Says how far a run is: by a bar on a terminal, else by a line now and then.
struct Progress {
    bar: Option<ProgressBar>,
    is_quiet: bool,
    looks: u32,
    last: String,
}

// === impl Progress ===

impl Progress {
    fn new(id: &str, is_quiet: bool) -> Self {
        let has_terminal = io::stderr().is_terminal() && !is_quiet;
        let bar = has_terminal.then(|| {
            let line = "{prefix} {wide_bar} {pos}/{len} answers  {per_sec}  {eta} left  {msg}";
            let style =
                ProgressStyle::with_template(line).unwrap_or_else(|_| ProgressStyle::default_bar());
            ProgressBar::new(0).with_style(style).with_prefix(id.to_owned())
        });
        Self { bar, is_quiet, looks: 0, last: String::new() }
    }

    fn show(&mut self, run: &Value, out: &mut dyn Write) -> io::Result<()> {
        let count = |at: &str| run.pointer(at).and_then(Value::as_u64).unwrap_or(0);
        let (done, planned) = (count("/samples/done"), count("/samples/planned"));
        if let Some(bar) = &self.bar {
            bar.set_length(planned);
            bar.set_position(done);
            let reused = match count("/samples/reused") {
                0 => String::new(),
                reused => format!("  {reused} reused"),
            };
            bar.set_message(format!("${}{reused}", text(run, "cost_usd")));
            return Ok(());
        }
        self.looks += 1;
        if self.is_quiet || !self.looks.is_multiple_of(LOOKS_A_LINE) {
            return Ok(());
        }
        let reused = match count("/samples/reused") {
            0 => String::new(),
            reused => format!(" ({reused} reused besides)"),
        };
        let line = format!(
            "{}: {}, {done} of {}{reused}, ${}",
            text(run, "id"),
            text(run, "state"),
            counted(planned, "answer"),
            text(run, "cost_usd")
        );
        if line != self.last {
            writeln!(out, "{line}")?;
            self.last = line;
        }
        Ok(())
    }

    fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
