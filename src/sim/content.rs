//! What a simulated model says: text, thinking, tool calls, JSON, as tokens.

use serde_json::{Value, json};

use super::dice::Dice;
use super::directive::{Directives, strip};
use super::schema;
use super::signature;
use crate::chat::{
    ChatRequest, Choice, Delta, FinishReason, Logprob, Message, Opaque, Part, ResponseFormat, Role,
    Tool, ToolChoice, TopLogprob, Usage,
};
use crate::dialect::Dialect;

/// One alternative of an answer, cut into tokens.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Said {
    pub(super) reasoning: Vec<String>,
    pub(super) reasoning_opaque: Option<Opaque>,
    pub(super) text: Vec<String>,
    pub(super) text_opaque: Option<Opaque>,
    pub(super) calls: Vec<Call>,
    pub(super) finish: Option<FinishReason>,
    /// How many alternatives to each token, where log probabilities are asked for.
    pub(super) logprobs: Option<u32>,
}

/// A tool call, its arguments cut into tokens.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Call {
    id: String,
    name: String,
    pieces: Vec<String>,
    opaque: Option<Opaque>,
}

/// What is known when the answer is made up.
#[derive(Debug)]
pub(super) struct Question<'a> {
    pub(super) chat: &'a ChatRequest,
    pub(super) dialect: Dialect,
    pub(super) wishes: &'a Directives,
    /// The scenario's range of tokens.
    pub(super) tokens: Option<(u64, u64)>,
    pub(super) seed: u64,
}

// === impl Said ===

impl Said {
    /// A complete answer without content.
    pub(super) fn nothing() -> Self {
        Self { finish: Some(FinishReason::Stop), ..Self::default() }
    }

    /// Sees to it that there is a character to split.
    pub(super) fn ensure_multibyte(&mut self) {
        if self.text.iter().all(|token| token.is_ascii()) {
            self.text.push(" 🌊".to_owned());
        }
    }

    /// The answer as a stream tells it: one group of deltas for each token.
    pub(super) fn beats(&self, choice: u32) -> Vec<Vec<Delta>> {
        let mut beats: Vec<Vec<Delta>> = Vec::new();
        for text in &self.reasoning {
            beats.push(vec![Delta::Reasoning { choice, text: text.clone() }]);
        }
        if let Some(opaque) = &self.reasoning_opaque {
            attach(&mut beats, Delta::ReasoningOpaque { choice, opaque: opaque.clone() });
        }
        for text in &self.text {
            let mut beat = vec![Delta::Text { choice, text: text.clone() }];
            if let Some(top) = self.logprobs {
                beat.push(Delta::Logprobs { choice, tokens: vec![logprob(text, top)] });
            }
            beats.push(beat);
        }
        if let Some(opaque) = &self.text_opaque {
            attach(&mut beats, Delta::TextOpaque { choice, opaque: opaque.clone() });
        }
        for (call, ordinal) in self.calls.iter().zip(0..) {
            let (id, name, opaque) = (call.id.clone(), call.name.clone(), call.opaque.clone());
            beats.push(vec![Delta::ToolCall { choice, call: ordinal, id, name, opaque }]);
            for json in &call.pieces {
                let json = json.clone();
                beats.push(vec![Delta::ToolArguments { choice, call: ordinal, json }]);
            }
        }
        beats
    }

    /// The answer as a whole.
    pub(super) fn choice(&self, index: u32) -> Choice {
        let mut parts = Vec::new();
        if !self.reasoning.is_empty() || self.reasoning_opaque.is_some() {
            let opaque = self.reasoning_opaque.clone();
            parts.push(Part::Reasoning { text: self.reasoning.concat(), opaque });
        }
        if !self.text.is_empty() {
            let (text, opaque) = (self.text.concat(), self.text_opaque.clone());
            parts.push(Part::Text { text, cache: None, opaque });
        }
        for call in &self.calls {
            parts.push(Part::ToolCall {
                id: call.id.clone(),
                name: call.name.clone(),
                arguments: call.pieces.concat(),
                opaque: call.opaque.clone(),
            });
        }
        let logprobs = match self.logprobs {
            Some(top) => self.text.iter().map(|token| logprob(token, top)).collect(),
            None => Vec::new(),
        };
        Choice { index, parts, finish: self.finish.clone(), logprobs }
    }

