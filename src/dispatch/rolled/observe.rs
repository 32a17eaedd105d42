//! What a request that has ended says of its side.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;

use super::{Rolled, language};
use crate::chat::FinishReason;
use crate::dialect::StreamSummary;
use crate::dispatch::Call;
use crate::failure::FailureKind;
use crate::ids::{CallerId, RequestId};
use crate::journal::{Entry, Outcome, Part};
use crate::policy::rollout::{Arm, Guardrail, HardFailure, Observation, Readings, Traits};
use crate::prompt::compile_callers_schema;
use crate::rollout::{Note, Noted, Subject};

/// What is to be known of a request that takes part in a rollout, when it has ended.
#[derive(Debug)]
pub(in crate::dispatch) struct Watched {
    side: Rolled,
    caller: CallerId,
    /// The body as its caller sent it: the same on both sides.
    sent: Bytes,
    shape: Option<Shape>,
    /// By what both sides are told as a pair, where the candidate is asked, too.
    pair: Option<RequestId>,
    /// Its part in the rollout of its route's model, where it has one in that of its prompt.
    beside: Option<Box<Self>>,
}

/// The longest description of a form that answers are held against. The longer ones of callers take
/// more time than the answer is worth.
const MAX_SHAPE_BYTES: usize = 16 << 10;

/// The form in which an answer was asked for.
#[derive(Debug, PartialEq)]
enum Shape {
    /// Any JSON.
    Json,
    /// JSON of this schema.
    Schema(Box<Value>),
}

/// The form that a call asks for; `None` where it may be any.
fn shape_of(call: &Call) -> Option<Shape> {
    let asked = call.envelope.raw("response_format").or_else(|| call.envelope.raw("output_config"));
    let asked = asked.filter(|asked| asked.len() <= MAX_SHAPE_BYTES)?;
    let asked: Value = serde_json::from_slice(asked).ok()?;
    let schema = asked.pointer("/json_schema/schema").or_else(|| asked.pointer("/format/schema"));
    match (schema, asked.get("type").and_then(Value::as_str)) {
        (Some(schema), _) => Some(Shape::Schema(Box::new(schema.clone()))),
        (None, Some("json_object" | "json_schema")) => Some(Shape::Json),
        (None, Some(_) | None) => None,
    }
}

// === impl Watched ===

impl Watched {
    pub(in crate::dispatch) fn new(side: &Rolled, call: &Call, pair: Option<RequestId>) -> Self {
        Self {
            side: side.clone(),
            caller: call.caller.id.clone(),
            sent: call.sent().clone(),
            shape: shape_of(call),
            pair,
            beside: None,
        }
    }

    /// With its part in another rollout.
    pub(super) fn with(mut self, beside: Option<Box<Self>>) -> Self {
        self.beside = beside;
        self
    }

    /// Notes that the candidate is asked as well.
    pub(in crate::dispatch) fn shadow(&mut self, pair: RequestId) {
        self.pair = Some(pair);
    }

    /// The rollout and the request's side.
    pub(in crate::dispatch) fn side(&self) -> (Arc<str>, Arm) {
        (Arc::clone(&self.side.steered.id), self.side.arm)
    }

    /// The request's part, once it has ended.
    pub(in crate::dispatch) fn part(
        &self,
        entry: &Entry,
        summary: Option<&StreamSummary>,
    ) -> Box<Part> {
        let finish = summary.and_then(|summary| summary.finish.as_ref());
        let is_of_prompt = matches!(self.side.steered.subject, Subject::Prompt { .. });
        let traits = Traits {
            caller: Some(self.caller.as_str().into()),
            language: language::of_unit(self.side.unit, &self.sent)
                .map(|language| (*language).into()),
            prompt_size: Some(size_class(self.sent.len()).into()),
            // A candidate that is another model changes it.
            provider: entry
                .provider
                .as_ref()
                .filter(|_| is_of_prompt)
                .map(|provider| provider.as_str().into()),
        };
        let has_ended = entry.outcome == Outcome::Complete;
        let shape = self.shape.as_ref().filter(|_| has_ended).zip(summary);
        Box::new(Part {
            rollout: Arc::clone(&self.side.steered.id),
            arm: self.side.arm,
            share: self.side.share(),
            unit: self.side.unit,
            traits,
            pair: self.pair.clone(),
            beside: self.beside.as_ref().map(|beside| beside.part(entry, summary)),
            is_refused: matches!(finish, Some(FinishReason::ContentFilter | FinishReason::Refusal)),
            is_invalid: shape.and_then(|(shape, summary)| shape.is_missed(summary)),
        })
    }
}

/// A few classes of bodies by their length in bytes.
fn size_class(bytes: usize) -> &'static str {
    match bytes {
        ..2_000 => "under 2 kB",
        2_000..8_000 => "2 to 8 kB",
        8_000..32_000 => "8 to 32 kB",
        _ => "over 32 kB",
    }
}

// === impl Shape ===

