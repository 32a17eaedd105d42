//! The command line, one file a command.
//!
//! Exit codes: 0 good, 1 the answer is no or something failed, 2 wrong use or configuration.

use std::io;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::config::Environment;

pub mod cache;
pub mod check;
mod client;
pub mod compat;
mod examples;
pub mod explain;
pub mod keys;
mod logging;
pub mod models;
pub mod prompts;
pub mod record;
pub mod requests;
pub mod rollout;
pub mod serve;
pub mod sim;
mod source;
pub mod status;
pub mod teams;
mod terms;
pub mod usage;

pub use source::SourceArgs;

/// A multi-provider LLM gateway that decides well when providers do not.
#[derive(Debug, Parser)]
#[command(name = "tidegate", version, propagate_version = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gateway.
    Serve(serve::ServeArgs),
    Cache(cache::CacheArgs),
    Check(check::CheckArgs),
    Compat(compat::CompatArgs),
    Explain(explain::ExplainArgs),
    Keys(keys::KeysArgs),
    Models(models::ModelsArgs),
    Prompts(prompts::PromptsArgs),
    Record(record::RecordArgs),
    Requests(requests::RequestsArgs),
    Rollout(rollout::RolloutArgs),
    Sim(sim::SimArgs),
    Status(status::StatusArgs),
    Teams(teams::TeamsArgs),
    Usage(usage::UsageArgs),
}

/// The exit code of a command that could not be carried out as it was given.
const WRONG_USE: u8 = 2;

/// Runs the command that the process was started with.
pub fn run() -> ExitCode {
    let mut given = examples::hand_down(Arguments::command(), "tidegate").get_matches();
    let arguments =
        Arguments::from_arg_matches_mut(&mut given).unwrap_or_else(|error| error.exit());
    let environment = Environment::of_process();
    let mut out = io::stdout().lock();
    let result = match &arguments.command {
        Command::Serve(args) => serve::run(args, environment, &mut out),
        Command::Cache(args) => {
            cache::run(args, &mut out, &mut io::stderr().lock()).map_err(Into::into)
        }
        Command::Check(args) => check::run(args, environment, &mut out).map_err(Into::into),
        Command::Compat(args) => compat::run(args, &mut out, &mut io::stderr()),
        Command::Explain(args) => explain::run(args, environment, &mut out).map_err(Into::into),
        Command::Keys(args) => {
            keys::run(args, &mut out, &mut io::stderr().lock()).map_err(Into::into)
        }
        Command::Models(args) => models::run(args, &mut out, &mut io::stderr()),
        Command::Prompts(args) => {
            prompts::run(args, environment, &mut out, &mut io::stderr().lock())
        }
        Command::Record(args) => record::run(args, &mut out, &mut io::stderr()),
        Command::Requests(args) => {
            requests::run(args, &mut out, &mut io::stderr().lock()).map_err(Into::into)
        }
        Command::Rollout(args) => {
            rollout::run(args, &mut out, &mut io::stderr().lock()).map_err(Into::into)
        }
        Command::Sim(args) => sim::run(args, environment, &mut out),
        Command::Status(args) => {
            status::run(args, &mut out, &mut io::stderr().lock()).map_err(Into::into)
        }
        Command::Teams(args) => {
            teams::run(args, &mut out, &mut io::stderr().lock()).map_err(Into::into)
        }
        Command::Usage(args) => {
            usage::run(args, &mut out, &mut io::stderr().lock()).map_err(Into::into)
        }
    };
    match result {
        Ok(code) => ExitCode::from(code),
        // A reader that had enough, such as `head`.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            use io::Write;
            // Standard error is all there is left to say it to.
            let _ = writeln!(io::stderr(), "error: {error:#}");
            // A gateway was started rightly, and something was in the way. Of other commands 1 is
            // the answer no; here was none, for want of a file or of sense in what was given.
            if matches!(arguments.command, Command::Serve(_) | Command::Sim(_)) {
                ExitCode::FAILURE
            } else {
                ExitCode::from(WRONG_USE)
            }
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let cause = error.downcast_ref::<io::Error>();
    cause.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
