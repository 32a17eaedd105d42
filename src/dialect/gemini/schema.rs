//! JSON Schema made acceptable to Gemini.
//!
//! Gemini takes a subset of OpenAPI 3.0's schema object and refuses a whole request for one keyword
//! it does not know: <https://ai.google.dev/api/caching#Schema>. What can be said in the subset is
//! rewritten (references are inlined, `const` becomes `enum`, a `null` among types becomes
//! `nullable`), what cannot is left out, which makes a schema wider and never narrower. The result
//! holds only keywords of the subset, each only where its type allows it, and sanitising it again
//! changes nothing.
//!
//! References to themselves end at the second meeting. Inlining may double a schema at each step,
//! so the work is bounded by the schema's own size ([`WORK_BYTES`]); what lies beyond is left out.

use serde_json::{Map, Value, json};

type Object = Map<String, Value>;

/// How many bytes may be copied for one schema, beside [`WORK_FACTOR`] times its own size. Real
/// schemas of some kilobytes need a hundredth of it.
const WORK_BYTES: usize = 4 * 1024 * 1024;

/// A schema is copied once for each level it lies deep, which is seldom more than this.
const WORK_FACTOR: usize = 4;

/// How deep schemas may nest; deeper than any that a model could follow.
const MAX_DEPTH: usize = 32;

const TYPES: [&str; 6] = ["string", "number", "integer", "boolean", "array", "object"];

/// Rewrites a schema. Anything that is no schema becomes one that takes any scalar.
pub(super) fn sanitise(schema: &Value) -> Value {
    Value::Object(Sanitiser::new(schema).schema(schema, 0))
}

/// Rewrites the parameters of a function: an object, or `None` where there are none, because an
/// object without properties is refused there.
pub(super) fn parameters(schema: &Value) -> Option<Value> {
    let mut schema = Sanitiser::new(schema).schema(schema, 0);
    if let Some(Value::Array(branches)) = schema.remove("anyOf") {
        schema = union(&branches);
    }
    let has_properties =
        schema.get("properties").and_then(Value::as_object).is_some_and(|all| !all.is_empty());
    schema.remove("nullable");
    has_properties.then_some(Value::Object(schema))
}

struct Sanitiser<'a> {
    root: &'a Value,
    /// Bytes that may still be copied.
    work: usize,
    /// References that are being unfolded, outermost first.
    open: Vec<String>,
}

impl<'a> Sanitiser<'a> {
    fn new(root: &'a Value) -> Self {
        let work = size(root).saturating_mul(WORK_FACTOR).saturating_add(WORK_BYTES);
        Self { root, work, open: Vec::new() }
    }

    /// Pays for a copy; false where too many were made.
    fn pay(&mut self, bytes: usize) -> bool {
        self.work = self.work.saturating_sub(bytes);
        self.work > 0
    }

    fn schema(&mut self, schema: &Value, depth: usize) -> Object {
        let open = self.open.len();
        let flat = self.flatten(schema, depth);
        let out = self.flat(flat, depth);
        self.open.truncate(open);
        out
    }

    /// Resolves the references and merges the `allOf` of a schema itself, not of what is inside.
    fn flatten(&mut self, schema: &Value, depth: usize) -> Object {
        let Some(schema) = schema.as_object() else {
            return Object::new();
        };
        if depth > MAX_DEPTH || !self.pay(schema.values().map(size).sum()) {
            return cut(schema);
        }
        let mut flat = schema.clone();
        if let Some(Value::String(reference)) = flat.remove("$ref") {
            let target = self.resolve(&reference);
            let target = if self.open.contains(&reference) {
                target.and_then(Value::as_object).map(cut).unwrap_or_default()
            } else if let Some(target) = target {
                self.open.push(reference);
                self.flatten(target, depth + 1)
            } else {
                Object::new()
            };
            merge(&mut flat, target);
        }
        if let Some(Value::Array(all)) = flat.remove("allOf") {
            for one in all {
                let one = self.flatten(&one, depth + 1);
                merge(&mut flat, one);
            }
        }
        flat
    }

    /// Rewrites a schema that has no `$ref` and no `allOf` of its own.
    fn flat(&mut self, mut flat: Object, depth: usize) -> Object {
        let mut nullable = flat.remove("nullable") == Some(Value::Bool(true));
        if let Some(value) = flat.remove("const") {
            flat.insert("enum".into(), json!([value]));
        }
        if let Some(Value::Array(values)) = flat.get_mut("enum") {
            nullable |= values.iter().any(Value::is_null);
            values.retain(|value| !value.is_null());
        }
        let (types, has_null) = types(flat.remove("type"));
        nullable |= has_null;
        let branches = self.branches(&mut flat, &types, depth, &mut nullable);
        let out = match branches {
            Some(branches) => any_of(branches, &flat),
            None => self.typed(&flat, types.first().copied(), depth),
        };
        if nullable { allow_null(out) } else { out }
    }

