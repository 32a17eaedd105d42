//! Values that a type refuses although its schema lets them through, each with its place.
//!
//! A type names the first of them and no place. So values are taken out, one after the other, until
//! the type says something else: what was taken out last is what it refused.

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::KeyPath;

/// More than anybody writes wrong at once.
const MAX_REFUSED: usize = 100;
/// How serde says that a value is not there, which is what taking it out leads to.
const MISSING: &str = "missing field";

/// Reads `root`. What the type refuses is taken out and added to `found`. `None` where the rest
/// cannot be read either.
pub(super) fn read<T: DeserializeOwned>(
    root: &mut Value,
    found: &mut Vec<(KeyPath, String)>,
) -> Option<T> {
    for _ in 0..MAX_REFUSED {
        let problem = match refusal::<T>(root) {
            Ok(read) => return Some(read),
            Err(problem) => problem,
        };
        let keys = place_of::<T>(root, &problem);
        if keys.is_empty() {
            found.push((KeyPath::root(), problem));
            return None;
        }
        let path = keys.iter().fold(KeyPath::root(), |path, key| path.key(key));
        let items = refused_items::<T>(root, &keys, &path);
        let follows = problem.starts_with(MISSING) && found.iter().any(|(at, _)| path.holds(at));
        if !items.is_empty() {
            found.extend(items);
        } else if !follows {
            found.push((path, problem));
        }
        take_out(root, &keys);
    }
    None
}

fn refusal<T: DeserializeOwned>(root: &Value) -> Result<T, String> {
    serde_json::from_value(root.clone()).map_err(|error| error.to_string())
}

/// The keys that lead to the value of which the type says `problem`, or to the list it stands in.
fn place_of<T: DeserializeOwned>(root: &Value, problem: &str) -> Vec<String> {
    let mut keys: Vec<String> = Vec::new();
    while let Some(Value::Object(map)) = at(root, &keys) {
        let mut rest = root.clone();
        // The same may be said of several: then it is the last of them.
        let last = map.keys().find(|key| {
            take_out(&mut rest, &[keys.as_slice(), &[(*key).clone()]].concat());
            refusal::<T>(&rest).err().is_none_or(|other| other != problem)
        });
        match last {
            Some(key) => keys.push(key.clone()),
            None => break,
        }
    }
    keys
}

/// The items of a list that the type refuses.
fn refused_items<T: DeserializeOwned>(
    root: &Value,
    keys: &[String],
    path: &KeyPath,
) -> Vec<(KeyPath, String)> {
    let Some(Value::Array(items)) = at(root, keys) else { return Vec::new() };
    let with = |items: Vec<Value>| {
        let mut root = root.clone();
        if let Some(list) = at_mut(&mut root, keys) {
            *list = Value::Array(items);
        }
        refusal::<T>(&root).err()
    };
    // What is wrong elsewhere.
    let without = with(Vec::new());
    let items = items.iter().enumerate();
    let refused = items.filter_map(|(index, item)| {
        let problem = with(vec![item.clone()])?;
        (without.as_ref() != Some(&problem)).then(|| (path.index(index), problem))
    });
    refused.collect()
}

fn at<'a>(root: &'a Value, keys: &[String]) -> Option<&'a Value> {
    keys.iter().try_fold(root, |value, key| value.get(key))
}

fn at_mut<'a>(root: &'a mut Value, keys: &[String]) -> Option<&'a mut Value> {
    keys.iter().try_fold(root, |value, key| value.get_mut(key))
}

fn take_out(root: &mut Value, keys: &[String]) {
    let Some((last, before)) = keys.split_last() else { return };
    if let Some(Value::Object(map)) = at_mut(root, before) {
        map.remove(last);
    }
}
