//! The words both directions share: names, enumerations, counters.

use serde_json::{Map, Value};

use crate::chat::{Extra, FinishReason, Usage};

/// The dialect's name in `extra_dialect` and in parts that only this wire knows.
pub(super) const NAME: &str = "gemini";

/// A signature that Google documents for histories another model wrote, because Gemini 3 refuses
/// a function call that has none: <https://ai.google.dev/gemini-api/docs/thought-signatures>.
pub(super) const NO_SIGNATURE: &str = "skip_thought_signature_validator";

/// Members of a candidate that are not modelled and are kept in one part of kind `Other`.
pub(super) const CANDIDATE_EXTRAS: [&str; 4] =
    ["citationMetadata", "groundingMetadata", "urlContextMetadata", "finishMessage"];

/// Token counters as they stand on the wire. Later events of a stream correct earlier ones, and
/// leave out what they do not want to change, so the last count that is there stands.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counts {
    prompt: Option<u64>,
    cached: Option<u64>,
    tool_use: Option<u64>,
    candidates: Option<u64>,
    thoughts: Option<u64>,
}

/// A member by its camelCase name, or by the snake_case name that protobuf's JSON also allows.
pub(super) fn get<'a>(object: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    let value = object
        .get(name)
        .or_else(|| object.iter().find(|(key, _)| is_snake_of(key, name)).map(|(_, value)| value));
    value.filter(|value| !value.is_null())
}

/// The one item of a list of one, as errors and streams read whole come; else the value itself.
pub(super) fn only(mut value: Value) -> Value {
    match value.as_array_mut() {
        Some(items) if items.len() == 1 => items.pop().unwrap_or_default(),
        Some(_) | None => value,
    }
}

/// Whether a key is this name in either spelling.
pub(super) fn is_key(key: &str, name: &str) -> bool {
    key == name || is_snake_of(key, name)
}

/// A member that is an object.
pub(super) fn object<'a>(
    object: &'a Map<String, Value>,
    name: &str,
) -> Option<&'a Map<String, Value>> {
    get(object, name).and_then(Value::as_object)
}

/// A member that is an array; an absent one is empty.
pub(super) fn array<'a>(object: &'a Map<String, Value>, name: &str) -> &'a [Value] {
    get(object, name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// A member that is text; an absent one is empty.
pub(super) fn text<'a>(object: &'a Map<String, Value>, name: &str) -> &'a str {
    get(object, name).and_then(Value::as_str).unwrap_or_default()
}

