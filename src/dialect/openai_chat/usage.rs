//! Token counts: this wire's overlapping counters, in everybody's spelling, and our disjoint ones.
//! Decoder and scanner both read them here.

use serde::Serialize;
use serde_json::Value;

use super::{scan, wire};
use crate::chat::Usage;

#[cfg(test)]
mod tests;

/// Where the parts of the prompt stand, in the words of both of OpenAI's APIs.
const PROMPT_DETAILS: [&str; 2] = ["prompt_tokens_details", "input_tokens_details"];

/// Where the parts of the completion stand.
const COMPLETION_DETAILS: [&str; 2] = ["completion_tokens_details", "output_tokens_details"];

/// Counters as the wire gives them: overlapping, and in several spellings. Pieces are merged in
/// this form, because the larger of two overlapping counts is right where the larger of two
/// disjoint ones is not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct WireUsage {
    prompt: u64,
    cached: u64,
    cache_write: u64,
    completion: u64,
    reasoning: u64,
    total: u64,
    prompt_audio: u64,
    /// Whether cached tokens were counted under Anthropic's names.
    anthropic_cache: bool,
}

// === impl WireUsage ===

impl WireUsage {
    /// Reads a `usage` object; `None` where it counts nothing.
    pub(super) fn read(value: &Value) -> Option<Self> {
        let fields = value.as_object()?;
        Self::of(
            |key| counter(fields.get(key)?),
            |group, key| counter(fields.get(group)?.get(key)?),
        )
    }

    /// As [`Self::read`], from the object's text, whose grammar was checked.
    pub(super) fn scan(object: &[u8]) -> Option<Self> {
        // Group, name and value; those of the object itself are in a group without a name.
        let mut fields: Vec<(&[u8], &[u8], &[u8])> = Vec::with_capacity(16);
        for (key, value) in scan::members(object) {
            match value.first() {
                Some(b'{') => fields.extend(scan::members(value).map(|(k, v)| (key, k, v))),
                _ => fields.push((b"", key, value)),
            }
        }
        let get = |group: &str, key: &str| {
            let (group, key) = (group.as_bytes(), key.as_bytes());
            let found = fields.iter().rev().find(|(g, k, _)| (*g, *k) == (group, key));
            found.and_then(|(_, _, value)| counter_in(value))
        };
        Self::of(|key| get("", key), get)
    }

    /// What a usage object counts: `get` looks a counter up by its name, and `get_in` one of a
    /// group of counters.
    fn of(
        get: impl Fn(&str) -> Option<u64>,
        get_in: impl Fn(&str, &str) -> Option<u64>,
    ) -> Option<Self> {
        let detail =
            |groups: [&str; 2], key: &str| groups.iter().find_map(|group| get_in(group, key));
        let own_cached = detail(PROMPT_DETAILS, "cached_tokens")
            .or_else(|| get("prompt_cache_hit_tokens"))
            .or_else(|| get("cached_tokens"));
        let read = get("cache_read_input_tokens");
        let write = get("cache_creation_input_tokens");
        let usage = Self {
            prompt: get("prompt_tokens").or_else(|| get("input_tokens")).unwrap_or(0),
            cached: own_cached.unwrap_or(0).max(read.unwrap_or(0)),
            cache_write: detail(PROMPT_DETAILS, "cache_write_tokens").or(write).unwrap_or(0),
            completion: get("completion_tokens").or_else(|| get("output_tokens")).unwrap_or(0),
            reasoning: detail(COMPLETION_DETAILS, "reasoning_tokens")
                .or_else(|| get("reasoning_tokens"))
                .unwrap_or(0),
            total: get("total_tokens").unwrap_or(0),
            prompt_audio: detail(PROMPT_DETAILS, "audio_tokens").unwrap_or(0),
            anthropic_cache: own_cached.is_none() && (read.is_some() || write.is_some()),
        };
        (usage != Self { anthropic_cache: usage.anthropic_cache, ..Self::default() })
            .then_some(usage)
    }

