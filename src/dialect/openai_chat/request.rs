//! Reading a caller's request.

mod encode;
mod message;
mod plain;
mod tools;

use serde_json::{Map, Value};

pub(super) use encode::encode;
pub use plain::PlainRequest;

use super::wire::{At, take};
use crate::chat::{ChatRequest, Effort, Reasoning, ResponseFormat};
use crate::dialect::Dialect;
use crate::rejection::Rejection;

/// What a request may be, for the reader of an error.
const EFFORTS: &str = "one of `none`, `minimal`, `low`, `medium`, `high` and `xhigh`";

/// Reads a request's body.
pub(super) fn decode(body: &[u8]) -> Result<ChatRequest, Rejection> {
    let chat = require_model(read(object(body)?)?)?;
    if chat.messages.is_empty() {
        return Err(At::top("messages").wrong("must be an array of at least one message"));
    }
    Ok(chat)
}

/// Reads a body as a JSON object.
pub(super) fn object(body: &[u8]) -> Result<Map<String, Value>, Rejection> {
    match serde_json::from_slice::<Value>(body) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(other) => {
            let found = At::top("body").not_a("a JSON object", &other);
            Err(Rejection::Invalid { problem: found.to_string(), param: None })
        }
        Err(error) => {
            let problem = format!("the request body is not valid JSON: {error}");
            Err(Rejection::Invalid { problem, param: None })
        }
    }
}

/// Reads all fields.
pub(super) fn read(fields: Map<String, Value>) -> Result<ChatRequest, Rejection> {
    let mut chat = ChatRequest {
        extra_dialect: Dialect::OpenAiChat.as_str().to_owned(),
        ..ChatRequest::default()
    };
    let mut late = Late::default();
    for (key, value) in fields {
        if !value.is_null() {
            field(&mut chat, &mut late, key, value)?;
        }
    }
    late.settle(&mut chat)?;
    Ok(chat)
}

/// A request must name a model.
pub(super) fn require_model(chat: ChatRequest) -> Result<ChatRequest, Rejection> {
    if chat.model.is_empty() {
        return Err(At::top("model").missing("the name of a model or route"));
    }
    Ok(chat)
}

/// Fields whose meaning hangs on others, kept until all were read.
#[derive(Debug, Default)]
struct Late {
    max_tokens: Option<u64>,
    max_completion_tokens: Option<u64>,
    logprobs: Option<bool>,
    top_logprobs: Option<u32>,
    user: Option<String>,
    safety_identifier: Option<String>,
    effort: Option<Effort>,
    reasoning: Option<Reasoning>,
}

impl Late {
    fn settle(self, chat: &mut ChatRequest) -> Result<(), Rejection> {
        chat.max_tokens = self.max_completion_tokens.or(self.max_tokens);
        chat.logprobs = match (self.logprobs, self.top_logprobs) {
            (Some(true), top) => Some(top.unwrap_or(0)),
            (Some(false), Some(top)) if top > 0 => {
                return Err(At::top("top_logprobs").wrong("needs `logprobs` to be true"));
            }
            (None, top) => top,
            (Some(false), _) => None,
        };
        // Both name the end user; the older name wins so that nothing changes for those who send
        // it, and the newer then travels as it stands.
        match (self.user, self.safety_identifier) {
            (Some(user), Some(identifier)) => {
                chat.user = Some(user);
                chat.extra.insert("safety_identifier".to_owned(), identifier.into());
            }
            (user, identifier) => chat.user = user.or(identifier),
        }
        chat.reasoning = match (self.reasoning, self.effort) {
            (Some(reasoning), effort) => {
                Some(Reasoning { effort: reasoning.effort.or(effort), ..reasoning })
            }
            (None, Some(effort)) => {
                Some(Reasoning { effort: Some(effort), ..Reasoning::default() })
            }
            (None, None) => None,
        };
        Ok(())
    }
}

/// Reads one top-level field.
fn field(
    chat: &mut ChatRequest,
    late: &mut Late,
    key: String,
    value: Value,
) -> Result<(), Rejection> {
    let at = At::top(&key);
    match key.as_str() {
        "model" => chat.model = at.string(value)?,
        "messages" => chat.messages = message::read_all(at, value)?,
        "tools" => chat.tools.extend(tools::read_tools(at, value)?),
        "functions" => chat.tools.extend(tools::read_functions(at, value)?),
        "tool_choice" => chat.tool_choice = Some(tools::read_choice(at, value)?),
        "function_call" => chat.tool_choice = Some(tools::read_function_choice(at, value)?),
        "parallel_tool_calls" => chat.parallel_tool_calls = Some(at.boolean(&value)?),
        "response_format" => match response_format(at, value)? {
            Ok(format) => chat.response_format = Some(format),
            Err(unknown) => {
                chat.extra.insert(key, unknown);
            }
        },
        "max_tokens" => late.max_tokens = Some(at.unsigned(&value)?),
        "max_completion_tokens" => late.max_completion_tokens = Some(at.unsigned(&value)?),
        "logprobs" => late.logprobs = Some(at.boolean(&value)?),
        "top_logprobs" => late.top_logprobs = Some(at.small(&value)?),
        "user" => late.user = Some(at.string(value)?),
        "safety_identifier" => late.safety_identifier = Some(at.string(value)?),
        "reasoning_effort" => late.effort = Some(effort(at, &value)?),
        "reasoning" => late.reasoning = Some(reasoning(at, value)?),
        "n" => {
            let n = at.small(&value)?;
            if n == 0 {
                return Err(at.wrong("must be 1 or more"));
            }
            chat.n = Some(n);
        }
        "stream" => chat.stream = at.boolean(&value)?,
        "stream_options" => {
            let mut options = at.object(value)?;
            if let Some(usage) = take(&mut options, "include_usage") {
                chat.include_usage = at.key("include_usage").boolean(&usage)?;
            }
            options.retain(|_, value| !value.is_null());
            if !options.is_empty() {
                chat.extra.insert(key, options.into());
            }
        }
        _ => return sampling(chat, key, value),
    }
    Ok(())
}

