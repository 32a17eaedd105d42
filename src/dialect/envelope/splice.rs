//! Edits to the top level of a JSON object that leave every other byte as it was.

use std::borrow::Cow;
use std::ops::Range;

use bytes::Bytes;

use super::{Envelope, Member};
use crate::dialect::sse;
use crate::rejection::Rejection;

/// Edits to a request's top-level members, applied at once: one allocation and one copy, or none
/// where nothing changes.
#[derive(Debug, Clone)]
pub struct Splice<'a> {
    envelope: &'a Envelope,
    changes: Vec<(usize, Change<'a>)>,
    /// New members, each after a comma.
    added: Vec<u8>,
    /// Where they are in there.
    new: Vec<Member>,
}

/// What happens to one member.
#[derive(Debug, Clone)]
enum Change<'a> {
    Value(Vec<u8>),
    Key(&'a str),
    Remove,
}

// === impl Splice ===

impl<'a> Splice<'a> {
    /// No edits yet.
    pub fn new(envelope: &'a Envelope) -> Self {
        Self { envelope, changes: Vec::new(), added: Vec::new(), new: Vec::new() }
    }

    /// Gives a member a new value, in JSON, or appends it. A member that was removed stays so.
    pub fn set(&mut self, key: &str, json: Vec<u8>) {
        match self.envelope.position(key) {
            Some(_) if self.envelope.raw(key) == Some(&json) => {}
            Some(at) => self.changes.push((at, Change::Value(json))),
            None => self.add(key, &json),
        }
    }

    /// As [`Splice::set`], for a text.
    pub fn set_text(&mut self, key: &str, text: &str) {
        self.set(key, quoted(text));
    }

    /// Renames a member, if it is there. Where the new name is taken, the member is removed
    /// instead, because the other one says it already; `false` then.
    pub fn rename(&mut self, from: &str, to: &'a str) -> bool {
        match (self.envelope.position(from), self.envelope.position(to)) {
            (None, _) => true,
            (Some(at), None) => {
                self.changes.push((at, Change::Key(to)));
                true
            }
            (Some(at), Some(_)) => {
                self.changes.push((at, Change::Remove));
                false
            }
        }
    }

    /// Removes a member, if it is there.
    pub fn remove(&mut self, key: &str) {
        if let Some(at) = self.envelope.position(key) {
            self.changes.push((at, Change::Remove));
        }
    }

    /// The edited body; the very same `Bytes` where nothing changed.
    pub fn finish(self) -> Bytes {
        apply(&self.envelope.body, &self.edits())
    }

    /// The edited request, as [`Envelope::read`] would read it, without reading what is known to be
    /// JSON.
    ///
    /// # Errors
    ///
    /// [`Rejection::Invalid`] with the member that was given a wrong type.
    pub fn into_envelope(self) -> Result<Envelope, Rejection> {
        let edits = self.edits();
        let body = apply(&self.envelope.body, &edits);
        let members = self.members(&edits);
        Envelope::of_members(body, members)
    }

    /// What takes the place of what, in order.
    fn edits(&self) -> Vec<Edit<'_>> {
        let mut edits = Vec::with_capacity(self.changes.len() + 1);
        self.removals(&mut edits);
        self.addition(&mut edits);
        for (at, change) in &self.changes {
            let Some(member) = self.envelope.members.get(*at).filter(|_| !self.is_removed(*at))
            else {
                continue;
            };
            match change {
                Change::Value(json) => edits.push((member.value.clone(), Cow::Borrowed(&**json))),
                Change::Key(name) => edits.push((member.key.clone(), Cow::Owned(quoted(name)))),
                Change::Remove => {}
            }
        }
        edits.sort_by_key(|(range, _)| (range.start, range.end));
        edits
    }

    /// Where the members are once the edits are made: those that stay, and then the new ones.
    fn members(&self, edits: &[Edit<'_>]) -> Vec<Member> {
        let old = &self.envelope.members;
        let mut members = Vec::with_capacity(old.len() + self.new.len());
        for (at, member) in old.iter().enumerate().filter(|(at, _)| !self.is_removed(*at)) {
            let unescaped = match self.new_name(at) {
                Some(name) => unescaped(name, &quoted(name)),
                None => member.unescaped.clone(),
            };
            members.push(Member {
                key: moved(&member.key, edits),
                value: moved(&member.value, edits),
                unescaped,
            });
        }
        // The new ones follow the last that stays, whose comma they have where there is one.
        let (start, comma) = match members.last() {
            Some(last) => (last.value.end, 0),
            None => (old.first().map_or(1, |first| first.key.start), 1),
        };
        let after = |range: &Range<usize>| start + range.start - comma..start + range.end - comma;
        members.extend(self.new.iter().map(|member| Member {
            key: after(&member.key),
            value: after(&member.value),
            unescaped: member.unescaped.clone(),
        }));
        members
    }

    fn add(&mut self, key: &str, json: &[u8]) {
        let name = quoted(key);
        self.added.push(b',');
        let key_at = self.added.len();
        self.added.extend_from_slice(&name);
        let key_end = self.added.len();
        self.added.push(b':');
        self.added.extend_from_slice(json);
        self.new.push(Member {
            key: key_at..key_end,
            value: key_end + 1..self.added.len(),
            unescaped: unescaped(key, &name),
        });
    }

    /// What a member is renamed to.
    fn new_name(&self, at: usize) -> Option<&'a str> {
        self.changes.iter().find_map(|(of, change)| match change {
            Change::Key(name) if *of == at => Some(*name),
            Change::Key(_) | Change::Value(_) | Change::Remove => None,
        })
    }

    fn is_removed(&self, at: usize) -> bool {
        self.changes.iter().any(|(of, change)| *of == at && matches!(change, Change::Remove))
    }

    /// Removes each run of members together with the commas that would be left over.
    fn removals<'e>(&self, edits: &mut Vec<Edit<'e>>) {
        let members = &self.envelope.members;
        let mut at = 0;
        while at < members.len() {
            let run = (at..members.len()).take_while(|at| self.is_removed(*at)).count();
            if run > 0 {
                let last = members.get(at + run - 1).map_or(0, |member| member.value.end);
                let range = match at.checked_sub(1).and_then(|before| members.get(before)) {
                    Some(before) => before.value.end..last,
                    None => {
                        let start = members.first().map_or(0, |member| member.key.start);
                        start..members.get(run).map_or(last, |after| after.key.start)
                    }
                };
                edits.push((range, Cow::Borrowed(b"")));
            }
            at += run.max(1);
        }
    }

    /// Appends the new members after the last one that stays.
    fn addition<'e>(&'e self, edits: &mut Vec<Edit<'e>>) {
        if self.added.is_empty() {
            return;
        }
        let members = &self.envelope.members;
        let last = (0..members.len()).rev().find(|at| !self.is_removed(*at));
        let (at, text) = match last.and_then(|at| members.get(at)) {
            Some(member) => (member.value.end, self.added.as_slice()),
            // Nothing stays: the first new member needs no comma before it.
            None => {
                let open = members.first().map_or(1, |member| member.key.start);
                (open, self.added.get(1..).unwrap_or_default())
            }
        };
        edits.push((at..at, Cow::Borrowed(text)));
    }
}

