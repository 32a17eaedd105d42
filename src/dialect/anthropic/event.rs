//! The events of a stream, as they stand on the wire.

use serde::Deserialize;
use serde_json::Value;

use super::super::sse::SseEvent;
use super::failure;
use super::wire::WireUsage;
use crate::failure::{Failure, FailureKind};

/// Any event; which fields are there depends on its type. A missing or null one is empty.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Event {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) index: Option<u64>,
    pub(super) message: Option<StartMessage>,
    pub(super) content_block: Option<Value>,
    pub(super) delta: Option<WireDelta>,
    pub(super) usage: Option<WireUsage>,
    /// The text of Bedrock's oldest Claude models, which speak of completions, not of messages.
    pub(super) completion: Option<String>,
    pub(super) stop_reason: Option<String>,
    pub(super) stop: Option<String>,
    /// Bedrock's own count on the last event, the only one its oldest models have.
    #[serde(rename = "amazon-bedrock-invocationMetrics")]
    pub(super) metrics: Option<Metrics>,
}

/// What Bedrock counted.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Metrics {
    input_token_count: Option<u64>,
    output_token_count: Option<u64>,
}

/// `message` of `message_start`, as far as it is not empty by its nature.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct StartMessage {
    pub(super) id: Option<String>,
    pub(super) model: Option<String>,
    pub(super) usage: Option<WireUsage>,
}

/// `delta` of `content_block_delta` and of `message_delta`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct WireDelta {
    #[serde(rename = "type")]
    pub(super) kind: Option<String>,
    pub(super) text: Option<String>,
    pub(super) thinking: Option<String>,
    pub(super) signature: Option<String>,
    pub(super) partial_json: Option<String>,
    pub(super) stop_reason: Option<String>,
    pub(super) stop_sequence: Option<String>,
}

// === impl Event ===

impl Event {
    /// Reads an event; `None` for one that says nothing: a comment, or the `[DONE]` that some
    /// gateways append. `is_begun` says whether the answer's first token has passed.
    pub(super) fn read(event: &SseEvent<'_>, is_begun: bool) -> Result<Option<Self>, Failure> {
        let data = event.data.trim();
        if data.is_empty() || data == "[DONE]" {
            return Ok(None);
        }
        let mut read: Self = match serde_json::from_str(data) {
            Ok(read) => read,
            Err(_) if event.name == "error" => return Err(provider_error(data, is_begun)),
            Err(error) => {
                let problem = format!("an event of the stream cannot be read: {error}");
                return Err(Failure::new(FailureKind::MidStream, problem));
            }
        };
        if read.kind.is_empty() {
            let is_legacy = event.name.is_empty() && read.completion.is_some();
            let kind = if is_legacy { "completion" } else { event.name };
            kind.clone_into(&mut read.kind);
        }
        if read.kind == "error" {
            return Err(provider_error(data, is_begun));
        }
        Ok(Some(read))
    }
}

// === impl Metrics ===

impl Metrics {
    /// The counts as the wire's own usage.
    pub(super) fn usage(self) -> WireUsage {
        WireUsage::of(self.input_token_count, self.output_token_count)
    }
}

/// The provider's error event. Before the first token it is classified like an error answer.
fn provider_error(data: &str, is_begun: bool) -> Failure {
    let body: Value = serde_json::from_str(data).unwrap_or_else(|_| Value::from(data));
    let mut failure = failure::event(&body, FailureKind::ServerFault);
    if failure.message.is_empty() {
        failure.message = "the provider sent an error event".to_owned();
    }
    if is_begun {
        failure.kind = FailureKind::MidStream;
    }
    failure
}
