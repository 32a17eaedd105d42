//! Schemas of those who write prompts, and of those who call.

use super::*;

#[test]
fn a_callers_schema_is_held_to_less() {
    let of = |pattern: &str| json!({ "properties": { "a": { "pattern": pattern } } });
    for (schema, by_author, by_caller) in [
        (of("^(x+)+$"), true, true),
        (of("x{5000}"), true, false),
        (of("(x{1000}){1000}"), false, false),
        (of("(?=x)x"), false, false),
        (json!({ "$ref": "http://127.0.0.1/x" }), false, false),
        (json!({ "$ref": "file:///etc/passwd" }), false, false),
        (json!({ "format": "of nobody" }), false, true),
    ] {
        assert_eq!(compile(&schema).is_ok(), by_author, "{schema}");
        assert_eq!(compile_of_caller(&schema).is_some(), by_caller, "{schema}");
    }
    let schema = compile_of_caller(&of("^(x+)+$")).unwrap();
    assert!(!schema.is_valid(&json!({ "a": format!("{}!", "x".repeat(100_000)) })));
}
