//! What the body of `POST /v1/jobs` asks for. Whatever is wrong with it, the refusal names the
//! field.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::rejection::Rejection;
use crate::units::Priority;

/// What a request to `POST /v1/jobs` asks for.
#[derive(Debug)]
pub(super) struct Wish {
    pub(super) endpoint: String,
    pub(super) body: Box<RawValue>,
    pub(super) priority: Option<Priority>,
    pub(super) deadline: Option<Value>,
    pub(super) webhook: Option<WebhookWish>,
    pub(super) metadata: Map<String, Value>,
}

#[derive(Debug)]
pub(super) struct WebhookWish {
    pub(super) url: String,
    pub(super) secret: Option<String>,
}

/// The members of a [`Wish`], not read yet. `null` is the same as absent.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Members {
    endpoint: Option<Box<RawValue>>,
    body: Option<Box<RawValue>>,
    priority: Option<Box<RawValue>>,
    deadline: Option<Box<RawValue>>,
    webhook: Option<Box<RawValue>>,
    metadata: Option<Box<RawValue>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WebhookMembers {
    url: Option<Box<RawValue>>,
    secret: Option<Box<RawValue>>,
}

/// So much of the name of an unknown field is repeated to who sent it.
const MAX_NAME_CHARS: usize = 64;

// === impl Wish ===

impl Wish {
    /// Reads the body of a request.
    ///
    /// # Errors
    ///
    /// [`Rejection::Invalid`], with the field unless the body is no JSON object at all.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, Rejection> {
        let Members { endpoint, body, priority, deadline, webhook, metadata } =
            serde_json::from_slice(bytes).map_err(|error| unread(&error, ""))?;
        let endpoint = read("endpoint", endpoint, "a text such as `/v1/chat/completions`")?;
        Ok(Self {
            endpoint: endpoint.ok_or_else(|| missing("endpoint"))?,
            body: body.ok_or_else(|| missing("body"))?,
            priority: read("priority", priority, "a whole number from 0 (highest) to 4")?,
            deadline: read("deadline", deadline, "a time")?,
            webhook: webhook.map(|webhook| WebhookWish::read(&webhook)).transpose()?,
            metadata: read("metadata", metadata, "an object")?.unwrap_or_default(),
        })
    }
}

// === impl WebhookWish ===

impl WebhookWish {
    fn read(webhook: &RawValue) -> Result<Self, Rejection> {
        let read_webhook = serde_json::from_str(webhook.get());
        let WebhookMembers { url, secret } =
            read_webhook.map_err(|error| unread(&error, "webhook."))?;
        let url = read("webhook.url", url, "a text such as `https://example.com/hooks`")?;
        Ok(Self {
            url: url.ok_or_else(|| missing("webhook.url"))?,
            secret: read("webhook.secret", secret, "a text such as `whsec_…`")?,
        })
    }
}

/// Reads a member that should be `right`.
fn read<T: DeserializeOwned>(
    name: &str,
    member: Option<Box<RawValue>>,
    right: &str,
) -> Result<Option<T>, Rejection> {
    let read = member.map(|member| serde_json::from_str(member.get())).transpose();
    read.map_err(|_| Rejection::invalid(name, format!("`{name}` must be {right}")))
}

fn missing(name: &str) -> Rejection {
    Rejection::invalid(name, format!("`{name}` is missing"))
}

/// Why the members of an object could not be told apart. Of those whose names are wrong, serde says
/// the name in its message and nowhere else.
fn unread(error: &serde_json::Error, within: &str) -> Rejection {
    let text = error.to_string();
    let named = text.split_once(" field `").and_then(|(why, rest)| {
        let (name, _) = rest.split_once('`')?;
        Some((why, name.chars().take(MAX_NAME_CHARS).collect::<String>()))
    });
    match (named, within) {
        (Some(("unknown", name)), "") => Rejection::invalid(
            name.as_str(),
            format!(
                "a job has no field `{name}`; it has `endpoint`, `body`, `priority`, `deadline`, \
                 `webhook` and `metadata`"
            ),
        ),
        (Some(("unknown", name)), _) => Rejection::invalid(
            format!("{within}{name}"),
            format!("`webhook` has no field `{name}`; it has `url` and `secret`"),
        ),
        (Some((_, name)), _) => {
            let name = format!("{within}{name}");
            Rejection::invalid(name.as_str(), format!("`{name}` is there more than once"))
        }
        (None, "") => {
            Rejection::Invalid { problem: format!("the body is no job: {text}"), param: None }
        }
        (None, _) => Rejection::invalid("webhook", "`webhook` must be an object with a `url`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_wrong_is_named() {
        let start = r#""endpoint":"/v1/messages","body":{}"#;
        let long = "x".repeat(1_000);
        let cases = [
            ("[1]".to_owned(), None, "the body is no job"),
            (r#"{"endpoint":"#.to_owned(), None, "the body is no job"),
            (r#"{"body":{}}"#.to_owned(), Some("endpoint"), "`endpoint` is missing"),
            (r#"{"endpoint":null,"body":{}}"#.to_owned(), Some("endpoint"), "is missing"),
            (r#"{"endpoint":"/v1/messages"}"#.to_owned(), Some("body"), "`body` is missing"),
            (r#"{"endpoint":7,"body":{}}"#.to_owned(), Some("endpoint"), "must be a text such"),
            (format!(r#"{{{start},"colour":1}}"#), Some("colour"), "it has `endpoint`, `body`"),
            (format!(r#"{{{start},"{long}":1}}"#), long.get(..64), "a job has no field"),
            (format!(r#"{{{start},"body":{{}}}}"#), Some("body"), "`body` is there more than once"),
            (format!(r#"{{{start},"priority":9}}"#), Some("priority"), "from 0 (highest) to 4"),
            (format!(r#"{{{start},"metadata":[]}}"#), Some("metadata"), "must be an object"),
            (format!(r#"{{{start},"webhook":"x"}}"#), Some("webhook"), "must be an object"),
            (format!(r#"{{{start},"webhook":{{}}}}"#), Some("webhook.url"), "is missing"),
            (
                format!(r#"{{{start},"webhook":{{"url":"u","uri":1}}}}"#),
                Some("webhook.uri"),
                "it has `url` and `secret`",
            ),
            (
                format!(r#"{{{start},"webhook":{{"url":"u","secret":1}}}}"#),
                Some("webhook.secret"),
                "must be a text such as `whsec_",
            ),
        ];
        for (body, param, words) in cases {
            let rejection = Wish::read(body.as_bytes()).unwrap_err();
            assert_eq!(rejection.param(), param, "{body}");
            assert!(rejection.to_string().contains(words), "{body}: {rejection}");
        }
    }

    #[test]
    fn what_is_null_is_as_if_it_were_absent() {
        let wish = r#"{"endpoint":"/v1/messages","body":{"a":1},"priority":null,"deadline":null,
            "webhook":null,"metadata":null}"#;
        let wish = Wish::read(wish.as_bytes()).unwrap();
        assert_eq!((&*wish.endpoint, wish.body.get()), ("/v1/messages", r#"{"a":1}"#));
        assert!(wish.priority.is_none() && wish.deadline.is_none() && wish.webhook.is_none());
        assert!(wish.metadata.is_empty());
    }
}
