//! Why the gateway refused a request, or gave up on it, and how that looks from outside.

use std::time::Duration;

use http::StatusCode;

use crate::failure::{Failure, FailureKind};

mod duplicate;

pub use duplicate::Duplicate;

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
    /// No such address.
    #[error("there is nothing at `{method} {path}`")]
    UnknownPath {
        /// The request's method.
        method: String,
        /// The request's path.
        path: String,
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
    #[error("the provider's stream ended early ({})", .failure.in_public())]
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
    #[error("too many requests at the moment; try again in {} s", .retry_after.as_secs_f64().ceil())]
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

/// The longest that clients wait before they try again by themselves.
const LONGEST_RETRY: Duration = Duration::from_secs(60);

/// How a rejection looks from outside: status, type and code of the reply, and how loudly the log
/// says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Face {
    /// The HTTP status.
    pub status: StatusCode,
    /// OpenAI's `error.type`; Anthropic's codec has its own words for each status.
    pub kind: &'static str,
    /// OpenAI's `error.code`.
    pub code: &'static str,
    /// How loudly the log says it.
    pub level: tracing::Level,
}

// === impl Rejection ===

impl Rejection {
    /// An invalid request with the field it is about.
    pub fn invalid(param: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Invalid { problem: problem.into(), param: Some(param.into()) }
    }

    /// How it looks from outside.
    #[rustfmt::skip] // A table reads best as a table.
    pub fn face(&self) -> Face {
        use StatusCode as S;
        use tracing::Level as L;
        const INVALID: &str = "invalid_request_error";
        const SERVER: &str = "server_error";
        let (status, kind, code, level) = match self {
            Self::Invalid { .. }         => (S::BAD_REQUEST,           INVALID, "invalid_request",       L::DEBUG),
            Self::Unsupported { .. }     => (S::BAD_REQUEST,           INVALID, "unsupported_parameter", L::DEBUG),
            Self::Unauthorized { .. }    => (S::UNAUTHORIZED,          INVALID, "invalid_api_key",       L::INFO),
            Self::KeyExpired             => (S::UNAUTHORIZED,          INVALID, "api_key_expired",       L::INFO),
            Self::Forbidden { .. }       => (S::FORBIDDEN,             INVALID, "forbidden",             L::INFO),
            Self::UnknownModel { .. }    => (S::NOT_FOUND,             INVALID, "model_not_found",       L::DEBUG),
            Self::UnknownPath { .. }     => (S::NOT_FOUND,             INVALID, "unknown_url",           L::DEBUG),
            Self::TooLarge { .. }        => (S::PAYLOAD_TOO_LARGE,     INVALID, "request_too_large",     L::DEBUG),
            Self::HeadTooLarge { .. }    => (S::REQUEST_HEADER_FIELDS_TOO_LARGE, INVALID, "request_head_too_large", L::DEBUG),
            Self::RequestTimeout { .. }  => (S::REQUEST_TIMEOUT,       INVALID, "request_timeout",       L::DEBUG),
            Self::DeadlinePassed { .. }  => (S::GATEWAY_TIMEOUT,       SERVER,  "deadline_passed",       L::WARN),
            Self::StreamFailed { .. }    => (S::BAD_GATEWAY,           SERVER,  "upstream_disconnected", L::WARN),
            Self::StreamPast { .. }      => (S::GONE,                  INVALID, "stream_position_gone",  L::DEBUG),
            Self::StreamCancelled        => (S::CONFLICT,              INVALID, "stream_cancelled",      L::DEBUG),
            Self::UnknownJob { .. }      => (S::NOT_FOUND,             INVALID, "job_not_found",         L::DEBUG),
            Self::TooManyJobs { .. }     => (S::TOO_MANY_REQUESTS,     "rate_limit_error", "too_many_jobs", L::DEBUG),
            Self::TooLargeToWait { .. }  => (S::TOO_MANY_REQUESTS,     "rate_limit_error", "waiting_jobs_too_large", L::DEBUG),
            Self::AnswerTooLarge { .. }  => (S::BAD_GATEWAY,           SERVER,  "answer_too_large",      L::WARN),
            Self::KeyRevoked             => (S::FORBIDDEN,             INVALID, "key_revoked",           L::INFO),
            Self::Draining               => (S::SERVICE_UNAVAILABLE,   SERVER,  "draining",              L::INFO),
            Self::NobodyReady { why, .. } => match why {
                NobodyWhy::Busy          => (S::SERVICE_UNAVAILABLE,   SERVER,  "no_target_ready",       L::WARN),
                NobodyWhy::RateLimited   => (S::TOO_MANY_REQUESTS,     "rate_limit_error", "rate_limit_exceeded", L::WARN),
                // The log has said it as an error when the credential was parked.
                NobodyWhy::Credential    => (S::SERVICE_UNAVAILABLE,   SERVER,  "provider_credential",   L::WARN),
            },
            // As many as there are, the log would be what breaks; metrics and the journal tell.
            Self::Overloaded { .. }      => (S::SERVICE_UNAVAILABLE,   SERVER,  "overloaded",            L::DEBUG),
            Self::LimitReached { dimension, is_money: false, .. } => (S::TOO_MANY_REQUESTS, "rate_limit_error", *dimension, L::DEBUG),
            Self::LimitReached { dimension, is_money: true, .. } => (S::PAYMENT_REQUIRED, "insufficient_quota", *dimension, L::DEBUG),
            Self::Unavailable { .. }     => (S::SERVICE_UNAVAILABLE,   SERVER,  "unavailable",           L::ERROR),
            Self::Internal { .. }        => (S::INTERNAL_SERVER_ERROR, SERVER,  "internal_error",        L::ERROR),
            Self::Duplicate(duplicate)   => return duplicate.face(),
            Self::AttemptsFailed { failure, .. } => return failed_face(failure),
        };
        Face { status, kind, code, level }
    }