    /// The alternatives of a schema; `None` where there is only one way.
    fn branches(
        &mut self,
        flat: &mut Object,
        types: &[&'static str],
        depth: usize,
        nullable: &mut bool,
    ) -> Option<Vec<Object>> {
        let mut raw = Vec::new();
        for name in ["anyOf", "oneOf"] {
            if let Some(Value::Array(list)) = flat.remove(name) {
                raw.extend(list);
            }
        }
        let only_null = |branch: &Value| branch.get("type").and_then(Value::as_str) == Some("null");
        *nullable |= raw.iter().any(only_null);
        raw.retain(|branch| !only_null(branch));
        let is_shape = |branch: &Value| {
            ["type", "properties", "items", "enum", "const", "$ref", "anyOf", "oneOf", "allOf"]
                .iter()
                .any(|keyword| branch.get(keyword).is_some())
        };
        if raw.iter().any(is_shape) {
            let mut outer = flat.clone();
            if let [one] = types {
                outer.insert("type".into(), (*one).into());
            }
            return Some(self.each_branch(&raw, &outer, depth));
        }
        // Alternatives that only say what is required, or nothing, cannot be said.
        if types.len() < 2 {
            return None;
        }
        let outer = flat.clone();
        let raw: Vec<_> = types.iter().map(|one| json!({ "type": one })).collect();
        Some(self.each_branch(&raw, &outer, depth))
    }

    /// Each alternative with what was said beside all of them.
    fn each_branch(&mut self, raw: &[Value], outer: &Object, depth: usize) -> Vec<Object> {
        let beside: usize = outer.values().map(size).sum();
        let mut out = Vec::new();
        for branch in raw {
            if !out.is_empty() && !self.pay(beside) {
                break;
            }
            out.push(self.branch(branch, outer, depth));
        }
        out
    }

    fn branch(&mut self, branch: &Value, outer: &Object, depth: usize) -> Object {
        let open = self.open.len();
        let mut flat = self.flatten(branch, depth + 1);
        let mut outer = outer.clone();
        if flat.contains_key("type") {
            outer.remove("type");
        }
        outer.remove("description");
        outer.remove("title");
        merge(&mut flat, outer);
        let out = self.flat(flat, depth + 1);
        self.open.truncate(open);
        out
    }

    /// Keeps of a schema of one type what that type allows.
    fn typed(&mut self, flat: &Object, one: Option<&'static str>, depth: usize) -> Object {
        let mut out = Object::new();
        let Some(one) = one.or_else(|| infer(flat)) else {
            copy(flat, &mut out, &["title", "description"], Value::is_string);
            // The API wants a type; where none is asked for, any scalar will do.
            let any = ["string", "number", "boolean"].map(|one| {
                let mut branch = Object::new();
                branch.insert("type".into(), one.into());
                copy(&out, &mut branch, &["description"], Value::is_string);
                Value::Object(branch)
            });
            return Object::from_iter([("anyOf".into(), any.to_vec().into())]);
        };
        out.insert("type".into(), one.into());
        copy(flat, &mut out, &["title", "description"], Value::is_string);
        match one {
            "string" => string(flat, &mut out),
            "number" | "integer" => number(flat, &mut out, one == "integer"),
            "array" => self.array(flat, &mut out, depth),
            "object" => self.object(flat, &mut out, depth),
            _ => {}
        }
        if one != "string" {
            describe_enum(flat, &mut out);
        }
        out
    }

    fn array(&mut self, flat: &Object, out: &mut Object, depth: usize) {
        let items = match flat.get("items") {
            Some(Value::Array(items)) => json!({ "anyOf": items }),
            Some(Value::Object(items)) => Value::Object(items.clone()),
            _ => match flat.get("prefixItems") {
                Some(Value::Array(items)) if !items.is_empty() => json!({ "anyOf": items }),
                _ => json!({ "type": "string" }),
            },
        };
        out.insert("items".into(), self.schema(&items, depth + 1).into());
        copy(flat, out, &["minItems", "maxItems"], Value::is_u64);
    }

    fn object(&mut self, flat: &Object, out: &mut Object, depth: usize) {
        let Some(properties) = flat.get("properties").and_then(Value::as_object) else {
            return;
        };
        if properties.is_empty() {
            return;
        }
        let mut kept = Object::new();
        for (name, schema) in properties {
            if !self.pay(name.len()) {
                break;
            }
            kept.insert(name.clone(), self.schema(schema, depth + 1).into());
        }
        let properties = kept;
        for keyword in ["required", "propertyOrdering"] {
            let mut names: Vec<Value> = Vec::new();
            for name in flat.get(keyword).and_then(Value::as_array).into_iter().flatten() {
                let exists = name.as_str().is_some_and(|name| properties.contains_key(name));
                if exists && !names.contains(name) {
                    names.push(name.clone());
                }
            }
            if !names.is_empty() {
                out.insert(keyword.into(), names.into());
            }
        }
        out.insert("properties".into(), properties.into());
        copy(flat, out, &["minProperties", "maxProperties"], Value::is_u64);
    }

    /// What a reference points to, within the same document.
    fn resolve(&self, reference: &str) -> Option<&'a Value> {
        self.root.pointer(reference.strip_prefix('#')?)
    }
}

