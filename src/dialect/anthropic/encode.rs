//! A request, written for a provider.
//!
//! What needs a decision:
//! - All system and developer messages go to `system`, in order. One from the middle of the
//!   conversation loses its place but keeps its authority, which as a user's turn it would not.
//! - Neighbours of one role become one turn; results of tools come first in the user's.
//! - `max_tokens`, which the wire demands, is the model's output limit where the caller set none.
//! - With thinking on, the wire takes no `temperature` but 1, no `top_k`, no `top_p` below 0.95
//!   and no forced tool. They are refused rather than changed, like all that cannot be said.
//! - Thinking cannot begin between a tool's call and the answer to its result, so there it stays
//!   off where the caller's wire did not carry the signed thoughts, and is reported as dropped:
//!   refusing would leave such callers no tools.
//! - A limit above the model's own is lowered to it, which changes no answer.
//! - A list of allowed tools is said by declaring only those.
//! - Thinking without this provider's signature is left out, because it is rejected.
//! - A participant's name has no place on this wire and is reported as dropped.
//! - Hints that do not change the answer ([`HINTS`]) are left out and reported as dropped.

use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use serde_json::{Map, Value, json};

use super::super::{Dropped, RequestTarget, WireRequest, json_bytes};
use super::turns;
use super::wire::{NAME, VERSION};
use crate::chat::{
    ChatRequest, Effort, Message, Opaque, OpaqueKind, Part, Reasoning, ResponseFormat, Role, Tool,
    ToolChoice,
};
use crate::rejection::Rejection;

/// The output limit where neither the caller nor the catalog knows one. Every model takes it.
const DEFAULT_MAX_TOKENS: u64 = 4_096;

/// The least that the wire accepts as a thinking budget.
const MIN_THINKING_TOKENS: u64 = 1_024;

/// Fields of other dialects that ask for bookkeeping, not for another answer.
const HINTS: [&str; 8] = [
    "metadata",
    "prompt_cache_key",
    "prompt_cache_retention",
    "safety_identifier",
    "service_tier",
    "store",
    "stream_options",
    "user",
];

/// Writes `chat` for `target`.
pub(super) fn encode(
    chat: &ChatRequest,
    target: &RequestTarget<'_>,
    dropped: &mut Dropped,
) -> Result<WireRequest, Rejection> {
    let mut writer = Writer { chat, target, dropped, body: Map::new() };
    writer.write()?;
    let mut body = writer.body;
    for field in &target.quirks.drop_params {
        if body.shift_remove(field).is_some() {
            dropped.add(field.as_str());
        }
    }
    let path = target.quirks.path.as_deref().unwrap_or("/messages");
    Ok(WireRequest {
        path: path.replace("{model}", target.model),
        headers: vec![(
            HeaderName::from_static("anthropic-version"),
            HeaderValue::from_static(VERSION),
        )],
        body: Bytes::from(json_bytes(&body)),
    })
}

struct Writer<'a, 'b> {
    chat: &'a ChatRequest,
    target: &'a RequestTarget<'b>,
    dropped: &'a mut Dropped,
    body: Map<String, Value>,
}

// === impl Writer ===

impl Writer<'_, '_> {
    fn write(&mut self) -> Result<(), Rejection> {
        let ours = self.is_ours();
        let (system, messages) = turns::encode(self.chat, self.target.label, ours)?;
        self.put("model", self.target.model);
        let is_named = |message: &Message| message.name.is_some() && message.role != Role::Tool;
        if self.chat.messages.iter().any(is_named) {
            self.dropped.add("messages.name");
        }
        self.refuse_foreign()?;
        let thinking = self.thinking()?;
        self.put("max_tokens", self.max_tokens(budget_of(thinking.as_ref())));
        if !system.is_null() {
            self.put("system", system);
        }
        self.put("messages", messages);
        self.tools(thinking.is_some())?;
        self.sampling(thinking.is_some())?;
        if let Some(thinking) = thinking {
            self.put("thinking", thinking);
        } else if self.chat.reasoning.is_some_and(switches_off) {
            self.put("thinking", json!({"type": "disabled"}));
        }
        self.output()?;
        if self.chat.stream {
            self.put("stream", true);
        }
        self.extra()?;
        if let Some(user) = &self.chat.user {
            let metadata = self.body.entry("metadata").or_insert_with(|| json!({}));
            if let Some(metadata) = metadata.as_object_mut() {
                metadata.insert("user_id".into(), user.as_str().into());
            }
        }
        Ok(())
    }