    /// Whether its status is one that clients try again, although that ends the same way.
    pub fn is_hopeless(&self) -> bool {
        if let Self::AttemptsFailed { failure, is_futile, .. } = self {
            return *is_futile || failure.kind.is_refused_credential();
        }
        if let Self::LimitReached { retry_after, .. } = self {
            return retry_after.is_none_or(|after| after > LONGEST_RETRY);
        }
        matches!(self, Self::Internal { .. } | Self::NobodyReady { why: NobodyWhy::Credential, .. })
    }

    /// When to try again, if trying again can help.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            // Many providers do not say when. A client that knows nothing tries too soon.
            Self::AttemptsFailed { failure, .. } if failure.kind.is_pushback() => {
                Some(failure.retry_after.unwrap_or(Duration::from_secs(1)))
            }
            Self::AttemptsFailed { failure, .. } => failure.retry_after,
            Self::LimitReached { retry_after, .. } => *retry_after,
            Self::NobodyReady { why: NobodyWhy::Credential, .. } => None,
            Self::NobodyReady { retry_after, .. } => {
                Some(retry_after.unwrap_or(Duration::from_secs(1)))
            }
            Self::Overloaded { retry_after } => Some((*retry_after).max(Duration::from_secs(1))),
            Self::TooManyJobs { .. } | Self::TooLargeToWait { .. } => Some(Duration::from_secs(10)),
            Self::Draining | Self::Unavailable { .. } => Some(Duration::from_secs(1)),
            Self::Duplicate(duplicate) => duplicate.retry_after(),
            Self::Invalid { .. }
            | Self::Unsupported { .. }
            | Self::Unauthorized { .. }
            | Self::KeyExpired
            | Self::Forbidden { .. }
            | Self::UnknownModel { .. }
            | Self::UnknownPath { .. }
            | Self::UnknownJob { .. }
            | Self::AnswerTooLarge { .. }
            | Self::KeyRevoked
            | Self::TooLarge { .. }
            | Self::HeadTooLarge { .. }
            | Self::RequestTimeout { .. }
            | Self::DeadlinePassed { .. }
            | Self::StreamFailed { .. }
            | Self::StreamPast { .. }
            | Self::StreamCancelled
            | Self::Internal { .. } => None,
        }
    }

    /// The words for the log, which must not quote the request: prompts are not logged.
    pub fn loggable(&self) -> String {
        if let Self::Invalid { .. } = self {
            return "the request is not valid".to_owned();
        }
        // The log gets the provider's own words, which the caller does not.
        if let Self::AttemptsFailed { failure, .. } | Self::StreamFailed { failure } = self {
            return failure.loggable();
        }
        if let Self::NobodyReady { targets, why, .. } = self
            && *why != NobodyWhy::Busy
        {
            return format!("{self} ({})", targets.join(", "));
        }
        self.to_string()
    }

    /// The field it is about, for OpenAI's `error.param`.
    pub fn param(&self) -> Option<&str> {
        match self {
            Self::Invalid { param, .. } => param.as_deref(),
            Self::Unsupported { param, .. } => Some(param),
            Self::UnknownModel { .. } => Some("model"),
            Self::Duplicate(_) => Some("Idempotency-Key"),
            Self::AttemptsFailed { failure, .. } => failure.param.as_deref(),
            Self::Unauthorized { .. }
            | Self::KeyExpired
            | Self::Forbidden { .. }
            | Self::UnknownPath { .. }
            | Self::UnknownJob { .. }
            | Self::TooManyJobs { .. }
            | Self::TooLargeToWait { .. }
            | Self::AnswerTooLarge { .. }
            | Self::KeyRevoked
            | Self::TooLarge { .. }
            | Self::HeadTooLarge { .. }
            | Self::RequestTimeout { .. }
            | Self::NobodyReady { .. }
            | Self::LimitReached { .. }
            | Self::Overloaded { .. }
            | Self::DeadlinePassed { .. }
            | Self::StreamFailed { .. }
            | Self::StreamPast { .. }
            | Self::StreamCancelled
            | Self::Draining
            | Self::Unavailable { .. }
            | Self::Internal { .. } => None,
        }
    }
}

