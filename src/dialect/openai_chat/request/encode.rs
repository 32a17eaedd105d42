//! Writing a request for a provider.

mod message;

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::super::wire;
use crate::chat::{ChatRequest, Effort, Part, Reasoning, ResponseFormat, Tool, ToolChoice};
use crate::dialect::{Dialect, Dropped, MaxTokensParam, RequestTarget, StreamUsage, WireRequest};
use crate::rejection::Rejection;

/// Fields of other dialects that are left out and reported instead of refused: they carry
/// bookkeeping or ask for the default, not for another answer.
const HARMLESS: [&str; 4] = ["metadata", "service_tier", "anthropic_version", "labels"];

/// Writes one request.
pub(in super::super) fn encode(
    chat: &ChatRequest,
    target: &RequestTarget<'_>,
    dropped: &mut Dropped,
) -> Result<WireRequest, Rejection> {
    let body = Writer { chat, target, native: is_native(&chat.extra_dialect) }.body(dropped)?;
    let body = serde_json::to_vec(&Value::Object(body))
        .map_err(|error| Rejection::Internal { detail: error.to_string() })?;
    Ok(WireRequest { path: path(target), headers: Vec::new(), body: Bytes::from(body) })
}

fn is_native(dialect: &str) -> bool {
    dialect == Dialect::OpenAiChat.as_str()
}

fn path(target: &RequestTarget<'_>) -> String {
    let Some(template) = &target.quirks.path else {
        return "/chat/completions".to_owned();
    };
    let mut model = String::with_capacity(target.model.len());
    for byte in target.model.bytes() {
        // Slashes stay: models of some providers are paths.
        if byte.is_ascii_alphanumeric() || b"-._~/@:".contains(&byte) {
            model.push(char::from(byte));
        } else {
            model.push_str(&format!("%{byte:02X}"));
        }
    }
    template.replace("{model}", &model)
}

struct Writer<'a> {
    chat: &'a ChatRequest,
    target: &'a RequestTarget<'a>,
    /// Whether the caller spoke this dialect, and so chose its fields for this provider.
    native: bool,
}