/// Adds what `into` has not: what stands nearer wins, properties and requirements add up.
fn merge(into: &mut Object, other: Object) {
    for (keyword, value) in other {
        match (into.get_mut(&keyword), value) {
            (None, value) => {
                into.insert(keyword, value);
            }
            (Some(Value::Object(ours)), Value::Object(theirs)) if keyword == "properties" => {
                for (name, schema) in theirs {
                    ours.entry(name).or_insert(schema);
                }
            }
            (Some(Value::Array(ours)), Value::Array(theirs)) if keyword == "required" => {
                ours.extend(theirs);
            }
            (Some(_), _) => {}
        }
    }
}

/// What remains of a schema that is not unfolded further.
fn cut(schema: &Object) -> Object {
    let mut out = Object::new();
    copy(schema, &mut out, &["type", "description", "nullable"], |_| true);
    if !out.contains_key("type") {
        out.insert("type".into(), "object".into());
    }
    out
}

/// The types of a schema in the wire's words, and whether `null` is among them.
fn types(value: Option<Value>) -> (Vec<&'static str>, bool) {
    let listed = match value {
        Some(Value::Array(listed)) => listed,
        Some(one) => vec![one],
        None => Vec::new(),
    };
    let mut types = Vec::new();
    let mut has_null = false;
    for one in listed.iter().filter_map(Value::as_str) {
        has_null |= one.eq_ignore_ascii_case("null");
        let known = TYPES.iter().find(|known| known.eq_ignore_ascii_case(one));
        if let Some(known) = known.filter(|known| !types.contains(*known)) {
            types.push(*known);
        }
    }
    if types.is_empty() && has_null {
        types.push("string");
    }
    (types, has_null)
}

/// The type of a schema that does not say.
fn infer(flat: &Object) -> Option<&'static str> {
    let has = |keyword: &str| flat.contains_key(keyword);
    if has("properties") || has("required") || has("additionalProperties") {
        return Some("object");
    }
    if has("items") || has("prefixItems") {
        return Some("array");
    }
    let values = flat.get("enum").and_then(Value::as_array).filter(|values| !values.is_empty());
    if let Some(values) = values {
        let all = |is: fn(&Value) -> bool| values.iter().all(is);
        return Some(match () {
            () if all(|value| value.is_i64() || value.is_u64()) => "integer",
            () if all(Value::is_number) => "number",
            () if all(Value::is_boolean) => "boolean",
            () => "string",
        });
    }
    (has("pattern") || has("minLength") || has("maxLength")).then_some("string")
}

/// One schema of several alternatives. Beside alternatives the API takes nothing else, so each
/// says what was said of them all.
fn any_of(branches: Vec<Object>, outer: &Object) -> Object {
    let mut flat: Vec<Object> = Vec::new();
    for mut branch in branches {
        match branch.remove("anyOf") {
            Some(Value::Array(inner)) => {
                flat.extend(inner.into_iter().filter_map(|one| one.as_object().cloned()));
            }
            _ => flat.push(branch),
        }
    }
    for branch in &mut flat {
        for keyword in ["description", "title"] {
            if !branch.contains_key(keyword) {
                copy(outer, branch, &[keyword], Value::is_string);
            }
        }
    }
    alternatives(flat)
}

