//! `tidegate prompts push`: versions of files become versions of a running gateway.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde_json::{Value, json};

use super::super::check::problems_json;
use super::super::client::{AdminArgs, ClientError, encoded};
use crate::problems::Problems;
use crate::prompt::{Prompt, Prompts};

/// The largest file that is read.
const MAX_FILE_BYTES: u64 = 4 << 20;

/// Reads files, and pushes what they say, lowest version first. The first that is refused ends it.
pub(super) fn run(
    paths: &[PathBuf],
    admin: &AdminArgs,
    as_json: bool,
    (out, complaints): (&mut dyn Write, &mut dyn Write),
) -> anyhow::Result<u8> {
    let prompts = match read(paths)? {
        Ok(prompts) => prompts,
        Err(problems) if as_json => {
            writeln!(out, "{:#}", problems_json(&problems))?;
            return Ok(2);
        }
        Err(problems) => {
            writeln!(complaints, "{problems}")?;
            return Ok(2);
        }
    };
    let (pushed, failure) = push(&prompts, admin);
    if as_json {
        let mut answer = json!({ "data": pushed });
        if let Some(error) = &failure {
            answer["error"] = Value::from(error.to_string());
        }
        writeln!(out, "{answer:#}")?;
    } else {
        tell(&pushed, failure.as_ref(), (out, complaints))?;
    }
    Ok(failure.map_or(0, |error| error.exit_code()))
}

fn push(prompts: &Prompts, admin: &AdminArgs) -> (Vec<Value>, Option<ClientError>) {
    let mut pushed = Vec::new();
    let client = match admin.client() {
        Ok(client) => client,
        Err(error) => return (pushed, Some(error)),
    };
    for prompt in prompts.iter().flat_map(|(_, versions)| versions.iter()) {
        let path = format!("/prompts/{}/versions", encoded(prompt.id.as_str()));
        match client.call_matching("POST", &path, Some(&body(prompt)), None) {
            Ok((status, answer)) => pushed.push(json!({
                "prompt": prompt.id,
                "version": prompt.version.to_string(),
                "hash": answer.get("hash"),
                "is_new": status == 201,
            })),
            Err(error) => return (pushed, Some(error)),
        }
    }
    (pushed, None)
}

/// What the admin API takes.
fn body(prompt: &Prompt) -> Value {
    let mut body = prompt.content();
    body["version"] = Value::from(prompt.version.to_string());
    body
}

fn tell(
    pushed: &[Value],
    failure: Option<&ClientError>,
    (out, complaints): (&mut dyn Write, &mut dyn Write),
) -> io::Result<()> {
    for one in pushed {
        let member = |name: &str| one.get(name).and_then(Value::as_str).unwrap_or_default();
        let (id, version) = (member("prompt"), member("version"));
        let hash: String = member("hash").chars().take(12).collect();
        let is_new = one.get("is_new").and_then(Value::as_bool).unwrap_or(false);
        let what = if is_new { "is registered" } else { "was registered before" };
        writeln!(out, "{id}@{version} {what} ({hash})")?;
    }
    match failure {
        Some(error) => writeln!(complaints, "{error}"),
        None => Ok(()),
    }
}

/// Reads all versions below these paths; the inner error is what is wrong with them.
fn read(paths: &[PathBuf]) -> anyhow::Result<Result<Prompts, Problems>> {
    let mut files = Vec::new();
    for path in paths {
        // The name of the prompt is that of the folder, which the path may leave unsaid.
        let path = path.canonicalize().with_context(|| format!("{}", path.display()))?;
        if path.is_dir() {
            for below in entries(&path)? {
                match below.is_dir() {
                    true => {
                        files.extend(entries(&below)?.into_iter().filter(|one| is_version(one)))
                    }
                    false if is_version(&below) => files.push(below),
                    false => {}
                }
            }
        } else {
            files.push(path);
        }
    }
    if files.is_empty() {
        bail!("there is no file of a prompt, such as prompts/support-reply/1.2.0.toml");
    }
    let mut texts = Vec::new();
    for file in files {
        if file.metadata().is_ok_and(|about| about.len() > MAX_FILE_BYTES) {
            bail!("{}: the file is larger than 4MiB", file.display());
        }
        let text = std::fs::read_to_string(&file)
            .with_context(|| format!("cannot read {}", file.display()))?;
        texts.push((file, text));
    }
    let mut problems = Problems::new();
    let texts = texts.iter().map(|(path, text)| (path.as_path(), text.as_str()));
    let prompts = Prompts::parse(texts, None, &mut problems);
    Ok(if problems.is_empty() { Ok(prompts) } else { Err(problems) })
}

fn entries(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries =
        std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut paths: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    Ok(paths)
}

/// Whether a file is one of a version: labels are set by `tidegate prompts label`.
fn is_version(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "toml")
        && path.file_name().is_some_and(|name| name != "labels.toml")
}
