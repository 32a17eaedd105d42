//! Whole answers, both ways.

use serde_json::{Map, Value, json};

use super::failure;
use super::parts::{self, CallIds};
use super::wire::{self, Counts, NAME};
use crate::chat::{Choice, Completion, Extra, FinishReason, Logprob, Part, TopLogprob};
use crate::dialect::{ReplyContext, json_bytes};
use crate::failure::{Failure, FailureKind};

/// Top-level members that are modelled.
const MODELLED: [&str; 5] =
    ["candidates", "usageMetadata", "modelVersion", "responseId", "createTime"];

/// Reads a body into the object it holds, or the failure it reports.
pub(super) fn parse(body: &[u8]) -> Result<Map<String, Value>, Failure> {
    let value: Value = serde_json::from_slice(body).map_err(|error| {
        Failure::new(FailureKind::Degenerate, format!("the answer is not JSON: {error}"))
    })?;
    let value = wire::only(value);
    if value.get("error").is_some_and(Value::is_object) {
        return Err(failure::from_value(&value));
    }
    let Value::Object(answer) = value else {
        return Err(Failure::new(FailureKind::Degenerate, "the answer is no JSON object"));
    };
    Ok(answer)
}

/// Reads a whole answer.
pub(super) fn decode(body: &[u8]) -> Result<Completion, Failure> {
    let answer = parse(body)?;
    let mut ids = CallIds::for_answer(&answer);
    let mut choices: Vec<Choice> = Vec::new();
    for (at, candidate) in wire::array(&answer, "candidates").iter().enumerate() {
        if let Some(candidate) = candidate.as_object() {
            choices.push(read_candidate(candidate, at, &mut ids));
        }
    }
    choices.sort_by_key(|choice| choice.index);
    if choices.is_empty() {
        choices.push(blocked(&answer).ok_or_else(|| {
            Failure::new(FailureKind::Degenerate, "the answer has no candidates")
        })?);
    }
    let mut counts = Counts::default();
    counts.read(&answer);
    Ok(Completion {
        id: wire::text(&answer, "responseId").to_owned(),
        model: wire::text(&answer, "modelVersion").to_owned(),
        created: wire::read_created(&answer),
        choices,
        usage: counts.usage(),
        extra_dialect: NAME.to_owned(),
        extra: extras(answer),
    })
}

/// The index of a candidate: its own, else its place.
pub(super) fn index_of(candidate: &Map<String, Value>, at: usize) -> u32 {
    wire::count(candidate, "index")
        .and_then(|index| u32::try_from(index).ok())
        .unwrap_or_else(|| u32::try_from(at).unwrap_or(u32::MAX))
}

/// Whether the prompt was blocked: an answer without candidates that says why.
pub(super) fn is_blocked(answer: &Map<String, Value>) -> bool {
    wire::object(answer, "promptFeedback")
        .and_then(|feedback| wire::get(feedback, "blockReason"))
        .is_some()
}

/// Log probabilities of a candidate.
pub(super) fn read_logprobs(candidate: &Map<String, Value>) -> Vec<Logprob> {
    let Some(result) = wire::object(candidate, "logprobsResult") else {
        return Vec::new();
    };
    let tops = wire::array(result, "topCandidates");
    let chosen = wire::array(result, "chosenCandidates").iter().filter_map(Value::as_object);
    chosen
        .enumerate()
        .map(|(at, token)| Logprob {
            token: wire::text(token, "token").to_owned(),
            logprob: log_probability(token),
            bytes: None,
            top: tops.get(at).and_then(Value::as_object).map(read_top).unwrap_or_default(),
        })
        .collect()
}

/// `logprobsResult` of tokens.
pub(super) fn write_logprobs(tokens: &[Logprob]) -> Value {
    let one = |token: &str, logprob: f64| json!({ "token": token, "logProbability": logprob });
    let chosen: Vec<_> = tokens.iter().map(|token| one(&token.token, token.logprob)).collect();
    let tops = tokens.iter().map(|token| {
        let top: Vec<_> = token.top.iter().map(|top| one(&top.token, top.logprob)).collect();
        json!({ "candidates": top })
    });
    json!({ "topCandidates": tops.collect::<Vec<_>>(), "chosenCandidates": chosen })
}

/// Writes a whole answer.
pub(super) fn encode(completion: &Completion, context: &ReplyContext) -> Vec<u8> {
    let candidates: Vec<_> = completion.choices.iter().map(write_candidate).collect();
    let mut answer = Map::new();
    answer.insert("candidates".into(), candidates.into());
    if let Some(usage) = &completion.usage {
        answer.insert("usageMetadata".into(), wire::write_usage(usage));
    }
    let created = if completion.created == 0 { context.created } else { completion.created };
    envelope(&mut answer, &completion.id, &completion.model, created, context);
    if completion.extra_dialect == NAME {
        for (name, value) in &completion.extra {
            answer.entry(name.clone()).or_insert_with(|| value.clone());
        }
    }
    json_bytes(&answer)
}

