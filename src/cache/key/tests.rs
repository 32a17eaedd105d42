//! Tests of keys: what is the same and what is not.

use super::*;
use proptest::prelude::*;
use serde_json::json;

fn identity(model: &str) -> RouteIdentity {
    let (provider, model) = (ProviderId::new("p"), ModelName::new(model));
    RouteIdentity::of(&RouteName::new("r"), [(0, &provider, &model)])
}

fn with<'a>(route: &'a RouteIdentity, caller: &'a CallerId, body: &'a [u8]) -> Question<'a> {
    Question {
        tenant: Tenant::Caller(caller),
        route,
        prompt: None,
        endpoint: "chat",
        dialect: Dialect::OpenAiChat,
        headers: &[],
        body,
    }
}

fn of(body: &str) -> Option<Key> {
    Key::of(&with(&identity("m"), &CallerId::anonymous(), body.as_bytes()))
}

#[test]
fn what_says_the_same_has_one_key() {
    let plain = r#"{"model":"m","messages":[{"role":"user","content":"é"}],"temperature":0}"#;
    for same in [
        "{ \"messages\" : [\n{\"content\":\"\\u00e9\",\"role\":\"user\"}], \"temperature\": 0.0 }",
        r#"{"model":"other","messages":[{"role":"user","content":"é"}],"temperature":-0.0}"#,
        r#"{"messages":[{"role":"user","content":"é"}],"temperature":0,"stream":true,
            "stream_options":{"include_usage":true},"user":"u","safety_identifier":"s",
            "metadata":{"user_id":"x"},"prompt_cache_key":"k"}"#,
    ] {
        assert_eq!(of(plain), of(same), "{same}");
    }
    assert!(of(plain).is_some());
}

#[test]
fn whatever_may_shape_an_answer_makes_another_key() {
    let bodies = [
        r#"{"messages":[]}"#,
        r#"{"messages":[{"role":"user","content":"a"}]}"#,
        r#"{"messages":[{"role":"system","content":"a"}]}"#,
        r#"{"messages":[{"role":"user","content":"a","name":"n"}]}"#,
        r#"{"messages":[{"role":"user","content":"a "}]}"#,
        r#"{"messages":[{"role":"user","content":["a"]}]}"#,
        r#"{"messages":[{"role":"user","content":"a"}],"temperature":0.1}"#,
        r#"{"messages":[{"role":"user","content":"a"}],"temperature":0}"#,
        r#"{"messages":[{"role":"user","content":"a"}],"temperature":"0"}"#,
        r#"{"messages":[{"role":"user","content":"a"}],"temperature":null}"#,
        r#"{"messages":[{"role":"user","content":"a"}],"max_tokens":1}"#,
        r#"{"messages":[{"role":"user","content":"a"}],"seed":1}"#,
        r#"{"messages":[{"role":"user","content":"a"}],"seed":2}"#,
        r#"{"messages":[{"role":"user","content":"a"}],"seed":9007199254740993}"#,
        r#"{"messages":[{"role":"user","content":"a"}],"seed":9007199254740992}"#,
        r#"{"messages":[{"role":"user","content":"a"}],"stop":["x","y"]}"#,
        r#"{"messages":[{"role":"user","content":"a"}],"stop":["y","x"]}"#,
        r#"{"messages":[{"role":"user","content":"a"}],"logit_bias":{"1":2}}"#,
        r#"{"messages":[{"role":"user","content":"a"}],"reasoning_effort":"low"}"#,
        r#"{"messages":[{"role":"user","content":"a"}],"response_format":{"type":"json_object"}}"#,
        r#"{"messages":[{"role":"user","content":"a"}],"heard_of_by_nobody":true}"#,
        // Only the body's own members may be left out.
        r#"{"messages":[{"role":"user","content":"a","user":"u"}]}"#,
        r#"{"messages":[{"role":"user","content":"a","metadata":{}}]}"#,
    ];
    for (index, one) in bodies.iter().enumerate() {
        for other in bodies.iter().skip(index + 1) {
            assert_ne!(of(one).unwrap(), of(other).unwrap(), "{one} {other}");
        }
    }
}

