//! Schemas: what is rewritten, what is left out, and that it is always acceptable.

use proptest::prelude::*;

use super::super::schema::{parameters, sanitise};
use super::*;

fn check(schema: Value, expected: Value) {
    assert_eq!(sanitise(&schema), expected, "{schema}");
    assert_eq!(sanitise(&expected), expected, "again: {expected}");
}

#[test]
fn keywords_outside_the_subset_are_left_out() {
    check(
        json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema", "$id": "x", "title": "T",
            "type": "object", "additionalProperties": false, "default": {}, "examples": [{}],
            "properties": { "a": { "type": "string", "default": "x", "format": "uri", "minLength": 1 } },
            "required": ["a", "b", "a"], "patternProperties": {}, "if": {}, "not": {},
        }),
        json!({
            "type": "object", "title": "T",
            "required": ["a"],
            "properties": { "a": { "type": "string", "minLength": 1 } },
        }),
    );
}

#[test]
fn a_null_among_the_types_becomes_nullable() {
    check(json!({ "type": ["string", "null"] }), json!({ "type": "string", "nullable": true }));
    check(
        json!({ "anyOf": [{ "type": "integer" }, { "type": "null" }], "description": "d" }),
        json!({ "type": "integer", "description": "d", "nullable": true }),
    );
    check(
        json!({ "type": ["string", "integer", "null"], "description": "d" }),
        json!({ "anyOf": [
            { "type": "string", "description": "d", "nullable": true },
            { "type": "integer", "description": "d", "nullable": true },
        ]}),
    );
    check(
        json!({ "type": "string", "enum": ["a", null] }),
        json!({ "type": "string", "enum": ["a"], "nullable": true }),
    );
}

#[test]
fn constants_and_enumerations_are_texts() {
    check(json!({ "const": "x" }), json!({ "type": "string", "enum": ["x"] }));
    check(json!({ "enum": ["a", 1, "a", ""] }), json!({ "type": "string", "enum": ["a", "1"] }));
    check(
        json!({ "type": "integer", "enum": [1, 2], "description": "Size." }),
        json!({ "type": "integer", "description": "Size. One of: 1, 2." }),
    );
    check(json!({ "const": true }), json!({ "type": "boolean", "description": "One of: true." }));
}

#[test]
fn exclusive_bounds_become_inclusive_ones() {
    check(
        json!({ "type": "integer", "exclusiveMinimum": 0, "exclusiveMaximum": 10 }),
        json!({ "type": "integer", "minimum": 1, "maximum": 9 }),
    );
    check(
        json!({ "type": "integer", "minimum": 5, "exclusiveMinimum": 0 }),
        json!({ "type": "integer", "minimum": 5 }),
    );
    check(
        json!({ "type": "number", "exclusiveMinimum": 0, "format": "decimal" }),
        json!({ "type": "number", "minimum": 0 }),
    );
    check(
        json!({ "type": "number", "minimum": 1, "exclusiveMinimum": true }),
        json!({ "type": "number", "minimum": 1 }),
    );
}

#[test]
fn references_are_inlined_and_end() {
    check(
        json!({
            "type": "object",
            "properties": { "p": { "$ref": "#/$defs/P", "description": "mine" } },
            "$defs": { "P": { "type": "string", "description": "theirs", "maxLength": 3 } },
        }),
        json!({
            "type": "object",
            "properties": { "p": { "type": "string", "description": "mine", "maxLength": 3 } },
        }),
    );
    check(
        json!({
            "$ref": "#/definitions/Node",
            "definitions": { "Node": {
                "type": "object", "description": "n",
                "properties": {
                    "v": { "type": "integer" },
                    "next": { "$ref": "#/definitions/Node" },
                    "all": { "type": "array", "items": { "$ref": "#/definitions/Node" } },
                },
            }},
        }),
        json!({
            "type": "object", "description": "n",
            "properties": {
                "v": { "type": "integer" },
                "next": { "type": "object", "description": "n" },
                "all": { "type": "array", "items": { "type": "object", "description": "n" } },
            },
        }),
    );
    let missing = sanitise(&json!({ "$ref": "#/$defs/none", "type": "string" }));
    assert_eq!(missing, json!({ "type": "string" }));
}

