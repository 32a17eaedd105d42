//! `config/reference.toml` and `config/schema.json`, written from the settings structs.
//!
//! A test compares them with the files and rewrites those with `UPDATE=1`, so that documentation
//! and program cannot disagree. In the reference, keys that have a default stand with it, so that
//! the file as it is changes nothing; the others are commented out with an example each, and taking
//! all the `#` away gives a file that loads; save for embedders, whose examples are of two kinds.

use std::fmt::Write as _;

use serde_json::{Map, Value};

use super::sections::FileSettings;

/// Every key with what it means, its default or an example.
pub fn reference_toml() -> String {
    let schema = schemars::schema_for!(FileSettings).to_value();
    let defaults = serde_json::to_value(FileSettings::default()).unwrap_or_default();
    let mut page = Page { schema: &schema, out: String::from(HEAD) };
    for (name, section) in properties(&schema) {
        page.out.push('\n');
        page.comment("# ", described(section));
        let section = page.resolve(section);
        match section.get("additionalProperties").filter(|others| others.is_object()) {
            Some(entry) => page.example_table(name, page.resolve(entry)),
            None => page.table(name, section, &defaults[name]),
        }
    }
    page.out
}

/// The JSON schema of the file, for editors.
pub fn schema_json() -> String {
    let schema = schemars::schema_for!(FileSettings);
    serde_json::to_string_pretty(&schema).unwrap_or_default() + "\n"
}

const HEAD: &str = "\
# Every key of Tidegate's configuration, with its default. Generated from the program; do not edit.
#
# A key that has a default stands with it. A key that has none is commented out with an example.
# Durations are written like \"500ms\", \"20s\", \"15m\", \"1h\" or \"7d\", sizes like \"512KB\" or \"1GiB\".
# An unknown key is an error. A changed file is loaded at once; a faulty one is reported and changes
# nothing. `tidegate check --config FILE` says what is wrong with a file.
";

/// The names under which the examples of tables that hold names stand.
const EXAMPLE_NAMES: [(&str, &str); 4] = [
    ("providers", "local-vllm"),
    ("routes", "smart"),
    ("limits", "default"),
    ("embedders", "small"),
];

/// The page as it grows.
struct Page<'a> {
    schema: &'a Value,
    out: String,
}

// === impl Page ===

impl<'a> Page<'a> {
    /// A section with its defaults; tables in it follow as sections of their own.
    fn table(&mut self, name: &str, schema: &'a Value, defaults: &Value) {
        let _ = writeln!(self.out, "[{name}]");
        let mut inner = Vec::new();
        for (key, property) in properties(schema) {
            let resolved = self.resolve(property);
            if resolved.get("properties").is_some() && !defaults[key].is_null() {
                inner.push((key, property));
                continue;
            }
            self.describe(property);
            let default = &defaults[key];
            if default.is_null() {
                self.example_line(key, property);
            } else {
                let _ = writeln!(self.out, "{key} = {}", inline(default));
            }
        }
        for (key, property) in inner {
            self.out.push('\n');
            self.comment("# ", described(property));
            let resolved = self.resolve(property);
            self.table(&format!("{name}.{key}"), resolved, &defaults[key]);
        }
    }

    /// A table that holds names: one entry, all of it commented out.
    fn example_table(&mut self, section: &str, schema: &'a Value) {
        let name = EXAMPLE_NAMES.iter().find(|(of, _)| *of == section).map_or("name", |(_, n)| n);
        let _ = writeln!(self.out, "#[{section}.{name}]");
        let mut lists = Vec::new();
        for (key, property) in properties(schema) {
            let is_list = property.get("items").is_some();
            if is_list && property.get("examples").is_none() {
                lists.push((key, property));
                continue;
            }
            self.describe(property);
            self.example_line(key, property);
        }
        for (key, property) in lists {
            self.out.push('\n');
            self.comment("# ", described(property));
            let _ = writeln!(self.out, "#[[{section}.{name}.{key}]]");
            for (key, property) in properties(self.resolve(&property["items"])) {
                self.describe(property);
                self.example_line(key, property);
            }
        }
    }

    fn example_line(&mut self, key: &str, property: &Value) {
        let example = property["examples"].get(0).or_else(|| property.get("default"));
        let example = example.map_or_else(|| "\"…\"".to_owned(), inline);
        let _ = writeln!(self.out, "#{key} = {example}");
    }

    /// What a key means, and what its words or the keys of its tables mean.
    fn describe(&mut self, property: &'a Value) {
        self.comment("# ", described(property));
        let resolved = self.resolve(property);
        self.variants("#   ", resolved);
        let entries = match resolved.get("items") {
            Some(items) => self.resolve(items),
            None => resolved,
        };
        if resolved.get("items").is_some() {
            self.variants("#   ", entries);
        }
        for (key, property) in properties(entries) {
            let default = property.get("default").filter(|default| !default.is_null());
            let default = default
                .map_or_else(String::new, |default| format!(" Default: {}.", inline(default)));
            let text = described(property).replace('\n', " ");
            self.comment("#   ", &format!("{key}: {text}{default}"));
            self.variants("#     ", self.resolve(property));
        }
    }

    /// The words of an enumeration.
    fn variants(&mut self, start: &str, schema: &Value) {
        for variant in schema["oneOf"].as_array().into_iter().flatten() {
            if let Some(word) = variant["const"].as_str() {
                self.comment(start, &format!("{word:?}: {}", described(variant)));
            }
        }
    }

    /// Appends a comment, its lines filled anew.
    fn comment(&mut self, start: &str, text: &str) {
        const WIDTH: usize = 100;
        let mut line = String::from(start);
        for word in text.split_whitespace() {
            if line.chars().count() + word.chars().count() > WIDTH && line.len() > start.len() {
                let _ = writeln!(self.out, "{}", line.trim_end());
                line = String::from(start);
            }
            line.push_str(word);
            line.push(' ');
        }
        if line.len() > start.len() {
            let _ = writeln!(self.out, "{}", line.trim_end());
        }
    }

    fn resolve(&self, schema: &'a Value) -> &'a Value {
        if let Some(name) = schema["$ref"].as_str().and_then(|name| name.strip_prefix("#/$defs/")) {
            return self.resolve(&self.schema["$defs"][name]);
        }
        match schema["anyOf"].as_array().and_then(|any| any.iter().find(|s| s["type"] != "null")) {
            Some(real) => self.resolve(real),
            None => schema,
        }
    }
}

fn properties(schema: &Value) -> impl Iterator<Item = (&str, &Value)> {
    let properties = schema["properties"].as_object().into_iter().flat_map(Map::iter);
    properties.map(|(key, property)| (key.as_str(), property))
}

fn described(schema: &Value) -> &str {
    schema["description"].as_str().unwrap_or("")
}

/// A value as TOML on one line.
fn inline(value: &Value) -> String {
    match value {
        Value::Object(map) => {
            let entries: Vec<_> =
                map.iter().map(|(key, value)| format!("{key} = {}", inline(value))).collect();
            format!("{{ {} }}", entries.join(", "))
        }
        Value::Array(items) => {
            format!("[{}]", items.iter().map(inline).collect::<Vec<_>>().join(", "))
        }
        // JSON's way to write text and numbers is TOML's, too.
        other @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) => {
            other.to_string()
        }
    }
}
