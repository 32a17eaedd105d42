//! Reading JSON of this wire: strictly with a path where a caller wrote it, leniently where a
//! provider did; and the small shapes that requests and answers share.

use std::fmt;

use serde_json::{Map, Value, json};

use crate::chat::{Extra, FinishReason, Logprob, TopLogprob};
use crate::failure::{Failure, FailureKind};
use crate::rejection::Rejection;

/// Where a value stands in a request. A chain on the stack; becomes text only in an error.
#[derive(Debug, Clone, Copy)]
pub(super) struct At<'a> {
    up: Option<&'a Self>,
    step: Step<'a>,
}

#[derive(Debug, Clone, Copy)]
enum Step<'a> {
    Key(&'a str),
    Index(usize),
}

// === impl At ===

impl<'a> At<'a> {
    /// A field of the request.
    pub(super) fn top(key: &'a str) -> Self {
        Self { up: None, step: Step::Key(key) }
    }

    /// A field of this value.
    pub(super) fn key(&'a self, key: &'a str) -> Self {
        Self { up: Some(self), step: Step::Key(key) }
    }

    /// An element of this value.
    pub(super) fn index(&'a self, index: usize) -> Self {
        Self { up: Some(self), step: Step::Index(index) }
    }

    /// The field's own name; empty for an element.
    pub(super) fn last_key(&self) -> &'a str {
        match self.step {
            Step::Key(key) => key,
            Step::Index(_) => "",
        }
    }

    /// An error about this value; `problem` goes on after the path: "must be …".
    pub(super) fn wrong(&self, problem: impl fmt::Display) -> Rejection {
        let param = self.to_string();
        Rejection::invalid(param.clone(), format!("`{param}` {problem}"))
    }

    /// An error about a value of the wrong type.
    pub(super) fn not_a(&self, wanted: &str, found: &Value) -> Rejection {
        self.wrong(format_args!("must be {wanted}, not {}", type_name(found)))
    }

    /// An error about a value that is not there.
    pub(super) fn missing(&self, wanted: &str) -> Rejection {
        self.wrong(format_args!("is missing; it must be {wanted}"))
    }

    pub(super) fn string(&self, value: Value) -> Result<String, Rejection> {
        if let Value::String(text) = value { Ok(text) } else { Err(self.not_a("a string", &value)) }
    }

    pub(super) fn boolean(&self, value: &Value) -> Result<bool, Rejection> {
        value.as_bool().ok_or_else(|| self.not_a("true or false", value))
    }

    pub(super) fn number(&self, value: &Value) -> Result<f64, Rejection> {
        value.as_f64().ok_or_else(|| self.not_a("a number", value))
    }

    pub(super) fn unsigned(&self, value: &Value) -> Result<u64, Rejection> {
        if let Some(number) = count(value) {
            return Ok(number);
        }
        match value.as_f64() {
            Some(_) => Err(self.wrong("must be a whole number, 0 or more")),
            None => Err(self.not_a("a whole number, 0 or more", value)),
        }
    }

    pub(super) fn small(&self, value: &Value) -> Result<u32, Rejection> {
        u32::try_from(self.unsigned(value)?).map_err(|_| self.wrong("is too large"))
    }

    pub(super) fn signed(&self, value: &Value) -> Result<i64, Rejection> {
        let whole = value.as_i64().or_else(|| count(value).and_then(|n| i64::try_from(n).ok()));
        match (whole, value.as_f64()) {
            (Some(number), _) => Ok(number),
            (None, Some(_)) => Err(self.wrong("must be a whole number of at most 64 bits")),
            (None, None) => Err(self.not_a("a whole number", value)),
        }
    }

    pub(super) fn array(&self, value: Value) -> Result<Vec<Value>, Rejection> {
        if let Value::Array(items) = value {
            Ok(items)
        } else {
            Err(self.not_a("an array", &value))
        }
    }

    pub(super) fn object(&self, value: Value) -> Result<Map<String, Value>, Rejection> {
        if let Value::Object(fields) = value {
            Ok(fields)
        } else {
            Err(self.not_a("an object", &value))
        }
    }

    /// Takes a field that must be a string that is not empty.
    pub(super) fn required(&self, fields: &mut Map<String, Value>, key: &str) -> Text {
        let at = self.key(key);
        let text = match take(fields, key) {
            Some(value) => at.string(value)?,
            None => return Err(at.missing("a string")),
        };
        if text.is_empty() { Err(at.wrong("must not be empty")) } else { Ok(text) }
    }

    /// Takes a field that may be absent or null, and is a string otherwise.
    pub(super) fn optional(
        &self,
        fields: &mut Map<String, Value>,
        key: &str,
    ) -> Result<Option<String>, Rejection> {
        take(fields, key).map(|value| self.key(key).string(value)).transpose()
    }
}

type Text = Result<String, Rejection>;

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(up) = self.up {
            fmt::Display::fmt(up, f)?;
        }
        match self.step {
            Step::Key(key) if self.up.is_some() => write!(f, ".{key}"),
            Step::Key(key) => f.write_str(key),
            Step::Index(index) => write!(f, "[{index}]"),
        }
    }
}

/// Takes a field; null is as good as absent.
pub(super) fn take(fields: &mut Map<String, Value>, key: &str) -> Option<Value> {
    fields.get_mut(key).map(Value::take).filter(|value| !value.is_null())
}

