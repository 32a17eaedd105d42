//! Endpoints beside completions, whose bytes are written here: legacy completions, embeddings,
//! lists of models, token counts.

use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::content::Said;
use super::engine::Turn;
use super::error::Complaint;
use super::fault::Fault;
use super::scenario::Scenario;
use super::script::{Script, Step};
use super::timing::{self, Frames, Pace};
use super::{count, embedding};
use crate::chat::{ChatRequest, FinishReason, Message, Role, Sampling, Usage};
use crate::dialect::{Dialect, sse};

/// A request for completions from before chat.
#[derive(Debug, Deserialize)]
pub(super) struct LegacyRequest {
    pub(super) model: String,
    #[serde(default)]
    prompt: Input,
    /// Sixteen tokens, as the interface has it.
    max_tokens: Option<u64>,
    n: Option<u32>,
    stop: Option<Texts>,
    #[serde(default)]
    pub(super) stream: bool,
    stream_options: Option<StreamOptions>,
    #[serde(default)]
    echo: bool,
}

#[derive(Debug, Deserialize)]
struct StreamOptions {
    #[serde(default)]
    include_usage: bool,
}

/// A request for embeddings.
#[derive(Debug, Deserialize)]
pub(super) struct EmbeddingRequest {
    pub(super) model: String,
    input: Input,
    encoding_format: Option<Encoding>,
    dimensions: Option<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Encoding {
    Float,
    Base64,
}

/// One text or several, as text or as tokens.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Input {
    Text(String),
    Texts(Vec<String>),
    Tokens(Vec<u32>),
    ManyTokens(Vec<Vec<u32>>),
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Texts {
    One(String),
    Many(Vec<String>),
}

// === impl Input ===

impl Default for Input {
    fn default() -> Self {
        Self::Text(String::new())
    }
}

impl Input {
    fn texts(&self) -> Vec<String> {
        let spell = |tokens: &[u32]| format!("{tokens:?}");
        match self {
            Self::Text(text) => vec![text.clone()],
            Self::Texts(texts) => texts.clone(),
            Self::Tokens(tokens) => vec![spell(tokens)],
            Self::ManyTokens(many) => many.iter().map(|tokens| spell(tokens)).collect(),
        }
    }

    fn tokens(&self) -> u64 {
        match self {
            Self::Text(text) => count::text(text),
            Self::Texts(texts) => texts.iter().map(|text| count::text(text)).sum(),
            Self::Tokens(tokens) => tokens.len() as u64,
            Self::ManyTokens(many) => many.iter().map(|tokens| tokens.len() as u64).sum(),
        }
    }
}

// === impl LegacyRequest ===

impl LegacyRequest {
    pub(super) fn parse(body: &[u8]) -> Result<Self, Box<Complaint>> {
        parse(body)
    }

    /// What directives are looked for in.
    pub(super) fn text(&self) -> String {
        self.prompt.texts().join("\n")
    }

    /// One question for each prompt.
    pub(super) fn chats(&self) -> Vec<ChatRequest> {
        let stop = match &self.stop {
            None => Vec::new(),
            Some(Texts::One(stop)) => vec![stop.clone()],
            Some(Texts::Many(stops)) => stops.clone(),
        };
        let chat = |prompt: &String| ChatRequest {
            model: self.model.clone(),
            messages: vec![Message::text(Role::User, prompt)],
            max_tokens: Some(self.max_tokens.unwrap_or(16)),
            n: self.n,
            sampling: Sampling { stop: stop.clone(), ..Sampling::default() },
            ..ChatRequest::default()
        };
        self.prompt.texts().iter().map(chat).collect()
    }

