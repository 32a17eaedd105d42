//! `tidegate prompts`: registered prompts, as files have them and as a gateway does.
//!
//! What can be seen without a gateway is: `list`, `show`, `diff` and `render` read the files of the
//! folder `prompts` until a gateway is named by `--url` or `TIDEGATE_URL`. What changes something
//! asks a gateway in any case.

use std::io::Write;
use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::client::{AdminArgs, DEFAULT_URL};
use crate::config::Environment;

mod files;
mod gateway;
mod push;
mod words;

/// Lists, shows, compares and renders registered prompts: those of the folder `prompts`, or, with
/// --url or TIDEGATE_URL, those of a running gateway. Pushes versions to it and moves labels.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:\n  tidegate prompts list\n  \
                  tidegate prompts show support-reply 1.0.0\n  \
                  tidegate prompts render support-reply --var company=Acme --var 'message=Where is my order?'\n  \
                  tidegate prompts diff support-reply 1.0.0 1.1.0\n  \
                  tidegate prompts push prompts/support-reply/1.2.0.toml\n  \
                  tidegate prompts label support-reply production 1.2.0\n  \
                  tidegate prompts label support-reply --url http://127.0.0.1:8080\n  \
                  tidegate prompts deprecate support-reply 1.0.0 --reason 'too curt'\n\n\
                  Exit codes: 0 good; 1 there is no such prompt, or the gateway refused; 2 wrong use, \
                  problems with files, or no gateway.")]
pub struct PromptsArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: PromptsCommand,
    /// The configuration file, beside which the folder `prompts` is.
    #[arg(long, global = true, value_name = "FILE", env = "TIDEGATE_CONFIG")]
    pub config: Option<PathBuf>,
    /// The folder of registered prompts. Without one: `prompts` beside the configuration file;
    /// where there is no such file, `prompts` here.
    #[arg(long, global = true, value_name = "DIR", env = "TIDEGATE_PROMPTS")]
    pub prompts: Option<PathBuf>,
    /// The gateway that is asked instead of files. What changes something asks
    /// http://127.0.0.1:8080 where none is given.
    #[arg(long, global = true, value_name = "URL", env = "TIDEGATE_URL")]
    pub url: Option<String>,
    /// The admin key; see what the gateway printed at its first start.
    #[arg(
        long,
        global = true,
        value_name = "KEY",
        env = "TIDEGATE_ADMIN_KEY",
        hide_env_values = true
    )]
    pub admin_key: Option<AdminKey>,
    /// Answers in JSON.
    #[arg(long, global = true)]
    pub json: bool,
}

/// An admin key, which is not shown.
#[derive(Clone)]
pub struct AdminKey(String);

/// What can be done with prompts.
#[derive(Debug, Clone, Subcommand)]
pub enum PromptsCommand {
    /// Lists all versions of all prompts.
    List,
    /// Shows one version: what it says, its variables, and what it asks for.
    Show {
        /// The prompt.
        id: String,
        /// The version, a range such as `^1.2`, or a label. Without it: `production`, else the
        /// newest.
        #[arg(id = "wanted", value_name = "VERSION")]
        version: Option<String>,
    },
    /// Shows what differs between two versions, in words and line by line.
    Diff {
        /// The prompt.
        id: String,
        /// The version before, as for `show`.
        from: String,
        /// The version after, as for `show`.
        to: String,
    },
    /// Fills in variables and shows the messages, as a model would get them.
    Render {
        /// The prompt.
        id: String,
        /// The version, as for `show`.
        #[arg(id = "wanted", value_name = "VERSION")]
        version: Option<String>,
        /// A variable. What is JSON and no text is taken as such: `--var sentences=3`.
        #[arg(long = "var", value_name = "NAME=VALUE")]
        vars: Vec<String>,
        /// A file with all variables as a JSON object; `-` is standard input.
        #[arg(long, value_name = "FILE")]
        variables: Option<PathBuf>,
    },
    /// Registers versions in a running gateway, lowest first. One that is there already and says
    /// the same is passed over.
    Push {
        /// A file such as `prompts/support-reply/1.2.0.toml`, the folder of a prompt, or a folder
        /// of such folders. Labels are not pushed.
        #[arg(required = true, value_name = "FILE_OR_FOLDER")]
        paths: Vec<PathBuf>,
    },
    /// Shows the labels of a prompt, the history of one, or lets one stand for a version.
    Label(LabelArgs),
    /// Says of a version that it should not be used any more.
    Deprecate {
        /// The prompt.
        id: String,
        /// The version, such as `1.0.0`.
        #[arg(id = "wanted", value_name = "VERSION")]
        version: String,
        /// Why; callers see it.
        #[arg(long, value_name = "TEXT", required_unless_present = "undo")]
        reason: Option<String>,
        /// Since when: a day or a time; today where it is not given.
        #[arg(long, value_name = "TIME")]
        at: Option<String>,
        /// Takes it back.
        #[arg(long, conflicts_with_all = ["reason", "at"])]
        undo: bool,
    },
}

/// What becomes of a label.
#[derive(Debug, Clone, Args)]
pub struct LabelArgs {
    /// The prompt.
    pub id: String,
    /// The label. Without it: all labels.
    pub label: Option<String>,
    /// The version that it stands for from now on, such as `1.2.0`. Without it: its history.
    #[arg(id = "wanted", value_name = "VERSION")]
    pub version: Option<String>,
    /// Lets only those change it from then on who say --force.
    #[arg(long, requires = "wanted")]
    pub protect: bool,
    /// Lets everybody change it again.
    #[arg(long, requires = "wanted", conflicts_with = "protect")]
    pub unprotect: bool,
    /// Changes it although it is protected.
    #[arg(long)]
    pub force: bool,
    /// Changes it only if it still has this etag.
    #[arg(long, value_name = "ETAG")]
    pub if_match: Option<u64>,
    /// Deletes it.
    #[arg(long, requires = "label", conflicts_with = "wanted")]
    pub delete: bool,
}

/// Runs the command. The answer is the exit code.
///
/// # Errors
///
/// Where a file cannot be read or `out` cannot be written to.
pub fn run(
    args: &PromptsArgs,
    environment: Environment,
    out: &mut dyn Write,
    complaints: &mut dyn Write,
) -> anyhow::Result<u8> {
    use PromptsCommand as C;
    let admin = || AdminArgs {
        url: args.url.clone().unwrap_or_else(|| DEFAULT_URL.to_owned()),
        admin_key: args.admin_key.as_ref().map(|key| key.0.clone()),
    };
    match &args.command {
        C::Push { paths } => push::run(paths, &admin(), args.json, (out, complaints)),
        C::Label(_) | C::Deprecate { .. } => gateway::run(args, &admin(), out, complaints),
        C::List | C::Show { .. } | C::Diff { .. } | C::Render { .. } => match &args.url {
            Some(_) => gateway::run(args, &admin(), out, complaints),
            None => files::run(args, environment, out, complaints),
        },
    }
}

// === impl AdminKey ===

impl std::str::FromStr for AdminKey {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

impl std::fmt::Debug for AdminKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("<secret>")
    }
}
