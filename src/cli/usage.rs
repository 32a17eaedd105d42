//! `tidegate usage`: tokens and money, by way of the admin API.

use std::io::{self, Write};

use clap::Args;
use serde_json::{Value, json};

use super::client::{AdminArgs, ClientError, encoded};

/// Adds up requests, tokens and money of a running gateway.
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "Examples:\n  tidegate usage --group-by route,model\n  tidegate usage --group-by day --since 2026-11-01T00:00:00Z --csv > usage.csv\n  \
                        tidegate usage --group-by tag:team --where provider=openai --where tag:env=prod --json"
)]
pub struct UsageArgs {
    /// What to add up by, with commas between: caller, team, route, target, provider, model,
    /// endpoint, outcome, priority, prompt, hour, day, month, tag:NAME. Without it there is one
    /// sum.
    #[arg(long, value_name = "KEYS", default_value = "")]
    pub group_by: String,
    /// Only requests of which this is so, such as `route=smart` or `tag:team=search`; once for each
    /// condition.
    #[arg(long = "where", value_name = "KEY=VALUE")]
    pub conditions: Vec<String>,
    /// Only what ended at this moment or later: RFC 3339, or milliseconds since 1970.
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Only what ended before this moment.
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
    /// Groups to show; the dearest come first.
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    pub limit: u32,
    /// Answers in CSV.
    #[arg(long, conflicts_with = "json")]
    pub csv: bool,
    /// Answers in JSON.
    #[arg(long)]
    pub json: bool,
    /// Where the gateway is.
    #[command(flatten)]
    pub admin: AdminArgs,
}

/// Runs the command. The answer is the exit code: 0 good, 1 the gateway refused, 2 wrong use or
/// no gateway.
///
/// # Errors
///
/// Only where `out` or `err` cannot be written to.
pub fn run(args: &UsageArgs, out: &mut dyn Write, err: &mut dyn Write) -> io::Result<u8> {
    match ask(args) {
        Ok(Answer::Csv(text)) => out.write_all(text.as_bytes()).map(|()| 0),
        Ok(Answer::Json(usage)) if args.json => writeln!(out, "{usage:#}").map(|()| 0),
        Ok(Answer::Json(usage)) => table(&usage, out).map(|()| 0),
        Err(error) => {
            if args.json {
                writeln!(out, "{:#}", json!({ "error": error.to_string() }))?;
            } else {
                writeln!(err, "{error}")?;
            }
            Ok(error.exit_code())
        }
    }
}

enum Answer {
    Json(Value),
    Csv(String),
}

fn ask(args: &UsageArgs) -> Result<Answer, ClientError> {
    let mut path = format!("/usage?group_by={}&limit={}", encoded(&args.group_by), args.limit);
    for condition in &args.conditions {
        let (name, value) = condition.split_once('=').ok_or_else(|| {
            ClientError::Usage(format!("`{condition}` is no condition; write it like route=smart"))
        })?;
        path.push_str(&format!("&{}={}", encoded(name.trim()), encoded(value.trim())));
    }
    for (name, time) in [("since", &args.since), ("until", &args.until)] {
        if let Some(time) = time {
            path.push_str(&format!("&{name}={}", encoded(time)));
        }
    }
    let client = args.admin.client()?;
    if args.csv {
        return client.text(&format!("{path}&format=csv")).map(Answer::Csv);
    }
    client.call("GET", &path, None).map(Answer::Json)
}

fn table(usage: &Value, out: &mut dyn Write) -> io::Result<()> {
    let groups = usage["data"].as_array().map(Vec::as_slice).unwrap_or_default();
    let names = groups.first().and_then(|group| group["group"].as_object());
    let names: Vec<_> = names.into_iter().flat_map(|names| names.keys()).collect();
    let figures =
        ["REQUESTS", "INPUT", "OUTPUT", "COST USD", "WASTE USD", "SAVED USD", "ESTIMATED"];
    let heading: Vec<_> =
        names.iter().map(|name| name.to_uppercase()).chain(figures.map(str::to_owned)).collect();
    let mut rows = vec![heading];
    for group in groups {
        let cells = names.iter().map(|name| group["group"][name.as_str()].as_str().unwrap_or("-"));
        let mut row: Vec<_> = cells.map(printable).collect();
        let tokens = |names: &[&str]| {
            let counts = names.iter().filter_map(|name| group["tokens"][name].as_u64());
            counts.sum::<u64>().to_string()
        };
        row.push(group["requests"].to_string());
        row.push(tokens(&["input", "cached_input", "cache_write"]));
        row.push(tokens(&["output", "reasoning"]));
        row.push(group["cost_usd"].as_str().unwrap_or("-").to_owned());
        row.push(group["waste"]["cost_usd"].as_str().unwrap_or("-").to_owned());
        row.push(group["saved_usd"].as_str().unwrap_or("-").to_owned());
        let share = group["estimated_share"].as_f64().unwrap_or_default();
        row.push(format!("{:.1} %", share * 100.0));
        rows.push(row);
    }
    let width = |at: usize| {
        rows.iter().filter_map(|row| row.get(at)).map(|cell| cell.chars().count()).max()
    };
    let widths: Vec<_> = (0..).map_while(width).collect();
    for row in &rows {
        let cells = row.iter().zip(&widths).enumerate();
        // Names to the left, figures to the right.
        let cells: Vec<_> = cells
            .map(|(at, (cell, &width))| match at < names.len() {
                true => format!("{cell:width$}"),
                false => format!("{cell:>width$}"),
            })
            .collect();
        writeln!(out, "{}", cells.join("  ").trim_end())?;
    }
    if usage["truncated"] == true {
        writeln!(out, "there are more; --limit shows up to 9999, the dearest first")?;
    }
    Ok(())
}

/// A name without what a terminal would obey.
fn printable(name: &str) -> String {
    name.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}
