//! Why prompts cannot be pushed, labelled or found.

use crate::problems::Problems;
use crate::prompt::Version;
use crate::store::StoreError;

/// Why a prompt could not be pushed, labelled or found.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// No prompt has this id.
    #[error("there is no prompt `{id}`")]
    UnknownPrompt {
        /// What was asked for.
        id: String,
    },
    /// The prompt has no such version.
    #[error("the prompt `{id}` has no version {version}")]
    UnknownVersion {
        /// The prompt.
        id: String,
        /// What was asked for.
        version: Version,
    },
    /// The prompt has no such label.
    #[error("the prompt `{id}` has no label `{label}`")]
    UnknownLabel {
        /// The prompt.
        id: String,
        /// What was asked for.
        label: String,
    },
    /// What was pushed is no prompt.
    #[error("the version cannot be used: {}", first(.0))]
    Invalid(Problems),
    /// The version is there and says something else.
    #[error(
        "{name} is there and says something else ({hash}); a version never changes: push the new \
         text with a number of its own"
    )]
    Exists {
        /// `id@version`.
        name: String,
        /// The content hash of the one that is there.
        hash: String,
    },
    /// The number says something else than what changed.
    #[error("{0}")]
    Number(String),
    /// There is room for no more.
    #[error("{0}")]
    Full(String),
    /// Somebody else changed it meanwhile.
    #[error(
        "{what} was changed meanwhile: its etag is \"{changed}\" now, and it stands for {stands_for}; \
         look at it and try again"
    )]
    Changed {
        /// The label or version.
        what: String,
        /// Its etag now.
        changed: u64,
        /// A version, or `nothing`.
        stands_for: String,
    },
    /// Requests that find the label's version take part in a rollout.
    #[error(
        "the label `{label}` stands for the control of the rollout {rollout}: to move it would take all \
         requests out of that; roll it back or promote it, or send {{\"force\": true}}"
    )]
    RollingOut {
        /// The label.
        label: String,
        /// The rollout.
        rollout: String,
    },
    /// The label is protected.
    #[error(
        "the label `{label}` is protected; to change it all the same send {{\"force\": true}}, which \
         the audit log will say"
    )]
    Protected {
        /// The label.
        label: String,
    },
    /// A field makes no sense.
    #[error("{0}")]
    Field(String),
    /// The store failed.
    #[error("the store of prompts cannot be reached: {}", .0.chain())]
    Store(#[from] StoreError),
}

/// One line of several.
fn first(problems: &Problems) -> String {
    match problems.iter().next() {
        None => "it says nothing".to_owned(),
        Some(problem) => {
            let more = match problems.len() {
                0 | 1 => String::new(),
                count => format!(" (and {} more)", count - 1),
            };
            format!("{}: {}{more}", problem.key.as_str(), problem.message)
        }
    }
}
