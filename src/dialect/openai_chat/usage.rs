//! Token counts: this wire's overlapping counters, in everybody's spelling, and our disjoint ones.
//! Decoder and scanner both read them here.

use serde::Serialize;
use serde_json::Value;

use super::{scan, wire};
use crate::chat::Usage;

#[cfg(test)]
mod tests;

/// What a usage object counts, in the words of both of OpenAI's APIs and of others that are like
/// them.
#[derive(Debug, Default)]
struct Counters {
    prompt_tokens: Option<u64>,
    input_tokens: Option<u64>,
    completion_tokens: Option<u64>,
    output_tokens: Option<u64>,
    total_tokens: Option<u64>,
    reasoning_tokens: Option<u64>,
    cached_tokens: Option<u64>,
    prompt_cache_hit_tokens: Option<u64>,
    cache_read_input_tokens: Option<u64>,
    cache_creation_input_tokens: Option<u64>,
    prompt_tokens_details: Details,
    input_tokens_details: Details,
    completion_tokens_details: Details,
    output_tokens_details: Details,
}

/// The parts of the prompt, or of the completion.
#[derive(Debug, Default)]
struct Details {
    cached_tokens: Option<u64>,
    cache_write_tokens: Option<u64>,
    audio_tokens: Option<u64>,
    reasoning_tokens: Option<u64>,
}

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

// === impl Counters ===

impl Counters {
    /// The place of a counter of the object itself.
    fn counter(&mut self, name: &[u8]) -> Option<&mut Option<u64>> {
        Some(match name {
            b"prompt_tokens" => &mut self.prompt_tokens,
            b"input_tokens" => &mut self.input_tokens,
            b"completion_tokens" => &mut self.completion_tokens,
            b"output_tokens" => &mut self.output_tokens,
            b"total_tokens" => &mut self.total_tokens,
            b"reasoning_tokens" => &mut self.reasoning_tokens,
            b"cached_tokens" => &mut self.cached_tokens,
            b"prompt_cache_hit_tokens" => &mut self.prompt_cache_hit_tokens,
            b"cache_read_input_tokens" => &mut self.cache_read_input_tokens,
            b"cache_creation_input_tokens" => &mut self.cache_creation_input_tokens,
            _ => return None,
        })
    }

    /// A group of counters.
    fn details(&mut self, name: &[u8]) -> Option<&mut Details> {
        Some(match name {
            b"prompt_tokens_details" => &mut self.prompt_tokens_details,
            b"input_tokens_details" => &mut self.input_tokens_details,
            b"completion_tokens_details" => &mut self.completion_tokens_details,
            b"output_tokens_details" => &mut self.output_tokens_details,
            _ => return None,
        })
    }

    /// A part of the prompt, under the first name that has it.
    fn of_prompt(&self, part: impl Fn(&Details) -> Option<u64>) -> Option<u64> {
        part(&self.prompt_tokens_details).or_else(|| part(&self.input_tokens_details))
    }

    /// A part of the completion.
    fn of_completion(&self, part: impl Fn(&Details) -> Option<u64>) -> Option<u64> {
        part(&self.completion_tokens_details).or_else(|| part(&self.output_tokens_details))
    }
}

// === impl Details ===

impl Details {
    /// The place of a counter.
    fn counter(&mut self, name: &[u8]) -> Option<&mut Option<u64>> {
        Some(match name {
            b"cached_tokens" => &mut self.cached_tokens,
            b"cache_write_tokens" => &mut self.cache_write_tokens,
            b"audio_tokens" => &mut self.audio_tokens,
            b"reasoning_tokens" => &mut self.reasoning_tokens,
            _ => return None,
        })
    }
}

// === impl WireUsage ===

impl WireUsage {
    /// Reads a `usage` object; `None` where it counts nothing.
    pub(super) fn read(value: &Value) -> Option<Self> {
        let mut counters = Counters::default();
        for (name, value) in value.as_object()? {
            let name = name.as_bytes();
            if let Some(parts) = value.as_object() {
                let Some(details) = counters.details(name) else { continue };
                for (name, value) in parts {
                    if let Some(place) = details.counter(name.as_bytes()) {
                        *place = counter(value);
                    }
                }
            } else if let Some(place) = counters.counter(name) {
                *place = counter(value);
            }
        }
        Self::of(&counters)
    }

    /// As [`Self::read`], from the object's text, whose grammar was checked. The last one counts
    /// where a name is repeated.
    pub(super) fn scan(object: &[u8]) -> Option<Self> {
        let mut counters = Counters::default();
        for (name, value) in scan::members(object) {
            if value.first() == Some(&b'{') {
                let Some(details) = counters.details(name) else { continue };
                for (name, value) in scan::members(value) {
                    if let Some(place) = details.counter(name) {
                        *place = counter_in(value);
                    }
                }
            } else if let Some(place) = counters.counter(name) {
                *place = counter_in(value);
            }
        }
        Self::of(&counters)
    }

    /// What counters come to, under whichever names they are; `None` where they count nothing.
    fn of(counters: &Counters) -> Option<Self> {
        let own_cached = counters
            .of_prompt(|parts| parts.cached_tokens)
            .or(counters.prompt_cache_hit_tokens)
            .or(counters.cached_tokens);
        let read = counters.cache_read_input_tokens;
        let write = counters.cache_creation_input_tokens;
        let usage = Self {
            prompt: counters.prompt_tokens.or(counters.input_tokens).unwrap_or(0),
            cached: own_cached.unwrap_or(0).max(read.unwrap_or(0)),
            cache_write: counters
                .of_prompt(|parts| parts.cache_write_tokens)
                .or(write)
                .unwrap_or(0),
            completion: counters.completion_tokens.or(counters.output_tokens).unwrap_or(0),
            reasoning: counters
                .of_completion(|parts| parts.reasoning_tokens)
                .or(counters.reasoning_tokens)
                .unwrap_or(0),
            total: counters.total_tokens.unwrap_or(0),
            prompt_audio: counters.of_prompt(|parts| parts.audio_tokens).unwrap_or(0),
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
