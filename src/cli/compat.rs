//! `tidegate compat`: runs suites of cases that a prompt or a model has to pass before it may take
//! another one's place, and shows what came of it.

use std::io::Write;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::client::AdminArgs;
use crate::units::UsdAmount;

mod calibrate;
mod cases;
mod files;
mod lists;
mod matrix;
mod outputs;
mod runs;

#[cfg(test)]
mod tests;

/// Compares a candidate with what is served today, case by case, and says whether it may take its
/// place.
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "Examples:\n  tidegate compat run support-reply --from 1.0.0 --to 1.1.0\n  \
                  tidegate compat run support-reply --to-model anthropic/claude-sonnet-4-6 --html report.html\n  \
                  tidegate compat run promptfooconfig.yaml --junit results.xml\n  \
                  tidegate compat check promptfooconfig.yaml\n  \
                  tidegate compat list --prompt support-reply --state running\n  \
                  tidegate compat matrix support-reply\n  \
                  tidegate compat calibrate --judge gemini/gemini-2.5-pro --labels labels.jsonl\n  \
                  tidegate compat cases cr_Ab3dE6gH9jK2 --failing --out prompts/support-reply/cases/incidents.yaml\n  \
                  tidegate compat run support-reply --only incidents --to-model openai/gpt-5-mini\n  \
                  tidegate compat watch cr_Ab3dE6gH9jK2\n  \
                  tidegate compat cancel cr_Ab3dE6gH9jK2\n  \
                  tidegate compat drift\n  \
                  tidegate compat suites\n  \
                  tidegate compat push promptfooconfig.yaml\n  \
                  tidegate compat report cr_Ab3dE6gH9jK2 --html report.html\n\n\
                  Exit codes of run, watch and report: 0 compatible; 1 incompatible; 2 not decided, or \
                  it could not be made. Of drift: 1 something has drifted. Of the others: 0 good; 1 the \
                  gateway refused; 2 wrong use, a file that cannot be read or written, or no gateway."
)]
pub struct CompatArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: CompatCommand,
    /// Where the gateway is.
    #[command(flatten)]
    pub admin: AdminArgs,
    /// Answers in JSON.
    #[arg(long, global = true)]
    pub json: bool,
}

/// What can be done with suites and their runs.
#[derive(Debug, Clone, Subcommand)]
pub enum CompatCommand {
    /// Runs a suite, waits for the verdict, and shows it.
    Run(Box<RunArgs>),
    /// Waits for the verdict of a run that goes on, and shows it.
    Watch {
        /// Its id: `cr_...`.
        id: String,
        /// Where the report is written to.
        #[command(flatten)]
        files: FileArgs,
    },
    /// Shows the report of a run, or writes it to files.
    Report {
        /// Its id: `cr_...`.
        id: String,
        /// Where it is written to.
        #[command(flatten)]
        files: FileArgs,
    },
    /// Writes the cases of a run as incidents, to be asked of whatever comes after.
    Cases(cases::CasesArgs),
    /// Lists runs, newest first.
    List(ListArgs),
    /// Shows what is known of each version of a prompt on each model.
    Matrix {
        /// The registered prompt.
        prompt: String,
    },
    /// Lists prompts that have drifted: the same version on the same model answers worse than the
    /// nights before; and those whose last night could not tell. Exit code 1 while one has drifted.
    Drift,
    /// Ends a run. What it has asked stays.
    Cancel {
        /// Its id: `cr_...`.
        id: String,
    },
    /// Lists suites: those beside registered prompts, and those that were pushed.
    Suites,
    /// Gives a gateway a suite, or another text of one.
    Push {
        /// A file in promptfoo's YAML.
        file: PathBuf,
        /// The suite's id; without it the name of the file.
        #[arg(long, value_name = "ID")]
        id: Option<String>,
        /// The registered prompt whose versions it is about.
        #[arg(long, value_name = "ID")]
        prompt: Option<String>,
    },
    /// Holds a judge against answers that people have labelled: only what a calibrated judge says
    /// counts.
    Calibrate {
        /// The judge, as `compat.judge.models` names it.
        #[arg(long, value_name = "MODEL")]
        judge: String,
        /// JSON lines: `{"question", "answer", "rubric" or "facts", "reference", "passed": true}`.
        #[arg(long, value_name = "FILE")]
        labels: PathBuf,
    },
    /// Says what of a file in promptfoo's YAML is understood. With an admin key the gateway is
    /// asked, too, which of its models it does not know.
    Check {
        /// The file.
        file: PathBuf,
        /// The registered prompt whose versions its cases are for: the gateway says which cannot be
        /// asked.
        #[arg(long, value_name = "ID")]
        prompt: Option<String>,
    },
}

/// Which runs are listed.
#[derive(Debug, Clone, Default, Args)]
pub struct ListArgs {
    /// Only those of this suite.
    #[arg(long, value_name = "ID")]
    pub suite: Option<String>,
    /// Only those of this registered prompt's versions.
    #[arg(long, value_name = "ID")]
    pub prompt: Option<String>,
    /// Only those in this state.
    #[arg(long, value_enum, value_name = "STATE")]
    pub state: Option<StateOption>,
    /// Only those that were made for this reason.
    #[arg(long, value_enum, value_name = "KIND")]
    pub kind: Option<KindOption>,
}

