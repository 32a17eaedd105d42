//! Reading tools and the choice among them, in today's shape and in that of before 2023-11.

use serde_json::{Map, Value};

use super::super::wire::{At, take};
use crate::chat::{Tool, ToolChoice};
use crate::dialect::Dialect;
use crate::rejection::Rejection;

/// Reads `tools`.
pub(super) fn read_tools(at: At<'_>, value: Value) -> Result<Vec<Tool>, Rejection> {
    at.array(value)?
        .into_iter()
        .enumerate()
        .map(|(index, tool)| read_tool(at.index(index), tool))
        .collect()
}

/// Reads the old `functions`.
pub(super) fn read_functions(at: At<'_>, value: Value) -> Result<Vec<Tool>, Rejection> {
    at.array(value)?
        .into_iter()
        .enumerate()
        .map(|(index, function)| {
            let at = at.index(index);
            read_function(at, at.object(function)?)
        })
        .collect()
}

fn read_tool(at: At<'_>, value: Value) -> Result<Tool, Rejection> {
    let mut fields = at.object(value)?;
    let kind = match fields.get("type") {
        None if fields.contains_key("function") => "function",
        None => return Err(at.key("type").missing("`function` or the name of a hosted tool")),
        Some(Value::String(kind)) => kind.as_str(),
        Some(other) => return Err(at.key("type").not_a("a string", other)),
    };
    if kind != "function" {
        let own = fields.get(kind).and_then(|own| own.get("name")).and_then(Value::as_str);
        let name = own.unwrap_or(kind).to_owned();
        let hosted = Some((Dialect::OpenAiChat.as_str().to_owned(), fields.into()));
        return Ok(Tool {
            name,
            description: None,
            parameters: None,
            strict: None,
            cache: None,
            hosted,
        });
    }
    let cache = take(&mut fields, "cache_control");
    let Some(function) = take(&mut fields, "function") else {
        return Err(at.key("function").missing("an object with `name` and `parameters`"));
    };
    let function_at = at.key("function");
    let function = function_at.object(function)?;
    Ok(Tool { cache, ..read_function(function_at, function)? })
}

fn read_function(at: At<'_>, mut fields: Map<String, Value>) -> Result<Tool, Rejection> {
    let strict = take(&mut fields, "strict");
    let parameters = match take(&mut fields, "parameters") {
        None => None,
        Some(schema @ Value::Object(_)) => Some(schema),
        Some(other) => return Err(at.key("parameters").not_a("a JSON Schema object", &other)),
    };
    Ok(Tool {
        name: at.required(&mut fields, "name")?,
        description: at.optional(&mut fields, "description")?,
        parameters,
        strict: strict.map(|flag| at.key("strict").boolean(&flag)).transpose()?,
        cache: take(&mut fields, "cache_control"),
        hosted: None,
    })
}

/// Reads `tool_choice`.
pub(super) fn read_choice(at: At<'_>, value: Value) -> Result<ToolChoice, Rejection> {
    let mut fields = match value {
        Value::String(word) => return choice_word(at, &word),
        Value::Object(fields) => fields,
        other @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_)) => {
            return Err(at.not_a("a string or an object", &other));
        }
    };
    let kind = match take(&mut fields, "type") {
        Some(kind) => at.key("type").string(kind)?,
        None if fields.contains_key("function") => "function".to_owned(),
        None => return Err(at.key("type").missing("`function`, `custom` or `allowed_tools`")),
    };
    match kind.as_str() {
        "function" | "custom" => {
            let at = at.key(&kind);
            let inner = take(&mut fields, &kind).ok_or_else(|| at.missing("an object"))?;
            Ok(ToolChoice::Tool(at.required(&mut at.object(inner)?, "name")?))
        }
        "allowed_tools" => {
            let inner_at = at.key("allowed_tools");
            // The Responses API has mode and tools beside `type`; people mix them up.
            match take(&mut fields, "allowed_tools") {
                Some(inner) => allowed(inner_at, inner_at.object(inner)?),
                None => allowed(at, fields),
            }
        }
        word @ ("auto" | "none" | "required" | "any") => choice_word(at, word),
        _ => Err(at.key("type").wrong("must be `function`, `custom` or `allowed_tools`")),
    }
}

fn choice_word(at: At<'_>, word: &str) -> Result<ToolChoice, Rejection> {
    match word {
        "auto" => Ok(ToolChoice::Auto),
        "none" => Ok(ToolChoice::None),
        // Mistral says `any`.
        "required" | "any" => Ok(ToolChoice::Required),
        _ => Err(at.wrong("must be `auto`, `none`, `required` or an object that names a tool")),
    }
}

fn allowed(at: At<'_>, mut fields: Map<String, Value>) -> Result<ToolChoice, Rejection> {
    let mode = at.optional(&mut fields, "mode")?;
    let required = match mode.as_deref() {
        None | Some("auto") => false,
        Some("required") => true,
        Some(_) => return Err(at.key("mode").wrong("must be `auto` or `required`")),
    };
    let at = at.key("tools");
    let tools = take(&mut fields, "tools").ok_or_else(|| at.missing("an array of tools"))?;
    let mut names = Vec::new();
    for (index, tool) in at.array(tools)?.into_iter().enumerate() {
        let at = at.index(index);
        let mut tool = at.object(tool)?;
        let kind = at.optional(&mut tool, "type")?.unwrap_or_else(|| "function".to_owned());
        let at = at.key(&kind);
        let inner = take(&mut tool, &kind).ok_or_else(|| at.missing("an object with `name`"))?;
        names.push(at.required(&mut at.object(inner)?, "name")?);
    }
    Ok(ToolChoice::Allowed { names, required })
}

/// Reads the old `function_call`.
pub(super) fn read_function_choice(at: At<'_>, value: Value) -> Result<ToolChoice, Rejection> {
    match value {
        Value::Object(mut fields) => Ok(ToolChoice::Tool(at.required(&mut fields, "name")?)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            match value.as_str() {
                Some("auto") => Ok(ToolChoice::Auto),
                Some("none") => Ok(ToolChoice::None),
                _ => Err(at.wrong("must be `auto`, `none` or an object with `name`")),
            }
        }
    }
}