#[test]
fn references_that_double_at_each_step_stay_bounded() {
    let mut defs = serde_json::Map::new();
    for at in 0..40 {
        let next = json!({ "$ref": format!("#/$defs/d{}", at + 1) });
        let both = json!({ "type": "object", "properties": { "a": next, "b": next } });
        defs.insert(format!("d{at}"), both);
    }
    let schema = json!({ "$ref": "#/$defs/d0", "$defs": defs });
    let out = sanitise(&schema).to_string();
    assert!(out.len() < 5_000_000, "{} bytes", out.len());
    let words = "x".repeat(100_000);
    let many: Vec<_> = (0..5_000).map(|_| json!({ "$ref": "#/$defs/big" })).collect();
    let schema = json!({ "anyOf": many, "type": "object", "$defs": {
        "big": { "type": "object", "properties": { "a": { "type": "string", "description": words } } },
    }});
    let out = sanitise(&schema).to_string();
    assert!(out.len() < 10_000_000, "{} bytes", out.len());
    let many: Vec<_> =
        (0..5_000).map(|at| json!({ "type": "string", "pattern": at.to_string() })).collect();
    let schema = json!({ "anyOf": many, "description": words });
    let out = sanitise(&schema).to_string();
    assert!(out.len() < 10_000_000, "{} bytes", out.len());
}

#[test]
fn all_of_is_merged_and_one_of_becomes_any_of() {
    check(
        json!({ "allOf": [
            { "type": "object", "properties": { "a": { "type": "string" } }, "required": ["a"] },
            { "properties": { "b": { "type": "integer" } }, "required": ["b"] },
        ]}),
        json!({
            "type": "object", "required": ["a", "b"],
            "properties": { "a": { "type": "string" }, "b": { "type": "integer" } },
        }),
    );
    check(
        json!({ "oneOf": [{ "type": "string", "format": "email" }, { "type": "array" }] }),
        json!({ "anyOf": [
            { "type": "string" }, { "type": "array", "items": { "type": "string" } },
        ]}),
    );
    check(
        json!({
            "type": "object", "properties": { "a": { "type": "string" } },
            "anyOf": [{ "required": ["a"] }, {}],
        }),
        json!({ "type": "object", "properties": { "a": { "type": "string" } } }),
    );
}

#[test]
fn what_has_no_type_gets_one() {
    check(
        json!({ "properties": { "a": true } }),
        json!({ "type": "object", "properties": { "a": { "anyOf": [
            { "type": "string" }, { "type": "number" }, { "type": "boolean" },
        ]}}}),
    );
    check(
        json!({ "type": "array", "items": [{ "type": "string" }, { "type": "string" }] }),
        json!({ "type": "array", "items": { "type": "string" } }),
    );
    check(json!({ "type": "OBJECT" }), json!({ "type": "object" }));
    check(json!({ "type": "null" }), json!({ "type": "string", "nullable": true }));
}

#[test]
fn parameters_are_an_object_or_nothing() {
    assert_eq!(parameters(&json!({ "type": "object", "properties": {} })), None);
    assert_eq!(parameters(&json!({})), None);
    assert_eq!(parameters(&json!({ "type": "string" })), None);
    let either = json!({ "anyOf": [
        { "type": "object", "properties": { "a": { "type": "string" }, "k": { "type": "string" } }, "required": ["a", "k"] },
        { "type": "object", "properties": { "b": { "type": "string" }, "k": { "type": "string" } }, "required": ["k"] },
    ]});
    assert_eq!(
        parameters(&either).unwrap(),
        json!({
            "type": "object",
            "properties": {
                "a": { "type": "string" }, "k": { "type": "string" }, "b": { "type": "string" },
            },
            "required": ["k"],
        })
    );
}

