//! Requests in Gemini's words, read: tools, and how to generate.

use serde_json::Value;

use super::inbound::{Object, as_list, as_object, one_or_list, take, wrong};
use super::wire::{self, NAME};
use crate::chat::{ChatRequest, Effort, Reasoning, ResponseFormat, Sampling, Tool, ToolChoice};
use crate::rejection::Rejection;

/// Reads `tools`; what is no function is one hosted tool for each member.
pub(super) fn tools(tools: &Value) -> Result<Vec<Tool>, Rejection> {
    let mut out = Vec::new();
    for (at, tool) in one_or_list(tools, "tools")?.iter().enumerate() {
        let path = format!("tools[{at}]");
        let mut tool = as_object(tool.clone(), &path)?;
        if let Some(declarations) = take(&mut tool, "functionDeclarations") {
            let path = format!("{path}.functionDeclarations");
            for (nth, one) in as_list(&declarations, &path)?.iter().enumerate() {
                out.push(read_declaration(one, &format!("{path}[{nth}]"))?);
            }
        }
        for (name, value) in tool {
            let whole = Value::Object(Object::from_iter([(name.clone(), value)]));
            out.push(Tool {
                name,
                description: None,
                parameters: None,
                strict: None,
                cache: None,
                hosted: Some((NAME.to_owned(), whole)),
            });
        }
    }
    Ok(out)
}

fn read_declaration(value: &Value, path: &str) -> Result<Tool, Rejection> {
    let declaration = value.as_object().ok_or_else(|| wrong(path, "an object"))?;
    let name = wire::text(declaration, "name");
    if name.is_empty() {
        return Err(wrong(format!("{path}.name"), "the function's name"));
    }
    let description = wire::get(declaration, "description").and_then(Value::as_str);
    let parameters = wire::get(declaration, "parametersJsonSchema")
        .or_else(|| wire::get(declaration, "parameters"));
    Ok(Tool {
        name: name.to_owned(),
        description: description.map(str::to_owned),
        parameters: parameters.cloned(),
        strict: None,
        cache: None,
        hosted: None,
    })
}

/// Reads `toolConfig`.
pub(super) fn tool_config(mut config: Object, chat: &mut ChatRequest) -> Result<(), Rejection> {
    let path = "toolConfig.functionCallingConfig";
    if let Some(calling) = take(&mut config, "functionCallingConfig") {
        let mut calling = as_object(calling, path)?;
        let names: Vec<_> = wire::array(&calling, "allowedFunctionNames")
            .iter()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect();
        chat.tool_choice = match (wire::text(&calling, "mode"), names.as_slice()) {
            ("" | "MODE_UNSPECIFIED", _) => None,
            ("AUTO", _) => Some(ToolChoice::Auto),
            ("NONE", _) => Some(ToolChoice::None),
            ("ANY", []) => Some(ToolChoice::Required),
            ("ANY", [one]) => Some(ToolChoice::Tool(one.clone())),
            ("ANY", _) => Some(ToolChoice::Allowed { names, required: true }),
            ("VALIDATED", []) => Some(ToolChoice::Auto),
            ("VALIDATED", _) => Some(ToolChoice::Allowed { names, required: false }),
            _ => return Err(wrong(format!("{path}.mode"), "`AUTO`, `ANY`, `NONE` or `VALIDATED`")),
        };
        take(&mut calling, "mode");
        take(&mut calling, "allowedFunctionNames");
        if !calling.is_empty() {
            config.insert("functionCallingConfig".into(), calling.into());
        }
    }
    if !config.is_empty() {
        chat.extra.insert("toolConfig".into(), config.into());
    }
    Ok(())
}

/// Takes settings out of their object, with the path of one that has the wrong type.
struct Config(Object);

impl Config {
    fn take<T>(
        &mut self,
        name: &str,
        wanted: &str,
        read: impl Fn(&Value) -> Option<T>,
    ) -> Result<Option<T>, Rejection> {
        take(&mut self.0, name)
            .map(|value| {
                read(&value).ok_or_else(|| wrong(format!("generationConfig.{name}"), wanted))
            })
            .transpose()
    }

    fn number(&mut self, name: &str) -> Result<Option<f64>, Rejection> {
        self.take(name, "a number", Value::as_f64)
    }

