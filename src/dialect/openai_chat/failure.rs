//! What a provider of the chat completions family means by an error.
//!
//! Everyone sends errors in a shape of their own: OpenAI's `{error: {message, type, param, code}}`,
//! the same flat (Mistral, Cerebras), `{detail}` (FastAPI), `{code, error: "text"}` (xAI), integer
//! codes with the real error as text in `metadata.raw` (OpenRouter), a bare text, a page of HTML.
//! All are read by the same few steps; what they have no word for keeps the kind of its status.

use http::{HeaderMap, StatusCode};
use serde_json::{Map, Value};

use crate::dialect::{retry_after, words};
use crate::failure::{Failure, FailureKind};

#[cfg(test)]
mod tests;

/// Codes and types, in lower case, that say more than a status, in the order they are tried.
#[rustfmt::skip] // A table reads best as a table.
const WORDS: &[(FailureKind, &[&str])] = &[
    (FailureKind::Policy, &[
        "content_filter", "content_policy_violation", "responsibleaipolicyviolation",
        "moderation_blocked", "content_policy", "sensitive_content",
    ]),
    (FailureKind::HardQuota, &[
        "insufficient_quota", "billing_hard_limit_reached", "billing_not_active",
        "insufficient_balance", "insufficient_credits", "quota_exceeded", "payment_required",
    ]),
    (FailureKind::ContextTooLong, &["context_length_exceeded", "exceed_context_size_error"]),
    (FailureKind::NotServed, &[
        "model_not_found", "model_not_available", "model_decommissioned", "invalid_model",
        "deploymentnotfound", "unknown_model",
    ]),
    (FailureKind::CallerFault, &["string_above_max_length"]),
    (FailureKind::Degenerate, &["tool_use_failed", "json_validate_failed"]),
    (FailureKind::AuthFault, &[
        "invalid_api_key", "wrong_api_key", "authentication_error", "invalid_authentication",
        "account_deactivated", "unauthorized",
    ]),
    (FailureKind::Overloaded, &[
        "overloaded", "overloaded_error", "engine_overloaded", "engine_overloaded_error",
        "capacity_exceeded", "service_tier_capacity_exceeded",
    ]),
    (FailureKind::RateLimited, &[
        "rate_limit_exceeded", "rate_limit_error", "rate_limited", "ratelimitreached",
        "too_many_requests", "rate_limit_reached_error",
    ]),
    (FailureKind::ServerFault, &[
        "server_error", "internal_server_error", "internal_error", "internalservererror",
        "api_error", "service_unavailable", "timeout", "upstream_error",
    ]),
];

/// What the provider's message says where its code says nothing, in lower case.
const PHRASES: &[(FailureKind, &[&str])] = &[
    (FailureKind::Policy, &["content violates usage guidelines", "content management policy"]),
    (FailureKind::AuthFault, &["incorrect api key", "invalid api key", "api key not valid"]),
    (
        FailureKind::HardQuota,
        &["insufficient balance", "insufficient credits", "requires more credits"],
    ),
];

/// What an error body says.
#[derive(Debug, Default)]
struct Words {
    message: String,
    code: Option<String>,
    kind: Option<String>,
    param: Option<String>,
    /// A status inside the body.
    status: Option<StatusCode>,
}

