//! `tidegate teams`: teams of callers, by way of the admin API.

use std::io::{self, Write};

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::client::{AdminArgs, AdminClient, ClientError};
use super::terms::{TermsArgs, answered, checked_id, every_page, record, table, text, usage};

/// Makes, lists, changes and deletes teams in a running gateway. What a team may use, all its keys
/// may use together.
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "Examples:\n  tidegate teams create search --limit usd_per_month=500 --tag team=search\n  \
                  tidegate keys create web --team team_Ab3dE6gH9jK2\n  \
                  tidegate teams list\n  \
                  tidegate teams show team_Ab3dE6gH9jK2\n  \
                  tidegate teams update team_Ab3dE6gH9jK2 --model 'openai/*'\n  \
                  tidegate teams delete team_Ab3dE6gH9jK2"
)]
pub struct TeamsArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: TeamsCommand,
    /// Where the gateway is.
    #[command(flatten)]
    pub admin: AdminArgs,
    /// Answers in JSON.
    #[arg(long, global = true)]
    pub json: bool,
}

/// What can be done with teams.
#[derive(Debug, Clone, Subcommand)]
pub enum TeamsCommand {
    /// Makes a team.
    Create {
        /// Its name; for people.
        name: String,
        /// What it may do.
        #[command(flatten)]
        terms: TermsArgs,
    },
    /// Lists all teams, newest first.
    List,
    /// Shows one team, what it may do, and how much of its limits is used.
    Show {
        /// The team's id, as `tidegate teams list` shows it: `team_...`.
        id: String,
    },
    /// Changes a team. What is not given stays.
    Update {
        /// The team's id: `team_...`.
        id: String,
        /// Its new name.
        #[arg(long, value_name = "NAME")]
        name: Option<String>,
        /// What it may do.
        #[command(flatten)]
        terms: TermsArgs,
    },
    /// Deletes a team that has no valid keys.
    Delete {
        /// The team's id: `team_...`.
        id: String,
    },
}

/// Runs the command. The answer is the exit code: 0 good, 1 the gateway refused, 2 wrong use or
/// no gateway.
///
/// # Errors
///
/// Only where `out` or `err` cannot be written to.
pub fn run(args: &TeamsArgs, out: &mut dyn Write, err: &mut dyn Write) -> io::Result<u8> {
    let answer = args.admin.client().and_then(|client| ask(&client, &args.command));
    answered(answer, args.json, (out, err), |answer, out| in_words(&args.command, answer, out))
}

fn ask(client: &AdminClient, command: &TeamsCommand) -> Result<Value, ClientError> {
    let path = |id| checked_id(id, "team", "teams").map(|id| format!("/teams/{id}"));
    let body = |name: Option<&String>, terms: &TermsArgs| {
        let mut body = Map::new();
        if let Some(name) = name {
            body.insert("name".to_owned(), Value::from(name.as_str()));
        }
        terms.add_to(&mut body).map(|()| Value::Object(body))
    };
    match command {
        TeamsCommand::Create { name, terms } => {
            client.call("POST", "/teams", Some(&body(Some(name), terms)?))
        }
        TeamsCommand::List => every_page(client, "/teams"),
        TeamsCommand::Show { id } => client.call("GET", &path(id)?, None),
        TeamsCommand::Update { id, name, terms } => {
            client.call("PATCH", &path(id)?, Some(&body(name.as_ref(), terms)?))
        }
        TeamsCommand::Delete { id } => {
            client.call("DELETE", &path(id)?, None)?;
            Ok(json!({ "id": id, "deleted": true }))
        }
    }
}

fn in_words(command: &TeamsCommand, answer: &Value, out: &mut dyn Write) -> io::Result<()> {
    match command {
        TeamsCommand::Create { .. } | TeamsCommand::Update { .. } => record(answer, out),
        TeamsCommand::Show { .. } => record(answer, out).and_then(|()| usage(answer, out)),
        TeamsCommand::List => list(answer, out),
        TeamsCommand::Delete { id } => writeln!(out, "{id} is deleted"),
    }
}

fn list(teams: &Value, out: &mut dyn Write) -> io::Result<()> {
    let teams = teams.as_array().map(Vec::as_slice).unwrap_or_default();
    if teams.is_empty() {
        return writeln!(out, "no teams; `tidegate teams create NAME` makes one");
    }
    let rows: Vec<_> = std::iter::once(["ID", "NAME", "CREATED"].map(str::to_owned))
        .chain(
            teams.iter().map(|team| ["id", "name", "created_at"].map(|member| text(team, member))),
        )
        .collect();
    table(&rows, out)
}