    pub(super) fn render(
        &self,
        turn: &Turn<'_>,
        said: &[Said],
        usage: Usage,
        pace: &Pace,
        fault: Option<&Fault>,
    ) -> Vec<Step> {
        let answer = |choices: Value| {
            json!({
                "id": turn.id.replace("req_", "cmpl-"),
                "object": "text_completion",
                "created": turn.now.unix_ms / 1_000,
                "model": self.model,
                "choices": choices,
            })
        };
        let counts = json!({
            "prompt_tokens": usage.total_input(),
            "completion_tokens": usage.total_output(),
            "total_tokens": usage.total(),
        });
        let choice = |index: usize, text: String, finish: Option<&str>| json!({"text": text, "index": index, "logprobs": null, "finish_reason": finish});
        if !self.stream {
            let prompts = self.prompt.texts();
            let each = said.len() / prompts.len().max(1);
            let choices = said.iter().enumerate().map(|(index, said)| {
                let prompt = prompts.get(index / each.max(1)).filter(|_| self.echo);
                let text = format!("{}{}", prompt.map_or("", String::as_str), said.text.concat());
                choice(index, text, Some(finish(said)))
            });
            let mut body = answer(choices.collect());
            body["usage"] = counts;
            return timing::whole(body.to_string().into_bytes(), fault);
        }
        let frame = |body: Value| {
            let mut frame = Vec::new();
            sse::write(&mut frame, "", body.to_string().as_bytes());
            frame
        };
        let mut frames = Frames::default();
        for (index, said) in said.iter().enumerate() {
            for token in &said.text {
                frames.tokens.push(frame(answer(json!([choice(index, token.clone(), None)]))));
            }
            let last = answer(json!([choice(index, String::new(), Some(finish(said)))]));
            frames.finish.extend(frame(last));
        }
        if self.stream_options.as_ref().is_some_and(|options| options.include_usage) {
            let mut body = answer(json!([]));
            body["usage"] = counts;
            frames.usage = frame(body);
        }
        sse::write(&mut frames.end, "", b"[DONE]");
        let broken = Complaint::new(StatusCode::INTERNAL_SERVER_ERROR, "The server had an error.");
        frames.error = broken.event(Dialect::OpenAiChat, &turn.id);
        timing::stream(frames, pace, fault)
    }
}

fn finish(said: &Said) -> &'static str {
    match said.finish {
        Some(FinishReason::Length) => "length",
        _ => "stop",
    }
}

// === impl EmbeddingRequest ===

impl EmbeddingRequest {
    pub(super) fn parse(body: &[u8]) -> Result<Self, Box<Complaint>> {
        let request: Self = parse(body)?;
        let texts = request.input.texts();
        if texts.is_empty() || texts.iter().any(String::is_empty) {
            return Err(Box::new(Complaint::invalid(
                "'$.input' is invalid: it is empty.",
                Some("input"),
            )));
        }
        if request.dimensions.is_some_and(|wanted| !(1..=MAX_DIMENSIONS).contains(&wanted)) {
            return Err(Box::new(Complaint::invalid(
                format!("'dimensions' must be from 1 to {MAX_DIMENSIONS}."),
                Some("dimensions"),
            )));
        }
        Ok(request)
    }

    pub(super) fn text(&self) -> String {
        self.input.texts().join("\n")
    }

    pub(super) fn tokens(&self) -> u64 {
        self.input.tokens()
    }

    pub(super) fn render(&self) -> Value {
        let rows = self.input.texts().into_iter().enumerate().map(|(index, text)| {
            let vector = embedding::embed(&text, self.dimensions.unwrap_or(DIMENSIONS));
            let vector = match self.encoding_format {
                Some(Encoding::Base64) => json!(embedding::base64(&embedding::to_bytes(&vector))),
                Some(Encoding::Float) | None => json!(vector),
            };
            json!({"object": "embedding", "index": index, "embedding": vector})
        });
        let tokens = self.tokens();
        json!({
            "object": "list",
            "data": rows.collect::<Vec<_>>(),
            "model": self.model,
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        })
    }
}

/// As OpenAI's small model has it.
const DIMENSIONS: usize = 1_536;

/// As OpenAI's large model has it.
const MAX_DIMENSIONS: usize = 3_072;

