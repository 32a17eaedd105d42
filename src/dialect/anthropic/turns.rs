//! The conversation, written: messages to turns and parts to blocks.

use serde_json::{Value, json};

use super::encode::unsupported;
use super::wire::{NAME, arguments_object, safe_id};
use super::{block, media};
use crate::chat::{ChatRequest, Message, Part, Role};
use crate::rejection::Rejection;

/// One turn in the making. Results of tools are kept apart because they must come first.
struct Turn {
    role: &'static str,
    results: Vec<Value>,
    blocks: Vec<Value>,
}

/// What every block's writer needs to know.
struct Context<'a> {
    target: &'a str,
    same_dialect: bool,
}

/// Writes `system` (null where there is none) and `messages`.
pub(super) fn encode(
    chat: &ChatRequest,
    target: &str,
    same_dialect: bool,
) -> Result<(Value, Value), Rejection> {
    let context = Context { target, same_dialect };
    let mut system = Vec::new();
    let mut turns: Vec<Turn> = Vec::new();
    for (index, message) in chat.messages.iter().enumerate() {
        let role = match message.role {
            Role::System | Role::Developer => {
                context.blocks(message, index, &mut Vec::new(), &mut system)?;
                continue;
            }
            Role::User | Role::Tool => "user",
            Role::Assistant => "assistant",
        };
        let continues = turns.last().is_some_and(|turn| turn.role == role);
        if !continues {
            turns.push(Turn { role, results: Vec::new(), blocks: Vec::new() });
        }
        if let Some(turn) = turns.last_mut() {
            context.blocks(message, index, &mut turn.results, &mut turn.blocks)?;
        }
    }
    // A turn that had nothing to say is left out, and its neighbours then belong together.
    let mut messages: Vec<Turn> = Vec::new();
    for turn in turns {
        match messages.last_mut().filter(|last| last.role == turn.role) {
            _ if turn.results.is_empty() && turn.blocks.is_empty() => {}
            Some(last) => {
                last.results.extend(turn.results);
                last.blocks.extend(turn.blocks);
            }
            None => messages.push(turn),
        }
    }
    if messages.is_empty() {
        let problem = "the Messages API wants at least one message that is not a system message";
        return Err(unsupported("messages", target, problem));
    }
    Ok((system_value(system), messages.into_iter().map(Turn::into_value).collect()))
}

// === impl Turn ===

impl Turn {
    fn into_value(self) -> Value {
        let mut content = self.results;
        content.extend(self.blocks);
        json!({"role": self.role, "content": plain_or_blocks(content)})
    }
}

// === impl Context ===

impl Context<'_> {
    fn blocks(
        &self,
        message: &Message,
        index: usize,
        results: &mut Vec<Value>,
        blocks: &mut Vec<Value>,
    ) -> Result<(), Rejection> {
        for (at, part) in message.parts.iter().enumerate() {
            let place = || format!("messages[{index}].content[{at}]");
            let Part::ToolResult { call_id, parts, is_error, cache, .. } = part else {
                self.block(part, &place, blocks)?;
                continue;
            };
            let mut inner = Vec::new();
            for part in parts {
                self.block(part, &place, &mut inner)?;
            }
            let mut result = json!({"type": "tool_result", "tool_use_id": safe_id(call_id)});
            if let Some(map) = result.as_object_mut() {
                if !inner.is_empty() {
                    map.insert("content".into(), plain_or_blocks(inner));
                }
                if *is_error {
                    map.insert("is_error".into(), true.into());
                }
            }
            results.push(block::with_cache(result, cache.as_ref()));
        }
        Ok(())
    }

    fn block(
        &self,
        part: &Part,
        place: &dyn Fn() -> String,
        blocks: &mut Vec<Value>,
    ) -> Result<(), Rejection> {
        match part {
            // The API rejects text without a letter in it.
            Part::Text { text, .. } | Part::Refusal { text } if text.trim().is_empty() => {}
            Part::Text { text, cache, .. } => blocks.push(block::text(text, cache.as_ref())),
            Part::Refusal { text } => blocks.push(block::text(text, None)),
            Part::Media(media) => {
                let value = media::encode(media, self.same_dialect)
                    .map_err(|problem| unsupported(&place(), self.target, problem))?;
                blocks.push(value);
            }
            Part::ToolCall { id, name, arguments, .. } => {
                let input = arguments_object(arguments).ok_or_else(|| {
                    let problem =
                        format!("the arguments of the tool call `{id}` are no JSON object");
                    unsupported(&place(), self.target, &problem)
                })?;
                blocks.push(block::tool_use(&safe_id(id), name, input));
            }
            Part::ToolResult { .. } => {
                let problem = "a tool's result cannot stand inside another";
                return Err(unsupported(&place(), self.target, problem));
            }
            Part::Reasoning { text, opaque } => {
                let signed = block::thinking(text, opaque.as_ref());
                let is_signed = |value: &Value| value.get("signature") != Some(&Value::from(""));
                blocks.extend(signed.filter(is_signed));
            }
            Part::Other { dialect, value } if dialect == NAME => match block::citation_of(value) {
                Some(citation) => block::attach_citation(blocks, citation),
                None => blocks.push(value.clone()),
            },
            // Another provider's own state means nothing here.
            Part::Other { .. } => {}
        }
        Ok(())
    }
}

fn system_value(blocks: Vec<Value>) -> Value {
    if blocks.is_empty() { Value::Null } else { plain_or_blocks(blocks) }
}

/// One plain text as a string, which every provider of this dialect takes; else the blocks.
fn plain_or_blocks(blocks: Vec<Value>) -> Value {
    if let [Value::Object(block)] = blocks.as_slice()
        && block.len() == 2
        && block.get("type").and_then(Value::as_str) == Some("text")
        && let Some(text) = block.get("text")
    {
        return text.clone();
    }
    Value::Array(blocks)
}
