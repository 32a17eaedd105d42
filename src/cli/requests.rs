//! `tidegate requests`: which requests were made, one a line, by way of the admin API.

use std::io::{self, Write};

use clap::Args;
use serde_json::json;

use super::client::{AdminArgs, AdminClient, ClientError, encoded};

/// Lists requests of a running gateway as JSON, one a line, newest first: who asked what of whom,
/// and what came of it.
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "Examples:\n  tidegate requests --where prompt=support-reply@1.3.0 --where outcome=complete > affected.jsonl\n  \
                        tidegate requests --where rollout=ro_01 --where arm=candidate --since 2026-11-21T03:00:00Z | jq -r .id"
)]
pub struct RequestsArgs {
    /// Only requests of which this is so, such as `prompt=support-reply@1.3.0`, `model=gpt-5`,
    /// `rollout=ro_01`, `arm=candidate`, `route=smart` or `tag:team=search`; once for each
    /// condition.
    #[arg(long = "where", value_name = "KEY=VALUE")]
    pub conditions: Vec<String>,
    /// Only what ended at this moment or later: RFC 3339, or milliseconds since 1970.
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Only what ended before this moment.
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
    /// Requests to list; without it all of them.
    #[arg(long, value_name = "N")]
    pub limit: Option<u64>,
    /// Answers in JSON, as without it: one object a line. Errors are JSON, too.
    #[arg(long)]
    pub json: bool,
    /// Where the gateway is.
    #[command(flatten)]
    pub admin: AdminArgs,
}

/// The most of a page.
const PAGE: u64 = 1_000;

/// Why it ended before its end.
enum Stopped {
    Client(ClientError),
    Out(io::Error),
}

/// Runs the command. The answer is the exit code: 0 good, 1 the gateway refused, 2 wrong use or no
/// gateway.
///
/// # Errors
///
/// Only where `out` or `err` cannot be written to.
pub fn run(args: &RequestsArgs, out: &mut dyn Write, err: &mut dyn Write) -> io::Result<u8> {
    let error = match list(args, out) {
        Ok(()) => return Ok(0),
        Err(Stopped::Out(error)) => return Err(error),
        Err(Stopped::Client(error)) => error,
    };
    if args.json {
        writeln!(out, "{}", json!({ "error": error.to_string() }))?;
    } else {
        writeln!(err, "{error}")?;
    }
    Ok(error.exit_code())
}

/// Asks for page after page, and writes each as it comes.
fn list(args: &RequestsArgs, out: &mut dyn Write) -> Result<(), Stopped> {
    let filter = filter(args).map_err(Stopped::Client)?;
    let client: AdminClient = args.admin.client().map_err(Stopped::Client)?;
    let mut left = args.limit.unwrap_or(u64::MAX);
    let mut cursor: Option<String> = None;
    while left > 0 {
        let mut path = format!("/requests?limit={}{filter}", left.min(PAGE));
        if let Some(cursor) = &cursor {
            path.push_str(&format!("&cursor={}", encoded(cursor)));
        }
        let page = client.call("GET", &path, None).map_err(Stopped::Client)?;
        let requests = page["data"].as_array().map(Vec::as_slice).unwrap_or_default();
        for request in requests {
            writeln!(out, "{request}").map_err(Stopped::Out)?;
        }
        left = left.saturating_sub(requests.len() as u64);
        cursor = page["next_cursor"].as_str().map(str::to_owned);
        if cursor.is_none() {
            break;
        }
    }
    Ok(())
}

fn filter(args: &RequestsArgs) -> Result<String, ClientError> {
    let mut filter = String::new();
    for condition in &args.conditions {
        let (name, value) = condition.split_once('=').ok_or_else(|| {
            let problem = "is no condition; write it like prompt=support-reply@1.3.0";
            ClientError::Usage(format!("`{condition}` {problem}"))
        })?;
        filter.push_str(&format!("&{}={}", encoded(name.trim()), encoded(value.trim())));
    }
    for (name, time) in [("since", &args.since), ("until", &args.until)] {
        if let Some(time) = time {
            filter.push_str(&format!("&{name}={}", encoded(time)));
        }
    }
    Ok(filter)
}
