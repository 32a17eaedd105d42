//! What a judge says.
//!
//! Only what begins with a verdict is one. Models that do not keep to that say something else
//! first, and to guess at what they mean would be to trust those least able to judge.

use serde::Deserialize;

use super::JudgeError;

/// How many characters of an unreadable reply are kept for the log.
const MAX_START: usize = 80;

/// A chat completion, as far as it matters.
#[derive(Deserialize)]
struct Reply {
    choices: Vec<Choice>,
}

#[derive(Deserialize)]
struct Choice {
    message: Message,
}

#[derive(Deserialize)]
struct Message {
    content: Option<String>,
}

/// A verdict as JSON.
#[derive(Deserialize)]
struct Verdict {
    same: bool,
}

/// Whether the judge says that the answers are the same.
///
/// # Errors
///
/// [`JudgeError::Failed`] where it is no chat completion, [`JudgeError::Unreadable`] where its text
/// does not begin with a verdict.
pub(super) fn read(body: &[u8]) -> Result<bool, JudgeError> {
    let reply: Reply = serde_json::from_slice(body)
        .map_err(|error| JudgeError::Failed { detail: format!("its answer: {error}") })?;
    let first = reply.choices.into_iter().next();
    let text = first.and_then(|choice| choice.message.content).unwrap_or_default();
    let start = || text.trim_start().chars().take(MAX_START).collect();
    verdict(&text).ok_or_else(|| JudgeError::Unreadable { start: start() })
}

/// The verdict that a text begins with.
fn verdict(text: &str) -> Option<bool> {
    let text = text.trim_start();
    let fenced = text.strip_prefix("```").map(|text| text.strip_prefix("json").unwrap_or(text));
    let text = fenced.unwrap_or(text).trim_start();
    if text.starts_with('{') {
        let mut values = serde_json::Deserializer::from_str(text).into_iter::<Verdict>();
        return values.next()?.ok().map(|verdict| verdict.same);
    }
    let text = text.trim_start_matches(|c: char| !c.is_alphanumeric() && !matches!(c, '{' | '['));
    let (word, rest) = split_word(text);
    let same = match () {
        () if word.eq_ignore_ascii_case("same") => true,
        () if word.eq_ignore_ascii_case("different") => false,
        () => return None,
    };
    is_settled(rest).then_some(same)
}

/// Whether what follows the word leaves it as it is: "SAME or DIFFERENT", "SAME/DIFFERENT", "same:
/// no" and "Same?" are no verdicts.
fn is_settled(rest: &str) -> bool {
    let next = rest.trim_start_matches(|c: char| !c.is_alphanumeric());
    let between = rest.strip_suffix(next).unwrap_or(rest);
    let (next, _) = split_word(next);
    let is = |words: &[&str]| words.iter().any(|word| next.eq_ignore_ascii_case(word));
    let is_choice = between.contains(['/', '|', '?']) || is(&["or"]);
    let is_field = between.contains([':', '=']) && is(&["no", "not", "false", "0"]);
    !is_choice && !is_field
}

/// The word that a text begins with, and what follows.
fn split_word(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_alphanumeric()).unwrap_or(text.len());
    text.split_at(end)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_reply_begins_with_its_verdict_or_is_none() {
        let cases = [
            ("SAME", Some(true)),
            ("DIFFERENT", Some(false)),
            ("same", Some(true)),
            ("\n\n  Different.", Some(false)),
            ("**SAME**", Some(true)),
            ("**DIFFERENT** — the second says 15 days.", Some(false)),
            ("- `SAME`\nBoth give the same number.", Some(true)),
            ("# DIFFERENT\n", Some(false)),
            ("\"SAME\"", Some(true)),
            ("> *Different:* the units differ", Some(false)),
            ("SAME. Different words, one meaning.", Some(true)),
            ("SAME: both name Paris", Some(true)),
            ("DIFFERENT because they are not the same", Some(false)),
            (r#"{"same": true}"#, Some(true)),
            (r#" {"reason": "numbers", "same": false} "#, Some(false)),
            ("```json\n{\"same\": true}\n```", Some(true)),
            ("```\n{\"same\": false}\n```\nThe numbers differ.", Some(false)),
            ("```\nSAME\n```", Some(true)),
            ("", None),
            ("   ", None),
            ("***", None),
            ("Not the same", None),
            ("The answers are the SAME", None),
            ("Verdict: SAME", None),
            ("SAMENESS", None),
            ("SAME2", None),
            ("ＳＡＭＥ", None),
            ("samé", None),
            ("Yes", None),
            ("true", None),
            ("SAME or DIFFERENT", None),
            ("SAME/DIFFERENT", None),
            ("SAME | DIFFERENT", None),
            ("Same? No, the dates differ.", None),
            ("same: false", None),
            ("\"same\": false", None),
            ("**same** = no", None),
            (r#"{"same": "true"}"#, None),
            (r#"{"same": 1}"#, None),
            (r#"{"verdict": "SAME"}"#, None),
            (r#"{"same": true, "same": false}"#, None),
            (r#"{"same": tru"#, None),
            ("{same}", None),
            ("[\"SAME\"]", None),
            ("<think>They look alike.</think>SAME", None),
        ];
        for (text, expected) in cases {
            assert_eq!(verdict(text), expected, "{text:?}");
        }
    }

    #[test]
    fn a_reply_that_is_no_completion_is_a_failure() {
        let said =
            |content| json!({ "choices": [{ "message": { "content": content } }] }).to_string();
        assert_eq!(read(said(json!("SAME")).as_bytes()), Ok(true));
        let unreadable = |start: &str| Err(JudgeError::Unreadable { start: start.to_owned() });
        assert_eq!(read(said(json!(null)).as_bytes()), unreadable(""));
        assert_eq!(read(br#"{"choices":[]}"#), unreadable(""));
        let long = "é".repeat(10_000);
        assert_eq!(read(said(json!(long)).as_bytes()), unreadable(&"é".repeat(MAX_START)));
        for body in ["", "{}", r#"{"choices":[{"message":{"content":[]}}]}"#] {
            assert!(matches!(read(body.as_bytes()), Err(JudgeError::Failed { .. })), "{body}");
        }
    }
}
