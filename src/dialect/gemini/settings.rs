//! Everything of a request but its turns: tools, form, randomness, thinking.

use serde_json::{Map, Value, json};

use super::request::{is_gemini_3, unsupported};
use super::schema;
use super::wire::NAME;
use crate::chat::{ChatRequest, Effort, Reasoning, ResponseFormat, Tool, ToolChoice};
use crate::dialect::{Dropped, RequestTarget};
use crate::rejection::Rejection;

/// Fields of other dialects that ask nothing of the model: billing, storage, hints for a cache.
/// They are left out and reported.
const HARMLESS: [&str; 10] = [
    "cache_control",
    "metadata",
    "store",
    "service_tier",
    "safety_identifier",
    "prompt_cache_key",
    "prompt_cache_retention",
    "stream_options",
    "usage",
    "user",
];

/// The largest thinking budget that every model which counts in tokens takes.
const MAX_BUDGET_TOKENS: u64 = 24_576;

/// Writes tools, their choice, the generation's settings and what rides along.
pub(super) fn write(
    chat: &ChatRequest,
    target: &RequestTarget<'_>,
    dropped: &mut Dropped,
    body: &mut Map<String, Value>,
) -> Result<(), Rejection> {
    let mut fields = Fields { target, dropped, config: Map::new() };
    if chat.parallel_tool_calls == Some(false) && !chat.tools.is_empty() {
        fields.refuse("parallel_tool_calls", "Gemini cannot be told to call one tool at a time")?;
    }
    if !chat.tools.is_empty() && !fields.is_dropped("tools", "tools") {
        let tools = write_tools(chat, target, fields.dropped)?;
        body.insert("tools".into(), tools.into());
        if let Some(choice) = chat.tool_choice.as_ref()
            && has_functions(chat)
            && !fields.is_dropped("tool_choice", "toolConfig")
        {
            let config = json!({ "functionCallingConfig": choose(choice) });
            body.insert("toolConfig".into(), config);
        }
    }
    fields.sampling(chat)?;
    fields.format(chat.response_format.as_ref());
    if let Some(reasoning) = chat.reasoning {
        fields.thinking(reasoning);
    }
    if !fields.config.is_empty() {
        body.insert("generationConfig".into(), fields.config.into());
    }
    ride_along(chat, target, dropped, body)
}

/// Settings as they are gathered.
struct Fields<'a, 'b> {
    target: &'a RequestTarget<'a>,
    dropped: &'b mut Dropped,
    config: Map<String, Value>,
}

impl Fields<'_, '_> {
    /// Whether a quirk says that the provider does not take a field, by either of its names.
    fn is_dropped(&mut self, canonical: &str, wire: &str) -> bool {
        let drop = &self.target.quirks.drop_params;
        let is_dropped = drop.iter().any(|name| name == canonical || name == wire);
        if is_dropped {
            self.dropped.add(canonical);
        }
        is_dropped
    }

    fn refuse(&mut self, param: &str, problem: &str) -> Result<(), Rejection> {
        if self.is_dropped(param, param) {
            return Ok(());
        }
        Err(unsupported(param.to_owned(), self.target, problem))
    }

    fn set(&mut self, canonical: &str, wire: &str, value: Option<Value>) {
        if let Some(value) = value
            && !self.is_dropped(canonical, wire)
        {
            self.config.insert(wire.to_owned(), value);
        }
    }

    fn sampling(&mut self, chat: &ChatRequest) -> Result<(), Rejection> {
        let sampling = &chat.sampling;
        self.set("temperature", "temperature", sampling.temperature.map(Value::from));
        self.set("top_p", "topP", sampling.top_p.map(Value::from));
        self.set("top_k", "topK", sampling.top_k.map(Value::from));
        self.set("max_tokens", "maxOutputTokens", chat.max_tokens.map(Value::from));
        let stop = (!sampling.stop.is_empty()).then(|| Value::from(sampling.stop.clone()));
        self.set("stop", "stopSequences", stop);
        self.set("n", "candidateCount", chat.n.filter(|n| *n != 1).map(Value::from));
        if let Some(seed) = sampling.seed {
            if i32::try_from(seed).is_ok() {
                self.set("seed", "seed", Some(seed.into()));
            } else {
                self.refuse("seed", "Gemini's seeds have 32 bits")?;
            }
        }
        self.set("presence_penalty", "presencePenalty", sampling.presence_penalty.map(Value::from));
        let penalty = sampling.frequency_penalty.map(Value::from);
        self.set("frequency_penalty", "frequencyPenalty", penalty);
        if let Some(top) = chat.logprobs {
            self.set("logprobs", "responseLogprobs", Some(true.into()));
            self.set("logprobs", "logprobs", (top > 0).then(|| top.into()));
        }
        Ok(())
    }

    /// Schemas go as `responseSchema`, which every model since 1.5 takes; `responseJsonSchema`
    /// came later.
    fn format(&mut self, format: Option<&ResponseFormat>) {
        let json = || Some(Value::from("application/json"));
        match format {
            None | Some(ResponseFormat::Text) => {}
            Some(ResponseFormat::Json) => self.set("response_format", "responseMimeType", json()),
            Some(ResponseFormat::JsonSchema { schema, .. }) => {
                self.set("response_format", "responseMimeType", json());
                self.set("response_format", "responseSchema", Some(schema::sanitise(schema)));
            }
        }
    }

