//! A JSON value in the one form that all of its spellings have.

use std::borrow::Cow;
use std::ops::Range;

use super::{SHAPELESS, text};
use crate::dialect::json;

/// Texts from here on count by their hash, so that they are copied nowhere.
const LONG_TEXT: usize = 512;
/// Members of an object, about.
const USUAL_MEMBERS: usize = 8;
/// Bytes before a key: its kind and its length.
const NAME_HEAD: usize = 1 + size_of::<u64>();
/// Whole numbers up to here are the same as floats.
const EXACT: f64 = 9_007_199_254_740_992.0;
/// Whole numbers from here on (2^63) are read as floats, many of them as the same one.
const INEXACT: f64 = 9_223_372_036_854_775_808.0;

/// Writes a request's body, which is UTF-8; `None` where it can be read in two ways, is no JSON, or
/// holds what is no text (a lone surrogate). Prompts are long: their texts are stepped over and
/// hashed where they lie.
pub(super) fn write(out: &mut Vec<u8>, body: &[u8]) -> Option<()> {
    let mut writer = Writer { body, out };
    let end = writer.value(json::skip_space(body, 0), 0)?;
    (json::skip_space(body, end) == body.len()).then_some(())
}

struct Writer<'a> {
    body: &'a [u8],
    out: &'a mut Vec<u8>,
}

// === impl Writer ===

impl<'a> Writer<'a> {
    /// Writes the value that begins at `at`, inside `depth` lists and objects, and says where it
    /// ends.
    fn value(&mut self, at: usize, depth: usize) -> Option<usize> {
        match self.body.get(at)? {
            b'{' | b'[' if depth == json::MAX_DEPTH => None,
            b'{' => self.object(at, depth),
            b'[' => self.list(at, depth),
            b'"' => {
                let (value, end) = self.string(at)?;
                match value.len() < LONG_TEXT {
                    true => text(self.out, b's', &value),
                    false => text(self.out, b'l', blake3::hash(&value).as_bytes()),
                }
                Some(end)
            }
            first => {
                let end = json::skip_value(self.body, at, depth).ok()?;
                match first {
                    b'n' => self.out.push(b'0'),
                    b't' => self.out.push(b'T'),
                    b'f' => self.out.push(b'F'),
                    _ => self.number(at..end)?,
                }
                Some(end)
            }
        }
    }

    /// The text of the string that begins at `at`, and where it ends.
    fn string(&self, at: usize) -> Option<(Cow<'a, [u8]>, usize)> {
        let (body, json::Stepped { end, escaped }) =
            (self.body, json::skip_string(self.body, at).ok()?);
        let text = match escaped {
            false => Cow::Borrowed(body.get(at + 1..end - 1)?),
            true => {
                let text: String = serde_json::from_slice(body.get(at..end)?).ok()?;
                Cow::Owned(text.into_bytes())
            }
        };
        Some((text, end))
    }

    fn number(&mut self, at: Range<usize>) -> Option<()> {
        let number: serde_json::Number = serde_json::from_slice(self.body.get(at)?).ok()?;
        let whole = number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from));
        if let Some(whole) = whole {
            self.whole(whole);
            return Some(());
        }
        let value = number.as_f64().filter(|value| value.abs() < INEXACT)?;
        if value.fract() == 0.0 && value.abs() < EXACT {
            #[expect(clippy::cast_possible_truncation, reason = "a whole number below 2^53")]
            self.whole(value as i128);
        } else {
            self.out.push(b'f');
            self.out.extend_from_slice(&value.to_bits().to_le_bytes());
        }
        Some(())
    }

    fn whole(&mut self, value: i128) {
        self.out.push(b'i');
        self.out.extend_from_slice(&value.to_le_bytes());
    }

    fn list(&mut self, at: usize, depth: usize) -> Option<usize> {
        self.out.push(b'[');
        let mut next = self.first(at, b']')?;
        while let Next::At(item) = next {
            let end = self.value(item, depth + 1)?;
            next = self.next(end, b']')?;
        }
        self.out.push(b']');
        Some(next.end())
    }

    fn object(&mut self, at: usize, depth: usize) -> Option<usize> {
        self.out.push(b'{');
        let start = self.out.len();
        let mut members = Vec::with_capacity(USUAL_MEMBERS);
        let mut next = self.first(at, b'}')?;
        while let Next::At(member) = next {
            let end = self.member(member, depth, &mut members)?;
            next = self.next(end, b'}')?;
        }
        sort_members(self.out, start, &mut members)?;
        self.out.push(b'}');
        self.out.extend_from_slice(&(members.len() as u64).to_le_bytes());
        Some(next.end())
    }

    fn member(&mut self, at: usize, depth: usize, members: &mut Vec<Written>) -> Option<usize> {
        if self.body.get(at) != Some(&b'"') {
            return None;
        }
        let (name, end) = self.string(at)?;
        let value = json::skip_colon(self.body, end).ok()?;
        if depth == 0 && SHAPELESS.iter().any(|shapeless| shapeless.as_bytes() == &*name) {
            return json::skip_value(self.body, value, depth + 1).ok();
        }
        let len = name.len();
        text(self.out, b'k', &name);
        let key = self.out.len() - len..self.out.len();
        let end = self.value(value, depth + 1)?;
        members.push(Written { key, end: self.out.len() });
        Some(end)
    }

    /// What follows the bracket at `at`.
    fn first(&self, at: usize, close: u8) -> Option<Next> {
        let at = json::skip_space(self.body, at + 1);
        match *self.body.get(at)? == close {
            true => Some(Next::End(at + 1)),
            false => Some(Next::At(at)),
        }
    }

    /// What follows the item that ends at `at`.
    fn next(&self, at: usize, close: u8) -> Option<Next> {
        let at = json::skip_space(self.body, at);
        match *self.body.get(at)? {
            b',' => Some(Next::At(json::skip_space(self.body, at + 1))),
            found => (found == close).then_some(Next::End(at + 1)),
        }
    }
}

/// What follows in a list or an object.
#[derive(Clone, Copy)]
enum Next {
    /// An item, and where it begins.
    At(usize),
    /// Nothing, and where the list or object ends.
    End(usize),
}

// === impl Next ===

impl Next {
    fn end(self) -> usize {
        match self {
            Self::At(at) | Self::End(at) => at,
        }
    }
}

/// A member that was written.
struct Written {
    /// Where its key is, without what is before it.
    key: Range<usize>,
    /// Where the member ends.
    end: usize,
}

/// Puts the members of an object, which begin at `start`, in the order of their keys; `None` where
/// one comes twice.
fn sort_members(out: &mut Vec<u8>, start: usize, members: &mut [Written]) -> Option<()> {
    let key = |member: &Written| out.get(member.key.clone()).unwrap_or_default();
    if members.is_sorted_by(|one, other| key(one) < key(other)) {
        return Some(());
    }
    members.sort_unstable_by(|one, other| key(one).cmp(key(other)));
    if members.windows(2).any(|pair| matches!(pair, [one, other] if key(one) == key(other))) {
        return None;
    }
    let unsorted = out.split_off(start);
    for Written { key, end } in members {
        let member = unsorted.get(key.start - NAME_HEAD - start..*end - start);
        out.extend_from_slice(member.unwrap_or_default());
    }
    Some(())
}
