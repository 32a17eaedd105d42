//! Reading the messages of a request.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::super::state;
use super::super::wire::{At, is_blank, take};
use crate::chat::{Media, MediaSource, Message, Part, Role};
use crate::dialect::Dialect;
use crate::rejection::Rejection;

const ROLES: &str = "one of `system`, `developer`, `user`, `assistant` and `tool`";
const CONTENT: &str = "a string or an array of content parts";

/// The calls of `function_call`, which has no ids, by the function's name.
type Calls = HashMap<String, String>;

/// Reads `messages`.
pub(super) fn read_all(at: At<'_>, value: Value) -> Result<Vec<Message>, Rejection> {
    let mut calls = Calls::new();
    at.array(value)?
        .into_iter()
        .enumerate()
        .map(|(index, message)| read(at.index(index), index, message, &mut calls))
        .collect()
}

fn read(at: At<'_>, index: usize, value: Value, calls: &mut Calls) -> Result<Message, Rejection> {
    let mut fields = at.object(value)?;
    let Some(role) = take(&mut fields, "role") else {
        return Err(at.key("role").missing(ROLES));
    };
    let role = at.key("role").string(role)?;
    let name = at.optional(&mut fields, "name")?;
    fields.retain(|key, value| key != "role" && key != "name" && !value.is_null());
    let said = match role.as_str() {
        "system" => Some(Role::System),
        "developer" => Some(Role::Developer),
        "user" => Some(Role::User),
        _ => None,
    };
    if let Some(role) = said {
        return Ok(Message { role, parts: read_plain(at, fields)?, name });
    }
    match role.as_str() {
        "assistant" => {
            let parts = read_assistant(at, index, fields, calls)?;
            Ok(Message { role: Role::Assistant, parts, name })
        }
        "tool" => {
            let call_id = at.required(&mut fields, "tool_call_id")?;
            read_result(at, fields, call_id, name)
        }
        "function" => {
            let Some(name) = name else {
                return Err(at.key("name").missing("the name of the function that answers"));
            };
            let call_id = calls.get(&name).cloned().unwrap_or_else(|| format!("call_{name}"));
            read_result(at, fields, call_id, Some(name))
        }
        _ => Err(at.key("role").wrong(format_args!("is `{role}`, but must be {ROLES}"))),
    }
}

/// A message of system, developer or user: content, and nothing else that is modelled.
fn read_plain(at: At<'_>, mut fields: Map<String, Value>) -> Result<Vec<Part>, Rejection> {
    let content_at = at.key("content");
    let content = take(&mut fields, "content").ok_or_else(|| content_at.missing(CONTENT))?;
    let mut parts = read_content(content_at, content)?;
    finish(fields, &mut parts);
    Ok(parts)
}

fn read_result(
    at: At<'_>,
    mut fields: Map<String, Value>,
    call_id: String,
    name: Option<String>,
) -> Result<Message, Rejection> {
    let content_at = at.key("content");
    let content = take(&mut fields, "content").ok_or_else(|| content_at.missing(CONTENT))?;
    let parts = read_content(content_at, content)?;
    let cache = take(&mut fields, "cache_control");
    let result = Part::ToolResult { call_id, name, parts, is_error: false, cache };
    let mut parts = vec![result];
    finish(fields, &mut parts);
    Ok(Message { role: Role::Tool, parts, name: None })
}

fn read_assistant(
    at: At<'_>,
    index: usize,
    mut fields: Map<String, Value>,
    calls: &mut Calls,
) -> Result<Vec<Part>, Rejection> {
    let mut thinking = Map::new();
    for key in ["reasoning_content", "reasoning", "reasoning_details", "extra_content"] {
        if let Some(value) = take(&mut fields, key) {
            check_thinking(at.key(key), &value)?;
            thinking.insert(key.to_owned(), value);
        }
    }
    let spoke = !thinking.is_empty() || !fields.is_empty();
    let (mut parts, of_text) = state::read_thinking(&thinking.into());
    if let Some(content) = take(&mut fields, "content") {
        // An empty text beside calls is how many libraries write that there is none.
        let content = read_content(at.key("content"), content)?;
        parts.extend(content.into_iter().filter(|part| part.as_text() != Some("")));
    }
    if let Some(state) = of_text {
        attach(&mut parts, state);
    }
    if let Some(text) = at.optional(&mut fields, "refusal")?.filter(|text| !text.is_empty()) {
        parts.push(Part::Refusal { text });
    }
    if let Some(tool_calls) = take(&mut fields, "tool_calls") {
        let at = at.key("tool_calls");
        for (index, call) in at.array(tool_calls)?.into_iter().enumerate() {
            parts.push(read_call(at.index(index), call)?);
        }
    }
    if let Some(call) = take(&mut fields, "function_call") {
        let at = at.key("function_call");
        let (name, arguments) = read_function(at, at.object(call)?)?;
        let id = format!("call_{index}_{name}");
        calls.insert(name.clone(), id.clone());
        parts.push(Part::ToolCall { id, name, arguments, opaque: None });
    }
    // What providers add to their answers and do not need back.
    for output_only in ["annotations", "index"] {
        fields.remove(output_only);
    }
    finish(fields, &mut parts);
    if parts.is_empty() && !spoke {
        return Err(at.key("content").missing("a string, an array, or null beside `tool_calls`"));
    }
    Ok(parts)
}

