//! What objects and arrays hold, from JSON whose grammar was checked: nothing is built, and what is
//! not as expected holds nothing.

use serde_json::Value;

use super::super::wire;
use super::next_member;
use crate::dialect::envelope::json;

/// The keys of an object and their values, as both are written.
pub(in super::super) fn members(object: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let mut next = object.starts_with(b"{").then_some(1);
    std::iter::from_fn(move || {
        let (key, start) = next_member(object, next?).ok()??;
        let end = json::skip_value(object, start, 0).ok()?;
        next = Some(end);
        Some((key, object.get(start..end)?))
    })
}

/// The value of an object's member; the last one, where its name is repeated.
pub(in super::super) fn member<'a>(object: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    members(object).filter(|(key, _)| *key == name).last().map(|(_, value)| value)
}

/// The items of an array, as they are written.
pub(super) fn items(array: &[u8]) -> impl Iterator<Item = &[u8]> {
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
