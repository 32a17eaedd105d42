//! `tidegate rollout`: progressive rollouts, by way of the admin API.

use std::io::{self, Write};

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Map, Value, json};

use super::client::{AdminArgs, AdminClient, ClientError};
use super::terms::{answered, every_page, table, text};
use crate::units::{HumanDuration, UsdAmount};

/// Gives a prompt version or a model the place of another one, step by step, and back.
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "Examples:\n  tidegate rollout start --prompt support --from 1.2.0 --to 1.3.0 --percent 1\n  \
                  tidegate rollout start --route smart --from openai/gpt-5 --to anthropic/claude-sonnet-4-5 \
                  --stage 5,500,15m --stage 50,2000,1h --stage 100,0,24h\n  \
                  tidegate rollout set ro_Ab3dE6gH9jK2 25\n  \
                  tidegate rollout list\n  \
                  tidegate rollout pause ro_Ab3dE6gH9jK2\n  \
                  tidegate rollout resume ro_Ab3dE6gH9jK2\n  \
                  tidegate rollout promote ro_Ab3dE6gH9jK2\n  \
                  tidegate rollout freeze ro_Ab3dE6gH9jK2\n  \
                  tidegate rollout thaw ro_Ab3dE6gH9jK2\n  \
                  tidegate rollout show ro_Ab3dE6gH9jK2\n  \
                  tidegate rollout rollback ro_Ab3dE6gH9jK2 --reason 'answers are too curt'"
)]
pub struct RolloutArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: RolloutCommand,
    /// Where the gateway is.
    #[command(flatten)]
    pub admin: AdminArgs,
    /// Answers in JSON.
    #[arg(long, global = true)]
    pub json: bool,
}

/// What can be done with rollouts.
#[derive(Debug, Clone, Subcommand)]
pub enum RolloutCommand {
    /// Begins one.
    Start(Box<StartArgs>),
    /// Lists all, newest first.
    List,
    /// Shows one: what it serves, what its guardrails say, and what was decided.
    Show {
        /// Its id: `ro_...`.
        id: String,
    },
    /// Sets what the candidate serves.
    Set {
        /// Its id: `ro_...`.
        id: String,
        /// From 0 to 100, in steps of 0.01.
        percent: f64,
        /// Why.
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
    /// Lets the share stay as it is.
    Pause(ActArgs),
    /// Goes on.
    Resume(ActArgs),
    /// Begins the next stage now.
    Promote(ActArgs),
    /// Lets the control serve everybody again, now.
    Rollback(ActArgs),
    /// Lets it not grow from now on.
    Freeze(ActArgs),
    /// Lets it grow again.
    Thaw(ActArgs),
}

/// Which rollout, and why.
#[derive(Debug, Clone, Args)]
pub struct ActArgs {
    /// Its id: `ro_...`.
    pub id: String,
    /// Why.
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
}

/// What is rolled out, and how.
#[derive(Debug, Clone, Default, Args)]
pub struct StartArgs {
    /// The prompt whose version it is.
    #[arg(long, value_name = "ID", conflicts_with = "route")]
    pub prompt: Option<String>,
    /// The route whose model it is.
    #[arg(long, value_name = "NAME")]
    pub route: Option<String>,
    /// The version, or `provider/model`, that is served today.
    #[arg(long, value_name = "OLD")]
    pub from: Option<String>,
    /// The one that may take its place.
    #[arg(long, value_name = "NEW")]
    pub to: Option<String>,
    /// What the candidate serves at first, from 0 to 100; the usual larger stages follow.
    #[arg(long, value_name = "N")]
    pub percent: Option<f64>,
    /// A stage: its percentage, the candidate's requests it needs, and how long it lasts at least.
    /// Given once for each stage, it takes the place of the usual ones.
    #[arg(long = "stage", value_name = "PERCENT,REQUESTS,TIME", value_parser = stage)]
    pub stages: Vec<StageOption>,
    /// What keeps to one side: all requests of a user where nothing is said.
    #[arg(long, value_enum, value_name = "UNIT")]
    pub unit: Option<UnitOption>,
    /// Lets the candidate first answer beside the control, for so many percent of the units and at
    /// such a cost, such as `10,5.00`.
    #[arg(long, value_name = "PERCENT,USD", value_parser = shadow)]
    pub shadow: Option<ShadowOption>,
    /// Tries a rollout again that was rolled back.
    #[arg(long, value_name = "ID")]
    pub after: Option<String>,
    /// In small steps, after a shadow.
    #[arg(long)]
    pub gradual: bool,
    /// Begins although the candidate is in quarantine, nothing may grow now, or another rollout may
    /// be about the same requests. The audit log says so.
    #[arg(long)]
    pub force: bool,
}

/// A stage as it is written.
#[derive(Debug, Clone)]
pub struct StageOption(Value);

/// A shadow as it is written.
#[derive(Debug, Clone)]
pub struct ShadowOption(Value);

/// What keeps to one side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum UnitOption {
    /// All requests of a conversation.
    Conversation,
    /// All requests of a user.
    User,
    /// All requests of a caller's key.
    Caller,
    /// Each request by itself.
    Request,
}