    fn put(&mut self, key: &str, value: impl Into<Value>) {
        self.body.insert(key.to_owned(), value.into());
    }

    fn is_ours(&self) -> bool {
        self.chat.extra_dialect == NAME
    }

    /// Refuses a field, unless a quirk says that it shall be dropped.
    fn cannot(&mut self, field: &str, problem: &str) -> Result<(), Rejection> {
        if self.target.quirks.drop_params.iter().any(|dropped| dropped == field) {
            self.dropped.add(field);
            return Ok(());
        }
        Err(unsupported(field, self.target.label, problem))
    }

    fn refuse_foreign(&mut self) -> Result<(), Rejection> {
        const ABSENT: &str = "the Messages API has no such field";
        let sampling = &self.chat.sampling;
        let differs = |value: Option<f64>| value.is_some_and(|value| value != 0.0);
        for (field, asked) in [
            ("n", self.chat.n.is_some_and(|n| n > 1)),
            ("logprobs", self.chat.logprobs.is_some()),
            ("seed", sampling.seed.is_some()),
            ("frequency_penalty", differs(sampling.frequency_penalty)),
            ("presence_penalty", differs(sampling.presence_penalty)),
        ] {
            if asked {
                self.cannot(field, ABSENT)?;
            }
        }
        Ok(())
    }

    fn max_tokens(&self, budget: u64) -> u64 {
        self.limit().unwrap_or(DEFAULT_MAX_TOKENS + budget)
    }

    fn limit(&self) -> Option<u64> {
        match (self.chat.max_tokens, self.target.output_tokens) {
            // Whoever speaks this dialect may have switched on more than the catalog knows.
            (Some(asked), Some(known)) if !self.is_ours() => Some(asked.min(known)),
            (asked, known) => asked.or(known),
        }
    }

    /// The `thinking` field where thinking is on.
    fn thinking(&mut self) -> Result<Option<Value>, Rejection> {
        if self.is_ours() && self.chat.extra.contains_key("thinking") {
            // It follows verbatim with the rest of `extra`.
            return Ok(None);
        }
        let Some(reasoning) = self.chat.reasoning else {
            return Ok(None);
        };
        let budget = match (reasoning.budget_tokens, reasoning.effort) {
            (Some(tokens), _) => tokens,
            (None, Some(effort)) => effort.budget_tokens(),
            (None, None) => return Ok(None),
        };
        if budget == 0 {
            return Ok(None);
        }
        if !self.is_ours() && is_in_tool_loop_without_thoughts(self.chat) {
            self.dropped.add("reasoning_effort");
            return Ok(None);
        }
        let budget = if self.is_ours() { budget } else { budget.max(MIN_THINKING_TOKENS) };
        let limit = self.limit();
        let room = limit.map_or(budget, |limit| limit.saturating_sub(1));
        if !self.is_ours() && room < MIN_THINKING_TOKENS {
            let problem = "thinking takes at least 1024 tokens, and `max_tokens` leaves fewer";
            self.cannot("reasoning_effort", problem)?;
            return Ok(None);
        }
        // With interleaved thinking a caller of this dialect may go above its `max_tokens`.
        let budget = if self.is_ours() { budget } else { budget.min(room) };
        Ok(Some(json!({"type": "enabled", "budget_tokens": budget})))
    }

