//! What a simulated model says: text, thinking, tool calls, JSON, as tokens.

use serde_json::json;

use super::dice::Dice;
use super::directive::{Directives, strip};
use super::schema;
use super::signature;
use super::skill::{self, Brief, Habits, Luck};
use crate::chat::{
    ChatRequest, FinishReason, Message, Part, ResponseFormat, Role, Tool, ToolChoice,
};
use crate::dialect::Dialect;

mod said;

pub(super) use said::Said;

use said::Call;

/// What is known when the answer is made up.
#[derive(Debug)]
pub(super) struct Question<'a> {
    pub(super) chat: &'a ChatRequest,
    pub(super) dialect: Dialect,
    pub(super) wishes: &'a Directives,
    /// The scenario's range of tokens.
    pub(super) tokens: Option<(u64, u64)>,
    pub(super) habits: Habits,
    pub(super) seed: u64,
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
    said.stop_early(&chat.sampling.stop, chat.max_tokens);
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
    let sampled = schema::sample(parameters, "simulated");
    let arguments = if sampled.is_object() { sampled } else { json!({}) };
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
    let begun = begun(chat).unwrap_or_default();
    if let Some(say) = &question.wishes.say {
        return words(say.strip_prefix(begun).unwrap_or(say));
    }
    if let Some(text) = skilled(question, dice).filter(|_| begun.is_empty()) {
        return match chat.response_format {
            Some(ResponseFormat::Json | ResponseFormat::JsonSchema { .. }) => pieces(&text),
            Some(ResponseFormat::Text) | None => words(&text),
        };
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
    let prose = prose(chat, begun, dice);
    let wanted =
        question.wishes.tokens.or_else(|| question.tokens.map(|(min, max)| dice.between(min, max)));
    let tokens = words(&prose);
    let tokens = match wanted {
        Some(wanted) => to_length(tokens, wanted.max(words(begun).len() as u64)),
        None => tokens,
    };
    if begun.is_empty() {
        return tokens;
    }
    // What somebody else began is continued where it could have been said here.
    let whole = tokens.concat();
    words(whole.strip_prefix(begun).unwrap_or(&whole))
}

/// What the model can make of the request, if it is something that it can do and nobody wants a
/// certain length.
fn skilled(question: &Question<'_>, dice: &mut Dice) -> Option<String> {
    let chat = question.chat;
    let wants_length = question.wishes.tokens.is_some() || question.tokens.is_some();
    if wants_length || chat.messages.last().is_some_and(is_tool_result) {
        return None;
    }
    let said = strip(&last_user_text(chat));
    let system = system_text(chat);
    let schema = match &chat.response_format {
        Some(ResponseFormat::JsonSchema { schema, .. }) => Some(schema),
        Some(ResponseFormat::Json | ResponseFormat::Text) | None => None,
    };
    let brief = Brief { system: &system, said: &said, schema };
    let habits = &question.habits;
    let good = skill::answer(&brief, habits, Luck::default())?;
    let luck = match chat.sampling.seed {
        // Who sends a seed gets the same answer each time.
        Some(seed) => {
            let all = json!([chat.model, seed, system, said]).to_string();
            let hash = blake3::hash(all.as_bytes());
            let start = hash.as_bytes().iter().take(8);
            let number = start.fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
            luck(habits, &mut Dice::new(question.seed, number))
        }
        None => luck(habits, dice),
    };
    if luck == Luck::default() { Some(good) } else { skill::answer(&brief, habits, luck) }
}

fn luck(habits: &Habits, dice: &mut Dice) -> Luck {
    let slips = dice.chance(habits.slips);
    let which = dice.between(0, u64::MAX);
    Luck { slip: slips.then_some(which), takes_first: dice.chance(habits.bias) }
}

/// What the model is told to do.
fn system_text(chat: &ChatRequest) -> String {
    let is_told = |message: &&Message| matches!(message.role, Role::System | Role::Developer);
    let told = chat.messages.iter().filter(is_told);
    let texts = told.flat_map(|message| message.parts.iter().filter_map(Part::as_text));
    texts.collect::<Vec<_>>().join("\n")
}

/// The beginning of the answer that the conversation ends with, as models take it that go on from
/// one.
fn begun(chat: &ChatRequest) -> Option<&str> {
    let last = chat.messages.last().filter(|last| last.role == Role::Assistant)?;
    last.parts.last().and_then(Part::as_text)
}

/// What is said first.
const GREETINGS: [&str; 4] = ["Hello! 🌊", "Good to hear from you.", "Ahoy! ⛵", "Hi there."];

/// What is said, beginning with `begun` where that is possible.
fn prose(chat: &ChatRequest, begun: &str, dice: &mut Dice) -> String {
    let results = last_tool_results(chat);
    if !results.is_empty() {
        let told: Vec<String> = results.iter().map(|result| shorten(result, 400)).collect();
        return format!("The tool answered: {}. That is all I need. ✅", told.join("; "));
    }
    let asked = shorten(&strip(&last_user_text(chat)), 200);
    let drawn = usize::try_from(dice.between(0, 3)).unwrap_or_default();
    let fits = |greeting: &&&str| {
        begun.starts_with(**greeting) || (!begun.is_empty() && greeting.starts_with(begun))
    };
    let greeting = GREETINGS.iter().find(fits).or(GREETINGS.get(drawn)).copied();
    let greeting = greeting.unwrap_or_default();
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
