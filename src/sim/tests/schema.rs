//! Sampled values against a small validator of our own.

use proptest::prelude::*;

use super::*;
use crate::sim::schema::sample;

/// Whether `value` follows `schema`, as far as the generator below goes.
fn follows(schema: &Value, value: &Value) -> bool {
    if let Some(allowed) = schema.get("enum").and_then(Value::as_array) {
        return allowed.contains(value);
    }
    let bound = |key: &str| schema.get(key).and_then(Value::as_f64);
    match schema["type"].as_str().unwrap_or_default() {
        "object" => {
            let names = schema["required"].as_array().expect("required");
            names.iter().all(|name| {
                let name = name.as_str().expect("a name");
                value.get(name).is_some_and(|value| follows(&schema["properties"][name], value))
            })
        }
        "array" => {
            let items = value.as_array().expect("an array");
            items.len() as u64 >= schema["minItems"].as_u64().unwrap_or(0)
                && items.len() as u64 <= schema["maxItems"].as_u64().unwrap_or(u64::MAX)
                && items.iter().all(|item| follows(&schema["items"], item))
        }
        "integer" => value.as_i64().is_some_and(|number| {
            number as f64 >= bound("minimum").unwrap_or(f64::MIN)
                && number as f64 <= bound("maximum").unwrap_or(f64::MAX)
        }),
        "number" => value.as_f64().is_some_and(|number| {
            number >= bound("minimum").unwrap_or(f64::MIN)
                && number <= bound("maximum").unwrap_or(f64::MAX)
        }),
        "string" => value.as_str().is_some_and(|text| {
            let length = text.chars().count() as f64;
            length >= bound("minLength").unwrap_or(0.0)
                && length <= bound("maxLength").unwrap_or(f64::MAX)
        }),
        "boolean" => value.is_boolean(),
        other => panic!("the generator makes no {other}"),
    }
}

fn schemas() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(json!({"type": "boolean"})),
        (-100_i64..100, 0_i64..50).prop_map(|(low, room)| {
            json!({"type": "integer", "minimum": low, "maximum": low + room})
        }),
        (-100_i64..100).prop_map(|low| json!({"type": "integer", "minimum": low})),
        (-100_i64..100).prop_map(|high| json!({"type": "number", "maximum": high})),
        (0_u64..40, 0_u64..20).prop_map(|(least, room)| {
            json!({"type": "string", "minLength": least, "maxLength": least + room})
        }),
        Just(json!({"enum": ["red", "green"]})),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::btree_map("[a-z]{1,6}", inner.clone(), 0..4).prop_map(|properties| {
                let required: Vec<&String> = properties.keys().collect();
                json!({"type": "object", "properties": properties, "required": required})
            }),
            (inner, 0_u64..4, 0_u64..3).prop_map(|(items, least, room)| {
                json!({"type": "array", "items": items, "minItems": least, "maxItems": least + room})
            }),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_sampled_follows_the_schema(schema in schemas()) {
        let value = sample(&schema, "simulated");
        prop_assert!(follows(&schema, &value), "{value}");
    }
}

#[test]
fn references_options_and_formats_are_understood() {
    let schema = json!({
        "$defs": {"node": {"type": "object", "properties": {
            "name": {"type": ["null", "string"], "maxLength": 4},
            "next": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/node"}]},
        }, "required": ["name"]}},
        "allOf": [{"$ref": "#/$defs/node"}, {
            "properties": {"when": {"type": "string", "format": "date"}}, "required": ["when"],
        }],
        "properties": {
            "kind": {"const": "tide"},
            "step": {"type": "number", "multipleOf": 0.5, "minimum": 2},
            "above": {"type": "integer", "exclusiveMinimum": 7},
            "pair": {"type": "array", "prefixItems": [{"const": 1}, {"const": 2}], "items": false},
        },
        "required": ["kind", "step", "above", "pair"],
    });
    assert_eq!(
        sample(&schema, "word"),
        json!({"name": "word", "when": "2026-01-31", "kind": "tide", "step": 2.0, "above": 8,
            "pair": [1, 2]})
    );
}

#[test]
fn recursion_without_end_ends() {
    let schema = json!({"type": "object", "properties": {"next": {"$ref": "#"}},
        "required": ["next"]});
    let value = sample(&schema, "word");
    assert!(value["next"]["next"]["next"].is_object());
    let circle = json!({"$ref": "#"});
    assert!(sample(&circle, "word").is_string());
}
