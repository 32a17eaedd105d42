//! `tidegate prompts`: registered prompts as their files have them, without a gateway.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::SourceArgs;
use super::check::problems_json;
use super::terms::table;
use crate::config::{Environment, load_prompts};
use crate::prompt::{Prompt, Prompts, Wanted};

/// Lists, shows and renders registered prompts: the files of the folder `prompts`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:\n  tidegate prompts list\n  \
                  tidegate prompts show support-reply ^1\n  \
                  tidegate prompts render support-reply --var company=Acme --var 'message=Where is my order?'\n  \
                  tidegate prompts render extract-invoice 1.0.0 --variables invoice.json --json")]
pub struct PromptsArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: PromptsCommand,
    /// The configuration file, beside which the folder `prompts` is.
    #[arg(long, global = true, value_name = "FILE", env = "TIDEGATE_CONFIG")]
    pub config: Option<PathBuf>,
    /// The folder of registered prompts. Without one: `prompts` beside the configuration file; where
    /// there is no such file, `prompts` here.
    #[arg(long, global = true, value_name = "DIR", env = "TIDEGATE_PROMPTS")]
    pub prompts: Option<PathBuf>,
    /// Answers in JSON.
    #[arg(long, global = true)]
    pub json: bool,
}

/// What can be done with prompts.
#[derive(Debug, Clone, Subcommand)]
pub enum PromptsCommand {
    /// Lists all versions of all prompts.
    List,
    /// Shows one version: what it says, its variables, and what it asks for.
    Show {
        /// The prompt.
        id: String,
        /// The version, a range such as `^1.2`, or a label. Without it: `production`, else the newest.
        #[arg(id = "wanted", value_name = "VERSION")]
        version: Option<String>,
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
}

/// Runs the command. Exit code 1: there is no such prompt, or its variables are not right; 2: there
/// are problems with the files.
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
    let (config, prompts) = (args.config.clone(), args.prompts.clone());
    let source = SourceArgs { config, prompts, providers: None }.source(environment);
    if source.prompts_folder().is_none() {
        bail!(
            "there is no folder `prompts` beside the configuration or here; name one by --prompts"
        );
    }
    let prompts = match load_prompts(&source) {
        Ok(prompts) => prompts,
        Err(problems) if args.json => {
            writeln!(out, "{:#}", problems_json(&problems))?;
            return Ok(2);
        }
        Err(problems) => {
            writeln!(complaints, "{problems}")?;
            return Ok(2);
        }
    };
    let (id, version) = match &args.command {
        PromptsCommand::List => {
            list(&prompts, args.json, out)?;
            return Ok(0);
        }
        PromptsCommand::Show { id, version } | PromptsCommand::Render { id, version, .. } => {
            (id, version)
        }
    };
    let wanted = version.as_deref().map_or(Ok(Wanted::Unsaid), Wanted::parse);
    let found = wanted.and_then(|wanted| prompts.find(id, &wanted).map_err(|none| none.problem));
    let prompt = match found {
        Ok(prompt) => prompt,
        Err(problem) => {
            writeln!(complaints, "{problem}")?;
            return Ok(1);
        }
    };
    match &args.command {
        PromptsCommand::Render { vars, variables, .. } => {
            let given = given(vars, variables.as_deref())?;
            render(prompt, given, args.json, (out, complaints))
        }
        PromptsCommand::Show { .. } | PromptsCommand::List => {
            show(prompt, args.json, out)?;
            Ok(0)
        }
    }
}

fn list(prompts: &Prompts, as_json: bool, out: &mut dyn Write) -> io::Result<()> {
    let mut rows =
        vec![["PROMPT", "VERSION", "LABELS", "TARGET MODEL", "HASH", "ABOUT"].map(str::to_owned)];
    let mut data = Vec::new();
    for (id, versions) in prompts.iter() {
        for prompt in versions.iter() {
            let labels = versions.labels().filter(|(_, version)| *version == prompt.version);
            let labels: Vec<_> = labels.map(|(label, _)| label.to_owned()).collect();
            if as_json {
                let mut view = view(prompt);
                view["labels"] = json!(labels);
                data.push(view);
                continue;
            }
            let hash: String = prompt.hash.to_string().chars().take(12).collect();
            let about = match &prompt.deprecated {
                Some(deprecated) => {
                    format!("deprecated since {}: {}", deprecated.at, deprecated.reason)
                }
                None => prompt.description.clone(),
            };
            let target = prompt.target_model.clone().unwrap_or_else(|| "-".to_owned());
            let labels = if labels.is_empty() { "-".to_owned() } else { labels.join(", ") };
            rows.push([id.to_string(), prompt.version.to_string(), labels, target, hash, about]);
        }
    }
    match as_json {
        true => writeln!(out, "{:#}", json!({ "data": data })),
        false => table(&rows, out),
    }
}