impl Writer<'_> {
    fn body(&self, dropped: &mut Dropped) -> Result<Map<String, Value>, Rejection> {
        let chat = self.chat;
        let mut body = Map::new();
        body.insert("model".to_owned(), self.target.model.into());
        let mut messages = Vec::with_capacity(chat.messages.len());
        for (index, message) in chat.messages.iter().enumerate() {
            self.message(index, message, &mut messages, dropped)?;
        }
        body.insert("messages".to_owned(), messages.into());
        self.tools(&mut body)?;
        if !self.native && has_marks(chat) {
            dropped.add("cache_control");
        }
        if let Some(format) = &chat.response_format {
            body.insert("response_format".to_owned(), response_format(format));
        }
        self.numbers(&mut body, dropped)?;
        if let Some(reasoning) = chat.reasoning {
            self.reasoning(reasoning, &mut body, dropped);
        }
        if chat.stream {
            body.insert("stream".to_owned(), true.into());
            if self.target.quirks.stream_usage == StreamUsage::Option {
                let options = json!({ "include_usage": true });
                body.insert("stream_options".to_owned(), options);
            }
        }
        if let Some(user) = &chat.user {
            body.insert("user".to_owned(), user.as_str().into());
        }
        self.extra(&mut body, dropped)?;
        for param in &self.target.quirks.drop_params {
            if body.shift_remove(param).is_some() {
                dropped.add(param);
            }
        }
        Ok(body)
    }

    fn refuse(&self, param: impl Into<String>, problem: impl Into<String>) -> Rejection {
        let (param, problem) = (param.into(), problem.into());
        Rejection::Unsupported { param, target: self.target.label.to_owned(), problem }
    }

    fn drops(&self, param: &str) -> bool {
        self.target.quirks.drop_params.iter().any(|dropped| dropped == param)
    }

    fn tools(&self, body: &mut Map<String, Value>) -> Result<(), Rejection> {
        let chat = self.chat;
        if !chat.tools.is_empty() {
            let tools: Result<Vec<Value>, Rejection> =
                chat.tools.iter().enumerate().map(|(at, tool)| self.tool(at, tool)).collect();
            body.insert("tools".to_owned(), tools?.into());
        }
        if chat.tools.is_empty() && !self.native {
            // Other wires allow a choice among no tools; this one does not.
            return Ok(());
        }
        if let Some(choice) = &chat.tool_choice {
            body.insert("tool_choice".to_owned(), self.tool_choice(choice));
        }
        if let Some(parallel) = chat.parallel_tool_calls {
            body.insert("parallel_tool_calls".to_owned(), parallel.into());
        }
        Ok(())
    }

    fn tool(&self, index: usize, tool: &Tool) -> Result<Value, Rejection> {
        match &tool.hosted {
            Some((dialect, declaration)) if is_native(dialect) => return Ok(declaration.clone()),
            Some((dialect, _)) => {
                let problem = format!("only providers of the {dialect} dialect have it");
                return Err(self.refuse(format!("tools[{index}]"), problem));
            }
            None => {}
        }
        let mut function = Map::new();
        function.insert("name".to_owned(), tool.name.as_str().into());
        if let Some(description) = &tool.description {
            function.insert("description".to_owned(), description.as_str().into());
        }
        if let Some(parameters) = &tool.parameters {
            function.insert("parameters".to_owned(), parameters.clone());
        }
        if let Some(strict) = tool.strict {
            function.insert("strict".to_owned(), strict.into());
        }
        let mut tool_value = json!({ "type": "function", "function": function });
        self.mark(&mut tool_value, tool.cache.as_ref());
        Ok(tool_value)
    }

    /// Cache marks go only where the caller wrote them in this dialect: OpenAI refuses them, and
    /// they are hints. That they are left out is told once for the whole request.
    fn mark(&self, value: &mut Value, cache: Option<&Value>) {
        if let (true, Some(cache)) = (self.native, cache) {
            value["cache_control"] = cache.clone();
        }
    }

    fn tool_choice(&self, choice: &ToolChoice) -> Value {
        let reference = |name: &str| {
            let hosted = self.chat.tools.iter().any(|tool| {
                tool.name == name
                    && tool
                        .hosted
                        .as_ref()
                        .is_some_and(|(_, own)| wire::text(own, "type") == "custom")
            });
            let kind = if hosted { "custom" } else { "function" };
            let mut value = Map::new();
            value.insert("type".to_owned(), kind.into());
            value.insert(kind.to_owned(), json!({ "name": name }));
            Value::Object(value)
        };
        match choice {
            ToolChoice::Auto => "auto".into(),
            ToolChoice::None => "none".into(),
            ToolChoice::Required => "required".into(),
            ToolChoice::Tool(name) => reference(name),
            ToolChoice::Allowed { names, required } => json!({
                "type": "allowed_tools",
                "allowed_tools": {
                    "mode": if *required { "required" } else { "auto" },
                    "tools": names.iter().map(|name| reference(name)).collect::<Vec<_>>(),
                },
            }),
        }
    }

    fn numbers(
        &self,
        body: &mut Map<String, Value>,
        dropped: &mut Dropped,
    ) -> Result<(), Rejection> {
        let chat = self.chat;
        let sampling = &chat.sampling;
        let limit = match self.target.quirks.max_tokens_param {
            MaxTokensParam::AsSent | MaxTokensParam::MaxTokens => "max_tokens",
            MaxTokensParam::MaxCompletionTokens => "max_completion_tokens",
        };
        let mut set = |key: &str, value: Option<Value>| {
            if let Some(value) = value {
                body.insert(key.to_owned(), value);
            }
        };
        set(limit, chat.max_tokens.map(Value::from));
        set("temperature", sampling.temperature.map(number));
        set("top_p", sampling.top_p.map(number));
        if let Some(top_k) = sampling.top_k {
            if self.native {
                set("top_k", Some(top_k.into()));
            } else if self.drops("top_k") {
                dropped.add("top_k");
            } else {
                return Err(self.refuse("top_k", "OpenAI's chat completions have no such field"));
            }
        }
        set("frequency_penalty", sampling.frequency_penalty.map(number));
        set("presence_penalty", sampling.presence_penalty.map(number));
        set("seed", sampling.seed.map(Value::from));
        match sampling.stop.as_slice() {
            [] => {}
            [one] => set("stop", Some(one.as_str().into())),
            many => set("stop", Some(many.into())),
        }
        set("n", chat.n.map(Value::from));
        if let Some(top) = chat.logprobs {
            set("logprobs", Some(true.into()));
            set("top_logprobs", (top > 0).then(|| top.into()));
        }
        Ok(())
    }

    /// Budgets and visibility are OpenRouter's words and go to those who were meant; OpenAI's own
    /// word is the effort.
    fn reasoning(
        &self,
        reasoning: Reasoning,
        body: &mut Map<String, Value>,
        dropped: &mut Dropped,
    ) {
        let is_object = reasoning.budget_tokens.is_some() || reasoning.visible.is_some();
        if self.native && is_object {
            let mut value = Map::new();
            if let Some(effort) = reasoning.effort {
                value.insert("effort".to_owned(), effort_word(effort).into());
            }
            if let Some(budget) = reasoning.budget_tokens {
                value.insert("max_tokens".to_owned(), budget.into());
            }
            if let Some(visible) = reasoning.visible {
                value.insert("exclude".to_owned(), (!visible).into());
            }
            body.insert("reasoning".to_owned(), value.into());
            return;
        }
        if reasoning.budget_tokens.is_some() {
            // What is sent is the nearest effort, or the one that was named beside it.
            dropped.add("thinking.budget_tokens");
        }
        let budget = reasoning.budget_tokens.map(Effort::from_budget_tokens);
        if let Some(effort) = reasoning.effort.or(budget) {
            body.insert("reasoning_effort".to_owned(), effort_word(effort).into());
        }
    }

    fn extra(&self, body: &mut Map<String, Value>, dropped: &mut Dropped) -> Result<(), Rejection> {
        for (key, value) in &self.chat.extra {
            if self.native {
                match (body.get_mut(key), value) {
                    (Some(Value::Object(own)), Value::Object(more)) => wire::fill(own, more),
                    (Some(_), _) => {}
                    (None, _) => {
                        body.insert(key.clone(), value.clone());
                    }
                }
            } else if self.drops(key) || HARMLESS.contains(&key.as_str()) {
                dropped.add(key);
            } else {
                let problem = format!("it belongs to the {} dialect", self.chat.extra_dialect);
                return Err(self.refuse(key, problem));
            }
        }
        Ok(())
    }
}

