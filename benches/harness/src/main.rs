//! What `scripts/bench` measures with: `mock` is a provider that costs as little as can be, `load`
//! a caller that measures and checks every answer.

mod answer;
mod caller;
mod load;
mod mock;
mod tally;
mod wires;

use clap::Parser;

#[derive(Parser)]
#[command(about = "A provider and a load for benchmarks of gateways")]
enum Command {
    /// Serves OpenAI's chat completions, Anthropic's messages and Gemini's generateContent.
    Mock(mock::Args),
    /// Sends chat completions and prints one JSON object of what came back.
    Load(load::Args),
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    match Command::parse() {
        Command::Mock(args) => mock::serve(args).await,
        Command::Load(args) => load::run(args).await,
    }
}
