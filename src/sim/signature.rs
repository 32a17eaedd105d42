//! The state that reasoning models hand out and want back unchanged.

use sha2::{Digest, Sha256};

use super::dice::Dice;
use super::embedding::base64;
use crate::chat::{ChatRequest, Message, Opaque, OpaqueKind, Part, Role};
use crate::dialect::Dialect;

/// The signature of a block of thinking: anyone may carry it, nobody may change the text.
pub(super) fn of_thinking(seed: u64, text: &str) -> Opaque {
    let mut hash = Sha256::new();
    hash.update(b"tidegate thinking");
    hash.update(seed.to_le_bytes());
    hash.update(text.as_bytes());
    Opaque { kind: OpaqueKind::AnthropicSignature, value: base64(&hash.finalize()) }
}

/// Gemini's signature stands on a call or a text and covers hidden thoughts: a number and its
/// hash, in hexadecimal digits (which are base64 too).
pub(super) fn of_turn(seed: u64, dice: &mut Dice) -> Opaque {
    let nonce = format!("{:016x}", dice.between(0, u64::MAX));
    let value = format!("{nonce}{}", turn_hash(seed, &nonce));
    Opaque { kind: OpaqueKind::GeminiSignature, value }
}

/// Checks what a request brings back for the turn in progress: the tool calls since the user last
/// spoke. Says what the provider would say.
pub(super) fn check(seed: u64, dialect: Dialect, chat: &ChatRequest) -> Result<(), String> {
    let spoke = chat.messages.iter().rposition(|message| {
        message.role == Role::User && message.parts.iter().any(|part| part.as_text().is_some())
    });
    let turns = chat.messages.iter().enumerate().skip(spoke.map_or(0, |at| at + 1));
    for (index, message) in turns.filter(|(_, message)| message.role == Role::Assistant) {
        match dialect {
            Dialect::Anthropic => check_thinking(seed, index, message)?,
            Dialect::Gemini => check_call(seed, index, message)?,
            Dialect::OpenAiChat => {}
        }
    }
    Ok(())
}

fn check_thinking(seed: u64, index: usize, message: &Message) -> Result<(), String> {
    let calls = message.parts.iter().any(|part| matches!(part, Part::ToolCall { .. }));
    for (at, part) in message.parts.iter().enumerate() {
        if let Part::Reasoning { text, opaque: Some(opaque) } = part
            && opaque.kind == OpaqueKind::AnthropicSignature
            && *opaque != of_thinking(seed, text)
        {
            return Err(format!(
                "messages.{index}.content.{at}: Invalid `signature` in `thinking` block"
            ));
        }
    }
    match message.parts.first() {
        Some(Part::Reasoning { opaque: Some(_), .. }) => Ok(()),
        Some(_) if calls => Err(format!(
            "messages.{index}.content.0.type: Expected `thinking` or `redacted_thinking`, but found \
             another block. When `thinking` is enabled, a final `assistant` message must start \
             with a thinking block."
        )),
        _ => Ok(()),
    }
}

fn check_call(seed: u64, index: usize, message: &Message) -> Result<(), String> {
    let mut calls = message.parts.iter().filter_map(|part| match part {
        Part::ToolCall { name, opaque, .. } => Some((name, opaque)),
        Part::Text { .. }
        | Part::Media(_)
        | Part::ToolResult { .. }
        | Part::Reasoning { .. }
        | Part::Refusal { .. }
        | Part::Other { .. } => None,
    });
    match calls.next() {
        None => Ok(()),
        Some((name, None)) => Err(format!(
            "Function call is missing a thought_signature in functionCall parts: function call \
             `{name}`, position {index}."
        )),
        Some((_, Some(opaque))) if is_ours(seed, &opaque.value) => Ok(()),
        Some(_) => Err("Thought signature is not valid.".to_owned()),
    }
}

fn is_ours(seed: u64, value: &str) -> bool {
    value.split_at_checked(16).is_some_and(|(nonce, hash)| hash == turn_hash(seed, nonce))
}

fn turn_hash(seed: u64, nonce: &str) -> String {
    let mut hash = Sha256::new();
    hash.update(b"tidegate turn");
    hash.update(seed.to_le_bytes());
    hash.update(nonce.as_bytes());
    hash.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}
