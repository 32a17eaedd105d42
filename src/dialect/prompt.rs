//! Where the parts of a prompt are in a request, without decoding it.

use super::Envelope;
use super::json::{skip_colon, skip_space, skip_string, skip_value};

/// The parts of a request's prompt in the order in which a model reads them, as they stand in the
/// body. A later turn of the same conversation has the same parts up to the end of the earlier one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PromptParts<'a> {
    /// Tools, and instructions beside the messages.
    pub base: [&'a [u8]; 2],
    /// Messages before the first of the user.
    pub instructions: &'a [u8],
    /// The first message of the user.
    pub opening: &'a [u8],
    /// What follows, without the bracket at the end.
    pub rest: &'a [u8],
}

/// The parts of a request's prompt; `None` where there is no conversation.
pub fn prompt_parts(envelope: &Envelope) -> Option<PromptParts<'_>> {
    let base = [envelope.raw("tools"), envelope.raw("system")].map(Option::unwrap_or_default);
    let messages = envelope.raw("messages")?;
    // Without the bracket, in whose place a later turn has a comma.
    let messages = messages.strip_suffix(b"]")?.trim_ascii_end();
    let Some((start, end)) = first_of_user(messages) else {
        return Some(PromptParts { base, rest: messages, ..PromptParts::default() });
    };
    let (instructions, after) = messages.split_at_checked(start)?;
    let (opening, rest) = after.split_at_checked(end - start)?;
    Some(PromptParts { base, instructions, opening, rest })
}

/// Where the first message of the user is in an array of messages.
fn first_of_user(messages: &[u8]) -> Option<(usize, usize)> {
    elements(messages).find(|(start, end)| {
        messages
            .get(*start..*end)
            .is_some_and(|message| member(message, b"role") == Some(b"\"user\""))
    })
}

/// Where the elements of an array are. It was checked to be JSON, but for its closing bracket.
pub(super) fn elements(array: &[u8]) -> impl Iterator<Item = (usize, usize)> {
    let mut at = skip_space(array, 1);
    std::iter::from_fn(move || {
        let start = at;
        let end = skip_value(array, start, 0).ok()?;
        at = skip_space(array, end);
        if array.get(at) == Some(&b',') {
            at = skip_space(array, at + 1);
        }
        Some((start, end))
    })
}

/// The value of an object's member whose key was written without escapes.
pub(super) fn member<'a>(object: &'a [u8], key: &[u8]) -> Option<&'a [u8]> {
    let mut at = skip_space(object, 1);
    while object.get(at) == Some(&b'"') {
        let name = skip_string(object, at).ok()?;
        let start = skip_colon(object, name.end).ok()?;
        let end = skip_value(object, start, 0).ok()?;
        if object.get(at + 1..name.end - 1) == Some(key) {
            return object.get(start..end);
        }
        at = skip_space(object, end);
        if object.get(at) == Some(&b',') {
            at = skip_space(object, at + 1);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn parts(body: &str) -> [String; 5] {
        let envelope = Envelope::read(Bytes::from(body.to_owned())).unwrap();
        let parts = prompt_parts(&envelope).unwrap();
        let all = [parts.base[0], parts.base[1], parts.instructions, parts.opening, parts.rest];
        all.map(|part| String::from_utf8(part.to_vec()).unwrap())
    }

    #[test]
    fn a_later_turn_has_the_same_parts_up_to_the_end_of_the_earlier() {
        let first = parts(
            r#"{"messages": [ {"role":"system","content":"S"}, {"content":"hi","role":"user"} ], "model":"m", "tools":[1]}"#,
        );
        assert_eq!(
            first,
            [
                "[1]",
                "",
                r#"[ {"role":"system","content":"S"}, "#,
                r#"{"content":"hi","role":"user"}"#,
                ""
            ]
        );
        let second = parts(
            r#"{"model":"m", "tools":[1],"messages": [ {"role":"system","content":"S"}, {"content":"hi","role":"user"},{"role":"assistant","content":"yes"}]}"#,
        );
        assert_eq!(first[..4], second[..4]);
        assert_eq!(second[4], r#",{"role":"assistant","content":"yes"}"#);
    }

    #[test]
    fn a_conversation_that_nobody_opened_has_no_opening() {
        let parts =
            parts(r#"{"model":"m","system":"S","messages":[{"role":"assistant","content":"x"}]}"#);
        assert_eq!(parts, ["", "\"S\"", "", "", r#"[{"role":"assistant","content":"x"}"#]);
        for body in [r#"{"model":"m","prompt":"x"}"#, r#"{"model":"m","messages":null}"#] {
            let envelope = Envelope::read(Bytes::from(body.to_owned())).unwrap();
            assert!(prompt_parts(&envelope).is_none(), "{body}");
        }
    }
}
