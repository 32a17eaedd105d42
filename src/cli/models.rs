//! `tidegate models`: the weights of the local embedder.

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use serde_json::json;

use crate::catalog::BaseUrl;

mod download;

use download::Download;

/// Manages the models that the gateway runs itself.
#[derive(Debug, Clone, Args)]
pub struct ModelsArgs {
    #[command(subcommand)]
    command: ModelsCommand,
}

#[derive(Debug, Clone, Subcommand)]
enum ModelsCommand {
    Fetch(FetchArgs),
}

/// Downloads a model for `[embedders]` into a folder.
///
/// Every file is checked against its SHA-256 and put in its place only when it is whole. What was
/// interrupted goes on where it stopped; what is there already is only checked.
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "Example:\n  tidegate models fetch --to models/all-MiniLM-L6-v2\n\nThen, in the \
    configuration:\n  [embedders.small]\n  folder = \"models/all-MiniLM-L6-v2\""
)]
struct FetchArgs {
    /// The model.
    #[arg(value_name = "NAME", default_value = MINILM.name)]
    name: String,
    /// The folder. Without it: the model's name under `models`.
    #[arg(long, value_name = "DIR")]
    to: Option<PathBuf>,
    /// Where models come from: Hugging Face, or a mirror with the same paths.
    #[arg(long, value_name = "URL", default_value = "https://huggingface.co")]
    from: String,
    /// Answers in JSON.
    #[arg(long)]
    json: bool,
}

/// A model that is known to work, to the byte.
struct Model {
    name: &'static str,
    repository: &'static str,
    revision: &'static str,
    files: [File; 2],
}

struct File {
    name: &'static str,
    bytes: u64,
    sha256: &'static str,
}

const MINILM: Model = Model {
    name: "all-MiniLM-L6-v2",
    repository: "sentence-transformers/all-MiniLM-L6-v2",
    revision: "c9745ed1d9f207416be6d2e6f8de32d1f16199bf",
    files: [
        File {
            name: "tokenizer.json",
            bytes: 466_247,
            sha256: "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
        },
        File {
            name: "model.safetensors",
            bytes: 90_868_376,
            sha256: "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        },
    ],
};

/// Runs the command.
///
/// # Errors
///
/// Where a file cannot be downloaded or is not what it should be.
pub fn run(args: &ModelsArgs, out: &mut dyn Write, notes: &mut dyn Write) -> anyhow::Result<u8> {
    let ModelsCommand::Fetch(args) = &args.command;
    if args.name != MINILM.name {
        writeln!(notes, "error: unknown model {:?}; known is {}", args.name, MINILM.name)?;
        return Ok(2);
    }
    let base = match args.from.parse::<BaseUrl>() {
        Ok(base) if !base.origin.sim => base,
        Ok(_) => bail!("a model cannot come from the simulator"),
        Err(error) => {
            writeln!(notes, "error: --from: {error}")?;
            return Ok(2);
        }
    };
    let folder = args.to.clone().unwrap_or_else(|| Path::new("models").join(MINILM.name));
    std::fs::create_dir_all(&folder)
        .with_context(|| format!("cannot make the folder {}", folder.display()))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut downloaded = 0;
    for file in &MINILM.files {
        let Model { repository, revision, .. } = MINILM;
        let download = Download {
            url: format!("{base}/{repository}/resolve/{revision}/{}", file.name),
            path: folder.join(file.name),
            bytes: file.bytes,
            sha256: file.sha256,
        };
        let mut progress = Progress { name: file.name, of: file.bytes, out: notes, percent: None };
        let fetched = runtime.block_on(download.run(&mut |bytes| progress.tell(bytes)));
        progress.end();
        downloaded += fetched.with_context(|| format!("cannot fetch {}", file.name))?;
    }
    if args.json {
        let folder = folder.display().to_string();
        let answer =
            json!({ "model": MINILM.name, "folder": folder, "downloaded_bytes": downloaded });
        writeln!(out, "{answer:#}")?;
    } else {
        let folder = folder.display();
        writeln!(
            out,
            "{} is in {folder}; use it as [embedders.NAME] folder = \"{folder}\"",
            MINILM.name
        )?;
    }
    Ok(0)
}

/// A line on a terminal that says how far a file is.
struct Progress<'a> {
    name: &'a str,
    of: u64,
    out: &'a mut dyn Write,
    percent: Option<u64>,
}

// === impl Progress ===

impl Progress<'_> {
    fn tell(&mut self, bytes: u64) {
        let percent = bytes.saturating_mul(100) / self.of.max(1);
        if io::stderr().is_terminal() && self.percent != Some(percent) {
            self.percent = Some(percent);
            // A terminal that is gone needs no progress.
            let _ = write!(self.out, "\r{}: {percent} % of {} MB", self.name, self.of / 1_000_000);
            let _ = self.out.flush();
        }
    }

    fn end(&mut self) {
        if self.percent.is_some() {
            let _ = writeln!(self.out);
        }
    }
}
