//! What the codecs of all dialects have to read out of a provider's words, because no code says it.
//!
//! The dialects are spoken by many hosts, and hosts borrow each other's sentences, so the lists are
//! one for all.

use http::StatusCode;

use crate::failure::FailureKind;

#[cfg(test)]
mod tests;

/// How much of an answer that is no JSON is quoted.
pub(super) const QUOTE_CHARS: usize = 200;

/// How hosts say that a prompt is longer than the model takes, in lower case.
const TOO_LONG: &[&str] = &[
    "maximum context length",
    "max context length",
    "maximum prompt length",
    "prompt is too long",
    "input is too long",
    "exceed context limit",
    "exceeds the context window",
    "exceeds the available context size",
    "please reduce the length of the messages",
];

/// How hosts say that they do not have a model, where the status does not.
const UNKNOWN_MODEL: &[&str] = &[
    "invalid model: ",
    "is not a valid model id",
    "model identifier is invalid",
    "supported models are",
    "has been decommissioned",
];

/// Makes a caller's fault more exact: a prompt that is too long, or a model that is not there.
pub(super) fn refine(kind: FailureKind, message: &str) -> FailureKind {
    if kind != FailureKind::CallerFault {
        return kind;
    }
    let lower = message.to_lowercase();
    let says = |list: &[&str]| list.iter().any(|words| lower.contains(words));
    let counted = lower.contains("input token count") && lower.contains("exceeds");
    if counted || says(TOO_LONG) {
        FailureKind::ContextTooLong
    } else if says(UNKNOWN_MODEL) {
        FailureKind::NotServed
    } else {
        kind
    }
}

/// A provider's message, or, where it has none, a sentence of ours that says so.
pub(super) fn or_silence(message: String, status: StatusCode, body: &[u8]) -> String {
    if !message.trim().is_empty() {
        return message;
    }
    let what =
        if body.trim_ascii().is_empty() { "with an empty body" } else { "without a message" };
    format!("the provider answered {} {what}", status.as_u16())
}

/// The beginning of a body that is no JSON. Pages are not worth quoting.
pub(super) fn quote(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body.get(..4 * QUOTE_CHARS).unwrap_or(body));
    let text = text.trim();
    match text.starts_with('<') {
        true => "the provider answered with a page of HTML".to_owned(),
        false => text.chars().take(QUOTE_CHARS).collect(),
    }
}