    fn count(&mut self, name: &str) -> Result<Option<u64>, Rejection> {
        self.take(name, "a count", |value| match value {
            Value::Number(number) => {
                let whole = number.as_f64().filter(|n| n.fract() == 0.0 && *n >= 0.0);
                number.as_u64().or(whole.map(|n| n as u64))
            }
            Value::Null | Value::Bool(_) | Value::String(_) | Value::Array(_) => None,
            Value::Object(_) => None,
        })
    }
}

/// Reads `generationConfig`.
pub(super) fn generation_config(config: Object, chat: &mut ChatRequest) -> Result<(), Rejection> {
    let mut config = Config(config);
    chat.sampling = Sampling {
        temperature: config.number("temperature")?,
        top_p: config.number("topP")?,
        top_k: config.count("topK")?,
        frequency_penalty: config.number("frequencyPenalty")?,
        presence_penalty: config.number("presencePenalty")?,
        seed: config.take("seed", "a whole number", Value::as_i64)?,
        stop: config.take("stopSequences", "a list of texts", texts)?.unwrap_or_default(),
    };
    chat.max_tokens = config.count("maxOutputTokens")?;
    let to_u32 = |count: Option<u64>| count.map(|count| u32::try_from(count).unwrap_or(u32::MAX));
    chat.n = to_u32(config.count("candidateCount")?);
    let wants_logprobs = config.take("responseLogprobs", "true or false", Value::as_bool)?;
    let top = to_u32(config.count("logprobs")?);
    chat.logprobs = wants_logprobs.unwrap_or_default().then(|| top.unwrap_or_default());
    let media_type =
        config.take("responseMimeType", "text", |value| value.as_str().map(str::to_owned))?;
    let any = |value: &Value| value.is_object().then(|| value.clone());
    let openapi = config.take("responseSchema", "an object", any)?;
    let schema = config.take("responseJsonSchema", "an object", any)?.or(openapi);
    chat.response_format = match (media_type.as_deref(), schema) {
        (Some("application/json"), Some(schema)) => Some(ResponseFormat::JsonSchema {
            name: "response".to_owned(),
            description: None,
            schema,
            strict: None,
        }),
        (Some("application/json"), None) => Some(ResponseFormat::Json),
        (Some("text/plain"), None) => Some(ResponseFormat::Text),
        (Some(other), None) => {
            config.0.insert("responseMimeType".into(), other.into());
            None
        }
        (None, None) => None,
        // An enumeration as plain text (`text/x.enum`) has no word of its own elsewhere.
        (other, Some(schema)) => {
            if let Some(other) = other {
                config.0.insert("responseMimeType".into(), other.into());
            }
            config.0.insert("responseSchema".into(), schema);
            None
        }
    };
    if let Some(thinking) = take(&mut config.0, "thinkingConfig") {
        chat.reasoning =
            Some(read_thinking(&as_object(thinking, "generationConfig.thinkingConfig")?)?);
    }
    if !config.0.is_empty() {
        chat.extra.insert("generationConfig".into(), config.0.into());
    }
    Ok(())
}

fn texts(value: &Value) -> Option<Vec<String>> {
    value.as_array()?.iter().map(|text| text.as_str().map(str::to_owned)).collect()
}

fn read_thinking(config: &Object) -> Result<Reasoning, Rejection> {
    let path = "generationConfig.thinkingConfig";
    let effort = match wire::text(config, "thinkingLevel").to_ascii_uppercase().as_str() {
        "" | "THINKING_LEVEL_UNSPECIFIED" => None,
        "MINIMAL" => Some(Effort::Minimal),
        "LOW" => Some(Effort::Low),
        "MEDIUM" => Some(Effort::Medium),
        "HIGH" => Some(Effort::High),
        _ => {
            let wanted = "`MINIMAL`, `LOW`, `MEDIUM` or `HIGH`";
            return Err(wrong(format!("{path}.thinkingLevel"), wanted));
        }
    };
    Ok(Reasoning {
        effort,
        // -1 lets the model choose, which is what saying nothing means.
        budget_tokens: wire::get(config, "thinkingBudget").and_then(Value::as_u64),
        visible: wire::get(config, "includeThoughts").and_then(Value::as_bool),
    })
}