/// Looks for anything the API would refuse.
fn complain(schema: &Value) -> Option<String> {
    const ALLOWED: [&str; 20] = [
        "type",
        "format",
        "title",
        "description",
        "nullable",
        "enum",
        "maxItems",
        "minItems",
        "properties",
        "required",
        "minProperties",
        "maxProperties",
        "minLength",
        "maxLength",
        "pattern",
        "anyOf",
        "propertyOrdering",
        "items",
        "minimum",
        "maximum",
    ];
    let object = schema.as_object()?;
    if let Some(keyword) = object.keys().find(|keyword| !ALLOWED.contains(&keyword.as_str())) {
        return Some(format!("keyword {keyword}"));
    }
    if let Some(branches) = object.get("anyOf").and_then(Value::as_array) {
        if object.len() > 1 || branches.is_empty() {
            return Some("anyOf is not alone".to_owned());
        }
        return branches.iter().find_map(complain);
    }
    let Some(kind) = object.get("type").and_then(Value::as_str) else {
        return Some(format!("no type: {schema}"));
    };
    if object.contains_key("enum") {
        let texts = object["enum"].as_array().unwrap().iter().all(Value::is_string);
        if kind != "string" || !texts {
            return Some("enum of no texts".to_owned());
        }
    }
    if (kind == "array") != object.contains_key("items") {
        return Some("items".to_owned());
    }
    let properties = object.get("properties").and_then(Value::as_object);
    for name in object.get("required").and_then(Value::as_array).into_iter().flatten() {
        if !properties.is_some_and(|all| all.contains_key(name.as_str().unwrap())) {
            return Some(format!("requires {name}"));
        }
    }
    let inner = properties.into_iter().flat_map(|all| all.values()).chain(object.get("items"));
    inner.into_iter().find_map(complain)
}

fn scalar() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-5_i64..5).prop_map(Value::from),
        "[a-c]{0,2}".prop_map(Value::from),
    ]
}

fn type_name() -> impl Strategy<Value = Value> {
    let names =
        ["string", "number", "integer", "boolean", "array", "object", "null", "STRING", "any"];
    prop::sample::select(names.to_vec()).prop_map(Value::from)
}

fn any_schema() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        type_name().prop_map(|name| json!({ "type": name })),
        prop::collection::vec(type_name(), 0..4).prop_map(|names| json!({ "type": names })),
        prop::collection::vec(scalar(), 0..4).prop_map(|values| json!({ "enum": values })),
        scalar().prop_map(|value| json!({ "const": value, "description": "d" })),
        scalar().prop_map(|value| json!({ "type": "integer", "exclusiveMinimum": value })),
        Just(json!({ "$ref": "#" })),
        Just(json!({ "$ref": "#/properties/a" })),
        Just(json!({ "$ref": "elsewhere" })),
        scalar(),
        Just(json!({ "type": "string", "format": "uuid", "pattern": "a", "default": 1 })),
    ];
    leaf.prop_recursive(4, 40, 4, |inner| {
        let list = prop::collection::vec(inner.clone(), 0..4);
        let named = prop::collection::btree_map("[a-c]", inner.clone(), 0..4);
        let names = prop::collection::vec("[a-d]", 0..4);
        prop_oneof![
            (named.clone(), names, prop::option::of(type_name())).prop_map(|(all, names, kind)| {
                let mut schema = json!({ "properties": all, "required": names, "title": "t" });
                if let Some(kind) = kind {
                    schema["type"] = kind;
                }
                schema
            }),
            (list.clone(), prop::sample::select(vec!["anyOf", "oneOf", "allOf"]), type_name())
                .prop_map(|(list, keyword, kind)| json!({ keyword: list, "type": kind })),
            (list.clone(), prop::sample::select(vec!["anyOf", "oneOf", "allOf"]))
                .prop_map(|(list, keyword)| json!({ keyword: list, "description": "d" })),
            inner.clone().prop_map(|items| json!({ "type": "array", "items": items })),
            list.prop_map(|items| json!({ "prefixItems": items, "minItems": -1 })),
            (named, inner).prop_map(|(all, other)| json!({
                "type": "object", "properties": all, "additionalProperties": other,
                "anyOf": [{ "required": ["a"] }, other],
            })),
        ]
    })
}

proptest! {
    #[test]
    fn a_sanitised_schema_is_acceptable_and_stays_as_it_is(schema in any_schema()) {
        let once = sanitise(&schema);
        prop_assert_eq!(complain(&once), None, "{}", once);
        prop_assert_eq!(&sanitise(&once), &once);
        prop_assert_eq!(&sanitise(&schema), &once);
        if let Some(parameters) = parameters(&schema) {
            prop_assert_eq!(complain(&parameters), None, "{}", parameters);
            prop_assert_eq!(&parameters["type"], "object");
        }
    }
}
