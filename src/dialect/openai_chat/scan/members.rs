//! What objects and arrays hold; nothing is built.

use serde_json::Value;

use super::super::wire;
use super::next_member;
use crate::dialect::json::{self, Broken};

/// Steps over the object that begins at `at`. `each` is told every key and where its value begins,
/// and says where that ends; so does the whole.
pub(in super::super) fn walk_object<'a>(
    text: &'a [u8],
    at: usize,
    mut each: impl FnMut(&'a [u8], usize) -> Result<usize, Broken>,
) -> Result<usize, Broken> {
    let mut at = at + 1;
    while let Some((key, value)) = next_member(text, at)? {
        at = each(key, value)?;
    }
    Ok(json::skip_space(text, at) + 1)
}

/// Steps over the array that begins at `at`. `each` is told where every item begins, and says where
/// it ends; so does the whole.
pub(in super::super) fn walk_array(
    text: &[u8],
    at: usize,
    mut each: impl FnMut(usize) -> Result<usize, Broken>,
) -> Result<usize, Broken> {
    let mut at = json::skip_space(text, at + 1);
    if text.get(at) == Some(&b']') {
        return Ok(at + 1);
    }
    loop {
        at = json::skip_space(text, each(at)?);
        match text.get(at) {
            Some(b',') => at = json::skip_space(text, at + 1),
            Some(b']') => return Ok(at + 1),
            _ => return Err(Broken { at, expected: "`,` or `]`" }),
        }
    }
}

/// The keys of an object whose grammar was checked, and their values, as both are written.
pub(in super::super) fn members(object: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let mut next = object.starts_with(b"{").then_some(1);
    std::iter::from_fn(move || {
        let (key, start) = next_member(object, next?).ok()??;
        let end = json::skip_value(object, start, 0).ok()?;
        next = Some(end);
        Some((key, object.get(start..end)?))
    })
}

/// The value of a member of such an object; the last one, where its name is repeated.
pub(in super::super) fn member<'a>(object: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    members(object).filter(|(key, _)| *key == name).last().map(|(_, value)| value)
}

/// The items of an array whose grammar was checked, as they are written.
pub(in super::super) fn items(array: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut next = array.starts_with(b"[").then(|| json::skip_space(array, 1));
    std::iter::from_fn(move || {
        let start = next?;
        let end = json::skip_value(array, start, 0).ok()?;
        // Behind the comma, or at the end.
        next = Some(json::skip_space(array, json::skip_space(array, end) + 1));
        array.get(start..end)
    })
}

/// Whether a text, an array or an object has nothing in it.
pub(super) fn is_empty(raw: &[u8]) -> bool {
    match raw.first() {
        Some(b'"') => raw.len() <= 2,
        _ => matches!(raw.get(json::skip_space(raw, 1)), Some(b']' | b'}')),
    }
}

/// A whole number, however it is written.
pub(super) fn whole_number(raw: &[u8]) -> Option<u64> {
    wire::count(&serde_json::from_slice::<Value>(raw).ok()?)
}