    /// Tokens of the answer, thinking apart.
    pub(super) fn usage(&self) -> Usage {
        let calls: usize = self.calls.iter().map(|call| 1 + call.pieces.len()).sum();
        Usage {
            output: (self.text.len() + calls) as u64,
            reasoning: self.reasoning.len() as u64,
            ..Usage::default()
        }
    }
}

fn attach(beats: &mut Vec<Vec<Delta>>, delta: Delta) {
    match beats.last_mut() {
        Some(beat) => beat.push(delta),
        None => beats.push(vec![delta]),
    }
}

/// Makes up one alternative.
pub(super) fn answer(question: &Question<'_>, dice: &mut Dice) -> Said {
    let chat = question.chat;
    let mut said = Said { logprobs: chat.logprobs, ..Said::default() };
    if thinks(chat) {
        said.reasoning = words(THOUGHTS);
        if question.dialect == Dialect::Anthropic {
            let text = said.reasoning.concat();
            said.reasoning_opaque = Some(signature::of_thinking(question.seed, &text));
        }
    }
    let called = tools_to_call(question);
    if called.is_empty() {
        said.text = text_tokens(question, dice);
        if thinks(chat) && question.dialect == Dialect::Gemini {
            said.text_opaque = Some(signature::of_turn(question.seed, dice));
        }
        said.finish = Some(FinishReason::Stop);
    } else {
        said.calls = called.iter().map(|(name, tool)| call(question, name, *tool, dice)).collect();
        if let (Some(first), true, Dialect::Gemini) =
            (said.calls.first_mut(), thinks(chat), question.dialect)
        {
            first.opaque = Some(signature::of_turn(question.seed, dice));
        }
        said.finish = Some(FinishReason::ToolCalls);
    }
    stop_early(&mut said, chat);
    said
}

/// Whether this request gets thinking: the model is a reasoner, or the request asks for it.
pub(super) fn thinks(chat: &ChatRequest) -> bool {
    let asked = chat.reasoning.is_some_and(|reasoning| {
        reasoning.budget_tokens.is_some_and(|tokens| tokens > 0)
            || reasoning.effort.is_some_and(|effort| effort.budget_tokens() > 0)
    });
    asked || chat.model.contains("reasoner")
}

const THOUGHTS: &str = "The question is simple, so a short and friendly answer will do. I am \
    simulated, and I should say so.";

/// Words with the space before them, as tokenizers cut English. Concatenated they are the text.
pub(super) fn words(text: &str) -> Vec<String> {
    let mut tokens: Vec<String> = Vec::new();
    let mut after_space = true;
    for character in text.chars() {
        let space = character.is_whitespace();
        match tokens.last_mut() {
            Some(token) if !space || after_space => token.push(character),
            _ => tokens.push(character.to_string()),
        }
        after_space = space;
    }
    tokens
}

/// The text of the last thing the user said.
pub(super) fn last_user_text(chat: &ChatRequest) -> String {
    let said = chat.messages.iter().rev().find_map(|message| {
        let text: Vec<&str> = message.parts.iter().filter_map(Part::as_text).collect();
        (message.role == Role::User && !text.is_empty()).then(|| text.join("\n"))
    });
    said.unwrap_or_default()
}

/// The results of tools that the conversation ends with.
fn last_tool_results(chat: &ChatRequest) -> Vec<String> {
    let tail = chat.messages.iter().rev().take_while(|message| is_tool_result(message));
    let mut results: Vec<String> = tail
        .flat_map(|message| message.parts.iter().rev())
        .filter_map(|part| match part {
            Part::ToolResult { parts, .. } => {
                Some(parts.iter().filter_map(Part::as_text).collect::<Vec<_>>().join(" "))
            }
            Part::Text { .. }
            | Part::Media(_)
            | Part::ToolCall { .. }
            | Part::Reasoning { .. }
            | Part::Refusal { .. }
            | Part::Other { .. } => None,
        })
        .collect();
    results.reverse();
    results
}

