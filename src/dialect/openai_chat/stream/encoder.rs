//! Writing a streamed answer.

use serde::Serialize;
use serde_json::Value;

use super::super::usage::Counted;
use super::super::{reply, state, wire};
use crate::chat::{Delta, Opaque, OpaqueKind, Usage};
use crate::dialect::around::Around;
use crate::dialect::{Dialect, ReplyContext, StreamEncoder, StreamHead, sse};

/// Writes one stream: a chunk for each delta.
#[derive(Debug)]
pub(in super::super) struct Encoder {
    context: ReplyContext,
    id: String,
    model: String,
    created: u64,
    choices: Vec<Written>,
    extension: Option<Value>,
    /// A chunk of text, and of which alternative.
    around: Option<(u32, Around)>,
}

/// What was written of an alternative.
#[derive(Debug, Default)]
struct Written {
    index: u32,
    /// The thought that may yet be signed.
    thought: String,
    details: usize,
    has_role: bool,
    refused: bool,
}

#[derive(Serialize)]
struct Chunk<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    choices: &'a [ChunkChoice<'a>],
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Counted>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tidegate: Option<Value>,
}

#[derive(Default, Serialize)]
struct ChunkChoice<'a> {
    index: u32,
    delta: ChunkDelta<'a>,
    logprobs: Value,
    finish_reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    native_finish_reason: Option<&'a str>,
}

#[derive(Default, Serialize)]
struct ChunkDelta<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_content: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    reasoning_details: Vec<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refusal: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_calls: Option<[ChunkCall<'a>; 1]>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    other: Option<&'a serde_json::Map<String, Value>>,
}

#[derive(Serialize)]
struct ChunkCall<'a> {
    index: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    function: ChunkFunction<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    extra_content: Option<Value>,
}

#[derive(Serialize)]
struct ChunkFunction<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    arguments: &'a str,
}

// === impl Encoder ===

impl Encoder {
    pub(in super::super) fn new(context: ReplyContext) -> Self {
        Self {
            id: reply::reply_id("", &context).into_owned(),
            model: context.model.clone(),
            created: context.created,
            choices: Vec::new(),
            extension: None,
            around: None,
            context,
        }
    }

    fn written(&mut self, index: u32) -> &mut Written {
        let at =
            self.choices.iter().position(|choice| choice.index == index).unwrap_or_else(|| {
                self.choices.push(Written { index, ..Written::default() });
                self.choices.len() - 1
            });
        &mut self.choices[at]
    }

    fn write(&mut self, index: u32, mut delta: ChunkDelta<'_>, out: &mut Vec<u8>) {
        let written = self.written(index);
        delta.role = (!written.has_role).then_some("assistant");
        written.has_role = true;
        self.write_choice(ChunkChoice { index, delta, ..ChunkChoice::default() }, out);
    }

    fn start(&mut self, id: &str, model: &str, created: u64) {
        self.around = None;
        self.id = reply::reply_id(id, &self.context).into_owned();
        if !model.is_empty() {
            model.clone_into(&mut self.model);
        }
        if created != 0 {
            self.created = created;
        }
    }

    /// Writes a piece of text: nearly every chunk of a stream.
    fn write_text(&mut self, index: u32, text: &str, out: &mut Vec<u8>) {
        if let Some((_, around)) = self.around.as_ref().filter(|(of, _)| *of == index) {
            around.write(text, out);
            return;
        }
        if self.written(index).has_role {
            let mut empty = Vec::new();
            self.write(
                index,
                ChunkDelta { content: Some(""), ..ChunkDelta::default() },
                &mut empty,
            );
            self.around = Around::of(&empty, "\"content\"").map(|around| (index, around));
        }
        self.write(index, ChunkDelta { content: Some(text), ..ChunkDelta::default() }, out);
    }

    fn write_choice(&self, choice: ChunkChoice<'_>, out: &mut Vec<u8>) {
        self.write_chunk(&[choice], None, None, out);
    }

