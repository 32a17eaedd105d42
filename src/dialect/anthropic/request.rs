//! A caller's request, read.
//!
//! `tool_result` blocks stand in the user's turn on this wire; each becomes a message of
//! [`Role::Tool`] before the rest of that turn, and the encoder puts them back in front of it.
//!
//! Of two things there is more on the wire than the canonical request can say, and both stay
//! verbatim in `extra` besides being understood: `thinking` other than a plain budget, and
//! `output_config` other than a schema.

use serde_json::{Map, Value};

use super::block;
use super::fields::{Fields, wrong_type};
use super::wire::NAME;
use crate::chat::{
    ChatRequest, Effort, Message, Part, Reasoning, ResponseFormat, Role, Sampling, Tool, ToolChoice,
};
use crate::problems::KeyPath;
use crate::rejection::Rejection;

/// Reads a request for a message.
pub(super) fn decode(body: &[u8]) -> Result<ChatRequest, Rejection> {
    let mut fields = top(body)?;
    let max_tokens = fields.opt_u64("max_tokens")?.ok_or_else(|| {
        Rejection::invalid("max_tokens", "`max_tokens` is missing; it must be a whole number")
    })?;
    decode_fields(fields, Some(max_tokens))
}

/// Reads a request to count tokens, which is one for a message less what only an answer needs.
pub(super) fn decode_count(body: &[u8]) -> Result<ChatRequest, Rejection> {
    let mut fields = top(body)?;
    let max_tokens = fields.opt_u64("max_tokens")?;
    decode_fields(fields, max_tokens)
}

fn top(body: &[u8]) -> Result<Fields, Rejection> {
    let value: Value = serde_json::from_slice(body).map_err(|error| Rejection::Invalid {
        problem: format!("the body is not valid JSON: {error}"),
        param: None,
    })?;
    Fields::of(value, KeyPath::root())
}

fn decode_fields(mut fields: Fields, max_tokens: Option<u64>) -> Result<ChatRequest, Rejection> {
    let model = fields.string("model")?;
    let mut messages = Vec::new();
    if let Some(system) = fields.take("system") {
        let parts = block::decode_content(system, &fields.at("system"))?;
        messages.push(Message { role: Role::System, parts, name: None });
    }
    let turns = fields.required("messages", "an array")?;
    decode_turns(turns, &fields.at("messages"), &mut messages)?;

    let mut tools = Vec::new();
    for (index, tool) in fields.opt_array("tools")?.unwrap_or_default().into_iter().enumerate() {
        tools.push(decode_tool(tool, fields.at("tools").index(index))?);
    }
    let (tool_choice, parallel_tool_calls) = match fields.opt_object("tool_choice")? {
        Some(choice) => decode_tool_choice(choice)?,
        None => (None, None),
    };
    let sampling = Sampling {
        temperature: fields.opt_f64("temperature")?,
        top_p: fields.opt_f64("top_p")?,
        top_k: fields.opt_u64("top_k")?,
        stop: decode_stops(&mut fields)?,
        ..Sampling::default()
    };
    let user = decode_user(&mut fields)?;
    let stream = fields.opt_bool("stream")?.unwrap_or(false);
    let mut kept = Map::new();
    let (mut reasoning, adaptive) = decode_thinking(&mut fields, &mut kept)?;
    let (response_format, effort) = decode_output(&mut fields, &mut kept)?;
    if let (true, Some(reasoning)) = (adaptive, reasoning.as_mut()) {
        // Adaptive thinking without a word for it is what the provider does at `high`.
        reasoning.effort = Some(effort.unwrap_or(Effort::High));
    }
    let mut extra = fields.rest();
    extra.extend(kept);
    Ok(ChatRequest {
        model,
        messages,
        tools,
        tool_choice,
        parallel_tool_calls,
        response_format,
        sampling,
        max_tokens,
        reasoning,
        stream,
        include_usage: true,
        user,
        extra_dialect: NAME.to_owned(),
        extra,
        ..ChatRequest::default()
    })
}

fn decode_turns(
    turns: Value,
    path: &KeyPath,
    messages: &mut Vec<Message>,
) -> Result<(), Rejection> {
    let Value::Array(turns) = turns else {
        return Err(wrong_type(path, "an array", &turns));
    };
    if turns.is_empty() {
        return Err(Rejection::invalid(path.as_str(), "`messages` must hold at least one message"));
    }
    for (index, turn) in turns.into_iter().enumerate() {
        let mut turn = Fields::of(turn, path.index(index))?;
        let role = match turn.string("role")?.as_str() {
            "user" => Role::User,
            "assistant" => Role::Assistant,
            "system" => Role::System,
            other => {
                let path = turn.at("role");
                let problem = format!("`{path}` is `{other}`; it must be `user` or `assistant`");
                return Err(Rejection::invalid(path.as_str(), problem));
            }
        };
        let content = turn.required("content", "a string or an array")?;
        let parts = block::decode_content(content, &turn.at("content"))?;
        let (results, rest): (Vec<_>, Vec<_>) =
            parts.into_iter().partition(|part| matches!(part, Part::ToolResult { .. }));
        let only_results = !results.is_empty() && rest.is_empty();
        messages.extend(results.into_iter().map(|result| Message {
            role: Role::Tool,
            parts: vec![result],
            name: None,
        }));
        if !only_results {
            messages.push(Message { role, parts: rest, name: None });
        }
    }
    Ok(())
}