/// Alternatives without repetitions; only one is no alternative.
fn alternatives(branches: Vec<Object>) -> Object {
    let mut distinct: Vec<Object> = Vec::new();
    for branch in branches {
        if !distinct.contains(&branch) {
            distinct.push(branch);
        }
    }
    if distinct.len() == 1 {
        return distinct.pop().unwrap_or_default();
    }
    let distinct: Vec<_> = distinct.into_iter().map(Value::Object).collect();
    Object::from_iter([("anyOf".into(), distinct.into())])
}

fn allow_null(mut schema: Object) -> Object {
    let Some(Value::Array(branches)) = schema.remove("anyOf") else {
        schema.insert("nullable".into(), true.into());
        return schema;
    };
    let branches = branches.into_iter().filter_map(|one| one.as_object().cloned());
    alternatives(branches.map(allow_null).collect())
}

fn string(flat: &Object, out: &mut Object) {
    let mut values: Vec<Value> = Vec::new();
    for value in flat.get("enum").and_then(Value::as_array).into_iter().flatten() {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        if text.is_empty() {
            continue; // Refused by the API.
        }
        let value = Value::from(text);
        if !values.contains(&value) {
            values.push(value);
        }
    }
    let has_enum = !values.is_empty();
    if has_enum {
        out.insert("enum".into(), values.into());
    }
    copy(flat, out, &["format"], |format| format == "date-time" || (format == "enum" && has_enum));
    copy(flat, out, &["pattern"], Value::is_string);
    copy(flat, out, &["minLength", "maxLength"], Value::is_u64);
}

fn number(flat: &Object, out: &mut Object, is_integer: bool) {
    let formats = if is_integer { ["int32", "int64"] } else { ["float", "double"] };
    copy(flat, out, &["format"], |format| formats.iter().any(|known| format == known));
    for (keyword, exclusive, step) in
        [("minimum", "exclusiveMinimum", 1), ("maximum", "exclusiveMaximum", -1)]
    {
        copy(flat, out, &[keyword], Value::is_number);
        let Some(bound) = flat.get(exclusive).filter(|bound| bound.is_number()) else {
            continue;
        };
        let bound = match bound.as_i64().filter(|_| is_integer) {
            Some(bound) => bound.saturating_add(step).into(),
            None => bound.clone(),
        };
        let is_tighter = |old: &Value| match (old.as_f64(), bound.as_f64()) {
            (Some(old), Some(new)) => (new - old) * f64::from(step as i32) > 0.0,
            _ => false,
        };
        if out.get(keyword).is_none_or(is_tighter) {
            out.insert(keyword.into(), bound);
        }
    }
}

/// Only text may be enumerated; numbers keep their type and say in words what they may be.
fn describe_enum(flat: &Object, out: &mut Object) {
    let Some(values) = flat.get("enum").and_then(Value::as_array).filter(|all| !all.is_empty())
    else {
        return;
    };
    let values: Vec<_> = values.iter().map(ToString::to_string).collect();
    let words = format!("One of: {}.", values.join(", "));
    let words = match out.get("description").and_then(Value::as_str) {
        Some(description) if !description.is_empty() => format!("{description} {words}"),
        _ => words,
    };
    out.insert("description".into(), words.into());
}

/// Roughly the bytes of a value in memory.
fn size(value: &Value) -> usize {
    const EACH: usize = 32;
    let inner: usize = match value {
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(size).sum(),
        Value::Object(members) => {
            members.iter().map(|(name, value)| name.len() + size(value)).sum()
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
    };
    EACH + inner
}

fn copy(from: &Object, into: &mut Object, keywords: &[&str], fits: impl Fn(&Value) -> bool) {
    for keyword in keywords {
        if let Some(value) = from.get(*keyword).filter(|value| fits(value)) {
            into.insert((*keyword).to_owned(), value.clone());
        }
    }
}

/// One object that takes what any of the alternatives takes.
fn union(branches: &[Value]) -> Object {
    let mut all = Object::from_iter([("type".into(), "object".into())]);
    let mut required: Option<Vec<Value>> = None;
    for branch in branches.iter().filter_map(Value::as_object) {
        let theirs = branch.get("required").and_then(Value::as_array).cloned().unwrap_or_default();
        required = Some(match required {
            Some(mut ours) => {
                ours.retain(|name| theirs.contains(name));
                ours
            }
            None => theirs,
        });
        let mut branch = branch.clone();
        branch.retain(|keyword, _| keyword == "properties" || keyword == "description");
        merge(&mut all, branch);
    }
    if let Some(required) = required.filter(|names| !names.is_empty()) {
        all.insert("required".into(), required.into());
    }
    all
}