/// Where a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum StateOption {
    /// It waits for its turn.
    Waiting,
    /// It asks.
    Running,
    /// It has a verdict.
    Done,
    /// Somebody ended it.
    Cancelled,
    /// It cannot be made.
    Failed,
}

/// Why a run is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum KindOption {
    /// Somebody asked for it.
    Asked,
    /// It was night.
    Nightly,
    /// It was night, and the prompt is held against itself.
    Drift,
}

/// What is compared with what.
#[derive(Debug, Clone, Default, Args)]
pub struct RunArgs {
    /// The suite: the id of a registered prompt that has cases, of a suite that was pushed, or a
    /// file in promptfoo's YAML.
    pub suite: String,
    /// The version that is served today; `production`, else the newest but one, where nothing is
    /// said. Of a file: which of its prompts, from 0.
    #[arg(long, value_name = "VERSION")]
    pub from: Option<String>,
    /// The version that may take its place; the newest where nothing is said.
    #[arg(long, value_name = "VERSION")]
    pub to: Option<String>,
    /// The model that both are asked of; the one each version was written for where nothing is
    /// said.
    #[arg(long, value_name = "NAME", conflicts_with_all = ["from_model", "to_model"])]
    pub model: Option<String>,
    /// The model that is asked today.
    #[arg(long, value_name = "NAME")]
    pub from_model: Option<String>,
    /// The model that may take its place.
    #[arg(long, value_name = "NAME")]
    pub to_model: Option<String>,
    /// How many cases are asked; by the numbers of the versions where nothing is said.
    #[arg(long, value_enum, value_name = "DEPTH")]
    pub depth: Option<DepthOption>,
    /// Asks only some of the cases: `incidents`, those with a tag, or of one incident.
    #[arg(long, value_name = "WHICH")]
    pub only: Option<String>,
    /// Answers of each side to each case, at first: 1 to 100.
    #[arg(
        long,
        value_name = "N",
        allow_negative_numbers = true,
        value_parser = clap::value_parser!(u32).range(1..=100)
    )]
    pub samples: Option<u32>,
    /// What whatever is drawn is drawn by.
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub seed: Option<u64>,
    /// What it may cost, such as `2.50`.
    #[arg(long, value_name = "USD", allow_negative_numbers = true)]
    pub max_cost: Option<UsdAmount>,
    /// Begins it and does not wait.
    #[arg(long)]
    pub no_wait: bool,
    /// Where the report is written to.
    #[command(flatten)]
    pub files: FileArgs,
}

/// Where a report is written to.
#[derive(Debug, Clone, Default, Args)]
pub struct FileArgs {
    /// A page for a browser, all in one file. `-` is standard output, for one of these files.
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// JUnit's XML, for tools that show test results.
    #[arg(long, value_name = "FILE")]
    pub junit: Option<PathBuf>,
    /// All of it as JSON.
    #[arg(long = "report-json", value_name = "FILE")]
    pub report: Option<PathBuf>,
}

/// How many cases are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DepthOption {
    /// Critical ones and a few of each kind.
    Smoke,
    /// What another structure may break.
    Targeted,
    /// All.
    Full,
}

/// Runs the command. The answer is the exit code: 0 good, 1 the answer is no, 2 not decided, wrong
/// use or no gateway.
///
/// # Errors
///
/// Where nobody reads `out` any more, or `complaints` cannot be written to.
pub fn run(
    args: &CompatArgs,
    out: &mut dyn Write,
    complaints: &mut dyn Write,
) -> anyhow::Result<u8> {
    match carry_out(args, out, complaints) {
        // 1 is the answer no, such as a verdict: nothing else may be.
        Err(error) if !super::is_broken_pipe(&error) => {
            writeln!(complaints, "error: {error:#}")?;
            Ok(2)
        }
        done => done,
    }
}

fn carry_out(
    args: &CompatArgs,
    out: &mut dyn Write,
    complaints: &mut dyn Write,
) -> anyhow::Result<u8> {
    match &args.command {
        CompatCommand::Check { file, prompt } => {
            files::check(args, (file, prompt.as_deref()), out, complaints)
        }
        CompatCommand::Run(run) => runs::begin(args, run, out, complaints),
        CompatCommand::Watch { id, files } => runs::show(args, (id, true), files, out, complaints),
        CompatCommand::Report { id, files } => {
            runs::show(args, (id, false), files, out, complaints)
        }
        CompatCommand::Cases(wanted) => cases::run(args, wanted, out, complaints),
        CompatCommand::Calibrate { judge, labels } => {
            calibrate::run(args, (judge, labels), out, complaints)
        }
        CompatCommand::List(_)
        | CompatCommand::Matrix { .. }
        | CompatCommand::Drift
        | CompatCommand::Cancel { .. }
        | CompatCommand::Suites
        | CompatCommand::Push { .. } => lists::run(args, out, complaints),
    }
}

/// The word of an option's value, which is the admin API's, too.
fn word(option: &impl ValueEnum) -> String {
    option.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}
