//! Requests in Gemini's words, read.
//!
//! The model and whether to stream stand in the address, not in the body: [`parse_path`] reads
//! them. Names may be camelCase or snake_case, as protobuf's JSON allows.

use serde_json::{Map, Value};

use super::parts::{self, CallIds, Piece};
use super::wire::{self, NAME};
use crate::chat::{
    ChatRequest, Effort, Message, Part, Reasoning, ResponseFormat, Role, Sampling, Tool, ToolChoice,
};
use crate::rejection::Rejection;

type Object = Map<String, Value>;

/// Reads the address of a request: the model, and whether a stream is asked for.
///
/// `/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse` is `gemini-2.5-flash` and true.
/// `None` where it is neither `generateContent` nor `streamGenerateContent`.
pub fn parse_path(path: &str) -> Option<(&str, bool)> {
    let path = path.split(['?', '#']).next()?;
    let (model, method) = path.rsplit_once(':')?;
    let stream = match method {
        "generateContent" => false,
        "streamGenerateContent" => true,
        _ => return None,
    };
    let model = match model.rfind("models/") {
        Some(at) => model.get(at + "models/".len()..)?,
        None => model.rsplit('/').next()?,
    };
    (!model.is_empty()).then_some((model, stream))
}

/// Reads a request.
pub(super) fn decode(body: &[u8]) -> Result<ChatRequest, Rejection> {
    let value: Value = serde_json::from_slice(body).map_err(|error| Rejection::Invalid {
        problem: format!("the request is not JSON: {error}"),
        param: None,
    })?;
    let Value::Object(mut body) = value else {
        return Err(Rejection::Invalid {
            problem: "the request must be a JSON object".to_owned(),
            param: None,
        });
    };
    let mut chat = ChatRequest {
        include_usage: true,
        extra_dialect: NAME.to_owned(),
        ..ChatRequest::default()
    };
    if let Some(model) = take(&mut body, "model") {
        let model = model.as_str().ok_or_else(|| wrong("model", "text"))?;
        model.strip_prefix("models/").unwrap_or(model).clone_into(&mut chat.model);
    }
    if let Some(system) = take(&mut body, "systemInstruction") {
        instructions(&system, &mut chat.messages)?;
    }
    let contents = take(&mut body, "contents").ok_or_else(|| wrong("contents", "a list"))?;
    read_contents(&contents, &mut chat.messages)?;
    if let Some(tools) = take(&mut body, "tools") {
        chat.tools = read_tools(&tools)?;
    }
    if let Some(config) = take(&mut body, "toolConfig") {
        tool_config(as_object(config, "toolConfig")?, &mut chat)?;
    }
    if let Some(config) = take(&mut body, "generationConfig") {
        generation_config(as_object(config, "generationConfig")?, &mut chat)?;
    }
    chat.extra.append(&mut body);
    Ok(chat)
}

fn wrong(path: impl Into<String>, wanted: &str) -> Rejection {
    let path = path.into();
    let problem = format!("`{path}` must be {wanted}");
    Rejection::invalid(path, problem)
}

fn as_object(value: Value, path: &str) -> Result<Object, Rejection> {
    let Value::Object(object) = value else {
        return Err(wrong(path, "an object"));
    };
    Ok(object)
}

fn as_list<'a>(value: &'a Value, path: &str) -> Result<&'a [Value], Rejection> {
    value.as_array().map(Vec::as_slice).ok_or_else(|| wrong(path, "a list"))
}

/// A list; where one item may stand for a list of it, that too.
fn one_or_list<'a>(value: &'a Value, path: &str) -> Result<&'a [Value], Rejection> {
    if value.is_object() { Ok(std::slice::from_ref(value)) } else { as_list(value, path) }
}

/// Removes a member by either of its names; `null` counts as absent.
fn take(object: &mut Object, name: &str) -> Option<Value> {
    let key = object.keys().find(|key| wire::is_key(key, name))?.clone();
    object.shift_remove(&key).filter(|value| !value.is_null())
}

fn instructions(system: &Value, out: &mut Vec<Message>) -> Result<(), Rejection> {
    let path = "systemInstruction";
    let system = system.as_object().ok_or_else(|| wrong(path, "an object"))?;
    let mut parts = Vec::new();
    let list = wire::get(system, "parts")
        .map_or(Ok(&[][..]), |list| one_or_list(list, "systemInstruction.parts"))?;
    for (at, part) in list.iter().enumerate() {
        let path = format!("{path}.parts[{at}]");
        let part = part.as_object().ok_or_else(|| wrong(&path, "an object"))?;
        let text = wire::get(part, "text").and_then(Value::as_str);
        parts.push(Part::text(text.ok_or_else(|| wrong(format!("{path}.text"), "text"))?));
    }
    if !parts.is_empty() {
        out.push(Message { role: Role::System, parts, name: None });
    }
    Ok(())
}