    /// Gemini 3 thinks in levels, older models in tokens. A budget always goes as a budget, which
    /// Gemini 3 still takes.
    fn thinking(&mut self, reasoning: Reasoning) {
        let model = self.target.model;
        let mut config = Map::new();
        if let Some(tokens) = reasoning.budget_tokens {
            config.insert("thinkingBudget".into(), tokens.into());
        } else if let Some(effort) = reasoning.effort {
            if is_gemini_3(model) {
                config.insert("thinkingLevel".into(), level(effort, model).into());
            } else {
                config.insert("thinkingBudget".into(), budget(effort, model).into());
            }
        }
        if let Some(visible) = reasoning.visible {
            config.insert("includeThoughts".into(), visible.into());
        }
        let config = (!config.is_empty()).then(|| config.into());
        self.set("reasoning_effort", "thinkingConfig", config);
    }
}

/// The level that stands for an effort. Pro models know no `minimal`, and the first of them no
/// `medium`; thinking cannot be switched off.
fn level(effort: Effort, model: &str) -> &'static str {
    let is_pro = model.contains("-pro");
    match effort {
        Effort::None | Effort::Minimal if !is_pro => "minimal",
        Effort::None | Effort::Minimal | Effort::Low => "low",
        Effort::Medium if !model.contains("gemini-3-pro") => "medium",
        Effort::Medium | Effort::High | Effort::XHigh => "high",
    }
}

fn budget(effort: Effort, model: &str) -> u64 {
    let tokens = effort.budget_tokens().min(MAX_BUDGET_TOKENS);
    // 2.5 Pro cannot be told not to think; 128 is its least.
    if model.contains("2.5-pro") { tokens.max(128) } else { tokens }
}

fn has_functions(chat: &ChatRequest) -> bool {
    chat.tools.iter().any(|tool| tool.hosted.is_none())
}

fn write_tools(
    chat: &ChatRequest,
    target: &RequestTarget<'_>,
    dropped: &mut Dropped,
) -> Result<Vec<Value>, Rejection> {
    // A choice among some tools that may also be none has no word here; showing only those says
    // the same.
    let shown = match &chat.tool_choice {
        Some(ToolChoice::Allowed { names, required: false }) => Some(names),
        _ => None,
    };
    let is_shown = |tool: &Tool| shown.is_none_or(|names| names.contains(&tool.name));
    let mut declarations = Vec::new();
    let mut out = Vec::new();
    for (at, tool) in chat.tools.iter().enumerate() {
        match &tool.hosted {
            Some((dialect, tool)) if dialect == NAME => out.push(tool.clone()),
            Some((dialect, _)) => {
                let problem = format!("only {dialect} hosts `{}`", tool.name);
                return Err(unsupported(format!("tools[{at}]"), target, &problem));
            }
            None if is_shown(tool) => declarations.push(declare(tool)),
            None => {}
        }
        if tool.cache.is_some() {
            dropped.add("cache_control");
        }
    }
    if !declarations.is_empty() {
        out.insert(0, json!({ "functionDeclarations": declarations }));
    }
    Ok(out)
}

fn declare(tool: &Tool) -> Value {
    let mut out = Map::new();
    out.insert("name".into(), tool.name.as_str().into());
    if let Some(description) = &tool.description {
        out.insert("description".into(), description.as_str().into());
    }
    if let Some(parameters) = tool.parameters.as_ref().and_then(schema::parameters) {
        out.insert("parameters".into(), parameters);
    }
    Value::Object(out)
}

fn choose(choice: &ToolChoice) -> Value {
    match choice {
        ToolChoice::Auto | ToolChoice::Allowed { required: false, .. } => json!({ "mode": "AUTO" }),
        ToolChoice::None => json!({ "mode": "NONE" }),
        ToolChoice::Required => json!({ "mode": "ANY" }),
        ToolChoice::Tool(name) => json!({ "mode": "ANY", "allowedFunctionNames": [name] }),
        ToolChoice::Allowed { names, required: true } => {
            json!({ "mode": "ANY", "allowedFunctionNames": names })
        }
    }
}

/// Carries what is not modelled: our own dialect's fields as they are, of others' only those that
/// ask nothing.
fn ride_along(
    chat: &ChatRequest,
    target: &RequestTarget<'_>,
    dropped: &mut Dropped,
    body: &mut Map<String, Value>,
) -> Result<(), Rejection> {
    for (name, value) in &chat.extra {
        let is_nothing = value.is_null() || value.as_object().is_some_and(Map::is_empty);
        if target.quirks.drop_params.contains(name) {
            dropped.add(name);
        } else if chat.extra_dialect == NAME {
            merge(body.entry(name.clone()).or_insert(Value::Null), value);
        } else if HARMLESS.contains(&name.as_str()) {
            dropped.add(name);
        } else if !is_nothing {
            return Err(unsupported(name.clone(), target, "Gemini has no such field"));
        }
    }
    Ok(())
}

/// Adds the members of `value` that `into` has not; what is modelled wins.
fn merge(into: &mut Value, value: &Value) {
    match (into, value) {
        (Value::Object(into), Value::Object(members)) => {
            for (name, member) in members {
                merge(into.entry(name.clone()).or_insert(Value::Null), member);
            }
        }
        (into @ Value::Null, value) => *into = value.clone(),
        _ => {}
    }
}
