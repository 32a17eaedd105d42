//! Tests of what is looked for, and of what keeps requests apart.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::tests::asked;
use super::*;
use crate::cache::{RouteIdentity, Tenant};
use crate::dialect::Dialect;
use crate::ids::{CallerId, ModelName, ProviderId, RouteName, TeamId};

const ASK: &str = "What is a hash map?";

fn of(body: &Value) -> Result<Query, Unfit> {
    asked("ann", body.to_string().as_bytes())
}

fn ask() -> Value {
    json!({
        "model": "faq",
        "temperature": 0,
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "Hello"},
            {"role": "user", "content": ASK},
        ],
    })
}

/// The usual body with a place in it changed.
fn with(pointer: &str, value: Value) -> Value {
    let mut body = ask();
    match pointer.rsplit_once('/').unwrap() {
        ("", name) => body[name] = value,
        (parent, name) => match body.pointer_mut(parent).unwrap() {
            Value::Array(items) => items[name.parse::<usize>().unwrap()] = value,
            object @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) => {
                panic!("no member {name} of {object}")
            }
            object @ Value::Object(_) => object[name] = value,
        },
    }
    body
}

#[test]
fn the_words_are_the_users_last_ones_as_a_string_or_as_the_only_part() {
    let bodies = [
        ask(),
        with("/messages/3/content", json!([{"type": "text", "text": ASK}])),
        // Anthropic's.
        json!({"system": "Be brief.", "max_tokens": 9, "messages": [{"role": "user", "content": ASK}]}),
        json!({"system": [{"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}}],
            "messages": [{"role": "user", "content": [{"type": "text", "text": ASK}]}]}),
    ];
    for body in bodies {
        assert_eq!(&**of(&body).unwrap().text(), ASK, "{body}");
    }
    let escaped = br#"{"messages":[ {"content" : "What is a \"h\u00e4sh\" m\u0061p?" ,"role":"us\u0065r"} ] }"#;
    assert_eq!(&**asked("ann", escaped).unwrap().text(), "What is a \"häsh\" map?");
}

#[test]
fn what_does_not_end_with_one_text_of_a_user_has_no_last_words() {
    let picture = json!({"type": "image_url", "image_url": {"url": "data:"}});
    let text = json!({"type": "text", "text": ASK});
    let bodies = [
        json!(null),
        json!([]),
        json!({}),
        json!({"input": ASK}),
        json!({"messages": null}),
        json!({"messages": []}),
        json!({"messages": ASK}),
        json!({"messages": [null]}),
        json!({"messages": [["user", ASK]]}),
        json!({"messages": [{"role": "user"}]}),
        json!({"messages": [{"content": ASK}]}),
        with("/messages/3/role", json!("assistant")),
        with("/messages/3/role", json!("tool")),
        with("/messages/3/role", json!("User")),
        with("/messages/3/role", json!(null)),
        with("/messages/3/content", json!(null)),
        with("/messages/3/content", json!(7)),
        with("/messages/3/content", json!([])),
        with("/messages/3/content", json!({"type": "text", "text": ASK})),
        with("/messages/3/content", json!([ASK])),
        with("/messages/3/content", json!([["text", ASK]])),
        with("/messages/3/content", json!([text, text])),
        with("/messages/3/content", json!([text, picture])),
        with("/messages/3/content", json!([picture])),
        with("/messages/3/content", json!([{"type": "tool_result", "text": ASK}])),
        with("/messages/3/content", json!([{"type": "text", "text": null}])),
        with("/messages/3/content", json!([{"type": "text", "text": [ASK]}])),
        with("/messages/3/content", json!([{"type": "text"}])),
    ];
    for body in bodies {
        assert_eq!(of(&body).unwrap_err(), Unfit::NoLastWords, "{body}");
    }
}

#[test]
fn what_can_be_read_in_two_ways_or_not_at_all_has_no_last_words() {
    let deep = |open: &str, close: &str| {
        let (open, close) = (open.repeat(10_000), close.repeat(10_000));
        format!(r#"{{"x":{open}1{close},"messages":[{{"role":"user","content":"{ASK}"}}]}}"#)
    };
    let bodies = [
        String::new(),
        "{".to_owned(),
        deep("[", "]"),
        deep("{\"a\":", "}"),
        format!(
            r#"{{"messages":[{{"role":"user","content":{}"x"{}}}]}}"#,
            "[".repeat(9_000),
            "]".repeat(9_000)
        ),
        r#"{"messages":[{"role":"user","content":"What is a map?","content":"What is a set?"}]}"#
            .to_owned(),
        r#"{"messages":[{"role":"tool","role":"user","content":"What is a map?"}]}"#.to_owned(),
        r#"{"messages":[],"messages":[{"role":"user","content":"What is a map?"}]}"#.to_owned(),
        r#"{"top_p":1,"top_p":0,"messages":[{"role":"user","content":"What is a map?"}]}"#
            .to_owned(),
        r#"{"messages":[{"role":"user","content":"What is a \ud800 map?"}]}"#.to_owned(),
        r#"{"messages":[{"role":"user","content":"What is a map?"}]} {}"#.to_owned(),
    ];
    for body in bodies {
        let unfit = asked("ann", body.as_bytes()).unwrap_err();
        assert_eq!(unfit, Unfit::NoLastWords, "{:.80}", body);
    }
    let cut = b"{\"messages\":[{\"role\":\"user\",\"content\":\"What is a m\xffap?\"}]}";
    assert_eq!(asked("ann", cut).unwrap_err(), Unfit::NoLastWords);
}

#[test]
fn what_is_too_much_or_says_nothing_is_not_looked_for() {
    let huge = with("/x", json!("x".repeat(MAX_BODY_BYTES)));
    assert_eq!(of(&huge).unwrap_err(), Unfit::TooLarge);
    for text in ["".to_owned(), " ?! ".to_owned(), "word ".repeat(300), "x".repeat(5_000)] {
        let body = with("/messages/3/content", json!(text));
        assert_eq!(of(&body).unwrap_err(), Unfit::Unreadable, "{text:.20}");
    }
}

#[test]
fn other_words_and_what_shapes_nothing_are_in_one_namespace() {
    let usual = of(&ask()).unwrap().namespace;
    let bodies = [
        with("/messages/3/content", json!("Who was Ada Lovelace?")),
        with("/stream", json!(true)),
        with("/stream_options", json!({"include_usage": true})),
        with("/user", json!("ann")),
        with("/metadata", json!({"a": 1})),
        with("/model", json!("other")),
        with("/temperature", json!(0.0)),
    ];
    for body in bodies {
        assert_eq!(of(&body).unwrap().namespace, usual, "{body}");
    }
    let spaced = ask().to_string().replace("\":", "\" :\n");
    assert_eq!(asked("ann", spaced.as_bytes()).unwrap().namespace, usual);
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn whatever_else_differs_is_in_another_namespace() {
    let mut seen: Vec<(Key, String)> = Vec::new();
    let mut note = |namespace: Key, what: String| {
        let other = seen.iter().find(|(known, _)| *known == namespace);
        assert!(other.is_none(), "{what} is with {other:?}");
        seen.push((namespace, what));
    };
    let part = |more: Value| {
        let mut part = json!({"type": "text", "text": ASK});
        part.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        with("/messages/3/content", json!([part]))
    };
    let bodies = [
        ask(),
        with("/temperature", json!(1)),
        with("/temperature", json!("0")),
        with("/seed", json!(9_007_199_254_740_992_u64)),
        with("/seed", json!(9_007_199_254_740_993_u64)),
        with("/seed", json!(u64::MAX)),
        with("/seed", json!(u64::MAX - 1)),
        with("/seed", json!(i64::MIN)),
        with("/seed", json!(i64::MIN + 1)),
        with("/messages/0/content", json!("Be long.")),
        with("/messages/0/role", json!("developer")),
        with("/messages/1/content", json!("Ho")),
        with("/messages/2/content", json!("Hallo")),
        with("/messages/3/name", json!("bob")),
        with("/messages/3/name", json!("ann")),
        with("/messages/3/cache_control", json!({"type": "ephemeral"})),
        with("/tools", json!([])),
        with("/tools", json!([{"type": "function", "function": {"name": "f"}}])),
        // What serde_json would read as the value that is written in it.
        with("/tools", json!({"$serde_json::private::RawValue": "[]"})),
        with("/tools", json!({"$serde_json::private::Number": "1"})),
        with("/n", json!(null)),
        with("/member_of_tomorrow", json!(1)),
        part(json!({})),
        part(json!({"cache_control": {"type": "ephemeral"}})),
        part(json!({"cache_control": {"type": "ephemeral", "ttl": "1h"}})),
    ];
    for body in &bodies {
        note(of(body).unwrap().namespace, body.to_string());
    }
    let (provider, model) = (ProviderId::new("p"), ModelName::new("m"));
    let route = RouteIdentity::of(&RouteName::new("faq"), [(0, &provider, &model)]);
    let other_model = ModelName::new("m2");
    let other_route = RouteIdentity::of(&RouteName::new("faq"), [(0, &provider, &other_model)]);
    let (ann, team) = (CallerId::new("ann"), TeamId::new("ann"));
    let body = ask().to_string();
    let usual = Question {
        tenant: Tenant::Caller(&ann),
        route: &route,
        prompt: None,
        endpoint: "chat",
        dialect: Dialect::OpenAiChat,
        headers: &[],
        body: body.as_bytes(),
    };
    let questions = [
        Question { tenant: Tenant::Caller(&CallerId::new("bob")), ..usual },
        Question { tenant: Tenant::Team(&team), ..usual },
        Question { tenant: Tenant::User(&ann, b"u"), ..usual },
        Question { tenant: Tenant::User(&ann, b""), ..usual },
        Question { route: &other_route, ..usual },
        Question { prompt: Some("p@1"), ..usual },
        Question { endpoint: "messages", ..usual },
        Question { dialect: Dialect::Anthropic, ..usual },
        Question { headers: &[("anthropic-beta", b"x")], ..usual },
        Question { headers: &[("anthropic-beta", b"y")], ..usual },
    ];
    for question in questions {
        note(Query::of(&question, "test-2").unwrap().namespace, format!("{question:?}"));
    }
    note(Query::of(&usual, "test-3").unwrap().namespace, "another space".to_owned());
}

#[test]
fn numbers_that_cannot_be_told_from_others_leave_nothing_to_look_for() {
    for number in ["18446744073709551617", "18446744073709551618", "-9223372036854775809", "1e300"]
    {
        let body =
            format!(r#"{{"seed":{number},"messages":[{{"role":"user","content":"{ASK}"}}]}}"#);
        assert_eq!(asked("ann", body.as_bytes()).unwrap_err(), Unfit::NoLastWords, "{number}");
    }
}

fn anything() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (0..3_i64).prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[ab]{0,2}".prop_map(Value::from),
        Just(json!("user")),
        Just(json!("text")),
        ".{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 40, 4, |inner| {
        let name = prop_oneof![
            Just("messages"),
            Just("role"),
            Just("content"),
            Just("type"),
            Just("text"),
            Just("a")
        ];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((name, inner), 0..4)
                .prop_map(|members| members.into_iter().map(|(k, v)| (k.to_owned(), v)).collect()),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn whatever_comes_is_read_or_not_and_never_a_panic(
        body in anything(), bytes in any::<Vec<u8>>(), cut in 0..400_usize,
    ) {
        let _ = of(&body);
        let _ = of(&json!({"messages": [body.clone()]}));
        let _ = of(&json!({"messages": [{"role": "user", "content": body.clone()}]}));
        let _ = asked("ann", &bytes);
        let whole = with("/x", body).to_string().into_bytes();
        let _ = asked("ann", &whole[..cut.min(whole.len())]);
    }

    /// Two requests with the same last words are in one namespace if, and only if, they have one
    /// key.
    #[test]
    fn namespaces_tell_apart_what_keys_tell_apart(one in anything(), other in anything()) {
        let key = |body: &Value| {
            let (provider, model) = (ProviderId::new("p"), ModelName::new("m"));
            let question = Question {
                tenant: Tenant::Caller(&CallerId::new("ann")),
                route: &RouteIdentity::of(&RouteName::new("faq"), [(0, &provider, &model)]),
                prompt: None,
                endpoint: "chat",
                dialect: Dialect::OpenAiChat,
                headers: &[],
                body: &serde_json::to_vec(body).unwrap(),
            };
            Key::of(&question)
        };
        for place in ["/tools", "/messages/3/name", "/messages/1/content", "/user"] {
            let (one, other) = (with(place, one.clone()), with(place, other.clone()));
            let namespaces = (of(&one).ok(), of(&other).ok());
            let (Some(here), Some(there)) = namespaces else { continue };
            prop_assert_eq!(here.namespace == there.namespace, key(&one) == key(&other));
        }
    }
}
