//! What stands around the text of an event.

use std::borrow::Cow;
use std::ops::Range;

use super::json;

/// The last event in which one piece of text was all that counts, without that text.
///
/// An event that has the same bytes around another text says the same and differs in the text
/// alone: it need not be stepped over member by member, let alone read as a value. That is nearly
/// every event of a stream.
#[derive(Debug, Default)]
pub(super) struct Mold {
    /// Up to the text's opening quote, which is the last byte. Empty before there was such an
    /// event.
    before: Vec<u8>,
    /// From its closing quote on.
    after: Vec<u8>,
}

// === impl Mold ===

impl Mold {
    /// Takes an event of which nothing counts but the text that stands there, in quotes. One of
    /// several lines makes no mold: what fits is one line.
    pub(super) fn cast(&mut self, event: &[u8], text: Range<usize>) {
        let parts = (event.get(..text.start + 1), event.get(text.end - 1..));
        let is_line = memchr::memchr2(b'\n', b'\r', event).is_none();
        if let (Some(before), Some(after), true) = (parts.0, parts.1, is_line) {
            self.before.clear();
            self.before.extend_from_slice(before);
            self.after.clear();
            self.after.extend_from_slice(after);
        }
    }

    /// Forgets the event: after something else, the same bytes may mean something else.
    pub(super) fn break_up(&mut self) {
        self.before.clear();
    }

    /// The text, in quotes, of an event that fits.
    pub(super) fn text_in<'a>(&self, event: &'a [u8]) -> Option<&'a [u8]> {
        let start = self.before.len().checked_sub(1)?;
        let text = event.strip_prefix(&self.before[..])?.strip_suffix(&self.after[..])?;
        let end = start + text.len() + 2;
        let quoted = event.get(start..end)?;
        // A quote within would end the text before what follows it here.
        (json::skip_string(quoted, 0).ok()?.end == quoted.len()).then_some(quoted)
    }

    /// The same as text. `None` also where it is none: half of a pair of surrogates, or no UTF-8.
    pub(super) fn read<'a>(&self, event: &'a [u8]) -> Option<Cow<'a, str>> {
        let quoted = self.text_in(event)?;
        if memchr::memchr(b'\\', quoted).is_some() {
            return serde_json::from_slice(quoted).ok().map(Cow::Owned);
        }
        let text = quoted.get(1..quoted.len().checked_sub(1)?)?;
        std::str::from_utf8(text).ok().map(Cow::Borrowed)
    }
}
