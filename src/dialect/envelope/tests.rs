//! What the envelope takes from a body, and what it leaves as it was.

use bytes::Bytes;
use serde_json::{Value, json};

use super::*;

fn read(body: &str) -> Result<Envelope, Rejection> {
    Envelope::read(Bytes::copy_from_slice(body.as_bytes()))
}

#[test]
fn takes_what_routing_needs() {
    let body = json!({
        "model": "fast", "stream": true, "max_tokens": 7, "max_completion_tokens": 9, "n": 2,
        "messages": [{"role": "user", "content": "hi"}], "tools": [{}],
        "response_format": {"type": "json_object"}, "stream_options": {"include_usage": true},
        "user": "u1",
    });
    let envelope = read(&body.to_string()).unwrap();
    assert_eq!(envelope.model, "fast");
    assert!(envelope.stream && envelope.has_tools && envelope.has_response_format);
    assert!(envelope.include_usage);
    assert_eq!((envelope.max_tokens, envelope.n), (Some(9), Some(2)));
    assert_eq!(envelope.text("user").as_deref(), Some("u1"));
    let messages: Value = serde_json::from_slice(envelope.raw("messages").unwrap()).unwrap();
    assert_eq!(messages, body["messages"]);
}

#[test]
fn edits_leave_the_rest_as_it_was() {
    let envelope =
        read(r#"{ "model" : "a", "x":1 , "max_tokens": 5,"y" : [ 1 ] , "stream":true }"#).unwrap();
    let quirks = Quirks {
        max_tokens_param: MaxTokensParam::MaxCompletionTokens,
        drop_params: vec!["y".into()],
        ..Quirks::default()
    };
    let (body, dropped) = envelope.for_anthropic("b", &quirks);
    assert_eq!(body, &br#"{ "model" : "b", "x":1 , "max_tokens": 5 , "stream":true }"#[..]);
    assert_eq!(dropped.0, ["y"]);
}

fn problem(body: &[u8]) -> (String, Option<String>) {
    let rejection = Envelope::read(Bytes::copy_from_slice(body)).unwrap_err();
    assert_eq!(rejection.face().code, "invalid_request");
    (rejection.to_string(), rejection.param().map(str::to_owned))
}

#[test]
fn members_of_the_wrong_type_are_named() {
    for (member, param, expected) in [
        (r#""model":7"#, "model", "a string"),
        (r#""model":"""#, "model", "not empty"),
        (r#""x":1"#, "model", "missing"),
        (r#""model":null"#, "model", "missing"),
        (r#""model":"a","stream":"yes""#, "stream", "a boolean"),
        (r#""model":"a","messages":{}"#, "messages", "an array"),
        (r#""model":"a","max_tokens":1.5"#, "max_tokens", "a whole number"),
        (r#""model":"a","n":"1""#, "n", "a whole number"),
        (r#""model":"a","tools":1"#, "tools", "an array"),
        (r#""model":"a","stream_options":[]"#, "stream_options", "an object"),
        (
            r#""model":"a","stream_options":{"include_usage":1}"#,
            "stream_options.include_usage",
            "a boolean",
        ),
        (r#""model":"a","mod\u0065l":"b""#, "model", "twice"),
    ] {
        let (problem, named) = problem(format!("{{{member}}}").as_bytes());
        assert_eq!(named.as_deref(), Some(param), "{member}");
        assert!(problem.contains(expected), "{problem}");
    }
}

#[test]
fn the_place_where_a_body_stops_being_json_is_told() {
    for (body, expected) in [
        (&b"{\"model\": \"a\",\n \"\xC3\xA9\": tru }"[..], "`true` at line 2 column 10 (byte 25)"),
        (b"{\"a\": \xFF}", "UTF-8 text at line 1 column 7 (byte 6)"),
        (b"{} {}", "nothing after the end at line 1 column 4"),
        (b"{\"a\":\"\n\"}", "an escape instead of a raw control character"),
        (b"{\"a\":\"x", "where the body ends"),
        (b"{\"a\":1,}", "a key in quotes"),
        (b"[1,]", "a value at line 1 column 4"),
        (b"[1]", "must be a JSON object"),
        (b" \n", "the body is empty"),
    ] {
        let (problem, param) = problem(body);
        assert!(problem.contains(expected), "{problem}");
        assert_eq!(param, None);
    }
}

#[test]
fn nesting_is_bounded_where_the_decoder_bounds_it() {
    for depth in [1, 60, 125, 126, 127, 128, 5_000] {
        let value = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        let body = format!("{{\"model\":\"a\",\"x\":{value}}}");
        let decodes = serde_json::from_str::<Value>(&body).is_ok();
        assert_eq!(read(&body).is_ok(), decodes, "{depth}");
    }
}

#[test]
fn too_many_members_are_refused() {
    let members: Vec<String> = (0..300).map(|n| format!("\"k{n}\":0")).collect();
    let (problem, _) = problem(format!("{{{}}}", members.join(",")).as_bytes());
    assert!(problem.contains("more than 256"), "{problem}");
}

#[test]
fn a_body_that_needs_no_edit_is_not_copied() {
    let envelope = read(r#"{"model":"a","stream":true,"stream_options":{"include_usage":true}}"#);
    let envelope = envelope.unwrap();
    let (body, dropped) = envelope.for_openai_chat("a", &Quirks::default(), true);
    assert_eq!(body.as_ptr(), envelope.body().as_ptr());
    assert_eq!(dropped, Dropped::default());
}

#[test]
fn usage_is_asked_for_where_the_caller_did_not() {
    let quirks = Quirks::default();
    for (body, usage, expected) in [
        (r#"{"model":"a","stream":true}"#, true, json!({"include_usage": true})),
        (r#"{"model":"a","stream":true}"#, false, Value::Null),
        (r#"{"model":"a"}"#, true, Value::Null),
        (
            r#"{"model":"a","stream":true,"stream_options":{"x":1,"include_usage":false}}"#,
            true,
            json!({"x": 1, "include_usage": true}),
        ),
        (
            r#"{"model":"a","stream":true,"stream_options":null}"#,
            true,
            json!({"include_usage": true}),
        ),
    ] {
        let (edited, _) = read(body).unwrap().for_openai_chat("a", &quirks, usage);
        let edited: Value = serde_json::from_slice(&edited).unwrap();
        assert_eq!(edited["stream_options"], expected, "{body}");
    }
    let always = Quirks { stream_usage: StreamUsage::Always, ..Quirks::default() };
    let body = r#"{"stream_options":{"include_usage":true},"model":"a","stream":true}"#;
    let (edited, _) = read(body).unwrap().for_openai_chat("a", &always, true);
    assert_eq!(edited, r#"{"model":"a","stream":true}"#);
}

#[test]
fn the_token_cap_takes_the_name_the_provider_knows() {
    let quirks = |max_tokens_param| Quirks { max_tokens_param, ..Quirks::default() };
    let edit = |body: &str, param| {
        let (edited, dropped) = read(body).unwrap().for_openai_chat("a", &quirks(param), false);
        (String::from_utf8(edited.to_vec()).unwrap(), dropped.0)
    };
    let chat = r#"{"model":"a","messages":[],"max_tokens":5}"#;
    let renamed = r#"{"model":"a","messages":[],"max_completion_tokens":5}"#;
    assert_eq!(edit(chat, MaxTokensParam::MaxCompletionTokens), (renamed.into(), vec![]));
    assert_eq!(edit(renamed, MaxTokensParam::MaxTokens), (chat.into(), vec![]));
    assert_eq!(edit(chat, MaxTokensParam::AsSent), (chat.into(), vec![]));
    let both = r#"{"max_tokens":5,"max_completion_tokens":6,"model":"a","messages":[]}"#;
    let one = r#"{"max_completion_tokens":6,"model":"a","messages":[]}"#;
    let dropped = vec!["max_tokens".to_owned()];
    assert_eq!(edit(both, MaxTokensParam::MaxCompletionTokens), (one.into(), dropped));
    let legacy = r#"{"model":"a","prompt":"p","max_tokens":5}"#;
    assert_eq!(edit(legacy, MaxTokensParam::MaxCompletionTokens), (legacy.into(), vec![]));
}

#[test]
fn a_developer_message_needs_a_decode_where_the_role_is_unknown() {
    let system = Quirks { system_role: SystemRole::System, ..Quirks::default() };
    let envelope =
        |role: &str| read(&format!(r#"{{"model":"a","messages":[{{"role":"{role}"}}]}}"#)).unwrap();
    assert!(envelope("developer").needs_decode(&system));
    assert!(envelope("d\\u0065veloper").needs_decode(&system));
    assert!(!envelope("developer").needs_decode(&Quirks::default()));
    assert!(!envelope("system").needs_decode(&system));
}

#[test]
fn a_frame_gets_one_more_member() {
    for (frame, expected) in [
        (&b"data: {\"a\":1}\n\n"[..], Some(&b"data: {\"a\":1,\"tidegate\":{}}\n\n"[..])),
        (b"event: x\ndata:{ } \r\n\r\n", Some(b"event: x\ndata:{ \"tidegate\":{}} \r\n\r\n")),
        (b"data: [DONE]\n\n", None),
        (b": ping\n\n", None),
        (b"data: {\ndata: }\n\n", None),
    ] {
        assert_eq!(extend_frame(frame, "tidegate", b"{}").as_deref(), expected);
    }
}

mod properties {
    use proptest::prelude::*;
    use serde_json::Map;
    use serde_json::value::RawValue;

    use super::*;

    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            "\\PC{0,80}".prop_map(Value::from),
            "[\"\\\\/\u{0}-\u{1f}é𝄞]{0,6}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::vec(("[a-z\"é]{0,3}", inner), 0..4)
                    .prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
            ]
        })
    }

    fn body() -> impl Strategy<Value = Map<String, Value>> {
        let key = prop::sample::select(&["x", "y", "zé\"", "user", "max_tokens", "stream_options"]);
        let pairs = prop::collection::vec((key, json()), 0..6);
        (pairs, 0..7usize).prop_map(|(pairs, at)| {
            let mut map = Map::new();
            for (position, (key, value)) in pairs.into_iter().enumerate() {
                if position == at {
                    map.insert("model".into(), "a".into());
                }
                let value = match key {
                    "max_tokens" => 5.into(),
                    "stream_options" => json!({"x": 1}),
                    _ => value,
                };
                map.insert(key.to_owned(), value);
            }
            map.entry("model").or_insert_with(|| "a".into());
            map
        })
    }

    fn text(map: &Map<String, Value>, pretty: bool) -> String {
        match pretty {
            true => serde_json::to_string_pretty(map).unwrap(),
            false => serde_json::to_string(map).unwrap(),
        }
    }

    proptest! {
        #[test]
        fn what_is_json_is_judged_as_by_serde(
            map in body(),
            pretty in any::<bool>(),
            edits in prop::collection::vec(
                (any::<prop::sample::Index>(), 0u8..3, any::<u8>(), any::<bool>()),
                0..3,
            ),
        ) {
            let mut bytes = text(&map, pretty).into_bytes();
            for (at, how, with, likely) in edits {
                let at = at.index(bytes.len());
                let likely_bytes = b"{}[]\",:\\0-.eEu tfn\n";
                let with = if likely { likely_bytes[usize::from(with) % likely_bytes.len()] } else { with };
                match how {
                    0 => drop(bytes.remove(at)),
                    1 => bytes[at] = with,
                    _ => bytes.insert(at, with),
                }
            }
            let valid = serde_json::from_slice::<Box<RawValue>>(&bytes).is_ok();
            let rejected = match Envelope::read(Bytes::from(bytes.clone())) {
                Ok(_) => false,
                Err(rejection) => rejection.to_string().contains("is not valid JSON"),
            };
            // A key that is no text (a lone surrogate) is refused at the top, where it is read.
            let shown = String::from_utf8_lossy(&bytes).into_owned();
            prop_assert!(valid != rejected || shown.contains("\\u"), "{}", shown);
        }

        #[test]
        fn edits_do_what_they_say_and_nothing_else(
            map in body(),
            pretty in any::<bool>(),
            removed in prop::collection::vec(
                prop::sample::select(&["x", "y", "zé\"", "user", "stream_options", "absent"]), 0..4),
            model in "\\PC{0,8}",
            set in prop::option::of(prop::sample::select(&["new", "x", "tools"])),
            renamed in any::<bool>(),
        ) {
            let text = text(&map, pretty);
            // Read back, because a float may change when it is written and read.
            let mut expected: Map<String, Value> = serde_json::from_str(&text).unwrap();
            let envelope = Envelope::read(text.into()).unwrap();
            let mut splice = Splice::new(&envelope);
            splice.set_text("model", &model);
            expected.insert("model".into(), model.into());
            if let Some(key) = set.filter(|key| !removed.contains(key)) {
                splice.set(key, b"[1]".to_vec());
                expected.insert(key.to_owned(), json!([1]));
            }
            if renamed {
                prop_assert!(splice.rename("max_tokens", "max_completion_tokens"));
                if let Some(value) = expected.remove("max_tokens") {
                    expected.insert("max_completion_tokens".into(), value);
                }
            }
            for key in &removed {
                splice.remove(key);
                expected.remove(*key);
            }
            let filled = splice.clone().into_envelope();
            let edited = splice.finish();
            // What is known of an edited request is what a reader of it would say.
            let as_read = Envelope::read(edited.clone());
            prop_assert_eq!(format!("{filled:?}"), format!("{as_read:?}"));
            let edited: Value = serde_json::from_slice(&edited).unwrap();
            prop_assert_eq!(edited, Value::Object(expected));
        }
    }
}

/// Long texts are stepped over by many bytes at a time, and their beginnings and ends by fewer.
#[test]
fn what_means_something_in_a_string_is_seen_wherever_it_stands() {
    for length in 0..400 {
        let plain = format!("\"{}\"", "ü".repeat(length / 2) + &"x".repeat(length % 2));
        let stepped = json::skip_string(plain.as_bytes(), 0).expect("a string");
        assert_eq!((stepped.end, stepped.escaped), (plain.len(), false), "{length}");
    }
    let length = 333;
    for at in 0..length {
        let (before, after) = ("x".repeat(at), "x".repeat(length - at));
        let with = |special: &str| format!("\"{before}{special}{after}\"");
        assert_eq!(json::skip_string(with("\"").as_bytes(), 0).expect("a string").end, at + 2);
        let escaped = json::skip_string(with("\\n").as_bytes(), 0).expect("a string");
        assert_eq!((escaped.end, escaped.escaped), (length + 4, true), "{at}");
        for control in ["\n", "\0", "\u{1f}"] {
            let broken = json::skip_string(with(control).as_bytes(), 0).expect_err("no string");
            assert_eq!(broken.at, at + 1);
        }
    }
}
