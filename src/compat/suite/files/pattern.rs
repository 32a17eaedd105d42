//! Patterns for several files: `tests/*.yaml`, `**/edge-?.csv`, `{basic,edge}.yaml`. A name that
//! begins with a dot is only meant where the pattern has the dot.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use super::Files;

/// Files that one pattern may stand for.
const MAX_FILES: usize = 1_000;
/// Names that are looked at for one pattern.
const MAX_NAMES: usize = 50_000;
/// Patterns that braces may come to.
const MAX_ALTERNATIVES: usize = 100;

/// Whether a path stands for several files.
pub(super) fn is_pattern(path: &str) -> bool {
    path.contains(['*', '?']) || braces(path).is_some()
}

/// The files that a pattern stands for, sorted.
pub(super) fn expand(pattern: &str, files: &mut dyn Files) -> Result<Vec<PathBuf>, String> {
    if pattern.contains(['[', ']', '!', '(']) {
        return Err(format!(
            "{pattern:?}: of patterns `*`, `?`, `**` and `{{a,b}}` are read; name the files"
        ));
    }
    let mut search = Search { files, found: BTreeSet::new(), names: 0 };
    for one in alternatives(pattern)? {
        let (folder, rest) = match one.strip_prefix('/') {
            Some(rest) => (PathBuf::from("/"), rest),
            None => (PathBuf::new(), one.as_str()),
        };
        let parts: Vec<&str> = rest.split('/').filter(|part| !part.is_empty()).collect();
        search.look(&folder, &parts).map_err(|why| format!("{pattern:?}: {why}"))?;
    }
    if search.found.is_empty() {
        return Err(format!("no file is like {pattern:?}"));
    }
    Ok(search.found.into_iter().collect())
}

struct Search<'a> {
    files: &'a mut dyn Files,
    found: BTreeSet<PathBuf>,
    names: usize,
}

// === impl Search ===

impl Search<'_> {
    fn look(&mut self, folder: &Path, parts: &[&str]) -> Result<(), String> {
        let Some((part, rest)) = parts.split_first() else { return Ok(()) };
        if !is_pattern(part) && !rest.is_empty() {
            return self.look(&folder.join(part), rest);
        }
        let is_any_depth = *part == "**";
        if is_any_depth && !rest.is_empty() {
            self.look(folder, rest)?;
        }
        for (name, is_folder) in self.names(folder)? {
            let is_like = like(part, &name);
            let path = folder.join(&name);
            match (is_folder, rest.is_empty()) {
                (true, _) if is_any_depth && is_like => self.look(&path, parts)?,
                (true, false) if is_like => self.look(&path, rest)?,
                (false, true) if is_like => {
                    self.found.insert(path);
                    if self.found.len() > MAX_FILES {
                        return Err(format!("stands for more than {MAX_FILES} files"));
                    }
                }
                (true | false, true | false) => {}
            }
        }
        Ok(())
    }

    fn names(&mut self, folder: &Path) -> Result<Vec<(String, bool)>, String> {
        let names = match self.files.list(folder) {
            Ok(names) => names,
            // Another alternative may be there.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(format!("cannot read the folder {folder:?}: {error}")),
        };
        self.names += names.len();
        match self.names > MAX_NAMES {
            true => Err(format!("more than {MAX_NAMES} names would have to be looked at")),
            false => Ok(names),
        }
    }
}

/// Whether a name is like a pattern of `*` and `?`: each part of the name is tried once for the
/// last `*`.
fn like(pattern: &str, name: &str) -> bool {
    if name.starts_with('.') && !pattern.starts_with('.') {
        return false;
    }
    let (pattern, name): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), name.chars().collect());
    let (mut at, mut of, mut star) = (0, 0, None);
    while let Some(letter) = name.get(of) {
        match pattern.get(at) {
            Some('*') => {
                star = Some((at, of));
                at += 1;
            }
            Some(wanted) if *wanted == '?' || wanted == letter => {
                at += 1;
                of += 1;
            }
            Some(_) | None => {
                let Some((star_at, star_of)) = star else { return false };
                star = Some((star_at, star_of + 1));
                (at, of) = (star_at + 1, star_of + 1);
            }
        }
    }
    pattern.iter().skip(at).all(|letter| *letter == '*')
}

/// What stands before, in and after the first braces with a comma.
fn braces(path: &str) -> Option<(&str, &str, &str)> {
    let (before, rest) = path.split_once('{')?;
    let (inner, after) = rest.split_once('}')?;
    (inner.contains(',') && !inner.contains('{')).then_some((before, inner, after))
}

/// A pattern without braces for each of what they hold.
fn alternatives(pattern: &str) -> Result<Vec<String>, String> {
    let mut all = vec![pattern.to_owned()];
    while all.iter().any(|one| braces(one).is_some()) {
        let one = |one: String| match braces(&one) {
            Some((before, inner, after)) => {
                inner.split(',').map(|word| format!("{before}{word}{after}")).collect()
            }
            None => vec![one],
        };
        all = all.into_iter().flat_map(one).collect();
        if all.len() > MAX_ALTERNATIVES {
            return Err(format!("{pattern:?} comes to more than {MAX_ALTERNATIVES} patterns"));
        }
    }
    Ok(all)
}
