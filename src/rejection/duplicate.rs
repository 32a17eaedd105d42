//! Refusals on account of a request's `Idempotency-Key`.

use std::time::Duration;

use http::StatusCode;

use super::Face;

/// Why a request with an `Idempotency-Key` is not carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Duplicate {
    /// The key belongs to a request that said something else.
    #[error(
        "this `Idempotency-Key` was used for another request: the body, or a header that changes \
         what is asked for, differs; use a key for one request only"
    )]
    Mismatch,
    /// The request is being carried out, and its caller does not want to wait for it.
    #[error("a request with this `Idempotency-Key` is being carried out; try again")]
    InProgress,
    /// The request was carried out, and the answer was too long to be kept.
    #[error(
        "the request with this `Idempotency-Key` was carried out, but its answer was longer than \
         what is kept (`idempotency.max_body`) and cannot be repeated"
    )]
    TooLarge,
    /// Whether the request was carried out cannot be looked up. To carry it out all the same might
    /// be to pay for it twice.
    #[error(
        "idempotency keys cannot be looked up at the moment; the request was not carried out; try \
         again"
    )]
    Unavailable,
    /// The caller has too many keys that are still kept.
    #[error(
        "too many idempotency keys are kept of this caller; each is kept until its time is over"
    )]
    TooMany,
}

// === impl Duplicate ===

impl Duplicate {
    #[rustfmt::skip] // A table reads best as a table.
    pub(super) fn face(self) -> Face {
        use StatusCode as S;
        use tracing::Level as L;
        const INVALID: &str = "invalid_request_error";
        let (status, kind, code, level) = match self {
            Self::Mismatch    => (S::UNPROCESSABLE_ENTITY, INVALID,            "idempotency_key_reused",       L::DEBUG),
            Self::InProgress  => (S::CONFLICT,             INVALID,            "idempotency_in_progress",      L::DEBUG),
            // Not 409: clients try that again.
            Self::TooLarge    => (S::GONE,                 INVALID,            "idempotency_result_too_large", L::DEBUG),
            Self::Unavailable => (S::SERVICE_UNAVAILABLE,  "server_error",     "idempotency_unavailable",      L::WARN),
            Self::TooMany     => (S::TOO_MANY_REQUESTS,    "rate_limit_error", "too_many_idempotency_keys",    L::INFO),
        };
        Face { status, kind, code, level }
    }

    pub(super) fn retry_after(self) -> Option<Duration> {
        match self {
            Self::InProgress | Self::Unavailable => Some(Duration::from_secs(1)),
            Self::TooMany => Some(Duration::from_secs(60)),
            Self::Mismatch | Self::TooLarge => None,
        }
    }
}