    fn sampling(&mut self, thinking: bool) -> Result<(), Rejection> {
        let sampling = &self.chat.sampling;
        self.stops()?;
        if let Some(temperature) = sampling.temperature {
            #[expect(clippy::float_cmp, reason = "the wire takes exactly 1")]
            let fits = !thinking || temperature == 1.0;
            if temperature > 1.0 {
                self.cannot("temperature", "it goes from 0 to 1 on this wire")?;
            } else if fits {
                self.put("temperature", temperature);
            } else {
                self.cannot("temperature", "it must be 1 or absent while the model thinks")?;
            }
        }
        if let Some(top_p) = sampling.top_p {
            #[expect(clippy::float_cmp, reason = "exactly 1 is all of the probability")]
            let says_nothing = top_p == 1.0 && !self.is_ours();
            if says_nothing {
                // Newer models refuse it beside a temperature, and many clients always send it.
            } else if thinking && top_p < 0.95 {
                self.cannot("top_p", "it must be at least 0.95 while the model thinks")?;
            } else {
                self.put("top_p", top_p);
            }
        }
        if let Some(top_k) = sampling.top_k {
            if thinking {
                self.cannot("top_k", "it must be absent while the model thinks")?;
            } else {
                self.put("top_k", top_k);
            }
        }
        Ok(())
    }

    fn stops(&mut self) -> Result<(), Rejection> {
        let stops = &self.chat.sampling.stop;
        let (blank, stops): (Vec<_>, Vec<_>) =
            stops.iter().partition(|stop| stop.trim().is_empty());
        if !blank.is_empty() {
            self.cannot("stop", "each stop text must hold more than white space")?;
        }
        if !stops.is_empty() {
            self.put("stop_sequences", json!(stops));
        }
        Ok(())
    }

    fn tools(&mut self, thinking: bool) -> Result<(), Rejection> {
        let chat = self.chat;
        let allowed = match &chat.tool_choice {
            Some(ToolChoice::Allowed { names, .. }) => Some(names),
            _ => None,
        };
        let mut tools = Vec::with_capacity(chat.tools.len());
        for (index, tool) in chat.tools.iter().enumerate() {
            if allowed.is_some_and(|names| !names.contains(&tool.name)) {
                continue;
            }
            match &tool.hosted {
                Some((dialect, value)) if dialect == NAME => tools.push(value.clone()),
                Some((dialect, _)) => {
                    let problem = format!("it is a tool that only `{dialect}` providers run");
                    return Err(unsupported(
                        &format!("tools[{index}]"),
                        self.target.label,
                        &problem,
                    ));
                }
                None => tools.push(encode_tool(tool)),
            }
        }
        if tools.is_empty() {
            return Ok(());
        }
        self.put("tools", tools);
        let choice = tool_choice(chat);
        let is_forced = matches!(choice.get("type").and_then(Value::as_str), Some("any" | "tool"));
        if thinking && is_forced {
            return self.cannot("tool_choice", "no tool can be forced while the model thinks");
        }
        if !choice.is_empty() {
            self.put("tool_choice", choice);
        }
        Ok(())
    }

    fn output(&mut self) -> Result<(), Rejection> {
        match &self.chat.response_format {
            None | Some(ResponseFormat::Text) => Ok(()),
            Some(ResponseFormat::Json) => self.cannot(
                "response_format",
                "JSON without a schema is not known to the Messages API; use `json_schema`",
            ),
            Some(ResponseFormat::JsonSchema { schema, .. }) => {
                let format = json!({"type": "json_schema", "schema": schema});
                self.put("output_config", json!({"format": format}));
                Ok(())
            }
        }
    }

    fn extra(&mut self) -> Result<(), Rejection> {
        let chat = self.chat;
        for (field, value) in &chat.extra {
            if self.is_ours() {
                match (self.body.get_mut(field), value) {
                    (Some(Value::Object(written)), Value::Object(more)) => {
                        written.extend(more.clone());
                    }
                    _ => self.put(field, value.clone()),
                }
            } else if HINTS.contains(&field.as_str()) {
                self.dropped.add(field.as_str());
            } else if !value.is_null() {
                self.cannot(field, "the Messages API has no such field")?;
            }
        }
        Ok(())
    }
}

