//! `tidegate cache`: how full the cache is, and forgetting what is in it, by way of the admin API.

use std::io::{self, Write};

use clap::{Args, Subcommand};
use serde_json::Value;

use super::client::{AdminArgs, AdminClient, ClientError, encoded};
use super::terms::{answered, table};
use crate::units::ByteCount;

mod semantic;

/// Shows what the cache of a running gateway saves, and forgets what is in it.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:\n  tidegate cache show\n  tidegate cache purge --route faq\n  \
                        tidegate cache purge --team team_Ab3dE6gH9jK2 --tag env=prod\n  \
                        tidegate cache purge --all")]
pub struct CacheArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: CacheCommand,
    /// Where the gateway is.
    #[command(flatten)]
    pub admin: AdminArgs,
    /// Answers in JSON.
    #[arg(long, global = true)]
    pub json: bool,
}

/// What can be done with the cache.
#[derive(Debug, Clone, Subcommand)]
pub enum CacheCommand {
    /// Shows how full it is, what it saved by route, and how far semantic caches have come.
    Show,
    /// Forgets answers, on all nodes: those of which everything holds that is named.
    Purge(PurgeArgs),
}

/// Which answers are meant.
#[derive(Debug, Clone, Args)]
#[group(required = true, multiple = true)]
pub struct PurgeArgs {
    /// Of keys of this team.
    #[arg(long, value_name = "ID")]
    pub team: Option<String>,
    /// Of this key.
    #[arg(long, value_name = "ID")]
    pub caller: Option<String>,
    /// Of this route.
    #[arg(long, value_name = "NAME")]
    pub route: Option<String>,
    /// Of requests with this tag.
    #[arg(long, value_name = "NAME=VALUE", value_parser = tag)]
    pub tag: Option<String>,
    /// Of this registered prompt: `id` or `id@version`.
    #[arg(long, value_name = "PROMPT")]
    pub prompt: Option<String>,
    /// All of them.
    #[arg(long, conflicts_with_all = ["team", "caller", "route", "tag", "prompt"])]
    pub all: bool,
}

/// Runs the command. The answer is the exit code: 0 good, 1 the gateway refused, 2 wrong use or
/// no gateway.
///
/// # Errors
///
/// Only where `out` or `err` cannot be written to.
pub fn run(args: &CacheArgs, out: &mut dyn Write, err: &mut dyn Write) -> io::Result<u8> {
    let answer = args.admin.client().and_then(|client| ask(&client, &args.command));
    answered(answer, args.json, (out, err), |answer, out| match &args.command {
        CacheCommand::Show => shown(answer, out),
        CacheCommand::Purge(_) => {
            let are = if answer["purged"] == 1 {
                "answer of this node is"
            } else {
                "answers of this node are"
            };
            writeln!(out, "{} {are} forgotten", answer["purged"])
        }
    })
}

fn tag(text: &str) -> Result<String, &'static str> {
    let name = text.split_once('=').map(|(name, _)| name).filter(|name| !name.is_empty());
    name.map(|_| text.to_owned()).ok_or("write it like env=prod")
}

fn ask(client: &AdminClient, command: &CacheCommand) -> Result<Value, ClientError> {
    match command {
        CacheCommand::Show => client.call("GET", "/cache", None),
        CacheCommand::Purge(which) => client.call("DELETE", &which.path(), None),
    }
}

fn shown(cache: &Value, out: &mut dyn Write) -> io::Result<()> {
    let (entries, bytes) = (&cache["entries"], &cache["bytes"]);
    let answers = if *entries == 1 { "answer" } else { "answers" };
    let most = ByteCount(cache["max_bytes"].as_u64().unwrap_or_default());
    writeln!(out, "{entries} {answers}, {bytes} bytes of {most}")?;
    let routes = items(&cache["routes"]);
    if routes.is_empty() {
        writeln!(
            out,
            "no route was asked yet that keeps answers; one does with `cache = {{ exact = true }}`"
        )?;
    } else {
        let heading = ["ROUTE", "HITS", "MISSES", "HIT RATIO", "SAVED USD"].map(str::to_owned);
        let members = ["route", "hits", "misses", "hit_ratio", "saved_usd"];
        let rows = routes.iter().map(|route| members.map(|member| plain(&route[member])));
        table(&std::iter::once(heading).chain(rows).collect::<Vec<_>>(), out)?;
    }
    semantic::shown(&cache["semantic"], out)
}

fn items(list: &Value) -> &[Value] {
    list.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

// === impl PurgeArgs ===

impl PurgeArgs {
    fn path(&self) -> String {
        let named = [
            ("team", &self.team),
            ("caller", &self.caller),
            ("route", &self.route),
            ("tag", &self.tag),
            ("prompt", &self.prompt),
        ];
        let named = named.iter().filter_map(|(name, value)| Some((*name, value.as_deref()?)));
        let all = self.all.then_some(("all", "true"));
        let query = named.chain(all).map(|(name, value)| format!("{name}={}", encoded(value)));
        format!("/cache?{}", query.collect::<Vec<_>>().join("&"))
    }
}