/// A member that is a count. Protobuf's JSON writes 64-bit numbers as text.
pub(super) fn count(object: &Map<String, Value>, name: &str) -> Option<u64> {
    match get(object, name)? {
        Value::Number(number) => {
            number.as_u64().or_else(|| number.as_f64().map(|count| count.max(0.0) as u64))
        }
        Value::String(text) => text.parse().ok(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

/// Reads a finish reason: a word, or its number in the API's enumeration (Vertex numbers those
/// above 5 differently; the numbers here are those of the Gemini API). `None` for the unspecified.
pub(super) fn read_finish(value: &Value, has_calls: bool) -> Option<FinishReason> {
    const WORDS: [&str; 13] = [
        "",
        "STOP",
        "MAX_TOKENS",
        "SAFETY",
        "RECITATION",
        "OTHER",
        "LANGUAGE",
        "BLOCKLIST",
        "PROHIBITED_CONTENT",
        "SPII",
        "MALFORMED_FUNCTION_CALL",
        "IMAGE_SAFETY",
        "UNEXPECTED_TOOL_CALL",
    ];
    let number;
    let word = match value {
        Value::String(word) => word.as_str(),
        Value::Number(n) => {
            number = n.to_string();
            let at = n.as_u64().and_then(|at| usize::try_from(at).ok());
            at.and_then(|at| WORDS.get(at)).copied().unwrap_or(&number)
        }
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => "",
    };
    Some(match word {
        "" | "FINISH_REASON_UNSPECIFIED" => return None,
        // The wire has no word of its own for calls. A call of an undeclared tool is still a call
        // that the caller has to answer.
        "STOP" | "UNEXPECTED_TOOL_CALL" if has_calls => FinishReason::ToolCalls,
        "STOP" => FinishReason::Stop,
        "MAX_TOKENS" => FinishReason::Length,
        word if is_filter(word) => FinishReason::ContentFilter,
        word => FinishReason::Other(word.to_owned()),
    })
}

fn is_filter(word: &str) -> bool {
    matches!(
        word,
        "SAFETY"
            | "RECITATION"
            | "BLOCKLIST"
            | "PROHIBITED_CONTENT"
            | "SPII"
            | "MODEL_ARMOR"
            | "IMAGE_SAFETY"
            | "IMAGE_PROHIBITED_CONTENT"
            | "IMAGE_RECITATION"
    )
}

/// The wire's word for a finish reason.
pub(super) fn write_finish(reason: &FinishReason) -> &str {
    match reason {
        FinishReason::Stop
        | FinishReason::StopSequence(_)
        | FinishReason::ToolCalls
        | FinishReason::Pause => "STOP",
        FinishReason::Length => "MAX_TOKENS",
        FinishReason::ContentFilter | FinishReason::Refusal => "SAFETY",
        FinishReason::Other(word) => {
            let ours =
                !word.is_empty() && word.bytes().all(|b| b.is_ascii_uppercase() || b == b'_');
            if ours { word } else { "OTHER" }
        }
    }
}

/// `usageMetadata` of counts.
pub(super) fn write_usage(usage: &Usage) -> Value {
    let mut out = Map::new();
    out.insert("promptTokenCount".into(), usage.total_input().into());
    if usage.cached_input > 0 {
        out.insert("cachedContentTokenCount".into(), usage.cached_input.into());
    }
    out.insert("candidatesTokenCount".into(), usage.output.into());
    if usage.reasoning > 0 {
        out.insert("thoughtsTokenCount".into(), usage.reasoning.into());
    }
    out.insert("totalTokenCount".into(), usage.total().into());
    Value::Object(out)
}

/// Seconds since 1970 of an answer's `createTime`; 0 where absent or unreadable.
pub(super) fn read_created(answer: &Map<String, Value>) -> u64 {
    let time = text(answer, "createTime").parse::<jiff::Timestamp>();
    time.ok().and_then(|time| u64::try_from(time.as_second()).ok()).unwrap_or_default()
}

/// `createTime` of seconds since 1970; `None` for 0 and for times no calendar has.
pub(super) fn write_created(created: u64) -> Option<String> {
    let seconds = i64::try_from(created).ok().filter(|seconds| *seconds > 0)?;
    jiff::Timestamp::from_second(seconds).ok().map(|time| time.to_string())
}

/// What of a candidate is kept besides its content; `None` where there is nothing.
pub(super) fn candidate_extras(candidate: &Map<String, Value>) -> Option<Value> {
    let mut kept = Extra::new();
    for name in CANDIDATE_EXTRAS {
        if let Some(value) = get(candidate, name).filter(|value| !is_empty(value)) {
            kept.insert(name.to_owned(), value.clone());
        }
    }
    (!kept.is_empty()).then_some(Value::Object(kept))
}

/// Whether a block that only this wire knows belongs to a candidate and not into its parts.
pub(super) fn is_candidate_extra(block: &Map<String, Value>) -> bool {
    !block.is_empty() && block.keys().all(|key| CANDIDATE_EXTRAS.contains(&key.as_str()))
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

/// Whether `key` is the camelCase `name` in snake_case.
fn is_snake_of(key: &str, name: &str) -> bool {
    let mut key = key.bytes();
    for wanted in name.bytes() {
        if wanted.is_ascii_uppercase() && key.next() != Some(b'_') {
            return false;
        }
        if key.next() != Some(wanted.to_ascii_lowercase()) {
            return false;
        }
    }
    key.next().is_none()
}

// === impl Counts ===

impl Counts {
    /// Takes over the counters of an answer or a piece of one.
    pub(super) fn read(&mut self, answer: &Map<String, Value>) {
        let Some(usage) = object(answer, "usageMetadata") else {
            return;
        };
        let fields = [
            (&mut self.prompt, "promptTokenCount"),
            (&mut self.cached, "cachedContentTokenCount"),
            (&mut self.tool_use, "toolUsePromptTokenCount"),
            (&mut self.candidates, "candidatesTokenCount"),
            (&mut self.thoughts, "thoughtsTokenCount"),
        ];
        for (counter, name) in fields {
            if let Some(count) = count(usage, name) {
                *counter = Some(count);
            }
        }
    }

    /// The counts, disjoint; `None` where the provider sent none. The prompt's count includes
    /// what came from the cache, leaves out what hosted tools fed in, and the answer's leaves out
    /// thoughts.
    pub(super) fn usage(&self) -> Option<Usage> {
        let counters = [self.prompt, self.cached, self.tool_use, self.candidates, self.thoughts];
        if counters.iter().all(Option::is_none) {
            return None;
        }
        let cached_input = self.cached.unwrap_or_default();
        let uncached = self.prompt.unwrap_or_default().saturating_sub(cached_input);
        Some(Usage {
            input: uncached.saturating_add(self.tool_use.unwrap_or_default()),
            cached_input,
            cache_write: 0,
            output: self.candidates.unwrap_or_default(),
            reasoning: self.thoughts.unwrap_or_default(),
        })
    }
}