/// What a caller is told whose job has no room to wait in.
fn too_large_to_wait(of_all: bool, bytes: u64, limit_bytes: u64) -> String {
    let (whose, key) = if of_all {
        ("the jobs of all callers that are waiting", "jobs.max_total_waiting_size")
    } else {
        ("your jobs that are waiting", "jobs.max_waiting_size")
    };
    format!(
        "this job's request takes {bytes} bytes, and with it {whose} would take more than the \
         {limit_bytes} bytes they may (`{key}`); try again when some are done, or with a smaller one"
    )
}

/// The second half of the table: what the last failure of all attempts means to the caller. A
/// provider's 401 is our fault, not the caller's, so it never leaves as one.
#[rustfmt::skip] // A table reads best as a table.
fn failed_face(failure: &Failure) -> Face {
    use FailureKind as K;
    use StatusCode as S;
    use tracing::Level as L;
    let (status, kind, code, level) = match failure.kind {
        K::CallerFault => {
            let status = failure.status.unwrap_or(S::BAD_REQUEST);
            return Face { status, kind: "invalid_request_error", code: "invalid_request", level: L::DEBUG };
        }
        K::ContextTooLong => {
            let status = failure.status.filter(S::is_client_error).unwrap_or(S::BAD_REQUEST);
            return Face { status, kind: "invalid_request_error", code: "context_length_exceeded", level: L::DEBUG };
        }
        // No attempt can help, so not a status that clients try again.
        K::NotServed   => (S::NOT_FOUND,           "invalid_request_error", "model_not_found",     L::WARN),
        K::Policy      => (S::BAD_REQUEST,         "invalid_request_error", "content_filter",      L::DEBUG),
        K::RateLimited => (S::TOO_MANY_REQUESTS,   "rate_limit_error",      "rate_limit_exceeded", L::WARN),
        K::SlowStart   => (S::GATEWAY_TIMEOUT,     "server_error",          "first_token_timeout", L::WARN),
        K::Overloaded  => (S::SERVICE_UNAVAILABLE, "server_error",          "overloaded",          L::WARN),
        K::HardQuota
        | K::AuthFault => (S::SERVICE_UNAVAILABLE, "server_error",          "provider_credential", L::ERROR),
        K::Transport
        | K::ServerFault
        | K::MidStream
        | K::Degenerate => (S::BAD_GATEWAY,        "server_error",          "upstream_failed",     L::WARN),
    };
    Face { status, kind, code, level }
}

const CREDENTIAL: &str = "the provider did not accept the gateway's credential; ask the operator";

fn nobody_ready(route: &str, targets: &[String], why: NobodyWhy) -> String {
    match why {
        NobodyWhy::Busy => {
            format!("no target of `{route}` is ready at the moment ({})", targets.join(", "))
        }
        NobodyWhy::RateLimited => {
            format!("the providers of `{route}` limit the rate of requests; try again later")
        }
        NobodyWhy::Credential => CREDENTIAL.to_owned(),
    }
}

fn attempts_failed(attempts: u32, failure: &Failure) -> String {
    match failure.kind {
        // The provider's words are about the caller's own request: pass them on untouched.
        FailureKind::CallerFault | FailureKind::ContextTooLong | FailureKind::Policy => {
            failure.message.clone()
        }
        FailureKind::NotServed => {
            format!("no provider serves this model at the moment (attempts: {attempts})")
        }
        FailureKind::HardQuota | FailureKind::AuthFault => CREDENTIAL.to_owned(),
        // Where a provider is, the caller need not know; the log says it.
        FailureKind::Transport => {
            format!("no provider could be reached (attempts: {attempts}); try again")
        }
        FailureKind::SlowStart
        | FailureKind::ServerFault
        | FailureKind::Overloaded
        | FailureKind::RateLimited
        | FailureKind::MidStream
        | FailureKind::Degenerate => {
            let tries = if attempts == 1 { "the attempt" } else { "all attempts" };
            format!("{tries} failed ({attempts}): {}", failure.in_public())
        }
    }
}

fn limit_reached(limit: &str, dimension: &str, retry_after: Option<Duration>) -> String {
    match retry_after {
        Some(after) => {
            let seconds = after.as_secs_f64().ceil();
            format!("{limit} is reached: {dimension}; try again in {seconds} s")
        }
        None => format!(
            "the request needs more than {limit} ever allows: {dimension}; ask for less, for instance with a lower token cap"
        ),
    }
}

fn suggestion(near: &[String]) -> String {
    match near {
        [] => "; GET /v1/models lists what does".to_owned(),
        [one] => format!("; did you mean `{one}`?"),
        [first, rest @ ..] => {
            let rest: Vec<_> = rest.iter().map(|name| format!("`{name}`")).collect();
            format!("; did you mean `{first}` or {}?", rest.join(" or "))
        }
    }
}
