//! What becomes of a job: its states, and what follows an attempt.
//!
//! ```text
//!             taken                 an answer
//!   queued ───────────▶ running ──────────────▶ succeeded
//!     │ ▲                 │ │ │   no attempts left, or none can help
//!     │ └─ tried again ───┘ │ └──────────────────────────────────────▶ failed
//!     │    put off, lost    │
//!     ├─────────────────────┴──── by its caller ─▶ cancelled
//!     └──────────────────────── its deadline ─▶ expired
//! ```
//!
//! Three things bring a job back into the queue. An attempt that failed of something that passes
//! counts, and there are so many. One that was refused before a provider was asked (a limit, an
//! overload) is put off and does not count, because it has cost nothing; only the deadline ends
//! that. And one whose worker vanished is lost, which is counted by itself: a job that kills its
//! workers must not go on for ever, and a job whose workers were unlucky must not fail.

use std::time::Duration;

#[cfg(test)]
mod tests;

/// Where a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum JobState {
    /// It waits for a worker.
    Queued,
    /// A worker has it.
    Running,
    /// It has an answer.
    Succeeded,
    /// It has an error.
    Failed,
    /// Its caller has given it up.
    Cancelled,
    /// Its deadline passed first.
    Expired,
}

/// How often and when a job is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryRule {
    /// Attempts that may fail, the first one included; at least 1.
    pub attempts: u32,
    /// The pause after the first failure; four times as long after each further one.
    pub pause: Duration,
}

/// How an attempt ended that brought no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setback {
    /// Whether another attempt may end differently.
    pub passes: bool,
    /// Whether a provider was asked.
    pub was_tried: bool,
    /// When to try again, where somebody said so.
    pub retry_after: Option<Duration>,
}

/// What follows an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// The job is over.
    Over(JobState),
    /// It is tried again.
    Again {
        /// After this pause.
        after: Duration,
        /// Whether the attempt counts among those that may fail.
        counts: bool,
    },
}

/// The longest pause that anybody can ask for.
const LONGEST_PAUSE: Duration = Duration::from_secs(15 * 60);
/// The pause of a job that was put off where nobody said how long.
const PUT_OFF: Duration = Duration::from_secs(1);
/// The largest share by which a pause is moved.
const JITTER: f64 = 0.25;

// === impl JobState ===

impl JobState {
    /// All states.
    pub const ALL: [Self; 6] = [
        Self::Queued,
        Self::Running,
        Self::Succeeded,
        Self::Failed,
        Self::Cancelled,
        Self::Expired,
    ];

    /// The word for callers, the store and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
        }
    }

    /// The state that a word stands for.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == word)
    }

    /// Whether it stays so for ever.
    pub const fn is_final(self) -> bool {
        match self {
            Self::Queued | Self::Running => false,
            Self::Succeeded | Self::Failed | Self::Cancelled | Self::Expired => true,
        }
    }
}

// === impl RetryRule ===

impl RetryRule {
    /// What follows an attempt without an answer. `failures` were counted before it; `left` is the
    /// time until the job's deadline, and `draw` a random number from 0 to 1.
    pub fn after(&self, setback: Setback, failures: u32, left: Duration, draw: f64) -> Next {
        let counts = setback.was_tried;
        if left.is_zero() {
            return Next::Over(JobState::Expired);
        }
        let failures = failures.saturating_add(u32::from(counts));
        if !setback.passes || failures >= self.attempts {
            return Next::Over(JobState::Failed);
        }
        let pause = match failures.checked_sub(1) {
            Some(times) => self.pause.saturating_mul(4_u32.saturating_pow(times)),
            None => PUT_OFF,
        };
        let pause = pause.max(setback.retry_after.unwrap_or_default()).min(LONGEST_PAUSE);
        let after = pause.mul_f64(1.0 + JITTER * draw.clamp(0.0, 1.0));
        if after >= left {
            // It is not waited for what would come too late.
            return Next::Over(JobState::Expired);
        }
        Next::Again { after, counts }
    }
}