fn check_thinking(at: At<'_>, value: &Value) -> Result<(), Rejection> {
    let (fits, wanted) = match at.last_key() {
        "reasoning_details" => (value.is_array(), "an array"),
        "extra_content" => (value.is_object(), "an object"),
        _ => (value.is_string(), "a string"),
    };
    if fits { Ok(()) } else { Err(at.not_a(wanted, value)) }
}

/// Gives state to the last text, or to an empty one where there is none.
fn attach(parts: &mut Vec<Part>, state: crate::chat::Opaque) {
    for part in parts.iter_mut().rev() {
        if let Part::Text { opaque, .. } = part {
            *opaque = Some(state);
            return;
        }
    }
    parts.push(Part::Text { text: String::new(), cache: None, opaque: Some(state) });
}

/// Keeps what is left of a message: a cache mark on its last part, all else verbatim.
fn finish(mut fields: Map<String, Value>, parts: &mut Vec<Part>) {
    if let (Some(mark), Some(Part::Text { cache, .. })) =
        (take(&mut fields, "cache_control"), parts.last_mut())
    {
        *cache = Some(mark);
    }
    fields.retain(|_, value| !is_blank(value));
    if !fields.is_empty() {
        parts.push(Part::Other {
            dialect: Dialect::OpenAiChat.as_str().to_owned(),
            value: fields.into(),
        });
    }
}

fn read_call(at: At<'_>, value: Value) -> Result<Part, Rejection> {
    let opaque = state::call_state(&value);
    let mut fields = at.object(value)?;
    let kind = at.optional(&mut fields, "type")?.unwrap_or_else(|| "function".to_owned());
    let id = at.required(&mut fields, "id")?;
    match kind.as_str() {
        "" | "function" => {
            let at = at.key("function");
            let Some(function) = take(&mut fields, "function") else {
                return Err(at.missing("an object with `name` and `arguments`"));
            };
            let (name, arguments) = read_function(at, at.object(function)?)?;
            Ok(Part::ToolCall { id, name, arguments, opaque })
        }
        _ => {
            fields.insert("id".to_owned(), id.into());
            fields.insert("type".to_owned(), kind.into());
            let mut message = Map::new();
            message.insert("tool_calls".to_owned(), Value::Array(vec![fields.into()]));
            let dialect = Dialect::OpenAiChat.as_str().to_owned();
            Ok(Part::Other { dialect, value: message.into() })
        }
    }
}

fn read_function(
    at: At<'_>,
    mut fields: Map<String, Value>,
) -> Result<(String, String), Rejection> {
    let arguments = match take(&mut fields, "arguments") {
        None => String::new(),
        Some(Value::String(text)) => text,
        // Some libraries forget to write the arguments as text.
        Some(arguments @ Value::Object(_)) => arguments.to_string(),
        Some(other) => return Err(at.key("arguments").not_a("JSON text in a string", &other)),
    };
    Ok((at.required(&mut fields, "name")?, arguments))
}

/// Reads `content`.
fn read_content(at: At<'_>, value: Value) -> Result<Vec<Part>, Rejection> {
    match value {
        Value::String(text) => Ok(vec![Part::text(text)]),
        Value::Array(parts) => parts
            .into_iter()
            .enumerate()
            .map(|(index, part)| read_part(at.index(index), part))
            .collect(),
        other @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_)) => {
            Err(at.not_a(CONTENT, &other))
        }
    }
}

