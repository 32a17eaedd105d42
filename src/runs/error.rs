//! Why something could not be done with runs.

use super::RunState;
use crate::store::StoreError;

/// Why something could not be done with runs or suites.
#[derive(Debug, thiserror::Error)]
pub enum RunsError {
    /// There is no such run.
    #[error("there is no run `{0}`")]
    UnknownRun(String),
    /// There is no such suite.
    #[error("there is no suite `{0}`; push one, or put cases beside the prompt")]
    UnknownSuite(String),
    /// A suite of this id is in files, which say what it is.
    #[error("the suite `{0}` is one of files; change them, or give this one another id")]
    SuiteOfFiles(String),
    /// What is wanted makes no sense.
    #[error("`{field}`: {problem}")]
    Invalid {
        /// The field that is to blame.
        field: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// Too many runs wait already.
    #[error("{limit} runs wait already")]
    TooMany {
        /// The most that may wait.
        limit: u64,
    },
    /// Nobody asks judges in this process, or many wait for it already.
    #[error("judges cannot be asked here just now; try again")]
    NoJudge,
    /// There is no such recording.
    #[error("there is no recording `{0}`; an hour after its end it is forgotten")]
    UnknownRecording(String),
    /// Answers with this prompt are recorded already.
    #[error("answers with the prompt `{0}` are recorded already; end that recording first")]
    Recorded(String),
    /// The run is over.
    #[error("the run is over: it is {}", .0.as_str())]
    Over(RunState),
    /// The store is away.
    #[error(transparent)]
    Store(#[from] StoreError),
}

// === impl RunsError ===

impl RunsError {
    /// Something is wrong with a field.
    pub(super) fn invalid(field: &'static str, problem: impl Into<String>) -> Self {
        Self::Invalid { field, problem: problem.into() }
    }
}