/// A range of a body and what takes its place.
pub(in crate::dialect) type Edit<'a> = (Range<usize>, Cow<'a, [u8]>);

/// Replaces ranges that are in order and do not overlap; the very same `Bytes` where there are
/// none.
pub(in crate::dialect) fn apply(body: &Bytes, edits: &[Edit<'_>]) -> Bytes {
    if edits.is_empty() {
        return body.clone();
    }
    let grown: usize = edits.iter().map(|(_, text)| text.len()).sum();
    let mut out = Vec::with_capacity(body.len() + grown);
    let mut at = 0;
    for (range, text) in edits {
        out.extend_from_slice(body.get(at..range.start).unwrap_or_default());
        out.extend_from_slice(text);
        at = range.end;
    }
    out.extend_from_slice(body.get(at..).unwrap_or_default());
    Bytes::from(out)
}

/// Where a range that stays, or is replaced as a whole, comes to lie.
fn moved(range: &Range<usize>, edits: &[Edit<'_>]) -> Range<usize> {
    let (mut grown, mut shrunk, mut len) = (0, 0, range.len());
    for (edited, text) in edits {
        if edited.end <= range.start {
            grown += text.len();
            shrunk += edited.len();
        } else if edited == range {
            len = text.len();
        }
    }
    let start = range.start + grown - shrunk;
    start..start + len
}

/// A key's text, where it is written with escapes.
fn unescaped(key: &str, quoted: &[u8]) -> Option<String> {
    (quoted.len() != key.len() + 2).then(|| key.to_owned())
}

/// Adds a member to the object in a frame's data, such as `tidegate` to the usage event. `None`
/// where the data is not an object on one line; the frame is then best left as it is.
pub fn extend_frame(frame: &[u8], key: &str, json: &[u8]) -> Option<Bytes> {
    let data = sse::first_data(frame)?;
    let object = data.trim_ascii_end().strip_prefix(b"{")?.strip_suffix(b"}")?;
    let comma: &[u8] = if object.trim_ascii().is_empty() { b"" } else { b"," };
    let start = frame.len() - (sse::from_first_data(frame)?).len();
    let close = start + 1 + object.len();
    let key = quoted(key);
    let mut out = Vec::with_capacity(frame.len() + key.len() + json.len() + 2);
    out.extend_from_slice(frame.get(..close)?);
    for piece in [comma, &key, b":", json] {
        out.extend_from_slice(piece);
    }
    out.extend_from_slice(frame.get(close..)?);
    Some(Bytes::from(out))
}

/// Adds a text member at the end of a JSON object that has members already and lacks this one; all
/// before it stays as it was. What is no such object is left alone.
pub fn append_member(body: &Bytes, key: &str, text: &str) -> Bytes {
    let Some(inside) = body.trim_ascii_end().strip_suffix(b"}") else { return body.clone() };
    let end = inside.len();
    let member = [b",", &*quoted(key), b":", &*quoted(text)].concat();
    apply(body, &[(end..end, Cow::Owned(member))])
}

fn quoted(text: &str) -> Vec<u8> {
    serde_json::Value::from(text).to_string().into_bytes()
}