/// Whether the caller marked anything for the provider's cache.
fn has_marks(chat: &ChatRequest) -> bool {
    chat.tools.iter().any(|tool| tool.cache.is_some())
        || chat.messages.iter().flat_map(|message| &message.parts).any(is_marked)
}

fn is_marked(part: &Part) -> bool {
    match part {
        Part::Text { cache, .. } => cache.is_some(),
        Part::Media(media) => media.cache.is_some(),
        Part::ToolResult { parts, cache, .. } => cache.is_some() || parts.iter().any(is_marked),
        Part::Reasoning { .. }
        | Part::Refusal { .. }
        | Part::ToolCall { .. }
        | Part::Other { .. } => false,
    }
}

/// Whole numbers are written as such: some providers want `"temperature": 1`.
fn number(value: f64) -> Value {
    #[expect(clippy::cast_possible_truncation, reason = "range checked beside")]
    if value.fract() == 0.0 && value.abs() < 1e9 { (value as i64).into() } else { value.into() }
}

fn effort_word(effort: Effort) -> &'static str {
    match effort {
        Effort::None => "none",
        Effort::Minimal => "minimal",
        Effort::Low => "low",
        Effort::Medium => "medium",
        Effort::High => "high",
        Effort::XHigh => "xhigh",
    }
}

fn response_format(format: &ResponseFormat) -> Value {
    match format {
        ResponseFormat::Text => json!({ "type": "text" }),
        ResponseFormat::Json => json!({ "type": "json_object" }),
        ResponseFormat::JsonSchema { name, description, schema, strict } => {
            let mut inner = Map::new();
            inner.insert("name".to_owned(), name.as_str().into());
            if let Some(description) = description {
                inner.insert("description".to_owned(), description.as_str().into());
            }
            inner.insert("schema".to_owned(), schema.clone());
            if let Some(strict) = strict {
                inner.insert("strict".to_owned(), (*strict).into());
            }
            json!({ "type": "json_schema", "json_schema": inner })
        }
    }
}
