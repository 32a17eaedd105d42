//! Reading JSON by hand: each value is taken from its object, and a wrong one is reported with the
//! path at which it stands. Paths use brackets: `messages[1].content[0].text`.

use serde_json::{Map, Value};

use crate::problems::KeyPath;
use crate::rejection::Rejection;

/// One JSON object and where it stands in the body.
#[derive(Debug)]
pub(super) struct Fields {
    map: Map<String, Value>,
    path: KeyPath,
}

// === impl Fields ===

impl Fields {
    /// Takes `value` for an object.
    pub(super) fn of(value: Value, path: KeyPath) -> Result<Self, Rejection> {
        if let Value::Object(map) = value {
            Ok(Self { map, path })
        } else {
            Err(wrong_type(&path, "an object", &value))
        }
    }

    /// Where `key` stands.
    pub(super) fn at(&self, key: &str) -> KeyPath {
        self.path.key(key)
    }

    /// Looks at a value without taking it.
    pub(super) fn peek(&self, key: &str) -> Option<&Value> {
        self.map.get(key)
    }

    /// Puts a value back, at the end.
    pub(super) fn put(&mut self, key: &str, value: Value) {
        self.map.insert(key.to_owned(), value);
    }

    /// What was not taken, in its order.
    pub(super) fn rest(self) -> Map<String, Value> {
        self.map
    }

    /// Takes a value; an absent one and `null` are the same.
    pub(super) fn take(&mut self, key: &str) -> Option<Value> {
        self.map.shift_remove(key).filter(|value| !value.is_null())
    }

    /// Takes a value that must be there.
    pub(super) fn required(&mut self, key: &str, what: &str) -> Result<Value, Rejection> {
        self.take(key).ok_or_else(|| {
            let path = self.at(key);
            Rejection::invalid(path.as_str(), format!("`{path}` is missing; it must be {what}"))
        })
    }

    /// Takes a string that must be there.
    pub(super) fn string(&mut self, key: &str) -> Result<String, Rejection> {
        let value = self.required(key, "a string")?;
        as_string(value, || self.at(key))
    }

    /// Takes a string that may be absent.
    pub(super) fn opt_string(&mut self, key: &str) -> Result<Option<String>, Rejection> {
        self.take(key).map(|value| as_string(value, || self.at(key))).transpose()
    }

    /// Takes a boolean that may be absent.
    pub(super) fn opt_bool(&mut self, key: &str) -> Result<Option<bool>, Rejection> {
        self.typed(key, "a boolean", Value::as_bool)
    }

    /// Takes a whole number, not negative, that may be absent.
    pub(super) fn opt_u64(&mut self, key: &str) -> Result<Option<u64>, Rejection> {
        self.typed(key, "a whole number", Value::as_u64)
    }

    /// Takes a number that may be absent.
    pub(super) fn opt_f64(&mut self, key: &str) -> Result<Option<f64>, Rejection> {
        self.typed(key, "a number", Value::as_f64)
    }

    /// Takes an array that may be absent.
    pub(super) fn opt_array(&mut self, key: &str) -> Result<Option<Vec<Value>>, Rejection> {
        match self.take(key) {
            None => Ok(None),
            Some(Value::Array(values)) => Ok(Some(values)),
            Some(other) => Err(wrong_type(&self.at(key), "an array", &other)),
        }
    }

    /// Takes an object that may be absent.
    pub(super) fn opt_object(&mut self, key: &str) -> Result<Option<Self>, Rejection> {
        let path = self.at(key);
        self.take(key).map(|value| Self::of(value, path)).transpose()
    }

    fn typed<T>(
        &mut self,
        key: &str,
        what: &str,
        read: impl Fn(&Value) -> Option<T>,
    ) -> Result<Option<T>, Rejection> {
        let Some(value) = self.take(key) else {
            return Ok(None);
        };
        read(&value).map(Some).ok_or_else(|| wrong_type(&self.at(key), what, &value))
    }
}

/// Takes `value` for a string.
pub(super) fn as_string(value: Value, path: impl FnOnce() -> KeyPath) -> Result<String, Rejection> {
    if let Value::String(text) = value {
        Ok(text)
    } else {
        Err(wrong_type(&path(), "a string", &value))
    }
}

/// A value of the wrong type.
pub(super) fn wrong_type(path: &KeyPath, what: &str, found: &Value) -> Rejection {
    let found = match found {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    };
    let place = if path.as_str().is_empty() { "the body" } else { path.as_str() };
    Rejection::invalid(path.as_str(), format!("`{place}` must be {what}, not {found}"))
}
