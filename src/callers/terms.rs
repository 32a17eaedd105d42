//! What a key or a team may do: limits, routes, models, and the tags of what it asks.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

use super::KeyError;
use crate::quota::LimitSettings;

/// What a key or a team may do. What is not said is not limited.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Terms {
    /// How much it may use.
    pub limits: LimitSettings,
    /// What it may ask for.
    #[serde(flatten)]
    pub access: Access,
    /// What its requests are tagged with, besides what they bring.
    pub tags: BTreeMap<String, String>,
}

/// What may be asked for. Where either list is given, only what stands in them may; a route is what
/// the configuration names, a model is asked for by its own name. A `*` at the end stands for any
/// end: `openai/*`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Access {
    /// Routes.
    pub routes: Option<Vec<String>>,
    /// Models, as `provider/model`.
    pub models: Option<Vec<String>>,
}

/// What shall be different about [`Terms`]. `Some(None)` takes a list away.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct TermsChange {
    /// All limits; those that are not named are none.
    pub limits: Option<LimitSettings>,
    /// Allowed routes.
    #[serde(deserialize_with = "present")]
    pub routes: Option<Option<Vec<String>>>,
    /// Allowed models.
    #[serde(deserialize_with = "present")]
    pub models: Option<Option<Vec<String>>>,
    /// All tags.
    pub tags: Option<BTreeMap<String, String>>,
}

/// Names in one list.
const MAX_NAMES: usize = 200;
/// Characters of a name, or of a tag's key or value.
const MAX_NAME_BYTES: usize = 256;
/// Tags of a key or a team.
const MAX_TAGS: usize = 16;
/// The largest limit, as in `[limits]`.
const MAX_LIMIT: u64 = 1_000_000_000_000;

/// Reads a field that is there: `null` is `Some(None)`, and one that is missing stays `None`.
///
/// # Errors
///
/// Where the value is of another type.
pub(crate) fn present<'de, D, T>(from: D) -> Result<Option<Option<T>>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    Option::deserialize(from).map(Some)
}

// === impl Terms ===

impl Terms {
    /// What they become.
    ///
    /// # Errors
    ///
    /// [`KeyError::Terms`] where that makes no sense.
    pub(super) fn changed(&self, change: &TermsChange) -> Result<Self, KeyError> {
        let mut new = self.clone();
        if let Some(limits) = &change.limits {
            new.limits = limits.clone();
        }
        if let Some(routes) = &change.routes {
            new.access.routes = routes.clone();
        }
        if let Some(models) = &change.models {
            new.access.models = models.clone();
        }
        if let Some(tags) = &change.tags {
            new.tags = tags.clone();
        }
        new.check().map(|()| new)
    }

    fn check(&self) -> Result<(), KeyError> {
        let wrong = |problem: String| Err(KeyError::Terms(problem));
        for (dimension, limit) in self.limits.dimensions() {
            if !(1..=MAX_LIMIT).contains(&limit) {
                let name = dimension.as_str();
                return wrong(format!(
                    "limits.{name}: must be more than 0 and at most {MAX_LIMIT}"
                ));
            }
        }
        for (list, names) in [("routes", &self.access.routes), ("models", &self.access.models)] {
            let names = match names {
                Some(names) if names.is_empty() => {
                    return wrong(format!(
                        "{list}: an empty list allows nothing; leave it out (null), or revoke what \
                         shall not be used"
                    ));
                }
                Some(names) => names.as_slice(),
                None => &[],
            };
            if names.len() > MAX_NAMES {
                return wrong(format!("{list}: at most {MAX_NAMES} names"));
            }
            if let Some(name) = names.iter().find(|name| !is_pattern(name)) {
                let name: String = name.chars().take(80).collect();
                return wrong(format!(
                    "{list}: `{name}` is no name; `*` may stand at its end only"
                ));
            }
        }
        if self.tags.len() > MAX_TAGS {
            return wrong(format!("tags: at most {MAX_TAGS}"));
        }
        let is_word = |word: &str| {
            (1..=MAX_NAME_BYTES).contains(&word.len())
                && word.bytes().all(|byte| byte.is_ascii_graphic() && !b",=".contains(&byte))
        };
        if let Some((tag, _)) =
            self.tags.iter().find(|(tag, value)| !is_word(tag) || !is_word(value))
        {
            let tag: String = tag.chars().take(80).collect();
            return wrong(format!(
                "tags: `{tag}`: key and value must be visible ASCII without `,` and `=`"
            ));
        }
        Ok(())
    }
}

fn is_pattern(name: &str) -> bool {
    let body = name.strip_suffix('*').unwrap_or(name);
    !name.is_empty()
        && name.len() <= MAX_NAME_BYTES
        && !body.contains('*')
        && !name.chars().any(|c| c.is_control() || c.is_whitespace())
}

// === impl Access ===

impl Access {
    /// Whether everything may be asked for.
    pub fn is_open(&self) -> bool {
        self.routes.is_none() && self.models.is_none()
    }

    /// Whether a route of the configuration may be asked for.
    pub fn allows_route(&self, name: &str) -> bool {
        self.is_open() || names(self.routes.as_deref(), name)
    }

    /// Whether a model, as `provider/model`, may be asked for by its own name.
    pub fn allows_model(&self, name: &str) -> bool {
        self.is_open() || names(self.models.as_deref(), name)
    }
}

fn names(list: Option<&[String]>, name: &str) -> bool {
    list.unwrap_or_default().iter().any(|pattern| match pattern.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => pattern == name,
    })
}
