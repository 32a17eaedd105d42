//! Holds a judge against people's labels.

use std::fs;
use std::io::{self, IsTerminal as _, Write};
use std::path::Path;

use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use super::CompatArgs;
use super::runs::refused;
use crate::cli::client::{AdminClient, ClientError};
use crate::cli::terms::text;
use crate::compat::report::counted;
use crate::compat::{Label, MAX_LABELS};

/// The largest file of labels.
const MAX_FILE_BYTES: u64 = 16 << 20;
/// Problems that are named.
const MOST_PROBLEMS: usize = 20;
/// How often in a row the gateway may be away or have no time.
const MOST_MISSES: u32 = 30;
/// The pause then.
const PAUSE: std::time::Duration = std::time::Duration::from_secs(1);

/// Asks until the judge has said something of all labels, and shows how far it agrees. The exit
/// code: 0 calibrated, 1 not.
pub(super) fn run(
    args: &CompatArgs,
    (judge, file): (&str, &Path),
    out: &mut dyn Write,
    complaints: &mut dyn Write,
) -> anyhow::Result<u8> {
    let labels = match read(file)? {
        Ok(labels) => labels,
        Err(problems) => {
            let shown = problems.iter().take(MOST_PROBLEMS);
            for problem in shown {
                writeln!(complaints, "{problem}")?;
            }
            if let Some(more) = problems.len().checked_sub(MOST_PROBLEMS).filter(|more| *more > 0) {
                writeln!(complaints, "and {more} more")?;
            }
            return Ok(2);
        }
    };
    let count = labels.len();
    let body = json!({ "judge": judge, "labels": labels });
    let found = args
        .admin
        .client()
        .and_then(|client| ask_until_all(&client, &body, (count, args.json), complaints));
    let found = match found {
        Ok(found) => found,
        Err(error) => return refused(&error, args.json, out, complaints),
    };
    if args.json {
        writeln!(out, "{found:#}")?;
    } else {
        show(&found, out)?;
    }
    Ok(u8::from(found.get("is_calibrated") != Some(&Value::Bool(true))))
}

/// The lines of a file, each checked; or what is wrong with them, each with its place.
fn read(file: &Path) -> anyhow::Result<Result<Vec<Value>, Vec<String>>> {
    let cannot = || format!("{} cannot be read", file.display());
    let bytes = fs::metadata(file).with_context(cannot)?.len();
    let name = file.display();
    if bytes > MAX_FILE_BYTES {
        let problem = format!("{name}: has {bytes} bytes, and {MAX_FILE_BYTES} at most are read");
        return Ok(Err(vec![problem]));
    }
    let text = fs::read_to_string(file).with_context(cannot)?;
    let (mut labels, mut problems) = (Vec::new(), Vec::new());
    for (at, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let checked = serde_json::from_str::<Label>(line).map_err(|error| error.to_string());
        let checked = checked.and_then(|label| label.ask());
        match checked.and_then(|_| serde_json::from_str(line).map_err(|error| error.to_string())) {
            Ok(label) => labels.push(label),
            Err(problem) => problems.push(format!("{name}:{}: {problem}", at + 1)),
        }
    }
    if problems.is_empty() && !(1..=MAX_LABELS).contains(&labels.len()) {
        let count = counted(labels.len() as u64, "label");
        problems.push(format!("{name}: has {count}, and takes 1 to {MAX_LABELS}"));
    }
    Ok(if problems.is_empty() { Ok(labels) } else { Err(problems) })
}

/// Sends the labels again and again; the gateway asks the judge nothing twice.
fn ask_until_all(
    client: &AdminClient,
    body: &Value,
    (count, is_quiet): (usize, bool),
    complaints: &mut dyn Write,
) -> Result<Value, ClientError> {
    let has_terminal = io::stderr().is_terminal() && !is_quiet;
    let bar = has_terminal.then(|| {
        let line = "judged {wide_bar} {pos}/{len}  {elapsed}";
        let style =
            ProgressStyle::with_template(line).unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = ProgressBar::new(count as u64).with_style(style);
        bar.tick();
        bar
    });
    let mut misses = 0;
    let found = loop {
        match client.call_matching("POST", "/compat/calibrations", Some(body), None) {
            Ok((201, found)) => break Ok(found),
            Ok((_, so_far)) => {
                misses = 0;
                let judged = so_far.get("judged").and_then(Value::as_u64).unwrap_or(0);
                if let Some(bar) = &bar {
                    bar.set_position(judged);
                } else if !is_quiet {
                    // Where this cannot be written, what comes in the end can not be, either.
                    let _ = writeln!(
                        complaints,
                        "{judged} of {} judged",
                        counted(count as u64, "label")
                    );
                }
            }
            Err(ClientError::Refused { status: 503, .. } | ClientError::Unreachable { .. })
                if misses < MOST_MISSES =>
            {
                misses += 1;
                std::thread::sleep(PAUSE);
            }
            Err(error) => break Err(error),
        }
    };
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    found
}

fn show(found: &Value, out: &mut dyn Write) -> io::Result<()> {
    let count = |at: &str| found.pointer(at).and_then(Value::as_u64).unwrap_or(0);
    let judge = text(found, "judge");
    writeln!(out, "{judge}, {}", text(found, "protocol"))?;
    writeln!(out, "                   people: pass   people: fail")?;
    let rows = [("pass", "both_pass", "judge_only"), ("fail", "human_only", "both_fail")];
    for (said, pass, fail) in rows {
        let cell = |name: &str| count(&format!("/agreement/{name}"));
        writeln!(out, "  judge: {said}  {:>16}  {:>13}", cell(pass), cell(fail))?;
    }
    let (labels, agreed, failed) = (count("/labels"), count("/agreed"), count("/failed"));
    let part = |at: &str| found.pointer(at).and_then(Value::as_f64);
    let kappa = match (part("/kappa/value"), part("/kappa/low"), part("/kappa/high")) {
        (Some(value), Some(low), Some(high)) => {
            format!("kappa {value:.2} (95 %: {low:.2} to {high:.2})")
        }
        _ => "no kappa".to_owned(),
    };
    writeln!(out, "agreed on {agreed} of {}; {kappa}", counted(labels, "label"))?;
    if failed > 0 {
        writeln!(
            out,
            "left out {}, of which the judge could say nothing",
            counted(failed, "label")
        )?;
    }
    let lacks = found.get("lacks").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    if lacks.is_empty() {
        return writeln!(out, "calibrated: what {judge} says counts in verdicts");
    }
    writeln!(out, "not calibrated: what {judge} says is shown and does not count. It takes")?;
    for lack in lacks.iter().filter_map(Value::as_str) {
        writeln!(out, "  - {lack}")?;
    }
    Ok(())
}
