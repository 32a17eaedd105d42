//! What is wrong with a file, and where: every problem, not the first one.

use std::borrow::Cow;
use std::fmt;
use std::path::{Path, PathBuf};

mod document;
mod refused;
mod shape;
#[cfg(test)]
mod tests;

pub use document::Document;
pub use shape::Advice;

/// Where in a configuration file a value stands, such as `routes.chat.targets[1].model`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct KeyPath(String);

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file, as the operator named it; empty for the environment.
    pub file: PathBuf,
    /// Line in that file, from 1; 0 when no line can be named.
    pub line: u32,
    /// The key the problem is about.
    pub key: KeyPath,
    /// What was found and what would be right, in lower case without a full stop.
    pub message: String,
}

/// All problems of one check. Empty means the check passed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Problems(Vec<Problem>);

// === impl KeyPath ===

impl KeyPath {
    /// The top of a file.
    pub fn root() -> Self {
        Self::default()
    }

    /// This path with `key` below it.
    #[must_use]
    pub fn key(&self, key: &str) -> Self {
        let bare = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
        let key = if !key.is_empty() && key.chars().all(bare) {
            Cow::Borrowed(key)
        } else {
            Cow::Owned(format!("{key:?}"))
        };
        if self.0.is_empty() { Self(key.into_owned()) } else { Self(format!("{}.{key}", self.0)) }
    }

    /// This path with the `index`-th element below it.
    #[must_use]
    pub fn index(&self, index: usize) -> Self {
        Self(format!("{}[{index}]", self.0))
    }

    /// The path of what holds this value; none at the top.
    pub fn parent(&self) -> Option<Self> {
        if self.0.is_empty() {
            return None;
        }
        let cut = last_separator(&self.0).unwrap_or(0);
        self.0.get(..cut).map(|parent| Self(parent.to_owned()))
    }

    /// Whether this is `other` or holds it.
    pub fn holds(&self, other: &Self) -> bool {
        let mut at = Some(other.clone());
        while let Some(path) = at {
            if path == *self {
                return true;
            }
            at = path.parent();
        }
        false
    }

    /// The path as text; empty at the top.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

// === impl Problem ===

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.file.as_os_str().is_empty() {
            write!(f, "{}:", self.file.display())?;
        }
        if self.line > 0 {
            write!(f, "{}:", self.line)?;
        }
        if !self.file.as_os_str().is_empty() || self.line > 0 {
            f.write_str(" ")?;
        }
        if !self.key.as_str().is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.message)
    }
}

// === impl Problems ===

impl Problems {
    /// No problems yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Notes one problem.
    pub fn add(&mut self, file: &Path, line: u32, key: KeyPath, message: impl Into<String>) {
        self.0.push(Problem { file: file.to_owned(), line, key, message: message.into() });
    }

    /// Takes over all problems of another check.
    pub fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// Keeps only some.
    pub fn retain(&mut self, is_kept: impl FnMut(&Problem) -> bool) {
        self.0.retain(is_kept);
    }

    /// Whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The problems in the order in which they were found.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.0.iter()
    }

    /// Puts them in the order in which a reader of the files meets them.
    pub fn sort(&mut self) {
        self.0.sort_by(|a, b| (&a.file, a.line).cmp(&(&b.file, b.line)));
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            fmt::Display::fmt(problem, f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// Where the last step of a path begins: at its dot or bracket. Quoted keys may hold both.
fn last_separator(path: &str) -> Option<usize> {
    let mut quoted = false;
    let mut escaped = false;
    let mut last = None;
    for (at, byte) in path.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'.' | b'[' if !quoted => last = Some(at),
            _ => {}
        }
    }
    last
}

/// The candidate nearest to `found`, when one is near enough to be what was meant.
pub fn nearest<'a>(found: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(found, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= (candidate.chars().count() / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}