fn read_contents(contents: &Value, out: &mut Vec<Message>) -> Result<(), Rejection> {
    let contents = one_or_list(contents, "contents")?;
    if contents.is_empty() {
        return Err(wrong("contents", "a list of at least one turn"));
    }
    // Calls without ids are named by their place in the conversation, and results find them by
    // the function's name, in order.
    let mut ids = CallIds::default();
    let mut open: Vec<(String, String)> = Vec::new();
    for (at, turn) in contents.iter().enumerate() {
        let path = format!("contents[{at}]");
        let turn = turn.as_object().ok_or_else(|| wrong(&path, "an object"))?;
        let role = match wire::text(turn, "role") {
            "" | "user" | "function" => Role::User,
            "model" => Role::Assistant,
            _ => return Err(wrong(format!("{path}.role"), "`user` or `model`")),
        };
        let list = wire::get(turn, "parts").unwrap_or(&Value::Null);
        let list = as_list(list, &format!("{path}.parts"))?;
        let mut parts = Vec::new();
        for (nth, part) in list.iter().enumerate() {
            let path = format!("{path}.parts[{nth}]");
            read_part(part, &path, &mut ids, &mut open, &mut parts)?;
        }
        let is_result = |part: &Part| matches!(part, Part::ToolResult { .. });
        let all_results = !parts.is_empty() && parts.iter().all(is_result);
        let role = if all_results { Role::Tool } else { role };
        out.push(Message { role, parts, name: None });
    }
    Ok(())
}

fn read_part(
    value: &Value,
    path: &str,
    ids: &mut CallIds,
    open: &mut Vec<(String, String)>,
    out: &mut Vec<Part>,
) -> Result<(), Rejection> {
    let part = value.as_object().ok_or_else(|| wrong(path, "an object"))?;
    if wire::get(part, "text").is_some_and(|text| !text.is_string()) {
        return Err(wrong(format!("{path}.text"), "text"));
    }
    if let Some(response) = wire::get(part, "functionResponse") {
        let path = format!("{path}.functionResponse");
        let response = response.as_object().ok_or_else(|| wrong(&path, "an object"))?;
        out.push(read_response(response, &path, open)?);
        return Ok(());
    }
    if let Some(call) = wire::get(part, "functionCall") {
        let path = format!("{path}.functionCall");
        let call = call.as_object().ok_or_else(|| wrong(&path, "an object"))?;
        if wire::text(call, "name").is_empty() {
            return Err(wrong(format!("{path}.name"), "the function's name"));
        }
        if wire::get(call, "args").is_some_and(|args| !args.is_object()) {
            return Err(wrong(format!("{path}.args"), "an object"));
        }
    }
    match parts::classify(part) {
        Piece::Inline(_, "") => {
            return Err(wrong(format!("{path}.inlineData.data"), "base64 text"));
        }
        Piece::File(_, "") => return Err(wrong(format!("{path}.fileData.fileUri"), "an address")),
        Piece::Text(_)
        | Piece::Thought(_)
        | Piece::Call(_)
        | Piece::Inline(..)
        | Piece::File(..)
        | Piece::Other => {}
    }
    parts::read(value, ids, out);
    if let Some(Part::ToolCall { id, name, .. }) = out.last() {
        open.push((id.clone(), name.clone()));
    }
    Ok(())
}

fn read_response(
    response: &Object,
    path: &str,
    open: &mut Vec<(String, String)>,
) -> Result<Part, Rejection> {
    let name = wire::text(response, "name");
    if name.is_empty() {
        return Err(wrong(format!("{path}.name"), "the function's name"));
    }
    let answer = match wire::get(response, "response") {
        Some(Value::Object(answer)) => answer.clone(),
        Some(_) => return Err(wrong(format!("{path}.response"), "an object")),
        None => Object::new(),
    };
    let given = wire::text(response, "id");
    let at = open.iter().position(
        |(id, open_name)| {
            if given.is_empty() { open_name == name } else { id == given }
        },
    );
    let call_id = match at {
        Some(at) => open.remove(at).0,
        None if given.is_empty() => {
            let problem = format!("no open call of `{name}` stands before this result");
            return Err(Rejection::invalid(format!("{path}.name"), problem));
        }
        None => given.to_owned(),
    };
    let (text, is_error) = unwrap_response(answer);
    let mut content = vec![Part::text(text)];
    for media in wire::array(response, "parts").iter().filter_map(Value::as_object) {
        content.extend(parts::media(media).map(Part::Media));
    }
    Ok(Part::ToolResult {
        call_id,
        name: Some(name.to_owned()),
        parts: content,
        is_error,
        cache: None,
    })
}

/// Takes a result out of the object the API wants around it.
fn unwrap_response(answer: Object) -> (String, bool) {
    if answer.len() == 1 {
        for (name, is_error) in [("result", false), ("output", false), ("error", true)] {
            match answer.get(name) {
                Some(Value::String(text)) => return (text.clone(), is_error),
                Some(value) => return (value.to_string(), is_error),
                None => {}
            }
        }
    }
    (Value::Object(answer).to_string(), false)
}

fn read_tools(tools: &Value) -> Result<Vec<Tool>, Rejection> {
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

fn tool_config(mut config: Object, chat: &mut ChatRequest) -> Result<(), Rejection> {
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

fn generation_config(config: Object, chat: &mut ChatRequest) -> Result<(), Rejection> {
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
