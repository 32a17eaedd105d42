//! `tidegate sim`: simulated providers on a socket, in every dialect; and rehearsals against them.

use std::future::Future;
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use serde_json::json;
use tokio::net::TcpListener;

use super::check::problems_json;
use crate::config::{Environment, Source};
use crate::problems::Problems;
use crate::rehearse::{self, Options, Rehearsal, RehearsalError};
use crate::sim::{Scenario, SimTransport, serve};

/// Answers as providers do, with made-up completions: OpenAI's, Anthropic's and Gemini's endpoints
/// on one address.
///
/// A scenario says how fast, within which limits, and what goes wrong. A request may ask for faults
/// itself, with the header `x-sim-fault: cut_after=5` or with `[[sim:cut_after=5]]` in the last
/// user message. `GET /sim/stats` counts requests.
///
/// With `--rehearse` nothing is listened on: the scenario's traffic goes through a gateway to its
/// providers, in virtual time, and every figure the scenario expects is printed with its range.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Example:\n  tidegate sim --scenario tests/scenarios/bad_day.toml &\n  \
    curl -N http://127.0.0.1:9100/v1/chat/completions -d '{\"model\": \"tide-small\", \
    \"stream\": true, \"messages\": [{\"role\": \"user\", \"content\": \"Hello\"}]}'\n  \
    tidegate sim --scenario tests/scenarios/outage.toml --rehearse\n\nExit codes of a rehearsal: 0 \
    every figure is in its range, 1 one is not, 2 scenario or configuration are wrong.")]
pub struct SimArgs {
    /// Where to listen; port 0 takes a free one.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9100")]
    pub listen: SocketAddr,
    /// How the providers behave; without one they are quick and healthy.
    #[arg(long, value_name = "FILE")]
    pub scenario: Option<PathBuf>,
    /// Runs the scenario's traffic through a gateway and checks the figures it expects.
    #[arg(long, requires = "scenario", conflicts_with = "listen")]
    pub rehearse: bool,
    /// Rehearses this configuration instead of the scenario's; the simulator stands in for all of
    /// its providers, each under its id.
    #[arg(long, value_name = "FILE", requires = "rehearse")]
    pub config: Option<PathBuf>,
    /// A folder of provider files for that configuration.
    #[arg(long, value_name = "DIR", requires = "rehearse")]
    pub providers: Option<PathBuf>,
    /// Rehearses on real sockets and in real time.
    #[arg(long, requires = "rehearse")]
    pub real: bool,
    /// Answers in JSON.
    #[arg(long)]
    pub json: bool,
}

/// Runs the command until it is interrupted, or the rehearsal to its end. The answer is the exit
/// code: 0 good, 1 a figure is out of its range, 2 the scenario or the configuration has problems.
///
/// # Errors
///
/// Where the scenario cannot be read or the address not listened on.
pub fn run(args: &SimArgs, environment: Environment, out: &mut dyn Write) -> anyhow::Result<u8> {
    let rehearsal = match rehearsal(args)? {
        Ok(rehearsal) => rehearsal,
        Err(problems) => return tell(args, &problems, out),
    };
    if args.rehearse {
        return rehearse(args, &rehearsal, environment, out);
    }
    let scenario = rehearsal.providers;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(listen(args, scenario, out, interrupted()))?;
    // Whatever is still being told is not waited for.
    runtime.shutdown_background();
    Ok(0)
}

/// Says what is wrong.
fn tell(args: &SimArgs, problems: &Problems, out: &mut dyn Write) -> anyhow::Result<u8> {
    if args.json {
        writeln!(out, "{:#}", problems_json(problems))?;
    } else {
        writeln!(out, "{problems}")?;
    }
    Ok(2)
}

fn rehearse(
    args: &SimArgs,
    rehearsal: &Rehearsal,
    environment: Environment,
    out: &mut dyn Write,
) -> anyhow::Result<u8> {
    let (file, providers) = (args.config.clone(), args.providers.clone());
    // The simulator stands in for whoever would want a key.
    let source = Source { file, providers, without_keys: true, ..Source::environment(environment) };
    let options = Options { source, replace: args.config.is_some(), real: args.real };
    let report = match rehearse::run(rehearsal, &options) {
        Ok(report) => report,
        Err(RehearsalError::Config(problems)) => return tell(args, &problems, out),
        Err(error) => return Err(error.into()),
    };
    if args.json {
        writeln!(out, "{:#}", json!(report))?;
    } else {
        writeln!(out, "{report}")?;
    }
    Ok(u8::from(!report.is_good()))
}

fn rehearsal(args: &SimArgs) -> anyhow::Result<Result<Rehearsal, Problems>> {
    let Some(file) = &args.scenario else {
        return Ok(Ok(Rehearsal::of(Scenario::default())));
    };
    let text = std::fs::read_to_string(file)
        .with_context(|| format!("cannot read the scenario {}", file.display()))?;
    Ok(Rehearsal::parse(file, &text))
}

/// Listens, says where, and serves until `stop` completes.
async fn listen(
    args: &SimArgs,
    scenario: Scenario,
    out: &mut dyn Write,
    stop: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let listener = TcpListener::bind(args.listen)
        .await
        .with_context(|| format!("cannot listen on {}", args.listen))?;
    let address = listener.local_addr()?;
    if args.json {
        let urls = json!({
            "openai-chat": format!("http://{address}/v1"),
            "anthropic": format!("http://{address}/v1"),
            "gemini": format!("http://{address}/v1beta"),
        });
        writeln!(out, "{}", json!({"listen": address.to_string(), "base_urls": urls}))?;
    } else {
        writeln!(out, "simulated providers on http://{address}")?;
        writeln!(out, "  base URL of openai-chat and anthropic: http://{address}/v1")?;
        writeln!(out, "  base URL of gemini: http://{address}/v1beta")?;
        writeln!(out, "  counts: http://{address}/sim/stats")?;
    }
    out.flush()?;
    serve(listener, SimTransport::new(scenario), stop).await?;
    Ok(())
}

/// Completes on Ctrl-C or a polite request to end.
async fn interrupted() {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminate) = signal(SignalKind::terminate()) else {
        _ = tokio::signal::ctrl_c().await;
        return;
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
}