fn decode_tool(value: Value, path: KeyPath) -> Result<Tool, Rejection> {
    let mut fields = Fields::of(value, path)?;
    let kind = fields.peek("type").and_then(Value::as_str).map(str::to_owned);
    if kind.as_deref().is_some_and(|kind| kind != "custom") {
        let value = fields.rest();
        let name = value.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
        return Ok(Tool {
            name,
            description: None,
            parameters: None,
            strict: None,
            cache: None,
            hosted: Some((NAME.to_owned(), Value::Object(value))),
        });
    }
    let parameters = fields.required("input_schema", "an object")?;
    if !parameters.is_object() {
        return Err(wrong_type(&fields.at("input_schema"), "an object", &parameters));
    }
    Ok(Tool {
        name: fields.string("name")?,
        description: fields.opt_string("description")?,
        parameters: Some(parameters),
        strict: fields.opt_bool("strict")?,
        cache: fields.take("cache_control"),
        hosted: None,
    })
}

fn decode_tool_choice(mut choice: Fields) -> Result<(Option<ToolChoice>, Option<bool>), Rejection> {
    let parallel = choice.opt_bool("disable_parallel_tool_use")?.map(|disabled| !disabled);
    let tool_choice = match choice.string("type")?.as_str() {
        "auto" => ToolChoice::Auto,
        "any" => ToolChoice::Required,
        "none" => ToolChoice::None,
        "tool" => ToolChoice::Tool(choice.string("name")?),
        other => {
            let path = choice.at("type");
            let problem =
                format!("`{path}` is `{other}`; it must be `auto`, `any`, `tool` or `none`");
            return Err(Rejection::invalid(path.as_str(), problem));
        }
    };
    Ok((Some(tool_choice), parallel))
}

fn decode_stops(fields: &mut Fields) -> Result<Vec<String>, Rejection> {
    let path = fields.at("stop_sequences");
    let stops = fields.opt_array("stop_sequences")?.unwrap_or_default();
    let stops = stops.into_iter().enumerate();
    stops.map(|(index, stop)| super::fields::as_string(stop, || path.index(index))).collect()
}

/// `metadata.user_id`; what else stands in `metadata` goes back to where it was.
fn decode_user(fields: &mut Fields) -> Result<Option<String>, Rejection> {
    let Some(mut metadata) = fields.opt_object("metadata")? else {
        return Ok(None);
    };
    let user = metadata.opt_string("user_id")?;
    let rest = metadata.rest();
    if !rest.is_empty() {
        fields.put("metadata", Value::Object(rest));
    }
    Ok(user)
}

/// `thinking`, and whether it is adaptive.
fn decode_thinking(
    fields: &mut Fields,
    kept: &mut Map<String, Value>,
) -> Result<(Option<Reasoning>, bool), Rejection> {
    let Some(value) = fields.take("thinking") else {
        return Ok((None, false));
    };
    let verbatim = value.clone();
    let mut thinking = Fields::of(value, fields.at("thinking"))?;
    let kind = thinking.string("type")?;
    let budget = thinking.opt_u64("budget_tokens")?;
    let visible = thinking.opt_string("display")?.map(|display| display != "omitted");
    let (budget_tokens, adaptive) = match kind.as_str() {
        "enabled" => {
            let budget = budget.ok_or_else(|| {
                let path = thinking.at("budget_tokens");
                let problem = format!("`{path}` is missing; it must be a whole number");
                Rejection::invalid(path.as_str(), problem)
            })?;
            (Some(budget), false)
        }
        "disabled" => (Some(0), false),
        "adaptive" => (None, true),
        other => {
            let path = thinking.at("type");
            let problem =
                format!("`{path}` is `{other}`; it must be `enabled`, `adaptive` or `disabled`");
            return Err(Rejection::invalid(path.as_str(), problem));
        }
    };
    if adaptive || visible.is_some() || !thinking.rest().is_empty() {
        kept.insert("thinking".into(), verbatim);
    }
    Ok((Some(Reasoning { effort: None, budget_tokens, visible }), adaptive))
}

/// The form of the answer, from `output_config.format` or the older `output_format`, and the
/// effort.
fn decode_output(
    fields: &mut Fields,
    kept: &mut Map<String, Value>,
) -> Result<(Option<ResponseFormat>, Option<Effort>), Rejection> {
    let mut format = fields.opt_object("output_format")?;
    let mut effort = None;
    if let Some(mut config) = fields.opt_object("output_config")? {
        if let Some(newer) = config.opt_object("format")? {
            format = Some(newer);
        }
        effort = match config.peek("effort").and_then(Value::as_str) {
            Some("low") => Some(Effort::Low),
            Some("medium") => Some(Effort::Medium),
            Some("high") => Some(Effort::High),
            Some("xhigh" | "max") => Some(Effort::XHigh),
            _ => None,
        };
        let rest = config.rest();
        if !rest.is_empty() {
            kept.insert("output_config".into(), Value::Object(rest));
        }
    }
    let Some(mut format) = format else {
        return Ok((None, effort));
    };
    let kind = format.string("type")?;
    if kind != "json_schema" {
        let path = format.at("type");
        let problem = format!("`{path}` is `{kind}`; it must be `json_schema`");
        return Err(Rejection::invalid(path.as_str(), problem));
    }
    let schema = format.required("schema", "an object")?;
    // This wire's schemas need no name; others' do.
    let name = format.opt_string("name")?.unwrap_or_else(|| "response".to_owned());
    let format = ResponseFormat::JsonSchema { name, description: None, schema, strict: Some(true) };
    Ok((Some(format), effort))
}
