//! Events with nothing but the usual fields: the first of a stream, those with text, its reason to
//! end, its usage. They are read without making a value of them, which costs several times as much.

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// An event that says nothing else. Whatever has another field, or a text with escapes, is none,
/// and is read as a value.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PlainChunk<'a> {
    #[serde(default)]
    pub(super) id: &'a str,
    #[serde(default)]
    pub(super) model: &'a str,
    #[serde(default)]
    pub(super) created: u64,
    pub(super) choices: Vec<PlainChoice<'a>>,
    #[serde(borrow)]
    pub(super) usage: Option<&'a RawValue>,
    #[serde(rename = "object")]
    _object: Option<&'a str>,
    #[serde(rename = "system_fingerprint")]
    _system_fingerprint: Option<&'a str>,
    #[serde(rename = "service_tier")]
    _service_tier: Option<&'a str>,
    #[serde(rename = "obfuscation")]
    _obfuscation: Option<&'a str>,
}

/// An alternative of such an event.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PlainChoice<'a> {
    pub(super) index: Option<u32>,
    #[serde(borrow)]
    pub(super) delta: PlainDelta<'a>,
    /// Whether there was such a field, and what it said.
    #[serde(default, deserialize_with = "said", borrow)]
    pub(super) finish_reason: Option<Option<&'a str>>,
    #[serde(rename = "logprobs")]
    _logprobs: Option<()>,
}

/// What it adds.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PlainDelta<'a> {
    pub(super) content: Option<&'a str>,
    #[serde(rename = "role")]
    _role: Option<&'a str>,
    #[serde(rename = "refusal")]
    _refusal: Option<()>,
    #[serde(rename = "tool_calls")]
    _tool_calls: Option<()>,
    #[serde(rename = "function_call")]
    _function_call: Option<()>,
}

// === impl PlainChunk ===

impl<'a> PlainChunk<'a> {
    /// Reads an event; `None` where it is not one of these, or tells of an error.
    pub(super) fn read(data: &'a str) -> Option<Self> {
        // An array would be taken for the fields in their order.
        let chunk: Self = serde_json::from_str(data.starts_with('{').then_some(data)?).ok()?;
        let tells_error = |choice: &PlainChoice<'_>| choice.finish_reason == Some(Some("error"));
        (!chunk.choices.iter().any(tells_error)).then_some(chunk)
    }

    /// Its usage, as it is written, if it is an object.
    pub(super) fn usage(&self) -> Option<&'a [u8]> {
        let raw = self.usage?.get().as_bytes();
        raw.starts_with(b"{").then_some(raw)
    }
}

fn said<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Option<&'de str>>, D::Error> {
    Option::deserialize(from).map(Some)
}
