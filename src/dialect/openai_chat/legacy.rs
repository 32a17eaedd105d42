//! Legacy text completions (`/v1/completions`) for targets that do not speak them: the prompt
//! becomes a message of the user, and the answer's text comes back in the old shape.

use serde_json::{Map, Value, json};

use super::request;
use super::usage::Counted;
use super::wire::{self, At};
use crate::chat::{ChatRequest, Completion, Delta, Message, Role, Usage};
use crate::dialect::{ReplyContext, StreamEncoder, sse};
use crate::rejection::Rejection;

/// Fields that only a text model can honour.
const TEXT_ONLY: [&str; 3] = ["suffix", "echo", "best_of"];

/// Reads a text completion request as a chat.
///
/// # Errors
///
/// [`Rejection::Invalid`] as for chat completions, and for a prompt that is not one text: tokens
/// and batches have no counterpart in a chat, nor have `suffix`, `echo`, `best_of` and `logprobs`.
pub fn decode_text_request(body: &[u8]) -> Result<ChatRequest, Rejection> {
    let mut fields = request::object(body)?;
    let at = At::top("prompt");
    let prompt = match wire::take(&mut fields, "prompt") {
        Some(Value::String(text)) => text,
        Some(Value::Array(mut one)) if one.len() == 1 && one.iter().all(Value::is_string) => {
            at.index(0).string(one.remove(0))?
        }
        Some(_) => return Err(at.wrong("must be one text for this model")),
        None => return Err(at.missing("a string")),
    };
    for key in TEXT_ONLY {
        let asked = fields.get(key).is_some_and(|value| !wire::is_blank(value));
        if asked && !(key == "best_of" && fields.get(key) == Some(&json!(1))) {
            return Err(At::top(key).wrong("cannot be honoured by a chat model"));
        }
        fields.shift_remove(key);
    }
    if fields.shift_remove("logprobs").is_some_and(|value| !value.is_null()) {
        return Err(At::top("logprobs").wrong("cannot be honoured by a chat model"));
    }
    let mut chat = request::read(fields)?;
    chat.messages = vec![Message::text(Role::User, prompt)];
    request::require_model(chat)
}

/// Writes a whole answer as a text completion.
pub fn encode_text_reply(completion: &Completion, context: &ReplyContext) -> Vec<u8> {
    let or = |own: &str, other: &str| (if own.is_empty() { other } else { own }).to_owned();
    let choices: Vec<Value> = completion
        .choices
        .iter()
        .map(|choice| {
            let text: String = choice.parts.iter().filter_map(|part| part.as_text()).collect();
            let finish = choice.finish.as_ref().map_or("stop", finish_word);
            json!({ "index": choice.index, "text": text, "logprobs": null, "finish_reason": finish })
        })
        .collect();
    let created = if completion.created == 0 { context.created } else { completion.created };
    let mut reply = Map::new();
    reply.insert("id".to_owned(), text_id(context).into());
    reply.insert("object".to_owned(), "text_completion".into());
    reply.insert("created".to_owned(), created.into());
    reply.insert("model".to_owned(), or(&completion.model, &context.model).into());
    reply.insert("choices".to_owned(), choices.into());
    if let Some(counted) = &completion.usage {
        reply.insert("usage".to_owned(), json!(Counted::of(counted)));
    }
    Value::Object(reply).to_string().into_bytes()
}

/// Writes a streamed answer as a text completion.
pub fn text_stream_encoder(context: ReplyContext) -> Box<dyn StreamEncoder> {
    let (model, created) = (context.model.clone(), context.created);
    Box::new(TextEncoder { context, model, created, extension: None })
}

#[derive(Debug)]
struct TextEncoder {
    context: ReplyContext,
    model: String,
    created: u64,
    extension: Option<Value>,
}

impl TextEncoder {
    fn write(&self, choices: Value, counted: Option<(&Usage, Option<Value>)>, out: &mut Vec<u8>) {
        let mut chunk = json!({
            "id": text_id(&self.context), "object": "text_completion", "created": self.created,
            "model": self.model, "choices": choices,
        });
        if let Some((counted, extension)) = counted {
            chunk["usage"] = json!(Counted::of(counted));
            if let Some(extension) = extension {
                chunk["tidegate"] = extension;
            }
        }
        sse::write(out, "", chunk.to_string().as_bytes());
    }

    fn write_choice(&self, index: u32, text: &str, finish: Option<&str>, out: &mut Vec<u8>) {
        let choice =
            json!({ "index": index, "text": text, "logprobs": null, "finish_reason": finish });
        self.write(Value::Array(vec![choice]), None, out);
    }
}

impl StreamEncoder for TextEncoder {
    fn push(&mut self, delta: &Delta, out: &mut Vec<u8>) {
        match delta {
            Delta::Start { model, created, .. } => {
                if !model.is_empty() {
                    model.clone_into(&mut self.model);
                }
                if *created != 0 {
                    self.created = *created;
                }
            }
            Delta::Text { choice, text } => self.write_choice(*choice, text, None, out),
            Delta::Finish { choice, reason } => {
                self.write_choice(*choice, "", Some(finish_word(reason)), out);
            }
            Delta::Usage { usage } => {
                if self.context.include_usage {
                    let extension = self.extension.take();
                    self.write(Value::Array(Vec::new()), Some((usage, extension)), out);
                }
            }
            Delta::End => sse::write(out, "", b"[DONE]"),
            // The old wire has text and nothing else.
            Delta::TextOpaque { .. }
            | Delta::Reasoning { .. }
            | Delta::ReasoningOpaque { .. }
            | Delta::Refusal { .. }
            | Delta::ToolCall { .. }
            | Delta::ToolArguments { .. }
            | Delta::Logprobs { .. }
            | Delta::Other { .. } => {}
        }
    }

    fn set_extension(&mut self, extension: Value) {
        self.extension = Some(extension);
    }
}

fn text_id(context: &ReplyContext) -> String {
    format!("cmpl-{}", context.request_id)
}

/// The old wire has three words.
fn finish_word(reason: &crate::chat::FinishReason) -> &'static str {
    match wire::finish_words(reason, false).0 {
        word @ ("length" | "content_filter") => word,
        _ => "stop",
    }
}
