//! What is fuzzed: a function for each place that reads what others wrote.
//!
//! Each takes any bytes and panics where something does not hold. `fuzz_targets/` hands them to
//! libFuzzer, and `tests/it/corpus.rs`, which takes this file in as a module, to the corpora.

#![allow(clippy::expect_used, clippy::panic, reason = "a target that finds something, panics")]

mod answers;
mod bodies;
mod frames;
mod texts;
mod wires;

use tidegate::dialect::Dialect::{Anthropic, Gemini, OpenAiChat};

/// A target: its name and what it does with bytes.
pub type Target = (&'static str, fn(&[u8]));

/// All targets, by the name of their corpora.
pub const TARGETS: [Target; 17] = [
    ("openai_whole", |bytes| wires::whole(OpenAiChat, bytes)),
    ("anthropic_whole", |bytes| wires::whole(Anthropic, bytes)),
    ("gemini_whole", |bytes| wires::whole(Gemini, bytes)),
    ("openai_stream", |bytes| wires::stream(OpenAiChat, bytes)),
    ("anthropic_stream", |bytes| wires::stream(Anthropic, bytes)),
    ("gemini_stream", |bytes| wires::stream(Gemini, bytes)),
    ("sse", frames::sse),
    ("envelope", bodies::envelope),
    ("cache_key", bodies::cache_key),
    ("answer_head", answers::head_and_body),
    ("template", texts::template),
    ("config", texts::config),
    ("suite", texts::suite),
    ("table", texts::table),
    ("redact", texts::redact),
    ("cron", texts::cron),
    ("receiver", texts::receiver),
];

/// Runs one target.
///
/// # Panics
///
/// Where it finds something, or there is no such target.
pub fn run(name: &str, bytes: &[u8]) {
    let target = TARGETS.iter().find(|(known, _)| *known == name);
    target.unwrap_or_else(|| panic!("there is no target {name}")).1(bytes);
}
