//! Versions, and what a request may say of the version it wants.

use std::fmt;
use std::str::FromStr;

/// A semantic version of three numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// Another model family.
    pub major: u32,
    /// Another structure.
    pub minor: u32,
    /// Another wording.
    pub patch: u32,
}

/// Which version is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// Nothing was said: what is labelled `production`, else the newest.
    Unsaid,
    /// This one.
    Exact(Version),
    /// The newest from the first one on that is below the second.
    Within(Version, Version),
    /// What has this label.
    Label(String),
}

// === impl Version ===

impl Version {
    /// These three numbers.
    pub const fn new(major: u32, minor: u32, patch: u32) -> Self {
        Self { major, minor, patch }
    }
}

impl FromStr for Version {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match numbers(text).as_deref() {
            Some([major, minor, patch]) => Ok(Self::new(*major, *minor, *patch)),
            Some(_) | None => Err(()),
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

// === impl Wanted ===

impl Wanted {
    /// Reads what a request says: `1.2.0`, `^1.2`, `~1.2.3`, or a label.
    ///
    /// # Errors
    ///
    /// What would be right.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Ok(version) = text.parse() {
            return Ok(Self::Exact(version));
        }
        let range = match text.as_bytes().first() {
            Some(b'^') => numbers(text.get(1..).unwrap_or_default()).and_then(|n| caret(&n)),
            Some(b'~') => numbers(text.get(1..).unwrap_or_default()).and_then(|n| tilde(&n)),
            Some(_) | None => None,
        };
        match range {
            Some((from, below)) => Ok(Self::Within(from, below)),
            None if is_label(text) => Ok(Self::Label(text.to_owned())),
            None => {
                let shown: String = text.chars().take(40).collect();
                Err(format!(
                    "{shown:?} is no version; write one like `1.2.0`, a range like `^1.2` or `~1.2.3`, \
                     or a label like `production`"
                ))
            }
        }
    }

    /// Whether a version is among those that are wanted, as far as numbers tell.
    pub fn takes(&self, version: Version) -> bool {
        match self {
            Self::Unsaid => true,
            Self::Exact(exact) => *exact == version,
            Self::Within(from, below) => (*from..*below).contains(&version),
            Self::Label(_) => false,
        }
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsaid => f.write_str("any version"),
            Self::Exact(version) => write!(f, "version {version}"),
            Self::Within(from, below) => write!(f, "version from {from} to below {below}"),
            Self::Label(label) => write!(f, "label `{label}`"),
        }
    }
}

/// Whether a text may be a label: up to 40 of `a-z`, `0-9` and `-`, a letter first.
pub fn is_label(text: &str) -> bool {
    let of_label = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    text.len() <= 40
        && text.as_bytes().first().is_some_and(u8::is_ascii_lowercase)
        && text.bytes().all(of_label)
}

/// One to three numbers with dots between them, without leading zeros.
fn numbers(text: &str) -> Option<Vec<u32>> {
    let number = |part: &str| {
        let is_plain = part.bytes().all(|byte| byte.is_ascii_digit());
        let is_short = part.len() == 1 || !part.starts_with('0');
        (is_plain && is_short).then(|| part.parse().ok()).flatten()
    };
    let numbers: Option<Vec<u32>> = text.splitn(4, '.').map(number).collect();
    numbers.filter(|numbers| numbers.len() <= 3)
}

/// What may change without changing the first number that is not zero, as Cargo and npm have it.
fn caret(numbers: &[u32]) -> Option<(Version, Version)> {
    let from = padded(numbers);
    let below = match *numbers {
        [0, 0, patch] => Version::new(0, 0, patch.checked_add(1)?),
        [0, minor] | [0, minor, _] => Version::new(0, minor.checked_add(1)?, 0),
        [major, ..] => Version::new(major.checked_add(1)?, 0, 0),
        [] => return None,
    };
    Some((from, below))
}

/// What may change without changing the minor number.
fn tilde(numbers: &[u32]) -> Option<(Version, Version)> {
    let from = padded(numbers);
    let below = match *numbers {
        [major] => Version::new(major.checked_add(1)?, 0, 0),
        [major, minor, ..] => Version::new(major, minor.checked_add(1)?, 0),
        [] => return None,
    };
    Some((from, below))
}

fn padded(numbers: &[u32]) -> Version {
    let at = |index: usize| numbers.get(index).copied().unwrap_or_default();
    Version::new(at(0), at(1), at(2))
}
