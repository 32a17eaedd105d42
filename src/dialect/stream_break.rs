//! What a caller is told where a stream that has begun cannot be ended well.

use serde_json::{Map, Value, json};

use super::StreamSummary;
use crate::failure::{Blame, FailureKind};
use crate::rejection::Rejection;

/// The end of a stream that broke.
#[derive(Debug, Clone, Copy)]
pub struct StreamBreak<'a> {
    /// Why it broke.
    pub rejection: &'a Rejection,
    /// The request's id.
    pub request_id: &'a str,
    /// The id of the provider that was answering, where one was.
    pub provider: Option<&'a str>,
    /// What the caller has of the answer, where there is any of it.
    pub summary: Option<&'a StreamSummary>,
}

// === impl StreamBreak ===

impl StreamBreak<'_> {
    /// The gateway's own words, which ride in the event's `tidegate` field: how many characters of
    /// text, thinking and arguments the caller has, who was answering, whether the same request may
    /// succeed if it is sent again, and the tokens that were counted before the break.
    pub(super) fn extension(&self) -> Value {
        let mut words = Map::new();
        let chars = self.summary.map_or(0, |summary| summary.text.chars());
        words.insert("delivered_chars".to_owned(), chars.into());
        if let Some(provider) = self.provider {
            words.insert("provider".to_owned(), provider.into());
        }
        words.insert("retryable".to_owned(), self.is_retryable().into());
        if let Some(usage) = self.summary.and_then(|summary| summary.usage) {
            let counts = json!({
                "input_tokens": usage.total_input(),
                "output_tokens": usage.total_output(),
            });
            words.insert("usage".to_owned(), counts);
        }
        words.into()
    }

    fn is_retryable(&self) -> bool {
        if let Rejection::StreamFailed { failure } | Rejection::AttemptsFailed { failure, .. } =
            self.rejection
        {
            let kind = failure.kind;
            let is_hopeless = kind.is_refused_credential() || kind == FailureKind::NotServed;
            return failure.kind.blame() != Blame::Caller && !is_hopeless;
        }
        // Busy, too late, or about to be away.
        matches!(self.rejection.face().status.as_u16(), 408 | 429 | 503 | 504)
    }
}
