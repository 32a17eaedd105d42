//! Why keys and teams cannot be made or changed.

use crate::store::StoreError;

/// Why a key or a team could not be made or changed.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// No key has this id.
    #[error("no key has the id `{id}`")]
    Unknown {
        /// What was asked for.
        id: String,
    },
    /// No team has this id.
    #[error("no team has the id `{id}`")]
    UnknownTeam {
        /// What was asked for.
        id: String,
    },
    /// Somebody else changed it meanwhile.
    #[error("it was changed meanwhile: its version is {version}")]
    Changed {
        /// Its version now.
        version: u64,
    },
    /// Keys belong to the team.
    #[error("{keys} valid keys belong to the team; revoke them or take them out first")]
    TeamInUse {
        /// How many.
        keys: u64,
    },
    /// A revoked key has no secret to rotate.
    #[error("the key was revoked; make a new one")]
    Revoked,
    /// The name is no name.
    #[error("{0}")]
    Name(&'static str),
    /// Limits, names, tags or times make no sense.
    #[error("{0}")]
    Terms(String),
    /// The store failed.
    #[error("the store of API keys cannot be reached: {}", .0.chain())]
    Store(#[from] StoreError),
}

/// The longest name of a key.
const MAX_NAME_CHARS: usize = 100;

/// A name as it is kept.
pub(super) fn checked_name(name: &str) -> Result<&str, KeyError> {
    let name = name.trim();
    if name.is_empty() {
        return Err(KeyError::Name("the name must not be empty"));
    }
    if name.chars().count() > MAX_NAME_CHARS {
        return Err(KeyError::Name("the name must not be longer than 100 characters"));
    }
    if name.chars().any(char::is_control) {
        return Err(KeyError::Name("the name must not hold control characters"));
    }
    Ok(name)
}

/// Makes sure that it still has the version that a change is about, where one is given.
pub(super) fn expect_version(version: u64, wanted: Option<u64>) -> Result<(), KeyError> {
    match wanted {
        Some(wanted) if wanted != version => Err(KeyError::Changed { version }),
        Some(_) | None => Ok(()),
    }
}

/// Another node's change between reading and writing leaves nothing to update.
pub(super) fn expect_one(rows: u64, old_version: u64) -> Result<(), KeyError> {
    match rows {
        0 => Err(KeyError::Changed { version: old_version + 1 }),
        _ => Ok(()),
    }
}