/// Decisions that are printed.
const MOST_DECISIONS: usize = 10;

/// Runs the command. The answer is the exit code: 0 good, 1 the gateway refused, 2 wrong use or
/// no gateway.
///
/// # Errors
///
/// Only where `out` or `err` cannot be written to.
pub fn run(args: &RolloutArgs, out: &mut dyn Write, err: &mut dyn Write) -> io::Result<u8> {
    let answer = args.admin.client().and_then(|client| ask(&client, &args.command));
    answered(answer, args.json, (out, err), |answer, out| match &args.command {
        RolloutCommand::List => list(answer, out),
        RolloutCommand::Show { .. } => show(answer, out),
        RolloutCommand::Start(_) => {
            short(answer, out)?;
            writeln!(out, "{}", said(answer, "/estimate/says"))
        }
        RolloutCommand::Set { .. }
        | RolloutCommand::Pause(_)
        | RolloutCommand::Resume(_)
        | RolloutCommand::Promote(_)
        | RolloutCommand::Rollback(_)
        | RolloutCommand::Freeze(_)
        | RolloutCommand::Thaw(_) => short(answer, out),
    })
}

fn ask(client: &AdminClient, command: &RolloutCommand) -> Result<Value, ClientError> {
    let act = |args: &ActArgs, verb| {
        let body = json!({ "reason": args.reason });
        client.call("POST", &format!("{}/{verb}", path(&args.id)?), Some(&body))
    };
    match command {
        RolloutCommand::Start(args) => client.call("POST", "/rollouts", Some(&args.body())),
        RolloutCommand::List => every_page(client, "/rollouts"),
        RolloutCommand::Show { id } => client.call("GET", &path(id)?, None),
        RolloutCommand::Set { id, percent, reason } => {
            let body = json!({ "percent": percent, "reason": reason });
            client.call("PATCH", &path(id)?, Some(&body))
        }
        RolloutCommand::Pause(args) => act(args, "pause"),
        RolloutCommand::Resume(args) => act(args, "resume"),
        RolloutCommand::Promote(args) => act(args, "promote"),
        RolloutCommand::Rollback(args) => act(args, "rollback"),
        RolloutCommand::Freeze(args) => act(args, "freeze"),
        RolloutCommand::Thaw(args) => act(args, "thaw"),
    }
}

fn path(id: &str) -> Result<String, ClientError> {
    if id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
        return Err(ClientError::Usage(format!(
            "`{id}` is no id of a rollout; `tidegate rollout list` shows them, such as \
             ro_Ab3dE6gH9jK2"
        )));
    }
    Ok(format!("/rollouts/{id}"))
}

fn list(rollouts: &Value, out: &mut dyn Write) -> io::Result<()> {
    let rollouts = rollouts.as_array().map(Vec::as_slice).unwrap_or_default();
    if rollouts.is_empty() {
        return writeln!(
            out,
            "no rollouts; `tidegate rollout start --help` shows how to begin one"
        );
    }
    let heading = ["ID", "SUBJECT", "FROM", "TO", "PHASE", "PERCENT", "BEGUN", "ENDED"];
    let rows: Vec<_> = std::iter::once(heading.map(str::to_owned))
        .chain(rollouts.iter().map(|one| {
            [
                text(one, "id"),
                subject(one),
                text(one, "from"),
                text(one, "to"),
                text(one, "phase"),
                one.get("percent").map_or("-".to_owned(), Value::to_string),
                text(one, "created_at"),
                text(one, "ended_at"),
            ]
        }))
        .collect();
    table(&rows, out)
}

/// `prompt support`
fn subject(one: &Value) -> String {
    match one.get("prompt").and_then(Value::as_str) {
        Some(prompt) => format!("prompt {prompt}"),
        None => format!("route {}", text(one, "route")),
    }
}

/// Where it is, on one line.
fn short(one: &Value, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "{} ({}): {}", text(one, "id"), subject(one), text(one, "says"))
}