fn is_tool_result(message: &Message) -> bool {
    message.role == Role::Tool
        || message.parts.iter().any(|part| matches!(part, Part::ToolResult { .. }))
}

fn tools_to_call<'a>(question: &Question<'a>) -> Vec<(String, Option<&'a Tool>)> {
    let chat = question.chat;
    if question.wishes.say.is_some() || chat.messages.last().is_some_and(is_tool_result) {
        return Vec::new();
    }
    let find = |name: &str| chat.tools.iter().find(|tool| tool.name == name);
    let (allowed, required) = match &chat.tool_choice {
        Some(ToolChoice::None) => return Vec::new(),
        Some(ToolChoice::Tool(name)) => return vec![(name.clone(), find(name))],
        Some(ToolChoice::Required) => (None, true),
        Some(ToolChoice::Allowed { names, required }) => (Some(names), *required),
        Some(ToolChoice::Auto) | None => (None, false),
    };
    let wished = &question.wishes.calls;
    let mut called: Vec<(String, Option<&Tool>)> =
        wished.iter().map(|name| (name.clone(), find(name))).collect();
    let usable = || {
        chat.tools
            .iter()
            .filter(|tool| tool.hosted.is_none())
            .filter(|tool| allowed.is_none_or(|names| names.contains(&tool.name)))
    };
    if called.is_empty() && !chat.tools.is_empty() {
        let text = strip(&last_user_text(chat)).to_lowercase();
        let mentioned = |tool: &&Tool| {
            let name = tool.name.to_lowercase();
            text.contains(&name) || text.contains(&name.replace(['_', '-'], " "))
        };
        called = usable().filter(mentioned).map(|tool| (tool.name.clone(), Some(tool))).collect();
    }
    if called.is_empty() && required {
        called = usable().take(1).map(|tool| (tool.name.clone(), Some(tool))).collect();
    }
    if chat.parallel_tool_calls == Some(false) {
        called.truncate(1);
    }
    called
}

fn call(question: &Question<'_>, name: &str, tool: Option<&Tool>, dice: &mut Dice) -> Call {
    let empty = json!({"type": "object"});
    let parameters = tool.and_then(|tool| tool.parameters.as_ref()).unwrap_or(&empty);
    let arguments = match schema::sample(parameters, "simulated") {
        arguments @ Value::Object(_) => arguments,
        _ => json!({}),
    };
    let prefix = match question.dialect {
        Dialect::Anthropic => "toolu_",
        Dialect::OpenAiChat | Dialect::Gemini => "call_",
    };
    let id = format!("{prefix}{:016x}", dice.between(0, u64::MAX));
    Call { id, name: name.to_owned(), pieces: pieces(&arguments.to_string()), opaque: None }
}

/// JSON text in pieces of four characters, about what a token holds.
fn pieces(json: &str) -> Vec<String> {
    let characters: Vec<char> = json.chars().collect();
    characters.chunks(4).map(|chunk| chunk.iter().collect()).collect()
}

fn text_tokens(question: &Question<'_>, dice: &mut Dice) -> Vec<String> {
    let chat = question.chat;
    if let Some(say) = &question.wishes.say {
        return words(say);
    }
    match &chat.response_format {
        Some(ResponseFormat::Json) => {
            let asked = strip(&last_user_text(chat));
            return pieces(&json!({"simulated": true, "asked": asked}).to_string());
        }
        Some(ResponseFormat::JsonSchema { schema, .. }) => {
            return pieces(&schema::sample(schema, "simulated").to_string());
        }
        Some(ResponseFormat::Text) | None => {}
    }
    let tokens = words(&prose(chat, dice));
    let wanted =
        question.wishes.tokens.or_else(|| question.tokens.map(|(min, max)| dice.between(min, max)));
    match wanted {
        Some(wanted) => to_length(tokens, wanted),
        None => tokens,
    }
}