    fn write_chunk(
        &self,
        choices: &[ChunkChoice<'_>],
        usage: Option<Counted>,
        tidegate: Option<Value>,
        out: &mut Vec<u8>,
    ) {
        let chunk = Chunk {
            id: &self.id,
            object: "chat.completion.chunk",
            created: self.created,
            model: &self.model,
            choices,
            usage,
            tidegate,
        };
        out.extend_from_slice(b"data: ");
        // Writing plain data into memory cannot fail.
        let written = serde_json::to_writer(&mut *out, &chunk);
        debug_assert!(written.is_ok(), "a chunk is plain data");
        out.extend_from_slice(b"\n\n");
    }

    fn write_detail(&mut self, index: u32, opaque: &Opaque, out: &mut Vec<u8>) {
        let choice = self.written(index);
        let thought = std::mem::take(&mut choice.thought);
        // The text of a hidden or foreign detail was told and is not said again.
        let text = match opaque.kind {
            OpaqueKind::AnthropicSignature | OpaqueKind::GeminiSignature => thought.as_str(),
            OpaqueKind::AnthropicRedacted | OpaqueKind::ReasoningDetail => "",
        };
        let mut details = Vec::new();
        state::push_details(text, Some(opaque), &mut details);
        for detail in &mut details {
            if opaque.kind != OpaqueKind::ReasoningDetail {
                detail["index"] = choice.details.into();
            }
            choice.details += 1;
        }
        let delta = ChunkDelta {
            reasoning_content: Some(""),
            reasoning_details: details,
            ..ChunkDelta::default()
        };
        self.write(index, delta, out);
    }

    fn write_usage(&mut self, usage: &Usage, out: &mut Vec<u8>) {
        if self.context.include_usage {
            let extension = self.extension.take();
            self.write_chunk(&[], Some(Counted::of(usage)), extension, out);
        }
    }
}

impl StreamEncoder for Encoder {
    fn push_text(&mut self, choice: u32, text: &str, out: &mut Vec<u8>) {
        self.write_text(choice, text, out);
    }

    fn push(&mut self, delta: &Delta, out: &mut Vec<u8>) {
        let plain = ChunkDelta::default();
        match delta {
            Delta::Start { id, model, created, usage: _ } => self.start(id, model, *created),
            Delta::Text { choice, text } => self.write_text(*choice, text, out),
            Delta::Reasoning { choice, text } => {
                self.written(*choice).thought.push_str(text);
                self.write(*choice, ChunkDelta { reasoning_content: Some(text), ..plain }, out);
            }
            Delta::ReasoningOpaque { choice, opaque } => self.write_detail(*choice, opaque, out),
            Delta::TextOpaque { choice, opaque } => {
                let written = self.written(*choice);
                if let Some(detail) = state::text_detail(opaque, written.details) {
                    written.details += 1;
                    let reasoning_details = vec![detail];
                    self.write(*choice, ChunkDelta { reasoning_details, ..plain }, out);
                }
            }
            Delta::Refusal { choice, text } => {
                self.written(*choice).refused = true;
                self.write(*choice, ChunkDelta { refusal: Some(text), ..plain }, out);
            }
            Delta::ToolCall { choice, call, id, name, opaque } => {
                let opaque = opaque.as_ref();
                let call = ChunkCall::open(*call, id, name, opaque.and_then(state::call_extra));
                self.write(*choice, ChunkDelta { tool_calls: Some([call]), ..plain }, out);
            }
            Delta::ToolArguments { choice, call, json } => {
                let call = ChunkCall::go_on(*call, json);
                self.write(*choice, ChunkDelta { tool_calls: Some([call]), ..plain }, out);
            }
            Delta::Logprobs { choice, tokens } => {
                let logprobs = wire::logprobs_value(tokens);
                let delta = ChunkDelta { content: Some(""), ..plain };
                let choice =
                    ChunkChoice { index: *choice, delta, logprobs, ..ChunkChoice::default() };
                self.write_choice(choice, out);
            }
            Delta::Other { choice, dialect, value } => {
                let fields = value.as_object().filter(|fields| !fields.contains_key("type"));
                if let (Some(_), true) = (fields, dialect == Dialect::OpenAiChat.as_str()) {
                    self.write(*choice, ChunkDelta { other: fields, ..plain }, out);
                }
            }
            Delta::Finish { choice, reason } => {
                let (word, native) = wire::finish_words(reason, self.written(*choice).refused);
                let choice = ChunkChoice {
                    index: *choice,
                    finish_reason: Some(word),
                    native_finish_reason: native,
                    ..ChunkChoice::default()
                };
                self.write_choice(choice, out);
            }
            Delta::Usage { usage } => self.write_usage(usage, out),
            Delta::End => sse::write(out, "", b"[DONE]"),
        }
    }

    fn head(&self) -> StreamHead {
        StreamHead { id: self.id.clone(), model: self.model.clone(), created: self.created }
    }

    fn set_extension(&mut self, extension: Value) {
        self.extension = Some(extension);
    }
}

// === impl ChunkCall ===

impl<'a> ChunkCall<'a> {
    fn open(index: u32, id: &'a str, name: &'a str, extra_content: Option<Value>) -> Self {
        let function = ChunkFunction { name: Some(name), arguments: "" };
        Self { index, id: Some(id), kind: Some("function"), function, extra_content }
    }

    fn go_on(index: u32, arguments: &'a str) -> Self {
        let function = ChunkFunction { name: None, arguments };
        Self { index, id: None, kind: None, function, extra_content: None }
    }
}