fn show(one: &Value, out: &mut dyn Write) -> io::Result<()> {
    short(one, out)?;
    let number = |at: &str| one.pointer(at).map_or("-".to_owned(), Value::to_string);
    writeln!(
        out,
        "stage {} of {} ({}), {} requests of the candidate in it; evidence of harm {} of 100 needed",
        number("/stage/number"),
        number("/stage/of"),
        said(one, "/stage/kind"),
        number("/stage/requests"),
        number("/evidence"),
    )?;
    writeln!(out, "{}", said(one, "/estimate/says"))?;
    if let Some(freeze) = one.get("freeze").and_then(Value::as_str) {
        writeln!(out, "nothing grows {freeze}")?;
    }
    if let Some(why) = one.pointer("/gate/why").and_then(Value::as_str) {
        // What it serves already it goes on serving.
        match one.pointer("/gate/most_percent").and_then(Value::as_f64) {
            Some(most) if most > 0.0 => writeln!(out, "it grows to {most} % at most: {why}")?,
            Some(_) | None => writeln!(out, "it does not grow: {why}")?,
        }
    }
    let guardrails = one.get("guardrails").and_then(Value::as_array);
    let rows = guardrails
        .into_iter()
        .flatten()
        .map(|finding| [text(finding, "guardrail"), text(finding, "says")]);
    let heading = ["GUARDRAIL", "WHAT IT SAYS"].map(str::to_owned);
    let rows: Vec<_> = std::iter::once(heading).chain(rows).collect();
    if rows.len() > 1 {
        writeln!(out)?;
        table(&rows, out)?;
    }
    let decisions = one.get("decisions").and_then(Value::as_array);
    let rows = decisions.into_iter().flatten().take(MOST_DECISIONS).map(|decision| {
        let of = |member| text(decision, member);
        [of("at"), of("verdict"), of("by"), of("sentence")]
    });
    let heading = ["WHEN", "DECIDED", "BY", "WHY"].map(str::to_owned);
    let rows: Vec<_> = std::iter::once(heading).chain(rows).collect();
    if rows.len() > 1 {
        writeln!(out)?;
        table(&rows, out)?;
    }
    Ok(())
}

fn said<'a>(one: &'a Value, at: &str) -> &'a str {
    one.pointer(at).and_then(Value::as_str).unwrap_or("-")
}

fn stage(text: &str) -> Result<StageOption, String> {
    let wrong = || format!("`{text}`: write it like 5,500,15m");
    let parts: Vec<_> = text.split(',').map(str::trim).collect();
    let [percent, requests, time] = parts.as_slice() else { return Err(wrong()) };
    let percent: f64 = percent.parse().map_err(|_| wrong())?;
    let requests: u64 = requests.parse().map_err(|_| wrong())?;
    let time: HumanDuration = time.parse().map_err(|_| wrong())?;
    let stage = json!({ "percent": percent, "min_requests": requests, "min_time": time });
    Ok(StageOption(stage))
}

fn shadow(text: &str) -> Result<ShadowOption, String> {
    let wrong = || format!("`{text}`: write it like 10,5.00");
    let (sample, usd) = text.split_once(',').ok_or_else(wrong)?;
    let sample: f64 = sample.trim().parse().map_err(|_| wrong())?;
    let usd = usd.trim();
    usd.parse::<UsdAmount>().map_err(|error| error.to_string())?;
    Ok(ShadowOption(json!({ "sample": sample, "usd": usd })))
}

// === impl StartArgs ===

impl StartArgs {
    /// What is said, and nothing of what is not.
    fn body(&self) -> Value {
        let mut body = Map::new();
        let mut add = |member: &str, value: Option<Value>| {
            if let Some(value) = value {
                body.insert(member.to_owned(), value);
            }
        };
        let texts = [("prompt", &self.prompt), ("route", &self.route), ("from", &self.from)];
        for (member, value) in texts.into_iter().chain([("to", &self.to), ("after", &self.after)]) {
            add(member, value.clone().map(Value::from));
        }
        add("percent", self.percent.map(Value::from));
        add("unit", self.unit.map(|unit| Value::from(unit.as_str())));
        add("shadow", self.shadow.clone().map(|shadow| shadow.0));
        let stages: Vec<_> = self.stages.iter().map(|stage| stage.0.clone()).collect();
        add("stages", Some(Value::from(stages)).filter(|_| !self.stages.is_empty()));
        add("gradual", self.gradual.then_some(Value::Bool(true)));
        add("force", self.force.then_some(Value::Bool(true)));
        Value::Object(body)
    }
}

// === impl UnitOption ===

impl UnitOption {
    /// As the admin API has it.
    const fn as_str(self) -> &'static str {
        match self {
            Self::Conversation => "conversation",
            Self::User => "user",
            Self::Caller => "caller",
            Self::Request => "request",
        }
    }
}