fn prose(chat: &ChatRequest, dice: &mut Dice) -> String {
    let results = last_tool_results(chat);
    if !results.is_empty() {
        let told: Vec<String> = results.iter().map(|result| shorten(result, 400)).collect();
        return format!("The tool answered: {}. That is all I need. ✅", told.join("; "));
    }
    let asked = shorten(&strip(&last_user_text(chat)), 200);
    let greeting = match dice.between(0, 3) {
        0 => "Hello! 🌊",
        1 => "Good to hear from you.",
        2 => "Ahoy! ⛵",
        _ => "Hi there.",
    };
    let about = if asked.is_empty() {
        "You said nothing.".to_owned()
    } else {
        format!("You asked: “{asked}”")
    };
    format!("{greeting} I am Tidegate's simulated provider, so this answer is made up. {about}")
}

fn shorten(text: &str, most: usize) -> String {
    let mut short: String = text.chars().take(most).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

/// Cuts or goes on with the ebb and flow of the tide until the text has `wanted` tokens.
fn to_length(mut tokens: Vec<String>, wanted: u64) -> Vec<String> {
    const FILLER: [&str; 12] = [
        " The", " tide", " comes", " in", " and", " the", " tide", " goes", " out", " 🌊", " once",
        " more.",
    ];
    let wanted = usize::try_from(wanted).unwrap_or(usize::MAX);
    let missing = wanted.saturating_sub(tokens.len());
    tokens.extend(FILLER.iter().cycle().take(missing).map(|&word| word.to_owned()));
    tokens.truncate(wanted);
    tokens
}

/// Honours stop texts first, then the limit of tokens, thinking included.
fn stop_early(said: &mut Said, chat: &ChatRequest) {
    let text = said.text.concat();
    let stops = chat.sampling.stop.iter().filter(|stop| !stop.is_empty());
    let first = stops.filter_map(|stop| text.find(stop.as_str()).map(|at| (at, stop))).min();
    if let Some((at, stop)) = first {
        cut_at_byte(&mut said.text, at);
        said.finish = Some(FinishReason::StopSequence(Some(stop.clone())));
    }
    let Some(limit) = chat.max_tokens else {
        return;
    };
    let mut room = usize::try_from(limit).unwrap_or(usize::MAX);
    let mut keep = |tokens: &mut Vec<String>| {
        let cut = tokens.len() > room;
        tokens.truncate(room);
        room -= tokens.len();
        cut
    };
    let mut cut = keep(&mut said.reasoning);
    cut |= keep(&mut said.text);
    let mut calls = Vec::new();
    for mut call in std::mem::take(&mut said.calls) {
        let mut opening = vec![String::new()];
        cut |= keep(&mut opening);
        if opening.is_empty() {
            break;
        }
        cut |= keep(&mut call.pieces);
        calls.push(call);
    }
    said.calls = calls;
    if cut {
        said.finish = Some(FinishReason::Length);
    }
}

fn cut_at_byte(tokens: &mut Vec<String>, at: usize) {
    let mut left = at;
    for token in tokens.iter_mut() {
        let keep = left.min(token.len());
        token.truncate(keep);
        left -= keep;
    }
    tokens.retain(|token| !token.is_empty());
}

/// Log probabilities that look like a sure model's: they fall with the token's length.
fn logprob(token: &str, top: u32) -> Logprob {
    #[expect(clippy::cast_precision_loss, reason = "a token's length is small")]
    let value = -0.01 * token.len() as f64;
    let alternatives = (0..top.min(20)).map(|rank| {
        let text = if rank == 0 { token.to_owned() } else { format!("{token}{rank}") };
        TopLogprob {
            bytes: Some(text.clone().into_bytes()),
            token: text,
            logprob: value - f64::from(rank),
        }
    });
    Logprob {
        token: token.to_owned(),
        logprob: value,
        bytes: Some(token.as_bytes().to_vec()),
        top: alternatives.collect(),
    }
}
