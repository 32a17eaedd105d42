//! What to say where "unknown key" and "wrong type" would not help: keys that a later version will
//! take, and secrets that were written down.

use serde_json::Value;

use crate::problems::KeyPath;

/// Keys of later versions. Nothing that cannot take effect is accepted silently.
const LATER: [(&str, &str); 3] = [
    ("slos", "there are no objectives yet"),
    ("chaos", "there are no experiments yet; `tidegate sim` makes faults"),
    ("routes.*.limits", "write [limits.NAME] with routes = [\"…\"]"),
];

/// Names under which people write a key itself.
const KEY_NAMES: [&str; 6] = ["key", "api_key", "apikey", "token", "secret", "value"];

/// See [`crate::problems::Advice`].
pub(super) fn advice(path: &KeyPath, value: &Value) -> Option<String> {
    let path = path.as_str();
    if let Some((_, why)) = LATER.iter().find(|(pattern, _)| matches(pattern, path)) {
        return Some(format!("not supported by this version: {why}; take it out"));
    }
    if path.ends_with("usd_per_million.batch") {
        let why = "no provider is asked by its batch tier, so that this price would never apply";
        return Some(format!("not supported by this version: {why}; take it out"));
    }
    let instead_of_reference =
        matches("providers.*.credentials", path) || path_below_credentials(path) == Some("");
    let names_key = KEY_NAMES.iter().any(|name| matches(&format!("providers.*.{name}"), path))
        || path_below_credentials(path).is_some_and(|last| KEY_NAMES.contains(&last));
    let literal = value.is_string() && instead_of_reference || names_key;
    literal.then(|| {
        "a key must not stand in this file, where it would be copied, shared and logged; write \
         credentials = [{ env = \"NAME\" }] or [{ file = \"path\" }]"
            .to_owned()
    })
}

/// The last step of a path below `providers.*.credentials`, if it is below it.
fn path_below_credentials(path: &str) -> Option<&str> {
    let (before, last) = path.rsplit_once('.').unwrap_or(("", path));
    if last.starts_with("credentials[") && matches("providers.*", before) {
        return Some("");
    }
    let (provider, list) = before.rsplit_once('.')?;
    (list.starts_with("credentials[") && matches("providers.*", provider)).then_some(last)
}

/// Whether a path is what a pattern with `*` for a single step means.
fn matches(pattern: &str, path: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == path,
        Some((before, after)) => path
            .strip_prefix(before)
            .and_then(|rest| rest.strip_suffix(after))
            // A quoted step may hold dots; any other dot starts a new step.
            .is_some_and(|step| !step.is_empty() && (step.starts_with('"') || !step.contains('.'))),
    }
}
