//! Reads the cases beside prompts: `prompts/<id>/cases/*.yaml`, one suite a prompt.

use std::collections::BTreeMap;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::draft::{Source, read_text};
use super::prompts::{entries, unreadable};
use crate::compat::suite::{Suite, inline_files};
use crate::problems::{KeyPath, Problems};
use crate::prompt::Prompts;
use crate::runs::SuiteRow;

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

/// What an operator should know though it is no problem: cases that the newest version of their prompt
/// cannot be asked.
pub(super) fn notes(suites: &FileSuites, prompts: &Prompts) -> Vec<String> {
    let mut notes = Vec::new();
    for (id, one) in suites {
        let versions = prompts.versions(id).into_iter().flat_map(|versions| versions.iter());
        let Some(newest) = versions.max_by_key(|prompt| prompt.version) else { continue };
        let unaskable = one.suite.unaskable(newest);
        let Some((_, why)) = unaskable.first() else { continue };
        let named: Vec<_> = unaskable.iter().take(MOST_NAMED).map(|(case, _)| &**case).collect();
        notes.push(format!(
            "{} cases of the prompt {id} cannot be asked of its version {}: {} ({why})",
            unaskable.len(),
            newest.version,
            named.join(", ")
        ));
    }
    notes
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
    for path in entries(folder, problems).into_iter().filter(|path| is_suite(path)) {
        let text = read_text(&path).map_err(|error| unreadable(&path, &error, problems)).ok()?;
        let whole = inline_files(&text, &mut |wanted| read_beside(folder, wanted));
        let whole = whole
            .map_err(|error| problems.add(&path, error.line, error.key, error.problem))
            .ok()?;
        digest.update(path.as_os_str().as_encoded_bytes());
        digest.update(&whole);
        files.push((path, whole));
    }
    if files.is_empty() {
        return None;
    }
    let suite = Suite::parse(id, &files, problems)?;
    let prompt = Some(id.to_owned());
    let row = SuiteRow::of_files(id.to_owned(), prompt, suite.hash.clone(), &files, 0);
    Some(FileSuite { suite: Arc::new(suite), row })
}

fn is_suite(path: &Path) -> bool {
    path.extension().is_some_and(|end| ["yaml", "yml", "json"].iter().any(|known| end == *known))
}

/// A file that a suite refers to. It is in the suite's folder or below.
fn read_beside(folder: &Path, wanted: &Path) -> io::Result<String> {
    let stays =
        wanted.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    if !stays {
        let problem = "is not in the folder of the cases or below it";
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, problem));
    }
    let path: PathBuf = folder.join(wanted);
    read_text(&path)
}
