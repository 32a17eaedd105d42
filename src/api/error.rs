//! The one place where rejections become replies.

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderName, HeaderValue};

use crate::dialect::Dialect;
use crate::dispatch::Served;
use crate::ids::TargetId;
use crate::rejection::Rejection;

use super::reply;

/// Exact milliseconds, which OpenAI's clients prefer to `retry-after`.
const RETRY_AFTER_MS: HeaderName = HeaderName::from_static("retry-after-ms");
/// Tells OpenAI's and Anthropic's clients whether to try again, whatever the status.
const X_SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

/// A rejection on its way out.
#[derive(Debug)]
pub(super) struct ApiError {
    rejection: Rejection,
    dialect: Dialect,
    request_id: String,
    served: Served,
}

// === impl ApiError ===

impl ApiError {
    /// An error of a request that got no further than its headers.
    pub(super) fn new(rejection: Rejection, dialect: Dialect) -> Self {
        Self::of(rejection, dialect, reply::new_request_id().as_str(), Served::default())
    }

    /// An error of a request that has an id, and may have been tried.
    pub(super) fn of(
        rejection: Rejection,
        dialect: Dialect,
        request_id: &str,
        served: Served,
    ) -> Self {
        Self { rejection, dialect, request_id: request_id.to_owned(), served }
    }

    /// The body alone, for a reply whose head is written elsewhere.
    pub(super) fn into_body(self) -> Bytes {
        let Self { rejection, dialect, request_id, served } = self;
        log(&rejection, &request_id, &served);
        dialect.codec().encode_error(&rejection, &request_id).into()
    }

    /// The reply.
    pub(super) fn into_response(self) -> Response {
        let Self { rejection, dialect, request_id, served } = self;
        let face = rejection.face();
        log(&rejection, &request_id, &served);
        let body = dialect.codec().encode_error(&rejection, &request_id);
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = face.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        reply::describe(headers, &request_id, &served);
        if let Some(after) = rejection.retry_after() {
            let ms = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
            headers.insert(RETRY_AFTER, HeaderValue::from(ms.div_ceil(1_000)));
            headers.insert(RETRY_AFTER_MS, HeaderValue::from(ms));
        }
        if rejection.is_hopeless() {
            headers.insert(X_SHOULD_RETRY, HeaderValue::from_static("false"));
        }
        response
    }
}

/// Logs a rejection, once, with its causes, as loudly as its face says.
fn log(rejection: &Rejection, request_id: &str, served: &Served) {
    let face = rejection.face();
    let detail =
        if let Rejection::Internal { detail } = rejection { Some(&**detail) } else { None };
    macro_rules! say {
        ($level:ident) => {
            tracing::$level!(
                request.id = request_id,
                status = face.status.as_u16(),
                code = face.code,
                param = rejection.param(),
                target.id = served.by.as_ref().map(TargetId::as_str),
                attempts = served.attempts,
                detail,
                "request rejected: {}",
                rejection.loggable()
            )
        };
    }
    match face.level {
        tracing::Level::ERROR => say!(error),
        tracing::Level::WARN => say!(warn),
        tracing::Level::INFO => say!(info),
        _ => say!(debug),
    }
}
