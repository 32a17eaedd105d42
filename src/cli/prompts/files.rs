//! Prompts as their files have them, without a gateway.

use std::io::{self, Write};
use std::sync::Arc;

use anyhow::bail;
use serde_json::{Value, json};

use super::super::SourceArgs;
use super::super::check::problems_json;
use super::{PromptsArgs, PromptsCommand, words};
use crate::config::{Environment, load_prompts};
use crate::prompt::{Difference, Prompt, Prompts, Wanted};

/// Runs a command that only looks.
pub(super) fn run(
    args: &PromptsArgs,
    environment: Environment,
    out: &mut dyn Write,
    complaints: &mut dyn Write,
) -> anyhow::Result<u8> {
    let (config, prompts) = (args.config.clone(), args.prompts.clone());
    let source = SourceArgs { config, prompts, providers: None }.source(environment);
    if source.prompts_folder().is_none() {
        bail!(
            "there is no folder `prompts` beside the configuration or here; name one by --prompts, \
             or a gateway by --url"
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
    match look(args, &prompts, (&mut *out, &mut *complaints))? {
        Ok(code) => Ok(code),
        Err(problem) => {
            writeln!(complaints, "{problem}")?;
            Ok(1)
        }
    }
}

/// The inner error is that there is no such prompt.
fn look(
    args: &PromptsArgs,
    prompts: &Prompts,
    (out, complaints): (&mut dyn Write, &mut dyn Write),
) -> anyhow::Result<Result<u8, String>> {
    use PromptsCommand as C;
    let find = |id: &str, version: Option<&str>| -> Result<Arc<Prompt>, String> {
        let wanted = version.map_or(Ok(Wanted::Unsaid), Wanted::parse)?;
        prompts.find(id, &wanted).cloned().map_err(|none| none.problem)
    };
    Ok(match &args.command {
        C::List => list(prompts, args.json, out).map(|()| Ok(0))?,
        C::Show { id, version } => match find(id, version.as_deref()) {
            Ok(prompt) => words::show(&view(&prompt), args.json, out).map(|()| Ok(0))?,
            Err(problem) => Err(problem),
        },
        C::Render { id, version, vars, variables } => match find(id, version.as_deref()) {
            Ok(prompt) => {
                let given = words::given(vars, variables.as_deref())?;
                Ok(words::render(&prompt, given, args.json, (out, complaints))?)
            }
            Err(problem) => Err(problem),
        },
        C::Diff { id, from, to } => {
            match find(id, Some(from)).and_then(|from| Ok((from, find(id, Some(to))?))) {
                Ok((from, to)) => {
                    let view = diff(&from, &to);
                    words::diff(&view, args.json, out).map(|()| Ok(0))?
                }
                Err(problem) => Err(problem),
            }
        }
        C::Push { .. } | C::Label(_) | C::Deprecate { .. } => Err("this asks a gateway".to_owned()),
    })
}

fn diff(from: &Prompt, to: &Prompt) -> Value {
    let Difference { change, what, lines } = Difference::between(from, to);
    json!({
        "prompt": from.id,
        "from": from.version.to_string(),
        "to": to.version.to_string(),
        "change": change.as_str(),
        "what": what,
        "lines": lines,
    })
}

fn list(prompts: &Prompts, as_json: bool, out: &mut dyn Write) -> io::Result<()> {
    let mut data = Vec::new();
    for (id, versions) in prompts.iter() {
        for prompt in versions.iter() {
            let labels = versions.labels().filter(|(_, version)| *version == prompt.version);
            let labels: Vec<_> = labels.map(|(label, _)| label.to_owned()).collect();
            let mut view = view(prompt);
            view["prompt"] = json!(id);
            view["labels"] = json!(labels);
            data.push(view);
        }
    }
    words::list(&data, as_json, out)
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
