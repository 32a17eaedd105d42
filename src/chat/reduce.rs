//! Leaving out the oldest turns of a conversation that is too long.
//!
//! A turn is a user's message with all that follows until the next one: the answer, tool calls,
//! their results. Turns go whole, so no tool call loses its result and what is left begins with a
//! user's message. Where a result comes only in a later turn than its call, these turns go or stay
//! together. Instructions (system, developer) and the last turn always stay.

use std::collections::HashMap;

use super::{ChatRequest, Message, Part, Role, Tool};

/// Tokens of a message besides its texts: the role and the delimiters, as OpenAI's cookbook
/// counts them.
const MESSAGE_TOKENS: u64 = 4;

/// Tokens a picture or document stands for: a megapixel costs 765 with OpenAI and some 1,300
/// with Anthropic.
const MEDIA_TOKENS: u64 = 1_000;

/// What was left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reduced {
    /// Turns left out.
    pub turns: usize,
    /// Messages left out.
    pub messages: usize,
    /// Tokens of what is left, tools included.
    pub tokens: u64,
    /// Whether that is within the budget.
    pub fits: bool,
}

/// Leaves out the oldest turns of a request until it has at most `budget` tokens, or until only
/// what has to stay is left. `count` counts the tokens of a text.
pub fn reduce(request: &mut ChatRequest, budget: u64, count: impl Fn(&str) -> u64) -> Reduced {
    let costs: Vec<u64> =
        request.messages.iter().map(|message| message_tokens(message, &count)).collect();
    let tools = request.tools.iter().map(|tool| tool_tokens(tool, &count));
    let mut tokens = costs.iter().copied().chain(tools).fold(0, u64::saturating_add);

    let turn_of = turns(&request.messages);
    let last = turn_of.iter().flatten().max().copied().unwrap_or(0);
    let mut by_turn = vec![0_u64; last + 1];
    for (turn, cost) in turn_of.iter().zip(&costs) {
        if let Some(sum) = turn.and_then(|turn| by_turn.get_mut(turn)) {
            *sum = sum.saturating_add(*cost);
        }
    }
    let mut first_kept = 0;
    for cost in by_turn.iter().take(last) {
        if tokens <= budget {
            break;
        }
        tokens = tokens.saturating_sub(*cost);
        first_kept += 1;
    }
    let before = request.messages.len();
    let mut turn_of = turn_of.iter();
    request
        .messages
        .retain(|_| turn_of.next().copied().flatten().is_none_or(|turn| turn >= first_kept));
    Reduced {
        turns: first_kept,
        messages: before - request.messages.len(),
        tokens,
        fits: tokens <= budget,
    }
}

/// Whether there is a turn that [`reduce`] may leave out.
pub fn can_reduce(request: &ChatRequest) -> bool {
    turns(&request.messages).iter().flatten().any(|turn| *turn > 0)
}

/// The turn of each message, from 0 without gaps; `None` for instructions.
fn turns(messages: &[Message]) -> Vec<Option<usize>> {
    let mut turn_of = Vec::with_capacity(messages.len());
    // The last turn that each turn has to stay together with.
    let mut reach: Vec<usize> = Vec::new();
    let mut called: HashMap<&str, usize> = HashMap::new();
    for message in messages {
        if is_instruction(message) {
            turn_of.push(None);
            continue;
        }
        if reach.is_empty() || begins_turn(message) {
            reach.push(reach.len());
        }
        let turn = reach.len() - 1;
        for part in &message.parts {
            match part {
                Part::ToolCall { id, .. } => {
                    called.insert(id, turn);
                }
                Part::ToolResult { call_id, .. } => {
                    // A call's id may come again, and a result belongs to the latest.
                    let call = called.get(call_id.as_str()).copied().unwrap_or(turn);
                    if let Some(last) = reach.get_mut(call) {
                        *last = turn;
                    }
                }
                Part::Text { .. }
                | Part::Media(_)
                | Part::Reasoning { .. }
                | Part::Refusal { .. }
                | Part::Other { .. } => {}
            }
        }
        turn_of.push(Some(turn));
    }
    number(&mut turn_of, &reach);
    turn_of
}

/// Gives turns that stay together one number, without gaps.
fn number(turn_of: &mut [Option<usize>], reach: &[usize]) {
    let mut numbers: Vec<usize> = Vec::with_capacity(reach.len());
    let (mut number, mut furthest) = (0, 0);
    for (turn, last) in reach.iter().enumerate() {
        number += usize::from(turn > furthest);
        furthest = furthest.max(*last);
        numbers.push(number);
    }
    for turn in turn_of.iter_mut().flatten() {
        *turn = numbers.get(*turn).copied().unwrap_or(0);
    }
}

fn is_instruction(message: &Message) -> bool {
    match message.role {
        Role::System | Role::Developer => true,
        Role::User | Role::Assistant | Role::Tool => false,
    }
}

/// On some wires tool results are the user's; such a message continues a turn.
fn begins_turn(message: &Message) -> bool {
    message.role == Role::User
        && !message.parts.iter().any(|part| matches!(part, Part::ToolResult { .. }))
}

fn message_tokens(message: &Message, count: &impl Fn(&str) -> u64) -> u64 {
    let parts = message.parts.iter().map(|part| part_tokens(part, count));
    parts.fold(MESSAGE_TOKENS, u64::saturating_add)
}

fn part_tokens(part: &Part, count: &impl Fn(&str) -> u64) -> u64 {
    match part {
        Part::Text { text, .. } | Part::Refusal { text } => count(text),
        Part::Media(_) => MEDIA_TOKENS,
        Part::ToolCall { name, arguments, .. } => count(name).saturating_add(count(arguments)),
        Part::ToolResult { parts, .. } => {
            parts.iter().map(|part| part_tokens(part, count)).fold(0, u64::saturating_add)
        }
        Part::Reasoning { text, opaque } => {
            let hidden = opaque.as_ref().map_or(0, |opaque| count(&opaque.value));
            count(text).saturating_add(hidden)
        }
        Part::Other { value, .. } => count(&value.to_string()),
    }
}

fn tool_tokens(tool: &Tool, count: &impl Fn(&str) -> u64) -> u64 {
    let description = tool.description.as_deref().map_or(0, count);
    let parameters = tool.parameters.as_ref().map_or(0, |schema| count(&schema.to_string()));
    let hosted = tool.hosted.as_ref().map_or(0, |(_, value)| count(&value.to_string()));
    [description, parameters, hosted].into_iter().fold(count(&tool.name), u64::saturating_add)
}

#[cfg(test)]
mod tests;
