//! `tidegate keys`: callers' keys, by way of the admin API.

use std::io::{self, Write};

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::client::{AdminArgs, AdminClient, ClientError};
use super::terms::{TermsArgs, answered, checked_id, every_page, record, table, text, usage};
use crate::units::{HumanDuration, Priority};

/// Makes, lists, changes, rotates and revokes callers' keys in a running gateway.
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "Examples:\n  tidegate keys create web --limit requests_per_minute=60 --limit usd_per_day=5\n  \
                  tidegate keys create nightly --priority 4 --team team_Ab3dE6gH9jK2 --route smart\n  \
                  tidegate keys list --json\n  \
                  tidegate keys show key_Ab3dE6gH9jK2\n  \
                  tidegate keys update key_Ab3dE6gH9jK2 --limit requests_per_minute=120\n  \
                  tidegate keys rotate key_Ab3dE6gH9jK2 --overlap 48h\n  \
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
        /// What it may do.
        #[command(flatten)]
        options: Box<KeyOptions>,
    },
    /// Lists all keys, newest first.
    List,
    /// Shows one key, what it may do, and how much of its limits is used.
    Show {
        /// The key's id, as `tidegate keys list` shows it: `key_...`.
        id: String,
    },
    /// Changes a key. What is not given stays.
    Update {
        /// The key's id: `key_...`.
        id: String,
        /// Its new name.
        #[arg(long, value_name = "NAME")]
        name: Option<String>,
        /// Takes it out of its team.
        #[arg(long, conflicts_with = "team")]
        no_team: bool,
        /// Lets it be valid for ever.
        #[arg(long, conflicts_with = "expires")]
        no_expiry: bool,
        /// What it may do.
        #[command(flatten)]
        options: Box<KeyOptions>,
    },
    /// Gives a key a new secret and shows it, this once. The old one stays valid for a while.
    Rotate {
        /// The key's id: `key_...`.
        id: String,
        /// For how long both are valid; at most 30d.
        #[arg(long, value_name = "TIME", default_value = "24h")]
        overlap: HumanDuration,
    },
    /// Revokes a key. Requests with it are refused at once.
    Revoke {
        /// The key's id, as `tidegate keys list` shows it: `key_...`.
        id: String,
    },
}

/// What a key may do.
#[derive(Debug, Clone, Default, Args)]
pub struct KeyOptions {
    /// The best priority its requests may have, and that of requests that ask for none: from
    /// 0 (highest) to 4. 2 where a new key says nothing.
    #[arg(long, value_name = "N")]
    pub priority: Option<Priority>,
    /// The team it belongs to: `team_...`.
    #[arg(long, value_name = "ID")]
    pub team: Option<String>,
    /// From when on it is not valid, such as 2027-01-01T00:00:00Z.
    #[arg(long, value_name = "TIME")]
    pub expires: Option<String>,
    /// Limits, routes, models and tags.
    #[command(flatten)]
    pub terms: TermsArgs,
}

/// Runs the command. The answer is the exit code: 0 good, 1 the gateway refused, 2 wrong use or
/// no gateway.
///
/// # Errors
///
/// Only where `out` or `err` cannot be written to.
pub fn run(args: &KeysArgs, out: &mut dyn Write, err: &mut dyn Write) -> io::Result<u8> {
    let answer = args.admin.client().and_then(|client| ask(&client, &args.command));
    let makes = matches!(args.command, KeysCommand::Create { .. } | KeysCommand::Rotate { .. });
    let made = answer.as_ref().ok().filter(|_| makes && !args.json).map(of_new);
    let code = answered(answer, args.json, (out, &mut *err), |answer, out| {
        in_words(&args.command, answer, out)
    })?;
    // Beside the answer, which is the key alone: scripts take it from there.
    if let Some(made) = made {
        write!(err, "{made}")?;
    }
    Ok(code)
}

/// What is said of a key that was made just now.
fn of_new(answer: &Value) -> String {
    let (id, name) = (text(answer, "id"), text(answer, "name"));
    let before = match answer.get("previous_valid_until").and_then(Value::as_str) {
        Some(until) => format!("The one before is valid until {until}.\n"),
        None => String::new(),
    };
    format!("This is key {id} ({name}). It is shown this once; keep it now.\n{before}")
}

fn ask(client: &AdminClient, command: &KeysCommand) -> Result<Value, ClientError> {
    let path = |id| checked_id(id, "key", "keys").map(|id| format!("/keys/{id}"));
    match command {
        KeysCommand::Create { name, options } => {
            let mut body = options.body()?;
            body.insert("name".to_owned(), Value::from(name.as_str()));
            client.call("POST", "/keys", Some(&Value::Object(body)))
        }
        KeysCommand::List => every_page(client, "/keys"),
        KeysCommand::Show { id } => client.call("GET", &path(id)?, None),
        KeysCommand::Update { id, name, no_team, no_expiry, options } => {
            let mut body = options.body()?;
            if let Some(name) = name {
                body.insert("name".to_owned(), Value::from(name.as_str()));
            }
            for (member, is_taken) in [("team", no_team), ("expires_at", no_expiry)] {
                if *is_taken {
                    body.insert(member.to_owned(), Value::Null);
                }
            }
            client.call("PATCH", &path(id)?, Some(&Value::Object(body)))
        }
        KeysCommand::Rotate { id, overlap } => {
            let body = json!({ "overlap": overlap.to_string() });
            client.call("POST", &format!("{}/rotate", path(id)?), Some(&body))
        }
        KeysCommand::Revoke { id } => {
            client.call("DELETE", &path(id)?, None)?;
            Ok(json!({ "id": id, "revoked": true }))
        }
    }
}

fn in_words(command: &KeysCommand, answer: &Value, out: &mut dyn Write) -> io::Result<()> {
    match command {
        KeysCommand::Create { .. } | KeysCommand::Rotate { .. } => {
            writeln!(out, "{}", text(answer, "key"))
        }
        KeysCommand::List => list(answer, out),
        KeysCommand::Show { .. } => record(answer, out).and_then(|()| usage(answer, out)),
        KeysCommand::Update { .. } => record(answer, out),
        KeysCommand::Revoke { id } => writeln!(out, "{id} is revoked"),
    }
}

fn list(keys: &Value, out: &mut dyn Write) -> io::Result<()> {
    let keys = keys.as_array().map(Vec::as_slice).unwrap_or_default();
    if keys.is_empty() {
        return writeln!(out, "no keys; `tidegate keys create NAME` makes one");
    }
    let heading = ["ID", "NAME", "KEY", "PRIORITY", "TEAM", "CREATED", "EXPIRES", "REVOKED"];
    let rows: Vec<_> = std::iter::once(heading.map(str::to_owned))
        .chain(keys.iter().map(|key| {
            [
                text(key, "id"),
                text(key, "name"),
                format!("tg-...{}", text(key, "hint")),
                key.get("priority").map_or("-".to_owned(), Value::to_string),
                text(key, "team"),
                text(key, "created_at"),
                text(key, "expires_at"),
                text(key, "revoked_at"),
            ]
        }))
        .collect();
    table(&rows, out)
}

// === impl KeyOptions ===

impl KeyOptions {
    fn body(&self) -> Result<Map<String, Value>, ClientError> {
        let mut body = Map::new();
        if let Some(priority) = self.priority {
            body.insert("priority".to_owned(), json!(priority));
        }
        for (member, value) in [("team", &self.team), ("expires_at", &self.expires)] {
            if let Some(value) = value {
                body.insert(member.to_owned(), Value::from(value.as_str()));
            }
        }
        self.terms.add_to(&mut body)?;
        Ok(body)
    }
}
