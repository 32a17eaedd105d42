//! Why a rollout cannot be begun or changed.

use super::Subject;
use crate::clock::rfc3339;
use crate::policy::rollout::{PlanError, Refusal};
use crate::store::StoreError;

/// Why a rollout cannot be begun or changed.
#[derive(Debug, thiserror::Error)]
pub enum RolloutError {
    /// None has this id.
    #[error("no rollout has the id `{id}`")]
    Unknown {
        /// What was asked for.
        id: String,
    },
    /// Somebody, or the analysis, changed it meanwhile.
    #[error("it was changed meanwhile: its revision is {revision}")]
    Changed {
        /// Its revision now.
        revision: u64,
    },
    /// The prompt or route takes part in another one.
    #[error(
        "the {} {} takes part in rollout {id} already ({phase}); end that one first",
        .subject.kind(), .subject.name()
    )]
    Busy {
        /// The other one.
        id: String,
        /// What it is about.
        subject: Subject,
        /// Where it is.
        phase: &'static str,
    },
    /// Another rollout may be about the same requests.
    #[error(
        "rollout {id} ({subject}) may be about the same requests, and nobody could tell whose doing \
         a regression is; end that one first, or say \"force\": true"
    )]
    Meets {
        /// The other one.
        id: String,
        /// What it is about.
        subject: Subject,
    },
    /// The candidate was rolled back a short while ago.
    #[error(
        "the same candidate was rolled back by rollout {rollout} and is in quarantine until {}; \
         change it, wait, or say \"force\": true",
        rfc3339(*.until_ms)
    )]
    Quarantined {
        /// By which rollout.
        rollout: String,
        /// Until then, in Unix milliseconds.
        until_ms: u64,
    },
    /// The configuration allows no growth now.
    #[error("no rollout grows before {until}: {why} (`[rollouts] freeze`)")]
    FreezeWindow {
        /// The end, as it is written.
        until: String,
        /// The reason that is written.
        why: String,
    },
    /// What is known of the candidate's compatibility does not allow so much at its beginning.
    #[error("{why}, or say \"force\": true")]
    Incompatible {
        /// What is known, and what to do.
        why: String,
    },
    /// The same of one that goes on: only a beginning takes `force`.
    #[error("{why}; to go without, roll it back and begin it again with \"force\": true")]
    Bounded {
        /// What is known, and what to do.
        why: String,
    },
    /// The state machine refuses.
    #[error("{0}")]
    Refused(#[from] Refusal),
    /// The plan makes no sense.
    #[error("{0}")]
    Plan(#[from] PlanError),
    /// Others changed it again and again.
    #[error("it is being changed by others all the time; try again")]
    Contended,
    /// The store failed.
    #[error("the store of rollouts cannot be reached: {}", .0.chain())]
    Store(#[from] StoreError),
}