impl Shape {
    /// Whether an answer that has ended is not of this form. `None` where that cannot be told: only
    /// the beginning of a long one is there, or a tool was called instead.
    fn is_missed(&self, summary: &StreamSummary) -> Option<bool> {
        let text = &summary.text;
        if summary.has_tool_calls || summary.finish == Some(FinishReason::Refusal) {
            return None;
        }
        if text.bytes() > text.head().len() as u64 {
            return None;
        }
        let Ok(value) = serde_json::from_str::<Value>(text.head()) else { return Some(true) };
        match self {
            Self::Json => Some(false),
            // A schema that cannot be used is the caller's affair.
            Self::Schema(schema) => {
                let schema = compile_callers_schema(schema);
                Some(schema.is_some_and(|schema| !schema.is_valid(&value)))
            }
        }
    }
}

/// What the rollout learns of a request; nothing of one that was refused before an attempt, or
/// given another's answer.
pub(super) fn observation(entry: &Entry, part: &Part) -> Option<Note> {
    if entry.reuse.is_some() {
        return None;
    }
    let (readings, hard) = match entry.outcome {
        Outcome::Rejected => return None,
        Outcome::ClientGone => (left(entry), None),
        Outcome::Complete | Outcome::Spliced | Outcome::Cut | Outcome::Failed => {
            (ended(entry, part), Some(hard(entry)))
        }
    };
    let seen = Observation {
        arm: part.arm,
        share: part.share,
        unit: part.unit,
        hard,
        readings,
        traits: part.traits.clone(),
    };
    Some(Note { rollout: Arc::clone(&part.rollout), noted: Noted::Observed(seen) })
}

/// What can be compared with the other side of a pair.
pub(super) fn comparable(entry: &Entry, part: &Part) -> Option<Readings> {
    match entry.outcome {
        Outcome::Rejected | Outcome::ClientGone => None,
        Outcome::Complete | Outcome::Spliced | Outcome::Cut | Outcome::Failed => {
            Some(ended(entry, part)).filter(|_| entry.reuse.is_none())
        }
    }
}

/// Of a request whose caller left: it took this long at least, and before the first token it is as
/// if there had been no answer. What has callers leave has them leave on both sides.
fn left(entry: &Entry) -> Readings {
    let waited_ms = entry.first_token.unwrap_or(entry.latency).as_secs_f64() * 1e3;
    let readings = Readings::default();
    match (entry.streamed, entry.first_token) {
        (true, Some(_)) => readings.with(Guardrail::FirstToken, waited_ms),
        (true, None) => {
            readings.with(Guardrail::FirstToken, waited_ms).with_flag(Guardrail::Incomplete, true)
        }
        // One that comes whole has no first token; whoever leaves has nothing of it.
        (false, _) => readings.with_flag(Guardrail::Incomplete, true),
    }
}

/// Of a request that ended, well or not.
fn ended(entry: &Entry, part: &Part) -> Readings {
    let refused = entry.failure == Some(FailureKind::Policy) || part.is_refused;
    let mut readings = Readings::default()
        .with_flag(Guardrail::Errors, has_failed(entry))
        .with_flag(Guardrail::Refusals, refused);
    if entry.outcome == Outcome::Failed {
        return readings;
    }
    let is_whole = entry.outcome == Outcome::Complete;
    readings = readings.with_flag(Guardrail::Incomplete, !is_whole);
    if let Some(is_invalid) = part.is_invalid {
        readings = readings.with_flag(Guardrail::InvalidOutput, is_invalid);
    }
    let first_token = entry.first_token.filter(|_| entry.streamed);
    if let Some(first_token) = first_token {
        readings = readings.with(Guardrail::FirstToken, first_token.as_secs_f64() * 1e3);
    }
    let output = entry.usage.total_output();
    if is_whole && output > 0 {
        #[expect(clippy::cast_precision_loss, reason = "token counts are far below 2^52")]
        let tokens = output as f64;
        #[expect(clippy::cast_precision_loss, reason = "costs are far below 2^52 micro dollars")]
        let cost = entry.cost.0 as f64;
        let flowed = entry.latency.saturating_sub(first_token.unwrap_or_default());
        readings = readings
            .with(Guardrail::Pace, flowed.as_secs_f64() * 1e3 / tokens)
            .with(Guardrail::Longer, tokens)
            .with(Guardrail::Shorter, tokens);
        if cost > 0.0 {
            readings = readings.with(Guardrail::Cost, cost);
        }
    }
    readings
}

/// Whether an attempt failed, also where another made it good: else the route's other targets would
/// hide what the candidate does.
fn has_failed(entry: &Entry) -> bool {
    entry.failure.map_or(entry.outcome == Outcome::Failed, |kind| kind != FailureKind::Policy)
}

fn hard(entry: &Entry) -> HardFailure {
    if !has_failed(entry) {
        return HardFailure::No;
    }
    match entry.failure {
        Some(
            FailureKind::AuthFault
            | FailureKind::NotServed
            | FailureKind::CallerFault
            | FailureKind::HardQuota,
        ) => HardFailure::Rejected,
        Some(
            FailureKind::Transport
            | FailureKind::SlowStart
            | FailureKind::ServerFault
            | FailureKind::Overloaded
            | FailureKind::RateLimited
            | FailureKind::ContextTooLong
            | FailureKind::Policy
            | FailureKind::MidStream
            | FailureKind::Degenerate,
        )
        | None => HardFailure::Failed,
    }
}
