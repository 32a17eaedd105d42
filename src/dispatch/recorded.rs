//! Answers that are recorded as golden cases, read beside their callers.

use bytes::Bytes;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Map, Value};

use super::cached::without_credential;
use super::tap::Gatherer;
use super::{Answer, Call, Lane, Served};
use crate::chat::{Completion, FinishReason};
use crate::dialect::Dialect;
use crate::ids::CallerId;
use crate::journal::EndpointKind;
use crate::runs::{Captured, MAX_ANSWER_BYTES, Slot};

/// Records one answer, when all of it has passed.
#[derive(Debug)]
pub(super) struct Recorder {
    /// Until it is recorded.
    taken: Option<(Slot, Captured)>,
    dialect: Dialect,
    /// Reads what the caller of a stream gets.
    gatherer: Option<Gatherer>,
}

/// What of a request makes a case, and what keeps it from being one.
#[derive(Debug, Deserialize)]
struct Sent {
    prompt: SentPrompt,
    #[serde(default)]
    messages: Option<Vec<IgnoredAny>>,
    #[serde(default)]
    system: Option<IgnoredAny>,
}

#[derive(Debug, Deserialize)]
struct SentPrompt {
    #[serde(default)]
    variables: Option<Map<String, Value>>,
}

impl Lane {
    /// Records the answer to a call, where its prompt's are. What the gateway asks for itself is
    /// not traffic.
    pub(super) fn recorder(&self, call: &Call) -> Option<Box<Recorder>> {
        let prompted = call.prompted.as_ref()?;
        match call.kind {
            EndpointKind::Chat | EndpointKind::Messages => {}
            EndpointKind::Completions | EndpointKind::Embeddings | EndpointKind::CountTokens => {
                return None;
            }
        }
        if call.caller.id == CallerId::gateway() {
            return None;
        }
        let slot = self.recordings.claim(prompted.prompt.id.as_str())?;
        // A case has variables and nothing else: it could not be asked again with a history.
        let Some(vars) = Sent::variables(&prompted.sent) else {
            slot.leave_out();
            return None;
        };
        let captured = Captured {
            request: call.request_id.as_str().to_owned(),
            vars,
            text: String::new(),
            model: String::new(),
            at_ms: self.ledger.unix_ms(),
        };
        Some(Box::new(Recorder {
            taken: Some((slot, captured)),
            dialect: call.dialect,
            gatherer: None,
        }))
    }
}

// === impl Sent ===

impl Sent {
    /// The variables of a request that says nothing else.
    fn variables(body: &[u8]) -> Option<Map<String, Value>> {
        let sent: Self = serde_json::from_slice(body).ok()?;
        let is_alone = sent.messages.is_none_or(|all| all.is_empty()) && sent.system.is_none();
        is_alone.then(|| sent.prompt.variables.unwrap_or_default())
    }
}

// === impl Recorder ===

impl Recorder {
    /// Records an answer: a whole one now, a stream when it has passed.
    pub(super) fn watch(mut self: Box<Self>, answer: Answer) -> Answer {
        match answer {
            Answer::Whole(body, served) => {
                if self.is_of_model(&served) && body.len() <= 2 * MAX_ANSWER_BYTES {
                    let said = self.dialect.codec().decode_reply(&body).ok();
                    self.keep(said);
                }
                Answer::Whole(body, served)
            }
            Answer::Stream(mut stream, served) => {
                // Of one that was committed early nobody knows yet who serves it.
                if self.is_of_model(&served) || served.by.is_none() {
                    self.gatherer = Some(Gatherer::new(self.dialect, MAX_ANSWER_BYTES));
                    stream.record(self);
                }
                Answer::Stream(stream, served)
            }
        }
    }

    /// Takes what the caller of a stream gets next.
    pub(super) fn push(&mut self, bytes: &Bytes) {
        if let Some(gatherer) = &mut self.gatherer {
            gatherer.push(bytes);
        }
    }

    /// Whether a model gave the answer, now and as it was asked to.
    fn is_of_model(&mut self, served: &Served) -> bool {
        if let (Some((_, captured)), Some(by)) = (&mut self.taken, &served.by) {
            captured.model = without_credential(by).as_str().to_owned();
        }
        served.by.is_some() && served.degradation == 0 && served.from_cache.is_none()
    }

    fn keep(&mut self, said: Option<Completion>) {
        let Some((slot, mut captured)) = self.taken.take() else { return };
        let Some(said) = said else { return slot.leave_out() };
        let [choice] = &said.choices[..] else { return slot.leave_out() };
        let is_whole =
            matches!(choice.finish, Some(FinishReason::Stop | FinishReason::StopSequence(_)));
        let text: String = choice.parts.iter().filter_map(|part| part.as_text()).collect();
        if !is_whole || text.trim().is_empty() || text.len() > MAX_ANSWER_BYTES {
            return slot.leave_out();
        }
        if captured.model.is_empty() {
            captured.model = said.model;
        }
        captured.text = text;
        slot.keep(captured);
    }
}

impl Drop for Recorder {
    /// A stream is over for whoever reads it when it is dropped, however it ended.
    fn drop(&mut self) {
        let said = self.gatherer.take().and_then(|gatherer| gatherer.finish().ok());
        self.keep(said);
    }
}
