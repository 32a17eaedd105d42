//! How a rejection looks from outside: its status, its codes, the field it is about, and when to
//! try again.

use std::time::Duration;

use http::StatusCode;

use super::{NobodyWhy, Rejection};
use crate::failure::{Failure, FailureKind};

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

/// The longest that clients wait before they try again by themselves.
const LONGEST_RETRY: Duration = Duration::from_secs(60);

// === impl Rejection ===

impl Rejection {
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
            Self::UnknownPrompt { .. }   => (S::NOT_FOUND,             INVALID, "prompt_not_found",      L::DEBUG),
            Self::UnknownPath { .. }     => (S::NOT_FOUND,             INVALID, "unknown_url",           L::DEBUG),
            Self::WrongMethod { .. }     => (S::METHOD_NOT_ALLOWED,    INVALID, "method_not_allowed",    L::DEBUG),
            Self::EncodedBody { .. }     => (S::UNSUPPORTED_MEDIA_TYPE, INVALID, "unsupported_content_encoding", L::DEBUG),
            Self::TooLarge { .. }        => (S::PAYLOAD_TOO_LARGE,     INVALID, "request_too_large",     L::DEBUG),
            Self::HeadTooLarge { .. }    => (S::REQUEST_HEADER_FIELDS_TOO_LARGE, INVALID, "request_head_too_large", L::DEBUG),
            Self::RequestTimeout { .. }  => (S::REQUEST_TIMEOUT,       INVALID, "request_timeout",       L::DEBUG),
            Self::DeadlinePassed { .. }  => (S::GATEWAY_TIMEOUT,       SERVER,  "deadline_passed",       L::WARN),
            Self::Unfinished             => (S::GATEWAY_TIMEOUT,       SERVER,  "deadline_passed",       L::WARN),
            Self::StreamFailed { .. }    => (S::BAD_GATEWAY,           SERVER,  "upstream_disconnected", L::WARN),
            Self::StreamPast { .. }      => (S::GONE,                  INVALID, "stream_position_gone",  L::DEBUG),
            Self::StreamCancelled        => (S::CONFLICT,              INVALID, "stream_cancelled",      L::DEBUG),
            Self::UnknownJob { .. }      => (S::NOT_FOUND,             INVALID, "job_not_found",         L::DEBUG),
            Self::UnknownRequest { .. }  => (S::NOT_FOUND,             INVALID, "request_not_found",     L::DEBUG),
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
            | Self::UnknownPrompt { .. }
            | Self::UnknownPath { .. }
            | Self::WrongMethod { .. }
            | Self::EncodedBody { .. }
            | Self::UnknownJob { .. }
            | Self::UnknownRequest { .. }
            | Self::AnswerTooLarge { .. }
            | Self::KeyRevoked
            | Self::TooLarge { .. }
            | Self::HeadTooLarge { .. }
            | Self::RequestTimeout { .. }
            | Self::DeadlinePassed { .. }
            | Self::Unfinished
            | Self::StreamFailed { .. }
            | Self::StreamPast { .. }
            | Self::StreamCancelled
            | Self::Internal { .. } => None,
        }
    }

    /// The field it is about, for OpenAI's `error.param`.
    pub fn param(&self) -> Option<&str> {
        match self {
            Self::Invalid { param, .. } => param.as_deref(),
            Self::Unsupported { param, .. } => Some(param),
            Self::UnknownModel { .. } => Some("model"),
            Self::UnknownPrompt { param, .. } => Some(param),
            Self::UnknownRequest { .. } => Some("request_id"),
            Self::Duplicate(_) => Some("Idempotency-Key"),
            Self::AttemptsFailed { failure, .. } => failure.param.as_deref(),
            Self::Unauthorized { .. }
            | Self::KeyExpired
            | Self::Forbidden { .. }
            | Self::UnknownPath { .. }
            | Self::WrongMethod { .. }
            | Self::EncodedBody { .. }
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
            | Self::Unfinished
            | Self::StreamFailed { .. }
            | Self::StreamPast { .. }
            | Self::StreamCancelled
            | Self::Draining
            | Self::Unavailable { .. }
            | Self::Internal { .. } => None,
        }
    }
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
