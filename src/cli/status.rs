//! `tidegate status`: how a running gateway is, by way of the admin API.

use std::io::{self, Write};

use clap::Args;
use serde_json::{Value, json};

use super::client::{AdminArgs, AdminClient, ClientError};
use super::terms::{answered, table, text};

/// Says how a running gateway is: its configuration, the nodes beside it, and how its targets fare.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Example:\n  tidegate status\n  tidegate status --json")]
pub struct StatusArgs {
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
pub fn run(args: &StatusArgs, out: &mut dyn Write, err: &mut dyn Write) -> io::Result<u8> {
    let answer = args.admin.client().and_then(|client| ask(&client));
    answered(answer, args.json, (out, err), in_words)
}

fn ask(client: &AdminClient) -> Result<Value, ClientError> {
    let config = client.call("GET", "/config", None)?;
    let mut targets = client.call("GET", "/targets", None)?;
    let kept = ["revision", "loaded_at", "last_failure", "waiting_for_restart", "nodes"];
    let kept = kept.map(|name| (name.to_owned(), config[name].clone()));
    Ok(json!({
        "config": kept.into_iter().collect::<serde_json::Map<_, _>>(),
        "targets": targets["data"].take(),
    }))
}

fn in_words(status: &Value, out: &mut dyn Write) -> io::Result<()> {
    let config = &status["config"];
    let (revision, loaded_at) = (text(config, "revision"), text(config, "loaded_at"));
    writeln!(out, "configuration {revision}, loaded {loaded_at}")?;
    for problem in items(&config["last_failure"]["problems"]).iter().filter_map(Value::as_str) {
        writeln!(out, "  not taken: {problem}")?;
    }
    let waiting = items(&config["waiting_for_restart"]).iter().filter_map(Value::as_str);
    for section in waiting {
        writeln!(out, "  takes effect at the next start: {section}")?;
    }
    for node in items(&config["nodes"]) {
        let this = if node["is_this"] == true { " (this one)" } else { "" };
        let (name, revision) = (text(node, "name"), text(node, "revision"));
        writeln!(out, "node {name}{this}: configuration {revision}")?;
    }
    targets(items(&status["targets"]), out)
}

/// Targets that stand on a route, or were asked.
fn targets(targets: &[Value], out: &mut dyn Write) -> io::Result<()> {
    let matters = |target: &&Value| !items(&target["routes"]).is_empty() || target["attempts"] != 0;
    let heading = ["TARGET", "STATE", "ERRORS", "TTFT P50", "TTFT P95", "IN FLIGHT", "SHARE"];
    let percent = |value: &Value| format!("{:.1} %", value.as_f64().unwrap_or_default() * 100.0);
    let time = |value: &Value| match value.as_f64() {
        Some(ms) => format!("{ms:.0} ms"),
        None => "-".to_owned(),
    };
    let rows = targets.iter().filter(matters).map(|target| {
        let ttft = &target["ttft_ms"];
        [
            text(target, "id"),
            target["excluded"].as_str().unwrap_or("serves").to_owned(),
            percent(&target["error_rate"]),
            time(&ttft["p50"]),
            time(&ttft["p95"]),
            target["in_flight"].to_string(),
            percent(&target["traffic_share"]),
        ]
    });
    let rows: Vec<_> = std::iter::once(heading.map(str::to_owned)).chain(rows).collect();
    writeln!(out)?;
    table(&rows, out)
}

fn items(list: &Value) -> &[Value] {
    list.as_array().map(Vec::as_slice).unwrap_or_default()
}
