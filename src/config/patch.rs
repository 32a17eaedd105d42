//! Some keys of a settings table, to be laid over another table of the same kind.

use std::borrow::Cow;
use std::marker::PhantomData;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The keys of a `T` that were written, and no others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Patch<T> {
    keys: Map<String, Value>,
    #[serde(skip)]
    kind: PhantomData<T>,
}

// === impl Patch ===

impl<T> Patch<T> {
    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }
}

impl<T: Clone + Serialize + DeserializeOwned> Patch<T> {
    /// `base` with the written keys in place of its own. Keys were checked against `T`'s schema
    /// when the patch was read, so what cannot be laid over is not there.
    #[must_use]
    pub fn over(&self, base: &T) -> T {
        let Ok(Value::Object(mut keys)) = serde_json::to_value(base) else { return base.clone() };
        keys.extend(self.keys.clone());
        serde_json::from_value(Value::Object(keys)).unwrap_or_else(|_| base.clone())
    }
}

impl<T> Default for Patch<T> {
    fn default() -> Self {
        Self { keys: Map::new(), kind: PhantomData }
    }
}

impl<T: schemars::JsonSchema> schemars::JsonSchema for Patch<T> {
    fn schema_name() -> Cow<'static, str> {
        format!("{}Patch", T::schema_name()).into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        // The defaults of `T` do not hold here: what is not written stays as it is below.
        let mut schema = T::json_schema(generator);
        let properties = schema.get_mut("properties").and_then(Value::as_object_mut);
        for property in properties.into_iter().flat_map(Map::values_mut) {
            if let Some(property) = property.as_object_mut() {
                property.remove("default");
            }
        }
        schema
    }
}
