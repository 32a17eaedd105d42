//! Suites in files.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use crate::cli::check::problems_json;
use crate::compat::suite::{Suite, inline_files};
use crate::problems::Problems;

/// The largest file that a suite refers to.
const MAX_FILE_BYTES: u64 = 16 << 20;

/// Whether an argument names a file and not a suite.
pub(super) fn is_file(suite: &str) -> bool {
    let path = Path::new(suite);
    path.extension().is_some_and(|end| ["yaml", "yml", "json"].iter().any(|known| end == *known))
}

/// Says what of a file is understood.
pub(super) fn check(
    file: &Path,
    json: bool,
    out: &mut dyn Write,
    complaints: &mut dyn Write,
) -> anyhow::Result<u8> {
    let text = whole(file)?;
    let mut problems = Problems::new();
    let id = name_of(file);
    let suite = Suite::parse(&id, &[(file.to_owned(), text)], &mut problems);
    if json {
        let found = problems_json(&problems);
        let cases = suite.as_ref().map_or(0, |suite| suite.cases.len());
        writeln!(out, "{:#}", json!({ "suite": id, "cases": cases, "problems": found }))?;
    } else {
        write!(complaints, "{problems}")?;
        if !problems.is_empty() {
            writeln!(complaints)?;
        }
        if let Some(suite) = &suite {
            writeln!(
                out,
                "{}: {} cases, {} prompts, {} models",
                file.display(),
                suite.cases.len(),
                suite.prompts.len(),
                suite.models.len()
            )?;
        }
    }
    Ok(if problems.is_empty() { 0 } else { 2 })
}

/// A suite as the admin API takes it.
pub(super) fn suite_body(
    file: &Path,
    id: Option<&str>,
    prompt: Option<&str>,
) -> anyhow::Result<Value> {
    let id = id.map_or_else(|| name_of(file), str::to_owned);
    Ok(json!({ "id": id, "prompt": prompt, "text": whole(file)? }))
}

/// The text with what it refers to put in.
fn whole(file: &Path) -> anyhow::Result<String> {
    let text = read(file).with_context(|| format!("{} cannot be read", file.display()))?;
    let folder = file.parent().map(Path::to_owned).unwrap_or_default();
    let mut beside = |path: &Path| read(&folder.join(path));
    match inline_files(&text, &mut beside) {
        Ok(text) => Ok(text),
        Err(problem) => bail!("{}: {problem}", file.display()),
    }
}

fn read(path: &Path) -> io::Result<String> {
    let bytes = fs::metadata(path)?.len();
    if bytes > MAX_FILE_BYTES {
        let problem = format!("has {bytes} bytes, and {MAX_FILE_BYTES} at most are read");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, problem));
    }
    fs::read_to_string(path)
}

/// `tests/Support Reply.yaml` is `support-reply`.
fn name_of(file: &Path) -> String {
    let stem = file.file_stem().map(PathBuf::from).unwrap_or_default();
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let name: String = stem.to_string_lossy().chars().map(plain).collect();
    name.trim_matches('-').to_owned()
}
