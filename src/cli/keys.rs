//! `tidegate keys`: callers' keys, by way of the admin API.

use std::io::{self, Write};

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::client::{AdminArgs, AdminClient, ClientError};
use crate::units::Priority;

/// Makes, lists and revokes callers' keys in a running gateway.
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "Examples:\n  tidegate keys create web\n  tidegate keys create nightly --priority 4\n  tidegate keys list --json\n  \
                        tidegate keys revoke key_Ab3dE6gH9jK2"
)]
pub struct KeysArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: KeysCommand,
    /// Where the gateway is.
    #[command(flatten)]
    pub admin: AdminArgs,
    /// Answers in JSON.
    #[arg(long, global = true)]
    pub json: bool,
}

/// What can be done with keys.
#[derive(Debug, Clone, Subcommand)]
pub enum KeysCommand {
    /// Makes a key and shows it, this once.
    Create {
        /// Whose key it is; for people.
        name: String,
        /// The best priority its requests may have, and that of requests that ask for none: from
        /// 0 (highest) to 4.
        #[arg(long, value_name = "N", default_value_t)]
        priority: Priority,
    },
    /// Lists all keys, newest first.
    List,
    /// Revokes a key. Requests with it are refused at once.
    Revoke {
        /// The key's id, as `tidegate keys list` shows it: `key_...`.
        id: String,
    },
}

/// Runs the command. The answer is the exit code: 0 good, 1 the gateway refused, 2 wrong use or
/// no gateway.
///
/// # Errors
///
/// Only where `out` or `err` cannot be written to.
pub fn run(args: &KeysArgs, out: &mut dyn Write, err: &mut dyn Write) -> io::Result<u8> {
    let answer = args.admin.client().and_then(|client| match &args.command {
        KeysCommand::Create { name, priority } => create(&client, name, *priority),
        KeysCommand::List => list(&client),
        KeysCommand::Revoke { id } => revoke(&client, id),
    });
    match answer {
        Ok(answer) => {
            if args.json {
                writeln!(out, "{answer:#}")?;
            } else {
                in_words(&args.command, &answer, out)?;
            }
            Ok(0)
        }
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

fn create(client: &AdminClient, name: &str, priority: Priority) -> Result<Value, ClientError> {
    client.call("POST", "/keys", Some(&json!({ "name": name, "priority": priority })))
}

/// All pages as one list.
fn list(client: &AdminClient) -> Result<Value, ClientError> {
    let mut keys = Vec::new();
    let mut path = "/keys?limit=100".to_owned();
    loop {
        let mut page = client.call("GET", &path, None)?;
        if let Some(Value::Array(data)) = page.get_mut("data").map(Value::take) {
            keys.extend(data);
        }
        match page.get("next_cursor").and_then(Value::as_str) {
            Some(cursor) => path = format!("/keys?limit=100&cursor={cursor}"),
            None => return Ok(Value::Array(keys)),
        }
    }
}

fn revoke(client: &AdminClient, id: &str) -> Result<Value, ClientError> {
    // The id becomes part of a path.
    if id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
        return Err(ClientError::Usage(format!(
            "`{id}` is no id of a key; `tidegate keys list` shows them, such as key_Ab3dE6gH9jK2"
        )));
    }
    client.call("DELETE", &format!("/keys/{id}"), None)?;
    Ok(json!({ "id": id, "revoked": true }))
}

fn in_words(command: &KeysCommand, answer: &Value, out: &mut dyn Write) -> io::Result<()> {
    match command {
        KeysCommand::Create { .. } => {
            writeln!(out, "{}", text(answer, "key"))?;
            writeln!(
                out,
                "This is key {} ({}). It is shown this once; keep it now.",
                text(answer, "id"),
                text(answer, "name")
            )
        }
        KeysCommand::List => table(answer, out),
        KeysCommand::Revoke { id } => writeln!(out, "{id} is revoked"),
    }
}

fn table(keys: &Value, out: &mut dyn Write) -> io::Result<()> {
    let keys = keys.as_array().map(Vec::as_slice).unwrap_or_default();
    if keys.is_empty() {
        return writeln!(out, "no keys; `tidegate keys create NAME` makes one");
    }
    let heading = ["ID", "NAME", "KEY", "PRIORITY", "CREATED", "REVOKED"].map(str::to_owned);
    let rows: Vec<_> = std::iter::once(heading)
        .chain(keys.iter().map(|key| {
            [
                text(key, "id"),
                text(key, "name"),
                format!("tg-...{}", text(key, "hint")),
                key.get("priority").map_or("-".to_owned(), Value::to_string),
                text(key, "created_at"),
                text(key, "revoked_at"),
            ]
        }))
        .collect();
    let mut widths = [0; 6];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    for row in &rows {
        let cells: Vec<_> =
            row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        writeln!(out, "{}", cells.join("  ").trim_end())?;
    }
    Ok(())
}

/// A member as text; `-` where there is none.
fn text(object: &Value, member: &str) -> String {
    object.get(member).and_then(Value::as_str).unwrap_or("-").to_owned()
}
