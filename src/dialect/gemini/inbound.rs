//! Requests in Gemini's words, read.
//!
//! The model and whether to stream stand in the address, not in the body: [`parse_path`] reads
//! them. Names may be camelCase or snake_case, as protobuf's JSON allows.

use serde_json::{Map, Value};

use super::options;
use super::parts::{self, CallIds, Piece};
use super::wire::{self, NAME};
use crate::chat::{ChatRequest, Message, Part, Role};
use crate::rejection::Rejection;

pub(super) type Object = Map<String, Value>;

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
        chat.tools = options::tools(&tools)?;
    }
    if let Some(config) = take(&mut body, "toolConfig") {
        options::tool_config(as_object(config, "toolConfig")?, &mut chat)?;
    }
    if let Some(config) = take(&mut body, "generationConfig") {
        options::generation_config(as_object(config, "generationConfig")?, &mut chat)?;
    }
    chat.extra.append(&mut body);
    Ok(chat)
}

pub(super) fn wrong(path: impl Into<String>, wanted: &str) -> Rejection {
    let path = path.into();
    let problem = format!("`{path}` must be {wanted}");
    Rejection::invalid(path, problem)
}

pub(super) fn as_object(value: Value, path: &str) -> Result<Object, Rejection> {
    let Value::Object(object) = value else {
        return Err(wrong(path, "an object"));
    };
    Ok(object)
}

pub(super) fn as_list<'a>(value: &'a Value, path: &str) -> Result<&'a [Value], Rejection> {
    value.as_array().map(Vec::as_slice).ok_or_else(|| wrong(path, "a list"))
}

/// A list; where one item may stand for a list of it, that too.
pub(super) fn one_or_list<'a>(value: &'a Value, path: &str) -> Result<&'a [Value], Rejection> {
    if value.is_object() { Ok(std::slice::from_ref(value)) } else { as_list(value, path) }
}

/// Removes a member by either of its names; `null` counts as absent.
pub(super) fn take(object: &mut Object, name: &str) -> Option<Value> {
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
