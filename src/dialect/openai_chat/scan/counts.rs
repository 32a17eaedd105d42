//! Counters and endings, in the words of many providers.

use serde_json::Value;

use crate::chat::{FinishReason, Usage};

/// A provider repeats usage whole, and mostly growing; the fuller one counts.
pub(super) fn keep_usage(kept: &mut Option<Usage>, next: Usage) {
    if kept.is_none_or(|kept| next.total() >= kept.total()) {
        *kept = Some(next);
    }
}

/// Reads a `usage` object. `None` where no counter is there.
pub(in super::super) fn usage_of(usage: &Value) -> Option<Usage> {
    let count = |keys: [&str; 2]| keys.iter().find_map(|key| number(usage.get(*key)));
    let detail =
        |of: [&str; 2], key: &str| of.iter().find_map(|of| number(usage.get(*of)?.get(key)));
    let prompts = ["prompt_tokens_details", "input_tokens_details"];
    let completions = ["completion_tokens_details", "output_tokens_details"];
    let prompt = count(["prompt_tokens", "input_tokens"]);
    let completion = count(["completion_tokens", "output_tokens"]);
    let total = number(usage.get("total_tokens"));
    prompt.or(completion).or(total)?;
    let prompt =
        prompt.unwrap_or_else(|| total.unwrap_or(0).saturating_sub(completion.unwrap_or(0)));
    let completion = completion.unwrap_or(0);
    let cached = detail(prompts, "cached_tokens")
        .or_else(|| count(["prompt_cache_hit_tokens", "cached_tokens"]))
        .unwrap_or(0)
        .min(prompt);
    let written = detail(prompts, "cache_write_tokens").unwrap_or(0).min(prompt - cached);
    let reasoning = detail(completions, "reasoning_tokens").unwrap_or(0);
    // One provider counts thinking beside the completion, which shows in the sum.
    let sum = prompt.saturating_add(completion).saturating_add(reasoning);
    let is_beside = total.is_some_and(|total| total >= sum);
    let reasoning = if is_beside { reasoning } else { reasoning.min(completion) };
    Some(Usage {
        input: prompt - cached - written,
        cached_input: cached,
        cache_write: written,
        output: if is_beside { completion } else { completion - reasoning },
        reasoning,
    })
}

/// A count; some providers write it as a float.
fn number(value: Option<&Value>) -> Option<u64> {
    let value = value?;
    // The cast saturates and takes NaN for 0.
    value.as_u64().or_else(|| value.as_f64().map(|float| float as u64))
}

/// What a finish reason means. Providers have words of their own for the common ones.
pub(in super::super) fn finish_reason(word: &str) -> FinishReason {
    match word {
        "stop" | "eos" | "eos_token" | "end_turn" => FinishReason::Stop,
        "stop_sequence" => FinishReason::StopSequence(None),
        "length" | "max_tokens" | "model_length" => FinishReason::Length,
        "tool_calls" | "tool_call" | "function_call" => FinishReason::ToolCalls,
        "content_filter" => FinishReason::ContentFilter,
        "refusal" => FinishReason::Refusal,
        other => FinishReason::Other(other.to_owned()),
    }
}