/// Reads a field of [`crate::chat::Sampling`], or keeps what is not modelled.
fn sampling(chat: &mut ChatRequest, key: String, value: Value) -> Result<(), Rejection> {
    let at = At::top(&key);
    let sampling = &mut chat.sampling;
    match key.as_str() {
        "temperature" => sampling.temperature = Some(at.number(&value)?),
        "top_p" => sampling.top_p = Some(at.number(&value)?),
        "top_k" => sampling.top_k = Some(at.unsigned(&value)?),
        "frequency_penalty" => sampling.frequency_penalty = Some(at.number(&value)?),
        "presence_penalty" => sampling.presence_penalty = Some(at.number(&value)?),
        "seed" => sampling.seed = Some(at.signed(&value)?),
        "stop" => {
            sampling.stop = match value {
                Value::String(stop) => vec![stop],
                Value::Array(stops) => stops
                    .into_iter()
                    .enumerate()
                    .map(|(index, stop)| at.index(index).string(stop))
                    .collect::<Result<_, _>>()?,
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => {
                    return Err(at.not_a("a string or an array of strings", &value));
                }
            };
        }
        _ => {
            chat.extra.insert(key, value);
        }
    }
    Ok(())
}

/// Reads `response_format`; a type that only some providers know is handed back verbatim.
fn response_format(at: At<'_>, value: Value) -> Result<Result<ResponseFormat, Value>, Rejection> {
    let mut fields = at.object(value)?;
    let kind = at.required(&mut fields, "type")?;
    match kind.as_str() {
        "text" => Ok(Ok(ResponseFormat::Text)),
        "json_object" => Ok(Ok(ResponseFormat::Json)),
        "json_schema" => {
            let at = at.key("json_schema");
            let Some(schema) = take(&mut fields, "json_schema") else {
                return Err(at.missing("an object with `name` and `schema`"));
            };
            let mut schema = at.object(schema)?;
            let strict = take(&mut schema, "strict");
            Ok(Ok(ResponseFormat::JsonSchema {
                name: at.required(&mut schema, "name")?,
                description: at.optional(&mut schema, "description")?,
                strict: strict.map(|flag| at.key("strict").boolean(&flag)).transpose()?,
                schema: match take(&mut schema, "schema") {
                    Some(schema @ (Value::Object(_) | Value::Bool(_))) => schema,
                    Some(other) => return Err(at.key("schema").not_a("a JSON Schema", &other)),
                    None => Value::Object(Map::new()),
                },
            }))
        }
        _ => {
            fields.insert("type".to_owned(), kind.into());
            Ok(Err(fields.into()))
        }
    }
}

fn effort(at: At<'_>, value: &Value) -> Result<Effort, Rejection> {
    match value.as_str() {
        Some("none") => Ok(Effort::None),
        Some("minimal") => Ok(Effort::Minimal),
        Some("low") => Ok(Effort::Low),
        Some("medium") => Ok(Effort::Medium),
        Some("high") => Ok(Effort::High),
        Some("xhigh") => Ok(Effort::XHigh),
        Some(_) => Err(at.wrong(format_args!("must be {EFFORTS}"))),
        None => Err(at.not_a(EFFORTS, value)),
    }
}

/// Reads OpenRouter's `reasoning` object.
fn reasoning(at: At<'_>, value: Value) -> Result<Reasoning, Rejection> {
    let mut reasoning = Reasoning::default();
    let mut enabled = None;
    for (key, value) in at.object(value)? {
        let at = at.key(&key);
        match key.as_str() {
            _ if value.is_null() => {}
            "effort" => reasoning.effort = Some(effort(at, &value)?),
            "max_tokens" => reasoning.budget_tokens = Some(at.unsigned(&value)?),
            "exclude" => reasoning.visible = Some(!at.boolean(&value)?),
            "enabled" => enabled = Some(at.boolean(&value)?),
            _ => {
                let known = "is not known; `effort`, `max_tokens`, `exclude` and `enabled` are";
                return Err(at.wrong(known));
            }
        }
    }
    match enabled {
        Some(false) => reasoning.effort = Some(Effort::None),
        Some(true) if reasoning.effort.is_none() && reasoning.budget_tokens.is_none() => {
            reasoning.effort = Some(Effort::Medium);
        }
        Some(true) | None => {}
    }
    Ok(reasoning)
}