    /// Takes over what a later piece says.
    pub(super) fn merge(&mut self, later: Self) {
        self.prompt = self.prompt.max(later.prompt);
        self.cached = self.cached.max(later.cached);
        self.cache_write = self.cache_write.max(later.cache_write);
        self.completion = self.completion.max(later.completion);
        self.reasoning = self.reasoning.max(later.reasoning);
        self.total = self.total.max(later.total);
        self.prompt_audio = self.prompt_audio.max(later.prompt_audio);
        self.anthropic_cache |= later.anthropic_cache;
    }

    /// The same counts without overlap.
    ///
    /// Most count thinking within `completion_tokens`. Some (xAI, Gemini's compatible endpoint)
    /// count it beside, which shows in a total that is larger than prompt and completion. In the
    /// same way cached tokens are within `prompt_tokens`, save where Anthropic's counters were
    /// passed on under their own names, and so is sound, save at Mistral. No prompt is empty, so
    /// where only a total is told, as for some embeddings, it is the prompt's.
    pub(super) fn disjoint(mut self) -> Usage {
        let cache = self.cached.saturating_add(self.cache_write);
        let sum = self.prompt.saturating_add(self.completion);
        if self.prompt_audio > 0 && self.total.saturating_sub(sum) == self.prompt_audio {
            self.prompt = self.prompt.saturating_add(self.prompt_audio);
        }
        let mut beside = self.total.saturating_sub(self.prompt).saturating_sub(self.completion);
        if self.prompt == 0 && beside != self.reasoning {
            self.prompt = std::mem::take(&mut beside);
        }
        let cache_is_beside =
            self.anthropic_cache && cache > 0 && (cache > self.prompt || cache == beside);
        let (cached, written) = if cache_is_beside {
            (self.cached, self.cache_write)
        } else {
            let cached = self.cached.min(self.prompt);
            (cached, self.cache_write.min(self.prompt - cached))
        };
        let input = if cache_is_beside { self.prompt } else { self.prompt - cached - written };
        let thoughts_are_beside = beside > 0 && !cache_is_beside && beside >= self.reasoning;
        let (output, reasoning) = if thoughts_are_beside {
            (self.completion, beside)
        } else {
            let reasoning = self.reasoning.min(self.completion);
            (self.completion - reasoning, reasoning)
        };
        Usage { input, cached_input: cached, cache_write: written, output, reasoning }
    }
}

/// A counter; some write it as a float. What is beyond all counting is no count.
fn counter(value: &Value) -> Option<u64> {
    wire::count(value).or_else(|| wire::count(&value.as_f64()?.trunc().into()))
}

fn counter_in(raw: &[u8]) -> Option<u64> {
    let plain = std::str::from_utf8(raw).ok()?.parse().ok();
    plain.or_else(|| counter(&serde_json::from_slice(raw).ok()?))
}

/// A `usage` object in this wire's overlapping convention.
#[derive(Debug, Serialize)]
pub(super) struct Counted {
    prompt_tokens: u64,
    completion_tokens: u64,
    total_tokens: u64,
    prompt_tokens_details: CountedPrompt,
    completion_tokens_details: CountedCompletion,
}

#[derive(Debug, Serialize)]
struct CountedPrompt {
    cached_tokens: u64,
    /// OpenRouter's name for it; OpenAI has none.
    #[serde(skip_serializing_if = "is_zero")]
    cache_write_tokens: u64,
}

#[derive(Debug, Serialize)]
struct CountedCompletion {
    reasoning_tokens: u64,
}

// === impl Counted ===

impl Counted {
    pub(super) fn of(usage: &Usage) -> Self {
        Self {
            prompt_tokens: usage.total_input(),
            completion_tokens: usage.total_output(),
            total_tokens: usage.total(),
            prompt_tokens_details: CountedPrompt {
                cached_tokens: usage.cached_input,
                cache_write_tokens: usage.cache_write,
            },
            completion_tokens_details: CountedCompletion { reasoning_tokens: usage.reasoning },
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks with a reference")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}
