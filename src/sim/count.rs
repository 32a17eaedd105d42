//! Counting tokens the simple way, four bytes each, and the prefix caches of providers.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::chat::{ChatRequest, Part, Usage};
use crate::dialect::Dialect;

/// Providers cache prefixes from this length on …
const CACHE_MIN_TOKENS: u64 = 1_024;

/// … in steps of this.
const CACHE_STEP_TOKENS: u64 = 128;

/// More prefixes than any test needs; beyond them all are forgotten.
const MAX_PREFIXES: usize = 100_000;

/// Tokens of a text.
pub(super) fn text(text: &str) -> u64 {
    (text.chars().count() as u64).div_ceil(4)
}

/// Tokens of a prompt, and how many of them are remembered from before.
///
/// OpenAI and Gemini cache by themselves; Anthropic does where a part is marked.
pub(super) fn prompt(chat: &ChatRequest, dialect: Dialect, known: &mut HashSet<u64>) -> Usage {
    let (said, marked) = written(chat);
    let total = prompt_tokens(chat, &said);
    let marked = dialect != Dialect::Anthropic || marked;
    if total < CACHE_MIN_TOKENS || !marked {
        return Usage { input: total, ..Usage::default() };
    }
    let cached = longest_known(&chat.model, &said, known).min(total);
    let cacheable = total - total % CACHE_STEP_TOKENS;
    let write = if dialect == Dialect::Anthropic { cacheable.saturating_sub(cached) } else { 0 };
    Usage {
        input: total - cached - write,
        cached_input: cached,
        cache_write: write,
        ..Usage::default()
    }
}

/// Everything that a server reads of a prompt, and how many tokens that is.
pub(super) fn read(chat: &ChatRequest) -> (String, u64) {
    let (said, _) = written(chat);
    let tokens = prompt_tokens(chat, &said);
    (said, tokens)
}

/// Tokens of a prompt, without any cache.
pub(super) fn prompt_alone(chat: &ChatRequest) -> u64 {
    prompt_tokens(chat, &written(chat).0)
}

fn prompt_tokens(chat: &ChatRequest, said: &str) -> u64 {
    // Every message has a role and two borders.
    text(said) + 3 * chat.messages.len() as u64
}

/// The longest prefix that came before, in tokens; remembers all prefixes of this one.
fn longest_known(model: &str, said: &str, known: &mut HashSet<u64>) -> u64 {
    if known.len() >= MAX_PREFIXES {
        known.clear();
    }
    let mut hasher = DefaultHasher::new();
    model.hash(&mut hasher);
    let mut cached = 0;
    let step = usize::try_from(CACHE_STEP_TOKENS * 4).unwrap_or(512);
    for (chunk, tokens) in
        said.as_bytes().chunks_exact(step).zip((1..).map(|n| n * CACHE_STEP_TOKENS))
    {
        hasher.write(chunk);
        if tokens >= CACHE_MIN_TOKENS && !known.insert(hasher.finish()) {
            cached = tokens;
        }
    }
    cached
}

/// Everything the model reads, in order, and whether a part is marked for the cache.
fn written(chat: &ChatRequest) -> (String, bool) {
    let mut out = String::new();
    let mut marked = false;
    for tool in &chat.tools {
        marked |= tool.cache.is_some();
        out.push_str(&tool.name);
        out.push_str(tool.description.as_deref().unwrap_or_default());
        if let Some(parameters) = &tool.parameters {
            out.push_str(&parameters.to_string());
        }
    }
    for message in &chat.messages {
        write_parts(&message.parts, &mut out, &mut marked);
    }
    (out, marked)
}

fn write_parts(parts: &[Part], out: &mut String, marked: &mut bool) {
    for part in parts {
        match part {
            Part::Text { text, cache, .. } => {
                out.push_str(text);
                *marked |= cache.is_some();
            }
            Part::ToolCall { name, arguments, .. } => {
                out.push_str(name);
                out.push_str(arguments);
            }
            Part::ToolResult { parts, cache, .. } => {
                *marked |= cache.is_some();
                write_parts(parts, out, marked);
            }
            Part::Reasoning { text, .. } | Part::Refusal { text } => out.push_str(text),
            // A picture costs about so many tokens, whatever its bytes.
            Part::Media(media) => {
                *marked |= media.cache.is_some();
                out.push_str(&" ".repeat(4 * 85));
            }
            Part::Other { value, .. } => out.push_str(&value.to_string()),
        }
    }
}