#[test]
fn tools_differ_where_their_schemas_do_and_not_where_their_members_are_ordered_otherwise() {
    let tools = |parameters: serde_json::Value| {
        let tool = json!({"type": "function", "function": {"name": "f", "parameters": parameters}});
        of(&json!({"messages": [], "tools": [tool]}).to_string()).unwrap()
    };
    let plain = tools(json!({"type": "object", "properties": {"a": {"type": "string"}}}));
    let reordered = tools(json!({"properties": {"a": {"type": "string"}}, "type": "object"}));
    assert_eq!(plain, reordered);
    for other in [
        json!({"type": "object", "properties": {"a": {"type": "integer"}}}),
        json!({"type": "object", "properties": {"b": {"type": "string"}}}),
        json!({"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}),
    ] {
        assert_ne!(plain, tools(other.clone()), "{other}");
    }
}

#[test]
fn another_tenant_route_model_prompt_endpoint_dialect_or_header_makes_another_key() {
    let body = br#"{"messages":[]}"#;
    let (route, caller, team) = (identity("m"), CallerId::new("x"), TeamId::new("x"));
    let (other_model, other_caller) = (identity("m-2025-01-01"), CallerId::new("y"));
    let base = || with(&route, &caller, body);
    let beta = [("anthropic-beta", &b"x"[..])];
    let questions = [
        base(),
        Question { tenant: Tenant::Team(&team), ..base() },
        Question { tenant: Tenant::Caller(&other_caller), ..base() },
        Question { tenant: Tenant::User(&caller, b""), ..base() },
        Question { tenant: Tenant::User(&caller, b"u"), ..base() },
        Question { route: &other_model, ..base() },
        Question { prompt: Some("support@1.2.0"), ..base() },
        Question { endpoint: "completions", ..base() },
        Question { dialect: Dialect::Anthropic, ..base() },
        Question { headers: &beta, ..base() },
    ];
    let keys: std::collections::HashSet<_> =
        questions.iter().map(|q| Key::of(q).unwrap()).collect();
    assert_eq!(keys.len(), questions.len());
}

#[test]
fn a_route_is_its_name_and_its_targets_in_their_tiers() {
    let (name, p, q) = (RouteName::new("r"), ProviderId::new("p"), ProviderId::new("q"));
    let (m, n) = (ModelName::new("m"), ModelName::new("n"));
    let plain = RouteIdentity::of(&name, [(0, &p, &m), (1, &q, &n)]);
    // Several credentials, in any order.
    assert_eq!(plain, RouteIdentity::of(&name, [(1, &q, &n), (0, &p, &m), (0, &p, &m)]));
    for other in [
        RouteIdentity::of(&RouteName::new("s"), [(0, &p, &m), (1, &q, &n)]),
        RouteIdentity::of(&name, [(0, &p, &m)]),
        RouteIdentity::of(&name, [(0, &p, &m), (0, &q, &n)]),
        RouteIdentity::of(&name, [(0, &p, &n), (1, &q, &m)]),
    ] {
        assert_ne!(plain, other);
    }
}

#[test]
fn what_can_be_read_in_two_ways_or_not_at_all_has_no_key() {
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    for body in [r#"{"messages":[{"role":"user","role":"system"}]}"#, "{}x", "", &deep] {
        assert_eq!(of(body), None, "{body:.40}");
    }
}

#[test]
fn numbers_are_what_they_stand_for_and_not_how_they_are_spelt() {
    let seed = |number: &str| of(&format!(r#"{{"messages":[],"seed":{number}}}"#));
    let same = [
        ("1e3", "1000"),
        ("1.5e1", "15.0"),
        ("-0", "0"),
        ("-0.0", "0"),
        ("100e-2", "1"),
        ("0.10", "1e-1"),
        ("-7.0", "-7"),
    ];
    for (one, other) in same {
        assert!(seed(one).is_some() && seed(one) == seed(other), "{one} and {other}");
    }
    let different = [
        ("18446744073709551615", "18446744073709551614"),
        ("9223372036854775808", "9223372036854775807"),
        ("-9223372036854775808", "-9223372036854775807"),
        ("0.1", "0.2"),
        ("1", "-1"),
        ("1", "\"1\""),
        ("1", "true"),
    ];
    for (one, other) in different {
        assert!(seed(one).is_some() && seed(other).is_some(), "{one} and {other}");
        assert_ne!(seed(one), seed(other), "{one} and {other}");
    }
    // What readers round, or do not take for numbers, is no key.
    let none =
        ["18446744073709551616", "9223372036854775808.0", "1e400", "01", "+1", "1.", ".5", "NaN"];
    for number in none {
        assert_eq!(seed(number), None, "{number}");
    }
}

#[test]
fn what_is_not_quite_json_has_no_key() {
    let nested =
        |levels: usize| format!(r#"{{"messages":{}{}}}"#, "[".repeat(levels), "]".repeat(levels));
    assert!(of(&nested(126)).is_some());
    let (deep, lone) = (nested(127), r#"{"messages":["\ud800"]}"#);
    let twice = r#"{"messages":[],"x":{"a":1,"\u0061":2}}"#;
    for body in [
        &*deep,
        lone,
        twice,
        r#"{"messages":[1,]}"#,
        r#"{"messages":[],}"#,
        r#"{"messages":[,1]}"#,
        r#"{"messages":[1 2]}"#,
        r#"{"messages" []}"#,
        r#"{"messages":[}"#,
        r#"{messages:[]}"#,
        r#"{"messages":["a]}"#,
        r#"{"messages":[nul]}"#,
        "{\"messages\":[\"a\nb\"]}",
        r#"{"messages":[]"#,
        "{\"messages\":[]}\u{a0}",
    ] {
        assert_eq!(of(body), None, "{body:.60}");
    }
}

#[test]
fn members_that_shape_nothing_are_known_however_they_are_spelt() {
    let plain = of(r#"{"messages":["\n \u00e9 \ud83c\udf0a"]}"#);
    assert!(plain.is_some());
    let spelt = r#"{"messages":["\u000a é 🌊"],"us\u0065r":"u","metadata":{"a":[1,{"b":2}]}}"#;
    assert_eq!(of(spelt), plain);
    // Only at the top: within, the same word may mean anything.
    assert_ne!(of(r#"{"messages":["\n é 🌊",{"user":"u"}]}"#), plain);
}

proptest! {
    /// Two bodies have one key exactly if they are one value.
    #[test]
    fn keys_are_equal_where_values_are(
        one in "[ab]{0,3}", other in "[ab]{0,3}", n in 0u32..3, m in 0u32..3,
    ) {
        let body = |text: &str, n: u32| json!({"messages": [text], "x": {"n": n}}).to_string();
        let same = one == other && n == m;
        prop_assert_eq!(of(&body(&one, n)) == of(&body(&other, m)), same);
    }
}
