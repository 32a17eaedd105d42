//! Bodies of callers: what routing reads of them, what is spliced into them, and what they ask.

use bytes::Bytes;
use serde::de::IgnoredAny;
use serde_json::{Map, Value};
use tidegate::cache::{Key, Question, RouteIdentity, Tenant};
use tidegate::dialect::{Dialect, Envelope, Quirks, append_member, extend_frame};
use tidegate::ids::CallerId;

pub(crate) fn envelope(bytes: &[u8]) {
    extend_frame(bytes, "tidegate", br#"{"a":1}"#);
    let body = Bytes::copy_from_slice(bytes);
    let Ok(envelope) = Envelope::read(body.clone()) else { return };
    serde_json::from_slice::<IgnoredAny>(bytes).expect("what passes on is JSON");
    let quirks = Quirks::default();
    let spliced = [
        envelope.for_openai_chat("other", &quirks, true).0,
        envelope.for_anthropic("other", &quirks).0,
    ];
    for spliced in spliced {
        let again = Envelope::read(spliced).expect("what was spliced can be read");
        assert_eq!(again.model, "other");
        assert_eq!(again.stream, envelope.stream);
        for kept in ["messages", "tools", "prompt", "input", "user", "temperature"] {
            assert_eq!(again.raw(kept), envelope.raw(kept), "{kept}");
        }
    }
    if !envelope.has("tidegate_added") && envelope.raw("tidegate_added").is_none() {
        let added = append_member(&body, "tidegate_added", "a \"word\"\r\n");
        let again = Envelope::read(added).expect("what was added to can be read");
        assert_eq!(again.text("tidegate_added").as_deref(), Some("a \"word\"\r\n"));
        assert_eq!(again.model, envelope.model);
    }
}

fn key(body: &[u8]) -> Option<Key> {
    let caller = CallerId::new("key_1");
    let route = RouteIdentity::of(&"route".into(), []);
    Key::of(&Question {
        tenant: Tenant::Caller(&caller),
        route: &route,
        prompt: None,
        endpoint: "chat",
        dialect: Dialect::OpenAiChat,
        headers: &[],
        body,
    })
}

/// The same value with the members of each object the other way round.
fn turned(value: Value) -> Value {
    match value {
        Value::Array(items) => Value::Array(items.into_iter().map(turned).collect()),
        Value::Object(members) => {
            let members = members.into_iter().rev().map(|(name, member)| (name, turned(member)));
            Value::Object(members.collect::<Map<_, _>>())
        }
        plain @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) => plain,
    }
}

pub(crate) fn cache_key(bytes: &[u8]) {
    let Some(before) = key(bytes) else { return };
    // What does not count is not looked into, and may hold what is no text. Envelopes refuse that.
    let Ok(value) = serde_json::from_slice::<Value>(bytes) else { return };
    let other = turned(value.clone()).to_string();
    assert_eq!(key(other.as_bytes()), Some(before), "{other}");
    if let Value::Object(mut members) = value {
        members.insert("something nobody has heard of".to_owned(), Value::from("x"));
        let more = Value::Object(members).to_string();
        assert_ne!(key(more.as_bytes()), Some(before), "{more}");
    }
}
