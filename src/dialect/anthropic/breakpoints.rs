//! Marks in a request for what Anthropic's prefix cache shall keep.
//!
//! The body is edited where the marks go and nowhere else, so that what stands before them stays as
//! it was from request to request: it is by these bytes that the cache knows a prompt.

use std::borrow::Cow;
use std::ops::Range;

use bytes::Bytes;
use memchr::memmem;

use crate::dialect::Envelope;
use crate::dialect::envelope::{Edit, apply};
use crate::dialect::json::skip_space;
use crate::dialect::prompt::{elements, member};

/// What shall be kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Breakpoints {
    /// Tools and instructions.
    pub base: bool,
    /// The conversation up to the last turn of the user but one, which the next request has, too.
    pub conversation: bool,
}

const MARK: &[u8] = br#","cache_control":{"type":"ephemeral"}"#;

/// Whether anything of a request is marked.
pub fn is_marked(body: &[u8]) -> bool {
    memmem::find(body, b"\"cache_control\"").is_some()
}

/// Marks a request in Anthropic's words, of which nothing is marked: at most two marks of the four
/// that are allowed. `None` where there is nothing to mark.
pub fn mark(body: &Bytes, wanted: Breakpoints) -> Option<Bytes> {
    let envelope = Envelope::read(body.clone()).ok()?;
    let mut edits = Vec::new();
    if wanted.base {
        let system = envelope.range("system").and_then(|range| content(body, range));
        let base = system.or_else(|| last_element(body, envelope.range("tools")?));
        edits.extend(base.into_iter().flatten());
    }
    if wanted.conversation {
        let turn = last_but_one_of_user(body, envelope.range("messages")?);
        edits.extend(turn.and_then(|range| content(body, range)).into_iter().flatten());
    }
    edits.sort_by_key(|(range, _)| (range.start, range.end));
    (!edits.is_empty()).then(|| apply(body, &edits))
}

/// The edits that mark the end of a content, which is a text or blocks.
fn content(body: &[u8], range: Range<usize>) -> Option<Vec<Edit<'static>>> {
    match body.get(range.clone())? {
        [b'"', b'"'] => None,
        [b'"', ..] => {
            let before: &[u8] = br#"[{"type":"text","text":"#;
            let after: Vec<u8> = [MARK, b"}]"].concat();
            let (start, end) = (range.start, range.end);
            Some(vec![(start..start, Cow::Borrowed(before)), (end..end, Cow::Owned(after))])
        }
        [b'[', ..] => last_element(body, range),
        _ => None,
    }
}

/// The edit that marks the last element of an array of objects.
fn last_element(body: &[u8], range: Range<usize>) -> Option<Vec<Edit<'static>>> {
    let array = body.get(range.clone())?;
    let (start, end) = elements(array).last()?;
    let last = array.get(start..end)?;
    if last.first() != Some(&b'{') || last.get(skip_space(last, 1)) == Some(&b'}') {
        return None;
    }
    // Neither an empty text nor a thought can be marked.
    let kind = member(last, b"type");
    let is_thought = matches!(kind, Some(b"\"thinking\"" | b"\"redacted_thinking\""));
    if is_thought || (kind == Some(b"\"text\"") && member(last, b"text") == Some(b"\"\"")) {
        return None;
    }
    let at = range.start + end - 1;
    Some(vec![(at..at, Cow::Borrowed(MARK))])
}

/// Where the content of the user's last turn but one is.
fn last_but_one_of_user(body: &[u8], range: Range<usize>) -> Option<Range<usize>> {
    let messages = body.get(range.clone())?;
    let (mut last, mut but_one) = (None, None);
    for (start, end) in elements(messages) {
        let message = messages.get(start..end)?;
        if member(message, b"role") == Some(b"\"user\"") {
            but_one = last;
            last = Some((start, message));
        }
    }
    let (start, message) = but_one?;
    let content = member(message, b"content")?;
    let offset = content.as_ptr() as usize - message.as_ptr() as usize;
    let at = range.start + start + offset;
    Some(at..at + content.len())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const ALL: Breakpoints = Breakpoints { base: true, conversation: true };

    fn marked(body: &Value, wanted: Breakpoints) -> Option<Value> {
        let marked = mark(&Bytes::from(body.to_string()), wanted)?;
        Some(serde_json::from_slice(&marked).unwrap())
    }

    fn count(body: &Value) -> usize {
        body.to_string().matches("cache_control").count()
    }

    #[test]
    fn instructions_and_the_last_turn_but_one_are_marked() {
        let body = json!({
            "model": "m", "system": "Be \"brief\".", "max_tokens": 9,
            "messages": [
                { "role": "user", "content": "one" },
                { "role": "assistant", "content": "1" },
                { "role": "user", "content": [{ "type": "text", "text": "two" }, { "type": "image" }] },
                { "role": "assistant", "content": "2" },
                { "role": "user", "content": "three" },
            ],
        });
        let marked = marked(&body, ALL).unwrap();
        let kept = json!({ "type": "ephemeral" });
        assert_eq!(
            marked["system"],
            json!([{ "type": "text", "text": "Be \"brief\".", "cache_control": kept }])
        );
        assert_eq!(
            marked["messages"][2]["content"][1],
            json!({ "type": "image", "cache_control": kept })
        );
        assert_eq!(count(&marked), 2);
        let mut unmarked = marked;
        unmarked["system"] = body["system"].clone();
        unmarked["messages"][2] = body["messages"][2].clone();
        assert_eq!(unmarked, body);
    }

    #[test]
    fn without_instructions_the_last_tool_is_marked() {
        let body = json!({
            "model": "m", "tools": [{ "name": "a" }, { "name": "b", "input_schema": {} }],
            "messages": [{ "role": "user", "content": "one" }],
        });
        let marked = marked(&body, ALL).unwrap();
        assert!(marked["tools"][1]["cache_control"].is_object());
        assert_eq!(count(&marked), 1, "there is no turn but the last");
    }

    #[test]
    fn what_cannot_be_marked_is_not() {
        for body in [
            json!({ "model": "m", "messages": [{ "role": "user", "content": "x" }] }),
            json!({ "model": "m", "system": "", "tools": [], "messages": [] }),
            json!({ "model": "m", "system": [{ "type": "text", "text": "" }], "messages": [
                { "role": "user", "content": "" }, { "role": "user", "content": "y" }] }),
            json!({ "model": "m", "system": [{}], "messages": [
                { "role": "user", "content": [] }, { "role": "user", "content": "y" }] }),
            json!({ "model": "m", "system": 7, "messages": [
                { "role": "user", "content": [{ "type": "thinking" }] }, { "role": "user" }] }),
        ] {
            assert_eq!(marked(&body, ALL), None, "{body}");
        }
    }

    #[test]
    fn a_mark_is_seen_and_a_text_about_marks_is_none() {
        let text = json!({ "content": "write \"cache_control\": {} there" });
        assert!(!is_marked(text.to_string().as_bytes()));
        let real = json!({ "content": [{ "cache_control": { "type": "ephemeral" } }] });
        assert!(is_marked(real.to_string().as_bytes()));
    }
}
