//! What the body of `POST /v1/feedback` says. Whatever is wrong with it, the refusal names the
//! field.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use crate::feedback::{Opinion, Thumb};
use crate::ids::RequestId;
use crate::rejection::Rejection;

/// What somebody says of a request.
#[derive(Debug, PartialEq)]
pub(super) struct Wish {
    pub(super) request_id: RequestId,
    pub(super) opinion: Opinion,
}

/// The members of a [`Wish`], not read yet. `null` is the same as absent.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Members {
    request_id: Option<Box<RawValue>>,
    thumb: Option<Box<RawValue>>,
    score: Option<Box<RawValue>>,
    label: Option<Box<RawValue>>,
    regenerate: Option<Box<RawValue>>,
    comment: Option<Box<RawValue>>,
}

/// The longest texts, in characters.
const MAX_ID_CHARS: usize = 128;
const MAX_LABEL_CHARS: usize = 64;
const MAX_COMMENT_CHARS: usize = 4_000;
/// So much of the name of an unknown field is repeated to who sent it.
const MAX_NAME_CHARS: usize = 64;

// === impl Wish ===

impl Wish {
    /// Reads the body of a request.
    ///
    /// # Errors
    ///
    /// [`Rejection::Invalid`], with the field unless it is about the body as a whole.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, Rejection> {
        let Members { request_id, thumb, score, label, regenerate, comment } =
            serde_json::from_slice(bytes).map_err(|error| unread(&error))?;
        let request_id = text("request_id", request_id, MAX_ID_CHARS)?.ok_or_else(|| {
            let problem = "`request_id` is missing; it is the `x-request-id` of the answer";
            Rejection::invalid("request_id", problem)
        })?;
        let opinion = Opinion {
            thumb: read_thumb(thumb)?,
            score: read_score(score)?,
            label: text("label", label, MAX_LABEL_CHARS)?,
            regenerate: read_regenerate(regenerate)?,
            comment: text("comment", comment, MAX_COMMENT_CHARS)?,
        };
        if opinion == Opinion::default() {
            let problem = "feedback needs one or more of `thumb`, `score`, `label`, `regenerate` and \
                           `comment`";
            return Err(Rejection::Invalid { problem: problem.to_owned(), param: None });
        }
        Ok(Self { request_id: RequestId::new(request_id), opinion })
    }
}

fn read_thumb(member: Option<Box<RawValue>>) -> Result<Option<Thumb>, Rejection> {
    let right = "`up` or `down`";
    let Some(word) = read::<String>("thumb", member, right)? else { return Ok(None) };
    let thumb = Thumb::ALL.into_iter().find(|thumb| thumb.as_str() == word);
    thumb.map(Some).ok_or_else(|| wrong("thumb", right))
}

fn read_score(member: Option<Box<RawValue>>) -> Result<Option<f64>, Rejection> {
    let right = "a number from 0 to 1";
    let Some(score) = read::<f64>("score", member, right)? else { return Ok(None) };
    if (0.0..=1.0).contains(&score) { Ok(Some(score)) } else { Err(wrong("score", right)) }
}

fn read_regenerate(member: Option<Box<RawValue>>) -> Result<bool, Rejection> {
    let right = "`true`, or be left out";
    match read::<bool>("regenerate", member, right)? {
        None => Ok(false),
        Some(true) => Ok(true),
        Some(false) => Err(wrong("regenerate", right)),
    }
}

/// Reads a text of 1 to `most` characters.
fn text(
    name: &str,
    member: Option<Box<RawValue>>,
    most: usize,
) -> Result<Option<String>, Rejection> {
    let right = format!("a text of 1 to {most} characters");
    let Some(text) = read::<String>(name, member, &right)? else { return Ok(None) };
    if text.contains('\0') {
        return Err(Rejection::invalid(name, format!("`{name}` must not hold a NUL (\\u0000)")));
    }
    if text.trim().is_empty() || text.chars().nth(most).is_some() {
        return Err(wrong(name, &right));
    }
    Ok(Some(text))
}

/// Reads a member that should be `right`.
fn read<T: DeserializeOwned>(
    name: &str,
    member: Option<Box<RawValue>>,
    right: &str,
) -> Result<Option<T>, Rejection> {
    let read = member.map(|member| serde_json::from_str(member.get())).transpose();
    read.map_err(|_| wrong(name, right))
}

fn wrong(name: &str, right: &str) -> Rejection {
    Rejection::invalid(name, format!("`{name}` must be {right}"))
}