/// Whether the last turn of the model called tools and came without thoughts that this provider
/// signed, while what follows is no new question.
fn is_in_tool_loop_without_thoughts(chat: &ChatRequest) -> bool {
    let is_result = |part: &Part| matches!(part, Part::ToolResult { .. });
    let Some(at) = chat.messages.iter().rposition(|message| message.role == Role::Assistant) else {
        return false;
    };
    let (before, after) = chat.messages.split_at(at + 1);
    let answers_tools = after.iter().any(|message| message.parts.iter().any(is_result));
    let is_ours = |opaque: &Opaque| {
        matches!(opaque.kind, OpaqueKind::AnthropicSignature | OpaqueKind::AnthropicRedacted)
    };
    let is_signed = |part: &Part| match part {
        Part::Reasoning { opaque, .. } => opaque.as_ref().is_some_and(is_ours),
        Part::Text { .. }
        | Part::Media(_)
        | Part::ToolCall { .. }
        | Part::ToolResult { .. }
        | Part::Refusal { .. }
        | Part::Other { .. } => false,
    };
    let has_thoughts = before.last().is_some_and(|last| last.parts.iter().any(is_signed));
    answers_tools && !has_thoughts
}

fn budget_of(thinking: Option<&Value>) -> u64 {
    thinking.and_then(|value| value.get("budget_tokens")).and_then(Value::as_u64).unwrap_or(0)
}

fn switches_off(reasoning: Reasoning) -> bool {
    reasoning.budget_tokens == Some(0)
        || (reasoning.budget_tokens.is_none() && reasoning.effort == Some(Effort::None))
}

fn encode_tool(tool: &Tool) -> Value {
    let mut value = Map::new();
    value.insert("name".into(), tool.name.as_str().into());
    if let Some(description) = &tool.description {
        value.insert("description".into(), description.as_str().into());
    }
    let mut schema = tool.parameters.clone().unwrap_or_else(|| json!({"type": "object"}));
    if let Some(schema) = schema.as_object_mut() {
        // The wire wants the word even where the schema has no properties.
        schema.entry("type").or_insert_with(|| "object".into());
    }
    value.insert("input_schema".into(), schema);
    if tool.strict == Some(true) {
        value.insert("strict".into(), true.into());
    }
    if let Some(cache) = &tool.cache {
        value.insert("cache_control".into(), cache.clone());
    }
    Value::Object(value)
}

/// `tool_choice`; empty where the provider's default is meant.
fn tool_choice(chat: &ChatRequest) -> Map<String, Value> {
    let mut choice = Map::new();
    let kind = match &chat.tool_choice {
        None if chat.parallel_tool_calls == Some(false) => "auto",
        None => return choice,
        Some(ToolChoice::Auto | ToolChoice::Allowed { required: false, .. }) => "auto",
        Some(ToolChoice::Required | ToolChoice::Allowed { required: true, .. }) => "any",
        Some(ToolChoice::None) => "none",
        Some(ToolChoice::Tool(_)) => "tool",
    };
    choice.insert("type".into(), kind.into());
    if let Some(ToolChoice::Tool(name)) = &chat.tool_choice {
        choice.insert("name".into(), name.as_str().into());
    }
    if let Some(parallel) = chat.parallel_tool_calls.filter(|_| kind != "none") {
        choice.insert("disable_parallel_tool_use".into(), (!parallel).into());
    }
    choice
}

/// A field that this wire cannot carry.
pub(super) fn unsupported(field: &str, target: &str, problem: &str) -> Rejection {
    Rejection::Unsupported {
        param: field.to_owned(),
        target: target.to_owned(),
        problem: problem.to_owned(),
    }
}