fn read_part(at: At<'_>, value: Value) -> Result<Part, Rejection> {
    if let Value::String(text) = value {
        return Ok(Part::text(text));
    }
    let mut fields = at.object(value)?;
    let kind = match fields.get("type") {
        Some(Value::String(kind)) => kind.clone(),
        Some(other) => return Err(at.key("type").not_a("a string", other)),
        None => return Err(at.key("type").missing("`text`, `image_url`, `input_audio` or `file`")),
    };
    let cache = take(&mut fields, "cache_control");
    match kind.as_str() {
        "text" => {
            let text_at = at.key("text");
            let text = take(&mut fields, "text").ok_or_else(|| text_at.missing("a string"))?;
            Ok(Part::Text { text: text_at.string(text)?, cache, opaque: None })
        }
        "image_url" => read_image(at.key("image_url"), take(&mut fields, "image_url"), cache),
        // Mistral takes the sound itself or its address here; it does not say what it is.
        "input_audio" if fields.get("input_audio").is_some_and(Value::is_string) => {
            Ok(Part::Other {
                dialect: Dialect::OpenAiChat.as_str().to_owned(),
                value: fields.into(),
            })
        }
        "input_audio" => {
            let at = at.key("input_audio");
            let mut audio = inner(at, &mut fields, "an object with `data` and `format`")?;
            let data = at.required(&mut audio, "data")?;
            let format = at.required(&mut audio, "format")?;
            let media_type = match format.as_str() {
                "mp3" => "audio/mpeg".to_owned(),
                other => format!("audio/{other}"),
            };
            let mut media = media(at.key("data"), data, Some(media_type))?;
            media.cache = cache;
            Ok(Part::Media(media))
        }
        "file" => read_file(at.key("file"), &mut fields, cache),
        "refusal" => Ok(Part::Refusal { text: at.required(&mut fields, "refusal")? }),
        "thinking" => {
            let text = super::super::reply::thinking_text(fields.get("thinking"));
            Ok(Part::Reasoning { text, opaque: None })
        }
        _ => Ok(Part::Other {
            dialect: Dialect::OpenAiChat.as_str().to_owned(),
            value: fields.into(),
        }),
    }
}

fn inner(
    at: At<'_>,
    fields: &mut Map<String, Value>,
    wanted: &str,
) -> Result<Map<String, Value>, Rejection> {
    let key = at.last_key();
    at.object(take(fields, key).ok_or_else(|| at.missing(wanted))?)
}

fn read_image(at: At<'_>, value: Option<Value>, cache: Option<Value>) -> Result<Part, Rejection> {
    let (at_url, url, detail) = match value {
        None => return Err(at.missing("an object with `url`")),
        // Mistral takes the address itself.
        Some(Value::String(url)) => (at.to_string(), url, None),
        Some(value) => {
            let mut image = at.object(value)?;
            let url = at.required(&mut image, "url")?;
            (at.key("url").to_string(), url, at.optional(&mut image, "detail")?)
        }
    };
    let source = media(At::top(&at_url), url, None)?;
    Ok(Part::Media(Media { detail, cache, ..source }))
}

fn read_file(
    at: At<'_>,
    fields: &mut Map<String, Value>,
    cache: Option<Value>,
) -> Result<Part, Rejection> {
    let mut file = inner(at, fields, "an object with `file_data` or `file_id`")?;
    let name = at.optional(&mut file, "filename")?;
    let id = at.optional(&mut file, "file_id")?;
    let data = at.optional(&mut file, "file_data")?;
    let mut media = match (data, id) {
        (Some(data), _) => {
            let pdf = name.as_deref().is_some_and(|name| name.ends_with(".pdf"));
            let is_address = is_url(&data) || starts_with(&data, "data:");
            let media_type = (pdf && !is_address).then(|| "application/pdf".to_owned());
            if is_address {
                self::media(at.key("file_data"), data, None)?
            } else {
                plain_media(MediaSource::Base64(data), media_type)
            }
        }
        (None, Some(id)) => plain_media(MediaSource::FileId(id), None),
        (None, None) => return Err(at.wrong("must have `file_data` or `file_id`")),
    };
    media.name = name;
    media.cache = cache;
    Ok(Part::Media(media))
}

/// Reads an address, or, where the type is known from elsewhere, base64.
fn media(at: At<'_>, text: String, media_type: Option<String>) -> Result<Media, Rejection> {
    const WANTED: &str = "must be an `https://` address or `data:<media type>;base64,<data>`";
    if starts_with(&text, "data:") {
        let rest = text.get("data:".len()..).unwrap_or_default();
        let (head, data) = rest.split_once(',').ok_or_else(|| at.wrong(WANTED))?;
        let Some(kind) = head.strip_suffix(";base64") else {
            return Err(at.wrong(WANTED));
        };
        // Parameters such as `;charset=utf-8` are not part of a media type.
        let kind = kind.split(';').next().unwrap_or_default();
        let own = (!kind.is_empty()).then(|| kind.to_owned());
        return Ok(plain_media(MediaSource::Base64(data.to_owned()), own.or(media_type)));
    }
    if media_type.is_some() {
        return Ok(plain_media(MediaSource::Base64(text), media_type));
    }
    if !is_url(&text) {
        return Err(at.wrong(WANTED));
    }
    Ok(plain_media(MediaSource::Url(text), None))
}

fn plain_media(source: MediaSource, media_type: Option<String>) -> Media {
    Media { source, media_type, name: None, detail: None, cache: None }
}

fn is_url(text: &str) -> bool {
    ["https://", "http://", "gs://"].iter().any(|scheme| starts_with(text, scheme))
}

fn starts_with(text: &str, prefix: &str) -> bool {
    text.get(..prefix.len()).is_some_and(|head| head.eq_ignore_ascii_case(prefix))
}