/// A count, also where it was written as `5.0`.
pub(super) fn count(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| {
        let number = value.as_f64()?;
        // Whole numbers up to 2^53 are exact; anything else is no count.
        let whole = number >= 0.0 && number.fract() == 0.0 && number <= 9_007_199_254_740_992.0;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "range checked above"
        )]
        whole.then_some(number as u64)
    })
}

/// A field as text; empty where it is absent or something else.
pub(super) fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// Whether a value says nothing: null, `""`, 0, false, or a container of such.
pub(super) fn is_blank(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(flag) => !flag,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.iter().all(is_blank),
        Value::Object(fields) => fields.values().all(is_blank),
    }
}

/// What a value is, for people.
fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// Reads a `finish_reason`; `None` for the empty word, which some send for "not yet".
pub(super) fn finish_reason(word: &str) -> Option<FinishReason> {
    Some(match word.to_ascii_lowercase().as_str() {
        "" => return None,
        "stop" | "eos" | "eos_token" | "end_turn" | "stop_token" | "complete" | "completed" => {
            FinishReason::Stop
        }
        "stop_sequence" => FinishReason::StopSequence(None),
        "length" | "max_tokens" | "model_length" | "max_length" => FinishReason::Length,
        "tool_calls" | "tool_call" | "tool_use" | "function_call" | "function_calls" => {
            FinishReason::ToolCalls
        }
        "content_filter" | "content_filtered" | "safety" => FinishReason::ContentFilter,
        "refusal" => FinishReason::Refusal,
        "pause_turn" => FinishReason::Pause,
        _ => FinishReason::Other(word.to_owned()),
    })
}

/// A stream that ended with its marker and without a reason.
pub(super) fn no_finish() -> Failure {
    let message = "the stream ended with [DONE] but without a finish reason";
    Failure::new(FailureKind::MidStream, message)
}

/// Some say "stop" where tools are to be called.
pub(super) fn settle_finish(
    finish: Option<FinishReason>,
    has_tool_calls: bool,
) -> Option<FinishReason> {
    match finish {
        Some(FinishReason::Stop) | None if has_tool_calls => Some(FinishReason::ToolCalls),
        other => other,
    }
}

/// Writes a `finish_reason` in OpenAI's closed set of words, and the word it stands for where that
/// says more (OpenRouter's `native_finish_reason`).
pub(super) fn finish_words(reason: &FinishReason, refused: bool) -> (&'static str, Option<&str>) {
    match reason {
        FinishReason::Stop | FinishReason::StopSequence(_) => ("stop", None),
        FinishReason::Length => ("length", None),
        FinishReason::ToolCalls => ("tool_calls", None),
        FinishReason::ContentFilter => ("content_filter", None),
        // OpenAI ends a refusal in words with "stop".
        FinishReason::Refusal if refused => ("stop", Some("refusal")),
        FinishReason::Refusal => ("content_filter", Some("refusal")),
        FinishReason::Pause => ("stop", Some("pause_turn")),
        FinishReason::Other(word) => ("stop", Some(word)),
    }
}

/// Reads a choice's `logprobs`: OpenAI's `content` list, or the parallel lists of older wires.
pub(super) fn read_logprobs(value: Option<&Value>) -> Vec<Logprob> {
    let Some(value) = value else { return Vec::new() };
    if let Some(tokens) = value.get("content").and_then(Value::as_array) {
        return tokens.iter().filter_map(read_logprob).collect();
    }
    let list = |key: &str| value.get(key).and_then(Value::as_array);
    match (list("tokens"), list("token_logprobs")) {
        (Some(tokens), Some(logprobs)) => tokens
            .iter()
            .zip(logprobs)
            .filter_map(|(token, logprob)| {
                let token = token.as_str()?.to_owned();
                Some(Logprob { token, logprob: logprob.as_f64()?, bytes: None, top: Vec::new() })
            })
            .collect(),
        _ => Vec::new(),
    }
}

fn read_logprob(value: &Value) -> Option<Logprob> {
    let top = value.get("top_logprobs").and_then(Value::as_array);
    let TopLogprob { token, logprob, bytes } = read_top(value)?;
    let top = top.map(|all| all.iter().filter_map(read_top).collect()).unwrap_or_default();
    Some(Logprob { token, logprob, bytes, top })
}

fn read_top(value: &Value) -> Option<TopLogprob> {
    let byte = |value: &Value| value.as_u64().and_then(|byte| u8::try_from(byte).ok());
    Some(TopLogprob {
        token: value.get("token")?.as_str()?.to_owned(),
        logprob: value.get("logprob")?.as_f64()?,
        bytes: value
            .get("bytes")
            .and_then(Value::as_array)
            .and_then(|b| b.iter().map(byte).collect()),
    })
}

/// Writes a choice's `logprobs`; null where there are none.
pub(super) fn logprobs_value(tokens: &[Logprob]) -> Value {
    if tokens.is_empty() {
        return Value::Null;
    }
    let content: Vec<Value> = tokens
        .iter()
        .map(|one| {
            let top: Vec<Value> = one
                .top
                .iter()
                .map(|t| json!({ "token": t.token, "logprob": t.logprob, "bytes": t.bytes }))
                .collect();
            json!({
                "token": one.token, "logprob": one.logprob, "bytes": one.bytes, "top_logprobs": top
            })
        })
        .collect();
    json!({ "content": content, "refusal": null })
}

/// Adds fields that are not there yet.
pub(super) fn fill(into: &mut Map<String, Value>, fields: &Extra) {
    for (key, value) in fields {
        if !into.contains_key(key) {
            into.insert(key.clone(), value.clone());
        }
    }
}
