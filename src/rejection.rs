//! Why the gateway refused a request, or gave up on it, and how that looks from outside.

use std::time::Duration;

use crate::failure::Failure;
use crate::units::Spoken;

mod duplicate;
mod face;
mod words;

pub use duplicate::Duplicate;
pub use face::Face;
use words::{attempts_failed, limit_reached, nobody_ready, suggestion, too_large_to_wait};

/// Why the gateway refused a request, or gave up on it.
///
/// This is the only error that leaves the gateway. What each variant means to the outside is
/// decided in one place, [`Rejection::face`]; nothing else maps errors to status codes. `Display`
/// is safe to show a caller; causes are in `source`, for the log alone.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Rejection {
    /// The request is not what the dialect allows.
    #[error("{problem}")]
    Invalid {
        /// What is wrong, where, and what would be right; one sentence for people.
        problem: String,
        /// The field, in the dialect's own path syntax: `messages[2].content`.
        param: Option<String>,
    },
    /// The request means something the chosen dialect or target cannot carry.
    #[error("`{param}` cannot be carried to {target}: {problem}")]
    Unsupported {
        /// The field.
        param: String,
        /// The target or dialect that cannot take it.
        target: String,
        /// Why.
        problem: String,
    },
    /// No key, or one we do not know.
    #[error("{problem}")]
    Unauthorized {
        /// What was wrong with it; never the key.
        problem: &'static str,
    },
    /// The key is known and was valid once.
    #[error("the API key has expired or was replaced; ask for a new one")]
    KeyExpired,
    /// The key is known but not allowed to do this.
    #[error("{problem}")]
    Forbidden {
        /// What it may not do.
        problem: String,
    },
    /// No route, target or model has this name.
    #[error("the model `{model}` does not exist{}", suggestion(.near))]
    UnknownModel {
        /// What was asked for.
        model: String,
        /// Names that are near, nearest first.
        near: Vec<String>,
    },
    /// No registered prompt has this id, or this version.
    #[error("{problem}")]
    UnknownPrompt {
        /// What is not there, and what is; one sentence for people.
        problem: String,
        /// `prompt.id` or `prompt.version`.
        param: &'static str,
    },
    /// No such address.
    #[error("there is nothing at `{method} {path}`")]
    UnknownPath {
        /// The request's method.
        method: String,
        /// The request's path.
        path: String,
    },
    /// There is such an address, for other methods.
    #[error("`{path}` does not take `{method}`; the header `allow` says what it takes")]
    WrongMethod {
        /// The request's method.
        method: String,
        /// The request's path.
        path: String,
    },
    /// The body is compressed.
    #[error("a body in `content-encoding: {encoding}` is not read; send it as it is")]
    EncodedBody {
        /// What the header said, cut short.
        encoding: String,
    },
    /// The body is larger than `server.request_body_limit`.
    #[error("the request body is larger than the limit of {limit_bytes} bytes")]
    TooLarge {
        /// The limit.
        limit_bytes: u64,
    },
    /// The head of the request is larger than `server.request_head_limit`, or has too many headers.
    #[error(
        "the head of the request (its first line and headers) is larger than the limit of \
         {limit_bytes} bytes (`server.request_head_limit`), or has more than {max_headers} headers"
    )]
    HeadTooLarge {
        /// The limit.
        limit_bytes: u64,
        /// How many headers a head may have.
        max_headers: usize,
    },
    /// The caller was too slow in sending the request.
    #[error("the request did not arrive within {within:?}")]
    RequestTimeout {
        /// How long it was waited for.
        within: Duration,
    },
    /// The deadline passed.
    #[error("no answer within {within:?}")]
    DeadlinePassed {
        /// The time the request had.
        within: Duration,
    },
    /// The deadline passed within a stream.
    #[error("the time of the request was over before its answer was complete")]
    Unfinished,
    /// Attempts were made and the last one ended like this.
    #[error("{}", attempts_failed(*.attempts, .failure))]
    AttemptsFailed {
        /// How many were made.
        attempts: u32,
        /// How the last one ended, or the one that explains most.
        #[source]
        failure: Failure,
        /// Whether the route has no attempts left to spend on failures: more of them from the
        /// caller would only add to what is wrong.
        is_futile: bool,
    },
    /// None of the route's targets can be asked at the moment.
    #[error("{}", nobody_ready(route, targets, *why))]
    NobodyReady {
        /// The route's name.
        route: String,
        /// Each target with the reason.
        targets: Vec<String>,
        /// What they have in common.
        why: NobodyWhy,
        /// When the first of them may be ready again, where that is known.
        retry_after: Option<Duration>,
    },
    /// The stream broke after it was committed.
    #[error("the provider's stream ended early: {}", .failure.in_public())]
    StreamFailed {
        /// How.
        #[source]
        failure: Failure,
    },
    /// What follows an event of a resumable stream is no longer kept.
    #[error(
        "what follows event {after} is no longer kept; the oldest event of the stream that is, is \
         {oldest}"
    )]
    StreamPast {
        /// The event that was to be read on after; 0 is the beginning.
        after: u64,
        /// The oldest event that is kept.
        oldest: u64,
    },
    /// A resumable stream was ended by its caller.
    #[error("the stream was cancelled by its caller")]
    StreamCancelled,
    /// The gateway is shutting down.
    #[error("the gateway is shutting down")]
    Draining,
    /// There are more requests than can be served, and this one is among those that are not.
    #[error("too many requests at the moment; try again in {}", Spoken(*.retry_after))]
    Overloaded {
        /// When to try again; at least a second.
        retry_after: Duration,
    },
    /// No job of this caller has this id.
    #[error("there is no job `{id}`")]
    UnknownJob {
        /// What was asked for, cut short.
        id: String,
    },
    /// No request of this caller has this id.
    #[error("you made no request `{id}`, or it is no longer kept")]
    UnknownRequest {
        /// What was asked for, cut short.
        id: String,
    },
    /// The caller has as many jobs waiting as it may.
    #[error(
        "{limit} of your jobs are waiting already, which is as many as may (`jobs.max_waiting`); \
         try again when some are done"
    )]
    TooManyJobs {
        /// That many.
        limit: u32,
    },
    /// The requests of jobs that wait would take more room than they may.
    #[error("{}", too_large_to_wait(*.of_all, *.bytes, *.limit_bytes))]
    TooLargeToWait {
        /// Whether it is about the jobs of all callers (`jobs.max_total_waiting_size`), and not
        /// about those of this one (`jobs.max_waiting_size`).
        of_all: bool,
        /// What this one would take.
        bytes: u64,
        /// What they may take together.
        limit_bytes: u64,
    },
    /// The answer to a job is larger than `jobs.result_limit`.
    #[error("the answer is larger than the limit of {limit_bytes} bytes for jobs")]
    AnswerTooLarge {
        /// The limit.
        limit_bytes: u64,
    },
    /// The API key that a job came with was revoked before it was answered.
    #[error("the API key that the job came with was revoked")]
    KeyRevoked,
    /// The caller has used what a limit allows.
    #[error("{}", limit_reached(limit, dimension, *retry_after))]
    LimitReached {
        /// Whose limit it is, such as "the limit `default`".
        limit: String,
        /// What of it is used up, such as `requests_per_minute`; also the code of the reply.
        dimension: &'static str,
        /// Whether it is money.
        is_money: bool,
        /// When to try again; `None` where the request asks for more than there ever is.
        retry_after: Option<Duration>,
    },
    /// Something of ours that the request cannot do without is away, such as the store of keys.
    #[error("{what} cannot be reached at the moment; try again")]
    Unavailable {
        /// What is away.
        what: &'static str,
    },
    /// Its `Idempotency-Key` keeps the request from being carried out.
    #[error("{0}")]
    Duplicate(Duplicate),
    /// A fault of ours.
    #[error("internal error")]
    Internal {
        /// For the log.
        detail: String,
    },
}

/// What keeps all targets of a route from being asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NobodyWhy {
    /// They are out for different reasons, or have too much to do.
    Busy,
    /// The rate limits of their providers.
    RateLimited,
    /// Their credentials: refused, or without credit.
    Credential,
}

// === impl Rejection ===

impl Rejection {
    /// An invalid request with the field it is about.
    pub fn invalid(param: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Invalid { problem: problem.into(), param: Some(param.into()) }
    }
}
