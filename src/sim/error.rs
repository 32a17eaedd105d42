//! Error answers as the providers write them.

use http::StatusCode;
use serde_json::{Value, json};

use crate::dialect::Dialect;

/// What a simulated provider complains about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Complaint {
    pub(super) status: StatusCode,
    pub(super) message: String,
    /// OpenAI's `type` and `code`, where they are not those of the status.
    kind: Option<(&'static str, &'static str)>,
    param: Option<String>,
    /// Gemini's `RetryInfo`, in seconds.
    pub(super) retry_seconds: Option<u64>,
}

// === impl Complaint ===

impl Complaint {
    pub(super) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), kind: None, param: None, retry_seconds: None }
    }

    pub(super) fn invalid(message: impl Into<String>, param: Option<&str>) -> Self {
        let param = param.map(str::to_owned);
        Self { param, ..Self::new(StatusCode::BAD_REQUEST, message) }
    }

    /// What a provider says to a status that a scenario asks for.
    pub(super) fn of_status(status: StatusCode, dialect: Dialect, model: &str) -> Self {
        match status.as_u16() {
            401 => Self::unauthorized(dialect),
            404 => Self::unknown_model(dialect, model),
            code => Self::new(status, words(code)),
        }
    }

    pub(super) fn unauthorized(dialect: Dialect) -> Self {
        match dialect {
            Dialect::OpenAiChat => Self {
                kind: Some(("invalid_request_error", "invalid_api_key")),
                ..Self::new(StatusCode::UNAUTHORIZED, "Incorrect API key provided.")
            },
            Dialect::Anthropic => Self::new(StatusCode::UNAUTHORIZED, "invalid x-api-key"),
            Dialect::Gemini => Self::new(
                StatusCode::BAD_REQUEST,
                "API key not valid. Please pass a valid API key.",
            ),
        }
    }

    pub(super) fn unknown_model(dialect: Dialect, model: &str) -> Self {
        let message = match dialect {
            Dialect::OpenAiChat => format!("The model `{model}` does not exist"),
            Dialect::Anthropic => format!("model: {model}"),
            Dialect::Gemini => format!("models/{model} is not found for API version v1beta"),
        };
        Self {
            kind: Some(("invalid_request_error", "model_not_found")),
            ..Self::new(StatusCode::NOT_FOUND, message)
        }
    }

    /// A limit of `what` is used up.
    pub(super) fn limited(what: &'static str, model: &str) -> Self {
        Self {
            kind: Some((what, "rate_limit_exceeded")),
            ..Self::new(
                StatusCode::TOO_MANY_REQUESTS,
                format!("Rate limit reached for {model} on {what} per minute."),
            )
        }
    }

    /// The body of an error answer.
    pub(super) fn body(&self, dialect: Dialect, request_id: &str) -> Value {
        match dialect {
            Dialect::OpenAiChat => self.openai(),
            Dialect::Anthropic => {
                let kind = anthropic_kind(self.status.as_u16());
                let error = json!({"type": kind, "message": self.message});
                json!({"type": "error", "error": error, "request_id": request_id})
            }
            Dialect::Gemini => self.gemini(),
        }
    }

    /// The event that a stream ends with.
    pub(super) fn event(&self, dialect: Dialect, request_id: &str) -> Vec<u8> {
        let name = if dialect == Dialect::Anthropic { "error" } else { "" };
        let mut event = Vec::new();
        let body = self.body(dialect, request_id).to_string();
        crate::dialect::sse::write(&mut event, name, body.as_bytes());
        event
    }

    fn openai(&self) -> Value {
        let (kind, code) = match (self.kind, self.status.as_u16()) {
            (Some((kind, code)), _) => (kind, Some(code)),
            (None, 401 | 403) => ("invalid_request_error", Some("invalid_api_key")),
            (None, 402) => ("insufficient_quota", Some("insufficient_quota")),
            (None, 429) => ("requests", Some("rate_limit_exceeded")),
            (None, 400..=499) => ("invalid_request_error", None),
            (None, _) => ("server_error", None),
        };
        let error = json!({
            "message": self.message, "type": kind, "param": self.param, "code": code,
        });
        json!({ "error": error })
    }

    fn gemini(&self) -> Value {
        let code = self.status.as_u16();
        let mut error = json!({
            "code": code, "message": self.message, "status": gemini_status(code),
        });
        if let Some(seconds) = self.retry_seconds {
            error["details"] = json!([{
                "@type": "type.googleapis.com/google.rpc.RetryInfo",
                "retryDelay": format!("{seconds}s"),
            }]);
        }
        json!({ "error": error })
    }
}

fn words(code: u16) -> &'static str {
    match code {
        402 => "Your credit balance is too low.",
        403 => "Your key may not use this model.",
        408 => "The request timed out.",
        413 => "The request is too large.",
        422 => "The request could not be processed.",
        429 => "Rate limit reached.",
        503 => "The model is overloaded. Please try again later.",
        529 => "Overloaded",
        _ if code < 500 => "The request was refused.",
        _ => "The server had an error while processing your request.",
    }
}

fn anthropic_kind(code: u16) -> &'static str {
    match code {
        401 => "authentication_error",
        402 => "billing_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        504 => "timeout_error",
        529 | 503 => "overloaded_error",
        _ if code < 500 => "invalid_request_error",
        _ => "api_error",
    }
}

fn gemini_status(code: u16) -> &'static str {
    match code {
        401 => "UNAUTHENTICATED",
        403 => "PERMISSION_DENIED",
        404 => "NOT_FOUND",
        429 => "RESOURCE_EXHAUSTED",
        503 | 529 => "UNAVAILABLE",
        504 => "DEADLINE_EXCEEDED",
        _ if code < 500 => "INVALID_ARGUMENT",
        _ => "INTERNAL",
    }
}
