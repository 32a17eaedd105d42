//! A table inside a TOML file as a TOML file of its own.

use toml::de::{DeTable, DeValue};

/// Writes the entries of `table`, one a line.
pub(super) fn to_toml(table: &DeTable<'_>) -> String {
    let mut out = String::new();
    for (name, value) in table {
        write_key(&mut out, name.get_ref());
        out.push_str(" = ");
        write_value(&mut out, value.get_ref());
        out.push('\n');
    }
    out
}

fn write_key(out: &mut String, key: &str) {
    write_text(out, key);
}

/// A basic string: TOML's escapes are those of JSON but for one.
fn write_text(out: &mut String, text: &str) {
    let quoted = serde_json::Value::String(text.to_owned()).to_string();
    out.push_str(&quoted.replace('\u{7f}', "\\u007f"));
}

fn write_value(out: &mut String, value: &DeValue<'_>) {
    match value {
        DeValue::String(text) => write_text(out, text),
        DeValue::Integer(integer) => out.push_str(&integer.to_string()),
        DeValue::Float(float) => out.push_str(&float.to_string()),
        DeValue::Boolean(truth) => out.push_str(if *truth { "true" } else { "false" }),
        DeValue::Datetime(time) => out.push_str(&time.to_string()),
        DeValue::Array(items) => {
            out.push('[');
            for item in items.iter() {
                write_value(out, item.get_ref());
                out.push_str(", ");
            }
            out.push(']');
        }
        DeValue::Table(table) => {
            out.push_str("{ ");
            for (index, (name, value)) in table.iter().enumerate() {
                out.push_str(if index > 0 { ", " } else { "" });
                write_key(out, name.get_ref());
                out.push_str(" = ");
                write_value(out, value.get_ref());
            }
            out.push_str(" }");
        }
    }
}