fn show(prompt: &Prompt, as_json: bool, out: &mut dyn Write) -> io::Result<()> {
    let view = view(prompt);
    if as_json {
        return writeln!(out, "{view:#}");
    }
    for (name, value) in view.as_object().into_iter().flatten() {
        match value {
            Value::Null => {}
            Value::String(text) if text.is_empty() => {}
            Value::String(text) => writeln!(out, "{name}: {text}")?,
            Value::Array(list) if list.is_empty() || name == "messages" => {}
            Value::Object(map) if map.is_empty() => {}
            Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
                writeln!(out, "{name}: {value:#}")?;
            }
        }
    }
    for (role, text) in prompt.messages() {
        writeln!(out, "\n--- {}\n{}", role.as_str(), text.trim_end())?;
    }
    Ok(())
}

fn render(
    prompt: &Prompt,
    given: Map<String, Value>,
    as_json: bool,
    (out, complaints): (&mut dyn Write, &mut dyn Write),
) -> anyhow::Result<u8> {
    let rendered = match prompt.render(given) {
        Ok(rendered) => rendered,
        Err(error) => {
            writeln!(complaints, "{}: {error}", prompt.name)?;
            return Ok(1);
        }
    };
    if as_json {
        let messages = rendered.messages.iter();
        let messages: Vec<_> = messages
            .map(|message| json!({"role": message.role.as_str(), "content": message.text}))
            .collect();
        writeln!(out, "{:#}", json!({ "prompt": &*prompt.name, "messages": messages }))?;
        return Ok(0);
    }
    writeln!(out, "{}", prompt.name)?;
    for message in &rendered.messages {
        writeln!(out, "\n--- {}\n{}", message.role.as_str(), message.text)?;
    }
    Ok(0)
}

/// The variables of a command: those of the file, and then each one that was named.
fn given(vars: &[String], file: Option<&Path>) -> anyhow::Result<Map<String, Value>> {
    let mut given = match file {
        None => Map::new(),
        Some(path) => {
            let mut text = String::new();
            if path == Path::new("-") {
                io::stdin().read_to_string(&mut text)?;
            } else {
                text = std::fs::read_to_string(path)
                    .with_context(|| format!("cannot read {}", path.display()))?;
            }
            serde_json::from_str(&text)
                .with_context(|| format!("{} is no JSON object", path.display()))?
        }
    };
    for var in vars {
        let Some((name, value)) = var.split_once('=') else {
            bail!("--var {var}: write it as NAME=VALUE");
        };
        let value = serde_json::from_str(value).unwrap_or_else(|_| Value::from(value));
        given.insert(name.to_owned(), value);
    }
    Ok(given)
}

fn view(prompt: &Prompt) -> Value {
    let messages = prompt.messages();
    let messages: Vec<_> =
        messages.map(|(role, text)| json!({"role": role.as_str(), "content": text})).collect();
    json!({
        "prompt": prompt.id,
        "version": prompt.version.to_string(),
        "description": prompt.description,
        "file": prompt.file.display().to_string(),
        "hash": prompt.hash.to_string(),
        "target_model": prompt.target_model,
        "tested_models": prompt.tested_models,
        "created_at": prompt.created_at,
        "deprecated_at": prompt.deprecated.as_ref().map(|deprecated| &deprecated.at),
        "deprecation_reason": prompt.deprecated.as_ref().map(|deprecated| &deprecated.reason),
        "parameters": prompt.parameters,
        "tools": prompt.tools,
        "response_format": prompt.response_format,
        "variables": prompt.variables(),
        "messages": messages,
    })
}
