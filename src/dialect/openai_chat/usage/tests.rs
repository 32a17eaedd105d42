//! Counters in everybody's spelling.

use super::*;

#[test]
#[rustfmt::skip] // A table reads best as a table.
fn counters_are_made_disjoint() {
    let count = |usage: &str| {
        let usage = WireUsage::read(&serde_json::from_str(usage).unwrap())?.disjoint();
        Some((usage.input, usage.cached_input, usage.cache_write, usage.output, usage.reasoning))
    };
    for (usage, expected) in [
        (r#"{"prompt_tokens":10,"completion_tokens":5}"#, Some((10, 0, 0, 5, 0))),
        (r#"{"prompt_tokens":10,"completion_tokens":5,"prompt_tokens_details":{"cached_tokens":4},"completion_tokens_details":{"reasoning_tokens":3}}"#, Some((6, 4, 0, 2, 3))),
        (r#"{"prompt_tokens":10,"completion_tokens":5,"prompt_tokens_details":{"cached_tokens":40},"completion_tokens_details":{"reasoning_tokens":30}}"#, Some((0, 10, 0, 0, 5))),
        (r#"{"prompt_tokens":10,"completion_tokens":5,"total_tokens":45,"completion_tokens_details":{"reasoning_tokens":30}}"#, Some((10, 0, 0, 5, 30))),
        (r#"{"prompt_tokens":10,"completion_tokens":5,"prompt_cache_hit_tokens":8,"prompt_cache_miss_tokens":2}"#, Some((2, 8, 0, 5, 0))),
        (r#"{"prompt_tokens":10,"prompt_tokens_details":{"cached_tokens":3,"cache_write_tokens":4}}"#, Some((3, 3, 4, 0, 0))),
        (r#"{"prompt_tokens":7,"total_tokens":7}"#, Some((7, 0, 0, 0, 0))),
        (r#"{"prompt_tokens":10.0,"completion_tokens":5.7,"total_tokens":-4}"#, Some((10, 0, 0, 5, 0))),
        (r#"{"prompt_tokens":10,"completion_tokens":1e300}"#, Some((10, 0, 0, 0, 0))),
        (r#"{"total_tokens":7}"#, Some((7, 0, 0, 0, 0))),
        (r#"{"completion_tokens":2,"total_tokens":7}"#, Some((5, 0, 0, 2, 0))),
        (r#"{"input_tokens":10,"output_tokens":5,"input_tokens_details":{"cached_tokens":4,"cache_write_tokens":1},"output_tokens_details":{"reasoning_tokens":3}}"#, Some((5, 4, 1, 2, 3))),
        // Thinking, told or not, and more, beside the completion.
        (r#"{"prompt_tokens":0,"completion_tokens":5,"total_tokens":35,"completion_tokens_details":{"reasoning_tokens":30}}"#, Some((0, 0, 0, 5, 30))),
        (r#"{"prompt_tokens":10,"completion_tokens":5,"total_tokens":20}"#, Some((10, 0, 0, 5, 5))),
        (r#"{"prompt_tokens":10,"completion_tokens":5,"total_tokens":50,"completion_tokens_details":{"reasoning_tokens":30}}"#, Some((10, 0, 0, 5, 35))),
        // Less beside than was thought: that is within.
        (r#"{"prompt_tokens":10,"completion_tokens":5,"total_tokens":16,"completion_tokens_details":{"reasoning_tokens":3}}"#, Some((10, 0, 0, 2, 3))),
        // Sound beside the prompt.
        (r#"{"prompt_tokens":10,"completion_tokens":5,"total_tokens":45,"prompt_tokens_details":{"audio_tokens":30}}"#, Some((40, 0, 0, 5, 0))),
        // Anthropic's counters: within, then beside and in the total, then beside and not in it.
        (r#"{"prompt_tokens":10,"completion_tokens":5,"total_tokens":15,"cache_read_input_tokens":4}"#, Some((6, 4, 0, 5, 0))),
        (r#"{"prompt_tokens":10,"completion_tokens":5,"total_tokens":24,"cache_read_input_tokens":4,"cache_creation_input_tokens":5}"#, Some((10, 4, 5, 5, 0))),
        (r#"{"prompt_tokens":0,"completion_tokens":5,"total_tokens":5,"cache_read_input_tokens":40}"#, Some((0, 40, 0, 5, 0))),
        (r#"{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0}"#, None),
        (r#"{"prompt_tokens":null,"completion_tokens":null,"total_tokens":null}"#, None),
        (r#"{}"#, None),
        ("7", None),
    ] {
        assert_eq!(count(usage), expected, "{usage}");
    }
}