/// Classifies an error answer.
pub(super) fn decode_failure(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Failure {
    let retry_after = retry_after::of_headers(headers);
    let base = FailureKind::from_status(status, retry_after);
    let mut said = match serde_json::from_slice::<Value>(body) {
        Ok(value) => Words::of(&value),
        Err(_) => Words { message: words::quote(body), ..Words::default() },
    };
    said.message = words::or_silence(said.message, status, body);
    let mut failure = said.failure(base).with_status(status);
    failure.retry_after = retry_after;
    failure
}

/// Classifies an error that came with HTTP 200: the whole of an answer, or an event of a stream.
/// The value is the object that has the error in it. Where it gives no hint, `otherwise`.
pub(super) fn failure_from_error_value(value: &Value, otherwise: FailureKind) -> Failure {
    let words = Words::of(value);
    let status = words.status;
    let base = status.map_or(otherwise, |status| FailureKind::from_status(status, None));
    let mut failure = words.failure(base);
    failure.status = status;
    failure
}

/// Whether an object is an error rather than an answer.
pub(super) fn is_error(value: &Map<String, Value>) -> bool {
    let has = |key: &str| value.get(key).is_some_and(|value| !value.is_null());
    has("error")
        || value.get("object").and_then(Value::as_str) == Some("error")
        || (!has("choices") && !has("usage") && !has("data") && (has("detail") || has("message")))
}

// === impl Words ===

impl Words {
    fn of(root: &Value) -> Self {
        match root {
            Value::String(text) => Self { message: text.clone(), ..Self::default() },
            Value::Array(items) => {
                items.first().filter(|item| item.is_object()).map(Self::of).unwrap_or_default()
            }
            Value::Object(object) => Self::of_object(object),
            Value::Null | Value::Bool(_) | Value::Number(_) => Self::default(),
        }
    }

    fn of_object(root: &Map<String, Value>) -> Self {
        match root.get("error") {
            Some(Value::Object(error)) => Self::of_error(error),
            Some(Value::String(text)) => Self { message: text.clone(), ..Self::of_error(root) },
            _ => match root.get("detail").filter(|_| !root.contains_key("message")) {
                Some(detail) => Self { message: detail_text(detail), ..Self::of_error(root) },
                None => Self::of_error(root),
            },
        }
    }

    fn of_error(error: &Map<String, Value>) -> Self {
        let text = |key: &str| word(error.get(key));
        let mut words = Self {
            message: match error.get("message") {
                Some(Value::String(text)) => text.clone(),
                None | Some(Value::Null) => String::new(),
                Some(other) => other.to_string(),
            },
            code: text("code"),
            kind: text("type"),
            param: text("param"),
            status: ["code", "status_code", "raw_status_code", "status"]
                .iter()
                .find_map(|key| as_status(error.get(*key))),
        };
        let raw = error.get("metadata").and_then(|metadata| metadata.get("raw"));
        if let Some(Value::String(raw)) = raw {
            words.refine(raw);
        }
        if let Some(inner) = word(error.get("innererror").and_then(|inner| inner.get("code"))) {
            words.kind = Some(inner);
        }
        words
    }

    /// Takes over what the provider behind the provider said.
    fn refine(&mut self, raw: &str) {
        let inner = match serde_json::from_str::<Value>(raw) {
            // One level is what there is; a second `metadata.raw` inside would be an attack.
            Ok(Value::Object(mut object)) => {
                if let Some(Value::Object(error)) = object.get_mut("error") {
                    error.remove("metadata");
                }
                object.remove("metadata");
                Self::of_object(&object)
            }
            Ok(_) => Self::default(),
            Err(_) => Self { message: raw.to_owned(), ..Self::default() },
        };
        if !inner.message.is_empty() {
            self.message = inner.message;
        }
        self.kind = inner.kind.or(self.kind.take());
        self.param = inner.param.or(self.param.take());
        if let Some(code) = inner.code {
            self.code = Some(code);
        }
    }

    fn failure(self, base: FailureKind) -> Failure {
        let kind = words::refine(self.classify(base), &self.message);
        let mut failure = Failure::new(kind, self.message);
        failure.code = self.code.or(self.kind);
        failure.param = self.param;
        failure
    }

    fn classify(&self, base: FailureKind) -> FailureKind {
        let words =
            [&self.code, &self.kind].map(|word| word.as_deref().unwrap_or("").to_lowercase());
        let named = WORDS
            .iter()
            .find(|(_, list)| words.iter().any(|word| list.contains(&word.as_str())))
            .map(|(kind, _)| *kind);
        match (named, base) {
            // A status says more than a general word.
            (Some(FailureKind::ServerFault), FailureKind::MidStream | FailureKind::Degenerate) => {
                FailureKind::ServerFault
            }
            (Some(FailureKind::ServerFault), _) | (None, _) => {
                self.phrase().unwrap_or_else(|| self.general(base, &words))
            }
            (Some(kind), _) => kind,
        }
    }

    fn phrase(&self) -> Option<FailureKind> {
        let message = self.message.to_lowercase();
        let said = |list: &[&str]| list.iter().any(|phrase| message.contains(phrase));
        PHRASES.iter().find(|(_, list)| said(list)).map(|(kind, _)| *kind)
    }

    /// An error inside a 200 that names no status may still say whose fault it is.
    fn general(&self, base: FailureKind, words: &[String; 2]) -> FailureKind {
        let is_ours = words.iter().any(|word| word == "invalid_request_error");
        let is_open = matches!(base, FailureKind::MidStream | FailureKind::Degenerate);
        if is_ours && is_open { FailureKind::CallerFault } else { base }
    }
}

/// A text, or a number as text.
fn word(value: Option<&Value>) -> Option<String> {
    match value? {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Null | Value::Bool(_) | Value::String(_) | Value::Array(_) | Value::Object(_) => {
            None
        }
    }
}

fn as_status(value: Option<&Value>) -> Option<StatusCode> {
    let number = match value? {
        Value::Number(number) => u16::try_from(number.as_u64()?).ok()?,
        Value::String(text) => text.parse().ok()?,
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => return None,
    };
    // Codes of the provider's own, such as Mistral's 1500 or Cloudflare's 3043, are none.
    StatusCode::from_u16(number).ok().filter(|status| (400..600).contains(&status.as_u16()))
}

/// FastAPI's `detail`: a text, or a list of complaints of which the first is quoted.
fn detail_text(detail: &Value) -> String {
    match detail {
        Value::String(text) => text.clone(),
        Value::Array(items) => items
            .first()
            .and_then(|item| item.get("msg"))
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => detail.to_string(),
    }
}