/// The answer to Gemini's `embedContent` and `batchEmbedContents`.
pub(super) fn gemini_embeddings(body: &[u8], batch: bool) -> Result<Value, Box<Complaint>> {
    let request: Value = parse(body)?;
    let one = |request: &Value| {
        let parts = request.pointer("/content/parts").and_then(Value::as_array);
        let text: String = parts
            .into_iter()
            .flatten()
            .filter_map(|part| part.get("text").and_then(Value::as_str))
            .collect();
        let wanted = request.get("outputDimensionality").and_then(Value::as_u64);
        let dimensions =
            wanted.and_then(|wanted| usize::try_from(wanted).ok()).unwrap_or(GEMINI_DIMENSIONS);
        json!({"values": embedding::embed(&text, dimensions.clamp(1, MAX_DIMENSIONS))})
    };
    if !batch {
        return Ok(json!({"embedding": one(&request)}));
    }
    match request.get("requests").and_then(Value::as_array) {
        Some(all) => Ok(json!({"embeddings": all.iter().map(one).collect::<Vec<_>>()})),
        None => Err(Box::new(Complaint::invalid("requests: is required", None))),
    }
}

/// As `text-embedding-004` has it.
const GEMINI_DIMENSIONS: usize = 768;

/// The answer to `count_tokens` and `countTokens`.
pub(super) fn count_tokens(turn: &Turn<'_>, model: &str) -> Result<Script, Box<Complaint>> {
    let mut body: Value = parse(turn.request.body)?;
    if let Some(fields) = body.as_object_mut() {
        // The codec wants what a completion needs; here it may be left out.
        fields.entry("max_tokens").or_insert(json!(1));
        if turn.dialect == Dialect::Gemini {
            fields.remove("max_tokens");
            if let Some(Value::Object(inner)) = fields.remove("generateContentRequest") {
                *fields = inner;
            }
        }
    }
    let decoded = turn.dialect.codec().decode_request(body.to_string().as_bytes());
    let chat = decoded
        .map_err(|problem| Box::new(Complaint::invalid(problem.to_string(), problem.param())))?;
    let tokens = count::prompt_alone(&chat);
    let model = if model.is_empty() { &chat.model } else { model };
    Ok(turn.at_once(
        model,
        &match turn.dialect {
            Dialect::Gemini => json!({"totalTokens": tokens}),
            Dialect::Anthropic | Dialect::OpenAiChat => json!({"input_tokens": tokens}),
        },
    ))
}

/// The list of models, or one of them.
pub(super) fn models(
    turn: &Turn<'_>,
    scenario: &Scenario,
    id: Option<&str>,
) -> Result<Script, Box<Complaint>> {
    if let Some(id) = id {
        if scenario.behaviour(turn.request.host, id).is_none() {
            return Err(Box::new(Complaint::unknown_model(turn.dialect, id)));
        }
        return Ok(turn.at_once("", &model(turn.dialect, id)));
    }
    let names = scenario.names();
    let all: Vec<Value> = names.iter().map(|name| model(turn.dialect, name)).collect();
    Ok(turn.at_once(
        "",
        &match turn.dialect {
            Dialect::OpenAiChat => json!({"object": "list", "data": all}),
            Dialect::Anthropic => json!({
                "data": all, "has_more": false, "first_id": names.first(), "last_id": names.last(),
            }),
            Dialect::Gemini => json!({"models": all}),
        },
    ))
}

fn model(dialect: Dialect, id: &str) -> Value {
    match dialect {
        Dialect::OpenAiChat => {
            json!({"id": id, "object": "model", "created": 1_760_000_000, "owned_by": "tidegate-sim"})
        }
        Dialect::Anthropic => json!({
            "type": "model", "id": id, "display_name": id, "created_at": "2025-10-09T08:53:20Z",
        }),
        Dialect::Gemini => json!({
            "name": format!("models/{id}"),
            "version": "1",
            "displayName": id,
            "inputTokenLimit": 1_048_576,
            "outputTokenLimit": 65_536,
            "supportedGenerationMethods": ["generateContent", "countTokens", "embedContent"],
        }),
    }
}

fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Box<Complaint>> {
    serde_json::from_slice(body).map_err(|error| {
        Box::new(Complaint::invalid(format!("The body could not be read: {error}"), None))
    })
}