/// Why the members could not be told apart. Of those whose names are wrong, serde says the name in
/// its message and nowhere else.
fn unread(error: &serde_json::Error) -> Rejection {
    let text = error.to_string();
    let named = text.split_once(" field `").and_then(|(why, rest)| {
        let (name, _) = rest.split_once('`')?;
        Some((why, name.chars().take(MAX_NAME_CHARS).collect::<String>()))
    });
    match named {
        Some(("unknown", name)) => {
            let problem = format!(
                "feedback has no field `{name}`; it has `request_id`, `thumb`, `score`, `label`, \
                 `regenerate` and `comment`"
            );
            Rejection::invalid(name, problem)
        }
        Some((_, name)) => {
            let problem = format!("`{name}` is there more than once");
            Rejection::invalid(name, problem)
        }
        None => {
            Rejection::Invalid { problem: format!("the body is no feedback: {text}"), param: None }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_wrong_is_named() {
        let (long, longer) = ("x".repeat(65), "x".repeat(4_001));
        let cases = [
            ("[1]".to_owned(), None, "the body is no feedback"),
            (r#"{"thumb":"#.to_owned(), None, "the body is no feedback"),
            (r#"{"thumb":"up"}"#.to_owned(), Some("request_id"), "is missing"),
            (r#"{"request_id":null}"#.to_owned(), Some("request_id"), "is missing"),
            (r#"{"request_id":"r"}"#.to_owned(), None, "needs one or more of `thumb`"),
            (r#"{"request_id":"r","thumb":null}"#.to_owned(), None, "needs one or more"),
            (r#"{"request_id":7}"#.to_owned(), Some("request_id"), "1 to 128 characters"),
            (r#"{"request_id":"","score":1}"#.to_owned(), Some("request_id"), "1 to 128"),
            (
                r#"{"request_id":"r","thumb":"sideways"}"#.to_owned(),
                Some("thumb"),
                "`up` or `down`",
            ),
            (r#"{"request_id":"r","thumb":1}"#.to_owned(), Some("thumb"), "`up` or `down`"),
            (r#"{"request_id":"r","score":2}"#.to_owned(), Some("score"), "from 0 to 1"),
            (r#"{"request_id":"r","score":-0.1}"#.to_owned(), Some("score"), "from 0 to 1"),
            (r#"{"request_id":"r","score":1e999}"#.to_owned(), Some("score"), "from 0 to 1"),
            (r#"{"request_id":"r","score":"1"}"#.to_owned(), Some("score"), "from 0 to 1"),
            (r#"{"request_id":"r","label":""}"#.to_owned(), Some("label"), "1 to 64 characters"),
            (r#"{"request_id":"r","label":" "}"#.to_owned(), Some("label"), "1 to 64 characters"),
            (format!(r#"{{"request_id":"r","label":"{long}"}}"#), Some("label"), "1 to 64"),
            (r#"{"request_id":"r","label":"a\u0000"}"#.to_owned(), Some("label"), "a NUL"),
            (r#"{"request_id":"a\u0000","score":1}"#.to_owned(), Some("request_id"), "a NUL"),
            (format!(r#"{{"request_id":"r","comment":"{longer}"}}"#), Some("comment"), "4000"),
            (r#"{"request_id":"r","regenerate":false}"#.to_owned(), Some("regenerate"), "`true`"),
            (r#"{"request_id":"r","regenerate":1}"#.to_owned(), Some("regenerate"), "`true`"),
            (r#"{"request_id":"r","stars":5}"#.to_owned(), Some("stars"), "no field `stars`"),
            (
                r#"{"request_id":"r","score":1,"score":0}"#.to_owned(),
                Some("score"),
                "more than once",
            ),
        ];
        for (body, param, words) in cases {
            let rejection = Wish::read(body.as_bytes()).unwrap_err();
            assert_eq!(rejection.param(), param, "{body:.80}");
            assert!(rejection.to_string().contains(words), "{body:.80}: {rejection}");
        }
    }

    #[test]
    fn everything_may_be_said_at_once() {
        let body = r#"{"request_id":"req_1","thumb":"down","score":0.25,"label":"off topic",
            "regenerate":true,"comment":"Grüße ✂"}"#;
        let said = Wish::read(body.as_bytes()).unwrap();
        assert_eq!(said.request_id.as_str(), "req_1");
        let opinion = Opinion {
            thumb: Some(Thumb::Down),
            score: Some(0.25),
            label: Some("off topic".to_owned()),
            regenerate: true,
            comment: Some("Grüße ✂".to_owned()),
        };
        assert_eq!(said.opinion, opinion);
    }
}
