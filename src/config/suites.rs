//! Reads the cases beside prompts: `prompts/<id>/cases/*.yaml`, one suite a prompt.

use std::collections::BTreeMap;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::check::Checking;
use super::draft::{Source, read_text};
use super::limits::Named;
use super::prompts::{entries, unreadable};
use crate::compat::suite::{Files, Suite, inline_files};
use crate::problems::{KeyPath, Problems};
use crate::prompt::Prompts;
use crate::runs::{CompatSettings, SuiteRow};

/// The cases beside a prompt.
#[derive(Debug)]
pub struct FileSuite {
    /// What they say.
    pub suite: Arc<Suite>,
    /// The same as the store keeps it for runs.
    pub row: SuiteRow,
}

/// The cases beside prompts, by the prompt.
pub type FileSuites = BTreeMap<String, Arc<FileSuite>>;

/// Cases that one note names.
const MOST_NAMED: usize = 5;

/// What an operator should know though it is no problem: cases that the newest version of their
/// prompt cannot be asked.
pub(super) fn notes(suites: &FileSuites, prompts: &Prompts) -> Vec<String> {
    let mut notes = Vec::new();
    for (id, one) in suites {
        let versions = prompts.versions(id).into_iter().flat_map(|versions| versions.iter());
        let Some(newest) = versions.max_by_key(|prompt| prompt.version) else { continue };
        let unaskable = one.suite.unaskable(newest);
        let Some((_, why)) = unaskable.first() else { continue };
        let named: Vec<_> = unaskable.iter().take(MOST_NAMED).map(|(case, _)| &*case.id).collect();
        notes.push(format!(
            "{} of the prompt {id} cannot be asked of its version {}: {} ({why})",
            match unaskable.len() {
                1 => "1 case".to_owned(),
                several => format!("{several} cases"),
            },
            newest.version,
            named.join(", ")
        ));
    }
    notes
}

/// Names of `[compat]` that nothing has: a word with a slip in it would make no run, night after
/// night. A prompt may yet be pushed, so that one is only noted.
pub(super) fn check(
    settings: &CompatSettings,
    named: &Named<'_>,
    prompts: &Prompts,
    checking: &mut Checking<'_>,
) {
    let at = KeyPath::root().key("compat");
    let is_route = |name: &str| named.routes.iter().any(|route| route.name.as_str() == name);
    let mut models = |models: &[String], at: KeyPath| {
        for (index, model) in models.iter().enumerate().filter(|(_, model)| !is_route(model)) {
            if let Some(problem) = named.unknown_model(model) {
                checking.report(at.index(index), problem);
            }
        }
    };
    models(&settings.judge.models, at.key("judge").key("models"));
    for (index, entry) in settings.matrix.iter().enumerate() {
        models(&entry.models, at.key("matrix").index(index).key("models"));
    }
    for entry in settings.matrix.iter().filter(|entry| prompts.versions(&entry.prompt).is_none()) {
        let name = &entry.prompt;
        checking.notes.push(format!(
            "[[compat.matrix]] names the prompt `{name}`, which is not among the files: nothing is run \
             for it until it is pushed"
        ));
    }
}

/// The folder of cases in a prompt's.
const FOLDER: &str = "cases";

// === impl Source ===

impl Source {
    /// Reads the cases of all prompts. What is wrong is reported and left out.
    pub(super) fn read_suites(
        &self,
        prompts: &Prompts,
        digest: &mut Sha256,
        problems: &mut Problems,
    ) -> FileSuites {
        let Some(folder) = self.prompts_folder() else { return FileSuites::new() };
        let mut suites = FileSuites::new();
        for of_prompt in entries(&folder, problems) {
            let cases = of_prompt.join(FOLDER);
            let id = of_prompt.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if !cases.is_dir() {
                continue;
            }
            if prompts.versions(id).is_none() {
                let message = format!("belongs to no prompt: `{id}` has no version");
                problems.add(&cases, 0, KeyPath::root(), message);
                continue;
            }
            if let Some(suite) = read_suite(id, &cases, digest, problems) {
                suites.insert(id.to_owned(), Arc::new(suite));
            }
        }
        suites
    }
}

fn read_suite(
    id: &str,
    folder: &Path,
    digest: &mut Sha256,
    problems: &mut Problems,
) -> Option<FileSuite> {
    let mut files = Vec::new();
    let mut wrong = Vec::new();
    for path in entries(folder, problems).into_iter().filter(|path| is_suite(path)) {
        let text = read_text(&path).map_err(|error| unreadable(&path, &error, problems)).ok()?;
        let mut whole = inline_files(&text, &mut Beside { folder });
        digest.update(path.as_os_str().as_encoded_bytes());
        digest.update(&whole.text);
        whole.tell(&path, problems);
        files.push((path.clone(), std::mem::take(&mut whole.text)));
        wrong.push((path, whole));
    }
    if files.is_empty() {
        return None;
    }
    let mut found = Problems::new();
    let suite = Suite::parse(id, &files, &mut found);
    for (path, whole) in &wrong {
        whole.leave_out_of(path, &mut found);
    }
    problems.extend(found);
    let suite = suite?;
    let prompt = Some(id.to_owned());
    let row = SuiteRow::of_files(id.to_owned(), prompt, suite.hash.clone(), &files, 0);
    Some(FileSuite { suite: Arc::new(suite), row })
}

fn is_suite(path: &Path) -> bool {
    path.extension().is_some_and(|end| ["yaml", "yml", "json"].iter().any(|known| end == *known))
}

/// The files that a suite refers to. They are in the suite's folder or below.
struct Beside<'a> {
    folder: &'a Path,
}

// === impl Beside ===

impl Beside<'_> {
    fn path(&self, wanted: &Path) -> io::Result<PathBuf> {
        let stays = wanted
            .components()
            .all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
        match stays {
            true => Ok(self.folder.join(wanted)),
            false => {
                let problem = "is not in the folder of the cases or below it";
                Err(io::Error::new(io::ErrorKind::PermissionDenied, problem))
            }
        }
    }
}

impl Files for Beside<'_> {
    fn read(&mut self, path: &Path) -> io::Result<String> {
        read_text(&self.path(path)?)
    }

    fn list(&mut self, folder: &Path) -> io::Result<Vec<(String, bool)>> {
        names_in(&self.path(folder)?)
    }
}

/// The names in a folder that are text, each with whether it is a folder itself.
///
/// # Errors
///
/// It cannot be read.
pub(crate) fn names_in(folder: &Path) -> io::Result<Vec<(String, bool)>> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let is_folder = entry.file_type()?.is_dir();
        if let Ok(name) = entry.file_name().into_string() {
            names.push((name, is_folder));
        }
    }
    Ok(names)
}