/// Adds what every answer and every piece of a stream carries.
pub(super) fn envelope(
    answer: &mut Map<String, Value>,
    id: &str,
    model: &str,
    created: u64,
    context: &ReplyContext,
) {
    let or =
        |own: &str, other: &str| if own.is_empty() { other.to_owned() } else { own.to_owned() };
    answer.insert("modelVersion".into(), or(model, &context.model).into());
    if let Some(time) = wire::write_created(created) {
        answer.insert("createTime".into(), time.into());
    }
    answer.insert("responseId".into(), or(id, &context.request_id).into());
}

/// `finishMessage` for a call that the wire cannot carry.
pub(super) fn cut_call(name: &str) -> String {
    format!("a call of `{name}` was left out: its arguments are no whole JSON object")
}

fn read_candidate(candidate: &Map<String, Value>, at: usize, ids: &mut CallIds) -> Choice {
    let index = index_of(candidate, at);
    ids.enter(index);
    let mut content = Vec::new();
    if let Some(turn) = wire::object(candidate, "content") {
        for part in wire::array(turn, "parts") {
            parts::read(part, ids, &mut content);
        }
    }
    if let Some(value) = wire::candidate_extras(candidate) {
        content.push(Part::Other { dialect: NAME.to_owned(), value });
    }
    let has_calls = content.iter().any(|part| matches!(part, Part::ToolCall { .. }));
    Choice {
        index,
        parts: content,
        finish: wire::get(candidate, "finishReason")
            .and_then(|reason| wire::read_finish(reason, has_calls)),
        logprobs: read_logprobs(candidate),
    }
}

fn blocked(answer: &Map<String, Value>) -> Option<Choice> {
    is_blocked(answer)
        .then(|| Choice { finish: Some(FinishReason::ContentFilter), ..Choice::default() })
}

fn extras(mut answer: Map<String, Value>) -> Extra {
    answer.retain(|key, _| !MODELLED.iter().any(|name| wire::is_key(key, name)));
    answer
}

fn read_top(top: &Map<String, Value>) -> Vec<TopLogprob> {
    let tokens = wire::array(top, "candidates").iter().filter_map(Value::as_object);
    tokens
        .map(|token| TopLogprob {
            token: wire::text(token, "token").to_owned(),
            logprob: log_probability(token),
            bytes: None,
        })
        .collect()
}

fn log_probability(token: &Map<String, Value>) -> f64 {
    // A probability of one has the logarithm 0, which protobuf's JSON leaves out.
    wire::get(token, "logProbability").and_then(Value::as_f64).unwrap_or_default()
}

fn write_candidate(choice: &Choice) -> Value {
    let mut candidate = Map::new();
    let mut parts: Vec<Value> = Vec::new();
    for part in &choice.parts {
        write_part(part, &mut parts, &mut candidate);
    }
    let mut content = Map::new();
    if !parts.is_empty() {
        content.insert("parts".into(), parts.into());
    }
    content.insert("role".into(), "model".into());
    let mut out = Map::new();
    out.insert("content".into(), content.into());
    if let Some(reason) = &choice.finish {
        out.insert("finishReason".into(), wire::write_finish(reason).into());
    }
    out.insert("index".into(), choice.index.into());
    out.append(&mut candidate);
    if !choice.logprobs.is_empty() {
        out.insert("logprobsResult".into(), write_logprobs(&choice.logprobs));
    }
    Value::Object(out)
}

fn write_part(part: &Part, parts: &mut Vec<Value>, candidate: &mut Map<String, Value>) {
    match part {
        Part::Text { text, opaque, .. } if text.is_empty() && opaque.is_some() => {
            match parts.last_mut().filter(|last| parts::is_unsigned_media(last)) {
                Some(media) => parts::sign(media, opaque.as_ref()),
                None => parts.push(parts::text("", opaque.as_ref())),
            }
        }
        Part::Text { text, opaque, .. } => parts.push(parts::text(text, opaque.as_ref())),
        Part::Refusal { text } => parts.push(parts::text(text, None)),
        Part::Reasoning { text, opaque } => parts.push(parts::thought(text, opaque.as_ref())),
        Part::ToolCall { id, name, arguments, opaque } => {
            match parts::function_call(id, name, arguments, opaque.as_ref()) {
                Some(call) => parts.push(call),
                None => {
                    candidate.insert("finishMessage".into(), cut_call(name).into());
                }
            }
        }
        Part::Media(media) => parts.push(super::request::media_part(media)),
        Part::Other { dialect, value } if dialect == NAME => match value.as_object() {
            Some(block) if wire::is_candidate_extra(block) => {
                candidate.extend(block.iter().map(|(name, value)| (name.clone(), value.clone())));
            }
            _ => parts.push(value.clone()),
        },
        // Blocks of other wires and results of tools have no place in an answer of this one.
        Part::Other { .. } | Part::ToolResult { .. } => {}
    }
}
