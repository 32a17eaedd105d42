//! Writing the messages of a request.

use serde_json::{Map, Value, json};

use super::super::super::{state, wire};
use super::{Writer, is_native};
use crate::chat::{Media, MediaSource, Message, Opaque, Part, Role};
use crate::dialect::{Dropped, SystemRole};
use crate::rejection::Rejection;

/// Fields of an assistant's message that hold thinking; each can be switched off with
/// `drop_params`.
const THINKING: [&str; 2] = ["reasoning_content", "reasoning_details"];

impl Writer<'_> {
    /// Writes a message: the results in it as a message each, then what else it says.
    pub(super) fn message(
        &self,
        index: usize,
        message: &Message,
        out: &mut Vec<Value>,
        dropped: &mut Dropped,
    ) -> Result<(), Rejection> {
        let mut others = Vec::new();
        for part in &message.parts {
            let Part::ToolResult { call_id, name, parts, is_error: _, cache } = part else {
                others.push(part);
                continue;
            };
            let mut value = Map::new();
            value.insert("role".to_owned(), "tool".into());
            value.insert("tool_call_id".to_owned(), call_id.as_str().into());
            if let (true, Some(name)) = (self.native, name) {
                value.insert("name".to_owned(), name.as_str().into());
            }
            let parts: Vec<&Part> = parts.iter().collect();
            value.insert("content".to_owned(), self.content(index, Role::Tool, &parts)?);
            let mut value = Value::Object(value);
            self.mark(&mut value, cache.as_ref());
            out.push(value);
        }
        match message.role {
            Role::Assistant => out.push(self.assistant(index, message, dropped)?),
            Role::Tool if others.is_empty() => {}
            Role::Tool => {
                // Fields of a tool message that are not modelled, verbatim.
                if let Some(Value::Object(last)) = out.last_mut() {
                    self.merge_fields(index, &others, last)?;
                }
            }
            Role::User if others.is_empty() && !message.parts.is_empty() => {}
            Role::System | Role::Developer | Role::User => {
                let mut value = Map::new();
                value.insert("role".to_owned(), self.role(message.role).into());
                if let Some(name) = &message.name {
                    value.insert("name".to_owned(), name.as_str().into());
                }
                let content = self.content(index, message.role, &others)?;
                value.insert("content".to_owned(), content);
                self.merge_fields(index, &others, &mut value)?;
                out.push(value.into());
            }
        }
        Ok(())
    }

    fn role(&self, role: Role) -> &'static str {
        match role {
            Role::Developer if self.target.quirks.system_role == SystemRole::AsSent => "developer",
            Role::System | Role::Developer => "system",
            Role::User => "user",
            Role::Assistant => "assistant",
            Role::Tool => "tool",
        }
    }

    fn assistant(
        &self,
        index: usize,
        message: &Message,
        dropped: &mut Dropped,
    ) -> Result<Value, Rejection> {
        let mut value = Map::new();
        value.insert("role".to_owned(), "assistant".into());
        if let Some(name) = &message.name {
            value.insert("name".to_owned(), name.as_str().into());
        }
        let mut said = String::new();
        let mut refusal = String::new();
        let mut calls = Vec::new();
        for part in &message.parts {
            match part {
                Part::Text { text, .. } => said.push_str(text),
                Part::Refusal { text } => refusal.push_str(text),
                Part::ToolCall { id, name, arguments, opaque } => {
                    calls.push(self.call(id, name, arguments, opaque.as_ref()));
                }
                Part::Reasoning { .. } | Part::Other { .. } | Part::ToolResult { .. } => {}
                Part::Media(_) => {
                    let problem = "an assistant's message holds only text";
                    return Err(self.refuse(format!("messages[{index}].content"), problem));
                }
            }
        }
        let silent = said.is_empty() && (!calls.is_empty() || !refusal.is_empty());
        value.insert("content".to_owned(), if silent { Value::Null } else { said.into() });
        if !refusal.is_empty() {
            value.insert("refusal".to_owned(), refusal.into());
        }
        // Thoughts go back only where the caller, speaking this dialect, sent them for this
        // provider; to any other model they mean nothing.
        if self.native {
            state::write_thinking(&message.parts, &mut value);
            for key in THINKING {
                if self.drops(key) && value.shift_remove(key).is_some() {
                    dropped.add(key);
                }
            }
        }
        if !calls.is_empty() {
            value.insert("tool_calls".to_owned(), calls.into());
        }
        let parts: Vec<&Part> = message.parts.iter().collect();
        self.merge_fields(index, &parts, &mut value)?;
        Ok(value.into())
    }

    fn call(&self, id: &str, name: &str, arguments: &str, opaque: Option<&Opaque>) -> Value {
        // "No arguments" must still be JSON for whoever reads it.
        let arguments = if arguments.trim().is_empty() { "{}" } else { arguments };
        let mut call = json!({
            "id": id, "type": "function", "function": { "name": name, "arguments": arguments }
        });
        if let (true, Some(extra)) = (self.native, opaque.and_then(state::call_extra)) {
            call["extra_content"] = extra;
        }
        call
    }

    /// Writes the fields of a message that are not modelled, and refuses blocks of other dialects.
    fn merge_fields(
        &self,
        index: usize,
        parts: &[&Part],
        message: &mut Map<String, Value>,
    ) -> Result<(), Rejection> {
        for part in parts {
            let Part::Other { dialect, value } = part else { continue };
            if !is_native(dialect) {
                return Err(self.foreign(index, dialect, value));
            }
            let Some(fields) = value.as_object().filter(|fields| !fields.contains_key("type"))
            else {
                continue;
            };
            for (key, value) in fields {
                match (message.get_mut(key), value) {
                    (Some(Value::Array(own)), Value::Array(more)) => own.extend(more.clone()),
                    (Some(_), _) => {}
                    (None, _) => {
                        message.insert(key.clone(), value.clone());
                    }
                }
            }
        }
        Ok(())
    }

    fn foreign(&self, index: usize, dialect: &str, value: &Value) -> Rejection {
        let kind = wire::text(value, "type");
        let what = if kind.is_empty() { "a block".to_owned() } else { format!("`{kind}`") };
        self.refuse(
            format!("messages[{index}].content"),
            format!("{what} belongs to the {dialect} dialect"),
        )
    }

    fn content(&self, index: usize, role: Role, parts: &[&Part]) -> Result<Value, Rejection> {
        let mut values = Vec::with_capacity(parts.len());
        for part in parts {
            match part {
                Part::Text { text, cache, .. } => {
                    let mut value = json!({ "type": "text", "text": text });
                    self.mark(&mut value, cache.as_ref());
                    values.push(value);
                }
                Part::Media(media) if role == Role::User || self.native => {
                    let mut value = self.media(index, media)?;
                    self.mark(&mut value, media.cache.as_ref());
                    values.push(value);
                }
                Part::Media(_) => {
                    let who = if role == Role::Tool { "a tool's answer" } else { "instructions" };
                    let problem = format!("{who} can hold only text there");
                    return Err(self.refuse(format!("messages[{index}].content"), problem));
                }
                Part::Other { dialect, value } if !is_native(dialect) => {
                    return Err(self.foreign(index, dialect, value));
                }
                Part::Other { value, .. } => {
                    if value.get("type").is_some() {
                        values.push(value.clone());
                    }
                }
                Part::Refusal { text } => values.push(json!({ "type": "text", "text": text })),
                Part::Reasoning { .. } | Part::ToolCall { .. } | Part::ToolResult { .. } => {}
            }
        }
        Ok(match values.as_mut_slice() {
            [] => "".into(),
            [Value::Object(only)] if only.len() == 2 && only.contains_key("text") => {
                only.get_mut("text").map(Value::take).unwrap_or_default()
            }
            _ => values.into(),
        })
    }

    fn media(&self, index: usize, media: &Media) -> Result<Value, Rejection> {
        let kind = media.media_type.as_deref().unwrap_or_default();
        let is_audio = kind.starts_with("audio/");
        let refuse = |problem: &str| {
            Err(self.refuse(format!("messages[{index}].content"), problem.to_owned()))
        };
        match &media.source {
            MediaSource::FileId(id) if self.native => {
                let mut file = json!({ "file_id": id });
                if let Some(name) = &media.name {
                    file["filename"] = name.as_str().into();
                }
                Ok(json!({ "type": "file", "file": file }))
            }
            MediaSource::FileId(_) => refuse("a file of another provider means nothing there"),
            MediaSource::Url(url) if kind.is_empty() || kind.starts_with("image/") => {
                Ok(image(url, media))
            }
            MediaSource::Url(_) => refuse("only images can be given by address there"),
            MediaSource::Base64(data) if is_audio => {
                let format = match kind {
                    "audio/mpeg" | "audio/mp3" => "mp3",
                    "audio/x-wav" | "audio/wave" | "audio/vnd.wave" => "wav",
                    other => other.strip_prefix("audio/").unwrap_or(other),
                };
                let audio = json!({ "data": data, "format": format });
                Ok(json!({ "type": "input_audio", "input_audio": audio }))
            }
            MediaSource::Base64(data) if kind.starts_with("image/") => {
                Ok(image(&format!("data:{kind};base64,{data}"), media))
            }
            MediaSource::Base64(data) => {
                let data = if kind.is_empty() {
                    data.clone()
                } else {
                    format!("data:{kind};base64,{data}")
                };
                let name = media.name.as_deref().unwrap_or(match kind {
                    "application/pdf" => "document.pdf",
                    _ => "document",
                });
                Ok(json!({ "type": "file", "file": { "filename": name, "file_data": data } }))
            }
        }
    }
}

fn image(url: &str, media: &Media) -> Value {
    let mut image = json!({ "url": url });
    if let Some(detail) = &media.detail {
        image["detail"] = detail.as_str().into();
    }
    json!({ "type": "image_url", "image_url": image })
}
