//! Suites in files.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::CompatArgs;
use super::runs::in_flags;
use crate::cli::check::problems_json;
use crate::compat::Same;
use crate::compat::report::counted;
use crate::compat::suite::{Files, Suite, inline_files};
use crate::config::names_in;
use crate::problems::{KeyPath, Problems};

/// The largest file that a suite refers to.
const MAX_FILE_BYTES: u64 = 16 << 20;

/// Whether an argument names a file and not a suite.
pub(super) fn is_file(suite: &str) -> bool {
    let path = Path::new(suite);
    path.extension().is_some_and(|end| ["yaml", "yml", "json"].iter().any(|known| end == *known))
}

/// Says what of a file is understood; and, where there is an admin key, what of it the gateway does
/// not know. The exit code: 0 all, 1 the gateway does not know something, 2 the file is wrong or
/// cannot be read.
pub(super) fn check(
    args: &CompatArgs,
    (file, prompt): (&Path, Option<&str>),
    out: &mut dyn Write,
    complaints: &mut dyn Write,
) -> anyhow::Result<u8> {
    let id = name_of(file);
    let (text, suite, problems) = parsed(&id, file);
    let files = [(file.to_owned(), text)];
    let asks = suite.is_some() && (prompt.is_some() || args.admin.admin_key.is_some());
    let asked = asks.then(|| {
        let [(_, text)] = &files;
        let body = json!({ "id": id, "prompt": prompt, "text": text,
            "file": file.display().to_string(), "dry_run": true });
        let client = args.admin.client()?;
        client.call("POST", "/compat/suites", Some(&body)).map_err(in_flags)
    });
    if args.json {
        let mut found = problems_json(&problems);
        found["ok"] = Value::from(problems.is_empty());
        let cases = suite.as_ref().map_or(0, |suite| suite.cases.len());
        let gateway = match &asked {
            Some(Ok(view)) => {
                json!({ "unknown_models": view["unknown_models"], "notes": view["notes"] })
            }
            Some(Err(error)) => json!({ "error": error.to_string() }),
            None => Value::Null,
        };
        let said = json!({ "suite": id, "cases": cases, "problems": found, "gateway": gateway });
        writeln!(out, "{said:#}")?;
    } else {
        write!(complaints, "{problems}")?;
        if !problems.is_empty() {
            writeln!(complaints)?;
        }
        if let Some(suite) = &suite {
            writeln!(
                out,
                "{}: {}, {}, {}",
                file.display(),
                counted(suite.cases.len() as u64, "case"),
                counted(suite.prompts.len() as u64, "prompt"),
                counted(suite.models.len() as u64, "model")
            )?;
            // Where the gateway is asked, it says so among its notes.
            if let (Some(same), None) = (Same::in_words(&suite.same()), &asked) {
                writeln!(out, "{same}")?;
            }
        }
        match &asked {
            Some(Ok(view)) => notes(view, complaints)?,
            Some(Err(error)) => writeln!(complaints, "{error}")?,
            None => {}
        }
    }
    Ok(match asked {
        _ if !problems.is_empty() => 2,
        Some(Ok(view)) => {
            u8::from(view["unknown_models"].as_array().is_some_and(|all| !all.is_empty()))
        }
        Some(Err(error)) => error.exit_code(),
        None => 0,
    })
}

/// What the gateway has to say of a suite that it has read.
pub(super) fn notes(view: &Value, complaints: &mut dyn Write) -> io::Result<()> {
    let of = |member: &str| {
        let said = view.get(member).and_then(Value::as_array).map(Vec::as_slice);
        said.unwrap_or_default().iter().filter_map(Value::as_str)
    };
    let unknown: Vec<_> = of("unknown_models").collect();
    if !unknown.is_empty() {
        writeln!(complaints, "this gateway does not know {}", unknown.join(", "))?;
    }
    for note in of("notes") {
        writeln!(complaints, "{note}")?;
    }
    Ok(())
}

/// A suite as the admin API takes it; or all that is wrong with it.
pub(super) fn suite_body(
    file: &Path,
    id: Option<&str>,
    prompt: Option<&str>,
) -> Result<Value, Problems> {
    let id = id.map_or_else(|| name_of(file), str::to_owned);
    let name = file.display().to_string();
    let (text, _, problems) = parsed(&id, file);
    match problems.is_empty() {
        true => Ok(json!({ "id": id, "prompt": prompt, "text": text, "file": name })),
        false => Err(problems),
    }
}

/// Says what is wrong with a file. The exit code.
pub(super) fn wrong(
    problems: &Problems,
    json: bool,
    (out, complaints): (&mut dyn Write, &mut dyn Write),
) -> io::Result<u8> {
    if json {
        writeln!(out, "{:#}", problems_json(problems))?;
    } else {
        writeln!(complaints, "{problems}")?;
    }
    Ok(2)
}

/// The text with what it refers to put in, and what it says; all that is wrong at once.
fn parsed(id: &str, file: &Path) -> (String, Option<Suite>, Problems) {
    let mut problems = Problems::new();
    let text = match read(file) {
        Ok(text) => text,
        Err(error) => {
            problems.add(file, 0, KeyPath::root(), format!("cannot be read: {error}"));
            return (String::new(), None, problems);
        }
    };
    let folder = file.parent().map(Path::to_owned).unwrap_or_default();
    let mut whole = inline_files(&text, &mut Beside { folder });
    whole.tell(file, &mut problems);
    let files = [(file.to_owned(), std::mem::take(&mut whole.text))];
    let mut found = Problems::new();
    let suite = Suite::parse(id, &files, &mut found);
    whole.leave_out_of(file, &mut found);
    problems.extend(found);
    let [(_, text)] = files;
    (text, suite, problems)
}

/// Files beside the one that refers to them, or wherever it says.
struct Beside {
    folder: PathBuf,
}

// === impl Beside ===

impl Files for Beside {
    fn read(&mut self, path: &Path) -> io::Result<String> {
        read(&self.folder.join(path))
    }

    fn list(&mut self, folder: &Path) -> io::Result<Vec<(String, bool)>> {
        names_in(&self.folder.join(folder))
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
